//! Between the dispatcher and the log: what was decided becomes records, what is committed is told.

use std::rc::Rc;

use ringmq_storage::log::Refused;
use ringmq_storage::{ChannelKey, Position, Sequence};

use crate::engine::queues::SettleReason;
use crate::engine::queues::dispatcher::Pending;
use crate::engine::stored::Effect;
use crate::shard::stored::LogSeat;
use crate::shard::{Shard, StoreFailure};

impl Shard {
    /// Writes what was decided since the last commit; called right before a batch is taken. What
    /// the log has no room for stays decided, and is tried again before the next one.
    pub(in crate::shard) fn flush_queues(self: &Rc<Self>, seat: &Rc<LogSeat>) {
        // Compaction waits for a moment in which everything is committed.
        if seat.held.get() {
            return;
        }
        let poisoned = seat.log.borrow().poisoned().is_some();
        loop {
            let pending = seat.queues.borrow_mut().dispatcher.next_pending();
            let Some((key, pending)) = pending else { break };
            // A log that has failed takes nothing: what was decided is forgotten with it.
            if poisoned {
                continue;
            }
            let written = self.write_decision(seat, key, &pending);
            let mut queues = seat.queues.borrow_mut();
            match written {
                Ok(()) => queues.dispatcher.recycle(pending),
                Err(Refused::Busy | Refused::Full) => {
                    queues.dispatcher.put_pending_back(key, pending);
                    seat.jobs_ready.raise();
                    return;
                }
                // Until the next start: what is not settled in the log comes again then.
                Err(refused) => tracing::error!(
                    log = seat.number,
                    %refused,
                    "the log did not take what became of a queue's messages"
                ),
            }
        }
        self.flush_moves(seat);
        let (end, committed) = {
            let log = seat.log.borrow();
            (log.end(), log.committed())
        };
        {
            let mut queues = seat.queues.borrow_mut();
            let queues = &mut *queues;
            let decided = queues.undecided.drain(..);
            queues.decided.extend(decided.map(|it| (end, it)));
        }
        if end <= committed {
            self.confirm_committed(seat, committed);
        }
    }

    fn write_decision(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        key: ChannelKey,
        pending: &Pending,
    ) -> Result<(), Refused> {
        let now_ns = self.queue_now_ns();
        if let Pending::Move(moved) = pending {
            return self.write_move(seat, key, moved, now_ns);
        }
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        let log = &mut *log;
        match pending {
            Pending::Settle {
                reason,
                bytes,
                runs,
            } => {
                slots.prepare_settle(log, key, *reason, *bytes, runs, now_ns)?;
                self.count_removed(*reason, runs.iter().map(run_len).sum());
                seat.queues.borrow_mut().left.insert(key);
            }
            Pending::Requeue(entries) => {
                slots.prepare_requeue(log, key, entries, now_ns)?;
                let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
                self.counters.queue_requeued.add(count);
            }
            Pending::Count(entries) => slots.prepare_count(log, key, entries, now_ns)?,
            Pending::Move(_) => {}
        }
        Ok(())
    }

    pub(super) fn count_removed(&self, reason: SettleReason, count: u64) {
        let counters = &self.counters;
        let counter = match reason {
            // Counted when a client asked for it.
            SettleReason::Acked => return,
            SettleReason::Expired => &counters.queue_expired,
            SettleReason::Dropped => &counters.queue_dropped,
            SettleReason::DeadLettered => &counters.queue_dead_lettered,
            SettleReason::Moved => &counters.queue_moved,
            SettleReason::Purged => &counters.queue_purged,
            SettleReason::Overflow => &counters.queue_overflowed,
            SettleReason::Damaged => &counters.queue_damaged,
        };
        counter.add(count);
    }

