//! The response cache: answers to queries that carry a cache key.
//!
//! One cache for each shard, for the channels that the shard owns. It is bounded in bytes and
//! forgets the least recently used answer first. The entries are linked by slot in the order of
//! their use; an index leads from the hash of channel and key to the slot.
//!
//! ```text
//!   index: hash ──► slot          recency: newest ⇄ … ⇄ oldest
//! ```
//!
//! The hash is seeded and has 64 bits, so that two keys with one hash are a matter of decades; if
//! they meet, the newer entry displaces the older one, as a cache may.

#[cfg(test)]
mod model;
mod recency;

use bytes::Bytes;
use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};
use std::hash::BuildHasher;

use super::arena::Arena;
use recency::{Links, Recency};

/// What one entry takes beside its channel, key and value: its slot (96 bytes), its share of the
/// index (18 to 36 bytes), what the allocator rounds up, and some of what tables reserve when they
/// grow.
pub const ENTRY_OVERHEAD_BYTES: usize = 160;

/// Answers by channel and cache key, each until it expires or makes room.
///
/// Owned by the shard's executor.
#[derive(Debug)]
pub struct ResponseCache {
    index: HashMap<u64, u32>,
    entries: Arena<Entry>,
    recency: Recency,
    hasher: RandomState,
    bytes: usize,
    bytes_max: usize,
    counters: CacheCounters,
}

/// What a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Lookups that found an answer.
    pub hits: u64,
    /// Lookups that found none, or an expired one.
    pub misses: u64,
    /// Answers that were forgotten before they expired, to make room.
    pub evictions: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    channel: Box<str>,
    key: Box<str>,
    value: Bytes,
    expires_at_ms: u64,
    links: Links,
}

impl Entry {
    fn bytes(&self) -> usize {
        entry_bytes(&self.channel, &self.key, &self.value)
    }
}

impl ResponseCache {
    /// Makes an empty cache of at most `bytes_max` bytes, counted as channel, key and value of each
    /// entry plus [`ENTRY_OVERHEAD_BYTES`]. Zero caches nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            index: HashMap::new(),
            entries: Arena::new(),
            recency: Recency::new(),
            hasher: RandomState::default(),
            bytes: 0,
            bytes_max,
            counters: CacheCounters::default(),
        }
    }

    /// The number of entries, including those that have expired unnoticed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is cached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes in use; at most the bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hits, misses and evictions so far.
    #[must_use]
    pub fn counters(&self) -> CacheCounters {
        self.counters
    }

    /// Looks an answer up and makes it the most recently used one. An answer is valid before
    /// `expires_at_ms`, not at it; an expired one is removed. Allocates nothing.
    pub fn get(&mut self, channel: &str, key: &str, now_ms: u64) -> Option<Bytes> {
        let value = self.lookup(channel, key, now_ms);
        let counter = match value {
            Some(_) => &mut self.counters.hits,
            None => &mut self.counters.misses,
        };
        *counter += 1;
        value
    }

    /// Remembers an answer until `expires_at_ms`, in place of an older one.
    ///
    /// Channel and key are copied, the value is kept as it is: it should own its memory, as a slice
    /// of a larger buffer would keep all of that alive and count for its own length only. A value
    /// longer than a quarter of the bound is not cached, nor is an entry that could not fit or has
    /// expired; an older answer is forgotten nevertheless, as it is no longer the latest.
    pub fn put(&mut self, channel: &str, key: &str, value: Bytes, expires_at_ms: u64, now_ms: u64) {
        let hash = self.hasher.hash_one((channel, key));
        if let Some(&index) = self.index.get(&hash) {
            self.remove(index);
        }
        let bytes = entry_bytes(channel, key, &value);
        let too_large = value.len() > self.bytes_max / 4 || bytes > self.bytes_max;
        if too_large || expires_at_ms <= now_ms {
            return;
        }
        self.make_room(bytes, now_ms);
        // The first clone of `Bytes` made from a vector allocates its reference count: have it
        // done here rather than in the first `get`.
        drop(value.clone());
        let entry = Entry {
            hash,
            channel: channel.into(),
            key: key.into(),
            value,
            expires_at_ms,
            links: Links::default(),
        };
        let index = self.entries.insert(entry).index();
        self.index.insert(hash, index);
        self.recency.push_newest(&mut self.entries, index);
        self.bytes += bytes;
        debug_assert!(self.bytes <= self.bytes_max, "room was made");
    }

    fn lookup(&mut self, channel: &str, key: &str, now_ms: u64) -> Option<Bytes> {
        let index = *self.index.get(&self.hasher.hash_one((channel, key)))?;
        let entry = self.entries.at(index)?;
        if *entry.channel != *channel || *entry.key != *key {
            return None;
        }
        if entry.expires_at_ms <= now_ms {
            self.remove(index);
            return None;
        }
        let value = entry.value.clone();
        self.recency.remove(&mut self.entries, index);
        self.recency.push_newest(&mut self.entries, index);
        Some(value)
    }

    /// Forgets the least recently used entries until `bytes` more fit.
    fn make_room(&mut self, bytes: usize, now_ms: u64) {
        while self.bytes + bytes > self.bytes_max {
            let oldest = self
                .recency
                .oldest()
                .expect("an empty cache has room for any entry");
            let expires_at_ms = self.remove(oldest);
            self.counters.evictions += u64::from(expires_at_ms > now_ms);
        }
    }

    /// Removes an entry and returns when it would have expired.
    fn remove(&mut self, index: u32) -> u64 {
        self.recency.remove(&mut self.entries, index);
        let entry = self
            .entries
            .remove_at(index)
            .expect("the index names live entries");
        self.index.remove(&entry.hash);
        self.bytes -= entry.bytes();
        entry.expires_at_ms
    }
}

