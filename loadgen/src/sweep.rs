//! Latency against rate, up to where the server no longer keeps up, with the knee marked.
//!
//! Each point is a run of its own over fresh channels in an open loop: messages come at times that
//! do not depend on the server, so that a server that falls behind shows it.

mod knee;
mod page;

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::quantity;
use crate::report::Verdict;
use crate::report::table::grid;
use crate::report::units;
use crate::run::Options;
use crate::scenario::{Arrivals, Load, Pattern, Rate, Scenario};
use crate::series::{self, Pages};
use crate::target::Target;

/// Without `--from` the lowest rate is this part of the maximum.
const FROM: f64 = 0.05;

/// Without `--to` the highest rate is this many times the maximum.
const TO: f64 = 1.2;

/// So many points in a row at which the server does not keep up end the sweep.
const LOST_MAX: usize = 2;

/// What is swept.
#[derive(Clone, Debug, Args)]
pub(crate) struct SweepArgs {
    /// Lowest rate, messages a second [default: a twentieth of the maximum]
    #[arg(long, value_parser = quantity::positive)]
    pub from: Option<f64>,
    /// Highest rate [default: 1.2 times the maximum, which a closed loop finds first]
    #[arg(long, value_parser = quantity::positive)]
    pub to: Option<f64>,
    /// Rates, each so many times the one before
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub points: u32,
    /// Further rates between the knee and the rate after it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub refine: u32,
    /// Ends the sweep where the p99 is above this, as 5ms
    #[arg(long, value_parser = quantity::seconds)]
    pub limit: Option<f64>,
    /// How the times of messages lie around each rate: what the scenario says.
    #[arg(skip = Arrivals::Poisson)]
    pub arrivals: Arrivals,
}

/// One rate and what it did.
#[derive(Clone, Debug)]
struct Point {
    offered: f64,
    kept_up: bool,
    outcome: Outcome,
}

/// All of it.
#[derive(Debug)]
struct Sweep {
    scenario: Scenario,
    target: String,
    arrivals: Arrivals,
    /// What a closed loop reached, when it was asked.
    maximum: Option<Outcome>,
    /// In the order of their rates.
    points: Vec<Point>,
    knee: Option<usize>,
    limit_us: Option<f64>,
}

/// Sweeps and reports.
///
/// # Errors
/// When a run cannot be made, or a report cannot be written.
pub(crate) fn main(
    args: &SweepArgs,
    scenario: &Scenario,
    target: &Target,
    options: &Options,
    pages: &Pages,
) -> anyhow::Result<ExitCode> {
    let maximum = match (args.from, args.to) {
        (Some(_), Some(_)) => None,
        _ => Some(maximum(scenario, target, options)?),
    };
    let most = maximum.as_ref().map_or(f64::NAN, series::sent_rate);
    let from = args.from.unwrap_or(most * FROM);
    let to = args.to.unwrap_or(most * TO);
    anyhow::ensure!(from < to, "--from {from:.0} must be below --to {to:.0}");
    let mut sweep = Sweep {
        scenario: scenario.clone(),
        target: target.name.clone(),
        arrivals: args.arrivals,
        maximum,
        points: Vec::new(),
        knee: None,
        limit_us: args.limit.map(|seconds| seconds * 1e6),
    };
    let run = |offered: f64| point(offered, args, scenario, target, options);
    let mut lost = 0;
    for rate in rates(from, to, args.points) {
        let point = run(rate)?;
        let over = !point.kept_up || sweep.is_over_limit(&point);
        lost = if over { lost + 1 } else { 0 };
        sweep.add(point);
        if lost == LOST_MAX {
            break;
        }
    }
    for _ in 0..args.refine {
        let Some(rate) = sweep.between() else { break };
        sweep.add(run(rate)?);
    }
    pages.write(
        &sweep.table(),
        || sweep.json(),
        || page::page(&sweep, pages),
    )?;
    Ok(ExitCode::from(sweep.exit_code()))
}

/// As much as goes through.
fn maximum(scenario: &Scenario, target: &Target, options: &Options) -> anyhow::Result<Outcome> {
    let scenario = Scenario {
        load: Load::Closed,
        ..scenario.clone()
    };
    let outcome = series::run(&scenario, target, options, "maximum, closed loop")?;
    anyhow::ensure!(
        outcome.counts.sent > 0,
        "nothing went through: {}",
        series::doubts(&outcome).join("; ")
    );
    Ok(outcome)
}

