//! `ringmq channels`: what channels there are, and which there are to be.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::connection::{self, Outcome, Session, Target};
use super::failure::Failure;
use super::output::Output;
use super::{examples, text};
use crate::model::Kind;

/// How long a change may take: a purge reads what it removes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What `ringmq channels` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Task {
    /// Print the channels with what went through them
    #[command(after_help = examples::CHANNELS_LIST)]
    List(ListArgs),
    /// Make channels; those that are there stay as they are
    #[command(after_help = examples::CHANNELS_CREATE)]
    Create(ChangeArgs),
    /// Delete channels, with their messages and the positions of their readers
    #[command(after_help = examples::CHANNELS_DELETE)]
    Delete(ChangeArgs),
    /// Remove the messages of queues or of stored channels
    #[command(after_help = examples::CHANNELS_PURGE)]
    Purge(ChangeArgs),
}

/// Which channels are listed.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct ListArgs {
    /// Only of these kinds [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    kind: Vec<KindName>,
    /// Only those whose names hold this text
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,
    /// Only those with clients, or with traffic in the last minutes
    #[arg(long)]
    active: bool,
}

/// Which channels are changed.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct ChangeArgs {
    /// Their kind
    #[arg(value_enum)]
    kind: KindName,
    /// Their names
    #[arg(required = true, value_name = "CHANNEL")]
    names: Vec<String>,
}

/// A kind of channels, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KindName {
    /// Messages that one consumer takes
    Queues,
    /// Events that nobody keeps
    Events,
    /// Events that are stored
    #[value(alias = "events_store")]
    EventsStore,
    /// Requests whose answer is whether they were done
    Commands,
    /// Requests whose answer is data
    Queries,
}

impl KindName {
    const fn kind(self) -> Kind {
        match self {
            Self::Queues => Kind::Queues,
            Self::Events => Kind::Events,
            Self::EventsStore => Kind::EventsStore,
            Self::Commands => Kind::Commands,
            Self::Queries => Kind::Queries,
        }
    }
}

/// A channel, as a broker lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Channel {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) last_activity: u64,
    pub(super) is_active: bool,
    pub(super) incoming: Traffic,
    pub(super) outgoing: Traffic,
}

/// One direction of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) volume: u64,
    pub(super) responses: u64,
    pub(super) waiting: u64,
    pub(super) expired: u64,
    pub(super) delayed: u64,
}

/// A channel, as programs read it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    kind: &'a str,
    name: &'a str,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activity: Option<String>,
    messages_in: u64,
    bytes_in: u64,
    messages_out: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired: Option<u64>,
}

impl<'a> Listed<'a> {
    fn of(channel: &'a Channel) -> Self {
        let queue = channel.kind == Kind::Queues.name();
        let last_ns = channel.last_activity.saturating_mul(1_000_000);
        Self {
            kind: &channel.kind,
            name: &channel.name,
            active: channel.is_active,
            last_activity: (last_ns > 0).then(|| text::time_ms(last_ns)),
            messages_in: channel.incoming.messages,
            bytes_in: channel.incoming.volume,
            messages_out: channel.outgoing.messages,
            bytes_out: channel.outgoing.volume,
            waiting: queue.then_some(channel.outgoing.waiting),
            delayed: queue.then_some(channel.outgoing.delayed),
            expired: queue.then_some(channel.outgoing.expired),
        }
    }
}

/// What was done to a channel, as programs read it.
#[derive(Debug, Serialize)]
struct Changed<'a> {
    kind: &'a str,
    name: &'a str,
    done: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<u64>,
}

/// Does a task.
pub(super) fn run(target: Target, output: Output, task: Task) -> Outcome {
    connection::run(target, output, move |session| async move {
        match &task {
            Task::List(args) => {
                let kinds: Vec<_> = if args.kind.is_empty() {
                    Kind::ALL.to_vec()
                } else {
                    args.kind.iter().map(|kind| kind.kind()).collect()
                };
                write_list(&session, &kinds, &args.search, args.active).await
            }
            Task::Create(args) => change(&session, "create-channel", "created", args).await,
            Task::Delete(args) => change(&session, "delete-channel", "deleted", args).await,
            Task::Purge(args) => change(&session, "purge-channel", "purged", args).await,
        }
    })
}

