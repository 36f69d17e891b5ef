//! How leases end.

use super::*;

const NACK: Action<'_> = Action::Nack;
const CLEAN: Action<'_> = Action::Return { counted: false };
const BROKEN: Action<'_> = Action::Return { counted: true };

#[test]
fn acks_of_many_consumers_become_one_record() {
    let mut world = World::with(6);
    let deliveries: Vec<Got> = (0..6).map(|_| world.poll(0, 1, 1).unwrap()).collect();
    for place in [0, 2, 4, 1, 5] {
        assert_eq!(world.settle_all(&deliveries[place], Action::Ack), Ok(1));
    }
    assert_eq!(
        world.pending(),
        [settle(SettleReason::Acked, &[(1, 3), (5, 6)], 5 * LEN)]
    );
    assert_eq!(world.figures().in_flight, 1);
}

#[test]
fn a_message_is_settled_once() {
    let mut world = World::with(3);
    let got = world.poll(0, 1, 3).unwrap();
    assert_eq!(world.settle(&got, &[2], Action::Ack), Ok(1));
    for late in [Action::Ack, NACK, CLEAN, Action::Extend { visible_ms: 5 }] {
        assert_eq!(
            world.settle(&got, &[2], late),
            Err(LeaseLost { sequence: s(2) })
        );
    }
    let twice = world.settle(&got, &[1, 1, 3], Action::Ack);
    assert_eq!(twice, Err(LeaseLost { sequence: s(1) }));
    // What comes before the failure is done, what comes behind it is not.
    let mut open = Vec::new();
    world.dispatcher.open(got.delivery, &mut open);
    assert_eq!(open, [s(3)]);
    assert_eq!(world.settle_all(&got, Action::Ack), Ok(1));
    assert_eq!(
        world.settle_all(&got, Action::Ack),
        Err(LeaseLost::default())
    );
}

#[test]
fn a_late_ack_does_not_settle_a_later_delivery() {
    let mut world = World::with(1);
    let first = world.poll(0, 1, 1).unwrap();
    world.settle_all(&first, CLEAN).unwrap();
    let second = world.poll(0, 2, 1).unwrap();
    assert!(second.delivery > first.delivery);
    let lost = Err(LeaseLost { sequence: s(1) });
    assert_eq!(world.settle(&first, &[1], Action::Ack), lost);
    // Nor does the right number with the wrong queue.
    let elsewhere = Got {
        queue: 1,
        ..second.clone()
    };
    assert_eq!(world.settle(&elsewhere, &[1], Action::Ack), lost);
    assert_eq!(world.settle(&second, &[1], Action::Ack), Ok(1));
}

#[test]
fn a_nack_goes_to_the_tail_received_once_more_in_the_order_of_the_queue() {
    let mut world = World::with(4);
    let got = world.poll(0, 1, 3).unwrap();
    assert_eq!(world.settle(&got, &[3, 1, 2], NACK), Ok(3));
    assert_eq!(
        world.figures().waiting,
        1,
        "not visible before it is written"
    );
    world.commit();
    let again = world.poll(0, 1, 9).unwrap();
    assert_eq!(again.sequences(), [4, 5, 6, 7]);
    assert_eq!(again.receives(), [0, 1, 1, 1]);
    let bodies: Vec<u64> = again.taken.iter().map(|taken| taken.body.get()).collect();
    assert_eq!(bodies, [4, 1, 2, 3]);
}

#[test]
fn a_nack_in_a_strict_queue_keeps_the_place() {
    let mut world = World::with(3);
    let policy = QueuePolicy { in_place: true };
    world.dispatcher.configure(channel(0), policy);
    let got = world.poll(0, 1, 2).unwrap();
    world.settle_all(&got, NACK).unwrap();
    // Visible at once, and the count is right before it is written.
    let again = world.poll(0, 1, 9).unwrap();
    assert_eq!(
        (again.sequences(), again.receives()),
        (vec![1, 2, 3], vec![1, 1, 0])
    );
    world.commit();
    assert_eq!(world.states[0].receives(s(2)), 1);
}

