//! Families of the broker as a whole: counters, latencies, cores, store, process.

use super::gather::{BOUNDS_NS, Scrape, place};
use super::text::{Kind, Text, Value, put_value};
use crate::model::Kind as ChannelKind;
use crate::telemetry::counters::MetricKind;
use crate::telemetry::latency::Buckets;

/// What the counters' names begin with, within the broker and outside of it.
const PREFIXES: (&str, &str) = ("broker_", "ringmq_");

/// Levels that only a walk over the channels can tell.
const WALKED: [&str; 6] = [
    "broker_queue_waiting",
    "broker_queue_leased",
    "broker_queue_delayed",
    "broker_queue_moving",
    "broker_log_live_bytes",
    "broker_log_index_bytes",
];

/// Histograms of calls: the name within the broker, and that of the method.
const METHODS: [(&str, &str); 9] = [
    ("ping", "Ping"),
    ("send_event", "SendEvent"),
    ("send_event_store", "SendEvent.store"),
    ("commands", "SendRequest.commands"),
    ("queries", "SendRequest.queries"),
    ("send_response", "SendResponse"),
    ("send_queue_message", "SendQueueMessage"),
    ("queue_poll", "QueuePoll"),
    ("queue_settle", "QueueSettle"),
];

/// Histograms of work: the name within the broker, the family and its help.
const WORK: [(&str, &str, &str); 5] = [
    (
        "append_commit",
        "ringmq_log_commit_duration_seconds",
        "Stored messages, from being gathered to being committed.",
    ),
    (
        "storage_write",
        "ringmq_log_write_duration_seconds",
        "Writes of a batch to its segment.",
    ),
    (
        "storage_sync",
        "ringmq_log_sync_duration_seconds",
        "Syncs of a segment.",
    ),
    (
        "storage_turn",
        "ringmq_log_turn_duration_seconds",
        "Sections of work on the log that a core did without letting others in.",
    ),
    (
        "executor_turn",
        "ringmq_core_turn_duration_seconds",
        "How long the tasks of a core kept it between two looks at its sockets.",
    ),
];

/// Writes every counter and level of the cores, summed.
pub(super) fn counters(scrape: &Scrape, text: &mut Text) {
    let counters = scrape.counters();
    let mut family = "";
    let mut name = String::new();
    for sample in counters.iter() {
        if scrape.channels.is_none() && WALKED.contains(&sample.name) {
            continue;
        }
        if sample.name != family {
            family = sample.name;
            let rest = family.strip_prefix(PREFIXES.0).unwrap_or(family);
            name = format!("{}{rest}", PREFIXES.1);
            let kind = match sample.kind {
                MetricKind::Counter => Kind::Counter,
                MetricKind::Gauge => Kind::Gauge,
            };
            text.family(&name, kind, sample.help);
        }
        text.sample(&name, sample.labels, Value::Number(sample.value));
    }
}

/// Writes the latencies.
pub(super) fn latencies(scrape: &Scrape, text: &mut Text) {
    let latencies = scrape.latencies();
    let of = |name: &str| {
        let found = latencies.iter().find(|(known, _)| *known == name);
        found.map(|(_, buckets)| buckets)
    };
    let family = "ringmq_method_duration_seconds";
    let help = "Calls, from their arrival to their answer, by method. Polls of queues from their \
                turn on, settlements to their commit.";
    text.family(family, Kind::Histogram, help);
    for (name, method) in METHODS {
        if let Some(buckets) = of(name) {
            histogram(family, Some(("method", method)), buckets, text);
        }
    }
    for (name, family, help) in WORK {
        if let Some(buckets) = of(name) {
            text.family(family, Kind::Histogram, help);
            histogram(family, None, buckets, text);
        }
    }
}

fn histogram(family: &str, label: Option<(&str, &str)>, buckets: &Buckets, text: &mut Text) {
    let labels: Vec<_> = label.into_iter().collect();
    let name = format!("{family}_bucket");
    let mut bucket = |bound: &str, count: u64| {
        let mut labels = labels.clone();
        labels.push(("le", bound));
        text.sample(&name, &labels, Value::Number(count));
    };
    for (bound_ns, count) in BOUNDS_NS.into_iter().zip(&buckets.counts) {
        let mut bound = Vec::new();
        put_value(Value::Nanoseconds(bound_ns), &mut bound);
        // OpenMetrics writes bounds as numbers with a point.
        let whole = !bound.contains(&b'.');
        let bound = String::from_utf8(bound).unwrap_or_default();
        let bound = if whole { format!("{bound}.0") } else { bound };
        bucket(&bound, *count);
    }
    bucket("+Inf", buckets.count);
    text.sample(
        &format!("{family}_sum"),
        &labels,
        Value::Nanoseconds(buckets.sum_ns),
    );
    text.sample(
        &format!("{family}_count"),
        &labels,
        Value::Number(buckets.count),
    );
}

