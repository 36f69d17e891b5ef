//! The transactions of one stream of polls: what each answer handed out, and what of it is open.
//!
//! The broker's word on a lease is the dispatcher's. What stands here is the client's side of it:
//! which sequences it may still name, so that a request is judged in the order of the stream and
//! without a round trip. Where the two differ, because a lease ran out meanwhile, the dispatcher's
//! refusal comes back later and is told then.

use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::Rc;

use foldhash::{HashMap, HashSet};
use ringmq_storage::Sequence;

use super::transaction_id::TransactionId;
use crate::grpc::observe::Place;
use crate::shard::Which;

/// Completed transactions that are remembered: a late settlement of one is told what it hit.
const COMPLETED_MAX: usize = 1024;

/// What became of a message of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// Settled by the client; its confirmation may be outstanding.
    Settled,
    /// Its lease ran out.
    Lost,
}

/// A delivery whose messages the client settles.
#[derive(Debug)]
pub(super) struct Transaction<D> {
    pub(super) delivery: D,
    /// Where the messages came from, when anybody wants to know.
    pub(super) place: Option<Rc<Place>>,
    /// Ascending, as the client is told them; most answers are in this order anyway.
    messages: Vec<(Sequence, Standing)>,
    open: usize,
    /// Settlements whose outcome is not known.
    outstanding: usize,
}

impl<D> Transaction<D> {
    fn new(delivery: D, place: Option<Rc<Place>>, sequences: &[Sequence]) -> Self {
        let mut messages: Vec<_> = sequences.iter().map(|s| (*s, Standing::Open)).collect();
        if !messages.is_sorted_by_key(|(sequence, _)| *sequence) {
            messages.sort_unstable_by_key(|(sequence, _)| *sequence);
        }
        Self {
            delivery,
            place,
            open: messages.len(),
            messages,
            outstanding: 0,
        }
    }

    /// The open sequences, ascending.
    pub(super) fn open(&self) -> impl Iterator<Item = Sequence> + Clone {
        self.messages
            .iter()
            .filter(|(_, standing)| *standing == Standing::Open)
            .map(|(sequence, _)| *sequence)
    }

    pub(super) fn is_open(&self, sequence: Sequence) -> bool {
        matches!(self.find(sequence), Some(at) if self.messages.get(at).is_some_and(
            |(_, standing)| *standing == Standing::Open,
        ))
    }

    fn find(&self, sequence: Sequence) -> Option<usize> {
        self.messages
            .binary_search_by_key(&sequence, |(sequence, _)| *sequence)
            .ok()
    }

    fn change(&mut self, sequence: Sequence, from: Standing, to: Standing) -> bool {
        let Some(at) = self.find(sequence) else {
            return false;
        };
        let Some((_, standing)) = self.messages.get_mut(at) else {
            return false;
        };
        if *standing != from {
            return false;
        }
        *standing = to;
        match (from, to) {
            (Standing::Open, _) => self.open -= 1,
            (_, Standing::Open) => self.open += 1,
            _ => {}
        }
        true
    }

    fn settle_all(&mut self) {
        for (_, standing) in &mut self.messages {
            if *standing == Standing::Open {
                *standing = Standing::Settled;
            }
        }
        self.open = 0;
    }

    fn is_done(&self) -> bool {
        self.open == 0 && self.outstanding == 0
    }
}

/// What a transaction id leads to.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Found {
    /// Something of it can still be settled.
    Open,
    /// All of it is settled, or there was nothing in it.
    Completed,
    Unknown,
}

/// The transactions of a stream. `D` names a delivery.
#[derive(Debug)]
pub(super) struct Transactions<D> {
    /// Those that are open, or have settlements outstanding.
    live: HashMap<TransactionId, Transaction<D>>,
    by_delivery: HashMap<D, TransactionId>,
    /// Messages of all of these.
    message_count: usize,
    /// The last ones that ended; the oldest are forgotten first.
    /// INVARIANT: `ended` and `ended_order` hold the same ids.
    ended: HashSet<TransactionId>,
    ended_order: VecDeque<TransactionId>,
}

impl<D> Default for Transactions<D> {
    fn default() -> Self {
        Self {
            live: HashMap::default(),
            by_delivery: HashMap::default(),
            message_count: 0,
            ended: HashSet::default(),
            ended_order: VecDeque::new(),
        }
    }
}

impl<D: Copy + Eq + Hash> Transactions<D> {
    /// Begins a transaction with the messages of an answer.
    pub(super) fn begin(
        &mut self,
        id: TransactionId,
        delivery: D,
        place: Option<Rc<Place>>,
        sequences: &[Sequence],
    ) {
        debug_assert!(!sequences.is_empty(), "an empty answer is complete");
        self.message_count += sequences.len();
        self.by_delivery.insert(delivery, id);
        let transaction = Transaction::new(delivery, place, sequences);
        self.live.insert(id, transaction);
    }

