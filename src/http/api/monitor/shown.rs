//! What a monitor shows of a message: what it has, and times as people read them.

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::kubemq;
use serde::Serialize;
use serde_json::Value;

use super::super::{show, time};
use crate::rt;
use crate::shard::{Tapped, TappedWhat, Unanswered};
use crate::wire::framing::PREFIX_BYTES;

/// An event or a queue message. What is empty is left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_count: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    re_routed_from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed_to: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    body: Value,
    timeout: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    body: Value,
    timestamp: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    executed: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NoAnswer {
    request_id: String,
    error: &'static str,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct Dropped {
    dropped: u64,
    reason: &'static str,
}

/// What passed, as JSON: on several lines, or in one.
pub(super) fn text(tapped: &Tapped, pretty: bool) -> String {
    let frame = &tapped.frame;
    let text = match tapped.what {
        TappedWhat::Event => event(frame).map(|it| write(&it, pretty)),
        TappedWhat::QueueMessage => queue_message(frame.clone()).map(|it| write(&it, pretty)),
        TappedWhat::Request => request(frame).map(|it| {
            let request = Request {
                body: show::body(&it.body),
                tags: show::tags(&it.tags),
                request_id: it.request_id,
                metadata: it.metadata,
                timeout: it.timeout,
            };
            write(&request, pretty)
        }),
        TappedWhat::Response => answer(frame.clone()).map(|it| write(&it, pretty)),
        TappedWhat::Unanswered(how) => request(frame).map(|it| {
            let request_id = it.request_id;
            write(&no_answer(request_id, how), pretty)
        }),
    };
    // What the broker has encoded itself can be decoded; a response was checked when it came.
    text.unwrap_or_default()
}

/// How many were left out.
pub(super) fn dropped(count: u64) -> String {
    let dropped = Dropped {
        dropped: count,
        reason: "the monitor does not take messages as fast as they pass",
    };
    write(&dropped, false)
}

fn write(shown: &impl Serialize, pretty: bool) -> String {
    let text = match pretty {
        true => serde_json::to_string_pretty(shown),
        false => serde_json::to_string(shown),
    };
    text.unwrap_or_default()
}

/// A message without the prefix of its frame.
fn unframed(frame: &Bytes) -> Option<Bytes> {
    (frame.len() >= PREFIX_BYTES).then(|| frame.slice(PREFIX_BYTES..))
}

fn event(frame: &Bytes) -> Option<Message> {
    let event = kubemq::EventReceive::decode(unframed(frame)?).ok()?;
    // A plain event is shown as it passes: the time says nothing more.
    let stored = event.sequence > 0;
    Some(Message {
        body: show::body(&event.body),
        tags: show::tags(&event.tags),
        message_id: event.event_id,
        metadata: event.metadata,
        timestamp: stored.then(|| time::rfc3339(event.timestamp)),
        sequence: stored.then_some(event.sequence),
        ..Message::default()
    })
}

fn queue_message(frame: Bytes) -> Option<Message> {
    // In the field that messages have in an answer to a poll.
    let answer = kubemq::ReceiveQueueMessagesResponse::decode(frame).ok()?;
    let message = answer.messages.into_iter().next()?;
    let attributes = message.attributes.unwrap_or_default();
    let at = |ns: i64| (ns > 0).then(|| time::rfc3339(ns));
    Some(Message {
        body: show::body(&message.body),
        tags: show::tags(&message.tags),
        message_id: message.message_id,
        metadata: message.metadata,
        timestamp: at(attributes.timestamp),
        sequence: Some(attributes.sequence),
        received_count: Some(attributes.receive_count).filter(|count| *count > 0),
        re_routed_from: attributes.re_routed_from_queue,
        expiration_at: at(attributes.expiration_at),
        delayed_to: at(attributes.delayed_to),
    })
}

fn request(frame: &Bytes) -> Option<kubemq::Request> {
    kubemq::Request::decode(unframed(frame)?).ok()
}

fn answer(message: Bytes) -> Option<Answer> {
    let response = kubemq::Response::decode(message).ok()?;
    Some(Answer {
        body: show::body(&response.body),
        tags: show::tags(&response.tags),
        request_id: response.request_id,
        metadata: response.metadata,
        timestamp: time::rfc3339(rt::unix_ns()),
        error: response.error,
        executed: response.executed,
    })
}

fn no_answer(request_id: String, how: Unanswered) -> NoAnswer {
    NoAnswer {
        request_id,
        error: match how {
            Unanswered::TimedOut => "Error 301: timeout for request message",
            Unanswered::ShuttingDown => "Error 409: server is in shutdown mode",
            Unanswered::GivenUp => "who asked did not wait for the answer",
        },
        timestamp: time::rfc3339(rt::unix_ns()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &impl prost::Message) -> Bytes {
        let mut frame = vec![0; PREFIX_BYTES];
        message.encode(&mut frame).unwrap();
        frame.into()
    }

    #[test]
    fn what_is_empty_is_not_shown() {
        let event = kubemq::EventReceive {
            event_id: "e1".to_owned(),
            metadata: "md".to_owned(),
            body: Bytes::from_static(b"{\"a\": 1}"),
            timestamp: 7,
            ..kubemq::EventReceive::default()
        };
        let tapped = Tapped {
            what: TappedWhat::Event,
            frame: framed(&event),
        };
        let shown = text(&tapped, false);
        assert_eq!(
            shown,
            r#"{"messageId":"e1","metadata":"md","body":{"a":1}}"#
        );
        assert_eq!(text(&tapped, true).lines().count(), 7);
    }

    #[test]
    fn the_end_of_a_request_is_told_in_the_words_of_its_sender() {
        let request = kubemq::Request {
            request_id: "r1".to_owned(),
            timeout: 1_000,
            ..kubemq::Request::default()
        };
        let tapped = |what| Tapped {
            what,
            frame: framed(&request),
        };
        let shown = text(&tapped(TappedWhat::Request), false);
        assert_eq!(shown, r#"{"requestId":"r1","body":"","timeout":1000}"#);
        let shown = text(&tapped(TappedWhat::Unanswered(Unanswered::TimedOut)), false);
        assert!(
            shown.starts_with(r#"{"requestId":"r1","error":"Error 301: "#),
            "{shown}"
        );
    }
}
