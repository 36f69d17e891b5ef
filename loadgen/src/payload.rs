//! Bodies that carry their number and the time at which they should have been sent.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::Event;

/// Bytes at the head of each body: number, then intended time in nanoseconds.
pub(crate) const STAMP_BYTES: usize = 16;

/// An encoded event whose body is stamped anew for each message.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    body_at: usize,
}

impl Template {
    /// Makes the frame of an event to `channel` with a body of `size` bytes.
    pub(crate) fn new(channel: &str, size: usize) -> Self {
        let event = Event {
            event_id: "loadgen-event-id-00000".into(),
            client_id: "loadgen-publisher".into(),
            channel: channel.into(),
            metadata: "loadgen".into(),
            // The body is found again by this filling; ids and names hold no such run.
            body: Bytes::from(vec![0xA5; size]),
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
        Self { frame, body_at }
    }

    /// Writes the frame of message `number`.
    pub(crate) fn write(&self, number: u64, intended_ns: u64, out: &mut BytesMut) {
        let start = out.len() + self.body_at;
        out.extend_from_slice(&self.frame);
        if let Some(stamp) = out.get_mut(start..start + STAMP_BYTES) {
            let (first, second) = stamp.split_at_mut(8);
            first.copy_from_slice(&number.to_le_bytes());
            second.copy_from_slice(&intended_ns.to_le_bytes());
        }
    }
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
