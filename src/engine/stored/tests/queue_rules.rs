use std::sync::Arc;

use ringmq_storage::log::{Keeps, Live, Refused};
use ringmq_storage::record::RecordKind;
use ringmq_storage::record::queue::{Counted, MoveId, QueueHead, Requeued, Run};
use ringmq_storage::{ChannelId, ChannelKey, Sequence};

use super::rules::{Fixture, NONE};
use super::tape::slot;
use crate::engine::queues::{Detail, MoveReason, QueueState, SettleReason};
use crate::engine::stored::{
    Accepted, Arrived, Channel, Effect, Limits, NewMessage, StoreRefusal, StoredKind,
};

/// What a message of a queue says of itself, and the bytes of its body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub visible_at_ns: u64,
    pub expires_at_ns: u64,
    pub moved: Option<MoveId>,
    pub body: usize,
}

impl Sent {
    pub(super) fn payload(&self) -> Vec<u8> {
        let head = QueueHead {
            visible_at_ns: self.visible_at_ns,
            expires_at_ns: self.expires_at_ns,
            receives_max: 1,
            rerouted: false,
            policy_cleared: false,
            dead_letter: "",
            origin: "",
            moved: self.moved.map(|id| (MoveReason::DeadLetter as u8, id)),
        };
        let mut payload = Vec::new();
        head.encode(&mut payload);
        payload.resize(payload.len() + self.body, b'x');
        payload
    }
}

pub(super) fn move_id(from: u16, channel: u32, sequence: u64) -> MoveId {
    MoveId {
        slot: slot(from),
        channel: ChannelId::new(channel),
        sequence: Sequence::new(sequence),
    }
}

pub(super) fn runs(of: &[(u64, u64)]) -> Vec<Run> {
    let run = |&(first, last): &(u64, u64)| Run {
        first: Sequence::new(first),
        last: Sequence::new(last),
    };
    of.iter().map(run).collect()
}

impl Fixture {
    pub(super) fn try_queue_message(
        &mut self,
        queue: &str,
        sent: Sent,
        now_ns: u64,
        limits: &Limits,
    ) -> Result<Accepted, StoreRefusal> {
        let payload = sent.payload();
        let request = NewMessage {
            slot: slot(3),
            kind: StoredKind::Queue,
            channel: queue,
            now_ns,
            encoding: 2,
            payload_len: u32::try_from(payload.len()).unwrap(),
            moved: sent.moved,
            limits,
        };
        let mut write = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
        self.slots
            .prepare_message(&mut self.tape, request, &mut write)
    }

    pub(super) fn queue_message(&mut self, queue: &str, sent: Sent, now_ns: u64) -> Accepted {
        self.try_queue_message(queue, sent, now_ns, &NONE).unwrap()
    }

    pub(super) fn settle(
        &mut self,
        key: ChannelKey,
        reason: SettleReason,
        bytes: u64,
        of: &[(u64, u64)],
        now_ns: u64,
    ) {
        let settled =
            self.slots
                .prepare_settle(&mut self.tape, key, reason, bytes, &runs(of), now_ns);
        settled.unwrap();
    }

