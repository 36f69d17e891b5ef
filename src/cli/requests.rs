//! `ringmq commands` and `ringmq queries`: requests, and answers to them.

mod receive;
mod send;

use clap::Subcommand;
use ringmq_proto::kubemq::request::RequestType;

use super::attach::AttachArgs;
use super::connection::{self, Outcome, Target};
use super::examples;
use super::output::Output;
use crate::model::Kind;

/// What `ringmq commands` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum CommandsTask {
    /// Send a command and wait until it is executed
    #[command(after_help = examples::COMMANDS_SEND)]
    Send(send::SendArgs),
    /// Subscribe to commands and answer them
    #[command(after_help = examples::COMMANDS_RECEIVE, visible_alias = "subscribe")]
    Receive(receive::ReceiveArgs),
    /// Watch the commands of a channel and their answers, live
    #[command(after_help = examples::COMMANDS_ATTACH)]
    Attach(AttachArgs),
}

/// What `ringmq queries` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum QueriesTask {
    /// Send a query and print its answer
    #[command(after_help = examples::QUERIES_SEND)]
    Send(send::QueryArgs),
    /// Subscribe to queries and answer them
    #[command(after_help = examples::QUERIES_RECEIVE, visible_alias = "subscribe")]
    Receive(receive::ReceiveArgs),
    /// Watch the queries of a channel and their answers, live
    #[command(after_help = examples::QUERIES_ATTACH)]
    Attach(AttachArgs),
}

/// Does a task of commands.
pub(super) fn run_commands(target: Target, output: Output, task: CommandsTask) -> Outcome {
    match task {
        CommandsTask::Send(args) => {
            let body = args.body()?;
            connection::run(target, output, move |session| async move {
                let request = args.request(&session, RequestType::Command, body);
                send::run(&session, &args, request).await
            })
        }
        CommandsTask::Receive(args) => receive(target, output, args, RequestType::Command),
        CommandsTask::Attach(args) => args.run(Kind::Commands.name(), &target, output),
    }
}

/// Does a task of queries.
pub(super) fn run_queries(target: Target, output: Output, task: QueriesTask) -> Outcome {
    match task {
        QueriesTask::Send(args) => {
            let body = args.common.body()?;
            connection::run(target, output, move |session| async move {
                let request = args.request(&session, body);
                send::run(&session, &args.common, request).await
            })
        }
        QueriesTask::Receive(args) => receive(target, output, args, RequestType::Query),
        QueriesTask::Attach(args) => args.run(Kind::Queries.name(), &target, output),
    }
}

fn receive(
    target: Target,
    output: Output,
    args: receive::ReceiveArgs,
    kind: RequestType,
) -> Outcome {
    connection::run(target, output, move |session| async move {
        receive::run(&session, args, kind).await
    })
}
