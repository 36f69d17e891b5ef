//! Streams of one message: each request, each refusal, each end.

use std::time::{Duration, Instant};

use super::queues::{AT_ONCE, OK, SILENCE, entry, rest, send, send_with, text};
use crate::harness::Broker;
use crate::mock::frame::{Frame, error};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::mock::queues::{self, Policy, Received, received, stream};

/// A stream of one message, on a connection of its own.
struct Single {
    peer: Peer,
    stream: u32,
}

/// An answer on it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    id: String,
    kind: u64,
    message: Option<Received>,
    error: String,
}

impl Single {
    fn open(broker: &Broker) -> Self {
        let mut peer = Peer::connect(broker.grpc());
        let stream = peer.open(path::STREAM_QUEUE_MESSAGE);
        Self { peer, stream }
    }

    /// A stream that holds the first message of a queue.
    fn holding(broker: &Broker, channel: &str, visibility_seconds: u64) -> Self {
        let mut single = Self::open(broker);
        single.ask("receive", stream::RECEIVE, channel, visibility_seconds, 0);
        let answer = single.answer();
        assert_eq!((&answer.error[..], answer.kind), ("", stream::RECEIVE));
        assert!(answer.message.is_some(), "{answer:?}");
        single
    }

    fn send(&mut self, request: &[u8]) {
        assert!(self.peer.send_message(self.stream, request, false));
    }

    /// A request that waits for a minute if it waits.
    fn ask(&mut self, id: &str, kind: u64, channel: &str, visibility_seconds: u64, sequence: u64) {
        let request = queues::stream_request(id, kind, channel, visibility_seconds, 60, sequence);
        self.send(&request);
    }

    fn answer(&mut self) -> Answer {
        let answer = self.peer.next_message(self.stream);
        let answer = answer.unwrap_or_else(|| {
            panic!("no answer: {:?}", self.peer.reply(self.stream));
        });
        let error = text(kubemq::field(&answer, 5));
        assert_eq!(kubemq::number(&answer, 4) == 1, !error.is_empty());
        Answer {
            id: text(kubemq::field(&answer, 1)),
            kind: kubemq::number(&answer, 2),
            message: received(&answer, 3).pop(),
            error,
        }
    }

    /// A request's answer: that of its id and type; its error.
    fn asked(
        &mut self,
        kind: u64,
        channel: &str,
        visibility_seconds: u64,
        sequence: u64,
    ) -> String {
        self.ask("asked", kind, channel, visibility_seconds, sequence);
        self.told("asked", kind)
    }

    fn told(&mut self, id: &str, kind: u64) -> String {
        let began = Instant::now();
        let answer = self.answer();
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        assert_eq!(
            (&answer.id[..], answer.kind, answer.message),
            (id, kind, None)
        );
        answer.error
    }

    /// Nothing more, and the end of the call, with OK.
    fn assert_over(&mut self) {
        assert_eq!(self.peer.next_message(self.stream), None);
        assert_eq!(self.peer.finish(self.stream).grpc_status(), Some(OK));
    }

    fn half_close(&mut self) {
        assert!(self.peer.send(&Frame::data(self.stream, [], true)));
    }
}

const NAME: &str = "Error 120: invalid queue name value, cannot be empty, contains wildcards ,\
                    white spaces and end with dot";
const SEQUENCE: &str = "Error 125: ack sequence cannot be 0 or negative";
const VISIBILITY: &str =
    "Error 127: invalid visibility time, cannot be negative or exceed setting in kubemq config";
const EXPIRED: &str = "Error 129: current visibility timer expired";
const NOTHING: &str = "Error 138: no new message in queue, wait time expired";

pub(crate) fn an_acknowledged_message_is_gone_and_the_call_is_over(broker: &Broker) {
    send(broker, "single.ack", &["a", "b"]);
    let mut single = Single::holding(broker, "single.ack", 30);
    assert_eq!(single.asked(stream::ACK, "", 0, 1), "");
    single.assert_over();
    assert_eq!(rest(broker, "single.ack"), [entry("b", 2, 1)]);
}

pub(crate) fn a_rejected_message_goes_to_the_tail_counted(broker: &Broker) {
    send(broker, "single.reject", &["a", "b"]);
    let mut single = Single::holding(broker, "single.reject", 30);
    assert_eq!(single.asked(stream::REJECT, "", 0, 1), "");
    single.assert_over();
    let back = [entry("b", 2, 1), entry("a", 3, 2)];
    assert_eq!(rest(broker, "single.reject"), back);
}

pub(crate) fn an_empty_wait_is_told_and_ends_the_call(broker: &Broker) {
    for wait_seconds in [0, 1, 2] {
        let mut single = Single::open(broker);
        let began = Instant::now();
        let receive = stream::RECEIVE;
        let request = queues::stream_request("r", receive, "single.empty", 4, wait_seconds, 0);
        single.send(&request);
        let answer = single.answer();
        assert_eq!((answer.kind, &answer.error[..]), (receive, NOTHING));
        let expected = Duration::from_secs(wait_seconds.max(1));
        assert!(began.elapsed() >= expected, "0 is the default, 1 s");
        assert!(began.elapsed() < expected + Duration::from_millis(450));
        single.assert_over();
    }
}

