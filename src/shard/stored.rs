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
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
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
    /// Those who wait at the door, in order.
    pub(super) room: RefCell<VecDeque<Rc<Waiter>>>,
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
            room: RefCell::default(),
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

    /// Gives back what a message held, and lets as many of those that wait try again as come into
    /// a room of `room_bytes`.
    pub(super) fn release(&self, bytes: usize, room_bytes: usize) {
        let inflight = self.inflight.get().saturating_sub(bytes);
        self.inflight.set(inflight);
        let mut free = match inflight {
            // Nobody comes behind this one to wake the others.
            0 => usize::MAX,
            inflight => room_bytes.saturating_sub(inflight),
        };
        while free > 0 {
            let Some(waiter) = self.room.borrow_mut().pop_front() else {
                return;
            };
            let waker = waiter.waker.take();
            if let Some(waker) = waker {
                if free < usize::MAX {
                    free = free.saturating_sub(waiter.bytes);
                }
                waker.wake();
            }
        }
    }
}

/// One who waits at the door.
#[derive(Debug)]
pub(super) struct Waiter {
    bytes: usize,
    /// `None`: it was woken, or has gone.
    waker: RefCell<Option<Waker>>,
}

/// A place in the line at the door; left when dropped.
#[derive(Debug)]
struct InLine(Rc<Waiter>);

impl Drop for InLine {
    fn drop(&mut self) {
        self.0.waker.take();
    }
}

impl Shard {
    /// Whether this core may take a stored message of `bytes` more; an idle core takes any size.
    pub(super) fn has_store_room(&self, bytes: usize) -> bool {
        let inflight = self.stored.inflight.get();
        let bytes_max = self.stored.settings.inflight_bytes_max;
        // A large message may exceed what there is room for now: it would wait until it is alone.
        inflight == 0
            || (inflight < self.admission.room() && inflight.saturating_add(bytes) <= bytes_max)
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
