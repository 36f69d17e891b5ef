//! What was decided and not applied yet: the records between `prepare` and `apply`.
//!
//! An entry says how its channel or position will be once all its records are applied, and how
//! many of them are still to come; it vanishes with the last. The overlay is never durable: it is
//! empty after a start, and recovery does not touch it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::{FixedState, RandomState};
use ringmq_storage::record::payload::{self, ChannelCreate, CursorCreate};
use ringmq_storage::record::queue::{self, MoveId, QueueHead, Run};
use ringmq_storage::record::{Record, RecordKind};
use ringmq_storage::{ChannelId, CursorId, Sequence};

use super::state::{Channel, Cursor, CursorOwner, StoredKind};
use crate::engine::queues::SettleReason;
use crate::engine::runs::count;

/// A channel as its records will leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingChannel {
    /// Records that are not applied yet.
    outstanding: u32,
    pub(super) kind: StoredKind,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    /// Messages that are not applied yet.
    pub(super) arriving: u64,
    /// Bytes of the messages that are not applied yet.
    pub(super) bytes: u64,
    pub(super) cursors: u64,
    /// Messages of a queue whose settlement is not applied yet.
    pub(super) settling: u64,
    /// Messages of a queue that were said to be too many, and whose settlement was not prepared
    /// yet.
    pub(super) surplus: u64,
    /// Records that send messages of a queue to its tail and are not applied yet.
    pub(super) requeues: u32,
    pub(super) deleted: bool,
}

/// A position as its records will leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingCursor {
    outstanding: u32,
    position: Sequence,
    deleted: bool,
}

/// The overlay of one slot. The caller changes it only after the log has taken the record.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    outstanding: u64,
    last_timestamp_ns: u64,
    next_channel: ChannelId,
    next_cursor: CursorId,
    creations: usize,
    deletions: usize,
    channels: HashMap<ChannelId, PendingChannel, FixedState>,
    cursors: HashMap<CursorId, PendingCursor, FixedState>,
    /// Channels whose creation is on its way, by kind and name.
    created: [HashMap<Box<str>, ChannelId, RandomState>; StoredKind::COUNT],
    /// Moves into queues that are on their way.
    arriving: BTreeSet<MoveId>,
    /// The same for positions.
    created_cursors: BTreeMap<(ChannelId, CursorOwner, Box<str>), CursorId>,
}

impl PendingChannel {
    /// A channel that has nothing but its creation.
    pub(super) const fn new(kind: StoredKind) -> Self {
        Self {
            outstanding: 0,
            kind,
            first: Sequence::new(1),
            last: Sequence::new(0),
            arriving: 0,
            bytes: 0,
            cursors: 0,
            settling: 0,
            surplus: 0,
            requeues: 0,
            deleted: false,
        }
    }

    pub(super) fn of(channel: &Channel) -> Self {
        Self {
            first: channel.first,
            last: channel.last,
            cursors: channel.cursors.len().try_into().unwrap_or(u64::MAX),
            ..Self::new(channel.kind)
        }
    }

    /// Messages that will be kept; not of a queue.
    pub(super) fn messages(&self) -> u64 {
        count(self.first, self.last)
    }
}

impl Overlay {
    /// Whether every record has been applied.
    pub(super) fn is_empty(&self) -> bool {
        self.outstanding == 0
    }

    pub(super) fn last_timestamp_ns(&self) -> u64 {
        self.last_timestamp_ns
    }

    /// The number of the next channel, when `applied` is the next by what is applied.
    pub(super) fn next_channel(&self, applied: ChannelId) -> ChannelId {
        self.next_channel.max(applied)
    }

    pub(super) fn next_cursor(&self, applied: CursorId) -> CursorId {
        self.next_cursor.max(applied)
    }

    pub(super) fn channel(&self, id: ChannelId) -> Option<&PendingChannel> {
        // Most slots have no records on their way when somebody asks.
        if self.channels.is_empty() {
            return None;
        }
        self.channels.get(&id)
    }

    pub(super) fn created(&self, kind: StoredKind, name: &str) -> Option<ChannelId> {
        let created = self.created.get(kind.index())?;
        if created.is_empty() {
            return None;
        }
        created.get(name).copied()
    }

    /// How many channels with messages there will be, when `applied` are there by what is applied.
    pub(super) fn channel_count(&self, applied: usize) -> usize {
        (applied + self.creations).saturating_sub(self.deletions)
    }

