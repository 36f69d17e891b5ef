//! Queues: consumers where their connections are, the dispatcher where the log is.
//!
//! ```text
//!  core of the client                       shard that owns the queue
//!  Consumer::poll ───────── Poll ─────────► dispatcher ─ visible? ─► lease, read, frame
//!        ◄───────────────── Polled ────────────────────────────────────┘
//!  Consumer::settle ─────── Settle ───────► dispatcher: decided, pending
//!        ◄───────────────── Settled ─────── one record per queue and commit ─► log
//! ```
//!
//! Every poll has exactly one answer. A settlement has one when it fails, or when the consumer
//! asked to hear of its commit.

mod answer;
mod asked_moves;
mod consumer;
mod flush;
mod moves;
mod policy;
mod poll;
mod redrive;
mod seat;
mod serve;
mod settle;
mod timers;
mod trim;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringmq_storage::record::queue::QueueHead;
use ringmq_storage::{ChannelKey, Sequence};

use super::{Shard, StoreFailure};
use crate::engine::queues::MoveReason;
use crate::rt;

pub use consumer::Consumer;

pub(super) use consumer::{Local, Said};
pub(super) use seat::QueueSeat;

pub use policy::QueuePolicy;
pub use redrive::{Redrive, Redriven};

/// One delivery: the messages of one answer to a poll. A settlement names it, so that a late one
/// never settles a later delivery of the same message (rule E9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The log that has the queue.
    pub(super) log: u16,
    /// The queue.
    pub(super) key: ChannelKey,
    /// The delivery's number, never used again, not after a restart either.
    pub(super) number: u64,
}

/// What is known of a message when it is handed to a consumer.
#[derive(Clone, Copy, Debug)]
pub struct HandedMessage<'a> {
    /// The queue.
    pub channel: &'a str,
    /// The message's number in it.
    pub sequence: u64,
    /// When its body was stored.
    pub timestamp_ns: u64,
    /// How often it has been received, this time included.
    pub receives: u32,
    /// What stands before its body.
    pub head: QueueHead<'a>,
    /// The body behind that.
    pub body: &'a [u8],
}

/// How a message becomes a field of an answer: its body goes between these two.
#[derive(Clone, Copy, Debug)]
pub struct QueueFraming {
    /// Writes what comes before the body: tag and length of the embedded message in a field of
    /// this number.
    pub before: fn(u32, &HandedMessage<'_>, &mut BytesMut),
    /// Writes what comes behind it.
    pub after: fn(&HandedMessage<'_>, &mut BytesMut),
    /// Reads the policy that a stored body carries.
    pub policy: fn(&[u8]) -> BodyPolicy<'_>,
}

/// The policy in the body of a stored message: what its sender asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyPolicy<'a> {
    /// How long it may wait to be consumed; zero: for ever.
    pub expiration: Duration,
    /// How often it may be received; 0: nothing is said.
    pub receives_max: u32,
    /// The queue of its dead letters; empty: none.
    pub dead_letter: &'a str,
}

/// What a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub struct PollRequest<'a> {
    /// The queue; it need not exist.
    pub channel: &'a str,
    /// Messages at most, at least 1.
    pub items_max: u32,
    /// Bytes of the framed messages at most; one message is always handed out.
    pub bytes_max: usize,
    /// How long to wait for the first message.
    pub wait: Duration,
    /// Look at the messages, and leave them where they are.
    pub peek: bool,
    /// How long the messages are the consumer's; `None`: as long as it is there.
    pub visibility: Option<Duration>,
    /// Number of the field that each message becomes.
    pub field: u32,
}

/// The answer to a poll.
#[derive(Debug)]
pub struct Polled {
    /// The delivery; `None` when there are no messages, and for a peek.
    pub delivery: Option<Delivery>,
    /// The messages in their order.
    pub sequences: Vec<Sequence>,
    /// The messages as fields; one may run over several parts.
    pub parts: Vec<Bytes>,
    /// Bytes of all parts.
    pub bytes: usize,
    /// Messages that have expired in this queue since the last poll or peek.
    pub expired: u64,
}

/// Which messages of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are not settled yet.
    All,
    /// These, in this order.
    List(Vec<Sequence>),
}

/// What becomes of leased messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are done with.
    Ack,
    /// They go to the tail, received once more; or to the dead letters.
    Nack,
    /// They go back to their place, and were not received.
    Return,
    /// They go back to their place, received once more: their consumer broke.
    Break,
    /// They go to another queue.
    Move {
        /// Why.
        reason: MoveReason,
        /// Where.
        target: Box<str>,
    },
    /// They stay the consumer's for so long from now.
    Extend(Duration),
}

/// Why a settlement did not happen, or not wholly: what comes before the named message in the
/// list has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleFailure {
    /// The message is not the consumer's any more: its lease ran out, or the queue is gone.
    #[error("message {sequence} is not leased by this delivery")]
    LeaseLost {
        /// The message.
        sequence: Sequence,
    },
    /// The target of a move did not take the message; it is back in its place.
    #[error("message {sequence} was not moved: {failure}")]
    NotMoved {
        /// The message.
        sequence: Sequence,
        /// Why.
        failure: StoreFailure,
    },
    /// The log did not take it, or nobody knows.
    #[error(transparent)]
    Store(StoreFailure),
}

/// What a consumer hears.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// The one answer to a poll.
    Polled {
        /// The poll.
        ticket: u64,
        /// What came of it.
        outcome: Result<Polled, StoreFailure>,
    },
    /// The outcome of a settlement: of a failed one always, of others when it was asked for.
    Settled {
        /// The settlement.
        ticket: u64,
        /// What came of it.
        outcome: Result<(), SettleFailure>,
    },
    /// The answer to a drain: how many messages are gone.
    Drained {
        /// The drain.
        ticket: u64,
        /// What came of it.
        outcome: Result<u64, StoreFailure>,
    },
    /// Time is over: these messages are not the consumer's any more.
    LeaseExpired {
        /// The delivery.
        delivery: Delivery,
        /// The messages; none: all of the delivery, its queue was deleted.
        sequences: Vec<Sequence>,
    },
}

impl Shard {
    /// Nanoseconds since 1970 by the clock of queues: it never goes back, and never stands still.
    #[must_use]
    pub fn queue_now_ns(&self) -> u64 {
        let wall_ns = rt::unix_ns().cast_unsigned();
        self.queue_clock
            .borrow_mut()
            .read(rt::now().as_ns(), wall_ns)
    }
}

#[cfg(test)]
mod tests;
