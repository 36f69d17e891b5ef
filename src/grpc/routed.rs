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
use super::codec::queue::{QueueLimits, QueueMessageView, SendFacts};
use super::codec::{id, validate};
use super::events::{Checked, NoRoom, count_received};
use super::observe::{Access, Watch};
use super::queues::send;
use super::refused;
use crate::model::Kind;
use crate::routing::Target;
use crate::rt;
use crate::security::Action;
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
    /// Id and facts of the copy that answers for all: the first of the sender's own kind.
    answer_id: Option<String>,
    facts: Option<SendFacts>,
    fate: Fate,
}

/// A message whose copies were all handed over.
pub(super) struct Handed {
    /// The id that the answer has.
    pub(super) id: String,
    /// What the answer says when every target takes its copy; of a queue message only.
    pub(super) facts: SendFacts,
    pub(super) fate: Fate,
    /// Bytes that wait for receipts, nearly.
    pub(super) bytes: usize,
}

/// What became of the copies.
#[derive(Debug)]
pub(super) struct Fate {
    targets: Vec<Target>,
    /// Targets whose receipts are outstanding, in the order of the receipts.
    awaited: VecDeque<usize>,
    failures: Vec<(usize, Cow<'static, str>)>,
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

    /// Finds the targets of a queue message. All of it but its channel was checked.
    pub(super) fn queue_message(
        shard: &Shard,
        view: &QueueMessageView<'a>,
        message: &'a [u8],
    ) -> Result<Self, Refusal> {
        let (id, route) = (view.message_id, view.channel);
        Self::new(shard, Kind::Queues, id, route, message, rt::unix_ns())
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
            facts: None,
            fate: Fate {
                targets,
                awaited: VecDeque::new(),
                failures: Vec::new(),
            },
        })
    }

    /// Whether a copy is to be stored.
    fn is_stored(&self) -> bool {
        let mut targets = self.fate.targets.iter();
        targets.any(|target| matches!(target.kind, Kind::EventsStore | Kind::Queues))
    }

    /// Hands the copies to the shards of their channels; of those that are stored, the next of
    /// `receipts` tell what became of them, see [`Fate::awaited`].
    ///
    /// # Errors
    /// [`NoRoom`] for the copy whose turn it is: wait and go on, or [`give_up`](Self::give_up).
    pub(super) fn send(
        &mut self,
        shard: &Rc<Shard>,
        limits: &QueueLimits,
        receipts: &Receipts,
        watch: &mut Watch,
    ) -> Result<(), NoRoom> {
        while let Some(target) = self.fate.targets.get(self.next) {
            let kind = target.kind;
            let copy = match self.copy.take() {
                Some(copy) => copy,
                None => {
                    let id = given_or_new(shard, self.given_id);
                    let copy = routed_copy(self.message, self.own, &id, kind, &target.channel);
                    if kind == self.own && self.answer_id.is_none() {
                        self.answer_id = Some(id.into_owned());
                    }
                    copy
                }
            };
            let sent = match kind {
                Kind::Queues => send_to_queue(shard, limits, watch, &copy, receipts),
                _ => send_event_copy(shard, watch, &copy, self.now_ns, receipts),
            };
            match sent {
                Ok(Sent::Done) => {}
                Ok(Sent::Stored) => self.fate.awaited.push_back(self.next),
                Ok(Sent::Queued(facts)) => {
                    self.facts.get_or_insert(facts);
                    self.fate.awaited.push_back(self.next);
                }
                Err(Unsent::Refused(refusal)) => {
                    tell_refused(watch, kind, &copy, &refusal);
                    self.fate.fail(shard, self.next, refusal);
                }
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
    pub(super) fn give_up(&mut self, shard: &Shard, refusal: Refusal, watch: &mut Watch) {
        let target = self.fate.targets.get(self.next);
        if let (Some(copy), Some(target)) = (self.copy.take(), target) {
            tell_refused(watch, target.kind, &copy, &refusal);
        }
        self.fate.fail(shard, self.next, refusal);
        self.next += 1;
    }

    /// All copies were handed over.
    pub(super) fn handed_over(self) -> Handed {
        let Fate { targets, .. } = &self.fate;
        debug_assert_eq!(self.next, targets.len(), "every target had its turn");
        let id = self.answer_id;
        Handed {
            id: id.unwrap_or_else(|| self.given_id.to_owned()),
            facts: self.facts.unwrap_or_default(),
            bytes: self.message.len().saturating_mul(self.fate.awaited()),
            fate: self.fate,
        }
    }

    /// Hands all copies over, waiting for room where there is none.
    pub(super) async fn send_all(
        mut self,
        shard: &Rc<Shard>,
        limits: &QueueLimits,
        receipts: &Receipts,
        watch: &mut Watch,
    ) -> Handed {
        while let Err(no_room) = self.send(shard, limits, receipts, watch) {
            let waited = no_room.wait_in_call(shard, watch, self.channel()).await;
            if let Err(refusal) = waited {
                self.give_up(shard, refusal, watch);
            }
        }
        self.handed_over()
    }
}

impl Handed {
    /// Waits for the receipts, which are the next ones; gives what the sender is told when not
    /// every target has taken its copy.
    pub(super) async fn settled(
        mut self,
        shard: &Shard,
        receipts: &Receipts,
        watch: &mut Watch,
    ) -> Option<String> {
        while self.fate.awaited() > 0 {
            let outcome = std::future::poll_fn(|cx| receipts.poll_front(cx)).await;
            let outcome = outcome.map_err(Refusal::from);
            watch.outcome(outcome.as_ref().copied());
            self.fate
                .outcome(outcome.map_err(|refusal| told(shard, refusal)));
        }
        self.fate.failure()
    }
}

/// The id that came, or a new one.
fn given_or_new<'a>(shard: &Shard, id: &'a str) -> Cow<'a, str> {
    match id {
        "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes)).into()),
        given => Cow::Borrowed(given),
    }
}

