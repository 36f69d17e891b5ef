//! What time does.

use std::hash::Hash;
use std::mem;

use ringmq_storage::ChannelKey;
use ringmq_storage::record::queue::Run;

use super::queue::{Queue, Timed, is_over};
use super::{Dispatcher, Timeout};
use crate::engine::arena::Key;
use crate::engine::queues::QueueState;

pub(super) const NS_PER_MS: u64 = 1_000_000;

/// Timers that fire or move in one call, and messages of one queue that become due in one.
const STEPS_MAX: usize = 1024;

/// How long nothing has to happen in a queue before its memory is given back, in milliseconds.
/// Queues that are used now and then would allocate it anew for each message otherwise.
const REST_MS: u64 = 1000;

/// What a timer is for. Timers are cancelled with what they are for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// Messages of a queue become visible or expire.
    Queue(Key),
    /// A queue may have come to rest.
    Rest(Key),
    /// Leases of a delivery end.
    Delivery(Key),
    /// A poll is answered with nothing.
    Poll(Key),
}

impl Queue {
    /// Makes what is due visible, and removes what has expired, in the order of time. Returns
    /// whether that was all.
    fn become_due(
        &mut self,
        state: Option<&QueueState>,
        now_ns: u64,
        spare: &mut Vec<Vec<Run>>,
    ) -> bool {
        for _ in 0..STEPS_MAX {
            let expired = self.expiring.first().copied();
            let due = self.delayed.first().copied();
            let detail = |timed: &Timed| state?.detail(timed.sequence);
            if let Some(expired) = expired.filter(|of| is_over(of.at_ns, now_ns)) {
                self.expiring.remove(&expired);
                let detail = detail(&expired);
                let visible_at_ns = detail.map_or(0, |detail| detail.visible_at_ns);
                if self.take_out(expired.sequence, visible_at_ns) {
                    let len = detail.map_or(0, |detail| detail.len);
                    self.expire(expired.sequence, len, spare);
                }
            } else if let Some(due) = due.filter(|of| is_over(of.at_ns, now_ns)) {
                self.delayed.remove(&due);
                let expires_at_ns = detail(&due).map_or(0, |detail| detail.expires_at_ns);
                self.ripen(due, self.numbers.known, expires_at_ns);
            } else {
                return true;
            }
        }
        false
    }
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// Lets time pass: delays end, messages expire, leases and polls run out. Appends what the
    /// shard has to tell. `states` gives the state of a queue that exists.
    ///
    /// Returns whether it got through: what one call does is bounded. If not, call it again after
    /// yielding; [`next_deadline_ms`](Self::next_deadline_ms) is due at once.
    pub fn advance<'s>(
        &mut self,
        now_ns: u64,
        states: impl Fn(ChannelKey) -> Option<&'s QueueState>,
        events: &mut Vec<Timeout<A>>,
    ) -> bool {
        self.see(now_ns);
        let mut fired = mem::take(&mut self.fired);
        let now_ms = now_ns / NS_PER_MS;
        let mut finished = self.wheel.advance_bounded(now_ms, STEPS_MAX, &mut fired);
        for timer in fired.drain(..) {
            match timer {
                Timer::Queue(key) => finished &= self.queue_due(key, &states),
                Timer::Rest(key) => self.look_for_rest(key),
                Timer::Delivery(slot) => self.delivery_due(slot, events),
                Timer::Poll(slot) => self.poll_due(slot, events),
            }
        }
        self.fired = fired;
        finished
    }

    fn queue_due<'s>(
        &mut self,
        key: Key,
        states: impl Fn(ChannelKey) -> Option<&'s QueueState>,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(key) else {
            return true;
        };
        queue.timer = None;
        let state = states(queue.key);
        let finished = queue.become_due(state, self.now_ns, &mut self.spare_runs);
        self.touched(key);
        finished
    }

    fn look_for_rest(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        queue.is_watched = false;
        if !queue.is_idle() {
            return;
        }
        debug_assert!(queue.asides.is_empty(), "no place of a message is left");
        debug_assert!(queue.receives.is_empty(), "no count of a message is left");
        if let Some((_, timer)) = queue.timer {
            self.wheel.cancel(timer);
        }
        let (channel, numbers) = (queue.key, queue.numbers);
        self.queues.remove(key);
        if let Some(rest) = self.index.get_mut(&channel) {
            rest.numbers = numbers;
            rest.queue = None;
        }
    }

    fn delivery_due(&mut self, slot: Key, events: &mut Vec<Timeout<A>>) {
        let Some(delivery) = self.deliveries.get(slot) else {
            return;
        };
        let (consumer, key, number) = (delivery.consumer, delivery.key, delivery.number);
        let mut sequences = Vec::new();
        self.time_out(slot, self.now_ns, &mut sequences);
        if !sequences.is_empty() {
            events.push(Timeout::Lease {
                consumer,
                key,
                delivery: number,
                sequences,
            });
        }
    }

    fn poll_due(&mut self, slot: Key, events: &mut Vec<Timeout<A>>) {
        let Some(waiter) = self.remove_waiter(slot) else {
            return;
        };
        if let Some(queue) = self.queues.get(waiter.queue) {
            events.push(Timeout::Poll {
                consumer: waiter.request.consumer,
                number: waiter.request.number,
                key: queue.key,
            });
        }
        self.touched(waiter.queue);
    }

    /// When [`advance`](Self::advance) has something to do next, in milliseconds since 1970; at
    /// times a little early.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_expiry()
    }

    /// Notes what time it is: never earlier than it was.
    pub(super) fn see(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Something about a queue may have changed: notes what that means for its waiters, for the
    /// log, its timer and its memory.
    pub(super) fn touched(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        if !queue.in_ring && queue.is_servable() {
            queue.in_ring = true;
            self.ring.push_back(key);
        }
        if !queue.is_dirty && !queue.operations.is_empty() {
            queue.is_dirty = true;
            self.dirty.push_back(key);
        }
        let due = queue.next_due_ns().map(|due_ns| due_ns.div_ceil(NS_PER_MS));
        if due != queue.timer.map(|(at, _)| at) {
            if let Some((_, timer)) = queue.timer.take() {
                self.wheel.cancel(timer);
            }
            queue.timer = due.map(|at| (at, self.wheel.insert(at, Timer::Queue(key))));
        }
        if !queue.is_watched && queue.is_idle() {
            queue.is_watched = true;
            let at = (self.now_ns / NS_PER_MS).saturating_add(REST_MS);
            self.wheel.insert(at, Timer::Rest(key));
        }
    }
}
