//! Queue messages, sent, received, looked at and cleared away.

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::{kubemq, method};
use serde::{Deserialize, Serialize};

use super::super::input::Input;
use super::super::{Asker, envelope, show, time};
use super::{BROKE_OFF, Done, Outcome, aside, call, decode, manage, refusal};
use crate::model::Kind;

/// How long a receive waits for the first message.
const WAIT_SECONDS: i32 = 1;

/// What the sender is told. Times are UTC.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SentMessage {
    message_id: String,
    /// As RFC 3339 has it.
    sent_at: String,
    /// As `2026-11-21 18:04:05`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed_to: Option<String>,
}

pub(super) async fn send(asker: &Asker, input: &Input) -> Outcome {
    let channel = input.required("channel", "channel")?;
    let message = kubemq::QueueMessage {
        channel: channel.to_owned(),
        body: input.required_body()?,
        message_id: input.text("messageId")?.to_owned(),
        metadata: input.text("metadata")?.to_owned(),
        tags: input.tags()?,
        client_id: asker.client_id.clone(),
        policy: Some(kubemq::QueueMessagePolicy {
            expiration_seconds: input.number("expirationAt")?,
            delay_seconds: input.number("delayedTo")?,
            max_receive_count: input.number("maxReceiveCount")?,
            max_receive_queue: input.text("maxReceiveQueue")?.to_owned(),
        }),
        ..kubemq::QueueMessage::default()
    };
    let failed = |error: &str| {
        Err(format!(
            "error sending queue message on channel: {channel} , error: {error}"
        ))
    };
    let sent: Result<kubemq::SendQueueMessageResult, _> =
        call(asker, method::SEND_QUEUE_MESSAGE, &message).await;
    let result = match sent {
        Ok(result) => result,
        Err(error) => return failed(&error),
    };
    if result.is_error {
        return failed(&result.error);
    }
    let readable = |ns: i64| (ns > 0).then(|| time::readable(ns));
    Ok(Done::with(&SentMessage {
        message_id: result.message_id,
        sent_at: time::rfc3339(result.sent_at),
        expires_at: readable(result.expiration_at),
        delayed_to: readable(result.delayed_to),
    }))
}

/// Receives messages, or looks at them. What is received comes back to its place when the answer
/// does not leave in full.
pub(super) async fn receive(asker: &Asker, input: &Input) -> Outcome {
    let request = kubemq::ReceiveQueueMessagesRequest {
        channel: input.required("channel", "channel")?.to_owned(),
        client_id: asker.client_id.clone(),
        max_number_of_messages: input.number("count")?,
        wait_time_seconds: WAIT_SECONDS,
        // The contract spells it so, and who knows that may write it here as well.
        is_peak: input.flag("isPeek")? || input.flag("isPeak")?,
        ..kubemq::ReceiveQueueMessagesRequest::default()
    };
    let failed = |error: &str| Err(format!("error receiving queue messages, error: {error}"));
    let mut receive = asker.client.call(method::RECEIVE_QUEUE_MESSAGES);
    let answer = match receive.ask(request.encode_to_vec().into()).await {
        Ok(answer) => answer,
        Err(status) => return failed(&refusal(&status)),
    };
    let shown = aside(answer.len(), move || received(answer)).await;
    match shown.unwrap_or_else(|| Err(BROKE_OFF.to_owned())) {
        Ok(envelope) => Ok(Done {
            envelope,
            settles: Some(receive),
        }),
        Err(error) => failed(&error),
    }
}

/// The envelope of what was received; the text of a refusal.
fn received(answer: Bytes) -> Result<Vec<u8>, String> {
    let answer: kubemq::ReceiveQueueMessagesResponse = decode(answer)?;
    if answer.is_error {
        return Err(answer.error);
    }
    let messages = answer.messages.into_iter();
    let messages: Vec<_> = messages.map(show::QueueMessage::new).collect();
    Ok(envelope(Ok((!messages.is_empty()).then_some(messages))))
}

/// The body of the answer to a purge.
#[derive(Deserialize)]
struct Purged {
    removed: u64,
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

/// Removes what is ready in a queue. What consumers hold, and what is delayed, stays.
pub(super) async fn purge(asker: &Asker, input: &Input) -> Outcome {
    let channel = input.required("channel", "channel")?;
    let purged = manage(asker, "purge-channel", Kind::Queues, channel).await;
    let failed = |error: String| format!("error purging queue channel {channel} , error: {error}");
    let body = purged.map_err(failed)?;
    let purged: Purged =
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    Ok(Done::with(&Count {
        count: purged.removed,
    }))
}
