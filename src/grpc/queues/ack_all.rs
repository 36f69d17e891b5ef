//! `AckAllQueueMessages`: removes what is visible at its arrival.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{answer_refusal, given_or_new};
use crate::engine::clients::Figures;
use crate::grpc::codec::queue::{AckAllView, QueueLimits, ack_all_answer, validate};
use crate::grpc::codec::sender::Signed;
use crate::grpc::observe::{Access, Deed, Watch};
use crate::grpc::{Active, refused};
use crate::security::Action;
use crate::shard::{ConsumerEvent, Shard};
use crate::wire::server::Call;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

pub(in crate::grpc) async fn ack_all(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    mut watch: Watch,
    call: Call,
    _active: Active,
) {
    let (mut reader, responder) = call.into_parts();
    let answer = match watch.gate.only_message(&shard, &mut reader).await {
        Ok(message) => empty(&shard, &limits, &mut watch, message).await,
        Err(status) => Err(status),
    };
    responder.unary(answer);
}

async fn empty(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: Bytes,
) -> Result<Bytes, Status> {
    let bound = watch.gate.bind(&message, Signed::Other);
    let message = bound.map_err(|refusal| refused(shard, refusal))?;
    let request = AckAllView::parse(&message).map_err(|error| refused(shard, error.into()))?;
    let request_id = given_or_new(shard, request.request_id).into_owned();
    let access = Access::queue(request.channel, request.client_id, &request_id);
    let checked = match validate::validate_ack_all(&request, limits) {
        Ok(()) if shard.is_draining() => Err(Refusal::ShuttingDown),
        checked => checked.and_then(|()| watch.gate.allow(&access, Action::Write)),
    };
    let outcome = match checked {
        Ok(()) => {
            let begun = watch.begin(&access, Deed::AckAll);
            let outcome = drain(shard, request.channel).await;
            watch.conclude(begun, outcome.as_ref().map(|_| Figures::default()));
            outcome
        }
        Err(refusal) => {
            watch.refused(&access, Deed::AckAll, &refusal);
            Err(refusal)
        }
    };
    let answer = |outcome: Result<u64, &str>| {
        let mut answer = BytesMut::new();
        ack_all_answer(&request_id, outcome, &mut answer);
        answer.freeze()
    };
    match outcome {
        Ok(count) => Ok(answer(Ok(count))),
        Err(refusal) => answer_refusal(shard, refusal, |text| answer(Err(text))),
    }
}

/// Empties a queue. A caller that leaves meanwhile has asked for it all the same.
pub(in crate::grpc) async fn drain(shard: &Rc<Shard>, channel: &str) -> Result<u64, Refusal> {
    let consumer = shard.consumer();
    let drain = consumer.drain(channel);
    let outcome = loop {
        let event = std::future::poll_fn(|cx| consumer.poll_event(cx)).await;
        if let ConsumerEvent::Drained { ticket, outcome } = event
            && ticket == drain
        {
            break outcome;
        }
    };
    consumer.close();
    outcome.map_err(Refusal::from)
}
