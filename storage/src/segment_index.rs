//! The index of a sealed segment: where the messages of each channel lie in it, sparse. It saves
//! recovery the walk over the segment and holds nothing that the segment does not: a damaged one
//! is made anew.
//!
//! ```text
//! header   0 [u8; 8]  magic `RMQIDX1\0`          42 u16 slot count
//!          8 u32      format version             44 u32 block count
//!         12 u32      segment                    48 u64 length of the file
//!         16 [u8; 16] store                      56 u32 checksum of all that follows the header
//!         32 u32      generation                 60 u32 checksum of the header before this field
//!         36 u32      offset of the seal
//!         40 u16      log
//! slot     0 u16      slot                        8 u64 first index
//!          2 [u8; 6]  reserved, 0                16 u64 last index
//! block    0 u16      slot                       24 u64 time of the first message, ns since 1970
//!          2 u16      1: carried, else 0         32 u64 time of the last message
//!          4 u32      channel                    40 u64 bytes of the payloads
//!          8 u64      first sequence             48 u32 entry count
//!         16 u64      last sequence              52 u32 reserved, 0
//!                                                56    the entries
//! entry    0 u32      sequence delta              8 u32 time delta, ms
//!          4 u32      offset of the frame        12 u32 bytes before
//! ```
//!
//! Both checksums are CRC-32, unseeded.

use crate::codec::{BadFile, Fields, close_header, open_header};
use crate::frame::ALIGNMENT;
use crate::id::{ChannelId, ChannelKey, FrameIndex, Generation, SegmentId, Sequence};
use crate::manifest::FORMAT_VERSION;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::{SlotId, StoreId};

const MAGIC: &[u8; 8] = b"RMQIDX1\0";
const HEADER_BYTES: usize = 64;
const SLOT_BYTES: usize = 24;
const BLOCK_HEADER_BYTES: usize = 56;
const ENTRY_BYTES: usize = 16;

/// Why the bytes of a file are no index that can be used.
pub type BadIndex = BadFile;

/// The index of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    /// The store.
    pub store: StoreId,
    /// The log.
    pub log: u16,
    /// The segment.
    pub segment: SegmentId,
    /// Generation of the segment's file.
    pub generation: Generation,
    /// Where the seal frame begins.
    pub seal_offset: u32,
    /// The slots that have frames in the segment.
    pub slots: Vec<SlotRange>,
    /// The channels that have messages in the segment.
    pub blocks: Vec<Block>,
}

/// The frames of a slot in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// The slot.
    pub slot: SlotId,
    /// Its first frame in the segment.
    pub first: FrameIndex,
    /// Its last frame in the segment.
    pub last: FrameIndex,
}

/// Messages of a channel in a segment. A channel has a block for those that were stored there, and
/// one for each run of those that were carried there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The channel.
    pub key: ChannelKey,
    /// Whether the messages lie in carried frames.
    pub carried: bool,
    /// Its first message in the segment.
    pub first: Sequence,
    /// Its last message in the segment.
    pub last: Sequence,
    /// Time of the first message, in nanoseconds since 1970-01-01 UTC.
    pub base_time_ns: u64,
    /// Time of the last message.
    pub last_time_ns: u64,
    /// Bytes of the payloads.
    pub bytes: u64,
    /// Places in the segment, in order; at least one.
    pub entries: Vec<Entry>,
}

/// A frame with messages of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first message of the channel in the frame, counted from the block's first.
    pub sequence_delta: u32,
    /// Where the frame begins.
    pub offset: u32,
    /// Time of that message, in milliseconds behind the block's first, rounded down; the largest
    /// number stands for everything above.
    pub time_delta_ms: u32,
    /// Bytes of the block's payloads before that message; the largest number stands for
    /// everything above.
    pub bytes_before: u32,
}

