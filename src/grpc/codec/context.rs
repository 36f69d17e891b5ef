//! The context of a trace in messages: the tags `traceparent` and `tracestate`.
//!
//! A message that names its context keeps it. One whose context came beside it, with the call,
//! gets it as tags; in protobuf that is a matter of appending, since the entries of a map may stand
//! anywhere.

use bytes::{Bytes, BytesMut};

use super::MESSAGE_BYTES_MAX;
use super::scan::{Field, FieldNumber, Fields, Value};
use super::tags::Tags;
use super::write::{bytes_field_len, field_prefix_len, put_bytes_field, put_field_prefix};

/// The tag that names the sender's span.
pub const TRACEPARENT: &str = "traceparent";

/// The tag with what vendors say of the trace.
pub const TRACESTATE: &str = "tracestate";

/// `QueueMessagesBatchRequest.Messages`.
const BATCH_MESSAGES: FieldNumber = 2;

/// Messages as their senders encode them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// `Event`.
    Event,
    /// `Request`.
    Request,
    /// `QueueMessage`.
    QueueMessage,
}

impl Sent {
    const fn tags(self) -> FieldNumber {
        match self {
            Self::Event => 7,
            Self::Request => 12,
            Self::QueueMessage => 6,
        }
    }
}

/// Gives a message the context as tags; `None` when it names one already, or would become too
/// large. What cannot be decoded stays so.
#[must_use]
pub fn with_context(
    message: &[u8],
    sent: Sent,
    traceparent: &str,
    tracestate: &str,
) -> Option<Bytes> {
    let tags = context_tags(sent, traceparent, tracestate);
    let len = message.len() + tags.len();
    if len > MESSAGE_BYTES_MAX || names_context(message, sent) {
        return None;
    }
    let mut out = BytesMut::with_capacity(len);
    out.extend_from_slice(message);
    out.extend_from_slice(&tags);
    Some(out.freeze())
}

/// The same for each message of a `QueueMessagesBatchRequest`.
#[must_use]
pub fn batch_with_context(request: &[u8], traceparent: &str, tracestate: &str) -> Option<Bytes> {
    let sent = Sent::QueueMessage;
    let tags = context_tags(sent, traceparent, tracestate);
    let mut out = BytesMut::with_capacity(request.len() + 16 * tags.len());
    for field in Fields::new(request) {
        // One that cannot be decoded to its end is refused as it is.
        let field = field.ok()?;
        match field.value {
            Value::Bytes(message)
                if field.number == BATCH_MESSAGES && !names_context(message, sent) =>
            {
                put_field_prefix(BATCH_MESSAGES, message.len() + tags.len(), &mut out);
                out.extend_from_slice(message);
                out.extend_from_slice(&tags);
            }
            _ => out.extend_from_slice(request.get(field.start..field.end)?),
        }
    }
    (out.len() <= MESSAGE_BYTES_MAX).then(|| out.freeze())
}

fn names_context(message: &[u8], sent: Sent) -> bool {
    Fields::new(message)
        .map_while(Result::ok)
        .any(|field| field.number == sent.tags() && is_traceparent(&field))
}

fn is_traceparent(field: &Field<'_>) -> bool {
    let Value::Bytes(entry) = field.value else {
        return false;
    };
    Fields::new(entry)
        .map_while(Result::ok)
        .any(|field| field.number == 1 && field.value == Value::Bytes(TRACEPARENT.as_bytes()))
}

/// The entries of the map.
fn context_tags(sent: Sent, traceparent: &str, tracestate: &str) -> BytesMut {
    let mut out = BytesMut::new();
    for (key, value) in [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)] {
        if value.is_empty() {
            continue;
        }
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let len = bytes_field_len(key) + bytes_field_len(value);
        out.reserve(field_prefix_len(len) + len);
        put_field_prefix(sent.tags(), len, &mut out);
        put_bytes_field(1, key, &mut out);
        put_bytes_field(2, value, &mut out);
    }
    out
}

/// A message on its way to a receiver.
#[derive(Clone, Copy, Debug)]
pub struct HandedOn<'a> {
    /// Its id.
    pub id: &'a str,
    /// Where it was sent to.
    pub channel: &'a str,
    /// Bytes of its payload.
    pub body_bytes: usize,
    /// When the broker took it, in nanoseconds since 1970; 0 when it does not say.
    pub taken_at_ns: i64,
    /// Keys and values.
    pub tags: Tags<'a>,
}

/// Which fields of a message say so.
#[derive(Clone, Copy, Debug)]
struct Places {
    channel: FieldNumber,
    body: FieldNumber,
    tags: FieldNumber,
}

impl<'a> HandedOn<'a> {
    /// Reads an encoded `EventReceive`.
    #[must_use]
    pub fn event(message: &'a [u8]) -> Option<Self> {
        let places = Places {
            channel: 2,
            body: 4,
            tags: 7,
        };
        Self::read(message, places, |field| match field.number {
            5 => field.int64().ok(),
            _ => None,
        })
    }

    /// Reads an encoded `Request`.
    #[must_use]
    pub fn request(message: &'a [u8]) -> Option<Self> {
        let places = Places {
            channel: 4,
            body: 6,
            tags: 12,
        };
        Self::read(message, places, |_| None)
    }

