//! The queues of one log in its shard's hands.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use foldhash::fast::{FixedState, RandomState};
use ringmq_storage::log::ReadCursor;
use ringmq_storage::{ChannelKey, Position};

use super::QueuePolicy;
use super::asked_moves::AskedMoves;
use super::moves::MoveSeat;
use super::serve::Serving;
use super::settle::Confirmation;
use crate::engine::feeds::Address;
use crate::engine::queues::dispatcher::{self, Dispatcher, PollRequest, QueueFigures};
use crate::engine::stored::Slots;

/// Places in the log that are remembered for the next read of a queue; beyond this many, all are
/// forgotten: a read that knows no place finds it by the index.
const CURSORS_MAX: usize = 1024;

/// A lease that is open for so long is counted in the log, many at a time: a crash forgets at most
/// the counts of its last moments.
const COUNT_AFTER_MS: u64 = 50;

/// What the shard knows of the queues of one log beside their state.
pub(in crate::shard) struct QueueSeat {
    pub(super) dispatcher: Dispatcher<Address>,
    /// Polls that wait, by consumer and ticket. One whose turn it is has left.
    pub(super) polls: BTreeMap<(Address, u64), Asked>,
    /// Those of them whose queue is not there.
    pub(super) unborn: Unborn,
    /// Those that do not want to wait: answered when what is there has been handed out.
    pub(super) hasty: Vec<(Address, u64)>,
    /// Answers that are being made, in turn.
    pub(super) active: VecDeque<Box<Serving>>,
    /// Those that wait for the disk, by the delivery's number.
    pub(super) cold: HashMap<u64, Box<Serving>, FixedState>,
    cursors: HashMap<ChannelKey, ReadCursor, FixedState>,
    /// Confirmations of what may not be in the log yet.
    pub(super) undecided: Vec<Confirmation>,
    /// Confirmations of what is committed with everything before the place, in order.
    pub(super) decided: VecDeque<(Position, Confirmation)>,
    pub(super) asked_moves: AskedMoves,
    pub(in crate::shard) moves: MoveSeat,
    /// When leases were last counted, in milliseconds since 1970.
    pub(super) counted_at_ms: u64,
    /// Queues that messages have left since it was last looked whether they can be trimmed.
    pub(super) left: HashSet<ChannelKey, FixedState>,
}

/// A poll that waits.
#[derive(Debug)]
pub(super) struct Asked {
    /// The queue; `None` while there is none of that name.
    pub key: Option<ChannelKey>,
    pub channel: Box<str>,
    pub request: PollRequest<Address>,
    pub bytes_max: usize,
    pub field: u32,
}

impl QueueSeat {
    /// The numbers of a queue.
    pub(in crate::shard) fn figures(&self, key: ChannelKey) -> QueueFigures {
        self.dispatcher.figures(key)
    }

    /// Those of all queues together.
    pub(in crate::shard) fn totals(&self) -> QueueFigures {
        self.dispatcher.totals()
    }

    /// Rebuilds what is volatile from the state. `now_ns` is the queues' clock; delivery numbers
    /// begin with it, so that those of an earlier process are not given again.
    pub(in crate::shard) fn new(
        slots: &Slots,
        now_ns: u64,
        policy: impl Fn(&str) -> QueuePolicy,
    ) -> Self {
        // A million deliveries a millisecond would be needed to catch up with the clock.
        let first_delivery = (now_ns / 1_000_000) << 20;
        let mut dispatcher = Dispatcher::new(first_delivery, now_ns);
        let mut left = HashSet::default();
        for (key, channel) in slots.channels() {
            if let Some(queue) = slots.queue(key) {
                dispatcher.restore(key, queue, now_ns);
                dispatcher.configure(key, rules(&policy(&channel.name)));
                if queue.floor() >= channel.first {
                    left.insert(key);
                }
            }
        }
        Self {
            dispatcher,
            polls: BTreeMap::new(),
            unborn: Unborn::default(),
            hasty: Vec::new(),
            active: VecDeque::new(),
            cold: HashMap::default(),
            cursors: HashMap::default(),
            undecided: Vec::new(),
            decided: VecDeque::new(),
            asked_moves: AskedMoves::default(),
            moves: MoveSeat::default(),
            counted_at_ms: 0,
            left,
        }
    }

