//! A whole broker of stored channels on a disk that loses what it may lose: the real engine, the
//! real log and the real feeds, with publishers, subscribers, a clock and a disk that are made up.
//!
//! What a run promises its clients is kept across every crash:
//!
//! - a message that was acknowledged is there, unaltered, once, in its place;
//! - sequences have no gaps, and a publisher's messages keep their order;
//! - what is found after a crash is what was prepared up to some moment, and no mixture;
//! - a subscriber gets every message behind its position, in order, and again only what it has not
//!   confirmed;
//! - a durable position never passes a message that was not confirmed, and never falls behind a
//!   place that was promised.
//!
//! Queues have worlds of their own ([`queues`]), with moves between them:
//!
//! - a message that was acknowledged is delivered, and again only until its settlement is
//!   committed; never to two consumers at once, and never before its time;
//! - at every start it is in exactly one queue for those who consume, whatever move was under way;
//! - a queue's messages come in their order, with the bodies that were sent.
//!
//! A run follows from its seed. A failing one is run alone by
//! `RINGMQ_SIM_SEED=<seed> cargo test --test sim strict` (or `interval`); `RINGMQ_SIM_SEEDS` sets
//! how many are run.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

#[path = "sim/broker.rs"]
mod broker;
#[path = "sim/deeds.rs"]
mod deeds;
#[path = "sim/habits.rs"]
mod habits;
#[path = "sim/publishers.rs"]
mod publishers;
#[path = "sim/queue_shard.rs"]
mod queue_shard;
#[path = "sim/queues.rs"]
mod queues;
#[path = "sim/subscribers.rs"]
mod subscribers;
#[path = "sim/watch.rs"]
mod watch;
#[path = "sim/world.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use habits::Mode;
use world::{Seen, World};

/// Runs with answers after the sync.
const SEEDS_STRICT: u64 = 8_000;

/// Runs with answers after the write.
const SEEDS_INTERVAL: u64 = 2_000;

/// Runs with queues.
const SEEDS_QUEUES: u64 = 3_000;

/// Runs within which the mutation must be noticed.
const SEEDS_MUTATED: u64 = 1_000;

/// Runs one broker; a panic is a failure like others.
fn run(seed: u64, mode: Mode) -> Result<Seen, String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, mode);
        let lived = world.live();
        lived.map_err(|failure| world.describe(&failure))?;
        Ok(world.seen)
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Runs many; stops at the first that fails.
fn run_all(seeds: Range<u64>, mode: Mode) -> Result<Seen, (u64, String)> {
    let mut all = Seen::default();
    for seed in seeds {
        all.add(&run(seed, mode).map_err(|failure| (seed, failure))?);
    }
    Ok(all)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable holds a number"))
}

/// Runs the seeds that the environment wants, or all; what was seen when it was all.
fn run_chosen(seeds: u64, mode: Mode) -> Option<Seen> {
    let one = number("RINGMQ_SIM_SEED");
    let many = number("RINGMQ_SIM_SEEDS").unwrap_or(seeds);
    let chosen = one.map_or(0..many, |seed| seed..seed + 1);
    match run_all(chosen, mode) {
        Ok(seen) => {
            eprintln!("{seen:?}");
            (one.is_none() && many >= seeds).then_some(seen)
        }
        Err((seed, failure)) => panic!(
            "seed {seed}: {failure}\nrun it alone: RINGMQ_SIM_SEED={seed} cargo test --test sim \
             {mode:?}"
        ),
    }
}

#[test]
fn strict_brokers_lose_nothing_that_was_acknowledged() {
    if let Some(seen) = run_chosen(SEEDS_STRICT, Mode::Strict) {
        seen.assert_complete();
        assert_eq!(seen.acknowledged_lost, 0);
    }
}

/// Answers that do not wait for the sync are lost by a power cut, never by a killed process. That
/// they are seen to be lost shows that the strict test could see it.
#[test]
fn interval_brokers_lose_acknowledged_messages_to_power_cuts_only() {
    if let Some(seen) = run_chosen(SEEDS_INTERVAL, Mode::Interval) {
        assert!(seen.acknowledged_lost > 100, "{seen:?}");
    }
}

#[test]
fn queues_lose_nothing_and_deliver_nothing_again_that_was_settled() {
    let one = number("RINGMQ_SIM_SEED");
    let many = number("RINGMQ_SIM_SEEDS").unwrap_or(SEEDS_QUEUES);
    let mut all = queues::Seen::default();
    for seed in one.map_or(0..many, |seed| seed..seed + 1) {
        let lived = catch_unwind(|| {
            let mut world = queues::World::new(seed);
            world.live().map(|()| world.seen)
        });
        match lived {
            Ok(Ok(seen)) => all.add(&seen),
            Ok(Err(failure)) => panic!("seed {seed}: {failure}"),
            Err(_) => panic!("seed {seed} panicked"),
        }
    }
    eprintln!("{all:?}");
    if one.is_none() && many >= SEEDS_QUEUES {
        all.assert_complete();
    }
}

#[test]
fn answering_before_the_sync_is_noticed() {
    let noticed = run_all(0..SEEDS_MUTATED, Mode::AnswerBeforeSync);
    let (seed, failure) = noticed.expect_err("no run notices the mutation");
    println!("noticed with seed {seed}: {failure}");
    assert!(failure.contains("acknowledged"), "{failure}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let life = || run(seed, Mode::Strict);
        assert_eq!(life(), life(), "seed {seed}");
    }
}
