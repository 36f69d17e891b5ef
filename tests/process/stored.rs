//! A broker that is killed in the middle of storing, again and again: what it acknowledged can be
//! read, in order and without a hole, and what a subscriber was given stays what it was.

use std::path::Path;
use std::time::Duration;

use crate::harness::say;
use crate::mock::process::{Process, server_command};
use crate::mock::stored::life::{Clients, Random};

const START_DEADLINE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 20;

/// Small segments: some rounds end in the middle of changing to the next one.
const SETTINGS: [&str; 4] = [
    "--set",
    "store.segment_bytes=1048576",
    "--set",
    "store.sync=strict",
];

/// A broker on a store that outlives it.
fn start(data: &Path, cores: usize) -> Process {
    let mut command = server_command(cores, data);
    command.args(SETTINGS);
    Process::begin_to_serve(&mut command, &data.with_extension("addresses"))
}

fn address_of(broker: &mut Process, data: &Path) -> std::net::SocketAddr {
    broker.grpc_address(&data.with_extension("addresses"), START_DEADLINE)
}

fn survives_kills(cores: usize) {
    let mut random = Random::seeded("stored");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut clients = Clients::new(4, 2);
    for round in 0..ROUNDS {
        // One that is killed while it recovers, or before: the next one does it all again.
        if random.below(4) == 0 {
            let mut doomed = start(&data, cores);
            std::thread::sleep(Duration::from_millis(random.below(150)));
            doomed.kill();
        }
        let mut broker = start(&data, cores);
        let address = address_of(&mut broker, &data);
        let verified = clients.verify(address);
        assert!(
            verified.is_ok(),
            "round {round}: {verified:?}\n{}",
            broker.output()
        );
        let (receipts, after) = (random.below(500) + 1, random.below(50));
        let after = Duration::from_millis(after);
        let lived = clients.live(address, receipts, after, || broker.kill());
        assert!(
            lived.is_ok(),
            "round {round}: {lived:?}\n{}",
            broker.output()
        );
    }
    let mut broker = start(&data, cores);
    let address = address_of(&mut broker, &data);
    assert_eq!(clients.verify(address), Ok(()));
    assert_eq!(clients.catch_up(address), Ok(()));
    for follower in &clients.followers {
        // A position that never moved would begin at 1 each time, and pass for at least once.
        let moved = follower.began_at.iter().any(|first| *first > 1);
        assert!(moved, "durable positions move: {follower:?}");
    }
    let acknowledged = clients.acknowledged();
    say(&format!(
        "{ROUNDS} kills with {cores} shards: {acknowledged} acknowledged events are all there"
    ));
}

#[test]
fn acknowledged_events_survive_kills_with_one_shard() {
    survives_kills(1);
}

#[test]
fn acknowledged_events_survive_kills_with_four_shards() {
    survives_kills(4);
}
