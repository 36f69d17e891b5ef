//! The log of a shard: segments, group commits, the index, checkpoints, recovery.
//!
//! One log holds the records of its slots in the order in which they were appended. It does no
//! I/O of its own on the way of a message: it gathers records into a [`Batch`], which the caller
//! writes and syncs, and is told about ([`Log::written`], [`Log::synced`], [`Log::commit`]).
//! Whatever else may block is a [`Job`] or a [`Warm`], values that run on another thread and come
//! back as values. So a log is a state machine, and tests can stop it anywhere.
//!
//! ```text
//! append ─► gather ─► Batch ─► (written) ─► (synced) ─► commit ─► index, Apply
//!                                                          │
//!                          read ◄── mapping of the segment ┘
//! ```
//!
//! What counts is what was committed: the state of the slots and the index change by
//! [`Log::commit`] alone, in recovery as in life, by the same frames in the same order.
//!
//! Owner: one executor. A log is `Send` and may be opened on another thread before.

mod append;
mod carry;
mod checkpoints;
mod commit;
mod decrypted;
mod gather;
mod index;
mod jobs;
mod keeps;
mod options;
mod read;
mod reclaim;
mod recover;
mod segments;
mod slots;
mod walk;
mod warm;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use self::carry::{Carry, Look};
pub use self::checkpoints::CheckpointBuilder;
pub use self::gather::Batch;
pub use self::index::{Depth, Usage};
pub use self::jobs::{Done, Job, JobOutcome};
pub use self::keeps::{KeepAll, Keeps, Live};
pub use self::options::{Mutations, Options};
pub use self::read::{ReadCursor, ReadEnd, Seek, Stored};
pub use self::recover::{DamagedRange, Opened, RecoveryReport};
pub use self::warm::{Warm, Warmed};

use self::carry::{Carrying, Looks};
use self::decrypted::Decrypted;
use self::gather::Gather;
use self::index::Index;
use self::jobs::Jobs;
use self::segments::Segments;
use self::slots::SlotTable;
use crate::checkpoint::Section;
use crate::cipher::{KeyId, KeyMaker};
use crate::frame::{Frame, Seed};
use crate::id::{ChannelKey, FrameIndex, Generation, Position, SegmentId, Sequence};
use crate::record::RecordHead;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::{SlotId, StoreId};

/// Where the first frame of a segment lies, its preamble.
const FIRST_FRAME: u32 = 64;
const _: () = assert!(SEGMENT_HEADER_BYTES == 64);

/// The state that the records of a log make. Changed by nothing else, live and in recovery.
pub trait Apply {
    /// Takes the state of a slot from a checkpoint. Called once for a slot, before its frames.
    ///
    /// # Errors
    /// [`Divergence`] when the section makes no sense.
    fn restore(&mut self, section: &Section) -> Result<(), Divergence>;

    /// Applies the next frame of a slot.
    ///
    /// # Errors
    /// [`Divergence`] when the frame does not follow from the state, or cannot be understood.
    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Divergence>;

    /// The frames of a slot behind the last one that was applied, up to and including `through`,
    /// lie in a damaged range that is reported. The next frame follows them. Called in recovery
    /// only; a state that does nothing here refuses that frame, and its slot is halted.
    fn lost(&mut self, slot: SlotId, through: FrameIndex) {
        let _nothing_can_follow = (slot, through);
    }
}

/// A slot whose records contradict its state. It takes no further part; nothing is skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {index} of slot {slot} does not follow: {reason}")]
pub struct Divergence {
    /// The slot.
    pub slot: SlotId,
    /// The frame.
    pub index: FrameIndex,
    /// What does not fit.
    pub reason: String,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A message of a client.
    Message,
    /// A record of the broker itself: it may use the reserve, and more may gather.
    System,
}

/// Why nothing was appended. There was no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much gathers, or the next segment is being made: try again after the next commit or
    /// job.
    #[error("the log is busy")]
    Busy,
    /// There is no space for the next segment. It is looked for again from time to time.
    #[error("no space left for the log")]
    Full,
    /// No segment can hold the record.
    #[error("record of {len} bytes, the log takes up to {max}")]
    TooLarge {
        /// Bytes of the payload.
        len: u32,
        /// Most bytes of a payload.
        max: u32,
    },
    /// A write or a sync has failed: the log takes nothing more until the next start.
    #[error("the log has failed")]
    Poisoned,
}

/// Where records are appended: a [`Log`], or its double in a test.
pub trait Appender {
    /// Appends a record. `write` adds exactly `head.payload_len` bytes; it is called once, and
    /// not at all when the record is refused. The log fills in the head's time delta. Times of a
    /// slot never go back.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Panics
    /// When `write` adds another number of bytes.
    fn append(
        &mut self,
        slot: SlotId,
        timestamp_ns: u64,
        head: RecordHead,
        class: Class,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), Refused>;
}

/// Figures of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segments in use.
    pub segments: usize,
    /// Segments prepared.
    pub spares: usize,
    /// Bytes of the files of both.
    pub file_bytes: u64,
    /// Bytes of frames in the segments, live or not.
    pub used_bytes: u64,
    /// Bytes of the payloads of messages that are kept.
    pub live_bytes: u64,
    /// Channels with an index.
    pub channels: usize,
    /// Memory of the index, about.
    pub index_bytes: usize,
    /// Frames committed by this process.
    pub frames: u64,
    /// Bytes that cannot be read.
    pub damaged_bytes: u64,
    /// Whether the last segment could not be made for want of space.
    pub full: bool,
}

