//! What a snapshot is made of, gathered from all cores.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::CHANNELS_MAX;
use super::value::Values;
use crate::engine::clients::{ClientReport, Figures, UseFacts};
use crate::http::Context;
use crate::model::Kind;
use crate::rt;
use crate::shard::{
    ChannelTotals, ClientQuestion, ListsBusy, Survey, SurveyQuestion, merge_client_reports,
};
use crate::telemetry::process::ProcessFigures;

/// Clients that are told of one channel.
const CLIENTS_MAX: usize = 20;

/// Uses of channels that are looked at in one go.
const USES: usize = 256;

/// The families of channels, as dashboards show them.
const FAMILIES: [(&str, &[Kind]); 3] = [
    ("queues", &[Kind::Queues]),
    ("pubsub", &[Kind::Events, Kind::EventsStore]),
    ("request_reply", &[Kind::Commands, Kind::Queries]),
];

/// All that a snapshot tells.
pub(super) struct Found {
    pub(super) host: Host,
    pub(super) now_ms: u64,
    pub(super) queues: Family,
    pub(super) pubsub: Family,
    pub(super) request_reply: Family,
    /// Clients of all families, each once.
    pub(super) clients: Clients,
    pub(super) uses: Uses,
}

/// This node.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) uptime_seconds: u64,
    pub(super) process: ProcessFigures,
    pub(super) cores: u64,
    /// Of all processors of the machine, in hundredths of a per cent.
    pub(super) cpu: u64,
    pub(super) active_clients: u64,
}

/// How many clients did something in one direction, the other, or either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clients {
    pub(super) incoming: u64,
    pub(super) outgoing: u64,
    pub(super) all: u64,
}

/// One family of channels.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Those that were used last come first.
    pub(super) survey: Survey,
    pub(super) totals: ChannelTotals,
    pub(super) incoming: Values,
    pub(super) outgoing: Values,
    pub(super) clients: Clients,
}

/// A client of a channel, and what it did there.
pub(super) type User = (Box<str>, Figures);

/// Who uses which channel, and where sends failed.
#[derive(Default)]
pub(super) struct Uses {
    by_channel: BTreeMap<(Kind, Box<str>), Vec<User>>,
    errors: BTreeMap<(Kind, Box<str>), u64>,
}

impl Uses {
    /// The clients of a channel, at most twenty.
    pub(super) fn of(&self, kind: Kind, channel: &str) -> &[User] {
        let found = self.by_channel.get(&(kind, channel.into()));
        found.map_or(&[], Vec::as_slice)
    }

    /// Gives everything back, some at a time.
    pub(super) async fn discard(mut self) {
        let mut at = 0;
        while self.by_channel.pop_first().is_some() || self.errors.pop_first().is_some() {
            at += 1;
            if at % USES == 0 {
                rt::reactor_yield().await;
            }
        }
    }

    /// Sends to a channel that failed.
    pub(super) fn errors(&self, kind: Kind, channel: &str) -> u64 {
        let found = self.errors.get(&(kind, channel.into()));
        found.copied().unwrap_or_default()
    }
}

/// Gathers what a snapshot tells. `cpu` is the processor time at the last one, and when that was.
pub(super) async fn survey(
    context: &Context,
    cpu: &Cell<(u64, rt::Instant)>,
) -> Result<Found, ListsBusy> {
    let question = ClientQuestion {
        clients: true,
        uses: true,
        failures: true,
    };
    let reports = context
        .shard
        .ask_all(move |shard| async move { shard.client_report(question).await });
    let mut report = merge_client_reports(reports.await).await;
    let uses = std::mem::take(&mut report.uses);
    let [queues, pubsub, request_reply] = FAMILIES;
    let mut families = Vec::with_capacity(FAMILIES.len());
    for (name, kinds) in [queues, pubsub, request_reply] {
        families.push(family(context, name, kinds, &report, &uses).await?);
    }
    let clients = clients(&uses, &Kind::ALL).await;
    let active = report
        .clients
        .iter()
        .filter(|client| client.live > 0)
        .count();
    let host = host(context, cpu, active).await;
    let mut families = families.into_iter();
    let mut next = || families.next().expect("one was made for each name");
    Ok(Found {
        host,
        now_ms: now_ms(),
        queues: next(),
        pubsub: next(),
        request_reply: next(),
        clients,
        uses: by_channel(uses, report).await,
    })
}