impl SegmentIndex {
    /// The whole file.
    ///
    /// # Panics
    /// With more slots, blocks or entries than a segment can have.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_len());
        for range in &self.slots {
            debug_assert!(
                range.first <= range.last,
                "a slot without frames has no range"
            );
            body.extend_from_slice(&u64::from(range.slot.index()).to_le_bytes());
            body.extend_from_slice(&range.first.get().to_le_bytes());
            body.extend_from_slice(&range.last.get().to_le_bytes());
        }
        for block in &self.blocks {
            block.encode(&mut body);
        }
        debug_assert_eq!(body.len(), self.body_len());
        let slot_count = u16::try_from(self.slots.len()).expect("slots have numbers of 16 bits");
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.segment.get().to_le_bytes());
        out.extend_from_slice(self.store.as_bytes());
        out.extend_from_slice(&self.generation.get().to_le_bytes());
        out.extend_from_slice(&self.seal_offset.to_le_bytes());
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&slot_count.to_le_bytes());
        out.extend_from_slice(&count(self.blocks.len()).to_le_bytes());
        let len = u64::try_from(HEADER_BYTES + body.len()).unwrap_or(u64::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        close_header(&mut out, 0);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out.append(&mut body);
        out
    }

    fn body_len(&self) -> usize {
        let entries: usize = self.blocks.iter().map(|block| block.entries.len()).sum();
        self.slots.len() * SLOT_BYTES
            + self.blocks.len() * BLOCK_HEADER_BYTES
            + entries * ENTRY_BYTES
    }

    /// Reads a file. It is taken whole or not at all.
    ///
    /// The caller has to compare it with its segment, see [`check`](Self::check).
    ///
    /// # Errors
    /// [`BadIndex`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadIndex> {
        let mut fields = open_header(bytes, HEADER_BYTES, MAGIC)?;
        let head = Head::read(&mut fields).ok_or(BadFile::Short)?;
        if u64::try_from(bytes.len()) != Ok(head.file_len) {
            return Err(BadFile::Short);
        }
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if crc32fast::hash(body) != head.body_checksum {
            return Err(BadFile::Checksum);
        }
        let mut index = head.index;
        let mut fields = Fields::new(body);
        // Nothing is reserved by the counts: each part has to be there before it takes memory.
        for _ in 0..head.slot_count {
            let range = SlotRange::read(&mut fields);
            index
                .slots
                .push(range.ok_or(BadFile::Field("a range of frames is none"))?);
        }
        for _ in 0..head.block_count {
            index
                .blocks
                .push(Block::read(&mut fields, index.seal_offset)?);
        }
        if !fields.rest().is_empty() {
            return Err(BadFile::Field("it goes on behind its end"));
        }
        Ok(index)
    }

    /// Checks that the index is that of a segment, as the segment's file is used now.
    ///
    /// # Errors
    /// [`BadFile::OtherStore`] and [`BadFile::OtherPlace`].
    pub fn check(&self, segment: &SegmentHeader) -> Result<(), BadIndex> {
        if self.store != segment.store {
            return Err(BadFile::OtherStore { found: self.store });
        }
        if self.log != segment.log {
            return Err(BadFile::OtherPlace("another log"));
        }
        if self.segment != segment.segment {
            return Err(BadFile::OtherPlace("another segment"));
        }
        if self.generation != segment.generation {
            return Err(BadFile::OtherPlace("another generation of the file"));
        }
        if self.seal_offset >= segment.len {
            return Err(BadFile::OtherPlace("a longer segment"));
        }
        Ok(())
    }
}

/// The header, with an empty index to be filled.
struct Head {
    index: SegmentIndex,
    slot_count: u16,
    block_count: u32,
    file_len: u64,
    body_checksum: u32,
}

