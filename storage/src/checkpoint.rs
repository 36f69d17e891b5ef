//! Checkpoints: the state of a log's slots at one place of it, so that recovery reads the tail
//! and not the history.
//!
//! ```text
//! header   0 [u8; 8]  magic `RMQCKP1\0`          56 u64 length of the file
//!          8 u32      format version             64 u32 section count
//!         12 u16      log                        68 u32 segment count
//!         14 u16      reserved, 0                72 u32 channel count
//!         16 [u8; 16] store                      76 u32 key count
//!         32 u64      number                     80 u32 checksum of all that follows the header
//!         40 u64      position                   84 u32 checksum of the header before this field
//!         48 u64      synced-through position
//! section  0 u16      slot                       24 u64 last timestamp, ns since 1970
//!          2 u16      reserved, 0                32 u64 floor
//!          4 u32      checksum of the state      40 u64 void position
//!          8 u64      applied index              48 u64 length of the state
//!         16 u64      applied term               56    the state, padded to a multiple of 8
//! segment  0 u32      segment                     8 u32 length of the file
//!          4 u32      generation                 12 u32 reserved, 0
//! channel  0 u16      slot                        8 u64 first sequence that is kept
//!          2 u16      reserved, 0                16 u64 last sequence
//!          4 u32      channel
//! key      0 u32      segment                     8 [u8; 32] the data key of the segment
//!          4 u32      generation
//! ```
//!
//! That is what a plain file holds, and what is encrypted in an encrypted one: see `encrypted`.
//! There are keys in the latter only.
//!
//! All checksums are CRC-32, unseeded. The state of a slot is opaque here: the engine makes it,
//! the same bytes on every replica at one index.

mod encrypted;

use crate::cipher::DataKey;
use crate::codec::{BadFile, Fields, close_header, open_header, pad};
use crate::id::{ChannelId, ChannelKey, FrameIndex, Generation, Position, SegmentId};
use crate::id::{Sequence, Term};
use crate::manifest::FORMAT_VERSION;
use crate::{SlotId, StoreId};

const MAGIC: &[u8; 8] = b"RMQCKP1\0";
const HEADER_BYTES: usize = 88;
const SECTION_HEADER_BYTES: usize = 56;
const SEGMENT_ENTRY_BYTES: usize = 16;
const FLOOR_BYTES: usize = 24;
const KEY_ENTRY_BYTES: usize = 40;

/// Why the bytes of a file are no checkpoint that can be used.
pub type BadCheckpoint = BadFile;

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The store.
    pub store: StoreId,
    /// The log.
    pub log: u16,
    /// Number of the checkpoint in its log, from 1.
    pub number: u64,
    /// Where recovery goes on: every frame before this place has been applied, or does not count.
    pub position: Position,
    /// Everything before this place was synced when the checkpoint was made; not before
    /// `position`.
    pub synced_through: Position,
    /// The slots of the log.
    pub sections: Vec<Section>,
    /// The segments that the log consisted of, oldest first.
    pub segments: Vec<SegmentEntry>,
    /// The first message that is kept of every channel with messages in these segments: the
    /// indexes of sealed segments are not written anew when a channel is trimmed.
    pub floors: Vec<ChannelFloor>,
}

/// The state of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The slot.
    pub slot: SlotId,
    /// Last frame whose effects are in the state.
    pub applied: FrameIndex,
    /// Term of that frame.
    pub term: Term,
    /// Timestamp of that frame's last record, in nanoseconds since 1970-01-01 UTC.
    pub last_timestamp_ns: u64,
    /// Last frame that no reader needs any more; not above `applied`.
    pub floor: FrameIndex,
    /// Frames of the slot before this place do not count (rule L4 of `docs/replication.md`).
    pub void: Position,
    /// The state, as the engine wrote it.
    pub logical: Vec<u8>,
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The segment.
    pub segment: SegmentId,
    /// Generation of its file.
    pub generation: Generation,
    /// Length of the file in bytes.
    pub len: u32,
    /// The key of an encrypted segment: the copy in its preamble may be damaged, and all of the
    /// segment with it. Only an encrypted checkpoint has it.
    pub key: Option<DataKey>,
}

