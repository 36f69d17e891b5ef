//! Commands and queries: `SendRequest`, `SubscribeToRequests`, `SendResponse`.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::codec::context::Sent;
use super::codec::management::MANAGEMENT_CHANNEL;
use super::codec::request::{RequestType, RequestView, request_frame};
use super::codec::response::{ResponseView, cached_response, response_message};
use super::codec::sender::Signed;
use super::codec::{id, subscribe, validate};
use super::observe::{Access, Begun, Deed, Watch, finish};
use super::subscription::{CheckedSubscribe, to_channel_at};
use super::{Active, management, refused};
use crate::model::Kind;
use crate::notifications::OpenReport;
use crate::rt;
use crate::security::Action;
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
    begun: Begun,
}

/// Whom a request asks.
enum Asking {
    Responder(Asked),
    Broker(management::Asked, Option<OpenReport>),
}

/// Where an answer is remembered, and for how long.
struct Remember {
    channel: Box<str>,
    key: Box<str>,
    lifetime: Duration,
    /// The id that a remembered answer gets when it is the answer to this request.
    request_id: String,
}

pub(super) async fn send_request(shard: Rc<Shard>, mut watch: Watch, call: Call, _active: Active) {
    let began = rt::now();
    let deadline = call.deadline();
    let (mut reader, mut responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    let message = message.map(|message| watch.with_context(message, Sent::Request));
    let asked = match message {
        Ok(message) => ask(&shard, &mut watch, &message, deadline).map_err(|refusal| {
            watch.refused_request(&message, &refusal);
            refused(&shard, refusal)
        }),
        Err(status) => Err(status),
    };
    drop(reader);
    let asked = match asked {
        Ok(Asking::Responder(asked)) => asked,
        Ok(Asking::Broker(asked, report)) => {
            let managed = management::Managed::of(&asked);
            let done = Box::pin(management::serve(&shard, asked, responder)).await;
            if let Some(managed) = managed {
                managed.record(
                    &watch.gate,
                    done.as_ref().copied().map_err(|error| &**error),
                );
            }
            return finish(report, done.map_err(Cow::Owned));
        }
        Err(status) => return responder.unary(Err(status)),
    };
    match wait(&asked.pending, &mut responder).await {
        Some(outcome) => {
            count(&shard, &asked, &outcome, began);
            let answer = conclude(&shard, &asked, outcome);
            match &answer {
                Ok(answer) => {
                    watch.answered(&asked.begun, answer.len());
                    watch.conclude_send::<Refusal>(asked.begun, Ok(()));
                }
                Err(status) => {
                    watch.conclude_send(asked.begun, Err(status));
                }
            }
            responder.unary(answer);
        }
        None => {
            watch.abandon(asked.begun);
            match asked.request_type {
                RequestType::Command => shard.counters.commands_cancelled.increment(),
                RequestType::Query => shard.counters.queries_cancelled.increment(),
            }
        }
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
    watch: &mut Watch,
    message: &[u8],
    deadline: Option<rt::Instant>,
) -> Result<Asking, Refusal> {
    let bound = watch.gate.bind(message, Signed::Request)?;
    let message = &*bound;
    let request = RequestView::parse(message)?;
    let request_type = validate::validate_request(&request)?;
    let kind = request_type.kind();
    let access = Access::request(&request, kind, request.request_id, message.len());
    if request.channel == MANAGEMENT_CHANNEL {
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        let asked = management::read(&request, request_type);
        asked.allow(&mut watch.gate)?;
        return Ok(Asking::Broker(asked, watch.managing(&access)));
    }
    // Before anything is looked for: a remembered answer is for those who may ask.
    watch.gate.allow(&access, Action::Write)?;
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
    let access = Access {
        id: &request_id,
        ..access
    };
    Ok(Asking::Responder(Asked {
        begun: watch.begin(&access, Deed::Send),
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

pub(super) async fn send_response(shard: Rc<Shard>, mut watch: Watch, call: Call, _active: Active) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let result = match watch.gate.only_message(&shard, &mut reader).await {
        Ok(message) => {
            let responded = respond(&shard, &mut watch, &message);
            responded.map_err(|refusal| refused(&shard, refusal))
        }
        Err(status) => Err(status),
    };
    responder.unary(result.map(|_| Bytes::new()));
    record(&shard.latencies.send_response, began);
}

/// Brings a response to whoever asked. One that comes late, twice or unasked is dropped and
/// counted; the responder sees success all the same.
///
/// No rule is asked: who knows the reply channel, 128 random bits that count once, was given the
/// request, and so was allowed to read its channel.
fn respond(shard: &Shard, watch: &mut Watch, message: &Bytes) -> Result<Responded, Refusal> {
    let message = watch.gate.bind_whole(message, Signed::Response)?;
    let response = ResponseView::parse(&message)?;
    let checked = validate::validate_response(&response);
    watch.responded(&response, message.len(), checked.as_ref().copied());
    checked?;
    Ok(shard.respond(response.reply_channel, message.clone()))
}

/// Decodes and checks a subscription to commands or queries.
pub(super) fn check_subscribe(message: &[u8]) -> CheckedSubscribe {
    let subscribe = subscribe::decode(message)?;
    let kind = validate::validate_subscribe_requests(&subscribe)?;
    Ok((kind, subscribe))
}
