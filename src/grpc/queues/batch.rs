//! `SendQueueMessagesBatch`: several messages, for one queue or many.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::results::Results;
use super::send::Sending;
use super::{MESSAGES_PER_TURN, given_or_new, told};
use crate::grpc::codec::queue::{MessagesView, QueueLimits, QueueMessageView, batch_response};
use crate::grpc::codec::sender::Signed;
use crate::grpc::observe::Watch;
use crate::grpc::{Active, refused};
use crate::rt;
use crate::shard::{Receipts, Shard};
use crate::wire::server::Call;
use crate::wire::status::Status;
use crate::wire_error::{BATCH_MESSAGES_MAX, Refusal};

/// Messages that are looked at, without being sent, in one turn.
const LOOKS_PER_TURN: usize = 4096;

pub(in crate::grpc) async fn send_batch(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    mut watch: Watch,
    call: Call,
    _active: Active,
) {
    let (mut reader, responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    let message = message.map(|message| watch.batch_with_context(message));
    drop(reader);
    let answer = match message {
        Ok(message) => send(&shard, &limits, &mut watch, message).await,
        Err(status) => Err(status),
    };
    responder.unary(answer);
}

async fn send(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: Bytes,
) -> Result<Bytes, Status> {
    let admitted = shard.admission().admit_unary();
    admitted.map_err(|overloaded| refused(shard, overloaded.into()))?;
    let batch = check(&message)
        .await
        .map_err(|refusal| refused(shard, refusal))?;
    let admitted = watch.gate.admit_batch(batch.count);
    admitted.map_err(|refusal| refused(shard, refusal))?;
    let allowed = watch.gate.allow_all(&batch).await;
    allowed.map_err(|refusal| refused(shard, refusal))?;
    let batch_id = batch.id.to_owned();
    let receipts = shard.receipts();
    let mut results = Results::default();
    for (place, message) in batch.messages().enumerate() {
        hand_over(shard, limits, watch, message, &receipts, &mut results).await;
        take_turns(place, MESSAGES_PER_TURN).await;
    }
    // What they said has been copied.
    drop(message);
    for place in 0.. {
        if results.waiting_count() == 0 {
            break;
        }
        take_turns(place, LOOKS_PER_TURN).await;
        let outcome = std::future::poll_fn(|cx| receipts.poll_front(cx)).await;
        let outcome = outcome.map_err(Refusal::from);
        watch.outcome(outcome.as_ref().copied());
        results.receipt(outcome.map_err(|refusal| told(shard, refusal)));
    }
    let mut answer = BytesMut::new();
    let have_errors = results.have_errors();
    batch_response(&batch_id, &results.into_fields(), have_errors, &mut answer);
    Ok(answer.freeze())
}

/// Lets others have their turn behind every `per_turn` messages.
async fn take_turns(place: usize, per_turn: usize) {
    if place % per_turn == per_turn - 1 {
        rt::reactor_yield().await;
    }
}

/// Decodes a batch. One that cannot be decoded to its end is refused before anything is stored.
async fn check(message: &[u8]) -> Result<MessagesView<'_>, Refusal> {
    let batch = MessagesView::parse(message)?;
    if batch.count == 0 {
        return Err(Refusal::BatchEmpty);
    }
    if batch.count > BATCH_MESSAGES_MAX {
        let max = BATCH_MESSAGES_MAX;
        return Err(Refusal::BatchTooLarge { max });
    }
    for (place, message) in batch.messages().enumerate() {
        QueueMessageView::parse(message)?;
        take_turns(place, LOOKS_PER_TURN).await;
    }
    Ok(batch)
}

/// Hands one message to its log, or notes why not.
async fn hand_over(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: &[u8],
    receipts: &Receipts,
    results: &mut Results,
) {
    // All of them were allowed a moment ago; what was denied meanwhile is told in its place.
    let bound = watch.gate.bind(message, Signed::Other);
    let sending = match &bound {
        Ok(bound) => Sending::new(shard, limits, bound),
        Err(refusal) => Err(refusal.clone()),
    };
    let refusal = match sending.and_then(|sending| sending.allowed(&mut watch.gate)) {
        Ok(Sending::Route(routed)) => {
            let handed = Box::pin(routed.send_all(shard, limits, receipts, watch)).await;
            return results.routed(handed);
        }
        Ok(Sending::Queue(checked)) => loop {
            let Err(no_room) = checked.send(shard, receipts) else {
                watch.expect(&checked.access(message.len()));
                return results.handed_over(&checked);
            };
            let waited = no_room.wait_in_call(shard, watch, checked.channel()).await;
            if let Err(refusal) = waited {
                break refusal;
            }
        },
        Err(refusal) => refusal,
    };
    watch.refused_queue_message(message, &refusal);
    let message_id = given_or_new(shard, QueueMessageView::message_id_of(message));
    results.refused(&message_id, &told(shard, refusal));
}
