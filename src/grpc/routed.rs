//! Messages to a route: each target gets a copy, and the sender one answer for all.
//!
//! The copies go the way of messages that were sent to their channels, one after the other; only
//! one is in memory at a time. A copy that is refused does not hold up the others: the answer says
//! which targets have not taken theirs.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::codec::copy::routed_copy;
use super::codec::event::{EventView, event_result};
use super::codec::{id, validate};
use super::events::{Checked, NoRoom, count_received};
use super::refused;
use crate::model::Kind;
use crate::routing::Target;
use crate::shard::{Receipts, Shard};
use crate::wire_error::Refusal;

/// Targets that an answer names when they have not taken their copy; of others it tells the
/// number.
const NAMED_MAX: usize = 8;

/// A message on its way to the targets of its route.
pub(super) struct Routed<'a> {
    /// An `Event` or a `QueueMessage`.
    message: &'a [u8],
    /// Which of them, and of which kind a target without a prefix is.
    own: Kind,
    given_id: &'a str,
    now_ns: i64,
    /// The target whose turn it is, and its copy, once it was made.
    next: usize,
    copy: Option<Vec<u8>>,
    /// The id of the copy that answers for all: the first of the sender's own kind.
    answer_id: Option<String>,
    fate: Fate,
}

/// What became of the copies.
#[derive(Debug)]
pub(super) struct Fate {
    targets: Vec<Target>,
    /// Targets whose receipts are outstanding, in the order of the receipts.
    awaited: VecDeque<usize>,
    failures: Vec<(usize, String)>,
}

impl<'a> Routed<'a> {
    /// Finds the targets of an event. All of it but its channel was checked.
    pub(super) fn event(
        shard: &Shard,
        event: &EventView<'a>,
        message: &'a [u8],
        now_ns: i64,
    ) -> Result<Self, Refusal> {
        let own = if event.store {
            Kind::EventsStore
        } else {
            Kind::Events
        };
        Self::new(shard, own, event.event_id, event.channel, message, now_ns)
    }

    fn new(
        shard: &Shard,
        own: Kind,
        given_id: &'a str,
        route: &str,
        message: &'a [u8],
        now_ns: i64,
    ) -> Result<Self, Refusal> {
        let targets = shard.route(route, own).map_err(Refusal::Route)?;
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        Ok(Self {
            message,
            own,
            given_id,
            now_ns,
            next: 0,
            copy: None,
            answer_id: None,
            fate: Fate {
                targets,
                awaited: VecDeque::new(),
                failures: Vec::new(),
            },
        })
    }

    /// Hands the copies to the shards of their channels; of those that are stored, the next of
    /// `receipts` tell what became of them, see [`Fate::awaited`].
    ///
    /// # Errors
    /// [`NoRoom`] for the copy whose turn it is: wait and go on, or [`give_up`](Self::give_up).
    pub(super) fn send(&mut self, shard: &Rc<Shard>, receipts: &Receipts) -> Result<(), NoRoom> {
        while let Some(target) = self.fate.targets.get(self.next) {
            let copy = match self.copy.take() {
                Some(copy) => copy,
                None => {
                    let id = match self.given_id {
                        "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes))),
                        given => Cow::Borrowed(given),
                    };
                    let (kind, channel) = (target.kind, &*target.channel);
                    let copy = routed_copy(self.message, self.own, &id, kind, channel);
                    if kind == self.own && self.answer_id.is_none() {
                        self.answer_id = Some(id.into_owned());
                    }
                    copy
                }
            };
            match send_copy(shard, target.kind, &copy, self.now_ns, receipts) {
                Ok(Sent::Done) => {}
                Ok(Sent::Awaited) => self.fate.awaited.push_back(self.next),
                Err(Unsent::Refused(refusal)) => self.fate.fail(shard, self.next, refusal),
                Err(Unsent::NoRoom(no_room)) => {
                    self.copy = Some(copy);
                    return Err(no_room);
                }
            }
            self.next += 1;
        }
        Ok(())
    }

    /// The channel of the copy whose turn it is.
    pub(super) fn channel(&self) -> &str {
        let target = self.fate.targets.get(self.next);
        target.map_or("", |target| &target.channel)
    }

    /// Goes on without the copy whose turn it is.
    pub(super) fn give_up(&mut self, shard: &Shard, refusal: Refusal) {
        self.copy = None;
        self.fate.fail(shard, self.next, refusal);
        self.next += 1;
    }

    /// All copies were handed over: the id that the answer has, and what is still to come.
    pub(super) fn into_fate(self) -> (String, Fate) {
        debug_assert_eq!(
            self.next,
            self.fate.targets.len(),
            "every target had its turn"
        );
        let id = self.answer_id;
        (id.unwrap_or_else(|| self.given_id.to_owned()), self.fate)
    }
}

