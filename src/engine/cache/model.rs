//! The response cache against a list.

use bytes::Bytes;
use proptest::prelude::*;

use super::{CacheCounters, ENTRY_OVERHEAD_BYTES, ResponseCache};

/// What the cache must do, in a few lines: a list, least recently used first.
struct Model {
    entries: Vec<Entry>,
    bytes_max: usize,
    counters: CacheCounters,
}

struct Entry {
    name: (String, String),
    value: Bytes,
    expires_at_ms: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES + self.name.0.len() + self.name.1.len() + self.value.len()
    }
}

impl Model {
    fn bytes(&self) -> usize {
        self.entries.iter().map(Entry::bytes).sum()
    }

    fn take(&mut self, name: &(String, String)) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.name == *name)?;
        Some(self.entries.remove(at))
    }

    fn get(&mut self, name: &(String, String), now_ms: u64) -> Option<Bytes> {
        let Some(entry) = self.take(name).filter(|entry| entry.expires_at_ms > now_ms) else {
            self.counters.misses += 1;
            return None;
        };
        self.counters.hits += 1;
        let value = entry.value.clone();
        self.entries.push(entry);
        Some(value)
    }

    fn put(&mut self, entry: Entry, now_ms: u64) {
        self.take(&entry.name);
        if entry.value.len() <= self.bytes_max / 4
            && entry.bytes() <= self.bytes_max
            && entry.expires_at_ms > now_ms
        {
            while self.bytes() + entry.bytes() > self.bytes_max {
                let victim = self.entries.remove(0);
                self.counters.evictions += u64::from(victim.expires_at_ms > now_ms);
            }
            self.entries.push(entry);
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Get,
    Put { len: usize, lifetime_ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Get),
        (0..600_usize, 0..200_u64).prop_map(|(len, lifetime_ms)| Action::Put { len, lifetime_ms }),
    ]
}

fn name() -> impl Strategy<Value = (String, String)> {
    ("[ab]{0,2}", "[ab]{0,2}")
}

proptest! {
    #[test]
    fn a_cache_does_what_a_list_does(
        bytes_max in 0..4_000_usize,
        actions in prop::collection::vec((0..20_u64, name(), action()), 1..200),
    ) {
        let mut cache = ResponseCache::new(bytes_max);
        let counters = CacheCounters::default();
        let mut model = Model { entries: Vec::new(), bytes_max, counters };
        let mut now_ms = 0;
        for (turn, (passed_ms, name, action)) in (0_u8..).zip(actions) {
            now_ms += passed_ms;
            match action {
                Action::Get => {
                    prop_assert_eq!(cache.get(&name.0, &name.1, now_ms), model.get(&name, now_ms));
                }
                Action::Put { len, lifetime_ms } => {
                    let value = Bytes::from(vec![turn; len]);
                    let expires_at_ms = now_ms + lifetime_ms;
                    cache.put(&name.0, &name.1, value.clone(), expires_at_ms, now_ms);
                    model.put(Entry { name, value, expires_at_ms }, now_ms);
                }
            }
            prop_assert_eq!(cache.len(), model.entries.len());
            prop_assert_eq!(cache.bytes(), model.bytes());
            prop_assert!(cache.bytes() <= bytes_max);
            prop_assert_eq!(cache.counters(), model.counters);
        }
    }
}
