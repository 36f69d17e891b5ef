use ringmq_storage::log::Apply;
use ringmq_storage::{ChannelKey, FrameIndex, Sequence};

use super::model::random_tape;
use super::queue_model::random_queue_tape;
use super::queue_rules::Sent;
use super::rules::Fixture;
use super::tape::{Tape, restore, section, slot, with_frame};
use crate::engine::queues::SettleReason;
use crate::engine::stored::{CursorOwner, Slots, StoredKind};

/// Replays a tape of which some frames are lost, as recovery does.
fn replay_without(tape: &Tape, slots: &mut Slots, mut is_lost: impl FnMut(usize) -> bool) {
    for (number, bytes) in tape.frames[..tape.committed].iter().enumerate() {
        if is_lost(number) {
            continue;
        }
        with_frame(bytes, |frame| {
            let slot = frame.header.slot.unwrap();
            let before = FrameIndex::new(frame.header.index.get() - 1);
            if slots.applied(slot).0 < before {
                slots.lost(slot, before);
            }
            slots.apply(frame).unwrap_or_else(|bad| panic!("{bad}"));
        });
    }
    slots.go_live();
}

/// Each call is one frame, and the frames that `lost` names are lost.
fn after(steps: &[&dyn Fn(&mut Fixture)], lost: &[usize]) -> Fixture {
    let mut broker = Fixture::new();
    let mut frames = Vec::new();
    for step in steps {
        step(&mut broker);
        broker.commit();
        frames.push(broker.tape.frames.len());
    }
    let mut slots = Slots::new([slot(3)]);
    replay_without(&broker.tape, &mut slots, |number| {
        let step = frames.partition_point(|end| *end <= number);
        lost.contains(&step)
    });
    broker.slots = slots;
    broker
}

fn find(broker: &Fixture, name: &str) -> Option<ChannelKey> {
    broker.slots.find(slot(3), StoredKind::EventsStore, name)
}

#[test]
fn messages_behind_a_gap_keep_their_sequences() {
    let send = |broker: &mut Fixture| {
        broker.send("orders", 1);
    };
    let mut broker = after(&[&send, &send, &send, &send], &[1, 2]);
    let channel = broker
        .slots
        .channel(find(&broker, "orders").unwrap())
        .unwrap();
    assert_eq!((channel.first.get(), channel.last.get()), (1, 4));
    assert_eq!(broker.send("orders", 2).sequence.get(), 5);
}

#[test]
fn messages_of_a_channel_whose_creation_is_lost_are_found_under_another_name() {
    let create = |broker: &mut Fixture| {
        broker.send("orders", 1);
    };
    let send = |broker: &mut Fixture| {
        broker.send("orders", 5);
        broker.send("orders", 5);
    };
    let mut broker = after(&[&create, &send], &[0]);
    assert_eq!(find(&broker, "orders"), None);
    let found = find(&broker, "recovered.3.1").unwrap();
    let channel = broker.slots.channel(found).unwrap();
    assert_eq!((channel.last.get(), channel.created_ns), (3, 5));
    let anew = broker.send("orders", 6);
    assert_eq!((anew.sequence.get(), anew.key.channel.get()), (1, 2));
}

#[test]
fn a_channel_whose_deletion_is_lost_makes_room_for_its_successor() {
    let first = |broker: &mut Fixture| {
        let key = broker.send("orders", 1).key;
        broker.cursor(key, "reader", 1, 1);
    };
    let delete = |broker: &mut Fixture| {
        let key = find(broker, "orders").unwrap();
        broker.delete(key, 2);
    };
    let second = |broker: &mut Fixture| {
        broker.send("orders", 3);
    };
    let broker = after(&[&first, &delete, &second], &[1]);
    let key = find(&broker, "orders").unwrap();
    assert_eq!(key.channel.get(), 2);
    assert_eq!(broker.slots.channel_count(), 1);
    assert_eq!(broker.slots.cursors(key).count(), 0);
}

