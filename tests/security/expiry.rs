//! How long: streams end with the tokens that opened them.

use ringmq_proto::kubemq::{
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
    StreamQueueMessagesRequest, StreamQueueMessagesResponse, StreamRequestType,
};

use crate::broker::{Broker, asking_for_tokens, now_seconds, token};
use crate::client::{
    Client, OK, UNAUTHENTICATED, UNAVAILABLE, event, method, queue_message, receive, stored,
    subscribe,
};

/// Long enough for a slow machine to open all streams of a test.
const TOKEN_SECONDS: i64 = 8;

const EXPIRED: &str = "token expired";

fn token_until(end: i64) -> String {
    token(&format!(r#"{{"sub":"alice","exp":{end}}}"#))
}

fn poll(channel: &str) -> QueuesDownstreamRequest {
    QueuesDownstreamRequest {
        request_id: "poll".into(),
        client_id: "alice".into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: channel.into(),
        max_items: 10,
        wait_timeout: 600_000,
        ..QueuesDownstreamRequest::default()
    }
}

fn receive_one(channel: &str) -> StreamQueueMessagesRequest {
    StreamQueueMessagesRequest {
        request_id: "one".into(),
        client_id: "alice".into(),
        stream_request_type_data: StreamRequestType::ReceiveMessage.into(),
        channel: channel.into(),
        wait_time_seconds: 600,
        visibility_seconds: 600,
        ..StreamQueueMessagesRequest::default()
    }
}

#[test]
fn every_kind_of_stream_ends_with_its_token_and_what_it_held_is_back() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let end = now_seconds() + TOKEN_SECONDS;
    let mut alice = Client::with_token(broker.grpc(), &token_until(end));
    let mut streams = Vec::new();
    for kind in 1..=4 {
        streams.push(alice.subscribe(&subscribe(kind, "alice", "expiry")));
    }
    for method in [
        method::SEND_EVENTS_STREAM,
        method::QUEUES_UPSTREAM,
        method::QUEUES_DOWNSTREAM,
        method::STREAM_QUEUE_MESSAGE,
        method::REFLECTION,
    ] {
        streams.push(alice.open(method));
    }
    // Those that wait, and those that hold a message.
    for queue in ["held.one", "held.many"] {
        let sent = alice.ask(method::SEND_QUEUE_MESSAGE, &queue_message("alice", queue));
        assert_eq!(sent.grpc_status(), Some(OK));
    }
    let polls = alice.open(method::QUEUES_DOWNSTREAM);
    alice.say(polls, &poll("held.many"));
    let held: QueuesDownstreamResponse = alice.next(polls);
    assert_eq!(held.messages.len(), 1, "{}", held.error);
    alice.say(polls, &poll("waits"));
    let one = alice.open(method::STREAM_QUEUE_MESSAGE);
    alice.say(one, &receive_one("held.one"));
    let held: StreamQueueMessagesResponse = alice.next(one);
    assert!(held.message.is_some(), "{}", held.error);
    let waiting = alice.open(method::STREAM_QUEUE_MESSAGE);
    alice.say(waiting, &receive_one("waits"));
    let mut long = receive("alice", "waits");
    long.wait_time_seconds = 600;
    let receiving = alice.call(method::RECEIVE_QUEUE_MESSAGES, &long);
    streams.extend([polls, one, waiting, receiving]);

    for stream in streams {
        alice.ends(stream, UNAVAILABLE, EXPIRED);
    }
    assert!(now_seconds() >= end, "not before its time");
    // Who comes back with it is told why.
    let reply = alice.ask(method::SEND_EVENT, &event("alice", "expiry"));
    assert_eq!(reply.grpc_status(), Some(UNAUTHENTICATED));
    let told = reply.grpc_message();
    assert!(told.contains("token is expired by"), "{told}");
    let fresh = token_until(now_seconds() + 3_600);
    let mut alice = Client::with_token(broker.grpc(), &fresh);
    for queue in ["held.one", "held.many"] {
        let back = alice.receive("alice", queue);
        assert_eq!(back.len(), 1, "{queue}");
        let attributes = back[0].attributes.as_ref().expect("attributes");
        assert_eq!(attributes.receive_count, 1, "it was given back uncounted");
    }
    broker.end();
}

#[test]
fn what_was_sent_before_the_end_is_answered() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let end = now_seconds() + TOKEN_SECONDS;
    let mut alice = Client::with_token(broker.grpc(), &token_until(end));
    let events = alice.open(method::SEND_EVENTS_STREAM);
    let mut sent = 0_usize;
    while now_seconds() < end && sent < 2_000 {
        alice.say(events, &stored("alice", "expiry.sent"));
        sent += 1;
    }
    let mut told = 0;
    while let Some(_result) = alice.peer.next_message(events) {
        told += 1;
    }
    alice.ends(events, UNAVAILABLE, EXPIRED);
    let fresh = token_until(now_seconds() + 3_600);
    let mut reader = Client::with_token(broker.grpc(), &fresh);
    let stream = reader.subscribe(&subscribe(2, "reader", "expiry.sent"));
    for sequence in 1..=told {
        let event = crate::client::next_event(&mut reader, stream);
        assert_eq!(event.sequence, sequence);
    }
    assert!(told > 0 && usize::try_from(told).unwrap() <= sent);
    broker.end();
}

#[test]
fn a_stream_lives_on_for_as_long_as_the_grace_says() {
    let broker = Broker::start(&asking_for_tokens("expiry_grace_seconds = 3600"), None);
    let end = now_seconds() + 3;
    let mut alice = Client::with_token(broker.grpc(), &token_until(end));
    let stream = alice.subscribe(&subscribe(1, "alice", "grace"));
    // The grace is for what runs: a new call needs a token that counts.
    let refused = crate::harness::poll(crate::mock::peer::PATIENCE, || {
        let reply = alice.ask(method::SEND_EVENT, &event("alice", "other"));
        (reply.grpc_status() == Some(UNAUTHENTICATED)).then_some(())
    });
    assert!(refused.is_some(), "the token ends");
    assert!(now_seconds() >= end && alice.goes_on(stream));
    let fresh = token_until(now_seconds() + 3_600);
    let mut bob = Client::with_token(broker.grpc(), &fresh);
    let sent = bob.ask(method::SEND_EVENT, &event("bob", "grace"));
    assert_eq!(sent.grpc_status(), Some(OK));
    assert_eq!(
        crate::client::next_event(&mut alice, stream).channel,
        "grace"
    );
    broker.end();
}
