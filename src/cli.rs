//! The command line: what is asked for, and what is told.
//!
//! What a command answers goes to standard output, what goes wrong to standard error. A closed
//! output is no failure: `ringmq config | head` ends quietly.

#![allow(clippy::print_stderr, reason = "this is where people are talked to")]

mod arguments;
mod attach;
mod audit;
mod auth;
pub mod banner;
mod channels;
mod connection;
mod examples;
mod failure;
mod input;
mod management;
mod output;
mod parse;
mod print;
mod pubsub;
mod queues;
mod requests;
mod status;
mod stop;
mod store;
mod subscription;
mod text;
mod top;

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;

use crate::config::{Config, Error, Finding, LogFormat, Sources, machine};
use crate::server::{self, Mode};
use crate::telemetry::log;

use arguments::{Arguments, Command, ConfigTask, Format, Remote, RemoteArgs, SettingFlags};
use connection::{Ports, Target};
use failure::Failure;
use output::Output;

/// The version of the broker, with the one that clients are told.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (speaks KubeMQ v2.6.0)");

/// Exit codes, after sysexits.h. `docs/cli.md` tells them.
mod exit {
    /// The broker refused, or there was nothing of what was asked for.
    pub(super) const REFUSED: u8 = 1;
    /// The store is damaged.
    pub(super) const DAMAGED: u8 = 1;
    /// The command line makes no sense.
    pub(super) const USAGE: u8 = 64;
    /// A file that is to be sent cannot be read.
    pub(super) const NO_INPUT: u8 = 66;
    /// The broker cannot be reached, or a thread, as that of the log, could not be started.
    pub(super) const UNAVAILABLE: u8 = 69;
    /// The disk failed, or is full, or the output cannot be written.
    pub(super) const IO: u8 = 74;
    /// No answer came in time.
    pub(super) const TIMED_OUT: u8 = 75;
    /// The broker wants a token, or another one.
    pub(super) const FORBIDDEN: u8 = 77;
    /// The store is held by a broker, is missing, or cannot be opened.
    pub(super) const STORE: u8 = 77;
    /// The configuration is refused.
    pub(super) const CONFIG: u8 = 78;
    /// A second Ctrl-C, while the first one was being obeyed.
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Does what the command line of this process says, and gives back its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _closed_output = error.print();
            // Help and version are answers, not errors.
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let sources = arguments.settings().sources(Sources::of_process());
    match arguments
        .command
        .unwrap_or_else(|| Command::Server(SettingFlags::default()))
    {
        Command::Server(_) => serve(&sources, Mode::Serve),
        Command::Demo(_) => serve(&sources, Mode::Demo),
        Command::Config { task, format, .. } => settings(&sources, task, format),
        Command::Store { task, .. } => match Config::load(&sources) {
            Ok(config) => store::run(&config, &task),
            Err(error) => refuse(&error),
        },
        Command::Auth { task, .. } => auth::run(&sources, task),
        Command::Audit { task, .. } => audit::run(&sources, task),
        Command::Queues(Remote { task, remote }) => ask(&sources, &remote, |target, output| {
            queues::run(target, output, task)
        }),
        Command::Events(Remote { task, remote }) => ask(&sources, &remote, |target, output| {
            pubsub::run_events(target, output, task)
        }),
        Command::EventsStore(Remote { task, remote }) => {
            ask(&sources, &remote, |target, output| {
                pubsub::run_events_store(target, output, task)
            })
        }
        Command::Commands(Remote { task, remote }) => ask(&sources, &remote, |target, output| {
            requests::run_commands(target, output, task)
        }),
        Command::Queries(Remote { task, remote }) => ask(&sources, &remote, |target, output| {
            requests::run_queries(target, output, task)
        }),
        Command::Channels(Remote { task, remote }) => ask(&sources, &remote, |target, output| {
            channels::run(target, output, task)
        }),
        Command::Status(remote) => ask(&sources, &remote, status::run),
        Command::Top { top, remote } => ask(&sources, &remote, |target, output| {
            top::run(target, output, &top)
        }),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::line(), "ringmq", &mut text);
            answer(&String::from_utf8_lossy(&text));
            ExitCode::SUCCESS
        }
        Command::Version => {
            answer(&format!("ringmq {VERSION}\n"));
            ExitCode::SUCCESS
        }
    }
}

/// Prints, explains or checks the configuration.
fn settings(sources: &Sources, task: Option<ConfigTask>, format: Format) -> ExitCode {
    match task {
        None => match Config::load(sources) {
            Ok(config) => {
                answer(&print::config(&config, format));
                config.provenance.warnings.iter().for_each(warn);
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error),
        },
        Some(ConfigTask::Explain { key }) => {
            let config = Config::load(sources).ok();
            match print::explain(config.as_ref(), &key) {
                Ok(text) => {
                    answer(&text);
                    ExitCode::SUCCESS
                }
                Err(text) => {
                    eprintln!("ringmq: {text}");
                    ExitCode::from(exit::USAGE)
                }
            }
        }
        Some(ConfigTask::Check { file }) => {
            let alone = Sources {
                environment: HashMap::new(),
                file: Some(file.clone()),
                ..sources.clone()
            };
            match Config::load(&alone) {
                Ok(config) => {
                    answer(&format!("{}: nothing is wrong with it\n", file.display()));
                    config.provenance.warnings.iter().for_each(warn);
                    ExitCode::SUCCESS
                }
                Err(error) => refuse(&error),
            }
        }
    }
}

/// Runs a command that talks to a broker. Where its address leaves the ports out, they are those
/// of a broker that is started with the same settings.
fn ask(
    sources: &Sources,
    remote: &RemoteArgs,
    command: impl FnOnce(Target, Output) -> Result<(), Failure>,
) -> ExitCode {
    let ports = match Config::load(sources) {
        Ok(config) => Ports {
            grpc: config.grpc.port,
            api: config.api.port,
        },
        // Settings of a broker on this machine need not concern one somewhere else.
        Err(_) if !remote.connection.wants_ports() => Ports::USUAL,
        Err(error) => return refuse(&error),
    };
    let outcome = remote
        .connection
        .target(ports)
        .and_then(|target| command(target, remote.output.output()));
    match outcome {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ringmq: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn serve(sources: &Sources, mode: Mode) -> ExitCode {
    machine::raise_limits();
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let format = match config.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    // Lives until the broker has ended: dropping it writes the last lines.
    let _log = match log::init(config.log.level.filter(), format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return ExitCode::from(exit::UNAVAILABLE);
        }
    };
    server::run(&config, mode)
}

fn refuse(error: &Error) -> ExitCode {
    eprintln!("ringmq: {error}");
    ExitCode::from(exit::CONFIG)
}

fn warn(finding: &Finding) {
    eprintln!("warning: {}\n  remedy: {}", finding.what, finding.remedy);
}

/// Writes to standard output. Who closed it does not want to know more.
fn answer(text: &str) {
    let _closed_output = std::io::stdout().write_all(text.as_bytes());
}
