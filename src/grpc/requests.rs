//! Commands and queries: `SendRequest`, `SubscribeToRequests`, `SendResponse`.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::codec::management::MANAGEMENT_CHANNEL;
use super::codec::request::{RequestType, RequestView, request_frame};
use super::codec::response::{ResponseView, cached_response, response_message};
use super::codec::{id, subscribe, validate};
use super::subscription::{CheckedSubscribe, to_channel_at};
use super::{Active, management, refused};
use crate::model::Kind;
use crate::rt;
use crate::shard::{Ask, Outcome, Pending, Refused, Responded, Shard, record};
use crate::wire::server::{Call, Responder};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// What is kept of a request while it waits. Not its bytes: they hold the connection's read
/// buffer.
struct Asked {
    pending: Pending,
    request_type: RequestType,
    /// Whether the caller's own deadline comes before the request's timeout.
    deadline_first: bool,
    remember: Option<Remember>,
}

/// Whom a request asks.
enum Asking {
    Responder(Asked),
    Broker(management::Asked),
}

/// Where an answer is remembered, and for how long.
struct Remember {
    channel: Box<str>,
    key: Box<str>,
    lifetime: Duration,
    /// The id that a remembered answer gets when it is the answer to this request.
    request_id: String,
}

pub(super) async fn send_request(shard: Rc<Shard>, call: Call, _active: Active) {
    let began = rt::now();
    let deadline = call.deadline();
    let (mut reader, mut responder) = call.into_parts();
    let asked = match reader.only_message().await {
        Ok(message) => ask(&shard, &message, deadline).map_err(|refusal| refused(&shard, refusal)),
        Err(status) => Err(status),
    };
    drop(reader);
    let asked = match asked {
        Ok(Asking::Responder(asked)) => asked,
        Ok(Asking::Broker(asked)) => {
            return Box::pin(management::serve(&shard, asked, responder)).await;
        }
        Err(status) => return responder.unary(Err(status)),
    };
    match wait(&asked.pending, &mut responder).await {
        Some(outcome) => {
            count(&shard, &asked, &outcome, began);
            responder.unary(conclude(&shard, &asked, outcome));
        }
        None => match asked.request_type {
            RequestType::Command => shard.counters.commands_cancelled.increment(),
            RequestType::Query => shard.counters.queries_cancelled.increment(),
        },
    }
}

/// Waits for the outcome; `None` when the caller has gone.
async fn wait(pending: &Pending, responder: &mut Responder) -> Option<Outcome> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = pending.poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        responder.poll_reset(cx).map(|()| None)
    })
    .await
}

/// Checks a request and sends it on its way.
fn ask(
    shard: &Rc<Shard>,
    message: &[u8],
    deadline: Option<rt::Instant>,
) -> Result<Asking, Refusal> {
    let request = RequestView::parse(message)?;
    let request_type = validate::validate_request(&request)?;
    if request.channel == MANAGEMENT_CHANNEL {
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        return Ok(Asking::Broker(management::read(&request, request_type)));
    }
    let kind = request_type.kind();
    match request_type {
        RequestType::Command => shard.counters.commands_received.increment(),
        RequestType::Query => shard.counters.queries_received.increment(),
    }
    let timeout = request.timeout();
    let left = deadline.map(|deadline| deadline.since(rt::now()));
    // Only queries are cached; a command with a key is a command.
    let lifetime = request.cache_lifetime().filter(|_| kind == Kind::Queries);
    let request_id = match request.request_id {
        "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes)).into()),
        given => Cow::Borrowed(given),
    };
    let ask = Ask {
        kind,
        channel: request.channel,
        timeout: left.map_or(timeout, |left| left.min(timeout)),
        cache_key: lifetime.map_or("", |_| request.cache_key),
    };
    let pending = shard
        .request(ask, |reply_channel, out| {
            to_channel_at(request_frame(&request, &request_id, reply_channel, out))
        })
        .map_err(refusal)?;
    Ok(Asking::Responder(Asked {
        pending,
        request_type,
        deadline_first: left.is_some_and(|left| left < timeout),
        remember: lifetime.map(|lifetime| Remember {
            channel: request.channel.into(),
            key: request.cache_key.into(),
            lifetime,
            request_id: request_id.into_owned(),
        }),
    }))
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::PendingFull => Refusal::PendingRequestsFull,
        Refused::MeshFull => Refusal::MeshFull,
        Refused::ShuttingDown => Refusal::ShuttingDown,
    }
}

fn count(shard: &Shard, asked: &Asked, outcome: &Outcome, began: rt::Instant) {
    let (counters, latencies) = (&shard.counters, &shard.latencies);
    let (answered, timed_out, latency) = match asked.request_type {
        RequestType::Command => (
            &counters.commands_answered,
            &counters.commands_timed_out,
            &latencies.commands,
        ),
        RequestType::Query => (
            &counters.queries_answered,
            &counters.queries_timed_out,
            &latencies.queries,
        ),
    };
    match outcome {
        Outcome::Response(_) | Outcome::CacheHit(_) => {
            answered.increment();
            record(latency, began);
        }
        Outcome::TimedOut | Outcome::NoResponder => timed_out.increment(),
        Outcome::ShuttingDown => counters.refusals_shutdown.increment(),
    }
}

/// Turns an outcome into the caller's answer.
fn conclude(shard: &Shard, asked: &Asked, outcome: Outcome) -> Result<Bytes, Status> {
    let mut answer = BytesMut::new();
    match outcome {
        Outcome::Response(message) => {
            let response = ResponseView::parse(&message).map_err(Status::from)?;
            response_message(&response, asked.request_type, &mut answer);
            let answer = answer.freeze();
            if let Some(remember) = asked.remember.as_ref().filter(|_| response.executed) {
                let kept = Bytes::copy_from_slice(&answer);
                shard.remember(&remember.channel, &remember.key, kept, remember.lifetime);
            }
            Ok(answer)
        }
        Outcome::CacheHit(stored) => {
            let request_id = asked.remember.as_ref().map_or("", |kept| &kept.request_id);
            cached_response(&stored, request_id, &mut answer);
            Ok(answer.freeze())
        }
        Outcome::TimedOut if asked.deadline_first => Err(Status::new(
            Code::DeadlineExceeded,
            "context deadline exceeded",
        )),
        Outcome::TimedOut | Outcome::NoResponder => Err(Refusal::RequestTimedOut.into()),
        Outcome::ShuttingDown => Err(Refusal::ShuttingDown.into()),
    }
}

pub(super) async fn send_response(shard: Rc<Shard>, call: Call, _active: Active) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let result = match reader.only_message().await {
        Ok(message) => respond(&shard, &message).map_err(|refusal| refused(&shard, refusal)),
        Err(status) => Err(status),
    };
    responder.unary(result.map(|_| Bytes::new()));
    record(&shard.latencies.send_response, began);
}

/// Brings a response to whoever asked. One that comes late, twice or unasked is dropped and
/// counted; the responder sees success all the same.
fn respond(shard: &Shard, message: &Bytes) -> Result<Responded, Refusal> {
    let response = ResponseView::parse(message)?;
    validate::validate_response(&response)?;
    Ok(shard.respond(response.reply_channel, message.clone()))
}

/// Decodes and checks a subscription to commands or queries.
pub(super) fn check_subscribe(message: &[u8]) -> CheckedSubscribe {
    let subscribe = subscribe::decode(message)?;
    let kind = validate::validate_subscribe_requests(&subscribe)?;
    Ok((kind, subscribe))
}
