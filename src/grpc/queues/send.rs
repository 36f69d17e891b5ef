//! `SendQueueMessage`, and what every way of sending shares.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{answer_refusal, given_or_new};
use crate::engine::stored::StoredKind;
use crate::grpc::codec::context::Sent;
use crate::grpc::codec::queue::{
    QueueLimits, QueueMessageView, SendFacts, SendOutcome, StoredMessage, send_result, validate,
};
use crate::grpc::codec::sender::Signed;
use crate::grpc::events::NoRoom;
use crate::grpc::gate::Gate;
use crate::grpc::observe::{Access, Begun, Deed, Watch};
use crate::grpc::routed::{Handed, Routed};
use crate::grpc::{Active, refused};
use crate::model::name::Target;
use crate::rt;
use crate::security::Action;
use crate::shard::{Receipts, Shard, StoreBusy, record};
use crate::wire::server::Call;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

pub(in crate::grpc) async fn send_message(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    mut watch: Watch,
    call: Call,
    _active: Active,
) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    let message = message.map(|message| watch.with_context(message, Sent::QueueMessage));
    drop(reader);
    let answer = match message {
        Ok(message) => send(&shard, &limits, &mut watch, message).await,
        Err(status) => Err(status),
    };
    responder.unary(answer);
    record(&shard.latencies.send_queue_message, began);
}

/// What a message comes to.
enum HandedOver {
    Queue {
        /// When all goes well.
        answer: Bytes,
        outcome: Result<Begun, Refusal>,
    },
    Route(Box<Handed>),
}

async fn send(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: Bytes,
) -> Result<Bytes, Status> {
    let admitted = shard.admission().admit_unary();
    admitted.map_err(|overloaded| refused(shard, overloaded.into()))?;
    let receipts = shard.receipts();
    let handed_over = hand_over(shard, limits, watch, &message, &receipts)
        .await
        .map_err(|refusal| refused(shard, refusal))?;
    let (answer, outcome) = match handed_over {
        HandedOver::Queue { answer, outcome } => (answer, outcome),
        HandedOver::Route(handed) => {
            drop(message);
            let Handed { id, facts, .. } = &*handed;
            let (id, facts) = (id.clone(), *facts);
            let failure = handed.settled(shard, &receipts, watch).await;
            return Ok(encode_result(
                &id,
                failure.as_deref().map_or(Ok(facts), Err),
            ));
        }
    };
    if let Err(refusal) = &outcome {
        watch.refused_queue_message(&message, refusal);
    }
    // It holds the connection's read buffer; what it said has been copied.
    drop(message);
    let outcome = match outcome {
        Ok(begun) => {
            let receipt = std::future::poll_fn(|cx| receipts.poll_front(cx)).await;
            let receipt = receipt.map_err(Refusal::from);
            watch.conclude_send(begun, receipt.as_ref().copied());
            receipt
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(()) => Ok(answer),
        Err(refusal) => answer_refusal(shard, refusal, |text| {
            let message_id = QueueMessageView::message_id_of(&answer);
            encode_result(message_id, Err(text))
        }),
    }
}

/// Decodes a message and hands it to its log, or says why not.
async fn hand_over(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: &[u8],
    receipts: &Receipts,
) -> Result<HandedOver, Refusal> {
    let bound = watch.gate.bind(message, Signed::Other)?;
    let message = &*bound;
    let view = QueueMessageView::parse(message)?;
    let message_id = given_or_new(shard, view.message_id);
    let sending = Sending::of(shard, limits, message, view, message_id.clone());
    let sending = sending.and_then(|sending| sending.allowed(&mut watch.gate));
    let checked = match sending {
        Ok(Sending::Queue(checked)) => checked,
        Ok(Sending::Route(routed)) => {
            let handed = Box::pin(routed.send_all(shard, limits, receipts, watch)).await;
            return Ok(HandedOver::Route(Box::new(handed)));
        }
        Err(refusal) => {
            let answer = encode_result(&message_id, Ok(SendFacts::default()));
            let outcome = Err(refusal);
            return Ok(HandedOver::Queue { answer, outcome });
        }
    };
    let outcome = loop {
        let Err(no_room) = checked.send(shard, receipts) else {
            break Ok(watch.begin(&checked.access(message.len()), Deed::Send));
        };
        let waited = no_room.wait_in_call(shard, watch, checked.channel()).await;
        if let Err(refusal) = waited {
            break Err(refusal);
        }
    };
    let answer = encode_result(&message_id, Ok(checked.facts()));
    Ok(HandedOver::Queue { answer, outcome })
}

/// An answer; each result has the message's id where a message has it.
fn encode_result(message_id: &str, outcome: SendOutcome<'_>) -> Bytes {
    let mut answer = BytesMut::new();
    send_result(message_id, outcome, &mut answer);
    answer.freeze()
}

/// A message that was checked: for one queue, or for the targets of a route.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every message is for one queue, and needs no allocation for that"
)]
pub(super) enum Sending<'a> {
    Queue(Checked<'a>),
    Route(Box<Routed<'a>>),
}

impl<'a> Sending<'a> {
    /// Decodes and checks an encoded `QueueMessage`.
    pub(super) fn new(
        shard: &Shard,
        limits: &QueueLimits,
        message: &'a [u8],
    ) -> Result<Self, Refusal> {
        let view = QueueMessageView::parse(message)?;
        let message_id = given_or_new(shard, view.message_id);
        Self::of(shard, limits, message, view, message_id)
    }

    /// Asks whether it may be sent. Each copy for a route is asked for by itself.
    pub(super) fn allowed(self, gate: &mut Gate) -> Result<Self, Refusal> {
        if let Self::Queue(checked) = &self {
            checked.allow(gate)?;
        }
        Ok(self)
    }

    /// Checks a message that gets this id, unless it goes to a route: then each copy has its own
    /// where the sender gave none.
    fn of(
        shard: &Shard,
        limits: &QueueLimits,
        message: &'a [u8],
        view: QueueMessageView<'a>,
        message_id: Cow<'a, str>,
    ) -> Result<Self, Refusal> {
        Ok(match validate::validate_message(&view, limits)? {
            Target::Channel => Self::Queue(Checked::of(shard, limits, view, message_id)?),
            Target::Route => Self::Route(Box::new(Routed::queue_message(shard, &view, message)?)),
        })
    }
}

/// A message for one queue that may go into the log.
#[derive(Debug)]
pub(in crate::grpc) struct Checked<'a>(StoredMessage<'a>);

