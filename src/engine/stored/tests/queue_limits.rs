use super::queue_rules::{Sent, filled};
use super::rules::{Fixture, NONE};
use super::tape::slot;
use crate::engine::queues::SettleReason;
use crate::engine::stored::{Limits, StoreRefusal, StoredKind};

#[test]
fn a_full_queue_refuses_by_what_it_has_and_not_by_what_it_had() {
    let limits = Limits {
        messages_max: 3,
        bytes_max: 200,
        ..NONE
    };
    let (mut broker, key) = filled(3);
    let full = Err(StoreRefusal::MessagesLimit { max: 3 });
    let plain = Sent::default();
    assert_eq!(broker.try_queue_message("jobs", plain, 2, &limits), full);
    broker.settle(key, SettleReason::Acked, 32, &[(2, 2)], 2);
    broker.try_queue_message("jobs", plain, 2, &limits).unwrap();
    assert_eq!(broker.try_queue_message("jobs", plain, 2, &limits), full);
    broker.commit();
    assert_eq!(broker.try_queue_message("jobs", plain, 2, &limits), full);
    broker.settle(key, SettleReason::Acked, 32, &[(1, 1)], 3);
    broker.commit();
    let large = Sent { body: 120, ..plain };
    let full = Err(StoreRefusal::BytesLimit { max: 200 });
    assert_eq!(broker.try_queue_message("jobs", large, 3, &limits), full);
    let fits = Sent { body: 90, ..plain };
    broker.try_queue_message("jobs", fits, 3, &limits).unwrap();
    assert_eq!(
        broker
            .try_queue_message("new", large, 3, &limits)
            .map(|_| ()),
        Ok(())
    );
    let larger = Sent { body: 170, ..plain };
    assert_eq!(broker.try_queue_message("newer", larger, 3, &limits), full);
}

#[test]
fn a_queue_that_drops_its_oldest_tells_how_many_once() {
    let limits = Limits {
        messages_max: 3,
        drop_oldest: true,
        ..NONE
    };
    let (mut broker, key) = filled(5);
    let send = |broker: &mut Fixture| {
        let sent = broker.try_queue_message("jobs", Sent::default(), 2, &limits);
        sent.unwrap().overflow
    };
    assert_eq!(send(&mut broker), 3);
    assert_eq!(send(&mut broker), 1, "the three are known already");
    broker.settle(key, SettleReason::Overflow, 96, &[(1, 3)], 2);
    assert_eq!(send(&mut broker), 1);
    broker.settle(key, SettleReason::Overflow, 64, &[(4, 5)], 2);
    broker.commit();
    assert_eq!(broker.live(key), [(6, 8)]);
    assert_eq!(broker.queue(key).counters().overflowed, 5);
    assert_eq!(send(&mut broker), 1);
    broker.commit();
    // Nobody dropped it: the next message says so again.
    assert_eq!(send(&mut broker), 2);
    let bytes = Limits {
        bytes_max: 100,
        drop_oldest: true,
        ..NONE
    };
    let (mut broker, _) = filled(3);
    let sent = broker.try_queue_message("jobs", Sent::default(), 2, &bytes);
    assert_eq!(sent.unwrap().overflow, 1);
}

#[test]
fn names_in_the_register_have_no_messages_no_bound_and_no_end() {
    let limits = Limits {
        channels_max: 1,
        ..NONE
    };
    let mut broker = Fixture::new();
    broker.queue_message("jobs", Sent::default(), 1);
    let kinds = [
        StoredKind::Events,
        StoredKind::Commands,
        StoredKind::Queries,
    ];
    let keys = kinds.map(|kind| {
        let (slots, tape) = (&mut broker.slots, &mut broker.tape);
        let made = slots.prepare_channel(tape, slot(3), kind, "jobs", 1, &limits);
        made.unwrap()
    });
    let another = broker.try_queue_message("more", Sent::default(), 1, &limits);
    assert_eq!(another, Err(StoreRefusal::ChannelLimit { max: 1 }));
    broker.commit();
    assert_eq!(broker.slots.channel_count(), 1);
    assert_eq!(broker.slots.channels().count(), 4);
    for (kind, key) in kinds.into_iter().zip(keys) {
        assert_eq!(broker.slots.find(slot(3), kind, "jobs"), Some(key));
        assert_eq!(broker.slots.channel(key).unwrap().messages(), 0);
    }
    assert_eq!(broker.slots.idle_channels(u64::MAX), []);
    broker.delete(keys[1], 2);
    broker.commit();
    assert_eq!(broker.slots.find(slot(3), kinds[1], "jobs"), None);
    assert_eq!(broker.slots.channel_count(), 1);
}
