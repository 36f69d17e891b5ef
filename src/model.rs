//! The broker's words: names, numbers, kinds. Nothing here knows a protocol.
//!
//! The types are plain values that cross modules and cores; those with rules are made by a
//! fallible check in [`name`].

pub mod calendar;
pub mod identity;
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
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
}
