//! Bodies that carry their number and the time at which they should have been sent.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::Event;

/// Bytes at the head of each body: number, then intended time in nanoseconds.
pub(crate) const STAMP_BYTES: usize = 16;

/// Bytes of an event id; the last 16 are the number of a stored event.
const ID: &[u8; 24] = b"loadgen-0000000000000000";

/// Bytes of a gRPC message before its content.
const PREFIX_BYTES: usize = 5;

/// An encoded event whose body is stamped anew for each message.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    body_at: usize,
    /// Where the number of a stored event's id goes: receipts are matched by it.
    id_at: Option<usize>,
}

impl Template {
    /// Makes the frame of an event to `channel` with a body of `size` bytes.
    pub(crate) fn new(channel: &str, size: usize) -> Self {
        Self::of(channel, size, false)
    }

    /// Makes that of a stored event.
    pub(crate) fn stored(channel: &str, size: usize) -> Self {
        Self::of(channel, size, true)
    }

    fn of(channel: &str, size: usize, store: bool) -> Self {
        let event = Event {
            event_id: String::from_utf8_lossy(ID).into_owned(),
            client_id: "loadgen-publisher".into(),
            channel: channel.into(),
            metadata: "loadgen".into(),
            // The body is found again by this filling; ids and names hold no such run.
            body: Bytes::from(vec![0xA5; size]),
            store,
            ..Event::default()
        };
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(u32::try_from(event.encoded_len()).unwrap_or(u32::MAX));
        message.extend_from_slice(&event.encode_to_vec());
        let frame = message.to_vec();
        let body_at = frame
            .iter()
            .position(|byte| *byte == 0xA5)
            .unwrap_or_default();
        let id_at = frame.windows(ID.len()).position(|bytes| bytes == ID);
        let id_at = id_at.filter(|_| store).map(|at| at + ID.len() - 16);
        Self {
            frame,
            body_at,
            id_at,
        }
    }

    /// Writes the frame of message `number`.
    pub(crate) fn write(&self, number: u64, intended_ns: u64, out: &mut BytesMut) {
        let begin = out.len();
        let start = begin + self.body_at;
        out.extend_from_slice(&self.frame);
        if let Some(stamp) = out.get_mut(start..start + STAMP_BYTES) {
            let (first, second) = stamp.split_at_mut(8);
            first.copy_from_slice(&number.to_le_bytes());
            second.copy_from_slice(&intended_ns.to_le_bytes());
        }
        let digits = self.id_at.map(|at| begin + at..begin + at + 16);
        if let Some(digits) = digits.and_then(|range| out.get_mut(range)) {
            digits.copy_from_slice(&hexadecimal(number));
        }
    }

    /// Message `number` as a unary call takes it.
    pub(crate) fn message(&self, number: u64, intended_ns: u64) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.frame.len());
        self.write(number, intended_ns, &mut frame);
        frame.freeze().slice(PREFIX_BYTES..)
    }

    /// The id of stored event `number`.
    pub(crate) fn event_id(number: u64) -> [u8; 24] {
        let mut id = *ID;
        if let Some(digits) = id.last_chunk_mut::<16>() {
            *digits = hexadecimal(number);
        }
        id
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let value = u8::try_from(rest & 0xF).unwrap_or_default();
        *digit = if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        };
        rest >>= 4;
    }
    digits
}

/// The value of a number field of a message.
pub(crate) fn number_field(mut message: &[u8], number: u64) -> Option<u64> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == number {
                    return Some(value);
                }
            }
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                (_, message) = message.split_at_checked(len)?;
            }
            _ => return None,
        }
    }
    None
}

/// The bytes of field `number` of a message, for the few fields that the hot loops need.
pub(crate) fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                varint(&mut message)?;
            }
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(len)?;
                if key >> 3 == number {
                    return Some(value);
                }
                message = rest;
            }
            _ => return None,
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
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

/// The stamp of a body: number and intended time.
pub(crate) fn stamp(body: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    let (intended, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), u64::from_le_bytes(*intended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_events_carry_their_number_in_id_and_body() {
        let template = Template::stored("a.channel", 64);
        let event = Event::decode(template.message(0xBEEF, 7)).unwrap();
        assert!(event.store);
        assert_eq!(event.event_id, "loadgen-000000000000beef");
        assert_eq!(event.event_id.as_bytes(), Template::event_id(0xBEEF));
        assert_eq!(stamp(&event.body), Some((0xBEEF, 7)));
        assert_eq!(event.body.len(), 64);
        assert_eq!(number_field(&template.message(1, 1), 6), Some(1));
    }

    #[test]
    fn plain_events_keep_one_id() {
        let template = Template::new("a.channel", 16);
        let event = Event::decode(template.message(5, 7)).unwrap();
        assert!(!event.store);
        assert_eq!(event.event_id.as_bytes(), ID);
        assert_eq!(stamp(&event.body), Some((5, 7)));
    }
}
