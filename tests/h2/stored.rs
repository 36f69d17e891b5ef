//! Stored events: publishers that pipeline and do not read, subscribers that do not read or do not
//! confirm.

use std::time::Duration;

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::frame::{Frame, error};
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::{Peer, grpc_framed};

const OK: u32 = 0;

/// Longer than a commit, a ping and its pace take.
const A_WHILE: Duration = Duration::from_millis(500);

/// What a result says.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    id: String,
    sent: bool,
    error: String,
}

impl Outcome {
    fn new(id: &str, sent: bool, error: &str) -> Self {
        let (id, error) = (id.to_owned(), error.to_owned());
        Self { id, sent, error }
    }

    fn of(result: &[u8]) -> Self {
        let text = |field| String::from_utf8_lossy(kubemq::field(result, field)).into_owned();
        Self {
            id: text(1),
            sent: kubemq::number(result, 2) == 1,
            error: text(3),
        }
    }
}

/// Stores `count` events of `bytes` each and waits for the results.
fn store(broker: &Broker, channel: &str, count: u64, bytes: usize) {
    let mut publisher = Peer::connect(broker.grpc());
    let upload = publisher.open(path::SEND_EVENTS_STREAM);
    let body = vec![7; bytes];
    for number in 1..=count {
        let event = kubemq::stored_event(&number.to_string(), channel, &body);
        assert!(publisher.send_message(upload, &event, number == count));
    }
    for number in 1..=count {
        let result = publisher.next_message(upload).expect("a result for each");
        assert_eq!(
            Outcome::of(&result),
            Outcome::new(&number.to_string(), true, "")
        );
    }
    assert_eq!(publisher.finish(upload).grpc_status(), Some(OK));
}

fn subscribe(peer: &mut Peer, channel: &str) -> u32 {
    let request = kubemq::subscribe_stored(channel, "reader", START_FROM_FIRST);
    peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &request)
}

/// The sequence of the next event, which must come.
fn next_sequence(peer: &mut Peer, stream: u32) -> u64 {
    let event = peer.next_message(stream).expect("another event");
    kubemq::number(&event, 6)
}

pub(crate) fn results_of_pipelined_events_come_in_order_through_a_half_close(broker: &Broker) {
    const EVENTS: usize = 3_000;
    let mut peer = Peer::connect(broker.grpc());
    let upload = peer.open(path::SEND_EVENTS_STREAM);
    let mut expected = Vec::new();
    for number in 0..EVENTS {
        let id = format!("id-{number}");
        // Over several logs, which commit at times of their own.
        let channel = format!("stored.pipelined.{}", number % 7);
        let event = match number % 10 {
            3 => {
                let error = "Error 110: invalid message, cannot be empty";
                expected.push(Outcome::new(&id, false, error));
                kubemq::stored_event(&id, &channel, b"")
            }
            5 => {
                let error = "Error 102: invalid channel value, cannot be empty";
                expected.push(Outcome::new("", false, error));
                kubemq::event("", b"plain, to nowhere")
            }
            // In silence.
            7 => kubemq::event(&channel, b"plain"),
            _ => {
                expected.push(Outcome::new(&id, true, ""));
                kubemq::stored_event(&id, &channel, id.as_bytes())
            }
        };
        assert!(peer.send_message(upload, &event, number + 1 == EVENTS));
    }
    for expected in expected {
        let result = peer.next_message(upload).expect("a result for each");
        assert_eq!(Outcome::of(&result), expected);
    }
    assert_eq!(peer.next_message(upload), None);
    assert_eq!(peer.finish(upload).grpc_status(), Some(OK));
}

