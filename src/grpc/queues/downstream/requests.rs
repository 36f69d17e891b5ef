//! The requests on a stream of polls.

use std::time::Duration;

use ringmq_proto::kubemq::QueuesDownstreamRequestType as RequestType;
use ringmq_storage::Sequence;

use super::transaction_id::TransactionId;
use super::transactions::{Found, Transaction};
use super::{Downstream, OpenPoll, Settlement};
use crate::engine::queues::MoveReason;
use crate::grpc::codec::downstream::{AnswerHead, DownstreamView, MESSAGES_FIELD, offsets_frame};
use crate::grpc::codec::queue::validate::check_queue;
use crate::grpc::codec::sender::Signed;
use crate::grpc::codec::validate::check_client_id;
use crate::grpc::observe::{Access, Deed};
use crate::security;
use crate::shard::{Action, PollRequest, Which};
use crate::wire_error::{QueueStreamRefusal, Refusal};

/// What a poll asks for that does not say.
const ITEMS_DEFAULT: u32 = 200_000;

/// Shorter waits are as long as this.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Bytes of one answer, unless a single message is larger: some clients take no more than 4 MiB.
const ANSWER_BYTES_MAX: usize = 7 << 19;

/// Polls that may have full answers side by side. With more of them each may have its part of as
/// many bytes: a client that reads nothing keeps no more.
const FULL_ANSWERS_MAX: usize = 8;

/// Polls of one stream that may wait.
const POLLS_MAX: usize = 1000;

/// Transactions of one stream that may be open.
const TRANSACTIONS_MAX: usize = 16_384;

/// Messages that one stream may hold unsettled. What a transaction costs here and at the queue's
/// shard depends on it.
const MESSAGES_MAX: usize = 1 << 20;

/// Metadata of a poll: for how many seconds the messages are the client's.
const VISIBILITY_SECONDS: &str = "visibility_seconds";

/// How messages are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Ack,
    Nack,
    Requeue,
}

impl Downstream {
    /// Handles one request. Nothing here waits.
    pub(super) fn take_request(&mut self, message: &[u8]) {
        let bound = match self.watch.gate.bind(message, Signed::Other) {
            Ok(bound) => bound,
            Err(refusal) => return self.refuse(message, refusal),
        };
        match DownstreamView::parse(&bound) {
            Ok(view) => self.handle(&view),
            Err(error) => self.refuse(message, error.into()),
        }
    }

    /// Refuses a request whatever it asks for.
    fn refuse(&mut self, message: &[u8], refusal: Refusal) {
        let view = DownstreamView::remains(message);
        self.fail(&head_of(&view), &refusal.into());
    }

    fn handle(&mut self, view: &DownstreamView<'_>) {
        use Verb::{Ack, Nack, Requeue};
        let outcome = match RequestType::try_from(view.request_type) {
            Ok(RequestType::Get) => return self.poll(view),
            Ok(request_type @ RequestType::AckAll) => self.settle_all(view, request_type, Ack),
            Ok(request_type @ RequestType::NAckAll) => self.settle_all(view, request_type, Nack),
            Ok(request_type @ RequestType::ReQueueAll) => {
                self.settle_all(view, request_type, Requeue)
            }
            Ok(request_type @ RequestType::AckRange) => self.settle_range(view, request_type, Ack),
            Ok(request_type @ RequestType::NAckRange) => {
                self.settle_range(view, request_type, Nack)
            }
            Ok(request_type @ RequestType::ReQueueRange) => {
                self.settle_range(view, request_type, Requeue)
            }
            Ok(RequestType::ActiveOffsets) => self.active_offsets(view),
            Ok(RequestType::TransactionStatus) => self.transaction_status(view),
            Ok(RequestType::CloseByClient) => return self.close(view),
            Ok(RequestType::PollRequestTypeUnknown | RequestType::CloseByServer) | Err(_) => {
                Err(self.unknown_request(view))
            }
        };
        if let Err(refusal) = outcome {
            if let Some(deed) = deed(view.request_type) {
                let access = Access::queue("", view.client_id, view.transaction_id);
                self.watch.refused(&access, deed, &refusal);
            }
            let mut head = head_of(view);
            if refusal == QueueStreamRefusal::RequestUnknown {
                head.request_type = RequestType::PollRequestTypeUnknown.into();
            }
            self.fail(&head, &refusal);
        }
    }

