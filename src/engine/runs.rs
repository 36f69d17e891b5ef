//! Sets of sequences, kept as runs.

use std::collections::BTreeMap;

use ringmq_storage::Sequence;

/// The number before this one; 0 stays.
pub(super) fn before(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.get().saturating_sub(1))
}

/// How many sequences lie from `first` to `last`, both included.
pub(super) fn count(first: Sequence, last: Sequence) -> u64 {
    last.next().get().saturating_sub(first.get())
}

/// A set of sequences: disjoint runs that do not touch, in ascending order.
///
/// The lowest run lies in the set itself: what is used front to back, as most queues are, is one
/// run and takes no memory besides. Every other run takes 16 bytes and the overhead of a tree, a
/// search takes O(log n) of the runs.
#[derive(Clone, Debug)]
pub struct SequenceRuns {
    /// The lowest run, its first and its last; the first behind the last when the set is empty.
    front: (Sequence, Sequence),
    /// The other runs: the first of each, and its last.
    rest: BTreeMap<Sequence, Sequence>,
    count: u64,
}

const NONE: (Sequence, Sequence) = (Sequence::new(1), Sequence::new(0));

impl Default for SequenceRuns {
    fn default() -> Self {
        Self::new()
    }
}

impl SequenceRuns {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            front: NONE,
            rest: BTreeMap::new(),
            count: 0,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many sequences are in it.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many runs they make.
    #[must_use]
    pub fn run_count(&self) -> usize {
        usize::from(!self.is_empty()) + self.rest.len()
    }

    /// The lowest run.
    #[must_use]
    pub const fn first(&self) -> Option<(Sequence, Sequence)> {
        if self.is_empty() {
            None
        } else {
            Some(self.front)
        }
    }

