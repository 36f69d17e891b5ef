//! The transactions of one stream of polls: what each answer handed out, and what of it is open.
//!
//! The broker's word on a lease is the dispatcher's. What stands here is the client's side of it:
//! which sequences it may still name, so that a request is judged in the order of the stream and
//! without a round trip. Where the two differ, because a lease ran out meanwhile, the dispatcher's
//! refusal comes back later and is told then.

use std::collections::VecDeque;
use std::fmt;

use foldhash::{HashMap, HashSet};
use ringmq_storage::Sequence;

use crate::shard::{Delivery, Which};

/// Completed transactions that are remembered: a late settlement of one is told what it hit.
const COMPLETED_MAX: usize = 1024;

/// Names a transaction. Nobody else can guess it, though it is worth something on its stream only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TransactionId(u128);

impl TransactionId {
    pub(super) fn random(fill_random: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = [0; 16];
        fill_random(&mut bytes);
        // Version 4, variant 1: clients may parse it.
        let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62);
        Self(number | 0x4 << 76 | 0x2 << 62)
    }

    /// Reads one that this broker may have made.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut number = 0_u128;
        let mut groups = text.split('-');
        for digits in GROUPS {
            let group = groups.next().filter(|group| group.len() == digits)?;
            // A sign is no digit.
            group.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
            number = number << (4 * digits) | u128::from_str_radix(group, 16).ok()?;
        }
        groups.next().is_none().then_some(Self(number))
    }
}

/// Digits of the groups of a UUID.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = 32;
        for digits in GROUPS {
            if left < 32 {
                f.write_str("-")?;
            }
            left -= digits;
            let group = self.0 >> (4 * left) & ((1 << (4 * digits)) - 1);
            write!(f, "{group:0digits$x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

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
pub(super) struct Transaction {
    pub(super) delivery: Delivery,
    /// Ascending, as the client is told them; most answers are in this order anyway.
    messages: Vec<(Sequence, Standing)>,
    open: usize,
    /// Settlements whose outcome is not known.
    outstanding: usize,
}

impl Transaction {
    fn new(delivery: Delivery, sequences: &[Sequence]) -> Self {
        let mut messages: Vec<_> = sequences.iter().map(|s| (*s, Standing::Open)).collect();
        if !messages.is_sorted_by_key(|(sequence, _)| *sequence) {
            messages.sort_unstable_by_key(|(sequence, _)| *sequence);
        }
        Self {
            delivery,
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

/// The transactions of a stream.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Those that are open, or have settlements outstanding.
    live: HashMap<TransactionId, Transaction>,
    by_delivery: HashMap<Delivery, TransactionId>,
    /// The last ones that ended; the oldest are forgotten first.
    /// INVARIANT: `ended` and `ended_order` hold the same ids.
    ended: HashSet<TransactionId>,
    ended_order: VecDeque<TransactionId>,
}

impl Transactions {
    /// Begins a transaction with the messages of an answer.
    pub(super) fn begin(&mut self, id: TransactionId, delivery: Delivery, sequences: &[Sequence]) {
        debug_assert!(!sequences.is_empty(), "an empty answer is complete");
        self.by_delivery.insert(delivery, id);
        self.live.insert(id, Transaction::new(delivery, sequences));
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

    pub(super) fn get(&self, id: TransactionId) -> Option<&Transaction> {
        self.live.get(&id)
    }

    /// Settles all that is open, on the client's word; an outcome is to follow.
    pub(super) fn take_all(&mut self, id: TransactionId) {
        if let Some(transaction) = self.live.get_mut(&id) {
            transaction.outstanding += 1;
            transaction.settle_all();
        }
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
    pub(super) fn expired(&mut self, delivery: Delivery, sequences: &[Sequence]) {
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
            self.complete(id);
        }
    }
}
