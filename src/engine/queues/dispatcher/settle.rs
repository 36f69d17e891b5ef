//! How leases end.

use std::hash::Hash;
use std::mem;

use ringmq_storage::record::queue::Run;
use ringmq_storage::{ChannelKey, Sequence};

use super::queue::{Queue, is_over};
use super::take::{Delivery, Lease};
use super::timers::{NS_PER_MS, Timer};
use super::{Action, Dispatcher, LeaseLost, MoveReason, SettleReason, Which};
use crate::engine::arena::Key;

impl Queue {
    /// Ends a lease as a consumer, or the time, wants it.
    fn end_lease(
        &mut self,
        lease: &Lease,
        action: Action<'_>,
        now_ns: u64,
        spare: &mut Vec<Vec<Run>>,
    ) {
        self.end(lease);
        match action {
            Action::Ack => {
                self.forget(lease.sequence);
                self.settle(SettleReason::Acked, lease.sequence, lease.len, spare);
            }
            Action::Nack => self.received(lease, self.numbers.policy.in_place, now_ns, spare),
            Action::Return { counted: true } => self.received(lease, true, now_ns, spare),
            Action::Return { counted: false } => {
                if lease.is_counted {
                    self.count(lease.sequence, lease.receives);
                }
                self.put_in_place(lease, now_ns, spare);
            }
            Action::Move { reason, target } => self.start_move(lease, reason, Some(target)),
            Action::Extend { .. } => debug_assert!(false, "an extension ends no lease"),
        }
    }

    /// A message comes back that counts as received: it expires, becomes a dead letter, or is
    /// visible again, in its place or at the tail.
    fn received(&mut self, lease: &Lease, in_place: bool, now_ns: u64, spare: &mut Vec<Vec<Run>>) {
        let sequence = lease.sequence;
        let receives = lease.receives.saturating_add(1);
        if is_over(self.aside(sequence).expires_at_ns, now_ns) {
            self.expire(sequence, lease.len, spare);
        } else if receives >= lease.receives_max {
            self.start_move(lease, MoveReason::DeadLetter, None);
        } else if in_place {
            if lease.is_counted {
                self.receives.insert(sequence, receives);
            } else {
                self.count(sequence, receives);
            }
            self.put_in_place(lease, now_ns, spare);
        } else {
            self.requeue(lease, receives);
        }
    }
}

impl<A: Copy + Eq + Hash> Dispatcher<A> {
    /// Settles messages that a delivery has leased; returns how many. A message that is settled is
    /// no delivery's any more, though its record is still to be written.
    ///
    /// Messages that go to the tail keep their order, whatever that of the list is.
    ///
    /// # Errors
    /// [`LeaseLost`] names the first message that the delivery has not leased, or not any more.
    /// What comes before it is settled.
    pub fn settle(
        &mut self,
        number: u64,
        key: ChannelKey,
        which: Which<'_>,
        action: Action<'_>,
        now_ns: u64,
    ) -> Result<u32, LeaseLost> {
        self.see(now_ns);
        let nothing = match which {
            Which::All => Sequence::default(),
            Which::List(list) => list.first().copied().unwrap_or_default(),
        };
        let lost = LeaseLost { sequence: nothing };
        let slot = self.by_number.get(&number).copied().ok_or(lost)?;
        let delivery = self.deliveries.get_mut(slot).ok_or(lost)?;
        if delivery.key != key {
            return Err(lost);
        }
        let mut picked = mem::take(&mut self.picked);
        let outcome = delivery.pick(which, &mut picked);
        let count = u32::try_from(picked.len()).unwrap_or(u32::MAX);
        match action {
            Action::Extend { visible_ms } => {
                let deadline_ms = now_ns.div_ceil(NS_PER_MS).saturating_add(visible_ms);
                self.extend(slot, &picked, deadline_ms);
            }
            _ => {
                if !picked.is_sorted() {
                    picked.sort_unstable();
                }
                self.end_leases(slot, &picked, action, now_ns);
            }
        }
        picked.clear();
        self.picked = picked;
        outcome.map(|()| count)
    }

    /// Ends the leases at these places, which are open.
    fn end_leases(&mut self, slot: Key, places: &[usize], action: Action<'_>, now_ns: u64) {
        let Some(delivery) = self.deliveries.get_mut(slot) else {
            return;
        };
        let key = delivery.queue;
        if let Some(queue) = self.queues.get_mut(key) {
            for place in places {
                if let Some(lease) = delivery.close(*place) {
                    queue.end_lease(&lease, action, now_ns, &mut self.spare_runs);
                }
            }
        }
        if delivery.open == 0 {
            self.end_delivery(slot);
        }
        self.touched(key);
    }

    fn extend(&mut self, slot: Key, places: &[usize], deadline_ms: u64) {
        let Some(delivery) = self.deliveries.get_mut(slot) else {
            return;
        };
        for place in places {
            if let Some(lease) = delivery.leases.get_mut(*place) {
                lease.deadline_ms = deadline_ms;
                lease.is_picked = false;
            }
        }
        // A timer that is early looks again.
        if !places.is_empty() && delivery.timer.is_none_or(|(at, _)| deadline_ms < at) {
            let timer = self.wheel.insert(deadline_ms, Timer::Delivery(slot));
            if let Some((_, old)) = delivery.timer.replace((deadline_ms, timer)) {
                self.wheel.cancel(old);
            }
        }
    }

