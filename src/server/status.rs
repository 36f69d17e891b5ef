//! What the broker counts, collected from all executors.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use super::executor::Control;
use crate::net::Loads;
use crate::rt::TaskStats;
use crate::rt::heartbeat::Heartbeat;
use crate::rt::inbox::InboxSender;
use crate::shard::Levels;
use crate::telemetry::counters::CountersSnapshot;
use crate::telemetry::status::{ShardReport, StatusReport, Watchdog};

/// How long an executor may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One executor's answer.
#[derive(Clone, Debug)]
pub(super) struct ShardStatus {
    pub shard: u16,
    pub counters: CountersSnapshot,
    pub levels: Levels,
    pub connections: usize,
    pub tasks: TaskStats,
}

/// Asks every executor and waits a moment for the answers; one that does not answer is missing in
/// the report, which says so.
pub(super) fn collect(
    inboxes: &[InboxSender<Control>],
    heartbeat: &Heartbeat,
    loads: &Loads,
) -> StatusReport {
    let (tx, rx) = mpsc::channel();
    for inbox in inboxes {
        let _missing_in_the_report = inbox.send(Control::Status(tx.clone()));
    }
    drop(tx);
    let mut answers = Vec::with_capacity(inboxes.len());
    while let Ok(answer) = rx.recv_timeout(PATIENCE) {
        answers.push(answer);
    }
    answers.sort_by_key(|answer| answer.shard);
    let mut report = StatusReport::new(inboxes.len(), loads.total());
    for answer in answers {
        let watch = heartbeat.watches().get(usize::from(answer.shard));
        report.add(shard_report(answer, watch.map(|watch| Watchdog {
            stalls: watch.stalls.load(Ordering::Relaxed),
            longest_stall_us: watch.longest_us.load(Ordering::Relaxed),
            paused: watch.paused.load(Ordering::Relaxed),
        })));
    }
    report
}

/// Logs the report as one line of JSON.
pub(super) fn log(report: &StatusReport) {
    match serde_json::to_string(report) {
        Ok(status) => tracing::info!(status, "status"),
        Err(error) => tracing::error!(%error, "status cannot be written"),
    }
}
