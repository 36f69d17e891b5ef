//! What is to be said of single messages, by sequence.

use std::collections::BTreeMap;
use std::ops::Bound;

use ringmq_storage::Sequence;

/// Details in one chunk at most.
const CHUNK: usize = 64;

/// A chunk gives memory back when it uses less than this part of it.
const SPARSE: usize = 4;

/// What is to be said of a message that is not just waiting in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The sequence under which its body was stored; its own unless it was requeued.
    pub body: Sequence,
    /// Not visible before, in nanoseconds since 1970; 0: visible at once.
    pub visible_at_ns: u64,
    /// Expires then; 0: never.
    pub expires_at_ns: u64,
    /// How often it has been received.
    pub receives: u32,
    /// Bytes of its payload in the log; 0 when that was not noted.
    pub len: u32,
}

/// Details of messages, by sequence.
///
/// Sorted chunks in a tree: filled in ascending order they are full, so that a detail takes 42
/// bytes in all. A tree of single details would be half empty then. What is removed at random
/// gives its memory back chunk by chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    /// By a sequence that is not behind the chunk's first and behind the chunk before. None is
    /// empty.
    chunks: BTreeMap<Sequence, Vec<(Sequence, Detail)>>,
    len: usize,
}

impl Details {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The highest sequence.
    pub(super) fn last(&self) -> Option<Sequence> {
        let (_, chunk) = self.chunks.last_key_value()?;
        chunk.last().map(|(sequence, _)| *sequence)
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<&Detail> {
        let (_, chunk) = self.chunks.range(..=sequence).next_back()?;
        let place = chunk
            .binary_search_by_key(&sequence, |(key, _)| *key)
            .ok()?;
        chunk.get(place).map(|(_, detail)| detail)
    }

    pub(super) fn get_mut(&mut self, sequence: Sequence) -> Option<&mut Detail> {
        let (_, chunk) = self.chunks.range_mut(..=sequence).next_back()?;
        let place = chunk
            .binary_search_by_key(&sequence, |(key, _)| *key)
            .ok()?;
        chunk.get_mut(place).map(|(_, detail)| detail)
    }

    /// The details from `from` on, ascending.
    pub(super) fn iter_from(
        &self,
        from: Sequence,
    ) -> impl Iterator<Item = (Sequence, &Detail)> + '_ {
        let begin = self.chunks.range(..=from).next_back();
        let begin = begin.map_or(from, |(key, _)| *key);
        let chunks = self.chunks.range(begin..).flat_map(|(_, chunk)| chunk);
        let behind = chunks.skip_while(move |(sequence, _)| *sequence < from);
        behind.map(|(sequence, detail)| (*sequence, detail))
    }

    /// Notes a detail, in the place of another if there is one.
    pub(super) fn insert(&mut self, sequence: Sequence, detail: Detail) {
        let entry = (sequence, detail);
        let below = self.chunks.range_mut(..=sequence).next_back();
        let chunk = match below {
            Some((_, chunk)) => chunk,
            None => {
                let lowest = self.chunks.pop_first();
                let lowest = lowest.map(|(_, chunk)| chunk);
                self.chunks
                    .entry(sequence)
                    .or_insert(lowest.unwrap_or_default())
            }
        };
        let place = match chunk.binary_search_by_key(&sequence, |(key, _)| *key) {
            Ok(place) => {
                if let Some(known) = chunk.get_mut(place) {
                    *known = entry;
                }
                return;
            }
            Err(place) => place,
        };
        self.len += 1;
        if chunk.len() < CHUNK {
            chunk.insert(place, entry);
            return;
        }
        // Behind a full chunk begins a new one; within it, both halves have room.
        let mut upper = chunk.split_off(if place == CHUNK { CHUNK } else { CHUNK / 2 });
        if place > chunk.len() || upper.is_empty() {
            upper.insert(place - chunk.len(), entry);
        } else {
            chunk.insert(place, entry);
        }
        if let Some((first, _)) = upper.first() {
            self.chunks.insert(*first, upper);
        }
    }

    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Detail> {
        let mut removed = None;
        self.remove_range(sequence, sequence, |_, detail| removed = Some(detail));
        removed
    }

