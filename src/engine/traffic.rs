//! What went over each channel: counters for the lists that operators ask for.
//!
//! Kept for the channels that were used last, in bounded memory: a full table gives the place of a
//! channel that was not used lately to a new one, whose counters begin at zero. Counters live as
//! long as the process.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

/// Entries that a replacement looks at before it takes the next one, used lately or not.
const SECOND_CHANCES_MAX: usize = 16;

/// What went over one channel. "In" is towards the broker, "out" is from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages or requests that came.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Responses that came.
    pub responses_in: u64,
    /// Deliveries: a message to three subscribers is three.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Responses that went to those who had asked.
    pub responses_out: u64,
    /// When something last happened: milliseconds since 1970.
    pub last_ms: u64,
}

impl Traffic {
    /// Adds what another core has counted.
    pub fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.responses_in += other.responses_in;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
        self.responses_out += other.responses_out;
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// Names the counters of a channel for as long as they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficKey {
    index: usize,
    entered: u64,
}

/// The counters of one kind of channels on one core.
#[derive(Debug)]
pub struct TrafficTable {
    index: HashMap<Rc<str>, usize, RandomState>,
    entries: Vec<Entry>,
    /// Places of channels that were forgotten.
    free: Vec<usize>,
    entries_max: usize,
    /// The entry of the last call: traffic comes in runs.
    last: usize,
    /// The entry that the next replacement looks at first.
    hand: usize,
    entered: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None`: the place is free.
    name: Option<Rc<str>>,
    /// Never the same for two channels of one place.
    entered: u64,
    used_lately: bool,
    traffic: Traffic,
}

impl TrafficTable {
    /// Makes an empty table for up to `entries_max` channels, at least one.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            index: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            entries_max: entries_max.max(1),
            last: 0,
            hand: 0,
            entered: 0,
        }
    }

    /// The counters of a channel. Allocates for one that is new.
    pub fn of(&mut self, channel: &str) -> &mut Traffic {
        let known = self.entries.get(self.last);
        let again = known.is_some_and(|entry| entry.name.as_deref() == Some(channel));
        if !again {
            self.last = match self.index.get(channel) {
                Some(&at) => at,
                None => self.enter(channel),
            };
        }
        let entry = self.entries.get_mut(self.last);
        let entry = entry.expect("an entry was found or made");
        entry.used_lately = true;
        &mut entry.traffic
    }

    /// The counters of a channel that has some.
    #[must_use]
    pub fn peek(&self, channel: &str) -> Option<&Traffic> {
        let entry = self.entries.get(*self.index.get(channel)?)?;
        Some(&entry.traffic)
    }

    /// The key of a channel's counters, which begin now if they are new.
    pub fn key(&mut self, channel: &str) -> TrafficKey {
        let _begun = self.of(channel);
        let index = self.last;
        let entered = self.entries.get(index).map_or(0, |entry| entry.entered);
        TrafficKey { index, entered }
    }

    /// The counters of a key, while they are kept.
    pub fn get(&mut self, key: TrafficKey) -> Option<&mut Traffic> {
        let entry = self.entries.get_mut(key.index)?;
        (entry.name.is_some() && entry.entered == key.entered).then_some(&mut entry.traffic)
    }

    /// Forgets a channel.
    pub fn forget(&mut self, channel: &str) {
        if let Some(at) = self.index.remove(channel)
            && let Some(entry) = self.entries.get_mut(at)
        {
            entry.name = None;
            self.free.push(at);
        }
    }

    /// Channels whose counters are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The channels at places from `from` on, with the places: for walks that are cut into slices.
    pub fn entries_from(&self, from: usize) -> impl Iterator<Item = (usize, &str, &Traffic)> {
        let entries = self.entries.iter().enumerate().skip(from);
        entries.filter_map(|(at, entry)| Some((at, entry.name.as_deref()?, &entry.traffic)))
    }

    /// Finds a place for a new channel.
    fn enter(&mut self, channel: &str) -> usize {
        self.entered += 1;
        let name: Rc<str> = channel.into();
        let entry = Entry {
            name: Some(name.clone()),
            entered: self.entered,
            used_lately: true,
            traffic: Traffic::default(),
        };
        let at = if self.entries.len() < self.entries_max {
            self.free.pop().unwrap_or(self.entries.len())
        } else {
            self.free.pop().unwrap_or_else(|| self.replaceable())
        };
        match self.entries.get_mut(at) {
            Some(place) => {
                let replaced = std::mem::replace(place, entry);
                if let Some(name) = replaced.name {
                    self.index.remove(&name);
                }
            }
            None => self.entries.push(entry),
        }
        self.index.insert(name, at);
        at
    }

    /// The place of a channel that was not used lately, if one is near.
    fn replaceable(&mut self) -> usize {
        for _ in 0..SECOND_CHANCES_MAX {
            let Some(entry) = self.entries.get_mut(self.hand) else {
                break;
            };
            if !std::mem::take(&mut entry.used_lately) {
                break;
            }
            self.hand = (self.hand + 1) % self.entries_max;
        }
        let at = self.hand;
        self.hand = (at + 1) % self.entries_max;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &TrafficTable) -> Vec<&str> {
        let mut names: Vec<_> = table.entries_from(0).map(|(_, name, _)| name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_channel_has_counters_of_its_own() {
        let mut table = TrafficTable::new(10);
        for channel in ["a", "b", "a", "a"] {
            table.of(channel).messages_in += 1;
        }
        assert_eq!(table.of("a").messages_in, 3);
        assert_eq!(table.of("b").messages_in, 1);
        assert_eq!((table.len(), names(&table)), (2, vec!["a", "b"]));
    }

    #[test]
    fn a_full_table_replaces_what_was_not_used_lately() {
        let mut table = TrafficTable::new(3);
        for channel in ["a", "b", "c"] {
            table.of(channel).messages_in += 1;
        }
        // All were used lately: the marks go, and the first one makes room.
        table.of("d");
        table.of("c");
        table.of("e");
        assert_eq!(names(&table), ["c", "d", "e"]);
        assert_eq!(table.of("b").messages_in, 0, "it begins anew");
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_key_of_counters_that_are_gone_reaches_no_others() {
        let mut table = TrafficTable::new(1);
        let key = table.key("a");
        table.get(key).unwrap().responses_in += 1;
        assert_eq!(table.of("a").responses_in, 1);
        table.of("b");
        assert_eq!(table.get(key), None);
        let key = table.key("b");
        table.forget("b");
        assert_eq!(table.get(key), None);
        assert!(table.is_empty());
        table.of("c");
        assert_eq!(table.get(key), None);
    }

    #[test]
    fn a_channel_that_was_forgotten_begins_anew_in_a_free_place() {
        let mut table = TrafficTable::new(2);
        table.of("a").messages_in += 1;
        table.of("b").messages_in += 1;
        table.forget("a");
        table.forget("unknown");
        assert_eq!(names(&table), ["b"]);
        assert_eq!(table.of("a").messages_in, 0);
        assert_eq!(table.of("b").messages_in, 1);
        assert_eq!(table.entries_from(1).count(), 1);
    }

    #[test]
    fn memory_stays_bounded_under_names_that_never_return() {
        let mut table = TrafficTable::new(100);
        for number in 0..10_000 {
            table.of(&number.to_string()).messages_in += 1;
        }
        assert_eq!((table.len(), table.entries.len()), (100, 100));
        assert!(table.index.capacity() < 1000);
    }
}
