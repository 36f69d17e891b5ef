//! `ringmq queues stream`: one message at a time, and a decision about each.
//!
//! Each message has a stream of its own: the contract ends it when its message is settled.

use std::io::Write;

use clap::{Args, ValueEnum};
use ringmq_proto::kubemq::{
    QueueMessage, StreamQueueMessagesRequest, StreamQueueMessagesResponse, StreamRequestType,
};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session, decode, encode};
use crate::cli::failure::Failure;
use crate::cli::input::Typed;
use crate::cli::output::{BodyStyle, Shown};
use crate::cli::{parse, text};
use crate::wire::client::{ClientSender, ClientStream};

/// Which messages are taken, and how they are settled.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct StreamArgs {
    /// The queue
    queue: String,
    /// How long a message stays ours
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse::seconds)]
    visibility: i32,
    /// How long to wait for the next one before the end
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse::seconds)]
    wait: i32,
    /// Settle each message in this way instead of asking
    #[arg(long, value_enum)]
    auto: Option<Auto>,
    /// The queue that messages go to, with --auto resend
    #[arg(long, value_name = "QUEUE", required_if_eq("auto", "resend"))]
    to: Option<String>,
    /// How many messages at most [default: all that come]
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    #[command(flatten)]
    style: BodyStyle,
}

/// What `--auto` does with each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auto {
    /// It is done, and gone
    Ack,
    /// It goes back
    Reject,
    /// It goes to the queue of --to
    Resend,
}

/// What is to become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Ack,
    Reject,
    Extend(i32),
    Resend(String),
    Quit,
}

const CHOICES: &str = "[a]ck, [r]eject, [e]xtend DURATION, re[s]end QUEUE, [q]uit";

impl Decision {
    /// Reads what somebody typed.
    fn read(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (word, argument) = (words.next().unwrap_or_default(), words.next());
        match (word, argument) {
            ("a" | "ack", None) => Ok(Self::Ack),
            ("r" | "reject", None) => Ok(Self::Reject),
            ("e" | "extend", Some(duration)) => parse::seconds(duration).map(Self::Extend),
            ("s" | "resend", Some(queue)) => Ok(Self::Resend(queue.to_owned())),
            ("q" | "quit", None) => Ok(Self::Quit),
            _ => Err(format!("answer with one of {CHOICES}")),
        }
    }
}

/// How the stream of one message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The message was settled, or its time is over.
    Settled(&'static str),
    /// No message came.
    Empty,
    /// The user wants no more; what was held goes back.
    Quit,
}

/// How many messages were settled in which way.
#[derive(Debug, Default)]
struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    fn add(&mut self, how: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == how) {
            Some((_, count)) => *count += 1,
            None => self.0.push((how, 1)),
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn text(&self) -> String {
        let parts: Vec<_> = self
            .0
            .iter()
            .map(|(how, count)| format!("{count} {how}"))
            .collect();
        format!(
            "{}: {}",
            text::counted(self.total(), "message"),
            parts.join(", ")
        )
    }
}

/// Takes messages and settles them.
pub(super) async fn run(session: &Session, args: &StreamArgs) -> Outcome {
    session.stop.listen();
    let (mut tally, mut typed) = (Tally::default(), Typed::default());
    while args.max.is_none_or(|max| tally.total() < max) {
        let mut held = Held::open(session, args, &mut typed)?;
        match held.live().await? {
            Ended::Settled(how) => tally.add(how),
            Ended::Empty | Ended::Quit if tally.total() > 0 => break,
            Ended::Quit => return Ok(()),
            Ended::Empty => {
                let text = format!("no message in {} within {} s", args.queue, args.wait);
                return Err(Failure::Nothing(text));
            }
        }
    }
    session.output.note(&tally.text());
    Ok(())
}

/// The stream of one message.
struct Held<'a> {
    session: &'a Session,
    args: &'a StreamArgs,
    typed: &'a mut Typed,
    client_id: String,
    sender: ClientSender,
    stream: ClientStream,
}

impl<'a> Held<'a> {
    fn open(
        session: &'a Session,
        args: &'a StreamArgs,
        typed: &'a mut Typed,
    ) -> Result<Self, Failure> {
        let (sender, stream) = session.bidi(method::STREAM_QUEUE_MESSAGE)?;
        Ok(Self {
            session,
            args,
            typed,
            client_id: session.client_id(),
            sender,
            stream,
        })
    }

    /// Takes a message, shows it, and settles it.
    async fn live(&mut self) -> Result<Ended, Failure> {
        self.ask(StreamRequestType::ReceiveMessage, |request| {
            request.channel.clone_from(&self.args.queue);
            request.visibility_seconds = self.args.visibility;
            request.wait_time_seconds = self.args.wait;
        })?;
        let stop = self.session.stop.clone();
        let Some(answer) = stop.or(self.answer()).await else {
            return Ok(Ended::Quit);
        };
        let message = match answer? {
            Some(answer) if answer.error.starts_with("Error 138:") => return Ok(Ended::Empty),
            Some(answer) if answer.is_error => return Err(Failure::refused(answer.error)),
            Some(answer) => answer.message.unwrap_or_default(),
            None => return Ok(Ended::Empty),
        };
        self.session
            .output
            .message(self.args.style, &Shown::queue_message(&message))?;
        self.settle(&message).await
    }

