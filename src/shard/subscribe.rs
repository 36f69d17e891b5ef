//! Subscriptions: held by the owners of what they match, served where the connection is.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use super::Shard;
use super::keyed::Keyed;
use super::message::Note;
use super::outbox::{EndReason, Outbox};
use crate::engine::subscriptions::{SubscriberAddress, Subscription, is_wildcard};
use crate::model::Kind;
use crate::rt::Notify;

/// The subscribers whose connections belong to this core.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Keyed<Local>);

/// One of them.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) kind: Kind,
    /// `None`: every shard holds the subscription.
    owner: Option<u16>,
    /// Only members of a group are chosen by their room.
    grouped: bool,
    pub(super) outbox: Rc<Outbox>,
    /// Shards that have not yet said that the subscription is live.
    missing: Cell<u16>,
    live: Notify,
}

impl Subscribers {
    pub(super) fn find(&self, key: u64) -> Option<&Local> {
        self.0.get(key)
    }

    pub(super) fn end_all(&self, reason: EndReason) {
        self.0.iter().for_each(|local| local.outbox.end(reason));
    }
}

/// A live subscription; ends when dropped.
#[derive(Debug)]
pub struct Subscriber {
    shard: Rc<Shard>,
    key: u64,
    outbox: Rc<Outbox>,
}

impl Subscriber {
    /// What waits to be sent to the client.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// To be called after taking from the outbox, so that a group chooses this member again.
    pub fn drained_some(&self) {
        let subscribers = self.shard.subscribers.borrow();
        if let Some(local) = subscribers.find(self.key) {
            self.shard.report_fullness(local, self.key);
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shard.unsubscribe(self.key);
    }
}

impl Shard {
    /// Subscribes to the channels of `pattern`; with a non-empty group, as one of its members.
    /// When this returns, the subscription is live: whatever is published from now on reaches it.
    ///
    /// # Errors
    /// [`EndReason::Shutdown`] while the broker ends.
    pub async fn subscribe(
        self: &Rc<Self>,
        kind: Kind,
        pattern: &str,
        group: &str,
    ) -> Result<Subscriber, EndReason> {
        if self.draining.get() {
            return Err(EndReason::Shutdown);
        }
        let owner = (!is_wildcard(pattern)).then(|| self.owner(pattern).number());
        let outbox = Rc::new(Outbox::new(
            self.settings.subscriber_buffer_bytes,
            self.budget.clone(),
        ));
        let live = Notify::new();
        let key = self.subscribers.borrow_mut().0.insert(Local {
            kind,
            owner,
            grouped: !group.is_empty(),
            outbox: outbox.clone(),
            missing: Cell::new(0),
            live: live.clone(),
        });
        self.count(kind, true);
        // From here on dropping the subscriber, or this future, undoes everything.
        let subscriber = Subscriber {
            shard: self.clone(),
            key,
            outbox,
        };
        let mut missing = 0;
        self.for_holders(owner, |shard, peer| match shard.lane(peer) {
            None => shard.hold(
                kind,
                pattern,
                group,
                SubscriberAddress {
                    core: shard.id,
                    key,
                },
            ),
            Some(lane) => {
                missing += 1;
                let (pattern, group) = (pattern.into(), group.into());
                lane.push_note(Note::Subscribe {
                    kind,
                    pattern,
                    group,
                    key,
                });
            }
        });
        if let Some(local) = self.subscribers.borrow().find(key) {
            local.missing.set(missing);
        }
        if missing > 0 {
            std::future::poll_fn(|cx| self.poll_live(key, &live, cx)).await;
        }
        Ok(subscriber)
    }

    fn poll_live(&self, key: u64, live: &Notify, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let missing = self
            .subscribers
            .borrow()
            .find(key)
            .map_or(0, |local| local.missing.get());
        if missing == 0 {
            return Poll::Ready(());
        }
        match live.poll(cx) {
            // Raised: look at the count again.
            Poll::Ready(()) => self.poll_live(key, live, cx),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Another shard holds the subscription of a subscriber of this core.
    pub(super) fn subscribed(&self, key: u64) {
        let subscribers = self.subscribers.borrow();
        if let Some(local) = subscribers.find(key) {
            local.missing.set(local.missing.get().saturating_sub(1));
            local.live.raise();
        }
    }

    fn unsubscribe(&self, key: u64) {
        let Some(local) = self.subscribers.borrow_mut().0.remove(key) else {
            return;
        };
        let kind = local.kind;
        self.count(kind, false);
        self.for_holders(local.owner, |shard, peer| match shard.lane(peer) {
            None => shard.release(
                kind,
                SubscriberAddress {
                    core: shard.id,
                    key,
                },
            ),
            Some(lane) => lane.push_note(Note::Unsubscribe { kind, key }),
        });
    }

    fn count(&self, kind: Kind, added: bool) {
        let counters = &self.counters;
        let (level, additions, removals) = match kind {
            Kind::Commands => (
                &counters.subscriptions_commands,
                &counters.subscriptions_added_commands,
                &counters.subscriptions_removed_commands,
            ),
            Kind::Queries => (
                &counters.subscriptions_queries,
                &counters.subscriptions_added_queries,
                &counters.subscriptions_removed_queries,
            ),
            Kind::Events | Kind::EventsStore | Kind::Queues => (
                &counters.subscriptions_events,
                &counters.subscriptions_added_events,
                &counters.subscriptions_removed_events,
            ),
        };
        if added {
            level.increment();
            additions.increment();
        } else {
            level.decrement();
            removals.increment();
        }
    }

    /// Calls `each` for the shards that hold a subscription: its owner, or all of them.
    fn for_holders(&self, owner: Option<u16>, mut each: impl FnMut(&Self, u16)) {
        match owner {
            Some(owner) => each(self, owner),
            None => (0..self.count).for_each(|peer| each(self, peer)),
        }
    }

    /// Puts a subscription into this shard's table.
    pub(super) fn hold(&self, kind: Kind, pattern: &str, group: &str, address: SubscriberAddress) {
        let Some((index, table)) = self.table(kind) else {
            return;
        };
        let subscription = Subscription {
            pattern: pattern.into(),
            group: group.into(),
            address,
        };
        let id = table.borrow_mut().add(subscription);
        self.held.borrow_mut().insert((index, address), id);
    }

    /// Takes it out again.
    pub(super) fn release(&self, kind: Kind, address: SubscriberAddress) {
        let Some((index, table)) = self.table(kind) else {
            return;
        };
        if let Some(id) = self.held.borrow_mut().remove(&(index, address)) {
            table.borrow_mut().remove(id);
        }
    }

    /// Notes that a group member's buffer is full, or has room again.
    pub(super) fn set_full(&self, kind: Kind, address: SubscriberAddress, full: bool) {
        let Some((index, table)) = self.table(kind) else {
            return;
        };
        if let Some(id) = self.held.borrow().get(&(index, address)) {
            table.borrow_mut().set_full(*id, full);
        }
    }

    /// Tells the holders of a group member when its buffer becomes full or has room again.
    pub(super) fn report_fullness(&self, local: &Local, key: u64) {
        if !local.grouped {
            return;
        }
        let Some(full) = local.outbox.full_changed() else {
            return;
        };
        let kind = local.kind;
        self.for_holders(local.owner, |shard, peer| match shard.lane(peer) {
            None => shard.set_full(
                kind,
                SubscriberAddress {
                    core: shard.id,
                    key,
                },
                full,
            ),
            Some(lane) => lane.push_note(Note::Full { kind, key, full }),
        });
    }
}