pub(crate) fn a_message_ends_the_wait(broker: &Broker) {
    let mut single = Single::open(broker);
    single.ask("waits", stream::RECEIVE, "single.wakes", 30, 0);
    single.peer.wait_for(SILENCE, |_| false);
    send(broker, "single.wakes", &["a"]);
    let began = Instant::now();
    let message = single.answer().message.expect("the message");
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(
        (&message.id[..], message.sequence, message.receives),
        ("a", 1, 1)
    );
}

/// A request's type, channel, visibility and sequence, and what is wrong with it on a stream that
/// holds nothing.
const BAD_REQUESTS: [(u64, &str, u64, u64, &str); 13] = [
    (stream::RECEIVE, "", 1, 0, NAME),
    (stream::RECEIVE, "a.*", 1, 0, NAME),
    (stream::RECEIVE, "a", 43_201, 0, VISIBILITY),
    (
        0,
        "a",
        0,
        0,
        "Error 132: invalid stream queue messages request type",
    ),
    (
        7,
        "a",
        0,
        0,
        "Error 132: invalid stream queue messages request type",
    ),
    (stream::ACK, "", 0, 0, SEQUENCE),
    (stream::REJECT, "", 0, 0, SEQUENCE),
    (stream::ACK, "", 0, 1, "Error 124: no active message to ack"),
    (
        stream::REJECT,
        "",
        0,
        1,
        "Error 137: no active message to reject",
    ),
    (stream::RESEND, "", 0, 1, NAME),
    (
        stream::RESEND,
        "a",
        0,
        1,
        "Error 126: no active message to send",
    ),
    (
        stream::SEND_MODIFIED,
        "",
        0,
        1,
        "Error 131: invalid queue message",
    ),
    (stream::MODIFY_VISIBILITY, "", 43_201, 1, VISIBILITY),
];

/// The stream survives each of them.
pub(crate) fn a_bad_request_is_told_and_the_stream_goes_on(broker: &Broker) {
    let mut single = Single::open(broker);
    let message = queues::message("m", "single.bad", b"m");
    let empty = queues::message("m", "single.bad", b"");
    for (kind, channel, visibility, sequence, error) in BAD_REQUESTS {
        assert_eq!(single.asked(kind, channel, visibility, sequence), error);
    }
    single.send(&queues::stream_request(
        "asked",
        stream::RECEIVE,
        "a",
        1,
        3601,
        0,
    ));
    let wait = "Error 136: invalid wait timeout, value cannot be negative or exceed \
                max wait timeout seconds setting in kubemq config";
    assert_eq!(single.told("asked", stream::RECEIVE), wait);
    for (message, error) in [
        (message, "Error 124: no active message to ack"),
        (empty, "Error 110: invalid message, cannot be empty"),
    ] {
        single.send(&queues::stream_modified("modified", &message));
        assert_eq!(single.told("modified", stream::SEND_MODIFIED), error);
    }
    // A request without a client id.
    single.send(&[0x18, 2]);
    let answer = single.answer();
    let client = "Error 101: invalid clientID value, cannot be empty";
    assert_eq!(
        (answer.id.len(), &answer.error[..]),
        (22, client),
        "an id is made"
    );
    send(broker, "single.bad", &["a"]);
    single.ask("good", stream::RECEIVE, "single.bad", 30, 0);
    assert!(single.answer().message.is_some());
}

pub(crate) fn a_wrong_sequence_settles_nothing(broker: &Broker) {
    send(broker, "single.wrong", &["a"]);
    let mut single = Single::holding(broker, "single.wrong", 30);
    assert_eq!(single.asked(stream::ACK, "", 0, 99), SEQUENCE);
    assert_eq!(single.asked(stream::REJECT, "", 0, 99), SEQUENCE);
    assert_eq!(single.asked(stream::ACK, "", 0, 1), "");
    single.assert_over();
}

pub(crate) fn a_stream_receives_once(broker: &Broker) {
    send(broker, "single.twice", &["a", "b"]);
    let twice = "Error 128: subscription to queue is already active";
    let mut waiting = Single::open(broker);
    waiting.ask("waits", stream::RECEIVE, "single.twice.nothing", 30, 0);
    assert_eq!(waiting.asked(stream::RECEIVE, "single.twice", 30, 0), twice);
    let mut single = Single::holding(broker, "single.twice", 30);
    assert_eq!(single.asked(stream::RECEIVE, "single.twice", 30, 0), twice);
    assert_eq!(single.asked(stream::ACK, "", 0, 1), "");
    single.assert_over();
}

pub(crate) fn a_resent_message_begins_anew_elsewhere(broker: &Broker) {
    send(broker, "single.resend", &["a"]);
    let mut single = Single::holding(broker, "single.resend", 30);
    assert_eq!(
        single.asked(stream::RESEND, "single.resend.other", 0, 0),
        ""
    );
    single.assert_over();
    assert_eq!(rest(broker, "single.resend"), []);
    assert_eq!(rest(broker, "single.resend.other"), [entry("a", 1, 1)]);
}

