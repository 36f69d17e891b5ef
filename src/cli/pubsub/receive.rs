//! `ringmq events receive` and `ringmq events-store receive`.

use clap::Args;
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};
use ringmq_proto::kubemq::{EventReceive, Subscribe};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session, decode};
use crate::cli::output::{BodyStyle, Shown};
use crate::cli::parse;
use crate::cli::subscription::{Bounds, Subscription};

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct ReceiveArgs {
    /// The channel; plain events also by wildcards: * for one word, > for all that follow
    channel: String,
    /// Share the events with the others of this group
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    style: BodyStyle,
}

/// What is subscribed to, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct StoredArgs {
    #[command(flatten)]
    pub(super) common: ReceiveArgs,
    #[command(flatten)]
    from: From,
}

/// From where, the first time that a client or a group subscribes: later it goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Start")]
#[group(multiple = false)]
struct From {
    /// With what is sent from now on; this is the default
    #[arg(long)]
    start_new: bool,
    /// With the first event that is kept
    #[arg(long)]
    start_first: bool,
    /// With the last event
    #[arg(long)]
    start_last: bool,
    /// With the event of this sequence
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    start_sequence: Option<i64>,
    /// With the first event of this time or later, as 2026-11-21T18:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    start_time: Option<i64>,
    /// With the first event that is not older than this, as 1h
    #[arg(long, value_name = "DURATION", value_parser = parse::seconds)]
    start_duration: Option<i32>,
}

/// From where, as the contract says it.
pub(super) type Start = (EventsStoreType, i64);

impl StoredArgs {
    /// From where to read.
    pub(super) fn start(&self) -> Start {
        let from = &self.from;
        match (from.start_sequence, from.start_time, from.start_duration) {
            (Some(sequence), ..) => (EventsStoreType::StartAtSequence, sequence),
            (_, Some(time_ns), _) => (EventsStoreType::StartAtTime, time_ns),
            (.., Some(seconds)) => (EventsStoreType::StartAtTimeDelta, seconds.into()),
            _ if from.start_first => (EventsStoreType::StartFromFirst, 0),
            _ if from.start_last => (EventsStoreType::StartFromLast, 0),
            _ => (EventsStoreType::StartNewOnly, 0),
        }
    }
}

/// Subscribes and writes what comes, until the bounds are reached or Ctrl-C.
pub(super) async fn run(session: &Session, args: &ReceiveArgs, start: Option<Start>) -> Outcome {
    let mut subscribe = Subscribe {
        subscribe_type_data: SubscribeType::Events.into(),
        client_id: session.client_id(),
        channel: args.channel.clone(),
        group: args.group.clone(),
        ..Subscribe::default()
    };
    if let Some((kind, value)) = start {
        subscribe.subscribe_type_data = SubscribeType::EventsStore.into();
        subscribe.events_store_type_data = kind.into();
        subscribe.events_store_type_value = value;
        // The broker remembers how far a client has read; a passing one should not inherit that.
        subscribe.client_id = session.client_id_or_random();
    }
    let stream = session.subscribe(method::SUBSCRIBE_TO_EVENTS, &subscribe)?;
    let mut subscription = Subscription::open(session, stream, &args.channel, args.bounds).await?;
    while let Some(message) = subscription.next().await? {
        let event: EventReceive = decode(message)?;
        session.output.message(args.style, &Shown::event(&event))?;
    }
    subscription.finish("event")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: StoredArgs,
    }

    fn start(flags: &[&str]) -> Result<Start, clap::Error> {
        let line = Line::try_parse_from([&["receive", "a"], flags].concat())?;
        Ok(line.args.start())
    }

    #[test]
    fn each_start_has_its_type_and_value() {
        let cases = [
            (&[][..], (EventsStoreType::StartNewOnly, 0)),
            (&["--start-new"], (EventsStoreType::StartNewOnly, 0)),
            (&["--start-first"], (EventsStoreType::StartFromFirst, 0)),
            (&["--start-last"], (EventsStoreType::StartFromLast, 0)),
            (
                &["--start-sequence", "7"],
                (EventsStoreType::StartAtSequence, 7),
            ),
            (
                &["--start-time", "5"],
                (EventsStoreType::StartAtTime, 5_000_000_000),
            ),
            (
                &["--start-duration", "1h"],
                (EventsStoreType::StartAtTimeDelta, 3_600),
            ),
        ];
        for (flags, expected) in cases {
            assert_eq!(start(flags).unwrap(), expected, "{flags:?}");
        }
        assert!(start(&["--start-first", "--start-last"]).is_err());
        assert!(start(&["--start-sequence", "0"]).is_err());
    }
}
