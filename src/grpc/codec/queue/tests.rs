use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::collection::hash_map;
use proptest::prelude::*;
use prost::Message as _;
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, AckAllQueueMessagesResponse, QueueMessage, QueueMessageAttributes,
    QueueMessagePolicy, QueueMessagesBatchRequest, QueueMessagesBatchResponse,
    QueuesUpstreamResponse, ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse,
    SendQueueMessageResult,
};
use ringmq_storage::record::queue::{MoveId, QueueHead};
use ringmq_storage::{ChannelId, Sequence, SlotId};

use super::*;
use crate::grpc::codec::tests::noise;
use crate::shard::{BodyPolicy, HandedMessage};

const SECOND_NS: u64 = 1_000_000_000;

prop_compose! {
    fn any_policy()(
        (expiration_seconds, delay_seconds, max_receive_count) in any::<(i32, i32, i32)>(),
        max_receive_queue in ".{0,20}",
    ) -> QueueMessagePolicy {
        QueueMessagePolicy {
            expiration_seconds, delay_seconds, max_receive_count, max_receive_queue,
        }
    }
}

prop_compose! {
    /// A policy that may be stored.
    fn checked_policy()(
        expiration_seconds in 0..=43_200,
        delay_seconds in 0..=43_200,
        max_receive_count in 0..=1024,
        max_receive_queue in "[a-z]{0,20}",
    ) -> QueueMessagePolicy {
        QueueMessagePolicy {
            expiration_seconds, delay_seconds, max_receive_count, max_receive_queue,
        }
    }
}

prop_compose! {
    fn any_attributes()(
        (timestamp, sequence, receive_count, re_routed) in any::<(i64, u64, i32, bool)>(),
        (md5_of_body, re_routed_from_queue) in (".{0,5}", ".{0,5}"),
        (expiration_at, delayed_to) in any::<(i64, i64)>(),
    ) -> QueueMessageAttributes {
        QueueMessageAttributes {
            timestamp, sequence, md5_of_body, receive_count, re_routed, re_routed_from_queue,
            expiration_at, delayed_to,
        }
    }
}

prop_compose! {
    fn message_with(policy: BoxedStrategy<QueueMessagePolicy>)(
        (message_id, client_id, channel) in (".{0,40}", ".{0,5}", ".{0,200}"),
        metadata in ".{0,100}",
        body in prop::collection::vec(any::<u8>(), 0..300),
        tags in hash_map(".{0,10}", ".{0,10}", 0..4),
        attributes in prop::option::of(any_attributes()),
        policy in prop::option::of(policy),
        (topic, partition_key) in (".{0,5}", ".{0,5}"),
        partition: i32,
    ) -> QueueMessage {
        let body = Bytes::from(body);
        QueueMessage {
            message_id, client_id, channel, metadata, body, tags, attributes, policy, topic,
            partition, partition_key,
        }
    }
}

fn any_message() -> impl Strategy<Value = QueueMessage> {
    message_with(any_policy().boxed())
}

fn storable_message() -> impl Strategy<Value = QueueMessage> {
    message_with(checked_policy().boxed())
}

/// The head and the body of a message as it is stored.
fn stored(message: &[u8], id: &str, now_ns: u64) -> Vec<u8> {
    let view = QueueMessageView::parse(message).unwrap();
    let message = StoredMessage::new(view, Cow::Borrowed(id), &QueueLimits::default(), now_ns);
    let mut out = vec![7; 3];
    message.encode(&mut out);
    let stored = out.split_off(3);
    assert_eq!(stored.len(), message.encoded_len());
    stored
}

/// The message that a consumer gets: the only field of an answer, number 2 as that of `receive`.
fn handed_out(framing: &crate::shard::QueueFraming, message: &HandedMessage<'_>) -> QueueMessage {
    let mut field = BytesMut::new();
    (framing.before)(ReceiveAnswer::MESSAGES, message, &mut field);
    field.extend_from_slice(message.body);
    (framing.after)(message, &mut field);
    let mut answer = ReceiveQueueMessagesResponse::decode(field).unwrap();
    assert_eq!(answer.messages.len(), 1);
    answer.messages.remove(0)
}

