//! Frames: the records of one slot under one header.
//!
//! A frame is what a group commit is made of, and what replication will ship: its payload does not
//! depend on where it lies. The header is 64 bytes, the payload is padded to a multiple of 8.
//!
//! ```text
//!  0 u32 payload bytes, without padding   32 u64 base timestamp, ns since 1970
//!  4 u8  kind                             40 u64 synced-through position
//!  5 u8  flags: 1 encrypted, else 0       48 u32 payload checksum (CRC-32, unseeded)
//!  6 u16 slot (0xffff: the log itself)    52 u32 reserved, 0
//!  8 u32 record count                     56 u32 reserved, 0
//! 12 u32 reserved, 0                      60 u32 header checksum (CRC-32, seeded)
//! 16 u64 term
//! 24 u64 index
//! ```

use crate::id::{FrameIndex, Generation, Position, SegmentId, Term};
use crate::{SlotId, StoreId};

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 64;

/// Frames and records begin at multiples of this.
pub const ALIGNMENT: usize = 8;

/// The slot number of frames that concern the log itself and no slot.
pub const NO_SLOT: u16 = 0xffff;

/// What a frame is. Numbers 3 to 5 and 8 belong to replication and are refused until it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Records of one slot, applied in order.
    Entry = 1,
    /// A frame without records.
    NoOp = 2,
    /// The head of a segment: for every slot of the log, what is known without older segments.
    Preamble = 6,
    /// The end of a segment: nothing behind it in this segment counts.
    Seal = 7,
    /// Live records of an older frame, moved here by compaction: names the frame it came from by
    /// slot, term and index, and supersedes nothing.
    Carried = 9,
}

impl FrameKind {
    /// Reads a kind; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::NoOp,
            6 => Self::Preamble,
            7 => Self::Seal,
            9 => Self::Carried,
            _ => return None,
        })
    }
}

/// What a header's checksum is seeded with: a recycled byte, a copied file or a frame at another
/// place never looks valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The store.
    pub store: StoreId,
    /// The segment.
    pub segment: SegmentId,
    /// The generation of the segment's file.
    pub generation: Generation,
}

impl Seed {
    fn hasher(&self, offset: u32) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new();
        let mut bytes = [0; 28];
        let (store, rest) = bytes.split_at_mut(16);
        store.copy_from_slice(self.store.as_bytes());
        let numbers = [self.segment.get(), self.generation.get(), offset];
        for (place, number) in rest.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        hasher.update(&bytes);
        hasher
    }

    /// The seeded checksum of `bytes` that lie at `offset`.
    #[must_use]
    pub fn checksum(&self, offset: u32, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher(offset);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload, without padding.
    pub payload_len: u32,
    /// What the frame is.
    pub kind: FrameKind,
    /// Flags of the payload as a whole: [`ENCRYPTED`](Self::ENCRYPTED), or 0.
    pub flags: u8,
    /// The slot; `None` for a frame of the log itself.
    pub slot: Option<SlotId>,
    /// Records in the payload.
    pub record_count: u32,
    /// Term of the leader that made the frame.
    pub term: Term,
    /// The frame's number in its slot; 0 for a frame of the log itself.
    pub index: FrameIndex,
    /// Nanoseconds since 1970-01-01 UTC; never less than in an earlier frame of the slot.
    pub base_timestamp_ns: u64,
    /// Everything before this place was synced when the frame was written.
    pub synced_through: Position,
    /// CRC-32 of the payload as it lies there.
    pub payload_checksum: u32,
}

/// Why bytes are not the frame that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFrame {
    /// The bytes end before the frame does.
    #[error("cut short")]
    Short,
    /// The header's checksum differs: stale, torn or damaged bytes, or the end of the log.
    #[error("header checksum mismatch")]
    HeaderChecksum,
    /// The header holds, the payload does not.
    #[error("payload checksum mismatch")]
    PayloadChecksum,
    /// The checksum holds, but the kind is none that this version knows.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The checksum holds, but the slot is none of the store's.
    #[error("unknown slot {0}")]
    UnknownSlot(u16),
    /// The checksum holds, but flags are set that this version does not know.
    #[error("unknown frame flags {0:#04x}")]
    UnknownFlags(u8),
    /// The checksum holds, but a field has a value that this version does not know the meaning of.
    #[error("reserved field of a frame is not 0")]
    Reserved,
    /// The payload is encrypted, and nobody knows with which key.
    #[error("encrypted, and the key of the segment is lost")]
    NoKey,
    /// The payload is not what was encrypted for this frame at this place.
    #[error("not what was encrypted for this place")]
    Forged,
}

impl BadFrame {
    /// Whether the header holds and says what this version does not know: no damage, and nothing
    /// to be skipped.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        match self {
            Self::UnknownKind(_)
            | Self::UnknownSlot(_)
            | Self::UnknownFlags(_)
            | Self::Reserved => true,
            Self::Short
            | Self::HeaderChecksum
            | Self::PayloadChecksum
            | Self::NoKey
            | Self::Forged => false,
        }
    }
}

