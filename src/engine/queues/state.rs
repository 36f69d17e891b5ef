//! The state of one queue: what committed records say of it, and nothing else.

mod section;

use std::collections::BTreeMap;

use ringmq_storage::Sequence;
use ringmq_storage::record::queue::{Counted, QueueHead, Requeued, Run};

use super::details::{Detail, Details};
use super::{MoveReason, SettleReason};
use crate::engine::runs::{SequenceRuns, before};

/// What has happened to the messages of a queue since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Messages that were stored, moved here or sent.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Messages that a consumer acknowledged.
    pub acked: u64,
    /// Bytes of their payloads.
    pub acked_bytes: u64,
    /// Messages whose time was over.
    pub expired: u64,
    /// Messages that were received as often as they may, and had no queue for dead letters.
    pub dropped: u64,
    /// Messages that went to the queue of their dead letters.
    pub dead_lettered: u64,
    /// Messages that a consumer or an operator moved to another queue.
    pub moved: u64,
    /// Messages that a client removed with all others.
    pub purged: u64,
    /// Messages that made room for newer ones.
    pub overflowed: u64,
    /// Messages whose bodies cannot be read.
    pub damaged: u64,
}

impl QueueCounters {
    /// How many numbers there are.
    pub(crate) const COUNT: usize = 11;

    /// The numbers in the order of a checkpoint.
    pub(crate) const fn to_array(self) -> [u64; Self::COUNT] {
        [
            self.sent,
            self.sent_bytes,
            self.acked,
            self.acked_bytes,
            self.expired,
            self.dropped,
            self.dead_lettered,
            self.moved,
            self.purged,
            self.overflowed,
            self.damaged,
        ]
    }

    /// From the numbers of a checkpoint.
    pub(crate) const fn from_array(numbers: [u64; Self::COUNT]) -> Self {
        let [
            sent,
            sent_bytes,
            acked,
            acked_bytes,
            expired,
            dropped,
            dead_lettered,
            moved,
            purged,
            overflowed,
            damaged,
        ] = numbers;
        Self {
            sent,
            sent_bytes,
            acked,
            acked_bytes,
            expired,
            dropped,
            dead_lettered,
            moved,
            purged,
            overflowed,
            damaged,
        }
    }

    /// Messages that left the queue, for whatever reason.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.acked
            + self.expired
            + self.dropped
            + self.dead_lettered
            + self.moved
            + self.purged
            + self.overflowed
            + self.damaged
    }

    fn of(&mut self, reason: SettleReason) -> &mut u64 {
        match reason {
            SettleReason::Acked => &mut self.acked,
            SettleReason::Expired => &mut self.expired,
            SettleReason::Dropped => &mut self.dropped,
            SettleReason::DeadLettered => &mut self.dead_lettered,
            SettleReason::Moved => &mut self.moved,
            SettleReason::Purged => &mut self.purged,
            SettleReason::Overflow => &mut self.overflowed,
            SettleReason::Damaged => &mut self.damaged,
        }
    }
}

/// A move that was begun: the message is here until its target has it, and nobody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenMove {
    /// Why it goes.
    pub reason: MoveReason,
    /// The queue that it goes to.
    pub target: Box<str>,
}

/// What is to be said of single messages. Most queues have nothing of it.
#[derive(Clone, Debug, Default)]
struct Exceptions {
    /// INVARIANT: all are of live messages, and none is of one that just waits in its place.
    details: Details,
    /// Bodies of live messages that have another sequence by now.
    displaced: SequenceRuns,
    /// INVARIANT: all are of live messages.
    moves: BTreeMap<Sequence, OpenMove>,
}

/// The state of one queue.
///
/// Part of the state of its slot, changed by applied records only. A message that waits in its
/// place costs nothing but its part of a run; one with a delay, an expiration, a count of receives
/// or a body under another sequence costs 42 bytes, whatever it says. A queue that has nothing
/// of that takes 160 bytes.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    live: SequenceRuns,
    last: Sequence,
    bytes: u64,
    counters: QueueCounters,
    exceptions: Option<Box<Exceptions>>,
}

