//! The operator's tools for queues: list, info, ack, purge.

use std::time::Duration;

use clap::Args;
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, AckAllQueueMessagesResponse, QueueInfo, QueuesInfoRequest,
    QueuesInfoResponse,
};
use ringmq_proto::method;
use serde::Serialize;

use crate::cli::channels;
use crate::cli::connection::{Outcome, Session};
use crate::cli::failure::Failure;
use crate::cli::{parse, text};
use crate::model::Kind;

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct QueueName {
    /// The queue
    pub(super) queue: String,
}

/// Which queues.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only those whose names hold this text
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) search: String,
}

/// What is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct AckArgs {
    /// The queue
    queue: String,
    /// How long the broker looks for messages
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse::seconds)]
    wait: i32,
}

/// A queue, as programs read it.
#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    messages: i64,
    waiting: i64,
    bytes: i64,
    first_sequence: i64,
    last_sequence: i64,
    sent: i64,
    delivered: i64,
    consumers: i64,
}

impl From<QueueInfo> for Queue {
    fn from(info: QueueInfo) -> Self {
        Self {
            name: info.name,
            messages: info.messages,
            waiting: info.waiting,
            bytes: info.bytes,
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
            sent: info.sent,
            delivered: info.delivered,
            consumers: info.subscribers,
        }
    }
}

impl Queue {
    fn bytes(&self) -> String {
        text::bytes(u64::try_from(self.bytes).unwrap_or(0))
    }
}

/// The queues of these names, separated by semicolons; all for an empty text.
async fn queues(session: &Session, names: &str) -> Result<Vec<Queue>, Failure> {
    let request = QueuesInfoRequest {
        queue_name: names.to_owned(),
        ..QueuesInfoRequest::default()
    };
    let answer: QueuesInfoResponse = session.call(method::QUEUES_INFO, &request).await?;
    let found = answer.info.unwrap_or_default().queues;
    Ok(found.into_iter().map(Queue::from).collect())
}

/// How many messages of a queue wait for a consumer.
pub(super) async fn waiting(session: &Session, name: &str) -> Result<u64, Failure> {
    Ok(u64::try_from(queue(session, name).await?.waiting).unwrap_or(0))
}

async fn queue(session: &Session, name: &str) -> Result<Queue, Failure> {
    let mut queues = queues(session, name).await?;
    let missing = || Failure::Nothing(format!("there is no queue {name:?}"));
    queues.pop().ok_or_else(missing)
}

pub(super) async fn list(session: &Session, search: &str) -> Outcome {
    let mut queues = queues(session, "").await?;
    queues.retain(|queue| queue.name.contains(search));
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let head = [
        "queue",
        "waiting",
        "messages",
        "bytes",
        "sent",
        "delivered",
        "consumers",
    ];
    session.output.rows(&queues, head, |queue| {
        [
            queue.name.clone(),
            queue.waiting.to_string(),
            queue.messages.to_string(),
            queue.bytes(),
            queue.sent.to_string(),
            queue.delivered.to_string(),
            queue.consumers.to_string(),
        ]
    })
}

pub(super) async fn info(session: &Session, name: &str) -> Outcome {
    let queue = queue(session, name).await?;
    if session.output.is_json() {
        return session.output.json(&queue);
    }
    session.output.facts(&[
        ("queue", queue.name.clone()),
        ("messages", queue.messages.to_string()),
        ("waiting", queue.waiting.to_string()),
        ("bytes", queue.bytes()),
        ("first sequence", queue.first_sequence.to_string()),
        ("last sequence", queue.last_sequence.to_string()),
        ("sent", queue.sent.to_string()),
        ("delivered", queue.delivered.to_string()),
        ("consumers", queue.consumers.to_string()),
    ])
}

/// What was removed from a queue, as programs read it.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    queue: &'a str,
    removed: u64,
}

pub(super) async fn ack(session: &Session, args: &AckArgs) -> Outcome {
    let request = AckAllQueueMessagesRequest {
        client_id: session.client_id(),
        channel: args.queue.clone(),
        wait_time_seconds: args.wait,
        ..AckAllQueueMessagesRequest::default()
    };
    let wait = Duration::from_secs(u64::try_from(args.wait).unwrap_or(0));
    let patience = wait + session.patience();
    let answer: AckAllQueueMessagesResponse = session
        .call_within(method::ACK_ALL_QUEUE_MESSAGES, &request, patience)
        .await?;
    if answer.is_error {
        return Err(Failure::refused(answer.error));
    }
    removed(session, &args.queue, answer.affected_messages)
}

pub(super) async fn purge(session: &Session, queue: &str) -> Outcome {
    let count = channels::purge(session, Kind::Queues, queue).await?;
    removed(session, queue, count)
}

fn removed(session: &Session, queue: &str, removed: u64) -> Outcome {
    if session.output.is_json() {
        return session.output.json(&Removed { queue, removed });
    }
    session.output.text(&format!(
        "{} removed from {queue}\n",
        text::counted(removed, "message")
    ))
}
