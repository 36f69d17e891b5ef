//! Random lives of a log on a disk that loses what it may lose. After each crash everything that
//! was promised is there, nothing else than what went in, in order, as a prefix of it.
//!
//! A life follows from its seed. A failing one is run alone by
//! `RINGMQ_CRASH_SEED=<seed> cargo test -p ringmq-storage --test crash lives`;
//! `RINGMQ_CRASH_SEEDS` sets how many are run, from that one on.
//!
//! The rules that the format rests on are each broken once (`Mutations`): a suite that does not
//! notice proves nothing.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

#[path = "crash/check.rs"]
mod check;
#[path = "crash/craft.rs"]
mod craft;
#[path = "crash/damage.rs"]
mod damage;
#[path = "crash/habits.rs"]
mod habits;
#[path = "crash/nonces.rs"]
mod nonces;
#[path = "crash/oracle.rs"]
mod oracle;
#[path = "crash/seen.rs"]
mod seen;
#[path = "crash/session.rs"]
mod session;
#[path = "crash/state.rs"]
mod state;
#[path = "crash/world.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ringmq_storage::log::Mutations;

use seen::Seen;
use world::World;

/// Lives of a normal run.
const SEEDS: u64 = 2_000;

/// Lives within which each mutation must be noticed.
const SEEDS_MUTATED: u64 = 4_000;

/// Lives one life; a panic is a failure like others. Every second life goes without the padding
/// behind batches, which covers what recovery must cope with.
fn live(seed: u64, mutations: Mutations) -> Result<Seen, String> {
    let mutations = Mutations {
        unpadded: mutations.unpadded || seed.is_multiple_of(2),
        ..mutations
    };
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, mutations);
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

/// Lives many lives on all cores. The first failure, by seed, or what all of them have seen.
fn live_all(seeds: Range<u64>, mutations: Mutations) -> Result<Seen, (u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let work = || {
        let mut seen = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return Ok(seen);
            }
            match live(seed, mutations) {
                Ok(more) => seen.add(&more),
                Err(failure) => {
                    // Those below it are still run.
                    end.fetch_min(seed, Ordering::Relaxed);
                    return Err((seed, failure));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| worker.join().unwrap());
        let mut all = Seen::default();
        let mut first: Option<(u64, String)> = None;
        for result in results {
            match result {
                Ok(seen) => all.add(&seen),
                Err(failure) if first.as_ref().is_none_or(|first| failure.0 < first.0) => {
                    first = Some(failure);
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(all), Err)
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable holds a number"))
}

#[test]
fn lives_of_a_log_keep_every_promise() {
    let first = number("RINGMQ_CRASH_SEED");
    let count = number("RINGMQ_CRASH_SEEDS");
    let count = count.unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let seeds = first..first + count;
    match live_all(seeds, Mutations::default()) {
        Ok(seen) => {
            eprintln!("{seen:?}");
            if count >= SEEDS {
                seen.assert_complete();
            }
        }
        Err((seed, failure)) => panic!(
            "seed {seed}: {failure}\nrun it alone: RINGMQ_CRASH_SEED={seed} \
             cargo test -p ringmq-storage --test crash lives"
        ),
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in 0..20 {
        let life = || live(seed, Mutations::default());
        assert_eq!(life(), life(), "seed {seed}");
    }
}

#[test]
fn damage_is_told_and_never_served() {
    let mut reported = 0;
    let mut lost = 0;
    for seed in 0..500 {
        let lived = catch_unwind(|| World::new(seed, Mutations::default()).live_damaged());
        let damages = lived.unwrap_or_else(|_| panic!("seed {seed} panics"));
        let damages = damages.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        reported += damages.reported;
        lost += damages.lost;
    }
    assert!(
        reported > 50 && lost > 50,
        "{reported} lives were damaged, {lost} messages lost"
    );
}

fn assert_noticed(mutations: Mutations) {
    let noticed = live_all(0..SEEDS_MUTATED, mutations);
    let (seed, failure) = noticed.expect_err("no life notices the mutation");
    eprintln!("noticed with seed {seed}: {failure}");
}

macro_rules! mutations_are_noticed {
    ($($test:ident: $field:ident;)*) => {$(
        #[test]
        fn $test() {
            assert_noticed(Mutations { $field: true, unpadded: true, ..Mutations::default() });
        }
    )*};
}

mutations_are_noticed! {
    answering_before_the_sync_is_noticed: answer_before_sync;
    unseeded_header_checksums_are_noticed: unseeded_header_checksum;
    keeping_what_follows_a_superseded_frame_is_noticed: keep_after_superseded;
    rolling_without_a_sync_is_noticed: roll_without_sync;
    superseding_only_above_the_checkpoint_is_noticed: ignore_supersede_below_checkpoint;
    keeping_the_tail_behind_a_torn_frame_is_noticed: keep_tail_behind_torn;
    openings_that_share_a_salt_are_noticed: one_salt;
}
