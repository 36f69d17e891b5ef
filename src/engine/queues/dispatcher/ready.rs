//! The visible messages of one queue, in their order.

use std::collections::BTreeSet;
use std::ops::Bound;

use ringmq_storage::Sequence;

use crate::engine::runs::SequenceRuns;

/// The place of a message that was delayed: behind everything up to `after`, among its like by
/// time and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Late {
    /// The last message that was stored when it came due.
    pub(super) after: Sequence,
    /// When that was, in nanoseconds since 1970.
    pub(super) due_ns: u64,
    /// The message.
    pub(super) sequence: Sequence,
}

/// What comes next: messages in a row at their own places, or one that was delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Run(Sequence, Sequence),
    Late(Late),
}

/// How far someone has looked, who takes nothing out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    from: Sequence,
    behind: Option<Late>,
}

impl Look {
    /// Moves behind a chunk.
    pub(super) fn pass(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Run(_, last) => self.from = last.next(),
            Chunk::Late(late) => self.behind = Some(late),
        }
    }
}

/// The visible messages of one queue.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Those whose place is their sequence.
    plain: SequenceRuns,
    /// Those that were delayed, by their places.
    late: BTreeSet<Late>,
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.late.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        let late = u64::try_from(self.late.len()).unwrap_or(u64::MAX);
        self.plain.count().saturating_add(late)
    }

    pub(super) fn insert(&mut self, first: Sequence, last: Sequence) {
        self.plain.insert(first, last);
    }

    pub(super) fn insert_late(&mut self, late: Late) {
        let new = self.late.insert(late);
        debug_assert!(new, "a message has one place");
    }

    /// Takes one message out that is at its own place; whether it was there.
    pub(super) fn remove(&mut self, sequence: Sequence) -> bool {
        self.plain.remove(sequence, sequence) == 1
    }

    pub(super) fn remove_late(&mut self, late: Late) -> bool {
        self.late.remove(&late)
    }

    /// Takes the next chunk out, of at most `max` messages.
    pub(super) fn pop(&mut self, max: u64) -> Option<Chunk> {
        if self.late.is_empty() {
            let (first, last) = self.plain.pop_front(max)?;
            return Some(Chunk::Run(first, last));
        }
        let chunk = self.next(&Look::default(), max)?;
        match chunk {
            Chunk::Run(first, last) => {
                self.plain.remove(first, last);
            }
            Chunk::Late(late) => {
                self.late.remove(&late);
            }
        }
        Some(chunk)
    }

    /// The chunk behind those that were looked at, of at most `max` messages.
    pub(super) fn next(&self, look: &Look, max: u64) -> Option<Chunk> {
        let more = max.checked_sub(1)?;
        let run = self.plain.iter_from(look.from).next();
        let behind = look.behind.map_or(Bound::Unbounded, Bound::Excluded);
        let late = self.late.range((behind, Bound::Unbounded)).next();
        match (run, late) {
            (Some((first, last)), late) if late.is_none_or(|late| first <= late.after) => {
                let end = Sequence::new(first.get().saturating_add(more)).min(last);
                let end = late.map_or(end, |late| end.min(late.after));
                Some(Chunk::Run(first, end))
            }
            (_, late) => late.copied().map(Chunk::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(number: u64) -> Sequence {
        Sequence::new(number)
    }

    fn late(after: u64, due_ns: u64, sequence: u64) -> Late {
        let (after, sequence) = (s(after), s(sequence));
        Late {
            after,
            due_ns,
            sequence,
        }
    }

    fn ready() -> Ready {
        let mut ready = Ready::default();
        ready.insert(s(3), s(9));
        for place in [late(5, 20, 1), late(5, 10, 2), late(12, 5, 10)] {
            ready.insert_late(place);
        }
        ready
    }

    const ORDER: [u64; 10] = [3, 4, 5, 2, 1, 6, 7, 8, 9, 10];

    fn numbers(chunk: Chunk) -> Vec<u64> {
        match chunk {
            Chunk::Run(first, last) => (first.get()..=last.get()).collect(),
            Chunk::Late(late) => vec![late.sequence.get()],
        }
    }

    #[test]
    fn a_late_message_stands_behind_what_was_stored_before_it_came_due() {
        for max in [1, 2, 100] {
            let mut ready = ready();
            assert_eq!(ready.count(), 10);
            let order: Vec<u64> = std::iter::from_fn(|| ready.pop(max))
                .flat_map(numbers)
                .collect();
            assert_eq!(order, ORDER);
            assert!(ready.is_empty());
        }
    }

    #[test]
    fn looking_takes_nothing_and_goes_on_where_it_was() {
        let ready = ready();
        let mut look = Look::default();
        let order: Vec<u64> = std::iter::from_fn(|| {
            let chunk = ready.next(&look, 2)?;
            look.pass(chunk);
            Some(chunk)
        })
        .flat_map(numbers)
        .collect();
        assert_eq!(order, ORDER);
        assert_eq!(ready.count(), 10);
    }
}
