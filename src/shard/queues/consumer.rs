//! Consumers, where their calls are: what they ask goes to the logs, what comes of it to them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringmq_storage::SlotId;

use super::{Action, ConsumerEvent, Delivery, PollRequest, Polled, Which};
use crate::engine::feeds::Address;
use crate::rt::Notify;
use crate::shard::message::Note;
use crate::shard::{Shard, StoreFailure};

/// Polls of one consumer that may wait for their answer; one more is answered with
/// [`StoreFailure::Busy`].
const POLLS_MAX: usize = 1024;

/// One consumer.
///
/// What waits for it is bounded: by its polls, by its settlements, and by what it has leased.
#[derive(Debug, Default)]
pub(in crate::shard) struct Local {
    tickets: Cell<u64>,
    /// Polls that are not answered, with the log that was asked.
    polls: RefCell<Vec<(u64, u16)>>,
    /// The logs that hear of its end.
    logs: RefCell<Vec<u16>>,
    events: RefCell<VecDeque<ConsumerEvent>>,
    ready: Notify,
}

impl Local {
    fn ticket(&self) -> u64 {
        self.tickets.set(self.tickets.get() + 1);
        self.tickets.get()
    }

    fn tell(&self, event: ConsumerEvent) {
        self.events.borrow_mut().push_back(event);
        self.ready.raise();
    }
}

/// One who takes messages from queues: a call, or a stream. Tickets number its requests from 1.
///
/// Dropped without [`close`](Self::close), what it has leased goes back to its place, received
/// once more: it broke.
#[derive(Debug)]
pub struct Consumer {
    shard: Rc<Shard>,
    key: u64,
    local: Rc<Local>,
    clean: bool,
}

/// What a consumer says to a log.
#[derive(Debug)]
pub(in crate::shard) enum Said {
    /// It wants messages.
    Poll(Box<PollAsked>),
    /// It does not want to wait any more.
    Cancel { ticket: u64 },
    /// What becomes of messages that it has.
    Settle(Box<SettleAsked>),
    /// A queue is to be emptied.
    Drain {
        ticket: u64,
        slot: SlotId,
        channel: Box<str>,
    },
    /// It has ended.
    Gone { broken: bool },
}

/// A poll as it crosses to the shard that has the queue.
#[derive(Debug)]
pub(in crate::shard) struct PollAsked {
    pub ticket: u64,
    pub slot: SlotId,
    pub channel: Box<str>,
    pub items_max: u32,
    pub bytes_max: usize,
    pub wait: Duration,
    pub peek: bool,
    pub visibility: Option<Duration>,
    pub field: u32,
}

/// A settlement on the same way.
#[derive(Debug)]
pub(in crate::shard) struct SettleAsked {
    pub ticket: u64,
    pub delivery: Delivery,
    pub which: Which,
    pub action: Action,
    pub confirm: bool,
}

impl Consumer {
    /// Asks for messages; gives the ticket of the answer.
    pub fn poll(&self, request: &PollRequest<'_>) -> u64 {
        let ticket = self.local.ticket();
        let refused = if self.shard.draining.get() {
            Some(StoreFailure::ShuttingDown)
        } else if self.local.polls.borrow().len() >= POLLS_MAX {
            Some(StoreFailure::Busy)
        } else {
            None
        };
        if let Some(failure) = refused {
            self.local.tell(ConsumerEvent::Polled {
                ticket,
                outcome: Err(failure),
            });
            return ticket;
        }
        let slot = self.shard.placement.slot(request.channel);
        let log = self.shard.stored.placement.log_of(slot);
        self.local.polls.borrow_mut().push((ticket, log));
        let asked = PollAsked {
            ticket,
            slot,
            channel: request.channel.into(),
            items_max: request.items_max.max(1),
            bytes_max: request.bytes_max,
            wait: request.wait,
            peek: request.peek,
            visibility: request.visibility,
            field: request.field,
        };
        self.say(log, Said::Poll(Box::new(asked)));
        ticket
    }

