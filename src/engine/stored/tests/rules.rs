use ringmq_storage::log::Refused;
use ringmq_storage::{ChannelKey, CursorId, Sequence};

use super::tape::{Tape, slot};
use crate::engine::stored::{
    Accepted, CursorOwner, Effect, Limits, NewMessage, Slots, StoreRefusal, StoredKind,
};

pub(super) const NONE: Limits = Limits {
    channels_max: 0,
    channels_elsewhere: 0,
    messages_max: 0,
    bytes_max: 0,
    drop_oldest: false,
    cursors_per_channel_max: 0,
};

/// A broker with one log of one slot.
pub(super) struct Fixture {
    pub slots: Slots,
    pub tape: Tape,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let mut slots = Slots::new([slot(3)]);
        slots.go_live();
        let tape = Tape::default();
        Self { slots, tape }
    }

    pub(super) fn try_send(
        &mut self,
        channel: &str,
        len: usize,
        now_ns: u64,
        limits: &Limits,
    ) -> Result<Accepted, StoreRefusal> {
        let request = NewMessage {
            slot: slot(3),
            kind: StoredKind::EventsStore,
            channel,
            now_ns,
            encoding: 1,
            payload_len: u32::try_from(len).unwrap(),
            moved: None,
            limits,
        };
        let mut write = |out: &mut Vec<u8>| out.resize(out.len() + len, b'x');
        self.slots
            .prepare_message(&mut self.tape, request, &mut write)
    }

    pub(super) fn send(&mut self, channel: &str, now_ns: u64) -> Accepted {
        self.try_send(channel, 10, now_ns, &NONE).unwrap()
    }

    pub(super) fn cursor(&mut self, key: ChannelKey, name: &str, at: u64, now_ns: u64) -> CursorId {
        let (owner, at) = (CursorOwner::Client, Sequence::new(at));
        let made = self
            .slots
            .prepare_cursor(&mut self.tape, key, owner, name, at, now_ns, &NONE);
        made.unwrap()
    }

    pub(super) fn moves(&mut self, now_ns: u64, moves: &[(CursorId, u64)]) {
        let moves: Vec<_> = moves
            .iter()
            .map(|(id, to)| (*id, Sequence::new(*to)))
            .collect();
        let prepared = self
            .slots
            .prepare_moves(&mut self.tape, slot(3), now_ns, &moves);
        prepared.unwrap();
    }

    pub(super) fn delete(&mut self, key: ChannelKey, now_ns: u64) {
        let deleted = self
            .slots
            .prepare_channel_delete(&mut self.tape, key, now_ns);
        deleted.unwrap();
    }

    pub(super) fn commit(&mut self) -> Vec<Effect> {
        self.tape.commit(&mut self.slots, usize::MAX);
        let mut effects = Vec::new();
        self.slots.take_effects(&mut effects);
        effects
    }

    fn find(&self, name: &str) -> Option<ChannelKey> {
        self.slots.find(slot(3), StoredKind::EventsStore, name)
    }

    fn position(&self, key: ChannelKey, name: &str) -> Option<u64> {
        let found = self.slots.cursor(key, CursorOwner::Client, name);
        found.map(|(_, position)| position.get())
    }
}

#[test]
fn nothing_changes_before_the_record_is_applied() {
    let mut broker = Fixture::new();
    let sent = broker.send("orders", 100);
    assert_eq!((sent.sequence.get(), sent.timestamp_ns), (1, 100));
    assert_eq!(broker.find("orders"), None);
    assert_eq!(broker.send("orders", 100).sequence.get(), 2);
    let told = broker.commit();
    let key = sent.key;
    assert_eq!(broker.find("orders"), Some(key));
    let last = Sequence::new(2);
    assert_eq!(
        told,
        [Effect::Created { key }, Effect::Stored { key, last }]
    );
    let channel = broker.slots.channel(key).unwrap();
    assert_eq!((channel.first.get(), channel.last.get()), (1, 2));
    assert_eq!(channel.messages(), 2);
}

