//! The state of one slot: what its applied records say, and nothing else.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use ringmq_storage::record::queue::MoveId;
use ringmq_storage::{ChannelId, ChannelKey, CursorId, FrameIndex, Sequence, SlotId};

use crate::engine::queues::QueueState;
use crate::engine::runs::count;

/// What a stored channel is for. The numbers are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StoredKind {
    /// Replayed from a position by any number of subscribers.
    EventsStore = 1,
    /// Stored until consumed.
    Queue = 2,
    /// Events: not stored. A channel that an operator has created is listed until it is deleted.
    Events = 3,
    /// Commands; as events.
    Commands = 4,
    /// Queries; as events.
    Queries = 5,
}

impl StoredKind {
    pub(super) const COUNT: usize = 5;

    /// Whether its channels have messages; those of the others are names in a register.
    #[must_use]
    pub const fn has_messages(self) -> bool {
        matches!(self, Self::EventsStore | Self::Queue)
    }

    /// Reads a number of the log.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::EventsStore),
            2 => Some(Self::Queue),
            3 => Some(Self::Events),
            4 => Some(Self::Commands),
            5 => Some(Self::Queries),
            _ => None,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::EventsStore => 0,
            Self::Queue => 1,
            Self::Events => 2,
            Self::Commands => 3,
            Self::Queries => 4,
        }
    }
}

/// Whose a durable position is: the name spaces of clients and of groups are apart. The numbers
/// are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CursorOwner {
    /// A client, by its id.
    Client = 1,
    /// A consumer group, by its name.
    Group = 2,
}

impl CursorOwner {
    /// Reads a number of the log.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Client),
            2 => Some(Self::Group),
            _ => None,
        }
    }
}

/// A stored channel. Its number in [`ChannelKey`](ringmq_storage::ChannelKey) is its incarnation:
/// a channel of the same name that comes after its deletion has another.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What it is for.
    pub kind: StoredKind,
    /// Its name.
    pub name: Arc<str>,
    /// The first message that is kept; the one behind `last` when none is. Of a queue: none before
    /// it has a body that is needed.
    pub first: Sequence,
    /// The last message that was stored, kept or not; 0 when there was none.
    pub last: Sequence,
    /// When the last message was stored; 0 when there was none.
    pub last_timestamp_ns: u64,
    /// When it was created.
    pub created_ns: u64,
    /// When a message came, was settled or counted, or a position was created, moved or deleted.
    pub last_active_ns: u64,
    /// What is more to be said of a queue; `None` for all other kinds.
    pub(super) queue: Option<Box<QueueState>>,
    /// Its positions, by owner and name.
    pub(super) cursors: Vec<CursorId>,
    /// Where its last effect was put; no part of the state.
    pub(super) effect_place: u32,
}

impl Channel {
    /// Messages that are kept.
    #[must_use]
    pub fn messages(&self) -> u64 {
        match &self.queue {
            Some(queue) => queue.len(),
            None => count(self.first, self.last),
        }
    }

    /// The state of a queue; `None` for all other kinds.
    #[must_use]
    pub fn queue(&self) -> Option<&QueueState> {
        self.queue.as_deref()
    }

    /// Durable positions.
    #[must_use]
    pub const fn cursor_count(&self) -> usize {
        self.cursors.len()
    }
}

/// A durable position in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The channel.
    pub channel: ChannelId,
    /// Whose it is.
    pub owner: CursorOwner,
    /// The owner's name.
    pub name: Box<str>,
    /// The last message that counts as delivered.
    pub position: Sequence,
    /// When it was created or last moved.
    pub last_active_ns: u64,
}

/// Clients choose the names: the hash is seeded, so that nobody can choose names that collide.
/// Nothing depends on the order of the table.
type Names = HashMap<Arc<str>, ChannelId, RandomState>;

/// The state of one slot.
///
/// INVARIANT: it is a function of the frames that were applied, in order; changed by `apply` only.
#[derive(Debug)]
pub(super) struct State {
    pub(super) slot: SlotId,
    pub(super) applied: FrameIndex,
    pub(super) last_timestamp_ns: u64,
    pub(super) next_channel: ChannelId,
    pub(super) next_cursor: CursorId,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) cursors: BTreeMap<CursorId, Cursor>,
    /// Moves into queues of this slot that are not over where they began.
    pub(super) arrived: BTreeSet<MoveId>,
    /// Channels without messages.
    registered: usize,
    /// Frames before those that are applied now were lost; never when live, no part of the state.
    pub(super) has_gap: bool,
    names: [Names; StoredKind::COUNT],
}

