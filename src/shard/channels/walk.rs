//! Walks over the stored channels of a shard, in slices.

use ringmq_storage::ChannelKey;

use super::pace::{Pace, STEP};
use crate::engine::stored::{Channel, Slots, StoredKind};
use crate::shard::Shard;
use crate::shard::stored::LogSeat;

/// A stored channel that a walk has come to.
pub(super) struct Met<'a> {
    pub(super) seat: &'a LogSeat,
    pub(super) slots: &'a Slots,
    pub(super) key: ChannelKey,
    pub(super) channel: &'a Channel,
}

impl Shard {
    /// Shows every stored channel of a kind of this shard to `each`, which says how much work it
    /// made of it: 1 for a look. One that comes or goes meanwhile may be shown or not.
    pub(super) async fn walk_stored(
        &self,
        kind: StoredKind,
        mut each: impl FnMut(&Met<'_>) -> usize,
    ) {
        let mut pace = Pace::begin();
        for seat in &self.stored.seats {
            let mut after = None;
            while walk_slice(seat, kind, &mut after, &pace, &mut each) {
                pace.pause().await;
            }
        }
    }
}

/// Shows channels until the slice is over; `false` when there are no more in this log.
fn walk_slice(
    seat: &LogSeat,
    kind: StoredKind,
    after: &mut Option<ChannelKey>,
    pace: &Pace,
    each: &mut impl FnMut(&Met<'_>) -> usize,
) -> bool {
    // Logs may be many and nearly empty: the time of the slice goes on from one to the next.
    let mut work = STEP;
    let slots = seat.slots.borrow();
    for (key, channel) in slots.channels_after(kind, *after) {
        if work >= STEP {
            if pace.is_over() {
                return true;
            }
            work = 0;
        }
        *after = Some(key);
        work += channel.map_or(1, |channel| {
            each(&Met {
                seat,
                slots: &slots,
                key,
                channel,
            })
        });
    }
    false
}