/// What a consumer gets of a message that was never moved, but for its attributes.
fn as_consumers_get_it(message: &QueueMessage, id: &str) -> QueueMessage {
    let mut expected = message.clone();
    expected.message_id = id.into();
    expected.attributes = None;
    let policy = expected.policy.get_or_insert_default();
    policy.delay_seconds = 0;
    if policy.max_receive_count == 0 {
        policy.max_receive_count = 1024;
    }
    expected
}

fn handed<'a>(head: QueueHead<'a>, body: &'a [u8]) -> HandedMessage<'a> {
    HandedMessage {
        channel: "here",
        sequence: 5,
        timestamp_ns: 77,
        receives: 2,
        head,
        body,
    }
}

proptest! {
    #[test]
    fn a_view_reads_what_the_generated_type_wrote(message in any_message()) {
        let encoded = message.encode_to_vec();
        let view = QueueMessageView::parse(&encoded).unwrap();
        prop_assert_eq!(view.message_id, &message.message_id);
        prop_assert_eq!(view.client_id, &message.client_id);
        prop_assert_eq!(view.channel, &message.channel);
        prop_assert_eq!(view.metadata, &message.metadata);
        prop_assert_eq!(view.body, &message.body);
        prop_assert_eq!(view.topic, &message.topic);
        prop_assert_eq!(view.partition, message.partition);
        prop_assert_eq!(view.partition_key, &message.partition_key);
        let tags = view.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        prop_assert_eq!(&tags.collect::<HashMap<_, _>>(), &message.tags);
        let policy = message.policy.unwrap_or_default();
        prop_assert_eq!(view.policy.expiration_seconds, policy.expiration_seconds);
        prop_assert_eq!(view.policy.delay_seconds, policy.delay_seconds);
        prop_assert_eq!(view.policy.max_receive_count, policy.max_receive_count);
        prop_assert_eq!(view.policy.max_receive_queue, &policy.max_receive_queue);
        prop_assert_eq!(QueueMessageView::message_id_of(&encoded), &message.message_id);
    }

    #[test]
    fn consumers_get_what_the_sender_sent_with_the_brokers_attributes(
        message in storable_message(), id in ".{1,40}",
        now_ns in 1..u64::MAX / 4, (sequence, receives) in (1_u64.., 1_u32..),
        body_md5: bool,
    ) {
        let stored = stored(&message.encode_to_vec(), &id, now_ns);
        let (head, body) = QueueHead::decode(&stored).unwrap();
        let policy = message.policy.clone().unwrap_or_default();
        let seconds = |seconds: i32| u64::try_from(seconds).unwrap() * SECOND_NS;
        let visible = now_ns + seconds(policy.delay_seconds);
        let expires = visible + seconds(policy.expiration_seconds);
        let set = |seconds: i32, at: u64| if seconds == 0 { 0 } else { at };
        prop_assert_eq!(head.visible_at_ns, set(policy.delay_seconds, visible));
        prop_assert_eq!(head.expires_at_ns, set(policy.expiration_seconds, expires));

        let handed = HandedMessage { sequence, receives, ..handed(head, body) };
        let mut got = handed_out(&queue_framing(body_md5), &handed);
        let attributes = got.attributes.take().unwrap();
        prop_assert_eq!(got, as_consumers_get_it(&message, &id));
        let md5 = String::from_utf8(md5::hex(&message.body).to_vec()).unwrap();
        prop_assert_eq!(attributes, QueueMessageAttributes {
            timestamp: 77,
            sequence,
            md5_of_body: if body_md5 { md5 } else { String::new() },
            receive_count: i32::try_from(receives).unwrap_or(i32::MAX),
            re_routed: false,
            re_routed_from_queue: String::new(),
            expiration_at: head.expires_at_ns.cast_signed(),
            delayed_to: head.visible_at_ns.cast_signed(),
        });
    }

    #[test]
    fn what_a_view_accepts_every_consumer_can_decode(message in noise(storable_message())) {
        if let Ok(view) = QueueMessageView::parse(&message) {
            let known = QueueMessage::decode(&message[..]).unwrap();
            let stored = stored(&message, view.message_id, 1);
            let (head, body) = QueueHead::decode(&stored).unwrap();
            let mut got = handed_out(&queue_framing(false), &handed(head, body));
            got.attributes = None;
            // Noise may hold what no sender may say; the checks come between.
            let policy = known.policy.clone().unwrap_or_default();
            if policy.max_receive_count >= 0 {
                prop_assert_eq!(got, as_consumers_get_it(&known, &known.message_id));
            }
        }
    }

    #[test]
    fn results_are_what_the_generated_type_writes(
        id in ".{0,40}", facts: Option<(u32, u32, u32)>, error in ".{1,80}",
    ) {
        let result = match facts {
            Some((sent_at, expiration_at, delayed_to)) => SendQueueMessageResult {
                message_id: id.clone(),
                sent_at: sent_at.into(),
                expiration_at: expiration_at.into(),
                delayed_to: delayed_to.into(),
                ..SendQueueMessageResult::default()
            },
            None => SendQueueMessageResult {
                message_id: id.clone(),
                is_error: true,
                error: error.clone(),
                ..SendQueueMessageResult::default()
            },
        };
        let outcome = match facts {
            Some((sent_at, expires_at, visible_at)) => Ok(SendFacts {
                sent_at_ns: sent_at.into(),
                expires_at_ns: expires_at.into(),
                visible_at_ns: visible_at.into(),
            }),
            None => Err(&error[..]),
        };
        let mut out = BytesMut::new();
        send_result(&id, outcome, &mut out);
        prop_assert_eq!(&out[..], result.encode_to_vec());

        let mut fields = BytesMut::new();
        result_as_field("first", Ok(SendFacts::default()), &mut fields);
        result_as_field(&id, outcome, &mut fields);
        let ids: Vec<_> = results_of(&fields).map(|(_, id)| id).collect();
        prop_assert_eq!(ids, ["first", &id]);
        let mut batch = BytesMut::new();
        batch_response("b", &fields, true, &mut batch);
        let batch = QueueMessagesBatchResponse::decode(batch).unwrap();
        prop_assert_eq!(&batch.results[1], &result);
        prop_assert!(batch.batch_id == "b" && batch.have_errors);
        let mut frame = BytesMut::new();
        upstream_response("r", &fields, &mut frame);
        let upstream = QueuesUpstreamResponse::decode(unframed(&frame)).unwrap();
        prop_assert_eq!(upstream.results, batch.results);
        prop_assert_eq!(upstream.ref_request_id, "r");
    }

    #[test]
    fn requests_of_consumers_are_read(
        (request_id, client_id, channel) in (".{0,9}", ".{0,9}", ".{0,9}"),
        (max, wait_time_seconds, is_peak) in any::<(i32, i32, bool)>(),
    ) {
        let receive = ReceiveQueueMessagesRequest {
            request_id: request_id.clone(),
            client_id: client_id.clone(),
            channel: channel.clone(),
            max_number_of_messages: max,
            wait_time_seconds,
            is_peak,
        };
        let expected = ReceiveView {
            request_id: &request_id,
            client_id: &client_id,
            channel: &channel,
            messages_max: max,
            wait_seconds: wait_time_seconds,
            is_peek: is_peak,
        };
        let receive = receive.encode_to_vec();
        prop_assert_eq!(ReceiveView::parse(&receive), Ok(expected));
        let ack_all = AckAllQueueMessagesRequest {
            request_id: request_id.clone(),
            client_id: client_id.clone(),
            channel: channel.clone(),
            wait_time_seconds,
        };
        let expected = AckAllView {
            request_id: &request_id,
            client_id: &client_id,
            channel: &channel,
            wait_seconds: wait_time_seconds,
        };
        let ack_all = ack_all.encode_to_vec();
        prop_assert_eq!(AckAllView::parse(&ack_all), Ok(expected));
    }

    #[test]
    fn random_bytes_never_panic(message: Vec<u8>) {
        let _undecodable = QueueMessageView::parse(&message).is_err();
        let _undecodable = MessagesView::parse(&message).map(|view| view.messages().count());
        let _undecodable = ReceiveView::parse(&message).is_err();
        let _undecodable = AckAllView::parse(&message).is_err();
        let _ids = results_of(&message).count();
        let framing = queue_framing(true);
        let _policy = (framing.policy)(&message);
        let head = plain_head();
        (framing.after)(&handed(head, &message), &mut BytesMut::new());
    }
}

