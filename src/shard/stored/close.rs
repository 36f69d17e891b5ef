//! The end of the logs: everything written down, so that the next start has nothing to replay.

use std::rc::Rc;
use std::time::Duration;

use super::seat::LogSeat;
use crate::rt;
use crate::shard::Shard;

/// How long a log may take to end; what is missing then is found again by the next start.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const STEP: Duration = Duration::from_millis(2);

impl Shard {
    /// Writes down positions, commits what gathered and makes a checkpoint of every log.
    pub async fn close_logs(self: &Rc<Self>) {
        for seat in &self.stored.seats {
            let began = rt::now();
            if !self.close_log(seat, began).await {
                let log = seat.number;
                tracing::warn!(
                    log,
                    "the log did not end in time; the next start replays its tail"
                );
            }
        }
    }

    async fn close_log(self: &Rc<Self>, seat: &Rc<LogSeat>, began: rt::Instant) -> bool {
        seat.closed.set(true);
        let in_time = || rt::now().since(began) < PATIENCE;
        while !self.flush_cursors(seat) {
            if !in_time() {
                return false;
            }
            rt::sleep(STEP).await;
        }
        while self.has_decisions(seat) {
            if seat.log.borrow().poisoned().is_some() || !in_time() {
                return false;
            }
            seat.commit_ready.raise();
            rt::sleep(STEP).await;
        }
        while seat.log.borrow().committed() < seat.log.borrow().end() {
            if seat.log.borrow().poisoned().is_some() || !in_time() {
                return false;
            }
            seat.commit_ready.raise();
            rt::sleep(STEP).await;
        }
        while seat.log.borrow().unsynced().is_some() {
            if seat.log.borrow().poisoned().is_some() || !in_time() {
                return false;
            }
            seat.sync_due.set(true);
            seat.commit_ready.raise();
            rt::sleep(STEP).await;
        }
        if !seat.log.borrow().has_changed_since_checkpoint() {
            return true;
        }
        let before = seat.checkpointed.get();
        self.checkpoint(seat).await;
        seat.jobs_ready.raise();
        while seat.checkpointed.get() == before {
            if !in_time() {
                return false;
            }
            rt::sleep(STEP).await;
        }
        true
    }
}
