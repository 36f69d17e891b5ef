//! `ringmq queues`: messages into queues and out of them, and an operator's tools for them.

mod receive;
mod redrive;
mod send;
mod stream;
mod tasks;

use clap::Subcommand;

use super::attach::AttachArgs;
use super::connection::{self, Outcome, Target};
use super::examples;
use super::output::Output;

/// What `ringmq queues` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Task {
    /// Send messages
    #[command(after_help = examples::QUEUES_SEND)]
    Send(send::SendArgs),
    /// Take messages; they are gone once they are written
    #[command(after_help = examples::QUEUES_RECEIVE)]
    Receive(receive::ReceiveArgs),
    /// Look at the first messages; they stay
    #[command(after_help = examples::QUEUES_PEEK)]
    Peek(receive::PeekArgs),
    /// Take messages one by one and say of each what becomes of it
    #[command(after_help = examples::QUEUES_STREAM)]
    Stream(stream::StreamArgs),
    /// Acknowledge all that waits: it is gone
    #[command(after_help = examples::QUEUES_ACK, visible_alias = "ack-all")]
    Ack(tasks::AckArgs),
    /// Print the queues with what is in them
    #[command(after_help = examples::QUEUES_LIST)]
    List(tasks::ListArgs),
    /// Print all that is known of a queue
    #[command(after_help = examples::QUEUES_INFO)]
    Info(tasks::QueueName),
    /// Remove all messages that nobody is working on
    #[command(after_help = examples::QUEUES_PURGE)]
    Purge(tasks::QueueName),
    /// Send dead letters back; those that a consumer has stay
    #[command(after_help = examples::QUEUES_REDRIVE)]
    Redrive(redrive::RedriveArgs),
    /// Watch what is sent to a queue, live; nothing is taken
    #[command(after_help = examples::QUEUES_ATTACH)]
    Attach(AttachArgs),
}

/// Does a task.
pub(super) fn run(target: Target, output: Output, task: Task) -> Outcome {
    match task {
        Task::Send(args) => {
            let plan = args.plan()?;
            connection::run(target, output, move |session| async move {
                send::run(&session, &args, plan).await
            })
        }
        Task::Receive(args) => connection::run(target, output, move |session| async move {
            receive::run(&session, &args).await
        }),
        Task::Peek(args) => connection::run(target, output, move |session| async move {
            receive::peek(&session, &args).await
        }),
        Task::Stream(args) => connection::run(target, output, move |session| async move {
            stream::run(&session, &args).await
        }),
        Task::Ack(args) => connection::run(target, output, move |session| async move {
            tasks::ack(&session, &args).await
        }),
        Task::List(args) => connection::run(target, output, move |session| async move {
            tasks::list(&session, &args.search).await
        }),
        Task::Info(queue) => connection::run(target, output, move |session| async move {
            tasks::info(&session, &queue.queue).await
        }),
        Task::Purge(queue) => connection::run(target, output, move |session| async move {
            tasks::purge(&session, &queue.queue).await
        }),
        Task::Redrive(args) => connection::run(target, output, move |session| async move {
            redrive::run(&session, &args).await
        }),
        Task::Attach(args) => args.run("queue", &target, output),
    }
}
