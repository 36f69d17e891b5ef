//! Unary calls of queues: receives that wait, break or are not read, and batches.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::queues::{
    AT_ONCE, OK, Polls, SILENCE, UNAVAILABLE, entry, ids, rest, send, send_one, send_with, text,
};
use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::frame::{Frame, error};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::mock::queues::{self, Policy, Received, received};

/// A wait that no test sits through, in seconds.
const LONG_SECONDS: u64 = 30;

const INTERNAL: u32 = 13;
const UNKNOWN: u32 = 2;

/// Begins to receive; gives the stream.
fn begin(peer: &mut Peer, channel: &str, items: u64, peek: bool) -> u32 {
    let request = queues::receive(channel, items, LONG_SECONDS, peek);
    peer.call(path::RECEIVE_QUEUE_MESSAGES, &request)
}

/// The messages of an answer, which must come now.
fn at_once(peer: &mut Peer, stream: u32) -> Vec<Received> {
    let began = Instant::now();
    let mut reply = peer.finish(stream);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(reply.grpc_status(), Some(OK), "{reply:?}");
    let answer = reply.take_message().expect("an answer");
    assert_eq!(text(kubemq::field(&answer, 7)), "");
    let messages = received(&answer, 2);
    assert_eq!(kubemq::number(&answer, 3), messages.len() as u64);
    messages
}

fn assert_waits(peer: &mut Peer, stream: u32) {
    let answered = peer.wait_for(SILENCE, |peer| peer.reply(stream).ended);
    assert!(!answered, "{:?}", peer.reply(stream));
}

/// Fills a queue with messages of 100 KiB each.
fn fill(broker: &Broker, channel: &str, count: usize) {
    let mut sender = Peer::connect(broker.grpc());
    let body = vec![b'x'; 100 << 10];
    for number in 0..count {
        let message = queues::message(&number.to_string(), channel, &body);
        assert_eq!(send_one(&mut sender, &message), "");
    }
}

pub(crate) fn a_receive_answers_at_once_with_what_is_there(broker: &Broker) {
    send(broker, "unary.there", &["a", "b", "c"]);
    let mut peer = Peer::connect(broker.grpc());
    let peek = begin(&mut peer, "unary.there", 2, true);
    assert_eq!(ids(&at_once(&mut peer, peek)), ["a", "b"]);
    let receive = begin(&mut peer, "unary.there", 10, false);
    assert_eq!(ids(&at_once(&mut peer, receive)), ["a", "b", "c"]);
    assert_eq!(rest(broker, "unary.there"), []);
}

pub(crate) fn receives_wait_side_by_side_and_are_served_in_turn(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let first = begin(&mut peer, "unary.turn", 10, false);
    assert_waits(&mut peer, first);
    let second = begin(&mut peer, "unary.turn", 10, false);
    assert_waits(&mut peer, second);
    send(broker, "unary.turn", &["a"]);
    assert_eq!(ids(&at_once(&mut peer, first)), ["a"]);
    assert_waits(&mut peer, second);
    send(broker, "unary.turn", &["b"]);
    assert_eq!(ids(&at_once(&mut peer, second)), ["b"]);
}

/// The reference loses what it had taken for a call that was cancelled.
pub(crate) fn a_receive_that_is_given_up_takes_nothing(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let cancelled = begin(&mut peer, "unary.given-up", 10, false);
    assert_waits(&mut peer, cancelled);
    assert!(peer.send(&Frame::reset(cancelled, error::CANCEL)));
    let mut lost = Peer::connect(broker.grpc());
    let waits = begin(&mut lost, "unary.given-up", 10, false);
    assert_waits(&mut lost, waits);
    lost.vanish();
    drop(peer);
    broker.wait_zero(&["connections"]);
    send(broker, "unary.given-up", &["a"]);
    assert_eq!(rest(broker, "unary.given-up"), [entry("a", 1, 1)]);
}

