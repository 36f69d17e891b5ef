//! Writing: lengths first, then every byte once.

use bytes::{BufMut, BytesMut};
use prost::encoding::encoded_len_varint;

use super::scan::{FieldNumber, FieldSet, Fields};

/// A gRPC frame begins with a flag, "not compressed", and a length.
pub(super) const FRAME_PREFIX_BYTES: usize = 5;

/// Makes room for a frame with a message of `message_bytes` and writes its prefix.
pub(super) fn begin_frame(message_bytes: usize, out: &mut BytesMut) {
    out.reserve(FRAME_PREFIX_BYTES + message_bytes);
    put_frame_prefix(message_bytes, out);
}

/// Writes the prefix of a frame alone, for a message that may never come behind it in this buffer.
pub(super) fn put_frame_prefix(message_bytes: usize, out: &mut BytesMut) {
    out.put_u8(0);
    // INVARIANT: views are made of at most MESSAGE_BYTES_MAX bytes, and what is added to them
    // (an id, a reply channel, two numbers) is far below the other half of the range.
    debug_assert!(u32::try_from(message_bytes).is_ok());
    out.put_u32(u32::try_from(message_bytes).unwrap_or(u32::MAX));
}

/// Writes a number of variable length in one piece: a byte at a time costs a check of the buffer
/// for each, which shows at a million events a second.
#[inline]
fn put_varint(mut value: u64, out: &mut impl BufMut) {
    const MORE: u8 = 0x80;
    let low_bits = |value: u64| value.to_le_bytes()[0];
    if value < u64::from(MORE) {
        return out.put_u8(low_bits(value));
    }
    let mut bytes = [0; 10];
    let mut len = 0;
    for byte in &mut bytes {
        len += 1;
        if value < u64::from(MORE) {
            *byte = low_bits(value);
            break;
        }
        *byte = low_bits(value) | MORE;
        value >>= 7;
    }
    out.put_slice(bytes.get(..len).unwrap_or_default());
}

/// What a field of text or bytes takes; nothing when it is empty. For numbers below 16.
pub(super) fn bytes_field_len(value: &[u8]) -> usize {
    match value.len() {
        0 => 0,
        len => 1 + encoded_len_varint(to_u64(len)) + len,
    }
}

/// Writes a field of text or bytes, or nothing when it is empty.
pub(super) fn put_bytes_field(number: FieldNumber, value: &[u8], out: &mut impl BufMut) {
    if value.is_empty() {
        return;
    }
    put_field_prefix(number, value.len(), out);
    out.put_slice(value);
}

/// What stands before an embedded message, or before text, of `len` bytes. For numbers below 16.
pub(super) fn field_prefix_len(len: usize) -> usize {
    1 + encoded_len_varint(to_u64(len))
}

/// Writes what stands before an embedded message of `len` bytes, which may be empty.
pub(super) fn put_field_prefix(number: FieldNumber, len: usize, out: &mut impl BufMut) {
    put_varint(u64::from(number << 3 | 2), out);
    put_varint(to_u64(len), out);
}

/// What a field with a number takes; nothing when it is 0. For field numbers below 16.
pub(super) fn varint_field_len(value: u64) -> usize {
    match value {
        0 => 0,
        value => 1 + encoded_len_varint(value),
    }
}

/// Writes a field with a number, or nothing when it is 0.
pub(super) fn put_varint_field(number: FieldNumber, value: u64, out: &mut impl BufMut) {
    if value != 0 {
        put_varint(u64::from(number << 3), out);
        put_varint(value, out);
    }
}

/// A message without some of its fields.
#[derive(Clone, Copy)]
pub(super) struct Remainder<'a> {
    message: &'a [u8],
    drop: FieldSet,
    /// Whether any field to drop is there at all; mostly none is.
    any: bool,
    len: usize,
}

impl<'a> Remainder<'a> {
    /// `message`, of which the fields `present` are known to be there, without the fields `drop`.
    pub(super) fn new(message: &'a [u8], present: FieldSet, drop: FieldSet) -> Self {
        let any = present.intersects(drop);
        let mut len = message.len();
        if any {
            for field in Fields::new(message).map_while(Result::ok) {
                if drop.contains(field.number) {
                    len -= field.end - field.start;
                }
            }
        }
        Self {
            message,
            drop,
            any,
            len,
        }
    }

    /// What remains, in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies what remains, in as few pieces as there are.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let mut kept = 0;
        if self.any {
            for field in Fields::new(self.message).map_while(Result::ok) {
                if self.drop.contains(field.number) {
                    out.extend_from_slice(self.message.get(kept..field.start).unwrap_or_default());
                    kept = field.end;
                }
            }
        }
        out.extend_from_slice(self.message.get(kept..).unwrap_or_default());
    }

    /// Where the byte at `offset` of the message ends up.
    pub(super) fn moved(&self, offset: usize) -> usize {
        let mut moved = offset;
        if self.any {
            for field in Fields::new(self.message).map_while(Result::ok) {
                if self.drop.contains(field.number) && field.start < offset {
                    moved -= field.end - field.start;
                }
            }
        }
        moved
    }
}

/// Lengths in memory fit 64 bits.
pub(super) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Offsets and lengths within a frame fit 32 bits, see [`begin_frame`].
pub(super) fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
