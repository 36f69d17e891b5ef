//! Records: what a frame is made of.
//!
//! A record does not know where it lies: it names channels by number and messages by sequence.
//! The header is 32 bytes, the payload is padded to a multiple of 8.
//!
//! ```text
//!  0 u32 payload bytes, without padding    16 u64 sequence
//!  4 u8  kind                              24 u32 time delta, ns behind the frame's timestamp
//!  5 u8  flags                             28 u32 reserved, 0
//!  6 u8  encoding of the payload
//!  7 u8  reserved, 0
//!  8 u32 channel (or cursor, see the kind)
//! 12 u32 key hash; reserved, 0
//! ```

pub mod payload;
pub mod queue;

use crate::frame::ALIGNMENT;
use crate::id::{ChannelId, Sequence};

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 32;

/// What a record says. Numbers 16 to 31 belong to queues, 32 to 63 to replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A message of a channel, with its sequence.
    Message = 1,
    /// A channel is created. Payload: its kind and name, see `docs/FORMAT.md`.
    ChannelCreate = 2,
    /// A channel is deleted with all that belongs to it.
    ChannelDelete = 3,
    /// Messages up to and including the sequence are gone: retention, limits or a purge.
    Trim = 4,
    /// A durable position is created at the sequence, the last one that counts as delivered.
    /// Payload: its number, whose it is and its name.
    CursorCreate = 5,
    /// Durable positions moved. Payload: pairs of cursor and sequence.
    CursorMove = 6,
    /// A durable position is gone. Payload: its number.
    CursorDelete = 7,
    /// Messages of a queue are gone: acknowledged, expired, dropped or moved, as the encoding says.
    /// The sequence: no body up to it is needed any more; 0 says nothing. Payload: see [`queue`].
    QueueSettle = 16,
    /// Messages of a queue go to its tail, under new sequences from that of the record on. Their
    /// bodies stay where they are. Payload: see [`queue`].
    QueueRequeue = 17,
    /// How often messages of a queue have been received. Payload: see [`queue`].
    QueueCount = 18,
    /// A message of a queue is to be moved to another one. Payload: see [`queue`].
    QueueMove = 19,
    /// A move is called off: the message is where it was.
    QueueMoveCancel = 20,
    /// Moves into queues of this slot are over. Payload: see [`queue`].
    QueueMoveForget = 21,
}

impl RecordKind {
    /// Reads a kind; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Message,
            2 => Self::ChannelCreate,
            3 => Self::ChannelDelete,
            4 => Self::Trim,
            5 => Self::CursorCreate,
            6 => Self::CursorMove,
            7 => Self::CursorDelete,
            16 => Self::QueueSettle,
            17 => Self::QueueRequeue,
            18 => Self::QueueCount,
            19 => Self::QueueMove,
            20 => Self::QueueMoveCancel,
            21 => Self::QueueMoveForget,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What the record says.
    pub kind: RecordKind,
    /// Encoding of the payload, a number of the layers above; 0 where the kind defines it.
    pub encoding: u8,
    /// The channel concerned.
    pub channel: ChannelId,
    /// The message concerned, see the kind.
    pub sequence: Sequence,
    /// Nanoseconds behind the frame's base timestamp.
    pub time_delta_ns: u32,
    /// Bytes of the payload, without padding.
    pub payload_len: u32,
}

/// A record in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The header.
    pub head: RecordHead,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why a payload is not a run of records. The checksum held, so a newer version wrote it, or a
/// bug: the slot stops, nothing is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecord {
    /// The payload ends inside a record.
    #[error("record cut short")]
    Short,
    /// A kind that this version does not know.
    #[error("unknown record kind {0}")]
    UnknownKind(u8),
    /// Flags that this version does not know.
    #[error("unknown record flags {0:#04x}")]
    UnknownFlags(u8),
    /// A field that this version does not know the meaning of.
    #[error("reserved field of a record is not 0")]
    Reserved,
}

/// Length of a record in its frame, for a payload of `payload_len` bytes.
#[must_use]
pub const fn record_len(payload_len: usize) -> usize {
    RECORD_HEADER_BYTES + payload_len.next_multiple_of(ALIGNMENT)
}

