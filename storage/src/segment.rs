//! Segments: the files that a log consists of.
//!
//! A segment begins with a header of 64 bytes; its frames follow, the first of them a preamble. A
//! file without a header is a spare: prepared, and not in use.
//!
//! ```text
//!  0 [u8; 8]  magic `RMQSEG1\0`       36 u32 generation of the file
//!  8 u32      format version          40 u16 log
//! 12 u32      length of the file      42 [u8; 18] reserved, 0
//! 16 [u8; 16] store                   60 u32 checksum (CRC-32, unseeded) of the bytes before
//! 32 u32      segment
//! ```
//!
//! The format version is 2 where the frames are encrypted: the key lies in the preamble, wrapped.

use crate::cipher::{KeyPlace, WRAPPED_BYTES, WrappedKey};
use crate::codec::{BadFile, Fields, close_header, open_versioned};
use crate::frame::{NO_SLOT, Seed};
use crate::id::{FrameIndex, Generation, Position, SegmentId, Term};
use crate::manifest::{ENCRYPTED_VERSION, FORMAT_VERSION};
use crate::{SlotId, StoreId};

/// Bytes of a segment's header: where the first frame begins.
pub const SEGMENT_HEADER_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"RMQSEG1\0";

/// Why a segment's header, or its preamble, cannot be used.
pub type BadSegment = BadFile;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store.
    pub store: StoreId,
    /// The log.
    pub log: u16,
    /// The segment.
    pub segment: SegmentId,
    /// How often the file has been put to use.
    pub generation: Generation,
    /// Length of the file in bytes; it never changes.
    pub len: u32,
    /// Whether the payloads of its frames are encrypted.
    pub encrypted: bool,
}

impl SegmentHeader {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        let version = if self.encrypted {
            ENCRYPTED_VERSION
        } else {
            FORMAT_VERSION
        };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(self.store.as_bytes());
        out.extend_from_slice(&self.segment.get().to_le_bytes());
        out.extend_from_slice(&self.generation.get().to_le_bytes());
        out.extend_from_slice(&self.log.to_le_bytes());
        out.resize(SEGMENT_HEADER_BYTES - 4, 0);
        close_header(&mut out, 0);
        let header = out.first_chunk().copied();
        debug_assert_eq!(out.len(), SEGMENT_HEADER_BYTES);
        header.unwrap_or([0; SEGMENT_HEADER_BYTES])
    }

    /// Reads the header at the start of a file; `None` when there is none, as in a spare: zeros,
    /// or what a former use of the space left.
    ///
    /// The caller has to compare store, log and segment with [`check`](Self::check).
    ///
    /// # Errors
    /// [`BadSegment`] for a header that is damaged or of a newer version: such a file is no
    /// spare.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, BadSegment> {
        let (version, mut fields) = match open_versioned(bytes, SEGMENT_HEADER_BYTES, MAGIC) {
            Ok(found) => found,
            Err(BadFile::Magic | BadFile::Short) => return Ok(None),
            Err(bad) => return Err(bad),
        };
        let header =
            Self::read(&mut fields, version).ok_or(BadFile::Field("a reserved field is not 0"))?;
        if header.segment.get() == 0 || header.generation.get() == 0 {
            return Err(BadFile::Field("segment and generation count from 1"));
        }
        Ok(Some(header))
    }

    fn read(fields: &mut Fields<'_>, version: u32) -> Option<Self> {
        let len = fields.u32()?;
        let store = StoreId::from_bytes(fields.array()?);
        let segment = SegmentId::new(fields.u32()?);
        let generation = Generation::new(fields.u32()?);
        let log = fields.u16()?;
        fields.reserved::<18>()?;
        Some(Self {
            store,
            log,
            segment,
            generation,
            len,
            encrypted: version == ENCRYPTED_VERSION,
        })
    }

    /// Checks that the file is the one that it is taken for.
    ///
    /// # Errors
    /// [`BadFile::OtherStore`] and [`BadFile::OtherPlace`].
    pub fn check(&self, store: StoreId, log: u16, segment: SegmentId) -> Result<(), BadSegment> {
        if self.store != store {
            return Err(BadFile::OtherStore { found: self.store });
        }
        if self.log != log {
            return Err(BadFile::OtherPlace("another log"));
        }
        if self.segment != segment {
            return Err(BadFile::OtherPlace("another segment"));
        }
        Ok(())
    }

    /// What the segment's data key belongs to.
    #[must_use]
    pub const fn key_place(&self) -> KeyPlace {
        KeyPlace::Segment {
            store: self.store,
            log: self.log,
            segment: self.segment,
            generation: self.generation,
        }
    }

    /// What the headers of the segment's frames are seeded with.
    #[must_use]
    pub const fn seed(&self) -> Seed {
        Seed {
            store: self.store,
            segment: self.segment,
            generation: self.generation,
        }
    }
}