    /// Where the last read of a queue ended.
    pub(super) fn take_cursor(&mut self, key: ChannelKey) -> ReadCursor {
        self.cursors.remove(&key).unwrap_or_default()
    }

    pub(super) fn keep_cursor(&mut self, key: ChannelKey, cursor: ReadCursor) {
        if self.cursors.len() >= CURSORS_MAX {
            self.cursors.clear();
        }
        self.cursors.insert(key, cursor);
    }

    pub(super) fn forget_cursor(&mut self, key: ChannelKey) {
        self.cursors.remove(&key);
    }

    pub(in crate::shard) fn polls_waiting(&self) -> usize {
        self.polls.len()
    }

    /// Whether anybody waits for messages of the queue, or has some.
    pub(in crate::shard) fn uses(&self, key: ChannelKey) -> bool {
        let figures = self.dispatcher.figures(key);
        figures.waiters > 0 || figures.in_flight > 0 || figures.moving > 0
    }

    /// Has leases written down that are open for a while: after a crash their messages count as
    /// received.
    pub(super) fn count_leases(&mut self, now_ms: u64) {
        let before = now_ms.saturating_sub(COUNT_AFTER_MS);
        let oldest = self.dispatcher.oldest_uncounted_ms();
        if self.counted_at_ms <= before && oldest.is_some_and(|leased| leased <= before) {
            self.counted_at_ms = now_ms;
            self.dispatcher.count_old_leases(before + 1);
        }
    }

    /// Takes a poll that waits out of the line.
    pub(super) fn withdraw(&mut self, consumer: Address, ticket: u64) -> Option<Asked> {
        let asked = self.polls.get(&(consumer, ticket))?;
        let waits = match asked.key {
            Some(key) => self.dispatcher.cancel(key, consumer, ticket),
            None => self.unborn.remove(&asked.channel, &asked.request),
        };
        debug_assert!(waits, "what is in the table waits");
        self.polls.remove(&(consumer, ticket))
    }

    /// The next moment at which something has to happen, in milliseconds since 1970.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let queues = self.dispatcher.next_deadline_ms();
        let unborn = self.unborn.next_deadline_ms();
        let count = self.dispatcher.oldest_uncounted_ms();
        let count = count.map(|leased| leased.max(self.counted_at_ms) + COUNT_AFTER_MS);
        [queues, unborn, count].into_iter().flatten().min()
    }
}

/// What the dispatcher has to know of the operator's wishes.
pub(super) fn rules(policy: &QueuePolicy) -> dispatcher::QueuePolicy {
    dispatcher::QueuePolicy {
        in_place: policy.in_place,
    }
}

/// Polls on queues that are not there, by name and in their order, with the times at which they
/// give up.
#[derive(Debug, Default)]
pub(super) struct Unborn {
    /// Clients choose the names: the hash is seeded.
    waiting: HashMap<Box<str>, VecDeque<(Address, u64)>, RandomState>,
    deadlines: BTreeSet<(u64, Address, u64)>,
}

impl Unborn {
    pub(super) fn insert(&mut self, channel: &str, request: &PollRequest<Address>) {
        let PollRequest {
            consumer,
            number,
            deadline_ms,
            ..
        } = *request;
        self.deadlines.insert((deadline_ms, consumer, number));
        if let Some(line) = self.waiting.get_mut(channel) {
            line.push_back((consumer, number));
        } else {
            let line = VecDeque::from([(consumer, number)]);
            self.waiting.insert(channel.into(), line);
        }
    }

    pub(super) fn remove(&mut self, channel: &str, request: &PollRequest<Address>) -> bool {
        let place = (request.consumer, request.number);
        if let Some(line) = self.waiting.get_mut(channel) {
            line.retain(|waiting| *waiting != place);
            if line.is_empty() {
                self.waiting.remove(channel);
            }
        }
        self.deadlines
            .remove(&(request.deadline_ms, request.consumer, request.number))
    }

    /// Those who wait for a queue of this name.
    pub(super) fn line(&self, channel: &str) -> Vec<(Address, u64)> {
        let line = self.waiting.get(channel);
        line.into_iter().flatten().copied().collect()
    }

    /// One whose time is over.
    pub(super) fn overdue(&self, now_ms: u64) -> Option<(Address, u64)> {
        let &(deadline_ms, consumer, ticket) = self.deadlines.first()?;
        (deadline_ms <= now_ms).then_some((consumer, ticket))
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, ..)| *deadline_ms)
    }
}
