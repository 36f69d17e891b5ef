//! `ringmq auth`: an operator's tools for who is recognised and who may do what. None of them
//! talks to a broker.

mod check;
mod key;
mod token;

use std::process::ExitCode;

use clap::Subcommand;

use super::{examples, refuse};
use crate::config::{Config, Sources};

use key::KeyTask;
use token::TokenTask;

/// What `ringmq auth` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Task {
    /// Read a policy, and say whether it lets somebody do something, and why
    #[command(after_help = examples::AUTH_CHECK)]
    Check(check::CheckArgs),
    /// API keys: make them, list them
    #[command(after_help = examples::AUTH_KEY)]
    Key {
        #[command(subcommand)]
        task: KeyTask,
    },
    /// Tokens: look into them, make them
    #[command(after_help = examples::AUTH_TOKEN)]
    Token {
        #[command(subcommand)]
        task: TokenTask,
    },
}

/// Does a task, and gives back the exit code of the process.
pub(super) fn run(sources: &Sources, task: Task) -> ExitCode {
    let outcome = match task {
        Task::Check(args) => match args.source(|| Config::load(sources)) {
            Ok(source) => check::run(&args, source),
            Err(error) => return refuse(&error),
        },
        Task::Key { task } => match task.file(|| Config::load(sources)) {
            Ok(file) => key::run(&task, file),
            Err(error) => return refuse(&error),
        },
        Task::Token {
            task: TokenTask::Create(args),
        } => token::create(&args),
        Task::Token {
            task: TokenTask::Check(args),
        } => match Config::load(sources) {
            Ok(config) => token::check(&args, &config),
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
