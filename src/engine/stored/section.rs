//! The state of a slot as bytes: what a checkpoint keeps of it.
//!
//! Equal states have equal bytes, whatever led to them. All numbers are little-endian.
//!
//! ```text
//!  0 u16 layout, 2            16 u32 positions
//!  2 u16 reserved, 0          20 u32 moves that have arrived
//!  4 u32 next channel         24 u64 digest of the state; reserved, 0
//!  8 u32 next position        32 channels by number, then positions by number, then moves
//! 12 u32 channels
//!
//! channel, 48 bytes and its name     position, 28 bytes and its name
//!  0 u32 number                       0 u32 number
//!  4 u8  kind                         4 u32 number of its channel
//!  5 u8  reserved, 0                  8 u8  owner
//!  6 u16 bytes of the name            9 u8  reserved, 0
//!  8 u64 first message kept          10 u16 bytes of the name
//! 16 u64 last message                12 u64 last message that counts as delivered
//! 24 u64 time of the last message    20 u64 time of its last use
//! 32 u64 time of its creation
//! 40 u64 time of its last use           move that has arrived, 16 bytes: its id
//! ..     name, then the part of a queue    0 u16 slot where it began
//!                                          2 u16 reserved, 0
//!                                          4 u32 channel
//!                                          8 u64 message
//! ```
//!
//! The part of a queue is described in `engine::queues::state`. Layout 1, which is still read, is
//! the same without it and without moves: it is older than queues.
//!
//! Times are nanoseconds since 1970-01-01 UTC.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmq_storage::record::queue::MoveId;
use ringmq_storage::{ChannelId, CursorId, FrameIndex, Sequence, SlotId};

use super::state::{Channel, Cursor, CursorOwner, State, StoredKind};
use super::{CHANNEL_NAME_BYTES_MAX, CURSOR_NAME_BYTES_MAX};
use crate::engine::queues::QueueState;

const LAYOUT: u16 = 2;

/// The layout before queues had messages.
const LAYOUT_WITHOUT_QUEUES: u16 = 1;

const HEAD_BYTES: usize = 32;
const CHANNEL_BYTES: usize = 48;
const CURSOR_BYTES: usize = 28;

/// Why bytes are not the state of a slot. Their checksum held, so a newer version wrote them, or a
/// bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSection {
    #[error("the section is cut short")]
    Short,
    #[error("the section goes on behind its end")]
    Long,
    #[error("the section has layout {0}, this RingMQ knows {LAYOUT}")]
    Layout(u16),
    #[error("a reserved field of the section is not zero")]
    Reserved,
    #[error("channel {0} of the section is not valid")]
    Channel(u32),
    #[error("position {0} of the section is not valid")]
    Cursor(u32),
    #[error("a move of the section is not valid")]
    Move,
}

