//! Queues among the stored channels: what is written about their messages, and what that changes.
//!
//! Who decides is the dispatcher of queues; here its decisions become records. Each of them may be
//! repeated: after a refusal the caller comes again with the same, and what was written already is
//! ignored when it is applied.

mod apply;
mod prepare;

use ringmq_storage::log::{Appender, Keeps, Live, Refused};
use ringmq_storage::record::queue::{Counted, MoveId, Requeued, Run};
use ringmq_storage::{ChannelKey, Sequence, SlotId};

use super::Slots;
use crate::engine::queues::{MoveReason, QueueState, SettleReason};

/// Whether a message that was to be moved into a queue is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// It is not, and is not on its way.
    No,
    /// Its record is on its way.
    Pending,
    /// It is, or was until a consumer took it.
    Yes,
}

impl Slots {
    /// A queue as far as its records are applied.
    #[must_use]
    pub fn queue(&self, key: ChannelKey) -> Option<&QueueState> {
        self.channel(key)?.queue()
    }

    /// Whether a message has been moved into a queue of this slot.
    #[must_use]
    pub fn arrived(&self, slot: SlotId, id: &MoveId) -> Arrived {
        let slot = self.slot(slot);
        slot.map_or(Arrived::No, |slot| slot.arrived(id))
    }

    /// The moves into queues that are not over where they began, as far as that is known here.
    pub fn arrivals(&self) -> impl Iterator<Item = (SlotId, MoveId)> + '_ {
        self.states().flat_map(|state| {
            let slot = state.slot;
            state.arrived.iter().map(move |id| (slot, *id))
        })
    }

    /// Messages of a queue are gone, and `bytes` of payloads with them. Nothing happens when the
    /// queue is not there.
    ///
    /// # Errors
    /// [`Refused`]; the caller comes again with the same.
    pub fn prepare_settle(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        reason: SettleReason,
        bytes: u64,
        runs: &[Run],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slot = self.slot_mut(key.slot);
        slot.settle(log, key.channel, (reason, bytes), runs, now_ns)
    }

    /// Messages of a queue go to its tail, in this order. Nothing happens when the queue is not
    /// there.
    ///
    /// # Errors
    /// [`Refused`]; the caller comes again with the same.
    pub fn prepare_requeue(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        entries: &[Requeued],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slot = self.slot_mut(key.slot);
        slot.requeue(log, key.channel, entries, now_ns)
    }

    /// Messages of a queue have been received so often. Nothing happens when the queue is not
    /// there.
    ///
    /// # Errors
    /// [`Refused`]; the caller comes again with the same.
    pub fn prepare_count(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        entries: &[Counted],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slot = self.slot_mut(key.slot);
        slot.count(log, key.channel, entries, now_ns)
    }

    /// A message of a queue begins its way to another queue. Nothing happens when the queue is
    /// not there.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    ///
    /// # Panics
    /// When the name of the target is none: whoever asks has looked.
    #[allow(
        clippy::too_many_arguments,
        reason = "each a fact of the move; a struct would only name them twice"
    )]
    pub fn prepare_move(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        sequence: Sequence,
        reason: MoveReason,
        target: &str,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slot = self.slot_mut(key.slot);
        slot.begin_move(log, key.channel, sequence, (reason, target), now_ns)
    }

    /// A message of a queue stays where it was. Nothing happens when the queue is not there.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn prepare_move_cancel(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        sequence: Sequence,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slot = self.slot_mut(key.slot);
        slot.cancel_move(log, key.channel, sequence, now_ns)
    }

    /// Moves into queues of a slot are over where they began: nobody will ask for them any more.
    ///
    /// # Errors
    /// [`Refused`]; the caller comes again with the same.
    pub fn prepare_forget(
        &mut self,
        log: &mut dyn Appender,
        slot: SlotId,
        ids: &[MoveId],
        now_ns: u64,
    ) -> Result<(), Refused> {
        self.slot_mut(slot).forget(log, ids, now_ns)
    }
}

impl Keeps for Slots {
    fn next_kept(&self, key: ChannelKey, first: Sequence, last: Sequence) -> Option<Sequence> {
        let channel = self.channel(key)?;
        let next = match channel.queue() {
            Some(queue) => queue.next_body(first)?,
            None => channel.first.max(first),
        };
        (next <= last.min(channel.last)).then_some(next)
    }

    fn live(&self, key: ChannelKey) -> Option<Live> {
        // A queue that is not there any more needs nothing.
        let Some(channel) = self.channel(key) else {
            return Some(Live::default());
        };
        let queue = channel.queue()?;
        Some(Live {
            messages: queue.len(),
            bytes: queue.bytes(),
        })
    }
}