#[test]
fn a_commit_tells_each_channel_once() {
    let mut broker = Fixture::new();
    let (a, b) = (broker.send("a", 1).key, broker.send("b", 1).key);
    for _ in 0..10 {
        broker.send("a", 2);
        broker.send("b", 2);
    }
    let stored = broker
        .commit()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Stored { key, last } => Some((key, last.get())),
            _ => None,
        });
    assert_eq!(stored.collect::<Vec<_>>(), [(a, 11), (b, 11)]);
    broker.send("b", 3);
    let last = Sequence::new(12);
    assert_eq!(broker.commit(), [Effect::Stored { key: b, last }]);
}

#[test]
fn recovery_tells_nobody() {
    let mut broker = Fixture::new();
    broker.send("orders", 1);
    broker.commit();
    let mut replayed = broker.tape.replay([slot(3)]);
    let mut told = Vec::new();
    replayed.take_effects(&mut told);
    assert_eq!(told, []);
}

#[test]
fn time_does_not_go_back_with_the_clock() {
    let mut broker = Fixture::new();
    assert_eq!(broker.send("a", 500).timestamp_ns, 500);
    assert_eq!(broker.send("b", 400).timestamp_ns, 500);
    broker.commit();
    assert_eq!(broker.send("a", 300).timestamp_ns, 500);
    assert_eq!(broker.send("a", 600).timestamp_ns, 600);
}

#[test]
fn a_purge_keeps_the_numbering() {
    let mut broker = Fixture::new();
    let key = broker.send("orders", 1).key;
    broker.send("orders", 1);
    broker.commit();
    let last = Sequence::new(2);
    broker
        .slots
        .prepare_trim(&mut broker.tape, key, last, 2)
        .unwrap();
    assert_eq!(broker.send("orders", 3).sequence.get(), 3);
    let told = broker.commit();
    let trimmed = Effect::Trimmed {
        key,
        through: last,
        messages: 2,
    };
    assert_eq!(told.first(), Some(&trimmed));
    let channel = broker.slots.channel(key).unwrap();
    assert_eq!((channel.first.get(), channel.last.get()), (3, 3));
}

#[test]
fn a_channel_made_anew_is_another_one() {
    let mut broker = Fixture::new();
    let old = broker.send("orders", 1).key;
    broker.send("orders", 1);
    broker.cursor(old, "reader", 1, 1);
    broker.commit();
    broker.delete(old, 2);
    let new = broker.send("orders", 3);
    assert_eq!(new.sequence.get(), 1);
    assert_ne!(new.key, old);
    let told = broker.commit();
    assert_eq!(told.first(), Some(&Effect::Deleted { key: old }));
    assert_eq!(broker.find("orders"), Some(new.key));
    assert!(broker.slots.channel(old).is_none());
    assert_eq!(broker.position(new.key, "reader"), None);
    let trim = broker
        .slots
        .prepare_trim(&mut broker.tape, old, Sequence::new(1), 4);
    assert_eq!(trim, Err(StoreRefusal::NoChannel));
}

#[test]
fn numbers_of_deleted_channels_do_not_come_back_after_a_start() {
    let mut broker = Fixture::new();
    let old = broker.send("orders", 1).key;
    broker.commit();
    broker.delete(old, 2);
    broker.commit();
    broker.slots = broker.tape.replay([slot(3)]);
    assert_ne!(broker.send("orders", 3).key, old);
}

#[test]
fn kinds_are_name_spaces_of_their_own() {
    let mut broker = Fixture::new();
    let events = broker.send("orders", 1).key;
    let queue = broker.slots.prepare_channel(
        &mut broker.tape,
        slot(3),
        StoredKind::Queue,
        "orders",
        1,
        &NONE,
    );
    let queue = queue.unwrap();
    broker.commit();
    assert_ne!(queue, events);
    assert_eq!(
        broker.slots.find(slot(3), StoredKind::Queue, "orders"),
        Some(queue)
    );
    assert_eq!(broker.slots.channel(queue).unwrap().last.get(), 0);
}