pub(crate) fn a_modified_message_takes_the_place_of_the_received_one(broker: &Broker) {
    send(broker, "single.modified", &["a"]);
    let mut single = Single::holding(broker, "single.modified", 30);
    let message = queues::message("new", "single.modified", b"changed");
    single.send(&queues::stream_modified("modified", &message));
    assert_eq!(single.told("modified", stream::SEND_MODIFIED), "");
    single.assert_over();
    assert_eq!(rest(broker, "single.modified"), [entry("new", 2, 1)]);
}

pub(crate) fn the_end_of_the_visibility_ends_the_call(broker: &Broker) {
    send(broker, "single.visible", &["a", "b"]);
    let mut single = Single::holding(broker, "single.visible", 1);
    let began = Instant::now();
    let answer = single.answer();
    assert_eq!((&answer.id[..], answer.kind), ("receive", stream::RECEIVE));
    assert_eq!(answer.error, EXPIRED);
    single.assert_over();
    let elapsed = began.elapsed();
    let (earliest, latest) = (Duration::from_millis(900), Duration::from_millis(1500));
    assert!(earliest < elapsed && elapsed < latest, "{elapsed:?}");
    let back = [entry("b", 2, 1), entry("a", 3, 2)];
    assert_eq!(rest(broker, "single.visible"), back);
}

/// The end of it is told in the name of the last request.
pub(crate) fn a_visibility_may_be_set_anew(broker: &Broker) {
    send(broker, "single.longer", &["a"]);
    let mut single = Single::holding(broker, "single.longer", 1);
    let began = Instant::now();
    assert_eq!(single.asked(stream::MODIFY_VISIBILITY, "", 2, 0), "");
    let answer = single.answer();
    let told = (&answer.id[..], answer.kind, &answer.error[..]);
    assert_eq!(told, ("asked", stream::MODIFY_VISIBILITY, EXPIRED));
    let elapsed = began.elapsed();
    let (earliest, latest) = (Duration::from_millis(1900), Duration::from_millis(2500));
    assert!(earliest < elapsed && elapsed < latest, "{elapsed:?}");
    single.assert_over();
    // Without a message it ends the stream.
    let mut idle = Single::open(broker);
    assert_eq!(idle.asked(stream::MODIFY_VISIBILITY, "", 1, 0), "");
    assert_eq!(idle.answer().error, EXPIRED);
    idle.assert_over();
}

pub(crate) fn a_half_close_returns_the_message_uncounted(broker: &Broker) {
    send(broker, "single.half", &["a"]);
    let mut single = Single::holding(broker, "single.half", 30);
    single.half_close();
    single.assert_over();
    assert_eq!(rest(broker, "single.half"), [entry("a", 1, 1)]);
    let mut waiting = Single::open(broker);
    waiting.ask("waits", stream::RECEIVE, "single.half.nothing", 30, 0);
    waiting.half_close();
    assert_eq!(waiting.told("waits", stream::RECEIVE), NOTHING);
    waiting.assert_over();
    let mut idle = Single::open(broker);
    idle.half_close();
    idle.assert_over();
}

pub(crate) fn a_settlement_right_before_a_half_close_counts(broker: &Broker) {
    send(broker, "single.last", &["a"]);
    let mut single = Single::holding(broker, "single.last", 30);
    single.ask("ack", stream::ACK, "", 0, 1);
    single.half_close();
    assert_eq!(single.told("ack", stream::ACK), "");
    single.assert_over();
    assert_eq!(rest(broker, "single.last"), []);
}

pub(crate) fn a_broken_stream_returns_the_message_to_its_place_counted(broker: &Broker) {
    send(broker, "single.broken", &["a", "b"]);
    let mut single = Single::holding(broker, "single.broken", 30);
    let reset = Frame::reset(single.stream, error::CANCEL);
    assert!(single.peer.send(&reset));
    single.peer.wait_for(SILENCE, |_| false);
    let back = [entry("a", 1, 2), entry("b", 2, 1)];
    assert_eq!(rest(broker, "single.broken"), back);
}

pub(crate) fn a_message_rejected_for_the_last_time_is_a_dead_letter(broker: &Broker) {
    let policy = Policy {
        receives_max: 1,
        dead_letter: "single.dead.letters",
        ..Policy::default()
    };
    send_with(broker, "single.dead", &["a"], policy);
    let mut single = Single::holding(broker, "single.dead", 30);
    assert_eq!(single.asked(stream::REJECT, "", 0, 1), "");
    single.assert_over();
    let mut letters = Single::open(broker);
    letters.ask("letter", stream::RECEIVE, "single.dead.letters", 30, 0);
    let letter = letters.answer().message.expect("the dead letter");
    assert_eq!((&letter.id[..], letter.receives), ("a", 1));
    assert_eq!(
        (letter.rerouted, &letter.rerouted_from[..]),
        (true, "single.dead")
    );
    assert_eq!(rest(broker, "single.dead"), []);
}
