//! Delays, expirations, and what ends when its time is over.

use super::*;

fn lease_events(events: &[Timeout<u64>]) -> Vec<(u64, Vec<u64>)> {
    let leases = events.iter().filter_map(|event| match event {
        Timeout::Lease {
            delivery,
            sequences,
            ..
        } => Some((*delivery, sequences.iter().map(|of| of.get()).collect())),
        Timeout::Poll { .. } => None,
    });
    leases.collect()
}

#[test]
fn a_delayed_message_comes_when_it_is_due_and_not_before() {
    let mut world = World::new();
    world.wait(0, 1, 9);
    // Due within a millisecond: it is rounded up, never down.
    let last = world.states[0].last().next();
    world.states[0].store(last, &head(START + 5 * MS + 1, 0), LEN);
    world.stored(0);
    assert_eq!(world.figures().delayed, 1);
    assert_eq!(world.dispatcher.next_deadline_ms(), Some(START / MS + 6));
    world.advance(5);
    assert!(world.serve().is_none());
    world.advance(1);
    assert_eq!(world.serve().unwrap().sequences(), [1]);
    assert_eq!(world.figures().delayed, 0);
}

#[test]
fn delayed_messages_stand_behind_what_was_stored_until_they_were_due() {
    let mut world = World::new();
    world.send_timed(0, 20, 0);
    world.send_timed(0, 10, 0);
    world.send_timed(0, 10, 0);
    world.send(0, 2);
    world.advance(30);
    world.send(0, 1);
    assert_eq!(world.peek(9), [4, 5, 2, 3, 1, 6]);
    // Those that come back have the same places.
    let got = world.poll(0, 1, 5).unwrap();
    assert_eq!(
        world.settle(&got, &[1, 2, 5], Action::Return { counted: false }),
        Ok(3)
    );
    assert_eq!(world.peek(9), [5, 2, 1, 6]);
    // In the order of the queue to the tail, not of their numbers.
    let got = [got, world.poll(0, 1, 4).unwrap()];
    assert_eq!(world.settle_all(&got[1], Action::Nack), Ok(4));
    let Some(Pending::Requeue(entries)) = world.pending().pop() else {
        panic!()
    };
    let old: Vec<u64> = entries.iter().map(|entry| entry.old.get()).collect();
    assert_eq!(old, [5, 2, 1, 6]);
}

#[test]
fn messages_expire_while_they_wait_also_delayed_ones() {
    let mut world = World::new();
    world.send_timed(0, 0, 10);
    world.send_timed(0, 50, 10);
    world.send_timed(0, 5, 20);
    world.send_timed(0, 0, 30);
    world.advance(9);
    assert_eq!(world.dispatcher.expired_since(channel(0)), 0);
    world.advance(1);
    assert_eq!(world.dispatcher.expired_since(channel(0)), 2);
    world.advance(15);
    assert_eq!(world.peek(9), [4]);
    assert_eq!(world.dispatcher.expired_since(channel(0)), 1);
    assert_eq!(world.dispatcher.expired_since(channel(0)), 0);
    assert_eq!(
        world.pending(),
        [settle(SettleReason::Expired, &[(1, 3)], 3 * LEN)]
    );
}

#[test]
fn what_has_expired_is_not_handed_out_though_its_timer_is_late() {
    for peek in [false, true] {
        let mut world = World::new();
        world.send_timed(0, 0, 10);
        world.send(0, 1);
        world.send_timed(0, 0, 11);
        world.now_ns += 11 * MS;
        let seen = if peek {
            world.peek(9)
        } else {
            world.poll(0, 1, 9).unwrap().sequences()
        };
        assert_eq!(seen, [2]);
        assert_eq!(world.dispatcher.expired_since(channel(0)), 2);
        let expired = settle(SettleReason::Expired, &[(1, 1), (3, 3)], 2 * LEN);
        assert_eq!(world.pending(), [expired]);
        assert_eq!(world.advance(1), []);
        assert_eq!(world.pending(), []);
    }
}

#[test]
fn a_turn_that_finds_only_expired_messages_leaves_the_waiter_waiting() {
    let mut world = World::new();
    world.send_timed(0, 0, 10);
    world.now_ns += 10 * MS;
    assert!(world.poll(0, 1, 1).is_none());
    assert_eq!(world.figures().waiters, 1);
    world.send(0, 1);
    assert_eq!(world.serve().unwrap().consumer, 1);
}

#[test]
fn a_leased_message_expires_when_it_comes_back() {
    for action in [
        Action::Return { counted: false },
        Action::Return { counted: true },
        Action::Nack,
    ] {
        let mut world = World::new();
        world.send_timed(0, 0, 10);
        world.send_timed(0, 0, 40);
        let got = world.poll(0, 1, 2).unwrap();
        world.advance(20);
        assert_eq!(world.pending(), [], "a leased message is the consumer's");
        world.settle_all(&got, action).unwrap();
        world.commit();
        assert_eq!(world.states[0].counters().expired, 1);
        assert_eq!(world.figures().waiting, 1);
        // The other one expires in its time again.
        world.advance(20);
        world.commit();
        assert_eq!(world.states[0].counters().expired, 2);
        assert!(world.states[0].is_empty() && world.states[0].bytes() == 0);
    }
}

#[test]
fn an_acked_message_does_not_expire() {
    let mut world = World::new();
    world.send_timed(0, 0, 10);
    let got = world.poll(0, 1, 1).unwrap();
    world.advance(20);
    assert_eq!(world.settle_all(&got, Action::Ack), Ok(1));
    assert_eq!(
        world.pending(),
        [settle(SettleReason::Acked, &[(1, 1)], LEN)]
    );
    assert_eq!(world.dispatcher.expired_since(channel(0)), 0);
}