/// What did not leave the broker in full is back in its place, as if nobody had asked.
pub(crate) fn an_answer_that_was_not_read_loses_nothing(broker: &Broker) {
    const MESSAGES: usize = 30;
    fill(broker, "unary.unread", MESSAGES);
    for resets in [true, false] {
        // It reads 64 KiB of 3 MB.
        let mut peer = Peer::connect_with(broker.grpc(), &[]);
        peer.replenishes = false;
        let stream = begin(&mut peer, "unary.unread", 100, false);
        let headers = peer.wait(|peer| peer.reply(stream).headers.is_some());
        assert!(headers, "the answer is on its way");
        peer.wait_for(SILENCE, |_| false);
        let mut other = Peer::connect(broker.grpc());
        let waits = begin(&mut other, "unary.unread", 1, false);
        assert_waits(&mut other, waits);
        assert!(other.send(&Frame::reset(waits, error::CANCEL)));
        if resets {
            assert!(peer.send(&Frame::reset(stream, error::CANCEL)));
            peer.wait_for(SILENCE, |_| false);
        }
        drop((peer, other));
        broker.wait_zero(&["connections"]);
    }
    let left = rest(broker, "unary.unread");
    assert_eq!(left.len(), MESSAGES);
    let expected = (0..MESSAGES).map(|n| entry(&n.to_string(), n as u64 + 1, 1));
    assert_eq!(left, expected.collect::<Vec<_>>());
}

pub(crate) fn an_answer_to_a_receive_stays_below_four_mebibytes(broker: &Broker) {
    fill(broker, "unary.large", 50);
    let large = queues::message("large", "unary.large", &vec![b'x'; 5 << 20]);
    let mut peer = Peer::connect(broker.grpc());
    assert_eq!(send_one(&mut peer, &large), "");
    let mut counts = Vec::new();
    for _ in 0..3 {
        let stream = begin(&mut peer, "unary.large", 1024, false);
        let mut reply = peer.finish(stream);
        let answer = reply.take_message().expect("an answer");
        let messages = received(&answer, 2);
        counts.push(messages.len());
        let alone = messages.len() == 1;
        assert!(alone || answer.len() < 4 << 20, "{}", answer.len());
    }
    assert_eq!(counts, [35, 15, 1]);
}

pub(crate) fn acknowledging_all_removes_what_is_visible(broker: &Broker) {
    send(broker, "unary.ack", &["a", "b", "c", "d", "e"]);
    let delayed = Policy {
        delay_seconds: 2,
        ..Policy::default()
    };
    send_with(broker, "unary.ack", &["later"], delayed);
    let mut polls = Polls::open(broker);
    assert_eq!(polls.take("unary.ack", 2).ids(), ["a", "b"]);
    let mut peer = Peer::connect(broker.grpc());
    for affected in [3, 0] {
        let began = Instant::now();
        let request = queues::ack_all("unary.ack", LONG_SECONDS);
        let mut reply = peer.unary(path::ACK_ALL_QUEUE_MESSAGES, &request);
        assert!(began.elapsed() < AT_ONCE);
        let answer = reply.take_message().expect("an answer");
        assert_eq!(text(kubemq::field(&answer, 1)), "ack-all");
        assert_eq!(kubemq::number(&answer, 2), affected);
    }
    polls.half_close();
    assert_eq!(polls.finish(), Some(OK));
    let held = [entry("a", 1, 1), entry("b", 2, 1)];
    assert_eq!(rest(broker, "unary.ack"), held);
    let stream = begin(&mut peer, "unary.ack", 1, false);
    let mut reply = peer.finish(stream);
    let answer = reply.take_message().expect("an answer");
    assert_eq!(ids(&received(&answer, 2)), ["later"]);
}