impl<'a> Checked<'a> {
    /// Decodes and checks an encoded `QueueMessage` whose channel is one queue, whatever its name
    /// looks like: what a consumer or a route sends on is not routed.
    pub(in crate::grpc) fn new(
        shard: &Shard,
        limits: &QueueLimits,
        message: &'a [u8],
    ) -> Result<Self, Refusal> {
        let view = QueueMessageView::parse(message)?;
        if validate::validate_message(&view, limits)? == Target::Route {
            validate::check_queue(view.channel)?;
        }
        Self::of(shard, limits, view, given_or_new(shard, view.message_id))
    }

    /// Takes a message that was checked and gets this id.
    fn of(
        shard: &Shard,
        limits: &QueueLimits,
        view: QueueMessageView<'a>,
        message_id: Cow<'a, str>,
    ) -> Result<Self, Refusal> {
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        let now_ns = shard.queue_now_ns();
        Ok(Self(StoredMessage::new(view, message_id, limits, now_ns)))
    }

    /// Asks whether its sender may send it: to its queue, and to the one where it goes when it was
    /// received too often.
    pub(in crate::grpc) fn allow(&self, gate: &mut Gate) -> Result<(), Refusal> {
        let view = self.0.view();
        gate.allow_target(view.client_id, view.policy.max_receive_queue)?;
        gate.allow(&self.access(0), Action::Write)
    }

    /// The message's id, given or generated.
    pub(in crate::grpc) fn message_id(&self) -> &str {
        self.0.message_id()
    }

    /// The queue.
    pub(in crate::grpc) fn channel(&self) -> &'a str {
        self.0.channel()
    }

    /// What its sender does; of a message of so many bytes.
    pub(in crate::grpc) fn access(&self, bytes: usize) -> Access<'_> {
        Access::queue_message(self.0.view(), self.message_id(), bytes)
    }

    /// What its sender is told when it is stored.
    pub(in crate::grpc) fn facts(&self) -> SendFacts {
        self.0.facts()
    }

    /// Bytes that it takes in the log.
    pub(in crate::grpc) fn stored_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// Hands the message to the log of its queue; the next receipt says what became of it.
    pub(in crate::grpc) fn send(
        &self,
        shard: &Rc<Shard>,
        receipts: &Receipts,
    ) -> Result<(), NoRoom> {
        let bytes = self.stored_len();
        let mut encode = |out: &mut Vec<u8>| self.0.encode(out);
        shard
            .store_message(
                StoredKind::Queue,
                self.channel(),
                bytes,
                &mut encode,
                receipts,
            )
            .map_err(|StoreBusy| NoRoom::in_log(bytes))
    }
}