/// Length of a frame on disk, for a payload of `payload_len` bytes.
#[must_use]
pub const fn frame_len(payload_len: usize) -> usize {
    FRAME_HEADER_BYTES + payload_len.next_multiple_of(ALIGNMENT)
}

/// The checksum of a payload: unseeded, so that it travels with the payload (rule L2 of
/// `docs/replication.md`).
#[must_use]
pub fn payload_checksum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

impl FrameHeader {
    /// The flag of a payload that is encrypted with the key of its segment.
    pub const ENCRYPTED: u8 = 1;

    /// Whether the payload is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.flags & Self::ENCRYPTED != 0
    }

    /// The header of the same frame with its payload decrypted.
    #[must_use]
    pub fn decrypted(&self, payload: &[u8]) -> Self {
        Self {
            flags: self.flags & !Self::ENCRYPTED,
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_checksum: payload_checksum(payload),
            ..*self
        }
    }

    /// Length of the frame on disk, header and padding included.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        frame_len(usize::try_from(self.payload_len).unwrap_or(usize::MAX - 1024))
    }

    /// Writes the header as it lies at `offset`.
    #[must_use]
    pub fn encode(&self, seed: &Seed, offset: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = self.fields();
        let checksum = seed.checksum(offset, bytes.get(..60).unwrap_or_default());
        if let Some(place) = bytes.get_mut(60..) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    /// The header without its checksum.
    pub(crate) fn fields(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
        };
        put(0, &self.payload_len.to_le_bytes());
        put(4, &[self.kind as u8, self.flags]);
        let slot = self.slot.map_or(NO_SLOT, SlotId::index);
        put(6, &slot.to_le_bytes());
        put(8, &self.record_count.to_le_bytes());
        put(16, &self.term.get().to_le_bytes());
        put(24, &self.index.get().to_le_bytes());
        put(32, &self.base_timestamp_ns.to_le_bytes());
        put(40, &self.synced_through.to_u64().to_le_bytes());
        put(48, &self.payload_checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of the frame at `offset`. `bytes` begin there and may go on behind it.
    ///
    /// # Errors
    /// [`BadFrame`]; the payload is not looked at, see [`check_payload`](Self::check_payload).
    pub fn decode(bytes: &[u8], seed: &Seed, offset: u32) -> Result<Self, BadFrame> {
        let header = bytes.first_chunk::<FRAME_HEADER_BYTES>();
        let header = header.ok_or(BadFrame::Short)?;
        let expected = seed.checksum(offset, header.get(..60).unwrap_or_default());
        if u32_at(header, 60) != expected {
            return Err(BadFrame::HeaderChecksum);
        }
        Self::decode_trusted(bytes)
    }

    /// Reads a header that this process has written or checked before: no checksum is computed.
    ///
    /// # Errors
    /// [`BadFrame`] when the fields make no sense all the same.
    pub fn decode_trusted(bytes: &[u8]) -> Result<Self, BadFrame> {
        let header = bytes.first_chunk::<FRAME_HEADER_BYTES>();
        let header = header.ok_or(BadFrame::Short)?;
        let [_, _, _, _, kind, flags, ..] = *header;
        let kind = FrameKind::from_u8(kind).ok_or(BadFrame::UnknownKind(kind))?;
        // Frames of the log itself hold nothing that is secret, and must be read before any key.
        let own = matches!(kind, FrameKind::Preamble | FrameKind::Seal);
        if flags & !Self::ENCRYPTED != 0 || own && flags != 0 {
            return Err(BadFrame::UnknownFlags(flags));
        }
        if u32_at(header, 12) != 0 || u64_at(header, 52) != 0 {
            return Err(BadFrame::Reserved);
        }
        let slot = match u16::from_le_bytes([header[6], header[7]]) {
            NO_SLOT => None,
            slot => Some(SlotId::new(slot).ok_or(BadFrame::UnknownSlot(slot))?),
        };
        Ok(Self {
            payload_len: u32_at(header, 0),
            kind,
            flags,
            slot,
            record_count: u32_at(header, 8),
            term: Term::new(u64_at(header, 16)),
            index: FrameIndex::new(u64_at(header, 24)),
            base_timestamp_ns: u64_at(header, 32),
            synced_through: Position::from_u64(u64_at(header, 40)),
            payload_checksum: u32_at(header, 48),
        })
    }

    /// The payload of the frame that begins at the start of `bytes`, unchecked.
    ///
    /// # Errors
    /// [`BadFrame::Short`].
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], BadFrame> {
        let len = usize::try_from(self.payload_len).map_err(|_| BadFrame::Short)?;
        let end = FRAME_HEADER_BYTES.checked_add(len).ok_or(BadFrame::Short)?;
        bytes.get(FRAME_HEADER_BYTES..end).ok_or(BadFrame::Short)
    }

    /// The payload of the frame that begins at the start of `bytes`, checked.
    ///
    /// # Errors
    /// [`BadFrame::Short`] and [`BadFrame::PayloadChecksum`].
    pub fn check_payload<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], BadFrame> {
        let payload = self.payload(bytes)?;
        if crc32fast::hash(payload) == self.payload_checksum {
            Ok(payload)
        } else {
            Err(BadFrame::PayloadChecksum)
        }
    }
}

