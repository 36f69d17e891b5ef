//! What one address may have of connections: so many at once, so many new ones in a second.
//!
//! Over all ports together, and by the acceptors: what is turned away has cost no executor
//! anything. Of IPv6 the first 64 bits count, which is what one subscriber of a provider has.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::engine::fairness::{Counted, Counts, Key, Rate, Rates, subscriber_line};
use crate::rt;

/// The addresses that have connections; shared by the acceptors of all ports.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connections_max: AtomicU32,
    handshakes_per_second: AtomicU32,
    connections: Counts,
    handshakes: Rates,
    hashing: RandomState,
    refused: AtomicU64,
}

impl Addresses {
    /// Sets the limits of each address; zero is none. Connections that were opened without a limit
    /// are not counted.
    pub fn set(&self, connections_max: usize, handshakes_per_second: u32) {
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let inner = &self.0;
        inner
            .connections_max
            .store(connections_max, Ordering::Relaxed);
        inner
            .handshakes_per_second
            .store(handshakes_per_second, Ordering::Relaxed);
    }

    /// Connections that were turned away because of their address.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Takes a place for a connection.
    ///
    /// # Errors
    /// The key of the limit that was reached.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<Option<Held>, &'static str> {
        let inner = &self.0;
        let connections_max = inner.connections_max.load(Ordering::Relaxed);
        let per_second = inner.handshakes_per_second.load(Ordering::Relaxed);
        if connections_max == 0 && per_second == 0 {
            return Ok(None);
        }
        let key = Key::new(inner.hashing.hash_one(subscriber_line(peer)));
        let rate = Rate {
            per_second: per_second.into(),
            burst: per_second.into(),
        };
        let now_ns = rt::now().as_ns();
        if per_second > 0 && inner.handshakes.take(key, rate, 1, now_ns).is_err() {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err("limits.handshakes_per_address");
        }
        if connections_max == 0 {
            return Ok(None);
        }
        match inner.connections.take(key, connections_max) {
            Counted::Yes => Ok(Some(Held(self.0.clone(), key))),
            Counted::No => Ok(None),
            Counted::Full => {
                inner.refused.fetch_add(1, Ordering::Relaxed);
                Err("limits.connections_per_address")
            }
        }
    }
}

/// A connection's place among those of its address; given back when dropped, on whatever thread.
#[derive(Debug)]
pub(super) struct Held(Arc<Inner>, Key);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.connections.release(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_so_many_connections_and_others_have_theirs() {
        let addresses = Addresses::default();
        assert!(
            addresses.admit(ip("10.0.0.1")).unwrap().is_none(),
            "no limit"
        );
        addresses.set(2, 0);
        let first = addresses.admit(ip("10.0.0.1")).unwrap();
        let _second = addresses.clone().admit(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(
            addresses.admit(ip("10.0.0.1")).err(),
            Some("limits.connections_per_address")
        );
        let _other = addresses.admit(ip("10.0.0.2")).expect("another address");
        drop(first);
        assert!(addresses.admit(ip("10.0.0.1")).is_ok());
        assert_eq!(addresses.refused(), 1);
    }

    #[test]
    fn new_connections_of_one_address_are_bounded_in_a_second() {
        let addresses = Addresses::default();
        addresses.set(0, 1);
        let tried = |peer| (0..20).filter(|_| addresses.admit(peer).is_ok()).count();
        let passed = tried(ip("2001:db8::1")) + tried(ip("2001:db8::2"));
        assert!((1..20).contains(&passed), "one network: {passed}");
        assert!(tried(ip("192.0.2.7")) >= 1);
        assert!(addresses.refused() > 0);
    }
}
