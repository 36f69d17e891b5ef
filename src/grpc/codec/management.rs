//! Channel management: requests as SDKs write them, answers as they read them.
//!
//! Counters of a list never exceed 2,147,483,647: one SDK reads 32-bit numbers and fails on the
//! whole list otherwise. A channel has exactly the keys that are written here: another one refuses
//! any that it does not know.

use bytes::{Buf as _, Bytes, BytesMut};

use super::request::RequestView;
use super::write::{
    FRAME_PREFIX_BYTES, field_prefix_len, put_bytes_field, put_field_prefix, put_frame_prefix,
    put_varint_field,
};
use crate::model::Kind;
use crate::model::name;
use crate::shard::{ChannelFacts, ChannelList, WriteChannel};
use crate::wire_error::Refusal;

/// The channel that requests of channel management are sent to.
pub const MANAGEMENT_CHANNEL: &str = "kubemq.cluster.internal.requests";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A channel is to be there.
    Create(Kind, Box<str>),
    /// A channel is to be gone.
    Delete(Kind, Box<str>),
    /// The messages of a channel are to be gone.
    Purge(Kind, Box<str>),
    /// Messages of a queue of dead letters are to go back.
    Redrive {
        /// The queue.
        queue: Box<str>,
        /// Where to; empty: each where it came from.
        target: Box<str>,
        /// Messages a second; 0: as fast as it goes.
        rate: u64,
        /// Messages at most; 0: all that are there.
        max: u64,
    },
    /// Channels are to be listed: those whose names hold this text.
    List(Kind, Box<str>),
}

const KNOWN: &str = "create-channel, delete-channel, list-channels, purge-channel, redrive-queue";

impl Operation {
    /// Reads what a request asks for.
    ///
    /// # Errors
    /// The text of the answer.
    pub fn read(request: &RequestView<'_>) -> Result<Self, String> {
        let tag = |key: &str| request.tags.get(key).unwrap_or_default();
        let operation = request.metadata;
        let known = [
            "create-channel",
            "delete-channel",
            "list-channels",
            "purge-channel",
        ];
        if operation == "redrive-queue" {
            return Self::read_redrive(&tag);
        }
        if !known.contains(&operation) {
            return Err(format!(
                "unknown operation {operation:?}; known are {KNOWN}"
            ));
        }
        let kind = match tag("channel_type") {
            "" => return Err("the tag channel_type is missing".to_owned()),
            text => Kind::from_name(text).ok_or_else(|| {
                let known = Kind::ALL.map(Kind::name).join(", ");
                format!("unknown channel_type {text:?}; known are {known}")
            })?,
        };
        if operation == "list-channels" {
            return Ok(Self::List(kind, tag("channel_search").into()));
        }
        let channel = match tag("channel") {
            "" => return Err("the tag channel is missing".to_owned()),
            channel => channel,
        };
        let checked = name::check_channel(channel).map_err(|error| match kind {
            Kind::Queues => Refusal::QueueName,
            _ => Refusal::channel(error),
        });
        checked.map_err(|refusal| refusal.text().into_owned())?;
        let channel = channel.into();
        Ok(match operation {
            "create-channel" => Self::Create(kind, channel),
            "delete-channel" => Self::Delete(kind, channel),
            _ => Self::Purge(kind, channel),
        })
    }

    fn read_redrive<'a>(tag: &impl Fn(&str) -> &'a str) -> Result<Self, String> {
        let queue = match tag("channel") {
            "" => return Err("the tag channel is missing".to_owned()),
            queue => queue,
        };
        let target = tag("target");
        for name in [queue, target].into_iter().filter(|name| !name.is_empty()) {
            let refused = |_| Refusal::QueueName.text().into_owned();
            name::check_channel(name).map_err(refused)?;
        }
        let number = |key: &str| match tag(key) {
            "" => Ok(0),
            text => {
                let wrong = |_| format!("the tag {key} is {text:?}, it must be a whole number");
                text.parse().map_err(wrong)
            }
        };
        Ok(Self::Redrive {
            queue: queue.into(),
            target: target.into(),
            rate: number("rate")?,
            max: number("max")?,
        })
    }
}

/// How channels of a kind are written in a list: each with a comma before it.
#[must_use]
pub const fn list_item(kind: Kind) -> WriteChannel {
    match kind {
        Kind::Events => |facts, out| write_item(Kind::Events, facts, out),
        Kind::EventsStore => |facts, out| write_item(Kind::EventsStore, facts, out),
        Kind::Queues => |facts, out| write_item(Kind::Queues, facts, out),
        Kind::Commands => |facts, out| write_item(Kind::Commands, facts, out),
        Kind::Queries => |facts, out| write_item(Kind::Queries, facts, out),
    }
}

