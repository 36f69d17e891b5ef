//! Space: what was settled is let go of by the log.

use ringmq_storage::ChannelKey;

use crate::rt;
use crate::shard::Shard;
use crate::shard::stored::LogSeat;

/// Queues looked at before sockets are.
const SLICE: usize = 256;

impl Shard {
    /// Trims the queues that messages have left. A settlement lets go of what lies before the
    /// oldest message, as far as it was known when it was written; this does the rest.
    pub(in crate::shard) async fn trim_queues(&self, seat: &LogSeat) {
        let left = std::mem::take(&mut seat.queues.borrow_mut().left);
        let many = left.len() > SLICE;
        for (looked_at, key) in left.into_iter().enumerate() {
            if !self.trim_queue(seat, key) {
                seat.queues.borrow_mut().left.insert(key);
            }
            if many && looked_at % SLICE == SLICE - 1 {
                rt::reactor_yield().await;
            }
        }
    }

    /// `false`: it is to be tried again.
    fn trim_queue(&self, seat: &LogSeat, key: ChannelKey) -> bool {
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        let Some(state) = slots.queue(key) else {
            return true;
        };
        let (floor, len) = (state.floor(), state.len());
        let first = slots.channel(key).map(|channel| channel.first);
        let is_behind = first.is_some_and(|first| floor >= first);
        if is_behind {
            let trimmed = slots.prepare_trim(&mut *log, key, floor, self.queue_now_ns());
            seat.commit_ready.raise();
            return trimmed.is_ok();
        }
        // What is on its way out may leave it behind once more.
        len == 0 || slots.is_settled(key.slot)
    }
}