/// Counts a refusal as if its copy had been sent alone; gives its text.
pub(super) fn told(shard: &Shard, refusal: Refusal) -> Cow<'static, str> {
    let text = refusal.text();
    refused(shard, refusal);
    text
}

impl Fate {
    /// Receipts that are still to come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Takes the next receipt.
    pub(super) fn outcome(&mut self, outcome: Result<(), Cow<'static, str>>) {
        let target = self.awaited.pop_front();
        debug_assert!(target.is_some(), "a receipt that nobody waits for");
        if let (Some(target), Err(text)) = (target, outcome) {
            self.failures.push((target, text));
        }
    }

    fn fail(&mut self, shard: &Shard, target: usize, refusal: Refusal) {
        self.failures.push((target, told(shard, refusal)));
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
    /// A receipt tells what becomes of it.
    Stored,
    /// The same, in a queue.
    Queued(SendFacts),
}

enum Unsent {
    NoRoom(NoRoom),
    Refused(Refusal),
}

fn send_to_queue(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    copy: &[u8],
    receipts: &Receipts,
) -> Result<Sent, Unsent> {
    let checked = send::Checked::new(shard, limits, copy).map_err(Unsent::Refused)?;
    let allowed = checked.allow(&mut watch.gate);
    allowed.map_err(Unsent::Refused)?;
    checked.send(shard, receipts).map_err(Unsent::NoRoom)?;
    watch.expect(&checked.access(copy.len()));
    Ok(Sent::Queued(checked.facts()))
}

/// Tells of a copy that its target did not take.
fn tell_refused(watch: &mut Watch, kind: Kind, copy: &[u8], refusal: &Refusal) {
    match kind {
        Kind::Queues => watch.refused_queue_message(copy, refusal),
        _ => watch.refused_event(copy, refusal),
    }
}

fn send_event_copy(
    shard: &Rc<Shard>,
    watch: &mut Watch,
    copy: &[u8],
    now_ns: i64,
    receipts: &Receipts,
) -> Result<Sent, Unsent> {
    let refuse = Unsent::Refused;
    let event = EventView::parse(copy).map_err(|error| refuse(error.into()))?;
    validate::validate_event_to_channel(&event).map_err(refuse)?;
    let checked = Checked::new(shard, &event, now_ns).map_err(refuse)?;
    let access = Access::event(&event, &checked.event_id, copy.len());
    watch.gate.allow(&access, Action::Write).map_err(refuse)?;
    if event.store {
        let sent = checked.send(shard, Some(receipts));
        sent.map_err(Unsent::NoRoom)?;
        watch.expect(&access);
        return Ok(Sent::Stored);
    }
    checked.send(shard, None).map_err(Unsent::NoRoom)?;
    count_received(shard, copy);
    watch.sent(&access);
    Ok(Sent::Done)
}

/// Sends an event of a unary call to a route; gives the answer when all is done.
pub(super) async fn send_event(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    event: &EventView<'_>,
    message: &[u8],
    now_ns: i64,
) -> Result<Bytes, Refusal> {
    let routed = Routed::event(shard, event, message, now_ns)?;
    if routed.is_stored() {
        shard.admission().admit_unary()?;
    }
    let receipts = shard.receipts();
    let handed = routed.send_all(shard, limits, &receipts, watch).await;
    let event_id = handed.id.clone();
    let failure = handed.settled(shard, &receipts, watch).await;
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
            failures: (0..failures).map(|n| (n, "why".into())).collect(),
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
