//! The status report: everything that is counted, as one JSON document.
//!
//! Written on SIGUSR1 and read by the tests that count what a vanished client leaves behind.

use std::collections::BTreeMap;

use serde::Serialize;

use super::counters::CountersSnapshot;
use super::latency::{LatenciesSnapshot, LatencySummary};

/// The report. It is filled executor by executor; one that did not answer is missing in `shards`,
/// while `shard_count` counts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StatusReport {
    /// Version of the broker.
    pub version: &'static str,
    /// Id of the process.
    pub process_id: u32,
    /// Executors of the broker.
    pub shard_count: usize,
    /// Connections that are open, as the acceptors count them.
    pub connections: usize,
    /// Subscriptions of all kinds.
    pub subscriptions: u64,
    /// Requests that wait for an answer.
    pub pending: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// Tasks that ended in a panic.
    pub task_panics: u64,
    /// Memory of the process.
    pub memory: Memory,
    /// All executors' counters, added up.
    pub counters: CountersSnapshot,
    /// All executors' latencies, merged; families without a value are left out.
    pub latencies: BTreeMap<&'static str, LatencySummary>,
    /// Each executor by itself.
    pub shards: Vec<ShardReport>,
    #[serde(skip)]
    merged: LatenciesSnapshot,
}

/// Names the report, so that a reader of log lines knows it.
#[derive(Serialize)]
struct Document<'a> {
    status: &'a StatusReport,
}

/// One executor's part of the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: u16,
    /// Connections that it serves.
    pub connections: usize,
    /// Subscriptions whose connection it serves.
    pub subscriptions: u64,
    /// Its requests that wait for an answer.
    pub pending: u64,
    /// Its tasks that have not ended.
    pub tasks: u64,
    /// Its tasks that ended in a panic.
    pub task_panics: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Bytes that wait for its subscribers.
    pub delivery_buffer_bytes: u64,
    /// How long its tasks kept the core between two looks at the sockets.
    pub turns: LatencySummary,
    /// Turns of more than a millisecond.
    pub stalls: u64,
    /// What its watchdog saw; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// Its counters; in the report they are added up.
    #[serde(skip)]
    pub counters: CountersSnapshot,
    /// Its latencies; in the report they are merged.
    #[serde(skip)]
    pub latencies: LatenciesSnapshot,
}

/// What the watchdog has seen of one executor since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watchdog {
    /// How often the executor answered the heartbeat.
    pub turns: u64,
    /// Turns that came too late.
    pub stalls: u64,
    /// The longest time without a turn, in microseconds.
    pub longest_stall_us: u64,
    /// Pauses of the whole process or machine, which are not the executor's fault.
    pub paused: u64,
}

impl StatusReport {
    /// Begins the report of a broker with `shard_count` executors that serve `connections`.
    #[must_use]
    pub fn new(shard_count: usize, connections: usize) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            process_id: std::process::id(),
            shard_count,
            connections,
            memory: Memory::read(),
            ..Self::default()
        }
    }

    /// Adds one executor's part.
    pub fn add(&mut self, shard: ShardReport) {
        self.subscriptions += shard.subscriptions;
        self.pending += shard.pending;
        self.tasks += shard.tasks;
        self.task_panics += shard.task_panics;
        self.counters.add(&shard.counters);
        self.merged.merge(&shard.latencies);
        let used = self
            .merged
            .iter()
            .filter(|(_, _, values)| values.count() > 0);
        self.latencies = used
            .map(|(name, _, values)| (name, values.summary()))
            .collect();
        self.shards.push(shard);
    }

    /// The report as one line of JSON: an object with the one member `status`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document { status: self };
        serde_json::to_string(&document).expect("strings and integers always serialise")
    }
}

/// Memory of the process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident memory (VmRSS).
    pub resident_bytes: u64,
    /// The most it ever was (VmHWM).
    pub resident_max_bytes: u64,
    /// The part of the resident memory that belongs to the process alone (RssAnon).
    pub anonymous_bytes: u64,
    /// The part that mirrors files, such as segments that are read (RssFile); the kernel takes it
    /// back when it needs memory.
    pub file_bytes: u64,
}

impl Memory {
    /// Reads `/proc/self/status`; zeroes where that is not there. The file lies in memory, so that
    /// an executor may read it.
    #[must_use]
    pub fn read() -> Self {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            resident_bytes: field_bytes(&text, "VmRSS:"),
            resident_max_bytes: field_bytes(&text, "VmHWM:"),
            anonymous_bytes: field_bytes(&text, "RssAnon:"),
            file_bytes: field_bytes(&text, "RssFile:"),
        }
    }
}

/// The value of a line like `VmRSS:     1234 kB`.
fn field_bytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::latency::Latencies;

    #[test]
    fn report_adds_up_the_executors_and_shows_each() {
        let mut report = StatusReport::new(3, 5);
        let recorded = Latencies::default();
        recorded.ping.record_ns(1_000);
        let latencies = recorded.snapshot();
        let first = ShardReport {
            latencies,
            subscriptions: 2,
            pending: 1,
            ..ShardReport::default()
        };
        let counters = CountersSnapshot {
            streams_opened: 4,
            ..CountersSnapshot::default()
        };
        let watchdog = Some(Watchdog {
            stalls: 1,
            ..Watchdog::default()
        });
        report.add(first);
        report.add(ShardReport {
            shard: 1,
            subscriptions: 4,
            watchdog,
            timers: 7,
            counters,
            ..ShardReport::default()
        });

        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        let status = &json["status"];
        assert_eq!(status["connections"], 5);
        assert_eq!(
            (&status["subscriptions"], &status["pending"]),
            (&6.into(), &1.into())
        );
        assert_eq!(status["counters"]["broker_streams_opened_total"], 4);
        assert_eq!(status["latencies"]["ping"]["count"], 1);
        assert_eq!(status["shards"].as_array().unwrap().len(), 2);
        assert_eq!(status["shards"][1]["watchdog"]["stalls"], 1);
        assert_eq!(status["shards"][1]["timers"], 7);
        assert!(status["shards"][0].get("watchdog").is_none());
    }

    #[test]
    fn own_memory_is_read() {
        let memory = Memory::read();
        assert!(memory.resident_bytes > 100_000, "{memory:?}");
        assert!(
            memory.resident_max_bytes >= memory.resident_bytes,
            "{memory:?}"
        );
        assert!(memory.anonymous_bytes > 0, "{memory:?}");
        assert!(
            memory.anonymous_bytes + memory.file_bytes <= memory.resident_bytes,
            "{memory:?}"
        );
        assert_eq!(field_bytes("VmRSS:\t 12 kB\n", "VmRSS:"), 12_288);
        assert_eq!(field_bytes("VmRSS:\t many\n", "VmRSS:"), 0);
    }
}