/// What is left of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelFloor {
    /// The channel.
    pub key: ChannelKey,
    /// The first message that is kept; behind `last` when none is.
    pub first: Sequence,
    /// The last message, kept or not. The log knows by it what it has lost when a segment is
    /// damaged.
    pub last: Sequence,
}

impl Checkpoint {
    /// The whole file, plain. Without the keys, the caller has removed them; or to be encrypted.
    ///
    /// # Panics
    /// With more than 4 billion sections, segments or channels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_len());
        for section in &self.sections {
            section.encode(&mut body);
        }
        for entry in &self.segments {
            body.extend_from_slice(&entry.segment.get().to_le_bytes());
            body.extend_from_slice(&entry.generation.get().to_le_bytes());
            body.extend_from_slice(&u64::from(entry.len).to_le_bytes());
        }
        for floor in &self.floors {
            body.extend_from_slice(&u32::from(floor.key.slot.index()).to_le_bytes());
            body.extend_from_slice(&floor.key.channel.get().to_le_bytes());
            body.extend_from_slice(&floor.first.get().to_le_bytes());
            body.extend_from_slice(&floor.last.get().to_le_bytes());
        }
        for entry in &self.segments {
            if let Some(key) = &entry.key {
                body.extend_from_slice(&entry.segment.get().to_le_bytes());
                body.extend_from_slice(&entry.generation.get().to_le_bytes());
                body.extend_from_slice(key.bytes());
            }
        }
        debug_assert_eq!(body.len(), self.body_len());
        let count = |len: usize| u32::try_from(len).expect("a log has few slots and segments");
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&u32::from(self.log).to_le_bytes());
        out.extend_from_slice(self.store.as_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.position.to_u64().to_le_bytes());
        out.extend_from_slice(&self.synced_through.to_u64().to_le_bytes());
        let len = u64::try_from(HEADER_BYTES + body.len()).unwrap_or(u64::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&count(self.sections.len()).to_le_bytes());
        out.extend_from_slice(&count(self.segments.len()).to_le_bytes());
        out.extend_from_slice(&count(self.floors.len()).to_le_bytes());
        out.extend_from_slice(&count(self.key_count()).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        close_header(&mut out, 0);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out.append(&mut body);
        out
    }

    fn body_len(&self) -> usize {
        let sections = self.sections.iter();
        let states = sections.map(|section| section.logical.len().next_multiple_of(8));
        self.sections.len() * SECTION_HEADER_BYTES
            + states.sum::<usize>()
            + self.segments.len() * SEGMENT_ENTRY_BYTES
            + self.floors.len() * FLOOR_BYTES
            + self.key_count() * KEY_ENTRY_BYTES
    }

    fn key_count(&self) -> usize {
        let keys = self.segments.iter().filter(|entry| entry.key.is_some());
        keys.count()
    }

    /// Reads a plain file. It is taken whole or not at all.
    ///
    /// The caller has to compare store and log with [`check`](Self::check).
    ///
    /// # Errors
    /// [`BadCheckpoint`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadCheckpoint> {
        let mut fields = open_header(bytes, HEADER_BYTES, MAGIC)?;
        let head = Head::read(&mut fields).ok_or(BadFile::Field("a reserved field is not 0"))?;
        if u64::try_from(bytes.len()) != Ok(head.file_len) {
            return Err(BadFile::Short);
        }
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if crc32fast::hash(body) != head.body_checksum {
            return Err(BadFile::Checksum);
        }
        let mut checkpoint = head.checkpoint;
        let mut fields = Fields::new(body);
        // Nothing is reserved by the counts: each entry has to be there before it takes memory.
        for _ in 0..head.section_count {
            checkpoint.sections.push(Section::read(&mut fields)?);
        }
        for _ in 0..head.segment_count {
            let entry = SegmentEntry::read(&mut fields);
            checkpoint
                .segments
                .push(entry.ok_or(BadFile::Field("an entry of the segments is none"))?);
        }
        for _ in 0..head.floor_count {
            let floor = ChannelFloor::read(&mut fields);
            checkpoint
                .floors
                .push(floor.ok_or(BadFile::Field("an entry of the channels is none"))?);
        }
        for _ in 0..head.key_count {
            let key = checkpoint.read_key(&mut fields);
            key.ok_or(BadFile::Field("a key is of no segment"))?;
        }
        if !fields.rest().is_empty() {
            return Err(BadFile::Field("it goes on behind its end"));
        }
        if checkpoint.synced_through < checkpoint.position {
            return Err(BadFile::Field("its position was not synced"));
        }
        Ok(checkpoint)
    }

    fn read_key(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let (segment, generation) = (fields.u32()?, fields.u32()?);
        let key = DataKey::from_bytes(fields.array()?);
        let (segment, generation) = (SegmentId::new(segment), Generation::new(generation));
        let at = self
            .segments
            .binary_search_by_key(&segment, |entry| entry.segment);
        let entry = self.segments.get_mut(at.ok()?);
        let entry = entry.filter(|entry| entry.generation == generation && entry.key.is_none());
        entry?.key = Some(key);
        Some(())
    }

    /// Checks that the file is the one that it is taken for.
    ///
    /// # Errors
    /// [`BadFile::OtherStore`] and [`BadFile::OtherPlace`].
    pub fn check(&self, store: StoreId, log: u16) -> Result<(), BadCheckpoint> {
        if self.store != store {
            return Err(BadFile::OtherStore { found: self.store });
        }
        if self.log != log {
            return Err(BadFile::OtherPlace("another log"));
        }
        Ok(())
    }
}

