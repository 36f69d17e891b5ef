//! `ReceiveQueueMessages`: takes messages, or looks at them.
//!
//! The messages are leased until the answer has gone on to the client in full, and acknowledged
//! then. When the call ends before that they are back in their places, as if nobody had asked.

use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::{ANSWER_BYTES_MAX, answer_refusal, given_or_new};
use crate::grpc::codec::queue::{QueueLimits, ReceiveAnswer, ReceiveView, validate};
use crate::grpc::codec::sender::Signed;
use crate::grpc::observe::{Access, Begun, Deed, Watch};
use crate::grpc::{Active, refused};
use crate::security;
use crate::shard::{Action, Consumer, ConsumerEvent, Delivery, PollRequest, Polled, Shard, Which};
use crate::wire::Gone;
use crate::wire::server::{Call, Responder};
use crate::wire::status::Status;
use crate::wire_error::Refusal;

/// Answers up to this size are copied into one piece.
const ONE_PIECE_BYTES_MAX: usize = 16 << 10;

pub(in crate::grpc) async fn receive(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    mut watch: Watch,
    call: Call,
    _active: Active,
) {
    let (mut reader, mut responder) = call.into_parts();
    let message = watch
        .gate
        .only_message(&shard, &mut reader)
        .await
        .and_then(|message| {
            let bound = watch.gate.bind_whole(&message, Signed::Other);
            bound.map_err(|refusal| refused(&shard, refusal))
        });
    let message = match message {
        Ok(message) => message,
        Err(status) => return responder.unary(Err(status)),
    };
    let request = match ReceiveView::parse(&message) {
        Ok(request) => request,
        Err(error) => return responder.unary(Err(refused(&shard, error.into()))),
    };
    let request_id = given_or_new(&shard, request.request_id).into_owned();
    let is_peek = request.is_peek;
    let asked = ask(&shard, &limits, &mut watch, &request, &request_id);
    // The wait may be long, and the message holds the connection's read buffer.
    drop((message, reader));
    let refusal = match asked {
        Ok((consumer, ticket, begun)) => {
            let outcome = wait(&shard, &mut watch, &consumer, ticket, &mut responder).await;
            match tell(&watch, begun, outcome) {
                Some(Ok(polled)) => {
                    hand_out(&consumer, responder, &request_id, is_peek, polled).await;
                    return consumer.close();
                }
                Some(Err(refusal)) => {
                    consumer.close();
                    refusal
                }
                None => return consumer.close(),
            }
        }
        Err(refusal) => refusal,
    };
    responder.unary(answer_refusal(&shard, refusal, |error| {
        let answer = ReceiveAnswer {
            request_id: &request_id,
            is_peek,
            error,
            ..ReceiveAnswer::default()
        };
        without_messages(&answer)
    }));
}

/// Checks a request and asks for its messages.
fn ask(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    request: &ReceiveView<'_>,
    request_id: &str,
) -> Result<(Consumer, u64, Begun), Refusal> {
    let access = Access::queue(request.channel, request.client_id, request_id);
    let deed = match request.is_peek {
        true => Deed::Peek,
        false => Deed::Receive,
    };
    let checked = match validate::validate_receive(request, limits) {
        Ok(_) if shard.is_draining() => Err(Refusal::ShuttingDown),
        checked => checked,
    };
    let read = security::Action::Read;
    let checked = checked.and_then(|checked| watch.gate.allow(&access, read).map(|()| checked));
    if let Err(refusal) = &checked {
        watch.refused(&access, deed, refusal);
    }
    let (items_max, wait) = checked?;
    watch.place(&access);
    let begun = watch.polling(&access, deed);
    let around = request_id.len() + ReceiveAnswer::FIXED_BYTES_MAX;
    let consumer = shard.consumer();
    let ticket = consumer.poll(&PollRequest {
        channel: request.channel,
        items_max,
        bytes_max: ANSWER_BYTES_MAX.saturating_sub(around),
        wait,
        peek: request.is_peek,
        visibility: None,
        field: ReceiveAnswer::MESSAGES,
    });
    Ok((consumer, ticket, begun))
}

