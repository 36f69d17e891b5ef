//! Messages, as they are written: one shape for all kinds, with the fields that each of them has.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use ringmq_proto::kubemq::{EventReceive, QueueMessage, Request, Response, SendQueueMessageResult};
use serde::Serialize;

use super::{Output, Style};
use crate::cli::text;

/// A message that came. Fields that it does not have are left out; the names stay as they are.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Shown<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receives: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    dead_letter_of: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executed: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_hit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Text when it is one; base64 under a name of its own otherwise.
#[derive(Debug, Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip)]
    bytes: &'a [u8],
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A moment of the contract, which is 0 when there is none.
fn moment(unix_ns: i64) -> Option<String> {
    let unix_ns = u64::try_from(unix_ns).ok().filter(|ns| *ns > 0);
    unix_ns.map(text::time_ms)
}

fn sorted(tags: &HashMap<String, String>) -> BTreeMap<&str, &str> {
    let tags = tags.iter();
    tags.map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

impl<'a> Body<'a> {
    fn of(bytes: &'a Bytes) -> Self {
        let body = std::str::from_utf8(bytes).ok();
        Self {
            body,
            body_base64: body.is_none().then(|| text::base64(bytes)),
            bytes,
        }
    }
}

impl<'a> Shown<'a> {
    /// An event, or a stored one.
    pub(in crate::cli) fn event(event: &'a EventReceive) -> Self {
        Self {
            channel: &event.channel,
            sequence: event.sequence,
            time: moment(event.timestamp),
            id: &event.event_id,
            metadata: &event.metadata,
            tags: sorted(&event.tags),
            body: Body::of(&event.body),
            ..Self::default()
        }
    }

    /// A message of a queue.
    pub(in crate::cli) fn queue_message(message: &'a QueueMessage) -> Self {
        let attributes = message.attributes.as_ref();
        Self {
            channel: &message.channel,
            sequence: attributes.map_or(0, |found| found.sequence),
            time: attributes.and_then(|found| moment(found.timestamp)),
            receives: attributes.map(|found| found.receive_count),
            dead_letter_of: attributes.map_or("", |found| &found.re_routed_from_queue),
            expires: attributes.and_then(|found| moment(found.expiration_at)),
            id: &message.message_id,
            client: &message.client_id,
            metadata: &message.metadata,
            tags: sorted(&message.tags),
            body: Body::of(&message.body),
            ..Self::default()
        }
    }

    /// A command or a query that wants an answer.
    pub(in crate::cli) fn request(request: &'a Request) -> Self {
        Self {
            channel: &request.channel,
            id: &request.request_id,
            client: &request.client_id,
            timeout_ms: Some(request.timeout),
            metadata: &request.metadata,
            tags: sorted(&request.tags),
            body: Body::of(&request.body),
            ..Self::default()
        }
    }

    /// An answer, and how long it took.
    pub(in crate::cli) fn response(response: &'a Response, took: Duration) -> Self {
        Self {
            id: &response.request_id,
            client: &response.client_id,
            executed: Some(response.executed),
            error: &response.error,
            cache_hit: response.cache_hit.then_some(true),
            took_ms: Some((took.as_secs_f64() * 1e6).round() / 1e3),
            metadata: &response.metadata,
            tags: sorted(&response.tags),
            body: Body::of(&response.body),
            ..Self::default()
        }
    }

    /// The body as it came.
    pub(super) const fn bytes(&self) -> &[u8] {
        self.body.bytes
    }

    /// A line of what is known, and the body under it.
    pub(super) fn text(&self, output: Output) -> String {
        let mut facts = Vec::new();
        let mut fact = |text: String| facts.push(text::harmless(&text).into_owned());
        if let Some(time) = &self.time {
            fact(time.clone());
        }
        if let Some(receives) = self.receives.filter(|count| *count > 1) {
            fact(format!("received {receives} times"));
        }
        let named = [
            ("dead letter of", self.dead_letter_of),
            ("expires", self.expires.as_deref().unwrap_or_default()),
            ("id", self.id),
            ("client", self.client),
            ("metadata", self.metadata),
        ];
        for (name, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
            fact(format!("{name} {value}"));
        }
        if let Some(timeout_ms) = self.timeout_ms {
            fact(format!("answer within {timeout_ms} ms"));
        }
        if let Some(took_ms) = self.took_ms {
            fact(format!("took {took_ms} ms"));
        }
        if self.cache_hit.is_some() {
            fact("from the cache".to_owned());
        }
        for (key, value) in &self.tags {
            fact(format!("{key}={value}"));
        }
        let mut head = match self.executed {
            Some(true) => output.paint(Style::Good, "executed"),
            Some(false) => output.paint(Style::Bad, &format!("not executed: {}", self.error)),
            None if self.sequence > 0 => format!("{} #{}", self.channel, self.sequence),
            None => self.channel.to_owned(),
        };
        if self.executed.is_none() {
            head = output.paint(Style::Head, &text::harmless(&head));
        }
        let facts = output.paint(Style::Faint, &facts.join("  "));
        let body = match (&self.body.body, &self.body.body_base64) {
            (Some(""), _) | (None, None) => String::new(),
            (Some(body), _) if body.ends_with('\n') => text::harmless(body).into_owned(),
            (Some(body), _) => format!("{}\n", text::harmless(body)),
            (None, Some(base64)) => {
                format!("({} bytes as base64) {base64}\n", self.body.bytes.len())
            }
        };
        format!("{head}  {facts}\n{body}")
    }
}

/// What came of a message that was sent.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Sent<'a> {
    pub(in crate::cli) channel: &'a str,
    pub(in crate::cli) id: &'a str,
    pub(in crate::cli) sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed_to: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(in crate::cli) error: &'a str,
}

