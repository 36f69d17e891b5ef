//! What names matched lately.
//!
//! An entry holds the ids of the patterns that match a channel, not their subscribers: a
//! subscription to a pattern that is already there changes no entry, and a crowd on one pattern
//! takes no room here. A literal pattern that comes or goes touches the one entry of its name, a
//! wildcard pattern all: they are outdated at once by a generation and renewed when next asked for.
//!
//! A full cache takes one new name in eight, and replaces an entry for it by second chance, in
//! place. A name in steady use is in soon; a stream of names that never return mostly passes by,
//! as to take each in would cost more than the lookups it cannot save. After warm-up neither hits
//! nor replacements allocate, unless a name is longer than its predecessor in the slot.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};

/// A full cache takes one in so many new names.
const ADMITTED_OF: usize = 8;

/// Entries that a replacement looks at before it takes the next one, used lately or not: bounds
/// the time of one replacement.
const SECOND_CHANCES_MAX: usize = 16;

/// Room for so many patterns stays with a slot from one entry to the next.
const PATTERNS_KEPT: usize = 16;

/// A bounded map from the name of a channel to the patterns that match it.
#[derive(Debug)]
pub(super) struct MatchCache {
    /// From the hash of a name to its slot. Two names with one hash displace each other.
    index: HashMap<u64, usize>,
    slots: Vec<Slot>,
    entries_max: usize,
    /// New names that a full cache has met.
    newcomers: usize,
    /// The slot that the next replacement looks at first.
    hand: usize,
    hasher: RandomState,
    /// Of the wildcard patterns; entries of older ones are outdated.
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    name: String,
    patterns: Vec<u32>,
    /// Zero is always outdated.
    generation: u64,
    turn: usize,
    used_lately: bool,
}

/// One valid entry; until the next change of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry(usize);

impl MatchCache {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            entries_max,
            newcomers: 0,
            hand: 0,
            hasher: RandomState::default(),
            generation: 1,
        }
    }

    /// Outdates all entries.
    pub(super) fn outdate_all(&mut self) {
        self.generation += 1;
    }

    /// Outdates the entry of one name.
    pub(super) fn outdate(&mut self, name: &str) {
        if let Some(Entry(at)) = self.find(name)
            && let Some(slot) = self.slots.get_mut(at)
        {
            slot.generation = 0;
        }
    }

    /// Finds the valid entry of a name.
    pub(super) fn find(&mut self, name: &str) -> Option<Entry> {
        let at = *self.index.get(&self.hasher.hash_one(name))?;
        let slot = self.slots.get_mut(at)?;
        if slot.generation != self.generation || slot.name != name {
            return None;
        }
        slot.used_lately = true;
        Some(Entry(at))
    }

    /// Remembers the patterns that match a name. A new entry starts its turns at `turn`, a renewed
    /// one goes on with its own. `None` when the cache does not take the name in.
    pub(super) fn insert(&mut self, name: &str, patterns: &[u32], turn: usize) -> Option<Entry> {
        let hash = self.hasher.hash_one(name);
        let at = match self.index.get(&hash) {
            Some(&at) => at,
            None if self.slots.len() < self.entries_max => self.grow(hash, turn),
            None => self.replace(hash)?,
        };
        let slot = self.slots.get_mut(at)?;
        if slot.name != name {
            slot.name.clear();
            slot.name.push_str(name);
            slot.turn = turn;
        }
        slot.patterns.clear();
        slot.patterns.extend_from_slice(patterns);
        slot.patterns.shrink_to(PATTERNS_KEPT);
        slot.generation = self.generation;
        Some(Entry(at))
    }

    /// The patterns of an entry, and its turn: one more each time.
    pub(super) fn take_turn(&mut self, Entry(at): Entry) -> (&[u32], usize) {
        let Some(slot) = self.slots.get_mut(at) else {
            return (&[], 0);
        };
        let turn = slot.turn;
        slot.turn = turn.wrapping_add(1);
        (&slot.patterns, turn)
    }

    fn grow(&mut self, hash: u64, turn: usize) -> usize {
        let at = self.slots.len();
        self.slots.push(Slot {
            hash,
            name: String::new(),
            patterns: Vec::new(),
            generation: 0,
            turn,
            used_lately: false,
        });
        self.index.insert(hash, at);
        at
    }

    /// Gives the slot of an entry that was not used lately to a new one, now and then.
    fn replace(&mut self, hash: u64) -> Option<usize> {
        self.newcomers = self.newcomers.wrapping_add(1);
        if !self.newcomers.is_multiple_of(ADMITTED_OF) {
            return None;
        }
        for _ in 0..SECOND_CHANCES_MAX {
            let slot = self.slots.get_mut(self.hand)?;
            if !std::mem::take(&mut slot.used_lately) {
                break;
            }
            self.hand = self.after(self.hand);
        }
        let at = self.hand;
        self.hand = self.after(at);
        let slot = self.slots.get_mut(at)?;
        let replaced = std::mem::replace(&mut slot.hash, hash);
        self.index.remove(&replaced);
        self.index.insert(hash, at);
        Some(at)
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(cache: &mut MatchCache, name: &str) -> Option<Vec<u32>> {
        let entry = cache.find(name)?;
        Some(cache.take_turn(entry).0.to_vec())
    }

    #[test]
    fn an_entry_is_found_until_it_is_outdated() {
        let mut cache = MatchCache::new(10);
        cache.insert("a", &[1, 2], 0);
        cache.insert("b", &[], 0);
        assert_eq!(patterns(&mut cache, "a"), Some(vec![1, 2]));
        cache.outdate("a");
        assert_eq!(patterns(&mut cache, "a"), None);
        assert_eq!(patterns(&mut cache, "b"), Some(vec![]));
        cache.outdate_all();
        assert_eq!(patterns(&mut cache, "b"), None);
        cache.insert("b", &[3], 0);
        assert_eq!(patterns(&mut cache, "b"), Some(vec![3]));
    }

    #[test]
    fn a_renewed_entry_goes_on_with_its_turns() {
        let mut cache = MatchCache::new(10);
        let entry = cache.insert("a", &[1], 7).unwrap();
        assert_eq!(cache.take_turn(entry).1, 7);
        cache.outdate_all();
        let entry = cache.insert("a", &[1], 70).unwrap();
        assert_eq!(cache.take_turn(entry).1, 8);
    }

    #[test]
    fn a_full_cache_keeps_what_was_used_lately() {
        let mut cache = MatchCache::new(4);
        for name in ["a", "b", "c", "d"] {
            cache.insert(name, &[], 0);
        }
        for name in ["a", "b", "d"] {
            assert!(cache.find(name).is_some());
        }
        let attempts = (1..)
            .take_while(|_| cache.insert("e", &[5], 0).is_none())
            .count()
            + 1;
        assert_eq!(attempts, ADMITTED_OF);
        assert!(cache.find("c").is_none(), "it had no use since it came");
        assert!(
            ["a", "b", "d", "e"]
                .iter()
                .all(|name| cache.find(name).is_some())
        );
        assert_eq!((cache.slots.len(), cache.index.len()), (4, 4));
    }

    #[test]
    fn a_cache_of_none_holds_none() {
        let mut cache = MatchCache::new(0);
        assert!(cache.insert("a", &[1], 0).is_none());
        assert!(cache.find("a").is_none());
    }

    #[test]
    fn the_empty_name_is_a_name() {
        let mut cache = MatchCache::new(2);
        let entry = cache.insert("", &[1], 5).unwrap();
        assert_eq!(cache.take_turn(entry), (&[1][..], 5));
    }
}
