//! The fields of an encoded message, one after the other, without decoding what nobody asked for.
//!
//! The generator has to be faster than the server: a response with 256 messages is looked through
//! once, and nothing of it is copied.

use std::borrow::Cow;

use crate::payload::{Value, any_field};

/// Goes through the fields of a message. It ends at the end, or where the encoding is broken:
/// then [`Self::is_broken`] says so.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    broken: bool,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self {
            rest: message,
            broken: false,
        }
    }

    /// Whether the end was not the message's own.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = any_field(&mut self.rest);
        self.broken = field.is_none();
        field
    }
}

/// The bytes of a field; none of a number.
pub(super) const fn bytes(value: Value<'_>) -> &[u8] {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::Number(_) | Value::Fixed => &[],
    }
}

/// A field's text, for reports.
pub(super) fn text(value: Value<'_>) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes(value))
}

/// Whether a boolean is set.
pub(super) const fn is_set(value: &Value<'_>) -> bool {
    matches!(value, Value::Number(1..))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use ringmq_proto::kubemq::{QueueMessage, QueuesDownstreamResponse};

    use super::*;

    #[test]
    fn repeated_fields_come_in_their_order() {
        let message = |id: &str| QueueMessage {
            message_id: id.into(),
            ..QueueMessage::default()
        };
        let response = QueuesDownstreamResponse {
            transaction_id: "one".into(),
            messages: vec![message("a"), message("b")],
            is_error: true,
            ..QueuesDownstreamResponse::default()
        };
        let encoded = response.encode_to_vec();
        let fields = Fields::of(&encoded).map(|(number, value)| (number, bytes(value).to_vec()));
        let fields: Vec<_> = fields.collect();
        let (a, b) = (message("a").encode_to_vec(), message("b").encode_to_vec());
        assert_eq!(fields, [(1, b"one".to_vec()), (4, a), (4, b), (6, vec![])]);
    }

    #[test]
    fn a_message_cut_anywhere_ends_broken_or_between_fields() {
        let response = QueuesDownstreamResponse {
            transaction_id: "transaction".into(),
            error: "error".into(),
            ..QueuesDownstreamResponse::default()
        };
        let encoded = response.encode_to_vec();
        for length in 0..encoded.len() {
            let mut fields = Fields::of(&encoded[..length]);
            let count = fields.by_ref().count();
            let between = length == 0 || length == 13;
            assert_eq!(fields.is_broken(), !between, "cut at {length}");
            assert_eq!(count, usize::from(length >= 13));
        }
    }
}
