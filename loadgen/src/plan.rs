//! Capacity planning: measures a broker on this machine, fits a model, and answers how many cores,
//! how much memory, disk and network a load takes, and how many nodes that makes.
//!
//! ```text
//! measure (brokers as child processes) ─► points ─► model (fits) ─► answer ─► table, JSON, page
//!                                          │  ▲
//!                                          ▼  │ --save, --measured
//!                                          file
//! ```
//!
//! Points, model and answer are pure; `docs/capacity-planning.md` says what the model assumes.

mod answer;
mod arguments;
mod broker;
mod check;
mod fit;
mod machine;
mod measure;
mod model;
mod page;
mod points;
mod scenarios;
mod tables;

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::run::Options;
use crate::series::Pages;
use answer::{Answer, Question};
pub(crate) use arguments::PlanArgs;
use check::Check;
use measure::Measurer;
use points::Measured;

/// What was measured and what follows from it.
#[derive(Debug)]
struct Plan {
    measured: Measured,
    checks: Vec<Check>,
    answer: Option<(Question, Answer)>,
}

/// Measures, or loads what was measured, and answers. 3 when a message was lost, repeated,
/// reordered or damaged while measuring.
///
/// # Errors
/// When a broker cannot be measured, the question is about what was not, or a file cannot be
/// written.
pub(crate) fn main(args: &PlanArgs, options: &Options, pages: &Pages) -> anyhow::Result<ExitCode> {
    let measuring = &args.measuring;
    let measured = match &measuring.measured {
        Some(path) => Measured::load(path)?,
        None => Measurer::new(measuring, options)?.measure()?,
    };
    if let Some(path) = &measuring.save {
        measured.save(path)?;
    }
    let checks = match measuring.check {
        true => Measurer::new(measuring, options)?.check(&measured)?,
        false => Vec::new(),
    };
    let question = args.asked.question();
    let answer = question
        .map(|question| {
            let answer = answer::answer(&measured, &question)?;
            anyhow::Ok((question, answer))
        })
        .transpose()?;
    let plan = Plan {
        measured,
        checks,
        answer,
    };
    pages.write(
        &tables::text(&plan),
        || plan.json(),
        || page::page(&plan, pages),
    )?;
    Ok(ExitCode::from(if plan.violations() > 0 { 3 } else { 0 }))
}

impl Plan {
    /// Messages that were lost, repeated, reordered or damaged while measuring.
    fn violations(&self) -> u64 {
        let points = self.measured.points.iter().map(|point| point.violations);
        let curves = self.measured.curves.iter();
        let loads = curves.flat_map(|curve| curve.loads.iter().map(|load| load.violations));
        let checks = self.checks.iter().map(|check| check.violations);
        points.chain(loads).chain(checks).sum()
    }

    /// Points that are not to be trusted, and why.
    fn doubts(&self) -> Vec<String> {
        let of_points = self.measured.points.iter().flat_map(|point| {
            let task = scenarios::Task {
                purpose: point.purpose,
                family: point.family,
                executors: point.executors,
                size: point.size,
                fan_out: point.fan_out,
            };
            let name = scenarios::name(&task);
            point
                .doubts
                .iter()
                .map(move |doubt| format!("{name}: {doubt}"))
        });
        let of_curves = self.measured.curves.iter().flat_map(|curve| {
            // Where the broker does not keep up, that is what was looked for.
            let loads = curve.loads.iter().filter(|load| load.kept_up);
            loads.flat_map(move |load| {
                let at = format!("{} at {:.0} %", curve.family, load.utilisation * 100.0);
                let doubts = load.doubts.iter();
                doubts.map(move |doubt| format!("{at}: {doubt}"))
            })
        });
        let of_checks = self.checks.iter().flat_map(|check| {
            let doubts = check.doubts.iter();
            doubts.map(move |doubt| format!("{}: {doubt}", check.name))
        });
        of_points.chain(of_curves).chain(of_checks).collect()
    }

    /// What the model takes for granted, and what it cannot know. Said on each page.
    fn assumptions(&self) -> Vec<String> {
        let mut all = self.measured.notes.clone();
        all.extend(ASSUMPTIONS.map(String::from));
        all
    }

    fn json(&self) -> Value {
        let measured = &self.measured;
        let families = measured.families();
        let costs: Vec<Value> = families
            .iter()
            .filter_map(|&family| {
                let cost = model::cost(measured, family)?;
                Some(json!({
                    "name": family.to_string(),
                    "formula_us": cost.formula(),
                    "cost": cost,
                    "scaling": model::scaling(measured, family),
                    "written_bytes": model::written(measured, family.pattern),
                    "stored_bytes": model::on_disk(measured, family.pattern),
                    "wire_overhead_bytes": model::wire_overhead(measured, family),
                }))
            })
            .collect();
        let question = self.answer.as_ref().map(|(question, _)| question);
        let answer = self.answer.as_ref().map(|(_, answer)| answer);
        json!({
            "format": 1,
            "kind": "plan",
            "question": question,
            "answer": answer,
            "model": costs,
            "syncs": model::sync_costs(measured),
            "checks": self.checks,
            "doubts": self.doubts(),
            "assumptions": self.assumptions(),
            "measured": measured,
        })
    }
}

