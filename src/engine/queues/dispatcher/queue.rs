//! One queue: where its messages are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq_storage::record::queue::Run;
use ringmq_storage::{ChannelKey, Sequence};

use super::pending::Operations;
use super::ready::{Late, Ready};
use super::take::Lease;
use super::{PendingMove, QueuePolicy};
use crate::engine::arena::Key;
use crate::engine::queues::{Detail, MoveReason, QueueState, SettleReason};
use crate::engine::wheel::TimerKey;

/// A queue that is known: all there is of it while nothing happens in it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) numbers: Numbers,
    /// The queue, while something is in it; it has the numbers then.
    pub(super) queue: Option<Key>,
}

/// What stays when nothing happens in a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// The last sequence that was told of.
    pub(super) known: Sequence,
    /// Messages that expired since somebody asked.
    pub(super) expired: u64,
    /// Messages handed to consumers.
    pub(super) delivered: u64,
    /// Bytes of all payloads that have left the queue, as far as it was decided.
    pub(super) settled_bytes: u64,
    pub(super) policy: QueuePolicy,
}

/// A message at a time of its own, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timed {
    pub(super) at_ns: u64,
    pub(super) sequence: Sequence,
}

/// What is to be remembered of a message that is leased, moves, or is visible and not at its own
/// place, unless there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside {
    /// The place, if it is not its own.
    pub(super) late: Option<(Sequence, u64)>,
    /// When it expires; 0: never.
    pub(super) expires_at_ns: u64,
}

/// A queue in which something is. Every live message that the dispatcher answers for is in exactly
/// one of: ready, delayed, a delivery's leases, moving, the operations.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) key: ChannelKey,
    pub(super) numbers: Numbers,
    pub(super) ready: Ready,
    pub(super) delayed: BTreeSet<Timed>,
    /// Of those that are ready or delayed.
    pub(super) expiring: BTreeSet<Timed>,
    pub(super) asides: BTreeMap<Sequence, Aside>,
    /// Receive counts where they may be ahead of the state.
    pub(super) receives: BTreeMap<Sequence, u32>,
    /// On their way to another queue, with the bytes of their payloads.
    pub(super) moving: BTreeMap<Sequence, u32>,
    pub(super) in_flight: u64,
    /// Bytes of the payloads of what is leased, as far as it was read.
    pub(super) leased_bytes: u64,
    /// Bytes of the payloads of what is on its way to the tail, in that order, and their sum.
    requeued: VecDeque<u32>,
    pub(super) requeued_bytes: u64,
    /// Turns that have begun and not ended.
    pub(super) turns: u32,
    /// In the order they came.
    pub(super) waiters: VecDeque<(u64, Key)>,
    pub(super) operations: Operations,
    /// In the ring of queues that can serve a waiter.
    pub(super) in_ring: bool,
    /// In the list of queues with something to write.
    pub(super) is_dirty: bool,
    /// A timer looks whether the queue has come to rest.
    pub(super) is_watched: bool,
    /// For what becomes due first, and when, in milliseconds.
    pub(super) timer: Option<(u64, TimerKey)>,
}

/// A part of a run of messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'s> {
    /// Nothing is to be said of these.
    Plain(Sequence, Sequence),
    Noted(Sequence, &'s Detail),
}

/// Goes over the messages of a run in their order.
pub(super) fn pieces<'s>(
    state: &'s QueueState,
    first: Sequence,
    last: Sequence,
    mut piece: impl FnMut(Piece<'s>),
) {
    let mut next = first;
    for (sequence, detail) in state.details_from(first) {
        if sequence > last {
            break;
        }
        if next < sequence {
            let before = Sequence::new(sequence.get().saturating_sub(1));
            piece(Piece::Plain(next, before));
        }
        piece(Piece::Noted(sequence, detail));
        next = sequence.next();
    }
    if next <= last {
        piece(Piece::Plain(next, last));
    }
}

/// Whether a time of a message has come; 0 is no time.
pub(super) fn is_over(at_ns: u64, now_ns: u64) -> bool {
    at_ns != 0 && at_ns <= now_ns
}

