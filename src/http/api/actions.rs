//! `POST /api/request`: what a person does by hand. Each action is one call of the service.
//!
//! The answer has status 200 in any case; its envelope says what became of it. A message that is
//! received is the asker's once the answer has left in full, and back in its place if it never
//! does.

mod queues;
mod requests;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prost::Message;
use ringmq_proto::{kubemq, method};
use serde::Serialize;

use super::super::body::{Body, BodyError};
use super::super::envelope::too_much;
use super::super::exchange::{Exchange, Response, text};
use super::super::gather::{Gathered, NO_ROOM};
use super::input::{self, Input};
use super::{Asker, access, envelope, json, refused};
use crate::model::Kind;
use crate::rt;
use crate::security::{Action, Resource};
use crate::wire::Status;
use crate::wire::local::LocalCall;

/// What an action came to.
pub(super) struct Done {
    envelope: Vec<u8>,
    /// The call whose messages the answer carries.
    settles: Option<LocalCall>,
}

impl Done {
    /// Nothing is to be said.
    fn nothing() -> Self {
        Self {
            envelope: envelope::<()>(Ok(None)),
            settles: None,
        }
    }

    fn with(data: &impl Serialize) -> Self {
        Self {
            envelope: envelope(Ok(Some(data))),
            settles: None,
        }
    }
}

/// The outcome of an action: its data, or the text of the refusal.
type Outcome = Result<Done, String>;

pub(super) async fn handle(mut exchange: Exchange) -> Response {
    let is_form = match content_type(&exchange) {
        Ok(is_form) => is_form,
        Err(refusal) => return refused(refusal),
    };
    let limit = exchange.context.config.grpc.body_limit;
    let mut body = match exchange.read_body(limit).await {
        Ok(body) => body,
        Err(error) => return unread(error),
    };
    if is_form {
        // Read as an object without fields, as the reference does.
        body = Gathered::default();
    }
    let parsed = aside(body.len(), move || input::parse(&body)).await;
    let outcome = match parsed {
        Some(Ok((action, input))) => run(&exchange, &action, &input).await,
        Some(Err(error)) => Err(error),
        None => Err(BROKE_OFF.to_owned()),
    };
    match outcome {
        Ok(Done { envelope, settles }) => {
            let body = match settles {
                Some(call) => Body::settling(envelope.into(), call),
                None => Body::full(envelope),
            };
            json(StatusCode::OK, body)
        }
        Err(error) => refused(&error),
    }
}

/// JSON of more bytes than this is not read or written on the executor.
const ASIDE_BYTES: usize = 64 << 10;

/// What is answered when reading or writing JSON broke off, which would be a bug.
const BROKE_OFF: &str = "Error 200: server crushed and recovered";

/// Does what takes its time with so many bytes: here, or where it keeps nobody waiting.
async fn aside<R: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    if bytes > ASIDE_BYTES {
        rt::heavy(work).await
    } else {
        Some(work())
    }
}

/// Whether the body is a form, which has no fields here; JSON otherwise.
fn content_type(exchange: &Exchange) -> Result<bool, &'static str> {
    let value = exchange.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let sort = value.split(';').next().unwrap_or_default().trim();
    match sort.to_ascii_lowercase().as_str() {
        "" | "application/json" => Ok(false),
        "application/x-www-form-urlencoded" | "multipart/form-data" => Ok(true),
        _ => Err("code=415, message=Unsupported Media Type"),
    }
}

pub(super) fn unread(error: BodyError) -> Response {
    let (status, message) = match error {
        BodyError::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "code=413, message=Request Entity Too Large",
        ),
        BodyError::Timeout => (
            StatusCode::REQUEST_TIMEOUT,
            "code=408, message=Request Timeout",
        ),
        BodyError::NoRoom => return too_much(&NO_ROOM),
        BodyError::Broken => (StatusCode::BAD_REQUEST, "code=400, message=Bad Request"),
    };
    text(status, message)
}