impl QueueState {
    /// Messages that are in the queue: waiting, leased, delayed or on their way to another one.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.live.count()
    }

    /// Whether there is no message in the queue.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of their payloads.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last sequence that was given.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        self.last
    }

    /// The live messages as runs, ascending.
    pub fn live(&self) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        self.live.iter()
    }

    /// Those from `from` on; the first run clipped.
    pub fn live_from(&self, from: Sequence) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        self.live.iter_from(from)
    }

    /// Whether a message is in the queue.
    #[must_use]
    pub fn is_live(&self, sequence: Sequence) -> bool {
        self.live.contains(sequence)
    }

    /// What is to be said of messages from `from` on, ascending; nothing of those that just wait
    /// in their place.
    pub fn details_from(&self, from: Sequence) -> impl Iterator<Item = (Sequence, &Detail)> + '_ {
        let exceptions = self.exceptions.iter();
        exceptions.flat_map(move |exceptions| exceptions.details.iter_from(from))
    }

    /// What is to be said of a message; `None` when it is not there, or just waits in its place.
    #[must_use]
    pub fn detail(&self, sequence: Sequence) -> Option<&Detail> {
        self.exceptions.as_ref()?.details.get(sequence)
    }

    /// The sequence under which the body of a message was stored.
    #[must_use]
    pub fn body_of(&self, sequence: Sequence) -> Sequence {
        self.detail(sequence).map_or(sequence, |detail| detail.body)
    }

    /// How often a message has been received, as far as that was written down.
    #[must_use]
    pub fn receives(&self, sequence: Sequence) -> u32 {
        self.detail(sequence).map_or(0, |detail| detail.receives)
    }

    /// Whether a live message has its body there.
    #[must_use]
    pub fn keeps_body(&self, body: Sequence) -> bool {
        let displaced = self.exceptions.as_ref().map(|found| &found.displaced);
        displaced.is_some_and(|bodies| bodies.contains(body))
            || (self.live.contains(body) && self.body_of(body) == body)
    }

    /// The first sequence from `from` on under which a live message may have its body; what lies
    /// between is needed by none.
    #[must_use]
    pub fn next_body(&self, from: Sequence) -> Option<Sequence> {
        let first_of = |runs: &SequenceRuns| runs.iter_from(from).next().map(|(first, _)| first);
        let exceptions = self.exceptions.as_ref();
        let displaced = exceptions.and_then(|found| first_of(&found.displaced));
        first_of(&self.live).into_iter().chain(displaced).min()
    }

    /// The last sequence up to which no live message has its body.
    #[must_use]
    pub fn floor(&self) -> Sequence {
        let live = self.live.first().map(|(first, _)| first);
        self.floor_of(live)
    }

    /// The same when `runs` are gone as well.
    pub(crate) fn floor_without(&self, runs: &[Run]) -> Sequence {
        let mut gone = SequenceRuns::new();
        for run in runs {
            gone.insert(run.first, run.last);
        }
        let mut first = None;
        for (from, to) in self.live.iter() {
            match gone.run_of(from) {
                None => first = Some(from),
                Some((_, end)) if end < to => first = Some(end.next()),
                Some(_) => continue,
            }
            break;
        }
        self.floor_of(first)
    }

    /// The floor when `live` is the first message that stays.
    fn floor_of(&self, live: Option<Sequence>) -> Sequence {
        let displaced = self.exceptions.as_ref().map(|found| &found.displaced);
        let displaced = displaced.and_then(SequenceRuns::first);
        let body = displaced.map(|(first, _)| first);
        let needed = live.into_iter().chain(body).min();
        needed.map_or(self.last, before)
    }

    /// The moves that are open, by message.
    pub fn moves(&self) -> impl Iterator<Item = (Sequence, &OpenMove)> + '_ {
        let exceptions = self.exceptions.iter();
        let moves = exceptions.flat_map(|exceptions| &exceptions.moves);
        moves.map(|(sequence, open)| (*sequence, open))
    }

    /// The open move of a message.
    #[must_use]
    pub fn open_move(&self, sequence: Sequence) -> Option<&OpenMove> {
        self.exceptions.as_ref()?.moves.get(&sequence)
    }

    /// What has happened since the queue was created.
    #[must_use]
    pub const fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

/// Changes: each is one record, or an entry of one. What a record says of a message that is not
/// there is ignored.
impl QueueState {
    fn exceptions(&mut self) -> &mut Exceptions {
        self.exceptions.get_or_insert_default()
    }

    /// Gives the memory back when there is nothing to be said.
    fn shrink(&mut self) {
        let plain = self
            .exceptions
            .as_ref()
            .is_some_and(|exceptions| exceptions.details.is_empty() && exceptions.moves.is_empty());
        if plain {
            debug_assert!(
                self.exceptions
                    .as_ref()
                    .is_some_and(|exceptions| exceptions.displaced.is_empty())
            );
            self.exceptions = None;
        }
    }

    /// Whether it takes no memory besides its own.
    #[cfg(test)]
    pub(crate) fn is_small(&self) -> bool {
        self.exceptions.is_none() && self.live.run_count() <= 1
    }

    /// A queue without messages whose last sequence was `last`.
    pub(crate) fn empty(last: Sequence) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// Counts everything up to `sequence` as given.
    pub(crate) fn reach(&mut self, sequence: Sequence) {
        self.last = self.last.max(sequence);
    }

    /// Removes the messages whose bodies lie up to `through`: a lost record said that they are
    /// not needed.
    pub(crate) fn forget_bodies(&mut self, through: Sequence) {
        let details = self.details_from(through.next());
        let displaced = details.filter(|(_, detail)| detail.body <= through);
        let displaced: Vec<Sequence> = displaced.map(|(sequence, _)| sequence).collect();
        for sequence in displaced {
            self.remove(sequence, sequence);
        }
        // A body never lies behind its message.
        self.remove(Sequence::new(0), through);
        if self.is_empty() {
            self.bytes = 0;
        }
        self.shrink();
    }

