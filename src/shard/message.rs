//! What crosses from one shard to another. Everything is owned and small; bodies are [`Bytes`].

use std::sync::Arc;

use bytes::Bytes;
use ringmq_storage::SlotId;
use ringmq_storage::record::queue::MoveId;

use super::ask_all::{Answer, Question};
use super::channels::{ChangeWork, ChannelQuestion, ShardList};
use super::queues::{ConsumerEvent, Said};
use super::stored::{OpenReceiver, StoreFailure, StoreWork, StoredChunk, StoredRefused, Told};
use super::taps::TapNote;
use crate::engine::pending::ReplyAddress;
use crate::model::Kind;

/// Where the channel's name stands inside an encoded frame: it travels with the frame and is not
/// copied for the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelAt {
    /// Offset of the first byte.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

impl ChannelAt {
    /// Reads the name; `None` when the range is not text within the frame, which no encoder makes.
    #[must_use]
    pub fn read(self, frame: &[u8]) -> Option<&str> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.len).ok()?)?;
        std::str::from_utf8(frame.get(start..end)?).ok()
    }
}

/// New work, on the bounded lane: refused or dropped when the lane is full.
#[derive(Debug)]
pub(super) enum Work {
    /// A plain event for the shard that owns its channel.
    Publish { frame: Bytes, channel: ChannelAt },
    /// A frame for a subscriber that lives on the receiving core.
    Deliver { key: u64, frame: Bytes },
    /// A command or query for the shard that owns its channel.
    Request(Box<RequestWork>),
    /// A message for the shard that has its channel's log.
    Store(StoreWork),
}

/// A command or query on its way to the shard that owns its channel.
#[derive(Debug)]
pub(super) struct RequestWork {
    pub kind: Kind,
    /// The frame that responders get.
    pub frame: Bytes,
    pub channel: ChannelAt,
    /// Where its answer belongs.
    pub reply: ReplyAddress,
    /// The key to look for in the response cache; empty: none.
    pub cache_key: Box<str>,
}

/// Control messages and replies: never refused. Their number is bounded by what is outstanding:
/// subscriptions, requests, cached answers.
#[derive(Debug)]
pub(super) enum Note {
    /// A subscriber of the sending core wants the channels of `pattern`.
    Subscribe {
        kind: Kind,
        pattern: Box<str>,
        group: Box<str>,
        key: u64,
    },
    /// It wants them no longer. Follows its `Subscribe` on the same lane.
    Unsubscribe { kind: Kind, key: u64 },
    /// The answer to `Subscribe`: the subscription is live on the sending shard.
    Subscribed { key: u64 },
    /// A group member's buffer is full, or has room again.
    Full { kind: Kind, key: u64, full: bool },
    /// A responder's answer, as it sent it.
    Response { reply: ReplyAddress, message: Bytes },
    /// The cache of the owning shard had an answer.
    CacheHit { reply: ReplyAddress, message: Bytes },
    /// Nobody is subscribed to the request's channel.
    NoResponder { reply: ReplyAddress },
    /// An answer to remember.
    Cache {
        channel: Box<str>,
        key: Box<str>,
        message: Bytes,
        lifetime_ms: u64,
    },
    /// What became of messages of the receiving core's publisher.
    Receipts {
        key: u64,
        first: u64,
        count: u64,
        outcome: Result<(), Box<StoreFailure>>,
    },
    /// A receiver of the sending core wants a stored channel.
    Open { key: u64, open: Box<OpenReceiver> },
    /// The answer to `Open`.
    Opened {
        key: u64,
        opened: Result<(), Box<StoredRefused>>,
    },
    /// Frames for a receiver of the receiving core, within its credit.
    Chunk { key: u64, chunk: Box<StoredChunk> },
    /// What a receiver of the sending core tells the log that feeds it.
    Told { log: u16, key: u64, told: Told },
    /// The channel of a receiver of the receiving core is gone.
    Ended { key: u64 },
    /// A question to the receiving core.
    Ask { key: u64, question: Question },
    /// The answer to `Ask`; none when the task that was to make it broke off.
    Answered {
        from: u16,
        key: u64,
        answer: Option<Answer>,
    },
    /// Which channels does the receiving core know?
    Channels {
        key: u64,
        question: Arc<ChannelQuestion>,
    },
    /// The answer to `Channels`.
    ChannelsListed { key: u64, list: Box<ShardList> },
    /// A channel of the receiving core's log is to be created, deleted or emptied.
    Change { key: u64, work: Box<ChangeWork> },
    /// The answer to `Change`.
    Changed {
        key: u64,
        outcome: Result<u64, Box<StoreFailure>>,
    },
    /// What went over a channel that was deleted is forgotten.
    ForgetTraffic { kind: Kind, channel: Box<str> },
    /// Does a receiver of the receiving core live?
    Probe { key: u64, question: u64 },
    /// The answer to `Probe`.
    Probed { question: u64, alive: bool },
    /// What a consumer of the sending core says to a log of the receiving shard.
    Consumer { log: u16, key: u64, said: Said },
    /// Moves into queues of the receiving shard, by slot, are over: their ids can be forgotten.
    MovesOver { ids: Vec<(SlotId, MoveId)> },
    /// Moves out of queues of the receiving shard have arrived in these slots: are they over?
    MovesAsked { ids: Vec<(SlotId, MoveId)> },
    /// What a consumer of the receiving core is told.
    ConsumerEvent { key: u64, event: Box<ConsumerEvent> },
    /// About a tap: of a viewer of the sending core, or of the receiving one.
    Tap { key: u64, said: Box<TapNote> },
}

impl Work {
    /// Bytes that this message holds on to, for the lane's bound.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Publish { frame, .. } | Self::Deliver { frame, .. } => frame.len(),
            Self::Request(request) => request.frame.len(),
            Self::Store(work) => work.data.len(),
        }
    }
}
