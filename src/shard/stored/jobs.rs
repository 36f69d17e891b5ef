//! Work of a log that may block: segments made ahead, indexes, checkpoints, dropped segments.

use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::log::JobOutcome;

use super::seat::LogSeat;
use crate::rt::{self, Queue};
use crate::shard::Shard;

/// How long the log waits before it tries again to make room on a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// How long a checkpoint may be encoded before sockets are looked at again.
const ENCODE_TURN: Duration = Duration::from_micros(200);

impl Shard {
    /// Runs the log's jobs one after the other, for ever. One task for each log runs this.
    pub(super) async fn run_jobs(self: Rc<Self>, seat: Rc<LogSeat>) {
        loop {
            let wants_checkpoint = seat.log.borrow().wants_checkpoint();
            if wants_checkpoint {
                self.checkpoint(&seat).await;
            }
            let job = seat.log.borrow_mut().next_job();
            let Some(job) = job else {
                seat.jobs_ready.wait().await;
                continue;
            };
            self.counters.log_jobs.increment();
            let fs = seat.fs.clone();
            let done = rt::blocking(move || job.run(&*fs)).await;
            let Some(done) = done else {
                // A panic in a job is a bug of ours: without it the log would wait for ever.
                self.poison(&seat, "a storage job panicked");
                return;
            };
            let outcome = seat.log.borrow_mut().done(done);
            self.take_outcome(&seat, outcome).await;
        }
    }

    async fn take_outcome(self: &Rc<Self>, seat: &Rc<LogSeat>, outcome: JobOutcome) {
        match outcome {
            JobOutcome::NewSegment(segment) => {
                if seat.full_reported.replace(false) {
                    tracing::info!(log = seat.number, "there is space again: storing goes on");
                }
                // A segment that is too small for the next record is made anew: another file.
                seat.files.borrow_mut().remove(&segment);
                // Opened ahead: the commit that rolls into it must not wait for that.
                let _opened_again_by_the_commit = self.segment_file(seat, segment).await;
                self.append_backlog(seat);
                seat.commit_ready.raise();
            }
            JobOutcome::Retry { error } => {
                self.counters.log_job_failures.increment();
                if !seat.full_reported.replace(true) {
                    let log = seat.number;
                    tracing::error!(
                        log,
                        %error,
                        "no space for the next segment: new messages are refused until there is; \
                         free space on the disk of store.store_path, or lower store.max_retention"
                    );
                }
                // Those that wait hear it now: the log refuses what it has no room for.
                self.append_backlog(seat);
                rt::sleep(RETRY).await;
            }
            JobOutcome::CheckpointWritten => {
                seat.checkpointed.set(seat.checkpointed.get() + 1);
            }
            _ => {}
        }
    }

    /// Encodes a checkpoint, slot by slot, and gives it to the log to write.
    pub(super) async fn checkpoint(&self, seat: &LogSeat) {
        let mut builder = seat.log.borrow_mut().begin_checkpoint();
        let mut began = rt::now();
        for slot in builder.slots() {
            {
                let slots = seat.slots.borrow();
                // Each slot is complete in itself and names the frame it is at.
                builder.section(slot, slots.applied(slot), |out| {
                    slots.encode_section(slot, out);
                });
            }
            if rt::now().since(began) > ENCODE_TURN {
                rt::reactor_yield().await;
                began = rt::now();
            }
        }
        seat.log.borrow_mut().submit_checkpoint(builder);
    }

    /// Starts the tasks of every log of this shard.
    pub(in crate::shard) fn run_stored(self: &Rc<Self>) {
        for seat in &self.stored.seats {
            let (shard, seat) = (self.clone(), seat.clone());
            rt::spawn(
                Queue::Append,
                "commits",
                shard.clone().run_commits(seat.clone()),
            );
            rt::spawn(
                Queue::Background,
                "jobs",
                shard.clone().run_jobs(seat.clone()),
            );
            rt::spawn(
                Queue::Serve,
                "deliver",
                shard.clone().run_deliveries(seat.clone()),
            );
            rt::spawn(
                Queue::Serve,
                "queues",
                shard.clone().run_queues(seat.clone()),
            );
            rt::spawn(
                Queue::Serve,
                "queue time",
                shard.clone().run_queue_time(seat.clone()),
            );
            rt::spawn(Queue::Serve, "moves", shard.clone().run_moves(seat.clone()));
            rt::spawn(Queue::Background, "housekeeping", shard.keep_house(seat));
        }
    }
}
