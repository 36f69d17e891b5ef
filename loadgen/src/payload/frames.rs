//! The messages of one producer: fields around the body prepared, id and body written each time.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Event, QueueMessage, Request};

use super::{Bodies, PREFIX_BYTES, Stamp, put_varint, varint_bytes};

/// Bytes of an id: the producer's and the message's number in hexadecimal digits.
pub(crate) const ID_BYTES: usize = 24;

/// Where the digits of the message's number begin in an id.
const NUMBER_AT: usize = 8;

/// The first field of events, queue messages and requests is their id: a key, a length, the id.
const ID_AT: usize = 2;

/// Messages of one producer to one channel, each with its id, its stamp and a body of a drawn
/// size.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    /// The fields in front of the body; the id is first.
    before: Vec<u8>,
    body_key: u8,
    /// The fields behind the body.
    after: Vec<u8>,
    stamp: Stamp,
    bodies: Bodies,
}

/// Who sends, and where to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending<'a> {
    pub channel: &'a str,
    pub client_id: &'a str,
    pub run: u64,
    pub flow: u32,
    pub producer: u32,
}

impl Frames {
    /// Events, stored or plain. An echo server gets these, too.
    pub(crate) fn event(sending: &Sending<'_>, store: bool, bodies: Bodies) -> Self {
        let before = Event {
            event_id: first_id(sending),
            client_id: sending.client_id.into(),
            channel: sending.channel.into(),
            metadata: "loadgen".into(),
            ..Event::default()
        };
        let after = Event {
            store,
            ..Event::default()
        };
        Self::new(
            sending,
            (before.encode_to_vec(), after.encode_to_vec()),
            5,
            bodies,
        )
    }

    /// Messages of a queue.
    pub(crate) fn queue_message(sending: &Sending<'_>, bodies: Bodies) -> Self {
        let before = QueueMessage {
            message_id: first_id(sending),
            client_id: sending.client_id.into(),
            channel: sending.channel.into(),
            metadata: "loadgen".into(),
            ..QueueMessage::default()
        };
        Self::new(sending, (before.encode_to_vec(), Vec::new()), 5, bodies)
    }

    /// Commands and queries; the server waits `timeout_ms` for the answer.
    pub(crate) fn request(
        sending: &Sending<'_>,
        kind: RequestType,
        timeout_ms: i32,
        bodies: Bodies,
    ) -> Self {
        let before = Request {
            request_id: first_id(sending),
            request_type_data: kind.into(),
            client_id: sending.client_id.into(),
            channel: sending.channel.into(),
            metadata: "loadgen".into(),
            ..Request::default()
        };
        let after = Request {
            timeout: timeout_ms,
            ..Request::default()
        };
        Self::new(
            sending,
            (before.encode_to_vec(), after.encode_to_vec()),
            6,
            bodies,
        )
    }

    fn new(
        sending: &Sending<'_>,
        (before, after): (Vec<u8>, Vec<u8>),
        body_field: u8,
        bodies: Bodies,
    ) -> Self {
        let stamp = Stamp {
            run: sending.run,
            flow: sending.flow,
            producer: sending.producer,
            number: 0,
            intended_ns: 0,
        };
        Self {
            before,
            body_key: body_field << 3 | 2,
            after,
            stamp,
            bodies,
        }
    }

    /// Appends message `number` as a stream takes it, with its gRPC prefix; gives back the bytes
    /// of its body.
    pub(crate) fn frame(&mut self, number: u64, intended_ns: u64, out: &mut BytesMut) -> usize {
        let body = self.bodies.next_len();
        let message = self.message_bytes(body);
        out.reserve(PREFIX_BYTES + message);
        out.put_u8(0);
        out.put_u32(u32::try_from(message).unwrap_or(u32::MAX));
        self.put(number, intended_ns, body, out);
        body
    }

