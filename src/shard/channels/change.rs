//! Channels that are created, deleted and emptied on request.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::SlotId;
use ringmq_storage::log::Refused;

use super::stored_kind;
use crate::engine::stored::StoreRefusal;
use crate::model::Kind;
use crate::rt::{self, Notify, Queue};
use crate::shard::message::Note;
use crate::shard::stored::LogSeat;
use crate::shard::{Shard, StoreFailure};

/// How long a change waits for room in the log, or for a slice of compaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(2);

/// What becomes of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelChange {
    /// It is created, unless it is there.
    Create,
    /// It is deleted with all it has, unless it is gone.
    Delete,
    /// The events that it stores are removed; their numbering goes on.
    Empty,
}

/// A change on its way to the shard that has the log.
#[derive(Debug)]
pub(in crate::shard) struct ChangeWork {
    change: ChannelChange,
    kind: Kind,
    name: Box<str>,
}

/// One who waits for a change.
#[derive(Debug, Default)]
pub(in crate::shard) struct Waiting {
    outcome: RefCell<Option<Result<u64, StoreFailure>>>,
    done: Notify,
}

/// Takes one who waits out of the table, however it ends.
struct Asked<'a> {
    shard: &'a Shard,
    key: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.shard.channels.changes.borrow_mut().remove(self.key);
    }
}

impl Shard {
    /// Changes a channel; gives how many messages were removed by [`ChannelChange::Empty`]. What
    /// is wanted already is no error. When this returns, the change is committed.
    ///
    /// # Errors
    /// As for a message to store.
    pub async fn change_channel(
        self: &Rc<Self>,
        change: ChannelChange,
        kind: Kind,
        name: &str,
    ) -> Result<u64, StoreFailure> {
        let waiting = Rc::new(Waiting::default());
        let key = self.channels.changes.borrow_mut().insert(waiting.clone());
        let _asked = Asked { shard: self, key };
        let work = ChangeWork {
            change,
            kind,
            name: name.into(),
        };
        let owner = self.stored_owner(self.placement.slot(name));
        match self.lane(owner) {
            None => self.change_here(self.id, key, work),
            Some(lane) => lane.push_note(Note::Change {
                key,
                work: Box::new(work),
            }),
        }
        let outcome = loop {
            waiting.done.wait().await;
            if let Some(outcome) = waiting.outcome.take() {
                break outcome;
            }
        };
        if change == ChannelChange::Delete && outcome.is_ok() {
            self.forget_traffic(kind, name);
        }
        outcome
    }

    /// Forgets on every core what went over a channel.
    fn forget_traffic(&self, kind: Kind, name: &str) {
        for peer in 0..self.count {
            match self.lane(peer) {
                None => self.forget_traffic_here(kind, name),
                Some(lane) => lane.push_note(Note::ForgetTraffic {
                    kind,
                    channel: name.into(),
                }),
            }
        }
    }

    pub(in crate::shard) fn forget_traffic_here(&self, kind: Kind, name: &str) {
        self.channels.forget(kind, name);
    }

    /// A change of a channel whose log this shard has.
    pub(in crate::shard) fn change_here(self: &Rc<Self>, core: u16, key: u64, work: ChangeWork) {
        let shard = self.clone();
        rt::spawn(Queue::Serve, "change channel", async move {
            let outcome = shard.change(&work).await;
            match shard.lane(core) {
                None => shard.changed_here(key, outcome),
                Some(lane) => lane.push_note(Note::Changed {
                    key,
                    outcome: outcome.map_err(Box::new),
                }),
            }
        });
    }

    /// A change is done, or will not be.
    pub(in crate::shard) fn changed_here(&self, key: u64, outcome: Result<u64, StoreFailure>) {
        if let Some(waiting) = self.channels.changes.borrow().get(key) {
            waiting.outcome.replace(Some(outcome));
            waiting.done.raise();
        }
    }

    async fn change(&self, work: &ChangeWork) -> Result<u64, StoreFailure> {
        let slot = self.placement.slot(&work.name);
        let Some(seat) = self.own_seat(slot).cloned() else {
            return Err(StoreFailure::Busy);
        };
        let began = rt::now();
        loop {
            // What is on its way counts: a channel that was just created is found.
            seat.committed().await?;
            // While a slice of compaction waits for its commit, nothing may be trimmed.
            let prepared = match seat.held.get() {
                true => Err(StoreRefusal::Log(Refused::Busy)),
                false => self.prepare_change(&seat, slot, work),
            };
            match prepared {
                Ok(removed) => {
                    seat.commit_ready.raise();
                    seat.committed().await?;
                    return Ok(removed);
                }
                Err(StoreRefusal::Log(Refused::Busy)) if rt::now().since(began) < PATIENCE => {
                    seat.jobs_ready.raise();
                    rt::sleep(LOOK).await;
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    fn prepare_change(
        &self,
        seat: &LogSeat,
        slot: SlotId,
        work: &ChangeWork,
    ) -> Result<u64, StoreRefusal> {
        let (kind, name) = (stored_kind(work.kind), &*work.name);
        let policy = self.stored.policy(seat, name);
        let now_ns = rt::unix_ns().cast_unsigned();
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        let found = slots.find(slot, kind, name);
        match (work.change, found) {
            (ChannelChange::Create, Some(_))
            | (ChannelChange::Delete | ChannelChange::Empty, None) => Ok(0),
            (ChannelChange::Create, None) => slots
                .prepare_channel(&mut *log, slot, kind, name, now_ns, &policy.limits)
                .map(|_| 0),
            (ChannelChange::Delete, Some(key)) => slots
                .prepare_channel_delete(&mut *log, key, now_ns)
                .map(|()| 0),
            (ChannelChange::Empty, Some(key)) => {
                let facts = slots
                    .channel(key)
                    .map(|found| (found.messages(), found.last));
                let (messages, last) = facts.unwrap_or_default();
                slots.prepare_trim(&mut *log, key, last, now_ns)?;
                Ok(messages)
            }
        }
    }
}
