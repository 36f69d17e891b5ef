//! Stored channels: the logs of this shard, their publishers and their receivers.
//!
//! ```text
//!  store_event ─► append ─► Log gathers ─► committer: write, sync ─► commit ─► receipts
//!                 (owner)                                              │
//!                                    feeds: whose turn, from where ◄───┘
//!                                       ▼
//!                 deliver: reads the mapping, frames ─► receiver (its core) ─► client
//!                 cursor moves ◄─ confirmed marks ◄───────────────────────────────┘
//! ```
//!
//! A log belongs to one shard for as long as the broker runs. A shard may have several: the number
//! of logs is fixed when the store is made, the number of cores may change.
//!
//! Nothing here blocks: what may is a job of the log, run on the blocking thread.

mod append;
mod channel_counts;
mod close;
mod commit;
mod deliver;
mod housekeeping;
mod jobs;
mod open;
mod probe;
mod receipts;
mod receiver;
mod seat;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use ringmq_storage::SlotId;
use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Log, Refused, Warm};
use slab::Slab;

use crate::engine::queues::dispatcher::QueueFigures;
use crate::engine::stored::{Limits, Slots, StoreRefusal};
use crate::model::ShardId;
use crate::rt::{self, file::FileHook};
use crate::telemetry::counters::Counters;
use crate::telemetry::latency::LatencyHistogram;

use super::Shard;
use super::keyed::Keyed;
use super::queues::{QueueFraming, QueuePolicy, QueueSeat};

pub use channel_counts::ChannelCounts;
pub use open::{Start, StoredRefused, StoredSubscribe};
pub use receipts::Receipts;
pub use receiver::{StoredChunk, StoredSubscriber};

pub(super) use append::StoreWork;
pub(super) use open::OpenReceiver;
pub(super) use receipts::ReceiptAddress;
pub(super) use receiver::Told;
pub(super) use seat::LogSeat;

/// Encoding of a stored event: the body of what its subscribers get, without timestamp and
/// sequence.
pub const EVENT_ENCODING: u8 = 1;

/// Publishers that may wait for room in the store's budget of one core; one more is refused.
const WAITERS_MAX: usize = 4096;

/// The first in that line is passed by others for so long at most. Less than what makes a wait too
/// long: as long as the disk keeps up, a large message is no reason to refuse calls.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many are passed at most: the walk over them is made for every commit.
const PASSED_MAX: usize = 64;

/// A log that was opened for this shard, with the state of its slots.
#[derive(Debug)]
pub struct OpenedLog {
    /// The log's number in the store.
    pub number: u16,
    /// The log.
    pub log: Log,
    /// What its records say.
    pub slots: Slots,
    /// The channels of all logs, this one counted.
    pub channels: Arc<ChannelCounts>,
}

/// What a channel is allowed, by its name.
#[derive(Clone, Debug, Default)]
pub struct ChannelPolicy {
    /// Bounds on what is stored.
    pub limits: Limits,
    /// Messages older than this are dropped; `None`: kept for ever.
    pub retention: Option<Duration>,
    /// Live receivers of the channel; 0: any number.
    pub receivers_max: usize,
    /// What becomes of a queue's messages.
    pub queue: QueuePolicy,
}

/// How a stored message becomes what a client gets: its bytes go between these two.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Writes what comes before a payload of this length, for a message of this time and sequence.
    pub before: fn(usize, u64, u64, &mut BytesMut),
    /// Writes what comes behind it.
    pub after: fn(u64, u64, &mut BytesMut),
}

/// The settings of the stored channels of one shard.
pub struct StoredSettings {
    /// Whether a message is answered after its sync; otherwise after its write.
    pub strict: bool,
    /// The longest time between a write and its sync, when not strict.
    pub sync_interval: Duration,
    /// Bytes of messages that may wait on this core for their commit.
    pub inflight_bytes_max: usize,
    /// How stored events are framed.
    pub framing: Framing,
    /// How the messages of queues are.
    pub queue_framing: QueueFraming,
    /// What a channel is allowed.
    pub policy: Box<dyn Fn(&str) -> ChannelPolicy>,
    /// A durable position that nobody used for this long is forgotten; `None`: never.
    pub cursor_expiry: Cell<Option<Duration>>,
    /// A channel without messages, positions and receivers is deleted after this long; `None`:
    /// never.
    pub purge_inactive: Cell<Option<Duration>>,
    /// Tells a test what the ring is asked to do.
    pub file_hook: Option<Rc<dyn FileHook>>,
}