/// The header, with an empty checkpoint to be filled.
struct Head {
    checkpoint: Checkpoint,
    section_count: u32,
    segment_count: u32,
    floor_count: u32,
    key_count: u32,
    file_len: u64,
    body_checksum: u32,
}

impl Head {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let log = fields.u16()?;
        fields.reserved::<2>()?;
        let checkpoint = Checkpoint {
            store: StoreId::from_bytes(fields.array()?),
            log,
            number: fields.u64()?,
            position: Position::from_u64(fields.u64()?),
            synced_through: Position::from_u64(fields.u64()?),
            sections: Vec::new(),
            segments: Vec::new(),
            floors: Vec::new(),
        };
        let file_len = fields.u64()?;
        let section_count = fields.u32()?;
        let segment_count = fields.u32()?;
        let floor_count = fields.u32()?;
        let key_count = fields.u32()?;
        Some(Self {
            checkpoint,
            section_count,
            segment_count,
            floor_count,
            key_count,
            file_len,
            body_checksum: fields.u32()?,
        })
    }
}

impl Section {
    fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.floor <= self.applied, "what is needless was applied");
        out.extend_from_slice(&u32::from(self.slot.index()).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&self.logical).to_le_bytes());
        let numbers = [
            self.applied.get(),
            self.term.get(),
            self.last_timestamp_ns,
            self.floor.get(),
            self.void.to_u64(),
            u64::try_from(self.logical.len()).unwrap_or(u64::MAX),
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.logical);
        pad(out);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, BadFile> {
        let bad = BadFile::Field("a section is none");
        let slot = fields.u16().and_then(SlotId::new).ok_or(bad)?;
        fields.reserved::<2>().ok_or(bad)?;
        let checksum = fields.u32().ok_or(bad)?;
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = fields.u64().ok_or(bad)?;
        }
        let [applied, term, last_timestamp_ns, floor, void, len] = numbers;
        let logical = fields.take_padded(len).ok_or(bad)?;
        if crc32fast::hash(logical) != checksum {
            return Err(BadFile::Checksum);
        }
        if floor > applied {
            return Err(BadFile::Field("the floor of a section is above its index"));
        }
        Ok(Self {
            slot,
            applied: FrameIndex::new(applied),
            term: Term::new(term),
            last_timestamp_ns,
            floor: FrameIndex::new(floor),
            void: Position::from_u64(void),
            logical: logical.to_vec(),
        })
    }
}

impl SegmentEntry {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let entry = Self {
            segment: SegmentId::new(fields.u32()?),
            generation: Generation::new(fields.u32()?),
            len: fields.u32()?,
            key: None,
        };
        fields.reserved::<4>()?;
        Some(entry)
    }
}

impl ChannelFloor {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let slot = fields.u16().and_then(SlotId::new)?;
        fields.reserved::<2>()?;
        let channel = ChannelId::new(fields.u32()?);
        Some(Self {
            key: ChannelKey { slot, channel },
            first: Sequence::new(fields.u64()?),
            last: Sequence::new(fields.u64()?),
        })
    }
}
