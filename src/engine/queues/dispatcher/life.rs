//! What the state says: messages come, messages and queues go.

use std::hash::Hash;

use ringmq_storage::{ChannelKey, Sequence};

use super::queue::{Numbers, Piece, Queue, Rest, Timed, is_over, pieces};
use super::ready::{Chunk, Late};
use super::{Dispatcher, Gone, QueueFigures, QueuePolicy};
use crate::engine::arena::Key;
use crate::engine::queues::{QueueState, SettleReason};

impl Queue {
    /// Takes in everything that is live at the start.
    fn restore(&mut self, state: &QueueState, now_ns: u64) {
        for (first, last) in state.live() {
            self.ready.insert(first, last);
            self.numbers.known = self.numbers.known.max(last);
        }
        self.numbers.known = self.numbers.known.max(state.last());
        let mut overdue: Vec<Timed> = Vec::new();
        for (sequence, detail) in state.details_from(Sequence::new(1)) {
            let at_ns = detail.visible_at_ns;
            self.watch_expiry(sequence, detail.expires_at_ns);
            if at_ns == 0 {
                continue;
            }
            self.ready.remove(sequence);
            if is_over(at_ns, now_ns) {
                overdue.push(Timed { at_ns, sequence });
            } else {
                self.delay(sequence, detail);
            }
        }
        overdue.sort_unstable();
        let mut after = Sequence::default();
        for timed in overdue {
            after = after.max(timed.sequence);
            let detail = state.detail(timed.sequence);
            self.ripen(
                timed,
                after,
                detail.map_or(0, |detail| detail.expires_at_ns),
            );
        }
        for (sequence, _) in state.moves() {
            let detail = state.detail(sequence);
            let (visible_at_ns, expires_at_ns, len) = detail.map_or((0, 0, 0), |detail| {
                (detail.visible_at_ns, detail.expires_at_ns, detail.len)
            });
            self.forget_expiry(sequence, expires_at_ns);
            self.take_out(sequence, visible_at_ns);
            self.moving.insert(sequence, len);
        }
    }

    fn figures(&self) -> QueueFigures {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        QueueFigures {
            waiting: self.ready.count(),
            in_flight: self.in_flight,
            delayed: count(self.delayed.len()),
            moving: count(self.moving.len()),
            waiters: count(self.waiters.len()),
            delivered: self.numbers.delivered,
        }
    }

    /// Takes a message out that is visible or delayed; whether it was. What is remembered of a
    /// late one stays.
    pub(super) fn take_out(&mut self, sequence: Sequence, visible_at_ns: u64) -> bool {
        if let Some((after, due_ns)) = self.aside(sequence).late {
            return self.ready.remove_late(Late {
                after,
                due_ns,
                sequence,
            });
        }
        let at_ns = visible_at_ns;
        self.ready.remove(sequence) || self.delayed.remove(&Timed { at_ns, sequence })
    }

    /// Bytes of the messages that are visible: all that are in the queue by its records, but for
    /// those that are elsewhere. `count` messages were visible until now.
    fn ready_bytes(&mut self, state: &QueueState, count: u64) -> u64 {
        let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let (delayed, moving) = (number(self.delayed.len()), number(self.moving.len()));
        let sent = state.counters().sent_bytes;
        if state.len() == count + self.in_flight + delayed + moving {
            // Nothing is on its way out. Estimates of the past end here.
            self.numbers.settled_bytes = sent.saturating_sub(state.bytes());
        }
        let average = share(state.bytes(), 1, state.len());
        let len = |known: u32| if known == 0 { average } else { known.into() };
        let detail = |timed: &Timed| state.detail(timed.sequence).map_or(0, |detail| detail.len);
        let delayed: u64 = self.delayed.iter().map(|timed| len(detail(timed))).sum();
        // Nobody has read those that moved at the start.
        let moving: u64 = self.moving.values().map(|known| len(*known)).sum();
        let away = self.leased_bytes.saturating_add(self.requeued_bytes);
        let elsewhere = delayed.saturating_add(moving).saturating_add(away);
        let here = sent.saturating_sub(self.numbers.settled_bytes);
        here.saturating_sub(elsewhere).min(state.bytes())
    }
}