impl fmt::Debug for StoredSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSettings")
            .field("strict", &self.strict)
            .field("sync_interval", &self.sync_interval)
            .finish_non_exhaustive()
    }
}

/// Where stored channels live: the same on every core.
#[derive(Clone, Copy, Debug)]
pub struct LogPlacement {
    /// Logs of the store.
    pub logs: u16,
    /// Shards of the broker.
    pub shards: u16,
}

impl LogPlacement {
    /// The log of a slot.
    #[must_use]
    pub const fn log_of(self, slot: SlotId) -> u16 {
        slot.index() % self.logs
    }

    /// The shard that has a log.
    #[must_use]
    pub const fn owner_of(self, log: u16) -> ShardId {
        ShardId::new(log % self.shards)
    }
}

/// What the stored side of a shard is made of.
#[derive(Debug)]
pub struct StoredSeed {
    /// Its settings.
    pub settings: StoredSettings,
    /// Where logs live.
    pub placement: LogPlacement,
    /// The logs of this shard, ascending.
    pub logs: Vec<OpenedLog>,
    /// The file system of the logs' jobs.
    pub fs: Arc<dyn Fs>,
}

/// Why a message was not stored, or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFailure {
    /// A limit of the channel or of the broker.
    #[error(transparent)]
    Refused(StoreRefusal),
    /// A write or a sync failed; the shard takes no more writes. The message may be stored.
    #[error("the log of this channel has failed; the message may or may not be stored")]
    Poisoned,
    /// Too much waits to be stored already.
    #[error("too many messages wait to be stored")]
    Busy,
    /// The broker ends.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

impl From<StoreRefusal> for StoreFailure {
    fn from(refusal: StoreRefusal) -> Self {
        match refusal {
            StoreRefusal::Log(Refused::Busy) => Self::Busy,
            StoreRefusal::Log(Refused::Poisoned) => Self::Poisoned,
            refusal => Self::Refused(refusal),
        }
    }
}

/// Nothing was taken: wait with [`Shard::store_room`](super::Shard::store_room), and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreBusy;

/// The stored side of one shard.
pub(super) struct Stored {
    pub(super) settings: StoredSettings,
    pub(super) placement: LogPlacement,
    /// The logs of this shard, ascending.
    pub(super) seats: Vec<Rc<LogSeat>>,
    /// Publishers of this core that wait for receipts.
    pub(super) receipts: RefCell<Keyed<Rc<receipts::Inner>>>,
    /// Receivers whose connections belong to this core.
    pub(super) receivers: RefCell<receiver::Receivers>,
    /// Questions to other cores whether a receiver lives.
    pub(super) probes: RefCell<Slab<probe::Question>>,
    /// Bytes of this core's publishers that wait for their commit.
    pub(super) inflight: Cell<usize>,
    /// Bytes of those who were called and have neither come in nor gone.
    granted: Cell<usize>,
    /// Somebody has come in and stores next: nothing is kept from it for those behind it.
    expected: Cell<bool>,
    /// How long the first in the line is passed by others.
    patience: Cell<Duration>,
    /// Those who wait at the door and were not called, by their numbers: the order of coming.
    line: RefCell<BTreeMap<u64, Waiter>>,
    /// The next one's number; 0 is nobody's.
    next_number: Cell<u64>,
}

impl Stored {
    /// `now_ns` is the clock of queues.
    pub(super) fn new(seed: StoredSeed, now_ns: u64) -> Self {
        let StoredSeed {
            settings,
            placement,
            logs,
            fs,
        } = seed;
        let seat = |opened: OpenedLog| {
            let policy = |channel: &str| (settings.policy)(channel).queue;
            let queues = QueueSeat::new(&opened.slots, now_ns, policy);
            Rc::new(LogSeat::new(opened, queues, fs.clone()))
        };
        let seats = logs.into_iter().map(seat).collect();
        Self {
            settings,
            placement,
            seats,
            receipts: RefCell::default(),
            receivers: RefCell::default(),
            probes: RefCell::default(),
            inflight: Cell::new(0),
            granted: Cell::new(0),
            expected: Cell::new(false),
            patience: Cell::new(PATIENCE),
            line: RefCell::default(),
            next_number: Cell::new(1),
        }
    }

    /// The log of a slot, when this shard has it.
    pub(super) fn seat_of(&self, slot: SlotId) -> Option<&Rc<LogSeat>> {
        self.seat(self.placement.log_of(slot))
    }

    pub(super) fn seat(&self, log: u16) -> Option<&Rc<LogSeat>> {
        self.seats.get(usize::from(log / self.placement.shards))
    }

