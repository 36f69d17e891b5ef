//! The live receivers of stored channels: who gets which messages next.
//!
//! A *feed* is one durable position with the receivers behind it: a client on its own, or the
//! members of a group, which share what comes. The shard asks for a turn, reads that range from
//! its log and says what became of it:
//!
//! ```text
//!   grant, stored, resume                          ┌─► sent ───► confirmed ─► take_moves
//!            │                                     │    (in flight)   (cursor records)
//!            ▼                  next               ├─► caught_up   idle until `stored`
//!   ready feeds, in rotation ────────► one turn ───┼─► parked      nobody reads until `resume`
//!            ▲                                     └─► skipped     damaged: counts as delivered
//!            └── a member left: its chunks go to the others first
//! ```
//!
//! Rules:
//! - The position of a feed is its contiguous *floor*: the highest sequence with everything up to
//!   it confirmed or gone. It never passes a message that is in flight or waits for redelivery.
//! - A receiver on its own gets ascending sequences. Within one life, a receiver gets no message
//!   twice.
//! - Members of a group take turns. What a member had not confirmed when it left goes to the
//!   others before anything new; with nobody left it waits for the next member.
//! - The feed of a position whose receivers have left is remembered for a while (see
//!   [`RETIRED_FEEDS_MAX`]), so that one who returns at once finds what the cursor records are
//!   still on their way to say.
//!
//! Feeds that have read everything cost nothing until their channel grows; each turn costs O(1),
//! amortised.

mod channel;
mod feed;
mod life;
#[cfg(test)]
mod model;
mod outstanding;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::mem;

use foldhash::fast::RandomState;
use ringmq_storage::{ChannelKey, CursorId, Sequence};

use self::channel::Channel;
use self::feed::{Feed, Receiver, Standing};
use self::turn::OpenTurn;
use super::arena::{Arena, Key};

/// The most bytes one turn of a receiver on its own covers.
pub const TURN_BYTES_MAX: usize = 64 * 1024;

/// The most bytes one turn of a group's member covers. Small, so that the members get even shares
/// also when a lot waits.
pub const GROUP_TURN_BYTES_MAX: usize = 16 * 1024;

/// The most messages one turn of a group's member covers.
pub const GROUP_TURN_MESSAGES_MAX: u64 = 64;

/// Feeds without a receiver that are remembered; beyond, the one that retired first is forgotten.
/// Who returns after that reads on behind its durable position: nothing is lost, but what was
/// confirmed without its cursor record being applied, or above a gap, comes again.
pub const RETIRED_FEEDS_MAX: usize = 4096;

/// Where a receiver is: its core and its key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The core that holds the receiver's connection.
    pub core: u16,
    /// The receiver's key on that core.
    pub key: u64,
}

/// Names one live receiver; goes stale when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverKey(Key);

/// The number of a chunk among those of its receiver, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl Mark {
    /// Wraps the number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A subscription that becomes live.
#[derive(Clone, Copy, Debug)]
pub struct NewReceiver<'a> {
    /// The channel.
    pub channel: ChannelKey,
    /// The client id: at most one live receiver of a channel has it.
    pub client: &'a str,
    /// The group, or empty for a receiver on its own.
    pub group: &'a str,
    /// The durable position: of the client, or of the group.
    pub cursor: CursorId,
    /// Where that stands: everything up to here is confirmed.
    pub position: Sequence,
    /// The channel's last sequence that can be read.
    pub last: Sequence,
    /// Where the receiver is.
    pub address: Address,
}

/// One receiver's turn: read `from..=upto`, at most `bytes_max` bytes or one message, and say what
/// became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who is to get it.
    pub receiver: ReceiverKey,
    /// Where that is.
    pub address: Address,
    /// The channel to read.
    pub channel: ChannelKey,
    /// The first sequence; if it is gone, the first one behind it that is not.
    pub from: Sequence,
    /// The last sequence; what lies behind is for somebody else, or not stored.
    pub upto: Sequence,
    /// Bytes as [`Feeds::sent`] will count them; never 0.
    pub bytes_max: usize,
}

/// How far a receiver is, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The channel.
    pub channel: ChannelKey,
    /// The client id.
    pub client: &'a str,
    /// The group, or empty.
    pub group: &'a str,
    /// The position of the client or group: everything up to here is confirmed or gone.
    pub position: Sequence,
    /// Messages of the channel behind that position, as the difference of sequences.
    pub lag: u64,
    /// Chunks that this receiver has not confirmed.
    pub chunks_in_flight: usize,
}