    /// Ends the leases of a delivery whose time is over; appends which, ascending. Sets the timer
    /// for the next.
    pub(super) fn time_out(&mut self, slot: Key, now_ns: u64, over: &mut Vec<Sequence>) {
        let Some(delivery) = self.deliveries.get_mut(slot) else {
            return;
        };
        delivery.timer = None;
        let now_ms = now_ns / NS_PER_MS;
        let mut picked = mem::take(&mut self.picked);
        for (place, lease) in delivery.leases.iter().enumerate() {
            if lease.is_open && lease.deadline_ms <= now_ms {
                over.push(lease.sequence);
                picked.push(place);
            }
        }
        over.sort_unstable();
        self.end_leases(slot, &picked, Action::Nack, now_ns);
        picked.clear();
        self.picked = picked;
        if let Some(delivery) = self.deliveries.get_mut(slot)
            && let Some(deadline_ms) = delivery.next_deadline()
        {
            let timer = self.wheel.insert(deadline_ms, Timer::Delivery(slot));
            delivery.timer = Some((deadline_ms, timer));
        }
    }

    /// A consumer has ended: what it has leased goes back to its place, received once more if the
    /// consumer broke; its polls are forgotten. To be told of every consumer that ever polled.
    pub fn consumer_gone(&mut self, consumer: A, broken: bool, now_ns: u64) {
        self.see(now_ns);
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let (waiters, mut deliveries) = (state.waiters.clone(), state.deliveries.clone());
        for waiter in waiters {
            if let Some(waiter) = self.remove_waiter(waiter) {
                self.touched(waiter.queue);
            }
        }
        let number = |slot: &Key| self.deliveries.get(*slot).map(|of| of.number);
        deliveries.sort_unstable_by_key(number);
        for slot in deliveries {
            self.give_back(slot, broken, now_ns);
        }
        self.consumers.remove(&consumer);
    }

    /// Ends a delivery whose messages are not wanted any more, or an open turn.
    pub(super) fn give_back(&mut self, slot: Key, broken: bool, now_ns: u64) {
        let Some(delivery) = self.deliveries.get_mut(slot) else {
            return;
        };
        let key = delivery.queue;
        let is_turn = delivery.turn.is_some();
        if let Some(queue) = self.queues.get_mut(key) {
            for place in 0..delivery.leases.len() {
                let Some(lease) = delivery.close(place) else {
                    continue;
                };
                let counted = broken && lease.is_handed;
                let action = Action::Return { counted };
                queue.end_lease(&lease, action, now_ns, &mut self.spare_runs);
            }
            queue.turns -= u32::from(is_turn);
        }
        self.end_delivery(slot);
        self.touched(key);
    }

    /// Appends what a delivery still has leased, in the order of the queue.
    pub fn open(&self, number: u64, into: &mut Vec<Sequence>) {
        let slot = self.by_number.get(&number);
        let delivery = slot.and_then(|slot| self.deliveries.get(*slot));
        let leases = delivery.into_iter().flat_map(|delivery| &delivery.leases);
        let open = leases.filter(|lease| lease.is_open);
        into.extend(open.map(|lease| lease.sequence));
    }

    /// When the first of those leases began that [`count_old_leases`](Self::count_old_leases) has
    /// not looked at, in milliseconds since 1970; they may have ended meanwhile.
    #[must_use]
    pub fn oldest_uncounted_ms(&self) -> Option<u64> {
        self.uncounted.front().map(|(leased_ms, _)| *leased_ms)
    }

    /// Notes for the log that messages were received whose leases began before a moment, in
    /// milliseconds since 1970, and are still open. Then a crash forgets only the counts of what
    /// was leased after it; short leases are never written.
    pub fn count_old_leases(&mut self, leased_before_ms: u64) {
        while let Some((leased_ms, number)) = self.uncounted.front().copied()
            && leased_ms < leased_before_ms
        {
            self.uncounted.pop_front();
            let slot = self.by_number.get(&number).copied();
            let Some(delivery) = slot.and_then(|slot| self.deliveries.get_mut(slot)) else {
                continue;
            };
            let key = delivery.queue;
            let Some(queue) = self.queues.get_mut(key) else {
                continue;
            };
            for lease in delivery.leases.iter_mut().filter(|lease| lease.is_open) {
                lease.is_counted = true;
                queue.count(lease.sequence, lease.receives.saturating_add(1));
            }
            self.touched(key);
        }
    }
}

impl<A> Delivery<A> {
    /// Finds the places of open leases, each once.
    fn pick(&mut self, which: Which<'_>, picked: &mut Vec<usize>) -> Result<(), LeaseLost> {
        match which {
            Which::All => {
                let places = self.leases.iter().enumerate();
                let open = places.filter(|(_, lease)| lease.is_open);
                picked.extend(open.map(|(place, _)| place));
            }
            Which::List(list) => {
                for sequence in list.iter().copied() {
                    let place = self.find(sequence).ok_or(LeaseLost { sequence })?;
                    let lease = self.leases.get_mut(place);
                    let lease = lease.filter(|lease| !lease.is_picked);
                    lease.ok_or(LeaseLost { sequence })?.is_picked = true;
                    picked.push(place);
                }
            }
        }
        Ok(())
    }
}
