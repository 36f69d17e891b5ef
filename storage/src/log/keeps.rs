//! Which messages are still needed: what carrying asks.
//!
//! The log knows of a channel where its messages begin to count. Those of a queue are settled in
//! any order, which only the state knows.

use crate::id::{ChannelKey, Sequence};

/// Which messages are still needed. The answers are about what was committed.
///
/// A message that is not needed never will be again. Those that the log has trimmed or deleted are
/// never asked for.
pub trait Keeps {
    /// The first message of `first..=last` that is needed. It may name one that was never stored;
    /// it must not pass over one that is needed. Asked often, so it must not walk over what lies
    /// between.
    fn next_kept(&self, key: ChannelKey, first: Sequence, last: Sequence) -> Option<Sequence>;

    /// Whether a message is needed.
    fn keeps(&self, key: ChannelKey, sequence: Sequence) -> bool {
        self.next_kept(key, sequence, sequence) == Some(sequence)
    }

    /// What is needed of a channel whose messages are settled in any order; `None` when all are
    /// needed that the log has.
    fn live(&self, key: ChannelKey) -> Option<Live>;
}

/// What is needed of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads, about.
    pub bytes: u64,
}

/// Needs everything that the log has: for logs without queues.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl Keeps for KeepAll {
    fn next_kept(&self, _: ChannelKey, first: Sequence, last: Sequence) -> Option<Sequence> {
        (first <= last).then_some(first)
    }

    fn live(&self, _: ChannelKey) -> Option<Live> {
        None
    }
}
