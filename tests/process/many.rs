//! Many connections with a subscription each.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::Broker;
use crate::mock::broker::{Watched, level};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;

const CONNECTIONS: usize = 2_000;

/// Far above what a connection or a subscription takes; a leak of buffers would pass it.
const BYTES_EACH_MAX: u64 = 256 << 10;

/// Raises this process's limit of open files, which the broker inherits.
fn raise_open_files(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit {
            current: limit.maximum.or(Some(needed)),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("raising the soft limit to the hard one");
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(
        current >= needed,
        "the hard limit of open files is too low: {current}"
    );
}

/// Publishes one event; every one of the subscriptions gets it.
fn reaches_all(broker: &Broker, peers: &mut [Peer], streams: &[Vec<u32>], text: &[u8]) {
    let mut publisher = Peer::connect(broker.grpc());
    let sent = publisher.unary(path::SEND_EVENT, &kubemq::event("many", text));
    assert_eq!(sent.grpc_status(), Some(0), "{sent:?}");
    for (number, (peer, streams)) in peers.iter_mut().zip(streams).enumerate() {
        for stream in streams {
            let event = peer.next_message(*stream);
            let event = event.unwrap_or_else(|| panic!("connection {number} gets the event"));
            assert_eq!(kubemq::event_body(&event), text);
        }
    }
}

fn two_thousand_connections(cores: usize) {
    raise_open_files(CONNECTIONS as u64 + 500);
    let broker = Broker::start(cores);
    let subscription = kubemq::subscribe(kubemq::EVENTS, "many", "");
    let empty = broker.rss_bytes();
    let mut peers: Vec<Peer> = (0..CONNECTIONS)
        .map(|_| Peer::connect(broker.grpc()))
        .collect();
    let connected = broker.rss_bytes();
    let mut streams = Vec::new();
    for peer in &mut peers {
        streams.push(vec![
            peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription),
        ]);
    }
    let subscribed = broker.rss_bytes();
    reaches_all(&broker, &mut peers, &streams, b"to each connection");
    let delivered = broker.rss_bytes();
    for (peer, streams) in peers.iter_mut().zip(&mut streams) {
        streams.push(peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription));
    }
    let subscribed_twice = broker.rss_bytes();
    reaches_all(&broker, &mut peers, &streams, b"to each twice");
    let status = broker.status();
    assert_eq!(
        level(&status, "subscriptions"),
        2 * CONNECTIONS as u64,
        "{status}"
    );

    let each = |from: u64, to: u64| to.saturating_sub(from) / CONNECTIONS as u64;
    let per_connection = each(empty, connected);
    let per_first = each(connected, subscribed);
    let per_further = each(delivered, subscribed_twice);
    eprintln!(
        "{cores} shard(s), {CONNECTIONS} connections: {per_connection} bytes for each idle \
         connection, {per_first} for its first subscription, {per_further} for a further one; \
         {} after a delivery to all",
        each(empty, delivered)
    );
    assert!(
        per_connection < BYTES_EACH_MAX,
        "{per_connection} bytes for each connection"
    );
    assert!(
        per_further < BYTES_EACH_MAX,
        "{per_further} bytes for each subscription"
    );
    drop(peers);
    broker.wait_zero(&["subscriptions", "connections"]);
    broker.end();
}

#[test]
fn two_thousand_connections_are_served_with_one_shard() {
    two_thousand_connections(1);
}

#[test]
fn two_thousand_connections_are_served_with_four_shards() {
    two_thousand_connections(4);
}
