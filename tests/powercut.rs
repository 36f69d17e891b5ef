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

/// Rounds of the mode that may lose, each on a store of its own.
const LOSING_ROUNDS: usize = 12;

#[test]
fn strict_sync_loses_nothing_that_was_acknowledged() {
    let mut random = Random::seeded("powercut, strict");
    let machinery = Machinery::new("store.sync=strict engine.cores=2");
    let mut clients = Clients::new(4, 2);
    let mut lost_sectors = 0;
    for round in 0..ROUNDS {
        let (mut broker, address) = machinery.start();
        let verified = clients.verify(address);
        assert!(
            verified.is_ok(),
            "round {round}: {verified:?}\n{}",
            broker.output()
        );
        let (receipts, after) = (random.below(300) + 1, random.below(30));
        let after = Duration::from_millis(after);
        let lived = clients.live(address, receipts, after, || broker.kill());
        assert!(
            lived.is_ok(),
            "round {round}: {lived:?}\n{}",
            broker.output()
        );
        let cut = Cut::random(&mut random);
        lost_sectors += machinery.cut_power(cut, &mut random);
    }
    let (_broker, address) = machinery.start();
    assert_eq!(clients.verify(address), Ok(()));
    assert_eq!(clients.catch_up(address), Ok(()));
    // Without lost sectors the cuts would prove nothing.
    assert!(lost_sectors > 0);
    let acknowledged = clients.acknowledged();
    say(&format!(
        "{ROUNDS} cuts, {lost_sectors} sectors lost: {acknowledged} acknowledged events are there"
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
        let machinery = Machinery::new(settings);
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