/// `part` of `whole` things that have so many bytes together.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let bytes = u128::from(bytes) * u128::from(part);
    let share = bytes.checked_div(whole.into()).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// The queue, with room for what happens in it.
    pub(super) fn wake(&mut self, key: ChannelKey) -> Key {
        let rest = self.index.entry(key).or_default();
        let queues = &mut self.queues;
        let numbers = rest.numbers;
        *rest
            .queue
            .get_or_insert_with(|| queues.insert(Queue::new(key, numbers)))
    }

    fn awake(&self, key: ChannelKey) -> Option<Key> {
        self.index.get(&key)?.queue
    }

    fn numbers_mut(&mut self, key: ChannelKey) -> &mut Numbers {
        let rest: &mut Rest = self.index.entry(key).or_default();
        match rest.queue.and_then(|queue| self.queues.get_mut(queue)) {
            Some(queue) => &mut queue.numbers,
            None => &mut rest.numbers,
        }
    }

    /// Says how a queue is to be treated; holds from now on.
    pub fn configure(&mut self, key: ChannelKey, policy: QueuePolicy) {
        self.numbers_mut(key).policy = policy;
    }

    /// Takes a queue in at the start of the process, one without messages too: everything in it is
    /// visible, delayed or on its way to another queue. Takes time in proportion to the runs and
    /// the exceptions of its state, not to the messages.
    ///
    /// # Panics
    /// In debug builds, when something is known of the queue's messages.
    pub fn restore(&mut self, key: ChannelKey, state: &QueueState, now_ns: u64) {
        self.see(now_ns);
        let numbers = self.numbers_mut(key);
        debug_assert_eq!(
            numbers.known,
            Sequence::default(),
            "a queue is restored once"
        );
        numbers.known = state.last();
        numbers.settled_bytes = state.counters().sent_bytes.saturating_sub(state.bytes());
        if state.is_empty() {
            return;
        }
        let queue = self.wake(key);
        if let Some(found) = self.queues.get_mut(queue) {
            found.restore(state, now_ns);
        }
        self.touched(queue);
    }

    /// Takes the messages in that were stored, requeued ones too, up to `last`.
    pub fn stored(&mut self, key: ChannelKey, last: Sequence, state: &QueueState, now_ns: u64) {
        self.see(now_ns);
        let queue = self.wake(key);
        if let Some(found) = self.queues.get_mut(queue) {
            found.add(last, state, now_ns);
        }
        self.touched(queue);
    }

    /// Forgets a queue that was deleted; appends who loses what, polls first, in their order.
    pub fn deleted(&mut self, key: ChannelKey, gone: &mut Vec<Gone<A>>) {
        let Some(queue) = self.index.remove(&key).and_then(|rest| rest.queue) else {
            return;
        };
        let Some(found) = self.queues.get(queue) else {
            return;
        };
        for (_, slot) in found.waiters.clone() {
            if let Some(waiter) = self.remove_waiter(slot) {
                let (consumer, number) = (waiter.request.consumer, waiter.request.number);
                gone.push(Gone::Poll { consumer, number });
            }
        }
        let mut deliveries = self.deliveries_of(queue);
        deliveries.sort_unstable_by_key(|(number, _)| *number);
        for (number, slot) in deliveries {
            let Some(delivery) = self.deliveries.get_mut(slot) else {
                continue;
            };
            delivery.open = 0;
            let consumer = delivery.consumer;
            gone.push(match delivery.turn {
                Some(number) => Gone::Poll { consumer, number },
                None => Gone::Delivery {
                    consumer,
                    delivery: number,
                },
            });
            self.end_delivery(slot);
        }
        let removed = self.queues.remove(queue);
        if let Some((_, timer)) = removed.and_then(|queue| queue.timer) {
            self.wheel.cancel(timer);
        }
    }

    /// The deliveries of a queue, open turns too. Goes over all consumers: queues with leases are
    /// deleted rarely.
    fn deliveries_of(&self, queue: Key) -> Vec<(u64, Key)> {
        let slots = self.consumers.values().flat_map(|of| &of.deliveries);
        let all = slots.filter_map(|slot| Some((self.deliveries.get(*slot)?, *slot)));
        let ours = all.filter(|(delivery, _)| delivery.queue == queue);
        ours.map(|(delivery, slot)| (delivery.number, slot))
            .collect()
    }

    /// A move of a message began that no settlement asked for: nobody gets the message until it is
    /// known how the move ended.
    pub fn move_open(&mut self, key: ChannelKey, sequence: Sequence) {
        let queue = self.wake(key);
        if let Some(found) = self.queues.get_mut(queue)
            && !found.moving.contains_key(&sequence)
            && found.take_out(sequence, 0)
        {
            found.moving.insert(sequence, 0);
        }
        self.touched(queue);
    }

    /// A move did not come to pass: the message is visible again, in its place; unless it has
    /// expired meanwhile.
    pub fn move_cancelled(
        &mut self,
        key: ChannelKey,
        sequence: Sequence,
        state: &QueueState,
        now_ns: u64,
    ) {
        self.see(now_ns);
        let Some(queue) = self.awake(key) else { return };
        if let Some(found) = self.queues.get_mut(queue)
            && found.moving.remove(&sequence).is_some()
        {
            let detail = state.detail(sequence);
            let mut aside = found.aside(sequence);
            aside.expires_at_ns = detail.map_or(0, |detail| detail.expires_at_ns);
            if is_over(aside.expires_at_ns, now_ns) {
                let len = detail.map_or(0, |detail| detail.len);
                found.expire(sequence, len, &mut self.spare_runs);
            } else {
                found.place(sequence, aside);
                // A dead letter that stays was received all the same.
                let received = found.receives.get(&sequence).copied();
                let written = detail.map_or(0, |detail| detail.receives);
                if let Some(receives) = received.filter(|receives| *receives != written) {
                    found.operations.count(sequence, receives);
                }
            }
        }
        self.touched(queue);
    }

    /// A move came to pass, or its message was dropped: `len` bytes of payload have left the queue.
    pub fn move_done(&mut self, key: ChannelKey, sequence: Sequence, len: u32) {
        let Some(queue) = self.awake(key) else { return };
        if let Some(found) = self.queues.get_mut(queue)
            && found.moving.remove(&sequence).is_some()
        {
            found.forget(sequence);
            found.count_out(len.into());
        }
        self.touched(queue);
    }

    /// Removes everything that is visible now; returns how many messages. What is leased, delayed
    /// or moving stays, and what has expired counts as expired.
    pub fn drain(&mut self, key: ChannelKey, state: &QueueState, now_ns: u64) -> u64 {
        let bytes = |queue: &mut Queue, count| queue.ready_bytes(state, count);
        self.remove_visible(key, u64::MAX, state, now_ns, SettleReason::Purged, bytes)
    }

    /// Removes the next `max` messages that are visible; returns how many there were. Their bytes
    /// are estimated.
    pub fn drop_oldest(
        &mut self,
        key: ChannelKey,
        max: u64,
        state: &QueueState,
        now_ns: u64,
    ) -> u64 {
        let bytes = |_: &mut Queue, count| share(state.bytes(), count, state.len());
        self.remove_visible(key, max, state, now_ns, SettleReason::Overflow, bytes)
    }

    fn remove_visible(
        &mut self,
        key: ChannelKey,
        max: u64,
        state: &QueueState,
        now_ns: u64,
        reason: SettleReason,
        bytes: impl Fn(&mut Queue, u64) -> u64,
    ) -> u64 {
        self.see(now_ns);
        let Some(queue) = self.awake(key) else {
            return 0;
        };
        let mut removed = 0;
        if let Some(found) = self.queues.get_mut(queue) {
            found.add(state.last(), state, now_ns);
            let mut runs = Vec::new();
            while let Some(chunk) = found.ready.pop(max - removed) {
                let (first, last) = match chunk {
                    Chunk::Run(first, last) => (first, last),
                    Chunk::Late(late) => (late.sequence, late.sequence),
                };
                pieces(state, first, last, |piece| match piece {
                    Piece::Plain(first, last) => {
                        removed += last.next().get() - first.get();
                        found.forget_counts(first, last);
                        runs.push((first, last));
                    }
                    Piece::Noted(sequence, detail) => {
                        found.forget_expiry(sequence, detail.expires_at_ns);
                        if is_over(detail.expires_at_ns, now_ns) {
                            found.expire(sequence, detail.len, &mut self.spare_runs);
                        } else {
                            found.forget(sequence);
                            removed += 1;
                            runs.push((sequence, sequence));
                        }
                    }
                });
            }
            let mut released = bytes(found, removed);
            for (first, last) in runs {
                found.settle_run(reason, first, last, released, &mut self.spare_runs);
                released = 0;
            }
        }
        self.touched(queue);
        removed
    }

    /// Messages of a queue that expired since this was asked for the last time.
    pub fn expired_since(&mut self, key: ChannelKey) -> u64 {
        if !self.index.contains_key(&key) {
            return 0;
        }
        std::mem::take(&mut self.numbers_mut(key).expired)
    }

    /// The numbers of a queue.
    #[must_use]
    pub fn figures(&self, key: ChannelKey) -> QueueFigures {
        let Some(rest) = self.index.get(&key) else {
            return QueueFigures::default();
        };
        let Some(queue) = rest.queue.and_then(|queue| self.queues.get(queue)) else {
            return QueueFigures {
                delivered: rest.numbers.delivered,
                ..QueueFigures::default()
            };
        };
        queue.figures()
    }

    /// The numbers of all queues together, but for what was delivered. Goes over those in which
    /// something is.
    #[must_use]
    pub fn totals(&self) -> QueueFigures {
        let mut totals = QueueFigures::default();
        let queues = (0..self.queues.index_end()).filter_map(|index| self.queues.at(index));
        for figures in queues.map(Queue::figures) {
            totals.waiting += figures.waiting;
            totals.in_flight += figures.in_flight;
            totals.delayed += figures.delayed;
            totals.moving += figures.moving;
            totals.waiters += figures.waiters;
        }
        totals
    }
}
