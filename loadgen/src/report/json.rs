//! The result as JSON: the names are stable, and each has its unit in it.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::outcome::{Checks, Counts, Outcome, Slice, Times, number};
use crate::report::words::Verdict;

/// Of the structure below. A field that is renamed or removed changes it; a new one does not.
const FORMAT: u32 = 1;

/// One result. Infinite or undefined figures are null.
pub(crate) fn json(outcome: &Outcome) -> Value {
    let verdict = Verdict::of(outcome);
    let per_second = |count: u64| number(count) / outcome.seconds;
    let errors = outcome.errors.iter();
    let errors: Vec<Value> = errors
        .map(|error| json!({ "text": error.text, "count": error.count }))
        .collect();
    let timeline: Vec<Value> = outcome.timeline.iter().map(slice).collect();
    json!({
        "format": FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "verdict": verdict.name(),
        "exit_code": verdict.exit_code(),
        "invalid": outcome.invalid,
        "target": outcome.target,
        "began_unix_ms": outcome.began_unix_ms,
        "seconds": outcome.seconds,
        "through_per_s": outcome.throughput(),
        "body_bytes_per_s": per_second(outcome.counts.body_bytes),
        "counts": counts(&outcome.counts),
        "latency": times(&outcome.latency),
        "acknowledged": times(&outcome.acknowledged),
        "lateness": times(&outcome.lateness),
        "checks": checks(&outcome.checks),
        "generator": {
            "cpu_us_each": outcome.generator.cpu_us_each,
            "busy": outcome.generator.busy,
        },
        "server": outcome.server.map(|server| json!({
            "cpu_us_each": server.cpu_us_each,
            "cores": server.cores,
            "resident_bytes": server.resident_bytes,
            "written_bytes_each": server.written_bytes_each,
        })),
        "machine": {
            "processors": outcome.machine.processors,
            "model": outcome.machine.model,
            "kernel": outcome.machine.kernel,
            "memory_bytes": outcome.machine.memory_bytes,
        },
        "scenario": outcome.scenario,
        "errors": errors,
        "timeline": timeline,
    })
}

fn counts(counts: &Counts) -> Value {
    json!({
        "intended": counts.intended,
        "sent": counts.sent,
        "acknowledged": counts.acknowledged,
        "delivered": counts.delivered,
        "body_bytes": counts.body_bytes,
        "failed": counts.failed,
    })
}

fn checks(checks: &Checks) -> Value {
    json!({
        "checked": checks.checked,
        "violations": checks.violations(),
        "lost": checks.lost,
        "duplicated": checks.duplicated,
        "reordered": checks.reordered,
        "corrupted": checks.corrupted,
        "redelivered": checks.redelivered,
        "examples": checks.examples,
    })
}

fn slice(slice: &Slice) -> Value {
    json!({
        "end_s": slice.end,
        "counts": counts(&slice.counts),
        "latency": times(&slice.latency),
        "acknowledged": times(&slice.acknowledged),
    })
}

/// The figures of a histogram; null when it is empty, for zeros would be a lie.
pub(crate) fn times(times: &Times) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let us = |ns: u64| number(ns) / 1e3;
    let at = |quantile: f64| us(Histogram::value_at_quantile(times, quantile));
    json!({
        "count": times.len(),
        "min_us": us(times.min()),
        "mean_us": times.mean() / 1e3,
        "p50_us": at(0.5),
        "p75_us": at(0.75),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "p9999_us": at(0.9999),
        "max_us": us(times.max()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::scenario::Scenario;

    #[test]
    fn the_names_of_the_fields_do_not_change() {
        let value = json(&sample::poisson());
        let mut names = Vec::new();
        walk(&value, "", &mut names);
        names.retain(|name| !name.starts_with("scenario."));
        let expected = include_str!("json_fields.txt");
        assert_eq!(
            names.join("\n"),
            expected.trim_end(),
            "docs/loadgen.md lists these"
        );
    }

    /// The paths of all leaves; of lists the first element's.
    fn walk(value: &Value, path: &str, names: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(value, &format!("{path}{dot}{name}"), names);
                }
            }
            Value::Array(elements) if elements.first().is_some_and(Value::is_object) => {
                walk(&elements[0], &format!("{path}[]"), names);
            }
            _ => names.push(path.to_owned()),
        }
    }

    #[test]
    fn the_scenario_in_it_can_be_run_again() {
        let outcome = sample::poisson();
        let text = json(&outcome).to_string();
        let value: Value = serde_json::from_str(&text).unwrap();
        let scenario: Scenario = serde_json::from_value(value["scenario"].clone()).unwrap();
        assert_eq!(scenario, outcome.scenario);
    }

    #[test]
    fn figures_that_nobody_measured_are_null() {
        let value = json(&sample::events());
        assert_eq!(value["acknowledged"], Value::Null);
        assert_eq!(value["latency"]["count"], 990_000);
        let mut unknown = sample::events();
        unknown.server = None;
        assert_eq!(json(&unknown)["server"], Value::Null);
    }

    #[test]
    fn the_verdict_is_that_of_the_exit_code() {
        let cases = [
            (sample::events(), "good", 0),
            (sample::invalid(), "invalid", 4),
            (sample::bad(), "violated", 3),
        ];
        for (outcome, verdict, code) in cases {
            let value = json(&outcome);
            assert_eq!(value["verdict"], verdict);
            assert_eq!(value["exit_code"], code);
        }
    }
}