/// A figure of a core.
type OfCore = fn(&Scrape, usize) -> Option<Value>;

/// Families with a series for each core.
const CORES: [(&str, Kind, &str, OfCore); 9] = [
    (
        "ringmq_core_busy_seconds_total",
        Kind::Counter,
        "Time that tasks have had on a core.",
        |scrape, at| {
            scrape
                .cores
                .get(at)
                .map(|core| Value::Nanoseconds(core.busy_ns))
        },
    ),
    (
        "ringmq_core_stalls_total",
        Kind::Counter,
        "Turns of more than a millisecond on a core.",
        |scrape, at| counter(scrape, at, |counters| counters.executor_stalls),
    ),
    (
        "ringmq_core_overloaded",
        Kind::Gauge,
        "1 while a core has more to do than it can.",
        |scrape, at| {
            counter(scrape, at, |counters| {
                (counters.overloaded_processor + counters.overloaded_store).min(1)
            })
        },
    ),
    (
        "ringmq_core_connections",
        Kind::Gauge,
        "Connections that a core serves.",
        |scrape, at| counter(scrape, at, |counters| counters.connections),
    ),
    (
        "ringmq_core_tasks",
        Kind::Gauge,
        "Tasks of a core that have not ended.",
        |scrape, at| counter(scrape, at, |counters| counters.tasks),
    ),
    (
        "ringmq_core_mesh_depth",
        Kind::Gauge,
        "Messages that wait on a core to leave for others.",
        |scrape, at| counter(scrape, at, |counters| counters.mesh_depth),
    ),
    (
        "ringmq_core_delivery_buffer_bytes",
        Kind::Gauge,
        "Bytes that wait on a core in subscribers' buffers.",
        |scrape, at| counter(scrape, at, |counters| counters.delivery_buffer_bytes),
    ),
    (
        "ringmq_core_watchdog_stalls_total",
        Kind::Counter,
        "Times that a core did not answer the heartbeat for more than 100 ms.",
        |scrape, at| {
            scrape
                .watched
                .get(at)
                .map(|watched| Value::Number(watched.stalls))
        },
    ),
    (
        "ringmq_core_watchdog_longest_stall_seconds",
        Kind::Gauge,
        "The longest time in which a core did not answer the heartbeat.",
        |scrape, at| {
            let watched = scrape.watched.get(at)?;
            Some(Value::Nanoseconds(watched.longest_us.saturating_mul(1_000)))
        },
    ),
];

/// Writes what is told of each core by itself.
pub(super) fn cores(scrape: &Scrape, text: &mut Text) {
    for (name, kind, help, of) in CORES {
        text.family(name, kind, help);
        for at in 0..scrape.cores.len() {
            if let Some(value) = of(scrape, at) {
                text.sample(name, &[("core", &at.to_string())], value);
            }
        }
    }
}

fn counter(
    scrape: &Scrape,
    at: usize,
    of: impl Fn(&crate::telemetry::counters::CountersSnapshot) -> u64,
) -> Option<Value> {
    scrape
        .cores
        .get(at)
        .map(|core| Value::Number(of(&core.counters)))
}

/// Writes what is told of the node.
pub(super) fn node(scrape: &Scrape, text: &mut Text) {
    let name = "ringmq_build_info";
    text.family(name, Kind::Info, "The version of the broker.");
    let version = env!("CARGO_PKG_VERSION");
    text.sample(name, &[("version", version)], Value::Number(1));
    let memory = &scrape.process.memory;
    let number = Value::Number;
    let levels = [
        (
            "ringmq_ready",
            Kind::Gauge,
            "1 when every shard can send and store everything.",
            number(u64::from(scrape.is_ready())),
        ),
        (
            "ringmq_cores",
            Kind::Gauge,
            "Cores that serve.",
            number(u64::try_from(scrape.cores.len()).unwrap_or_default()),
        ),
        (
            "ringmq_store_free_bytes",
            Kind::Gauge,
            "Room on the disk of the store.",
            number(scrape.disk.free_bytes),
        ),
        (
            "ringmq_store_size_bytes",
            Kind::Gauge,
            "Size of the disk of the store.",
            number(scrape.disk.size_bytes),
        ),
        (
            "ringmq_memory_anonymous_bytes",
            Kind::Gauge,
            "Resident memory that belongs to the process alone.",
            number(memory.anonymous_bytes),
        ),
        (
            "ringmq_memory_file_bytes",
            Kind::Gauge,
            "Resident memory that mirrors files and can be taken back.",
            number(memory.file_bytes),
        ),
    ];
    singles(levels, text);
}