    /// Sets the levels that take a walk over all channels.
    pub(super) fn measure(&self, counters: &Counters) {
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let [mut live, mut index] = [0; 2];
        let mut figures = QueueFigures::default();
        for seat in &self.seats {
            let stats = seat.log.borrow().stats();
            live += stats.live_bytes;
            index += level(stats.index_bytes);
            let of_log = seat.queues.borrow().totals();
            figures.waiting += of_log.waiting;
            figures.in_flight += of_log.in_flight;
            figures.delayed += of_log.delayed;
            figures.moving += of_log.moving;
        }
        counters.log_live_bytes.set(live);
        counters.log_index_bytes.set(index);
        counters.queue_waiting.set(figures.waiting);
        counters.queue_leased.set(figures.in_flight);
        counters.queue_delayed.set(figures.delayed);
        counters.queue_moving.set(figures.moving);
    }

    /// Sets the levels that the logs know at once.
    pub(super) fn measure_light(&self, counters: &Counters) {
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let [mut bytes, mut segments, mut channels, mut cursors] = [0; 4];
        let [mut failed, mut full, mut frames, mut polls, mut waiting] = [0; 5];
        for seat in &self.seats {
            let log = seat.log.borrow();
            let stats = log.file_stats();
            bytes += stats.file_bytes;
            segments += level(stats.segments + stats.spares);
            frames += stats.frames;
            full += u64::from(stats.full);
            failed += u64::from(log.poisoned().is_some());
            let slots = seat.slots.borrow();
            channels += level(slots.channel_count());
            cursors += level(slots.cursor_count());
            polls += level(seat.queues.borrow().polls_waiting());
            waiting += seat.waiting_count();
        }
        counters.log_bytes.set(bytes);
        counters.log_segments.set(segments);
        counters.stored_channels.set(channels);
        counters.cursors.set(cursors);
        counters.queue_polls_waiting.set(polls);
        counters.log_failed.set(failed);
        counters.log_full.set(full);
        counters.receipts_waiting.set(waiting);
        let counted = counters.commit_frames.value();
        counters.commit_frames.add(frames.saturating_sub(counted));
    }

    /// What a channel of this log is allowed now.
    pub(super) fn policy(&self, seat: &LogSeat, channel: &str) -> ChannelPolicy {
        let mut policy = (self.settings.policy)(channel);
        if policy.limits.channels_max > 0 {
            policy.limits.channels_elsewhere = seat.channels.elsewhere(seat.number);
        }
        policy
    }

    /// Gives back what a message held, and calls those who wait as far as they come into a room of
    /// `room_bytes`.
    pub(super) fn release(&self, bytes: usize, room_bytes: usize) {
        self.inflight.set(self.inflight.get().saturating_sub(bytes));
        self.call_in(room_bytes);
    }

    /// What is in flight, or will be as soon as those who were called have been polled.
    fn held(&self) -> usize {
        self.inflight.get().saturating_add(self.granted.get())
    }

    fn fits(&self, bytes: usize, room_bytes: usize) -> bool {
        let held = self.held();
        // A large message may exceed what there is room for now: it would wait until it is alone.
        held == 0
            || (held < room_bytes && held.saturating_add(bytes) <= self.settings.inflight_bytes_max)
    }

    /// Whether a message may come in whose sender has this number in the line.
    fn may_come_in(&self, number: u64, bytes: usize, room_bytes: usize) -> bool {
        if self.held() == 0 {
            // Nothing is kept for anybody: who comes in now calls the others when it is committed.
            return true;
        }
        if !self.fits(bytes, room_bytes) {
            return false;
        }
        let line = self.line.borrow();
        let first = line.first_key_value();
        let is_kept =
            first.is_some_and(|(first, waiter)| *first < number && self.is_overdue(waiter));
        !is_kept
    }

    fn is_overdue(&self, waiter: &Waiter) -> bool {
        rt::now().since(waiter.since) >= self.patience.get()
    }

    /// Calls those for whom there is room, in their order. Each holds its bytes from then on.
    ///
    /// INVARIANT: no call is lost. Whoever waits uncalled waits while something is held, or while
    /// another one has been woken to look: each of these comes to an end, and whatever its end is
    /// (a commit, a poll without room, a drop), it calls or wakes on.
    ///
    /// INVARIANT: nobody starves. One that is too large for now is passed by those behind it, but
    /// once the first has waited for the patience nobody passes it: what is held then only gets
    /// less, and with nothing held it may have any size.
    fn call_in(&self, room_bytes: usize) {
        while let Some(called) = self.next_call(room_bytes) {
            // Nothing is borrowed here: a waker may drop what stands in the line.
            called.waker.wake();
        }
    }

