//! Receivers of stored channels, where their connections live.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::StoredRefused;
use super::seat::LogSeat;
use crate::engine::feeds::{Address, Mark};
use crate::rt::Notify;
use crate::shard::keyed::Keyed;
use crate::shard::message::Note;
use crate::shard::{EndReason, Shard};
use crate::wire::server::ConnectionControl;

/// Bytes that may be on their way to one receiver: what a data centre's round trip needs at full
/// speed, and all that the broker holds in memory for it.
pub(super) const WINDOW_BYTES: u64 = 256 << 10;

/// Frames for a client, in the order of their sequences.
#[derive(Debug)]
pub struct StoredChunk {
    /// The chunk's number: to be confirmed when the client has it.
    pub mark: u64,
    /// Messages in it.
    pub count: u64,
    /// Bytes of all parts.
    pub bytes: usize,
    /// The frames; one may run over several parts.
    pub parts: Vec<Bytes>,
}

/// The receivers of this core.
#[derive(Debug, Default)]
pub(in crate::shard) struct Receivers(Keyed<Rc<Local>>);

/// One receiver.
#[derive(Debug)]
pub(in crate::shard) struct Local {
    /// The shard and the log that feed it.
    owner: u16,
    log: u16,
    queue: RefCell<VecDeque<StoredChunk>>,
    ready: Notify,
    ended: Cell<Option<EndReason>>,
    /// Bytes of the chunk that was taken last; its credit is given back with the next.
    taken: Cell<usize>,
    /// The owner's answer to the request to be one.
    pub(super) opened: RefCell<Option<Result<(), StoredRefused>>>,
    pub(super) answered: Notify,
    /// The connection, to ask whether it lives.
    pub(super) control: ConnectionControl,
}

impl Receivers {
    pub(super) fn insert(&mut self, owner: u16, log: u16, control: ConnectionControl) -> u64 {
        let local = Local {
            owner,
            log,
            queue: RefCell::default(),
            ready: Notify::new(),
            ended: Cell::new(None),
            taken: Cell::new(0),
            opened: RefCell::default(),
            answered: Notify::new(),
            control,
        };
        self.0.insert(Rc::new(local))
    }

    pub(super) fn find(&self, key: u64) -> Option<&Rc<Local>> {
        self.0.get(key)
    }

    pub(in crate::shard) fn end_all(&self, reason: EndReason) {
        for local in self.0.iter() {
            local.ended.set(Some(reason));
            local.ready.raise();
            local.answered.raise();
        }
    }
}

/// A live subscription to a stored channel; ends when dropped. What was not confirmed by then is
/// delivered again.
#[derive(Debug)]
pub struct StoredSubscriber {
    shard: Rc<Shard>,
    key: u64,
    local: Rc<Local>,
}

impl StoredSubscriber {
    pub(super) fn new(shard: Rc<Shard>, key: u64, local: Rc<Local>) -> Self {
        Self { shard, key, local }
    }

    /// The next chunk. To be called when the chunk before it was handed to the client's stream:
    /// its place is given to another then.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<StoredChunk, EndReason>> {
        let taken = self.local.taken.replace(0);
        if taken > 0 {
            self.shard
                .tell_feed(&self.local, self.key, Told::Grant(taken));
        }
        loop {
            if let Some(reason) = self.local.ended.get() {
                return Poll::Ready(Err(reason));
            }
            let chunk = self.local.queue.borrow_mut().pop_front();
            if let Some(chunk) = chunk {
                self.local.taken.set(chunk.bytes);
                let counters = &self.shard.counters;
                counters.events_store_delivered.add(chunk.count);
                let bytes = u64::try_from(chunk.bytes).unwrap_or(u64::MAX);
                counters.events_store_delivered_bytes.add(bytes);
                return Poll::Ready(Ok(chunk));
            }
            if self.local.ready.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Says that the client has got every chunk up to this one: the durable position moves over
    /// them.
    pub fn confirm(&self, mark: u64) {
        self.shard
            .tell_feed(&self.local, self.key, Told::Confirm(mark));
    }
}

impl Drop for StoredSubscriber {
    fn drop(&mut self) {
        self.shard.close_receiver(self.key);
    }
}

/// What a receiver tells the log that feeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Told {
    /// So many bytes have left for the client: as many more may come.
    Grant(usize),
    /// The client has got all chunks up to this one.
    Confirm(u64),
    /// The receiver has gone.
    Gone,
}

impl Shard {
    /// Takes a receiver of this core away.
    pub(super) fn close_receiver(self: &Rc<Self>, key: u64) {
        let local = self.stored.receivers.borrow_mut().0.remove(key);
        if let Some(local) = local {
            self.counters.subscriptions_events_store.decrement();
            self.counters.subscriptions_removed_events_store.increment();
            self.tell_feed(&local, key, Told::Gone);
        }
    }

    fn tell_feed(self: &Rc<Self>, local: &Local, key: u64, told: Told) {
        match self.lane(local.owner) {
            None => self.told_here(local.log, Address { core: self.id, key }, told),
            Some(lane) => lane.push_note(Note::Told {
                log: local.log,
                key,
                told,
            }),
        }
    }

    /// What a receiver says to a log of this shard.
    pub(in crate::shard) fn told_here(self: &Rc<Self>, log: u16, from: Address, told: Told) {
        let Some(seat) = self.stored.seat(log) else {
            return;
        };
        let Some(receiver) = seat.receiver(from) else {
            if told == Told::Gone {
                seat.cancel_opening(from);
            }
            return;
        };
        match told {
            Told::Grant(bytes) => {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                seat.feeds.borrow_mut().grant(receiver, bytes);
                seat.deliver_ready.raise();
            }
            Told::Confirm(mark) => {
                seat.feeds.borrow_mut().confirmed(receiver, Mark::new(mark));
                self.flush_cursors_soon(seat);
            }
            Told::Gone => self.remove_receiver(seat, from),
        }
    }

    /// Takes a receiver out of its log's feeds: what it did not confirm is delivered again.
    pub(super) fn remove_receiver(&self, seat: &LogSeat, address: Address) {
        let removed = seat
            .receivers
            .borrow_mut()
            .remove(&(address.core, address.key));
        if let Some(receiver) = removed {
            seat.feeds.borrow_mut().remove(receiver);
            // The other members of its group may have more to do now.
            seat.deliver_ready.raise();
        }
    }

    /// The channel of a receiver of this core is gone.
    pub(in crate::shard) fn ended_here(&self, key: u64) {
        let local = self.stored.receivers.borrow().find(key).cloned();
        if let Some(local) = local {
            local.ended.set(Some(EndReason::ChannelDeleted));
            local.ready.raise();
        }
    }

    /// A chunk for a receiver of this core.
    pub(in crate::shard) fn chunk_here(&self, key: u64, chunk: StoredChunk) {
        let local = self.stored.receivers.borrow().find(key).cloned();
        // One who has just left: the feed will hear of it and deliver again.
        if let Some(local) = local {
            local.queue.borrow_mut().push_back(chunk);
            local.ready.raise();
        }
    }
}
