//! One life of a broker: clients that store and follow, until it ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Difference, Follower, Ledger};
use crate::mock::peer::{PATIENCE, Peer};

/// A few random decisions that a seed makes again.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A seed of this moment, unless the environment has one; it is said, so that a failure can
    /// be looked at again.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var("RINGMQ_TEST_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            time.map_or(1, |time| u64::from(time.subsec_nanos()))
        });
        eprintln!("{test}: RINGMQ_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Everybody who talks to the broker: a publisher for each ledger, a follower for each of the
/// first ledgers.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) followers: Vec<Follower>,
}

impl Clients {
    pub(crate) fn new(channels: usize, followers: usize) -> Self {
        Self::of(channels, followers, false)
    }

    /// Those of channels that give up their oldest events.
    pub(crate) fn trimming(channels: usize) -> Self {
        Self::of(channels, 0, true)
    }

    fn of(channels: usize, followers: usize, trims: bool) -> Self {
        let ledger = |number| Ledger::new(&format!("stored.{number}"), trims);
        let follower = |number| Follower::new(&format!("follower-{number}"));
        Self {
            ledgers: (0..channels).map(ledger).collect(),
            followers: (0..followers).map(follower).collect(),
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.ledgers.iter().map(Ledger::acknowledged).sum()
    }

    /// Stores and follows until `end` has ended the broker: after `receipts` receipts and the
    /// time `after` them.
    ///
    /// # Panics
    /// When receipts do not come.
    pub(crate) fn live(
        &mut self,
        address: SocketAddr,
        receipts: u64,
        after: Duration,
        end: impl FnOnce(),
    ) -> Result<(), Difference> {
        let progress = AtomicU64::new(0);
        let channels: Vec<_> = self.ledgers.iter().map(|l| l.channel.clone()).collect();
        std::thread::scope(|scope| {
            for ledger in &mut self.ledgers {
                let (peer, progress) = (Peer::connect(address), &progress);
                scope.spawn(move || ledger.publish(peer, progress));
            }
            let following: Vec<_> = self
                .followers
                .iter_mut()
                .zip(&channels)
                .map(|(follower, channel)| {
                    let peer = Peer::connect(address);
                    scope.spawn(move || follower.follow(peer, channel, None))
                })
                .collect();
            let deadline = Instant::now() + PATIENCE;
            while progress.load(Ordering::Relaxed) < receipts && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(after);
            end();
            assert!(
                progress.load(Ordering::Relaxed) >= receipts,
                "the broker stores"
            );
            let mut followed = following.into_iter().map(|thread| thread.join());
            followed.try_for_each(|joined| joined.expect("a follower ends"))
        })
    }

    /// Compares every channel with what was acknowledged, and with what its follower got.
    pub(crate) fn verify(&mut self, address: SocketAddr) -> Result<(), Difference> {
        for ledger in &mut self.ledgers {
            ledger.verify(address)?;
        }
        for (follower, ledger) in self.followers.iter_mut().zip(&mut self.ledgers) {
            follower.compare(ledger)?;
        }
        Ok(())
    }

    /// Lets the followers read what they have not had yet.
    pub(crate) fn catch_up(&mut self, address: SocketAddr) -> Result<(), Difference> {
        for (follower, ledger) in self.followers.iter_mut().zip(&mut self.ledgers) {
            follower.catch_up(address, ledger)?;
        }
        Ok(())
    }
}