/// Writes what is told of the process, under the names that all exporters use.
pub(super) fn process(scrape: &Scrape, text: &mut Text) {
    let (process, memory) = (&scrape.process, &scrape.process.memory);
    let number = Value::Number;
    let figures = [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Time on a processor since the start.",
            Value::Nanoseconds(process.cpu_ms.saturating_mul(1_000_000)),
        ),
        (
            "process_open_fds",
            Kind::Gauge,
            "Open file descriptors.",
            number(process.open_fds),
        ),
        (
            "process_max_fds",
            Kind::Gauge,
            "File descriptors that may be open.",
            number(process.fds_max),
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory.",
            number(memory.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Address space.",
            number(process.virtual_bytes),
        ),
        (
            "process_threads",
            Kind::Gauge,
            "Threads of the process.",
            number(process.threads),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the broker was started, in seconds since 1970.",
            Value::Nanoseconds(scrape.started_at_ns),
        ),
    ];
    singles(figures, text);
}

fn singles(families: impl IntoIterator<Item = Single>, text: &mut Text) {
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    }
}

/// A family of one series: name, kind, help, value.
type Single = (&'static str, Kind, &'static str, Value);

/// Writes the sums over the channels of each kind.
pub(super) fn kinds(scrape: &Scrape, text: &mut Text) {
    let Some(channels) = &scrape.channels else {
        return;
    };
    let of = |kind: ChannelKind| channels.totals.get(place(kind));
    let mut family = |name: &str, help: &str, value: &dyn Fn(ChannelKind) -> Option<u64>| {
        text.family(name, Kind::Gauge, help);
        for kind in ChannelKind::ALL {
            if let Some(value) = value(kind) {
                text.sample(name, &[("kind", kind.name())], Value::Number(value));
            }
        }
    };
    family("ringmq_channels", "Channels that are known.", &|kind| {
        of(kind).map(|totals| totals.channels)
    });
    family(
        "ringmq_channels_active",
        "Channels that somebody uses, or over which something went in the last minute.",
        &|kind| of(kind).map(|totals| totals.active),
    );
    let rest = |kind| channels.rest.get(place(kind)).map(|rest| rest.channels);
    family(
        "ringmq_channels_without_series",
        "Channels that are only in the series with the empty channel.",
        &rest,
    );
    let name = "ringmq_oldest_message_age_max_seconds";
    text.family(
        name,
        Kind::Gauge,
        "Age of the oldest message that is kept, of all channels.",
    );
    for kind in [ChannelKind::Queues, ChannelKind::EventsStore] {
        let oldest = of(kind).map_or(0, |totals| totals.sums.oldest_ms);
        let labels = [("kind", kind.name())];
        text.sample(name, &labels, age(oldest, scrape.now_ms));
    }
    let name = "ringmq_consumer_lag_messages_max";
    text.family(
        name,
        Kind::Gauge,
        "Messages behind the position that is farthest behind.",
    );
    let lag = of(ChannelKind::EventsStore).map_or(0, |totals| totals.sums.lag_max);
    text.sample(name, &[], Value::Number(lag));
}

/// The age of a message; zero when there is none.
pub(super) fn age(oldest_ms: u64, now_ms: u64) -> Value {
    let age_ms = match oldest_ms {
        0 => 0,
        oldest => now_ms.saturating_sub(oldest),
    };
    Value::Nanoseconds(age_ms.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::counters::CountersSnapshot;
    use crate::telemetry::latency::Latencies;

    #[test]
    fn every_histogram_is_in_one_family() {
        for (name, _) in Latencies::default().iter() {
            let method = METHODS.iter().any(|(known, _)| *known == name);
            let work = WORK.iter().any(|(known, ..)| *known == name);
            assert!(method != work, "{name}");
        }
    }

    #[test]
    fn levels_that_take_a_walk_are_counters_that_exist() {
        let counters = CountersSnapshot::default();
        for walked in WALKED {
            assert!(
                counters.iter().any(|sample| sample.name == walked),
                "{walked}"
            );
        }
    }
}
