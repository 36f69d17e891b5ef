//! Polls: into the line, out of it, and answered with nothing.

use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::{ChannelKey, SlotId};

use super::consumer::{PollAsked, Said};
use super::seat::{Asked, rules};
use super::{ConsumerEvent, Delivery, Polled, SettleFailure};
use crate::engine::feeds::Address;
use crate::engine::queues::dispatcher::{Gone, PollRequest};
use crate::engine::stored::StoredKind;
use crate::shard::stored::LogSeat;
use crate::shard::{Shard, StoreFailure};

/// Polls of one log that may wait; one more is answered with [`StoreFailure::Busy`].
const POLLS_MAX: usize = 1 << 20;

impl Shard {
    /// What a consumer says to a log of this shard.
    pub(in crate::shard) fn said_here(self: &Rc<Self>, log: u16, from: Address, said: Said) {
        let Some(seat) = self.stored.seat(log) else {
            return;
        };
        match said {
            Said::Poll(asked) => self.take_poll(seat, from, *asked),
            Said::Cancel { ticket } => {
                let asked = seat.queues.borrow_mut().withdraw(from, ticket);
                if let Some(asked) = asked {
                    self.answer_with_nothing(seat, &asked);
                }
            }
            Said::Settle(asked) => self.take_settlement(seat, from, &asked),
            Said::Drain {
                ticket,
                slot,
                channel,
            } => self.drain_queue(seat, from, ticket, slot, &channel),
            Said::Gone { broken } => self.consumer_gone(seat, from, broken),
        }
    }

    fn take_poll(self: &Rc<Self>, seat: &Rc<LogSeat>, from: Address, asked: PollAsked) {
        let ticket = asked.ticket;
        let full = seat.queues.borrow().polls.len() >= POLLS_MAX;
        if full || self.draining.get() {
            let failure = if full {
                StoreFailure::Busy
            } else {
                StoreFailure::ShuttingDown
            };
            let outcome = Err(failure);
            return self.tell_consumer(from, ConsumerEvent::Polled { ticket, outcome });
        }
        let now_ns = self.queue_now_ns();
        let request = PollRequest {
            consumer: from,
            number: ticket,
            items_max: asked.items_max,
            peek: asked.peek,
            visible_ms: asked.visibility.map(millis_up),
            deadline_ms: deadline_ms(now_ns, asked.wait),
        };
        let key = seat
            .slots
            .borrow()
            .find(asked.slot, StoredKind::Queue, &asked.channel);
        let mut queues = seat.queues.borrow_mut();
        if asked.wait.is_zero() {
            queues.hasty.push((from, ticket));
        }
        match key {
            Some(key) => queues.dispatcher.poll(key, request),
            None => queues.unborn.insert(&asked.channel, &request),
        }
        let asked = Asked {
            key,
            channel: asked.channel,
            request,
            bytes_max: asked.bytes_max,
            field: asked.field,
        };
        queues.polls.insert((from, ticket), asked);
        drop(queues);
        seat.queues_ready.raise();
        self.rearm_queues(seat);
    }

    /// The answer to a poll that got no message.
    pub(super) fn answer_with_nothing(&self, seat: &LogSeat, asked: &Asked) {
        let expired = asked
            .key
            .map(|key| seat.queues.borrow_mut().dispatcher.expired_since(key));
        let nothing = Polled {
            delivery: None,
            sequences: Vec::new(),
            parts: Vec::new(),
            bytes: 0,
            expired: expired.unwrap_or(0),
        };
        self.answer_poll(asked, Ok(nothing));
    }

    pub(super) fn answer_poll(&self, asked: &Asked, outcome: Result<Polled, StoreFailure>) {
        let (consumer, ticket) = (asked.request.consumer, asked.request.number);
        self.tell_consumer(consumer, ConsumerEvent::Polled { ticket, outcome });
    }

    /// Answers those that did not want to wait and are still there.
    pub(super) fn answer_hasty(&self, seat: &LogSeat) {
        let hasty = std::mem::take(&mut seat.queues.borrow_mut().hasty);
        for (consumer, ticket) in hasty {
            let asked = seat.queues.borrow_mut().withdraw(consumer, ticket);
            if let Some(asked) = asked {
                self.answer_with_nothing(seat, &asked);
            }
        }
    }

