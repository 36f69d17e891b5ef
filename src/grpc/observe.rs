//! What clients do, seen once for all transports: every handler tells it here, and here only.
//!
//! ```text
//!   handler ──► Watch ──► figures of clients and channels (always)
//!                    ├──► records of accesses (when wanted): notifications, audit, log
//!                    └──► spans (with tracing)
//! ```
//!
//! A [`Watch`] is made for each call. What it is told has one of three shapes:
//!
//! - at once: [`sent`](Watch::sent), [`refused`](Watch::refused), [`delivered`](Watch::delivered);
//! - begun and concluded, by a handler that keeps the [`Begun`]: a call, a poll, a request;
//! - expected, in the order of receipts: the messages of a stream that are being stored.
//!
//! With tracing each of them is a span, too.
//!
//! On the way of an event this costs a comparison with the client and the channel of the stream's
//! last message, and some additions; nothing is allocated.

mod access;
mod reports;
mod traces;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::SubscribeType;

use super::codec::context::Sent;
use super::codec::event::EventView;
use super::codec::queue::QueueMessageView;
use super::codec::request::{RequestType, RequestView};
use super::codec::response::ResponseView;
use super::codec::subscribe;
use super::gate::Gate;
use crate::engine::clients::{Figures, Use, Who};
use crate::model::{Kind, name};
use crate::notifications::{self, Notifications, OpenReport, Resource};
use crate::shard::{ClientIsHere, Polled, Shard};
use crate::spans::Spans;
use crate::wire::server::{Call, ConnectionControl, Hold};
use crate::wire::status::Status;
use crate::wire_error::{QueueStreamRefusal, Refusal};

pub(super) use crate::notifications::Deed;
pub(super) use access::Access;
pub use reports::report_encoding;

use traces::{Traced, Tracer};

/// What observes the calls of one executor.
pub(super) struct Observer {
    shard: Rc<Shard>,
    notifications: Option<Rc<Notifications>>,
    spans: Option<Rc<Spans>>,
}

impl Observer {
    pub(super) const fn new(
        shard: Rc<Shard>,
        notifications: Option<Rc<Notifications>>,
        spans: Option<Rc<Spans>>,
    ) -> Self {
        Self {
            shard,
            notifications,
            spans,
        }
    }

    /// Watches a call that has just come.
    pub(super) fn watch(self: &Rc<Self>, call: &Call, gate: Gate) -> Watch {
        Watch {
            gate,
            observer: self.clone(),
            address: call.peer(),
            connection: call.control().clone(),
            last: None,
            place: None,
            expected: VecDeque::new(),
            presence: None,
            tracer: self.spans.as_ref().map(|spans| {
                // Boxed: handlers carry the watch around, and mostly there is no tracing.
                Box::new(Tracer::of(spans, call))
            }),
        }
    }
}

/// Why something was not done, as clients are told.
pub(super) trait Told {
    fn told(&self) -> Cow<'static, str>;

    /// A word for the sort of failure.
    fn sort(&self) -> &'static str {
        "_OTHER"
    }
}

impl Told for Refusal {
    fn told(&self) -> Cow<'static, str> {
        self.text()
    }

    fn sort(&self) -> &'static str {
        self.code().name()
    }
}

impl Told for QueueStreamRefusal {
    fn told(&self) -> Cow<'static, str> {
        self.text()
    }
}

impl Told for Status {
    fn told(&self) -> Cow<'static, str> {
        Cow::Owned(self.message().to_owned())
    }

    fn sort(&self) -> &'static str {
        self.code().name()
    }
}

/// An access that has begun; it is to be concluded.
#[derive(Debug)]
pub(super) struct Begun {
    used: Use,
    deed: Deed,
    /// Of the message that is sent.
    bytes: usize,
    report: Option<OpenReport>,
    traced: Option<Box<Traced>>,
}

/// A queue and its client, kept for what comes later: records of settlements, and new rules.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) client: Box<str>,
    pub(super) channel: Box<str>,
}

/// What is seen of one call.
pub(super) struct Watch {
    /// What the call may do.
    pub(super) gate: Gate,
    observer: Rc<Observer>,
    /// Where the call comes from.
    address: SocketAddr,
    connection: ConnectionControl,
    /// The client and the channel of the last message.
    last: Option<Use>,
    /// Where messages were asked for last.
    place: Option<Rc<Place>>,
    /// INVARIANT: one for each message that waits for its receipt, in their order.
    expected: VecDeque<Begun>,
    /// The subscription or the consumer that the call is.
    presence: Option<ClientIsHere>,
    tracer: Option<Box<Tracer>>,
}

