//! Many connections with a subscription each.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Broker, say};
use crate::mock::broker::{Watched, level};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;

const CONNECTIONS: u64 = 2_000;

/// Subscriptions on each connection beyond the first.
const FURTHER: u64 = 4;

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

/// Publishes one event; every subscription of every connection gets it.
fn reaches_all(broker: &Broker, peers: &mut [Peer], streams: &[Vec<u32>], text: &[u8]) {
    let mut publisher = Peer::connect(broker.grpc());
    let sent = publisher.unary(path::SEND_EVENT, &kubemq::event("many", text));
    assert_eq!(sent.grpc_status(), Some(0), "{sent:?}");
    for streams in streams {
        for (number, (peer, stream)) in peers.iter_mut().zip(streams).enumerate() {
            let event = peer.next_message(*stream);
            let event = event.unwrap_or_else(|| panic!("connection {number} gets the event"));
            assert_eq!(kubemq::event_body(&event), text);
        }
    }
}

fn two_thousand_connections(cores: usize) {
    raise_open_files(CONNECTIONS + 500);
    let broker = Broker::start(cores);
    let subscription = kubemq::subscribe(kubemq::EVENTS, "many", "");
    let empty = broker.rss_bytes();
    let mut peers: Vec<Peer> = (0..CONNECTIONS)
        .map(|_| Peer::connect(broker.grpc()))
        .collect();
    let connected = broker.rss_bytes();
    let mut subscribe_all = || -> Vec<u32> {
        let subscribe = |peer: &mut Peer| peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
        peers.iter_mut().map(subscribe).collect()
    };
    let mut streams = vec![subscribe_all()];
    let subscribed = broker.rss_bytes();
    streams.extend((0..FURTHER).map(|_| subscribe_all()));
    let subscribed_further = broker.rss_bytes();
    let status = broker.status();
    let subscriptions = CONNECTIONS * (1 + FURTHER);
    assert_eq!(level(&status, "subscriptions"), subscriptions, "{status}");
    reaches_all(&broker, &mut peers, &streams, b"to everybody");

    let each = |from: u64, to: u64, count: u64| to.saturating_sub(from) / count;
    let connection = each(empty, connected, CONNECTIONS);
    let first = each(connected, subscribed, CONNECTIONS);
    let further = each(subscribed, subscribed_further, CONNECTIONS * FURTHER);
    say(&format!(
        "resident memory with {cores} shard(s): {connection} bytes for each of {CONNECTIONS} idle \
         connections, {first} for its first subscription, {further} for each further one"
    ));
    assert!(
        connection < BYTES_EACH_MAX,
        "{connection} bytes for each connection"
    );
    assert!(
        further < BYTES_EACH_MAX,
        "{further} bytes for each subscription"
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
