//! `ringmq queues send`.

use bytes::Bytes;
use clap::Args;
use ringmq_proto::kubemq::{
    QueueMessage, QueueMessagePolicy, QueueMessagesBatchRequest, QueueMessagesBatchResponse,
    SendQueueMessageResult,
};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session};
use crate::cli::failure::Failure;
use crate::cli::input::{BodyArgs, ExtraArgs, ManyArgs, Plan};
use crate::cli::output::Sent;
use crate::cli::{parse, text};

/// Messages of one call, when there are many.
const BATCH_MAX: usize = 100;

/// What is sent, and under which policy.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct SendArgs {
    /// The queue
    queue: String,
    #[command(flatten)]
    body: BodyArgs,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    many: ManyArgs,
    /// How long it may wait for a consumer, as 30s or 1h [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse::seconds, default_value = "0",
          hide_default_value = true)]
    expiration: i32,
    /// How long it stays invisible first
    #[arg(long, value_name = "DURATION", value_parser = parse::seconds, default_value = "0",
          hide_default_value = true)]
    delay: i32,
    /// How often it may be received before it is a dead letter [default: the broker's]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    max_receives: i32,
    /// The queue that it goes to then [default: the broker's]
    #[arg(
        long,
        value_name = "QUEUE",
        default_value = "",
        hide_default_value = true
    )]
    dead_letter_queue: String,
    /// Its id, for one message [default: the broker makes one]
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
}

impl SendArgs {
    /// Reads what is sent.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let plan = Plan::read(&self.body, &self.extra, &self.many)?;
        if !self.id.is_empty() && !plan.is_one() {
            return Err(Failure::Usage("--id is for one message".to_owned()));
        }
        Ok(plan)
    }

    fn message(&self, client_id: &str, body: Bytes) -> QueueMessage {
        QueueMessage {
            message_id: self.id.clone(),
            client_id: client_id.to_owned(),
            channel: self.queue.clone(),
            metadata: self.extra.metadata.clone(),
            body,
            tags: self.extra.tags.iter().cloned().collect(),
            policy: Some(QueueMessagePolicy {
                expiration_seconds: self.expiration,
                delay_seconds: self.delay,
                max_receive_count: self.max_receives,
                max_receive_queue: self.dead_letter_queue.clone(),
            }),
            ..QueueMessage::default()
        }
    }
}

/// Sends, and says what came of each message. A refused one does not stop those behind it.
pub(super) async fn run(session: &Session, args: &SendArgs, plan: Plan) -> Outcome {
    let client_id = session.client_id();
    let is_one = plan.is_one();
    let mut bodies = plan.begin();
    let (mut sent, mut refused, mut last) = (0_u64, 0_u64, String::new());
    loop {
        let batch = bodies.next(BATCH_MAX).await?;
        if batch.is_empty() {
            break;
        }
        let messages = batch
            .into_iter()
            .map(|body| args.message(&client_id, body))
            .collect();
        for result in send(session, messages).await? {
            let shown = Sent::to_queue(&args.queue, &result);
            if session.output.is_json() {
                session.output.json(&shown)?;
            } else if result.is_error {
                last.clone_from(&result.error);
                if !is_one {
                    session
                        .output
                        .complain(&format!("not sent: {}", result.error));
                }
            } else if is_one {
                session
                    .output
                    .done(&format!("sent {} to {}", shown.id, args.queue))?;
            }
            *(if result.is_error {
                &mut refused
            } else {
                &mut sent
            }) += 1;
        }
    }
    if !is_one {
        session.output.done(&format!(
            "{} sent to {}",
            text::counted(sent, "message"),
            args.queue
        ))?;
    }
    match refused {
        0 => Ok(()),
        1 if is_one && !session.output.is_json() => Err(Failure::refused(last)),
        _ => Err(Failure::Refused(format!(
            "{refused} of {} were refused",
            sent + refused
        ))),
    }
}

/// One message by the call for one, which every server has; more of them in one call.
async fn send(
    session: &Session,
    mut messages: Vec<QueueMessage>,
) -> Result<Vec<SendQueueMessageResult>, Failure> {
    if messages.len() == 1
        && let Some(message) = messages.pop()
    {
        return Ok(vec![
            session.call(method::SEND_QUEUE_MESSAGE, &message).await?,
        ]);
    }
    let request = QueueMessagesBatchRequest {
        batch_id: String::new(),
        messages,
    };
    let answer: QueueMessagesBatchResponse = session
        .call(method::SEND_QUEUE_MESSAGES_BATCH, &request)
        .await?;
    Ok(answer.results)
}
