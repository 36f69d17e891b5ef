//! `SendEventsStream`: events in, results out, in the order of the events.
//!
//! A plain event is silent unless it is refused, or the caller asks for all results by the metadata
//! [`RESULTS`]. A stored event has its result when it is durable; the stream is read on meanwhile,
//! up to a bound, and whatever comes behind an event that is not yet durable keeps its place behind
//! it.

mod results;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::codec::event::EventView;
use super::codec::queue::QueueLimits;
use super::codec::sender::Signed;
use super::codec::validate;
use super::events::{Checked, NoRoom, count_received};
use super::observe::{Access, Watch};
use super::routed::{Handed, Routed, told};
use super::{Busy, ended, refused};
use crate::model::name::Target;
use crate::rt;
use crate::security::Action;
use crate::shard::{Receipts, Shard};
use crate::wire::server::{Call, MessageReader, ResponseStream};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

use results::Results;

/// Metadata by which a caller asks for a result of each event: `all`. Clients of gRPC do not expect
/// those of plain ones.
const RESULTS: &str = "ringmq-results";

pub(super) async fn send_events_stream(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    watch: Watch,
    busy: Busy,
    call: Call,
) {
    let answers_all = call.metadata(RESULTS) == Some("all");
    let (mut reader, responder) = call.into_parts();
    // The headers go out at once: some clients wait for them before they send.
    let Ok(stream) = responder.start() else {
        return;
    };
    let mut publisher = Publisher {
        receipts: shard.receipts(),
        shard,
        limits,
        watch,
        stream,
        results: Results::default(),
        answers_all,
        busy,
    };
    if let Ok(status) = publisher.serve(&mut reader).await {
        publisher.stream.finish(status);
    }
}

/// One publish stream.
struct Publisher {
    shard: Rc<Shard>,
    /// Of the queues that a route may lead to.
    limits: Rc<QueueLimits>,
    watch: Watch,
    stream: ResponseStream,
    /// INVARIANT: as many outstanding ones as results that wait, and as many as are expected.
    receipts: Receipts,
    results: Results,
    /// Plain events that were taken have a result, too.
    answers_all: bool,
    /// While receipts are outstanding.
    busy: Busy,
}

/// The client has gone.
struct Gone;

/// What became of an event that was not held up.
enum Taken {
    /// It is on its way, or was refused.
    Done,
    /// It goes to a route.
    Route,
}

/// What a publish stream does next.
enum Next {
    Message(Result<Option<Bytes>, Status>),
    /// The broker ends, or the client may send nothing any more.
    End(Refusal),
    /// Everything is answered, and the end was decided before.
    Answered,
    Gone,
}

impl Publisher {
    /// Serves until the end; gives the status that ends the call.
    async fn serve(&mut self, reader: &mut MessageReader) -> Result<Status, Gone> {
        let shutdown = self.shard.watch_shutdown();
        let mut end: Option<Status> = None;
        loop {
            let ending = end.is_some();
            let next = std::future::poll_fn(|cx| {
                if self.poll_answers(cx).is_ready() {
                    return Poll::Ready(Next::Gone);
                }
                if ending {
                    // What was taken is answered, whyever the stream ends.
                    return match self.results.is_empty() {
                        true => Poll::Ready(Next::Answered),
                        false => Poll::Pending,
                    };
                }
                if shutdown.poll(cx).is_ready() {
                    return Poll::Ready(Next::End(Refusal::ShuttingDown));
                }
                // What is sent to which channel is asked for with each event.
                if let Poll::Ready(refusal) = self.watch.gate.poll_closed(cx, |_| Ok(())) {
                    return Poll::Ready(Next::End(refusal));
                }
                if self.results.is_full() || self.watch.gate.poll_may_read(cx).is_pending() {
                    return Poll::Pending;
                }
                reader.poll_message(cx).map(Next::Message)
            })
            .await;
            match next {
                Next::Message(Ok(Some(message))) => {
                    end = self.take_batch(reader, message).await?.err();
                }
                Next::Message(Ok(None)) => end = Some(Status::new(Code::Ok, "")),
                Next::Message(Err(status)) => end = Some(status),
                Next::End(refusal) => end = Some(ended(&self.shard, refusal)),
                Next::Answered => return end.ok_or(Gone),
                Next::Gone => return Err(Gone),
            }
        }
    }