impl Head {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let segment = SegmentId::new(fields.u32()?);
        let store = StoreId::from_bytes(fields.array()?);
        let generation = Generation::new(fields.u32()?);
        let seal_offset = fields.u32()?;
        let index = SegmentIndex {
            store,
            log: fields.u16()?,
            segment,
            generation,
            seal_offset,
            slots: Vec::new(),
            blocks: Vec::new(),
        };
        Some(Self {
            index,
            slot_count: fields.u16()?,
            block_count: fields.u32()?,
            file_len: fields.u64()?,
            body_checksum: fields.u32()?,
        })
    }
}

impl SlotRange {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let slot = fields.u16().and_then(SlotId::new)?;
        fields.reserved::<6>()?;
        let range = Self {
            slot,
            first: FrameIndex::new(fields.u64()?),
            last: FrameIndex::new(fields.u64()?),
        };
        Some(range).filter(|range| range.first <= range.last)
    }
}

impl Block {
    fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(!self.entries.is_empty(), "a block has at least one place");
        debug_assert!(self.first <= self.last, "a block has at least one message");
        out.extend_from_slice(&self.key.slot.index().to_le_bytes());
        out.extend_from_slice(&u16::from(self.carried).to_le_bytes());
        out.extend_from_slice(&self.key.channel.get().to_le_bytes());
        let numbers = [
            self.first.get(),
            self.last.get(),
            self.base_time_ns,
            self.last_time_ns,
            self.bytes,
            u64::from(count(self.entries.len())),
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for entry in &self.entries {
            let fields = [
                entry.sequence_delta,
                entry.offset,
                entry.time_delta_ms,
                entry.bytes_before,
            ];
            for field in fields {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
    }

    fn read(fields: &mut Fields<'_>, seal_offset: u32) -> Result<Self, BadFile> {
        let bad = BadFile::Field("a block is none");
        let slot = fields.u16().and_then(SlotId::new).ok_or(bad)?;
        let carried = match fields.u16() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(bad),
        };
        let channel = ChannelId::new(fields.u32().ok_or(bad)?);
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = fields.u64().ok_or(bad)?;
        }
        let [first, last, base_time_ns, last_time_ns, bytes, entry_count] = numbers;
        let entry_count = u32::try_from(entry_count).map_err(|_| bad)?;
        let len = usize::try_from(entry_count).ok();
        let len = len.and_then(|count| count.checked_mul(ENTRY_BYTES));
        let entries = len.and_then(|len| fields.take(len)).ok_or(bad)?;
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let entries: Option<Vec<_>> = entries.iter().map(Entry::read).collect();
        let block = Self {
            key: ChannelKey { slot, channel },
            carried,
            first: Sequence::new(first),
            last: Sequence::new(last),
            base_time_ns,
            last_time_ns,
            bytes,
            entries: entries.ok_or(bad)?,
        };
        if block.makes_sense(seal_offset) {
            Ok(block)
        } else {
            Err(BadFile::Field("the entries of a block are out of order"))
        }
    }

    /// Whether the entries can be searched and point at frames before the seal.
    fn makes_sense(&self, seal_offset: u32) -> bool {
        let Some(span) = self.last.get().checked_sub(self.first.get()) else {
            return false;
        };
        let first_frame = u32::try_from(SEGMENT_HEADER_BYTES).unwrap_or(u32::MAX);
        let alignment = u32::try_from(ALIGNMENT).unwrap_or(1);
        let begins = self
            .entries
            .first()
            .is_some_and(|entry| entry.sequence_delta == 0);
        begins
            && self.entries.is_sorted_by(|before, after| {
                before.offset < after.offset && before.sequence_delta < after.sequence_delta
            })
            && self.entries.iter().all(|entry| {
                (first_frame..seal_offset).contains(&entry.offset)
                    && entry.offset.is_multiple_of(alignment)
                    && u64::from(entry.sequence_delta) <= span
            })
    }
}

impl Entry {
    fn read(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        Some(Self {
            sequence_delta: fields.u32()?,
            offset: fields.u32()?,
            time_delta_ms: fields.u32()?,
            bytes_before: fields.u32()?,
        })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a segment of 32 bits has no more")
}