    /// Answers every poll that waits; the broker ends.
    pub(in crate::shard) fn end_polls(&self) {
        for seat in &self.stored.seats {
            let waiting: Vec<_> = seat.queues.borrow().polls.keys().copied().collect();
            for (consumer, ticket) in waiting {
                let asked = seat.queues.borrow_mut().withdraw(consumer, ticket);
                if let Some(asked) = asked {
                    self.answer_poll(&asked, Err(StoreFailure::ShuttingDown));
                }
            }
        }
    }

    /// A queue has come to be: those who wait for its name wait for its messages now.
    pub(super) fn queue_created(&self, seat: &LogSeat, key: ChannelKey, channel: &str) {
        let policy = (self.stored.settings.policy)(channel).queue;
        let mut queues = seat.queues.borrow_mut();
        queues.dispatcher.configure(key, rules(&policy));
        for place in queues.unborn.line(channel) {
            let Some(asked) = queues.polls.get_mut(&place) else {
                continue;
            };
            asked.key = Some(key);
            let request = asked.request;
            queues.unborn.remove(channel, &request);
            queues.dispatcher.poll(key, request);
        }
    }

    /// A queue is gone: those who wait go on waiting for its name; what is leased is lost.
    pub(super) fn queue_deleted(&self, seat: &LogSeat, key: ChannelKey) {
        let mut queues = seat.queues.borrow_mut();
        queues.forget_cursor(key);
        queues.left.remove(&key);
        queues.moves.deleted(key);
        let abandoned = queues.stop_serving(|serving| serving.turn.key == key);
        let moves = queues.lose_moves(key);
        let mut gone = Vec::new();
        queues.dispatcher.deleted(key, &mut gone);
        let mut orphans: Vec<Asked> = abandoned.into_iter().map(|serving| serving.asked).collect();
        let mut lost = Vec::new();
        for gone in gone {
            match gone {
                Gone::Poll { consumer, number } => {
                    orphans.extend(queues.polls.remove(&(consumer, number)));
                }
                Gone::Delivery { consumer, delivery } => lost.push((consumer, delivery)),
            }
        }
        orphans.sort_by_key(|asked| asked.request.number);
        for mut asked in orphans {
            asked.key = None;
            queues.unborn.insert(&asked.channel, &asked.request);
            let place = (asked.request.consumer, asked.request.number);
            queues.polls.insert(place, asked);
        }
        drop(queues);
        for ((to, ticket), sequence) in moves {
            let outcome = Err(SettleFailure::LeaseLost { sequence });
            self.tell_consumer(to, ConsumerEvent::Settled { ticket, outcome });
        }
        for (consumer, number) in lost {
            let delivery = Delivery {
                log: seat.number,
                key,
                number,
            };
            let sequences = Vec::new();
            let event = ConsumerEvent::LeaseExpired {
                delivery,
                sequences,
            };
            self.tell_consumer(consumer, event);
        }
        self.rearm_queues(seat);
    }

    /// A consumer has ended: what it has goes back, what it waits for is forgotten.
    fn consumer_gone(self: &Rc<Self>, seat: &Rc<LogSeat>, from: Address, broken: bool) {
        let now_ns = self.queue_now_ns();
        let mut queues = seat.queues.borrow_mut();
        let abandoned = queues.stop_serving(|serving| serving.turn.request.consumer == from);
        for serving in abandoned {
            // The client has got none of it: it was not received.
            let sequences = serving.sequences();
            queues
                .dispatcher
                .put_back(&serving.turn, &sequences, now_ns);
            let leased = queues.dispatcher.leased(&serving.turn, now_ns);
            debug_assert_eq!(leased, 0, "all was put back");
        }
        let of_consumer = (from, 0)..=(from, u64::MAX);
        let waiting: Vec<u64> = queues
            .polls
            .range(of_consumer)
            .map(|((_, ticket), _)| *ticket)
            .collect();
        for ticket in waiting {
            queues.withdraw(from, ticket);
        }
        queues.dispatcher.consumer_gone(from, broken, now_ns);
        drop(queues);
        self.queues_changed(seat);
    }

    /// The queue of a name, and what waits in it.
    pub(super) fn find_queue(
        &self,
        seat: &LogSeat,
        slot: SlotId,
        channel: &str,
    ) -> Option<ChannelKey> {
        seat.slots.borrow().find(slot, StoredKind::Queue, channel)
    }
}

/// Milliseconds, rounded up: no lease ends early.
pub(super) fn millis_up(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// The end of a wait, in milliseconds since 1970, rounded up.
fn deadline_ms(now_ns: u64, wait: Duration) -> u64 {
    let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_add(wait_ns).div_ceil(1_000_000)
}
