//! The numbers of the format: where things lie and how they are counted.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number behind this one; the largest stays.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a segment in its log: dense, from 1, never used again.
    SegmentId(u32)
}
number! {
    /// How often the file of a segment has been put to use, from 1.
    Generation(u32)
}
number! {
    /// Number of a channel in its slot, given by its logged creation, from 1. A channel that is
    /// deleted and created again is a new incarnation with a number of its own.
    ChannelId(u32)
}
number! {
    /// Number of a message in its channel, from 1; 0 stands before the first.
    Sequence(u64)
}
number! {
    /// Number of a frame in its slot, dense, from 1; 0 stands before the first.
    FrameIndex(u64)
}
number! {
    /// Term of the leader that made a frame; 1 on a single node.
    Term(u64)
}
number! {
    /// Number of a durable position in its slot, given by its logged creation, from 1.
    CursorId(u32)
}

/// A place in a log: a segment and a byte offset in it. Ordered as the log is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The place at `offset` bytes in `segment`.
    #[must_use]
    pub const fn new(segment: SegmentId, offset: u32) -> Self {
        Self(((segment.0 as u64) << 32) | offset as u64)
    }

    /// Reads the form that lies on disk.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The form that lies on disk: the segment in the upper half, the offset in the lower.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The segment.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of 64 bits")]
    pub const fn segment(self) -> SegmentId {
        SegmentId((self.0 >> 32) as u32)
    }

    /// The offset in the segment, in bytes.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the lower half, by the mask"
    )]
    pub const fn offset(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

/// A channel in its log: its slot and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The slot.
    pub slot: crate::SlotId,
    /// The channel's number in the slot.
    pub channel: ChannelId,
}
