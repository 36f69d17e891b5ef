//! `QueuesDownstream`: polls and settlements on one stream.
//!
//! Requests are handled in their order, and none waits: a poll goes to the queue's shard and is
//! answered when its messages come, whatever follows it on the stream meanwhile. A settlement is
//! judged here, against what the client was told, and carried out there; both go the same way, so
//! that a poll right behind a settlement sees what it did. Success is silent.
//!
//! ```text
//!   request ──► poll ─────► waits at the shard ──► answer ──► transaction, open
//!          ──► settlement: what of it is open here? ──► shard ──► (failure: answer)
//! ```

mod requests;
mod transaction_id;
mod transactions;

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use ringmq_proto::kubemq::QueuesDownstreamRequestType as RequestType;

use super::outgoing::Outgoing;
use crate::grpc::codec::downstream::{AnswerHead, begin_answer_frame, failure_frame};
use crate::grpc::observe::{Begun, Place, Watch, finish};
use crate::grpc::{Busy, refused};
use crate::model::Kind;
use crate::notifications::OpenReport;
use crate::shard::{
    Action, Consumer, ConsumerEvent, Delivery, Polled, SettleFailure, Shard, StoreFailure, Which,
};
use crate::wire::server::{Call, MessageReader, ResponseStream};
use crate::wire::status::{Code, Status};
use crate::wire::{Alarm, Gone};
use crate::wire_error::{QueueStreamRefusal, Refusal};

use transaction_id::TransactionId;
use transactions::Transactions;

/// Bytes of answers that wait for the client; with more it is not read from any further.
const UNREAD_BYTES_MAX: usize = 4 << 20;

/// Settlements of a stream that may be on their way to the log; then it is not read on.
const SETTLEMENTS_MAX: usize = 16_384;

/// Bytes that what waits for its outcome may hold of requests; then it is not read on.
const HELD_BYTES_MAX: usize = 4 << 20;

/// How long a client may take to read what it was about to get when the broker ends.
const LEAVING: Duration = Duration::from_millis(300);

/// Serves a stream of polls to its end.
pub(in crate::grpc) async fn queues_downstream(
    shard: Rc<Shard>,
    watch: Watch,
    busy: Busy,
    call: Call,
) {
    let (mut reader, responder) = call.into_parts();
    // The headers go out at once: some clients wait for them before they send.
    let Ok(stream) = responder.start() else {
        return;
    };
    let mut downstream = Downstream::new(shard, watch, stream, busy);
    let ended = downstream.serve(&mut reader).await;
    downstream.end(ended);
}

/// One stream of polls.
struct Downstream {
    shard: Rc<Shard>,
    watch: Watch,
    consumer: Consumer,
    /// A mark is the delivery that is settled when its answer has left.
    out: Outgoing<Delivery>,
    /// By ticket; each has exactly one answer.
    polls: HashMap<u64, OpenPoll>,
    /// By ticket; each has exactly one outcome.
    settlements: HashMap<u64, Settlement>,
    transactions: Transactions<Delivery>,
    /// Bytes that `polls` and `settlements` hold of requests.
    held_bytes: usize,
    ending: Option<Ending>,
    /// While settlements are on their way.
    busy: Busy,
}

/// A poll that waits.
struct OpenPoll {
    transaction: TransactionId,
    request_id: Box<str>,
    auto_ack: bool,
    begun: Begun,
    place: Rc<Place>,
}

/// A settlement whose outcome is not known.
enum Settlement {
    /// The delivery of an answer settles its messages.
    OfAnswer,
    /// What the client asked for.
    Asked {
        transaction: TransactionId,
        request_id: Box<str>,
        request_type: RequestType,
        which: Which,
        report: Option<OpenReport>,
    },
}

impl Settlement {
    fn held_bytes(&self) -> usize {
        match self {
            Self::OfAnswer => 0,
            Self::Asked {
                request_id, which, ..
            } => {
                let list = match which {
                    Which::All => 0,
                    Which::List(sequences) => size_of_val(sequences.as_slice()),
                };
                request_id.len() + list
            }
        }
    }
}

