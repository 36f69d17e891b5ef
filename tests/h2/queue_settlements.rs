//! Settlements: silent when they succeed, told when they fail, in the order of the stream.

use super::queues::{LONG_MS, Polls, entry, rest, send, send_with};
use crate::harness::Broker;
use crate::mock::queues::{self, Policy, downstream};

const ACK_COMPLETED: &str = "cannot ack messages with closed response ";
const NACK_COMPLETED: &str = "cannot nack messages with closed response ";
const UNKNOWN: &str = "transaction is completed or transaction id not found";

/// Rule 1: Rust hands every message on the stream to its next poll, whatever it is.
pub(crate) fn a_settlement_that_succeeds_is_silent(broker: &Broker) {
    const KINDS: [u64; 7] = [
        downstream::ACK_ALL,
        downstream::ACK_RANGE,
        downstream::NACK_ALL,
        downstream::NACK_RANGE,
        downstream::REQUEUE_ALL,
        downstream::REQUEUE_RANGE,
        downstream::CLOSE_BY_CLIENT,
    ];
    let mut polls = Polls::open(broker);
    for kind in KINDS {
        let channel = format!("settle.silent.{kind}");
        send(broker, &channel, &["a"]);
        let taken = polls.take(&channel, 1);
        polls.requeue(kind, &taken.transaction, &[1], "settle.silent.other");
    }
    polls.assert_silent();
    let back = |kind| rest(broker, &format!("settle.silent.{kind}"));
    assert_eq!(back(downstream::ACK_ALL), []);
    assert_eq!(back(downstream::ACK_RANGE), []);
    assert_eq!(back(downstream::NACK_ALL), [entry("a", 2, 2)]);
    assert_eq!(back(downstream::NACK_RANGE), [entry("a", 2, 2)]);
    assert_eq!(back(downstream::REQUEUE_ALL), []);
    assert_eq!(back(downstream::REQUEUE_RANGE), []);
    assert_eq!(back(downstream::CLOSE_BY_CLIENT), [entry("a", 1, 1)]);
    let moved = rest(broker, "settle.silent.other");
    assert_eq!(moved, [entry("a", 1, 1), entry("a", 2, 1)]);
}

