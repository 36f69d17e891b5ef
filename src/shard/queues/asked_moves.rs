//! Who asked for messages to be moved, until the targets have them.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use ringmq_storage::{ChannelKey, Sequence};

use super::{ConsumerEvent, QueueSeat, SettleFailure};
use crate::engine::feeds::Address;
use crate::shard::stored::LogSeat;
use crate::shard::{Shard, StoreFailure};

/// The moves that consumers asked for and have not heard of. Bounded by what they had leased.
#[derive(Debug, Default)]
pub(super) struct AskedMoves {
    settlements: HashMap<u64, Asking, FixedState>,
    next: u64,
    messages: HashMap<(ChannelKey, Sequence), u64, FixedState>,
}

/// One settlement.
#[derive(Debug)]
struct Asking {
    to: Address,
    ticket: u64,
    /// The consumer wants to hear of success too.
    confirm: bool,
    /// Messages that are not at their target yet.
    left: usize,
}

impl AskedMoves {
    pub(super) fn insert(
        &mut self,
        (to, ticket): (Address, u64),
        confirm: bool,
        key: ChannelKey,
        sequences: &[Sequence],
    ) {
        if sequences.is_empty() {
            return;
        }
        let number = self.next;
        self.next += 1;
        let asking = Asking {
            to,
            ticket,
            confirm,
            left: sequences.len(),
        };
        self.settlements.insert(number, asking);
        let messages = sequences.iter().map(|sequence| ((key, *sequence), number));
        self.messages.extend(messages);
    }

    /// A message has come to its end. Who hears of it: of a failure always, of success when it was
    /// the last of its settlement and somebody wanted to know.
    fn end(&mut self, key: ChannelKey, sequence: Sequence, moved: bool) -> Option<(Address, u64)> {
        let number = self.messages.remove(&(key, sequence))?;
        let asking = self.settlements.get_mut(&number)?;
        let told = (asking.to, asking.ticket);
        asking.left = asking.left.saturating_sub(1);
        if moved && asking.left > 0 {
            return None;
        }
        // The first failure is the answer; the other messages go their way unheard.
        let asking = self.settlements.remove(&number)?;
        (!moved || asking.confirm).then_some(told)
    }

    /// The messages of a queue whose moves are on their way.
    fn of_queue(&self, key: ChannelKey) -> Vec<Sequence> {
        let moves = self.messages.keys();
        let moves = moves.filter(|(queue, _)| *queue == key);
        moves.map(|(_, sequence)| *sequence).collect()
    }
}

impl QueueSeat {
    /// The queue is gone, and what was to be moved with it: who has to hear of which message.
    pub(super) fn lose_moves(&mut self, key: ChannelKey) -> Vec<((Address, u64), Sequence)> {
        let lost = self.asked_moves.of_queue(key).into_iter();
        lost.filter_map(|sequence| {
            let told = self.asked_moves.end(key, sequence, false)?;
            Some((told, sequence))
        })
        .collect()
    }
}

impl Shard {
    /// A message that was to be moved is in its target, or was refused there.
    pub(super) fn moved(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        sequence: Sequence,
        outcome: Result<(), StoreFailure>,
    ) {
        let told = {
            let mut queues = seat.queues.borrow_mut();
            queues.asked_moves.end(key, sequence, outcome.is_ok())
        };
        if let Some((to, ticket)) = told {
            let outcome = outcome.map_err(|failure| SettleFailure::NotMoved { sequence, failure });
            self.tell_consumer(to, ConsumerEvent::Settled { ticket, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use ringmq_storage::{ChannelId, SlotId};

    use super::*;

    fn queue() -> ChannelKey {
        ChannelKey {
            slot: SlotId::new(0).unwrap(),
            channel: ChannelId::new(1),
        }
    }

    fn asked(confirm: bool) -> (AskedMoves, Address) {
        let (mut moves, to) = (AskedMoves::default(), Address { core: 1, key: 2 });
        let sequences = [1, 2, 3].map(Sequence::new);
        moves.insert((to, 9), confirm, queue(), &sequences);
        (moves, to)
    }

    #[test]
    fn the_last_message_confirms_all() {
        let (mut moves, to) = asked(true);
        let ends = [2, 1, 3].map(|it| moves.end(queue(), Sequence::new(it), true));
        assert_eq!(ends, [None, None, Some((to, 9))]);
        assert!(moves.messages.is_empty() && moves.settlements.is_empty());
    }

    #[test]
    fn the_first_failure_is_the_answer_also_when_nobody_waits_for_success() {
        for confirm in [true, false] {
            let (mut moves, to) = asked(confirm);
            let ends = [true, false, true].iter().zip(1..);
            let ends: Vec<_> = ends
                .map(|(moved, it)| moves.end(queue(), Sequence::new(it), *moved))
                .collect();
            assert_eq!(ends, [None, Some((to, 9)), None]);
            assert!(moves.messages.is_empty() && moves.settlements.is_empty());
        }
    }

    #[test]
    fn nobody_hears_of_what_nobody_asked_for() {
        let (mut moves, _) = asked(false);
        let ends = [1, 2, 3, 4].map(|it| moves.end(queue(), Sequence::new(it), true));
        assert_eq!(ends, [None; 4]);
    }
}