/// Nothing is read any more; what was taken is brought to its end.
struct Ending {
    status: Status,
    /// The client broke the stream's rules: what it holds counts as received.
    broken: bool,
    leaving: Option<Leaving>,
}

/// The call ends by the broker's will: nothing is answered any more.
struct Leaving {
    because: Refusal,
    /// How long the rest may take.
    patience: Alarm,
}

/// What a stream does next.
enum Next {
    Message(Result<Option<Bytes>, Status>),
    /// The broker ends, or the client may not go on.
    Leave(Refusal),
    /// Everything is answered, and the end was decided before.
    Done,
    Gone,
}

impl Downstream {
    fn new(shard: Rc<Shard>, watch: Watch, stream: ResponseStream, busy: Busy) -> Self {
        Self {
            watch,
            consumer: shard.consumer(),
            shard,
            out: Outgoing::new(stream),
            polls: HashMap::default(),
            settlements: HashMap::default(),
            transactions: Transactions::default(),
            held_bytes: 0,
            ending: None,
            busy,
        }
    }

    /// Serves until everything is answered, or the client is gone.
    async fn serve(&mut self, reader: &mut MessageReader) -> Result<(), Gone> {
        let shutdown = self.shard.watch_shutdown();
        loop {
            let next = std::future::poll_fn(|cx| {
                if self.advance(cx).is_err() {
                    return Poll::Ready(Next::Gone);
                }
                if self.is_done(cx) {
                    return Poll::Ready(Next::Done);
                }
                if !self.is_leaving() && shutdown.poll(cx).is_ready() {
                    return Poll::Ready(Next::Leave(Refusal::ShuttingDown));
                }
                if !self.is_leaving()
                    && let Poll::Ready(refusal) = self.poll_closed(cx)
                {
                    return Poll::Ready(Next::Leave(refusal));
                }
                if self.ending.is_some() || !self.may_read() {
                    return Poll::Pending;
                }
                if self.watch.gate.poll_may_read(cx).is_pending() {
                    return Poll::Pending;
                }
                reader.poll_message(cx).map(Next::Message)
            })
            .await;
            match next {
                Next::Message(Ok(Some(message))) => self.take_batch(reader, &message),
                Next::Message(Ok(None)) => self.half_closed(),
                Next::Message(Err(status)) if status.code() == Code::Cancelled => return Err(Gone),
                Next::Message(Err(status)) => self.broken(status),
                Next::Leave(refusal) => self.leave(refusal),
                Next::Done => return Ok(()),
                Next::Gone => return Err(Gone),
            }
        }
    }

