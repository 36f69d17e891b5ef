//! Two servers under the same scenario, in interleaved rounds, so that a neighbour on the machine
//! hits both alike. Each round is A then B, the next one B then A; ratios are taken within a round.

mod page;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::report::Verdict;
use crate::report::table::grid;
use crate::report::units;
use crate::run::Options;
use crate::scenario::{Load, Scenario};
use crate::series::{self, Pages};
use crate::spread::Spread;
use crate::target::Target;

/// What is compared.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The first server, host:port
    #[arg(long, value_name = "ADDRESS")]
    pub a: String,
    /// Process id of the first server, when it runs here: its CPU time and memory are read
    #[arg(long, value_name = "PID")]
    pub a_pid: Option<u32>,
    /// The second server, host:port
    #[arg(long, value_name = "ADDRESS")]
    pub b: String,
    /// Process id of the second server
    #[arg(long, value_name = "PID")]
    pub b_pid: Option<u32>,
    /// Rounds, each a run against either server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

/// One round: a run against either.
#[derive(Debug)]
struct Round {
    a: Outcome,
    b: Outcome,
}

/// A figure of a run, and how it is written.
#[derive(Clone, Copy, Debug)]
struct Figure {
    name: &'static str,
    /// The name in JSON.
    key: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    show: fn(f64) -> String,
}

const FIGURES: [Figure; 5] = [
    Figure {
        name: "through",
        key: "through_per_s",
        of: |outcome| Some(outcome.throughput()),
        show: units::rate,
    },
    Figure {
        name: "p50",
        key: "p50_us",
        of: |outcome| series::latency_us(outcome, 0.5),
        show: time,
    },
    Figure {
        name: "p99",
        key: "p99_us",
        of: |outcome| series::latency_us(outcome, 0.99),
        show: time,
    },
    Figure {
        name: "p99.9",
        key: "p999_us",
        of: |outcome| series::latency_us(outcome, 0.999),
        show: time,
    },
    Figure {
        name: "server CPU µs each",
        key: "server_cpu_us_each",
        of: |outcome| Some(outcome.server?.cpu_us_each),
        show: units::digits,
    },
];

fn time(us: f64) -> String {
    units::time_f(us * 1e3)
}

/// A figure over all rounds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(skip)]
    figure: &'static str,
    key: &'static str,
    a: Spread,
    b: Spread,
    /// A to B, within each round.
    ratio: Spread,
    #[serde(skip)]
    show: fn(f64) -> String,
}

#[derive(Debug)]
struct Comparison {
    scenario: Scenario,
    names: [String; 2],
    rounds: Vec<Round>,
}

/// Compares and reports. `targets` are A and B.
///
/// # Errors
/// When a run cannot be made, or a report cannot be written.
pub(crate) fn main(
    args: &CompareArgs,
    scenario: &Scenario,
    targets: [&Target; 2],
    options: &Options,
    pages: &Pages,
) -> anyhow::Result<ExitCode> {
    let [a, b] = targets;
    let mut comparison = Comparison {
        scenario: scenario.clone(),
        names: [a.name.clone(), b.name.clone()],
        rounds: Vec::new(),
    };
    for round in 0..args.rounds {
        let run = |target: &Target, letter: char| {
            let label = format!("round {} of {}, {letter}", round + 1, args.rounds);
            series::run(scenario, target, options, &label)
        };
        // The one that comes second finds a machine that the first one has warmed.
        let (a, b) = if round.is_multiple_of(2) {
            let first = run(a, 'A')?;
            (first, run(b, 'B')?)
        } else {
            let first = run(b, 'B')?;
            (run(a, 'A')?, first)
        };
        comparison.rounds.push(Round { a, b });
    }
    pages.write(
        &comparison.table(),
        || comparison.json(),
        || page::page(&comparison, pages),
    )?;
    Ok(ExitCode::from(comparison.verdict().exit_code()))
}

impl Comparison {
    fn outcomes(&self) -> impl Iterator<Item = (usize, char, &Outcome)> {
        let rounds = self.rounds.iter().zip(1..);
        rounds.flat_map(|(round, number)| [(number, 'A', &round.a), (number, 'B', &round.b)])
    }

    /// The worst of all runs.
    fn verdict(&self) -> Verdict {
        let verdicts = self.outcomes().map(|(_, _, outcome)| Verdict::of(outcome));
        verdicts.max().unwrap_or(Verdict::Good)
    }

