//! A waiter's turn: messages are leased, or looked at.

use std::hash::Hash;

use ringmq_storage::record::queue::Run;
use ringmq_storage::{ChannelKey, Sequence};

use super::pending::keep;
use super::queue::{Aside, Piece, Queue, is_over, pieces};
use super::ready::{Chunk, Look};
use super::timers::{NS_PER_MS, Timer};
use super::{Dispatcher, MoveReason, SettleReason, Taken, Turn};
use crate::engine::arena::Key;
use crate::engine::queues::{Detail, QueueState};
use crate::engine::wheel::TimerKey;

/// Messages that one call of [`Dispatcher::take`] looks at beyond those it takes: expired ones may
/// stand in front by the million.
const EXPIRED_MAX: u64 = 4096;

/// The deadline of a lease without one.
pub(super) const NEVER: u64 = u64::MAX;

/// A message that a consumer has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) sequence: Sequence,
    /// In milliseconds since 1970.
    pub(super) deadline_ms: u64,
    pub(super) len: u32,
    /// Before this time.
    pub(super) receives: u32,
    pub(super) receives_max: u32,
    /// Not settled.
    pub(super) is_open: bool,
    /// Its body was read.
    pub(super) is_handed: bool,
    /// The log has it as received once more, or is about to.
    pub(super) is_counted: bool,
    /// A settlement is about to end it.
    pub(super) is_picked: bool,
}

const _: () = assert!(size_of::<Lease>() <= 32, "a lease is half a cache line");

/// The leases of one answer to a poll; before the answer, an open turn.
#[derive(Debug)]
pub(super) struct Delivery<A> {
    pub(super) consumer: A,
    pub(super) number: u64,
    pub(super) key: ChannelKey,
    pub(super) queue: Key,
    /// Where it is among the consumer's.
    pub(super) place: usize,
    /// In the order of the queue.
    pub(super) leases: Vec<Lease>,
    /// Places of the leases by their sequence; empty when that is their order.
    by_sequence: Vec<u32>,
    /// Leases that are not settled.
    pub(super) open: u32,
    /// The poll's number while its turn is open.
    pub(super) turn: Option<u64>,
    items_max: u32,
    peek: bool,
    look: Look,
    looked_at: u32,
    /// Where the next lease is probably found.
    hint: usize,
    pub(super) timer: Option<(u64, TimerKey)>,
}

impl<A> Delivery<A> {
    /// The place of an open lease. Consumers mostly settle in order, so the place behind the one
    /// that was asked for last is tried first.
    pub(super) fn find(&mut self, sequence: Sequence) -> Option<usize> {
        let at = |place: usize| self.leases.get(place).map(|lease| lease.sequence);
        let place = if at(self.hint) == Some(sequence) {
            self.hint
        } else if self.by_sequence.is_empty() {
            let found = self
                .leases
                .binary_search_by_key(&sequence, |of| of.sequence);
            found.ok()?
        } else {
            let place = |index: &u32| usize::try_from(*index).unwrap_or(usize::MAX);
            let key = |index: &u32| at(place(index)).unwrap_or_default();
            let found = self.by_sequence.binary_search_by_key(&sequence, key).ok()?;
            self.by_sequence.get(found).map(place)?
        };
        self.hint = place + 1;
        self.leases.get(place).filter(|lease| lease.is_open)?;
        Some(place)
    }

    /// Orders the leases for [`find`](Self::find).
    fn index(&mut self) {
        self.hint = 0;
        self.by_sequence.clear();
        if self.leases.is_sorted_by_key(|lease| lease.sequence) {
            return;
        }
        let count = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        self.by_sequence.extend(0..count);
        let leases = &self.leases;
        self.by_sequence.sort_unstable_by_key(|index| {
            let place = usize::try_from(*index).unwrap_or(usize::MAX);
            leases.get(place).map(|lease| lease.sequence)
        });
    }

    /// Ends a lease; gives what it was.
    pub(super) fn close(&mut self, place: usize) -> Option<Lease> {
        let lease = self.leases.get_mut(place).filter(|lease| lease.is_open)?;
        lease.is_open = false;
        self.open -= 1;
        Some(*lease)
    }

    /// The earliest deadline of an open lease.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let open = self.leases.iter().filter(|lease| lease.is_open);
        let earliest = open.map(|lease| lease.deadline_ms).min();
        earliest.filter(|deadline| *deadline != NEVER)
    }
}

/// Takes messages of one queue into a delivery.
struct Taking<'t, A> {
    queue: &'t mut Queue,
    delivery: &'t mut Delivery<A>,
    into: &'t mut Vec<Taken>,
    spare: &'t mut Vec<Vec<Run>>,
    now_ns: u64,
    left: u64,
    expired_left: u64,
}

