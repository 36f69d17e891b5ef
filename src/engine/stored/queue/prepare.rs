//! Deciding upon one slot's queues: each step appends a record and notes it in the overlay.

use ringmq_storage::log::{Appender, Class, Refused};
use ringmq_storage::record::RecordKind;
use ringmq_storage::record::queue::{self, Counted, MoveId, Requeued, Run};
use ringmq_storage::{ChannelId, Sequence};

use super::Arrived;
use crate::engine::queues::{MoveReason, QueueState, SettleReason};
use crate::engine::stored::overlay::PendingChannel;
use crate::engine::stored::slot::{Slot, copy, head};
use crate::engine::stored::state::StoredKind;
use crate::engine::stored::{CHANNEL_NAME_BYTES_MAX, Limits};

/// Entries in one record. More are split: a record is applied at once.
const ENTRIES_MAX: usize = 4096;

const ZERO: Sequence = Sequence::new(0);

impl Slot {
    /// A queue as far as its records are applied.
    pub(in crate::engine::stored) fn queue(&self, id: ChannelId) -> Option<&QueueState> {
        self.state.channels.get(&id)?.queue()
    }

    pub(in crate::engine::stored) fn queue_bytes(&self, id: ChannelId) -> u64 {
        self.queue(id).map_or(0, QueueState::bytes)
    }

    /// Messages that a queue will have.
    pub(in crate::engine::stored) fn messages_to_be(
        &self,
        id: ChannelId,
        pending: &PendingChannel,
    ) -> u64 {
        let live = self.queue(id).map_or(0, QueueState::len);
        live.saturating_add(pending.arriving)
            .saturating_sub(pending.settling)
    }

    /// How many of a queue's oldest messages must go so that it is within its limits; notes that
    /// this has been told. Of bytes it knows only how many a message has on the average: when
    /// that is not enough, the next message makes up for it.
    pub(in crate::engine::stored) fn overflow(&mut self, id: ChannelId, limits: &Limits) -> u64 {
        let Some(pending) = self.overlay.channel(id) else {
            return 0;
        };
        let going = pending.settling.saturating_add(pending.surplus);
        let messages = self.messages_to_be(id, pending);
        let all = messages.saturating_add(pending.settling);
        let bytes = self.queue_bytes(id).saturating_add(pending.bytes);
        let too_many = match limits.messages_max {
            0 => 0,
            max => all.saturating_sub(max),
        };
        let too_large = match limits.bytes_max {
            0 => 0,
            max => {
                let excess = u128::from(bytes.saturating_sub(max)) * u128::from(all);
                u64::try_from(excess.div_ceil(u128::from(bytes.max(1)))).unwrap_or(u64::MAX)
            }
        };
        // The message that was just taken stays.
        let told = messages
            .saturating_sub(pending.surplus)
            .saturating_sub(1)
            .min(too_many.max(too_large).saturating_sub(going));
        self.overlay.add_surplus(id, told);
        told
    }

    /// A queue as it will be; `None` when it will not be there.
    fn queue_to_be(&self, id: ChannelId) -> Option<PendingChannel> {
        let channel = self.channel(id)?;
        debug_assert_eq!(channel.kind, StoredKind::Queue);
        (channel.kind == StoredKind::Queue).then_some(channel)
    }

    /// The last sequence up to which nothing of a queue will be needed when `runs` are gone.
    fn floor(&self, id: ChannelId, pending: &PendingChannel, runs: &[Run]) -> Sequence {
        let Some(queue) = self.queue(id) else {
            return ZERO;
        };
        // A message that goes to the tail takes its body with it: until it is there, what is
        // applied says what is needed.
        if pending.requeues > 0 {
            queue.floor()
        } else {
            queue.floor_without(runs)
        }
    }

    pub(super) fn settle(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        (reason, bytes): (SettleReason, u64),
        runs: &[Run],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let mut rest = runs;
        while let Some((part, behind)) = split(rest) {
            let Some(pending) = self.queue_to_be(id) else {
                return Ok(());
            };
            // With the last part: parts that come again after a refusal release nothing twice.
            let bytes = if behind.is_empty() { bytes } else { 0 };
            let mut payload = Vec::new();
            queue::encode_settle(bytes, part, &mut payload);
            let floor = self.floor(id, &pending, part);
            let mut head = head(RecordKind::QueueSettle, id, floor, payload.len());
            head.encoding = reason as u8;
            self.append(log, now_ns, head, Class::System, &mut copy(&payload))?;
            self.overlay.change(id, pending).settle(reason, part);
            rest = behind;
        }
        Ok(())
    }

