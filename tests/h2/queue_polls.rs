//! Polls: one answer for each, at the right time, side by side.

use std::time::{Duration, Instant};

use super::queues::{Answer, LONG_MS, OK, Polls, entry, ids, rest, send, send_one, send_with};
use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::mock::queues::{self, Policy, downstream};

/// Rule 1: exactly one answer, with the request's id and the type of a poll.
pub(crate) fn a_poll_has_one_answer_with_its_id_and_type(broker: &Broker) {
    send(broker, "polls.one", &["a", "b"]);
    let mut polls = Polls::open(broker);
    polls.get("id-1", "polls.one", 10, LONG_MS);
    let answer = polls.answer_at_once();
    assert_eq!((&answer.id[..], answer.kind), ("id-1", downstream::GET));
    assert_eq!((answer.error.clone(), answer.complete), (None, false));
    assert_eq!(answer.ids(), ["a", "b"]);
    assert!(!answer.transaction.is_empty());
    assert!(answer.offsets.is_empty());
    polls.assert_silent();
}

/// Rule 10, and what consumers read: times in nanoseconds, numbers from 1.
pub(crate) fn messages_carry_their_attributes(broker: &Broker) {
    let policy = Policy {
        expiration_seconds: 600,
        ..Policy::default()
    };
    send_with(broker, "polls.attributes", &["a"], policy);
    let mut polls = Polls::open(broker);
    let answer = polls.take("polls.attributes", 1);
    let [message] = &answer.messages[..] else {
        panic!("one message: {answer:?}");
    };
    assert_eq!((message.sequence, message.receives), (1, 1));
    assert_eq!(
        (&message.channel[..], &message.body[..]),
        ("polls.attributes", &b"a"[..])
    );
    let since = message.expires_at_ns - message.timestamp_ns;
    assert!(
        (599_000_000_000..=601_000_000_000).contains(&since),
        "{message:?}"
    );
    assert!(!message.rerouted && message.rerouted_from.is_empty());
}

/// Rule 14: an answer without messages at the end of the wait, and less than half a second later.
pub(crate) fn an_empty_poll_is_answered_at_the_end_of_its_wait(broker: &Broker) {
    for (wait_ms, expected_ms) in [(2000, 2000), (1500, 1500), (10, 1000), (0, 1000)] {
        let mut polls = Polls::open(broker);
        let began = Instant::now();
        polls.get("empty", "polls.nothing", 5, wait_ms);
        let answer = polls.answer();
        let elapsed = began.elapsed();
        let expected = Duration::from_millis(expected_ms);
        assert!(elapsed >= expected, "{elapsed:?} of {expected:?}");
        assert!(
            elapsed < expected + Duration::from_millis(450),
            "{elapsed:?} of {expected:?}"
        );
        assert_eq!((&answer.id[..], answer.kind), ("empty", downstream::GET));
        assert_eq!((answer.error.clone(), answer.ids()), (None, vec![]));
        let completed = "cannot ack messages with closed response ";
        let late = polls.refused(downstream::ACK_ALL, &answer.transaction, &[]);
        assert_eq!(late, completed);
    }
}

pub(crate) fn a_waiting_poll_is_woken_by_the_first_message(broker: &Broker) {
    let mut polls = Polls::open(broker);
    // Also one that asks for more than comes, and one for a queue that is not there yet.
    polls.get("woken", "polls.woken", 10, LONG_MS);
    polls.assert_silent();
    send(broker, "polls.woken", &["a"]);
    assert_eq!(polls.answer_at_once().ids(), ["a"]);
}

/// Java sends polls side by side on one stream, Python's threads share one.
pub(crate) fn polls_wait_side_by_side_on_one_stream(broker: &Broker) {
    let mut polls = Polls::open(broker);
    for number in 0..50 {
        let channel = format!("polls.side.{number}");
        polls.get(&format!("id-{number}"), &channel, 1, LONG_MS);
    }
    polls.assert_silent();
    for number in (0..50).rev() {
        let id = format!("message-{number}");
        send(broker, &format!("polls.side.{number}"), &[&id]);
        let answer = polls.answer_at_once();
        assert_eq!(
            (answer.id.clone(), answer.ids()),
            (format!("id-{number}"), vec![&id[..]])
        );
    }
}

