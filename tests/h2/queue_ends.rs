//! Ends of a stream of polls: what was not settled returns to its place, at once; whether it
//! counts as received depends on how the stream ended.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::queues::{LONG_MS, OK, Polls, UNAVAILABLE, entry, rest, send};
use crate::harness::Broker;
use crate::mock::broker::{Watched, level};
use crate::mock::frame::{Frame, error};
use crate::mock::queues::downstream;

/// JS, C# and Go end their half behind the last request.
pub(crate) fn a_half_close_ends_the_call_and_returns_what_is_unsettled(broker: &Broker) {
    send(broker, "ends.half", &["a", "b", "c"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("ends.half", 3);
    polls.settle("ack", downstream::ACK_RANGE, &taken.transaction, &[2]);
    polls.half_close();
    assert_eq!(polls.finish(), Some(OK));
    let back = [entry("a", 1, 1), entry("c", 3, 1)];
    assert_eq!(rest(broker, "ends.half"), back);
}

pub(crate) fn what_came_before_a_half_close_is_answered(broker: &Broker) {
    let mut polls = Polls::open(broker);
    polls.get("waits", "ends.nothing", 1, LONG_MS);
    polls.settle("wrong", downstream::ACK_ALL, "nonsense", &[]);
    polls.half_close();
    let began = Instant::now();
    let (first, second) = (polls.answer(), polls.answer());
    assert!(began.elapsed() < super::queues::AT_ONCE);
    let mut answers = [(&first.id[..], &first), (&second.id[..], &second)];
    answers.sort_by_key(|(id, _)| *id);
    let [("waits", poll), ("wrong", wrong)] = answers else {
        panic!("both are answered: {answers:?}");
    };
    assert_eq!(
        (poll.kind, poll.ids(), poll.error.clone()),
        (1, vec![], None)
    );
    assert!(wrong.error.is_some());
    assert_eq!(polls.finish(), Some(OK));
}

pub(crate) fn an_automatic_poll_runs_to_its_end_behind_a_half_close(broker: &Broker) {
    let mut polls = Polls::open(broker);
    polls.get_auto("runs", "ends.auto", 10, LONG_MS);
    polls.half_close();
    polls.assert_silent();
    send(broker, "ends.auto", &["a"]);
    assert_eq!(polls.answer_at_once().ids(), ["a"]);
    assert_eq!(polls.finish(), Some(OK));
    assert_eq!(rest(broker, "ends.auto"), []);
}

/// A consumer that crashes over a message shall reach its dead letters in the end.
pub(crate) fn what_a_broken_stream_held_counts_as_received(broker: &Broker) {
    type Break = fn(Polls);
    let breaks: [(&str, Break); 3] = [
        ("reset", |mut polls| {
            let reset = Frame::reset(polls.stream, error::CANCEL);
            assert!(polls.peer.send(&reset));
            polls.peer.wait_for(super::queues::SILENCE, |_| false);
        }),
        ("closed", drop),
        ("vanished", |polls| polls.peer.vanish()),
    ];
    for (how, break_it) in breaks {
        let channel = format!("ends.broken.{how}");
        send(broker, &channel, &["a", "b", "c"]);
        let mut polls = Polls::open(broker);
        let taken = polls.take(&channel, 2);
        polls.settle("ack", downstream::ACK_RANGE, &taken.transaction, &[1]);
        // The answer tells that the acknowledgement was handled.
        assert_eq!(polls.open_sequences(&taken.transaction), [2]);
        break_it(polls);
        let mut other = Polls::open(broker);
        let mut back = Vec::new();
        while back.len() < 2 {
            back.extend(other.take(&channel, 10).messages);
        }
        back.sort_by_key(|message| message.sequence);
        let back: Vec<_> = back
            .iter()
            .map(|m| (&m.id[..], m.sequence, m.receives))
            .collect();
        assert_eq!(back, [("b", 2, 2), ("c", 3, 1)], "{how}");
    }
}

/// A reference defect: it went on consuming for a client that was gone.
pub(crate) fn a_poll_of_a_client_that_is_gone_takes_nothing(broker: &Broker) {
    let mut polls = Polls::open(broker);
    polls.get_auto("gone", "ends.gone", 10, LONG_MS);
    polls.get("gone", "ends.gone", 10, LONG_MS);
    polls.assert_silent();
    drop(polls);
    broker.wait_zero(&["connections"]);
    send(broker, "ends.gone", &["a"]);
    assert_eq!(rest(broker, "ends.gone"), [entry("a", 1, 1)]);
}

pub(crate) fn vanished_consumers_leave_nothing_behind(broker: &Broker) {
    let mut peers = Vec::new();
    for number in 0..20 {
        let channel = format!("ends.vanish.{number}");
        send(broker, &channel, &["a", "b"]);
        let mut polls = Polls::open(broker);
        polls.take(&channel, 1);
        polls.get("waits", "ends.vanish.nothing", 1, LONG_MS);
        peers.push(polls);
    }
    for polls in peers {
        polls.peer.vanish();
    }
    let status = broker.wait_zero(&["connections"]);
    assert_eq!(level(&status, "task_panics"), 0);
    for number in 0..20 {
        let back = rest(broker, &format!("ends.vanish.{number}"));
        assert_eq!(back, [entry("a", 1, 2), entry("b", 2, 1)]);
    }
}

/// Rules 4 and 5: no farewell on the stream, and never OK.
pub(crate) fn a_broker_that_ends_says_unavailable_and_counts_nothing(mut broker: Broker) {
    const CORES: usize = 2;
    send(&broker, "ends.stop", &["a", "b", "c"]);
    let mut polls = Polls::open(&broker);
    let taken = polls.take("ends.stop", 2);
    polls.settle("ack", downstream::ACK_RANGE, &taken.transaction, &[2]);
    polls.get("waits", "ends.stop.nothing", 1, LONG_MS);
    polls.assert_silent();
    let began = Instant::now();
    broker.signal(Signal::TERM);
    assert_eq!(polls.peer.next_message(polls.stream), None);
    let reply = polls.peer.finish(polls.stream);
    let message = "Error 409: server is in shutdown mode";
    assert_eq!(
        (reply.grpc_status(), reply.grpc_message()),
        (Some(UNAVAILABLE), message)
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    broker.assert_exits_0();
    broker.start_again(CORES, [""; 0]);
    assert_eq!(
        rest(&broker, "ends.stop"),
        [entry("a", 1, 1), entry("c", 3, 1)]
    );
    broker.end();
}
