//! `ringmq auth`: an operator's tools for who is recognised and who may do what. None of them
//! talks to a broker.

mod check;

use std::process::ExitCode;

use clap::Subcommand;

use super::{examples, refuse};
use crate::config::{Config, Sources};

/// What `ringmq auth` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Task {
    /// Read a policy, and say whether it lets somebody do something, and why
    #[command(after_help = examples::AUTH_CHECK)]
    Check(check::CheckArgs),
}

/// Does a task, and gives back the exit code of the process.
pub(super) fn run(sources: &Sources, task: Task) -> ExitCode {
    let outcome = match task {
        Task::Check(args) => match args.source(|| Config::load(sources)) {
            Ok(source) => check::run(&args, source),
            Err(error) => return refuse(&error),
        },
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("ringmq: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