    /// Reads an encoded `QueueMessage`.
    #[must_use]
    pub fn queue_message(message: &'a [u8]) -> Option<Self> {
        let places = Places {
            channel: 3,
            body: 5,
            tags: 6,
        };
        Self::read(message, places, |field| match (field.number, field.value) {
            (7, Value::Bytes(attributes)) => Fields::new(attributes)
                .map_while(Result::ok)
                .find(|field| field.number == 1)
                .and_then(|field| field.int64().ok()),
            _ => None,
        })
    }

    fn read(
        message: &'a [u8],
        places: Places,
        taken_at: impl Fn(&Field<'a>) -> Option<i64>,
    ) -> Option<Self> {
        let mut read = Self {
            id: "",
            channel: "",
            body_bytes: 0,
            taken_at_ns: 0,
            tags: Tags::none(message, places.tags),
        };
        for field in Fields::new(message) {
            let field = field.ok()?;
            match field.number {
                1 => read.id = field.text().ok()?,
                number if number == places.channel => read.channel = field.text().ok()?,
                number if number == places.body => read.body_bytes = field.bytes().ok()?.len(),
                number if number == places.tags => read.tags.add(&field).ok()?,
                _ => {
                    if let Some(taken_at_ns) = taken_at(&field) {
                        read.taken_at_ns = taken_at_ns;
                    }
                }
            }
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringmq_proto::kubemq::{
        Event, EventReceive, QueueMessage, QueueMessageAttributes, QueueMessagesBatchRequest,
        Request,
    };

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn tag(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn context_of_a_call_becomes_tags_and_nothing_else_changes() {
        let mut event = Event {
            event_id: "e".into(),
            channel: "c".into(),
            body: Bytes::from_static(b"body"),
            tags: [tag("a", "b")].into(),
            ..Event::default()
        };
        let given = with_context(&event.encode_to_vec(), Sent::Event, PARENT, "v=1").unwrap();
        event
            .tags
            .extend([tag(TRACEPARENT, PARENT), tag(TRACESTATE, "v=1")]);
        assert_eq!(Event::decode(given).unwrap(), event);

        let mut request = Request {
            request_id: "r".into(),
            ..Request::default()
        };
        let given = with_context(&request.encode_to_vec(), Sent::Request, PARENT, "").unwrap();
        request.tags.extend([tag(TRACEPARENT, PARENT)]);
        assert_eq!(Request::decode(given).unwrap(), request);
    }

    #[test]
    fn message_that_names_its_context_keeps_it() {
        let message = QueueMessage {
            channel: "q".into(),
            tags: [tag(TRACEPARENT, "what the sender says")].into(),
            ..QueueMessage::default()
        };
        let encoded = message.encode_to_vec();
        assert_eq!(with_context(&encoded, Sent::QueueMessage, PARENT, ""), None);
    }

    #[test]
    fn each_message_of_a_batch_gets_the_context_unless_it_names_one() {
        let plain = QueueMessage {
            channel: "q".into(),
            ..QueueMessage::default()
        };
        let mut own = plain.clone();
        own.tags.extend([tag(TRACEPARENT, "own")]);
        let mut batch = QueueMessagesBatchRequest {
            batch_id: "b".into(),
            messages: vec![plain.clone(), own, plain],
        };
        let given = batch_with_context(&batch.encode_to_vec(), PARENT, "").unwrap();
        for place in [0, 2] {
            batch.messages[place]
                .tags
                .extend([tag(TRACEPARENT, PARENT)]);
        }
        assert_eq!(QueueMessagesBatchRequest::decode(given).unwrap(), batch);
        assert_eq!(batch_with_context(b"\x12\x05", PARENT, ""), None);
    }

    #[test]
    fn messages_on_their_way_are_read() {
        let event = EventReceive {
            event_id: "e".into(),
            channel: "c".into(),
            body: Bytes::from_static(b"12345"),
            timestamp: 77,
            tags: [tag(TRACEPARENT, PARENT)].into(),
            ..EventReceive::default()
        };
        let encoded = event.encode_to_vec();
        let read = HandedOn::event(&encoded).unwrap();
        assert_eq!((read.id, read.channel, read.body_bytes), ("e", "c", 5));
        assert_eq!(read.taken_at_ns, 77);
        assert_eq!(read.tags.get(TRACEPARENT), Some(PARENT));

        let message = QueueMessage {
            message_id: "m".into(),
            channel: "q".into(),
            attributes: Some(QueueMessageAttributes {
                timestamp: 88,
                ..QueueMessageAttributes::default()
            }),
            ..QueueMessage::default()
        };
        let encoded = message.encode_to_vec();
        let read = HandedOn::queue_message(&encoded).unwrap();
        assert_eq!((read.id, read.channel, read.taken_at_ns), ("m", "q", 88));
        assert!(read.tags.is_empty());

        let request = Request {
            request_id: "r".into(),
            channel: "x".into(),
            tags: [tag("k", "v")].into(),
            ..Request::default()
        };
        let encoded = request.encode_to_vec();
        let read = HandedOn::request(&encoded).unwrap();
        assert_eq!(
            (read.id, read.channel, read.tags.get("k")),
            ("r", "x", Some("v"))
        );
        assert!(HandedOn::request(b"\xff").is_none());
    }
}