/// The context of traces.
impl Watch {
    /// The message of a call, with the context that its caller names in the metadata, so that its
    /// receiver sees it.
    pub(super) fn with_context(&self, message: Bytes, sent: Sent) -> Bytes {
        let tracer = self.tracer.as_ref();
        let given = tracer.and_then(|tracer| tracer.with_context(&message, sent));
        given.unwrap_or(message)
    }

    /// The same for each message of a batch.
    pub(super) fn batch_with_context(&self, request: Bytes) -> Bytes {
        let tracer = self.tracer.as_ref();
        let given = tracer.and_then(|tracer| tracer.batch_with_context(&request));
        given.unwrap_or(request)
    }
}

/// Sending.
impl Watch {
    /// A message was sent; nothing of it is to follow.
    #[inline]
    pub(super) fn sent(&mut self, access: &Access<'_>) {
        let figures = Figures::sent(1, access.bytes);
        let who = self.who(access);
        self.last = Some(self.observer.shard.count_use(self.last, &who, figures));
        if self.is_reporting() {
            finish(self.report(access, Deed::Send), Ok(()));
        }
        if let Some(tracer) = &self.tracer
            && let Some(traced) = tracer.begin(access, Deed::Send)
        {
            tracer.end(traced, None);
        }
    }

    /// A message was handed over to be stored; its receipt is to follow behind those of the
    /// messages before it.
    pub(super) fn expect(&mut self, access: &Access<'_>) {
        let begun = self.begin(access, Deed::Send);
        self.expected.push_back(begun);
    }

    /// Messages that wait for their receipts.
    pub(super) fn expected(&self) -> usize {
        self.expected.len()
    }

    /// The receipt of the oldest message that waits.
    pub(super) fn outcome<E: Told>(&mut self, outcome: Result<(), &E>) {
        let begun = self.expected.pop_front();
        debug_assert!(begun.is_some(), "a receipt that nobody waits for");
        if let Some(begun) = begun {
            self.conclude_send(begun, outcome);
        }
    }

    /// Something was refused before it began.
    #[cold]
    pub(super) fn refused(&mut self, access: &Access<'_>, deed: Deed, refusal: &impl Told) {
        let shard = self.observer.shard.clone();
        let client = name::check_client_id(access.client).is_ok();
        let client = client.then_some(access.client);
        let channel = name::check_channel(access.channel).is_ok();
        if client.is_some() && channel {
            let used = shard.client_use(self.last, &self.who(access));
            shard.count_again(used, Figures::failed());
            self.last = Some(used);
        } else {
            shard.count_client(client, Figures::failed());
        }
        if channel && deed == Deed::Send {
            shard.count_channel_failure(access.kind, access.channel);
        }
        finish(self.report(access, deed), Err(refusal.told()));
        if let Some(tracer) = &self.tracer
            && let Some(traced) = tracer.begin(access, deed)
        {
            tracer.end(traced, Some((refusal.sort(), &refusal.told())));
        }
    }

    /// An event was refused; one that cannot be decoded has no sender and no channel.
    #[cold]
    pub(super) fn refused_event(&mut self, message: &[u8], refusal: &Refusal) {
        if let Ok(view) = EventView::parse(message) {
            let access = Access::event(&view, view.event_id, message.len());
            self.refused(&access, Deed::Send, refusal);
        }
    }

    /// A message to a queue was refused.
    #[cold]
    pub(super) fn refused_queue_message(&mut self, message: &[u8], refusal: &Refusal) {
        if let Ok(view) = QueueMessageView::parse(message) {
            let access = Access::queue_message(&view, view.message_id, message.len());
            self.refused(&access, Deed::Send, refusal);
        }
    }

    /// A command or a query was refused. What is neither has no channel.
    #[cold]
    pub(super) fn refused_request(&mut self, message: &[u8], refusal: &Refusal) {
        if let Ok(view) = RequestView::parse(message)
            && let Some(request_type) = RequestType::from_number(view.request_type)
        {
            let kind = request_type.kind();
            let access = Access::request(&view, kind, view.request_id, message.len());
            self.refused(&access, Deed::Send, refusal);
        }
    }

    /// A request to the broker itself has come; its record is to be finished.
    pub(super) fn managing(&mut self, access: &Access<'_>) -> Option<OpenReport> {
        let figures = Figures::sent(1, access.bytes);
        let shard = &self.observer.shard;
        shard.count_client(Some(access.client), figures);
        self.report(access, Deed::Manage)
    }