    /// Tells those whose decisions are committed.
    pub(in crate::shard) fn confirm_committed(&self, seat: &LogSeat, committed: Position) {
        loop {
            let confirmation = {
                let mut queues = seat.queues.borrow_mut();
                let front = queues.decided.front();
                if front.is_none_or(|(end, _)| *end > committed) {
                    return;
                }
                queues.decided.pop_front()
            };
            if let Some((_, confirmation)) = confirmation {
                self.confirm(confirmation, None);
            }
        }
    }

    /// The log has failed: nobody who waits for a commit will see it.
    pub(in crate::shard) fn fail_confirmations(&self, seat: &LogSeat) {
        let (undecided, decided) = {
            let mut queues = seat.queues.borrow_mut();
            (
                std::mem::take(&mut queues.undecided),
                std::mem::take(&mut queues.decided),
            )
        };
        let decided = decided.into_iter().map(|(_, confirmation)| confirmation);
        for confirmation in decided.chain(undecided) {
            self.confirm(confirmation, Some(StoreFailure::Poisoned));
        }
    }

    /// What a commit means for the queues.
    pub(in crate::shard) fn take_queue_effect(self: &Rc<Self>, seat: &LogSeat, effect: &Effect) {
        match *effect {
            Effect::Created { key } => {
                let name = {
                    let slots = seat.slots.borrow();
                    let queue = slots.channel(key).filter(|_| slots.queue(key).is_some());
                    queue.map(|channel| channel.name.clone())
                };
                if let Some(name) = name {
                    self.queue_created(seat, key, &name);
                }
            }
            Effect::Stored { key, last } => self.queue_stored(seat, key, last),
            Effect::Deleted { key } => self.queue_deleted(seat, key),
            Effect::MoveCommitted { key, sequence } => self.move_committed(seat, key, sequence),
            Effect::MoveCancelled { key, sequence } => {
                let now_ns = self.queue_now_ns();
                let slots = seat.slots.borrow();
                if let Some(state) = slots.queue(key) {
                    let mut queues = seat.queues.borrow_mut();
                    let dispatcher = &mut queues.dispatcher;
                    dispatcher.move_cancelled(key, sequence, state, now_ns);
                    seat.queues_ready.raise();
                }
            }
            _ => {}
        }
    }

    fn queue_stored(&self, seat: &LogSeat, key: ChannelKey, last: Sequence) {
        let slots = seat.slots.borrow();
        if let Some(state) = slots.queue(key) {
            let now_ns = self.queue_now_ns();
            let mut queues = seat.queues.borrow_mut();
            queues.dispatcher.stored(key, last, state, now_ns);
            drop(queues);
            seat.queues_ready.raise();
            self.rearm_queues(seat);
        }
    }

    /// The oldest messages of a full queue make room for a new one.
    pub(in crate::shard) fn drop_oldest(&self, seat: &LogSeat, key: ChannelKey, count: u64) {
        let slots = seat.slots.borrow();
        if let Some(state) = slots.queue(key) {
            let now_ns = self.queue_now_ns();
            let mut queues = seat.queues.borrow_mut();
            queues.dispatcher.drop_oldest(key, count, state, now_ns);
        }
    }

    /// To be called when something has changed in the queues of a log: who waits is served, what
    /// was decided is written, timers are set.
    pub(in crate::shard) fn queues_changed(&self, seat: &LogSeat) {
        seat.queues_ready.raise();
        self.write_decisions_soon(seat);
    }

    /// The same when nobody new may be served.
    pub(super) fn write_decisions_soon(&self, seat: &LogSeat) {
        if self.has_decisions(seat) || seat.queues.borrow().moves.has_decisions() {
            seat.commit_ready.raise();
        }
        self.rearm_queues(seat);
    }

    /// Whether something was decided that is not in the log.
    pub(in crate::shard) fn has_decisions(&self, seat: &LogSeat) -> bool {
        let queues = seat.queues.borrow();
        queues.dispatcher.has_pending() || !queues.undecided.is_empty()
    }
}

fn run_len(run: &ringmq_storage::record::queue::Run) -> u64 {
    (run.last.get() - run.first.get()).saturating_add(1)
}