/// The payload of the frame that a segment begins with: what is known of every slot of the log
/// without older segments (rule L5 of `docs/replication.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preamble {
    /// One entry for each slot of the log.
    pub entries: Vec<PreambleEntry>,
    /// The segment's data key, when its frames are encrypted.
    pub key: Option<WrappedKey>,
}

/// What a preamble says of a slot. 56 bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreambleEntry {
    /// The slot.
    pub slot: SlotId,
    /// Current term; 1 on a single node.
    pub term: Term,
    /// For whom the slot voted in the term; 0 on a single node.
    pub vote: u64,
    /// Last committed frame.
    pub commit: FrameIndex,
    /// Last frame that is not needed any more: a durable checkpoint holds its effects.
    pub floor_index: FrameIndex,
    /// Term of that frame.
    pub floor_term: Term,
    /// Frames of the slot before this place do not count (rule L4).
    pub void: Position,
}

/// Bytes of a preamble's key, as they are written in it.
const KEY_BYTES: u32 = 72;
const _: () = assert!(KEY_BYTES as usize == WRAPPED_BYTES);

/// Bytes of an entry of a preamble.
const PREAMBLE_ENTRY_BYTES: usize = 56;

impl Preamble {
    /// Writes the payload.
    ///
    /// # Panics
    /// With more entries than slots can exist.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.entries.len() <= usize::from(NO_SLOT),
            "one entry a slot"
        );
        let count = u16::try_from(self.entries.len()).unwrap_or(NO_SLOT);
        let mut out = Vec::with_capacity(Self::encoded_len(self.entries.len()));
        out.extend_from_slice(&u32::from(count).to_le_bytes());
        let key_bytes = if self.key.is_some() { KEY_BYTES } else { 0 };
        out.extend_from_slice(&key_bytes.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&u64::from(entry.slot.index()).to_le_bytes());
            let numbers = [
                entry.term.get(),
                entry.vote,
                entry.commit.get(),
                entry.floor_index.get(),
                entry.floor_term.get(),
                entry.void.to_u64(),
            ];
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        if let Some(key) = &self.key {
            key.encode_to(&mut out);
        }
        out
    }

    /// Bytes that [`encode`](Self::encode) writes for so many slots, without a key.
    #[must_use]
    pub const fn encoded_len(slot_count: usize) -> usize {
        8 + slot_count * PREAMBLE_ENTRY_BYTES
    }

    /// Bytes that a key adds.
    pub const KEY_BYTES: usize = WRAPPED_BYTES;

    /// Reads a payload.
    ///
    /// # Errors
    /// [`BadSegment`].
    pub fn decode(payload: &[u8]) -> Result<Self, BadSegment> {
        let mut fields = Fields::new(payload);
        let count = fields.u32().ok_or(BadFile::Short)?;
        let key_bytes = fields.u32().ok_or(BadFile::Short)?;
        let (entries, mut fields) = match key_bytes {
            0 => (fields.rest(), Fields::new(&[])),
            KEY_BYTES => {
                let entries = fields.rest().split_last_chunk::<WRAPPED_BYTES>();
                let (entries, key) = entries.ok_or(BadFile::Short)?;
                (entries, Fields::new(key))
            }
            _ => return Err(BadFile::Field("the key of the preamble has another length")),
        };
        let (entries, behind) = entries.as_chunks::<PREAMBLE_ENTRY_BYTES>();
        if !behind.is_empty() || u32::try_from(entries.len()) != Ok(count) {
            return Err(BadFile::Short);
        }
        let entries = entries.iter().map(PreambleEntry::read);
        let entries: Option<Vec<_>> = entries.collect();
        let entries = entries.ok_or(BadFile::Field("an entry of the preamble names no slot"))?;
        let key = WrappedKey::read(&mut fields);
        Ok(Self { entries, key })
    }
}

