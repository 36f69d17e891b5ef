//! Streams of sends: one answer for each request, results for each message, in their order.

use std::time::Duration;

use super::queues::{AT_ONCE, OK, entry, rest, send, text};
use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched, level};
use crate::mock::frame::Frame;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Peer, grpc_framed};
use crate::mock::queues;

/// An answer: the request, its error, and of each message the id and the error.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    id: String,
    error: String,
    results: Vec<(String, String)>,
}

impl Answer {
    fn of(answer: &[u8]) -> Self {
        let results = kubemq::fields(answer, 2).into_iter();
        let error = text(kubemq::field(answer, 4));
        assert_eq!(kubemq::number(answer, 3) == 1, !error.is_empty());
        Self {
            id: text(kubemq::field(answer, 1)),
            error,
            results: results
                .map(|result| {
                    let error = text(kubemq::field(result, 6));
                    assert_eq!(kubemq::number(result, 5) == 1, !error.is_empty());
                    (text(kubemq::field(result, 1)), error)
                })
                .collect(),
        }
    }

    fn next(peer: &mut Peer, stream: u32) -> Self {
        let answer = peer.next_message(stream);
        Self::of(&answer.unwrap_or_else(|| panic!("no answer: {:?}", peer.reply(stream))))
    }
}

fn open(broker: &Broker) -> (Peer, u32) {
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::QUEUES_UPSTREAM);
    (peer, stream)
}

fn request(id: &str, channel: &str, messages: &[&str]) -> Vec<u8> {
    let messages: Vec<_> = messages
        .iter()
        .map(|id| queues::message(id, channel, id.as_bytes()))
        .collect();
    queues::upstream(id, messages.iter().map(|message| &message[..]))
}

pub(crate) fn answers_come_in_the_order_of_requests_through_a_half_close(broker: &Broker) {
    const REQUESTS: usize = 500;
    let (mut peer, stream) = open(broker);
    for number in 0..REQUESTS {
        // Over several logs, which commit at times of their own.
        let channel = format!("upstream.order.{}", number % 7);
        let ids = [0, 1, 2].map(|message| format!("{number}.{message}"));
        let ids = ids.each_ref().map(|id| &id[..]);
        let request = request(&number.to_string(), &channel, &ids);
        assert!(peer.send_message(stream, &request, number + 1 == REQUESTS));
    }
    for number in 0..REQUESTS {
        let answer = Answer::next(&mut peer, stream);
        assert_eq!(
            (&answer.id[..], &answer.error[..]),
            (&number.to_string()[..], "")
        );
        let results = [0, 1, 2].map(|message| (format!("{number}.{message}"), String::new()));
        assert_eq!(answer.results, results);
    }
    assert_eq!(peer.next_message(stream), None);
    assert_eq!(peer.finish(stream).grpc_status(), Some(OK));
    for first in 0..7 {
        let sent = (first..REQUESTS)
            .step_by(7)
            .flat_map(|number| [0, 1, 2].map(|message| format!("{number}.{message}")));
        let left = rest(broker, &format!("upstream.order.{first}"));
        assert!(left.into_iter().map(|(id, ..)| id).eq(sent));
    }
}

pub(crate) fn a_bad_message_is_told_in_its_place(broker: &Broker) {
    let (mut peer, stream) = open(broker);
    let good = queues::message("good", "upstream.bad", b"x");
    let empty = queues::message("empty", "upstream.bad", b"");
    let unnamed = queues::message("unnamed", "", b"x");
    // An id that can be read, then a channel that is no text.
    let not_utf8 = [0x0a, 3, b'b', b'a', b'd', 0x1a, 2, 0xff, 0xfe];
    let messages = [&good[..], &empty, &unnamed, &not_utf8, &good];
    assert!(peer.send_message(stream, &queues::upstream("mixed", messages), false));
    let answer = Answer::next(&mut peer, stream);
    let results = answer.results.iter();
    let results: Vec<_> = results.map(|(id, error)| (&id[..], &error[..])).collect();
    let name = "Error 120: invalid queue name value, cannot be empty, contains wildcards ,\
                white spaces and end with dot";
    assert_eq!(
        results,
        [
            ("good", ""),
            ("empty", "Error 110: invalid message, cannot be empty"),
            ("unnamed", name),
            ("bad", "string field contains invalid UTF-8"),
            ("good", ""),
        ]
    );
    assert_eq!(answer.error, "");
    let stored = [entry("good", 1, 1), entry("good", 2, 1)];
    assert_eq!(rest(broker, "upstream.bad"), stored);
}