fn unframed(frame: &[u8]) -> &[u8] {
    let (prefix, message) = frame.split_at(5);
    let len = u32::try_from(message.len()).unwrap();
    assert_eq!(prefix, [&[0], &len.to_be_bytes()[..]].concat());
    message
}

fn plain_head() -> QueueHead<'static> {
    QueueHead {
        visible_at_ns: 0,
        expires_at_ns: 0,
        receives_max: 3,
        rerouted: false,
        policy_cleared: false,
        dead_letter: "",
        origin: "",
        moved: None,
    }
}

fn message() -> QueueMessage {
    QueueMessage {
        message_id: "id".into(),
        client_id: "c".into(),
        channel: "there".into(),
        body: Bytes::from_static(b"b"),
        policy: Some(QueueMessagePolicy {
            expiration_seconds: 9,
            delay_seconds: 4,
            max_receive_count: 3,
            max_receive_queue: "dead".into(),
        }),
        ..QueueMessage::default()
    }
}

#[test]
fn a_moved_message_names_the_queue_it_is_in_and_a_dead_letter_where_it_was() {
    let stored = stored(&message().encode_to_vec(), "id", 1);
    let (_, body) = QueueHead::decode(&stored).unwrap();
    let id = MoveId {
        slot: SlotId::new(1).unwrap(),
        channel: ChannelId::new(2),
        sequence: Sequence::new(3),
    };
    let moved = QueueHead {
        origin: "there",
        moved: Some((1, id)),
        ..plain_head()
    };
    let framing = queue_framing(false);
    let got = handed_out(&framing, &handed(moved, body));
    assert_eq!(got.channel, "here");
    let policy = QueueMessagePolicy {
        delay_seconds: 0,
        ..message().policy.unwrap()
    };
    assert_eq!(got.policy, Some(policy));
    let attributes = got.attributes.unwrap();
    assert!(!attributes.re_routed && attributes.re_routed_from_queue.is_empty());

    let dead = QueueHead {
        rerouted: true,
        policy_cleared: true,
        ..moved
    };
    let got = handed_out(&framing, &handed(dead, body));
    assert_eq!(got.channel, "here");
    assert_eq!(got.policy, Some(QueueMessagePolicy::default()));
    let attributes = got.attributes.unwrap();
    assert!(attributes.re_routed && attributes.re_routed_from_queue == "there");
}