    /// A response has come, or was refused.
    pub(super) fn responded(
        &mut self,
        view: &ResponseView<'_>,
        bytes: usize,
        outcome: Result<(), &Refusal>,
    ) {
        let figures = match outcome {
            Ok(()) => Figures::sent(1, bytes),
            Err(_) => Figures::failed(),
        };
        let client = name::check_client_id(view.client_id).is_ok();
        let client = client.then_some(view.client_id);
        self.observer.shard.count_client(client, figures);
        let notifications = self.observer.notifications.as_ref();
        let report = notifications.and_then(|notifications| {
            notifications.begin(&notifications::Access {
                resource: Resource::Responses,
                // The reply channel is the responders' and the broker's alone.
                channel: "",
                client: view.client_id,
                message_id: view.request_id,
                deed: Deed::Send,
            })
        });
        finish(report, outcome.map_err(Told::told));
        if let Some(tracer) = &self.tracer {
            match outcome {
                Ok(()) => tracer.responded(view, None),
                Err(refusal) => tracer.responded(view, Some((refusal.sort(), &refusal.told()))),
            }
        }
    }
}

/// What is begun, and concluded when its outcome is known.
impl Watch {
    /// Something has begun.
    pub(super) fn begin(&mut self, access: &Access<'_>, deed: Deed) -> Begun {
        let who = self.who(access);
        let used = self.observer.shard.client_use(self.last, &who);
        self.last = Some(used);
        Begun {
            used,
            deed,
            bytes: access.bytes,
            report: self.report(access, deed),
            traced: self
                .tracer
                .as_ref()
                .and_then(|tracer| tracer.begin(access, deed)),
        }
    }

    /// A message was taken, or not.
    pub(super) fn conclude_send<E: Told>(&self, begun: Begun, outcome: Result<(), &E>) {
        let figures = Figures::sent(1, begun.bytes);
        self.conclude(begun, outcome.map(|()| figures));
    }

    /// Something was done, or not.
    pub(super) fn conclude<E: Told>(&self, begun: Begun, outcome: Result<Figures, &E>) {
        let shard = &self.observer.shard;
        match outcome {
            Ok(figures) => shard.count_again(begun.used, figures),
            Err(_) if begun.deed == Deed::Send => shard.count_failed(begun.used),
            Err(_) => shard.count_again(begun.used, Figures::failed()),
        }
        if let (Some(tracer), Some(traced)) = (&self.tracer, begun.traced) {
            match &outcome {
                Ok(_) => tracer.end(traced, None),
                Err(refusal) => tracer.end(traced, Some((refusal.sort(), &refusal.told()))),
            }
        }
        finish(begun.report, outcome.map(drop).map_err(Told::told));
    }

    /// The response to a request went to the one who had asked.
    pub(super) fn answered(&self, begun: &Begun, bytes: usize) {
        let figures = Figures::delivered(1, bytes);
        self.observer.shard.count_again(begun.used, figures);
    }

    /// Nobody waits for the outcome any more. What was sent was sent all the same; the record
    /// says that its client has gone.
    pub(super) fn abandon(&self, begun: Begun) {
        let figures = match begun.deed {
            Deed::Send => Figures::sent(1, begun.bytes),
            _ => Figures::default(),
        };
        self.observer.shard.count_again(begun.used, figures);
        if let (Some(tracer), Some(traced)) = (&self.tracer, begun.traced) {
            tracer.end(traced, Some(("Canceled", "the client has gone")));
        }
    }
}

/// Receiving.
impl Watch {
    /// A subscription lives from now on, until this watch is dropped.
    pub(super) fn subscribed(&mut self, kind: Kind, subscribe: &Subscribe) {
        let access = Access::subscription(kind, subscribe);
        let begun = self.begin(&access, Deed::Subscribe);
        self.stays(begun.used);
        self.conclude::<Refusal>(begun, Ok(Figures::default()));
        if let Some(tracer) = &mut self.tracer {
            tracer.subscribed(kind, subscribe);
        }
    }

    /// A subscription was refused, before it was known of which kind it is or after that.
    #[cold]
    pub(super) fn refused_subscription(&mut self, subscribe: &Subscribe, refusal: &Refusal) {
        let kind = match SubscribeType::try_from(subscribe.subscribe_type_data) {
            Ok(SubscribeType::Events) => Kind::Events,
            Ok(SubscribeType::EventsStore) => Kind::EventsStore,
            Ok(SubscribeType::Commands) => Kind::Commands,
            Ok(SubscribeType::Queries) => Kind::Queries,
            Ok(SubscribeType::Undefined) | Err(_) => return,
        };
        let access = Access::subscription(kind, subscribe);
        self.refused(&access, Deed::Subscribe, refusal);
    }

