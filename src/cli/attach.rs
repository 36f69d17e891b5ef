//! `ringmq … attach`: what goes through a channel, live, as the management service shows it.
//! Nothing is consumed.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use regex::Regex;
use serde_json::Value;
use tungstenite::handshake::client::Response;
use tungstenite::{Message, WebSocket};

use super::connection::{Outcome, Target};
use super::failure::Failure;
use super::output::{Output, Style};
use super::{management, parse, stop, text};
use crate::rt;

/// How long the opening may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often we look whether the user wants to end.
const PERIOD: Duration = Duration::from_millis(100);

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct AttachArgs {
    /// The channel
    channel: String,
    /// Show only what matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    include: Option<Expression>,
    /// Show nothing that matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    exclude: Option<Expression>,
    /// End after so many
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// End when nothing comes for so long
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    wait: Option<Duration>,
}

/// A regular expression. Two are the same when their texts are.
#[derive(Clone, Debug)]
struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

fn expression(text: &str) -> Result<Expression, String> {
    Regex::new(text)
        .map(Expression)
        .map_err(|error| error.to_string())
}

impl AttachArgs {
    /// Watches a channel until the bounds are reached or Ctrl-C. `kind` is the route's word.
    pub(super) fn run(&self, kind: &str, target: &Target, output: Output) -> Outcome {
        let stopped = Arc::new(AtomicBool::new(false));
        stop::listen(&stopped);
        let mut socket = open(target.api(), kind, &self.channel)?;
        let mut shown = 0_u64;
        let mut last = rt::now();
        loop {
            if stopped.load(Ordering::Relaxed) || self.max.is_some_and(|max| shown >= max) {
                break;
            }
            match socket.read() {
                Ok(Message::Text(text)) => {
                    last = rt::now();
                    if self.show(&text, output)? {
                        shown += 1;
                    }
                }
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => {
                    return Err(Failure::Lost("the broker closed the view".to_owned()));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if is_timeout(&error) => {
                    let silent = rt::now().since(last);
                    if self.wait.is_some_and(|wait| silent >= wait) {
                        break;
                    }
                }
                Err(error) => return Err(Failure::Lost(error.to_string())),
            }
        }
        let _it_may_be_gone = socket.close(None);
        output.note(&text::counted(shown, "message"));
        match self.wait {
            Some(wait) if shown == 0 && !stopped.load(Ordering::Relaxed) => {
                Err(Failure::Nothing(format!("nothing came within {wait:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a message if it is wanted, and says whether it was.
    fn show(&self, text: &str, output: Output) -> Result<bool, Failure> {
        // What is no object is the broker's word about the view itself.
        let value: Option<Value> = serde_json::from_str(text).ok();
        let Some(value) = value.filter(Value::is_object) else {
            output.note(text);
            return Ok(false);
        };
        let matches = |expression: &Expression| expression.0.is_match(text);
        let wanted = self.include.as_ref().is_none_or(matches);
        if !wanted || self.exclude.as_ref().is_some_and(matches) {
            return Ok(false);
        }
        if output.is_json() {
            output.json(&value)?;
        } else {
            output.text(&for_people(&self.channel, &value, output))?;
        }
        Ok(true)
    }
}

/// A line of what is known, and the body under it.
fn for_people(channel: &str, value: &Value, output: Output) -> String {
    let mut facts = Vec::new();
    let mut body = String::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let written = match value {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        if name == "body" {
            body = written;
        } else if !written.is_empty() && written != "0" {
            facts.push(format!("{name} {written}"));
        }
    }
    let head = output.paint(Style::Head, channel);
    let facts = output.paint(Style::Faint, &text::harmless(&facts.join("  ")));
    let line_end = if body.is_empty() { "" } else { "\n" };
    format!("{head}  {facts}\n{}{line_end}", text::harmless(&body))
}

fn is_timeout(error: &io::Error) -> bool {
    // Ctrl-C interrupts a read.
    let kinds = [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::TimedOut,
        io::ErrorKind::Interrupted,
    ];
    kinds.contains(&error.kind())
}

fn open(api: &str, kind: &str, channel: &str) -> Result<WebSocket<TcpStream>, Failure> {
    let stream = management::connect(api, PATIENCE)?;
    let channel = management::escaped(channel);
    let address = format!("ws://{api}/v1/stats/attach?channel={channel}&kind={kind}");
    let opened = tungstenite::client(address, stream);
    let (mut socket, _) = opened.map_err(|error| match error {
        tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response)) => {
            refused(&response)
        }
        error => Failure::Lost(error.to_string()),
    })?;
    let started = socket.send(Message::text("start"));
    started.map_err(|error| Failure::Lost(error.to_string()))?;
    let timeout = socket.get_ref().set_read_timeout(Some(PERIOD));
    timeout.map_err(|error| Failure::Lost(error.to_string()))?;
    Ok(socket)
}

fn refused(response: &Response) -> Failure {
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let text = match body.trim() {
        "" => "the channel cannot be watched: its name is empty or not allowed".to_owned(),
        // The code is in the status.
        text => text.rsplit("message=").next().unwrap_or(text).to_owned(),
    };
    match response.status().as_u16() {
        404 => Failure::Refused("the management service has no live views".to_owned()),
        _ => Failure::Refused(text),
    }
}
