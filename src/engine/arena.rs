//! A slab whose keys go stale: what the timers, subscriptions and pending requests live in.
//!
//! Entries are addressed in two ways. From outside by a [`Key`], which names one life of a slot and
//! finds nothing once that life has ended. From inside by the bare `u32` index, for links between
//! entries that die together with what they point at.
//!
//! The wheel packs its timers tighter than an [`Arena`] would and shares only the keys.

use std::num::NonZeroU32;

use slab::Slab;

/// The index of no entry; terminates links.
pub(super) const NIL: u32 = u32::MAX;

/// Names one life of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    index: u32,
    generation: NonZeroU32,
}

const _: () = assert!(
    size_of::<Option<Key>>() == 8,
    "a key is handed around like a u64"
);

impl Key {
    /// # Panics
    /// When `slot` is 2^32 - 1 or more; the structures are bounded far below.
    pub(super) fn new(slot: usize, Generation(generation): Generation) -> Self {
        let index = u32::try_from(slot).ok().filter(|&index| index != NIL);
        let index = index.expect("there are fewer than 2^32 - 1 entries");
        Self { index, generation }
    }

    pub(super) fn index(self) -> u32 {
        self.index
    }

    pub(super) fn is_of(self, Generation(generation): Generation) -> bool {
        self.generation == generation
    }
}

/// Tells the lives of a slot apart. Never zero: the niche keeps a slab's entries without a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(NonZeroU32);

impl Generation {
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN);

    /// The next one, for the next insertion into any slot. That is as good as counting for each
    /// slot: the free list reuses the same slot first, so either wraps after 2^32 insertions.
    pub(super) fn advance(&mut self) -> Self {
        self.0 = self.0.checked_add(1).unwrap_or(NonZeroU32::MIN);
        *self
    }
}

/// Entries with stable indices and generational keys.
///
/// Insertion, removal and access are O(1). Freed slots are reused, last freed first; memory follows
/// the highest number of entries that were alive at once.
#[derive(Debug)]
pub(super) struct Arena<T> {
    slots: Slab<Slot<T>>,
    generation: Generation,
}

#[derive(Debug)]
struct Slot<T> {
    generation: Generation,
    value: T,
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Slab::new(),
            generation: Generation::FIRST,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// # Panics
    /// As [`Key::new`].
    pub(super) fn insert(&mut self, value: T) -> Key {
        let generation = self.generation.advance();
        Key::new(self.slots.insert(Slot { generation, value }), generation)
    }

    /// No slot from this one on has an entry.
    pub(super) fn index_end(&self) -> u32 {
        u32::try_from(self.slots.capacity()).unwrap_or(NIL)
    }

    /// The entry in slot `index`, whichever life it is in.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(slab_index(index)).map(|slot| &slot.value)
    }

    /// As [`Arena::at`], mutable.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots
            .get_mut(slab_index(index))
            .map(|slot| &mut slot.value)
    }

    /// Ends the life that is in slot `index`.
    pub(super) fn remove_at(&mut self, index: u32) -> Option<T> {
        self.slots
            .try_remove(slab_index(index))
            .map(|slot| slot.value)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.slots
            .get(slab_index(key.index))
            .filter(|slot| key.is_of(slot.generation))
            .map(|slot| &slot.value)
    }

    /// As [`Arena::get`], mutable.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots
            .get_mut(slab_index(key.index))
            .filter(|slot| key.is_of(slot.generation))
            .map(|slot| &mut slot.value)
    }

    /// Ends all lives.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.slots.drain().map(|slot| slot.value)
    }

    /// Ends the life that `key` names; nothing happens if it has ended before.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.remove_at(key.index)
    }
}

/// Widens an index; what does not fit a `usize` is in no slab either.
pub(super) fn slab_index(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_entry_until_it_is_removed() {
        let mut arena = Arena::new();
        let first = arena.insert('a');
        let second = arena.insert('b');
        assert_eq!(
            (arena.get(first), arena.get(second)),
            (Some(&'a'), Some(&'b'))
        );
        assert_eq!(arena.remove(first), Some('a'));
        assert_eq!(arena.remove(first), None);
        assert_eq!((arena.get(first), arena.len()), (None, 1));
    }

    #[test]
    fn a_stale_key_does_not_see_the_next_life_of_its_slot() {
        let mut arena = Arena::new();
        let stale = arena.insert(1);
        arena.remove(stale);
        let fresh = arena.insert(2);
        assert_eq!(stale.index(), fresh.index(), "the slot is reused");
        assert_eq!(arena.get(stale), None);
        assert_eq!(arena.remove(stale), None);
        assert_eq!(arena.get(fresh), Some(&2));
        assert_eq!(arena.at(fresh.index()), Some(&2));
    }

    #[test]
    fn generations_skip_zero_when_they_wrap() {
        let mut arena = Arena::new();
        arena.generation = Generation(NonZeroU32::MAX);
        let key = arena.insert(());
        assert!(key.is_of(Generation::FIRST));
        assert!(arena.get(key).is_some());
    }

    #[test]
    fn the_generation_costs_no_tag() {
        // What the slab keeps for each slot.
        #[expect(dead_code, reason = "only its size matters")]
        enum Entry<T> {
            Vacant(usize),
            Occupied(T),
        }
        assert_eq!(
            size_of::<Entry<Slot<[u64; 3]>>>(),
            size_of::<Slot<[u64; 3]>>()
        );
    }
}