impl State {
    /// Appends the state as bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let names: usize = self
            .channels
            .values()
            .map(|channel| channel.name.len())
            .sum();
        let channels = self.channels.len() * CHANNEL_BYTES;
        out.reserve(HEAD_BYTES + names + channels + self.cursors.len() * (CURSOR_BYTES + 16));
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&LAYOUT.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.next_channel.get().to_le_bytes());
        out.extend_from_slice(&self.next_cursor.get().to_le_bytes());
        out.extend_from_slice(&count(self.channels.len()));
        out.extend_from_slice(&count(self.cursors.len()));
        out.extend_from_slice(&count(self.arrived.len()));
        out.extend_from_slice(&[0; 8]);
        for (id, channel) in &self.channels {
            out.extend_from_slice(&id.get().to_le_bytes());
            out.extend_from_slice(&[channel.kind as u8, 0]);
            encode_len(&channel.name, out);
            let numbers = [
                channel.first.get(),
                channel.last.get(),
                channel.last_timestamp_ns,
                channel.created_ns,
                channel.last_active_ns,
            ];
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(channel.name.as_bytes());
            if let Some(queue) = &channel.queue {
                queue.encode(out);
            }
        }
        for (id, cursor) in &self.cursors {
            out.extend_from_slice(&id.get().to_le_bytes());
            out.extend_from_slice(&cursor.channel.get().to_le_bytes());
            out.extend_from_slice(&[cursor.owner as u8, 0]);
            encode_len(&cursor.name, out);
            out.extend_from_slice(&cursor.position.get().to_le_bytes());
            out.extend_from_slice(&cursor.last_active_ns.to_le_bytes());
            out.extend_from_slice(cursor.name.as_bytes());
        }
        for id in &self.arrived {
            out.extend_from_slice(&u32::from(id.slot.index()).to_le_bytes());
            out.extend_from_slice(&id.channel.get().to_le_bytes());
            out.extend_from_slice(&id.sequence.get().to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and checks everything that holds for a state.
    pub(super) fn decode(
        slot: SlotId,
        applied: FrameIndex,
        last_timestamp_ns: u64,
        bytes: &[u8],
    ) -> Result<Self, BadSection> {
        let mut reader = Reader { rest: bytes };
        let layout = reader.u16()?;
        if layout != LAYOUT && layout != LAYOUT_WITHOUT_QUEUES {
            return Err(BadSection::Layout(layout));
        }
        let has_queues = layout == LAYOUT;
        reader.zero(2)?;
        let mut state = Self::new(slot);
        state.applied = applied;
        state.last_timestamp_ns = last_timestamp_ns;
        state.next_channel = ChannelId::new(reader.u32()?);
        state.next_cursor = CursorId::new(reader.u32()?);
        let (channels, cursors) = (reader.u32()?, reader.u32()?);
        let moves = reader.u32()?;
        reader.zero(8)?;
        if !has_queues && moves > 0 {
            return Err(BadSection::Reserved);
        }
        for _ in 0..channels {
            state.decode_channel(&mut reader, has_queues)?;
        }
        for _ in 0..cursors {
            state.decode_cursor(&mut reader)?;
        }
        for _ in 0..moves {
            state.decode_move(&mut reader)?;
        }
        if !reader.rest.is_empty() {
            return Err(BadSection::Long);
        }
        state.sort_cursors()?;
        Ok(state)
    }

    fn decode_channel(
        &mut self,
        reader: &mut Reader<'_>,
        has_queues: bool,
    ) -> Result<(), BadSection> {
        let number = reader.u32()?;
        let kind = StoredKind::from_u8(reader.u8()?);
        reader.zero(1)?;
        let len = reader.u16()?;
        let [first, last, last_timestamp_ns, created_ns, last_active_ns] = reader.u64s()?;
        let bad = BadSection::Channel(number);
        let name = reader.name(len, CHANNEL_NAME_BYTES_MAX).ok_or(bad)?;
        let id = ChannelId::new(number);
        let ascends = self
            .channels
            .last_key_value()
            .is_none_or(|(last, _)| *last < id);
        let behind = last.checked_add(1).ok_or(bad)?;
        let timed = created_ns <= last_active_ns
            && last_active_ns <= self.last_timestamp_ns
            && last_timestamp_ns <= last_active_ns
            && (last > 0 || last_timestamp_ns == 0);
        let sound = ascends
            && number > 0
            && id < self.next_channel
            && (1..=behind).contains(&first)
            && timed;
        let kind = kind.filter(|_| sound).ok_or(bad)?;
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        let queue = match kind {
            StoredKind::EventsStore => None,
            StoredKind::Queue if has_queues => Some(reader.queue(last).ok_or(bad)?),
            StoredKind::Queue => Some(QueueState::empty(last)),
            StoredKind::Events | StoredKind::Commands | StoredKind::Queries => {
                (last.get() == 0).then_some(None).ok_or(bad)?
            }
        };
        if queue
            .as_ref()
            .is_some_and(|queue| first > queue.floor().next())
        {
            return Err(bad);
        }
        let channel = Channel {
            kind,
            name: Arc::from(name),
            first,
            last,
            last_timestamp_ns,
            created_ns,
            last_active_ns,
            queue: queue.map(Box::new),
            cursors: Vec::new(),
            effect_place: u32::MAX,
        };
        self.insert_channel(id, channel).then_some(()).ok_or(bad)
    }

    fn decode_cursor(&mut self, reader: &mut Reader<'_>) -> Result<(), BadSection> {
        let number = reader.u32()?;
        let channel = ChannelId::new(reader.u32()?);
        let owner = CursorOwner::from_u8(reader.u8()?);
        reader.zero(1)?;
        let len = reader.u16()?;
        let [position, last_active_ns] = reader.u64s()?;
        let bad = BadSection::Cursor(number);
        let name = reader.name(len, CURSOR_NAME_BYTES_MAX).ok_or(bad)?;
        let id = CursorId::new(number);
        let ascends = self
            .cursors
            .last_key_value()
            .is_none_or(|(last, _)| *last < id);
        let position = Sequence::new(position);
        let owned = self.channels.get_mut(&channel).ok_or(bad)?;
        let sound = ascends
            && number > 0
            && id < self.next_cursor
            && position <= owned.last
            && last_active_ns <= owned.last_active_ns;
        let owner = owner.filter(|_| sound).ok_or(bad)?;
        // Sorted when all are there: one by one it would take the square of their number.
        owned.cursors.push(id);
        let cursor = Cursor {
            channel,
            owner,
            name: name.into(),
            position,
            last_active_ns,
        };
        self.cursors.insert(id, cursor);
        Ok(())
    }

    fn decode_move(&mut self, reader: &mut Reader<'_>) -> Result<(), BadSection> {
        let bad = BadSection::Move;
        let slot = SlotId::new(reader.u16()?).ok_or(bad)?;
        reader.zero(2)?;
        let id = MoveId {
            slot,
            channel: ChannelId::new(reader.u32()?),
            sequence: Sequence::new(u64::from_le_bytes(reader.take()?)),
        };
        let ascends = self.arrived.last().is_none_or(|last| *last < id);
        self.arrived.insert(id);
        ascends.then_some(()).ok_or(bad)
    }

    fn sort_cursors(&mut self) -> Result<(), BadSection> {
        let cursors: &BTreeMap<CursorId, Cursor> = &self.cursors;
        let name = |id: &CursorId| cursors.get(id).map(|cursor| (cursor.owner, &*cursor.name));
        for channel in self.channels.values_mut() {
            channel
                .cursors
                .sort_unstable_by(|a, b| name(a).cmp(&name(b)));
            channel.cursors.shrink_to_fit();
            let mut pairs = channel.cursors.iter().zip(channel.cursors.iter().skip(1));
            if let Some((_, twice)) = pairs.find(|(a, b)| name(a) == name(b)) {
                return Err(BadSection::Cursor(twice.get()));
            }
        }
        Ok(())
    }
}

fn encode_len(name: &str, out: &mut Vec<u8>) {
    debug_assert!(name.len() <= CHANNEL_NAME_BYTES_MAX.max(CURSOR_NAME_BYTES_MAX));
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadSection> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(BadSection::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, BadSection> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, BadSection> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadSection> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64s<const N: usize>(&mut self) -> Result<[u64; N], BadSection> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = u64::from_le_bytes(self.take()?);
        }
        Ok(numbers)
    }

    fn zero(&mut self, len: usize) -> Result<(), BadSection> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(BadSection::Short)?;
        self.rest = rest;
        let zero = bytes.iter().all(|byte| *byte == 0);
        zero.then_some(()).ok_or(BadSection::Reserved)
    }

    fn queue(&mut self, last: Sequence) -> Option<QueueState> {
        QueueState::decode(&mut self.rest, last, CHANNEL_NAME_BYTES_MAX)
    }

    fn name(&mut self, len: u16, bytes_max: usize) -> Option<&'a str> {
        let len = usize::from(len);
        let (name, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        (1..=bytes_max).contains(&len).then_some(())?;
        std::str::from_utf8(name).ok()
    }
}