    /// Appends message `number` as field `key >> 3` of a message around it; gives back the bytes
    /// of its body.
    pub(crate) fn nested(
        &mut self,
        field: u8,
        number: u64,
        intended_ns: u64,
        out: &mut BytesMut,
    ) -> usize {
        let body = self.bodies.next_len();
        let message = self.message_bytes(body);
        out.reserve(1 + varint_bytes(message) + message);
        out.put_u8(field << 3 | 2);
        put_varint(message, out);
        self.put(number, intended_ns, body, out);
        body
    }

    /// Message `number` as a unary call takes it, and the bytes of its body.
    pub(crate) fn message(&mut self, number: u64, intended_ns: u64) -> (Bytes, usize) {
        let body = self.bodies.next_len();
        let mut out = BytesMut::with_capacity(self.message_bytes(body));
        self.put(number, intended_ns, body, &mut out);
        (out.freeze(), body)
    }

    /// Bytes of a message whose body is so large.
    fn message_bytes(&self, body: usize) -> usize {
        self.before.len() + 1 + varint_bytes(body) + body + self.after.len()
    }

    fn put(&mut self, number: u64, intended_ns: u64, body: usize, out: &mut BytesMut) {
        let id_at = out.len() + ID_AT;
        out.extend_from_slice(&self.before);
        let digits = out.get_mut(id_at + NUMBER_AT..id_at + ID_BYTES);
        if let Some(digits) = digits {
            digits.copy_from_slice(&hexadecimal(number));
        }
        out.put_u8(self.body_key);
        put_varint(body, out);
        self.stamp.number = number;
        self.stamp.intended_ns = intended_ns;
        self.bodies.put(&self.stamp, body, out);
        out.extend_from_slice(&self.after);
    }
}

/// The producer and the number of a message, by the id it was sent with.
pub(crate) fn read_id(id: &[u8]) -> Option<(u32, u64)> {
    let id: &[u8; ID_BYTES] = id.try_into().ok()?;
    let (producer, number) = id.split_at(NUMBER_AT);
    let producer = u32::try_from(from_hexadecimal(producer)?).ok()?;
    Some((producer, from_hexadecimal(number)?))
}

/// The id of a message: what [`read_id`] reads.
pub(crate) fn id(producer: u32, number: u64) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    let (head, digits) = id.split_at_mut(NUMBER_AT);
    head.copy_from_slice(&half(u64::from(producer)).to_be_bytes());
    digits.copy_from_slice(&hexadecimal(number));
    id
}

fn first_id(sending: &Sending<'_>) -> String {
    String::from_utf8_lossy(&id(sending.producer, 0)).into_owned()
}

/// The digits of a number, all at once: each nibble into a byte of its own, and the letters lie 39
/// above the digits.
fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let (high, low) = digits.split_at_mut(8);
    high.copy_from_slice(&half(number >> 32).to_be_bytes());
    low.copy_from_slice(&half(number & 0xFFFF_FFFF).to_be_bytes());
    digits
}

const fn half(number: u64) -> u64 {
    let spread = (number | number << 16) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    let spread = (spread | spread << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // 6 more brings what is above 9 into the next nibble.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * 39
}

fn from_hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::{from_hexadecimal, hexadecimal, id, read_id};

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        let numbers = [0, 9, 10, 0xBEEF, 0x0123_4567_89AB_CDEF, u64::MAX, 1 << 63];
        for number in numbers {
            let digits = hexadecimal(number);
            assert_eq!(String::from_utf8_lossy(&digits), format!("{number:016x}"));
            assert_eq!(from_hexadecimal(&digits), Some(number));
        }
        assert_eq!(from_hexadecimal(b"xy"), None);
    }

    #[test]
    fn ids_are_read_back() {
        for (producer, number) in [(0, 0), (0xABC, 7), (u32::MAX, u64::MAX)] {
            assert_eq!(read_id(&id(producer, number)), Some((producer, number)));
        }
    }
}