/// Tells what a poll came to, and passes it on.
fn tell(
    watch: &Watch,
    mut begun: Begun,
    outcome: Option<Result<Polled, Refusal>>,
) -> Option<Result<Polled, Refusal>> {
    match &outcome {
        Some(outcome) => {
            if let Ok(polled) = outcome {
                watch.handed_out(&mut begun, polled);
            }
            let figures = outcome.as_ref();
            watch.polled(begun, figures.map(|p| (p.sequences.len(), p.bytes)));
        }
        None => watch.abandon(begun),
    }
    outcome
}

/// Waits for the answer to the poll; `None` when the caller has gone. At the end of the broker the
/// wait ends, with what is there; one who may not receive any more gets nothing.
async fn wait(
    shard: &Rc<Shard>,
    watch: &mut Watch,
    consumer: &Consumer,
    poll: u64,
    responder: &mut Responder,
) -> Option<Result<Polled, Refusal>> {
    let shutdown = shard.watch_shutdown();
    let mut ending = false;
    let outcome = std::future::poll_fn(|cx| {
        while let Poll::Ready(event) = consumer.poll_event(cx) {
            if let ConsumerEvent::Polled { ticket, outcome } = event
                && ticket == poll
            {
                return Poll::Ready(Some(outcome.map_err(Refusal::from)));
            }
        }
        if let Poll::Ready(refusal) = watch.poll_closed(cx) {
            return Poll::Ready(Some(Err(refusal)));
        }
        if !ending && shutdown.poll(cx).is_ready() {
            ending = true;
            consumer.cancel(poll);
        }
        responder.poll_reset(cx).map(|()| None)
    })
    .await?;
    Some(match outcome {
        Ok(polled) if ending && polled.sequences.is_empty() => Err(Refusal::ShuttingDown),
        outcome => outcome,
    })
}

/// Answers with messages, and acknowledges those that are leased when the answer is on its way.
async fn hand_out(
    consumer: &Consumer,
    responder: Responder,
    request_id: &str,
    is_peek: bool,
    polled: Polled,
) {
    let answer = ReceiveAnswer {
        request_id,
        received: polled.sequences.len(),
        expired: polled.expired,
        is_peek,
        error: "",
    };
    if polled.parts.is_empty() {
        return responder.unary(Ok(without_messages(&answer)));
    }
    let delivery = polled.delivery;
    if let (Ok(()), Some(delivery)) = (send(responder, &answer, polled).await, delivery) {
        acknowledge(consumer, delivery).await;
    }
}

/// Sends an answer with messages; done when all of it has gone on towards the socket.
async fn send(
    responder: Responder,
    answer: &ReceiveAnswer<'_>,
    polled: Polled,
) -> Result<(), Gone> {
    let mut frame = BytesMut::new();
    answer.begin_frame(polled.bytes, &mut frame);
    let mut stream = responder.start_unary().map_err(|_| Gone)?;
    for part in polled.parts {
        if frame.len() + part.len() <= ONE_PIECE_BYTES_MAX {
            frame.extend_from_slice(&part);
            continue;
        }
        if !frame.is_empty() {
            stream.send_frames(frame.split().freeze())?;
        }
        stream.send_frames(part)?;
    }
    answer.end(&mut frame);
    stream.send_frames(frame.freeze())?;
    stream.finish_in_full(Status::OK).await
}

/// Acknowledges a delivery, and waits until that is durable, so that no drain overtakes it.
async fn acknowledge(consumer: &Consumer, delivery: Delivery) {
    let ack = consumer.settle(delivery, Which::All, Action::Ack, true);
    loop {
        let event = std::future::poll_fn(|cx| consumer.poll_event(cx)).await;
        if let ConsumerEvent::Settled { ticket, outcome } = event
            && ticket == ack
        {
            if let Err(failure) = outcome {
                // They come again. The client has them too, and cannot be told.
                tracing::debug!(%failure, "received messages could not be acknowledged");
            }
            return;
        }
    }
}

/// A whole answer that has no messages.
fn without_messages(answer: &ReceiveAnswer<'_>) -> Bytes {
    let mut message = BytesMut::new();
    answer.begin(&mut message);
    answer.end(&mut message);
    message.freeze()
}