#[test]
fn a_message_becomes_a_dead_letter_when_it_was_received_as_often_as_it_may() {
    for action in [NACK, BROKEN] {
        let mut world = World::with(1);
        for _ in 1..RECEIVES_MAX {
            let got = world.poll(0, 1, 1).unwrap();
            world.settle_all(&got, action).unwrap();
            assert_eq!(world.commit(), []);
        }
        let got = world.poll(0, 1, 1).unwrap();
        assert_eq!(got.receives(), [RECEIVES_MAX - 1]);
        world.settle_all(&got, action).unwrap();
        let sequence = got.sequences()[0];
        assert_eq!(world.pending(), [dead_letter(sequence, RECEIVES_MAX)]);
        assert_eq!((world.figures().waiting, world.figures().moving), (0, 1));
        world.dispatcher.move_done(channel(0), s(sequence), LEN);
        assert_eq!(world.figures().moving, 0);
    }
}

#[test]
fn a_clean_end_returns_in_place_as_if_nothing_was_received() {
    let mut world = World::with(3);
    world.poll(0, 1, 1).unwrap();
    world.poll(0, 1, 1).unwrap();
    world.wait(0, 1, 1);
    world.dispatcher.consumer_gone(1, false, START);
    assert_eq!(world.pending(), []);
    let got = world.poll(0, 2, 9).unwrap();
    assert_eq!(
        (got.sequences(), got.receives()),
        (vec![1, 2, 3], vec![0, 0, 0])
    );
    assert_eq!(world.figures().waiters, 0, "the waiter is gone too");
}

#[test]
fn a_broken_end_returns_in_place_received_once_more() {
    let mut world = World::with(3);
    let got = world.poll(0, 1, 2).unwrap();
    world.settle(&got, &[1], Action::Ack).unwrap();
    world.dispatcher.consumer_gone(1, true, START);
    let got = world.poll(0, 2, 9).unwrap();
    assert_eq!((got.sequences(), got.receives()), (vec![2, 3], vec![1, 0]));
    world.commit();
    assert_eq!(world.states[0].receives(s(2)), 1);
}

#[test]
fn long_leases_are_counted_while_they_last_and_short_ones_are_not() {
    let mut world = World::with(5);
    let long = world.poll(0, 1, 3).unwrap();
    world.advance(50);
    let short = world.poll(0, 1, 2).unwrap();
    let now_ms = world.now_ns / MS;
    assert_eq!(world.dispatcher.oldest_uncounted_ms(), Some(now_ms - 50));
    world.dispatcher.count_old_leases(now_ms);
    world.commit();
    let receives = |world: &World| (1..=5).map(|of| world.states[0].receives(s(of))).collect();
    let counted: Vec<u32> = receives(&world);
    assert_eq!(counted, [1, 1, 1, 0, 0]);
    world.dispatcher.count_old_leases(now_ms);
    assert_eq!(world.pending(), [], "once for each lease");
    // Returned as if not received: the count is set back. Received: it is there already.
    world.settle(&long, &[1], CLEAN).unwrap();
    world.settle(&long, &[2], BROKEN).unwrap();
    world.settle_all(&short, CLEAN).unwrap();
    let again = world.poll(0, 1, 2).unwrap();
    assert_eq!(
        (again.sequences(), again.receives()),
        (vec![1, 2], vec![0, 1])
    );
    world.commit();
    let counted: Vec<u32> = receives(&world);
    assert_eq!(counted, [0, 1, 1, 0, 0]);
}

#[test]
fn a_move_that_fails_brings_the_message_back_to_its_place() {
    let mut world = World::with(3);
    let got = world.poll(0, 1, 2).unwrap();
    let away = Action::Move {
        reason: MoveReason::Requeue,
        target: "b",
    };
    world.settle_all(&got, away).unwrap();
    let moves = world.commit();
    let names: Vec<_> = moves
        .iter()
        .map(|of| (of.sequence.get(), of.target.as_deref()))
        .collect();
    assert_eq!(names, [(1, Some("b")), (2, Some("b"))]);
    let (dispatcher, state) = (&mut world.dispatcher, &world.states[0]);
    dispatcher.move_cancelled(channel(0), s(1), state, START);
    dispatcher.move_cancelled(channel(0), s(1), state, START);
    dispatcher.move_done(channel(0), s(2), LEN);
    let got = world.poll(0, 1, 9).unwrap();
    assert_eq!((got.sequences(), got.receives()), (vec![1, 3], vec![0, 0]));
}