    pub(super) fn requeue(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        entries: &[Requeued],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let mut rest = entries;
        while let Some((part, behind)) = split(rest) {
            let Some(pending) = self.queue_to_be(id) else {
                return Ok(());
            };
            let first = pending.last.next();
            let mut payload = Vec::new();
            queue::encode_requeued(part, &mut payload);
            let head = head(RecordKind::QueueRequeue, id, first, payload.len());
            self.append(log, now_ns, head, Class::System, &mut copy(&payload))?;
            let count = u64::try_from(part.len()).unwrap_or(u64::MAX);
            let pending = self.overlay.change(id, pending);
            pending.last = Sequence::new(pending.last.get().saturating_add(count));
            pending.requeues += 1;
            rest = behind;
        }
        Ok(())
    }

    pub(super) fn count(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        entries: &[Counted],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let mut rest = entries;
        while let Some((part, behind)) = split(rest) {
            let Some(pending) = self.queue_to_be(id) else {
                return Ok(());
            };
            let mut payload = Vec::new();
            queue::encode_counted(part, &mut payload);
            let head = head(RecordKind::QueueCount, id, ZERO, payload.len());
            self.append(log, now_ns, head, Class::System, &mut copy(&payload))?;
            self.overlay.change(id, pending);
            rest = behind;
        }
        Ok(())
    }

    pub(super) fn begin_move(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        sequence: Sequence,
        (reason, target): (MoveReason, &str),
        now_ns: u64,
    ) -> Result<(), Refused> {
        assert!((1..=CHANNEL_NAME_BYTES_MAX).contains(&target.len()));
        let Some(pending) = self.queue_to_be(id) else {
            return Ok(());
        };
        let mut payload = Vec::new();
        queue::encode_move(reason as u8, target, &mut payload);
        let head = head(RecordKind::QueueMove, id, sequence, payload.len());
        self.append(log, now_ns, head, Class::System, &mut copy(&payload))?;
        self.overlay.change(id, pending);
        Ok(())
    }

    pub(super) fn cancel_move(
        &mut self,
        log: &mut dyn Appender,
        id: ChannelId,
        sequence: Sequence,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let Some(pending) = self.queue_to_be(id) else {
            return Ok(());
        };
        let head = head(RecordKind::QueueMoveCancel, id, sequence, 0);
        self.append(log, now_ns, head, Class::System, &mut |_| {})?;
        self.overlay.change(id, pending);
        Ok(())
    }

    pub(super) fn forget(
        &mut self,
        log: &mut dyn Appender,
        ids: &[MoveId],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let known = ids.iter().filter(|id| self.state.arrived.contains(id));
        let known: Vec<MoveId> = known.copied().collect();
        for part in known.chunks(ENTRIES_MAX) {
            let mut payload = Vec::new();
            queue::encode_move_ids(part, &mut payload);
            // Of several queues; the record names none.
            let none = ChannelId::new(0);
            let head = head(RecordKind::QueueMoveForget, none, ZERO, payload.len());
            self.append(log, now_ns, head, Class::System, &mut copy(&payload))?;
        }
        Ok(())
    }

    pub(super) fn arrived(&self, id: &MoveId) -> Arrived {
        if self.state.arrived.contains(id) {
            Arrived::Yes
        } else if self.overlay.is_arriving(id) {
            Arrived::Pending
        } else {
            Arrived::No
        }
    }

    pub(in crate::engine::stored) fn has_arrived(&self, id: &MoveId) -> bool {
        self.arrived(id) != Arrived::No
    }
}

/// The entries of the next record, and the others.
fn split<T>(entries: &[T]) -> Option<(&[T], &[T])> {
    let at = entries.len().min(ENTRIES_MAX);
    entries.split_at_checked(at).filter(|_| at > 0)
}