/// A log. See the module.
#[derive(Debug)]
pub struct Log {
    options: Options,
    slots: SlotTable,
    segments: Segments,
    gather: Gather,
    index: Index,
    jobs: Jobs,
    /// Largest record that a segment of full size takes, with its head.
    record_bytes_max: usize,
    written: Position,
    synced: Position,
    committed: Position,
    frames: u64,
    carrying: Option<Carrying>,
    looks: Looks,
    /// Makes the keys of what is written; `None` when that is plain.
    key_maker: Option<KeyMaker>,
    decrypted: Decrypted,
    poisoned: Option<String>,
}

impl Log {
    /// The place behind everything that was appended: a record that was appended before this call
    /// is committed when [`committed`](Self::committed) is not less.
    #[must_use]
    pub fn end(&self) -> Position {
        let filling = self.gather.filling.as_ref();
        let end = filling.map_or(self.committed, |filling| filling.end());
        end.max(self.committed)
    }

    /// Whether something waits for [`take_batch`](Self::take_batch).
    #[must_use]
    pub fn has_gathered(&self) -> bool {
        self.gather.bytes() > 0
    }

    /// Takes what has gathered, to be written. `None` when there is nothing, when the last batch
    /// is not written yet, or when the seal of the last segment is not synced yet (rule L6).
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.poisoned.is_some() {
            return None;
        }
        let ordered = !options::mutation!(self.options, roll_without_sync);
        let mut batch = self.gather.take(self.synced, ordered)?;
        if options::mutation!(self.options, unpadded) {
            batch.unpad();
        }
        Some(batch)
    }

    /// The batch that was taken is in the file.
    ///
    /// # Panics
    /// When `end` is not the end of the batch that was taken last.
    pub fn written(&mut self, end: Position) {
        self.gather.written(end);
        assert!(end > self.written, "batches are written in order");
        self.written = end;
    }

    /// Everything up to `end` was written before a sync that has succeeded.
    ///
    /// # Panics
    /// When that much was not written.
    pub fn synced(&mut self, end: Position) {
        assert!(end <= self.written, "only what is written can be synced");
        self.synced = self.synced.max(end);
    }

    /// What is written and not synced: the segment to sync, and what [`synced`](Self::synced) is
    /// told then. `None` once the log has failed.
    #[must_use]
    pub fn unsynced(&self) -> Option<(SegmentId, Position)> {
        // After a failed sync the next one says nothing about what the first was to make durable.
        if self.poisoned.is_some() || self.synced >= self.written {
            return None;
        }
        let at = self.written.segment();
        let begins = Position::new(at, FIRST_FRAME);
        let segment = if self.written == begins {
            SegmentId::new(at.get().saturating_sub(1))
        } else {
            at
        };
        Some((segment, self.written))
    }

    /// Ends all appending: a write or a sync has failed, and what the disk holds is in doubt
    /// (rule L16). What was committed can still be read.
    pub fn fail(&mut self, reason: String) {
        self.poisoned.get_or_insert(reason);
    }

    /// Why the log takes nothing more.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Everything before this place was committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// The file of a segment; `None` when the log has no such segment.
    #[must_use]
    pub fn segment_path(&self, segment: SegmentId) -> Option<PathBuf> {
        let known = self.segments.get(segment).is_some() || self.jobs.has_spare(segment);
        known.then(|| segments::segment_path(&self.options.directory, segment))
    }

    /// What a channel holds, from the index.
    #[must_use]
    pub fn usage(&self, key: ChannelKey) -> Usage {
        self.index.usage(key)
    }

    /// The last message of those that are surely older than `before_ns`, if there are any: as
    /// far as the index tells, which is to within [16 KiB of frames](self) and a millisecond.
    #[must_use]
    pub fn through_time(&self, key: ChannelKey, before_ns: u64) -> Option<Sequence> {
        self.index.through_time(key, before_ns)
    }

    /// How far a channel must be trimmed to hold at most `bytes_max` of payloads, as
    /// [`usage`](Self::usage) counts; `None` when it does.
    #[must_use]
    pub fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        self.index.through_bytes(key, bytes_max)
    }

    /// What the index tells of a channel and one of its messages, in one look.
    #[must_use]
    pub fn depth(&self, key: ChannelKey, sequence: Sequence) -> Depth {
        self.index.depth(key, sequence)
    }

    /// The master key of what is written.
    fn writing_key(&self) -> Option<KeyId> {
        self.key_maker.as_ref().map(KeyMaker::master)
    }

    fn seed(&self, segment: SegmentId, generation: Generation) -> Seed {
        seed(&self.options, segment, generation)
    }
}

/// What the headers of a segment's frames are seeded with.
fn seed(options: &Options, segment: SegmentId, generation: Generation) -> Seed {
    if options::mutation!(options, unseeded_header_checksum) {
        return Seed {
            store: StoreId::from_bytes([0; 16]),
            segment: SegmentId::default(),
            generation: Generation::default(),
        };
    }
    Seed {
        store: options.store,
        segment,
        generation,
    }
}

/// The place behind the seal of a segment: the first frame of the next.
const fn after_seal(segment: SegmentId) -> Position {
    Position::new(segment.next(), FIRST_FRAME)
}