    /// Ends the waiting of a poll: it is answered at once, with nothing if nothing is there.
    pub fn cancel(&self, ticket: u64) {
        let polls = self.local.polls.borrow();
        let asked = polls.iter().find(|(known, _)| *known == ticket).copied();
        drop(polls);
        if let Some((_, log)) = asked {
            self.say(log, Said::Cancel { ticket });
        }
    }

    /// Settles messages of a delivery; gives the ticket of an answer. With `confirm`, success is
    /// told too, after the commit (of a move: after the target's).
    pub fn settle(&self, delivery: Delivery, which: Which, action: Action, confirm: bool) -> u64 {
        let ticket = self.local.ticket();
        let asked = SettleAsked {
            ticket,
            delivery,
            which,
            action,
            confirm,
        };
        self.say(delivery.log, Said::Settle(Box::new(asked)));
        ticket
    }

    /// Removes all messages of a queue that are visible now; answered after the commit.
    pub fn drain(&self, channel: &str) -> u64 {
        let ticket = self.local.ticket();
        let slot = self.shard.placement.slot(channel);
        let log = self.shard.stored.placement.log_of(slot);
        let channel = channel.into();
        self.say(
            log,
            Said::Drain {
                ticket,
                slot,
                channel,
            },
        );
        ticket
    }

    /// What happened next. Only the last poller is woken.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<ConsumerEvent> {
        loop {
            if let Some(event) = self.try_event() {
                return Poll::Ready(event);
            }
            if self.local.ready.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes an event if there is one.
    #[must_use]
    pub fn try_event(&self) -> Option<ConsumerEvent> {
        self.local.events.borrow_mut().pop_front()
    }

    /// Ends in order: what is not settled goes back to its place, as if it had not been received.
    pub fn close(mut self) {
        self.clean = true;
    }

    fn say(&self, log: u16, said: Said) {
        let mut logs = self.local.logs.borrow_mut();
        if !logs.contains(&log) {
            logs.push(log);
        }
        drop(logs);
        self.shard.say(log, self.key, said);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shard.consumers.borrow_mut().remove(self.key);
        // What nobody took out of here was not received by the client, however it ends.
        for event in self.local.events.take() {
            if let ConsumerEvent::Polled {
                outcome: Ok(Polled { delivery, .. }),
                ..
            } = event
                && let Some(delivery) = delivery
            {
                self.settle(delivery, Which::All, Action::Return, false);
            }
        }
        let broken = !self.clean;
        // What was said before reaches each log before this.
        for log in self.local.logs.take() {
            self.shard.say(log, self.key, Said::Gone { broken });
        }
    }
}

impl Shard {
    /// A new consumer.
    #[must_use]
    pub fn consumer(self: &Rc<Self>) -> Consumer {
        let local = Rc::new(Local::default());
        let key = self.consumers.borrow_mut().insert(local.clone());
        Consumer {
            shard: self.clone(),
            key,
            local,
            clean: false,
        }
    }

    /// Brings what a consumer of this core says to a log.
    fn say(self: &Rc<Self>, log: u16, key: u64, said: Said) {
        let owner = self.stored.placement.owner_of(log).number();
        match self.lane(owner) {
            None => self.said_here(log, Address { core: self.id, key }, said),
            // Bounded by what the consumer may have outstanding.
            Some(lane) => lane.push_note(Note::Consumer { log, key, said }),
        }
    }

    /// Tells a consumer of any core.
    pub(in crate::shard) fn tell_consumer(&self, to: Address, event: ConsumerEvent) {
        match self.lane(to.core) {
            None => self.consumer_event_here(to.key, event),
            Some(lane) => lane.push_note(Note::ConsumerEvent {
                key: to.key,
                event: Box::new(event),
            }),
        }
    }

    /// Tells a consumer of this core. One that has just left hears nothing: the log will know of
    /// it, and takes back what was on its way.
    pub(in crate::shard) fn consumer_event_here(&self, key: u64, event: ConsumerEvent) {
        let local = self.consumers.borrow().get(key).cloned();
        if let Some(local) = local {
            if let ConsumerEvent::Polled { ticket, .. } = &event {
                let mut polls = local.polls.borrow_mut();
                polls.retain(|(known, _)| known != ticket);
            }
            local.tell(event);
        }
    }
}
