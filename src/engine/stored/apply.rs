//! Applying: the only thing that changes state.
//!
//! The same function runs live, in recovery and one day in a follower. It reads no clock, no
//! configuration and no randomness; what it cannot have written itself stops the slot.

use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::record::payload::{self, BadPayload, ChannelCreate, CursorCreate};
use ringmq_storage::record::queue::QueueHead;
use ringmq_storage::record::{BadRecord, Record, RecordKind, Records};
use ringmq_storage::{ChannelId, CursorId, FrameIndex, Sequence};

use super::effects::SlotEffects;
use crate::engine::queues::MoveReason;
use crate::engine::runs::count;

use super::overlay::Overlay;
use super::state::{Channel, Cursor, CursorOwner, State, StoredKind};
use super::{CHANNEL_NAME_BYTES_MAX, CURSOR_NAME_BYTES_MAX};

/// Why a frame does not follow from the state. Either side is damaged, or a bug wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Diverged {
    #[error("the frame does not follow frame {applied}")]
    Index { applied: FrameIndex },
    #[error("a frame of kind {0:?} changes no state")]
    Kind(FrameKind),
    #[error("time {time_ns} lies before {last_ns}")]
    Time { time_ns: u64, last_ns: u64 },
    #[error("{found} records where {announced} were announced")]
    RecordCount { announced: u32, found: u32 },
    #[error("{0}")]
    Record(#[from] BadRecord),
    #[error("{kind:?}: {source}")]
    Payload {
        kind: RecordKind,
        source: BadPayload,
    },
    #[error("{kind:?}: unknown number {number} for a kind, an owner or a reason")]
    Number { kind: RecordKind, number: u8 },
    #[error("{kind:?}: a name of {len} bytes")]
    Name { kind: RecordKind, len: usize },
    #[error("{kind:?}: channel {channel} is not there")]
    NoChannel {
        kind: RecordKind,
        channel: ChannelId,
    },
    #[error("{kind:?}: position {cursor} is not there")]
    NoCursor { kind: RecordKind, cursor: CursorId },
    #[error("channel {channel} where {next} comes next, or its name is taken")]
    ChannelTaken { channel: ChannelId, next: ChannelId },
    #[error("position {cursor} where {next} comes next, or its name is taken")]
    CursorTaken { cursor: CursorId, next: CursorId },
    #[error("message {found} of channel {channel} where {expected} comes next")]
    Sequence {
        channel: ChannelId,
        expected: Sequence,
        found: Sequence,
    },
    #[error("{kind:?}: channel {channel} is of another kind")]
    OtherKind {
        kind: RecordKind,
        channel: ChannelId,
    },
    #[error("{kind:?}: channel {channel} needs messages up to {through}")]
    Floor {
        kind: RecordKind,
        channel: ChannelId,
        through: Sequence,
    },
    #[error("message {sequence} of channel {channel} was moved here before")]
    Arrived {
        channel: ChannelId,
        sequence: Sequence,
    },
    #[error("{kind:?}: {found} lies behind the last message {last} of channel {channel}")]
    Beyond {
        kind: RecordKind,
        channel: ChannelId,
        found: Sequence,
        last: Sequence,
    },
}

impl State {
    /// Applies a frame. After an error the slot's state is unusable.
    pub(super) fn apply(
        &mut self,
        overlay: &mut Overlay,
        frame: &Frame<'_>,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let header = &frame.header;
        let applied = self.applied;
        if header.index != applied.next() {
            return Err(Diverged::Index { applied });
        }
        match header.kind {
            FrameKind::Entry => {}
            FrameKind::NoOp => {
                self.applied = header.index;
                return Ok(());
            }
            kind @ (FrameKind::Preamble | FrameKind::Seal | FrameKind::Carried) => {
                return Err(Diverged::Kind(kind));
            }
        }
        let mut found = 0_u32;
        for record in Records::new(frame.payload) {
            let record = record?;
            let time_ns = header
                .base_timestamp_ns
                .saturating_add(record.head.time_delta_ns.into());
            let last_ns = self.last_timestamp_ns;
            if time_ns < last_ns {
                return Err(Diverged::Time { time_ns, last_ns });
            }
            if !self.has_gap || self.bridge(&record, time_ns)? {
                self.apply_record(&record, time_ns, effects)?;
            }
            self.last_timestamp_ns = time_ns;
            overlay.settle(&record);
            found = found.saturating_add(1);
        }
        let announced = header.record_count;
        if found != announced {
            return Err(Diverged::RecordCount { announced, found });
        }
        self.applied = header.index;
        Ok(())
    }

