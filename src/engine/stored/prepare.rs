//! Preparing: what is decided, and appended to the log as records.
//!
//! Nothing here changes state. A record that the log takes is noted in the slot's overlay, so that
//! the next decision builds on it; one that it refuses leaves no trace.

use ringmq_storage::log::{Appender, Log, Refused, Usage};
use ringmq_storage::record::queue::MoveId;
use ringmq_storage::{ChannelKey, CursorId, Sequence, SlotId};

use super::slot::{NewCursor, check_room};
use super::state::{CursorOwner, StoredKind};
use super::{Limits, Slots, StoreRefusal};

/// The log as decisions need it: what it takes, and what it holds.
pub trait ChannelLog: Appender {
    /// What the log holds of a channel.
    fn usage(&self, key: ChannelKey) -> Usage;

    /// How far a channel must be trimmed so that at most `bytes_max` are left; `None` when nothing
    /// need go.
    fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence>;
}

impl ChannelLog for Log {
    fn usage(&self, key: ChannelKey) -> Usage {
        Self::usage(self, key)
    }

    fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        Self::through_bytes(self, key, bytes_max)
    }
}

/// A message to store.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The channel's slot.
    pub slot: SlotId,
    /// The channel's kind.
    pub kind: StoredKind,
    /// The channel's name; it is created when it is missing.
    pub channel: &'a str,
    /// The clock.
    pub now_ns: u64,
    /// How the payload is encoded; a number of the layers above.
    pub encoding: u8,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// The move that it comes by, when it comes from another queue.
    pub moved: Option<MoveId>,
    /// What the channel is allowed.
    pub limits: &'a Limits,
}

/// A message that will be stored when its record is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The channel.
    pub key: ChannelKey,
    /// The message's number in it.
    pub sequence: Sequence,
    /// Its time: the clock, or the slot's last time when the clock is behind.
    pub timestamp_ns: u64,
    /// Of a queue that drops its oldest messages when it is full: how many must go now. Those that
    /// were told before, and whose settlement is on its way, are not told again.
    pub overflow: u64,
}

impl Slots {
    /// Decides upon a message and appends it; `write` appends its payload of exactly the announced
    /// length, and runs only when the log takes it. The channel is created when it is missing.
    ///
    /// # Errors
    /// [`StoreRefusal`]; the message is not stored. A channel that was missing may have been
    /// created all the same.
    pub fn prepare_message(
        &mut self,
        log: &mut dyn ChannelLog,
        request: NewMessage<'_>,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<Accepted, StoreRefusal> {
        debug_assert!(request.kind.has_messages());
        debug_assert!(request.moved.is_none() || request.kind == StoredKind::Queue);
        let slot = self.slot_mut(request.slot);
        if request.moved.is_some_and(|id| slot.has_arrived(&id)) {
            return Err(StoreRefusal::AlreadyHere);
        }
        let found = slot.find(request.kind, request.channel);
        let id = match found {
            Some((id, _)) => id,
            None => {
                // Before the channel is made: one that could hold no message is not.
                let bytes = u64::from(request.payload_len);
                check_room(0, bytes, request.limits, || 0)?;
                self.check_channels(request.limits)?;
                let (slot, now_ns) = (self.slot_mut(request.slot), request.now_ns);
                slot.create_channel(log, request.kind, request.channel, now_ns)?
            }
        };
        let slot = self.slot_mut(request.slot);
        slot.append_message(log, id, &request, write)
    }

    /// Finds a channel, or creates it; one whose creation is on its way is found.
    ///
    /// # Errors
    /// [`StoreRefusal`].
    pub fn prepare_channel(
        &mut self,
        log: &mut dyn Appender,
        slot: SlotId,
        kind: StoredKind,
        name: &str,
        now_ns: u64,
        limits: &Limits,
    ) -> Result<ChannelKey, StoreRefusal> {
        let found = self.slot_mut(slot).find(kind, name);
        let channel = match found {
            Some((id, _)) => id,
            None => {
                // A register has no bound of its own: only operators write into it.
                if kind.has_messages() {
                    self.check_channels(limits)?;
                }
                self.slot_mut(slot)
                    .create_channel(log, kind, name, now_ns)?
            }
        };
        Ok(ChannelKey { slot, channel })
    }

    /// Finds a durable position, or creates it at `position`, or at the channel's last message
    /// when that lies before.
    ///
    /// # Errors
    /// [`StoreRefusal`].
    #[allow(
        clippy::too_many_arguments,
        reason = "each a fact of the position; a struct would only name them twice"
    )]
    pub fn prepare_cursor(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        owner: CursorOwner,
        name: &str,
        position: Sequence,
        now_ns: u64,
        limits: &Limits,
    ) -> Result<CursorId, StoreRefusal> {
        let cursor = NewCursor {
            owner,
            name,
            position,
            now_ns,
            limits,
        };
        self.slot_mut(key.slot).cursor(log, key.channel, &cursor)
    }

    /// Moves durable positions of one slot on, in one record. A position that is gone, or that is
    /// there already, is left out; none goes back.
    ///
    /// # Errors
    /// [`Refused`]; nothing has moved then.
    pub fn prepare_moves(
        &mut self,
        log: &mut dyn Appender,
        slot: SlotId,
        now_ns: u64,
        moves: &[(CursorId, Sequence)],
    ) -> Result<(), Refused> {
        self.slot_mut(slot).move_cursors(log, now_ns, moves)
    }

    /// Drops the messages up to `through`; through the last one it is a purge. The numbering goes
    /// on as before. Nothing happens when they are gone already.
    ///
    /// # Errors
    /// [`StoreRefusal`].
    pub fn prepare_trim(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        through: Sequence,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let slot = self.slot_mut(key.slot);
        slot.trim(log, key.channel, through, now_ns)
    }

    /// Deletes a durable position. Nothing happens when it is gone already.
    ///
    /// # Errors
    /// [`StoreRefusal`].
    pub fn prepare_cursor_delete(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        cursor: CursorId,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let slot = self.slot_mut(key.slot);
        slot.delete_cursor(log, key.channel, cursor, now_ns)
    }

    /// Deletes a channel with its messages and positions. One of the same name that is created
    /// later is another: it begins with sequence 1.
    ///
    /// # Errors
    /// [`StoreRefusal`].
    pub fn prepare_channel_delete(
        &mut self,
        log: &mut dyn Appender,
        key: ChannelKey,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let slot = self.slot_mut(key.slot);
        slot.delete_channel(log, key.channel, now_ns)
    }

    /// Room for one more channel.
    fn check_channels(&self, limits: &Limits) -> Result<(), StoreRefusal> {
        let max = limits.channels_max;
        let count = self.channel_count_to_be();
        if max > 0 && count.saturating_add(limits.channels_elsewhere) >= max {
            return Err(StoreRefusal::ChannelLimit { max });
        }
        Ok(())
    }
}