    fn poll(&mut self, view: &DownstreamView<'_>) {
        let transaction = TransactionId::random(|bytes| self.shard.fill_random(bytes));
        let access = Access::queue(view.channel, view.client_id, view.request_id);
        let checked = self.check_poll(view);
        let read = security::Action::Read;
        let allowed = checked.and_then(|visibility| {
            self.watch.gate.allow(&access, read)?;
            Ok(visibility)
        });
        match allowed {
            Ok(visibility) => {
                let head_bytes = view.request_id.len() + 64;
                let ticket = self.consumer.poll(&PollRequest {
                    channel: view.channel,
                    items_max: items_max(view.items_max),
                    bytes_max: self.answer_bytes_max().saturating_sub(head_bytes).max(1),
                    wait: wait(view.wait_ms),
                    peek: false,
                    visibility,
                    field: MESSAGES_FIELD,
                });
                let poll = OpenPoll {
                    transaction,
                    request_id: view.request_id.into(),
                    auto_ack: view.auto_ack,
                    begun: self.watch.polling(&access, Deed::Stream),
                    place: self.watch.place(&access),
                };
                self.held_bytes += poll.request_id.len();
                self.polls.insert(ticket, poll);
            }
            Err(refusal) => {
                self.watch.refused(&access, Deed::Stream, &refusal);
                let transaction_id = transaction.to_string();
                let head = AnswerHead {
                    transaction_id: &transaction_id,
                    ..head_of(view)
                };
                self.fail(&head, &refusal);
                self.transactions.complete(transaction);
            }
        }
    }

    /// Checks a poll; gives how long its messages are the client's.
    fn check_poll(
        &self,
        view: &DownstreamView<'_>,
    ) -> Result<Option<Duration>, QueueStreamRefusal> {
        check_client_id(view.client_id)?;
        check_queue(view.channel)?;
        let asked = view.metadata.get(VISIBILITY_SECONDS);
        let asked = asked.map(visibility).transpose()?;
        let visibility = self.shard.queue_visibility(view.channel, asked);
        if self.polls.len() >= POLLS_MAX {
            return Err(QueueStreamRefusal::PollLimit { max: POLLS_MAX });
        }
        if self.transactions.len() >= TRANSACTIONS_MAX {
            return Err(QueueStreamRefusal::TransactionLimit {
                max: TRANSACTIONS_MAX,
            });
        }
        if self.transactions.message_count() >= MESSAGES_MAX {
            return Err(QueueStreamRefusal::MessageLimit { max: MESSAGES_MAX });
        }
        // What settles itself needs no bound.
        Ok(visibility.filter(|_| !view.auto_ack))
    }

    fn answer_bytes_max(&self) -> usize {
        let side_by_side = self.polls.len() + 1;
        ANSWER_BYTES_MAX.min(ANSWER_BYTES_MAX * FULL_ANSWERS_MAX / side_by_side)
    }

    fn settle_all(
        &mut self,
        view: &DownstreamView<'_>,
        request_type: RequestType,
        verb: Verb,
    ) -> Result<(), QueueStreamRefusal> {
        // The reference moves all of a transaction in the manner of an acknowledgement.
        let completed = match verb {
            Verb::Ack | Verb::Requeue => QueueStreamRefusal::AckCompleted,
            Verb::Nack => QueueStreamRefusal::NackCompleted,
        };
        let id = self.open_transaction(view, completed)?;
        let action = self.action(view, verb, id, None)?;
        self.settle(view, request_type, id, Which::All, action);
        Ok(())
    }

