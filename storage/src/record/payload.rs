//! Payloads of the records that the log itself gives a meaning to. Those of messages are opaque.
//!
//! ```text
//! ChannelCreate        CursorCreate            CursorMove, each      CursorDelete
//!  0 u8 kind            0 u32 cursor            0 u32 cursor          0 u32 cursor
//!  1 7  reserved, 0     4 u8  owner             4 u32 reserved, 0     4 u32 reserved, 0
//!  8    name            5 3   reserved, 0       8 u64 sequence
//!                       8     name
//! ```
//!
//! The name goes to the end of the payload. What the numbers mean, and which names are allowed,
//! is decided by those who write the records.

use crate::codec::Fields;
use crate::id::{CursorId, Sequence};

/// Bytes before the name of a channel or a cursor.
const NAME_AT: usize = 8;

/// Bytes of one pair of a [`CursorMove`](super::RecordKind::CursorMove) record.
pub const MOVE_BYTES: usize = 16;

/// Bytes of the payload of a [`CursorDelete`](super::RecordKind::CursorDelete) record.
pub const CURSOR_DELETE_BYTES: usize = 8;

/// The checksum of a payload held, yet it is none of its kind: a newer version wrote it, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record payload does not have the form of its kind")]
pub struct BadPayload;

/// A channel that comes to be. Its number is in the record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelCreate<'a> {
    /// Pattern of the channel: 1 events store, 2 queue.
    pub kind: u8,
    /// Its name.
    pub name: &'a str,
}

impl<'a> ChannelCreate<'a> {
    /// Bytes that [`encode`](Self::encode) writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        NAME_AT + self.name.len()
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(self.name.as_bytes());
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`BadPayload`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, BadPayload> {
        let mut fields = Fields::new(payload);
        let kind = fields.u8().ok_or(BadPayload)?;
        fields.reserved::<7>().ok_or(BadPayload)?;
        let name = std::str::from_utf8(fields.rest()).map_err(|_| BadPayload)?;
        Ok(Self { kind, name })
    }
}

/// A durable position that comes to be. Its channel, and the last sequence that counts as
/// delivered, are in the record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorCreate<'a> {
    /// Its number.
    pub cursor: CursorId,
    /// Whose it is: 1 a client's, 2 a group's.
    pub owner: u8,
    /// Name of the owner.
    pub name: &'a str,
}

impl<'a> CursorCreate<'a> {
    /// Bytes that [`encode`](Self::encode) writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        NAME_AT + self.name.len()
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cursor.get().to_le_bytes());
        out.extend_from_slice(&[self.owner, 0, 0, 0]);
        out.extend_from_slice(self.name.as_bytes());
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`BadPayload`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, BadPayload> {
        let mut fields = Fields::new(payload);
        let cursor = fields.u32().map(CursorId::new).ok_or(BadPayload)?;
        let owner = fields.u8().ok_or(BadPayload)?;
        fields.reserved::<3>().ok_or(BadPayload)?;
        let name = std::str::from_utf8(fields.rest()).map_err(|_| BadPayload)?;
        Ok(Self {
            cursor,
            owner,
            name,
        })
    }
}

/// Appends the payload of a `CursorMove` record: [`MOVE_BYTES`] for each pair.
pub fn encode_moves(moves: &[(CursorId, Sequence)], out: &mut Vec<u8>) {
    out.reserve(moves.len().saturating_mul(MOVE_BYTES));
    for (cursor, sequence) in moves {
        out.extend_from_slice(&u64::from(cursor.get()).to_le_bytes());
        out.extend_from_slice(&sequence.get().to_le_bytes());
    }
}

/// Reads the payload of a `CursorMove` record: all of it is checked before the first pair comes.
///
/// # Errors
/// [`BadPayload`].
pub fn decode_moves(
    payload: &[u8],
) -> Result<impl ExactSizeIterator<Item = (CursorId, Sequence)> + '_, BadPayload> {
    let (pairs, behind) = payload.as_chunks::<MOVE_BYTES>();
    let whole = behind.is_empty() && pairs.iter().all(|pair| decode_move(pair).is_some());
    // The default is never seen: every pair was read before.
    let moves = pairs
        .iter()
        .map(|pair| decode_move(pair).unwrap_or_default());
    whole.then_some(moves).ok_or(BadPayload)
}

fn decode_move(pair: &[u8; MOVE_BYTES]) -> Option<(CursorId, Sequence)> {
    let mut fields = Fields::new(pair);
    let cursor = fields.u32().map(CursorId::new)?;
    fields.reserved::<4>()?;
    Some((cursor, Sequence::new(fields.u64()?)))
}

/// Appends the payload of a `CursorDelete` record: [`CURSOR_DELETE_BYTES`].
pub fn encode_cursor_delete(cursor: CursorId, out: &mut Vec<u8>) {
    out.extend_from_slice(&u64::from(cursor.get()).to_le_bytes());
}

/// Reads the payload of a `CursorDelete` record.
///
/// # Errors
/// [`BadPayload`].
pub fn decode_cursor_delete(payload: &[u8]) -> Result<CursorId, BadPayload> {
    let mut fields = Fields::new(payload);
    let cursor = fields.u32().map(CursorId::new);
    let whole = fields.reserved::<4>().is_some() && fields.rest().is_empty();
    cursor.filter(|_| whole).ok_or(BadPayload)
}