/// A `QueueMessagesBatchRequest` has the form of an upstream's.
pub(crate) fn a_batch_is_answered_in_its_order(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let channel = |number: usize| format!("unary.batch.{}", number % 5);
    let messages: Vec<_> = (0..2000)
        .map(|number| {
            let body: &[u8] = if number % 7 == 3 { b"" } else { b"x" };
            queues::message(&number.to_string(), &channel(number), body)
        })
        .collect();
    let batch = queues::upstream("batch", messages.iter().map(|message| &message[..]));
    let mut reply = peer.unary(path::SEND_QUEUE_MESSAGES_BATCH, &batch);
    let answer = reply.take_message().expect("an answer");
    assert_eq!(text(kubemq::field(&answer, 1)), "batch");
    assert_eq!(kubemq::number(&answer, 3), 1, "it has errors");
    let results = kubemq::fields(&answer, 2);
    assert_eq!(results.len(), messages.len());
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(text(kubemq::field(result, 1)), number.to_string());
        let refused = number % 7 == 3;
        assert_eq!(kubemq::number(result, 5) == 1, refused);
        assert_eq!(
            kubemq::number(result, 2) == 0,
            refused,
            "a time only if sent"
        );
    }
    for first in 0..5 {
        let sent = (first..2000).step_by(5).filter(|number| number % 7 != 3);
        let sent: Vec<_> = sent.map(|number| number.to_string()).collect();
        let left = rest(broker, &channel(first));
        assert!(left.iter().map(|(id, ..)| id).eq(&sent), "{left:?}");
    }
}

pub(crate) fn a_batch_that_cannot_be_decoded_stores_nothing(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let good = queues::message("good", "unary.bad-batch", b"x");
    let not_utf8 = [0x0a, 2, 0xff, 0xfe];
    let batch = queues::upstream("batch", [&good[..], &not_utf8]);
    let reply = peer.unary(path::SEND_QUEUE_MESSAGES_BATCH, &batch);
    assert_eq!(
        (reply.grpc_status(), reply.grpc_message()),
        (Some(INTERNAL), "string field contains invalid UTF-8")
    );
    assert_eq!(rest(broker, "unary.bad-batch"), []);
    let empty = queues::upstream("batch", []);
    let reply = peer.unary(path::SEND_QUEUE_MESSAGES_BATCH, &empty);
    assert_eq!(
        (reply.grpc_status(), reply.grpc_message()),
        (Some(UNKNOWN), "empty messages batch")
    );
}

/// The answers to several receives at once, which nobody reads, are bounded by what is there, and
/// the broker serves others.
pub(crate) fn receives_that_nobody_reads_hurt_only_themselves(broker: &Broker) {
    fill(broker, "unary.slow", 300);
    let before = broker.rss_bytes();
    let mut slow = Peer::connect_with(broker.grpc(), &[]);
    slow.replenishes = false;
    for _ in 0..50 {
        begin(&mut slow, "unary.slow", 1024, false);
    }
    slow.wait_for(Duration::from_secs(1), |_| false);
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    send(broker, "unary.quick", &["a"]);
    assert_eq!(rest(broker, "unary.quick"), [entry("a", 1, 1)]);
    drop(slow);
    broker.wait_zero(&["connections"]);
    let mut left = 0;
    loop {
        let more = rest(broker, "unary.slow");
        left += more.len();
        if more.is_empty() {
            break;
        }
        assert!(more.iter().all(|(_, _, receives)| *receives == 1));
    }
    assert_eq!(left, 300, "nothing left in full, nothing is lost");
}

/// A waiting receive ends with the status that makes clients come again; what was received stays
/// received.
pub(crate) fn a_broker_that_ends_answers_its_receives(mut broker: Broker) {
    const CORES: usize = 2;
    send(&broker, "unary.stop", &["a", "b", "c"]);
    let mut peer = Peer::connect(broker.grpc());
    let taken = begin(&mut peer, "unary.stop", 2, false);
    let waits = begin(&mut peer, "unary.stop.nothing", 1, false);
    assert_eq!(ids(&at_once(&mut peer, taken)), ["a", "b"]);
    assert_waits(&mut peer, waits);
    let began = Instant::now();
    broker.signal(Signal::TERM);
    let reply = peer.finish(waits);
    assert_eq!(
        (reply.grpc_status(), reply.grpc_message()),
        (Some(UNAVAILABLE), "Error 409: server is in shutdown mode")
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    broker.assert_exits_0();
    broker.start_again(CORES, [""; 0]);
    assert_eq!(rest(&broker, "unary.stop"), [entry("c", 3, 1)]);
}