const ASSUMPTIONS: [&str; 10] = [
    "The cost of a message is that of full batches: senders with many messages under way over few \
     connections. Messages that come one by one, over many connections, cost up to what is shown \
     as alone; a core that is mostly idle looks busier than the model says, and is not nearer to \
     its limit.",
    "Load lies evenly over channels, and channels evenly over executors. One channel never gets \
     more than one executor.",
    "All was measured over the loopback interface, without TLS and without tokens: a network card \
     adds interrupts, latency and Ethernet's headers (only the last are in the sum), TLS adds CPU \
     time for each byte.",
    "Consumers keep up. What is read long after it was written comes from disk, and takes of the \
     disk's bandwidth what it is long.",
    "Latency against load was measured at 1 KiB with Poisson arrivals and one executor, and is \
     taken to hold at the same utilisation for other sizes and more executors. Bursts need room of \
     their own.",
    "Stored messages were measured into a log that only grows, whose segments are made as they are \
     needed. Segments that are used again cost less.",
    "Disk figures are those of this disk and its file system; another one has another latency of a \
     sync. Writes are those at some 50 MB/s: with fewer messages in a commit each of them costs \
     more of its page.",
    "Headroom is kept free of processors, memory, disk, disk writes and network alike.",
    "Nodes stand alone and share the channels among them: nothing is replicated, and a node that \
     fails takes its channels with it.",
    "Mixed loads add up in CPU time; what they do to each other's latency was not measured.",
];

#[cfg(test)]
mod tests {
    use super::*;

    use super::points::samples;
    use crate::scenario::Pattern;

    pub(super) fn plan() -> Plan {
        let measured = samples::measured();
        let checks = check::compare(&measured, &[samples::point(samples::QUEUE, 2048, 1, 4.0)]);
        let question = Question {
            family: samples::QUEUE,
            messages_per_second: 50_000.0,
            size_bytes: 2048,
            fan_out: 1,
            retention_seconds: 604_800.0,
            p99_us: Some(5_000.0),
            headroom: 0.5,
            channels: 100,
            connections: 10,
            subscriptions: 100,
            delayed: 0,
            node: answer::Node {
                cores: 8,
                memory_bytes: 64e9,
                disk_bytes: Some(4e12),
                disk_bytes_per_second: None,
                network_bytes_per_second: Some(1.25e9),
            },
        };
        let answer = answer::answer(&measured, &question).unwrap();
        Plan {
            measured,
            checks,
            answer: Some((question, answer)),
        }
    }

    #[test]
    fn text_has_the_question_the_answer_and_what_is_not_known() {
        let text = tables::text(&plan());
        for wanted in [
            "50,000/s of 2048 bytes, queue, stream, strict, kept for 7.00 days, p99 within 5.00 ms",
            "3.00 + 1.000 k",
            "index of stored messages",
            "nodes of 8 cores",
            "nothing is replicated",
            "200,000/s  250,000/s, seen",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
    }

    #[test]
    fn json_has_the_answer_the_model_and_the_points() {
        let json = plan().json();
        assert_eq!(json["answer"]["cpu"]["cores"], 1);
        assert_eq!(json["model"][0]["name"], "events, stream");
        assert_eq!(json["measured"]["version"], 1);
        assert!((json["checks"][0]["ratio"].as_f64().unwrap() - 0.8).abs() < 1e-6);
    }

    #[test]
    fn page_is_one_file_with_the_answer_and_the_assumptions() {
        let page = page::page(&plan(), &Pages::default());
        for wanted in [
            "<svg",
            "memory: index of stored messages",
            "nothing is replicated",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        for loaded in ["<script", "<link", "src=\"http"] {
            assert!(!page.contains(loaded), "{loaded}");
        }
    }

    #[test]
    fn violations_of_all_runs_count() {
        let mut plan = plan();
        assert_eq!(plan.violations(), 0);
        plan.measured.points[0].violations = 1;
        plan.measured.curves[0].loads[0].violations = 2;
        plan.checks[0].violations = 4;
        assert_eq!(plan.violations(), 7);
    }

    #[test]
    fn doubts_name_the_point_they_are_about() {
        let mut plan = plan();
        plan.measured.points[0].doubts = vec!["late".into()];
        assert_eq!(plan.doubts(), ["events, stream, 128 B: late"]);
        assert_eq!(plan.measured.points[0].family.pattern, Pattern::Events);
    }
}
