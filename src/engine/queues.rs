//! Queues: messages that are stored until they are consumed.
//!
//! What committed records say of a queue is its state: deterministic, replayed, part of the
//! checkpoint. Who has what at the moment, who waits, and what becomes visible when, is the
//! dispatcher's: it lives as long as the process, and is rebuilt from the state at the start, so
//! what was leased is visible again at once, in its place.

mod details;
pub mod dispatcher;
pub mod moves;
pub mod state;

pub use super::runs::SequenceRuns;
pub use details::Detail;
pub use state::{OpenMove, QueueCounters, QueueState};

/// Encoding of the payload of a queue's message: its head, then the message as consumers get it,
/// without attributes.
pub const MESSAGE_ENCODING: u8 = 2;

/// Why messages left a queue. The numbers are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SettleReason {
    /// A consumer acknowledged them.
    Acked = 1,
    /// Their time was over.
    Expired = 2,
    /// They were received as often as they may, and have no queue for dead letters.
    Dropped = 3,
    /// They are in the queue of their dead letters.
    DeadLettered = 4,
    /// A consumer or an operator moved them to another queue.
    Moved = 5,
    /// A client emptied the queue.
    Purged = 6,
    /// The queue was full, and the oldest made room.
    Overflow = 7,
    /// Their bodies cannot be read.
    Damaged = 8,
}

impl SettleReason {
    /// Reads a number of the log.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Acked,
            2 => Self::Expired,
            3 => Self::Dropped,
            4 => Self::DeadLettered,
            5 => Self::Moved,
            6 => Self::Purged,
            7 => Self::Overflow,
            8 => Self::Damaged,
            _ => return None,
        })
    }
}

/// Why a message goes to another queue. The numbers are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MoveReason {
    /// It was received as often as it may.
    DeadLetter = 1,
    /// A consumer sent it on, with a queue's stream of polls.
    Requeue = 2,
    /// A consumer sent it on, with a stream of single messages.
    Resend = 3,
    /// An operator sent dead letters back.
    Redrive = 4,
}

impl MoveReason {
    /// Reads a number of the log.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::DeadLetter,
            2 => Self::Requeue,
            3 => Self::Resend,
            4 => Self::Redrive,
            _ => return None,
        })
    }
}
