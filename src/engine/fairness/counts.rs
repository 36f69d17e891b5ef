//! How many of a thing each of any number of peers has, in memory of a fixed size.
//!
//! A count lives in one of the ways of the set that the key's hash chooses, with the rest of the
//! hash beside it. A set whose ways are all taken by others counts no further peer: whoever has so
//! many names is not bound by what one name may have.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Half, Key};

const SETS: usize = 1 << 13;
const WAYS: usize = 16;

/// A cell holds the count in its low bits and the tag above.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// What became of the wish for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is counted, and to be released.
    Yes,
    /// It may be had, and there was no place to count it.
    No,
    /// There are as many as may be.
    Full,
}

/// The counts of all peers. A mebibyte, taken at the first use.
#[derive(Debug, Default)]
pub struct Counts {
    cells: OnceLock<Box<[AtomicU64]>>,
}

impl Counts {
    /// Counts one more for `key`, unless it has `max` already.
    ///
    /// Two cores that begin to count the same new key at the same moment may exceed `max` by one.
    #[must_use]
    pub fn take(&self, key: Key, max: u32) -> Counted {
        let (set, tag) = self.set(key);
        loop {
            if Self::sum(set, tag) >= u64::from(max).min(COUNT_MASK) {
                return Counted::Full;
            }
            let mut own = None;
            let mut free = None;
            for cell in set {
                let word = cell.load(Ordering::Relaxed);
                match word & COUNT_MASK {
                    0 => free = free.or(Some((cell, word, tag << COUNT_BITS | 1))),
                    _ if word >> COUNT_BITS == tag => own = Some((cell, word, word + 1)),
                    _ => {}
                }
            }
            let Some((cell, word, next)) = own.or(free) else {
                return Counted::No;
            };
            let changed = cell.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if changed.is_ok() {
                return Counted::Yes;
            }
        }
    }

    /// Takes back what was counted.
    pub fn release(&self, key: Key) {
        let (set, tag) = self.set(key);
        for cell in set {
            let released = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let count = word & COUNT_MASK;
                (count > 0 && word >> COUNT_BITS == tag).then(|| match count {
                    1 => 0,
                    _ => word - 1,
                })
            });
            if released.is_ok() {
                return;
            }
        }
        debug_assert!(false, "released what was never counted");
    }

    /// How many are counted for `key`.
    #[must_use]
    pub fn count(&self, key: Key) -> u64 {
        let (set, tag) = self.set(key);
        Self::sum(set, tag)
    }

    fn sum(set: &[AtomicU64], tag: u64) -> u64 {
        let words = set.iter().map(|cell| cell.load(Ordering::Relaxed));
        let own = words.filter(|word| word >> COUNT_BITS == tag);
        own.map(|word| word & COUNT_MASK).sum()
    }

    fn set(&self, key: Key) -> (&[AtomicU64], u64) {
        let cells = self
            .cells
            .get_or_init(|| (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect());
        let start = key.place(Half::Low, SETS) * WAYS;
        let set = cells.get(start..start + WAYS).unwrap_or_default();
        (set, key.0 >> COUNT_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_so_many_and_again_after_a_release() {
        let counts = Counts::default();
        let (a, b) = (Key::new(1 << 30), Key::new(2 << 30));
        assert_eq!([(); 3].map(|()| counts.take(a, 3)), [Counted::Yes; 3]);
        assert_eq!(counts.take(a, 3), Counted::Full);
        assert_eq!(counts.take(b, 3), Counted::Yes, "another one has its own");
        counts.release(a);
        assert_eq!(counts.take(a, 3), Counted::Yes);
        assert_eq!((counts.count(a), counts.count(b)), (3, 1));
        assert_eq!(counts.take(a, 2), Counted::Full, "a lowered limit counts");
    }

    #[test]
    fn nobody_is_refused_because_of_others() {
        let counts = Counts::default();
        // All in one set.
        let keys: Vec<_> = (1..=40_u64).map(|n| Key::new(n << 32)).collect();
        let counted: Vec<_> = keys.iter().map(|key| counts.take(*key, 1)).collect();
        assert_eq!(counted[..WAYS], [Counted::Yes; WAYS]);
        assert!(
            counted[WAYS..]
                .iter()
                .all(|counted| *counted == Counted::No)
        );
        counts.release(keys[5]);
        assert_eq!(counts.take(keys[30], 1), Counted::Yes, "its place was free");
    }

    #[test]
    fn names_without_end_leave_nothing_behind() {
        let counts = Counts::default();
        let hash = |n: u64| Key::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for n in 0..100_000 {
            assert_eq!(counts.take(hash(n), 1), Counted::Yes);
            counts.release(hash(n));
        }
        assert!((0..100_000).all(|n| counts.count(hash(n)) == 0));
    }

    #[test]
    fn cores_that_take_and_release_end_with_nothing() {
        let counts = Counts::default();
        let key = Key::new(5 << 50);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if counts.take(key, 2) == Counted::Yes {
                            counts.release(key);
                        }
                    }
                });
            }
        });
        assert_eq!(counts.count(key), 0);
    }
}