pub(crate) fn polls_of_one_queue_are_served_in_turn(broker: &Broker) {
    let mut polls = Polls::open(broker);
    for id in ["first", "second", "third"] {
        polls.get(id, "polls.turn", 1, LONG_MS);
    }
    polls.assert_silent();
    send(broker, "polls.turn", &["a", "b", "c"]);
    let answers: Vec<Answer> = (0..3).map(|_| polls.answer_at_once()).collect();
    let served: Vec<_> = answers.iter().map(|a| (&a.id[..], a.ids())).collect();
    let expected = [
        ("first", vec!["a"]),
        ("second", vec!["b"]),
        ("third", vec!["c"]),
    ];
    assert_eq!(served, expected);
    let mut transactions: Vec<_> = answers.iter().map(|a| &a.transaction).collect();
    transactions.dedup();
    assert_eq!(transactions.len(), 3, "an id for each: {transactions:?}");
}

pub(crate) fn a_waiting_poll_blocks_nothing_behind_it(broker: &Broker) {
    send(broker, "polls.behind", &["a", "b"]);
    let mut polls = Polls::open(broker);
    let first = polls.take("polls.behind", 1);
    polls.get("waits", "polls.behind.nothing", 1, LONG_MS);
    assert_eq!(polls.open_sequences(&first.transaction), [1]);
    polls.settle("ack", downstream::ACK_ALL, &first.transaction, &[]);
    polls.get("next", "polls.behind", 1, LONG_MS);
    assert_eq!(polls.answer_at_once().ids(), ["b"]);
}

/// Fire and forget: the order of the stream is the only thing that clients have.
pub(crate) fn a_poll_right_behind_a_settlement_sees_its_effect(broker: &Broker) {
    send(broker, "polls.effect", &["a", "b", "c"]);
    let mut polls = Polls::open(broker);
    let first = polls.take("polls.effect", 2);
    polls.settle("ack", downstream::ACK_RANGE, &first.transaction, &[1]);
    polls.settle(
        "close",
        downstream::CLOSE_BY_CLIENT,
        &first.transaction,
        &[],
    );
    polls.get("next", "polls.effect", 10, LONG_MS);
    let next = polls.answer_at_once();
    assert_eq!(next.ids(), ["b", "c"]);
    assert_eq!(next.sequences(), [2, 3]);
    polls.settle("nack", downstream::NACK_RANGE, &next.transaction, &[2]);
    polls.get("again", "polls.effect", 10, LONG_MS);
    let again = polls.answer_at_once();
    let [message] = &again.messages[..] else {
        panic!("the nacked message: {again:?}");
    };
    assert_eq!(
        (&message.id[..], message.sequence, message.receives),
        ("b", 4, 2)
    );
}

/// A defect of the reference: messages vanished into the first transaction of a queue.
pub(crate) fn an_open_transaction_hides_no_more_than_it_holds(broker: &Broker) {
    send(broker, "polls.hidden", &["1", "2", "3", "4", "5", "6"]);
    let mut polls = Polls::open(broker);
    let first = polls.take("polls.hidden", 3);
    assert_eq!(first.ids(), ["1", "2", "3"]);
    polls.settle("ack", downstream::ACK_RANGE, &first.transaction, &[1, 2]);
    let second = polls.take("polls.hidden", 1);
    let third = polls.take("polls.hidden", 10);
    assert_eq!((second.ids(), third.ids()), (vec!["4"], vec!["5", "6"]));
    assert_eq!(polls.open_sequences(&first.transaction), [3]);
}