#[test]
fn a_client_and_a_group_of_one_name_have_positions_of_their_own() {
    let mut broker = Fixture::new();
    let key = broker.send("orders", 1).key;
    let client = broker.cursor(key, "billing", 1, 1);
    let (owner, zero) = (CursorOwner::Group, Sequence::new(0));
    let group =
        broker
            .slots
            .prepare_cursor(&mut broker.tape, key, owner, "billing", zero, 1, &NONE);
    assert_ne!(group, Ok(client));
    broker.commit();
    assert_eq!(
        broker.slots.cursor(key, owner, "billing"),
        Some((group.unwrap(), zero))
    );
    assert_eq!(broker.position(key, "billing"), Some(1));
}

#[test]
fn a_position_is_found_while_its_creation_is_on_its_way() {
    let mut broker = Fixture::new();
    let key = broker.send("orders", 1).key;
    let made = broker.cursor(key, "reader", 0, 1);
    assert_eq!(broker.cursor(key, "reader", 1, 1), made);
    assert_eq!(broker.position(key, "reader"), None);
    broker.commit();
    assert_eq!(broker.position(key, "reader"), Some(0));
}

#[test]
fn a_position_never_goes_back_or_beyond_the_last_message() {
    let mut broker = Fixture::new();
    let key = broker.send("orders", 1).key;
    for _ in 0..4 {
        broker.send("orders", 1);
    }
    let reader = broker.cursor(key, "reader", 9, 1);
    let other = broker.cursor(key, "other", 0, 1);
    broker.commit();
    assert_eq!(broker.position(key, "reader"), Some(5));
    broker.moves(2, &[(reader, 3), (other, 2)]);
    broker.moves(2, &[(other, 1)]);
    broker.moves(2, &[(other, 4), (reader, 70)]);
    broker.commit();
    assert_eq!(broker.position(key, "reader"), Some(5));
    assert_eq!(broker.position(key, "other"), Some(4));
    let taken = broker.tape.taken.len();
    broker.moves(3, &[(other, 4), (reader, 1)]);
    assert_eq!(
        broker.tape.taken.len(),
        taken,
        "moves that lead nowhere cost no record"
    );
}

#[test]
fn moves_of_what_is_being_deleted_are_left_out() {
    let mut broker = Fixture::new();
    let (a, b) = (broker.send("a", 1).key, broker.send("b", 1).key);
    let in_a = broker.cursor(a, "reader", 0, 1);
    let in_b = broker.cursor(b, "reader", 0, 1);
    broker.commit();
    broker.delete(a, 2);
    broker
        .slots
        .prepare_cursor_delete(&mut broker.tape, b, in_b, 2)
        .unwrap();
    let taken = broker.tape.taken.len();
    broker.moves(2, &[(in_a, 1), (in_b, 1)]);
    assert_eq!(broker.tape.taken.len(), taken);
    let again = broker.cursor(b, "reader", 0, 2);
    assert_ne!(again, in_b);
    broker.commit();
    broker.moves(3, &[(in_a, 1), (in_b, 1), (again, 1)]);
    broker.commit();
    assert_eq!(broker.position(b, "reader"), Some(1));
}

