//! The power is cut in the middle of storing, end to end: a broker on a disk that may lose any
//! sector whose write was not synced, clients that remember what was acknowledged.
//!
//! The broker runs in a process of its own and is killed. Killing alone loses nothing: the kernel
//! has all that was written. The test then puts back what the disk would have lost. Files that
//! the upkeep of the log writes, beside the ring, are left alone here; the simulated file system
//! of `ringmq-storage` forgets those as well.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "powercut/broker.rs"]
mod broker;
#[path = "powercut/disk.rs"]
mod disk;

use std::time::Duration;

use broker::Machinery;
use disk::Cut;
use harness::say;
use mock::stored::Difference;
use mock::stored::life::{Clients, Random};

const ROUNDS: usize = 50;

/// Whether a segment is used again depends on when its last message was given up.
const ROUNDS_MAX: usize = 400;

/// Rounds of the mode that may lose, each on a store of its own.
const LOSING_ROUNDS: usize = 12;

/// Stores, cuts the power and looks, again and again, until segments have been in use so often.
/// Gives back how many cuts there were, and how many sectors were lost.
fn cut_again_and_again(
    machinery: &mut Machinery,
    clients: &mut Clients,
    random: &mut Random,
    (receipts_max, uses): (u64, u32),
) -> (usize, usize) {
    let (mut round, mut lost_sectors) = (0, 0);
    while round < ROUNDS || machinery.uses < uses {
        assert!(round < ROUNDS_MAX, "segments are used again");
        round += 1;
        let (mut broker, address) = machinery.start();
        let verified = clients.verify(address);
        assert!(
            verified.is_ok(),
            "round {round}: {verified:?}\n{}",
            broker.output()
        );
        let receipts = random.below(receipts_max) + 1;
        let after = Duration::from_millis(random.below(20));
        let lived = clients.live(address, receipts, after, || broker.kill());
        assert!(
            lived.is_ok(),
            "round {round}: {lived:?}\n{}",
            broker.output()
        );
        lost_sectors += machinery.cut_power(Cut::random(random), random);
    }
    // Without lost sectors the cuts would prove nothing.
    assert!(lost_sectors > 0);
    (round, lost_sectors)
}

#[test]
fn strict_sync_loses_nothing_that_was_acknowledged() {
    let mut random = Random::seeded("powercut, strict");
    let mut machinery = Machinery::new("store.sync=strict engine.cores=2");
    let mut clients = Clients::new(4, 2);
    let (cuts, lost_sectors) =
        cut_again_and_again(&mut machinery, &mut clients, &mut random, (300, 1));
    let (_broker, address) = machinery.start();
    assert_eq!(clients.verify(address), Ok(()));
    assert_eq!(clients.catch_up(address), Ok(()));
    let acknowledged = clients.acknowledged();
    say(&format!(
        "{cuts} cuts, {lost_sectors} sectors lost: {acknowledged} acknowledged events are there"
    ));
}

/// Segments are used again, so that what a cut leaves behind the end of the log are valid frames
/// of an earlier use.
#[test]
fn recycled_segments_lose_nothing_either() {
    let mut random = Random::seeded("powercut, recycled");
    let mut machinery = Machinery::new(
        "store.sync=strict engine.cores=1 store.max_messages=2000 store.when_full=drop-oldest",
    );
    let mut clients = Clients::trimming(4);
    // A life is short enough that what it stores is read before it is given up.
    let (cuts, lost_sectors) =
        cut_again_and_again(&mut machinery, &mut clients, &mut random, (1_500, 2));
    let (_broker, address) = machinery.start();
    assert_eq!(clients.verify(address), Ok(()));
    let uses = machinery.uses;
    say(&format!(
        "{cuts} cuts, {lost_sectors} sectors lost, a segment was in use {uses} times"
    ));
}

/// The same machinery finds a loss where one is allowed: otherwise the test above could not fail.
/// What is left is in order and without a hole, and the broker goes on from there.
#[test]
fn interval_sync_loses_what_was_not_synced_and_nothing_else() {
    let mut random = Random::seeded("powercut, interval");
    let settings = "store.sync=interval store.sync_interval_ms=60000 engine.cores=2";
    let mut losses = 0;
    for round in 0..LOSING_ROUNDS {
        let mut machinery = Machinery::new(settings);
        let mut clients = Clients::new(4, 0);
        let (mut broker, address) = machinery.start();
        let receipts = random.below(300) + 100;
        let lived = clients.live(address, receipts, Duration::ZERO, || broker.kill());
        assert_eq!(lived, Ok(()), "round {round}");
        let cut = match round {
            0 => Cut::Nothing,
            _ => Cut::random(&mut random),
        };
        let lost_sectors = machinery.cut_power(cut, &mut random);
        let (mut broker, address) = machinery.start();
        match clients.verify(address) {
            Ok(()) => {}
            Err(Difference::Lost { .. }) if lost_sectors > 0 => losses += 1,
            Err(wrong) => panic!("round {round}, {cut:?}: {wrong:?}\n{}", broker.output()),
        }
    }
    say(&format!(
        "{LOSING_ROUNDS} cuts without a sync in between, {losses} with a loss"
    ));
    assert!(losses > 0, "a loss that happens is seen");
}