    pub(super) fn requeue(&mut self, key: ChannelKey, entries: &[(u64, u32)], now_ns: u64) {
        let entry = |&(old, receives): &(u64, u32)| Requeued {
            old: Sequence::new(old),
            receives,
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let requeued = self
            .slots
            .prepare_requeue(&mut self.tape, key, &entries, now_ns);
        requeued.unwrap();
    }

    pub(super) fn count(&mut self, key: ChannelKey, entries: &[(u64, u32, u32)], now_ns: u64) {
        let entry = |&(first, count, receives): &(u64, u32, u32)| Counted {
            first: Sequence::new(first),
            count,
            receives,
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let counted = self
            .slots
            .prepare_count(&mut self.tape, key, &entries, now_ns);
        counted.unwrap();
    }

    pub(super) fn begin_move(&mut self, key: ChannelKey, of: u64, target: &str, now_ns: u64) {
        let (of, reason) = (Sequence::new(of), MoveReason::DeadLetter);
        let begun = self
            .slots
            .prepare_move(&mut self.tape, key, of, reason, target, now_ns);
        begun.unwrap();
    }

    fn cancel_move(&mut self, key: ChannelKey, of: u64, now_ns: u64) {
        let of = Sequence::new(of);
        let cancelled = self
            .slots
            .prepare_move_cancel(&mut self.tape, key, of, now_ns);
        cancelled.unwrap();
    }

    pub(super) fn queue(&self, key: ChannelKey) -> &QueueState {
        self.slots.queue(key).unwrap()
    }

    pub(super) fn live(&self, key: ChannelKey) -> Vec<(u64, u64)> {
        let live = self.queue(key).live();
        live.map(|(first, last)| (first.get(), last.get()))
            .collect()
    }

    fn detail(&self, key: ChannelKey, of: u64) -> Option<Detail> {
        self.queue(key).detail(Sequence::new(of)).copied()
    }

    fn first(&self, key: ChannelKey) -> u64 {
        self.slots.channel(key).unwrap().first.get()
    }
}

/// A queue with so many plain messages of 32 bytes.
pub(super) fn filled(messages: u64) -> (Fixture, ChannelKey) {
    let mut broker = Fixture::new();
    for _ in 1..messages {
        broker.queue_message("jobs", Sent::default(), 1);
    }
    let key = broker.queue_message("jobs", Sent::default(), 1).key;
    broker.commit();
    (broker, key)
}

#[test]
fn messages_wait_in_runs_and_only_exceptions_have_details() {
    let (mut broker, key) = filled(3);
    let delayed = Sent {
        visible_at_ns: 50,
        body: 8,
        ..Sent::default()
    };
    broker.queue_message("jobs", delayed, 2);
    assert_eq!(
        broker.live(key),
        [(1, 3)],
        "nothing changes before the commit"
    );
    let last = Sequence::new(4);
    assert_eq!(broker.commit(), [Effect::Stored { key, last }]);
    assert_eq!(broker.live(key), [(1, 4)]);
    assert_eq!(broker.queue(key).bytes(), 3 * 32 + 40);
    assert_eq!(broker.detail(key, 3), None);
    let expected = Detail {
        body: last,
        visible_at_ns: 50,
        expires_at_ns: 0,
        receives: 0,
        len: 40,
    };
    assert_eq!(broker.detail(key, 4), Some(expected));
    assert_eq!(broker.slots.channel(key).unwrap().messages(), 4);
}

#[test]
fn settled_messages_are_gone_and_counted_by_their_reason() {
    let (mut broker, key) = filled(9);
    broker.settle(key, SettleReason::Acked, 64, &[(2, 3)], 2);
    broker.settle(key, SettleReason::Expired, 32, &[(5, 5)], 2);
    // Absent ones are ignored, and so are their bytes when nothing is left of them.
    broker.settle(key, SettleReason::Acked, 0, &[(3, 3)], 2);
    assert_eq!(broker.commit(), []);
    assert_eq!(broker.live(key), [(1, 1), (4, 4), (6, 9)]);
    let counters = *broker.queue(key).counters();
    assert_eq!((counters.sent, counters.acked, counters.expired), (9, 2, 1));
    assert_eq!((counters.acked_bytes, counters.settled()), (64, 3));
    assert_eq!(broker.queue(key).bytes(), 6 * 32);
    broker.settle(key, SettleReason::Purged, 1, &[(1, 9)], 3);
    broker.commit();
    assert_eq!(broker.queue(key).counters().purged, 6);
    assert_eq!(broker.queue(key).bytes(), 0, "an empty queue has no bytes");
}

#[test]
fn the_floor_follows_what_is_needed() {
    let (mut broker, key) = filled(5);
    assert_eq!(broker.queue(key).floor().get(), 0);
    broker.settle(key, SettleReason::Acked, 32, &[(2, 2)], 2);
    broker.commit();
    assert_eq!(broker.first(key), 1);
    broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 2);
    broker.commit();
    assert_eq!(
        broker.first(key),
        3,
        "the record sees what it removes itself"
    );
    // To the tail: the body stays where it is.
    broker.requeue(key, &[(3, 1)], 3);
    broker.settle(key, SettleReason::Acked, 64, &[(4, 5)], 3);
    broker.commit();
    assert_eq!((broker.first(key), broker.queue(key).floor().get()), (3, 2));
    broker.settle(key, SettleReason::Acked, 32, &[(6, 6)], 4);
    broker.commit();
    // Its displaced body counted still when the record was written; a trim makes up for it.
    assert_eq!((broker.first(key), broker.queue(key).floor().get()), (3, 6));
    let all = Sequence::new(100);
    let trimmed = broker.slots.prepare_trim(&mut broker.tape, key, all, 5);
    trimmed.unwrap();
    broker.commit();
    assert_eq!(broker.first(key), 7);
}

#[test]
fn a_trim_takes_nothing_that_is_needed() {
    let (mut broker, key) = filled(4);
    broker.settle(key, SettleReason::Acked, 32, &[(1, 1), (3, 3)], 2);
    broker.commit();
    let all = Sequence::new(4);
    broker
        .slots
        .prepare_trim(&mut broker.tape, key, all, 3)
        .unwrap();
    broker.commit();
    assert_eq!(
        (broker.first(key), broker.live(key)),
        (2, vec![(2, 2), (4, 4)])
    );
}

#[test]
fn a_requeued_message_has_a_new_place_and_its_old_body() {
    let (mut broker, key) = filled(3);
    broker.requeue(key, &[(1, 1), (2, 4)], 2);
    let sent = broker.queue_message("jobs", Sent::default(), 2);
    assert_eq!(sent.sequence.get(), 6, "sequences of a decision are taken");
    let last = Sequence::new(6);
    assert_eq!(broker.commit(), [Effect::Stored { key, last }]);
    assert_eq!(broker.live(key), [(3, 6)]);
    let queue = broker.queue(key);
    let bodies = [4, 5, 6].map(|of| queue.body_of(Sequence::new(of)).get());
    let receives = [3, 4, 5].map(|of| queue.receives(Sequence::new(of)));
    assert_eq!((bodies, receives), ([1, 2, 6], [0, 1, 4]));
    let kept = [1, 2, 3, 4, 5, 6].map(|of| queue.keeps_body(Sequence::new(of)));
    assert_eq!(kept, [true, true, true, false, false, true]);
    // Once more, and an absent one: its sequence is used up.
    broker.requeue(key, &[(4, 2), (1, 9), (6, 1)], 3);
    broker.commit();
    assert_eq!(broker.live(key), [(3, 3), (5, 5), (7, 7), (9, 9)]);
    let queue = broker.queue(key);
    let bodies = [7, 9].map(|of| queue.body_of(Sequence::new(of)).get());
    assert_eq!(bodies, [1, 6]);
    assert_eq!(queue.receives(Sequence::new(7)), 2);
    let channel = broker.slots.channel(key).unwrap();
    assert_eq!(
        (channel.last, queue.last()),
        (Sequence::new(9), Sequence::new(9))
    );
}

#[test]
fn a_requeued_message_keeps_its_expiration_and_loses_its_delay() {
    let (mut broker, key) = filled(1);
    let sent = Sent {
        visible_at_ns: 5,
        expires_at_ns: 90,
        ..Sent::default()
    };
    broker.queue_message("jobs", sent, 2);
    broker.requeue(key, &[(2, 1)], 6);
    broker.commit();
    let expected = Detail {
        body: Sequence::new(2),
        visible_at_ns: 0,
        expires_at_ns: 90,
        receives: 1,
        len: 32,
    };
    assert_eq!(broker.detail(key, 3), Some(expected));
}

#[test]
fn counts_are_set_and_taken_back() {
    let (mut broker, key) = filled(6);
    broker.settle(key, SettleReason::Acked, 32, &[(3, 3)], 2);
    broker.count(key, &[(2, 3, 1), (6, 1, 7)], 2);
    assert_eq!(broker.commit(), []);
    let receives = |broker: &Fixture| {
        [1, 2, 3, 4, 5, 6].map(|of| broker.queue(key).receives(Sequence::new(of)))
    };
    assert_eq!(receives(&broker), [0, 1, 0, 1, 0, 7]);
    assert_eq!(
        broker.detail(key, 3),
        None,
        "of what is gone nothing is said"
    );
    broker.count(key, &[(1, 4, 0)], 3);
    broker.commit();
    assert_eq!(receives(&broker), [0, 0, 0, 0, 0, 7]);
    let details = broker.queue(key).details_from(Sequence::new(1));
    assert_eq!(details.count(), 1, "what is plain again costs nothing");
}

#[test]
fn a_move_is_open_until_it_is_settled_or_cancelled() {
    let (mut broker, key) = filled(3);
    let sequence = Sequence::new(2);
    broker.begin_move(key, 2, "dead", 2);
    // A second one, or one of nothing, changes nothing.
    broker.begin_move(key, 2, "elsewhere", 2);
    broker.begin_move(key, 1, "dead", 2);
    broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 2);
    let first = Sequence::new(1);
    let begun = [sequence, first].map(|sequence| Effect::MoveCommitted { key, sequence });
    assert_eq!(broker.commit(), begun);
    let moves: Vec<_> = broker.queue(key).moves().collect();
    assert_eq!(moves.len(), 1, "what is settled is on its way no more");
    assert_eq!((moves[0].0, &*moves[0].1.target), (sequence, "dead"));
    assert_eq!(moves[0].1.reason, MoveReason::DeadLetter);
    assert_eq!(
        broker.live(key),
        [(2, 3)],
        "the body is needed until the target has it"
    );
    // It does not go to the tail meanwhile.
    broker.requeue(key, &[(2, 1)], 3);
    broker.commit();
    assert_eq!(broker.live(key), [(2, 3)]);
    broker.cancel_move(key, 2, 4);
    broker.cancel_move(key, 3, 4);
    assert_eq!(broker.commit(), [Effect::MoveCancelled { key, sequence }]);
    assert_eq!(broker.queue(key).moves().count(), 0);
    broker.begin_move(key, 2, "dead", 5);
    broker.settle(key, SettleReason::DeadLettered, 32, &[(2, 2)], 5);
    broker.commit();
    assert_eq!(broker.live(key), [(3, 3)]);
    assert_eq!(broker.queue(key).counters().dead_lettered, 1);
}

