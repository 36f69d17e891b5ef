//! Runs in a row: what sweeping, comparing and planning have in common.

#![allow(clippy::print_stderr, reason = "this is where progress is told")]

use std::path::PathBuf;

use serde_json::Value;

use crate::outcome::{Outcome, Times, number, times};
use crate::report::{self, Verdict};
use crate::run::{self, Options};
use crate::scenario::{Load, Pattern, Scenario};
use crate::target::Target;

/// Where the result of a row of runs goes, beside the table on the standard output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    /// A file, or `-` for the standard output; the table then goes to stderr.
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// How to do it again; see [`report::command_line`].
    pub command: String,
}

impl Pages {
    /// Prints the table and writes what was asked for.
    ///
    /// # Errors
    /// The first file that cannot be written, by its name.
    pub(crate) fn write(
        &self,
        table: &str,
        json: impl FnOnce() -> Value,
        html: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        use std::io::Write;
        if self.json.as_deref().is_some_and(report::is_stdout) {
            std::io::stderr().lock().write_all(table.as_bytes())?;
        } else {
            std::io::stdout().lock().write_all(table.as_bytes())?;
        }
        if let Some(path) = &self.json {
            let mut value = json();
            if let Some(fields) = value.as_object_mut() {
                fields.insert("command".into(), self.command.as_str().into());
            }
            report::write(path, format!("{value:#}\n"))?;
        }
        if let Some(path) = &self.html {
            report::write(path, html())?;
        }
        Ok(())
    }
}

/// One run of a row, with a line on stderr before it and one after.
pub(crate) fn run(
    scenario: &Scenario,
    target: &Target,
    options: &Options,
    label: &str,
) -> anyhow::Result<Outcome> {
    eprint!("{label} … ");
    let outcome = run::run(scenario, target, options, &mut |_| {});
    match &outcome {
        Ok(outcome) => eprintln!("{}", in_short(outcome)),
        Err(_) => eprintln!("failed"),
    }
    anyhow::ensure!(!run::was_interrupted(), "interrupted before the last run");
    outcome
}

fn in_short(outcome: &Outcome) -> String {
    use crate::report::units;
    let mut text = units::rate(outcome.throughput());
    let latency = outcome.main_latency();
    if !latency.is_empty() {
        let at = |quantile| units::time(latency.value_at_quantile(quantile));
        text += &format!(", p50 {}, p99 {}", at(0.5), at(0.99));
    }
    if let Some(server) = outcome.server {
        let each = units::digits(server.cpu_us_each);
        text += &format!(", {each} µs of server CPU each");
    }
    match Verdict::of(outcome) {
        Verdict::Good => {}
        Verdict::Invalid => text += " (not valid)",
        Verdict::Violated => text += " (VIOLATIONS)",
    }
    text
}

/// Consumers that get each message.
pub(crate) const fn fan_out(scenario: &Scenario) -> u32 {
    match scenario.pattern {
        Pattern::Events | Pattern::EventsStore => match (scenario.groups, scenario.consumers) {
            (0, consumers) => consumers,
            (groups, _) => groups,
        },
        Pattern::Queue | Pattern::Command | Pattern::Query | Pattern::Echo => 1,
    }
}

/// Messages sent a second.
pub(crate) fn sent_rate(outcome: &Outcome) -> f64 {
    number(outcome.counts.sent) / outcome.seconds
}

/// CPU time of the server for each message sent, with all its deliveries, in microseconds.
pub(crate) fn cpu_us_sent(outcome: &Outcome) -> Option<f64> {
    let each = outcome.server?.cpu_us_each;
    let counts = &outcome.counts;
    if outcome.scenario.consumers == 0 {
        return Some(each);
    }
    (counts.sent > 0).then(|| each * number(counts.delivered) / number(counts.sent))
}

/// A quantile of the latency that a scenario is about, in microseconds; `None` without messages.
pub(crate) fn latency_us(outcome: &Outcome, quantile: f64) -> Option<f64> {
    let latency = outcome.main_latency();
    (!latency.is_empty()).then(|| number(latency.value_at_quantile(quantile)) / 1e3)
}