#[test]
fn a_lease_that_runs_out_is_a_nack_and_its_consumer_hears_of_it() {
    let mut world = World::with(3);
    let got = world.poll_for(1, 2, 100).unwrap();
    assert_eq!(world.advance(99), []);
    let events = world.advance(1);
    assert_eq!(lease_events(&events), [(got.delivery, vec![1, 2])]);
    assert_eq!(
        world.settle(&got, &[1], Action::Ack),
        Err(LeaseLost { sequence: s(1) })
    );
    world.commit();
    let again = world.poll(0, 1, 9).unwrap();
    assert_eq!(
        (again.sequences(), again.receives()),
        (vec![3, 4, 5], vec![0, 1, 1])
    );
    assert_eq!(world.advance(100_000), [], "a lease without a time lasts");
}

#[test]
fn a_lease_can_be_extended_and_shortened_message_by_message() {
    let mut world = World::with(3);
    let got = world.poll_for(1, 3, 100).unwrap();
    world.advance(50);
    world
        .settle(&got, &[1], Action::Extend { visible_ms: 200 })
        .unwrap();
    world
        .settle(&got, &[3], Action::Extend { visible_ms: 10 })
        .unwrap();
    assert_eq!(lease_events(&world.advance(10)), [(got.delivery, vec![3])]);
    assert_eq!(lease_events(&world.advance(40)), [(got.delivery, vec![2])]);
    assert_eq!(world.advance(149), []);
    assert_eq!(lease_events(&world.advance(1)), [(got.delivery, vec![1])]);
}

#[test]
fn a_poll_ends_when_its_time_is_over() {
    let mut world = World::new();
    let first = world.wait(0, 1, 1);
    world.advance(59_999);
    let second = world.wait(0, 2, 1);
    let timeout = Timeout::Poll {
        consumer: 1,
        number: first,
        key: channel(0),
    };
    assert_eq!(world.advance(1), [timeout]);
    world.send(0, 1);
    let got = world.serve().unwrap();
    assert_eq!(got.consumer, 2);
    assert!(!world.dispatcher.cancel(channel(0), 2, second));
    assert_eq!(world.advance(120_000), []);
}

#[test]
fn a_lot_that_becomes_due_at_once_is_done_in_bounded_steps() {
    const COUNT: u64 = 10_000;
    let mut world = World::new();
    for _ in 0..COUNT {
        world.send_timed(0, 10, 0);
    }
    world.now_ns += 10 * MS;
    let mut calls = 1;
    let states = |key: ChannelKey| world.states.get(key.channel.get() as usize);
    while !world
        .dispatcher
        .advance(world.now_ns, states, &mut Vec::new())
    {
        calls += 1;
    }
    assert!(calls > 5, "{calls}");
    assert_eq!(world.figures().waiting, COUNT);
    let order = world.poll(0, 1, u32::MAX).unwrap().sequences();
    assert_eq!(order, (1..=COUNT).collect::<Vec<_>>());
}

#[test]
fn after_a_restart_everything_is_visible_in_its_place_but_delays_go_on() {
    let mut world = World::new();
    world.send_timed(0, 20, 0);
    world.send_timed(0, 10, 0);
    world.send(0, 2);
    world.send_timed(0, 5000, 0);
    world.send_timed(0, 0, 40);
    world.send(0, 1);
    let got = world.poll(0, 1, 1).unwrap();
    assert_eq!(got.sequences(), [3]);
    world.settle_all(&got, Action::Nack).unwrap();
    world.commit();
    world.poll(0, 1, 2).unwrap();
    let moved = s(7);
    let open = crate::engine::queues::OpenMove {
        reason: MoveReason::Requeue,
        target: "b".into(),
    };
    assert!(world.states[0].begin_move(moved, open));

    world.now_ns += 50 * MS;
    world.dispatcher = Dispatcher::new(1 << 20, world.now_ns);
    world
        .dispatcher
        .restore(channel(0), &world.states[0], world.now_ns);
    world
        .dispatcher
        .restore(channel(1), &world.states[1], world.now_ns);
    let figures = world.figures();
    assert_eq!(
        (figures.delayed, figures.moving, figures.in_flight),
        (1, 1, 0)
    );
    let got = world.poll(0, 1, 9).unwrap();
    assert_eq!(got.sequences(), [2, 1, 4, 8]);
    assert_eq!(got.receives(), [0, 0, 0, 1]);
    assert_eq!(world.dispatcher.expired_since(channel(0)), 1);
    world.advance(5000);
    assert_eq!(world.poll(0, 1, 9).unwrap().sequences(), [5]);
    world.send(1, 1);
    assert_eq!(world.poll(1, 1, 9).unwrap().sequences(), [1]);
}

#[test]
fn a_queue_in_which_nothing_happens_gives_its_memory_back_and_keeps_its_numbers() {
    let mut world = World::with(3);
    let got = world.poll(0, 1, 9).unwrap();
    world.settle_all(&got, Action::Ack).unwrap();
    world.commit();
    assert_eq!(world.dispatcher.queues.len(), 1);
    world.advance(1000);
    world.advance(1000);
    assert_eq!(world.dispatcher.queues.len(), 0);
    assert!(world.dispatcher.wheel.is_empty());
    assert_eq!(world.figures().delivered, 3);
    world.send(0, 1);
    assert_eq!(world.poll(0, 1, 9).unwrap().sequences(), [4]);
    assert_eq!(world.figures().delivered, 4);
}
