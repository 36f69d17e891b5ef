use ringmq_storage::log::{Class, Refused};
use ringmq_storage::record::RecordKind;
use ringmq_storage::{ChannelKey, Sequence};

use super::rules::{Fixture, NONE};
use super::tape::slot;
use crate::engine::stored::{CursorOwner, Limits, StoreRefusal, StoredKind};

fn kept(broker: &Fixture, key: ChannelKey) -> (u64, u64) {
    let channel = broker.slots.channel(key).unwrap();
    (channel.first.get(), channel.last.get())
}

#[test]
fn a_channel_too_many_is_refused_and_one_that_goes_makes_room() {
    let limits = Limits {
        channels_max: 2,
        ..NONE
    };
    let mut broker = Fixture::new();
    let first = broker.try_send("a", 1, 1, &limits).unwrap().key;
    broker.try_send("b", 1, 1, &limits).unwrap();
    let refused = Err(StoreRefusal::ChannelLimit { max: 2 });
    assert_eq!(broker.try_send("c", 1, 1, &limits), refused);
    broker.commit();
    assert_eq!(broker.try_send("c", 1, 1, &limits), refused);
    broker.try_send("a", 1, 1, &limits).unwrap();
    broker.delete(first, 2);
    broker.try_send("c", 1, 2, &limits).unwrap();
    assert_eq!(broker.try_send("d", 1, 2, &limits), refused);
    broker.commit();
    assert_eq!(broker.slots.channel_count(), 2);
}

#[test]
fn channels_of_other_logs_count_as_well() {
    let limits = Limits {
        channels_max: 5,
        channels_elsewhere: 4,
        ..NONE
    };
    let mut broker = Fixture::new();
    broker.try_send("a", 1, 1, &limits).unwrap();
    let refused = Err(StoreRefusal::ChannelLimit { max: 5 });
    assert_eq!(broker.try_send("b", 1, 1, &limits), refused);
    broker.try_send("a", 1, 1, &limits).unwrap();
}

