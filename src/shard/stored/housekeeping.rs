//! What a log needs from time to time: positions written down, old messages trimmed, what nobody
//! uses forgotten.

use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::log::{Carry, Look, ReadCursor, Refused, Warm};
use ringmq_storage::{ChannelKey, SlotId};

use super::seat::LogSeat;
use crate::engine::stored::StoredKind;
use crate::rt::{self, Queue};
use crate::shard::Shard;

/// How long a confirmed position may wait to be written down: at most this much is delivered
/// again after a crash.
const CURSOR_DELAY: Duration = Duration::from_millis(50);

/// How often retention and expiry are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Channels looked at before sockets are.
const SLICE: usize = 256;

/// Channels of other kinds passed over before sockets are looked at.
const LOOKED_AT_MAX: usize = 8192;

/// Bytes that are copied out of an old segment for one commit.
const CARRY_BYTES: usize = 256 << 10;

/// How long publishers go on undisturbed between two slices.
const CARRY_PAUSE: Duration = Duration::from_millis(2);

/// Positions in one record.
const MOVES_MAX: usize = 1024;

impl Shard {
    /// Writes moved positions down soon, all that move until then at once.
    pub(super) fn flush_cursors_soon(self: &Rc<Self>, seat: &Rc<LogSeat>) {
        if seat.cursors_pending.replace(true) {
            return;
        }
        let (shard, seat) = (self.clone(), seat.clone());
        rt::spawn(Queue::Background, "cursors", async move {
            rt::sleep(CURSOR_DELAY).await;
            seat.cursors_pending.set(false);
            if !shard.flush_cursors(&seat) {
                shard.flush_cursors_soon(&seat);
            }
        });
    }

    /// Appends the positions that have moved; `false` when some must wait for room.
    pub(super) fn flush_cursors(&self, seat: &LogSeat) -> bool {
        let mut moves = seat.moves.take();
        seat.feeds.borrow_mut().take_moves(&mut moves);
        moves
            .sort_unstable_by_key(|(channel, cursor, position)| (channel.slot, *cursor, *position));
        let mut taken = 0;
        let mut run = Vec::new();
        while let Some((channel, ..)) = moves.get(taken) {
            let slot = channel.slot;
            run.clear();
            let rest = moves.get(taken..).unwrap_or_default();
            let same_slot = rest.iter().take_while(|(channel, ..)| channel.slot == slot);
            run.extend(
                same_slot
                    .take(MOVES_MAX)
                    .map(|&(_, cursor, to)| (cursor, to)),
            );
            let now = rt::unix_ns().cast_unsigned();
            let mut log = seat.log.borrow_mut();
            let mut slots = seat.slots.borrow_mut();
            match slots.prepare_moves(&mut *log, slot, now, &run) {
                Ok(()) => taken += run.len(),
                Err(Refused::Busy) => break,
                // A failed log tells its publishers; the positions stay where they are.
                Err(_) => {
                    taken = moves.len();
                    break;
                }
            }
            self.counters
                .cursor_moves
                .add(run.len().try_into().unwrap_or(u64::MAX));
        }
        moves.drain(..taken);
        let done = moves.is_empty();
        seat.moves.replace(moves);
        if taken > 0 {
            seat.commit_ready.raise();
        }
        done
    }

    /// Looks after retention and expiry, for ever. One task for each log runs this.
    pub(super) async fn keep_house(self: Rc<Self>, seat: Rc<LogSeat>) {
        loop {
            rt::sleep(ROUND).await;
            if seat.closed.get() || seat.log.borrow().poisoned().is_some() {
                continue;
            }
            self.trim_old(&seat).await;
            self.trim_queues(&seat).await;
            self.forget_unused(&seat);
            self.compact(&seat).await;
            seat.jobs_ready.raise();
        }
    }

    async fn trim_old(&self, seat: &LogSeat) {
        let mut looked_at = 0;
        for slot in SlotId::all() {
            let channels: Vec<ChannelKey> = {
                let slots = seat.slots.borrow();
                let all = slots.channels_of(slot).inspect(|_| looked_at += 1);
                all.filter(|(_, channel)| channel.kind == StoredKind::EventsStore)
                    .map(|(key, _)| key)
                    .collect()
            };
            for slice in channels.chunks(SLICE) {
                for channel in slice {
                    self.trim_channel(seat, *channel);
                }
                if channels.len() > SLICE {
                    rt::reactor_yield().await;
                }
            }
            if looked_at > LOOKED_AT_MAX {
                rt::reactor_yield().await;
                looked_at = 0;
            }
        }
    }