    /// Turns receipts into results and sends what may go, in one write. Ready when the client has
    /// gone.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Gone);
        }
        while self.results.are_waiting() {
            let Poll::Ready(outcome) = self.receipts.poll_front(cx) else {
                break;
            };
            let outcome = outcome.map_err(Refusal::from);
            self.watch.outcome(outcome.as_ref().copied());
            if let Some(fate) = self.results.routed_front() {
                fate.outcome(outcome.map_err(|refusal| told(&self.shard, refusal)));
                self.results.copy_settled();
                continue;
            }
            match outcome {
                Ok(()) => self.results.stored(),
                Err(refusal) => {
                    self.results.not_stored(&refusal.text());
                    refused(&self.shard, refusal);
                }
            }
        }
        self.busy.set(self.results.are_waiting());
        while self.results.ready_bytes() > 0 {
            let want = self.results.ready_bytes();
            let sent = match self.stream.poll_send_capacity(want, cx) {
                Poll::Ready(Ok(granted)) => self.stream.send_frames(self.results.take(granted)),
                Poll::Ready(Err(gone)) => Err(gone),
                Poll::Pending => break,
            };
            if sent.is_err() {
                return Poll::Ready(Gone);
            }
        }
        Poll::Pending
    }

    /// Publishes a message and all that have arrived behind it, at one time of day.
    async fn take_batch(
        &mut self,
        reader: &mut MessageReader,
        first: Bytes,
    ) -> Result<Result<(), Status>, Gone> {
        let now_ns = rt::unix_ns();
        let mut message = first;
        loop {
            // Without an await as long as there is room: that is every time but under a flood.
            loop {
                match self.publish(&message, now_ns) {
                    Ok(Taken::Done) => break,
                    Ok(Taken::Route) => {
                        Box::pin(self.publish_routed(&message, now_ns)).await?;
                        break;
                    }
                    Err(no_room) => {
                        if !self.wait_for_room(no_room, &message).await? {
                            break;
                        }
                    }
                }
            }
            let goes_on = self.watch.gate.read(message.len());
            if !goes_on || self.results.is_full() {
                return Ok(Ok(()));
            }
            message = match reader.try_message() {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(Ok(())),
                Err(status) => return Ok(Err(status)),
            };
        }
    }

    /// Publishes one event.
    fn publish(&mut self, message: &[u8], now_ns: i64) -> Result<Taken, NoRoom> {
        let bound = match self.watch.gate.bind(message, Signed::Other) {
            Ok(bound) => bound,
            Err(refusal) => {
                let event_id = EventView::event_id_of(message).unwrap_or_default();
                self.refuse(message, event_id, refusal);
                return Ok(Taken::Done);
            }
        };
        let message = &*bound;
        let event = match EventView::parse(message) {
            Ok(event) => event,
            Err(error) => {
                // The id where it can still be read: the client matches results by it.
                let event_id = EventView::event_id_of(message).unwrap_or_default();
                self.refuse(message, event_id, error.into());
                return Ok(Taken::Done);
            }
        };
        let checked = match validate::validate_event(&event) {
            Ok(Target::Channel) => Checked::new(&self.shard, &event, now_ns),
            Ok(Target::Route) => return Ok(Taken::Route),
            Err(refusal) => Err(refusal),
        };
        let checked = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                self.refuse(message, event.event_id, refusal);
                return Ok(Taken::Done);
            }
        };
        let access = Access::event(&event, &checked.event_id, message.len());
        if let Err(refusal) = self.watch.gate.allow(&access, Action::Write) {
            self.refuse(message, event.event_id, refusal);
            return Ok(Taken::Done);
        }
        if event.store {
            checked.send(&self.shard, Some(&self.receipts))?;
            self.results.wait(&checked.event_id, checked.stored_len());
            self.watch.expect(&access);
            debug_assert_eq!(self.receipts.outstanding(), self.results.waiting_count());
            debug_assert_eq!(self.receipts.outstanding(), self.watch.expected());
        } else {
            checked.send(&self.shard, None)?;
            count_received(&self.shard, message);
            self.watch.sent(&access);
            if self.answers_all {
                self.results.taken(&checked.event_id);
            }
        }
        Ok(Taken::Done)
    }

    /// Publishes an event to the targets of its route.
    async fn publish_routed(&mut self, message: &[u8], now_ns: i64) -> Result<(), Gone> {
        // It was bound, parsed and checked a moment ago.
        let bound = self.watch.gate.bind(message, Signed::Other);
        let bound = bound.unwrap_or_default();
        let message = &*bound;
        let Ok(event) = EventView::parse(message) else {
            return Ok(());
        };
        let (shard, limits) = (self.shard.clone(), self.limits.clone());
        let mut routed = match Routed::event(&shard, &event, message, now_ns) {
            Ok(routed) => routed,
            Err(refusal) => {
                self.refuse(message, event.event_id, refusal);
                return Ok(());
            }
        };
        while let Err(no_room) = routed.send(&shard, &limits, &self.receipts, &mut self.watch) {
            if let Err(refusal) = self.room(no_room, routed.channel()).await? {
                routed.give_up(&shard, refusal, &mut self.watch);
            }
        }
        let Handed { id, fate, .. } = routed.handed_over();
        if fate.awaited() > 0 {
            let (bytes, silent) = (message.len(), !event.store && !self.answers_all);
            self.results.wait_routed(&id, bytes, silent, fate);
        } else if let Some(failure) = fate.failure() {
            self.results.refuse(&id, &failure);
        } else if self.answers_all {
            self.results.taken(&id);
        }
        debug_assert_eq!(self.receipts.outstanding(), self.results.waiting_count());
        Ok(())
    }

    /// Waits until the event may be tried again; false when it was refused instead.
    async fn wait_for_room(&mut self, no_room: NoRoom, message: &[u8]) -> Result<bool, Gone> {
        let (event_id, channel) =
            EventView::parse(message).map_or(("", ""), |event| (event.event_id, event.channel));
        match self.room(no_room, channel).await? {
            Ok(()) => Ok(true),
            Err(refusal) => {
                self.refuse(message, event_id, refusal);
                Ok(false)
            }
        }
    }

    /// Waits for room on the way to a channel, while the forerunners are answered.
    async fn room(&mut self, no_room: NoRoom, channel: &str) -> Result<Result<(), Refusal>, Gone> {
        let shard = self.shard.clone();
        let mut room = pin!(no_room.wait(&shard, channel));
        std::future::poll_fn(|cx| {
            if self.poll_answers(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            room.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    fn refuse(&mut self, message: &[u8], event_id: &str, refusal: Refusal) {
        self.watch.refused_event(message, &refusal);
        self.results.refuse(event_id, &refusal.text());
        refused(&self.shard, refusal);
    }
}