impl<'a> Sent<'a> {
    /// The result of a message for a queue.
    pub(in crate::cli) fn to_queue(queue: &'a str, result: &'a SendQueueMessageResult) -> Self {
        Self {
            channel: queue,
            id: &result.message_id,
            sent: !result.is_error,
            time: moment(result.sent_at),
            expires: moment(result.expiration_at),
            delayed_to: moment(result.delayed_to),
            error: &result.error,
        }
    }

    /// The result of an event.
    pub(in crate::cli) fn event(
        channel: &'a str,
        result: &'a ringmq_proto::kubemq::Result,
    ) -> Self {
        Self {
            channel,
            id: &result.event_id,
            sent: result.sent,
            error: &result.error,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use ringmq_proto::kubemq::QueueMessageAttributes;

    use super::*;

    #[test]
    fn bodies_that_are_no_text_are_written_as_base64() {
        let mut message = QueueMessage {
            message_id: "m".into(),
            channel: "q".into(),
            body: Bytes::from_static(b"text"),
            ..QueueMessage::default()
        };
        let json =
            |message: &QueueMessage| serde_json::to_string(&Shown::queue_message(message)).unwrap();
        assert_eq!(json(&message), r#"{"channel":"q","id":"m","body":"text"}"#);
        message.body = Bytes::from_static(&[0xff, 0]);
        assert_eq!(
            json(&message),
            r#"{"channel":"q","id":"m","body_base64":"/wA="}"#
        );
        assert_eq!(Shown::queue_message(&message).bytes(), [0xff, 0]);
    }

    #[test]
    fn attributes_are_written_under_stable_names() {
        let message = QueueMessage {
            attributes: Some(QueueMessageAttributes {
                timestamp: 1_000_000_000,
                sequence: 7,
                receive_count: 2,
                re_routed_from_queue: "work".into(),
                ..QueueMessageAttributes::default()
            }),
            tags: [("b", "2"), ("a", "1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..QueueMessage::default()
        };
        let json = serde_json::to_string(&Shown::queue_message(&message)).unwrap();
        let expected = r#"{"sequence":7,"time":"1970-01-01T00:00:01.000Z","receives":2,"#
            .to_owned()
            + r#""dead_letter_of":"work","tags":{"a":"1","b":"2"},"body":""}"#;
        assert_eq!(json, expected);
    }
}
