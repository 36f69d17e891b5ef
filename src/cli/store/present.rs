//! Which messages are there: runs of sequences, by channel.

use std::collections::BTreeMap;

use ringmq_storage::{ChannelKey, Sequence};

/// The messages that a walk has met. A channel takes a few words, however many messages it has,
/// since they come in runs.
#[derive(Debug, Default)]
pub(super) struct Present(BTreeMap<ChannelKey, Runs>);

/// Runs that do not touch: first sequence, last sequence.
type Runs = BTreeMap<u64, u64>;

impl Present {
    /// Takes note of a message; `false` when it was there already.
    pub(super) fn insert(&mut self, key: ChannelKey, sequence: Sequence) -> bool {
        let runs = self.0.entry(key).or_default();
        let sequence = sequence.get();
        let before = runs.range(..=sequence).next_back();
        let before = before.map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= sequence) {
            return false;
        }
        let behind = runs.remove(&sequence.saturating_add(1));
        let first = match before {
            Some((first, last)) if last + 1 == sequence => first,
            _ => sequence,
        };
        runs.insert(first, behind.unwrap_or(sequence));
        true
    }

    /// The runs of a range that are not there.
    pub(super) fn missing(
        &self,
        key: ChannelKey,
        first: Sequence,
        last: Sequence,
    ) -> Vec<(Sequence, Sequence)> {
        let mut missing = Vec::new();
        let mut next = first.get();
        let runs = self.0.get(&key).into_iter().flatten();
        for (begin, end) in runs.filter(|(_, end)| **end >= first.get()) {
            if *begin > last.get() {
                break;
            }
            if next < *begin {
                missing.push((Sequence::new(next), Sequence::new(begin - 1)));
            }
            next = end.saturating_add(1);
        }
        if next <= last.get() {
            missing.push((Sequence::new(next), last));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use ringmq_storage::{ChannelId, SlotId};

    use super::*;

    fn key() -> ChannelKey {
        ChannelKey {
            slot: SlotId::new(3).unwrap(),
            channel: ChannelId::new(1),
        }
    }

    fn missing(present: &Present, first: u64, last: u64) -> Vec<(u64, u64)> {
        let runs = present.missing(key(), Sequence::new(first), Sequence::new(last));
        runs.into_iter()
            .map(|(first, last)| (first.get(), last.get()))
            .collect()
    }

    #[test]
    fn gaps_are_what_was_not_met_whatever_the_order() {
        let orders = [
            [1, 2, 3, 7, 8, 12],
            [12, 8, 7, 3, 2, 1],
            [2, 8, 1, 12, 3, 7],
        ];
        for order in orders {
            let mut present = Present::default();
            assert!(
                order
                    .iter()
                    .all(|n| present.insert(key(), Sequence::new(*n)))
            );
            assert!(
                !order
                    .iter()
                    .any(|n| present.insert(key(), Sequence::new(*n)))
            );
            assert_eq!(present.0[&key()].len(), 3, "{order:?}");
            assert_eq!(missing(&present, 1, 12), [(4, 6), (9, 11)]);
            assert_eq!(missing(&present, 1, 3), []);
            assert_eq!(missing(&present, 2, 5), [(4, 5)]);
            assert_eq!(missing(&present, 10, 14), [(10, 11), (13, 14)]);
        }
    }

    #[test]
    fn channel_that_was_not_met_is_missing_as_a_whole() {
        assert_eq!(missing(&Present::default(), 4, 9), [(4, 9)]);
        assert_eq!(missing(&Present::default(), 10, 9), []);
    }
}