/// A frame in memory: its header and its payload.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    /// The records, without padding behind the last.
    pub payload: &'a [u8],
    /// Where the frame lies.
    pub position: Position,
}

fn u32_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(field.copied().unwrap_or_default())
}

fn u64_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u64::from_le_bytes(field.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed {
        store: StoreId::from_bytes([7; 16]),
        segment: SegmentId::new(3),
        generation: Generation::new(1),
    };

    fn header(payload: &[u8]) -> FrameHeader {
        FrameHeader {
            payload_len: u32::try_from(payload.len()).unwrap(),
            kind: FrameKind::Entry,
            flags: 0,
            slot: SlotId::new(63),
            record_count: 5,
            term: Term::new(1),
            index: FrameIndex::new(u64::MAX),
            base_timestamp_ns: 1_795_219_200_000_000_000,
            synced_through: Position::new(SegmentId::new(2), 4096),
            payload_checksum: crc32fast::hash(payload),
        }
    }

    /// The header with other bytes in it and a checksum that holds.
    fn forged(change: impl FnOnce(&mut [u8; FRAME_HEADER_BYTES])) -> Result<FrameHeader, BadFrame> {
        let mut bytes = header(b"").encode(&SEED, 64);
        change(&mut bytes);
        let checksum = SEED.checksum(64, &bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        FrameHeader::decode(&bytes, &SEED, 64)
    }

    #[test]
    fn header_comes_back_as_it_was_written() {
        let bytes = header(b"payload").encode(&SEED, 64);
        let found = FrameHeader::decode(&bytes, &SEED, 64);
        assert_eq!(found, Ok(header(b"payload")));
        assert_eq!(FrameHeader::decode_trusted(&bytes), found);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_header_is_noticed() {
        let good = header(b"payload").encode(&SEED, 64);
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[index] ^= 1 << bit;
                let found = FrameHeader::decode(&bad, &SEED, 64);
                assert_eq!(found, Err(BadFrame::HeaderChecksum), "byte {index}");
            }
            let found = FrameHeader::decode(&good[..index], &SEED, 64);
            assert_eq!(found, Err(BadFrame::Short));
        }
    }

    #[test]
    fn checksum_that_holds_does_not_excuse_what_is_unknown() {
        assert_eq!(forged(|_| ()), Ok(header(b"")));
        for kind in [0, 3, 4, 5, 8, 10, 255] {
            let found = forged(|bytes| bytes[4] = kind);
            assert_eq!(found, Err(BadFrame::UnknownKind(kind)));
        }
        for bit in 1..8 {
            let flag = 1 << bit;
            let found = forged(|bytes| bytes[5] = flag);
            assert_eq!(found, Err(BadFrame::UnknownFlags(flag)));
        }
        let encrypted = FrameHeader {
            flags: FrameHeader::ENCRYPTED,
            ..header(b"")
        };
        assert_eq!(forged(|bytes| bytes[5] = 1), Ok(encrypted));
        for own in [FrameKind::Preamble, FrameKind::Seal] {
            let found = forged(|bytes| (bytes[4], bytes[5]) = (own as u8, 1));
            assert_eq!(found, Err(BadFrame::UnknownFlags(1)));
        }
        let found = forged(|bytes| bytes[6] = 64);
        assert_eq!(found, Err(BadFrame::UnknownSlot(64)));
        for reserved in (12..16).chain(52..60) {
            let found = forged(|bytes| bytes[reserved] = 1);
            assert_eq!(found, Err(BadFrame::Reserved), "byte {reserved}");
        }
    }

    #[test]
    fn payload_is_checked_and_never_longer_than_the_bytes() {
        let header = header(b"payload");
        let mut frame = header.encode(&SEED, 64).to_vec();
        frame.extend_from_slice(b"payload\0");
        assert_eq!(header.frame_len(), frame.len());
        assert_eq!(header.check_payload(&frame), Ok(b"payload".as_slice()));
        assert_eq!(header.check_payload(&frame[..70]), Err(BadFrame::Short));
        frame[65] ^= 1;
        let found = header.check_payload(&frame);
        assert_eq!(found, Err(BadFrame::PayloadChecksum));
        let endless = FrameHeader {
            payload_len: u32::MAX,
            ..header
        };
        assert_eq!(endless.payload(&frame), Err(BadFrame::Short));
    }

    #[test]
    fn frames_begin_at_multiples_of_the_alignment() {
        for (payload, frame) in [(0, 64), (1, 72), (8, 72), (9, 80)] {
            assert_eq!(frame_len(payload), frame);
        }
    }
}
