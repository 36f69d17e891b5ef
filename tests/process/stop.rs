//! Stopping: in order, within the grace, and with nobody left waiting.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Broker, poll};
use crate::mock::broker::Watched;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer};

const OK: u32 = 0;
const UNAVAILABLE: u32 = 14;

/// Ends the broker with a signal while a client of each sort is connected.
fn drains_in_order(cores: usize, signal: Signal) {
    let mut broker = Broker::start_with(cores, ["--set", "server.drain_grace_seconds=2"]);
    let mut subscriber = Peer::connect(broker.grpc());
    let events = kubemq::subscribe(kubemq::EVENTS, "stop.events", "");
    let subscription = subscriber.subscribe(path::SUBSCRIBE_TO_EVENTS, &events);
    let wildcard = kubemq::subscribe(kubemq::EVENTS, "stop.>", "group");
    let wildcard = subscriber.subscribe(path::SUBSCRIBE_TO_EVENTS, &wildcard);
    let mut publisher = Peer::connect(broker.grpc());
    let upload = publisher.open(path::SEND_EVENTS_STREAM);
    publisher.send_message(upload, &kubemq::event("stop.events", b"before"), false);
    let mut responder = Peer::connect(broker.grpc());
    let commands = kubemq::subscribe(kubemq::COMMANDS, "stop.commands", "");
    let commands = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &commands);
    let mut requester = Peer::connect(broker.grpc());
    let command = kubemq::request(kubemq::COMMAND, "stop.commands", b"do it", 120_000);
    let call = requester.call(path::SEND_REQUEST, &command);
    assert!(
        responder.next_message(commands).is_some(),
        "the command arrives"
    );
    let mut idle = Peer::connect(broker.grpc());

    let asked = Instant::now();
    broker.signal(signal);

    for stream in [subscription, wildcard] {
        let reply = subscriber.finish(stream);
        assert_eq!(reply.grpc_status(), Some(UNAVAILABLE), "{reply:?}");
    }
    let reply = responder.finish(commands);
    assert_eq!(reply.grpc_status(), Some(UNAVAILABLE), "{reply:?}");
    let reply = publisher.finish(upload);
    assert_eq!(reply.grpc_status(), Some(UNAVAILABLE), "{reply:?}");
    // The responder never answers: the caller hears of it before its own two minutes are over.
    let reply = requester.finish(call);
    let status = reply
        .grpc_status()
        .unwrap_or_else(|| panic!("answered: {reply:?}"));
    assert_ne!(status, OK, "{reply:?}");
    assert!(
        idle.wait(|p| p.goaway.is_some()),
        "idle connections are told: {idle:?}"
    );
    assert!(
        !idle.wait_for(PATIENCE, |_| false) && idle.ended.is_some(),
        "and closed"
    );

    broker.assert_exits_0();
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
    assert!(asked.elapsed() < PATIENCE, "took {:?}", asked.elapsed());
    assert!(
        TcpStream::connect(broker.grpc()).is_err(),
        "the port is closed"
    );
}

#[test]
fn sigterm_drains_and_exits_with_zero_with_one_shard() {
    drains_in_order(1, Signal::TERM);
}

#[test]
fn sigterm_drains_and_exits_with_zero_with_four_shards() {
    drains_in_order(4, Signal::TERM);
}

#[test]
fn sigint_drains_and_exits_with_zero() {
    drains_in_order(2, Signal::INT);
}

#[test]
fn a_request_in_flight_at_the_signal_is_answered() {
    let mut broker = Broker::start(4);
    let mut responder = Peer::connect(broker.grpc());
    let queries = kubemq::subscribe(kubemq::QUERIES, "stop.queries", "");
    let queries = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &queries);
    let mut requester = Peer::connect(broker.grpc());
    let query = kubemq::request(kubemq::QUERY, "stop.queries", b"how much", 60_000);
    let call = requester.call(path::SEND_REQUEST, &query);
    let request = responder.next_message(queries).expect("the query arrives");

    broker.signal(Signal::TERM);
    assert_eq!(responder.finish(queries).grpc_status(), Some(UNAVAILABLE));
    let sent = responder.unary(path::SEND_RESPONSE, &kubemq::response(&request));
    assert_eq!(
        sent.grpc_status(),
        Some(OK),
        "responses are taken during the drain: {sent:?}"
    );
    let reply = requester.finish(call);
    assert_eq!(
        reply.grpc_status(),
        Some(OK),
        "the call in flight finishes: {reply:?}"
    );
    broker.assert_exits_0();
}

#[test]
fn an_idle_broker_stops_at_once() {
    let broker = Broker::start(4);
    let asked = Instant::now();
    broker.end();
    // Far below the grace, also on a busy machine.
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "took {:?}",
        asked.elapsed()
    );
}

#[test]
fn a_client_that_does_not_leave_delays_the_end_by_the_grace_at_most() {
    let mut broker = Broker::start(1);
    // Neither reads the goodbye nor closes.
    let stuck: Vec<Peer> = (0..20).map(|_| Peer::connect(broker.grpc())).collect();
    broker.signal(Signal::TERM);
    broker.assert_exits_0();
    drop(stuck);
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace() {
    let broker = Broker::start_with(2, ["--set", "server.drain_grace_seconds=600"]);
    let mut responder = Peer::connect(broker.grpc());
    let commands = kubemq::subscribe(kubemq::COMMANDS, "stop.twice", "");
    let commands = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &commands);
    let mut requester = Peer::connect(broker.grpc());
    let command = kubemq::request(kubemq::COMMAND, "stop.twice", b"take your time", 600_000);
    requester.call(path::SEND_REQUEST, &command);
    assert!(
        responder.next_message(commands).is_some(),
        "the command arrives"
    );
    broker.signal(Signal::TERM);
    assert!(responder.finish(commands).ended, "the drain has begun");
    broker.signal(Signal::TERM);
    let asked = Instant::now();
    let ended = poll(PATIENCE, || broker.has_ended().then_some(()));
    assert!(ended.is_some(), "{}", broker.log());
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "took {:?}",
        asked.elapsed()
    );
}