/// Two SDKs take no message above 4 MiB.
pub(crate) fn an_answer_stays_below_four_mebibytes_but_for_one_message(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let body = vec![b'x'; 600 << 10];
    for number in 0..12 {
        let id = number.to_string();
        assert_eq!(
            send_one(&mut peer, &queues::message(&id, "polls.bytes", &body)),
            ""
        );
    }
    let large = vec![b'y'; 5 << 20];
    assert_eq!(
        send_one(&mut peer, &queues::message("12", "polls.bytes", &large)),
        ""
    );
    let mut polls = Polls::open(broker);
    let (mut seen, mut answers) = (Vec::new(), 0);
    while seen.len() < 13 {
        polls.get("bytes", "polls.bytes", 100, LONG_MS);
        let answer = polls.peer.next_message(polls.stream).expect("an answer");
        let messages = Answer::of(&answer).messages;
        let only_large = messages.len() == 1 && messages[0].body.len() > 4 << 20;
        assert!(
            only_large || answer.len() < 4 << 20,
            "{} bytes",
            answer.len()
        );
        answers += 1;
        seen.extend(ids(&messages).into_iter().map(str::to_owned));
    }
    let expected: Vec<_> = (0..13).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(answers, 4, "5 of 600 KiB, 5, 2, and the large one");
}

pub(crate) fn many_messages_fit_one_answer(broker: &Broker) {
    const MESSAGES: usize = 2500;
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::QUEUES_UPSTREAM);
    let messages: Vec<_> = (0..MESSAGES)
        .map(|number| queues::message(&number.to_string(), "polls.many", b"x"))
        .collect();
    let request = queues::upstream("many", messages.iter().map(Vec::as_slice));
    assert!(peer.send_message(stream, &request, true));
    peer.next_message(stream).expect("the results");
    let mut polls = Polls::open(broker);
    let answer = polls.take("polls.many", 0);
    assert_eq!(answer.messages.len(), MESSAGES);
    let expected: Vec<_> = (1..=MESSAGES as u64).collect();
    assert_eq!(answer.sequences(), expected);
}

/// Rule 3: an error that belongs to a poll carries the type of a poll; the stream goes on.
pub(crate) fn a_refused_poll_carries_the_type_of_a_poll(broker: &Broker) {
    let name = "Error 120: invalid queue name value, cannot be empty, contains wildcards ,\
                white spaces and end with dot";
    let mut polls = Polls::open(broker);
    for channel in ["", "a.", "a b", "a.*", "a.>", ".a", "a;b"] {
        polls.get("bad", channel, 1, LONG_MS);
        let answer = polls.answer_at_once();
        assert_eq!((&answer.id[..], answer.kind), ("bad", downstream::GET));
        assert_eq!(answer.error.as_deref(), Some(name), "{channel:?}");
        assert!(!answer.transaction.is_empty());
    }
    polls.send(&queues::get_with("visibility", "polls.refused", "soon"));
    let answer = polls.answer_at_once();
    let visibility = "Error 127: invalid visibility time, cannot be negative or exceed setting \
                      in kubemq config";
    assert_eq!(
        (answer.kind, answer.error.as_deref()),
        (downstream::GET, Some(visibility))
    );
    // A text that is not UTF-8, in a request whose id and type can be read.
    let mut garbled = queues::get("garbled", "", 1, LONG_MS, false);
    garbled.extend([0x22, 1, 0xff]);
    polls.send(&garbled);
    let answer = polls.answer_at_once();
    assert_eq!((&answer.id[..], answer.kind), ("garbled", downstream::GET));
    assert_eq!(
        answer.error.as_deref(),
        Some("string field contains invalid UTF-8")
    );
    send(broker, "polls.refused", &["a"]);
    assert_eq!(polls.take("polls.refused", 1).ids(), ["a"]);
}

/// What an answer of its own acknowledges is gone when the answer has left; it never completes in
/// the client's eyes, and is settled all the same.
pub(crate) fn an_automatic_acknowledgement_settles_what_it_delivers(broker: &Broker) {
    send(broker, "polls.auto", &["a", "b"]);
    let mut polls = Polls::open(broker);
    polls.get_auto("auto", "polls.auto", 10, LONG_MS);
    let answer = polls.answer_at_once();
    assert_eq!((answer.ids(), answer.complete), (vec!["a", "b"], false));
    let late = polls.refused(downstream::ACK_ALL, &answer.transaction, &[]);
    assert_eq!(late, "cannot ack messages with closed response ");
    drop(polls);
    assert_eq!(rest(broker, "polls.auto"), []);
}

