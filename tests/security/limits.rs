//! How much: refusals that say which limit, and when to try again.

use ringmq_proto::kubemq::{Result as EventResult, Subscribe};

use crate::broker::{Broker, asking_for_tokens, token_of};
use crate::client::{Client, OK, RESOURCE_EXHAUSTED, event, method, stored, subscribe};
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