    /// Takes the details from `first` to `last` out and shows each, ascending.
    pub(super) fn remove_range(
        &mut self,
        first: Sequence,
        last: Sequence,
        mut each: impl FnMut(Sequence, Detail),
    ) {
        let below = self.chunks.range(..=first).next_back();
        let behind = || self.chunks.range(first..).next();
        let mut next = below.or_else(behind).map(|(key, _)| *key);
        while let Some(key) = next.filter(|key| *key <= last) {
            let Some(chunk) = self.chunks.get_mut(&key) else {
                return;
            };
            let begin = chunk.partition_point(|(sequence, _)| *sequence < first);
            let end = chunk.partition_point(|(sequence, _)| *sequence <= last);
            for (sequence, detail) in chunk.drain(begin..end.max(begin)) {
                self.len -= 1;
                each(sequence, detail);
            }
            if chunk.is_empty() {
                self.chunks.remove(&key);
            } else if chunk.len() < chunk.capacity() / SPARSE {
                chunk.shrink_to(chunk.len() * 2);
            }
            let behind = (Bound::Excluded(key), Bound::Unbounded);
            next = self.chunks.range(behind).next().map(|(key, _)| *key);
        }
        if self.is_empty() {
            self.chunks = BTreeMap::new();
        }
    }

    /// Bytes on the heap, as far as they grow with the number of details.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        // A node of the tree has 11 places; filled in ascending order it uses 6 of them.
        let place = size_of::<(Sequence, Vec<(Sequence, Detail)>)>() * 11 / 6;
        let chunks = self.chunks.values();
        let entries = chunks.map(|chunk| chunk.capacity() * size_of::<(Sequence, Detail)>());
        // An allocator's own header.
        entries.map(|bytes| bytes + 16 + place).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(number: u64) -> Detail {
        Detail {
            body: Sequence::new(number),
            visible_at_ns: number * 3,
            expires_at_ns: 0,
            receives: 1,
            len: 10,
        }
    }

    fn random() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        }
    }

    #[test]
    fn random_changes_agree_with_a_map() {
        let mut random = random();
        let (mut details, mut map) = (Details::default(), BTreeMap::new());
        for step in 0..60_000_u64 {
            // It grows, and shrinks again.
            let span = 1 + if step < 30_000 { 2_000 } else { 400 };
            let first = Sequence::new(1 + random(span));
            match random(4) {
                0 if step > 30_000 => {
                    let last = Sequence::new(first.get() + random(90));
                    let mut removed = Vec::new();
                    details.remove_range(first, last, |key, detail| removed.push((key, detail)));
                    let expected = map.range(first..=last).map(|(key, detail)| (*key, *detail));
                    assert_eq!(removed, expected.collect::<Vec<_>>());
                    map.retain(|key, _| !(first..=last).contains(key));
                }
                1 => assert_eq!(details.remove(first), map.remove(&first)),
                _ => {
                    details.insert(first, detail(step));
                    map.insert(first, detail(step));
                }
            }
            assert_eq!(details.len(), map.len());
            assert_eq!(details.get(first), map.get(&first));
            assert!(details.chunks.values().all(|chunk| !chunk.is_empty()));
        }
        for from in 0..2_100 {
            let from = Sequence::new(from);
            let found = details.iter_from(from).map(|(key, detail)| (key, *detail));
            let expected = map.range(from..).map(|(key, detail)| (*key, *detail));
            assert!(found.eq(expected));
        }
    }

    #[test]
    fn a_detail_takes_42_bytes_and_gives_them_back() {
        const COUNT: u64 = 100_000;
        let mut details = Details::default();
        for number in 1..=COUNT {
            details.insert(Sequence::new(number), detail(number));
        }
        let full = details.heap_bytes();
        assert!(full <= 42 * 100_000, "{full}");
        // In random order, as delays end.
        let mut order: Vec<_> = (1..=COUNT).collect();
        let mut random = random();
        for at in (1..order.len()).rev() {
            order.swap(at, usize::try_from(random(at as u64 + 1)).unwrap());
        }
        for (gone, number) in order.into_iter().enumerate() {
            details.remove(Sequence::new(number));
            if gone == 90_000 {
                assert!(details.heap_bytes() < full / 3, "{}", details.heap_bytes());
            }
        }
        assert_eq!(details.heap_bytes(), 0);
    }
}