    /// Notes a transaction that is complete from the beginning.
    pub(super) fn complete(&mut self, id: TransactionId) {
        if !self.ended.insert(id) {
            return;
        }
        self.ended_order.push_back(id);
        if self.ended_order.len() > COMPLETED_MAX
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// How many are open or unconfirmed.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Messages of the open or unconfirmed ones.
    pub(super) fn message_count(&self) -> usize {
        self.message_count
    }

    /// Those in which something is open.
    pub(super) fn open(&self) -> Vec<TransactionId> {
        let live = self.live.iter();
        let open = live.filter(|(_, transaction)| transaction.open > 0);
        open.map(|(id, _)| *id).collect()
    }

    pub(super) fn find(&self, id: Option<TransactionId>) -> Found {
        let Some(id) = id else {
            return Found::Unknown;
        };
        match self.live.get(&id) {
            Some(transaction) if transaction.open > 0 => Found::Open,
            Some(_) => Found::Completed,
            None if self.ended.contains(&id) => Found::Completed,
            None => Found::Unknown,
        }
    }

    pub(super) fn get(&self, id: TransactionId) -> Option<&Transaction<D>> {
        self.live.get(&id)
    }

    /// Settles all that is open, on the client's word; an outcome is to follow.
    pub(super) fn take_all(&mut self, id: TransactionId) {
        if let Some(transaction) = self.live.get_mut(&id) {
            transaction.outstanding += 1;
            transaction.settle_all();
        }
    }

    /// Gives all that is open back; nothing is to follow. The delivery, if there was anything.
    pub(super) fn give_back(&mut self, id: TransactionId) -> Option<D> {
        let transaction = self.live.get_mut(&id).filter(|found| found.open > 0)?;
        let delivery = transaction.delivery;
        transaction.settle_all();
        self.end_if_done(id);
        Some(delivery)
    }

    /// Settles a list in its order, up to the first that is not open; an outcome is to follow.
    /// Gives what is settled, and the number that is not.
    pub(super) fn take_list(
        &mut self,
        id: TransactionId,
        numbers: impl Iterator<Item = i64>,
    ) -> (Vec<Sequence>, Option<i64>) {
        let mut taken = Vec::new();
        let Some(transaction) = self.live.get_mut(&id) else {
            return (taken, None);
        };
        transaction.outstanding += 1;
        for number in numbers {
            let sequence = u64::try_from(number).ok().map(Sequence::new);
            let open = sequence
                .filter(|open| transaction.change(*open, Standing::Open, Standing::Settled));
            match open {
                Some(sequence) => taken.push(sequence),
                None => return (taken, Some(number)),
            }
        }
        (taken, None)
    }

    /// A settlement was done.
    pub(super) fn confirmed(&mut self, id: TransactionId) {
        if let Some(transaction) = self.live.get_mut(&id) {
            transaction.outstanding = transaction.outstanding.saturating_sub(1);
        }
        self.end_if_done(id);
    }

    /// A settlement was done up to a message that is not leased any more; what came behind it in
    /// the list is open again.
    pub(super) fn broke_off(&mut self, id: TransactionId, lost: Sequence, which: &Which) {
        if let Some(transaction) = self.live.get_mut(&id) {
            transaction.change(lost, Standing::Settled, Standing::Lost);
            if let Which::List(sequences) = which {
                let behind = sequences.iter().skip_while(|s| **s != lost).skip(1);
                for sequence in behind {
                    transaction.change(*sequence, Standing::Settled, Standing::Open);
                }
            }
        }
        self.confirmed(id);
    }

    /// The leases of these messages have run out; of all, when none is named.
    pub(super) fn expired(&mut self, delivery: D, sequences: &[Sequence]) {
        let Some(id) = self.by_delivery.get(&delivery).copied() else {
            return;
        };
        if let Some(transaction) = self.live.get_mut(&id) {
            if sequences.is_empty() {
                transaction.settle_all();
            }
            for sequence in sequences {
                transaction.change(*sequence, Standing::Open, Standing::Lost);
            }
        }
        self.end_if_done(id);
    }

    fn end_if_done(&mut self, id: TransactionId) {
        if self.live.get(&id).is_some_and(Transaction::is_done)
            && let Some(transaction) = self.live.remove(&id)
        {
            self.by_delivery.remove(&transaction.delivery);
            self.message_count -= transaction.messages.len();
            self.complete(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: u32 = 7;

    fn sequences(numbers: impl IntoIterator<Item = u64>) -> Vec<Sequence> {
        numbers.into_iter().map(Sequence::new).collect()
    }

    fn id(number: u128) -> TransactionId {
        TransactionId::from_number(number)
    }

    /// A stream with one transaction of these messages.
    fn with(numbers: impl IntoIterator<Item = u64>) -> Transactions<u32> {
        let mut transactions = Transactions::default();
        transactions.begin(id(1), DELIVERY, None, &sequences(numbers));
        transactions
    }

    fn open(transactions: &Transactions<u32>) -> Vec<u64> {
        let transaction = transactions.get(id(1));
        let open = transaction.into_iter().flat_map(Transaction::open);
        open.map(Sequence::get).collect()
    }

    fn find(transactions: &Transactions<u32>) -> Found {
        transactions.find(Some(id(1)))
    }

    #[test]
    fn a_transaction_is_open_until_its_last_message_is_settled() {
        let mut transactions = with(1..=3);
        let taken = transactions.take_list(id(1), [1, 3].into_iter());
        assert_eq!(taken, (sequences([1, 3]), None));
        assert_eq!(
            (open(&transactions), find(&transactions)),
            (vec![2], Found::Open)
        );
        transactions.confirmed(id(1));
        transactions.take_all(id(1));
        assert_eq!(find(&transactions), Found::Completed);
        assert_eq!(transactions.len(), 1, "its outcome is not known yet");
        transactions.confirmed(id(1));
        assert_eq!(find(&transactions), Found::Completed);
        assert_eq!((transactions.len(), transactions.message_count()), (0, 0));
    }

    #[test]
    fn a_list_is_settled_up_to_the_first_that_is_not_open() {
        let mut transactions = with(1..=4);
        let taken = transactions.take_list(id(1), [4, 2, 99, 1].into_iter());
        assert_eq!(taken, (sequences([4, 2]), Some(99)));
        assert_eq!(open(&transactions), [1, 3]);
        let twice = transactions.take_list(id(1), [1, 1].into_iter());
        assert_eq!(twice, (sequences([1]), Some(1)), "once is once");
        let negative = transactions.take_list(id(1), [-1].into_iter());
        assert_eq!(negative, (vec![], Some(-1)));
    }

    #[test]
    fn open_sequences_are_ascending_whatever_the_order_of_the_messages() {
        let mut transactions = with([9, 2, 7, 4]);
        assert_eq!(open(&transactions), [2, 4, 7, 9]);
        let taken = transactions.take_list(id(1), [7].into_iter());
        assert_eq!(taken, (sequences([7]), None));
        assert_eq!(open(&transactions), [2, 4, 9]);
    }

    #[test]
    fn a_lost_lease_leaves_its_transaction() {
        let mut transactions = with(1..=3);
        transactions.expired(DELIVERY, &sequences([2]));
        assert_eq!(open(&transactions), [1, 3]);
        let taken = transactions.take_list(id(1), [1, 2].into_iter());
        assert_eq!(taken, (sequences([1]), Some(2)));
        transactions.confirmed(id(1));
        transactions.expired(DELIVERY + 1, &sequences([3]));
        assert_eq!(open(&transactions), [3], "another delivery");
        transactions.expired(DELIVERY, &[]);
        assert_eq!(find(&transactions), Found::Completed, "all of them");
        assert_eq!(transactions.len(), 0);
    }

    /// The lease of the second message ran out while the client's list was on its way.
    #[test]
    fn what_stands_behind_a_lost_lease_in_a_list_is_open_again() {
        let mut transactions = with(1..=4);
        let (list, _) = transactions.take_list(id(1), [4, 2, 3, 1].into_iter());
        assert_eq!(find(&transactions), Found::Completed);
        transactions.broke_off(id(1), Sequence::new(2), &Which::List(list));
        assert_eq!(open(&transactions), [1, 3]);
        assert_eq!(find(&transactions), Found::Open);
        transactions.expired(DELIVERY, &sequences([2]));
        assert_eq!(open(&transactions), [1, 3], "told once more");
    }

    #[test]
    fn a_lost_lease_of_a_whole_delivery_ends_it() {
        let mut transactions = with(1..=2);
        transactions.take_all(id(1));
        transactions.broke_off(id(1), Sequence::new(0), &Which::All);
        assert_eq!(find(&transactions), Found::Completed);
        assert_eq!(transactions.len(), 0);
    }

    #[test]
    fn what_is_given_back_is_complete_at_once() {
        let mut transactions = with(1..=2);
        assert_eq!(transactions.message_count(), 2);
        transactions.take_list(id(1), [1].into_iter());
        assert_eq!(transactions.open(), [id(1)]);
        assert_eq!(transactions.give_back(id(1)), Some(DELIVERY));
        assert_eq!(find(&transactions), Found::Completed);
        assert_eq!(transactions.open(), []);
        assert_eq!(transactions.len(), 1, "an acknowledgement is on its way");
        transactions.confirmed(id(1));
        assert_eq!(transactions.len(), 0);
        assert_eq!(transactions.give_back(id(1)), None);
    }

    #[test]
    fn completed_transactions_are_remembered_up_to_a_bound() {
        let mut transactions = Transactions::<u32>::default();
        for number in 0..=COMPLETED_MAX {
            transactions.complete(id(number as u128));
            transactions.complete(id(number as u128));
        }
        assert_eq!(transactions.find(Some(id(0))), Found::Unknown);
        assert_eq!(find(&transactions), Found::Completed);
        assert_eq!(transactions.ended.len(), COMPLETED_MAX);
        assert_eq!(transactions.find(None), Found::Unknown);
    }
}
