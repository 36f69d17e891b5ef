//! Applying the records of queues. What they say of messages that are not there is ignored: a
//! settlement may have been decided twice, a decision may have been repeated.

use ringmq_storage::record::payload::BadPayload;
use ringmq_storage::record::queue;
use ringmq_storage::record::{Record, RecordKind};
use ringmq_storage::{ChannelId, Sequence};

use crate::engine::queues::{MoveReason, OpenMove, QueueState, SettleReason};
use crate::engine::runs::before;
use crate::engine::stored::CHANNEL_NAME_BYTES_MAX;
use crate::engine::stored::apply::{Diverged, check_floor, check_name, check_position};
use crate::engine::stored::effects::SlotEffects;
use crate::engine::stored::state::{Channel, State};

impl State {
    /// The queue of a record; the record is a sign of life.
    fn queue_of(&mut self, record: &Record<'_>, time_ns: u64) -> Result<&mut Channel, Diverged> {
        let channel = self.channel_of(record)?;
        if channel.queue.is_none() {
            let (kind, channel) = (record.head.kind, record.head.channel);
            return Err(Diverged::OtherKind { kind, channel });
        }
        channel.last_active_ns = time_ns;
        Ok(channel)
    }

    pub(in crate::engine::stored) fn apply_settle(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
    ) -> Result<(), Diverged> {
        let (kind, id, number) = head(record);
        let reason = SettleReason::from_u8(number).ok_or(Diverged::Number { kind, number })?;
        let (bytes, runs) = queue::decode_settle(record.payload).map_err(bad(kind))?;
        let channel = self.queue_of(record, time_ns)?;
        let mut highest = Sequence::new(0);
        let runs = runs.inspect(|run| highest = highest.max(run.last));
        let Channel { queue, last, .. } = channel;
        if let Some(queue) = queue {
            queue.settle(reason, bytes, runs);
        }
        check_position(kind, id, highest, *last)?;
        let floor = record.head.sequence;
        check_position(kind, id, floor, *last)?;
        check_floor(kind, id, floor, channel)?;
        channel.first = channel.first.max(floor.next());
        Ok(())
    }

    pub(in crate::engine::stored) fn apply_requeue(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, id, _) = head(record);
        let entries = queue::decode_requeued(record.payload).map_err(bad(kind))?;
        let channel = self.queue_of(record, time_ns)?;
        let (found, expected) = (record.head.sequence, channel.last.next());
        if found != expected {
            return Err(Diverged::Sequence {
                channel: id,
                expected,
                found,
            });
        }
        let Channel {
            queue: Some(queue),
            last,
            ..
        } = channel
        else {
            return Ok(());
        };
        for entry in entries {
            check_position(kind, id, entry.old, before(found))?;
            queue.requeue(&entry);
        }
        *last = queue.last();
        effects.stored(id, *last, &mut channel.effect_place);
        Ok(())
    }

    pub(in crate::engine::stored) fn apply_count(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
    ) -> Result<(), Diverged> {
        let (kind, id, _) = head(record);
        let entries = queue::decode_counted(record.payload).map_err(bad(kind))?;
        let channel = self.queue_of(record, time_ns)?;
        let Channel { queue, last, .. } = channel;
        for entry in entries {
            let end = entry.first.get().saturating_add(entry.count.into());
            check_position(kind, id, before(Sequence::new(end)), *last)?;
            if let Some(queue) = queue {
                queue.count(&entry);
            }
        }
        Ok(())
    }

    pub(in crate::engine::stored) fn apply_move(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, id, _) = head(record);
        let (number, target) = queue::decode_move(record.payload).map_err(bad(kind))?;
        let reason = MoveReason::from_u8(number).ok_or(Diverged::Number { kind, number })?;
        check_name(kind, target, CHANNEL_NAME_BYTES_MAX)?;
        let channel = self.queue_of(record, time_ns)?;
        let sequence = record.head.sequence;
        check_position(kind, id, sequence, channel.last)?;
        let target = target.into();
        let open = OpenMove { reason, target };
        let begin = |queue: &mut Box<QueueState>| queue.begin_move(sequence, open);
        if channel.queue.as_mut().is_some_and(begin) {
            effects.move_committed(id, sequence);
        }
        Ok(())
    }

    pub(in crate::engine::stored) fn apply_move_cancel(
        &mut self,
        record: &Record<'_>,
        time_ns: u64,
        effects: &mut SlotEffects<'_>,
    ) -> Result<(), Diverged> {
        let (kind, id, _) = head(record);
        let channel = self.queue_of(record, time_ns)?;
        let sequence = record.head.sequence;
        check_position(kind, id, sequence, channel.last)?;
        let cancel = |queue: &mut Box<QueueState>| queue.cancel_move(sequence);
        if channel.queue.as_mut().is_some_and(cancel) {
            effects.move_cancelled(id, sequence);
        }
        Ok(())
    }

    pub(in crate::engine::stored) fn apply_forget(
        &mut self,
        record: &Record<'_>,
    ) -> Result<(), Diverged> {
        let ids = queue::decode_move_ids(record.payload).map_err(bad(record.head.kind))?;
        for id in ids {
            self.arrived.remove(&id);
        }
        Ok(())
    }
}

fn head(record: &Record<'_>) -> (RecordKind, ChannelId, u8) {
    (record.head.kind, record.head.channel, record.head.encoding)
}

fn bad(kind: RecordKind) -> impl Fn(BadPayload) -> Diverged {
    move |source| Diverged::Payload { kind, source }
}