    pub(super) fn created_cursor(
        &self,
        channel: ChannelId,
        owner: CursorOwner,
        name: &str,
    ) -> Option<CursorId> {
        if self.created_cursors.is_empty() {
            return None;
        }
        let key = (channel, owner, name.into());
        self.created_cursors.get(&key).copied()
    }

    pub(super) fn cursor_deleted(&self, id: CursorId) -> bool {
        self.cursors.get(&id).is_some_and(|cursor| cursor.deleted)
    }

    /// Where a position will be; `None` when nothing is on its way for it.
    pub(super) fn cursor_position(&self, id: CursorId) -> Option<Sequence> {
        self.cursors.get(&id).map(|cursor| cursor.position)
    }

    /// Notes a record that the log has taken.
    pub(super) fn appended(&mut self, timestamp_ns: u64) {
        debug_assert!(timestamp_ns >= self.last_timestamp_ns);
        self.outstanding += 1;
        self.last_timestamp_ns = timestamp_ns;
    }

    /// Notes a record for a channel: as it was before, changed by `change`.
    pub(super) fn change(&mut self, id: ChannelId, before: PendingChannel) -> &mut PendingChannel {
        let entry = self.channels.entry(id);
        let pending = entry.or_insert(before);
        pending.outstanding += 1;
        pending
    }

    pub(super) fn create(&mut self, kind: StoredKind, name: &str, id: ChannelId) {
        self.change(id, PendingChannel::new(kind));
        if let Some(created) = self.created.get_mut(kind.index()) {
            created.insert(name.into(), id);
        }
        self.next_channel = id.next();
        self.creations += usize::from(kind.has_messages());
    }

    pub(super) fn delete(&mut self, id: ChannelId, before: PendingChannel) {
        self.change(id, before).deleted = true;
        self.deletions += usize::from(before.kind.has_messages());
    }

    /// Notes that so many messages of a queue more were said to be too many.
    pub(super) fn add_surplus(&mut self, id: ChannelId, messages: u64) {
        if let Some(pending) = self.channels.get_mut(&id) {
            pending.surplus = pending.surplus.saturating_add(messages);
        }
    }

    /// Notes that a message of a queue comes from another one.
    pub(super) fn arrive(&mut self, id: MoveId) {
        self.arriving.insert(id);
    }

    /// Whether a moved message is on its way.
    pub(super) fn is_arriving(&self, id: &MoveId) -> bool {
        !self.arriving.is_empty() && self.arriving.contains(id)
    }

    pub(super) fn create_cursor(
        &mut self,
        channel: ChannelId,
        owner: CursorOwner,
        name: &str,
        id: CursorId,
        position: Sequence,
    ) {
        let created = PendingCursor {
            outstanding: 1,
            position,
            deleted: false,
        };
        let before = self.cursors.insert(id, created);
        debug_assert!(before.is_none());
        self.created_cursors
            .insert((channel, owner, name.into()), id);
        self.next_cursor = id.next();
    }

    /// Notes that a position moves, or is deleted.
    pub(super) fn change_cursor(&mut self, id: CursorId, position: Sequence, deleted: bool) {
        let cursor = self.cursors.entry(id).or_insert(PendingCursor {
            outstanding: 0,
            position,
            deleted: false,
        });
        cursor.outstanding += 1;
        cursor.position = cursor.position.max(position);
        cursor.deleted |= deleted;
    }

