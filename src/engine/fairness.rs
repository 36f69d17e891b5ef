//! What one peer may take of what all share: so much in a time, or so many at once.
//!
//! Peers choose how many names they have, so a table with an entry for each name would be theirs to
//! fill. Here the memory is fixed, and a name is a hash of it. The hash must be seeded by whoever
//! makes the keys, or peers could choose names that meet.
//!
//! # Threading
//! Both structures are shared by all cores: a limit counts for the broker, however the connections
//! of a peer are spread. They hold atomic cells, touched only where a limit is set, and nobody
//! waits for anybody. What is told of races is the worst that two cores at once can do.

mod counts;
mod rates;

use std::net::{IpAddr, Ipv6Addr};

pub use counts::{Counted, Counts};
pub use rates::{Rate, Rates};

/// Who takes: a seeded hash of a name or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of a hash.
    #[must_use]
    pub const fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// A place among `count`, from the low half of the hash or from the high one.
    fn place(self, half: Half, count: usize) -> usize {
        let bits = match half {
            Half::Low => self.0 & u64::from(u32::MAX),
            Half::High => self.0 >> 32,
        };
        usize::try_from(bits).unwrap_or(usize::MAX) % count
    }
}

/// The part of an address that somebody cannot choose freely: of IPv6 the first 64 bits.
#[must_use]
pub fn subscriber_line(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        canonical @ IpAddr::V4(_) => canonical,
    }
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Low,
    High,
}