#[test]
fn the_policy_of_a_stored_body_can_be_read_again() {
    let policy = queue_framing(false).policy;
    let stored = stored(&message().encode_to_vec(), "id", 1);
    let (_, body) = QueueHead::decode(&stored).unwrap();
    let expected = BodyPolicy {
        expiration: Duration::from_secs(9),
        receives_max: 3,
        dead_letter: "dead",
    };
    assert_eq!(policy(body), expected);
    assert_eq!(policy(&[]), BodyPolicy::default());
}

#[test]
fn an_answer_with_messages_is_one_frame() {
    let stored = stored(&message().encode_to_vec(), "id", 1);
    let (head, body) = QueueHead::decode(&stored).unwrap();
    let framing = queue_framing(false);
    let mut messages = BytesMut::new();
    for _ in 0..2 {
        let handed = handed(head, body);
        (framing.before)(ReceiveAnswer::MESSAGES, &handed, &mut messages);
        messages.extend_from_slice(body);
        (framing.after)(&handed, &mut messages);
    }
    let answer = ReceiveAnswer {
        request_id: "r",
        received: 2,
        expired: u64::MAX,
        is_peek: true,
        error: "",
    };
    let mut frame = BytesMut::new();
    answer.begin_frame(messages.len(), &mut frame);
    frame.extend_from_slice(&messages);
    answer.end(&mut frame);
    assert!(frame.len() - messages.len() <= 5 + 3 + ReceiveAnswer::FIXED_BYTES_MAX);
    let decoded = ReceiveQueueMessagesResponse::decode(unframed(&frame)).unwrap();
    assert_eq!(decoded.messages.len(), 2);
    assert_eq!(decoded.messages[1].body, "b");
    let head = (
        decoded.request_id,
        decoded.messages_received,
        decoded.messages_expired,
    );
    assert_eq!(head, ("r".to_owned(), 2, i32::MAX));
    assert!(decoded.is_peak && !decoded.is_error);
}