    /// Forgets a record: it has been applied. Does nothing in recovery, when none is on its way.
    pub(super) fn settle(&mut self, record: &Record<'_>) {
        if self.outstanding == 0 {
            return;
        }
        self.outstanding -= 1;
        let id = record.head.channel;
        match record.head.kind {
            RecordKind::Message => self.settle_message(record),
            RecordKind::Trim | RecordKind::QueueCount => self.settle_channel(id),
            RecordKind::QueueMove | RecordKind::QueueMoveCancel => self.settle_channel(id),
            RecordKind::ChannelDelete => {
                let kind = self.channel(id).map(|pending| pending.kind);
                self.deletions -= usize::from(kind.is_some_and(StoredKind::has_messages));
                self.settle_channel(id);
            }
            RecordKind::ChannelCreate => {
                let kind = self.channel(id).map(|pending| pending.kind);
                self.creations -= usize::from(kind.is_some_and(StoredKind::has_messages));
                self.settle_create(record);
                self.settle_channel(id);
            }
            RecordKind::CursorCreate => {
                if let Ok(create) = CursorCreate::decode(record.payload) {
                    self.settle_created_cursor(id, &create);
                    self.settle_cursor(create.cursor);
                }
                self.settle_channel(id);
            }
            RecordKind::CursorMove => {
                for (cursor, _) in payload::decode_moves(record.payload).into_iter().flatten() {
                    self.settle_cursor(cursor);
                }
            }
            RecordKind::CursorDelete => {
                if let Ok(cursor) = payload::decode_cursor_delete(record.payload) {
                    self.settle_cursor(cursor);
                }
                self.settle_channel(id);
            }
            RecordKind::QueueSettle => {
                if let Ok((_, runs)) = queue::decode_settle(record.payload)
                    && let Some(pending) = self.channels.get_mut(&id)
                {
                    let settled = runs.map(|run| count(run.first, run.last));
                    pending.settling = settled.fold(pending.settling, u64::saturating_sub);
                }
                self.settle_channel(id);
            }
            RecordKind::QueueRequeue => {
                if let Some(pending) = self.channels.get_mut(&id) {
                    pending.requeues = pending.requeues.saturating_sub(1);
                }
                self.settle_channel(id);
            }
            // It concerns no channel.
            RecordKind::QueueMoveForget => {}
        }
        if self.outstanding == 0 {
            debug_assert!(self.channels.is_empty() && self.cursors.is_empty());
            debug_assert!(self.created.iter().all(HashMap::is_empty));
            debug_assert!(self.created_cursors.is_empty() && self.arriving.is_empty());
            debug_assert_eq!((self.creations, self.deletions), (0, 0));
        }
    }

    fn settle_message(&mut self, record: &Record<'_>) {
        let id = record.head.channel;
        if !self.arriving.is_empty()
            && let Some(pending) = self.channel(id)
            && pending.kind == StoredKind::Queue
            && let Ok((head, _)) = QueueHead::decode(record.payload)
            && let Some((_, moved)) = head.moved
        {
            self.arriving.remove(&moved);
        }
        if let Some(pending) = self.channels.get_mut(&id) {
            pending.arriving -= 1;
            pending.bytes -= u64::from(record.head.payload_len);
        }
        self.settle_channel(id);
    }

    fn settle_create(&mut self, record: &Record<'_>) {
        let Ok(create) = ChannelCreate::decode(record.payload) else {
            return;
        };
        let kind = StoredKind::from_u8(create.kind);
        let Some(created) = kind.and_then(|kind| self.created.get_mut(kind.index())) else {
            return;
        };
        // The name may stand for a later incarnation by now.
        if created.get(create.name) == Some(&record.head.channel) {
            created.remove(create.name);
        }
    }

    fn settle_created_cursor(&mut self, channel: ChannelId, create: &CursorCreate<'_>) {
        let Some(owner) = CursorOwner::from_u8(create.owner) else {
            return;
        };
        let key = (channel, owner, create.name.into());
        if self.created_cursors.get(&key) == Some(&create.cursor) {
            self.created_cursors.remove(&key);
        }
    }

    fn settle_channel(&mut self, id: ChannelId) {
        let Some(pending) = self.channels.get_mut(&id) else {
            debug_assert!(false, "a record of channel {id} that nobody has prepared");
            return;
        };
        pending.outstanding -= 1;
        if pending.outstanding == 0 {
            debug_assert_eq!((pending.arriving, pending.bytes), (0, 0));
            debug_assert_eq!((pending.settling, pending.requeues), (0, 0));
            self.channels.remove(&id);
        }
    }

    fn settle_cursor(&mut self, id: CursorId) {
        let Some(pending) = self.cursors.get_mut(&id) else {
            debug_assert!(false, "a record of position {id} that nobody has prepared");
            return;
        };
        pending.outstanding -= 1;
        if pending.outstanding == 0 {
            self.cursors.remove(&id);
        }
    }
}

impl PendingChannel {
    /// Notes that messages of a queue will be gone.
    pub(super) fn settle(&mut self, reason: SettleReason, runs: &[Run]) {
        let settled = runs.iter().map(|run| count(run.first, run.last));
        let settled = settled.fold(0, u64::saturating_add);
        self.settling = self.settling.saturating_add(settled);
        if reason == SettleReason::Overflow {
            self.surplus = self.surplus.saturating_sub(settled);
        }
    }
}

impl Cursor {
    /// Where the position is, or will be when something is on its way.
    pub(super) fn position_with(&self, id: CursorId, overlay: &Overlay) -> Sequence {
        overlay.cursor_position(id).unwrap_or(self.position)
    }
}
