//! Who has which message of a queue at the moment, who waits, and what becomes visible when.
//!
//! One dispatcher has all queues of a log. It lives as long as the process: at the start it is
//! filled from the state that the records left, so what was leased is visible at once, in its
//! place. It decides and remembers what is to be written; the shard writes it, reads bodies and
//! answers.
//!
//! ```text
//!  stored, restore        due                       take            settle, time over
//!        │  ┌─► delayed ───────┐                 ┌────────► leased ──┬─► pending: settle, move,
//!        └──┤                  ▼                 │            │      │   requeue, count ─► log
//!           └──────────────► visible ────────────┘            │      │
//!                              ▲ │ expired: pending           │      │ requeue: a new sequence,
//!                              │ └──────────►                 │      ▼ told with `stored`
//!                              └── in place ──────────────────┘
//! ```
//!
//! # Order
//! The place of a message is its sequence. One that was delayed takes its place when it is due:
//! behind everything stored until then, before everything stored later, among its like by time and
//! sequence. A message that comes back unsettled has its old place again. The records do not say
//! what else was there when a message came due. So after a restart what is overdue stands as far in
//! front as it may: by time and sequence among its like, and no message before its own sequence.
//!
//! # Fairness
//! Queues with something visible and somebody waiting take turns; the waiters of one queue are
//! served in the order they came, each with all that is visible, up to its maximum.
//!
//! # Time
//! Comes as an argument, in nanoseconds since 1970 of the clock in [`clock`](super::super::clock).
//! Nothing happens early: deadlines are rounded up to a millisecond. What has expired is never
//! handed out, also if its timer is late.
//!
//! # Costs
//! A queue in which nothing happens takes about 100 bytes here. Waiting messages lie in runs and
//! cost nothing each; a delay or an expiry costs about 30 bytes; a lease 32. A poll costs a fixed
//! part and some ten nanoseconds for each message from its take to its settlement.

mod life;
mod pending;
mod poll;
mod queue;
mod ready;
mod settle;
mod take;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use foldhash::fast::RandomState;
use ringmq_storage::record::queue::{Counted, Requeued, Run};
use ringmq_storage::{ChannelKey, Sequence};

use self::poll::{ConsumerState, Waiter};
use self::queue::{Queue, Rest};
use self::take::{Delivery, Lease};
use self::timers::Timer;
use super::{MoveReason, SettleReason};
use crate::engine::arena::{Arena, Key};
use crate::engine::wheel::Wheel;

/// A request for messages of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRequest<A> {
    /// Who asks.
    pub consumer: A,
    /// The request among the consumer's.
    pub number: u64,
    /// Messages at most; 0 counts as 1.
    pub items_max: u32,
    /// Look at the messages, and leave them where they are.
    pub peek: bool,
    /// How long the messages are the consumer's, in milliseconds; `None`: as long as it is there.
    pub visible_ms: Option<u64>,
    /// When waiting is over, in milliseconds since 1970.
    pub deadline_ms: u64,
}

/// A waiter whose turn it is. Call [`Dispatcher::take`], [`Dispatcher::handed`] for each message
/// whose body was read, and end with [`Dispatcher::leased`] or [`Dispatcher::requeue_waiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn<A> {
    /// The queue.
    pub key: ChannelKey,
    /// What was asked for.
    pub request: PollRequest<A>,
    /// The number that the delivery has, if there will be one.
    pub delivery: u64,
    /// The waiter's number: its place among the waiters.
    waiter: u64,
    /// The delivery, while the turn is open.
    slot: Key,
}

/// A message that was taken for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its number in the queue.
    pub sequence: Sequence,
    /// The number under which its body is stored.
    pub body: Sequence,
    /// How often it was received before.
    pub receives: u32,
    /// When it became visible, in nanoseconds since 1970; 0: at once.
    pub visible_at_ns: u64,
    /// When it expires; 0: never.
    pub expires_at_ns: u64,
}

/// Which messages of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All that are not settled yet.
    All,
    /// These, in this order.
    List(&'a [Sequence]),
}

/// What becomes of leased messages. Those whose time is over when they would become visible again
/// expire instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// They are done with.
    Ack,
    /// They go to the tail, received once more, or stay in place if the queue's policy says so; a
    /// message that was received as often as it may becomes a dead letter.
    Nack,
    /// They go back to their place.
    Return {
        /// They count as received; a message that was received as often as it may becomes a dead
        /// letter.
        counted: bool,
    },
    /// They go to another queue.
    Move {
        /// Why.
        reason: MoveReason,
        /// Where.
        target: &'a str,
    },
    /// They stay the consumer's for so many milliseconds from now.
    Extend {
        /// Milliseconds.
        visible_ms: u64,
    },
}

/// A settlement stopped: this message is not leased by that delivery. What comes before it in the
/// list is settled, what comes behind it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("message {sequence} is not leased by this delivery")]
pub struct LeaseLost {
    /// The message; 0 when all of a delivery were to be settled, and none is leased.
    pub sequence: Sequence,
}

