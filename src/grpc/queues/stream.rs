//! `StreamQueueMessage`: one message on each stream, received and then settled.
//!
//! ```text
//!   idle ──Receive──► waiting ──message──► holding ──Ack, Reject, Resend──► settling ──► end
//!                        │                  │    └──SendModified──► storing ──┘
//!                        └─nothing, 138──►  └─visibility over, 129─────────────────────► end
//! ```
//!
//! Requests are handled one after the other: while a settlement is on its way nothing is read. The
//! answer to it comes when it is committed, and ends the call.

mod requests;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::downstream::count_refused;
use super::outgoing::Outgoing;
use crate::grpc::codec::queue::QueueLimits;
use crate::grpc::codec::queue_stream::{
    StreamAnswerHead, begin_stream_answer_frame, stream_failure_frame,
};
use crate::grpc::observe::{Begun, Deed, Place, Watch, finish};
use crate::grpc::{Busy, refused};
use crate::model::Kind;
use crate::notifications::OpenReport;
use crate::rt;
use crate::shard::{
    Action, Consumer, ConsumerEvent, Delivery, Polled, SettleFailure, Shard, StoreFailure, Which,
};
use crate::wire::server::{Call, MessageReader};
use crate::wire::status::{Code, Status};
use crate::wire::{Alarm, Gone};
use crate::wire_error::{QueueStreamRefusal, Refusal};

/// Bytes of answers that wait for the client; with more it is not read from any further.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// How long the last answer goes ahead of the end of its call: the first major of the Java SDK
/// forgets an answer that it has not looked at when the end comes.
const LAST_ANSWER: Duration = Duration::from_millis(3);

/// Serves a stream of one message to its end.
pub(in crate::grpc) async fn stream_queue_message(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    watch: Watch,
    busy: Busy,
    call: Call,
) {
    let (mut reader, responder) = call.into_parts();
    let Ok(stream) = responder.start() else {
        return;
    };
    let mut stream = QueueStream {
        consumer: shard.consumer(),
        shard,
        limits,
        watch,
        begun: None,
        place: None,
        report: None,
        out: Outgoing::new(stream),
        phase: Phase::Idle,
        last: Asked::default(),
        visibility: None,
        half_closed: false,
        ended: None,
        busy,
    };
    let ended = stream.serve(&mut reader).await;
    stream.end(ended).await;
}

/// A stream of one message.
struct QueueStream {
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    watch: Watch,
    /// The poll that waits, or the message that is being stored.
    begun: Option<Begun>,
    /// Where the message comes from, when anybody wants to know.
    place: Option<Rc<Place>>,
    /// Of the settlement that is on its way.
    report: Option<OpenReport>,
    consumer: Consumer,
    out: Outgoing<()>,
    phase: Phase,
    /// The last request, whatever became of it: the end of the visibility is told in its name.
    last: Asked,
    /// Ends a stream that holds no message; that of a message is its lease.
    visibility: Option<Alarm>,
    half_closed: bool,
    /// Nothing is read any more; the call ends when everything is sent.
    ended: Option<Ended>,
    /// While something is on its way to the log.
    busy: Busy,
}

/// A request, as far as its answer repeats it.
#[derive(Clone, Debug, Default)]
struct Asked {
    request_id: Box<str>,
    request_type: i32,
}

/// A message that is the client's for now.
#[derive(Clone, Copy, Debug)]
struct Held {
    delivery: Delivery,
    sequence: u64,
}

type Storing = Pin<Box<dyn Future<Output = Result<(), Refusal>>>>;

enum Phase {
    /// Nothing was received yet.
    Idle,
    Waiting {
        ticket: u64,
        asked: Asked,
    },
    Holding(Held),
    /// Another message takes the place of the one that is held; it is acknowledged then.
    Storing {
        storing: Storing,
        held: Held,
        asked: Asked,
        /// The visibility has ended meanwhile.
        lost: bool,
    },
    /// The message is being settled.
    Settling {
        ticket: u64,
        asked: Asked,
    },
}

struct Ended {
    status: Status,
    /// The client broke the stream's rules: what it holds counts as received.
    broken: bool,
}

impl Ended {
    fn ok() -> Self {
        Self {
            status: Status::new(Code::Ok, ""),
            broken: false,
        }
    }
}

/// What a stream does next.
enum Next {
    Message(Result<Option<Bytes>, Status>),
    /// The broker ends, or the client may not go on.
    Leave(Refusal),
    Done,
    Gone,
}