impl<A> Taking<'_, A> {
    fn chunk(&mut self, chunk: Chunk, state: &QueueState) {
        match chunk {
            Chunk::Run(first, last) => pieces(state, first, last, |piece| match piece {
                Piece::Plain(first, last) => {
                    for number in first.get()..=last.get() {
                        self.message(Sequence::new(number), None, None);
                    }
                }
                Piece::Noted(sequence, detail) => self.message(sequence, Some(detail), None),
            }),
            Chunk::Late(late) => {
                let place = Some((late.after, late.due_ns));
                self.message(late.sequence, state.detail(late.sequence), place);
            }
        }
    }

    fn message(
        &mut self,
        sequence: Sequence,
        detail: Option<&Detail>,
        late: Option<(Sequence, u64)>,
    ) {
        let expires_at_ns = detail.map_or(0, |detail| detail.expires_at_ns);
        if is_over(expires_at_ns, self.now_ns) {
            self.expired_left = self.expired_left.saturating_sub(1);
            if self.delivery.peek {
                self.queue.take_out(sequence, 0);
            }
            self.queue.forget_expiry(sequence, expires_at_ns);
            let len = detail.map_or(0, |detail| detail.len);
            self.queue.expire(sequence, len, self.spare);
            return;
        }
        let receives = self.queue.receives_of(sequence, detail);
        self.into.push(Taken {
            sequence,
            body: detail.map_or(sequence, |detail| detail.body),
            receives,
            visible_at_ns: detail.map_or(0, |detail| detail.visible_at_ns),
            expires_at_ns,
        });
        self.left -= 1;
        if self.delivery.peek {
            self.delivery.looked_at += 1;
            return;
        }
        if expires_at_ns != 0 {
            self.queue.forget_expiry(sequence, expires_at_ns);
            let aside = Aside {
                late,
                expires_at_ns,
            };
            self.queue.asides.insert(sequence, aside);
        }
        self.queue.in_flight += 1;
        self.delivery.open += 1;
        self.delivery.leases.push(Lease {
            sequence,
            deadline_ms: NEVER,
            len: 0,
            receives,
            receives_max: 0,
            is_open: true,
            is_handed: false,
            is_counted: false,
            is_picked: false,
        });
    }
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// Opens the delivery of a turn.
    pub(super) fn open_turn(&mut self, turn: &Turn<A>, queue: Key) -> Key {
        let delivery = Delivery {
            consumer: turn.request.consumer,
            number: turn.delivery,
            key: turn.key,
            queue,
            place: 0,
            leases: self.spare_leases.pop().unwrap_or_default(),
            by_sequence: Vec::new(),
            open: 0,
            turn: Some(turn.request.number),
            items_max: turn.request.items_max.max(1),
            peek: turn.request.peek,
            look: Look::default(),
            looked_at: 0,
            hint: 0,
            timer: None,
        };
        self.add_delivery(delivery)
    }

    /// Takes the next messages of a turn, at most `max` and what is left of the turn's maximum,
    /// and appends them to `into` in their order. They are leased from now on; a peek looks at
    /// them instead, and goes on behind the last one at the next call.
    ///
    /// What has expired is not taken. May stop early when a lot has: if nothing was taken, end the
    /// turn with [`requeue_waiter`](Self::requeue_waiter).
    pub fn take(
        &mut self,
        turn: &Turn<A>,
        max: usize,
        state: &QueueState,
        now_ns: u64,
        into: &mut Vec<Taken>,
    ) {
        self.see(now_ns);
        let Some(delivery) = self.deliveries.get_mut(turn.slot) else {
            return;
        };
        let key = delivery.queue;
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let taken = delivery.open.saturating_add(delivery.looked_at);
        let left = delivery.items_max.saturating_sub(taken);
        let mut taking = Taking {
            queue,
            left: u64::try_from(max).unwrap_or(u64::MAX).min(u64::from(left)),
            delivery,
            into,
            spare: &mut self.spare_runs,
            now_ns,
            expired_left: EXPIRED_MAX,
        };
        while taking.left > 0 && taking.expired_left > 0 {
            let next = if taking.delivery.peek {
                let look = &mut taking.delivery.look;
                let next = taking.queue.ready.next(look, taking.left);
                next.inspect(|chunk| look.pass(*chunk))
            } else {
                taking.queue.ready.pop(taking.left)
            };
            let Some(chunk) = next else { break };
            taking.chunk(chunk, state);
        }
        self.touched(key);
    }

    /// Says that the body of a taken message was read: bytes of its payload, and how often it may
    /// be received. From now on the message is the consumer's.
    pub fn handed(&mut self, turn: &Turn<A>, sequence: Sequence, len: u32, receives_max: u32) {
        let Some(delivery) = self.deliveries.get_mut(turn.slot) else {
            return;
        };
        let Some(place) = delivery.find_taken(sequence) else {
            return;
        };
        let queue = self.queues.get_mut(delivery.queue);
        if let Some((lease, queue)) = delivery.leases.get_mut(place).zip(queue) {
            queue.leased_bytes += u64::from(len) - u64::from(lease.len);
            lease.len = len;
            lease.receives_max = receives_max;
            lease.is_handed = true;
        }
    }

    /// Puts taken messages back in their places: they did not fit, or were not read.
    pub fn put_back(&mut self, turn: &Turn<A>, sequences: &[Sequence], now_ns: u64) {
        self.see(now_ns);
        for sequence in sequences {
            self.end_taken(turn, *sequence, |queue, lease, spare| {
                queue.put_in_place(lease, now_ns, spare);
            });
        }
        if let Some(delivery) = self.deliveries.get_mut(turn.slot) {
            delivery.leases.retain(|lease| lease.is_open);
            let queue = delivery.queue;
            self.touched(queue);
        }
    }

    /// A taken message cannot be read: it leaves the queue.
    pub fn damaged(&mut self, turn: &Turn<A>, sequence: Sequence, len: u32) {
        self.end_taken(turn, sequence, |queue, _, spare| {
            queue.forget(sequence);
            queue.settle(SettleReason::Damaged, sequence, len, spare);
        });
    }

    /// A taken message has been received as often as it may already: it becomes a dead letter.
    pub fn exhausted(&mut self, turn: &Turn<A>, sequence: Sequence, len: u32) {
        self.end_taken(turn, sequence, |queue, lease, _| {
            // It was not received once more.
            let receives = lease.receives.saturating_sub(1);
            let lease = Lease {
                len,
                receives,
                ..*lease
            };
            queue.start_move(&lease, MoveReason::DeadLetter, None);
        });
    }

    fn end_taken(
        &mut self,
        turn: &Turn<A>,
        sequence: Sequence,
        end: impl FnOnce(&mut Queue, &Lease, &mut Vec<Vec<Run>>),
    ) {
        let Some(delivery) = self.deliveries.get_mut(turn.slot) else {
            return;
        };
        let place = delivery.find_taken(sequence);
        let Some(lease) = place.and_then(|place| delivery.close(place)) else {
            return;
        };
        let key = delivery.queue;
        if let Some(queue) = self.queues.get_mut(key) {
            queue.end(&lease);
            end(queue, &lease, &mut self.spare_runs);
        }
        self.touched(key);
    }

    /// Ends a turn: what was handed is leased, for the time that the poll named; what was taken
    /// and not handed goes back to its place. Returns how many messages are leased; with none,
    /// there is no delivery. A peek leases nothing.
    pub fn leased(&mut self, turn: &Turn<A>, now_ns: u64) -> usize {
        self.see(now_ns);
        let Some(delivery) = self.deliveries.get_mut(turn.slot) else {
            return 0;
        };
        delivery.turn = None;
        let key = delivery.queue;
        let deadline_ms = turn.request.visible_ms.map_or(NEVER, |visible_ms| {
            now_ns.div_ceil(NS_PER_MS).saturating_add(visible_ms)
        });
        if let Some(queue) = self.queues.get_mut(key) {
            queue.turns -= 1;
            delivery.leases.retain_mut(|lease| {
                lease.deadline_ms = deadline_ms;
                if lease.is_open && !lease.is_handed {
                    queue.end(lease);
                    delivery.open -= 1;
                    queue.put_in_place(lease, now_ns, &mut self.spare_runs);
                    return false;
                }
                lease.is_open
            });
            let handed = u64::from(delivery.open);
            queue.numbers.delivered = queue.numbers.delivered.saturating_add(handed);
        }
        let leased = delivery.leases.len();
        if leased == 0 {
            self.end_delivery(turn.slot);
            self.touched(key);
            return 0;
        }
        delivery.index();
        if deadline_ms != NEVER {
            let timer = self.wheel.insert(deadline_ms, Timer::Delivery(turn.slot));
            delivery.timer = Some((deadline_ms, timer));
        }
        self.by_number.insert(turn.delivery, turn.slot);
        while let Some((_, number)) = self.uncounted.front()
            && !self.by_number.contains_key(number)
        {
            self.uncounted.pop_front();
        }
        self.uncounted
            .push_back((now_ns / NS_PER_MS, turn.delivery));
        self.touched(key);
        leased
    }

    /// Takes a delivery out that has no leases left.
    pub(super) fn end_delivery(&mut self, slot: Key) {
        let Some(mut delivery) = self.deliveries.remove(slot) else {
            return;
        };
        debug_assert_eq!(delivery.open, 0, "every lease has ended");
        if let Some((_, timer)) = delivery.timer {
            self.wheel.cancel(timer);
        }
        self.by_number.remove(&delivery.number);
        self.leave_consumer(delivery.consumer, delivery.place);
        delivery.leases.clear();
        keep(&mut self.spare_leases, delivery.leases);
    }
}

impl<A> Delivery<A> {
    /// As [`find`](Self::find), while the turn is open and the leases have no order yet.
    fn find_taken(&mut self, sequence: Sequence) -> Option<usize> {
        let is_it = |lease: &Lease| lease.is_open && lease.sequence == sequence;
        let place = match self.leases.get(self.hint) {
            Some(lease) if is_it(lease) => self.hint,
            _ => self.leases.iter().position(is_it)?,
        };
        self.hint = place + 1;
        Some(place)
    }
}