    fn trim_channel(&self, seat: &LogSeat, channel: ChannelKey) {
        let mut slots = seat.slots.borrow_mut();
        let Some(found) = slots.channel(channel) else {
            return;
        };
        let policy = (self.stored.settings.policy)(&found.name);
        let Some(retention) = policy.retention else {
            return;
        };
        let now = rt::unix_ns().cast_unsigned();
        let kept_ns = u64::try_from(retention.as_nanos()).unwrap_or(u64::MAX);
        let mut log = seat.log.borrow_mut();
        let through = log.through_time(channel, now.saturating_sub(kept_ns));
        if let Some(through) = through
            && through >= found.first
            && slots.prepare_trim(&mut *log, channel, through, now).is_ok()
        {
            seat.commit_ready.raise();
        }
    }

    /// Sets how long positions and channels are kept while nobody uses them; `None`: for ever.
    pub fn set_ages(&self, positions: Option<Duration>, channels: Option<Duration>) {
        self.stored.settings.cursor_expiry.set(positions);
        self.stored.settings.purge_inactive.set(channels);
    }

    /// Forgets positions and channels that nobody has used for as long as is configured.
    fn forget_unused(&self, seat: &LogSeat) {
        let settings = &self.stored.settings;
        let now = rt::unix_ns().cast_unsigned();
        let before = |age: Duration| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            now.saturating_sub(age)
        };
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        let feeds = seat.feeds.borrow();
        let queues = seat.queues.borrow();
        let mut appended = false;
        if let Some(age) = settings.cursor_expiry.get() {
            for (channel, cursor) in slots.idle_cursors(before(age)) {
                if !feeds.uses(channel, cursor) {
                    let deleted = slots.prepare_cursor_delete(&mut *log, channel, cursor, now);
                    appended |= deleted.is_ok();
                }
            }
        }
        if let Some(age) = settings.purge_inactive.get() {
            for channel in slots.idle_channels(before(age)) {
                if feeds.receivers(channel) == 0 && !queues.uses(channel) {
                    let deleted = slots.prepare_channel_delete(&mut *log, channel, now);
                    appended |= deleted.is_ok();
                }
            }
        }
        if appended {
            seat.commit_ready.raise();
        }
    }
}

/// What happens to a slice of compaction.
enum Slice {
    /// There is nothing to carry, or no room for it.
    Done,
    More,
    Cold(Warm),
}

impl Shard {
    /// Copies what is kept in old segments to the end of the log, when that frees much more than
    /// it costs: a slice, then a while for the publishers.
    async fn compact(&self, seat: &LogSeat) {
        let mut cursor = ReadCursor::default();
        loop {
            let look = {
                let mut log = seat.log.borrow_mut();
                log.look_for_carrying(&*seat.slots.borrow())
            };
            match look {
                Look::Nothing => return,
                Look::More => {
                    rt::reactor_yield().await;
                    continue;
                }
                Look::Found => {}
            }
            match self.carry_slice(seat, &mut cursor).await {
                Slice::Done => return,
                Slice::More => rt::sleep(CARRY_PAUSE).await,
                Slice::Cold(warm) => {
                    let Some(warmed) = rt::blocking(move || warm.run()).await else {
                        return;
                    };
                    seat.log.borrow_mut().warmed(warmed, &mut cursor);
                }
            }
        }
    }

    /// Carries one slice. New messages wait for one commit: what is on its way could trim what is
    /// carried.
    async fn carry_slice(&self, seat: &LogSeat, cursor: &mut ReadCursor) -> Slice {
        seat.held.set(true);
        let committed = seat.committed().await;
        let carried = committed.map(|()| {
            let mut log = seat.log.borrow_mut();
            log.carry_some(cursor, CARRY_BYTES, &*seat.slots.borrow())
        });
        seat.held.set(false);
        self.append_backlog(seat);
        seat.commit_ready.raise();
        match carried {
            Ok(Carry::More) => Slice::More,
            Ok(Carry::Cold(warm)) => Slice::Cold(warm),
            Ok(Carry::Idle | Carry::Refused(_)) | Err(_) => Slice::Done,
        }
    }
}