impl State {
    pub(super) fn new(slot: SlotId) -> Self {
        Self {
            slot,
            applied: FrameIndex::new(0),
            last_timestamp_ns: 0,
            next_channel: ChannelId::new(1),
            next_cursor: CursorId::new(1),
            channels: BTreeMap::new(),
            cursors: BTreeMap::new(),
            arrived: BTreeSet::new(),
            registered: 0,
            has_gap: false,
            names: Default::default(),
        }
    }

    pub(super) fn keyed_channels(&self) -> impl Iterator<Item = (ChannelKey, &Channel)> {
        let slot = self.slot;
        let key = move |channel: ChannelId| ChannelKey { slot, channel };
        self.channels
            .iter()
            .map(move |(id, channel)| (key(*id), channel))
    }

    fn names(&self, kind: StoredKind) -> Option<&Names> {
        self.names.get(kind.index())
    }

    pub(super) fn find(&self, kind: StoredKind, name: &str) -> Option<ChannelId> {
        self.names(kind)?.get(name).copied()
    }

    /// Whether there is a channel of a kind.
    pub(super) fn has_kind(&self, kind: StoredKind) -> bool {
        self.names(kind).is_some_and(|names| !names.is_empty())
    }

    /// Channels that have messages.
    pub(super) fn stored_count(&self) -> usize {
        self.channels.len() - self.registered
    }

    /// Takes a channel in. `false` when its number or its name is taken; nothing changes then.
    pub(super) fn insert_channel(&mut self, id: ChannelId, channel: Channel) -> bool {
        let taken = self.channels.contains_key(&id);
        let Some(names) = self.names.get_mut(channel.kind.index()) else {
            return false;
        };
        if taken || names.contains_key(&channel.name) {
            return false;
        }
        names.insert(channel.name.clone(), id);
        self.registered += usize::from(!channel.kind.has_messages());
        self.channels.insert(id, channel);
        true
    }

    /// Takes a channel out with its positions. `false` when it is not there.
    pub(super) fn remove_channel(&mut self, id: ChannelId) -> bool {
        let Some(channel) = self.channels.remove(&id) else {
            return false;
        };
        self.registered -= usize::from(!channel.kind.has_messages());
        if let Some(names) = self.names.get_mut(channel.kind.index()) {
            let removed = names.remove(&channel.name);
            debug_assert_eq!(removed, Some(id));
        }
        for cursor in &channel.cursors {
            let removed = self.cursors.remove(cursor);
            debug_assert!(removed.is_some());
        }
        true
    }

    /// Where a position is among its channel's, or where it would be.
    fn cursor_place(
        &self,
        channel: &Channel,
        owner: CursorOwner,
        name: &str,
    ) -> Result<usize, usize> {
        channel.cursors.binary_search_by(|id| {
            self.cursors.get(id).map_or(Ordering::Less, |cursor| {
                (cursor.owner, &*cursor.name).cmp(&(owner, name))
            })
        })
    }

    pub(super) fn find_cursor(
        &self,
        channel: ChannelId,
        owner: CursorOwner,
        name: &str,
    ) -> Option<CursorId> {
        let channel = self.channels.get(&channel)?;
        let place = self.cursor_place(channel, owner, name).ok()?;
        channel.cursors.get(place).copied()
    }

    /// Takes a position in. `false` when its number or its name is taken, or its channel is not
    /// there; nothing changes then.
    pub(super) fn insert_cursor(&mut self, id: CursorId, cursor: Cursor) -> bool {
        let Some(channel) = self.channels.get(&cursor.channel) else {
            return false;
        };
        let place = self.cursor_place(channel, cursor.owner, &cursor.name);
        let Err(place) = place else { return false };
        if self.cursors.contains_key(&id) {
            return false;
        }
        if let Some(channel) = self.channels.get_mut(&cursor.channel) {
            channel.cursors.insert(place, id);
        }
        self.cursors.insert(id, cursor);
        true
    }

    /// Takes a position out and returns it.
    pub(super) fn remove_cursor(&mut self, id: CursorId) -> Option<Cursor> {
        let cursor = self.cursors.get(&id)?;
        let channel = self.channels.get(&cursor.channel)?;
        let place = self
            .cursor_place(channel, cursor.owner, &cursor.name)
            .ok()?;
        let cursor = self.cursors.remove(&id)?;
        if let Some(channel) = self.channels.get_mut(&cursor.channel) {
            channel.cursors.remove(place);
        }
        Some(cursor)
    }
}