#[test]
fn a_move_arrives_once_until_it_is_forgotten() {
    let mut broker = Fixture::new();
    let id = move_id(7, 1, 42);
    let moved = Sent {
        moved: Some(id),
        ..Sent::default()
    };
    assert_eq!(broker.slots.arrived(slot(3), &id), Arrived::No);
    let key = broker.queue_message("dead", moved, 1).key;
    assert_eq!(broker.slots.arrived(slot(3), &id), Arrived::Pending);
    let again = broker.try_queue_message("other", moved, 1, &NONE);
    assert_eq!(again, Err(StoreRefusal::AlreadyHere));
    broker.commit();
    assert_eq!(broker.slots.arrived(slot(3), &id), Arrived::Yes);
    broker.settle(key, SettleReason::Acked, 48, &[(1, 1)], 2);
    broker.commit();
    let again = broker.try_queue_message("dead", moved, 3, &NONE);
    assert_eq!(again, Err(StoreRefusal::AlreadyHere), "consumed or not");
    assert_eq!(broker.slots.arrivals().collect::<Vec<_>>(), [(slot(3), id)]);
    let forget = [id, move_id(7, 1, 43)];
    let slots = &mut broker.slots;
    let forgotten = slots.prepare_forget(&mut broker.tape, slot(3), &forget, 4);
    forgotten.unwrap();
    broker.commit();
    assert_eq!(broker.slots.arrived(slot(3), &id), Arrived::No);
    let records = broker.tape.taken.len();
    let slots = &mut broker.slots;
    slots
        .prepare_forget(&mut broker.tape, slot(3), &forget, 5)
        .unwrap();
    assert_eq!(
        broker.tape.taken.len(),
        records,
        "nothing is forgotten twice"
    );
}

