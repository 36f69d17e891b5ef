//! Who waits for messages.

use std::hash::Hash;

use ringmq_storage::ChannelKey;

use super::take::Delivery;
use super::timers::Timer;
use super::{Dispatcher, PollRequest, Turn};
use crate::engine::arena::Key;
use crate::engine::wheel::TimerKey;

/// A poll that is not answered.
#[derive(Debug)]
pub(super) struct Waiter<A> {
    pub(super) request: PollRequest<A>,
    pub(super) queue: Key,
    /// Its number among all waiters, and so its place among the queue's.
    number: u64,
    timer: Option<TimerKey>,
    /// Where it is among the consumer's.
    place: usize,
}

/// What a consumer has. Kept until the consumer is gone, so that one that polls again and again
/// costs no allocation.
#[derive(Debug, Default)]
pub(super) struct ConsumerState {
    pub(super) waiters: Vec<Key>,
    pub(super) deliveries: Vec<Key>,
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// Has a consumer wait for messages of a queue, behind those that wait already. Served by
    /// [`next_turn`](Self::next_turn); when its time is over before, [`advance`](Self::advance)
    /// says so. The consumer is remembered until [`consumer_gone`](Self::consumer_gone).
    pub fn poll(&mut self, key: ChannelKey, request: PollRequest<A>) {
        let queue = self.wake(key);
        let number = self.next_waiter;
        self.next_waiter += 1;
        self.add_waiter(queue, number, request);
    }

    fn add_waiter(&mut self, key: Key, number: u64, request: PollRequest<A>) {
        let consumer = self.consumers.entry(request.consumer).or_default();
        let place = consumer.waiters.len();
        let slot = self.waiters.insert(Waiter {
            request,
            queue: key,
            number,
            timer: None,
            place,
        });
        consumer.waiters.push(slot);
        if let Some(waiter) = self.waiters.get_mut(slot) {
            waiter.timer = Some(self.wheel.insert(request.deadline_ms, Timer::Poll(slot)));
        }
        if let Some(queue) = self.queues.get_mut(key) {
            let before = |(other, _): &(u64, Key)| *other < number;
            let at = match queue.waiters.back() {
                Some(last) if !before(last) => queue.waiters.partition_point(before),
                _ => queue.waiters.len(),
            };
            queue.waiters.insert(at, (number, slot));
        }
        self.touched(key);
    }

    /// Takes a waiter out, wherever it is.
    pub(super) fn remove_waiter(&mut self, slot: Key) -> Option<Waiter<A>> {
        let waiter = self.waiters.remove(slot)?;
        if let Some(timer) = waiter.timer {
            self.wheel.cancel(timer);
        }
        if let Some(consumer) = self.consumers.get_mut(&waiter.request.consumer) {
            consumer.waiters.swap_remove(waiter.place);
            let moved = consumer.waiters.get(waiter.place).copied();
            if let Some(moved) = moved.and_then(|moved| self.waiters.get_mut(moved)) {
                moved.place = waiter.place;
            }
        }
        if let Some(queue) = self.queues.get_mut(waiter.queue) {
            let number = waiter.number;
            if queue.waiters.front().is_some_and(|(of, _)| *of == number) {
                queue.waiters.pop_front();
            } else if let Ok(at) = queue.waiters.binary_search_by_key(&number, |(of, _)| *of) {
                queue.waiters.remove(at);
            }
        }
        Some(waiter)
    }

    /// Ends the waiting of a poll without an answer. Returns whether it was waiting.
    pub fn cancel(&mut self, key: ChannelKey, consumer: A, number: u64) -> bool {
        let waiting = self.consumers.get(&consumer);
        let found = waiting.into_iter().flat_map(|of| &of.waiters).find(|slot| {
            let waiter = self.waiters.get(**slot);
            waiter.is_some_and(|waiter| {
                let queue = self.queues.get(waiter.queue);
                waiter.request.number == number && queue.is_some_and(|queue| queue.key == key)
            })
        });
        let waiter = found.copied().and_then(|slot| self.remove_waiter(slot));
        let Some(waiter) = waiter else { return false };
        self.touched(waiter.queue);
        true
    }

    /// Picks the next waiter that can be served, and makes it wait no more. Queues take turns.
    ///
    /// Take its messages at once: until then, others may be given a turn for them too. A turn may
    /// stay open while bodies are read.
    pub fn next_turn(&mut self, now_ns: u64) -> Option<Turn<A>> {
        self.see(now_ns);
        while let Some(key) = self.ring.pop_front() {
            let Some(queue) = self.queues.get_mut(key) else {
                continue;
            };
            queue.in_ring = false;
            let Some((number, slot)) = queue.waiters.front().copied() else {
                continue;
            };
            if queue.ready.is_empty() {
                continue;
            }
            queue.turns += 1;
            let channel = queue.key;
            let Some(waiter) = self.remove_waiter(slot) else {
                continue;
            };
            let mut turn = Turn {
                key: channel,
                request: waiter.request,
                delivery: self.next_delivery,
                waiter: number,
                slot,
            };
            self.next_delivery += 1;
            turn.slot = self.open_turn(&turn, key);
            // Behind the other queues, if there is somebody else.
            self.touched(key);
            return Some(turn);
        }
        None
    }

    /// Ends a turn in which nothing was leased: the waiter is in its place again, before those
    /// that came after it.
    pub fn requeue_waiter(&mut self, turn: &Turn<A>) {
        let Some(delivery) = self.deliveries.get(turn.slot) else {
            return;
        };
        let queue = delivery.queue;
        self.give_back(turn.slot, false, self.now_ns);
        self.add_waiter(queue, turn.waiter, turn.request);
    }

    /// Notes a delivery, and that it is the consumer's.
    pub(super) fn add_delivery(&mut self, delivery: Delivery<A>) -> Key {
        let consumer = delivery.consumer;
        let slot = self.deliveries.insert(delivery);
        let deliveries = &mut self.consumers.entry(consumer).or_default().deliveries;
        if let Some(delivery) = self.deliveries.get_mut(slot) {
            delivery.place = deliveries.len();
        }
        deliveries.push(slot);
        slot
    }

    /// A delivery is none of the consumer's any more.
    pub(super) fn leave_consumer(&mut self, consumer: A, place: usize) {
        let Some(consumer) = self.consumers.get_mut(&consumer) else {
            return;
        };
        consumer.deliveries.swap_remove(place);
        let moved = consumer.deliveries.get(place).copied();
        if let Some(moved) = moved.and_then(|moved| self.deliveries.get_mut(moved)) {
            moved.place = place;
        }
    }
}
