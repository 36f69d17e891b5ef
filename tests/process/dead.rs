//! Clients that are dead without a word, as behind a pulled cable.

use std::time::Duration;

use crate::harness::Broker;
use crate::mock::broker::{Watched, level};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer};

/// Whoever answers pings stays, also without calls; the others are closed after two seconds.
fn silent_clients_are_found(cores: usize) {
    let keepalive = [
        "grpc.keepalive_time_seconds=1",
        "grpc.keepalive_timeout_seconds=1",
    ];
    let broker = Broker::start_with(cores, ["--set", keepalive[0], "--set", keepalive[1]]);
    let subscription = kubemq::subscribe(kubemq::EVENTS, "dead.or.alive", "");
    let mut silent: Vec<Peer> = (0..8).map(|_| Peer::connect(broker.grpc())).collect();
    for peer in silent.iter_mut().skip(4) {
        peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    }
    let mut alive = Peer::connect(broker.grpc());
    let stream = alive.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    // Reading is answering.
    alive.wait_for(Duration::from_secs(5), |p| p.ended.is_some());
    let status = broker.status();
    assert_eq!(level(&status, "connections"), 1, "{status}");
    assert_eq!(level(&status, "subscriptions"), 1, "{status}");
    for peer in &mut silent {
        assert!(peer.wait_for(PATIENCE, |p| p.goaway.is_some()) || peer.ended.is_some());
    }
    alive.unary(
        path::SEND_EVENT,
        &kubemq::event("dead.or.alive", b"still here"),
    );
    assert!(alive.next_message(stream).is_some(), "{alive:?}");
    broker.end();
}

#[test]
fn silent_clients_are_found_with_one_shard() {
    silent_clients_are_found(1);
}

#[test]
fn silent_clients_are_found_with_four_shards() {
    silent_clients_are_found(4);
}