#[test]
fn positions_behind_a_gap_hold_as_far_as_they_are_known() {
    let first = |broker: &mut Fixture| {
        let key = broker.send("orders", 1).key;
        broker.cursor(key, "known", 0, 1);
    };
    let lost = |broker: &mut Fixture| {
        let key = broker.send("orders", 2).key;
        broker.cursor(key, "unknown", 0, 2);
    };
    let moves = |broker: &mut Fixture| {
        let ids = [1, 2].map(ringmq_storage::CursorId::new);
        broker.moves(3, &ids.map(|id| (id, 2)));
    };
    let mut broker = after(&[&first, &lost, &moves], &[1]);
    let key = find(&broker, "orders").unwrap();
    let cursor = |name| broker.slots.cursor(key, CursorOwner::Client, name);
    assert_eq!(cursor("known").unwrap().1, Sequence::new(2));
    assert_eq!(cursor("unknown"), None);
    assert_eq!(broker.slots.channel(key).unwrap().last.get(), 2);
    let anew = broker.cursor(key, "unknown", 0, 4);
    assert_eq!(anew.get(), 3, "the number that is lost stays used");
}

#[test]
fn a_queue_behind_a_gap_has_what_is_left_of_it() {
    let send = |broker: &mut Fixture| {
        broker.queue_message("jobs", Sent::default(), 1);
    };
    let key = |broker: &Fixture| broker.slots.find(slot(3), StoredKind::Queue, "jobs");
    let settle = |broker: &mut Fixture| {
        let key = key(broker).unwrap();
        broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 2);
    };
    let requeue = |broker: &mut Fixture| {
        let key = key(broker).unwrap();
        broker.requeue(key, &[(2, 1), (3, 1)], 3);
    };
    let live = |broker: &Fixture| -> Vec<_> {
        let queue = broker.slots.queue(key(broker).unwrap()).unwrap();
        let live = queue.live();
        live.map(|(first, last)| (first.get(), last.get()))
            .collect()
    };
    // A message is lost: its requeue finds nothing.
    let broker = after(&[&send, &send, &send, &requeue, &send], &[1]);
    assert_eq!(live(&broker), [(1, 1), (5, 6)]);
    // A settlement is lost: the message comes once more, until a later record knows better.
    let mut broker = after(&[&send, &send, &settle, &send], &[2]);
    assert_eq!(live(&broker), [(1, 3)]);
    assert_eq!(
        broker
            .queue_message("jobs", Sent::default(), 4)
            .sequence
            .get(),
        4
    );
    let later = |broker: &mut Fixture| {
        let key = key(broker).unwrap();
        broker.settle(key, SettleReason::Acked, 32, &[(3, 3)], 3);
    };
    let broker = after(&[&send, &send, &settle, &send, &later], &[2]);
    assert_eq!(
        live(&broker),
        [(2, 2)],
        "its floor says that message 1 is not needed"
    );
    // A requeue is lost: the messages stay in their places.
    let broker = after(&[&send, &send, &send, &requeue, &send], &[3]);
    assert_eq!(live(&broker), [(1, 3), (6, 6)]);
    // The queue itself is lost, and known by the encoding of its messages.
    let broker = after(&[&send, &send], &[0]);
    let found = broker
        .slots
        .find(slot(3), StoredKind::Queue, "recovered.3.1");
    assert_eq!(broker.slots.queue(found.unwrap()).unwrap().len(), 1);
    let broker = after(&[&send, &settle], &[0]);
    assert_eq!(broker.slots.channels().count(), 0);
}

#[test]
fn a_live_log_has_no_gaps() {
    let send = |broker: &mut Fixture| {
        broker.send("orders", 1);
    };
    let mut broker = after(&[&send, &send, &send], &[1]);
    broker.send("orders", 2);
    broker.commit();
    broker.send("orders", 2);
    broker.send("orders", 2);
    broker.tape.frames.clear();
    broker.tape.committed = 0;
    let mut forged = Fixture::new();
    forged.send("other", 2);
    forged.commit();
    let frame = forged.tape.frames[0].clone();
    with_frame(&frame, |frame| broker.slots.apply(frame).unwrap_err());
}

#[test]
fn whatever_is_lost_the_rest_is_a_sound_state() {
    for seed in 0..1200 {
        let (tape, own) = match seed % 2 {
            0 => random_tape(seed),
            _ => random_queue_tape(seed),
        };
        let mut dice = seed;
        let mut lose = |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(9);
            dice >> 61 == 0
        };
        let mut slots = Slots::new(own.iter().copied());
        replay_without(&tape, &mut slots, &mut lose);
        let sections: Vec<_> = own.iter().map(|slot| section(&slots, *slot)).collect();
        let restored = restore(&sections).unwrap_or_else(|bad| panic!("seed {seed}: {bad}"));
        for (slot, section_of) in own.iter().zip(&sections) {
            assert_eq!(&section(&restored, *slot), section_of);
        }
    }
}
