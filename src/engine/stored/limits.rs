//! What a channel is allowed, and the refusals that say what it was not.

use ringmq_storage::log::Refused;

/// Longest name of a stored channel, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = crate::model::name::CHANNEL_BYTES_MAX;

/// Longest name of a durable position, in bytes: a client id is the longest there is.
pub const CURSOR_NAME_BYTES_MAX: usize = crate::model::name::CLIENT_ID_BYTES_MAX;

/// Bounds on what is stored, resolved by the caller for the channel in question. 0 means none.
///
/// They act where a record is decided upon, never where it is applied: what they led to is in the
/// log, so changing them does not change the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Channels with messages, of any kind; one more is refused.
    pub channels_max: u64,
    /// How many of them are in other logs.
    pub channels_elsewhere: u64,
    /// Messages that a channel keeps.
    pub messages_max: u64,
    /// Bytes that the messages of a channel may take in the log; for a queue those of payloads.
    pub bytes_max: u64,
    /// What happens when a channel is full: the oldest messages make room; otherwise the new one
    /// is refused.
    pub drop_oldest: bool,
    /// Durable positions of a channel; one more is refused.
    pub cursors_per_channel_max: u64,
}

/// Why nothing was stored. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreRefusal {
    /// There are as many stored channels as may be.
    #[error("stored channels at their maximum of {max}")]
    ChannelLimit {
        /// The bound.
        max: u64,
    },
    /// The channel keeps as many messages as it may.
    #[error("messages of the channel at their maximum of {max}")]
    MessagesLimit {
        /// The bound.
        max: u64,
    },
    /// The channel's messages take as many bytes as they may.
    #[error("bytes of the channel at their maximum of {max}")]
    BytesLimit {
        /// The bound.
        max: u64,
    },
    /// The channel has as many durable positions as it may.
    #[error("durable positions of the channel at their maximum of {max}")]
    CursorLimit {
        /// The bound.
        max: u64,
    },
    /// A name is empty or longer than can be stored.
    #[error("name of {len} bytes, it must have 1 to {max}")]
    NameLength {
        /// Its length in bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The channel does not exist, or not any more.
    #[error("no such channel")]
    NoChannel,
    /// The message has been moved here already, or is about to be: it is not stored twice.
    #[error("the move has arrived already")]
    AlreadyHere,
    /// The log did not take the record.
    #[error(transparent)]
    Log(#[from] Refused),
}