fn point(
    offered: f64,
    args: &SweepArgs,
    scenario: &Scenario,
    target: &Target,
    options: &Options,
) -> anyhow::Result<Point> {
    let scenario = Scenario {
        load: Load::Open {
            arrivals: args.arrivals,
            rate: Rate::Constant(offered),
        },
        ..scenario.clone()
    };
    let outcome = series::run(&scenario, target, options, &units::rate(offered))?;
    Ok(Point {
        offered,
        kept_up: series::kept_up(&outcome),
        outcome,
    })
}

/// Rates from one to the other, each the same number of times the one before.
fn rates(from: f64, to: f64, points: u32) -> Vec<f64> {
    let last = points.saturating_sub(1).max(1);
    let step = (to / from).powf(f64::from(last).recip());
    let powers = (0..last).map(|index| from * step.powf(f64::from(index)));
    // The last one as it was asked for, whatever the powers come to.
    powers.chain([to]).collect()
}

impl Point {
    fn us(&self, quantile: f64) -> f64 {
        series::latency_us(&self.outcome, quantile).unwrap_or(f64::NAN)
    }

    /// Messages that came through, each counted once, a second.
    fn through(&self) -> f64 {
        let each = match self.outcome.scenario.consumers {
            0 => 1,
            _ => series::fan_out(&self.outcome.scenario).max(1),
        };
        self.outcome.throughput() / f64::from(each)
    }
}

impl Sweep {
    fn is_over_limit(&self, point: &Point) -> bool {
        self.limit_us.is_some_and(|limit| point.us(0.99) > limit)
    }

    fn add(&mut self, point: Point) {
        self.points.push(point);
        self.points.sort_by(|a, b| a.offered.total_cmp(&b.offered));
        let loads: Vec<knee::Load> = self
            .points
            .iter()
            .map(|point| knee::Load {
                rate: point.offered,
                latency_us: point.us(0.99),
                kept_up: point.kept_up,
            })
            .collect();
        self.knee = knee::knee(&loads);
    }

    /// The rate in the middle between the knee and the next point.
    fn between(&self) -> Option<f64> {
        let knee = self.knee?;
        let (here, next) = (self.points.get(knee)?, self.points.get(knee + 1)?);
        Some((here.offered * next.offered).sqrt())
    }

    fn knee(&self) -> Option<&Point> {
        self.points.get(self.knee?)
    }

    /// Whether a point lies beyond the knee, where a server may drop plain events.
    fn is_beyond(&self, index: usize) -> bool {
        self.knee.is_some_and(|knee| index > knee)
            || self.points.get(index).is_some_and(|point| !point.kept_up)
    }

    /// Violations that no overload excuses.
    fn violations(&self) -> u64 {
        let drops = self.scenario.pattern == Pattern::Events;
        let points = self.points.iter().enumerate();
        points
            .map(|(index, point)| {
                let checks = &point.outcome.checks;
                let excused = drops && self.is_beyond(index);
                checks.violations() - if excused { checks.lost } else { 0 }
            })
            .sum()
    }

    /// 3 with violations, 4 when a point up to the knee is not valid.
    fn exit_code(&self) -> u8 {
        let mut points = self.points.iter().enumerate();
        let is_invalid = points
            .any(|(index, point)| !self.is_beyond(index) && !point.outcome.invalid.is_empty());
        match (self.violations(), is_invalid) {
            (1.., _) => 3,
            (0, true) => 4,
            (0, false) => 0,
        }
    }

    /// The sweep in one sentence.
    fn conclusion(&self) -> String {
        match self.knee() {
            Some(point) => format!(
                "The knee is at {}: p50 {}, p99 {}.",
                units::rate(point.offered),
                units::time_f(point.us(0.5) * 1e3),
                units::time_f(point.us(0.99) * 1e3),
            ),
            None if self.points.iter().any(|point| point.kept_up) => {
                "No knee: latency did not rise to twice its base. Go on with a higher --to.".into()
            }
            None => {
                "The server kept up with none of these rates. Begin with a lower --from.".into()
            }
        }
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let time = |us: f64| match us.is_finite() {
            true => units::time_f(us * 1e3),
            false => "–".into(),
        };
        let points = self.points.iter().enumerate();
        points
            .map(|(index, point)| {
                let knee = self.knee == Some(index);
                let doubt = match Verdict::of(&point.outcome) {
                    _ if !point.kept_up => "falls behind",
                    Verdict::Good => "",
                    Verdict::Invalid => "not valid",
                    Verdict::Violated => "violations",
                };
                let mark = match (knee, doubt) {
                    (true, "") => "knee".into(),
                    (true, doubt) => format!("knee, {doubt}"),
                    (false, doubt) => doubt.to_owned(),
                };
                let cpu = series::cpu_us_sent(&point.outcome);
                vec![
                    units::rate(point.offered),
                    units::rate(point.through()),
                    time(point.us(0.5)),
                    time(point.us(0.99)),
                    time(point.us(0.999)),
                    cpu.map_or("–".into(), units::digits),
                    mark,
                ]
            })
            .collect()
    }

