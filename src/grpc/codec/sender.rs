//! Who sends a message: read from its encoded form, and put in its place.
//!
//! A message that says so several times means the last one, as proto3 has it. What is put in its
//! place stands alone: nobody behind the broker finds the other ids, however it reads.

use super::scan::{FieldNumber, Fields, Value};
use super::write::put_bytes_field;

/// Messages that name their senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// `Request`.
    Request,
    /// `Response`.
    Response,
    /// All the others: `Event`, `QueueMessage`, `Subscribe` and the requests of consumers.
    Other,
}

impl Signed {
    const fn field(self) -> FieldNumber {
        match self {
            Self::Response => 1,
            Self::Other => 2,
            Self::Request => 3,
        }
    }
}

/// What a message says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// The client id that counts; empty when there is none.
    pub client_id: &'a str,
    /// Whether it is said exactly once.
    pub once: bool,
}

/// Reads who sends a message; `None` when it cannot be decoded, which others will tell.
#[must_use]
pub fn sender_of(message: &[u8], signed: Signed) -> Option<Sender<'_>> {
    let mut found = Sender {
        client_id: "",
        once: false,
    };
    let mut count = 0_usize;
    for field in Fields::new(message) {
        let field = field.ok()?;
        if field.number == signed.field() {
            count += 1;
            found.client_id = field.text().ok()?;
        }
    }
    found.once = count == 1;
    Some(found)
}

/// Encodes the message again, with this sender and no other. All else stays, unknown fields
/// included.
#[must_use]
pub fn with_sender(message: &[u8], signed: Signed, client_id: &str) -> Vec<u8> {
    const PREFIX_BYTES_MAX: usize = 4;
    let mut out = Vec::with_capacity(message.len() + client_id.len() + PREFIX_BYTES_MAX);
    let mut kept = 0;
    for field in Fields::new(message).map_while(Result::ok) {
        if field.number == signed.field() && matches!(field.value, Value::Bytes(_)) {
            out.extend_from_slice(message.get(kept..field.start).unwrap_or_default());
            kept = field.end;
        }
    }
    out.extend_from_slice(message.get(kept..).unwrap_or_default());
    put_bytes_field(signed.field(), client_id.as_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use ringmq_proto::kubemq;

    use super::super::tests::noise;
    use super::*;

    fn event(client_id: &str) -> kubemq::Event {
        kubemq::Event {
            event_id: "id".into(),
            client_id: client_id.into(),
            channel: "a".into(),
            body: "body".into(),
            ..kubemq::Event::default()
        }
    }

    fn said(message: &[u8], signed: Signed) -> Option<(&str, bool)> {
        let sender = sender_of(message, signed)?;
        Some((sender.client_id, sender.once))
    }

    #[test]
    fn each_message_names_its_sender_where_the_contract_says() {
        let request = kubemq::Request {
            request_id: "id".into(),
            client_id: "asks".into(),
            channel: "c".into(),
            ..kubemq::Request::default()
        };
        let response = kubemq::Response {
            client_id: "answers".into(),
            request_id: "id".into(),
            ..kubemq::Response::default()
        };
        let stream = kubemq::StreamQueueMessagesRequest {
            request_id: "id".into(),
            client_id: "takes".into(),
            ..kubemq::StreamQueueMessagesRequest::default()
        };
        let poll = kubemq::QueuesDownstreamRequest {
            request_id: "id".into(),
            client_id: "polls".into(),
            ..kubemq::QueuesDownstreamRequest::default()
        };
        let receive = kubemq::ReceiveQueueMessagesRequest {
            request_id: "id".into(),
            client_id: "receives".into(),
            ..kubemq::ReceiveQueueMessagesRequest::default()
        };
        let all = kubemq::AckAllQueueMessagesRequest {
            request_id: "id".into(),
            client_id: "removes".into(),
            ..kubemq::AckAllQueueMessagesRequest::default()
        };
        let subscribe = kubemq::Subscribe {
            client_id: "subscribes".into(),
            channel: "c".into(),
            ..kubemq::Subscribe::default()
        };
        let message = kubemq::QueueMessage {
            message_id: "id".into(),
            client_id: "queues".into(),
            ..kubemq::QueueMessage::default()
        };
        let table = [
            (request.encode_to_vec(), Signed::Request, "asks"),
            (response.encode_to_vec(), Signed::Response, "answers"),
            (stream.encode_to_vec(), Signed::Other, "takes"),
            (poll.encode_to_vec(), Signed::Other, "polls"),
            (receive.encode_to_vec(), Signed::Other, "receives"),
            (all.encode_to_vec(), Signed::Other, "removes"),
            (subscribe.encode_to_vec(), Signed::Other, "subscribes"),
            (message.encode_to_vec(), Signed::Other, "queues"),
            (event("sends").encode_to_vec(), Signed::Other, "sends"),
        ];
        for (message, signed, client_id) in table {
            assert_eq!(said(&message, signed), Some((client_id, true)));
            let other = with_sender(&message, signed, "other");
            assert_eq!(said(&other, signed), Some(("other", true)));
        }
    }

    #[test]
    fn of_several_ids_the_last_one_counts_and_none_stays() {
        let mut twice = event("first").encode_to_vec();
        twice.extend_from_slice(&event("second").encode_to_vec());
        assert_eq!(said(&twice, Signed::Other), Some(("second", false)));
        let signed = with_sender(&twice, Signed::Other, "third");
        assert_eq!(said(&signed, Signed::Other), Some(("third", true)));
        assert!(!signed.windows(5).any(|bytes| bytes == b"first"));
        assert_eq!(
            said(&event("").encode_to_vec(), Signed::Other),
            Some(("", false))
        );
        assert_eq!(said(&[0x12, 9, 1], Signed::Other), None);
        assert_eq!(said(&[0x12, 1, 0xff], Signed::Other), None);
    }

    prop_compose! {
        fn any_event()(
            (event_id, client_id, channel) in (".{0,9}", ".{0,9}", ".{0,9}"),
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) -> kubemq::Event {
            kubemq::Event {
                event_id, client_id, channel, body: body.into(), ..kubemq::Event::default()
            }
        }
    }

    proptest! {
        #[test]
        fn only_the_sender_changes(message in noise(any_event()), id in "[a-z]{1,9}") {
            if let Ok(decoded) = kubemq::Event::decode(&message[..]) {
                let signed = with_sender(&message, Signed::Other, &id);
                let expected = kubemq::Event { client_id: id, ..decoded };
                prop_assert_eq!(kubemq::Event::decode(&signed[..]), Ok(expected));
            }
        }
    }
}
