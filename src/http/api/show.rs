//! Messages as the management port shows them: bodies decoded, tags as a text of JSON, times in
//! milliseconds.

use std::collections::{BTreeMap, HashMap};

use ringmq_proto::kubemq;
use serde::Serialize;
use serde_json::Value;

const MILLISECOND_NS: i64 = 1_000_000;

/// A body: JSON where it is an object or an array of objects, otherwise a text.
pub(super) fn body(bytes: &[u8]) -> Value {
    let looks_like_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
    let value = looks_like_json
        .then(|| serde_json::from_slice(bytes).ok())
        .flatten();
    match value {
        Some(object @ Value::Object(_)) => object,
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Value::Array(items),
        _ => Value::String(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Tags: a JSON object within a text, its keys in order; empty for none.
pub(super) fn tags(tags: &HashMap<String, String>) -> String {
    if tags.is_empty() {
        return String::new();
    }
    let ordered: BTreeMap<_, _> = tags.iter().collect();
    serde_json::to_string(&ordered).unwrap_or_default()
}

pub(super) const fn ms(ns: i64) -> i64 {
    ns / MILLISECOND_NS
}

/// A message of a queue; everything is always there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueMessage {
    message_id: String,
    client_id: String,
    metadata: String,
    body: Value,
    timestamp: i64,
    sequence: u64,
    tags: String,
    received_count: i32,
    re_routed_from: String,
    expiration_at: i64,
    delayed_to: i64,
}

impl QueueMessage {
    pub(super) fn new(message: kubemq::QueueMessage) -> Self {
        let attributes = message.attributes.unwrap_or_default();
        Self {
            body: body(&message.body),
            tags: tags(&message.tags),
            message_id: message.message_id,
            client_id: message.client_id,
            metadata: message.metadata,
            timestamp: ms(attributes.timestamp),
            sequence: attributes.sequence,
            received_count: attributes.receive_count,
            re_routed_from: attributes.re_routed_from_queue,
            expiration_at: ms(attributes.expiration_at),
            delayed_to: ms(attributes.delayed_to),
        }
    }
}

/// An event, plain or stored, as a subscriber sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    message_id: String,
    metadata: String,
    body: Value,
    timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
    #[serde(skip_serializing_if = "is_zero")]
    sequence: u64,
}

impl Event {
    pub(super) fn new(event: kubemq::EventReceive) -> Self {
        Self {
            body: body(&event.body),
            tags: tags(&event.tags),
            message_id: event.event_id,
            metadata: event.metadata,
            timestamp: ms(event.timestamp),
            sequence: event.sequence,
        }
    }

    /// Its number in the channel; 0 for a plain event.
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A command or a query as a responder sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    request_id: String,
    metadata: String,
    body: Value,
    timestamp: i64,
    reply_channel: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
    is_command: bool,
}

impl Request {
    pub(super) fn new(request: kubemq::Request, now_ns: i64) -> Self {
        use kubemq::request::RequestType;
        Self {
            is_command: request.request_type_data() == RequestType::Command,
            body: body(&request.body),
            tags: tags(&request.tags),
            request_id: request.request_id,
            metadata: request.metadata,
            timestamp: ms(now_ns),
            reply_channel: request.reply_channel,
        }
    }
}

/// The answer to a command or a query.
#[derive(Debug, Serialize)]
pub(super) struct Response {
    metadata: String,
    body: Value,
    tags: String,
    timestamp: i64,
    executed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl Response {
    pub(super) fn new(response: kubemq::Response, now_ns: i64) -> Self {
        Self {
            metadata: response.metadata,
            body: body(&response.body),
            tags: tags(&response.tags),
            // The responder's own time has a unit of its choice.
            timestamp: ms(now_ns),
            executed: response.executed,
            error: response.error,
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serialisation asks so for it"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_objects_and_arrays_of_objects_are_decoded() {
        assert_eq!(body(b"{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(body(b" [{\"a\":1},{}]"), json!([{"a": 1}, {}]));
        assert_eq!(body(b"[1,2]"), json!("[1,2]"));
        assert_eq!(body(b"{broken"), json!("{broken"));
        assert_eq!(body(b"plain"), json!("plain"));
        assert_eq!(body(b"5"), json!("5"));
        assert_eq!(body(b""), json!(""));
        assert_eq!(body(b"\xff"), json!("\u{fffd}"));
    }

    #[test]
    fn tags_are_a_text_of_json_in_order() {
        let pairs = [("b", "2"), ("a", "\"")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(tags(&HashMap::from(pairs)), r#"{"a":"\"","b":"2"}"#);
        assert_eq!(tags(&HashMap::new()), "");
    }
}
