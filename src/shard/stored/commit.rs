//! Group commit: one write and one sync for all that gathered while the last one ran.
//!
//! When strict, the two are one operation: the segment is open for synchronised data writes, which
//! saves a trip through the ring (`docs/performance.md`). Otherwise a sync follows some time later.

use std::rc::Rc;

use ringmq_storage::log::Batch;
use ringmq_storage::{Position, SegmentId};

use super::seat::LogSeat;
use super::{StoreFailure, record};
use crate::engine::feeds::{Address, ReceiverKey};
use crate::engine::stored::{Effect, StoredKind};
use crate::rt::file::LogFile;
use crate::rt::{self, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;

impl Shard {
    /// Commits what gathers, for ever. One task for each log runs this.
    pub(super) async fn run_commits(self: Rc<Self>, seat: Rc<LogSeat>) {
        loop {
            seat.commit_ready.wait().await;
            // Until there is nothing left: a flood of batches must not keep a sync from its time.
            loop {
                let done = self.commit_next(&seat).await;
                match done {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(reason) => {
                        self.poison(&seat, &reason);
                        break;
                    }
                }
            }
        }
    }

    /// Makes the sync that is due, then commits a batch; `false` when there is none.
    async fn commit_next(self: &Rc<Self>, seat: &Rc<LogSeat>) -> Result<bool, String> {
        if seat.sync_due.replace(false) {
            self.sync_written(seat).await?;
        }
        self.flush_queues(seat);
        let batch = seat.log.borrow_mut().take_batch();
        let Some(batch) = batch else {
            return Ok(false);
        };
        seat.batches.set(seat.batches.get() + 1);
        self.commit_batch(seat, batch).await?;
        Ok(true)
    }

    async fn commit_batch(self: &Rc<Self>, seat: &Rc<LogSeat>, batch: Batch) -> Result<(), String> {
        let began = rt::now();
        let batch_bytes = batch.bytes.len();
        let Batch {
            segment,
            offset,
            bytes,
            end,
            must_sync,
            ..
        } = batch;
        self.counters.commits.increment();
        self.counters
            .commit_bytes
            .add(bytes.len().try_into().unwrap_or(u64::MAX));
        let file = self.segment_file(seat, segment).await?;
        let write = file.write_at(bytes, u64::from(offset)).await;
        write.map_err(|error| format!("write to segment {segment} at {offset}: {error}"))?;
        seat.log.borrow_mut().written(end);
        record(&self.latencies.storage_write, began);
        if file.is_write_through() {
            // One trip through the ring: what is written is durable.
            seat.log.borrow_mut().synced(end);
        } else if must_sync {
            self.sync_file(seat, &file, segment, end).await?;
        } else {
            self.sync_later(seat);
        }
        if must_sync {
            // Sealed: nothing is written to it any more.
            seat.files.borrow_mut().remove(&segment);
        }
        self.apply_committed(seat, end)?;
        record(&self.latencies.append_commit, began);
        self.admission
            .committed(batch_bytes, rt::now().since(began));
        Ok(())
    }

    async fn sync_file(
        &self,
        seat: &LogSeat,
        file: &LogFile,
        segment: SegmentId,
        end: Position,
    ) -> Result<(), String> {
        let began = rt::now();
        self.counters.log_syncs.increment();
        let sync = file.sync_data().await;
        sync.map_err(|error| format!("sync of segment {segment}: {error}"))?;
        seat.log.borrow_mut().synced(end);
        self.moves_durable(seat);
        record(&self.latencies.storage_sync, began);
        Ok(())
    }

    /// Syncs what an interval has left; in this task, so that no two syncs of a file overlap.
    async fn sync_written(&self, seat: &LogSeat) -> Result<(), String> {
        let unsynced = seat.log.borrow().unsynced();
        let Some((segment, end)) = unsynced else {
            return Ok(());
        };
        let file = self.segment_file(seat, segment).await?;
        self.sync_file(seat, &file, segment, end).await
    }

    /// Asks for a sync when the interval has passed, once for all writes until then.
    fn sync_later(&self, seat: &Rc<LogSeat>) {
        if seat.sync_planned.replace(true) {
            return;
        }
        let (seat, interval) = (seat.clone(), self.stored.settings.sync_interval);
        rt::spawn(Queue::Append, "sync", async move {
            rt::sleep(interval).await;
            seat.sync_planned.set(false);
            seat.sync_due.set(true);
            seat.commit_ready.raise();
        });
    }

    /// The segment's file, opened ahead by the jobs or, failing that, now.
    pub(super) async fn segment_file(
        &self,
        seat: &LogSeat,
        segment: SegmentId,
    ) -> Result<Rc<LogFile>, String> {
        let known = seat.files.borrow().get(&segment).cloned();
        if let Some(file) = known {
            return Ok(file);
        }
        let path = seat.log.borrow().segment_path(segment);
        let path = path.ok_or_else(|| format!("segment {segment} is not there"))?;
        let hook = self.stored.settings.file_hook.clone();
        let file = if self.stored.settings.strict {
            LogFile::open_write_through(&path, hook).await
        } else {
            LogFile::open(&path, hook).await
        };
        let file = file.map_err(|error| format!("open {}: {error}", path.display()))?;
        let file = Rc::new(file);
        seat.files.borrow_mut().insert(segment, file.clone());
        Ok(file)
    }

    /// Everything before `through` counts now: state changes, publishers hear, receivers get it.
    fn apply_committed(self: &Rc<Self>, seat: &LogSeat, through: Position) -> Result<(), String> {
        let began = rt::now();
        let mut effects = seat.effects.take();
        {
            let mut log = seat.log.borrow_mut();
            let mut slots = seat.slots.borrow_mut();
            let committed = log.commit(through, &mut *slots);
            committed.map_err(|divergence| divergence.to_string())?;
            slots.take_effects(&mut effects);
        }
        for effect in effects.drain(..) {
            self.take_effect(seat, &effect);
            self.take_queue_effect(seat, &effect);
            self.show_committed(seat, &effect);
        }
        seat.effects.replace(effects);
        while let Some(run) = seat.next_committed(through) {
            let received = match run.kind {
                StoredKind::Queue => &self.counters.queue_received,
                _ => &self.counters.events_store_received,
            };
            received.add(run.count);
            self.complete(run.receipt, run.count, Ok(()));
        }
        self.confirm_committed(seat, through);
        self.moves_durable(seat);
        seat.wake_committed(through);
        self.append_backlog(seat);
        seat.deliver_ready.raise();
        seat.jobs_ready.raise();
        record(&self.latencies.storage_turn, began);
        Ok(())
    }

    fn take_effect(&self, seat: &LogSeat, effect: &Effect) {
        let mut feeds = seat.feeds.borrow_mut();
        match *effect {
            Effect::Stored { key, last } => feeds.stored(key, last),
            Effect::Trimmed {
                key,
                through,
                messages,
            } => {
                feeds.trimmed(key, through);
                self.counters.trims.increment();
                self.counters.trimmed_messages.add(messages);
            }
            Effect::Deleted { key } => {
                let mut ended = Vec::new();
                feeds.channel_deleted(key, &mut ended);
                drop(feeds);
                seat.count_channels();
                self.end_receivers(seat, &ended);
            }
            Effect::Created { .. } => seat.count_channels(),
            Effect::CursorDeleted { key, cursor } => feeds.cursor_deleted(key, cursor),
            _ => {}
        }
    }

    fn end_receivers(&self, seat: &LogSeat, ended: &[(ReceiverKey, Address)]) {
        for (_, address) in ended {
            let mut receivers = seat.receivers.borrow_mut();
            receivers.remove(&(address.core, address.key));
            drop(receivers);
            match self.lane(address.core) {
                None => self.ended_here(address.key),
                Some(lane) => lane.push_note(Note::Ended { key: address.key }),
            }
        }
    }

    /// The log takes no more writes: a failed write or sync is final.
    pub(super) fn poison(&self, seat: &LogSeat, reason: &str) {
        let log = seat.number;
        tracing::error!(
            shard = %self.id(),
            log,
            reason,
            "the log has failed and takes no more writes; stored messages can still be read. \
             Check the disk, then restart: the broker opens with all that was acknowledged"
        );
        seat.log.borrow_mut().fail(reason.to_owned());
        let waiting = seat.waiting.take();
        for run in waiting {
            self.complete(run.receipt, run.count, Err(StoreFailure::Poisoned));
        }
        let backlog = seat.backlog.take();
        for work in backlog {
            self.complete(work.receipt, 1, Err(StoreFailure::Poisoned));
        }
        self.fail_confirmations(seat);
        self.fail_moves(seat);
        // They look at the log themselves.
        seat.wake_committed(Position::from_u64(u64::MAX));
    }
}