#[test]
fn what_the_log_had_no_room_for_comes_again_before_what_came_later() {
    let mut world = World::with(4);
    for _ in 0..2 {
        let got = world.poll(0, 1, 1).unwrap();
        world.settle_all(&got, NACK).unwrap();
        let got = world.poll(0, 1, 1).unwrap();
        world.settle_all(&got, Action::Ack).unwrap();
        let first: Vec<_> = std::iter::from_fn(|| world.dispatcher.next_pending()).collect();
        for (key, pending) in first.into_iter().rev() {
            world.dispatcher.put_pending_back(key, pending);
        }
        assert!(world.dispatcher.has_pending());
    }
    let acked = settle(SettleReason::Acked, &[(2, 2), (4, 4)], 2 * LEN);
    let pending = world.pending();
    assert_eq!(pending[0], acked);
    let Pending::Requeue(entries) = &pending[1] else {
        panic!("{pending:?}")
    };
    let old: Vec<u64> = entries.iter().map(|entry| entry.old.get()).collect();
    assert_eq!(old, [1, 3]);
    assert!(!world.dispatcher.has_pending());
}

#[test]
fn a_drain_removes_what_is_visible_and_nothing_else() {
    let mut world = World::with(6);
    let got = world.poll(0, 1, 2).unwrap();
    world.send_timed(0, 1000, 0);
    let moved = world.poll(0, 1, 1).unwrap();
    let away = Action::Move {
        reason: MoveReason::Resend,
        target: "b",
    };
    world.settle_all(&moved, away).unwrap();
    world.settle(&got, &[1], Action::Ack).unwrap();
    let drained = world.dispatcher.drain(channel(0), &world.states[0], START);
    assert_eq!(drained, 3);
    world.commit();
    let figures = world.figures();
    assert_eq!((figures.waiting, figures.in_flight), (0, 1));
    assert_eq!((figures.delayed, figures.moving), (1, 1));
    let live: Vec<_> = world.states[0].live().collect();
    assert_eq!(live, [(s(2), s(3)), (s(7), s(7))]);
    assert_eq!(
        world.states[0].bytes(),
        3 * u64::from(LEN),
        "exact, though nobody read them"
    );
    assert_eq!(
        world.dispatcher.drain(channel(0), &world.states[0], START),
        0
    );
}

#[test]
fn the_oldest_visible_messages_make_room() {
    let mut world = World::with(5);
    world.poll(0, 1, 1).unwrap();
    let dropped = world
        .dispatcher
        .drop_oldest(channel(0), 2, &world.states[0], START);
    assert_eq!(dropped, 2);
    assert_eq!(
        world.pending(),
        [settle(SettleReason::Overflow, &[(2, 3)], 2 * LEN)]
    );
    assert_eq!(world.peek(9), [4, 5]);
}

#[test]
fn a_deleted_queue_tells_who_loses_what_and_its_name_may_come_again() {
    let mut world = World::with(3);
    let got = world.poll(0, 1, 1).unwrap();
    let acked = world.poll(0, 2, 1).unwrap();
    world.settle_all(&acked, Action::Ack).unwrap();
    world.poll(0, 2, 1).unwrap();
    let number = world.wait(0, 3, 1);
    let other = world.wait(1, 3, 1);
    let mut gone = Vec::new();
    world.dispatcher.deleted(channel(0), &mut gone);
    assert_eq!(
        gone,
        [
            Gone::Poll {
                consumer: 3,
                number
            },
            Gone::Delivery {
                consumer: 1,
                delivery: 1
            },
            Gone::Delivery {
                consumer: 2,
                delivery: 3
            },
        ]
    );
    assert!(world.settle_all(&got, Action::Ack).is_err());
    assert_eq!(world.pending(), []);
    assert_eq!(world.figures(), QueueFigures::default());
    for consumer in 1..=3 {
        world.dispatcher.consumer_gone(consumer, true, START);
    }
    assert!(!world.dispatcher.cancel(channel(1), 3, other));
    world.states[0] = QueueState::default();
    world.send(0, 1);
    assert_eq!(world.poll(0, 1, 1).unwrap().sequences(), [1]);
}