impl Queue {
    pub(super) fn new(key: ChannelKey, numbers: Numbers) -> Self {
        Self {
            key,
            numbers,
            ready: Ready::default(),
            delayed: BTreeSet::new(),
            expiring: BTreeSet::new(),
            asides: BTreeMap::new(),
            receives: BTreeMap::new(),
            moving: BTreeMap::new(),
            in_flight: 0,
            leased_bytes: 0,
            requeued: VecDeque::new(),
            requeued_bytes: 0,
            turns: 0,
            waiters: VecDeque::new(),
            operations: Operations::default(),
            in_ring: false,
            is_dirty: false,
            is_watched: false,
            timer: None,
        }
    }

    /// Whether a waiter can be served.
    pub(super) fn is_servable(&self) -> bool {
        !self.waiters.is_empty() && !self.ready.is_empty()
    }

    /// Whether there is nothing in it. Receive counts stay with their messages, so there are none.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self.delayed.is_empty()
            && self.in_flight == 0
            && self.turns == 0
            && self.moving.is_empty()
            && self.waiters.is_empty()
            && self.operations.is_empty()
    }

    /// When the next message becomes visible or expires, in nanoseconds since 1970.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let delayed = self.delayed.first();
        let due = delayed.into_iter().chain(self.expiring.first());
        due.map(|timed| timed.at_ns).min()
    }

    /// Takes messages in that were not known, `last` included.
    pub(super) fn add(&mut self, last: Sequence, state: &QueueState, now_ns: u64) {
        let from = self.numbers.known.next();
        for (first, run_last) in state.live_from(from) {
            let run_last = run_last.min(last);
            if first > last {
                break;
            }
            pieces(state, first, run_last, |piece| match piece {
                Piece::Plain(first, last) => self.ready.insert(first, last),
                Piece::Noted(sequence, detail) => self.add_noted(sequence, detail, now_ns),
            });
        }
        self.numbers.known = self.numbers.known.max(last);
    }

    fn add_noted(&mut self, sequence: Sequence, detail: &Detail, now_ns: u64) {
        if detail.body != sequence {
            let len = self.requeued.pop_front().unwrap_or_default();
            self.requeued_bytes -= u64::from(len);
        }
        if detail.visible_at_ns == 0 || is_over(detail.visible_at_ns, now_ns) {
            self.ready.insert(sequence, sequence);
        } else {
            self.delay(sequence, detail);
        }
        self.watch_expiry(sequence, detail.expires_at_ns);
    }

    /// Has a message wait for its time.
    pub(super) fn delay(&mut self, sequence: Sequence, detail: &Detail) {
        self.delayed.insert(Timed {
            at_ns: detail.visible_at_ns,
            sequence,
        });
    }

    pub(super) fn watch_expiry(&mut self, sequence: Sequence, at_ns: u64) {
        if at_ns != 0 {
            self.expiring.insert(Timed { at_ns, sequence });
        }
    }

    pub(super) fn forget_expiry(&mut self, sequence: Sequence, at_ns: u64) {
        if at_ns != 0 {
            self.expiring.remove(&Timed { at_ns, sequence });
        }
    }

    /// Makes a delayed message visible: behind everything that is known, or `after` at the start.
    pub(super) fn ripen(&mut self, timed: Timed, after: Sequence, expires_at_ns: u64) {
        self.ready.insert_late(Late {
            after,
            due_ns: timed.at_ns,
            sequence: timed.sequence,
        });
        self.asides.insert(
            timed.sequence,
            Aside {
                late: Some((after, timed.at_ns)),
                expires_at_ns,
            },
        );
    }

    /// How often a message has been received.
    pub(super) fn receives_of(&self, sequence: Sequence, detail: Option<&Detail>) -> u32 {
        let noted = if self.receives.is_empty() {
            None
        } else {
            self.receives.get(&sequence).copied()
        };
        noted.unwrap_or_else(|| detail.map_or(0, |detail| detail.receives))
    }

    /// A message is none of ours any more.
    pub(super) fn forget(&mut self, sequence: Sequence) {
        if !self.asides.is_empty() {
            self.asides.remove(&sequence);
        }
        if !self.receives.is_empty() {
            self.receives.remove(&sequence);
        }
    }

    /// Messages in a row are none of ours any more; nothing but their counts may be remembered.
    pub(super) fn forget_counts(&mut self, first: Sequence, last: Sequence) {
        while let Some((&sequence, _)) = self.receives.range(first..=last).next() {
            self.receives.remove(&sequence);
        }
    }

    /// A message's time was over before it was consumed.
    pub(super) fn expire(&mut self, sequence: Sequence, len: u32, spare: &mut Vec<Vec<Run>>) {
        self.forget(sequence);
        self.numbers.expired = self.numbers.expired.saturating_add(1);
        self.settle(SettleReason::Expired, sequence, len, spare);
    }

    pub(super) fn settle(
        &mut self,
        reason: SettleReason,
        sequence: Sequence,
        len: u32,
        spare: &mut Vec<Vec<Run>>,
    ) {
        self.settle_run(reason, sequence, sequence, len.into(), spare);
    }

    pub(super) fn settle_run(
        &mut self,
        reason: SettleReason,
        first: Sequence,
        last: Sequence,
        bytes: u64,
        spare: &mut Vec<Vec<Run>>,
    ) {
        self.count_out(bytes);
        self.operations.settle(reason, first, last, bytes, spare);
    }

    /// So many bytes of payloads have left the queue.
    pub(super) fn count_out(&mut self, bytes: u64) {
        let settled = self.numbers.settled_bytes;
        self.numbers.settled_bytes = settled.saturating_add(bytes);
    }

    /// A lease has ended.
    pub(super) fn end(&mut self, lease: &Lease) {
        self.in_flight -= 1;
        self.leased_bytes -= u64::from(lease.len);
    }

    /// Writes down that a message has been received so often.
    pub(super) fn count(&mut self, sequence: Sequence, receives: u32) {
        self.operations.count(sequence, receives);
        self.receives.insert(sequence, receives);
    }

    /// The message of a lease goes to the tail: it comes again with a new sequence.
    pub(super) fn requeue(&mut self, lease: &Lease, receives: u32) {
        self.forget(lease.sequence);
        self.operations.requeue(lease.sequence, receives);
        self.requeued.push_back(lease.len);
        self.requeued_bytes += u64::from(lease.len);
    }

    /// The message of a lease becomes visible again, in its place; or expires. One whose body was
    /// not read expires when its timer looks: that knows its length.
    pub(super) fn put_in_place(&mut self, lease: &Lease, now_ns: u64, spare: &mut Vec<Vec<Run>>) {
        let sequence = lease.sequence;
        let aside = self.aside(sequence);
        if lease.is_handed && is_over(aside.expires_at_ns, now_ns) {
            self.expire(sequence, lease.len, spare);
            return;
        }
        self.place(sequence, aside);
    }

    /// What was remembered of a message.
    pub(super) fn aside(&self, sequence: Sequence) -> Aside {
        if self.asides.is_empty() {
            return Aside::default();
        }
        self.asides.get(&sequence).copied().unwrap_or_default()
    }

    /// Makes a message visible in its place. What is remembered of a late one stays.
    pub(super) fn place(&mut self, sequence: Sequence, aside: Aside) {
        self.watch_expiry(sequence, aside.expires_at_ns);
        match aside.late {
            Some((after, due_ns)) => self.ready.insert_late(Late {
                after,
                due_ns,
                sequence,
            }),
            None => {
                if !self.asides.is_empty() {
                    self.asides.remove(&sequence);
                }
                self.ready.insert(sequence, sequence);
            }
        }
    }

    /// A message goes to another queue: it is on its way until the state says how that ended.
    pub(super) fn start_move(&mut self, lease: &Lease, reason: MoveReason, target: Option<&str>) {
        let received = lease.receives.saturating_add(1);
        self.moving.insert(lease.sequence, lease.len);
        if reason == MoveReason::DeadLetter {
            self.receives.insert(lease.sequence, received);
        }
        self.operations.start_move(PendingMove {
            sequence: lease.sequence,
            len: lease.len,
            receives: received,
            reason,
            target: target.map(Box::from),
        });
    }
}