    /// A message was stored under the sequence behind the last one.
    pub(crate) fn store(&mut self, sequence: Sequence, head: &QueueHead<'_>, len: u32) {
        debug_assert_eq!(sequence, self.last.next());
        self.last = sequence;
        self.live.insert(sequence, sequence);
        self.bytes = self.bytes.saturating_add(len.into());
        self.counters.sent = self.counters.sent.saturating_add(1);
        self.counters.sent_bytes = self.counters.sent_bytes.saturating_add(len.into());
        if head.visible_at_ns != 0 || head.expires_at_ns != 0 {
            let detail = Detail {
                body: sequence,
                visible_at_ns: head.visible_at_ns,
                expires_at_ns: head.expires_at_ns,
                receives: 0,
                len,
            };
            self.exceptions().details.insert(sequence, detail);
        }
    }

    /// Messages are gone, and `bytes` of payloads with them.
    pub(crate) fn settle(
        &mut self,
        reason: SettleReason,
        bytes: u64,
        runs: impl Iterator<Item = Run>,
    ) {
        let mut removed = 0;
        for Run { first, last } in runs {
            removed += self.remove(first, last);
        }
        let released = bytes.min(self.bytes);
        self.bytes -= released;
        if self.is_empty() {
            // The accounts of messages whose lengths nobody knew end here.
            self.bytes = 0;
        }
        let counter = self.counters.of(reason);
        *counter = counter.saturating_add(removed);
        if reason == SettleReason::Acked {
            self.counters.acked_bytes = self.counters.acked_bytes.saturating_add(released);
        }
        self.shrink();
    }

    fn remove(&mut self, first: Sequence, last: Sequence) -> u64 {
        let removed = self.live.remove(first, last);
        if let Some(exceptions) = self.exceptions.as_mut().filter(|_| removed > 0) {
            let displaced = &mut exceptions.displaced;
            exceptions
                .details
                .remove_range(first, last, |sequence, detail| {
                    if detail.body != sequence {
                        displaced.remove(detail.body, detail.body);
                    }
                });
            while let Some((&sequence, _)) = exceptions.moves.range(first..=last).next() {
                exceptions.moves.remove(&sequence);
            }
        }
        removed
    }

    /// A message goes to the tail; the sequence behind the last one is used up in any case. One
    /// that is on its way to another queue stays where it is.
    pub(crate) fn requeue(&mut self, entry: &Requeued) {
        let (old, new) = (entry.old, self.last.next());
        self.last = new;
        if !self.live.contains(old) || self.open_move(old).is_some() {
            return;
        }
        self.live.remove(old, old);
        self.live.insert(new, new);
        let exceptions = self.exceptions();
        let known = exceptions.details.remove(old);
        let body = known.map_or(old, |detail| detail.body);
        exceptions.displaced.insert(body, body);
        let detail = Detail {
            body,
            // It has been received: its delay is over.
            visible_at_ns: 0,
            expires_at_ns: known.map_or(0, |detail| detail.expires_at_ns),
            receives: entry.receives,
            len: known.map_or(0, |detail| detail.len),
        };
        exceptions.details.insert(new, detail);
    }

    /// Messages have been received so often.
    pub(crate) fn count(&mut self, counted: &Counted) {
        let (first, receives) = (counted.first, counted.receives);
        let end = first.get().saturating_add(counted.count.into());
        let last = before(Sequence::new(end));
        if receives == 0 && self.exceptions.is_none() {
            return;
        }
        let exceptions = self.exceptions.get_or_insert_default();
        let runs = self.live.iter_from(first);
        for (from, to) in runs.take_while(|(from, _)| *from <= last) {
            for sequence in from.get()..=to.min(last).get() {
                exceptions.count(Sequence::new(sequence), receives);
            }
        }
        self.shrink();
    }

    /// A message begins its way to another queue; `false` when it is not there, or on its way
    /// already.
    pub(crate) fn begin_move(&mut self, sequence: Sequence, open: OpenMove) -> bool {
        if !self.live.contains(sequence) || self.open_move(sequence).is_some() {
            return false;
        }
        self.exceptions().moves.insert(sequence, open);
        true
    }

    /// A message stays; `false` when it was not on its way.
    pub(crate) fn cancel_move(&mut self, sequence: Sequence) -> bool {
        let Some(exceptions) = &mut self.exceptions else {
            return false;
        };
        let cancelled = exceptions.moves.remove(&sequence).is_some();
        self.shrink();
        cancelled
    }
}

impl Exceptions {
    fn count(&mut self, sequence: Sequence, receives: u32) {
        let plain = Detail {
            body: sequence,
            visible_at_ns: 0,
            expires_at_ns: 0,
            receives: 0,
            len: 0,
        };
        match self.details.get_mut(sequence) {
            Some(detail) => {
                detail.receives = receives;
                if (Detail { len: 0, ..*detail }) == plain {
                    self.details.remove(sequence);
                }
            }
            None if receives > 0 => self.details.insert(sequence, Detail { receives, ..plain }),
            None => {}
        }
    }
}