#[test]
fn a_refused_record_leaves_no_trace() {
    let mut broker = Fixture::new();
    let key = broker.send("orders", 1).key;
    let reader = broker.cursor(key, "reader", 0, 1);
    broker.commit();
    let refuse = |broker: &mut Fixture| broker.tape.refuse_after = Some((0, Refused::Busy));
    let busy = || StoreRefusal::Log(Refused::Busy);
    let (one, now) = (Sequence::new(1), 900);

    refuse(&mut broker);
    assert_eq!(broker.try_send("orders", 10, now, &NONE), Err(busy()));
    refuse(&mut broker);
    assert_eq!(broker.try_send("new", 10, now, &NONE), Err(busy()));
    refuse(&mut broker);
    let moved = broker
        .slots
        .prepare_moves(&mut broker.tape, slot(3), now, &[(reader, one)]);
    assert_eq!(moved, Err(Refused::Busy));
    refuse(&mut broker);
    let trimmed = broker.slots.prepare_trim(&mut broker.tape, key, one, now);
    assert_eq!(trimmed, Err(busy()));
    refuse(&mut broker);
    let deleted = broker
        .slots
        .prepare_cursor_delete(&mut broker.tape, key, reader, now);
    assert_eq!(deleted, Err(busy()));
    refuse(&mut broker);
    let deleted = broker
        .slots
        .prepare_channel_delete(&mut broker.tape, key, now);
    assert_eq!(deleted, Err(busy()));

    assert!(broker.slots.is_settled(slot(3)));
    assert_eq!(broker.commit(), []);
    // Not even the time of what was refused counts.
    let next = broker.send("orders", 2);
    assert_eq!((next.sequence.get(), next.timestamp_ns), (2, 2));
    assert_eq!(broker.send("new", 3).key.channel.get(), 2);
}

#[test]
fn the_time_of_the_last_use_tells_idle_positions_and_channels() {
    let mut broker = Fixture::new();
    let (a, b) = (broker.send("a", 100).key, broker.send("b", 200).key);
    let in_a = broker.cursor(a, "reader", 0, 100);
    let in_b = broker.cursor(b, "reader", 0, 200);
    broker.commit();
    broker.moves(300, &[(in_a, 1)]);
    broker.commit();
    broker.slots = broker.tape.replay([slot(3)]);
    assert_eq!(broker.slots.idle_cursors(200), []);
    assert_eq!(broker.slots.idle_cursors(201), [(b, in_b)]);
    assert_eq!(broker.slots.idle_cursors(301), [(a, in_a), (b, in_b)]);

    assert_eq!(
        broker.slots.idle_channels(1000),
        [],
        "they hold messages and positions"
    );
    for (key, cursor) in [(a, in_a), (b, in_b)] {
        let deleted = broker
            .slots
            .prepare_cursor_delete(&mut broker.tape, key, cursor, 400);
        deleted.unwrap();
    }
    for key in [a, b] {
        let trimmed = broker
            .slots
            .prepare_trim(&mut broker.tape, key, Sequence::new(1), 500);
        trimmed.unwrap();
    }
    assert_eq!(broker.slots.idle_channels(1000), []);
    broker.commit();
    assert_eq!(broker.slots.idle_channels(400), []);
    assert_eq!(
        broker.slots.idle_channels(401),
        [a, b],
        "a deletion is a use, a trim is not"
    );
    broker.send("a", 600);
    assert_eq!(
        broker.slots.idle_channels(1000),
        [b],
        "a message is on its way"
    );
}

#[test]
fn idle_queries_are_bounded_and_get_round() {
    let mut slots = Slots::new([slot(1), slot(2)]);
    let mut tape = Tape::default();
    for number in 0..1500 {
        let (at, kind) = (slot(1 + number % 2), StoredKind::EventsStore);
        let name = format!("channel.{number}");
        slots
            .prepare_channel(&mut tape, at, kind, &name, 1, &NONE)
            .unwrap();
    }
    tape.commit(&mut slots, usize::MAX);
    let mut seen = 0;
    for _ in 0..2 {
        let idle = slots.idle_channels(2);
        assert!(idle.len() <= 1024);
        seen += idle.len();
        for key in idle {
            slots.prepare_channel_delete(&mut tape, key, 3).unwrap();
        }
        tape.commit(&mut slots, usize::MAX);
    }
    assert_eq!((seen, slots.channel_count()), (1500, 0));
}