    /// Settles a list in its order, up to the first that is not open.
    fn settle_range(
        &mut self,
        view: &DownstreamView<'_>,
        request_type: RequestType,
        verb: Verb,
    ) -> Result<(), QueueStreamRefusal> {
        use QueueStreamRefusal as R;
        let (completed, nothing, wrong): (_, _, fn(i64) -> R) = match verb {
            Verb::Ack => (R::AckCompleted, R::AckNothing, R::AckSequence),
            Verb::Nack => (R::NackCompleted, R::NackNothing, R::NackSequence),
            Verb::Requeue => (R::RequeueCompleted, R::RequeueNothing, R::AckSequence),
        };
        let id = self.open_transaction(view, completed)?;
        if verb == Verb::Requeue && view.requeue_channel.is_empty() {
            return Err(R::RequeueNowhere);
        }
        let first = view.sequences().next().ok_or(nothing)?;
        let transaction = self.transactions.get(id).ok_or(R::TransactionUnknown)?;
        if !to_sequence(first).is_some_and(|first| transaction.is_open(first)) {
            return Err(wrong(first));
        }
        let action = self.action(view, verb, id, to_sequence(first))?;
        let (list, refused) = self.transactions.take_list(id, view.sequences());
        self.hand_over(view, request_type, id, Which::List(list), action);
        refused.map_or(Ok(()), |number| Err(wrong(number)))
    }

    /// What a verb does to messages, of which `first` is the first; `None`: all that are open.
    fn action(
        &mut self,
        view: &DownstreamView<'_>,
        verb: Verb,
        id: TransactionId,
        first: Option<Sequence>,
    ) -> Result<Action, QueueStreamRefusal> {
        match verb {
            Verb::Ack => Ok(Action::Ack),
            Verb::Nack => Ok(Action::Nack),
            Verb::Requeue if view.requeue_channel.is_empty() => {
                Err(QueueStreamRefusal::RequeueNowhere)
            }
            Verb::Requeue => match check_queue(view.requeue_channel) {
                Ok(()) => {
                    let open = self.transactions.get(id);
                    let client_id = match open.and_then(|open| open.place.as_ref()) {
                        // Some SDKs say who they are only when they poll.
                        Some(place) if view.client_id.is_empty() => &place.client,
                        _ => view.client_id,
                    };
                    let target = view.requeue_channel;
                    self.watch.gate.allow_target(client_id, target)?;
                    Ok(Action::Move {
                        reason: MoveReason::Requeue,
                        target: target.into(),
                    })
                }
                Err(refusal) => {
                    let open = self.transactions.get(id);
                    let first = first.or_else(|| open.and_then(|open| open.open().next()));
                    Err(QueueStreamRefusal::NotRequeued {
                        sequence: first.map_or(0, Sequence::get),
                        refusal,
                    })
                }
            },
        }
    }

    fn settle(
        &mut self,
        view: &DownstreamView<'_>,
        request_type: RequestType,
        id: TransactionId,
        which: Which,
        action: Action,
    ) {
        self.transactions.take_all(id);
        self.hand_over(view, request_type, id, which, action);
    }

    /// Has the shard do what was decided here.
    fn hand_over(
        &mut self,
        view: &DownstreamView<'_>,
        request_type: RequestType,
        id: TransactionId,
        which: Which,
        action: Action,
    ) {
        let Some(transaction) = self.transactions.get(id) else {
            return;
        };
        let delivery = transaction.delivery;
        let deed = deed(request_type.into()).unwrap_or(Deed::Ack);
        let (place, request_id) = (transaction.place.as_ref(), view.transaction_id);
        let report = self.watch.settling(place, view.client_id, request_id, deed);
        let ticket = self.consumer.settle(delivery, which.clone(), action, true);
        let settlement = Settlement::Asked {
            transaction: id,
            request_id: view.request_id.into(),
            request_type,
            which,
            report,
        };
        self.held_bytes += settlement.held_bytes();
        self.settlements.insert(ticket, settlement);
    }

    fn active_offsets(&mut self, view: &DownstreamView<'_>) -> Result<(), QueueStreamRefusal> {
        let id = self.open_transaction(view, QueueStreamRefusal::OffsetsCompleted)?;
        self.tell_open(view, Some(id));
        Ok(())
    }

