//! `ringmq events` and `ringmq events-store`: events, and those that are stored.

mod receive;
mod send;

use clap::Subcommand;

use super::attach::AttachArgs;
use super::channels;
use super::connection::{self, Outcome, Target};
use super::examples;
use super::output::Output;
use crate::model::Kind;

/// What `ringmq events` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum EventsTask {
    /// Send events
    #[command(after_help = examples::EVENTS_SEND)]
    Send(send::SendArgs),
    /// Subscribe to events and print them as they come
    #[command(after_help = examples::EVENTS_RECEIVE, visible_alias = "subscribe")]
    Receive(receive::ReceiveArgs),
    /// Print the channels with what went through them
    #[command(after_help = examples::EVENTS_LIST)]
    List(ListArgs),
    /// Watch what is sent to a channel, live
    #[command(after_help = examples::EVENTS_ATTACH)]
    Attach(AttachArgs),
}

/// What `ringmq events-store` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum EventsStoreTask {
    /// Send events that are stored
    #[command(after_help = examples::EVENTS_STORE_SEND)]
    Send(send::SendArgs),
    /// Subscribe to stored events and print them, from where you say
    #[command(after_help = examples::EVENTS_STORE_RECEIVE, visible_alias = "subscribe")]
    Receive(receive::StoredArgs),
    /// Print the channels with what went through them
    #[command(after_help = examples::EVENTS_STORE_LIST)]
    List(ListArgs),
    /// Watch what is sent to a channel, live
    #[command(after_help = examples::EVENTS_STORE_ATTACH)]
    Attach(AttachArgs),
}

/// Which channels are listed.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct ListArgs {
    /// Only those whose names hold this text
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,
}

/// Does a task of events.
pub(super) fn run_events(target: Target, output: Output, task: EventsTask) -> Outcome {
    match task {
        EventsTask::Send(args) => send(target, output, args, false),
        EventsTask::Receive(args) => connection::run(target, output, move |session| async move {
            receive::run(&session, &args, None).await
        }),
        EventsTask::List(args) => list(target, output, Kind::Events, args),
        EventsTask::Attach(args) => args.run(Kind::Events.name(), &target, output),
    }
}

/// Does a task of stored events.
pub(super) fn run_events_store(target: Target, output: Output, task: EventsStoreTask) -> Outcome {
    match task {
        EventsStoreTask::Send(args) => send(target, output, args, true),
        EventsStoreTask::Receive(args) => {
            connection::run(target, output, move |session| async move {
                receive::run(&session, &args.common, Some(args.start())).await
            })
        }
        EventsStoreTask::List(args) => list(target, output, Kind::EventsStore, args),
        EventsStoreTask::Attach(args) => args.run(Kind::EventsStore.name(), &target, output),
    }
}

fn send(target: Target, output: Output, args: send::SendArgs, store: bool) -> Outcome {
    let plan = args.plan()?;
    connection::run(target, output, move |session| async move {
        send::run(&session, &args, plan, store).await
    })
}

fn list(target: Target, output: Output, kind: Kind, args: ListArgs) -> Outcome {
    connection::run(target, output, move |session| async move {
        channels::write_list(&session, &[kind], &args.search, false).await
    })
}