    fn apply_record(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        match record.head.kind {
            RecordKind::Message => self.apply_message(record, time_ns, effects),
            RecordKind::ChannelCreate => self.apply_channel_create(record, time_ns, effects),
            RecordKind::ChannelDelete => self.apply_channel_delete(record, effects),
            RecordKind::Trim => self.apply_trim(record, effects),
            RecordKind::CursorCreate => self.apply_cursor_create(record, time_ns, effects),
            RecordKind::CursorMove => self.apply_moves(record, time_ns),
            RecordKind::CursorDelete => self.apply_cursor_delete(record, time_ns, effects),
            RecordKind::QueueSettle => self.apply_settle(record, time_ns),
            RecordKind::QueueRequeue => self.apply_requeue(record, time_ns, effects),
            RecordKind::QueueCount => self.apply_count(record, time_ns),
            RecordKind::QueueMove => self.apply_move(record, time_ns, effects),
            RecordKind::QueueMoveCancel => self.apply_move_cancel(record, time_ns, effects),
            RecordKind::QueueMoveForget => self.apply_forget(record),
        }
    }

    pub(super) fn channel_of(&mut self, record: &Record<'_>) -> Result<&mut Channel, Diverged> {
        let (kind, channel) = (record.head.kind, record.head.channel);
        let found = self.channels.get_mut(&channel);
        found.ok_or(Diverged::NoChannel { kind, channel })
    }

