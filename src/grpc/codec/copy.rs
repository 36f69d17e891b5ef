//! Copies of a message for the targets of its route.

use super::scan::{FieldNumber, Fields};
use super::write::{put_bytes_field, put_varint_field};
use crate::model::Kind;

/// The tag that every copy has.
pub const ROUTED_TAG: (&str, &str) = ("X-KUBEMQ-ROUTED", "true");

// `Event` and `QueueMessage` have these numbers in common.
const ID: FieldNumber = 1;
const CLIENT_ID: FieldNumber = 2;
const CHANNEL: FieldNumber = 3;
const METADATA: FieldNumber = 4;
const BODY: FieldNumber = 5;

/// Of an `Event`.
const STORE: FieldNumber = 6;

/// Of a `QueueMessage`: policy, topic, partition and its key. Attributes are the broker's.
const OF_QUEUES: [FieldNumber; 4] = [8, 9, 10, 11];

const fn tags_number(kind: Kind) -> FieldNumber {
    match kind {
        Kind::Queues => 6,
        _ => 7,
    }
}

/// Encodes the copy of a message for a channel: a `QueueMessage` for a queue, otherwise an
/// `Event`. `message` is one of the two and was parsed before; `own` says which.
///
/// Client id, metadata, body and tags are kept, and from queue to queue the policy too.
#[must_use]
pub fn routed_copy(message: &[u8], own: Kind, id: &str, kind: Kind, channel: &str) -> Vec<u8> {
    const MORE: usize = 64;
    let mut copy = Vec::with_capacity(message.len() + id.len() + channel.len() + MORE);
    put_bytes_field(ID, id.as_bytes(), &mut copy);
    put_bytes_field(CHANNEL, channel.as_bytes(), &mut copy);
    let stays = own == Kind::Queues && kind == Kind::Queues;
    for field in Fields::new(message).map_while(Result::ok) {
        let number = field.number;
        if number == tags_number(own) {
            let entry = field.bytes().unwrap_or_default();
            put_bytes_field(tags_number(kind), entry, &mut copy);
        } else if matches!(number, CLIENT_ID | METADATA | BODY)
            || (stays && OF_QUEUES.contains(&number))
        {
            copy.extend_from_slice(message.get(field.start..field.end).unwrap_or_default());
        }
    }
    put_varint_field(STORE, u64::from(kind == Kind::EventsStore), &mut copy);
    let mut entry = Vec::with_capacity(MORE);
    put_bytes_field(1, ROUTED_TAG.0.as_bytes(), &mut entry);
    put_bytes_field(2, ROUTED_TAG.1.as_bytes(), &mut entry);
    // Behind the sender's: of two entries with one key the last one counts.
    put_bytes_field(tags_number(kind), &entry, &mut copy);
    copy
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use ringmq_proto::kubemq;

    use super::*;

    fn tags(entries: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        entries.iter().map(owned).collect()
    }

    fn event() -> kubemq::Event {
        kubemq::Event {
            event_id: "id".into(),
            client_id: "client".into(),
            channel: "a;b".into(),
            metadata: "meta".into(),
            body: "body".into(),
            store: true,
            tags: tags(&[("key", "value"), (ROUTED_TAG.0, "no")]),
        }
    }

    fn queue_message() -> kubemq::QueueMessage {
        kubemq::QueueMessage {
            message_id: "id".into(),
            client_id: "client".into(),
            channel: "a;b".into(),
            metadata: "meta".into(),
            body: "body".into(),
            tags: tags(&[("key", "value")]),
            attributes: Some(kubemq::QueueMessageAttributes {
                sequence: 7,
                ..Default::default()
            }),
            policy: Some(kubemq::QueueMessagePolicy {
                delay_seconds: 3,
                ..Default::default()
            }),
            topic: "topic".into(),
            partition: 5,
            partition_key: "key".into(),
        }
    }

    fn routed_tags() -> HashMap<String, String> {
        tags(&[("key", "value"), ROUTED_TAG])
    }

    #[test]
    fn an_event_becomes_an_event_of_either_kind() {
        for (kind, store) in [(Kind::Events, false), (Kind::EventsStore, true)] {
            let copy = routed_copy(&event().encode_to_vec(), Kind::Events, "new", kind, "x");
            let expected = kubemq::Event {
                event_id: "new".into(),
                channel: "x".into(),
                store,
                tags: routed_tags(),
                ..event()
            };
            assert_eq!(kubemq::Event::decode(&*copy).unwrap(), expected);
        }
    }

    #[test]
    fn an_event_becomes_a_queue_message_without_a_policy() {
        let message = event().encode_to_vec();
        let copy = routed_copy(&message, Kind::EventsStore, "id", Kind::Queues, "q");
        let expected = kubemq::QueueMessage {
            message_id: "id".into(),
            client_id: "client".into(),
            channel: "q".into(),
            metadata: "meta".into(),
            body: "body".into(),
            tags: routed_tags(),
            ..Default::default()
        };
        assert_eq!(kubemq::QueueMessage::decode(&*copy).unwrap(), expected);
    }

    #[test]
    fn a_queue_message_keeps_its_policy_for_queues_only() {
        let message = queue_message().encode_to_vec();
        let copy = routed_copy(&message, Kind::Queues, "id", Kind::Queues, "q");
        let expected = kubemq::QueueMessage {
            channel: "q".into(),
            attributes: None,
            tags: routed_tags(),
            ..queue_message()
        };
        assert_eq!(kubemq::QueueMessage::decode(&*copy).unwrap(), expected);
        let copy = routed_copy(&message, Kind::Queues, "id", Kind::EventsStore, "e");
        let expected = kubemq::Event {
            event_id: "id".into(),
            channel: "e".into(),
            tags: routed_tags(),
            ..event()
        };
        assert_eq!(kubemq::Event::decode(&*copy).unwrap(), expected);
    }
}
