//! Subscribers of stored events over an orderly restart.

use rustix::process::Signal;

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::Peer;

const UNAVAILABLE: u32 = 14;
const CHANNEL: &str = "resume.here";
const ROUNDS: usize = 3;

/// The field `EventReceive.Sequence`.
const SEQUENCE: u64 = 6;

/// What a subscriber read before it, and how its stream ended.
struct Read {
    first: u64,
    last: u64,
    status: Option<u32>,
}

/// Reads until the stream ends. Tells `seen` of each event.
fn read(broker: &Broker, seen: std::sync::mpsc::Sender<u64>) -> std::thread::JoinHandle<Read> {
    let mut peer = Peer::connect(broker.grpc());
    let request = kubemq::subscribe_stored(CHANNEL, "keeps-up", START_FROM_FIRST);
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &request);
    std::thread::spawn(move || {
        let (mut first, mut last) = (0, 0);
        while let Some(event) = peer.next_message(stream) {
            let sequence = kubemq::number(&event, SEQUENCE);
            if first == 0 {
                first = sequence;
            } else {
                assert_eq!(sequence, last + 1, "in order and without a hole");
            }
            last = sequence;
            let _nobody_counts_any_more = seen.send(sequence);
        }
        let status = peer.finish(stream).grpc_status();
        Read {
            first,
            last,
            status,
        }
    })
}

fn goes_on_where_it_was(cores: usize) {
    let mut broker = Broker::start(cores);
    let mut last = 0;
    for round in 0..ROUNDS {
        let (seen_tx, seen) = std::sync::mpsc::channel();
        let reader = read(&broker, seen_tx);
        let mut publisher = Peer::connect(broker.grpc());
        let upload = publisher.open(path::SEND_EVENTS_STREAM);
        let event = kubemq::stored_event("", CHANNEL, b"another one");
        // The signal comes in the middle of the way of many.
        for _ in 0..500 {
            assert!(publisher.send_message(upload, &event, false));
        }
        for _ in 0..200 {
            seen.recv_timeout(crate::mock::peer::PATIENCE).unwrap();
        }
        broker.signal(Signal::TERM);
        let read = reader.join().unwrap();
        assert_eq!(read.status, Some(UNAVAILABLE));
        assert_eq!(
            read.first,
            last + 1,
            "round {round}: everything that was read, and nothing else, is confirmed"
        );
        last = read.last;
        broker.assert_exits_0();
        broker.start_again(cores, [""; 0]);
    }
    broker.end();
}

#[test]
fn a_subscriber_that_keeps_up_goes_on_where_it_was_with_one_shard() {
    goes_on_where_it_was(1);
}

#[test]
fn a_subscriber_that_keeps_up_goes_on_where_it_was_with_four_shards() {
    goes_on_where_it_was(4);
}
