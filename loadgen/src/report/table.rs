//! The result as text, for a terminal.

use std::fmt::Write;

use crate::outcome::{Outcome, Times, number};
use crate::report::units;
use crate::report::words::{self, Verdict};
use crate::scenario::Load;

/// The percentiles that tables show: the head and the quantile.
pub(crate) const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Everything that matters, aligned, in the units that fit. Ends with a line break.
pub(crate) fn table(outcome: &Outcome) -> String {
    let scenario = &outcome.scenario;
    let mut text = String::new();
    line(&mut text, &words::name(scenario));
    if !scenario.name.is_empty() {
        let (what, load) = (words::what(scenario), words::load(scenario));
        line(&mut text, &format!("  {what}, {load}"));
    }
    let counted = units::seconds(outcome.seconds);
    let (shape, target) = (words::shape(scenario), &outcome.target);
    line(
        &mut text,
        &format!("  {shape}; {target}; {counted} counted"),
    );
    line(&mut text, "");
    line(&mut text, &grid(&messages(outcome)));
    let latencies = latencies(outcome);
    if !latencies.is_empty() {
        let mut rows = vec![head()];
        rows.extend(latencies);
        line(&mut text, &grid(&rows));
    }
    spent(&mut text, outcome);
    errors(&mut text, outcome);
    conclusion(&mut text, outcome);
    text
}

/// What came through and what did not.
fn messages(outcome: &Outcome) -> Vec<Vec<String>> {
    let counts = &outcome.counts;
    let each = |count: u64| units::rate(number(count) / outcome.seconds);
    let mut rows = vec![vec![
        "through".into(),
        String::new(),
        units::rate(outcome.throughput()),
        format!(
            "{}/s",
            units::bytes(number(counts.body_bytes) / outcome.seconds)
        ),
    ]];
    let all = [
        ("intended", counts.intended),
        ("sent", counts.sent),
        ("confirmed", counts.acknowledged),
        ("delivered", counts.delivered),
        ("failed", counts.failed),
    ];
    let closed = outcome.scenario.load == Load::Closed;
    for (name, count) in &all {
        // What a pattern has not got is left out, and a closed loop intends what it sends.
        let left_out = match *name {
            "sent" => false,
            "intended" => closed,
            _ => *count == 0,
        };
        if left_out {
            continue;
        }
        rows.push(vec![(*name).into(), units::count(*count), each(*count)]);
    }
    rows
}

fn head() -> Vec<String> {
    let mut row = vec!["latency".to_owned()];
    row.extend(QUANTILES.iter().map(|(name, _)| (*name).to_owned()));
    row.push("max".into());
    row
}

/// A row for each histogram that has something.
fn latencies(outcome: &Outcome) -> Vec<Vec<String>> {
    kinds(outcome)
        .into_iter()
        .filter(|(_, times)| !times.is_empty())
        .map(|(name, times)| {
            let mut row = vec![name.to_owned()];
            let at = |q: f64| units::time(times.value_at_quantile(q));
            row.extend(QUANTILES.iter().map(|(_, q)| at(*q)));
            row.push(units::time(times.max()));
            row
        })
        .collect()
}

/// The histograms of a result, with what each is measured to.
pub(crate) const fn kinds(outcome: &Outcome) -> [(&'static str, &Times); 3] {
    let main = if outcome.scenario.consumers == 0 {
        "to the consumer"
    } else {
        words::latency_to(&outcome.scenario)
    };
    [
        (main, &outcome.latency),
        ("to the confirmation", &outcome.acknowledged),
        ("generator's lateness", &outcome.lateness),
    ]
}

fn spent(text: &mut String, outcome: &Outcome) {
    let generator = &outcome.generator;
    let busy: Vec<String> = generator.busy.iter().map(|b| units::percent(*b)).collect();
    let mut put = |name: &str, figures: &str| line(text, &format!("  {name:<11}{figures}"));
    if let Some(server) = &outcome.server {
        let written = server.written_bytes_each.filter(|bytes| *bytes > 0.0);
        let written = written.map_or_else(String::new, |bytes| {
            format!(", {} written per message", units::bytes(bytes))
        });
        let figures = format!(
            "{} CPU per message, {} cores busy, {} resident{written}",
            units::time_f(server.cpu_us_each * 1e3),
            units::digits(server.cores),
            units::bytes(number(server.resident_bytes)),
        );
        put("server", &figures);
    }
    let figures = format!(
        "{} CPU per message, busy {}",
        units::time_f(generator.cpu_us_each * 1e3),
        if busy.is_empty() {
            "unknown".into()
        } else {
            busy.join(", ")
        },
    );
    put("generator", &figures);
}

fn errors(text: &mut String, outcome: &Outcome) {
    if outcome.errors.is_empty() {
        return;
    }
    line(text, "");
    line(text, "errors");
    for error in &outcome.errors {
        let count = units::count(error.count);
        line(text, &format!("  {count:>10}  {}", printable(&error.text)));
    }
}

/// The verdict last: it is what remains on the screen.
fn conclusion(text: &mut String, outcome: &Outcome) {
    line(text, "");
    let title = Verdict::of(outcome).title().to_uppercase();
    line(text, &format!("{title}: {}", words::verdict(outcome)));
    if outcome.checks.redelivered > 0 {
        let count = units::count(outcome.checks.redelivered);
        line(
            text,
            &format!("  {count} redelivered, and announced as such"),
        );
    }
    for example in &outcome.checks.examples {
        line(text, &format!("  {}", printable(example)));
    }
    for reason in &outcome.invalid {
        line(text, &format!("  not valid: {}", printable(reason)));
    }
}

/// Columns two spaces apart: the first to the left, the others to the right.
pub(crate) fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut out = String::from("  ");
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            match at {
                0 => out.extend([cell.as_str(), &pad]),
                _ => out.extend(["  ", &pad, cell]),
            }
        }
        line(&mut text, out.trim_end());
    }
    text
}

/// Without control characters: what a server says must not move the cursor of our terminal.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_good_result_reads_as_a_table() {
        let text = table(&sample::events());
        println!("{text}");
        let at = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("{part} in\n{text}"))
        };
        let order = [
            "events over streams, 1 KiB, closed loop, window 1,024\n",
            "  1 channel, 1 producer, 1 consumer; 127.0.0.1:50000; 10 s counted\n",
            "through",
            "99,000/s",
            "96.7 MiB/s",
            "to the consumer",
            "  server     8.40 µs CPU per message, 0.97 cores busy, 128 MiB resident\n",
            "  generator  3.10 µs CPU per message, busy 61.0 %\n",
            "VALID: 990,000 messages checked: none lost, repeated, reordered or damaged\n",
        ];
        let places: Vec<usize> = order.iter().map(|part| at(part)).collect();
        assert!(places.is_sorted(), "{places:?} in\n{text}");
        assert!(!text.contains("not valid") && !text.contains("errors"));
    }

    #[test]
    fn violations_errors_and_reasons_are_spelled_out() {
        let text = table(&sample::bad());
        println!("{text}");
        for part in [
            "VIOLATIONS: 3 lost, 1 damaged; 990,000 messages checked\n",
            "  channel 0: producer 1, number 77 damaged at consumer 0\n",
            "         120  Unavailable:  connection reset\n",
            "  not valid: the generator was 4 ms late\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn columns_are_aligned_by_characters_not_bytes() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let text = grid(&[row("µs", "1"), row("longer", "1,000")]);
        assert_eq!(text, "  µs          1\n  longer  1,000\n");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
