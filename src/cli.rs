//! The command line: what is asked for, and what is told.
//!
//! What a command answers goes to standard output, what goes wrong to standard error. A closed
//! output is no failure: `ringmq config | head` ends quietly.

#![allow(clippy::print_stderr, reason = "this is where people are talked to")]

mod arguments;
pub mod banner;
mod print;
mod queue;
mod store;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, Error, Finding, LogFormat, Sources, machine};
use crate::server::{self, Mode};
use crate::telemetry::log;

use arguments::{Arguments, Command};

/// The version of the broker, with the one that clients are told.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (speaks KubeMQ v2.6.0)");

/// Exit codes, after sysexits.h.
mod exit {
    /// The store is damaged.
    pub(super) const DAMAGED: u8 = 1;
    /// The command line makes no sense.
    pub(super) const USAGE: u8 = 64;
    /// The disk failed, or is full.
    pub(super) const IO: u8 = 74;
    /// The store is held by a broker, is missing, or cannot be opened.
    pub(super) const STORE: u8 = 77;
    /// A thread, as that of the log, could not be started.
    pub(super) const UNAVAILABLE: u8 = 69;
    /// The configuration is refused.
    pub(super) const CONFIG: u8 = 78;
}

/// Does what the command line of this process says, and gives back its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _closed_output = error.print();
            // Help and version are answers, not errors.
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let sources = arguments.settings.sources(Sources::of_process());
    match arguments.command.unwrap_or(Command::Server) {
        Command::Server => serve(&sources, Mode::Serve),
        Command::Demo => serve(&sources, Mode::Demo),
        Command::Config { format } => match Config::load(&sources) {
            Ok(config) => {
                answer(&print::config(&config, format));
                config.provenance.warnings.iter().for_each(warn);
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error),
        },
        Command::Store { task } => match Config::load(&sources) {
            Ok(config) => store::run(&config, &task),
            Err(error) => refuse(&error),
        },
        Command::Queue { broker, task } => match Config::load(&sources) {
            Ok(config) => queue::run(&broker, config.grpc.port, task),
            Err(error) => refuse(&error),
        },
        Command::Version => {
            answer(&format!("ringmq {VERSION}\n"));
            ExitCode::SUCCESS
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
