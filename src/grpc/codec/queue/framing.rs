//! How a stored message becomes a field of an answer: the body as it lies in the log, and behind
//! it what is only known at delivery. Protobuf fields may come in any order.

use std::time::Duration;

use bytes::BytesMut;

use super::md5;
use super::{ATTRIBUTES, BODY, CHANNEL, POLICY, PolicyView};
use crate::grpc::codec::scan::Fields;
use crate::grpc::codec::write::{
    bytes_field_len, field_prefix_len, put_bytes_field, put_field_prefix, put_varint_field,
    varint_field_len,
};
use crate::shard::{BodyPolicy, HandedMessage, QueueFraming};

/// A policy without anything in it. Decoders merge it with the one of the body, so its zeros are
/// written out.
const EMPTY_POLICY: [u8; 8] = [0x08, 0, 0x10, 0, 0x18, 0, 0x22, 0];

/// How stored messages become what consumers get. With `body_md5` they get the MD5 of the body,
/// which is computed for every delivery.
#[must_use]
pub fn queue_framing(body_md5: bool) -> QueueFraming {
    if body_md5 {
        QueueFraming {
            before: before::<true>,
            after: after::<true>,
            policy,
        }
    } else {
        QueueFraming {
            before: before::<false>,
            after: after::<false>,
            policy,
        }
    }
}

fn before<const MD5: bool>(field: u32, message: &HandedMessage<'_>, out: &mut BytesMut) {
    let len = message.body.len() + suffix_len::<MD5>(message);
    put_field_prefix(field, len, out);
}

fn after<const MD5: bool>(message: &HandedMessage<'_>, out: &mut BytesMut) {
    out.reserve(suffix_len::<MD5>(message));
    put_bytes_field(CHANNEL, moved_to(message).as_bytes(), out);
    if message.head.policy_cleared {
        put_bytes_field(POLICY, &EMPTY_POLICY, out);
    }
    let attributes = Attributes::<MD5>::of(message);
    put_field_prefix(ATTRIBUTES, attributes.len(), out);
    attributes.write(message.body, out);
}

fn suffix_len<const MD5: bool>(message: &HandedMessage<'_>) -> usize {
    let policy: &[u8] = if message.head.policy_cleared {
        &EMPTY_POLICY
    } else {
        &[]
    };
    let attributes = Attributes::<MD5>::of(message).len();
    bytes_field_len(moved_to(message).as_bytes())
        + bytes_field_len(policy)
        + field_prefix_len(attributes)
        + attributes
}

/// The channel of a message that was moved: the body says where it was sent first.
fn moved_to<'a>(message: &HandedMessage<'a>) -> &'a str {
    if message.head.moved.is_some() {
        message.channel
    } else {
        ""
    }
}

/// The numbers that a consumer sees. The sender's were never stored, so nothing must be
/// overwritten and zeros are left out.
struct Attributes<'a, const MD5: bool> {
    timestamp: u64,
    sequence: u64,
    receive_count: u64,
    rerouted: bool,
    rerouted_from: &'a str,
    expiration_at: u64,
    delayed_to: u64,
}

impl<'a, const MD5: bool> Attributes<'a, MD5> {
    fn of(message: &HandedMessage<'a>) -> Self {
        let head = &message.head;
        Self {
            timestamp: message.timestamp_ns,
            sequence: message.sequence,
            // The contract's number has 31 bits.
            receive_count: u64::from(message.receives.min(i32::MAX.cast_unsigned())),
            rerouted: head.rerouted,
            // Where other moves came from is for operators only, as clients have always seen it.
            rerouted_from: if head.rerouted { head.origin } else { "" },
            expiration_at: head.expires_at_ns,
            delayed_to: head.visible_at_ns,
        }
    }

    fn len(&self) -> usize {
        let md5 = if MD5 {
            field_prefix_len(md5::HEX_LEN) + md5::HEX_LEN
        } else {
            0
        };
        varint_field_len(self.timestamp)
            + varint_field_len(self.sequence)
            + md5
            + varint_field_len(self.receive_count)
            + varint_field_len(u64::from(self.rerouted))
            + bytes_field_len(self.rerouted_from.as_bytes())
            + varint_field_len(self.expiration_at)
            + varint_field_len(self.delayed_to)
    }

    fn write(&self, body: &[u8], out: &mut BytesMut) {
        put_varint_field(1, self.timestamp, out);
        put_varint_field(2, self.sequence, out);
        if MD5 {
            put_bytes_field(3, &md5::hex(payload(body)), out);
        }
        put_varint_field(4, self.receive_count, out);
        put_varint_field(5, u64::from(self.rerouted), out);
        put_bytes_field(6, self.rerouted_from.as_bytes(), out);
        put_varint_field(7, self.expiration_at, out);
        put_varint_field(8, self.delayed_to, out);
    }
}

/// The policy in a stored body; none where there is none that can be read.
fn policy(body: &[u8]) -> BodyPolicy<'_> {
    let mut policy = PolicyView::default();
    for field in Fields::new(body).map_while(Result::ok) {
        if field.number == POLICY && policy.merge(&field).is_err() {
            return BodyPolicy::default();
        }
    }
    let seconds = u64::try_from(policy.expiration_seconds).unwrap_or(0);
    BodyPolicy {
        expiration: Duration::from_secs(seconds),
        receives_max: u32::try_from(policy.max_receive_count).unwrap_or(0),
        dead_letter: policy.max_receive_queue,
    }
}

/// The sender's payload in a stored body.
fn payload(body: &[u8]) -> &[u8] {
    Fields::new(body)
        .map_while(Result::ok)
        .filter(|field| field.number == BODY)
        .filter_map(|field| field.bytes().ok())
        .last()
        .unwrap_or_default()
}
