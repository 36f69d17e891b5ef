//! How much: refusals that say which limit, and when to try again.

use ringmq_proto::kubemq::{
    QueueMessagesBatchRequest, QueueMessagesBatchResponse, QueuesUpstreamRequest,
    QueuesUpstreamResponse, Result as EventResult, Subscribe,
};

use crate::broker::{Broker, asking_for_tokens, now_seconds, token_of, token_with};
use crate::client::{
    Client, OK, RESOURCE_EXHAUSTED, UNAUTHENTICATED, event, method, queue_message, stored,
    subscribe,
};
use crate::mock::frame::Frame;

/// A code of HTTP/2: the call is given up.
const CANCEL: u32 = 8;

#[test]
fn a_call_above_the_rate_is_refused_with_the_time_to_try_again() {
    let settings = format!(
        "{}[limits]\nrequests_per_second = 1\nrequests_burst = 3\n",
        asking_for_tokens("")
    );
    let broker = Broker::start(&settings, None);
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let mut bob = Client::with_token(broker.grpc(), &token_of("bob"));
    // More than one call a second: sooner or later there is no room.
    let refused = (0..10_000).find_map(|_| {
        let reply = alice.ask(method::SEND_EVENT, &event("alice", "rate"));
        (reply.grpc_status() != Some(OK)).then_some(reply)
    });
    let reply = refused.expect("a refusal");
    assert_eq!(reply.grpc_status(), Some(RESOURCE_EXHAUSTED));
    let trailers = reply.trailers.as_ref().unwrap();
    let pushback = trailers
        .get("grpc-retry-pushback-ms")
        .expect("when to try again");
    assert!((1..=1_000).contains(&pushback.parse::<u32>().unwrap()));
    let text = format!("limit reached: limits.requests_per_second; try again in {pushback} ms");
    assert_eq!(reply.grpc_message(), text);
    // Another identity has a bucket of its own, from the same address.
    let sent = bob.ask(method::SEND_EVENT, &event("bob", "rate"));
    assert_eq!(sent.grpc_status(), Some(OK));
    broker.end();
}

/// A limit with so long a debt behind it that no slow machine sees its end.
#[test]
fn a_batch_counts_as_many_as_it_holds() {
    let settings = format!(
        "{}[limits]\nrequests_per_second = 1\nrequests_burst = 3\n",
        asking_for_tokens("")
    );
    let broker = Broker::start(&settings, None);
    let messages = |client: &str| vec![queue_message(client, "q"); 600];
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch".into(),
        messages: messages("alice"),
    };
    let answer: QueueMessagesBatchResponse = alice.unary(method::SEND_QUEUE_MESSAGES_BATCH, &batch);
    assert!(!answer.have_errors);
    let reply = alice.ask(method::SEND_EVENT, &event("alice", "a"));
    assert_eq!(reply.grpc_status(), Some(RESOURCE_EXHAUSTED));

    let mut bob = Client::with_token(broker.grpc(), &token_of("bob"));
    let upstream = bob.open(method::QUEUES_UPSTREAM);
    let request = QueuesUpstreamRequest {
        request_id: "up".into(),
        messages: messages("bob"),
    };
    bob.say(upstream, &request);
    let answer: QueuesUpstreamResponse = bob.next(upstream);
    assert!(!answer.is_error, "{}", answer.error);
    let reply = bob.ask(method::SEND_EVENT, &event("bob", "a"));
    assert_eq!(reply.grpc_status(), Some(RESOURCE_EXHAUSTED));
    broker.end();
}

/// To verify a token costs more than a call: not even refusals are free.
#[test]
fn forged_tokens_count_against_their_address_and_not_against_who_is_known() {
    let settings = format!(
        "{}[limits]\nrequests_per_second = 1\nrequests_burst = 3\n",
        asking_for_tokens("")
    );
    let broker = Broker::start(&settings, None);
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let mut send = || {
        let reply = alice.ask(method::SEND_EVENT, &event("alice", "a"));
        reply.grpc_status()
    };
    assert_eq!(send(), Some(OK));
    let claims = format!(r#"{{"sub":"alice","exp":{}}}"#, now_seconds() + 3_600);
    let head = r#"{"alg":"HS256","typ":"JWT"}"#;
    let forged = token_with(
        head,
        &claims,
        "a secret of somebody else, as long as the other",
    );
    let mut forger = Client::with_token(broker.grpc(), &forged);
    let told = (0..10_000).find_map(|_| {
        let reply = forger.ask(method::SEND_EVENT, &event("alice", "a"));
        (reply.grpc_status() != Some(UNAUTHENTICATED)).then(|| reply.grpc_status())
    });
    assert_eq!(told, Some(Some(RESOURCE_EXHAUSTED)));
    assert_eq!(send(), Some(OK), "her token is remembered");
    broker.end();
}

/// Nothing of a stream is refused: it is read as fast as its sender may send.
#[test]
fn a_stream_above_the_rate_is_slowed() {
    let broker = Broker::start(
        "[limits]\nrequests_per_second = 20\nrequests_burst = 1\n",
        None,
    );
    let mut client = Client::nobody(broker.grpc());
    let stream = client.open(method::SEND_EVENTS_STREAM);
    let began = std::time::Instant::now();
    for _ in 0..30 {
        client.say(stream, &stored("a", "slowed"));
    }
    for _ in 0..30 {
        let result: EventResult = client.next(stream);
        assert!(result.sent, "{}", result.error);
    }
    // The first goes at once, each of the others has to wait for its part of a second.
    assert!(began.elapsed() >= std::time::Duration::from_millis(1_000));
    broker.end();
}

#[test]
fn a_client_has_so_many_subscriptions_and_one_that_ends_makes_room() {
    let broker = Broker::start("[limits]\nsubscriptions_per_client = 2\n", None);
    let mut client = Client::nobody(broker.grpc());
    let of = |client: &str, channel: &str| subscribe(1, client, channel);
    let first = client.subscribe(&of("a", "one"));
    client.subscribe(&of("a", "two"));
    let text = "limit reached: limits.subscriptions_per_client";
    let method = method::SUBSCRIBE_TO_EVENTS;
    client.refused(method, &of("a", "three"), RESOURCE_EXHAUSTED, text);
    client.subscribe(&of("b", "one"));
    client.peer.send(&Frame::reset(first, CANCEL));
    let subscribed = crate::harness::poll(crate::mock::peer::PATIENCE, || {
        try_subscribe(&mut client, &of("a", "three")).then_some(())
    });
    assert!(subscribed.is_some(), "there is room");
    broker.end();
}

fn try_subscribe(client: &mut Client, subscribe: &Subscribe) -> bool {
    let stream = client.call(method::SUBSCRIBE_TO_EVENTS, subscribe);
    client.peer.wait(|peer| {
        let reply = peer.reply(stream);
        reply.ended || reply.headers.is_some()
    });
    !client.peer.reply(stream).ended
}