/// The live receivers of the stored channels of one log.
///
/// Owned by the shard that owns the log. With each feed it keeps a value `R` of the owner, such as
/// the place where the next read finds its data at once.
#[derive(Debug)]
pub struct Feeds<R = ()> {
    by_channel: HashMap<ChannelKey, u32, RandomState>,
    channels: Arena<Channel>,
    feeds: Arena<Feed<R>>,
    receivers: Arena<Receiver>,
    /// Feeds whose standing is [`Standing::Ready`], once each.
    ready: VecDeque<u32>,
    turn: Option<OpenTurn>,
    /// Feeds whose floor may have passed what was reported, once each.
    moved: Vec<u32>,
    /// Moves of feeds that have been forgotten.
    last_moves: Vec<(ChannelKey, CursorId, Sequence)>,
    /// Feeds that had no receiver when they were listed, once each.
    retired: VecDeque<u32>,
}

impl<R: Default> Default for Feeds<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Default> Feeds<R> {
    /// Makes the structure without receivers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_channel: HashMap::default(),
            channels: Arena::new(),
            feeds: Arena::new(),
            receivers: Arena::new(),
            ready: VecDeque::new(),
            turn: None,
            moved: Vec::new(),
            last_moves: Vec::new(),
            retired: VecDeque::new(),
        }
    }

    /// The number of live receivers of the channel.
    #[must_use]
    pub fn receivers(&self, channel: ChannelKey) -> usize {
        let channel = self.channel(channel);
        channel.map_or(0, |channel| channel.clients.len())
    }

    /// The number of live receivers of all channels.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.receivers.len()
    }

    /// Whether a live receiver reads behind this cursor.
    #[must_use]
    pub fn uses(&self, channel: ChannelKey, cursor: CursorId) -> bool {
        let channel = self.channel(channel);
        let feed = channel.and_then(|channel| self.feeds.at(*channel.feeds.get(&cursor)?));
        feed.is_some_and(|feed| feed.member_count > 0)
    }

    /// The live receiver with this client id on the channel, in whatever group.
    #[must_use]
    pub fn holder(&self, channel: ChannelKey, client: &str) -> Option<Address> {
        let key = self.channel(channel)?.clients.get(client)?;
        Some(self.receivers.get(*key)?.address)
    }

    /// Whether [`Feeds::next`] may have a turn.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How far a receiver is; `None` if it has been removed.
    #[must_use]
    pub fn progress(&self, ReceiverKey(key): ReceiverKey) -> Option<Progress<'_>> {
        let receiver = self.receivers.get(key)?;
        let feed = self.feeds.at(receiver.feed)?;
        let channel = self.channels.at(feed.channel)?;
        let position = feed.floor(channel.trimmed);
        Some(Progress {
            channel: channel.key,
            client: &receiver.client,
            group: feed.group.as_deref().unwrap_or_default(),
            position,
            lag: channel.last.get().saturating_sub(position.get()),
            chunks_in_flight: receiver.in_flight.len(),
        })
    }

    /// What the owner keeps with the receiver's feed: members of a group share it. `None` if the
    /// receiver has been removed.
    pub fn reader(&mut self, ReceiverKey(key): ReceiverKey) -> Option<&mut R> {
        let feed = self.receivers.get(key)?.feed;
        Some(&mut self.feeds.at_mut(feed)?.reader)
    }

    /// Gives a receiver credit: it may get so many bytes more. A stale key does nothing.
    pub fn grant(&mut self, ReceiverKey(key): ReceiverKey, bytes: u64) {
        let Some(receiver) = self.receivers.get_mut(key) else {
            return;
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        receiver.credit = receiver.credit.saturating_add(bytes);
        let feed = receiver.feed;
        self.rotate(key, false);
        self.settle(feed);
    }

    /// The channel has grown: everything up to `last` can be read.
    pub fn stored(&mut self, channel: ChannelKey, last: Sequence) {
        let Some(&index) = self.by_channel.get(&channel) else {
            return;
        };
        let channel = self.channels.at_mut(index).expect(LIVE_CHANNEL);
        if channel.last >= last {
            return;
        }
        channel.last = last;
        // The list is given back below: waking allocates nothing.
        let mut idle = mem::take(&mut channel.idle);
        for index in idle.drain(..) {
            let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
            debug_assert!(matches!(feed.standing, Standing::Idle { .. }));
            feed.standing = Standing::Ready;
            self.ready.push_back(index);
        }
        if let Some(channel) = self.channels.at_mut(index) {
            channel.idle = idle;
        }
    }

    /// The channel has shrunk: everything up to `through` is gone. Costs O(1); positions move up
    /// when they are next touched.
    pub fn trimmed(&mut self, channel: ChannelKey, through: Sequence) {
        let index = self.by_channel.get(&channel).copied();
        if let Some(channel) = index.and_then(|index| self.channels.at_mut(index)) {
            channel.trimmed = channel.trimmed.max(through);
        }
    }

    /// All chunks of the receiver up to this one have reached its client. A stale key does nothing.
    pub fn confirmed(&mut self, ReceiverKey(key): ReceiverKey, mark: Mark) {
        let Some(receiver) = self.receivers.get_mut(key) else {
            return;
        };
        debug_assert!(mark <= receiver.mark, "only what left can be confirmed");
        let index = receiver.feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        while let Some(chunk) = receiver
            .in_flight
            .front()
            .filter(|chunk| chunk.mark <= mark)
        {
            feed.outstanding.remove(chunk.first);
            receiver.in_flight.pop_front();
        }
        self.note_move(index);
    }

    /// Takes the positions that have moved since the last call, each once, with where it is now.
    pub fn take_moves(&mut self, into: &mut Vec<(ChannelKey, CursorId, Sequence)>) {
        into.append(&mut self.last_moves);
        for index in self.moved.drain(..) {
            let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
            feed.moved = false;
            let channel = self.channels.at(feed.channel).expect(LIVE_CHANNEL);
            let floor = feed.floor(channel.trimmed);
            if floor > feed.reported {
                feed.reported = floor;
                into.push((channel.key, feed.cursor, floor));
            }
        }
    }

    fn channel(&self, key: ChannelKey) -> Option<&Channel> {
        self.channels.at(*self.by_channel.get(&key)?)
    }

    /// Lists a feed whose floor has passed what was reported.
    fn note_move(&mut self, index: u32) {
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        let channel = self.channels.at(feed.channel).expect(LIVE_CHANNEL);
        if !feed.moved && feed.floor(channel.trimmed) > feed.reported {
            feed.moved = true;
            self.moved.push(index);
        }
    }

    /// Puts a receiver into the rotation of its feed if it has credit; in front if it was in turn
    /// and got nothing.
    fn rotate(&mut self, key: Key, in_front: bool) {
        let receiver = self.receivers.get_mut(key).expect(LIVE_RECEIVER);
        if receiver.in_rotation || receiver.credit <= 0 {
            return;
        }
        let in_turn = self.turn.is_some_and(|turn| turn.receiver == key);
        if in_turn {
            return;
        }
        receiver.in_rotation = true;
        let feed = self.feeds.at_mut(receiver.feed).expect(LIVE_FEED);
        if in_front {
            feed.rotation.push_front(key);
        } else {
            feed.rotation.push_back(key);
        }
    }

    /// Moves a feed to where it should stand.
    fn settle(&mut self, index: u32) {
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        let channel = self.channels.at_mut(feed.channel).expect(LIVE_CHANNEL);
        feed.skip_trimmed(channel.trimmed);
        let due = feed.due(channel.last);
        match (feed.standing, due) {
            // It stays in the queue; `next` passes over it if that is still so.
            (Standing::Ready, _) | (Standing::Resting, Standing::Resting) => return,
            (Standing::Idle { .. }, Standing::Idle { .. }) => return,
            (Standing::Idle { at }, _) => {
                feed.standing = due;
                channel.idle.swap_remove(at);
                let displaced = channel.idle.get(at).copied();
                if let Some(displaced) = displaced.and_then(|index| self.feeds.at_mut(index)) {
                    displaced.standing = Standing::Idle { at };
                }
            }
            (Standing::Resting, Standing::Idle { .. }) => {
                let at = channel.idle.len();
                feed.standing = Standing::Idle { at };
                channel.idle.push(index);
            }
            (Standing::Resting, Standing::Ready) => feed.standing = due,
        }
        if due == Standing::Ready {
            self.ready.push_back(index);
        }
    }
}

const LIVE_CHANNEL: &str = "a feed's channel lives";
const LIVE_FEED: &str = "a listed feed lives";
const LIVE_RECEIVER: &str = "a listed receiver lives";