#[test]
fn a_full_channel_refuses_also_for_messages_on_their_way() {
    let limits = Limits {
        messages_max: 2,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.try_send("a", 1, 1, &limits).unwrap().key;
    broker.try_send("a", 1, 1, &limits).unwrap();
    let refused = Err(StoreRefusal::MessagesLimit { max: 2 });
    assert_eq!(broker.try_send("a", 1, 1, &limits), refused);
    broker.commit();
    assert_eq!(broker.try_send("a", 1, 1, &limits), refused);
    broker
        .slots
        .prepare_trim(&mut broker.tape, key, Sequence::new(1), 2)
        .unwrap();
    assert_eq!(
        broker.try_send("a", 1, 2, &limits).unwrap().sequence.get(),
        3
    );
    broker.commit();
    assert_eq!(kept(&broker, key), (2, 3));
}

#[test]
fn the_oldest_make_room_when_they_may_be_dropped() {
    let limits = Limits {
        messages_max: 2,
        drop_oldest: true,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.try_send("a", 1, 1, &limits).unwrap().key;
    for _ in 0..5 {
        broker.try_send("a", 1, 1, &limits).unwrap();
    }
    broker.commit();
    assert_eq!(kept(&broker, key), (5, 6));
}

#[test]
fn a_refused_message_costs_no_old_one() {
    let limits = Limits {
        messages_max: 1,
        drop_oldest: true,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.try_send("a", 1, 1, &limits).unwrap().key;
    broker.commit();
    broker.tape.refuse_after = Some((0, Refused::Full));
    broker.try_send("a", 1, 1, &limits).unwrap_err();
    broker.commit();
    assert_eq!(kept(&broker, key), (1, 1));
    // The message is in, its trim is not: the next message makes up for it.
    broker.tape.refuse_after = Some((1, Refused::Busy));
    broker.try_send("a", 1, 1, &limits).unwrap();
    broker.commit();
    assert_eq!(kept(&broker, key), (1, 2));
    broker.try_send("a", 1, 1, &limits).unwrap();
    broker.commit();
    assert_eq!(kept(&broker, key), (3, 3));
}

#[test]
fn bytes_are_counted_with_those_on_their_way() {
    let limits = Limits {
        bytes_max: 100,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.try_send("a", 40, 1, &limits).unwrap().key;
    broker.try_send("a", 40, 1, &limits).unwrap();
    let refused = Err(StoreRefusal::BytesLimit { max: 100 });
    assert_eq!(broker.try_send("a", 40, 1, &limits), refused);
    broker.commit();
    assert_eq!(broker.try_send("a", 40, 1, &limits), refused);
    broker.try_send("a", 20, 1, &limits).unwrap();
    assert_eq!(broker.try_send("a", 1, 1, &limits), refused);
    // A purge makes room at once.
    broker.commit();
    broker
        .slots
        .prepare_trim(&mut broker.tape, key, Sequence::new(3), 2)
        .unwrap();
    broker.try_send("a", 100, 2, &limits).unwrap();
    assert_eq!(broker.try_send("a", 1, 2, &limits), refused);
}

#[test]
fn the_oldest_make_room_for_bytes() {
    let limits = Limits {
        bytes_max: 100,
        drop_oldest: true,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.try_send("a", 40, 1, &limits).unwrap().key;
    broker.try_send("a", 40, 1, &limits).unwrap();
    broker.commit();
    broker.try_send("a", 30, 1, &limits).unwrap();
    broker.commit();
    assert_eq!(kept(&broker, key), (2, 3));
    broker.try_send("a", 100, 1, &limits).unwrap();
    broker.commit();
    assert_eq!(kept(&broker, key), (4, 4));
    let refused = Err(StoreRefusal::BytesLimit { max: 100 });
    assert_eq!(broker.try_send("a", 101, 1, &limits), refused);
    assert_eq!(broker.try_send("b", 101, 1, &limits), refused);
    assert_eq!(
        broker.commit(),
        [],
        "what can never be stored makes no channel"
    );
    assert_eq!(kept(&broker, key), (4, 4));
}

#[test]
fn a_position_too_many_is_refused() {
    let limits = Limits {
        cursors_per_channel_max: 2,
        ..NONE
    };
    let mut broker = Fixture::new();
    let key = broker.send("a", 1).key;
    let make = |broker: &mut Fixture, name: &str| {
        let (owner, at) = (CursorOwner::Client, Sequence::new(0));
        let (slots, tape) = (&mut broker.slots, &mut broker.tape);
        slots.prepare_cursor(tape, key, owner, name, at, 1, &limits)
    };
    let first = make(&mut broker, "one").unwrap();
    make(&mut broker, "two").unwrap();
    let refused = Err(StoreRefusal::CursorLimit { max: 2 });
    assert_eq!(make(&mut broker, "three"), refused);
    assert_eq!(
        make(&mut broker, "one"),
        Ok(first),
        "one that is there is no new one"
    );
    broker.commit();
    assert_eq!(make(&mut broker, "three"), refused);
    broker
        .slots
        .prepare_cursor_delete(&mut broker.tape, key, first, 2)
        .unwrap();
    make(&mut broker, "three").unwrap();
    assert_eq!(make(&mut broker, "four"), refused);
}

#[test]
fn names_have_bounds() {
    let mut broker = Fixture::new();
    let long = "x".repeat(257);
    let refused = StoreRefusal::NameLength { len: 257, max: 256 };
    assert_eq!(broker.try_send(&long, 1, 1, &NONE), Err(refused));
    let refused = StoreRefusal::NameLength { len: 0, max: 256 };
    assert_eq!(broker.try_send("", 1, 1, &NONE), Err(refused));
    broker.try_send(&long[1..], 1, 1, &NONE).unwrap();
    broker.commit();
}

#[test]
fn only_what_frees_space_may_use_the_last_of_it() {
    let mut broker = Fixture::new();
    let key = broker.send("a", 1).key;
    let (kind, name) = (StoredKind::EventsStore, "b");
    broker
        .slots
        .prepare_channel(&mut broker.tape, slot(3), kind, name, 1, &NONE)
        .unwrap();
    let reader = broker.cursor(key, "reader", 0, 1);
    broker.commit();
    broker.moves(2, &[(reader, 1)]);
    broker
        .slots
        .prepare_cursor_delete(&mut broker.tape, key, reader, 2)
        .unwrap();
    broker
        .slots
        .prepare_trim(&mut broker.tape, key, Sequence::new(1), 2)
        .unwrap();
    broker.delete(key, 2);
    let classes = broker
        .tape
        .taken
        .iter()
        .map(|(head, class)| (head.kind, *class));
    let expected = [
        (RecordKind::ChannelCreate, Class::Message),
        (RecordKind::Message, Class::Message),
        (RecordKind::ChannelCreate, Class::Message),
        (RecordKind::CursorCreate, Class::Message),
        (RecordKind::CursorMove, Class::System),
        (RecordKind::CursorDelete, Class::System),
        (RecordKind::Trim, Class::System),
        (RecordKind::ChannelDelete, Class::System),
    ];
    assert_eq!(classes.collect::<Vec<_>>(), expected);
}