/// A publisher that reads no results is not read from any further; when it reads, all are there.
pub(crate) fn a_publisher_that_reads_no_results_is_held_back(broker: &Broker) {
    const BATCH: usize = 100;
    const BATCHES_MAX: usize = 5_000;
    let mut peer = Peer::connect_with(broker.grpc(), &[]);
    peer.replenishes = false;
    let upload = peer.open(path::SEND_EVENTS_STREAM);
    let before = broker.rss_bytes();
    let mut sent = 0;
    let mut held_back = false;
    for _ in 0..BATCHES_MAX {
        let mut framed = Vec::new();
        for number in sent..sent + BATCH {
            let event = kubemq::stored_event(&number.to_string(), "stored.unread", b"unread");
            framed.extend(grpc_framed(&event));
        }
        if !peer.wait_for(A_WHILE, |p| p.can_send(upload, framed.len())) {
            held_back = true;
            break;
        }
        assert!(peer.send_framed(upload, &framed, false));
        sent += BATCH;
    }
    assert!(held_back, "{sent} events were taken without a result read");
    broker.assert_serves();
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "grew by {grown} bytes");

    peer.replenishes = true;
    peer.send(&Frame::window_update(upload, 16 << 20));
    peer.send(&Frame::window_update(0, 16 << 20));
    for number in 0..sent {
        let result = peer.next_message(upload).expect("a result for each");
        assert_eq!(
            Outcome::of(&result),
            Outcome::new(&number.to_string(), true, "")
        );
    }
    peer.send(&Frame::data(upload, [], true));
    assert_eq!(peer.finish(upload).grpc_status(), Some(OK));
}

const EVENTS: u64 = 800;
const BODY_BYTES: usize = 4 << 10;

/// Reads `count` events, then no more; everything that comes meanwhile stays unread. Gives the
/// last sequence that reached this side.
fn read_some(peer: &mut Peer, stream: u32, count: u64) -> u64 {
    for expected in 1..=count {
        assert_eq!(next_sequence(peer, stream), expected);
    }
    peer.replenishes = false;
    // Pings are answered all this time.
    peer.wait_for(A_WHILE, |_| false);
    let mut last = count;
    while let Some(event) = peer.reply(stream).take_message() {
        last = kubemq::number(&event, 6);
    }
    assert!(last < EVENTS, "the window ends before the events do");
    last
}

/// The next session of the client: where it begins; it must get all the rest.
fn next_session(broker: &Broker, channel: &str) -> u64 {
    broker.wait_zero(&["subscriptions"]);
    let mut peer = Peer::connect(broker.grpc());
    let stream = subscribe(&mut peer, channel);
    let first = next_sequence(&mut peer, stream);
    for expected in first + 1..=EVENTS {
        assert_eq!(next_sequence(&mut peer, stream), expected);
    }
    first
}

pub(crate) fn what_a_lost_connection_left_unread_is_delivered_again(broker: &Broker) {
    store(broker, "stored.lost", EVENTS, BODY_BYTES);
    let mut peer = Peer::connect(broker.grpc());
    let stream = subscribe(&mut peer, "stored.lost");
    let last = read_some(&mut peer, stream, 200);
    drop(peer);
    let first = next_session(broker, "stored.lost");
    assert!(first <= last + 1, "a hole from {last} to {first}");
    assert!(first > 1, "what was read was confirmed");
}

/// A reset throws away what waits for the client; the connection lives and answers pings.
pub(crate) fn what_a_reset_threw_away_is_delivered_again(broker: &Broker) {
    store(broker, "stored.reset", EVENTS, BODY_BYTES);
    let mut peer = Peer::connect(broker.grpc());
    let stream = subscribe(&mut peer, "stored.reset");
    let last = read_some(&mut peer, stream, 200);
    peer.send(&Frame::reset(stream, error::CANCEL));
    peer.wait_for(A_WHILE, |_| false);
    let first = next_session(broker, "stored.reset");
    assert!(first <= last + 1, "a hole from {last} to {first}");
    assert!(first > 1, "what was read was confirmed");
}

pub(crate) fn a_position_stays_while_pings_are_not_answered(broker: &Broker) {
    store(broker, "stored.deaf", EVENTS, BODY_BYTES);
    let mut peer = Peer::connect(broker.grpc());
    peer.answers_pings = false;
    let stream = subscribe(&mut peer, "stored.deaf");
    for expected in 1..=EVENTS {
        assert_eq!(next_sequence(&mut peer, stream), expected);
    }
    peer.wait_for(A_WHILE, |_| false);
    drop(peer);
    assert_eq!(next_session(broker, "stored.deaf"), 1);
}