impl QueueStream {
    async fn serve(&mut self, reader: &mut MessageReader) -> Result<(), Gone> {
        let shutdown = self.shard.watch_shutdown();
        let mut told = false;
        loop {
            let next = std::future::poll_fn(|cx| {
                if self.advance(cx).is_err() {
                    return Poll::Ready(Next::Gone);
                }
                if self.ended.is_some() && self.out.is_empty() {
                    return Poll::Ready(Next::Done);
                }
                if !told && shutdown.poll(cx).is_ready() {
                    return Poll::Ready(Next::Leave(Refusal::ShuttingDown));
                }
                if !told && let Poll::Ready(refusal) = self.poll_closed(cx) {
                    return Poll::Ready(Next::Leave(refusal));
                }
                if !self.may_read() || self.watch.gate.poll_may_read(cx).is_pending() {
                    return Poll::Pending;
                }
                reader.poll_message(cx).map(Next::Message)
            })
            .await;
            match next {
                Next::Message(Ok(Some(message))) => {
                    self.take_request(&message);
                    self.watch.gate.read(message.len());
                }
                Next::Message(Ok(None)) => self.half_close(),
                Next::Message(Err(status)) if status.code() == Code::Cancelled => return Err(Gone),
                Next::Message(Err(status)) => {
                    let broken = true;
                    self.ended.get_or_insert(Ended { status, broken });
                }
                Next::Leave(refusal) => {
                    told = true;
                    self.leave(refusal);
                }
                Next::Done => return Ok(()),
                Next::Gone => return Err(Gone),
            }
        }
    }

