//! The command line: flags into a scenario, a target, and how it is run.

mod parse;
mod scenario;
mod series;
mod server;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};

pub(crate) use scenario::ScenarioArgs;
pub(crate) use server::{SecurityArgs, ServerArgs};

use crate::measure;
use crate::report::{self, Sinks};
use crate::run::{self, Options};

/// How long a core of the generator looks for work before it sleeps: longer than a load worth
/// measuring pauses. Waking up would count as the server's latency.
const SPIN: Duration = Duration::from_secs(1);

/// Cores of the generator.
const CORES_MAX: usize = 256;

/// Drives a server and reports rate, latency and what each message cost it.
#[derive(Clone, Debug, Parser)]
#[command(name = "ringmq-loadgen", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Runs one scenario, and says how fast it was and what came of each message.
    Run(Box<Run>),
    /// Runs at one rate after the other, and finds where latency leaves the ground.
    Sweep(Box<series::Sweep>),
    /// Runs the same against two servers in turns, and tells them apart.
    Compare(Box<series::Compare>),
    /// Says how many cores, how much memory, disk and network a load needs.
    Plan(Box<series::Plan>),
    /// Measures one thing: connections, replay, delays, idle queues.
    Measure(measure::Measure),
}

/// Runs one scenario.
#[derive(Clone, Debug, Args)]
struct Run {
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What the load comes from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Generator")]
pub(crate) struct GeneratorArgs {
    /// Cores of the generator, each with a thread of its own
    #[arg(long, default_value_t = 1, conflicts_with = "cpus")]
    cores: usize,
    /// Processors of the generator, one core on each, as in 1,4-6
    #[arg(long, value_name = "LIST", value_parser = parse::processors)]
    cpus: Option<Processors>,
    /// Lets cores sleep when nothing is to do. Latencies then include waking up
    #[arg(long)]
    park: bool,
    /// Sends bodies without checksums: damaged ones are then not found
    #[arg(long)]
    no_checksum: bool,
}

/// A list in one flag; the derive would take a plain `Vec` for a repeated one.
type Processors = Vec<usize>;

/// Where the result goes, besides the table on the standard output.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// The result as JSON; -: on the standard output, the table goes to stderr
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Latencies as an HdrHistogram log, for other tools
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// The result as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Shows nothing while it runs
    #[arg(long)]
    quiet: bool,
}

/// Something in the command line, or in a file that it names, is wrong: exit code 2.
#[derive(Debug)]
struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The causes are in one line: whoever prints this prints no chain.
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Does what the command line says; the code to exit with.
pub(crate) fn main() -> ExitCode {
    let result = match Line::parse().command {
        Command::Run(args) => run(&args),
        Command::Sweep(args) => series::sweep(&args),
        Command::Compare(args) => series::compare(&args),
        Command::Plan(args) => series::plan(&args),
        Command::Measure(args) => measure::main(args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        let _nobody_reads_it = writeln!(std::io::stderr(), "error: {error:#}");
        exit_code(&error)
    })
}

/// Runs a scenario and reports it.
///
/// # Errors
/// Wrong usage, and what keeps a run from beginning or a report from being written.
fn run(args: &Run) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario.scenario().map_err(Usage)?;
    let target = args.server.target().map_err(Usage)?;
    let options = args.generator.options().map_err(Usage)?;
    let sinks = args.output.sinks();
    let mut live = sinks.live(&scenario);
    let outcome = run::run(&scenario, &target, &options, &mut |look| live.show(look));
    live.finish();
    let verdict = sinks.write(&outcome?)?;
    Ok(ExitCode::from(verdict.exit_code()))
}

/// The exit code of an error.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

impl GeneratorArgs {
    /// The executors, and how they run.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let cpus: Vec<_> = match &self.cpus {
            Some(cpus) => cpus.iter().copied().map(Some).collect(),
            None => vec![None; self.cores.min(CORES_MAX + 1)],
        };
        ensure!(
            (1..=CORES_MAX).contains(&cpus.len()),
            "cores: {} is not between 1 and {CORES_MAX}",
            self.cores
        );
        Ok(Options {
            cpus,
            spin: (!self.park).then_some(SPIN),
            checksum: !self.no_checksum,
        })
    }
}

impl OutputArgs {
    /// The sinks of a run.
    fn sinks(&self) -> Sinks {
        Sinks {
            live: !self.quiet,
            json: self.json.clone(),
            hlog: self.hlog.clone(),
            html: self.html.clone(),
            command: report::command_line(std::env::args()),
        }
    }
}

#[cfg(test)]
mod tests;
