//! Protobuf, as far as the hot loops need it: a field looked for, a field written.

use bytes::{BufMut, BytesMut};

/// Bytes of a gRPC message before its content: a flag and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The bytes of field `number` of a message.
pub(crate) fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let (key, value) = any_field(&mut message)?;
        if let Value::Bytes(value) = value
            && key == number
        {
            return Some(value);
        }
    }
    None
}

/// The value of number field `number` of a message.
pub(crate) fn number_field(mut message: &[u8], number: u64) -> Option<u64> {
    while !message.is_empty() {
        let (key, value) = any_field(&mut message)?;
        if let Value::Number(value) = value
            && key == number
        {
            return Some(value);
        }
    }
    None
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width; nothing that the hot loops need.
    Fixed,
}

/// Takes a field off the front of a message that is not empty: its number and its value. `None`:
/// this is no message.
pub(crate) fn any_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(message)?;
    let value = match key & 7 {
        0 => Value::Number(varint(message)?),
        2 => {
            let len = usize::try_from(varint(message)?).ok()?;
            Value::Bytes(take(message, len)?)
        }
        1 => take(message, 8).map(|_| Value::Fixed)?,
        5 => take(message, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take<'a>(message: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (value, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(value)
}

/// Takes a number off the front.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends a number.
pub(crate) fn put_varint(mut value: usize, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(value & 0x7F).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// Bytes that a number takes.
pub(crate) const fn varint_bytes(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