    /// Takes what has come back from the shards, sends what the client takes, and settles what it
    /// has got.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        // Before anything counts as left: what a reset threw away does, too.
        if self.out.poll_reset(cx).is_ready() {
            return Err(Gone);
        }
        while let Poll::Ready(event) = self.consumer.poll_event(cx) {
            self.take_event(event);
        }
        self.out.poll_send(cx)?;
        while let Poll::Ready(delivery) = self.out.poll_left(cx) {
            let ticket = self
                .consumer
                .settle(delivery, Which::All, Action::Ack, true);
            self.settlements.insert(ticket, Settlement::OfAnswer);
        }
        let busy = !self.settlements.is_empty() || self.out.has_marks();
        let patient = !self.patience_is_over(cx);
        self.busy.set(busy && patient);
        Ok(())
    }

    /// Whether the broker ends the call and the client has had its time.
    fn patience_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let ending = self.ending.as_mut();
        let leaving = ending.and_then(|ending| ending.leaving.as_mut());
        leaving.is_some_and(|leaving| leaving.patience.poll(cx).is_ready())
    }

    fn may_read(&self) -> bool {
        self.out.bytes() < UNREAD_BYTES_MAX
            && self.settlements.len() < SETTLEMENTS_MAX
            && self.held_bytes < HELD_BYTES_MAX
    }

    fn is_leaving(&self) -> bool {
        self.leaving().is_some()
    }

    /// Why the broker ends the call, if it does.
    fn leaving(&self) -> Option<&Refusal> {
        let ending = self.ending.as_ref();
        let leaving = ending.and_then(|ending| ending.leaving.as_ref());
        leaving.map(|leaving| &leaving.because)
    }

    /// Ready when the client may not go on. What it holds it may settle under the rules that it
    /// got it by; a poll that waits is asked for again.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let polls = &self.polls;
        self.watch.gate.poll_closed(cx, |gate| {
            let mut places = polls.values().map(|poll| &poll.place);
            places.try_for_each(|place| {
                gate.allow_standing(Kind::Queues, &place.client, &place.channel)
            })
        })
    }

    fn is_done(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.is_none() {
            return false;
        }
        let answered = self.settlements.is_empty() && self.out.is_empty();
        if self.is_leaving() {
            // In the middle of an answer there is no orderly end: the connection's end is it.
            return answered || (self.patience_is_over(cx) && self.out.bytes() == 0);
        }
        answered && self.polls.is_empty()
    }

    /// Handles a request and all that have arrived behind it.
    fn take_batch(&mut self, reader: &mut MessageReader, first: &Bytes) {
        self.take_request(first);
        let mut goes_on = self.watch.gate.read(first.len());
        while goes_on && self.may_read() {
            match reader.try_message() {
                Ok(Some(message)) => {
                    self.take_request(&message);
                    goes_on = self.watch.gate.read(message.len());
                }
                // Asked again by the one who waits.
                Ok(None) => return,
                Err(status) => return self.broken(status),
            }
        }
    }

    fn take_event(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Polled { ticket, outcome } => {
                if let Some(poll) = self.polls.remove(&ticket) {
                    self.held_bytes -= poll.request_id.len();
                    self.answer_poll(poll, outcome);
                }
            }
            ConsumerEvent::Settled { ticket, outcome } => {
                if let Some(settlement) = self.settlements.remove(&ticket) {
                    self.held_bytes -= settlement.held_bytes();
                    self.settled(settlement, outcome);
                }
            }
            ConsumerEvent::LeaseExpired {
                delivery,
                sequences,
            } => self.transactions.expired(delivery, &sequences),
            // Nobody drains here.
            ConsumerEvent::Drained { .. } => {}
        }
    }

    fn answer_poll(&mut self, mut poll: OpenPoll, outcome: Result<Polled, StoreFailure>) {
        let ends = matches!(outcome, Err(StoreFailure::ShuttingDown));
        if self.is_leaving() || ends {
            // The end of the call is the answer, and what has come goes back with everything else.
            let because = self.leaving().unwrap_or(&Refusal::ShuttingDown);
            return self.watch.polled(poll.begun, Err(because));
        }
        let outcome = outcome.map_err(Refusal::from);
        if let Ok(polled) = &outcome {
            self.watch.handed_out(&mut poll.begun, polled);
        }
        let figures = outcome.as_ref();
        let figures = figures.map(|polled| (polled.sequences.len(), polled.bytes));
        self.watch.polled(poll.begun, figures);
        let transaction_id = poll.transaction.to_string();
        let head = AnswerHead {
            transaction_id: &transaction_id,
            request_id: &poll.request_id,
            request_type: RequestType::Get.into(),
        };
        let polled = match outcome {
            Ok(polled) => polled,
            Err(refusal) => {
                self.transactions.complete(poll.transaction);
                return self.fail(&head, &refusal.into());
            }
        };
        debug_assert_eq!(
            polled.bytes,
            polled.parts.iter().map(Bytes::len).sum::<usize>()
        );
        self.out
            .write(|out| begin_answer_frame(&head, polled.bytes, out));
        for part in polled.parts {
            self.out.push(part);
        }
        match polled.delivery {
            Some(delivery) if !poll.auto_ack => {
                let (id, sequences) = (poll.transaction, &polled.sequences);
                let place = Some(poll.place);
                self.transactions.begin(id, delivery, place, sequences);
                if self.ending.is_some() {
                    // It came just then, and cannot be settled any more.
                    self.give_back(poll.transaction);
                }
            }
            Some(delivery) => {
                self.transactions.complete(poll.transaction);
                self.out.mark(delivery);
            }
            None => self.transactions.complete(poll.transaction),
        }
    }

    fn settled(&mut self, settlement: Settlement, outcome: Result<(), SettleFailure>) {
        let (transaction, request_id, request_type, which, report) = match settlement {
            Settlement::OfAnswer => {
                if let Err(failure) = outcome {
                    tracing::debug!(%failure, "messages of an answer were not settled");
                }
                return;
            }
            Settlement::Asked {
                transaction,
                request_id,
                request_type,
                which,
                report,
            } => (transaction, request_id, request_type, which, report),
        };
        let refusal = match outcome {
            Ok(()) => {
                finish(report, Ok(()));
                return self.transactions.confirmed(transaction);
            }
            Err(SettleFailure::LeaseLost { sequence }) => {
                self.transactions.broke_off(transaction, sequence, &which);
                requests::lease_lost(request_type, sequence)
            }
            Err(SettleFailure::NotMoved { sequence, failure }) => {
                self.transactions.confirmed(transaction);
                QueueStreamRefusal::NotRequeued {
                    sequence: sequence.get(),
                    refusal: failure.into(),
                }
            }
            Err(SettleFailure::Store(failure)) => {
                self.transactions.confirmed(transaction);
                Refusal::from(failure).into()
            }
        };
        finish(report, Err(refusal.text()));
        let transaction_id = transaction.to_string();
        let head = AnswerHead {
            transaction_id: &transaction_id,
            request_id: &request_id,
            request_type: request_type.into(),
        };
        self.fail(&head, &refusal);
    }

    /// Answers with a failure, and counts it.
    fn fail(&mut self, head: &AnswerHead<'_>, refusal: &QueueStreamRefusal) {
        count_refused(&self.shard, refusal);
        let text = refusal.text();
        self.out.write(|out| failure_frame(head, &text, out));
    }

    /// The client has said all it had to say. What it cannot settle any more goes back, and polls
    /// that would bring such messages do not wait.
    fn half_closed(&mut self) {
        for transaction in self.transactions.open() {
            self.give_back(transaction);
        }
        for (ticket, poll) in &self.polls {
            if !poll.auto_ack {
                self.consumer.cancel(*ticket);
            }
        }
        self.ending.get_or_insert(Ending {
            status: Status::new(Code::Ok, ""),
            broken: false,
            leaving: None,
        });
    }

    /// Returns what is open of a transaction, as if it had not been received.
    fn give_back(&mut self, transaction: TransactionId) {
        if let Some(delivery) = self.transactions.give_back(transaction) {
            // Nobody hears of it: a failure means that they are back already.
            self.consumer
                .settle(delivery, Which::All, Action::Return, false);
        }
    }

    /// The client sent what is no message.
    fn broken(&mut self, status: Status) {
        for ticket in self.polls.keys() {
            self.consumer.cancel(*ticket);
        }
        self.ending.get_or_insert(Ending {
            status,
            broken: true,
            leaving: None,
        });
    }

    /// The broker ends the call.
    fn leave(&mut self, because: Refusal) {
        for ticket in self.polls.keys() {
            self.consumer.cancel(*ticket);
        }
        self.ending = Some(Ending {
            status: refused(&self.shard, because.clone()),
            broken: false,
            leaving: Some(Leaving {
                because,
                patience: Alarm::new(LEAVING),
            }),
        });
    }

    /// Gives back what is not settled, and ends the call.
    fn end(self, ended: Result<(), Gone>) {
        // Who had said all before it was gone did not break; nor did who was gone after the broker
        // began to end.
        let Some(ending) = self.ending.filter(|ending| !ending.broken || ended.is_ok()) else {
            return;
        };
        // First the messages, then the status: who sees it finds them in their queue.
        if ending.broken {
            drop(self.consumer);
        } else {
            self.consumer.close();
        }
        if ended.is_ok() {
            self.out.into_stream().finish(ending.status);
        }
    }
}

/// Counts a request that was refused.
pub(super) fn count_refused(shard: &Shard, refusal: &QueueStreamRefusal) {
    match refusal {
        QueueStreamRefusal::Common(refusal) | QueueStreamRefusal::NotRequeued { refusal, .. } => {
            refused(shard, refusal.clone());
        }
        _ => shard.counters.refusals_invalid.increment(),
    }
}
