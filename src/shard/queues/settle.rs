//! What becomes of leased messages: decided at once, written with the next commit.

use std::rc::Rc;

use ringmq_storage::{Sequence, SlotId};

use super::consumer::SettleAsked;
use super::poll::millis_up;
use super::{Action, ConsumerEvent, Delivery, SettleFailure, Which};
use crate::engine::feeds::Address;
use crate::engine::queues::dispatcher::{self, LeaseLost};
use crate::rt;
use crate::shard::stored::{LogSeat, record};
use crate::shard::{Shard, StoreFailure};

/// Somebody who hears of the commit of what was decided for him.
#[derive(Debug)]
pub(super) struct Confirmation {
    to: Address,
    ticket: u64,
    done: Done,
    began: rt::Instant,
}

/// What he hears.
#[derive(Clone, Debug)]
enum Done {
    Settled,
    Drained(u64),
    Expired {
        delivery: Delivery,
        sequences: Vec<Sequence>,
    },
}

impl Confirmation {
    /// Tells a consumer that leases have run out. Behind the commit: who hears it and asks again
    /// finds the messages where they went.
    pub(super) fn expired(to: Address, delivery: Delivery, sequences: Vec<Sequence>) -> Self {
        Self {
            to,
            ticket: 0,
            done: Done::Expired {
                delivery,
                sequences,
            },
            began: rt::now(),
        }
    }
}

impl Shard {
    pub(super) fn take_settlement(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        from: Address,
        asked: &SettleAsked,
    ) {
        let ticket = asked.ticket;
        let writes = match asked.action {
            Action::Ack | Action::Nack | Action::Move { .. } => true,
            // These must not depend on a log that has failed: its messages can still be read.
            Action::Return | Action::Break | Action::Extend(_) => false,
        };
        if writes && seat.log.borrow().poisoned().is_some() {
            let failure = SettleFailure::Store(StoreFailure::Poisoned);
            return self.tell_settled(from, ticket, Err(failure));
        }
        match self.settle(seat, from, asked) {
            Ok(count) => self.count_settled(&asked.action, count),
            Err(LeaseLost { sequence }) => {
                let lost = SettleFailure::LeaseLost { sequence };
                self.tell_settled(from, ticket, Err(lost));
            }
        }
        self.queues_changed(seat);
    }

    /// Decides, and notes who hears of it.
    fn settle(&self, seat: &LogSeat, to: Address, asked: &SettleAsked) -> Result<u32, LeaseLost> {
        let (began, now_ns) = (rt::now(), self.queue_now_ns());
        let (ticket, delivery) = (asked.ticket, asked.delivery);
        let which = match &asked.which {
            Which::All => dispatcher::Which::All,
            Which::List(sequences) => dispatcher::Which::List(sequences),
        };
        let action = match &asked.action {
            Action::Ack => dispatcher::Action::Ack,
            Action::Nack => dispatcher::Action::Nack,
            Action::Return => dispatcher::Action::Return { counted: false },
            Action::Break => dispatcher::Action::Return { counted: true },
            Action::Extend(visibility) => dispatcher::Action::Extend {
                visible_ms: millis_up(*visibility),
            },
            Action::Move { reason, target } => dispatcher::Action::Move {
                reason: *reason,
                target,
            },
        };
        let mut queues = seat.queues.borrow_mut();
        let queues = &mut *queues;
        let dispatcher = &mut queues.dispatcher;
        let is_move = matches!(asked.action, Action::Move { .. });
        let mut moved = Vec::new();
        match &asked.which {
            Which::All if is_move => dispatcher.open(delivery.number, &mut moved),
            Which::List(sequences) if is_move => moved.clone_from(sequences),
            _ => {}
        }
        let settled = dispatcher.settle(delivery.number, delivery.key, which, action, now_ns);
        if let Err(lost) = &settled {
            let done = moved.iter().take_while(|it| **it != lost.sequence).count();
            moved.truncate(done);
        }
        let confirm = asked.confirm && settled.is_ok();
        if is_move {
            let (key, moves) = (delivery.key, &mut queues.asked_moves);
            moves.insert((to, ticket), confirm, key, &moved);
        } else if confirm {
            queues.undecided.push(Confirmation {
                to,
                ticket,
                done: Done::Settled,
                began,
            });
        }
        settled
    }

    fn count_settled(&self, action: &Action, count: u32) {
        let counter = match action {
            Action::Ack => &self.counters.queue_acked,
            Action::Nack => &self.counters.queue_nacked,
            Action::Return | Action::Break => &self.counters.queue_returned,
            Action::Move { .. } => &self.counters.queue_sent_on,
            Action::Extend(_) => return,
        };
        counter.add(count.into());
    }

    fn tell_settled(&self, to: Address, ticket: u64, outcome: Result<(), SettleFailure>) {
        if let Err(SettleFailure::LeaseLost { .. }) = &outcome {
            self.counters.queue_leases_lost.increment();
        }
        self.tell_consumer(to, ConsumerEvent::Settled { ticket, outcome });
    }

    /// Empties a queue of what is visible.
    pub(super) fn drain_queue(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        to: Address,
        ticket: u64,
        slot: SlotId,
        channel: &str,
    ) {
        let began = rt::now();
        let tell = |outcome| self.tell_consumer(to, ConsumerEvent::Drained { ticket, outcome });
        if seat.log.borrow().poisoned().is_some() {
            return tell(Err(StoreFailure::Poisoned));
        }
        let Some(key) = self.find_queue(seat, slot, channel) else {
            return tell(Ok(0));
        };
        let now_ns = self.queue_now_ns();
        {
            let slots = seat.slots.borrow();
            let mut queues = seat.queues.borrow_mut();
            let state = slots.queue(key);
            let count = state.map(|state| queues.dispatcher.drain(key, state, now_ns));
            queues.undecided.push(Confirmation {
                to,
                ticket,
                done: Done::Drained(count.unwrap_or(0)),
                began,
            });
        }
        self.queues_changed(seat);
    }

    /// Tells one who waited for a commit.
    pub(super) fn confirm(&self, confirmation: Confirmation, failed: Option<StoreFailure>) {
        let Confirmation {
            to,
            ticket,
            done,
            began,
        } = confirmation;
        let is_settlement = !matches!(done, Done::Expired { .. });
        if failed.is_none() && is_settlement {
            record(&self.latencies.queue_settle, began);
        }
        let event = match done {
            Done::Settled => ConsumerEvent::Settled {
                ticket,
                outcome: failed.map_or(Ok(()), |failure| Err(SettleFailure::Store(failure))),
            },
            Done::Drained(count) => ConsumerEvent::Drained {
                ticket,
                outcome: failed.map_or(Ok(count), Err),
            },
            Done::Expired {
                delivery,
                sequences,
            } => ConsumerEvent::LeaseExpired {
                delivery,
                sequences,
            },
        };
        self.tell_consumer(to, event);
    }
}
