//! Decoding, checking and encoding the messages that carry traffic.

use std::hint::black_box;

use bytes::BytesMut;
use prost::Message;
use ringmq::grpc::codec::event::{EventView, event_receive_frame};
use ringmq::grpc::codec::queue::validate::validate_message;
use ringmq::grpc::codec::queue::{QueueLimits, QueueMessageView, StoredMessage};
use ringmq::grpc::codec::request::{RequestView, request_frame};
use ringmq::grpc::codec::validate;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Event, QueueMessage, Request};

use super::{BODY_BYTES, CHANNEL, MESSAGES, Part, Run, part};

pub(super) const PARTS: &[Part] = &[
    part("decode/event", MESSAGES, || {
        let message = event();
        each(move || {
            let view = EventView::parse(&message).expect("it was encoded");
            black_box(validate::validate_event(&view).expect("it is whole"));
        })
    }),
    part("encode/event for subscribers", MESSAGES, || {
        let message = event();
        let mut out = BytesMut::with_capacity(2 * BODY_BYTES);
        each(move || {
            let view = EventView::parse(&message).expect("it was encoded");
            out.clear();
            black_box(event_receive_frame(&view, view.event_id, 1, 0, &mut out));
        })
    }),
    part("decode/request", MESSAGES, || {
        let message = request();
        each(move || {
            let view = RequestView::parse(&message).expect("it was encoded");
            black_box(validate::validate_request(&view).expect("it is whole"));
        })
    }),
    part("encode/request for responders", MESSAGES, || {
        let message = request();
        let mut out = BytesMut::with_capacity(2 * BODY_BYTES);
        each(move || {
            let view = RequestView::parse(&message).expect("it was encoded");
            out.clear();
            black_box(request_frame(
                &view,
                view.request_id,
                "_INBOX.x.0",
                &mut out,
            ));
        })
    }),
    part("decode/queue message", MESSAGES, || {
        let (message, limits) = (queue_message(), QueueLimits::default());
        each(move || {
            let view = QueueMessageView::parse(&message).expect("it was encoded");
            black_box(validate_message(&view, &limits).expect("it is whole"));
        })
    }),
    part("encode/queue message for the log", MESSAGES, || {
        let (message, limits) = (queue_message(), QueueLimits::default());
        let mut out = Vec::with_capacity(2 * BODY_BYTES);
        each(move || {
            let view = QueueMessageView::parse(&message).expect("it was encoded");
            let stored = StoredMessage::new(view, view.message_id.into(), &limits, 1);
            out.clear();
            stored.encode(&mut out);
            black_box(&out);
        })
    }),
];

/// Once for each message of a run.
fn each(mut one: impl FnMut() + 'static) -> Run {
    Box::new(move || (0..MESSAGES).for_each(|_| one()))
}

pub(super) fn event() -> Vec<u8> {
    let event = Event {
        event_id: "0123456789abcdef01234567".into(),
        client_id: "a-publisher".into(),
        channel: CHANNEL.into(),
        metadata: "about".into(),
        body: vec![7; BODY_BYTES].into(),
        ..Event::default()
    };
    event.encode_to_vec()
}

fn request() -> Vec<u8> {
    let request = Request {
        request_id: "0123456789abcdef01234567".into(),
        request_type_data: RequestType::Query.into(),
        client_id: "a-caller".into(),
        channel: CHANNEL.into(),
        metadata: "about".into(),
        body: vec![7; BODY_BYTES].into(),
        timeout: 1_000,
        ..Request::default()
    };
    request.encode_to_vec()
}

fn queue_message() -> Vec<u8> {
    let message = QueueMessage {
        message_id: "0123456789abcdef01234567".into(),
        client_id: "a-sender".into(),
        channel: CHANNEL.into(),
        metadata: "about".into(),
        body: vec![7; BODY_BYTES].into(),
        ..QueueMessage::default()
    };
    message.encode_to_vec()
}
