//! Ranges of sequences: what is to be delivered again, and where unconfirmed chunks begin.

use std::collections::{BTreeMap, VecDeque};

use ringmq_storage::Sequence;

/// The number before this one; 0 stays.
pub(super) fn before(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.get().saturating_sub(1))
}

/// How many sequences lie from `first` to `last`, both included.
pub(super) fn count(first: Sequence, last: Sequence) -> u64 {
    last.next().get().saturating_sub(first.get())
}

/// Disjoint ranges that do not touch, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// The first sequence of each range, and its last.
    by_first: BTreeMap<Sequence, Sequence>,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.by_first.is_empty()
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<(Sequence, Sequence)> {
        let (&first, &last) = self.by_first.first_key_value()?;
        Some((first, last))
    }

    /// Adds a range; it grows together with those it touches. An empty one adds nothing.
    pub(super) fn insert(&mut self, first: Sequence, last: Sequence) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        if let Some((&left, &left_last)) = self.by_first.range(..=first).next_back()
            && left_last.next() >= first
        {
            self.by_first.remove(&left);
            first = left;
            last = last.max(left_last);
        }
        while let Some((&right, &right_last)) = self.by_first.range(first..=last.next()).next() {
            self.by_first.remove(&right);
            last = last.max(right_last);
        }
        self.by_first.insert(first, last);
    }

    /// Takes everything from `first` to `last` out; whether there was something.
    pub(super) fn remove(&mut self, first: Sequence, last: Sequence) -> bool {
        if first > last {
            return false;
        }
        let mut found = false;
        if let Some((&left, &left_last)) = self.by_first.range(..first).next_back()
            && left_last >= first
        {
            found = true;
            self.by_first.insert(left, before(first));
            if left_last > last {
                self.by_first.insert(last.next(), left_last);
            }
        }
        while let Some((&right, &right_last)) = self.by_first.range(first..=last).next() {
            found = true;
            self.by_first.remove(&right);
            if right_last > last {
                self.by_first.insert(last.next(), right_last);
            }
        }
        found
    }
}

/// Where the chunks begin that are on their way, in ascending order.
///
/// New chunks are pushed behind the others, and most are confirmed from the front: both cost O(1)
/// and allocate nothing after warm-up. A confirmation in the middle moves the shorter side.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    firsts: VecDeque<Sequence>,
}

impl Outstanding {
    pub(super) fn first(&self) -> Option<Sequence> {
        self.firsts.front().copied()
    }

    pub(super) fn insert(&mut self, first: Sequence) {
        if self.firsts.back().is_none_or(|&back| back < first) {
            self.firsts.push_back(first);
            return;
        }
        match self.firsts.binary_search(&first) {
            Ok(_) => debug_assert!(false, "a sequence is on its way to one receiver only"),
            Err(at) => self.firsts.insert(at, first),
        }
    }

    pub(super) fn remove(&mut self, first: Sequence) {
        if self.firsts.front() == Some(&first) {
            self.firsts.pop_front();
            return;
        }
        match self.firsts.binary_search(&first) {
            Ok(at) => {
                self.firsts.remove(at);
            }
            Err(_) => debug_assert!(false, "an outstanding chunk is known by its first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ranges(of: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(first, last) in of {
            ranges.insert(Sequence::new(first), Sequence::new(last));
        }
        ranges
    }

    fn listed(ranges: &Ranges) -> Vec<(u64, u64)> {
        let all = ranges.by_first.iter();
        all.map(|(first, last)| (first.get(), last.get())).collect()
    }

    #[test]
    fn ranges_that_touch_grow_together() {
        assert_eq!(listed(&ranges(&[(1, 2), (5, 6), (3, 4)])), [(1, 6)]);
        assert_eq!(listed(&ranges(&[(7, 9), (1, 3)])), [(1, 3), (7, 9)]);
        assert_eq!(listed(&ranges(&[(4, 3)])), []);
    }

    /// Every insertion followed by every removal over a small space, against a set of numbers.
    #[test]
    fn insertions_and_removals_agree_with_a_set() {
        const SPAN: u64 = 7;
        for (a, b) in (1..SPAN).flat_map(|a| (a..SPAN).map(move |b| (a, b))) {
            for (c, d) in (1..SPAN).flat_map(|c| (c..SPAN).map(move |d| (c, d))) {
                for (e, f) in (1..SPAN).flat_map(|e| (e..SPAN).map(move |f| (e, f))) {
                    let mut ranges = ranges(&[(a, b), (c, d)]);
                    let mut set: BTreeSet<_> = (a..=b).chain(c..=d).collect();
                    let hit = (e..=f).any(|n| set.contains(&n));
                    assert_eq!(ranges.remove(Sequence::new(e), Sequence::new(f)), hit);
                    set.retain(|n| !(e..=f).contains(n));
                    let left: Vec<_> = listed(&ranges);
                    let numbers: BTreeSet<_> = left.iter().flat_map(|&(x, y)| x..=y).collect();
                    assert_eq!(numbers, set, "{a}-{b} and {c}-{d} without {e}-{f}");
                    assert!(left.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                }
            }
        }
    }

    #[test]
    fn the_lowest_outstanding_chunk_is_known_whatever_the_order() {
        let mut outstanding = Outstanding::default();
        for first in [10, 20, 5, 15] {
            outstanding.insert(Sequence::new(first));
        }
        for (confirmed, lowest) in [(10, Some(5)), (5, Some(15)), (20, Some(15)), (15, None)] {
            outstanding.remove(Sequence::new(confirmed));
            assert_eq!(outstanding.first(), lowest.map(Sequence::new));
        }
    }
}