/// An answer that did not leave acknowledges nothing.
pub(crate) fn an_answer_that_was_not_taken_acknowledges_nothing(broker: &Broker) {
    const MESSAGES: usize = 30;
    let mut sender = Peer::connect(broker.grpc());
    let body = vec![b'x'; 100 << 10];
    for number in 0..MESSAGES {
        let message = queues::message(&number.to_string(), "polls.left", &body);
        assert_eq!(send_one(&mut sender, &message), "");
    }
    // It reads 64 KiB of 3 MB.
    let mut polls = Polls {
        peer: Peer::connect_with(broker.grpc(), &[]),
        stream: 0,
    };
    polls.peer.replenishes = false;
    polls.stream = polls.peer.open(path::QUEUES_DOWNSTREAM);
    polls.get_auto("auto", "polls.left", 100, LONG_MS);
    polls.peer.wait_for(super::queues::AT_ONCE, |_| false);
    drop(polls);
    let left = rest(broker, "polls.left");
    assert_eq!(left.len(), MESSAGES);
    assert_eq!(left[0], entry("0", 1, 2));
}

/// A client that does not read keeps a bounded part of the broker's memory, and nobody waits for
/// it.
pub(crate) fn a_client_that_does_not_read_hurts_only_itself(broker: &Broker) {
    let mut sender = Peer::connect(broker.grpc());
    let body = vec![b'x'; 512 << 10];
    for number in 0..64 {
        let message = queues::message(&number.to_string(), "polls.slow", &body);
        assert_eq!(send_one(&mut sender, &message), "");
    }
    let before = broker.rss_bytes();
    let mut slow = Polls {
        peer: Peer::connect_with(broker.grpc(), &[]),
        stream: 0,
    };
    slow.peer.replenishes = false;
    slow.stream = slow.peer.open(path::QUEUES_DOWNSTREAM);
    // Questions without end, whose answers nobody reads.
    let question = queues::settle("x", downstream::ACK_ALL, &[b'x'; 200], &[]);
    let framed: Vec<u8> = (0..50)
        .flat_map(|_| crate::mock::peer::grpc_framed(&question))
        .collect();
    for _ in 0..8 {
        slow.get("slow", "polls.slow", 1000, LONG_MS);
    }
    let mut held_back = false;
    for _ in 0..5000 {
        if !slow.peer.wait_for(super::queues::AT_ONCE, |p| {
            p.can_send(slow.stream, framed.len())
        }) {
            held_back = true;
            break;
        }
        assert!(slow.peer.send_framed(slow.stream, &framed, false));
    }
    assert!(held_back, "answers that nobody reads are not bounded");
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    send(broker, "polls.quick", &["a"]);
    assert_eq!(Polls::open(broker).take("polls.quick", 1).ids(), ["a"]);
}

/// Rule 13: Python waits 2 s for the answer to a send, whatever else the broker does.
pub(crate) fn sends_are_answered_in_time_while_polls_wait_and_settle(broker: &Broker) {
    const REQUESTS: usize = 200;
    let mut consumers: Vec<_> = (0..20).map(|_| Polls::open(broker)).collect();
    for (number, consumer) in consumers.iter_mut().enumerate() {
        for queue in 0..20 {
            consumer.get_auto(
                "busy",
                &format!("polls.busy.{}", (number + queue) % 20),
                10,
                LONG_MS,
            );
        }
    }
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::QUEUES_UPSTREAM);
    for number in 0..REQUESTS {
        let channel = format!("polls.busy.{}", number % 20);
        let messages = [
            queues::message("a", &channel, b"a"),
            queues::message("b", "", b"refused"),
            queues::message("c", &channel, b"c"),
        ];
        let id = format!("request-{number}");
        let began = Instant::now();
        let request = queues::upstream(&id, messages.iter().map(Vec::as_slice));
        assert!(peer.send_message(stream, &request, false));
        let answer = peer.next_message(stream).expect("an answer");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(kubemq::field(&answer, 1), id.as_bytes());
        let results = kubemq::fields(&answer, 2);
        let of: Vec<_> = results.iter().map(|r| kubemq::field(r, 1)).collect();
        assert_eq!(
            of,
            [b"a", b"b", b"c"],
            "one result for each, in their order"
        );
    }
    assert!(peer.send(&crate::mock::frame::Frame::data(stream, [], true)));
    assert_eq!(peer.finish(stream).grpc_status(), Some(OK));
}
