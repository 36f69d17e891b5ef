//! The commands that make several runs: their flags, and what is made of them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{GeneratorArgs, ScenarioArgs, SecurityArgs, ServerArgs, Usage};
use crate::report;
use crate::series::Pages;
use crate::{compare, plan, sweep};

/// Where the result of several runs goes, besides the table on the standard output.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct PagesArgs {
    /// The result as JSON; -: on the standard output, the table goes to stderr
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The result as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl PagesArgs {
    fn pages(&self) -> Pages {
        Pages {
            json: self.json.clone(),
            html: self.html.clone(),
            command: report::command_line(std::env::args()),
        }
    }
}

/// Finds out how latency grows with the rate.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sweep {
    #[command(flatten)]
    sweep: sweep::SweepArgs,
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    output: PagesArgs,
}

/// Compares two servers.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    compare: compare::CompareArgs,
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    output: PagesArgs,
}

/// Plans capacity.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    plan: plan::PlanArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    output: PagesArgs,
}

/// Sweeps and reports.
///
/// # Errors
/// Wrong usage, and what keeps a run from beginning or a report from being written.
pub(crate) fn sweep(args: &Sweep) -> anyhow::Result<ExitCode> {
    let (scenario, arrivals) = args.scenario.without_rate().map_err(Usage)?;
    let target = args.server.target().map_err(Usage)?;
    let options = args.generator.options().map_err(Usage)?;
    let sweep = sweep::SweepArgs {
        arrivals,
        ..args.sweep.clone()
    };
    sweep::main(&sweep, &scenario, &target, &options, &args.output.pages())
}

/// Compares and reports.
///
/// # Errors
/// As [`sweep`].
pub(crate) fn compare(args: &Compare) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario.scenario().map_err(Usage)?;
    let options = args.generator.options().map_err(Usage)?;
    let target = |address: &String, pid| args.security.target(std::slice::from_ref(address), pid);
    let a = target(&args.compare.a, args.compare.a_pid).map_err(Usage)?;
    let b = target(&args.compare.b, args.compare.b_pid).map_err(Usage)?;
    compare::main(
        &args.compare,
        &scenario,
        [&a, &b],
        &options,
        &args.output.pages(),
    )
}

/// Measures, plans and reports.
///
/// # Errors
/// As [`sweep`].
pub(crate) fn plan(args: &Plan) -> anyhow::Result<ExitCode> {
    let options = args.generator.options().map_err(Usage)?;
    plan::main(&args.plan, &options, &args.output.pages())
}