    /// The same, as it came.
    #[cold]
    pub(super) fn refused_subscribe(&mut self, message: &[u8], refusal: &Refusal) {
        if let Ok(subscribe) = subscribe::decode(message) {
            self.refused_subscription(&subscribe, refusal);
        }
    }

    /// Frames go to the subscriber.
    #[inline]
    pub(super) fn delivering(&mut self, frames: &Bytes) {
        if let Some(tracer) = &mut self.tracer {
            tracer.delivering(frames);
        }
    }

    /// Messages went to the subscriber.
    pub(super) fn delivered(&self, messages: u64, bytes: usize) {
        if let Some(presence) = &self.presence {
            let figures = Figures::delivered(messages, bytes);
            self.observer.shard.count_again(presence.used(), figures);
        }
    }

    /// A consumer asks for messages; it is there from now on, until this watch is dropped.
    pub(super) fn polling(&mut self, access: &Access<'_>, deed: Deed) -> Begun {
        let begun = self.begin(access, deed);
        self.stays(begun.used);
        begun
    }

    /// Messages are handed out to whoever polled.
    pub(super) fn handed_out(&self, begun: &mut Begun, polled: &Polled) {
        if let (Some(tracer), Some(traced)) = (&self.tracer, &mut begun.traced)
            && begun.deed != Deed::Peek
        {
            tracer.handed_out(traced, &polled.parts);
        }
    }

    /// What a poll came to.
    pub(super) fn polled<E: Told>(&self, begun: Begun, outcome: Result<(usize, usize), &E>) {
        let peek = begun.deed == Deed::Peek;
        let figures = outcome.map(|(messages, bytes)| match peek {
            true => Figures::default(),
            false => Figures::delivered(u64::try_from(messages).unwrap_or(u64::MAX), bytes),
        });
        self.conclude(begun, figures);
    }

    /// Where messages come from. A consumer mostly asks for those of one queue again and again.
    pub(super) fn place(&mut self, access: &Access<'_>) -> Rc<Place> {
        let last = self.place.as_ref();
        let last =
            last.filter(|last| (&*last.channel, &*last.client) == (access.channel, access.client));
        let place = last.cloned().unwrap_or_else(|| {
            Rc::new(Place {
                client: access.client.into(),
                channel: access.channel.into(),
            })
        });
        self.place = Some(place.clone());
        place
    }

    /// Messages are being settled; the record is to be finished. `client` is who settles, if the
    /// request says so.
    pub(super) fn settling(
        &self,
        place: Option<&Rc<Place>>,
        client: &str,
        id: &str,
        deed: Deed,
    ) -> Option<OpenReport> {
        let place = place?;
        let client = match client {
            "" => &*place.client,
            given => given,
        };
        self.report(&Access::queue(&place.channel, client, id), deed)
    }

    /// Ready when a call that waits for messages of one queue may not go on.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let place = self.place.as_ref();
        self.gate.poll_closed(cx, |gate| match place {
            Some(place) => gate.allow_standing(Kind::Queues, &place.client, &place.channel),
            None => Ok(()),
        })
    }

    fn stays(&mut self, used: Use) {
        let here = self.presence.as_ref().map(ClientIsHere::used);
        if here != Some(used) {
            // The old one leaves first: they may be one client.
            self.presence = None;
            self.presence = Some(self.observer.shard.client_arrives(used));
        }
    }
}

impl Watch {
    /// Has the connection bring no further calls while the guard lives.
    pub(super) fn hold(&self) -> Hold {
        self.connection.hold()
    }

    fn is_reporting(&self) -> bool {
        let notifications = self.observer.notifications.as_ref();
        notifications.is_some_and(|notifications| notifications.are_wanted())
    }

    fn who<'a>(&self, access: &Access<'a>) -> Who<'a> {
        Who {
            client: access.client,
            kind: access.kind,
            channel: access.channel,
            address: Some(self.address),
        }
    }

    fn report(&self, access: &Access<'_>, deed: Deed) -> Option<OpenReport> {
        let notifications = self.observer.notifications.as_ref()?;
        notifications.begin(&notifications::Access {
            resource: Resource::Channels(access.kind),
            channel: access.channel,
            client: access.client,
            message_id: access.id,
            deed,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The client has gone before the receipts came; the logs have the messages.
        while let Some(begun) = self.expected.pop_front() {
            self.abandon(begun);
        }
    }
}

/// Finishes a record, if there is one.
pub(super) fn finish(report: Option<OpenReport>, result: Result<(), Cow<'static, str>>) {
    if let Some(report) = report {
        report.finish(result);
    }
}

#[cfg(test)]
mod tests;