    fn next_call(&self, room_bytes: usize) -> Option<Waiter> {
        let mut line = self.line.borrow_mut();
        let (_, first) = line.first_key_value()?;
        // Smaller ones fit no better when the room is full; that is most of the time.
        let held = self.held();
        if held > 0 && held >= room_bytes {
            return None;
        }
        if !self.fits(first.bytes, room_bytes) && self.is_overdue(first) {
            return None;
        }
        let mut near = line.iter().take(PASSED_MAX);
        let found = near.find(|(_, waiter)| self.fits(waiter.bytes, room_bytes));
        let number = *found?.0;
        let waiter = line.remove(&number)?;
        self.granted
            .set(self.granted.get().saturating_add(waiter.bytes));
        Some(waiter)
    }

    /// Wakes the first without a call: it looks by itself whether there is room.
    fn wake_first(&self) {
        let waker = {
            let line = self.line.borrow();
            line.first_key_value()
                .map(|(_, waiter)| waiter.waker.clone())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One who waits at the door.
#[derive(Debug)]
struct Waiter {
    bytes: usize,
    since: rt::Instant,
    waker: Waker,
}

/// A place in the line at the door. It stays the same until it is dropped, also for one that was
/// called and found no room.
#[derive(Debug)]
struct InLine<'a> {
    shard: &'a Shard,
    number: u64,
    bytes: usize,
    since: rt::Instant,
    came_in: Cell<bool>,
}

impl<'a> InLine<'a> {
    /// Goes to the end of the line; `None`: that is too long.
    fn join(shard: &'a Shard, bytes: usize, waker: &Waker) -> Option<Self> {
        let stored = &shard.stored;
        if stored.line.borrow().len() >= WAITERS_MAX {
            return None;
        }
        let number = stored.next_number.get();
        stored.next_number.set(number + 1);
        let place = Self {
            shard,
            number,
            // A call without bytes would not be seen to be out.
            bytes: bytes.max(1),
            since: rt::now(),
            came_in: Cell::new(false),
        };
        place.stand(waker);
        Some(place)
    }

    fn stand(&self, waker: &Waker) {
        let waiter = Waiter {
            bytes: self.bytes,
            since: self.since,
            waker: waker.clone(),
        };
        let mut line = self.shard.stored.line.borrow_mut();
        line.insert(self.number, waiter);
    }

    /// Leaves the line, or gives back what it was called with; tells whether it was called.
    fn leave(&self) -> bool {
        let stored = &self.shard.stored;
        let left = stored.line.borrow_mut().remove(&self.number);
        let was_called = left.is_none();
        if was_called {
            let granted = stored.granted.get();
            debug_assert!(granted >= self.bytes, "what it was called with is counted");
            stored.granted.set(granted.saturating_sub(self.bytes));
        }
        was_called
    }

    /// Comes in if it may; otherwise it goes on to stand where it stood.
    fn poll(&self, waker: &Waker) -> Poll<()> {
        let stored = &self.shard.stored;
        let room_bytes = self.shard.admission.room();
        let was_called = self.leave();
        if stored.may_come_in(self.number, self.bytes, room_bytes) {
            self.came_in.set(true);
            stored.expected.set(true);
            return Poll::Ready(());
        }
        self.stand(waker);
        if was_called {
            stored.call_in(room_bytes);
        }
        Poll::Pending
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let stored = &self.shard.stored;
        if !self.came_in.get() {
            self.leave();
            stored.call_in(self.shard.admission.room());
        } else if stored.held() == 0 {
            // Should it store nothing, nobody else comes to call. No call yet: the next one's
            // bytes would be held, and this one could find no room for its own.
            stored.wake_first();
        }
    }
}

impl Shard {
    /// Whether this core takes a stored message of `bytes` more now; an idle core takes any size.
    pub(super) fn has_store_room(&self, bytes: usize) -> bool {
        let number = match self.stored.expected.get() {
            true => 0,
            false => u64::MAX,
        };
        self.stored
            .may_come_in(number, bytes, self.admission.room())
    }

    /// Counts a window of a cold segment that is brought into memory.
    pub(super) fn count_warm(&self, warm: &Warm) {
        self.counters.warms.increment();
        self.counters.warmed_bytes.add(warm.bytes());
    }
}

/// Records how long something took.
pub(crate) fn record(latency: &LatencyHistogram, began: rt::Instant) {
    let took_ns = rt::now().since(began).as_nanos();
    latency.record_ns(u64::try_from(took_ns).unwrap_or(u64::MAX));
}