/// Of what an open loop offered, the part that has to come through for a server to keep up.
pub(crate) const KEPT_UP: f64 = 0.95;

/// Whether the server kept up with an open loop. In a closed one it always does.
///
/// Counts alone tell it badly over a short run: what is on the way at its beginning and its end
/// differs. A server that does 95 of 100 messages offered lags by a twentieth of the time at the
/// end; the median of the last quarter shows that.
pub(crate) fn kept_up(outcome: &Outcome) -> bool {
    if outcome.scenario.load == Load::Closed {
        return true;
    }
    let wanted = number(outcome.counts.intended) * f64::from(fan_out(&outcome.scenario).max(1));
    let came = outcome.throughput() * outcome.seconds;
    let through = match outcome.scenario.consumers {
        0 => came >= KEPT_UP * number(outcome.counts.intended),
        _ => came >= KEPT_UP * wanted,
    };
    let last = last_quarter(outcome);
    let lag = number(last.value_at_quantile(0.5)) / 1e9;
    through && (last.is_empty() || lag <= (1.0 - KEPT_UP) * outcome.seconds)
}

fn last_quarter(outcome: &Outcome) -> Times {
    let mut sum = times();
    let slices = outcome
        .timeline
        .iter()
        .filter(|slice| slice.end > outcome.seconds * 0.75);
    for slice in slices {
        let latency = match outcome.scenario.consumers {
            0 => &slice.acknowledged,
            _ => &slice.latency,
        };
        // Both have the bounds of `times`.
        let _always_fits = sum.add(latency);
    }
    sum
}

/// A result as JSON without its timeline: there are many in a row.
pub(crate) fn json(outcome: &Outcome) -> Value {
    let mut value = report::json::json(outcome);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("timeline");
    }
    value
}

/// Why a result is not to be trusted, in one line; violations first.
pub(crate) fn doubts(outcome: &Outcome) -> Vec<String> {
    let mut doubts = Vec::new();
    if outcome.checks.violations() > 0 {
        doubts.push(report::words::verdict(outcome));
    }
    doubts.extend(outcome.invalid.iter().cloned());
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::report::sample;
    use crate::scenario::{Arrivals, Rate};

    fn open() -> Outcome {
        let mut outcome = sample::poisson();
        outcome.scenario.groups = 0;
        outcome.scenario.consumers = 2;
        outcome.scenario.load = Load::Open {
            arrivals: Arrivals::Constant,
            rate: Rate::Constant(1000.0),
        };
        outcome.counts.intended = 10_000;
        outcome.counts.sent = 10_000;
        outcome.counts.delivered = 20_000;
        outcome
    }

    #[test]
    fn fan_out_is_the_number_of_groups_or_of_consumers_without_groups() {
        let mut scenario = Scenario {
            consumers: 6,
            ..Scenario::default()
        };
        assert_eq!(fan_out(&scenario), 6);
        scenario.groups = 2;
        assert_eq!(fan_out(&scenario), 2);
        scenario.pattern = Pattern::Queue;
        assert_eq!(fan_out(&scenario), 1);
    }

    #[test]
    fn server_that_delivers_all_in_time_keeps_up() {
        assert!(kept_up(&open()));
    }

    #[test]
    fn server_that_delivers_less_does_not_keep_up() {
        let mut outcome = open();
        outcome.counts.delivered = 18_900;
        assert!(!kept_up(&outcome));
    }

    #[test]
    fn server_that_delivers_all_but_ever_later_does_not_keep_up() {
        let mut outcome = open();
        for slice in &mut outcome.timeline {
            slice.latency.reset();
            slice.latency.record_n(800_000_000, 100).unwrap();
        }
        assert!(!kept_up(&outcome), "0.8 s behind at the end of 10 s");
    }

    #[test]
    fn cpu_of_deliveries_is_counted_for_the_message_that_was_sent() {
        let mut outcome = open();
        outcome.server = Some(crate::outcome::ServerUse {
            cpu_us_each: 0.5,
            ..Default::default()
        });
        assert_eq!(cpu_us_sent(&outcome), Some(1.0));
        assert_eq!(sent_rate(&outcome), 1_000.0);
    }
}