    fn table(&self) -> String {
        let head = HEAD.map(String::from).to_vec();
        let rows: Vec<Vec<String>> = [head].into_iter().chain(self.rows()).collect();
        format!("{}\n  {}\n", grid(&rows), self.conclusion())
    }

    fn json(&self) -> Value {
        let points: Vec<Value> = self
            .points
            .iter()
            .map(|point| {
                json!({
                    "offered_per_s": point.offered,
                    "through_per_s": point.through(),
                    "kept_up": point.kept_up,
                    "run": series::json(&point.outcome),
                })
            })
            .collect();
        json!({
            "format": 1,
            "kind": "sweep",
            "exit_code": self.exit_code(),
            "target": self.target,
            "scenario": self.scenario,
            "limit_us": self.limit_us,
            "maximum": self.maximum.as_ref().map(series::json),
            "knee": self.knee().map(|point| json!({
                "offered_per_s": point.offered,
                "p50_us": point.us(0.5),
                "p99_us": point.us(0.99),
            })),
            "points": points,
        })
    }
}

/// Heads of the columns of [`Sweep::rows`].
const HEAD: [&str; 7] = ["offered", "through", "p50", "p99", "p99.9", "CPU µs", ""];

#[cfg(test)]
mod tests {
    use super::*;

    use crate::report::sample;

    fn sweep(p99s_ms: &[u64]) -> Sweep {
        let mut sweep = Sweep {
            scenario: sample::events().scenario,
            target: "sample".into(),
            arrivals: Arrivals::Poisson,
            maximum: None,
            points: Vec::new(),
            knee: None,
            limit_us: Some(5_000.0),
        };
        for (&ms, offered) in p99s_ms.iter().zip([1e3, 2e3, 4e3, 8e3, 16e3]) {
            let mut outcome = sample::events();
            outcome.latency.reset();
            outcome.latency.record_n(ms * 1_000_000, 100).unwrap();
            sweep.add(Point {
                offered,
                kept_up: ms < 1_000,
                outcome,
            });
        }
        sweep
    }

    #[test]
    fn rates_are_each_the_same_number_of_times_the_one_before() {
        let rates = rates(100.0, 1600.0, 5);
        for (rate, wanted) in rates.iter().zip([100.0, 200.0, 400.0, 800.0, 1600.0]) {
            assert!((rate / wanted - 1.0).abs() < 1e-9, "{rates:?}");
        }
        assert_eq!(rates.len(), 5);
    }

    #[test]
    fn next_rate_lies_between_the_knee_and_the_point_after_it() {
        let sweep = sweep(&[1, 1, 1, 1, 2_000]);
        assert_eq!(sweep.knee().unwrap().offered, 8e3);
        let between = sweep.between().unwrap();
        assert!(between > 8e3 && between < 16e3, "{between}");
        assert!(sweep.table().contains("falls behind"));
        assert!(sweep.table().contains("The knee is at 8,000/s"));
    }

    #[test]
    fn only_loss_of_plain_events_beyond_the_knee_is_excused() {
        let mut sweep = sweep(&[1, 1, 1, 1, 2_000]);
        sweep.points[4].outcome.checks.lost = 7;
        assert_eq!((sweep.violations(), sweep.exit_code()), (0, 0));
        sweep.points[4].outcome.checks.reordered = 1;
        assert_eq!((sweep.violations(), sweep.exit_code()), (1, 3));
        sweep.points[4].outcome.checks.reordered = 0;
        sweep.points[1].outcome.checks.lost = 1;
        assert_eq!(sweep.exit_code(), 3);
        sweep.points[1].outcome.checks.lost = 0;
        sweep.scenario.pattern = Pattern::Queue;
        assert_eq!(sweep.exit_code(), 3);
    }

    #[test]
    fn point_that_is_not_valid_counts_only_up_to_the_knee() {
        let mut sweep = sweep(&[1, 1, 1, 1, 2_000]);
        sweep.points[4].outcome.invalid = vec!["late".into()];
        assert_eq!(sweep.exit_code(), 0);
        sweep.points[0].outcome.invalid = vec!["late".into()];
        assert_eq!(sweep.exit_code(), 4);
    }

    #[test]
    fn flat_sweep_says_that_there_is_no_knee() {
        let sweep = sweep(&[1, 1, 1, 1, 1]);
        assert!(sweep.conclusion().starts_with("No knee"));
        assert_eq!(sweep.json()["knee"], Value::Null);
        assert_eq!(sweep.json()["points"].as_array().unwrap().len(), 5);
    }
}
