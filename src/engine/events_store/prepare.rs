//! Preparing: what is decided, and appended to the log as records.
//!
//! Nothing here changes state. A record that the log takes is noted in the slot's overlay, so that
//! the next decision builds on it; one that it refuses leaves no trace.

use ringmq_storage::log::{Appender, Class, Log, Refused, Usage};
use ringmq_storage::record::payload::{self, ChannelCreate, CursorCreate};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::{ChannelId, ChannelKey, CursorId, Sequence, SlotId};

use super::overlay::{Overlay, PendingChannel};
use super::state::{CursorOwner, State, StoredKind};
use super::{CHANNEL_NAME_BYTES_MAX, CURSOR_NAME_BYTES_MAX, Limits, Slots, StoreRefusal};

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
}

/// One slot: what is applied, and what is on its way.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) overlay: Overlay,
}

impl Slot {
    pub(super) fn new(slot: SlotId) -> Self {
        Self {
            state: State::new(slot),
            overlay: Overlay::default(),
        }
    }

    fn append(
        &mut self,
        log: &mut dyn Appender,
        now_ns: u64,
        head: RecordHead,
        class: Class,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<u64, Refused> {
        // Time does not go back in a slot, whatever the clock does.
        let timestamp_ns = now_ns
            .max(self.state.last_timestamp_ns)
            .max(self.overlay.last_timestamp_ns());
        log.append(self.state.slot, timestamp_ns, head, class, write)?;
        self.overlay.appended(timestamp_ns);
        Ok(timestamp_ns)
    }

    /// A channel as it will be; `None` when it will not be there.
    fn channel(&self, id: ChannelId) -> Option<PendingChannel> {
        let pending = match self.overlay.channel(id) {
            Some(pending) => *pending,
            None => PendingChannel::of(self.state.channels.get(&id)?),
        };
        (!pending.deleted).then_some(pending)
    }

    fn find(&self, kind: StoredKind, name: &str) -> Option<(ChannelId, PendingChannel)> {
        let created = self.overlay.created(kind, name);
        let id = created.or_else(|| self.state.find(kind, name))?;
        self.channel(id).map(|channel| (id, channel))
    }

    fn create_channel(
        &mut self,
        log: &mut dyn Appender,
        kind: StoredKind,
        name: &str,
        now_ns: u64,
    ) -> Result<ChannelId, StoreRefusal> {
        check_name(name, CHANNEL_NAME_BYTES_MAX)?;
        let id = self.overlay.next_channel(self.state.next_channel);
        if id.next() == id {
            let max = id.get().into();
            return Err(StoreRefusal::ChannelLimit { max });
        }
        let mut bytes = Vec::with_capacity(name.len() + 8);
        let kind_number = kind as u8;
        let create = ChannelCreate {
            kind: kind_number,
            name,
        };
        create.encode(&mut bytes);
        let head = head(RecordKind::ChannelCreate, id, Sequence::new(0), bytes.len());
        // A message: on a full disk nobody can use up what is left for trims with new names.
        self.append(log, now_ns, head, Class::Message, &mut copy(&bytes))?;
        self.overlay.create(kind, name, id);
        Ok(id)
    }

    fn append_message(
        &mut self,
        log: &mut dyn ChannelLog,
        id: ChannelId,
        request: &NewMessage<'_>,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<Accepted, StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let key = self.key(id);
        let bytes = u64::from(request.payload_len);
        check_room(&channel, bytes, request.limits, &mut || log.usage(key))?;
        let sequence = channel.last.next();
        let head = RecordHead {
            kind: RecordKind::Message,
            encoding: request.encoding,
            channel: id,
            sequence,
            time_delta_ns: 0,
            payload_len: request.payload_len,
        };
        let timestamp_ns = self.append(log, request.now_ns, head, Class::Message, write)?;
        let pending = self.overlay.change(id, channel);
        pending.last = sequence;
        pending.bytes += bytes;
        let pending = *pending;
        if request.limits.drop_oldest
            && let Some(through) = surplus(&pending, request.limits, log, key)
        {
            // The message is stored already: when the log has no room for this, the next message
            // makes up for it.
            match self.trim(log, id, through, request.now_ns) {
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Accepted {
            key,
            sequence,
            timestamp_ns,
        })
    }

    fn trim(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        through: Sequence,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let through = through.min(channel.last);
        if through < channel.first {
            return Ok(());
        }
        let head = head(RecordKind::Trim, id, through, 0);
        self.append(log, now_ns, head, Class::System, &mut |_| {})?;
        self.overlay.change(id, channel).first = through.next();
        Ok(())
    }

    fn cursor(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        cursor: &NewCursor<'_>,
    ) -> Result<CursorId, StoreRefusal> {
        let (owner, name) = (cursor.owner, cursor.name);
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let known = self.overlay.created_cursor(id, owner, name);
        let known = known.or_else(|| self.state.find_cursor(id, owner, name));
        if let Some(known) = known
            && !self.overlay.cursor_deleted(known)
        {
            return Ok(known);
        }
        check_name(name, CURSOR_NAME_BYTES_MAX)?;
        let max = cursor.limits.cursors_per_channel_max;
        if max > 0 && channel.cursors >= max {
            return Err(StoreRefusal::CursorLimit { max });
        }
        let new = self.overlay.next_cursor(self.state.next_cursor);
        if new.next() == new {
            let max = new.get().into();
            return Err(StoreRefusal::CursorLimit { max });
        }
        let position = cursor.position.min(channel.last);
        let mut bytes = Vec::with_capacity(name.len() + 16);
        let create = CursorCreate {
            cursor: new,
            owner: owner as u8,
            name,
        };
        create.encode(&mut bytes);
        let head = head(RecordKind::CursorCreate, id, position, bytes.len());
        self.append(log, cursor.now_ns, head, Class::Message, &mut copy(&bytes))?;
        self.overlay.create_cursor(id, owner, name, new, position);
        self.overlay.change(id, channel).cursors += 1;
        Ok(new)
    }

    fn delete_cursor(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        cursor: CursorId,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let position = self.cursor_position(cursor);
        let Some(position) = position.filter(|_| !self.overlay.cursor_deleted(cursor)) else {
            return Ok(());
        };
        let mut bytes = Vec::with_capacity(8);
        payload::encode_cursor_delete(cursor, &mut bytes);
        let head = head(RecordKind::CursorDelete, id, Sequence::new(0), bytes.len());
        self.append(log, now_ns, head, Class::System, &mut copy(&bytes))?;
        self.overlay.change_cursor(cursor, position, true);
        let pending = self.overlay.change(id, channel);
        pending.cursors = pending.cursors.saturating_sub(1);
        Ok(())
    }

    /// Where a position is or will be; `None` when there is none.
    fn cursor_position(&self, id: CursorId) -> Option<Sequence> {
        let applied = || self.state.cursors.get(&id).map(|cursor| cursor.position);
        self.overlay.cursor_position(id).or_else(applied)
    }

    /// Those of `moves` that lead on, into `kept`.
    fn useful_moves(&self, moves: &[(CursorId, Sequence)], kept: &mut Vec<(CursorId, Sequence)>) {
        for &(id, to) in moves {
            // What is confirmed was delivered, and what was delivered is applied.
            let Some(cursor) = self.state.cursors.get(&id) else {
                continue;
            };
            let Some(channel) = self.state.channels.get(&cursor.channel) else {
                continue;
            };
            let gone = self.channel(cursor.channel).is_none() || self.overlay.cursor_deleted(id);
            let to = to.min(channel.last);
            if gone || to <= cursor.position_with(id, &self.overlay) {
                continue;
            }
            match kept.last_mut() {
                Some((last, position)) if *last == id => *position = to.max(*position),
                _ => kept.push((id, to)),
            }
        }
    }

    fn key(&self, channel: ChannelId) -> ChannelKey {
        ChannelKey {
            slot: self.state.slot,
            channel,
        }
    }
}

/// A durable position to make.
#[derive(Clone, Copy, Debug)]
struct NewCursor<'a> {
    owner: CursorOwner,
    name: &'a str,
    position: Sequence,
    now_ns: u64,
    limits: &'a Limits,
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
        let found = self
            .slot_mut(request.slot)
            .find(request.kind, request.channel);
        let id = match found {
            Some((id, _)) => id,
            None => {
                // Before the channel is made: one that could hold no message is not.
                let bytes = u64::from(request.payload_len);
                check_room(
                    &PendingChannel::NEW,
                    bytes,
                    request.limits,
                    &mut Usage::default,
                )?;
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
                self.check_channels(limits)?;
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
        let slot = self.slot_mut(slot);
        let mut kept = Vec::with_capacity(moves.len());
        slot.useful_moves(moves, &mut kept);
        if kept.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(kept.len() * 16);
        payload::encode_moves(&kept, &mut bytes);
        let (none, zero) = (ChannelId::new(0), Sequence::new(0));
        let head = head(RecordKind::CursorMove, none, zero, bytes.len());
        slot.append(log, now_ns, head, Class::System, &mut copy(&bytes))?;
        for (cursor, to) in kept {
            slot.overlay.change_cursor(cursor, to, false);
        }
        Ok(())
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
        let channel = slot.channel(key.channel).ok_or(StoreRefusal::NoChannel)?;
        let zero = Sequence::new(0);
        let head = head(RecordKind::ChannelDelete, key.channel, zero, 0);
        slot.append(log, now_ns, head, Class::System, &mut |_| {})?;
        slot.overlay.delete(key.channel, channel);
        Ok(())
    }

    /// Room for one more channel.
    fn check_channels(&self, limits: &Limits) -> Result<(), StoreRefusal> {
        let max = limits.channels_max;
        if max > 0 && self.channel_count_to_be() >= max {
            return Err(StoreRefusal::ChannelLimit { max });
        }
        Ok(())
    }
}

/// Whether a channel may take a message of `bytes` more.
fn check_room(
    channel: &PendingChannel,
    bytes: u64,
    limits: &Limits,
    usage: &mut dyn FnMut() -> Usage,
) -> Result<(), StoreRefusal> {
    let max = limits.messages_max;
    if max > 0 && !limits.drop_oldest && channel.messages() >= max {
        return Err(StoreRefusal::MessagesLimit { max });
    }
    let max = limits.bytes_max;
    if max == 0 {
        return Ok(());
    }
    let taken = if limits.drop_oldest {
        // What is too large on its own would only empty the channel.
        0
    } else {
        let usage = usage();
        // What a purge takes away counts no more, even while it is on its way.
        let kept = if channel.first > usage.last {
            0
        } else {
            usage.bytes
        };
        kept.saturating_add(channel.bytes)
    };
    if taken.saturating_add(bytes) > max {
        return Err(StoreRefusal::BytesLimit { max });
    }
    Ok(())
}

/// How far a channel must be trimmed to be within its limits.
fn surplus(
    channel: &PendingChannel,
    limits: &Limits,
    log: &dyn ChannelLog,
    key: ChannelKey,
) -> Option<Sequence> {
    let too_many = match limits.messages_max {
        0 => 0,
        max => channel.last.get().saturating_sub(max),
    };
    let too_large = match limits.bytes_max {
        0 => Sequence::new(0),
        max => {
            let left = max.saturating_sub(channel.bytes);
            log.through_bytes(key, left).unwrap_or_default()
        }
    };
    let through = Sequence::new(too_many).max(too_large);
    // The message that was just taken stays.
    let through = through.min(Sequence::new(channel.last.get().saturating_sub(1)));
    (through >= channel.first).then_some(through)
}

fn head(kind: RecordKind, channel: ChannelId, sequence: Sequence, len: usize) -> RecordHead {
    RecordHead {
        kind,
        encoding: 0,
        channel,
        sequence,
        time_delta_ns: 0,
        payload_len: u32::try_from(len).unwrap_or(u32::MAX),
    }
}

fn copy(bytes: &[u8]) -> impl FnMut(&mut Vec<u8>) {
    |out| out.extend_from_slice(bytes)
}

fn check_name(name: &str, max: usize) -> Result<(), StoreRefusal> {
    let len = name.len();
    if (1..=max).contains(&len) {
        Ok(())
    } else {
        Err(StoreRefusal::NameLength { len, max })
    }
}