/// Asks for the channels of a kind whose names hold `search`.
pub(super) async fn list(
    session: &Session,
    kind: Kind,
    search: &str,
    timeout: Duration,
) -> Result<Vec<Channel>, Failure> {
    let tags = [("channel_type", kind.name()), ("channel_search", search)];
    let body = session.manage("list-channels", &tags, timeout).await?;
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |error| Failure::Refused(format!("the list of {kind} cannot be read: {error}"));
    serde_json::from_slice(&body).map_err(wrong)
}

/// Lists the channels of some kinds.
pub(super) async fn write_list(
    session: &Session,
    kinds: &[Kind],
    search: &str,
    active: bool,
) -> Outcome {
    let mut channels = Vec::new();
    for kind in kinds {
        let found = list(session, *kind, search, session.patience()).await?;
        // A server may understand the search in another way, or not at all.
        let wanted = |channel: &Channel| channel.name.contains(search);
        channels.extend(found.into_iter().filter(wanted));
    }
    channels.retain(|channel| channel.is_active || !active);
    channels.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    let listed: Vec<_> = channels.iter().map(Listed::of).collect();
    let head = [
        "kind",
        "channel",
        "active",
        "in",
        "out",
        "waiting",
        "delayed",
        "last activity",
    ];
    session.output.rows(&listed, head, |channel| {
        let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        [
            channel.kind.to_owned(),
            text::harmless(channel.name).into_owned(),
            if channel.active { "yes" } else { "no" }.to_owned(),
            channel.messages_in.to_string(),
            channel.messages_out.to_string(),
            count(channel.waiting),
            count(channel.delayed),
            channel
                .last_activity
                .clone()
                .unwrap_or_else(|| "never".to_owned()),
        ]
    })
}

async fn change(session: &Session, operation: &str, done: &str, args: &ChangeArgs) -> Outcome {
    let kind = args.kind.kind();
    for name in &args.names {
        let tags = [("channel_type", kind.name()), ("channel", name)];
        let body = session.manage(operation, &tags, PATIENCE).await?;
        let removed = (operation == "purge-channel").then(|| number_in(&body, "removed"));
        if session.output.is_json() {
            session.output.json(&Changed {
                kind: kind.name(),
                name,
                done,
                removed,
            })?;
        } else {
            let count = removed.map_or(String::new(), |count| {
                format!(": {}", text::counted(count, "message"))
            });
            session
                .output
                .done(&format!("{kind} {name} {done}{count}"))?;
        }
    }
    Ok(())
}

/// Removes the messages of a channel, and says how many they were.
pub(super) async fn purge(session: &Session, kind: Kind, name: &str) -> Result<u64, Failure> {
    let tags = [("channel_type", kind.name()), ("channel", name)];
    let body = session.manage("purge-channel", &tags, PATIENCE).await?;
    Ok(number_in(&body, "removed"))
}

/// The number in an answer such as `{"moved":5}`; 0 where there is none.
pub(super) fn number_in(body: &Bytes, field: &str) -> u64 {
    let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let number = body.as_ref().and_then(|body| body.get(field));
    number.and_then(serde_json::Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_other_servers_may_lack_or_add_fields() {
        let json = r#"[{"name":"a","type":"queues","new":1,
            "outgoing":{"messages":2,"waiting":3,"color":"red"}}]"#;
        let channels: Vec<Channel> = serde_json::from_str(json).unwrap();
        assert_eq!(channels[0].outgoing.waiting, 3);
        let listed = serde_json::to_string(&Listed::of(&channels[0])).unwrap();
        let expected = r#"{"kind":"queues","name":"a","active":false,"messages_in":0,"#.to_owned()
            + r#""bytes_in":0,"messages_out":2,"bytes_out":0,"waiting":3,"delayed":0,"expired":0}"#;
        assert_eq!(listed, expected);
    }

    #[test]
    fn counts_are_found_in_answers() {
        assert_eq!(
            number_in(&Bytes::from_static(b"{\"moved\":12}"), "moved"),
            12
        );
        assert_eq!(number_in(&Bytes::from_static(b"nonsense"), "moved"), 0);
    }
}