async fn family(
    context: &Context,
    name: &'static str,
    kinds: &[Kind],
    report: &ClientReport,
    uses: &[UseFacts],
) -> Result<Family, ListsBusy> {
    let mut survey = Survey::default();
    let (mut incoming, mut outgoing) = (Values::default(), Values::default());
    for &kind in kinds {
        let question = SurveyQuestion {
            kind,
            search: "".into(),
            // Those that were used last.
            rank: |facts, _| !facts.traffic.last_ms,
            falling: false,
            keep: CHANNELS_MAX,
            positions_max: 0,
        };
        let of_kind = context.shard.survey_channels(question).await?;
        let errors = report.errors_of(kind);
        let (of_in, of_out) = Values::of_channel(kind, &of_kind.totals.sums, errors);
        incoming.add(&of_in);
        outgoing.add(&of_out);
        survey.join(of_kind);
    }
    let clients = clients(uses, kinds).await;
    (incoming.clients, outgoing.clients) = (clients.incoming, clients.outgoing);
    Ok(Family {
        name,
        totals: survey.totals,
        survey,
        incoming,
        outgoing,
        clients,
    })
}

/// Counts who did something to channels of these kinds, each once.
async fn clients(uses: &[UseFacts], kinds: &[Kind]) -> Clients {
    let [mut incoming, mut outgoing, mut all] = [const { BTreeSet::<&str>::new() }; 3];
    for slice in uses.chunks(USES) {
        for found in slice.iter().filter(|found| kinds.contains(&found.kind)) {
            all.insert(&found.client);
            if found.figures.messages_in > 0 {
                incoming.insert(&found.client);
            }
            if found.figures.messages_out > 0 {
                outgoing.insert(&found.client);
            }
        }
        rt::reactor_yield().await;
    }
    let count = |set: BTreeSet<&str>| u64::try_from(set.len()).unwrap_or(u64::MAX);
    Clients {
        incoming: count(incoming),
        outgoing: count(outgoing),
        all: count(all),
    }
}

async fn by_channel(uses: Vec<UseFacts>, report: ClientReport) -> Uses {
    let mut found = Uses::default();
    for (at, one) in uses.into_iter().enumerate() {
        let of_channel = found.by_channel.entry((one.kind, one.channel)).or_default();
        if of_channel.len() < CLIENTS_MAX {
            of_channel.push((one.client, one.figures));
        }
        if at % USES == USES - 1 {
            rt::reactor_yield().await;
        }
    }
    for failure in report.failures {
        found
            .errors
            .insert((failure.kind, failure.channel), failure.errors);
    }
    found
}

async fn host(context: &Context, cpu: &Cell<(u64, rt::Instant)>, active: usize) -> Host {
    let process = rt::blocking(ProcessFigures::read).await.unwrap_or_default();
    let now = rt::now();
    let (before_ms, before) = cpu.replace((process.cpu_ms, now));
    let cores = process.processors.max(1);
    let passed_ms = u64::try_from(now.since(before).as_millis()).unwrap_or(u64::MAX);
    let used_ms = process.cpu_ms.saturating_sub(before_ms);
    let whole = passed_ms.saturating_mul(cores);
    let age_ns = rt::unix_ns().saturating_sub(context.process.started_at_ns);
    Host {
        name: context.process.machine.to_string(),
        uptime_seconds: u64::try_from(age_ns / 1_000_000_000).unwrap_or_default(),
        process,
        cores,
        cpu: used_ms.saturating_mul(10_000) / whole.max(1),
        active_clients: u64::try_from(active).unwrap_or(u64::MAX),
    }
}

fn now_ms() -> u64 {
    u64::try_from(rt::unix_ns()).unwrap_or_default() / 1_000_000
}
