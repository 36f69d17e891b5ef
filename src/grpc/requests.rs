//! Commands and queries: `SendRequest`, `SubscribeToRequests`, `SendResponse`.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::SubscribeType;

use super::codec::request::{RequestType, RequestView, request_frame};
use super::codec::response::{ResponseView, cached_response, response_message};
use super::codec::{id, validate};
use super::subscription::{self, to_channel_at};
use super::Active;
use crate::model::Kind;
use crate::rt;
use crate::shard::{Ask, Outcome, Pending, Refused, Responded, Shard};
use crate::wire::server::{Call, Responder};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// Answers are remembered for a day at most: one SDK sends its lifetimes a thousand times too
/// large.
const CACHE_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept of a request while it waits. Not its bytes: they hold the connection's read
/// buffer.
struct Asked {
    pending: Pending,
    request_type: RequestType,
    request_id: String,
    /// Whether the caller's own deadline comes before the request's timeout.
    deadline_first: bool,
    remember: Option<Remember>,
}

/// Where an answer is remembered, and for how long.
struct Remember {
    channel: Box<str>,
    key: Box<str>,
    lifetime: Duration,
}

pub(super) async fn send_request(shard: Rc<Shard>, call: Call, _active: Active) {
    let deadline = call.deadline();
    let (mut reader, mut responder) = call.into_parts();
    let asked = match reader.only_message().await {
        Ok(message) => ask(&shard, &message, deadline),
        Err(status) => Err(status),
    };
    drop(reader);
    let asked = match asked {
        Ok(asked) => asked,
        Err(status) => return responder.unary(Err(status)),
    };
    let Some(outcome) = wait(&asked.pending, &mut responder).await else { return };
    responder.unary(conclude(&shard, &asked, outcome));
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

fn ask(
    shard: &Rc<Shard>,
    message: &[u8],
    deadline: Option<rt::Instant>,
) -> Result<Asked, Status> {
    let request = RequestView::parse(message).map_err(Status::from)?;
    let request_type = validate::validate_request(&request)?;
    shard.counters.requests_received.add(1);
    let kind = match request_type {
        RequestType::Command => Kind::Commands,
        RequestType::Query => Kind::Queries,
    };
    let timeout = Duration::from_millis(u64::try_from(request.timeout).unwrap_or(0));
    let left = deadline.map(|deadline| deadline.since(rt::now()));
    let deadline_first = left.is_some_and(|left| left < timeout);
    // Only queries are cached; a command with a key is a command.
    let cache_key = if kind == Kind::Queries { request.cache_key } else { "" };
    let request_id = match request.request_id {
        "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes))),
        given => Cow::Borrowed(given),
    };
    let ask = Ask {
        kind,
        channel: request.channel,
        timeout: left.map_or(timeout, |left| left.min(timeout)),
        cache_key,
    };
    let pending = shard
        .request(ask, |reply_channel, out| {
            to_channel_at(request_frame(&request, &request_id, reply_channel, out))
        })
        .map_err(refused)?;
    let remember = (!cache_key.is_empty()).then(|| Remember {
        channel: request.channel.into(),
        key: cache_key.into(),
        lifetime: cache_lifetime(request.cache_ttl),
    });
    let request_id = request_id.into_owned();
    Ok(Asked { pending, request_type, request_id, deadline_first, remember })
}

fn cache_lifetime(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(CACHE_LIFETIME_MAX)
}

fn refused(refused: Refused) -> Status {
    match refused {
        Refused::PendingFull => Refusal::PendingFull.into(),
        Refused::MeshFull => Refusal::MeshFull.into(),
        Refused::ShuttingDown => Refusal::ShuttingDown.into(),
    }
}

/// Turns an outcome into the caller's answer.
fn conclude(shard: &Shard, asked: &Asked, outcome: Outcome) -> Result<Bytes, Status> {
    let mut answer = BytesMut::new();
    match outcome {
        Outcome::Response(message) => {
            let response = ResponseView::parse(&message).map_err(Status::from)?;
            response_message(&response, asked.request_type, &mut answer);
            shard.counters.requests_answered.add(1);
            let answer = answer.freeze();
            if let Some(remember) = asked.remember.as_ref().filter(|_| response.executed) {
                let kept = Bytes::copy_from_slice(&answer);
                shard.remember(&remember.channel, &remember.key, kept, remember.lifetime);
            }
            Ok(answer)
        }
        Outcome::CacheHit(stored) => {
            cached_response(&stored, &asked.request_id, &mut answer);
            shard.counters.requests_answered.add(1);
            Ok(answer.freeze())
        }
        Outcome::TimedOut if asked.deadline_first => {
            Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"))
        }
        Outcome::TimedOut | Outcome::NoResponder => Err(Refusal::RequestTimeout.into()),
        Outcome::ShuttingDown => Err(Refusal::ShuttingDown.into()),
    }
}

pub(super) async fn send_response(shard: Rc<Shard>, call: Call, _active: Active) {
    let (mut reader, responder) = call.into_parts();
    let result = reader.only_message().await.and_then(|message| respond(&shard, &message));
    responder.unary(result.map(|_| Bytes::new()));
}

/// Brings a response to whoever asked. One that comes late, twice or unasked is dropped and
/// counted; the responder sees success all the same.
fn respond(shard: &Shard, message: &Bytes) -> Result<Responded, Status> {
    let response = ResponseView::parse(message).map_err(Status::from)?;
    validate::validate_response(&response)?;
    Ok(shard.respond(response.reply_channel, message.clone()))
}

pub(super) async fn subscribe_to_requests(shard: Rc<Shard>, call: Call) {
    let (mut reader, responder) = call.into_parts();
    let checked = reader.only_message().await.and_then(|message| check_subscribe(&message));
    match checked {
        Ok((kind, subscribe)) => subscription::serve(shard, responder, kind, &subscribe).await,
        Err(status) => responder.refuse(status),
    }
}

fn check_subscribe(message: &[u8]) -> Result<(Kind, Subscribe), Status> {
    let subscribe = subscription::decode(message)?;
    validate::validate_subscribe_requests(&subscribe)?;
    let queries = subscribe.subscribe_type_data == SubscribeType::Queries as i32;
    Ok((if queries { Kind::Queries } else { Kind::Commands }, subscribe))
}
