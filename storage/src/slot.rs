//! Placement: which slot a channel belongs to.
//!
//! A slot is the unit that shards own and that moves between them. The mapping from channel to
//! slot is part of the format: it must be the same for as long as the store lives, whatever the
//! number of cores.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Slots of a store. Fixed in the manifest when the store is created.
pub const SLOT_COUNT: u16 = 64;

/// A slot of the store, below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u16);

impl SlotId {
    /// Builds the id of the slot at `index`; `None` when there is no such slot.
    #[must_use]
    pub const fn new(index: u16) -> Option<Self> {
        if index < SLOT_COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// Every slot, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }

    /// The slot's number.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of the placement hash: random for each store, so that nobody outside can choose
/// channel names that all fall on one slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed([u8; 16]);

impl HashSeed {
    /// Builds a seed from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The seed's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

// The seed is a defence as long as it is unknown: it stays out of logs.
impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed(***)")
    }
}

/// The map from channels to slots. Small and `Copy`: every shard keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    seed: HashSeed,
}

impl Placement {
    /// Builds the map of the store with this seed.
    #[must_use]
    pub const fn new(seed: HashSeed) -> Self {
        Self { seed }
    }

    /// The slot of a channel: SipHash-1-3 of the name's bytes, modulo the number of slots.
    ///
    /// The kind is no part of it: channels of one name and several kinds share a slot.
    #[must_use]
    pub fn slot_of(&self, channel: &str) -> SlotId {
        let mut hasher = SipHasher13::new_with_key(self.seed.as_bytes());
        hasher.write(channel.as_bytes());
        let slot = hasher.finish() % u64::from(SLOT_COUNT);
        SlotId(u16::try_from(slot).expect("a remainder is below its divisor, which is a u16"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: HashSeed =
        HashSeed::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    /// A store that placed its channels otherwise after an upgrade would lose sight of them. If
    /// this test fails, the format has changed: never edit the numbers.
    #[test]
    fn placement_is_the_one_of_the_format() {
        let placement = Placement::new(SEED);
        let golden = [
            ("", 28),
            ("a", 55),
            ("orders", 37),
            ("orders.eu.created", 2),
            ("größe.京", 3),
        ];
        let slots = golden.map(|(channel, _)| (channel, placement.slot_of(channel).index()));
        assert_eq!(slots, golden);
    }

    /// The published reference implementation, compiled for one compression and three
    /// finalisation rounds, gives these hashes for the key 00..0f and the input 00..(n-1).
    #[test]
    fn hash_is_siphash_1_3_of_the_reference() {
        let hash = |length: u8| {
            let mut hasher = SipHasher13::new_with_key(SEED.as_bytes());
            hasher.write(&(0..length).collect::<Vec<u8>>());
            hasher.finish()
        };
        assert_eq!(hash(0), 0xabac_0158_050f_c4dc);
        assert_eq!(hash(1), 0xc9f4_9bf3_7d57_ca93);
        assert_eq!(hash(15), 0xd320_d86d_2a51_9956);
    }

    #[test]
    fn channels_spread_over_all_slots() {
        let placement = Placement::new(SEED);
        let mut counts = [0_u32; SLOT_COUNT as usize];
        for n in 0..6_400 {
            let slot = placement.slot_of(&format!("channel.{n}"));
            counts[usize::from(slot.index())] += 1;
        }
        assert!(
            counts.iter().all(|count| (50..170).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn slots_end_at_their_count() {
        assert_eq!(SlotId::all().count(), usize::from(SLOT_COUNT));
        assert_eq!(SlotId::new(SLOT_COUNT), None);
        assert_eq!(
            SlotId::new(SLOT_COUNT - 1).map(SlotId::index),
            Some(SLOT_COUNT - 1)
        );
    }

    #[test]
    fn seed_does_not_show_in_debug_output() {
        assert_eq!(format!("{SEED:?}"), "HashSeed(***)");
    }
}
