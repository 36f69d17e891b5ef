//! Orderly restarts: whatever was answered is there again, once and in order, with as many shards
//! as the next broker has.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::Peer;

const CHANNELS: usize = 5;

/// The field `EventReceive.Sequence`.
const SEQUENCE: u64 = 6;

/// Events that one publisher may have sent without an answer.
const IN_FLIGHT_MAX: usize = 64;

fn channel(index: usize) -> String {
    format!("restart.{index}")
}

/// Whether the event of a `Result` was stored, and its error.
fn outcome(result: &[u8]) -> (bool, String) {
    let error = String::from_utf8_lossy(kubemq::field(result, 3));
    (kubemq::number(result, 2) == 1, error.into_owned())
}

/// Stores numbered events on one channel over one stream, many at once.
struct Publisher {
    peer: Peer,
    stream: u32,
    channel: String,
    sent: usize,
    answered: usize,
}

impl Publisher {
    fn new(broker: &Broker, index: usize, stored_before: usize) -> Self {
        let mut peer = Peer::connect(broker.grpc());
        let stream = peer.open(path::SEND_EVENTS_STREAM);
        Self {
            peer,
            stream,
            channel: channel(index),
            sent: stored_before,
            answered: stored_before,
        }
    }

    /// Sends until so many wait for their answer; false when the connection is gone.
    fn fill(&mut self) -> bool {
        while self.sent - self.answered < IN_FLIGHT_MAX {
            // Events of all sizes, also such that pass by in frames of their own.
            let mut body = self.sent.to_string().into_bytes();
            body.resize(8 + self.sent * 37 % 3_000, b' ');
            let event = kubemq::stored_event("", &self.channel, &body);
            if !self.peer.send_message(self.stream, &event, false) {
                return false;
            }
            self.sent += 1;
        }
        true
    }

    /// Counts the answers that have come; each must be a success.
    fn take_answers(&mut self, patience: Duration) {
        let stream = self.stream;
        let mut result = None;
        while self.peer.wait_for(patience, |peer| {
            result = peer.reply(stream).take_message();
            result.is_some()
        }) {
            let result = result.take().unwrap_or_default();
            assert_eq!(outcome(&result), (true, String::new()));
            self.answered += 1;
        }
    }
}

/// All events of a channel, read from the first by a client that was never there.
fn read_all(broker: &Broker, index: usize, client: &str, at_least: usize) -> usize {
    let mut peer = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe_stored(&channel(index), client, START_FROM_FIRST);
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    let mut count = 0;
    loop {
        let mut event = None;
        let patience = if count < at_least { 20_000 } else { 300 };
        peer.wait_for(Duration::from_millis(patience), |peer| {
            event = peer.reply(stream).take_message();
            event.is_some()
        });
        let Some(event) = event else { break };
        let body = String::from_utf8(kubemq::event_body(&event).to_vec()).unwrap();
        assert_eq!(body.trim_end(), count.to_string(), "every event, in order");
        count += 1;
        assert_eq!(kubemq::number(&event, SEQUENCE), count as u64);
    }
    assert!(
        count >= at_least,
        "{count} of {at_least} events of channel {index}"
    );
    count
}

fn a_stop_under_load_loses_nothing(cores: usize) {
    let mut broker = Broker::start(cores);
    let mut stored = [0; CHANNELS];
    for round in 1..=4 {
        let mut publishers: Vec<_> = (0..CHANNELS)
            .map(|index| Publisher::new(&broker, index, stored[index]))
            .collect();
        for step in 0..20 * round {
            for publisher in &mut publishers {
                assert!(publisher.fill(), "the broker lives");
                let patience = if step % 7 == 0 { 5 } else { 0 };
                publisher.take_answers(Duration::from_millis(patience));
            }
        }
        for publisher in &mut publishers {
            publisher.fill();
        }
        broker.signal(Signal::TERM);
        for publisher in &mut publishers {
            publisher.take_answers(Duration::from_secs(20));
            assert!(publisher.peer.ended.is_some(), "the connection ends");
        }
        broker.assert_exits_0();
        broker.start_again(cores, [""; 0]);
        for (index, publisher) in publishers.iter().enumerate() {
            let client = format!("reader-{round}");
            let found = read_all(&broker, index, &client, publisher.answered);
            assert!(
                found <= publisher.sent,
                "nothing is stored that was not sent"
            );
            stored[index] = found;
        }
    }
    assert!(stored.iter().all(|&count| count > 100), "{stored:?}");
    broker.assert_serves();
    broker.end();
}

#[test]
fn answered_events_survive_a_stop_under_load_with_one_shard() {
    a_stop_under_load_loses_nothing(1);
}

#[test]
fn answered_events_survive_a_stop_under_load_with_four_shards() {
    a_stop_under_load_loses_nothing(4);
}

#[test]
fn a_store_is_served_by_any_number_of_shards() {
    let mut broker = Broker::start(2);
    let mut stored = 0;
    for (round, cores) in [1, 4, 2].into_iter().enumerate() {
        for index in 0..CHANNELS {
            let mut publisher = Publisher::new(&broker, index, stored);
            assert!(publisher.fill());
            while publisher.answered < publisher.sent {
                publisher.take_answers(Duration::from_millis(100));
            }
        }
        stored += IN_FLIGHT_MAX;
        broker.signal(Signal::TERM);
        broker.assert_exits_0();
        broker.start_again(cores, [""; 0]);
        for index in 0..CHANNELS {
            let client = format!("reader-{round}");
            assert_eq!(read_all(&broker, index, &client, stored), stored);
        }
    }
    broker.end();
}