impl RecordHead {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
        };
        put(0, &self.payload_len.to_le_bytes());
        put(4, &[self.kind as u8, 0, self.encoding]);
        put(8, &self.channel.get().to_le_bytes());
        put(16, &self.sequence.get().to_le_bytes());
        put(24, &self.time_delta_ns.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, BadRecord> {
        let [_, _, _, _, kind, flags, encoding, ..] = *bytes;
        let kind = RecordKind::from_u8(kind).ok_or(BadRecord::UnknownKind(kind))?;
        if flags != 0 {
            return Err(BadRecord::UnknownFlags(flags));
        }
        let u32_at = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(field.copied().unwrap_or_default())
        };
        let [_, _, _, _, _, _, _, reserved, ..] = *bytes;
        if reserved != 0 || u32_at(12) != 0 || u32_at(28) != 0 {
            return Err(BadRecord::Reserved);
        }
        let sequence = bytes.get(16..).and_then(|rest| rest.first_chunk());
        Ok(Self {
            kind,
            encoding,
            channel: ChannelId::new(u32_at(8)),
            sequence: Sequence::new(u64::from_le_bytes(sequence.copied().unwrap_or_default())),
            time_delta_ns: u32_at(24),
            payload_len: u32_at(0),
        })
    }
}

/// The records of a frame's payload, in order. After an error it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Begins at the start of a frame's payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    fn read(&mut self) -> Result<Record<'a>, BadRecord> {
        let (head, behind) = self.rest.split_first_chunk().ok_or(BadRecord::Short)?;
        let head = RecordHead::decode(head)?;
        let len = usize::try_from(head.payload_len).map_err(|_| BadRecord::Short)?;
        let payload = behind.get(..len).ok_or(BadRecord::Short)?;
        // The last record of a frame may go without its padding.
        let padded = len.checked_next_multiple_of(ALIGNMENT);
        self.rest = padded.and_then(|at| behind.get(at..)).unwrap_or_default();
        Ok(Record { head, payload })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> RecordHead {
        RecordHead {
            kind: RecordKind::Trim,
            encoding: 3,
            channel: ChannelId::new(9),
            sequence: Sequence::new(u64::MAX - 1),
            time_delta_ns: 77,
            payload_len: 5,
        }
    }

    #[test]
    fn header_comes_back_as_it_was_written() {
        assert_eq!(RecordHead::decode(&head().encode()), Ok(head()));
    }

    /// A record has no checksum of its own, so no bit of it may be without meaning.
    #[test]
    fn every_flipped_bit_of_a_header_is_refused_or_means_something_else() {
        let good = head().encode();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[index] ^= 1 << bit;
                let found = RecordHead::decode(&bad);
                assert_ne!(found, Ok(head()), "byte {index} bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let with = |index: usize, byte: u8| {
            let mut bytes = head().encode();
            bytes[index] = byte;
            RecordHead::decode(&bytes)
        };
        for kind in [0, 8, 15, 22, 63, 255] {
            assert_eq!(with(4, kind), Err(BadRecord::UnknownKind(kind)));
        }
        assert_eq!(with(5, 0x80), Err(BadRecord::UnknownFlags(0x80)));
        for reserved in [7, 12, 13, 14, 15, 28, 29, 30, 31] {
            assert_eq!(with(reserved, 1), Err(BadRecord::Reserved));
        }
    }

    #[test]
    fn records_end_at_the_first_that_is_cut() {
        let mut payload = head().encode().to_vec();
        payload.extend_from_slice(b"first\0\0\0");
        assert_eq!(payload.len(), record_len(5));
        payload.extend_from_slice(&head().encode());
        payload.extend_from_slice(b"other");
        for len in 0..=payload.len() {
            let mut records = Records::new(&payload[..len]);
            let found: Vec<_> = records.by_ref().map(|record| record.is_ok()).collect();
            let expected: &[bool] = match len {
                0 => &[],
                1..=36 => &[false],
                // The padding of the last record may be missing.
                37..=40 => &[true],
                41..=76 => &[true, false],
                _ => &[true, true],
            };
            assert_eq!(found, expected, "{len}");
            assert!(records.next().is_none());
        }
    }
}
