//! What a scrape shows, gathered from all cores.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::engine::clients::ClientReport;
use crate::http::Context;
use crate::model::Kind;
use crate::rt;
use crate::shard::{
    ChannelFacts, ChannelTotals, ClientQuestion, ListsBusy, Readiness, Shard, Survey,
    SurveyQuestion, Surveyed, merge_client_reports,
};
use crate::telemetry::counters::CountersSnapshot;
use crate::telemetry::latency::Buckets;
use crate::telemetry::process::ProcessFigures;

/// Channels that are taken in one go.
pub(super) const CHANNELS: usize = 512;

/// Durable positions of one channel that have series of their own.
const POSITIONS_MAX: usize = 100;

/// Channels that were used within this time stand first; each further class is twice as old. Who
/// is used now and then keeps its class, and with it its series.
const CLASS_MS: u64 = 5 * 60_000;

/// The bounds of all latency histograms, in nanoseconds.
pub(super) const BOUNDS_NS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// What one core counts.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) counters: CountersSnapshot,
    /// By the name of the histogram.
    pub(super) latencies: Vec<(&'static str, Buckets)>,
    pub(super) busy_ns: u64,
    pub(super) readiness: Readiness,
}

/// What the heartbeat has seen of a core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) stalls: u64,
    pub(super) longest_us: u64,
}

/// Room where the store lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk {
    pub(super) free_bytes: u64,
    pub(super) size_bytes: u64,
}

/// The channels of a scrape.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Those with series of their own, in pieces.
    pub(super) shown: Vec<Vec<Surveyed>>,
    /// The sums over all, by the places of [`Kind::ALL`].
    pub(super) totals: [ChannelTotals; Kind::ALL.len()],
    /// The sums over those that are not shown.
    pub(super) rest: [ChannelTotals; Kind::ALL.len()],
}

/// All that a scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) node: Rc<str>,
    pub(super) started_at_ns: u64,
    pub(super) now_ms: u64,
    pub(super) cores: Vec<Core>,
    pub(super) watched: Vec<Watched>,
    pub(super) process: ProcessFigures,
    pub(super) disk: Disk,
    pub(super) clients: ClientReport,
    /// `None`: nobody asked for them.
    pub(super) channels: Option<Channels>,
    pub(super) client_label: bool,
}

/// Gathers what a scrape shows; channels only if any are to be shown or summed.
pub(super) async fn gather(
    context: &Context,
    channels_max: Option<usize>,
) -> Result<Scrape, ListsBusy> {
    let client_label = context.config.metrics.client_label;
    let question = ClientQuestion {
        uses: client_label,
        failures: true,
        ..ClientQuestion::default()
    };
    let reports = context
        .shard
        .ask_all(move |shard| async move { shard.client_report(question).await });
    let clients = merge_client_reports(reports.await).await;
    let cores = context.shard.ask_all(core).await;
    let channels = match channels_max {
        Some(max) => Some(channels(context, max).await?),
        None => None,
    };
    let path = context.config.store.path.clone();
    let outside = rt::blocking(move || (ProcessFigures::read(), disk(&path)));
    let (process, disk) = outside.await.unwrap_or_default();
    let watches = context.process.watches.iter();
    Ok(Scrape {
        node: Rc::from(&*context.process.machine),
        started_at_ns: u64::try_from(context.process.started_at_ns).unwrap_or_default(),
        now_ms: u64::try_from(rt::unix_ns()).unwrap_or_default() / 1_000_000,
        cores,
        watched: watches
            .map(|watch| Watched {
                stalls: watch.stalls.load(Ordering::Relaxed),
                longest_us: watch.longest_us.load(Ordering::Relaxed),
            })
            .collect(),
        process,
        disk,
        clients,
        channels,
        client_label,
    })
}

async fn core(shard: Rc<Shard>) -> Core {
    shard.take_runtime_counts();
    let mut latencies = Vec::new();
    for (name, histogram) in shard.latencies.iter() {
        latencies.push((name, histogram.buckets(&BOUNDS_NS)));
        rt::reactor_yield().await;
    }
    Core {
        counters: shard.counters_light(),
        latencies,
        busy_ns: rt::busy_ns(),
        readiness: shard.readiness(),
    }
}