impl Fate {
    /// Receipts that are still to come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Takes the next receipt.
    pub(super) fn outcome(&mut self, shard: &Shard, outcome: Result<(), Refusal>) {
        let target = self.awaited.pop_front();
        debug_assert!(target.is_some(), "a receipt that nobody waits for");
        if let (Some(target), Err(refusal)) = (target, outcome) {
            self.fail(shard, target, refusal);
        }
    }

    fn fail(&mut self, shard: &Shard, target: usize, refusal: Refusal) {
        self.failures.push((target, refusal.text().into_owned()));
        // Counted as if it had been sent alone.
        drop(refused(shard, refusal));
    }

    /// What the sender is told; `None` when every target has taken its copy.
    pub(super) fn failure(&self) -> Option<String> {
        if self.failures.is_empty() {
            return None;
        }
        let (failed, all) = (self.failures.len(), self.targets.len());
        let mut text = format!("routing: {failed} of {all} failed: ");
        let mut separator = "";
        for (target, reason) in self.failures.iter().take(NAMED_MAX) {
            if let Some(target) = self.targets.get(*target) {
                let _never_fails = write!(text, "{separator}{target}: {reason}");
                separator = "; ";
            }
        }
        if failed > NAMED_MAX {
            let _never_fails = write!(text, "; and {} more", failed - NAMED_MAX);
        }
        Some(text)
    }
}

enum Sent {
    Done,
    /// A receipt tells what became of it.
    Awaited,
}

enum Unsent {
    NoRoom(NoRoom),
    Refused(Refusal),
}

fn send_copy(
    shard: &Rc<Shard>,
    kind: Kind,
    copy: &[u8],
    now_ns: i64,
    receipts: &Receipts,
) -> Result<Sent, Unsent> {
    if kind == Kind::Queues {
        return Err(Unsent::Refused(Refusal::KindUnavailable {
            kind,
            method: "SendQueueMessage",
        }));
    }
    let refuse = Unsent::Refused;
    let event = EventView::parse(copy).map_err(|error| refuse(error.into()))?;
    validate::validate_event_to_channel(&event).map_err(refuse)?;
    let checked = Checked::new(shard, &event, now_ns).map_err(refuse)?;
    if event.store {
        let sent = checked.send(shard, Some(receipts));
        sent.map_err(Unsent::NoRoom)?;
        return Ok(Sent::Awaited);
    }
    checked.send(shard, None).map_err(Unsent::NoRoom)?;
    count_received(shard, copy);
    Ok(Sent::Done)
}

/// Sends an event of a unary call to a route; gives the answer when all is done.
pub(super) async fn send_event(
    shard: &Rc<Shard>,
    event: &EventView<'_>,
    message: &[u8],
    now_ns: i64,
) -> Result<Bytes, Refusal> {
    let mut routed = Routed::event(shard, event, message, now_ns)?;
    let receipts = shard.receipts();
    while let Err(no_room) = routed.send(shard, &receipts) {
        let waited = no_room.wait(shard, routed.channel()).await;
        if let Err(refusal) = waited {
            routed.give_up(shard, refusal);
        }
    }
    let (event_id, mut fate) = routed.into_fate();
    while fate.awaited() > 0 {
        let outcome = std::future::poll_fn(|cx| receipts.poll_front(cx)).await;
        fate.outcome(shard, outcome.map_err(Refusal::from));
    }
    let failure = fate.failure();
    let mut result = BytesMut::new();
    let sent = failure.is_none();
    event_result(&event_id, sent, &failure.unwrap_or_default(), &mut result);
    Ok(result.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(failures: usize, targets: usize) -> Fate {
        let target = |number: usize| Target {
            kind: Kind::Queues,
            channel: format!("q{number}").into(),
        };
        Fate {
            targets: (0..targets).map(target).collect(),
            awaited: VecDeque::new(),
            failures: (0..failures).map(|n| (n, "why".to_owned())).collect(),
        }
    }

    #[test]
    fn the_answer_names_the_targets_that_failed_and_why() {
        assert_eq!(fate(0, 3).failure(), None);
        assert_eq!(
            fate(1, 3).failure().as_deref(),
            Some("routing: 1 of 3 failed: queues:q0: why")
        );
        assert_eq!(
            fate(2, 3).failure().as_deref(),
            Some("routing: 2 of 3 failed: queues:q0: why; queues:q1: why")
        );
        let many = fate(20, 256).failure().unwrap();
        assert!(many.ends_with("; queues:q7: why; and 12 more"), "{many}");
    }
}
