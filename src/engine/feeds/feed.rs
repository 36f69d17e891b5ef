//! One durable position and the receivers that read on behind it.

use std::collections::VecDeque;
use std::rc::Rc;

use ringmq_storage::{CursorId, Sequence};

use super::outstanding::Outstanding;
use super::{Address, GROUP_TURN_BYTES_MAX, GROUP_TURN_MESSAGES_MAX, Mark, TURN_BYTES_MAX};
use crate::engine::arena::Key;
use crate::engine::runs::{SequenceRuns, before, count};

/// Where a feed stands between turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody can take anything: no member, no credit, or parked.
    Resting,
    /// In the queue of those that get a turn.
    Ready,
    /// There is credit but nothing to read; at this place in the channel's list of idle feeds.
    Idle { at: usize },
}

/// The cursor of a client or of a group, and who reads behind it.
#[derive(Debug)]
pub(super) struct Feed<R> {
    /// The channel's place in the arena.
    pub(super) channel: u32,
    pub(super) cursor: CursorId,
    /// The name of the group; `None` for a receiver on its own.
    pub(super) group: Option<Box<str>>,
    /// The first sequence that has been sent to nobody.
    pub(super) next: Sequence,
    /// A read found nothing from `next` up to here.
    pub(super) looked_through: Sequence,
    /// What [`super::Feeds::take_moves`] has said already.
    pub(super) reported: Sequence,
    /// Sent to members that left before they confirmed it. All below `next`.
    pub(super) redelivery: SequenceRuns,
    pub(super) outstanding: Outstanding,
    /// The members with credit; the one in front is next.
    pub(super) rotation: VecDeque<Key>,
    pub(super) member_count: usize,
    /// The member whose turn met a cold window: nobody reads until it is warm.
    pub(super) parked_by: Option<Key>,
    pub(super) standing: Standing,
    /// Listed among those whose position has moved.
    pub(super) moved: bool,
    /// Listed among those that have or had no member.
    pub(super) retired: bool,
    pub(super) reader: R,
}

/// What one turn may cover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) from: Sequence,
    pub(super) upto: Sequence,
    pub(super) bytes_max: usize,
    pub(super) redelivery: bool,
}

impl<R: Default> Feed<R> {
    pub(super) fn new(channel: u32, cursor: CursorId, group: &str, position: Sequence) -> Self {
        Self {
            channel,
            cursor,
            group: (!group.is_empty()).then(|| group.into()),
            next: position.next(),
            looked_through: Sequence::default(),
            reported: position,
            redelivery: SequenceRuns::default(),
            outstanding: Outstanding::default(),
            rotation: VecDeque::new(),
            member_count: 0,
            parked_by: None,
            standing: Standing::Resting,
            moved: false,
            retired: false,
            reader: R::default(),
        }
    }
}

impl<R> Feed<R> {
    /// Everything up to here is confirmed or gone.
    pub(super) fn floor(&self, trimmed: Sequence) -> Sequence {
        let again = self.redelivery.first().map(|(first, _)| first);
        let lowest = [self.outstanding.first(), again];
        let lowest = lowest.into_iter().flatten().fold(self.next, Sequence::min);
        before(lowest).max(trimmed)
    }

    /// Leaves out what is gone.
    pub(super) fn skip_trimmed(&mut self, trimmed: Sequence) {
        self.next = self.next.max(trimmed.next());
        while let Some((first, last)) = self.redelivery.first()
            && first <= trimmed
        {
            self.redelivery.remove(first, last.min(trimmed));
        }
    }

    /// Whether there is something to read, as far as is known.
    fn has_work(&self, last: Sequence) -> bool {
        !self.redelivery.is_empty() || (self.next <= last && self.looked_through < last)
    }

    /// Where the feed should stand, given the channel's last sequence. The place in an idle list
    /// is the caller's.
    pub(super) fn due(&self, last: Sequence) -> Standing {
        if self.parked_by.is_some() || self.rotation.is_empty() {
            Standing::Resting
        } else if self.has_work(last) {
            Standing::Ready
        } else {
            Standing::Idle { at: usize::MAX }
        }
    }

    /// What the member in turn, with so much credit, should get. `None`: there is nothing.
    ///
    /// Redelivery comes first. A receiver on its own reads as far as its credit goes. The members
    /// of a group share what waits: each gets its part of it, at least one message.
    pub(super) fn share(&self, last: Sequence, credit: i64, sharing: usize) -> Option<Share> {
        let credit = usize::try_from(credit).ok().filter(|&credit| credit > 0)?;
        let again = self.redelivery.first();
        let (from, upto) = again.unwrap_or((self.next, last));
        if from > upto {
            return None;
        }
        let redelivery = again.is_some();
        if self.group.is_none() {
            let bytes_max = credit.min(TURN_BYTES_MAX);
            return Some(Share {
                from,
                upto,
                bytes_max,
                redelivery,
            });
        }
        let sharing = u64::try_from(sharing).unwrap_or(u64::MAX).max(1);
        // Where nothing was found, nothing is to be shared.
        let found = if redelivery {
            from
        } else {
            from.max(self.looked_through.next())
        };
        let part = count(found, upto)
            .div_ceil(sharing)
            .clamp(1, GROUP_TURN_MESSAGES_MAX);
        let part_end = before(Sequence::new(found.get().saturating_add(part)));
        Some(Share {
            from,
            upto: upto.min(part_end),
            bytes_max: credit.min(GROUP_TURN_BYTES_MAX),
            redelivery,
        })
    }

    /// Takes a member out that leaves `in_flight` unconfirmed: that goes to the next ones again.
    pub(super) fn take_back(&mut self, in_flight: &VecDeque<InFlight>, trimmed: Sequence) {
        for chunk in in_flight {
            self.outstanding.remove(chunk.first);
            self.redelivery
                .insert(chunk.first.max(trimmed.next()), chunk.last);
        }
    }
}

/// One live subscription.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The feed's place in the arena.
    pub(super) feed: u32,
    pub(super) address: Address,
    pub(super) client: Rc<str>,
    /// Bytes it can take. A chunk may exceed what is left, so this may be below zero.
    pub(super) credit: i64,
    pub(super) in_flight: VecDeque<InFlight>,
    /// The number of its last chunk.
    pub(super) mark: Mark,
    /// Listed in the rotation of its feed.
    pub(super) in_rotation: bool,
}

/// A chunk that left and is not confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) mark: Mark,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
}