    async fn settle(&mut self, message: &QueueMessage) -> Result<Ended, Failure> {
        let sequence = message
            .attributes
            .as_ref()
            .map_or(0, |found| found.sequence);
        loop {
            let Some(decision) = self.decide().await? else {
                return Ok(Ended::Settled("out of time"));
            };
            let (request_type, how) = match &decision {
                Decision::Ack => (StreamRequestType::AckMessage, "acknowledged"),
                Decision::Reject => (StreamRequestType::RejectMessage, "rejected"),
                Decision::Extend(_) => (StreamRequestType::ModifyVisibility, "extended"),
                Decision::Resend(_) => (StreamRequestType::ResendMessage, "resent"),
                Decision::Quit => return Ok(Ended::Quit),
            };
            self.ask(request_type, |request| {
                request.ref_sequence = sequence;
                match &decision {
                    Decision::Extend(seconds) => request.visibility_seconds = *seconds,
                    Decision::Resend(queue) => request.channel.clone_from(queue),
                    Decision::Ack | Decision::Reject | Decision::Quit => {}
                }
            })?;
            match self.answer().await? {
                Some(answer) if answer.error.starts_with("Error 129:") => {
                    self.session.output.complain(&answer.error);
                    return Ok(Ended::Settled("out of time"));
                }
                Some(answer) if answer.is_error => {
                    let failure = Failure::refused(answer.error);
                    if self.args.auto.is_some() {
                        return Err(failure);
                    }
                    self.session.output.complain(&failure.to_string());
                }
                _ if matches!(decision, Decision::Extend(_)) => {
                    self.session.output.note("extended");
                }
                _ => return Ok(Ended::Settled(how)),
            }
        }
    }

    /// What is to become of the message; `None` when its time was over before that was known.
    async fn decide(&mut self) -> Result<Option<Decision>, Failure> {
        match (self.args.auto, &self.args.to) {
            (Some(Auto::Ack), _) => return Ok(Some(Decision::Ack)),
            (Some(Auto::Reject), _) => return Ok(Some(Decision::Reject)),
            (Some(Auto::Resend), to) => {
                return Ok(Some(Decision::Resend(to.clone().unwrap_or_default())));
            }
            (None, _) => {}
        }
        loop {
            self.prompt();
            let (stop, typed) = (&self.session.stop, &mut *self.typed);
            let asked = async { Either::Typed(stop.or(typed.line()).await.flatten()) };
            // The broker says it when the message's time is over; a person may not have answered.
            let stream = &mut self.stream;
            let over = async { Either::Over(Box::new(next(stream).await)) };
            match futures_lite::future::or(asked, over).await {
                Either::Typed(None) => return Ok(Some(Decision::Quit)),
                Either::Typed(Some(line)) => match Decision::read(&line) {
                    Ok(decision) => return Ok(Some(decision)),
                    Err(text) => self.session.output.complain(&text),
                },
                Either::Over(ended) => {
                    let text = (*ended)?.map(|answer| answer.error);
                    self.session.output.complain(&text.unwrap_or_default());
                    return Ok(None);
                }
            }
        }
    }

    fn prompt(&self) {
        if self.session.output.is_terminal() {
            let mut error = std::io::stderr();
            let _nobody_sees_it = write!(error, "{CHOICES}: ").and_then(|()| error.flush());
        }
    }

    fn ask(
        &mut self,
        request_type: StreamRequestType,
        fill: impl FnOnce(&mut StreamQueueMessagesRequest),
    ) -> Outcome {
        let mut request = StreamQueueMessagesRequest {
            client_id: self.client_id.clone(),
            stream_request_type_data: request_type.into(),
            ..StreamQueueMessagesRequest::default()
        };
        fill(&mut request);
        let sent = self.sender.send_message(encode(&request));
        sent.map_err(|_| Failure::Lost("the stream has ended".to_owned()))
    }

    /// The broker's next answer; `None` when it has ended the stream.
    async fn answer(&mut self) -> Result<Option<StreamQueueMessagesResponse>, Failure> {
        next(&mut self.stream).await
    }
}

async fn next(stream: &mut ClientStream) -> Result<Option<StreamQueueMessagesResponse>, Failure> {
    match stream.message().await? {
        Some(message) => Ok(Some(decode(message)?)),
        None => Ok(None),
    }
}

/// What came first.
enum Either {
    Typed(Option<String>),
    Over(Box<Result<Option<StreamQueueMessagesResponse>, Failure>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_have_short_and_long_names() {
        assert_eq!(Decision::read("a"), Ok(Decision::Ack));
        assert_eq!(Decision::read(" reject "), Ok(Decision::Reject));
        assert_eq!(Decision::read("e 2m"), Ok(Decision::Extend(120)));
        assert_eq!(
            Decision::read("resend dead"),
            Ok(Decision::Resend("dead".to_owned()))
        );
        assert_eq!(Decision::read("q"), Ok(Decision::Quit));
        for wrong in ["", "ack 7", "extend", "extend soon", "resend", "z"] {
            assert!(Decision::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tallies_count_each_end() {
        let mut tally = Tally::default();
        for how in ["acknowledged", "rejected", "acknowledged"] {
            tally.add(how);
        }
        assert_eq!(tally.text(), "3 messages: 2 acknowledged, 1 rejected");
    }
}