#[test]
fn what_is_decided_of_a_queue_that_is_gone_is_no_record() {
    let (mut broker, key) = filled(2);
    broker.delete(key, 2);
    let records = broker.tape.taken.len();
    for _ in 0..2 {
        broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 3);
        broker.requeue(key, &[(1, 1)], 3);
        broker.count(key, &[(1, 1, 1)], 3);
        broker.begin_move(key, 1, "dead", 3);
        broker.cancel_move(key, 1, 3);
        assert_eq!(broker.tape.taken.len(), records);
        broker.commit();
        assert!(broker.slots.queue(key).is_none());
    }
}

#[test]
fn a_refused_decision_comes_again_without_being_counted_twice() {
    let (mut broker, key) = filled(10_000);
    let many: Vec<_> = (1..=5000_u64).map(|at| (at * 2, at * 2)).collect();
    // The first record is taken, the second is not.
    broker.tape.refuse_after = Some((1, Refused::Busy));
    let (acked, of) = (SettleReason::Acked, runs(&many));
    let slots = &mut broker.slots;
    let refused = slots.prepare_settle(&mut broker.tape, key, acked, 160_000, &of, 2);
    assert_eq!(refused, Err(Refused::Busy));
    broker.settle(key, acked, 160_000, &many, 2);
    broker.queue_message("jobs", Sent::default(), 2);
    broker.commit();
    let queue = broker.queue(key);
    let counters = queue.counters();
    assert_eq!((counters.acked, counters.acked_bytes), (5000, 160_000));
    assert_eq!((queue.len(), queue.bytes()), (5001, 160_032));
    let settles = broker.tape.taken.iter();
    let settles = settles.filter(|(head, _)| head.kind == RecordKind::QueueSettle);
    assert_eq!(settles.count(), 3, "parts of 4096");
}

