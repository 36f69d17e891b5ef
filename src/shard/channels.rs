//! Channels as operators see them: lists with statistics, creation, deletion.
//!
//! ```text
//!  core that is asked                      every core
//!  list_channels ────── Channels ────────► walks its logs and tables, a slice at a time
//!        ◄───────── ChannelsListed ──────── what it found, written already
//!  change_channel ───── Change ──────────► the shard that has the log: record, commit
//!        ◄────────────── Changed ─────────
//! ```
//!
//! Stored channels are known by their logs, which also keep what was created of the other kinds.
//! Of those the tables of this process know more: who is subscribed, and what went over a channel.

mod change;
mod chunked;
mod facts;
mod list;
mod pace;
mod survey;
mod top;
mod totals;
mod unstored;
mod walk;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Shard;
use super::keyed::Keyed;
use crate::engine::stored::StoredKind;
use crate::engine::traffic::{Traffic, TrafficKey, TrafficTable};
use crate::model::Kind;
use crate::rt::{self, Queue};

pub use change::ChannelChange;
pub use facts::PositionLag;
pub use survey::{Rank, Survey, SurveyQuestion, Surveyed};
pub use totals::{ChannelTotals, LATELY_MS};

pub(super) use change::ChangeWork;
pub(super) use list::ShardList;

/// Channels of each kind whose traffic is counted on one core.
const TRAFFIC_MAX: usize = 16_384;

/// How often the time of day is taken for what was counted: how exact the last activity is.
const COARSE_TICK: Duration = Duration::from_secs(1);

/// A channel over which something went within this time is active, also without subscribers.
const ACTIVE_MS: u64 = 60_000;

/// Lists that one core makes at a time.
const LISTS_MAX: usize = 8;

/// What is known of a channel at one moment. "In" is towards the broker, "out" is from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether somebody subscribes or polls, holds messages, or sent something in the last minute.
    pub active: bool,
    /// What went over it. Of stored events, `bytes_in` are those that are kept; the deliveries are
    /// those since the start. Of queues, "out" is what consumers have acknowledged.
    pub traffic: Traffic,
    /// Messages that are kept, in whatever state.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first message that is kept; 0 when none is.
    pub first: u64,
    /// The last message that was stored; 0 when there was none.
    pub last: u64,
    /// Messages that consumers have settled or hold, each counted once.
    pub delivered: u64,
    /// Messages that the next consumer may get.
    pub waiting: u64,
    /// Messages that become visible later.
    pub delayed: u64,
    /// Messages whose time was over.
    pub expired: u64,
    /// Receivers, or polls that wait. Of commands, queries and events: subscriptions by this name,
    /// those with wildcards not counted.
    pub consumers: u64,
    /// Messages that consumers have leased.
    pub in_flight: u64,
    /// Messages on their way to another queue.
    pub moving: u64,
    /// Messages that were received as often as they may, and had nowhere to go.
    pub dropped: u64,
    /// Messages that went to the queue of their dead letters.
    pub dead_lettered: u64,
    /// About when the first message that is kept was stored: milliseconds since 1970, 0 when none
    /// is. Only in a [`Survey`], as all that follows.
    pub oldest_ms: u64,
    /// Durable positions.
    pub positions: u64,
    /// Messages behind all of them together.
    pub lag: u64,
    /// Messages behind the one that is farthest behind.
    pub lag_max: u64,
    /// Bytes of payloads that the log keeps for it.
    pub log_bytes: u64,
    /// Bytes that the log's index of it takes in memory.
    pub index_bytes: u64,
}

