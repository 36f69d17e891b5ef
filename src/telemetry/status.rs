//! The status report: everything that is counted, as one JSON document.
//!
//! Written on SIGUSR1 and read by the tests that count what a vanished client leaves behind.

use std::collections::BTreeMap;

use serde::Serialize;

use super::counters::CountersSnapshot;
use super::latency::{LatenciesSnapshot, LatencySummary};

/// What one executor hands in.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    /// Its counters.
    pub counters: CountersSnapshot,
    /// Its latencies.
    pub latencies: LatenciesSnapshot,
    /// What its watchdog saw.
    pub watchdog: WatchdogStatus,
}

/// What the watchdog has seen of one executor since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchdogStatus {
    /// How often the executor answered the heartbeat.
    pub turns: u64,
    /// Turns that came too late.
    pub stalls: u64,
    /// The longest time without a turn, in microseconds.
    pub longest_us: u64,
    /// Stalls of the whole process or machine, which are not the executor's.
    pub paused: u64,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// Version of the broker.
    pub version: &'static str,
    /// Id of the process.
    pub process_id: u32,
    /// Memory of the process.
    pub memory: MemoryStatus,
    /// All executors' counters, added up.
    pub counters: CountersSnapshot,
    /// All executors' latencies, merged; families without a value are left out.
    pub latencies: BTreeMap<&'static str, LatencySummary>,
    /// Each executor by itself, in order of the shards.
    pub shards: Vec<ShardReport>,
}

/// One executor in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: usize,
    /// What its watchdog saw.
    pub watchdog: WatchdogStatus,
    /// Its open connections.
    pub connections: u64,
    /// Its subscriptions of all kinds.
    pub subscriptions: u64,
    /// Its requests that wait for an answer.
    pub requests_pending: u64,
    /// Its tasks that have not ended.
    pub tasks: u64,
    /// Its tasks that ended in a panic.
    pub task_panics: u64,
}

impl StatusReport {
    /// Adds up what the executors handed in, in order of their shards.
    #[must_use]
    pub fn new(memory: MemoryStatus, shards: &[ShardStatus]) -> Self {
        let mut counters = CountersSnapshot::default();
        let mut latencies = LatenciesSnapshot::default();
        for shard in shards {
            counters.add(&shard.counters);
            latencies.merge(&shard.latencies);
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            process_id: std::process::id(),
            memory,
            latencies: summaries(&latencies),
            shards: shards
                .iter()
                .enumerate()
                .map(|(n, shard)| ShardReport::new(n, shard))
                .collect(),
            counters,
        }
    }

    /// The report as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always serialise")
    }
}

impl ShardReport {
    fn new(shard: usize, status: &ShardStatus) -> Self {
        let counters = &status.counters;
        Self {
            shard,
            watchdog: status.watchdog,
            connections: counters.connections,
            subscriptions: counters.subscriptions_events
                + counters.subscriptions_commands
                + counters.subscriptions_queries,
            requests_pending: counters.requests_pending,
            tasks: counters.tasks,
            task_panics: counters.task_panics,
        }
    }
}

fn summaries(latencies: &LatenciesSnapshot) -> BTreeMap<&'static str, LatencySummary> {
    let used = latencies.iter().filter(|(_, _, values)| values.count() > 0);
    used.map(|(name, _, values)| (name, values.summary()))
        .collect()
}

/// Memory of the process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStatus {
    /// Resident memory (VmRSS).
    pub resident_bytes: u64,
    /// The most it ever was (VmHWM).
    pub resident_max_bytes: u64,
}

impl MemoryStatus {
    /// Reads `/proc/self/status`; zeroes where that is not there. The file lies in memory, so that
    /// an executor may read it.
    #[must_use]
    pub fn read() -> Self {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            resident_bytes: field_bytes(&text, "VmRSS:"),
            resident_max_bytes: field_bytes(&text, "VmHWM:"),
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

    #[test]
    fn report_adds_up_the_executors_and_shows_each() {
        let mut shards = vec![ShardStatus::default(), ShardStatus::default()];
        shards[0].counters.connections = 2;
        shards[1].counters.connections = 3;
        shards[1].counters.subscriptions_queries = 4;
        shards[1].watchdog.stalls = 1;
        let report = StatusReport::new(MemoryStatus::default(), &shards);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["counters"]["broker_connections"], 5);
        assert_eq!(json["shards"][1]["connections"], 3);
        assert_eq!(json["shards"][1]["subscriptions"], 4);
        assert_eq!(json["shards"][1]["watchdog"]["stalls"], 1);
        assert_eq!(json["latencies"], serde_json::json!({}));
    }

    #[test]
    fn own_memory_is_read() {
        let memory = MemoryStatus::read();
        assert!(memory.resident_bytes > 100_000, "{memory:?}");
        assert!(
            memory.resident_max_bytes >= memory.resident_bytes,
            "{memory:?}"
        );
        assert_eq!(field_bytes("VmRSS:\t 12 kB\n", "VmRSS:"), 12_288);
        assert_eq!(field_bytes("VmRSS:\t many\n", "VmRSS:"), 0);
    }
}