fn entry_bytes(channel: &str, key: &str, value: &Bytes) -> usize {
    channel
        .len()
        .saturating_add(key.len())
        .saturating_add(value.len())
        .saturating_add(ENTRY_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = u64::MAX;

    fn value(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn an_answer_is_found_until_it_expires() {
        let mut cache = ResponseCache::new(10_000);
        cache.put("c", "k", value(3), 100, 0);
        assert_eq!(cache.get("c", "k", 99), Some(value(3)));
        assert_eq!(cache.get("c", "k", 100), None);
        assert_eq!(
            (cache.len(), cache.bytes()),
            (0, 0),
            "the expired answer is gone"
        );
        assert_eq!(
            cache.counters(),
            CacheCounters {
                hits: 1,
                misses: 1,
                evictions: 0
            }
        );
    }

    #[test]
    fn channel_and_key_do_not_run_together() {
        let mut cache = ResponseCache::new(10_000);
        cache.put("ab", "c", value(1), FAR, 0);
        assert_eq!(cache.get("a", "bc", 0), None);
        assert_eq!(cache.get("abc", "", 0), None);
        assert!(cache.get("ab", "c", 0).is_some());
    }

    #[test]
    fn the_least_recently_used_answer_makes_room() {
        let mut cache = ResponseCache::new(4 * (ENTRY_OVERHEAD_BYTES + 2 + 10));
        for key in ["1", "2", "3", "4"] {
            cache.put("c", key, value(10), FAR, 0);
        }
        assert!(cache.get("c", "1", 0).is_some());
        cache.put("c", "5", value(10), FAR, 0);
        assert_eq!(cache.get("c", "2", 0), None);
        assert!(
            ["1", "3", "4", "5"]
                .iter()
                .all(|key| cache.get("c", key, 0).is_some())
        );
        assert_eq!(cache.counters().evictions, 1);
    }

    #[test]
    fn an_expired_answer_that_makes_room_is_no_eviction() {
        let mut cache = ResponseCache::new(2 * (ENTRY_OVERHEAD_BYTES + 2 + 10));
        cache.put("c", "1", value(10), 50, 0);
        cache.put("c", "2", value(10), 500, 0);
        cache.put("c", "3", value(10), 500, 50);
        assert_eq!((cache.len(), cache.counters().evictions), (2, 0));
        cache.put("c", "4", value(10), 500, 50);
        assert_eq!((cache.len(), cache.counters().evictions), (2, 1));
    }

    #[test]
    fn a_value_above_a_quarter_of_the_bound_is_not_cached_and_ends_the_older_one() {
        let mut cache = ResponseCache::new(4000);
        cache.put("c", "k", value(1000), FAR, 0);
        assert!(cache.get("c", "k", 0).is_some());
        cache.put("c", "k", value(1001), FAR, 0);
        assert_eq!(cache.get("c", "k", 0), None);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn an_entry_that_cannot_fit_displaces_nothing() {
        let mut cache = ResponseCache::new(2 * ENTRY_OVERHEAD_BYTES);
        cache.put("c", "k", value(1), FAR, 0);
        cache.put("c", &"x".repeat(4000), value(1), FAR, 0);
        assert_eq!(cache.len(), 1);
        let mut none = ResponseCache::new(0);
        none.put("c", "k", Bytes::new(), FAR, 0);
        assert!(none.is_empty());
    }

    #[test]
    fn a_value_is_shared_and_not_copied() {
        let mut cache = ResponseCache::new(10_000);
        let value = value(100);
        cache.put("c", "k", value.clone(), FAR, 0);
        assert_eq!(
            cache.get("c", "k", 0).map(|found| found.as_ptr()),
            Some(value.as_ptr())
        );
    }
}
