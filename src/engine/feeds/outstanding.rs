//! Where unconfirmed chunks begin.

use std::collections::VecDeque;

use ringmq_storage::Sequence;

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
    use super::*;

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
