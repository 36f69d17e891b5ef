//! Moves between queues of two logs, with a crash at every step.
//!
//! Two logs of one process, each with what it has appended, committed and synced. A crash loses
//! any end of each log that was not synced, and everything that was not in a log. Whatever the
//! order of the steps, consumers see each message in exactly one queue.

mod world;

use proptest::prelude::*;

use super::tape::slot;
use crate::engine::queues::MoveReason;
use crate::engine::stored::Limits;
use world::{MESSAGES, QUEUES, Step, World, log_of};

/// Every step of one move, in the order in which they come when nothing disturbs them.
fn one_move(target: usize) -> Vec<Step> {
    let there = log_of(slot(QUEUES[target].1));
    let written = |log| [Step::Flush(log), Step::Commit(log), Step::Sync(log)];
    let why = MoveReason::Requeue;
    let mut steps = vec![Step::Move {
        number: 1,
        target,
        why,
    }];
    steps.extend(written(0));
    steps.extend([Step::Depart(0), Step::Deliver]);
    // The target is a new queue: its creation, then the message.
    steps.extend(written(there));
    steps.extend(written(there));
    steps.push(Step::Deliver);
    steps.extend(written(0));
    steps.push(Step::Deliver);
    steps.extend(written(there));
    steps
}

#[test]
fn move_that_nothing_disturbs_ends_in_its_target() {
    for (target, strict) in [
        (0, true),
        (1, true),
        (2, true),
        (0, false),
        (1, false),
        (2, false),
    ] {
        let mut world = World::new(strict, Limits::default());
        for step in one_move(target) {
            world.step(step);
        }
        let key = world.seen()[&1][0].0;
        assert_eq!(key.slot, slot(QUEUES[target].1));
        let open: usize = world.nodes.iter().map(|node| node.moves.open_count()).sum();
        let known: usize = world
            .nodes
            .iter()
            .map(|node| node.slots.arrivals().count())
            .sum();
        assert_eq!((open, known), (0, 0), "{:#?}", world.history);
        world.settle_down();
    }
}

/// A crash behind each step, with every end of each log that may be lost, and a second one behind
/// each later step.
#[test]
fn crash_at_any_step_leaves_each_message_in_exactly_one_queue() {
    for target in 0..QUEUES.len() {
        for strict in [true, false] {
            let steps = one_move(target);
            for first in 0..=steps.len() {
                for kept in [[0, 0], [1, 0], [0, 1], [1, 1]] {
                    for second in first..=steps.len() {
                        let mut world = World::new(strict, Limits::default());
                        for (at, step) in steps.iter().enumerate() {
                            if at == first || at == second {
                                world.step(Step::Crash(kept));
                            }
                            world.step(*step);
                        }
                        world.settle_down();
                    }
                }
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let why = prop_oneof![
        Just(MoveReason::Requeue),
        Just(MoveReason::Resend),
        Just(MoveReason::DeadLetter)
    ];
    prop_oneof![
        2 => (0..MESSAGES, 0..3_usize, why).prop_map(|(number, target, why)| Step::Move {
            number,
            target,
            why
        }),
        1 => (0..MESSAGES).prop_map(Step::Ack),
        1 => (0..2_usize).prop_map(Step::Flush),
        2 => (0..2_usize).prop_map(Step::Commit),
        6 => (0..2_usize).prop_map(Step::Sync),
        6 => (0..2_usize).prop_map(Step::Write),
        6 => (0..2_usize).prop_map(Step::Depart),
        8 => Just(Step::Deliver),
        1 => any::<[u8; 2]>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn moves_in_any_order_with_crashes_keep_each_message_in_one_queue(
        steps in prop::collection::vec(steps(), 0..120),
        strict in any::<bool>(),
        messages_max in prop_oneof![Just(0), Just(2)],
    ) {
        let limits = Limits { messages_max, ..Limits::default() };
        let mut world = World::new(strict, Limits::default());
        world.limits = limits;
        for step in steps {
            world.step(step);
        }
        world.settle_down();
    }
}