    fn transaction_status(&mut self, view: &DownstreamView<'_>) -> Result<(), QueueStreamRefusal> {
        let id = TransactionId::parse(view.transaction_id);
        match self.transactions.find(id) {
            Found::Open => self.tell_open(view, id),
            Found::Completed => self.tell_open(view, None),
            Found::Unknown => return Err(QueueStreamRefusal::TransactionUnknown),
        }
        Ok(())
    }

    /// Tells the open sequences of a transaction; `None`: it is complete.
    fn tell_open(&mut self, view: &DownstreamView<'_>, id: Option<TransactionId>) {
        let transaction = id.and_then(|id| self.transactions.get(id));
        let open = transaction.into_iter().flat_map(Transaction::open);
        let open = open.map(Sequence::get);
        let frame = offsets_frame(&head_of(view), open, transaction.is_none());
        self.out.push(frame);
    }

    /// Gives back what is open. Clients do this when they leave, whether there is anything or not:
    /// it is never refused.
    fn close(&mut self, view: &DownstreamView<'_>) {
        if let Some(id) = TransactionId::parse(view.transaction_id) {
            self.give_back(id);
        }
    }

    fn unknown_request(&self, view: &DownstreamView<'_>) -> QueueStreamRefusal {
        let id = TransactionId::parse(view.transaction_id);
        match self.transactions.find(id) {
            Found::Unknown => QueueStreamRefusal::TransactionUnknown,
            Found::Open | Found::Completed => QueueStreamRefusal::RequestUnknown,
        }
    }

    fn open_transaction(
        &self,
        view: &DownstreamView<'_>,
        completed: QueueStreamRefusal,
    ) -> Result<TransactionId, QueueStreamRefusal> {
        let id = TransactionId::parse(view.transaction_id);
        match (self.transactions.find(id), id) {
            (Found::Open, Some(id)) => Ok(id),
            (Found::Completed, _) => Err(completed),
            (Found::Open | Found::Unknown, _) => Err(QueueStreamRefusal::TransactionUnknown),
        }
    }
}

/// What a request of this number does to messages that were taken.
fn deed(request_type: i32) -> Option<Deed> {
    match RequestType::try_from(request_type).ok()? {
        RequestType::AckAll | RequestType::AckRange => Some(Deed::Ack),
        RequestType::NAckAll | RequestType::NAckRange => Some(Deed::Nack),
        RequestType::ReQueueAll | RequestType::ReQueueRange => Some(Deed::Requeue),
        _ => None,
    }
}

/// What a late settlement is told: the lease of this message has run out, or of all of them.
pub(super) fn lease_lost(request_type: RequestType, sequence: Sequence) -> QueueStreamRefusal {
    use QueueStreamRefusal as R;
    let number = sequence.get().cast_signed();
    match request_type {
        RequestType::AckRange | RequestType::ReQueueRange => R::AckSequence(number),
        RequestType::NAckRange => R::NackSequence(number),
        RequestType::NAckAll => R::NackCompleted,
        _ => R::AckCompleted,
    }
}

fn head_of<'a>(view: &DownstreamView<'a>) -> AnswerHead<'a> {
    AnswerHead {
        transaction_id: view.transaction_id,
        request_id: view.request_id,
        request_type: view.request_type,
    }
}

fn to_sequence(number: i64) -> Option<Sequence> {
    u64::try_from(number).ok().map(Sequence::new)
}

fn items_max(asked: i32) -> u32 {
    match u32::try_from(asked) {
        Ok(asked) if asked > 0 => asked,
        Ok(_) | Err(_) => ITEMS_DEFAULT,
    }
}

fn wait(asked_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(asked_ms).unwrap_or(0)).max(WAIT_MIN)
}

/// Reads a visibility; 0 is none, as if it were not asked for. What is above the operator's ceiling
/// is lowered to it.
fn visibility(text: &str) -> Result<Duration, QueueStreamRefusal> {
    let seconds = text.trim().parse();
    seconds
        .map(Duration::from_secs)
        .map_err(|_| QueueStreamRefusal::Visibility)
}
