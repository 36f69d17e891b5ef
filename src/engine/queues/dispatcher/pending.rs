//! What is decided and not written yet, by queue.

use std::collections::VecDeque;
use std::hash::Hash;
use std::mem;

use ringmq_storage::record::queue::{Counted, Requeued, Run};
use ringmq_storage::{ChannelKey, Sequence};

use super::{Dispatcher, Pending, PendingMove};
use crate::engine::queues::SettleReason;

/// Vectors that are kept for the next operations.
const SPARE_MAX: usize = 32;

/// Entries that a kept vector has room for at most.
const SPARE_ENTRIES_MAX: usize = 4096;

/// What is to be written for one queue. A message is in at most one of these but the counts, and
/// those are written first: a count of a message that is gone says nothing.
#[derive(Debug, Default)]
pub(super) struct Operations {
    settles: Vec<Settles>,
    requeues: Vec<Requeued>,
    counts: Vec<Counted>,
    moves: VecDeque<PendingMove>,
}

#[derive(Debug)]
struct Settles {
    reason: SettleReason,
    bytes: u64,
    /// In the order of their settlement.
    runs: Vec<Run>,
}

impl Operations {
    pub(super) fn is_empty(&self) -> bool {
        self.settles.is_empty()
            && self.requeues.is_empty()
            && self.counts.is_empty()
            && self.moves.is_empty()
    }

    /// Messages in a row leave the queue.
    pub(super) fn settle(
        &mut self,
        reason: SettleReason,
        first: Sequence,
        last: Sequence,
        bytes: u64,
        spare: &mut Vec<Vec<Run>>,
    ) {
        let found = self.settles.iter().position(|of| of.reason == reason);
        let at = found.unwrap_or_else(|| {
            let runs = spare.pop().unwrap_or_default();
            self.settles.push(Settles {
                reason,
                bytes: 0,
                runs,
            });
            self.settles.len() - 1
        });
        let Some(settles) = self.settles.get_mut(at) else {
            return;
        };
        settles.bytes = settles.bytes.saturating_add(bytes);
        match settles.runs.last_mut() {
            Some(run) if run.last.next() == first => run.last = last,
            _ => settles.runs.push(Run { first, last }),
        }
    }

    pub(super) fn requeue(&mut self, old: Sequence, receives: u32) {
        self.requeues.push(Requeued { old, receives });
    }

    pub(super) fn count(&mut self, sequence: Sequence, receives: u32) {
        if let Some(counted) = self.counts.last_mut()
            && counted.receives == receives
            && counted.first.get().checked_add(u64::from(counted.count)) == Some(sequence.get())
            && let Some(count) = counted.count.checked_add(1)
        {
            counted.count = count;
            return;
        }
        self.counts.push(Counted {
            first: sequence,
            count: 1,
            receives,
        });
    }

    pub(super) fn start_move(&mut self, operation: PendingMove) {
        self.moves.push_back(operation);
    }

    fn take(&mut self) -> Option<Pending> {
        if !self.counts.is_empty() {
            return Some(Pending::Count(mem::take(&mut self.counts)));
        }
        if let Some(mut settles) = self.settles.pop() {
            order(&mut settles.runs);
            return Some(Pending::Settle {
                reason: settles.reason,
                bytes: settles.bytes,
                runs: settles.runs,
            });
        }
        if !self.requeues.is_empty() {
            return Some(Pending::Requeue(mem::take(&mut self.requeues)));
        }
        self.moves.pop_front().map(Pending::Move)
    }

    /// Takes back what could not be written, before what was decided after it.
    fn put_back(&mut self, pending: Pending) {
        match pending {
            Pending::Settle {
                reason,
                bytes,
                mut runs,
            } => match self.settles.iter_mut().find(|of| of.reason == reason) {
                Some(settles) => {
                    settles.bytes = settles.bytes.saturating_add(bytes);
                    mem::swap(&mut settles.runs, &mut runs);
                    settles.runs.append(&mut runs);
                }
                None => self.settles.push(Settles {
                    reason,
                    bytes,
                    runs,
                }),
            },
            Pending::Requeue(mut entries) => {
                entries.append(&mut self.requeues);
                self.requeues = entries;
            }
            Pending::Count(mut entries) => {
                entries.append(&mut self.counts);
                self.counts = entries;
            }
            Pending::Move(operation) => self.moves.push_front(operation),
        }
    }
}

/// Sorts runs, and joins those that touch: consumers that take turns settle every other message.
fn order(runs: &mut Vec<Run>) {
    if !runs.is_sorted_by_key(|run| run.first) {
        runs.sort_unstable_by_key(|run| run.first);
    }
    runs.dedup_by(|next, run| {
        debug_assert!(run.last < next.first, "a message is settled once");
        let touches = run.last.next() == next.first;
        if touches {
            run.last = next.last;
        }
        touches
    });
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// Takes the next operation that has to be written. Operations of one queue that concern the
    /// same messages come in their order.
    pub fn next_pending(&mut self) -> Option<(ChannelKey, Pending)> {
        loop {
            let key = *self.dirty.front()?;
            if let Some(queue) = self.queues.get_mut(key) {
                if let Some(pending) = queue.operations.take() {
                    return Some((queue.key, pending));
                }
                queue.is_dirty = false;
            }
            self.dirty.pop_front();
            self.touched(key);
        }
    }

    /// Takes back an operation that the log had no room for; it comes again. Forgets it when the
    /// queue has been deleted.
    pub fn put_pending_back(&mut self, key: ChannelKey, pending: Pending) {
        if self.index.contains_key(&key) {
            let queue = self.wake(key);
            if let Some(found) = self.queues.get_mut(queue) {
                found.operations.put_back(pending);
            }
            self.touched(queue);
        }
    }

    /// Takes an operation that was written, for its memory.
    pub fn recycle(&mut self, pending: Pending) {
        if let Pending::Settle { mut runs, .. } = pending {
            runs.clear();
            keep(&mut self.spare_runs, runs);
        }
    }

    /// Whether something has to be written.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.dirty.is_empty()
    }
}

/// Keeps an empty vector for later use.
pub(super) fn keep<T>(spare: &mut Vec<Vec<T>>, vector: Vec<T>) {
    debug_assert!(vector.is_empty(), "a spare vector is empty");
    if spare.len() < SPARE_MAX && (1..=SPARE_ENTRIES_MAX).contains(&vector.capacity()) {
        spare.push(vector);
    }
}
