//! A bounded table whose entries are found by a hash, and kept when they were used lately.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Places that a replacement looks at before it takes the next one, used lately or not.
const SECOND_CHANCES_MAX: usize = 16;

/// Names an entry for as long as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    at: usize,
    entered: u64,
}

/// What a table keeps.
pub(super) trait Entry {
    /// Whether somebody counts on it now: such an entry is replaced only when there is no other.
    fn is_held(&self) -> bool;
}

/// Up to so many entries. A full table gives the place of an entry that was not used lately to a
/// new one.
#[derive(Debug)]
pub(super) struct Table<E> {
    /// The place of each hash. Two entries of one hash cannot both be kept: the later one takes
    /// the place, which costs the earlier one its figures and never gives it those of another.
    index: HashMap<u64, usize, RandomState>,
    places: Vec<Place<E>>,
    places_max: usize,
    /// The place that the next replacement looks at first.
    hand: usize,
    entered: u64,
}

#[derive(Debug)]
struct Place<E> {
    hash: u64,
    /// Never the same for two entries.
    entered: u64,
    used_lately: bool,
    entry: E,
}

impl<E: Entry> Table<E> {
    /// Makes an empty table for up to `places_max` entries, at least one.
    pub(super) fn new(places_max: usize) -> Self {
        Self {
            index: HashMap::default(),
            places: Vec::new(),
            places_max: places_max.max(1),
            hand: 0,
            entered: 0,
        }
    }

    /// Finds the entry of a hash, if it is the one that is meant.
    pub(super) fn find(&mut self, hash: u64, is_meant: impl FnOnce(&E) -> bool) -> Option<Key> {
        let at = *self.index.get(&hash)?;
        let place = self.places.get_mut(at)?;
        if !is_meant(&place.entry) {
            return None;
        }
        place.used_lately = true;
        let entered = place.entered;
        Some(Key { at, entered })
    }

    /// The entry of a key, while it is kept; it counts as used.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut E> {
        let place = self.places.get_mut(key.at)?;
        if place.entered != key.entered {
            return None;
        }
        place.used_lately = true;
        Some(&mut place.entry)
    }

    /// Takes an entry in; gives its key, and the entry that it replaces.
    pub(super) fn enter(&mut self, hash: u64, entry: E) -> (Key, Option<E>) {
        self.entered += 1;
        let at = match self.index.get(&hash) {
            Some(&at) => at,
            None if self.places.len() < self.places_max => self.places.len(),
            None => self.replaceable(),
        };
        let key = Key {
            at,
            entered: self.entered,
        };
        let place = Place {
            hash,
            entered: self.entered,
            used_lately: true,
            entry,
        };
        let replaced = match self.places.get_mut(at) {
            Some(old) => Some(std::mem::replace(old, place)),
            None => {
                self.places.push(place);
                None
            }
        };
        if let Some(replaced) = &replaced {
            self.index.remove(&replaced.hash);
        }
        self.index.insert(hash, at);
        debug_assert_eq!(self.index.len(), self.places.len());
        (key, replaced.map(|place| place.entry))
    }

    /// The entries at places from `from` on, with the places: for walks that are cut into slices.
    pub(super) fn entries_from(&self, from: usize) -> impl Iterator<Item = (usize, &E)> {
        let places = self.places.iter().enumerate().skip(from);
        places.map(|(at, place)| (at, &place.entry))
    }

    /// The place of an entry that was not used lately and is not held, if one is near.
    fn replaceable(&mut self) -> usize {
        for _ in 0..SECOND_CHANCES_MAX {
            let Some(place) = self.places.get_mut(self.hand) else {
                break;
            };
            let used = std::mem::take(&mut place.used_lately);
            if !used && !place.entry.is_held() {
                break;
            }
            self.hand = (self.hand + 1) % self.places_max;
        }
        let at = self.hand;
        self.hand = (at + 1) % self.places_max;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Plain(&'static str, bool);

    impl Entry for Plain {
        fn is_held(&self) -> bool {
            self.1
        }
    }

    fn names(table: &Table<Plain>) -> Vec<&str> {
        table.entries_from(0).map(|(_, entry)| entry.0).collect()
    }

    #[test]
    fn a_full_table_replaces_what_was_not_used_lately_and_is_not_held() {
        let mut table = Table::new(3);
        for (hash, name) in [(1, "a"), (2, "held"), (3, "c")] {
            let (_, replaced) = table.enter(hash, Plain(name, name == "held"));
            assert_eq!(replaced, None);
        }
        // All were used lately: the marks go, and the first one makes room.
        assert_eq!(table.enter(4, Plain("d", false)).1, Some(Plain("a", false)));
        assert_eq!(table.enter(5, Plain("e", false)).1, Some(Plain("c", false)));
        assert_eq!(names(&table), ["d", "held", "e"]);
        assert_eq!(table.find(1, |_| true), None);
        assert!(table.find(2, |entry| entry.0 == "held").is_some());
    }

    #[test]
    fn an_entry_with_the_hash_of_another_takes_its_place_and_nothing_else_of_it() {
        let mut table = Table::new(3);
        let (first, _) = table.enter(7, Plain("first", false));
        assert_eq!(table.find(7, |entry| entry.0 == "second"), None);
        let (second, replaced) = table.enter(7, Plain("second", false));
        assert_eq!(replaced, Some(Plain("first", false)));
        assert_eq!(table.get(first), None);
        assert_eq!(table.get(second), Some(&mut Plain("second", false)));
        assert_eq!(names(&table), ["second"]);
    }

    #[test]
    fn memory_stays_bounded_under_names_that_never_return() {
        let mut table = Table::new(100);
        for hash in 0..10_000 {
            table.enter(hash, Plain("x", hash % 3 == 0));
        }
        assert_eq!((table.places.len(), table.index.len()), (100, 100));
        assert!(table.index.capacity() < 1000);
    }
}
