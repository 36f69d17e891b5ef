//! Messages that go to another queue.

use std::rc::Rc;

use ringmq_storage::log::Refused;
use ringmq_storage::{ChannelKey, Sequence};

use crate::engine::queues::dispatcher::PendingMove;
use crate::shard::Shard;
use crate::shard::stored::LogSeat;

/// What moves keep for one log.
#[derive(Debug, Default)]
pub(in crate::shard) struct MoveSeat {}

impl MoveSeat {
    pub(super) fn has_decisions(&self) -> bool {
        let Self {} = self;
        false
    }

    pub(super) fn deleted(&mut self, _key: ChannelKey) {
        let Self {} = self;
    }
}

impl Shard {
    /// Writes that a message leaves for another queue.
    pub(super) fn write_move(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        key: ChannelKey,
        moved: &PendingMove,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let slots = seat.slots.borrow();
        if let Some(state) = slots.queue(key) {
            let mut queues = seat.queues.borrow_mut();
            queues
                .dispatcher
                .move_cancelled(key, moved.sequence, state, now_ns);
        }
        Ok(())
    }

    pub(super) fn move_committed(self: &Rc<Self>, _seat: &LogSeat, _: ChannelKey, _: Sequence) {}

    pub(super) fn flush_moves(self: &Rc<Self>, _seat: &Rc<LogSeat>) {}

    pub(in crate::shard) fn moves_durable(&self, _seat: &LogSeat) {}

    pub(in crate::shard) fn fail_moves(&self, _seat: &LogSeat) {}

    pub(in crate::shard) async fn run_moves(self: Rc<Self>, _seat: Rc<LogSeat>) {}
}
