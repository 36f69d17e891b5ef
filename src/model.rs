//! The broker's words: names, numbers, kinds. Nothing here knows a protocol.
//!
//! The types are plain values that cross modules and cores; those with rules are made by a
//! fallible check in [`name`].

pub mod name;

use std::fmt;

/// Number of an executor and of the state it owns, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// Wraps a shard's number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The number as an index into tables by shard.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The unit of placement: a channel belongs to a slot for as long as the store lives, a shard owns
/// a set of slots for as long as the broker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u16);

impl SlotId {
    /// Wraps a slot's number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The number as an index into tables by slot.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message's number in its channel: from 1, without gaps, never reused. 0 is "none": plain events
/// have no sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// No sequence.
    pub const NONE: Self = Self(0);

    /// The first sequence of every channel.
    pub const FIRST: Self = Self(1);

    /// Wraps a sequence's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The sequence after this one; `None` past the last of 2^64 - 1.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in wall-clock time: nanoseconds since 1970-01-01 UTC. Reaches to the year 2262.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_ns(self) -> i64 {
        self.0
    }

    /// This time plus `ns`; saturates at either end of time.
    #[must_use]
    pub const fn plus_ns(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

/// The kinds of channels. Each kind is a name space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Published, not stored, at most once.
    Events,
    /// Published and stored, replayed from a position.
    EventsStore,
    /// Stored until consumed.
    Queues,
    /// Asked for their execution, answered without a body.
    Commands,
    /// Asked for data, answered with a body, which may be remembered.
    Queries,
}

impl Kind {
    /// Every kind, in the order of their names' first appearance to users.
    pub const ALL: [Self; 5] = [
        Self::Events,
        Self::EventsStore,
        Self::Queues,
        Self::Commands,
        Self::Queries,
    ];

    /// The name that configuration, metrics and channel management use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::EventsStore => "events_store",
            Self::Queues => "queues",
            Self::Commands => "commands",
            Self::Queries => "queries",
        }
    }

    /// Reads a name as [`Kind::name`] writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a subscription may name a pattern with wildcards instead of one channel.
    #[must_use]
    pub const fn allows_wildcards(self) -> bool {
        matches!(self, Self::Events | Self::Commands | Self::Queries)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(kind.to_string(), kind.name());
        }
        assert_eq!(Kind::from_name("Events"), None);
    }

    #[test]
    fn sequences_start_at_one_and_end_without_wrapping() {
        assert_eq!(Sequence::NONE.next(), Some(Sequence::FIRST));
        assert_eq!(Sequence::new(u64::MAX).next(), None);
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Timestamp::from_ns(i64::MAX).plus_ns(1).as_ns(), i64::MAX);
        assert_eq!(Timestamp::from_ns(5).plus_ns(-7).as_ns(), -2);
    }
}
