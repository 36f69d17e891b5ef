//! Applying behind a gap: frames that were acknowledged and cannot be read any more.
//!
//! The disk has lost a part of the log, and recovery has reported it. What lies behind is intact
//! and is served, so the state is brought to where each record can follow: as little as possible
//! is made up. Numbers that the gap has swallowed stay used; messages whose channel was created in
//! the gap go into a channel with a name of its own, where an operator finds them.
//!
//! Only in recovery: a live log has no gaps.

use ringmq_storage::record::payload::{self, BadPayload, ChannelCreate, CursorCreate};
use ringmq_storage::record::queue;
use ringmq_storage::record::{Record, RecordKind};
use ringmq_storage::{ChannelId, FrameIndex, Sequence};

use super::apply::Diverged;
use super::state::{Channel, CursorOwner, State, StoredKind};
use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::runs::before;

impl State {
    /// The frames up to `through` are lost: the next one that is applied may lie behind a gap.
    pub(super) fn lost(&mut self, through: FrameIndex) {
        self.applied = self.applied.max(through);
        self.has_gap = true;
    }

    /// Brings the state to where a record behind a gap can follow. `false` when the record is not
    /// to be applied: what it speaks of is lost, or it has been dealt with.
    pub(super) fn bridge(&mut self, record: &Record<'_>, time_ns: u64) -> Result<bool, Diverged> {
        let (kind, sequence) = (record.head.kind, record.head.sequence);
        let id = record.head.channel;
        match kind {
            RecordKind::Message => {
                let stored = match record.head.encoding {
                    MESSAGE_ENCODING => StoredKind::Queue,
                    _ => StoredKind::EventsStore,
                };
                let channel = self.channel_or_placeholder(id, stored, time_ns);
                channel.reach(before(sequence));
                Ok(true)
            }
            RecordKind::ChannelCreate => {
                let create = ChannelCreate::decode(record.payload)
                    .map_err(|source| Diverged::Payload { kind, source })?;
                self.next_channel = self.next_channel.max(id);
                let stored = StoredKind::from_u8(create.kind);
                // Its deletion is lost, or there would be no other one of this name.
                if let Some(old) = stored.and_then(|stored| self.find(stored, create.name)) {
                    self.remove_channel(old);
                }
                Ok(true)
            }
            RecordKind::ChannelDelete => {
                self.next_channel = self.next_channel.max(id.next());
                Ok(self.channels.contains_key(&id))
            }
            RecordKind::Trim => {
                self.next_channel = self.next_channel.max(id.next());
                let channel = self.channels.get_mut(&id);
                Ok(channel.map(|channel| channel.trimmed(sequence)).is_some())
            }
            RecordKind::CursorCreate => self.bridge_cursor(record),
            RecordKind::CursorMove => self.bridge_moves(record, time_ns).map(|()| false),
            RecordKind::CursorDelete => {
                let cursor = payload::decode_cursor_delete(record.payload)
                    .map_err(|source| Diverged::Payload { kind, source })?;
                self.next_cursor = self.next_cursor.max(cursor.next());
                Ok(self.cursors.contains_key(&cursor))
            }
            RecordKind::QueueSettle
            | RecordKind::QueueRequeue
            | RecordKind::QueueCount
            | RecordKind::QueueMove
            | RecordKind::QueueMoveCancel => self.bridge_queue(record),
            RecordKind::QueueMoveForget => Ok(true),
        }
    }

    /// Messages that the gap has swallowed are not there, and what is said of them is ignored.
    /// Those whose settlement is lost come once more, unless a later record knows better.
    fn bridge_queue(&mut self, record: &Record<'_>) -> Result<bool, Diverged> {
        let (kind, id) = (record.head.kind, record.head.channel);
        let bad = |source: BadPayload| Diverged::Payload { kind, source };
        let (sequence, payload) = (record.head.sequence, record.payload);
        let (mut reached, mut floor) = (sequence, Sequence::new(0));
        match kind {
            RecordKind::QueueSettle => {
                let (_, runs) = queue::decode_settle(payload).map_err(bad)?;
                reached = runs.map(|run| run.last).max().unwrap_or_default();
                (reached, floor) = (reached.max(sequence), sequence);
            }
            RecordKind::QueueRequeue => reached = before(sequence),
            RecordKind::QueueCount => {
                let entries = queue::decode_counted(payload).map_err(bad)?;
                let ends = entries.map(|entry| entry.first.get() + u64::from(entry.count));
                reached = before(Sequence::new(ends.max().unwrap_or_default()));
            }
            _ => {}
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            self.next_channel = self.next_channel.max(id.next());
            return Ok(false);
        };
        channel.reach(reached);
        channel.trimmed(floor);
        Ok(true)
    }

    fn bridge_cursor(&mut self, record: &Record<'_>) -> Result<bool, Diverged> {
        let (kind, id) = (record.head.kind, record.head.channel);
        let create = CursorCreate::decode(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        let Some(channel) = self.channels.get_mut(&id) else {
            self.next_channel = self.next_channel.max(id.next());
            self.next_cursor = self.next_cursor.max(create.cursor.next());
            return Ok(false);
        };
        channel.reach(record.head.sequence);
        self.next_cursor = self.next_cursor.max(create.cursor);
        let owner = CursorOwner::from_u8(create.owner);
        let old = owner.and_then(|owner| self.find_cursor(id, owner, create.name));
        if let Some(old) = old {
            self.remove_cursor(old);
        }
        Ok(true)
    }

    /// Moves what is there; the others are of positions that were created in the gap.
    fn bridge_moves(&mut self, record: &Record<'_>, time_ns: u64) -> Result<(), Diverged> {
        let kind = record.head.kind;
        let moves = payload::decode_moves(record.payload)
            .map_err(|source| Diverged::Payload { kind, source })?;
        for (id, to) in moves {
            let cursor = self.cursors.get_mut(&id);
            let Some(cursor) = cursor else {
                self.next_cursor = self.next_cursor.max(id.next());
                continue;
            };
            cursor.position = cursor.position.max(to);
            cursor.last_active_ns = time_ns;
            if let Some(channel) = self.channels.get_mut(&cursor.channel) {
                channel.reach(to);
                channel.last_active_ns = time_ns;
            }
        }
        Ok(())
    }

    /// The channel, or one that is made for what was lost.
    fn channel_or_placeholder(
        &mut self,
        id: ChannelId,
        kind: StoredKind,
        time_ns: u64,
    ) -> &mut Channel {
        if !self.channels.contains_key(&id) {
            self.next_channel = self.next_channel.max(id.next());
            let mut name = format!("recovered.{}.{id}", self.slot);
            while self.find(kind, &name).is_some() {
                name.push_str(".again");
            }
            let made = Channel::new(kind, &name, time_ns);
            let inserted = self.insert_channel(id, made);
            debug_assert!(inserted, "neither the number nor the name is taken");
        }
        let channel = self.channels.get_mut(&id);
        channel.expect("it was there, or has just been made")
    }
}

impl Channel {
    /// Counts everything up to `sequence` as stored.
    fn reach(&mut self, sequence: Sequence) {
        self.last = self.last.max(sequence);
        if let Some(queue) = &mut self.queue {
            queue.reach(sequence);
        }
    }

    /// What follows says that nothing up to `through` is needed.
    fn trimmed(&mut self, through: Sequence) {
        self.reach(through);
        if let Some(queue) = &mut self.queue
            && through > queue.floor()
        {
            queue.forget_bodies(through);
        }
    }
}
