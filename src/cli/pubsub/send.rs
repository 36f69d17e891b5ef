//! `ringmq events send` and `ringmq events-store send`.

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use prost::Message;
use ringmq_proto::kubemq::{Event, Result as EventResult};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session, decode};
use crate::cli::failure::Failure;
use crate::cli::input::{Bodies, BodyArgs, ExtraArgs, ManyArgs, Plan};
use crate::cli::output::Sent;
use crate::cli::text;
use crate::rt;
use crate::wire::client::ClientStream;

/// Events that are made at a time.
const BATCH_MAX: usize = 100;

/// Stored events whose results have not come yet, at most.
const UNANSWERED_MAX: u64 = 1_000;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct SendArgs {
    /// The channel
    channel: String,
    #[command(flatten)]
    body: BodyArgs,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    many: ManyArgs,
    /// Send over one call: faster, and only what is refused has an answer unless it is stored
    #[arg(long)]
    stream: bool,
    /// Its id, for one event [default: the broker makes one]
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
}

impl SendArgs {
    /// Reads what is sent.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let plan = Plan::read(&self.body, &self.extra, &self.many)?;
        if !self.id.is_empty() && !plan.is_one() {
            return Err(Failure::Usage("--id is for one event".to_owned()));
        }
        Ok(plan)
    }

    fn event(&self, client_id: &str, body: Bytes, store: bool) -> Event {
        Event {
            event_id: self.id.clone(),
            client_id: client_id.to_owned(),
            channel: self.channel.clone(),
            metadata: self.extra.metadata.clone(),
            body,
            store,
            tags: self.extra.tags.iter().cloned().collect(),
        }
    }
}

/// What came of the events so far.
#[derive(Debug, Default)]
struct Count {
    sent: u64,
    refused: u64,
    last_error: String,
}

/// Sends, and says what came of each event. A refused one does not stop those behind it.
pub(super) async fn run(session: &Session, args: &SendArgs, plan: Plan, store: bool) -> Outcome {
    let is_one = plan.is_one();
    let mut sending = Sending {
        session,
        args,
        client_id: session.client_id(),
        store,
        is_one,
        count: Count::default(),
    };
    let bodies = plan.begin();
    if args.stream {
        sending.over_one_call(bodies).await?;
    } else {
        sending.one_by_one(bodies).await?;
    }
    let Count {
        sent,
        refused,
        last_error,
    } = sending.count;
    if !is_one || args.stream {
        session.output.done(&format!(
            "{} sent to {}",
            text::counted(sent, "event"),
            args.channel
        ))?;
    }
    match refused {
        0 => Ok(()),
        1 if is_one && !session.output.is_json() => Err(Failure::refused(last_error)),
        _ => Err(Failure::Refused(format!(
            "{refused} of {} were refused",
            sent + refused
        ))),
    }
}

struct Sending<'a> {
    session: &'a Session,
    args: &'a SendArgs,
    client_id: String,
    store: bool,
    is_one: bool,
    count: Count,
}

impl Sending<'_> {
    async fn one_by_one(&mut self, mut bodies: Bodies) -> Outcome {
        loop {
            let batch = bodies.next(BATCH_MAX).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for body in batch {
                let event = self.args.event(&self.client_id, body, self.store);
                let result = self.session.call(method::SEND_EVENT, &event).await;
                let result: EventResult = match result {
                    // A refusal of one event is the status of its call.
                    Err(Failure::Refused(error)) if !self.is_one => EventResult {
                        error,
                        ..EventResult::default()
                    },
                    result => result?,
                };
                self.count(&result)?;
                if self.is_one && result.sent && !self.session.output.is_json() {
                    let text = format!("sent {} to {}", result.event_id, self.args.channel);
                    self.session.output.done(&text)?;
                }
            }
        }
    }

    async fn over_one_call(&mut self, mut bodies: Bodies) -> Outcome {
        let (mut sender, mut results) = self.session.bidi(method::SEND_EVENTS_STREAM)?;
        let (mut unanswered, mut given) = (0_u64, 0_u64);
        loop {
            let batch = bodies.next(BATCH_MAX).await?;
            if batch.is_empty() {
                break;
            }
            let mut frames = BytesMut::new();
            for body in batch {
                put_frame(
                    &self.args.event(&self.client_id, body, self.store),
                    &mut frames,
                );
                given += 1;
                unanswered += 1;
            }
            let lost = |_| Failure::Lost("the stream has ended".to_owned());
            sender.send_all(frames.freeze()).await.map_err(lost)?;
            // Of plain events only the refused ones have an answer: what is here is taken.
            while self.store && unanswered > UNANSWERED_MAX {
                unanswered -= self.take(&mut results).await?;
            }
            while let Some(taken) = futures_lite::future::poll_once(self.take(&mut results)).await {
                unanswered -= taken?.min(unanswered);
            }
        }
        sender.finish();
        // Once all is answered the broker ends the call; one that does not is not waited for.
        let limit = self.session.patience();
        let all = async {
            while self.take(&mut results).await? > 0 {}
            Ok(())
        };
        let patience = async {
            rt::sleep(limit).await;
            Err(Failure::TimedOut(
                "the results did not come in time".to_owned(),
            ))
        };
        futures_lite::future::or(all, patience).await?;
        if !self.store {
            self.count.sent = given - self.count.refused;
        }
        Ok(())
    }

    /// Takes a result; 0 when there are no more.
    async fn take(&mut self, results: &mut ClientStream) -> Result<u64, Failure> {
        let Some(result) = results.message().await? else {
            return Ok(0);
        };
        let result: EventResult = decode(result)?;
        self.count(&result)?;
        Ok(1)
    }

    fn count(&mut self, result: &EventResult) -> Outcome {
        let output = self.session.output;
        if result.sent {
            self.count.sent += 1;
        } else {
            self.count.refused += 1;
            self.count.last_error.clone_from(&result.error);
            if !self.is_one && !output.is_json() {
                output.complain(&format!("not sent: {}", result.error));
            }
        }
        if output.is_json() {
            output.json(&Sent::event(&self.args.channel, result))?;
        }
        Ok(())
    }
}

/// Appends a message with its prefix.
fn put_frame(event: &Event, frames: &mut BytesMut) {
    let len = event.encoded_len();
    frames.put_u8(0);
    frames.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    frames.put_slice(&event.encode_to_vec());
}