/// Something that is decided and has to be written. Until it is, nobody else gets the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Messages leave the queue.
    Settle {
        /// Why.
        reason: SettleReason,
        /// Bytes of their payloads. An estimate for messages without exceptions that were never
        /// handed out ([`SettleReason::Purged`], [`SettleReason::Overflow`]).
        bytes: u64,
        /// Which: ascending, disjoint.
        runs: Vec<Run>,
    },
    /// Messages go to the tail, in this order.
    Requeue(Vec<Requeued>),
    /// Messages have been received so often.
    Count(Vec<Counted>),
    /// A message goes to another queue.
    Move(PendingMove),
}

/// A message that is to go to another queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMove {
    /// The message.
    pub sequence: Sequence,
    /// Bytes of its payload.
    pub len: u32,
    /// How often it has been received, the last time included.
    pub receives: u32,
    /// Why.
    pub reason: MoveReason,
    /// Where; `None` for a dead letter: its head names the queue. If there is none, the message is
    /// to be dropped: settle it, and say so with [`Dispatcher::move_done`].
    pub target: Option<Box<str>>,
}

/// Who loses what with a queue that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone<A> {
    /// A poll that waited.
    Poll {
        /// Whose.
        consumer: A,
        /// Its number.
        number: u64,
    },
    /// A delivery with messages that are not settled.
    Delivery {
        /// Whose.
        consumer: A,
        /// Its number.
        delivery: u64,
    },
}

/// What ended because its time was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timeout<A> {
    /// A poll that was not served: answer it with nothing.
    Poll {
        /// Whose.
        consumer: A,
        /// Its number.
        number: u64,
        /// The queue.
        key: ChannelKey,
    },
    /// Messages are not the consumer's any more; what the rules say has been done with them.
    Lease {
        /// Whose.
        consumer: A,
        /// The queue.
        key: ChannelKey,
        /// The delivery.
        delivery: u64,
        /// The messages, ascending.
        sequences: Vec<Sequence>,
    },
}

/// What a queue does where queues may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Messages that were not acknowledged keep their place, and hold up those behind them.
    pub in_place: bool,
}

/// Numbers of one queue, exact at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Messages that the next poll may get.
    pub waiting: u64,
    /// Messages that are leased.
    pub in_flight: u64,
    /// Messages that become visible later.
    pub delayed: u64,
    /// Messages on their way to another queue.
    pub moving: u64,
    /// Polls that wait.
    pub waiters: u64,
    /// Messages handed to consumers since the start of the process, peeks not included.
    pub delivered: u64,
}

/// The leases, waiters and timers of all queues of one log. `A` is where a consumer is.
///
/// Owned and driven by the shard that has the log. Nothing in here is bounded by itself: leases
/// and waiters are bounded by what consumers may have open, the rest by the state of the queues.
pub struct Dispatcher<A> {
    /// Every queue that was ever heard of and is not deleted.
    index: HashMap<ChannelKey, Rest, RandomState>,
    /// Those in which something is.
    queues: Arena<Queue>,
    /// Queues with something visible and somebody waiting, in rotation.
    ring: VecDeque<Key>,
    waiters: Arena<Waiter<A>>,
    next_waiter: u64,
    consumers: HashMap<A, ConsumerState, RandomState>,
    deliveries: Arena<Delivery<A>>,
    /// Those whose turn is over, by their numbers.
    by_number: HashMap<u64, Key, RandomState>,
    next_delivery: u64,
    /// When deliveries were made, in milliseconds, and their numbers: those whose leases are not
    /// counted yet.
    uncounted: VecDeque<(u64, u64)>,
    now_ns: u64,
    wheel: Wheel<Timer>,
    fired: Vec<Timer>,
    /// Queues with something to write, in the order it came up.
    dirty: VecDeque<Key>,
    spare_runs: Vec<Vec<Run>>,
    spare_leases: Vec<Vec<Lease>>,
    /// Places of leases, while they are settled.
    picked: Vec<usize>,
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// An empty dispatcher. Deliveries are numbered from `first_delivery`: a number that no process
    /// before has come to, so that a token of an earlier life finds nothing.
    #[must_use]
    pub fn new(first_delivery: u64, now_ns: u64) -> Self {
        Self {
            index: HashMap::default(),
            queues: Arena::new(),
            ring: VecDeque::new(),
            waiters: Arena::new(),
            next_waiter: 0,
            consumers: HashMap::default(),
            deliveries: Arena::new(),
            by_number: HashMap::default(),
            next_delivery: first_delivery,
            uncounted: VecDeque::new(),
            now_ns,
            wheel: Wheel::new(now_ns / timers::NS_PER_MS),
            fired: Vec::new(),
            dirty: VecDeque::new(),
            spare_runs: Vec::new(),
            spare_leases: Vec::new(),
            picked: Vec::new(),
        }
    }
}

impl<A> fmt::Debug for Dispatcher<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("queues", &self.index.len())
            .field("active", &self.queues.len())
            .field("waiters", &self.waiters.len())
            .field("deliveries", &self.deliveries.len())
            .finish_non_exhaustive()
    }
}