/// Rule 2: told on the same stream, with the request's type, id and transaction.
pub(crate) fn a_settlement_that_fails_is_told_and_the_stream_goes_on(broker: &Broker) {
    send(broker, "settle.fails", &["a", "b"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.fails", 2);
    let transaction = &taken.transaction[..];
    let unknown = "00000000-0000-4000-8000-000000000000";
    for kind in 2..=9 {
        assert_eq!(polls.refused(kind, unknown, &[1]), UNKNOWN, "{kind}");
        assert_eq!(polls.refused(kind, "", &[1]), UNKNOWN, "{kind}");
    }
    for (kind, sequences, error) in [
        (
            downstream::ACK_RANGE,
            &[99][..],
            "invalid ack sequence id 99",
        ),
        (
            downstream::ACK_RANGE,
            &[],
            "cannot ack empty list of of offsets",
        ),
        (downstream::NACK_RANGE, &[99], "invalid nack sequence id 99"),
        (
            downstream::NACK_RANGE,
            &[],
            "cannot nack empty list of of offsets",
        ),
        (
            downstream::REQUEUE_ALL,
            &[],
            "cannot requeue messages with empty channel destination ",
        ),
        (
            downstream::REQUEUE_RANGE,
            &[1],
            "cannot requeue messages with empty channel destination ",
        ),
    ] {
        assert_eq!(polls.refused(kind, transaction, sequences), error);
    }
    for (kind, sequences, target, error) in [
        (
            downstream::REQUEUE_RANGE,
            &[][..],
            "x",
            "cannot requeue empty list of of offsets",
        ),
        (
            downstream::REQUEUE_RANGE,
            &[99],
            "x",
            "invalid ack sequence id 99",
        ),
        (
            downstream::REQUEUE_ALL,
            &[],
            "a b",
            "re-queue message with seq 1 failed, Error 120: invalid queue name value, cannot be \
             empty, contains wildcards ,white spaces and end with dot",
        ),
    ] {
        polls.requeue(kind, transaction, sequences, target);
        assert_eq!(polls.refusal(kind, transaction), error);
    }
    assert_eq!(polls.open_sequences(transaction), [1, 2]);
    assert_eq!(
        rest(broker, "settle.fails"),
        [],
        "nothing of it was settled"
    );
}

pub(crate) fn a_list_is_settled_up_to_its_first_wrong_number(broker: &Broker) {
    send(broker, "settle.partly", &["a", "b", "c", "d"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.partly", 4);
    let transaction = &taken.transaction[..];
    let error = polls.refused(downstream::ACK_RANGE, transaction, &[2, 99, 1]);
    assert_eq!(error, "invalid ack sequence id 99");
    assert_eq!(polls.open_sequences(transaction), [1, 3, 4]);
    let error = polls.refused(downstream::NACK_RANGE, transaction, &[3, 3]);
    assert_eq!(error, "invalid nack sequence id 3", "it is settled once");
    assert_eq!(polls.open_sequences(transaction), [1, 4]);
    let error = polls.refused(downstream::ACK_RANGE, transaction, &[u64::MAX]);
    assert_eq!(error, "invalid ack sequence id -1");
    assert_eq!(rest(broker, "settle.partly"), [entry("c", 5, 2)]);
}

pub(crate) fn a_transaction_is_complete_with_its_last_message(broker: &Broker) {
    let mut polls = Polls::open(broker);
    for (number, kind) in [
        (0, downstream::ACK_ALL),
        (1, downstream::ACK_RANGE),
        (2, downstream::NACK_ALL),
        (3, downstream::CLOSE_BY_CLIENT),
    ] {
        let channel = format!("settle.complete.{number}");
        send(broker, &channel, &["a", "b"]);
        let taken = polls.take(&channel, 2);
        let transaction = &taken.transaction[..];
        polls.settle("last", kind, transaction, &[1, 2]);
        for (late, error) in [
            (downstream::ACK_ALL, ACK_COMPLETED),
            (downstream::ACK_RANGE, ACK_COMPLETED),
            (downstream::NACK_ALL, NACK_COMPLETED),
            (downstream::NACK_RANGE, NACK_COMPLETED),
            (downstream::REQUEUE_ALL, ACK_COMPLETED),
            (
                downstream::REQUEUE_RANGE,
                "cannot requeue messages with closed response ",
            ),
            (
                downstream::ACTIVE_OFFSETS,
                "cannot get active offsets with closed response ",
            ),
        ] {
            assert_eq!(polls.refused(late, transaction, &[1]), error);
        }
    }
}

/// Python and Java fill in a list, of what they have not been told.
pub(crate) fn a_settlement_of_all_ignores_its_list(broker: &Broker) {
    send(broker, "settle.all", &["a", "b"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.all", 2);
    polls.settle("all", downstream::ACK_ALL, &taken.transaction, &[1, 99]);
    polls.assert_silent();
    drop(polls);
    assert_eq!(rest(broker, "settle.all"), []);
}

/// JS and Java poll while an earlier transaction is open.
pub(crate) fn transactions_are_open_side_by_side(broker: &Broker) {
    send(broker, "settle.two", &["a", "b", "c", "d"]);
    let mut polls = Polls::open(broker);
    let first = polls.take("settle.two", 2);
    let second = polls.take("settle.two", 2);
    assert_eq!(
        (first.ids(), second.ids()),
        (vec!["a", "b"], vec!["c", "d"])
    );
    assert_eq!(
        polls.refused(downstream::ACK_RANGE, &second.transaction, &[1]),
        { "invalid ack sequence id 1" }
    );
    polls.settle("two", downstream::ACK_ALL, &second.transaction, &[]);
    assert_eq!(polls.open_sequences(&first.transaction), [1, 2]);
    polls.settle("one", downstream::NACK_ALL, &first.transaction, &[]);
    polls.assert_silent();
    let nacked = [entry("a", 5, 2), entry("b", 6, 2)];
    assert_eq!(rest(broker, "settle.two"), nacked, "in their order");
}

pub(crate) fn a_transaction_belongs_to_its_stream(broker: &Broker) {
    send(broker, "settle.stream", &["a"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.stream", 1);
    let mut other = Polls::open(broker);
    assert_eq!(
        other.refused(downstream::ACK_ALL, &taken.transaction, &[]),
        UNKNOWN
    );
    assert_eq!(polls.open_sequences(&taken.transaction), [1]);
}

pub(crate) fn a_status_tells_what_is_open(broker: &Broker) {
    send(broker, "settle.status", &["a", "b", "c"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.status", 3);
    let transaction = &taken.transaction[..];
    polls.settle("ack", downstream::ACK_RANGE, transaction, &[2]);
    let mut status = || {
        polls.settle("status", downstream::TRANSACTION_STATUS, transaction, &[]);
        let answer = polls.answer_at_once();
        let head = (&answer.id[..], answer.kind, &answer.transaction[..]);
        assert_eq!(
            head,
            ("status", downstream::TRANSACTION_STATUS, transaction)
        );
        assert_eq!(answer.error, None);
        let told = (answer.offsets.clone(), answer.complete);
        if told.0.len() == 2 {
            polls.settle("ack", downstream::ACK_ALL, transaction, &[]);
        }
        told
    };
    assert_eq!(status(), (vec![1, 3], false));
    assert_eq!(status(), (vec![], true));
}

/// Nothing but the broker may close a transaction from its side, and it never does (rule 4).
pub(crate) fn a_request_without_a_meaning_is_unknown(broker: &Broker) {
    send(broker, "settle.meaning", &["a"]);
    let mut polls = Polls::open(broker);
    let taken = polls.take("settle.meaning", 1);
    for kind in [0, downstream::CLOSE_BY_SERVER, 12, 99] {
        polls.settle("what", kind, &taken.transaction, &[]);
        let answer = polls.answer_at_once();
        assert_eq!((&answer.id[..], answer.kind), ("what", 0));
        assert_eq!(answer.transaction, taken.transaction);
        assert_eq!(answer.error.as_deref(), Some("request unknown"));
    }
    assert_eq!(polls.open_sequences(&taken.transaction), [1]);
}

/// Rust and JS close without a transaction when they leave; JS reports an error to the
/// application.
pub(crate) fn a_close_without_a_transaction_is_silent(broker: &Broker) {
    let mut polls = Polls::open(broker);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for transaction in ["", "nonsense", unknown] {
        polls.settle("close", downstream::CLOSE_BY_CLIENT, transaction, &[]);
    }
    polls.assert_silent();
    send(broker, "settle.close", &["a"]);
    let taken = polls.take("settle.close", 1);
    polls.settle(
        "close",
        downstream::CLOSE_BY_CLIENT,
        &taken.transaction,
        &[],
    );
    polls.settle(
        "close",
        downstream::CLOSE_BY_CLIENT,
        &taken.transaction,
        &[],
    );
    polls.assert_silent();
    let again = polls.take("settle.close", 1);
    let [message] = &again.messages[..] else {
        panic!("the same message: {again:?}");
    };
    assert_eq!((message.sequence, message.receives), (1, 1));
}

pub(crate) fn what_is_nacked_for_the_last_time_is_a_dead_letter(broker: &Broker) {
    let policy = Policy {
        receives_max: 2,
        dead_letter: "settle.dead.letters",
        ..Policy::default()
    };
    send_with(broker, "settle.dead", &["a"], policy);
    let mut polls = Polls::open(broker);
    for receives in 1..=2 {
        let taken = polls.take("settle.dead", 1);
        assert_eq!(taken.messages[0].receives, receives);
        polls.settle("nack", downstream::NACK_ALL, &taken.transaction, &[]);
    }
    let dead = polls.take("settle.dead.letters", 1);
    let message = &dead.messages[0];
    assert_eq!((&message.id[..], message.receives), ("a", 1));
    assert_eq!(
        (message.rerouted, &message.rerouted_from[..]),
        (true, "settle.dead")
    );
    assert_eq!(rest(broker, "settle.dead"), []);
    polls.assert_silent();
}

/// The order of the messages is kept, which the reference loses.
pub(crate) fn what_is_requeued_begins_anew_in_its_order(broker: &Broker) {
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    send(broker, "settle.requeue", &names);
    let mut polls = Polls::open(broker);
    let first = polls.take("settle.requeue", 20);
    polls.settle("nack", downstream::NACK_ALL, &first.transaction, &[]);
    let taken = polls.take("settle.requeue", 20);
    assert_eq!(taken.ids(), names);
    assert!(taken.messages.iter().all(|message| message.receives == 2));
    polls.requeue(
        downstream::REQUEUE_ALL,
        &taken.transaction,
        &[],
        "settle.requeue.other",
    );
    let mut moved = Vec::new();
    while moved.len() < 20 {
        moved.extend(polls.take("settle.requeue.other", 20).messages);
    }
    for (number, message) in moved.iter().enumerate() {
        assert_eq!(message.id, names[number]);
        assert_eq!((message.sequence, message.receives), (number as u64 + 1, 1));
        assert_eq!(message.channel, "settle.requeue.other");
        assert!(!message.rerouted && message.rerouted_from.is_empty());
    }
    assert_eq!(rest(broker, "settle.requeue"), []);
}

/// The visibility that a client asks for: what it has not settled by then is another's.
pub(crate) fn a_visibility_ends_the_lease_and_a_late_settlement_is_refused(broker: &Broker) {
    send(broker, "settle.visible", &["a", "b"]);
    let mut polls = Polls::open(broker);
    polls.send(&queues::get_with("visible", "settle.visible", "1"));
    let taken = polls.answer_at_once();
    assert_eq!(taken.ids(), ["a", "b"]);
    let transaction = &taken.transaction[..];
    polls.settle("ack", downstream::ACK_RANGE, transaction, &[1]);
    let mut other = Polls::open(broker);
    let again = other.take("settle.visible", 10);
    let [message] = &again.messages[..] else {
        panic!("the one that was not acknowledged: {again:?}");
    };
    assert_eq!(
        (&message.id[..], message.sequence, message.receives),
        ("b", 3, 2)
    );
    let late = polls.refused(downstream::ACK_RANGE, transaction, &[2]);
    assert_eq!(late, ACK_COMPLETED);
    polls.get("next", "settle.visible", 1, LONG_MS);
    polls.assert_silent();
    assert_eq!(other.open_sequences(&again.transaction), [3]);
}