async fn run(exchange: &Exchange, action: &str, input: &Input) -> Outcome {
    let asker = Asker::of(exchange);
    if let Some(channel) = channel_of(action, input)?
        && access::authorise(exchange, Resource::Management, Action::Write, channel).is_err()
    {
        return Err(access::DENIED.to_owned());
    }
    match action {
        "create_channel" => create_channel(&asker, input).await,
        "send_queue_message" => queues::send(&asker, input).await,
        "receive_queue_messages" => queues::receive(&asker, input).await,
        "purge_queue_channel" => queues::purge(&asker, input).await,
        "send_pubsub_message" => publish(&asker, input).await,
        "send_cqrs_message_request" => requests::ask(&asker, input).await,
        "send_cqrs_message_response" => requests::respond(&asker, input).await,
        "" => Err("type not set".to_owned()),
        unknown => Err(format!("unknown action type: {unknown}")),
    }
}

/// The channel that an action concerns. A response goes to whoever has asked, and only who holds
/// its reply channel can send it.
fn channel_of<'a>(action: &str, input: &'a Input) -> Result<Option<&'a str>, String> {
    match action {
        "create_channel" => input.text("name").map(Some),
        "send_cqrs_message_response" => Ok(None),
        _ => input.text("channel").map(Some),
    }
}

/// Calls a method with one message and one answer.
async fn call<A: Message + Default>(
    asker: &Asker,
    method: &'static str,
    message: &impl Message,
) -> Result<A, String> {
    let answer = asker
        .client
        .unary(method, message.encode_to_vec().into())
        .await;
    let answer = answer.map_err(|status| refusal(&status))?;
    decode(answer)
}

fn decode<A: Message + Default>(answer: Bytes) -> Result<A, String> {
    A::decode(answer).map_err(|error| error.to_string())
}

fn refusal(status: &Status) -> String {
    status.message().to_owned()
}

/// Creates a channel. One that is there already is as good.
async fn create_channel(asker: &Asker, input: &Input) -> Outcome {
    let kind = input.required("type", "type")?;
    let channel = input.required("name", "name")?;
    let kind = Kind::from_name(kind).ok_or_else(|| format!("unsupported channel type {kind}"))?;
    let created = manage(asker, "create-channel", kind, channel).await;
    created.map_err(|error| {
        let kind = match kind {
            Kind::Queues => "queue",
            other => other.name(),
        };
        format!("error creating {kind} channel {channel} , error: {error}")
    })?;
    Ok(Done::nothing())
}

/// How long channel management may take.
const MANAGEMENT_TIMEOUT_MS: i32 = 30_000;

/// Where requests to the broker itself are sent.
const MANAGEMENT_CHANNEL: &str = "kubemq.cluster.internal.requests";

/// Asks the broker to do something with a channel; the body of its answer.
async fn manage(
    asker: &Asker,
    operation: &str,
    kind: Kind,
    channel: &str,
) -> Result<Bytes, String> {
    let tags = [("channel_type", kind.name()), ("channel", channel)];
    let request = kubemq::Request {
        request_type_data: kubemq::request::RequestType::Query.into(),
        client_id: asker.client_id.clone(),
        channel: MANAGEMENT_CHANNEL.to_owned(),
        metadata: operation.to_owned(),
        timeout: MANAGEMENT_TIMEOUT_MS,
        tags: tags
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..kubemq::Request::default()
    };
    let answer: kubemq::Response = call(asker, method::SEND_REQUEST, &request).await?;
    match answer.executed {
        true => Ok(answer.body),
        false => Err(answer.error),
    }
}

/// Sends an event, plain or stored.
async fn publish(asker: &Asker, input: &Input) -> Outcome {
    let event = kubemq::Event {
        channel: input.required("channel", "channel")?.to_owned(),
        body: input.required_body()?,
        metadata: input.text("metadata")?.to_owned(),
        tags: input.tags()?,
        event_id: input.text("messageId")?.to_owned(),
        client_id: asker.client_id.clone(),
        store: !input.flag("isEvents")?,
    };
    let result: kubemq::Result = call(asker, method::SEND_EVENT, &event).await?;
    match &*result.error {
        "" => Ok(Done::nothing()),
        error => Err(error.to_owned()),
    }
}
