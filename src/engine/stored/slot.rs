//! Deciding upon one slot: each step appends a record and, when the log has taken it, notes it in
//! the overlay.

use ringmq_storage::log::{Appender, Class, Refused};
use ringmq_storage::record::payload::{self, ChannelCreate, CursorCreate};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::{ChannelId, ChannelKey, CursorId, Sequence, SlotId};

use super::overlay::{Overlay, PendingChannel};
use super::prepare::{Accepted, ChannelLog, NewMessage};
use super::state::{CursorOwner, State, StoredKind};
use super::{CHANNEL_NAME_BYTES_MAX, CURSOR_NAME_BYTES_MAX, Limits, StoreRefusal};

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

    pub(super) fn append(
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
    pub(super) fn channel(&self, id: ChannelId) -> Option<PendingChannel> {
        let pending = match self.overlay.channel(id) {
            Some(pending) => *pending,
            None => PendingChannel::of(self.state.channels.get(&id)?),
        };
        (!pending.deleted).then_some(pending)
    }

    pub(super) fn find(&self, kind: StoredKind, name: &str) -> Option<(ChannelId, PendingChannel)> {
        let created = self.overlay.created(kind, name);
        let id = created.or_else(|| self.state.find(kind, name))?;
        self.channel(id).map(|channel| (id, channel))
    }

    pub(super) fn create_channel(
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
        let create = ChannelCreate {
            kind: kind as u8,
            name,
        };
        create.encode(&mut bytes);
        let head = head(RecordKind::ChannelCreate, id, Sequence::new(0), bytes.len());
        // A message: on a full disk nobody can use up what is left for trims with new names.
        self.append(log, now_ns, head, Class::Message, &mut copy(&bytes))?;
        self.overlay.create(kind, name, id);
        Ok(id)
    }

    pub(super) fn append_message(
        &mut self,
        log: &mut dyn ChannelLog,
        id: ChannelId,
        request: &NewMessage<'_>,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<Accepted, StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        assert!(channel.kind.has_messages(), "who stores has a kind for it");
        let key = self.key(id);
        let bytes = u64::from(request.payload_len);
        if channel.kind == StoredKind::Queue {
            let messages = self.messages_to_be(id, &channel);
            let taken = || self.queue_bytes(id).saturating_add(channel.bytes);
            check_room(messages, bytes, request.limits, taken)?;
        } else {
            let taken = || {
                let usage = log.usage(key);
                // What a purge takes away counts no more, even while it is on its way.
                let gone = channel.first > usage.last;
                let kept = if gone { 0 } else { usage.bytes };
                kept.saturating_add(channel.bytes)
            };
            check_room(channel.messages(), bytes, request.limits, taken)?;
        }
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
        pending.arriving += 1;
        pending.bytes += bytes;
        let pending = *pending;
        if let Some(moved) = request.moved {
            self.overlay.arrive(moved);
        }
        let mut overflow = 0;
        if request.limits.drop_oldest && pending.kind == StoredKind::Queue {
            overflow = self.overflow(id, request.limits);
        } else if request.limits.drop_oldest
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
            overflow,
        })
    }

    pub(super) fn trim(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        through: Sequence,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let through = match self.queue(id) {
            // What is needed stays, whoever asks.
            Some(queue) => through.min(queue.floor()),
            None if channel.kind == StoredKind::Queue => return Ok(()),
            None => through.min(channel.last),
        };
        if through < channel.first {
            return Ok(());
        }
        let head = head(RecordKind::Trim, id, through, 0);
        self.append(log, now_ns, head, Class::System, &mut |_| {})?;
        self.overlay.change(id, channel).first = through.next();
        Ok(())
    }

    pub(super) fn cursor(
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

    pub(super) fn delete_cursor(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        cursor: CursorId,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let known = self.state.cursors.get(&cursor);
        let foreign = known.is_some_and(|known| known.channel != id);
        let position = self.cursor_position(cursor);
        let gone = foreign || self.overlay.cursor_deleted(cursor);
        let Some(position) = position.filter(|_| !gone) else {
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

    pub(super) fn move_cursors(
        &mut self,
        log: &mut dyn Appender,
        now_ns: u64,
        moves: &[(CursorId, Sequence)],
    ) -> Result<(), Refused> {
        let mut kept = Vec::with_capacity(moves.len());
        self.useful_moves(moves, &mut kept);
        if kept.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        payload::encode_moves(&kept, &mut bytes);
        // Of several channels; the record names none.
        let (none, zero) = (ChannelId::new(0), Sequence::new(0));
        let head = head(RecordKind::CursorMove, none, zero, bytes.len());
        self.append(log, now_ns, head, Class::System, &mut copy(&bytes))?;
        for (cursor, to) in kept {
            self.overlay.change_cursor(cursor, to, false);
        }
        Ok(())
    }

    pub(super) fn delete_channel(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        now_ns: u64,
    ) -> Result<(), StoreRefusal> {
        let channel = self.channel(id).ok_or(StoreRefusal::NoChannel)?;
        let head = head(RecordKind::ChannelDelete, id, Sequence::new(0), 0);
        self.append(log, now_ns, head, Class::System, &mut |_| {})?;
        self.overlay.delete(id, channel);
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

    pub(super) fn key(&self, channel: ChannelId) -> ChannelKey {
        ChannelKey {
            slot: self.state.slot,
            channel,
        }
    }
}

/// A durable position to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewCursor<'a> {
    pub(super) owner: CursorOwner,
    pub(super) name: &'a str,
    pub(super) position: Sequence,
    pub(super) now_ns: u64,
    pub(super) limits: &'a Limits,
}

/// Whether a channel of so many messages may take one of `bytes` more.
pub(super) fn check_room(
    messages: u64,
    bytes: u64,
    limits: &Limits,
    taken: impl FnOnce() -> u64,
) -> Result<(), StoreRefusal> {
    let max = limits.messages_max;
    if max > 0 && !limits.drop_oldest && messages >= max {
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
        taken()
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

pub(super) fn head(
    kind: RecordKind,
    channel: ChannelId,
    sequence: Sequence,
    len: usize,
) -> RecordHead {
    RecordHead {
        kind,
        encoding: 0,
        channel,
        sequence,
        time_delta_ns: 0,
        payload_len: u32::try_from(len).unwrap_or(u32::MAX),
    }
}

pub(super) fn copy(bytes: &[u8]) -> impl FnMut(&mut Vec<u8>) {
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