    /// Figures that both sides have.
    fn rows(&self) -> Vec<Row> {
        let row = |figure: &Figure| {
            let pairs = self.rounds.iter();
            let pairs: Vec<(f64, f64)> = pairs
                .filter_map(|round| Some(((figure.of)(&round.a)?, (figure.of)(&round.b)?)))
                .collect();
            Some(Row {
                figure: figure.name,
                key: figure.key,
                a: Spread::of(pairs.iter().map(|pair| pair.0))?,
                b: Spread::of(pairs.iter().map(|pair| pair.1))?,
                ratio: Spread::of(pairs.iter().map(|(a, b)| a / b))?,
                show: figure.show,
            })
        };
        FIGURES.iter().filter_map(row).collect()
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let rows = self.rows().into_iter();
        rows.map(|row| {
            vec![
                row.figure.to_owned(),
                row.a.text(row.show),
                row.b.text(row.show),
                row.ratio.text(units::digits),
            ]
        })
        .collect()
    }

    fn table(&self) -> String {
        let [a, b] = &self.names;
        let head = vec![
            String::new(),
            format!("A {a}"),
            format!("B {b}"),
            "A to B".into(),
        ];
        let rows: Vec<Vec<String>> = [head].into_iter().chain(self.cells()).collect();
        let mut text = format!("{}\n  {}\n", grid(&rows), self.about());
        for doubt in self.doubts() {
            text += &format!("  {doubt}\n");
        }
        text
    }

    fn about(&self) -> String {
        let mut text = format!(
            "{} rounds, interleaved; medians (least–most); ratios within each round.",
            self.rounds.len()
        );
        if self.scenario.load == Load::Closed {
            text += " A closed loop: latencies are those of each server at its own rate, not at \
                     the same one.";
        }
        text
    }

    fn doubts(&self) -> Vec<String> {
        self.outcomes()
            .flat_map(|(round, letter, outcome)| {
                let doubts = series::doubts(outcome).into_iter();
                doubts.map(move |doubt| format!("Round {round}, {letter}: {doubt}"))
            })
            .collect()
    }

    fn json(&self) -> Value {
        let [a, b] = &self.names;
        let rounds: Vec<Value> = self
            .rounds
            .iter()
            .map(|round| json!({ "a": series::json(&round.a), "b": series::json(&round.b) }))
            .collect();
        let figures: serde_json::Map<String, Value> = self
            .rows()
            .into_iter()
            .map(|row| (row.key.to_owned(), json!(row)))
            .collect();
        json!({
            "format": 1,
            "kind": "compare",
            "exit_code": self.verdict().exit_code(),
            "a": a,
            "b": b,
            "scenario": self.scenario,
            "figures": figures,
            "rounds": rounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::outcome::ServerUse;
    use crate::report::sample;

    fn outcome(delivered: u64, cpu_us_each: f64) -> Outcome {
        let mut outcome = sample::events();
        outcome.seconds = 10.0;
        outcome.counts.delivered = delivered;
        outcome.server = Some(ServerUse {
            cpu_us_each,
            ..ServerUse::default()
        });
        outcome
    }

    fn comparison() -> Comparison {
        let round = |a, b| Round {
            a: outcome(a, 1.0),
            b: outcome(b, 4.0),
        };
        Comparison {
            scenario: sample::events().scenario,
            names: ["one:1".into(), "two:2".into()],
            // A disturbed second round: both are slow, the ratio is nearly the same.
            rounds: vec![
                round(2_000_000, 1_000_000),
                round(200_000, 90_000),
                round(2_200_000, 1_000_000),
            ],
        }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let comparison = comparison();
        let rows = comparison.rows();
        let through = &rows[0];
        assert_eq!(through.a.median, 200_000.0);
        assert_eq!(through.b.median, 100_000.0);
        assert_eq!(through.ratio.least, 2.0);
        assert_eq!(through.ratio.median, 2.2);
        let cpu = rows.iter().find(|row| row.key == "server_cpu_us_each");
        assert_eq!(cpu.unwrap().ratio.median, 0.25);
    }

    #[test]
    fn table_has_both_servers_and_their_ratio() {
        let table = comparison().table();
        for text in ["A one:1", "B two:2", "2.20 (2.00–2.22)", "closed loop"] {
            assert!(table.contains(text), "{text} in {table}");
        }
    }

    #[test]
    fn one_bad_run_fails_the_comparison() {
        let mut comparison = comparison();
        assert_eq!(comparison.verdict(), Verdict::Good);
        comparison.rounds[1].b.invalid = vec!["late".into()];
        assert_eq!(comparison.verdict(), Verdict::Invalid);
        comparison.rounds[2].a.checks.lost = 1;
        assert_eq!(comparison.verdict(), Verdict::Violated);
        assert!(comparison.table().contains("Round 2, B: late"));
        assert_eq!(comparison.json()["exit_code"], 3);
    }

    #[test]
    fn figure_that_one_side_lacks_is_left_out() {
        let mut comparison = comparison();
        for round in &mut comparison.rounds {
            round.b.server = None;
        }
        let keys: Vec<_> = comparison.rows().iter().map(|row| row.key).collect();
        assert!(!keys.contains(&"server_cpu_us_each"), "{keys:?}");
    }
}