impl PreambleEntry {
    fn read(bytes: &[u8; PREAMBLE_ENTRY_BYTES]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let slot = fields.u16().and_then(SlotId::new)?;
        fields.reserved::<6>()?;
        Some(Self {
            slot,
            term: Term::new(fields.u64()?),
            vote: fields.u64()?,
            commit: FrameIndex::new(fields.u64()?),
            floor_index: FrameIndex::new(fields.u64()?),
            floor_term: Term::new(fields.u64()?),
            void: Position::from_u64(fields.u64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store: StoreId::from_bytes(*b"0123456789abcdef"),
            log: 3,
            segment: SegmentId::new(7),
            generation: Generation::new(2),
            len: 1 << 20,
            encrypted: false,
        }
    }

    fn preamble() -> Preamble {
        let entry = |slot: u16| PreambleEntry {
            slot: SlotId::new(slot).unwrap(),
            term: Term::new(1),
            vote: 0,
            commit: FrameIndex::new(40 + u64::from(slot)),
            floor_index: FrameIndex::new(30),
            floor_term: Term::new(1),
            void: Position::default(),
        };
        Preamble {
            entries: vec![entry(0), entry(2), entry(63)],
            key: None,
        }
    }

    #[test]
    fn header_comes_back_as_it_was_written() {
        assert_eq!(
            SegmentHeader::decode(&header().encode()),
            Ok(Some(header()))
        );
    }

    #[test]
    fn zeros_garbage_and_short_files_are_spares() {
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Ok(None));
        assert_eq!(SegmentHeader::decode(&[0xa5; 4096]), Ok(None));
        assert_eq!(SegmentHeader::decode(&header().encode()[..63]), Ok(None));
        assert_eq!(SegmentHeader::decode(&[]), Ok(None));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let good = header().encode();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[index] ^= 1 << bit;
                let found = SegmentHeader::decode(&bad);
                let expected = if index < MAGIC.len() {
                    Ok(None)
                } else {
                    Err(BadFile::Checksum)
                };
                assert_eq!(found, expected, "byte {index} bit {bit}");
            }
        }
    }

    #[test]
    fn newer_header_is_told_from_a_damaged_one() {
        let mut newer = header().encode().to_vec();
        newer[8] = 9;
        newer.truncate(60);
        close_header(&mut newer, 0);
        assert_eq!(
            SegmentHeader::decode(&newer),
            Err(BadFile::NewerFormat { found: 9 })
        );
    }

    #[test]
    fn file_of_another_place_is_refused() {
        let (header, other) = (header(), StoreId::from_bytes([9; 16]));
        assert_eq!(header.check(header.store, 3, SegmentId::new(7)), Ok(()));
        assert!(header.check(other, 3, SegmentId::new(7)).is_err());
        assert!(header.check(header.store, 2, SegmentId::new(7)).is_err());
        assert!(header.check(header.store, 3, SegmentId::new(8)).is_err());
    }

    #[test]
    fn preamble_comes_back_as_it_was_written() {
        let payload = preamble().encode();
        assert_eq!(payload.len(), Preamble::encoded_len(3));
        assert_eq!(Preamble::decode(&payload), Ok(preamble()));
        for len in 0..payload.len() {
            assert!(Preamble::decode(&payload[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn preamble_that_promises_more_than_it_has_allocates_nothing() {
        let promise = u64::from(u32::MAX).to_le_bytes();
        assert_eq!(Preamble::decode(&promise), Err(BadFile::Short));
        let promise = (72_u64 << 32).to_le_bytes();
        assert_eq!(Preamble::decode(&promise), Err(BadFile::Short));
        let promise = u64::MAX.to_le_bytes();
        assert!(Preamble::decode(&promise).is_err());
    }
}
