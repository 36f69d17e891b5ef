//! The time of queues: one task for each log looks after delays, leases and waits.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Delivery;
use super::settle::Confirmation;
use crate::engine::feeds::Address;
use crate::engine::queues::dispatcher::Timeout;
use crate::rt;
use crate::shard::Shard;
use crate::shard::stored::LogSeat;

/// How long the task sleeps at most while something is due: the wall clock may step forward, and
/// what it makes due does not wait longer than this.
const SLEEP_MAX: Duration = Duration::from_millis(250);

impl Shard {
    /// Turns the time of a log's queues, for ever. One task for each log runs this.
    pub(in crate::shard) async fn run_queue_time(self: Rc<Self>, seat: Rc<LogSeat>) {
        let mut timeouts = Vec::new();
        loop {
            let now_ns = self.queue_now_ns();
            let was_due = seat.queues_armed.replace(0) <= now_ns / 1_000_000;
            let finished = self.advance_queues(&seat, now_ns, &mut timeouts);
            for timeout in timeouts.drain(..) {
                self.take_timeout(&seat, timeout);
            }
            self.end_unborn(&seat, now_ns);
            if was_due {
                self.queues_changed(&seat);
            }
            if !finished {
                rt::reactor_yield().await;
                continue;
            }
            self.sleep_for_queues(&seat).await;
        }
    }

    fn advance_queues(
        &self,
        seat: &LogSeat,
        now_ns: u64,
        timeouts: &mut Vec<Timeout<Address>>,
    ) -> bool {
        let slots = seat.slots.borrow();
        let mut queues = seat.queues.borrow_mut();
        queues.count_leases(now_ns / 1_000_000);
        queues
            .dispatcher
            .advance(now_ns, |key| slots.queue(key), timeouts)
    }

    fn take_timeout(&self, seat: &LogSeat, timeout: Timeout<Address>) {
        match timeout {
            Timeout::Poll {
                consumer, number, ..
            } => {
                let asked = seat.queues.borrow_mut().polls.remove(&(consumer, number));
                if let Some(asked) = asked {
                    self.answer_with_nothing(seat, &asked);
                }
            }
            Timeout::Lease {
                consumer,
                key,
                delivery,
                sequences,
            } => {
                let count = u64::try_from(sequences.len()).unwrap_or(u64::MAX);
                self.counters.queue_leases_expired.add(count);
                let delivery = Delivery {
                    log: seat.number,
                    key,
                    number: delivery,
                };
                let told = Confirmation::expired(consumer, delivery, sequences);
                if seat.log.borrow().poisoned().is_some() {
                    return self.confirm(told, None);
                }
                seat.queues.borrow_mut().undecided.push(told);
            }
        }
    }

    /// Answers those that waited in vain for a queue to come to be.
    fn end_unborn(&self, seat: &LogSeat, now_ns: u64) {
        let now_ms = now_ns / 1_000_000;
        loop {
            let asked = {
                let mut queues = seat.queues.borrow_mut();
                let Some((consumer, ticket)) = queues.unborn.overdue(now_ms) else {
                    return;
                };
                queues.withdraw(consumer, ticket)
            };
            if let Some(asked) = asked {
                self.answer_with_nothing(seat, &asked);
            }
        }
    }

    /// Sleeps until something is due, or something earlier was set.
    async fn sleep_for_queues(&self, seat: &LogSeat) {
        let deadline_ms = seat.queues.borrow().next_deadline_ms();
        seat.queues_armed.set(deadline_ms.unwrap_or(u64::MAX));
        let Some(deadline_ms) = deadline_ms else {
            return seat.queues_rearm.wait().await;
        };
        let due_ns = deadline_ms.saturating_mul(1_000_000);
        let left = Duration::from_nanos(due_ns.saturating_sub(self.queue_now_ns()));
        let mut sleep = rt::Sleep::new(left.min(SLEEP_MAX));
        std::future::poll_fn(|cx| {
            if seat.queues_rearm.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            sleep.poll(cx)
        })
        .await;
    }

    /// Wakes the task when something is due before it would wake by itself.
    pub(super) fn rearm_queues(&self, seat: &LogSeat) {
        let deadline_ms = seat.queues.borrow().next_deadline_ms();
        if deadline_ms.is_some_and(|deadline| deadline < seat.queues_armed.get()) {
            seat.queues_rearm.raise();
        }
    }
}
