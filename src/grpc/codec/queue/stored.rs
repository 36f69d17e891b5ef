//! A message as it is stored: its head, then its body as consumers get it.

use std::borrow::Cow;
use std::time::Duration;

use ringmq_storage::record::queue::QueueHead;

use super::{BODY, CHANNEL, POLICY, QueueLimits, QueueMessageView, SendFacts};
use crate::grpc::codec::write::{
    bytes_field_len, field_prefix_len, put_bytes_field, put_field_prefix, put_varint_field,
    varint_field_len,
};

/// A checked message on its way into the log.
#[derive(Clone, Debug)]
pub struct StoredMessage<'a> {
    view: QueueMessageView<'a>,
    message_id: Cow<'a, str>,
    sent_at_ns: u64,
    head: QueueHead<'a>,
    policy_len: usize,
    len: usize,
}

impl<'a> StoredMessage<'a> {
    /// Fixes what the message's policy says, at this time. The message has been checked: its
    /// numbers are within `limits`.
    #[must_use]
    pub fn new(
        view: QueueMessageView<'a>,
        message_id: Cow<'a, str>,
        limits: &QueueLimits,
        sent_at_ns: u64,
    ) -> Self {
        let policy = view.policy;
        let visible_at_ns = match seconds_ns(policy.delay_seconds) {
            0 => 0,
            delay => sent_at_ns.saturating_add(delay),
        };
        let expires_at_ns = match seconds_ns(policy.expiration_seconds) {
            0 => 0,
            expiration => sent_at_ns.max(visible_at_ns).saturating_add(expiration),
        };
        let receives_max = match u32::try_from(policy.max_receive_count) {
            Ok(0) | Err(_) => limits.receives_max,
            Ok(given) => given,
        };
        let mut message = Self {
            view,
            message_id,
            sent_at_ns,
            head: QueueHead {
                visible_at_ns,
                expires_at_ns,
                receives_max: receives_max.max(1),
                rerouted: false,
                policy_cleared: false,
                dead_letter: policy.max_receive_queue,
                origin: "",
                moved: None,
            },
            policy_len: 0,
            len: 0,
        };
        message.policy_len = message.policy_len();
        message.len = message.head.encoded_len() + message.body_len();
        message
    }

    /// The message's id, given or generated.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The queue.
    #[must_use]
    pub const fn channel(&self) -> &'a str {
        self.view.channel
    }

    /// The message as it came.
    #[must_use]
    pub const fn view(&self) -> &QueueMessageView<'a> {
        &self.view
    }

    /// What its sender is told of it.
    #[must_use]
    pub const fn facts(&self) -> SendFacts {
        SendFacts {
            sent_at_ns: self.sent_at_ns,
            expires_at_ns: self.head.expires_at_ns,
            visible_at_ns: self.head.visible_at_ns,
        }
    }

    /// Bytes that [`encode`](Self::encode) writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.len
    }

    /// Appends the stored form. Fields that the contract does not know are dropped.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.head.encode(out);
        let view = &self.view;
        put_bytes_field(1, self.message_id.as_bytes(), out);
        put_bytes_field(2, view.client_id.as_bytes(), out);
        put_bytes_field(CHANNEL, view.channel.as_bytes(), out);
        put_bytes_field(4, view.metadata.as_bytes(), out);
        put_bytes_field(BODY, view.body, out);
        view.tags.write(out);
        put_field_prefix(POLICY, self.policy_len, out);
        put_varint_field(1, int32_bits(view.policy.expiration_seconds), out);
        put_varint_field(3, u64::from(self.head.receives_max), out);
        put_bytes_field(4, self.head.dead_letter.as_bytes(), out);
        put_bytes_field(9, view.topic.as_bytes(), out);
        put_varint_field(10, int32_bits(view.partition), out);
        put_bytes_field(11, view.partition_key.as_bytes(), out);
        debug_assert_eq!(out.len(), start + self.len);
    }

    fn body_len(&self) -> usize {
        let view = &self.view;
        bytes_field_len(self.message_id.as_bytes())
            + bytes_field_len(view.client_id.as_bytes())
            + bytes_field_len(view.channel.as_bytes())
            + bytes_field_len(view.metadata.as_bytes())
            + bytes_field_len(view.body)
            + view.tags.encoded_len()
            + field_prefix_len(self.policy_len)
            + self.policy_len
            + bytes_field_len(view.topic.as_bytes())
            + varint_field_len(int32_bits(view.partition))
            + bytes_field_len(view.partition_key.as_bytes())
    }

    fn policy_len(&self) -> usize {
        varint_field_len(int32_bits(self.view.policy.expiration_seconds))
            + varint_field_len(u64::from(self.head.receives_max))
            + bytes_field_len(self.head.dead_letter.as_bytes())
    }
}

fn seconds_ns(seconds: i32) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    u64::try_from(Duration::from_secs(seconds).as_nanos()).unwrap_or(u64::MAX)
}

/// How proto3 writes an `int32`: extended to 64 bits, with its sign.
fn int32_bits(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}