async fn channels(context: &Context, max: usize) -> Result<Channels, ListsBusy> {
    let mut all = Survey::default();
    let mut found = Channels::default();
    for (kind, totals) in Kind::ALL.into_iter().zip(&mut found.totals) {
        let question = SurveyQuestion {
            kind,
            search: "".into(),
            rank: age_class,
            falling: false,
            keep: max,
            positions_max: POSITIONS_MAX,
        };
        let of_kind = context.shard.survey_channels(question).await?;
        *totals = of_kind.totals;
        all.join(of_kind);
    }
    found.rest = found.totals;
    let mut left = max;
    while left > 0 {
        let mut piece = Vec::with_capacity(CHANNELS.min(left));
        while piece.len() < CHANNELS.min(left) {
            let Some(channel) = all.pop() else {
                break;
            };
            if let Some(rest) = found.rest.get_mut(place(channel.kind)) {
                rest.take_out(&channel.facts());
            }
            piece.push(channel);
        }
        if piece.is_empty() {
            break;
        }
        left -= piece.len();
        found.shown.push(piece);
        rt::reactor_yield().await;
    }
    all.discard().await;
    Ok(found)
}

/// How long a channel has not been used, in classes.
fn age_class(facts: &ChannelFacts<'_>, now_ms: u64) -> u64 {
    let age = now_ms.saturating_sub(facts.traffic.last_ms) / CLASS_MS;
    u64::from(u64::BITS - age.leading_zeros())
}

/// The place of a kind in [`Kind::ALL`].
pub(super) fn place(kind: Kind) -> usize {
    Kind::ALL
        .iter()
        .position(|known| *known == kind)
        .unwrap_or_default()
}

fn disk(path: &Path) -> Disk {
    rustix::fs::statvfs(path).map_or_else(
        |_unknown| Disk::default(),
        |room| Disk {
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            size_bytes: room.f_blocks.saturating_mul(room.f_frsize),
        },
    )
}

impl Scrape {
    /// The counters of all cores.
    pub(super) fn counters(&self) -> CountersSnapshot {
        let mut sum = CountersSnapshot::default();
        for core in &self.cores {
            sum.add(&core.counters);
        }
        if let Some(channels) = &self.channels {
            // Cores do not walk for these: the survey has.
            let [mut waiting, mut leased, mut delayed, mut moving] = [0; 4];
            let [mut live, mut index] = [0; 2];
            for totals in &channels.totals {
                live += totals.sums.log_bytes;
                index += totals.sums.index_bytes;
            }
            if let Some(queues) = channels.totals.get(place(Kind::Queues)) {
                let sums = &queues.sums;
                (waiting, leased) = (sums.waiting, sums.in_flight);
                (delayed, moving) = (sums.delayed, sums.moving);
            }
            (sum.queue_waiting, sum.queue_leased) = (waiting, leased);
            (sum.queue_delayed, sum.queue_moving) = (delayed, moving);
            (sum.log_live_bytes, sum.log_index_bytes) = (live, index);
        }
        sum
    }

    /// The latencies of all cores.
    pub(super) fn latencies(&self) -> Vec<(&'static str, Buckets)> {
        let mut sum: Vec<(&'static str, Buckets)> = Vec::new();
        for core in &self.cores {
            for (at, (name, buckets)) in core.latencies.iter().enumerate() {
                match sum.get_mut(at) {
                    Some((_, known)) => known.add(buckets),
                    None => sum.push((name, buckets.clone())),
                }
            }
        }
        sum
    }

    /// Whether every shard can send and store everything.
    pub(super) fn is_ready(&self) -> bool {
        self.cores.iter().all(|core| core.readiness.is_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_in_use_share_a_class_and_the_idle_fall_behind() {
        let used = |seconds_ago: u64| {
            let mut facts = ChannelFacts::default();
            facts.traffic.last_ms = 1_000_000_000 - seconds_ago * 1_000;
            age_class(&facts, 1_000_000_000)
        };
        assert_eq!([0, 1, 299].map(used), [0, 0, 0]);
        assert_eq!([300, 599, 600, 1_199, 1_200].map(used), [1, 1, 2, 2, 3]);
        assert!(used(100_000) > used(10_000));
        assert!(age_class(&ChannelFacts::default(), u64::MAX) > 40);
    }
}