#[test]
fn a_queue_is_idle_when_it_is_empty() {
    let (mut broker, key) = filled(1);
    assert_eq!(broker.slots.idle_channels(100), []);
    broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 50);
    broker.commit();
    assert_eq!(broker.slots.idle_channels(50), [], "a settlement is a use");
    assert_eq!(broker.slots.idle_channels(100), [key]);
}

#[test]
fn compaction_keeps_what_live_messages_need() {
    let (mut broker, key) = filled(6);
    broker.settle(key, SettleReason::Acked, 96, &[(2, 4)], 2);
    broker.requeue(key, &[(5, 1)], 2);
    let store = broker.send("store", 3).key;
    broker.commit();
    let next = |key, first, last| {
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        let next = broker.slots.next_kept(key, first, last);
        next.map(Sequence::get)
    };
    assert_eq!(next(key, 1, 9), Some(1));
    assert_eq!(next(key, 2, 4), None);
    assert_eq!(next(key, 2, 9), Some(5), "the body of message 7");
    assert_eq!(next(key, 6, 9), Some(6));
    assert_eq!(next(key, 8, 9), None);
    assert_eq!((next(store, 1, 5), next(store, 2, 5)), (Some(1), None));
    let live = Live {
        messages: 3,
        bytes: 96,
    };
    assert_eq!(broker.slots.live(key), Some(live));
    assert_eq!(broker.slots.live(store), None);
}

/// Measured: 461 bytes for a queue that was used, with a name of 20 bytes.
#[test]
fn an_idle_queue_takes_less_than_500_bytes() {
    // A tree that is filled in ascending order uses 6 of the 11 places of a node, a table half
    // of its places at worst; an allocator adds 8 bytes or so.
    let channel = size_of::<(ChannelId, Channel)>() * 11 / 6;
    let name = 2 * (size_of::<(Arc<str>, ChannelId)>() + 1) + 16 + 20 + 8;
    assert!(channel + name + size_of::<QueueState>() + 8 < 500);
    let (mut broker, key) = filled(3);
    broker.requeue(key, &[(2, 1)], 2);
    broker.settle(key, SettleReason::Acked, 96, &[(1, 4)], 2);
    broker.commit();
    assert!(
        broker.queue(key).is_small(),
        "it takes no more for having been used"
    );
}