    /// Takes what has happened, and sends what the client takes.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        if self.out.poll_reset(cx).is_ready() {
            return Err(Gone);
        }
        self.poll_storing(cx);
        while let Poll::Ready(event) = self.consumer.poll_event(cx) {
            self.take_event(event);
        }
        if let Some(visibility) = &mut self.visibility
            && visibility.poll(cx).is_ready()
        {
            self.visibility = None;
            self.visibility_ended();
        }
        self.busy.set(self.is_settling());
        self.out.poll_send(cx)
    }

    fn may_read(&self) -> bool {
        let open = self.ended.is_none() && !self.half_closed;
        open && !self.is_settling() && self.out.bytes() < UNREAD_BYTES_MAX
    }

    fn is_settling(&self) -> bool {
        matches!(self.phase, Phase::Storing { .. } | Phase::Settling { .. })
    }

    fn take_event(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Polled { outcome, .. } => self.polled(outcome),
            ConsumerEvent::Settled { ticket, outcome } => self.settled(ticket, outcome),
            ConsumerEvent::LeaseExpired { .. } => self.lease_expired(),
            // Nobody drains here.
            ConsumerEvent::Drained { .. } => {}
        }
    }

    fn polled(&mut self, outcome: Result<Polled, StoreFailure>) {
        let Phase::Waiting { asked, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        if let Some(mut begun) = self.begun.take() {
            if let Ok(polled) = &outcome {
                self.watch.handed_out(&mut begun, polled);
            }
            let figures = match &outcome {
                Ok(polled) => Ok((polled.sequences.len(), polled.bytes)),
                Err(failure) => Err(Refusal::from(failure.clone())),
            };
            self.watch.polled(begun, figures.as_ref().copied());
        }
        if self.ended.is_some() {
            return;
        }
        let polled = match outcome {
            Ok(polled) => polled,
            Err(StoreFailure::ShuttingDown) => return self.leave(Refusal::ShuttingDown),
            Err(failure) => {
                self.fail(&asked, &Refusal::from(failure).into());
                self.ended = Some(Ended::ok());
                return;
            }
        };
        let (Some(delivery), Some(sequence)) = (polled.delivery, polled.sequences.first()) else {
            self.fail(&asked, &QueueStreamRefusal::NoMessage);
            self.ended = Some(Ended::ok());
            return;
        };
        let head = asked.head();
        self.out
            .write(|out| begin_stream_answer_frame(&head, polled.bytes, out));
        for part in polled.parts {
            self.out.push(part);
        }
        // From now on its lease is what ends.
        self.visibility = None;
        self.phase = Phase::Holding(Held {
            delivery,
            sequence: sequence.get(),
        });
        if self.half_closed {
            // It came just then, and cannot be settled any more.
            self.ended = Some(Ended::ok());
        }
    }

    fn settled(&mut self, ticket: u64, outcome: Result<(), SettleFailure>) {
        let asked = match &self.phase {
            // An extension that came too late is followed by the end of the lease.
            Phase::Settling {
                ticket: known,
                asked,
            } if *known == ticket => asked.clone(),
            _ => return,
        };
        self.phase = Phase::Idle;
        match outcome {
            Ok(()) => self.succeed(&asked),
            Err(SettleFailure::LeaseLost { .. }) => {
                self.fail(&asked, &QueueStreamRefusal::VisibilityExpired);
            }
            Err(SettleFailure::NotMoved { failure, .. }) => {
                tracing::debug!(%failure, "a message was not sent on");
                self.fail(&asked, &Refusal::QueueSend.into());
            }
            Err(SettleFailure::Store(failure)) => {
                self.fail(&asked, &Refusal::from(failure).into());
            }
        }
        self.ended.get_or_insert_with(Ended::ok);
    }

    fn lease_expired(&mut self) {
        match &mut self.phase {
            Phase::Holding(_) => self.visibility_ended(),
            Phase::Storing { lost, .. } => *lost = true,
            // The outcome of the settlement says which of them came first.
            Phase::Idle | Phase::Waiting { .. } | Phase::Settling { .. } => {}
        }
    }

    fn visibility_ended(&mut self) {
        if self.ended.is_none() && !self.is_settling() {
            let last = self.last.clone();
            self.fail(&last, &QueueStreamRefusal::VisibilityExpired);
            self.phase = Phase::Idle;
            self.ended = Some(Ended::ok());
        }
    }

    /// Acknowledges the message that is held when the one that takes its place is stored.
    fn poll_storing(&mut self, cx: &mut Context<'_>) {
        let Phase::Storing {
            storing,
            held,
            asked,
            lost,
        } = &mut self.phase
        else {
            return;
        };
        let Poll::Ready(outcome) = storing.as_mut().poll(cx) else {
            return;
        };
        let (held, asked, lost) = (*held, std::mem::take(asked), *lost);
        if let Some(begun) = self.begun.take() {
            let outcome = outcome.as_ref().copied();
            self.watch.conclude_send(begun, outcome);
        }
        match outcome {
            Ok(()) => {
                self.report = self.settling(&asked, Deed::Requeue);
                let ticket = self
                    .consumer
                    .settle(held.delivery, Which::All, Action::Ack, true);
                self.phase = Phase::Settling { ticket, asked };
            }
            Err(refusal) => {
                tracing::debug!(%refusal, "a modified message was not sent");
                self.fail(&asked, &Refusal::QueueSend.into());
                self.phase = Phase::Holding(held);
                if lost {
                    self.visibility_ended();
                }
            }
        }
    }

    /// The record of a settlement that begins.
    fn settling(&self, asked: &Asked, deed: Deed) -> Option<OpenReport> {
        let place = self.place.as_ref();
        self.watch.settling(place, "", &asked.request_id, deed)
    }

    /// The client has said all it had to say.
    fn half_close(&mut self) {
        self.half_closed = true;
        match &self.phase {
            Phase::Waiting { ticket, .. } => self.consumer.cancel(*ticket),
            Phase::Idle | Phase::Holding(_) => {
                self.ended.get_or_insert_with(Ended::ok);
            }
            Phase::Storing { .. } | Phase::Settling { .. } => {}
        }
    }

    /// The broker ends the call. What is being settled is answered.
    fn leave(&mut self, refusal: Refusal) {
        if !self.is_settling() && self.ended.is_none() {
            self.ended = Some(Ended {
                status: refused(&self.shard, refusal),
                broken: false,
            });
        }
    }

    /// Ready when the client may not go on. What it holds it may settle under the rules that it
    /// got it by.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let waits = matches!(self.phase, Phase::Waiting { .. });
        let place = self.place.as_ref().filter(|_| waits);
        self.watch.gate.poll_closed(cx, |gate| match place {
            Some(place) => gate.allow_standing(Kind::Queues, &place.client, &place.channel),
            None => Ok(()),
        })
    }

    fn succeed(&mut self, asked: &Asked) {
        finish(self.report.take(), Ok(()));
        let head = asked.head();
        self.out
            .write(|out| begin_stream_answer_frame(&head, 0, out));
    }

    fn fail(&mut self, asked: &Asked, refusal: &QueueStreamRefusal) {
        count_refused(&self.shard, refusal);
        let (head, text) = (asked.head(), refusal.text());
        finish(self.report.take(), Err(text.clone()));
        self.out
            .write(|out| stream_failure_frame(&head, &text, out));
    }

    /// Gives back what is not settled, and ends the call.
    async fn end(mut self, ended: Result<(), Gone>) {
        if let Some(begun) = self.begun.take() {
            self.watch.abandon(begun);
        }
        // Who had said all before it was gone did not break; nor did who was gone after the broker
        // began to end.
        let Some(end) = self.ended.filter(|end| !end.broken || ended.is_ok()) else {
            return;
        };
        if end.broken {
            drop(self.consumer);
        } else {
            self.consumer.close();
        }
        if ended.is_ok() {
            if matches!(end.status.code(), Code::Ok | Code::PermissionDenied) {
                rt::sleep(LAST_ANSWER).await;
            }
            self.out.into_stream().finish(end.status);
        }
    }
}

impl Asked {
    fn head(&self) -> StreamAnswerHead<'_> {
        StreamAnswerHead {
            request_id: &self.request_id,
            request_type: self.request_type,
        }
    }
}