    /// The highest sequence.
    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        let (_, front_last) = self.first()?;
        let highest = self.rest.last_key_value();
        Some(highest.map_or(front_last, |(_, &last)| last))
    }

    /// The run that a sequence is in.
    #[must_use]
    pub fn run_of(&self, sequence: Sequence) -> Option<(Sequence, Sequence)> {
        let (first, last) = self.front;
        let found = if sequence <= last || self.rest.is_empty() {
            (first, last)
        } else {
            let (&first, &last) = self.rest.range(..=sequence).next_back()?;
            (first, last)
        };
        ((found.0..=found.1).contains(&sequence)).then_some(found)
    }

    /// Whether a sequence is in it.
    #[must_use]
    pub fn contains(&self, sequence: Sequence) -> bool {
        self.run_of(sequence).is_some()
    }

    /// The runs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        let rest = self.rest.iter().map(|(&first, &last)| (first, last));
        self.first().into_iter().chain(rest)
    }

    /// The runs from `from` on, ascending; the first of them clipped.
    pub fn iter_from(&self, from: Sequence) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        let front = self.first().filter(|(_, last)| *last >= from);
        let within = self.rest.range(..from).next_back();
        let within = within.filter(|(_, last)| **last >= from);
        let behind = self.rest.range(from..);
        let rest = within.into_iter().chain(behind);
        let all = front
            .into_iter()
            .chain(rest.map(|(&first, &last)| (first, last)));
        all.map(move |(first, last)| (first.max(from), last))
    }

    /// Adds a run; it grows together with those it touches. Returns how many of its sequences
    /// were not there before. An empty one adds nothing.
    pub fn insert(&mut self, first: Sequence, last: Sequence) -> u64 {
        if first > last {
            return 0;
        }
        let before = self.count;
        let (front_first, front_last) = self.front;
        if self.is_empty() {
            self.front = (first, last);
            self.count = count(first, last);
        } else if last.next() < front_first {
            self.rest.insert(front_first, front_last);
            self.front = (first, last);
            self.count += count(first, last);
        } else if first <= front_last.next() {
            self.grow_front(first.min(front_first), last.max(front_last));
        } else {
            self.insert_behind(first, last);
        }
        self.count - before
    }

    fn grow_front(&mut self, first: Sequence, last: Sequence) {
        self.count -= count(self.front.0, self.front.1);
        let mut last = last;
        while let Some(entry) = self.rest.first_entry()
            && *entry.key() <= last.next()
        {
            let (right, right_last) = entry.remove_entry();
            self.count -= count(right, right_last);
            last = last.max(right_last);
        }
        self.front = (first, last);
        self.count += count(first, last);
    }

    /// Adds a run that does not touch the lowest one.
    fn insert_behind(&mut self, first: Sequence, last: Sequence) {
        let left = self.rest.range(..=first).next_back();
        let left = left.map(|(&left, &left_last)| (left, left_last));
        let (first, mut last) = match left.filter(|(_, left_last)| left_last.next() >= first) {
            Some((left, left_last)) => {
                self.count -= count(left, left_last);
                (left, last.max(left_last))
            }
            None => (first, last),
        };
        while let Some((&right, &right_last)) = self.rest.range(first.next()..=last.next()).next() {
            self.rest.remove(&right);
            self.count -= count(right, right_last);
            last = last.max(right_last);
        }
        self.rest.insert(first, last);
        self.count += count(first, last);
    }

    /// Takes everything from `first` to `last` out; returns how many sequences that were.
    pub fn remove(&mut self, first: Sequence, last: Sequence) -> u64 {
        if self.is_empty() || first > last {
            return 0;
        }
        let before = self.count;
        if last > self.front.1 && !self.rest.is_empty() {
            self.remove_behind(first, last);
        }
        self.remove_front(first, last);
        if self.is_empty() {
            // Nothing is kept for sets that were used once.
            self.rest = BTreeMap::new();
        }
        before - self.count
    }

    fn remove_front(&mut self, first: Sequence, last: Sequence) {
        let (front_first, front_last) = self.front;
        let (cut_first, cut_last) = (first.max(front_first), last.min(front_last));
        if cut_first > cut_last {
            return;
        }
        self.count -= count(cut_first, cut_last);
        match (front_first < cut_first, cut_last < front_last) {
            (false, false) => self.front = self.rest.pop_first().unwrap_or(NONE),
            (false, true) => self.front.0 = cut_last.next(),
            (true, false) => self.front.1 = before(cut_first),
            (true, true) => {
                self.rest.insert(cut_last.next(), front_last);
                self.front.1 = before(cut_first);
            }
        }
    }

    fn remove_behind(&mut self, first: Sequence, last: Sequence) {
        if let Some((_, left_last)) = self.rest.range_mut(..first).next_back()
            && *left_last >= first
        {
            let end = *left_last;
            *left_last = before(first);
            self.count -= count(first, end.min(last));
            if end > last {
                self.rest.insert(last.next(), end);
            }
        }
        while let Some((&right, &right_last)) = self.rest.range(first..=last).next() {
            self.rest.remove(&right);
            self.count -= count(right, right_last.min(last));
            if right_last > last {
                self.rest.insert(last.next(), right_last);
            }
        }
    }

    /// Takes up to `max` sequences of the lowest run out, from its front.
    pub fn pop_front(&mut self, max: u64) -> Option<(Sequence, Sequence)> {
        let (first, last) = self.first()?;
        let end = first.get().saturating_add(max.checked_sub(1)?);
        let last = last.min(Sequence::new(end));
        self.remove(first, last);
        Some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn runs(of: &[(u64, u64)]) -> SequenceRuns {
        let mut runs = SequenceRuns::default();
        for &(first, last) in of {
            runs.insert(Sequence::new(first), Sequence::new(last));
        }
        runs
    }

    fn listed(runs: &SequenceRuns) -> Vec<(u64, u64)> {
        let all = runs.iter();
        all.map(|(first, last)| (first.get(), last.get())).collect()
    }

    fn numbers(runs: &[(u64, u64)]) -> BTreeSet<u64> {
        runs.iter()
            .flat_map(|&(first, last)| first..=last)
            .collect()
    }

    #[test]
    fn runs_that_touch_grow_together() {
        assert_eq!(listed(&runs(&[(1, 2), (5, 6), (3, 4)])), [(1, 6)]);
        assert_eq!(listed(&runs(&[(7, 9), (1, 3)])), [(1, 3), (7, 9)]);
        assert_eq!(listed(&runs(&[(4, 3)])), []);
        assert_eq!(
            listed(&runs(&[(1, 1), (9, 9), (5, 5), (6, 8)])),
            [(1, 1), (5, 9)]
        );
    }

    /// Every three insertions followed by every removal over a small space, against a set of
    /// numbers.
    #[test]
    fn insertions_and_removals_agree_with_a_set() {
        const SPAN: u64 = 7;
        let pairs = || (1..SPAN).flat_map(|a| (a..SPAN).map(move |b| (a, b)));
        for (a, b) in pairs() {
            for (c, d) in pairs() {
                for (e, f) in pairs() {
                    let mut set = numbers(&[(a, b), (c, d)]);
                    let mut runs = runs(&[(a, b), (c, d)]);
                    assert_eq!(runs.count(), set.len() as u64);
                    let hit = (e..=f).filter(|n| set.contains(n)).count();
                    let clipped = runs.iter_from(Sequence::new(e));
                    let clipped: Vec<_> = clipped.map(|(x, y)| (x.get(), y.get())).collect();
                    let expected: BTreeSet<_> = set.iter().copied().filter(|n| *n >= e).collect();
                    assert_eq!(numbers(&clipped), expected);
                    let added = runs.clone().insert(Sequence::new(e), Sequence::new(f));
                    assert_eq!(added, f + 1 - e - hit as u64);
                    let removed = runs.remove(Sequence::new(e), Sequence::new(f));
                    assert_eq!(removed, hit as u64);
                    set.retain(|n| !(e..=f).contains(n));
                    let left = listed(&runs);
                    assert_eq!(numbers(&left), set, "{a}-{b} and {c}-{d} without {e}-{f}");
                    assert!(left.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                    assert_eq!(runs.run_count(), left.len());
                    assert_eq!(runs.count(), set.len() as u64);
                    assert_eq!(runs.first().map(|run| run.0.get()), set.first().copied());
                    assert_eq!(runs.last().map(Sequence::get), set.last().copied());
                    for n in 0..=SPAN {
                        assert_eq!(runs.contains(Sequence::new(n)), set.contains(&n));
                    }
                }
            }
        }
    }

    #[test]
    fn many_random_changes_agree_with_a_set() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let (mut runs, mut set) = (SequenceRuns::new(), BTreeSet::new());
        for _ in 0..30_000 {
            let first = 1 + random(200);
            let last = first + random(6);
            let (from, to) = (Sequence::new(first), Sequence::new(last));
            let before = set.len();
            if random(2) == 0 {
                set.extend(first..=last);
                assert_eq!(runs.insert(from, to), (set.len() - before) as u64);
            } else {
                set.retain(|n| !(first..=last).contains(n));
                assert_eq!(runs.remove(from, to), (before - set.len()) as u64);
            }
            assert_eq!(runs.count(), set.len() as u64);
        }
        assert_eq!(numbers(&listed(&runs)), set);
    }

    #[test]
    fn the_front_is_taken_in_order() {
        let mut runs = runs(&[(3, 5), (9, 9)]);
        let mut pop = |max| runs.pop_front(max).map(|(a, b)| (a.get(), b.get()));
        assert_eq!(pop(0), None);
        assert_eq!(pop(2), Some((3, 4)));
        assert_eq!(pop(10), Some((5, 5)));
        assert_eq!(pop(10), Some((9, 9)));
        assert_eq!(pop(10), None);
    }
}