    fn apply_message(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let kind = record.head.kind;
        let (id, found) = (record.head.channel, record.head.sequence);
        let has_gap = self.has_gap;
        let channel = self.channel_of(record)?;
        if !channel.kind.has_messages() {
            return Err(Diverged::OtherKind { kind, channel: id });
        }
        let expected = channel.last.next();
        if found != expected {
            return Err(Diverged::Sequence {
                channel: id,
                expected,
                found,
            });
        }
        channel.last = found;
        channel.last_timestamp_ns = time_ns;
        channel.last_active_ns = time_ns;
        effects.stored(id, found, &mut channel.effect_place);
        let Some(queue) = &mut channel.queue else {
            return Ok(());
        };
        let (head, _) = QueueHead::decode(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        queue.store(found, &head, record.head.payload_len);
        if let Some((number, moved)) = head.moved {
            MoveReason::from_u8(number).ok_or(Diverged::Number { kind, number })?;
            // Behind a gap its end may be lost; it has not come twice.
            if !self.arrived.insert(moved) && !has_gap {
                let sequence = found;
                return Err(Diverged::Arrived {
                    channel: id,
                    sequence,
                });
            }
        }
        Ok(())
    }

    fn apply_channel_create(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, channel) = (record.head.kind, record.head.channel);
        let create = ChannelCreate::decode(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        let number = create.kind;
        let stored = StoredKind::from_u8(number).ok_or(Diverged::Number { kind, number })?;
        check_name(kind, create.name, CHANNEL_NAME_BYTES_MAX)?;
        let next = self.next_channel;
        let fits = channel == next && channel.next() > channel;
        let created = Channel::new(stored, create.name, time_ns);
        if !fits || !self.insert_channel(channel, created) {
            return Err(Diverged::ChannelTaken { channel, next });
        }
        self.next_channel = channel.next();
        effects.created(channel);
        Ok(())
    }

    fn apply_channel_delete(
        &mut self,
        record: &Record<'_>,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, channel) = (record.head.kind, record.head.channel);
        if !self.remove_channel(channel) {
            return Err(Diverged::NoChannel { kind, channel });
        }
        effects.deleted(channel);
        Ok(())
    }

    fn apply_trim(
        &mut self,
        record: &Record<'_>,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, id, through) = (record.head.kind, record.head.channel, record.head.sequence);
        let channel = self.channel_of(record)?;
        check_position(kind, id, through, channel.last)?;
        check_floor(kind, id, through, channel)?;
        // One that was overtaken by another changes nothing.
        if through >= channel.first {
            let messages = match channel.queue {
                // Its messages leave by settlement; this is for bodies that nobody needs.
                Some(_) => 0,
                None => count(channel.first, through),
            };
            channel.first = through.next();
            effects.trimmed(id, through, messages);
        }
        debug_assert!(channel.first <= channel.last.next());
        Ok(())
    }

    fn apply_cursor_create(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, id, position) = (record.head.kind, record.head.channel, record.head.sequence);
        let create = CursorCreate::decode(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        let number = create.owner;
        let owner = CursorOwner::from_u8(number).ok_or(Diverged::Number { kind, number })?;
        check_name(kind, create.name, CURSOR_NAME_BYTES_MAX)?;
        let channel = self.channel_of(record)?;
        check_position(kind, id, position, channel.last)?;
        channel.last_active_ns = time_ns;
        let (cursor, next) = (create.cursor, self.next_cursor);
        let fits = cursor == next && cursor.next() > cursor;
        let created = Cursor {
            channel: id,
            owner,
            name: create.name.into(),
            position,
            last_active_ns: time_ns,
        };
        if !fits || !self.insert_cursor(cursor, created) {
            return Err(Diverged::CursorTaken { cursor, next });
        }
        self.next_cursor = cursor.next();
        effects.cursor_created(id, cursor);
        Ok(())
    }

    fn apply_moves(&mut self, record: &Record<'_>, time_ns: u64) -> Result<(), Diverged> {
        let kind = record.head.kind;
        let moves = payload::decode_moves(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        for (id, to) in moves {
            let missing = Diverged::NoCursor { kind, cursor: id };
            let cursor = self.cursors.get_mut(&id).ok_or(missing)?;
            let channel = self.channels.get_mut(&cursor.channel).ok_or(missing)?;
            check_position(kind, cursor.channel, to, channel.last)?;
            // A position never goes back; that a move came shows that somebody uses it.
            cursor.position = cursor.position.max(to);
            cursor.last_active_ns = time_ns;
            channel.last_active_ns = time_ns;
        }
        Ok(())
    }

    fn apply_cursor_delete(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let kind = record.head.kind;
        let cursor = payload::decode_cursor_delete(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        let removed = self.remove_cursor(cursor);
        let removed = removed.ok_or(Diverged::NoCursor { kind, cursor })?;
        if let Some(channel) = self.channels.get_mut(&removed.channel) {
            channel.last_active_ns = time_ns;
        }
        effects.cursor_deleted(removed.channel, cursor);
        Ok(())
    }
}

impl Channel {
    pub(super) fn new(kind: StoredKind, name: &str, time_ns: u64) -> Self {
        Self {
            kind,
            name: name.into(),
            first: Sequence::new(1),
            last: Sequence::new(0),
            last_timestamp_ns: 0,
            created_ns: time_ns,
            last_active_ns: time_ns,
            queue: (kind == StoredKind::Queue).then(Box::default),
            cursors: Vec::new(),
            effect_place: u32::MAX,
        }
    }
}

pub(super) fn check_name(kind: RecordKind, name: &str, bytes_max: usize) -> Result<(), Diverged> {
    let len = name.len();
    if (1..=bytes_max).contains(&len) {
        Ok(())
    } else {
        Err(Diverged::Name { kind, len })
    }
}

/// What a queue needs is not trimmed.
pub(super) fn check_floor(
    kind: RecordKind,
    id: ChannelId,
    through: Sequence,
    channel: &Channel,
) -> Result<(), Diverged> {
    match &channel.queue {
        Some(queue) if through > queue.floor() => Err(Diverged::Floor {
            kind,
            channel: id,
            through,
        }),
        _ => Ok(()),
    }
}

pub(super) fn check_position(
    kind: RecordKind,
    channel: ChannelId,
    found: Sequence,
    last: Sequence,
) -> Result<(), Diverged> {
    if found <= last {
        Ok(())
    } else {
        Err(Diverged::Beyond {
            kind,
            channel,
            found,
            last,
        })
    }
}