fn write_item(kind: Kind, facts: &ChannelFacts<'_>, out: &mut Vec<u8>) {
    let traffic = &facts.traffic;
    out.extend_from_slice(b",{\"name\":\"");
    put_json_text(facts.name, out);
    put_text("\",\"type\":\"", out);
    put_text(kind.name(), out);
    put_text("\",\"lastActivity\":", out);
    put_number(traffic.last_ms, out);
    put_text(",\"isActive\":", out);
    put_text(if facts.active { "true" } else { "false" }, out);
    let sides = [
        (
            ",\"incoming\":{\"messages\":",
            traffic.messages_in,
            traffic.bytes_in,
            traffic.responses_in,
        ),
        (
            "},\"outgoing\":{\"messages\":",
            traffic.messages_out,
            traffic.bytes_out,
            traffic.responses_out,
        ),
    ];
    for (before, messages, volume, responses) in sides {
        put_text(before, out);
        put_counter(messages, out);
        put_text(",\"volume\":", out);
        put_counter(volume, out);
        match kind {
            Kind::Events | Kind::EventsStore => {}
            Kind::Commands | Kind::Queries => {
                put_text(",\"responses\":", out);
                put_counter(responses, out);
            }
            Kind::Queues => {
                put_text(",\"waiting\":", out);
                put_counter(facts.waiting, out);
                put_text(",\"expired\":", out);
                put_counter(facts.expired, out);
                put_text(",\"delayed\":", out);
                put_counter(facts.delayed, out);
            }
        }
    }
    put_text("}}", out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// Names have no control characters.
fn put_json_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn put_counter(count: u64, out: &mut Vec<u8>) {
    put_number(count.min(i32::MAX.unsigned_abs().into()), out);
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        at -= 1;
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends the `Response` that says whether something was done.
pub fn management_response(
    request_id: &str,
    timestamp_ns: i64,
    outcome: Result<&[u8], &str>,
    out: &mut BytesMut,
) {
    put_bytes_field(1, CLIENT_ID.as_bytes(), out);
    put_bytes_field(2, request_id.as_bytes(), out);
    put_bytes_field(5, outcome.unwrap_or_default(), out);
    put_varint_field(7, timestamp_ns.cast_unsigned(), out);
    put_varint_field(8, u64::from(outcome.is_ok()), out);
    put_bytes_field(9, outcome.err().unwrap_or_default().as_bytes(), out);
}

/// Who answers.
const CLIENT_ID: &str = "ringmq";

/// An answer of one message in parts, so that a large one is copied nowhere.
#[derive(Debug)]
pub struct PartedAnswer {
    /// The frame's bytes, in order.
    pub parts: Vec<Bytes>,
}

/// The `Response` with a list of channels, as [`list_item`] has written them.
#[must_use]
pub fn list_response(request_id: &str, timestamp_ns: i64, list: ChannelList) -> PartedAnswer {
    let mut fields = BytesMut::new();
    put_bytes_field(1, CLIENT_ID.as_bytes(), &mut fields);
    put_bytes_field(2, request_id.as_bytes(), &mut fields);
    put_varint_field(7, timestamp_ns.cast_unsigned(), &mut fields);
    put_varint_field(8, 1, &mut fields);
    let mut items = list.parts;
    if let Some(first) = items.first_mut() {
        // No comma before the first channel.
        first.advance(1.min(first.len()));
    }
    let body_len = "[]".len() + items.iter().map(Bytes::len).sum::<usize>();
    let len = fields.len() + field_prefix_len(body_len) + body_len;
    let mut before = BytesMut::with_capacity(FRAME_PREFIX_BYTES + fields.len() + 16);
    put_frame_prefix(len, &mut before);
    before.extend_from_slice(&fields);
    put_field_prefix(5, body_len, &mut before);
    before.extend_from_slice(b"[");
    let mut parts = Vec::with_capacity(items.len() + 2);
    parts.push(before.freeze());
    parts.append(&mut items);
    parts.push(Bytes::from_static(b"]"));
    PartedAnswer { parts }
}

/// Appends a queue as a field of a `QueuesInfo`.
pub fn queue_info(facts: &ChannelFacts<'_>, out: &mut Vec<u8>) {
    let mut info = Vec::with_capacity(facts.name.len() + 64);
    put_bytes_field(1, facts.name.as_bytes(), &mut info);
    let numbers = [
        facts.messages,
        facts.bytes,
        facts.first,
        facts.last,
        facts.traffic.messages_in,
        facts.delivered,
        facts.waiting,
        facts.consumers,
    ];
    for (field, number) in (2..).zip(numbers) {
        put_varint_field(field, number, &mut info);
    }
    put_bytes_field(5, &info, out);
}

/// The `QueuesInfoResponse` with queues as [`queue_info`] has written them.
#[must_use]
pub fn queues_info_response(request_id: &str, list: ChannelList) -> PartedAnswer {
    let mut totals = BytesMut::new();
    let count = list.count.min(i32::MAX.unsigned_abs().into());
    put_varint_field(1, count, &mut totals);
    put_varint_field(2, list.messages_in, &mut totals);
    put_varint_field(3, list.delivered, &mut totals);
    put_varint_field(4, list.waiting, &mut totals);
    let mut queues = list.parts;
    let info_len = totals.len() + queues.iter().map(Bytes::len).sum::<usize>();
    let mut fields = BytesMut::new();
    put_bytes_field(1, request_id.as_bytes(), &mut fields);
    // Also when it is empty: clients look into it.
    put_field_prefix(2, info_len, &mut fields);
    let mut before = BytesMut::with_capacity(FRAME_PREFIX_BYTES + fields.len() + totals.len());
    put_frame_prefix(fields.len() + info_len, &mut before);
    before.extend_from_slice(&fields);
    before.extend_from_slice(&totals);
    let mut parts = Vec::with_capacity(queues.len() + 1);
    parts.push(before.freeze());
    parts.append(&mut queues);
    PartedAnswer { parts }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use ringmq_proto::kubemq;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::traffic::Traffic;

    fn request(operation: &str, tags: &[(&str, &str)]) -> Vec<u8> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = kubemq::Request {
            metadata: operation.into(),
            tags: tags.iter().map(owned).collect::<HashMap<_, _>>(),
            ..Default::default()
        };
        request.encode_to_vec()
    }

    fn read(operation: &str, tags: &[(&str, &str)]) -> Result<Operation, String> {
        let message = request(operation, tags);
        Operation::read(&RequestView::parse(&message).unwrap())
    }

    #[test]
    fn each_operation_is_read_with_its_tags() {
        let tags = [("channel_type", "queues"), ("channel", "q")];
        let name = || "q".into();
        assert_eq!(
            read("create-channel", &tags),
            Ok(Operation::Create(Kind::Queues, name()))
        );
        assert_eq!(
            read("delete-channel", &tags),
            Ok(Operation::Delete(Kind::Queues, name()))
        );
        assert_eq!(
            read("purge-channel", &tags),
            Ok(Operation::Purge(Kind::Queues, name()))
        );
        for kind in Kind::ALL {
            let tags = [("channel_type", kind.name()), ("client_id", "x")];
            assert_eq!(
                read("list-channels", &tags),
                Ok(Operation::List(kind, "".into()))
            );
            let tags = [("channel_type", kind.name()), ("channel_search", "a")];
            assert_eq!(
                read("list-channels", &tags),
                Ok(Operation::List(kind, "a".into()))
            );
        }
    }

    #[test]
    fn redrive_is_read_with_its_tags() {
        let read_all = read(
            "redrive-queue",
            &[
                ("channel", "dead"),
                ("target", "orders"),
                ("rate", "100"),
                ("max", "5"),
            ],
        );
        let redrive = |target: &str, rate, max| Operation::Redrive {
            queue: "dead".into(),
            target: target.into(),
            rate,
            max,
        };
        assert_eq!(read_all, Ok(redrive("orders", 100, 5)));
        assert_eq!(
            read("redrive-queue", &[("channel", "dead")]),
            Ok(redrive("", 0, 0))
        );
        for (tags, why) in [
            (&[("target", "a")][..], "the tag channel is missing"),
            (&[("channel", "dead"), ("target", "a b")], "Error 120"),
            (&[("channel", "dead"), ("rate", "-1")], "a whole number"),
        ] {
            let error = read("redrive-queue", tags).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let refused = |operation: &str, tags: &[(&str, &str)]| read(operation, tags).unwrap_err();
        assert!(refused("no-such-op", &[]).contains("\"no-such-op\"; known are create-channel"));
        assert_eq!(
            refused("list-channels", &[]),
            "the tag channel_type is missing"
        );
        let kind = ("channel_type", "events");
        assert_eq!(
            refused("create-channel", &[kind]),
            "the tag channel is missing"
        );
        let nope = [("channel_type", "nope"), ("channel", "a")];
        assert!(refused("create-channel", &nope).contains("\"nope\"; known are events,"));
        let bad = refused("create-channel", &[kind, ("channel", "a b")]);
        assert!(bad.starts_with("Error 108"), "{bad}");
        let bad = refused(
            "delete-channel",
            &[("channel_type", "queues"), ("channel", "a b")],
        );
        assert!(bad.starts_with("Error 120"), "{bad}");
    }

    fn facts(name: &str) -> ChannelFacts<'_> {
        ChannelFacts {
            name,
            active: true,
            traffic: Traffic {
                messages_in: 1,
                bytes_in: u64::MAX,
                responses_in: 3,
                messages_out: 4,
                bytes_out: 5,
                responses_out: 6,
                last_ms: 1_700_000_000_123,
            },
            messages: 7,
            bytes: 8,
            first: 9,
            last: 10,
            delivered: 11,
            waiting: 12,
            delayed: 13,
            expired: 14,
            consumers: 15,
            ..ChannelFacts::default()
        }
    }

    fn written(write: WriteChannel, names: &[&str]) -> ChannelList {
        let write = |name: &&str| {
            let mut part = Vec::new();
            write(&facts(name), &mut part);
            Bytes::from(part)
        };
        ChannelList {
            parts: names.iter().map(write).collect(),
            count: 2,
            messages_in: 3,
            delivered: 4,
            waiting: 5,
        }
    }

    fn unframed(answer: &PartedAnswer) -> Vec<u8> {
        let frame = answer.parts.concat();
        let (prefix, message) = frame.split_at(FRAME_PREFIX_BYTES);
        let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        assert_eq!((prefix[0], len as usize), (0, message.len()));
        message.to_vec()
    }

    #[test]
    fn a_list_is_json_with_exactly_the_keys_of_each_kind() {
        for kind in Kind::ALL {
            let list = written(list_item(kind), &["a\"\\b", "é"]);
            let message = unframed(&list_response("id", 7, list));
            let response = kubemq::Response::decode(&*message).unwrap();
            assert!(response.executed && response.error.is_empty());
            assert_eq!((&*response.request_id, response.timestamp), ("id", 7));
            let body: Value = serde_json::from_slice(&response.body).unwrap();
            let side = |messages: u64, volume: u64, responses: u64| match kind {
                Kind::Events | Kind::EventsStore => json!({"messages": messages, "volume": volume}),
                Kind::Commands | Kind::Queries => {
                    json!({"messages": messages, "volume": volume, "responses": responses})
                }
                Kind::Queues => json!({"messages": messages, "volume": volume,
                    "waiting": 12, "expired": 14, "delayed": 13}),
            };
            let item = |name: &str| {
                json!({"name": name, "type": kind.name(), "lastActivity": 1_700_000_000_123_u64,
                    "isActive": true, "incoming": side(1, 2_147_483_647, 3),
                    "outgoing": side(4, 5, 6)})
            };
            assert_eq!(body, json!([item("a\"\\b"), item("é")]));
        }
    }

    #[test]
    fn an_empty_list_is_an_empty_array() {
        let message = unframed(&list_response("", 0, ChannelList::default()));
        let response = kubemq::Response::decode(&*message).unwrap();
        assert_eq!(&*response.body, b"[]");
    }

    #[test]
    fn an_answer_says_executed_or_why_not() {
        let encoded = |outcome| {
            let mut out = BytesMut::new();
            management_response("id", 7, outcome, &mut out);
            kubemq::Response::decode(out).unwrap()
        };
        let done = encoded(Ok(b"body"));
        assert_eq!(
            (done.executed, &*done.error, &*done.body),
            (true, "", &b"body"[..])
        );
        let failed = encoded(Err("why"));
        assert_eq!((failed.executed, &*failed.error), (false, "why"));
        assert_eq!((&*failed.request_id, failed.timestamp), ("id", 7));
    }

    #[test]
    fn queues_are_told_with_their_sums() {
        let message = unframed(&queues_info_response(
            "id",
            written(queue_info, &["a", "b"]),
        ));
        let response = kubemq::QueuesInfoResponse::decode(&*message).unwrap();
        assert_eq!(response.ref_request_id, "id");
        let queue = |name: &str| kubemq::QueueInfo {
            name: name.into(),
            messages: 7,
            bytes: 8,
            first_sequence: 9,
            last_sequence: 10,
            sent: 1,
            delivered: 11,
            waiting: 12,
            subscribers: 15,
        };
        let info = kubemq::QueuesInfo {
            total_queue: 2,
            sent: 3,
            delivered: 4,
            waiting: 5,
            queues: vec![queue("a"), queue("b")],
        };
        assert_eq!(response.info, Some(info));
        let message = unframed(&queues_info_response("", ChannelList::default()));
        let response = kubemq::QueuesInfoResponse::decode(&*message).unwrap();
        assert_eq!(response.info, Some(kubemq::QueuesInfo::default()));
    }
}