#[test]
fn refusals_carry_the_id_of_their_request() {
    let mut out = BytesMut::new();
    let answer = ReceiveAnswer {
        request_id: "r",
        error: "bad",
        ..ReceiveAnswer::default()
    };
    answer.begin(&mut out);
    answer.end(&mut out);
    let decoded = ReceiveQueueMessagesResponse::decode(out).unwrap();
    let expected = ReceiveQueueMessagesResponse {
        request_id: "r".into(),
        is_error: true,
        error: "bad".into(),
        ..ReceiveQueueMessagesResponse::default()
    };
    assert_eq!(decoded, expected);

    for outcome in [Ok(7), Err("bad")] {
        let mut out = BytesMut::new();
        ack_all_answer("r", outcome, &mut out);
        let expected = AckAllQueueMessagesResponse {
            request_id: "r".into(),
            affected_messages: outcome.unwrap_or(0),
            is_error: outcome.is_err(),
            error: outcome.err().unwrap_or_default().into(),
        };
        assert_eq!(AckAllQueueMessagesResponse::decode(out).unwrap(), expected);
    }

    let mut frame = BytesMut::new();
    upstream_refusal("r", "bad", &mut frame);
    let expected = QueuesUpstreamResponse {
        ref_request_id: "r".into(),
        results: vec![],
        is_error: true,
        error: "bad".into(),
    };
    assert_eq!(
        QueuesUpstreamResponse::decode(unframed(&frame)).unwrap(),
        expected
    );
}

#[test]
fn a_batch_gives_its_messages_in_order() {
    let messages = ["a", "", "c"].map(|id| QueueMessage {
        message_id: id.into(),
        ..QueueMessage::default()
    });
    let batch = QueueMessagesBatchRequest {
        batch_id: "b".into(),
        messages: messages.to_vec(),
    };
    let encoded = batch.encode_to_vec();
    let view = MessagesView::parse(&encoded).unwrap();
    assert_eq!((view.id, view.count), ("b", 3));
    let ids: Vec<_> = view
        .messages()
        .map(QueueMessageView::message_id_of)
        .collect();
    assert_eq!(ids, ["a", "", "c"]);
    let broken = [&encoded[..], &[0x12, 9]].concat();
    assert!(MessagesView::parse(&broken).is_err());
    assert_eq!(MessagesView::id_of(&broken), "b");
}

#[test]
fn several_policies_are_one_and_unknown_fields_are_dropped() {
    let first = QueueMessagePolicy {
        expiration_seconds: 1,
        max_receive_count: 2,
        ..QueueMessagePolicy::default()
    };
    let second = QueueMessagePolicy {
        max_receive_count: 3,
        max_receive_queue: "q".into(),
        ..QueueMessagePolicy::default()
    };
    let mut encoded = vec![0xa2, 0x01, 3, b'n', b'e', b'w'];
    for policy in [first, second] {
        let policy = Some(policy);
        encoded.extend(
            QueueMessage {
                policy,
                ..QueueMessage::default()
            }
            .encode_to_vec(),
        );
    }
    let view = QueueMessageView::parse(&encoded).unwrap();
    let expected = PolicyView {
        expiration_seconds: 1,
        delay_seconds: 0,
        max_receive_count: 3,
        max_receive_queue: "q",
    };
    assert_eq!(view.policy, expected);
    let stored = stored(&encoded, "", 1);
    let (_, body) = QueueHead::decode(&stored).unwrap();
    assert_eq!(body, [0x42, 7, 0x08, 1, 0x18, 3, 0x22, 1, b'q']);
}

#[test]
fn text_must_be_utf8_wherever_it_stands() {
    for text in [1, 2, 3, 4, 9, 11] {
        let message = [text << 3 | 2, 2, 0xff, 0xfe, text << 3 | 2, 1, b'x'];
        let error = QueueMessageView::parse(&message).unwrap_err();
        assert_eq!(error, DecodeError::InvalidUtf8, "{text}");
    }
    for (field, inner) in [(6, 1), (6, 2), (7, 3), (7, 6), (8, 4)] {
        let message = [field << 3 | 2, 3, inner << 3 | 2, 1, 0xff];
        let error = QueueMessageView::parse(&message).unwrap_err();
        assert_eq!(error, DecodeError::InvalidUtf8, "{field} {inner}");
    }
    assert!(QueueMessageView::parse(&[0x2a, 2, 0xff, 0xfe]).is_ok());
    let number_as_text = [0x3a, 3, 0x0a, 1, b'1'];
    let error = QueueMessageView::parse(&number_as_text).unwrap_err();
    assert_eq!(error, DecodeError::FieldType);
}