/// Appends what is told of a channel.
pub type WriteChannel = fn(&ChannelFacts<'_>, &mut Vec<u8>);

/// Which channels are asked for.
#[derive(Clone, Debug)]
pub enum WhichChannels {
    /// All, or those whose names hold this text.
    Containing(Box<str>),
    /// These.
    Named(Vec<Box<str>>),
}

/// A question for the channels of one kind.
#[derive(Clone, Debug)]
pub struct ChannelQuestion {
    /// The kind.
    pub kind: Kind,
    /// Which of them.
    pub which: WhichChannels,
    /// How each is written.
    pub write: WriteChannel,
}

impl ChannelQuestion {
    fn wants(&self, name: &str) -> bool {
        match &self.which {
            WhichChannels::Containing(text) => text.is_empty() || name.contains(&**text),
            WhichChannels::Named(names) => names.iter().any(|wanted| **wanted == *name),
        }
    }
}

/// The answer: every channel as it was written, in no order, and the sums over all.
#[derive(Debug, Default)]
pub struct ChannelList {
    /// What was written; no channel is cut.
    pub parts: Vec<Bytes>,
    /// Channels.
    pub count: u64,
    /// The sum of what came in.
    pub messages_in: u64,
    /// The sum of what was delivered.
    pub delivered: u64,
    /// The sum of what waits.
    pub waiting: u64,
}

/// As many lists are being made as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many lists of channels are being made")]
pub struct ListsBusy;

/// The traffic of a kind without a log counted elsewhere, and of stored events.
#[derive(Debug)]
pub(super) struct Channels {
    tables: [RefCell<TrafficTable>; 4],
    /// Milliseconds since 1970, some time ago.
    coarse_ms: Cell<u64>,
    lists: RefCell<Keyed<Rc<list::Gathering>>>,
    /// Lists that this core makes for others and itself.
    lists_running: Cell<usize>,
    changes: RefCell<Keyed<Rc<change::Waiting>>>,
}

impl Default for Channels {
    fn default() -> Self {
        let table = || RefCell::new(TrafficTable::new(TRAFFIC_MAX));
        Self {
            tables: [table(), table(), table(), table()],
            coarse_ms: Cell::new(now_ms()),
            lists: RefCell::default(),
            lists_running: Cell::new(0),
            changes: RefCell::default(),
        }
    }
}

impl Channels {
    fn traffic(&self, kind: Kind) -> Option<&RefCell<TrafficTable>> {
        let index = match kind {
            Kind::Events => 0,
            Kind::Commands => 1,
            Kind::Queries => 2,
            Kind::EventsStore => 3,
            // Their logs count what there is to know.
            Kind::Queues => return None,
        };
        self.tables.get(index)
    }

    /// Milliseconds since 1970, at most [`COARSE_TICK`] ago.
    pub(super) fn coarse_ms(&self) -> u64 {
        self.coarse_ms.get()
    }

    /// Counts a message and its deliveries.
    pub(super) fn count_message(&self, kind: Kind, channel: &str, bytes: usize, deliveries: usize) {
        let Some(table) = self.traffic(kind) else {
            return;
        };
        let mut table = table.borrow_mut();
        let traffic = table.of(channel);
        let (bytes, deliveries) = (to_u64(bytes), to_u64(deliveries));
        traffic.messages_in += 1;
        traffic.bytes_in += bytes;
        traffic.messages_out += deliveries;
        traffic.bytes_out += bytes.saturating_mul(deliveries);
        traffic.last_ms = self.coarse_ms.get();
    }

    /// Counts stored events that went to a subscriber.
    pub(super) fn count_deliveries(&self, channel: &str, count: u64, bytes: usize) {
        if let Some(table) = self.traffic(Kind::EventsStore) {
            let mut table = table.borrow_mut();
            let traffic = table.of(channel);
            traffic.messages_out += count;
            traffic.bytes_out += to_u64(bytes);
            traffic.last_ms = self.coarse_ms.get();
        }
    }

    fn forget(&self, kind: Kind, channel: &str) {
        if let Some(table) = self.traffic(kind) {
            table.borrow_mut().forget(channel);
        }
    }
}

impl Shard {
    /// The counters of a channel of requests, to count its response by.
    pub(super) fn traffic_key(&self, kind: Kind, channel: &str) -> Option<TrafficKey> {
        let table = self.channels.traffic(kind)?;
        Some(table.borrow_mut().key(channel))
    }

    /// Counts a response that went to the one who had asked.
    pub(super) fn count_response(&self, kind: Kind, key: TrafficKey) {
        if let Some(table) = self.channels.traffic(kind)
            && let Some(traffic) = table.borrow_mut().get(key)
        {
            traffic.responses_in += 1;
            traffic.responses_out += 1;
            traffic.last_ms = self.channels.coarse_ms.get();
        }
    }

    /// Takes the time of day now and then, for ever.
    pub(super) fn keep_coarse_time(self: &Rc<Self>) {
        let shard = self.clone();
        rt::spawn(Queue::Background, "coarse time", async move {
            loop {
                rt::sleep(COARSE_TICK).await;
                shard.channels.coarse_ms.set(now_ms());
            }
        });
    }
}

/// The kind of a channel in the log.
pub(super) const fn stored_kind(kind: Kind) -> StoredKind {
    match kind {
        Kind::Events => StoredKind::Events,
        Kind::EventsStore => StoredKind::EventsStore,
        Kind::Queues => StoredKind::Queue,
        Kind::Commands => StoredKind::Commands,
        Kind::Queries => StoredKind::Queries,
    }
}

fn now_ms() -> u64 {
    u64::try_from(rt::unix_ns()).unwrap_or(0) / 1_000_000
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
