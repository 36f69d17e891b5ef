//! What the broker counts, collected from all executors.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use super::executor::Control;
use super::listen::PortLoads;
use crate::rt::heartbeat::Heartbeat;
use crate::rt::inbox::InboxSender;
use crate::telemetry::status::{ShardReport, StatusReport, Watchdog};

/// How long an executor may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks every executor and waits a moment for the answers; one that does not answer in time is
/// missing in the report.
pub(super) fn collect(
    inboxes: &[InboxSender<Control>],
    heartbeat: &Heartbeat,
    loads: &PortLoads,
) -> StatusReport {
    let (tx, rx) = mpsc::channel();
    for inbox in inboxes {
        let _missing_in_the_report = inbox.send(Control::Status(tx.clone()));
    }
    drop(tx);
    let mut answers: Vec<ShardReport> = Vec::with_capacity(inboxes.len());
    while let Ok(answer) = rx.recv_timeout(PATIENCE) {
        answers.push(answer);
    }
    answers.sort_by_key(|answer| answer.shard);
    let mut report = StatusReport::new(inboxes.len(), loads.total());
    for mut answer in answers {
        let shard = usize::from(answer.shard);
        answer.watchdog =
            inboxes
                .get(shard)
                .zip(heartbeat.watches().get(shard))
                .map(|(inbox, watch)| Watchdog {
                    turns: inbox.turns(),
                    stalls: watch.stalls.load(Ordering::Relaxed),
                    longest_stall_us: watch.longest_us.load(Ordering::Relaxed),
                    paused: watch.paused.load(Ordering::Relaxed),
                });
        report.add(answer);
    }
    report.counters.connections_refused_limit = loads.refused();
    report
}

/// Logs the report as one line of JSON.
pub(super) fn log(report: &StatusReport) {
    tracing::info!(status = %report.to_json(), "status");
}
