//! `ringmq queues receive` and `ringmq queues peek`.

use std::time::Duration;

use clap::Args;
use ringmq_proto::kubemq::{
    QueueMessage, ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse,
};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session};
use crate::cli::failure::Failure;
use crate::cli::output::{BodyStyle, Shown};
use crate::cli::{parse, text};

/// What one call of `--watch` waits: short enough that a server which cannot be told that we left
/// does not keep messages for us for long.
const WATCH_WAIT_SECONDS: i32 = 10;

/// What one call of `--watch` takes.
const WATCH_MAX: u16 = 100;

/// What is taken.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct ReceiveArgs {
    /// The queue
    queue: String,
    /// How many at most; with --watch: how many before the end
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max: Option<u16>,
    /// How long to wait for them
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse::seconds)]
    wait: i32,
    /// Go on until Ctrl-C
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    #[command(flatten)]
    style: BodyStyle,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct PeekArgs {
    /// The queue
    queue: String,
    /// How many at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..))]
    max: u16,
    /// How long to wait for one
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse::seconds)]
    wait: i32,
    #[command(flatten)]
    style: BodyStyle,
}

/// Takes messages and writes them.
pub(super) async fn run(session: &Session, args: &ReceiveArgs) -> Outcome {
    if args.watch {
        return watch(session, args).await;
    }
    let max = args.max.unwrap_or(1);
    let messages = receive(session, &args.queue, max, args.wait, false).await?;
    write(session, args.style, &messages)?;
    something(&messages, &args.queue, args.wait)
}

/// Looks at messages and writes them.
pub(super) async fn peek(session: &Session, args: &PeekArgs) -> Outcome {
    let messages = receive(session, &args.queue, args.max, args.wait, true).await?;
    write(session, args.style, &messages)?;
    something(&messages, &args.queue, args.wait)
}

fn something(messages: &[QueueMessage], queue: &str, wait: i32) -> Outcome {
    if messages.is_empty() {
        return Err(Failure::Nothing(format!(
            "no message in {queue} within {wait} s"
        )));
    }
    Ok(())
}

async fn watch(session: &Session, args: &ReceiveArgs) -> Outcome {
    session.stop.listen();
    session
        .output
        .note(&format!("receiving from {}; Ctrl-C ends", args.queue));
    let mut received = 0_u64;
    loop {
        let left = args.max.map(|max| u64::from(max).saturating_sub(received));
        let max = left.map_or(WATCH_MAX, |left| u16::try_from(left).unwrap_or(WATCH_MAX));
        if max == 0 {
            break;
        }
        let take = receive(
            session,
            &args.queue,
            max.min(WATCH_MAX),
            WATCH_WAIT_SECONDS,
            false,
        );
        let Some(messages) = session.stop.or(take).await else {
            break;
        };
        let messages = messages?;
        write(session, args.style, &messages)?;
        received += u64::try_from(messages.len()).unwrap_or(0);
    }
    session
        .output
        .note(&format!("{} received", text::counted(received, "message")));
    Ok(())
}

fn write(session: &Session, style: BodyStyle, messages: &[QueueMessage]) -> Outcome {
    let mut shown = messages.iter().map(Shown::queue_message);
    shown.try_for_each(|message| session.output.message(style, &message))
}

async fn receive(
    session: &Session,
    queue: &str,
    max: u16,
    wait_seconds: i32,
    is_peek: bool,
) -> Result<Vec<QueueMessage>, Failure> {
    let request = ReceiveQueueMessagesRequest {
        client_id: session.client_id(),
        channel: queue.to_owned(),
        max_number_of_messages: max.into(),
        wait_time_seconds: wait_seconds,
        is_peak: is_peek,
        ..ReceiveQueueMessagesRequest::default()
    };
    let wait = Duration::from_secs(u64::try_from(wait_seconds).unwrap_or(0));
    let patience = wait + session.patience();
    let answer: ReceiveQueueMessagesResponse = session
        .call_within(method::RECEIVE_QUEUE_MESSAGES, &request, patience)
        .await?;
    if answer.is_error {
        return Err(Failure::refused(answer.error));
    }
    Ok(answer.messages)
}
