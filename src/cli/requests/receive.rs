//! `ringmq commands receive` and `ringmq queries receive`: answers from the command line, from a
//! program, or from a person.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::subscribe::SubscribeType;
use ringmq_proto::kubemq::{Empty, Request, Response, Subscribe};
use ringmq_proto::method;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::connection::{Outcome, Session, decode};
use crate::cli::input::Typed;
use crate::cli::output::{BodyStyle, Shown};
use crate::cli::subscription::{Bounds, Subscription};
use crate::rt::{self, Queue};

/// What is subscribed to, and what is answered.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct ReceiveArgs {
    /// The channel; wildcards: * for one word, > for all that follow
    channel: String,
    /// Share the requests with the others of this group
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,
    #[command(flatten)]
    answer: Answer,
    /// Metadata of the answers
    #[arg(long, default_value = "", hide_default_value = true)]
    metadata: String,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    style: BodyStyle,
}

/// What is answered; without any of them each answer is a line of the standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Answers")]
#[group(multiple = false)]
struct Answer {
    /// Answer each request with this text
    #[arg(long, value_name = "TEXT")]
    response: Option<String>,
    /// Run this command of the shell for each request: the body is its standard input, its
    /// standard output is the answer; an exit code other than 0 means that it failed
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Answer each request with this error
    #[arg(long, value_name = "TEXT")]
    fail: Option<String>,
}

/// The body of an answer, or why there is none.
type Answered = Result<Bytes, String>;

/// Subscribes and answers, until the bounds are reached or Ctrl-C.
pub(super) async fn run(session: &Session, args: ReceiveArgs, kind: RequestType) -> Outcome {
    let subscribe = Subscribe {
        subscribe_type_data: match kind {
            RequestType::Query => SubscribeType::Queries.into(),
            RequestType::Command | RequestType::Unknown => SubscribeType::Commands.into(),
        },
        client_id: session.client_id(),
        channel: args.channel.clone(),
        group: args.group.clone(),
        ..Subscribe::default()
    };
    let stream = session.subscribe(method::SUBSCRIBE_TO_REQUESTS, &subscribe)?;
    let mut subscription = Subscription::open(session, stream, &args.channel, args.bounds).await?;
    let args = Rc::new(args);
    // Answers on their way; the last of them are waited for.
    let at_work = Rc::new(());
    let mut typed = Typed::default();
    while let Some(message) = subscription.next().await? {
        let request: Request = decode(message)?;
        session
            .output
            .message(args.style, &Shown::request(&request))?;
        let Some(command) = args.answer.exec.clone() else {
            let answered = match (&args.answer.response, &args.answer.fail) {
                (Some(text), _) => Ok(Bytes::from(text.clone())),
                (None, Some(error)) => Err(error.clone()),
                (None, None) => ask(session, &mut typed).await,
            };
            respond(session, &args, request, answered).await;
            continue;
        };
        let (session, args, at_work) = (session.clone(), Rc::clone(&args), at_work.clone());
        rt::spawn(Queue::Serve, "responder", async move {
            if let Some(answered) = execute(&command, &request).await {
                respond(&session, &args, request, answered).await;
            } else {
                session.output.complain(&format!(
                    "the command took longer than {} ms and was ended: nobody waits for it any more",
                    request.timeout
                ));
            }
            drop(at_work);
        });
    }
    while Rc::strong_count(&at_work) > 1 {
        rt::sleep(Duration::from_millis(5)).await;
    }
    subscription.finish("request")
}

async fn respond(session: &Session, args: &ReceiveArgs, request: Request, answered: Answered) {
    let response = Response {
        client_id: session.client_id(),
        request_id: request.request_id,
        reply_channel: request.reply_channel,
        metadata: args.metadata.clone(),
        timestamp: rt::unix_ns(),
        executed: answered.is_ok(),
        error: answered.as_ref().err().cloned().unwrap_or_default(),
        body: answered.unwrap_or_default(),
        ..Response::default()
    };
    if !response.executed {
        session
            .output
            .complain(&format!("answered with an error: {}", response.error));
    }
    let sent: Result<Empty, _> = session.call(method::SEND_RESPONSE, &response).await;
    if let Err(failure) = sent {
        session
            .output
            .complain(&format!("the answer was not sent: {failure}"));
    }
}

/// A person's answer.
async fn ask(session: &Session, typed: &mut Typed) -> Answered {
    if session.output.is_terminal() {
        let mut error = std::io::stderr();
        let _nobody_sees_it = write!(error, "answer: ").and_then(|()| error.flush());
    }
    let line = session.stop.or(typed.line()).await.flatten();
    line.map(Bytes::from)
        .ok_or_else(|| "nobody answers here any more".to_owned())
}

/// A program's answer. One that takes longer than the answer may is ended, and none comes from it:
/// its requester is told of the time that ran out, and by the broker.
async fn execute(command: &str, request: &Request) -> Option<Answered> {
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("RINGMQ_CHANNEL", &request.channel)
        .env("RINGMQ_REQUEST_ID", &request.request_id)
        .env("RINGMQ_METADATA", &request.metadata)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // Of its own: Ctrl-C is for us, and what it has started ends with it.
        .process_group(0)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Some(Err(format!("the command cannot be run: {error}"))),
    };
    let group = Pid::from_child(&child);
    let body = request.body.clone();
    let work = async {
        let done = rt::blocking(move || converse(child, &body)).await;
        Some(done.unwrap_or_else(|| Err("the command could not be watched".to_owned())))
    };
    let limit = async {
        let ms = u64::try_from(request.timeout).unwrap_or(0);
        rt::sleep(Duration::from_millis(ms)).await;
        let _it_has_ended = kill_process_group(group, Signal::KILL);
        None
    };
    futures_lite::future::or(work, limit).await
}

/// Writes the body to a program and reads its answer. Blocks.
fn converse(mut child: Child, body: &Bytes) -> Answered {
    let broken = |error: std::io::Error| format!("the command cannot be read: {error}");
    let mut answer = Vec::new();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read its input has no use for the body.
            let written = stdin.map(|mut stdin| stdin.write_all(body));
            let _it_did_not_read = written;
        });
        stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut answer))
    })
    .map_err(broken)?;
    let status = child.wait().map_err(broken)?;
    if status.success() {
        Ok(answer.into())
    } else {
        Err(format!("the command failed: {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converse_with(command: &str, body: &'static [u8]) -> Answered {
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        converse(child, &Bytes::from_static(body))
    }

    #[test]
    fn a_programs_output_is_the_answer() {
        assert_eq!(
            converse_with("tr a-z A-Z", b"hello"),
            Ok(Bytes::from_static(b"HELLO"))
        );
        assert_eq!(
            converse_with("echo deaf", b"hello"),
            Ok(Bytes::from_static(b"deaf\n"))
        );
    }

    #[test]
    fn a_programs_failure_is_an_error() {
        let error = converse_with("exit 3", b"").unwrap_err();
        assert!(error.contains('3'), "{error}");
    }
}
