//! What a store refuses when its disk is full, and what a long backlog costs.

use rustix::process::Signal;

use crate::harness::{Broker, poll};
use crate::mock::broker::{MIB, Watched};
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::{PATIENCE, Peer};

/// Fields of `EventReceive` and of `Result`.
const SEQUENCE: u64 = 6;
const SENT: u64 = 2;
const ERROR: u64 = 3;

/// Stores the same event so many times.
fn store(peer: &mut Peer, channel: &str, body: &[u8], count: usize) {
    let upload = peer.open(path::SEND_EVENTS_STREAM);
    let event = kubemq::stored_event("", channel, body);
    for _ in 0..count {
        peer.send_message(upload, &event, false);
        let result = peer.next_message(upload).expect("answered");
        let error = String::from_utf8_lossy(kubemq::field(&result, ERROR));
        assert_eq!(kubemq::number(&result, SENT), 1, "{error}");
    }
}

/// The next segment lay ready when a message came that it was too small for; it was made anew, and
/// what was written went to the file that it had been.
#[test]
fn a_message_larger_than_the_segment_that_is_ready_is_stored() {
    let mut broker = Broker::start(1);
    let mut peer = Peer::connect(broker.grpc());
    store(&mut peer, "grows", b"small", 1);
    let ready = broker.data().join("logs-1/000/00000002.segment");
    let is_ready = poll(PATIENCE, || ready.exists().then_some(()));
    assert!(is_ready.is_some(), "a segment is made ahead");
    // It has been opened when the next event is answered.
    store(&mut peer, "grows", b"small", 1);
    store(&mut peer, "grows", &vec![7; 5 << 20], 1);
    store(&mut peer, "grows", b"small", 1);
    for client in ["before", "after"] {
        let mut reader = Peer::connect(broker.grpc());
        let subscription = kubemq::subscribe_stored("grows", client, START_FROM_FIRST);
        let stream = reader.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
        for len in [5, 5, 5 << 20, 5] {
            let event = reader.next_message(stream).expect("it is stored");
            assert_eq!(kubemq::event_body(&event).len(), len);
        }
        if client == "before" {
            broker.kill();
            broker.start_again(1, [""; 0]);
        }
    }
    broker.end();
}

#[test]
fn a_full_file_system_refuses_stored_events_and_nothing_else() {
    // More than any file system has: the floor is reached from the start.
    let mut broker = Broker::start_with(2, ["--set", "store.free_bytes_min=65536GiB"]);
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::SEND_EVENTS_STREAM);
    for _ in 0..3 {
        peer.send_message(stream, &kubemq::stored_event("", "full", b"x"), false);
        let result = peer
            .next_message(stream)
            .expect("refused, not left waiting");
        assert_eq!(kubemq::number(&result, SENT), 0);
        let error = String::from_utf8_lossy(kubemq::field(&result, ERROR));
        assert!(error.contains("the disk of the broker is full"), "{error}");
    }
    broker.assert_serves();
    broker.signal(Signal::TERM);
    broker.assert_exits_0();
    // With room again, it stores.
    broker.start_again(2, [""; 0]);
    let mut peer = Peer::connect(broker.grpc());
    store(&mut peer, "full", b"x", 3);
    broker.end();
}

/// Memory of the process that no file backs: the mapped log does not count.
fn anonymous_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}

#[test]
fn subscribers_that_do_not_read_a_long_backlog_cost_little_memory() {
    const SUBSCRIBERS: usize = 50;
    let broker = Broker::start(2);
    let mut peer = Peer::connect(broker.grpc());
    store(&mut peer, "backlog", &vec![7; 64 * 1024], 512);
    let before = anonymous_bytes(&broker);
    let stuck: Vec<_> = (0..SUBSCRIBERS)
        .map(|index| {
            let mut peer = Peer::connect(broker.grpc());
            let client = format!("stuck-{index}");
            let subscription = kubemq::subscribe_stored("backlog", &client, START_FROM_FIRST);
            peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
            peer
        })
        .collect();
    // Others read on beside them; by then the stuck ones have all they will get.
    let mut reader = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe_stored("backlog", "reads", START_FROM_FIRST);
    let stream = reader.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    for sequence in 1..=512 {
        let event = reader.next_message(stream).expect("the backlog");
        assert_eq!(kubemq::number(&event, SEQUENCE), sequence);
    }
    let each = anonymous_bytes(&broker).saturating_sub(before) / SUBSCRIBERS as u64;
    eprintln!(
        "each of {SUBSCRIBERS} stuck subscribers: {} KiB",
        each / 1024
    );
    assert!(each < 2 * MIB, "{each} bytes for each stuck subscriber");
    drop(stuck);
    broker.end();
}