pub(crate) fn a_bad_request_to_send_is_told_and_the_stream_goes_on(broker: &Broker) {
    let (mut peer, stream) = open(broker);
    assert!(peer.send_message(stream, &queues::upstream("none", []), false));
    // An id that can be read, then a message that is cut short.
    assert!(peer.send_message(stream, &[0x0a, 3, b'c', b'u', b't', 0x12, 9], false));
    let request = request("", "upstream.goes-on", &["a"]);
    assert!(peer.send_message(stream, &request, true));
    let none = Answer::next(&mut peer, stream);
    assert_eq!(
        (&none.id[..], &none.error[..]),
        ("none", "no messages to send")
    );
    let cut = Answer::next(&mut peer, stream);
    let error = "grpc: error unmarshalling request: unexpected end of message";
    assert_eq!((&cut.id[..], &cut.error[..]), ("cut", error));
    let good = Answer::next(&mut peer, stream);
    assert_eq!((&good.id[..], good.results.len()), ("", 1));
    assert_eq!(peer.finish(stream).grpc_status(), Some(OK));
}

/// A sender that reads no answers is not read from any further; when it reads, all are there.
pub(crate) fn a_sender_that_reads_no_answers_is_held_back(broker: &Broker) {
    const BATCH: usize = 50;
    const BATCHES_MAX: usize = 5_000;
    let mut peer = Peer::connect_with(broker.grpc(), &[]);
    peer.replenishes = false;
    let stream = peer.open(path::QUEUES_UPSTREAM);
    let before = broker.rss_bytes();
    let mut sent = 0;
    let mut held_back = false;
    for _ in 0..BATCHES_MAX {
        let framed: Vec<u8> = (sent..sent + BATCH)
            .flat_map(|number| {
                grpc_framed(&request(&number.to_string(), "upstream.unread", &["a"]))
            })
            .collect();
        if !peer.wait_for(AT_ONCE, |peer| peer.can_send(stream, framed.len())) {
            held_back = true;
            break;
        }
        assert!(peer.send_framed(stream, &framed, false));
        sent += BATCH;
    }
    assert!(
        held_back,
        "{sent} requests were taken without an answer read"
    );
    broker.assert_serves();
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "grew by {grown} bytes");

    peer.replenishes = true;
    peer.send(&Frame::window_update(stream, 16 << 20));
    peer.send(&Frame::window_update(0, 16 << 20));
    for number in 0..sent {
        assert_eq!(Answer::next(&mut peer, stream).id, number.to_string());
    }
}

/// Short-lived senders bring the reference down.
pub(crate) fn vanished_senders_leave_nothing_behind(broker: &Broker) {
    for number in 0..68 {
        let (mut peer, stream) = open(broker);
        let request = request("gone", "upstream.gone", &["a", "b", "c"]);
        for _ in 0..=number % 5 {
            assert!(peer.send_message(stream, &request, false));
        }
        if number % 2 == 0 {
            peer.vanish();
        }
    }
    let status = broker.wait_zero(&["connections"]);
    assert_eq!(level(&status, "task_panics"), 0);
    send(broker, "upstream.gone.after", &["a"]);
    assert_eq!(rest(broker, "upstream.gone.after"), [entry("a", 1, 1)]);
}

/// Rule 13: Python waits 2 s for an answer, also behind a request that takes long.
pub(crate) fn a_small_request_is_answered_in_time_beside_a_large_one(broker: &Broker) {
    let (mut large, large_stream) = open(broker);
    let message = queues::message("m", "upstream.large", b"x");
    let messages = std::iter::repeat_n(&message[..], 100_000);
    let many = queues::upstream("large", messages);
    assert!(large.send_message(large_stream, &many, true));
    let (mut small, small_stream) = open(broker);
    for number in 0..20 {
        let request = request(&number.to_string(), "upstream.small", &["a"]);
        assert!(small.send_message(small_stream, &request, false));
        let mut answer = None;
        let in_time = small.wait_for(Duration::from_secs(2), |peer| {
            answer = peer.reply(small_stream).take_message();
            answer.is_some()
        });
        assert!(in_time, "request {number}");
    }
    let answer = Answer::next(&mut large, large_stream);
    assert_eq!(answer.results.len(), 100_000);
    assert!(answer.results.iter().all(|(_, error)| error.is_empty()));
    assert_eq!(large.finish(large_stream).grpc_status(), Some(OK));
}
