//! The page of one run.

use crate::outcome::{Counts, Outcome, Slice, Times, number};
use crate::report::page::{Page, Tile, Tone};
use crate::report::plot::{Axis, Line, Plot, Unit};
use crate::report::table::{self, QUANTILES};
use crate::report::units;
use crate::report::words::{self, Verdict};
use crate::scenario::{Load, Pattern, Scenario};

/// Where the slowest are this many times slower than the fastest, only a logarithmic axis shows
/// both.
const LOG_FROM: f64 = 20.0;

/// The page as one file. `command` is how the run was started.
pub(crate) fn html(outcome: &Outcome, command: &str) -> anyhow::Result<String> {
    let scenario = &outcome.scenario;
    let about = format!(
        "{} · {} · {} counted",
        outcome.target,
        units::moment(outcome.began_unix_ms),
        units::seconds(outcome.seconds)
    );
    let mut page = Page::new("Load report", &words::name(scenario), &about);
    verdict(&mut page, outcome);
    page.tiles(&tiles(outcome));
    page.heading("Latency");
    page.text(how_latency_counts(scenario));
    let times = outcome.main_latency();
    if !times.is_empty() {
        page.plot(&by_percentile(outcome));
        page.plot(&latency_over_time(outcome));
    }
    page.heading("Throughput");
    page.plot(&throughput_over_time(outcome));
    page.heading("All figures");
    figures(&mut page, outcome);
    page.heading("How to repeat it");
    page.code("Command", command);
    page.code("Scenario", &toml::to_string(scenario)?);
    page.machine(&outcome.machine);
    Ok(page.finish())
}

fn verdict(page: &mut Page, outcome: &Outcome) {
    let verdict = Verdict::of(outcome);
    let tone = match verdict {
        Verdict::Good => Tone::Good,
        // Both are red: neither may be quoted.
        Verdict::Invalid | Verdict::Violated => Tone::Bad,
    };
    let mut details = outcome.checks.examples.clone();
    let reasons = outcome.invalid.iter();
    match verdict {
        Verdict::Violated => details.extend(reasons.map(|r| format!("Not valid either: {r}"))),
        Verdict::Good | Verdict::Invalid => details.extend(reasons.cloned()),
    }
    let mut text = words::verdict(outcome);
    if let Some(first) = text.get(..1) {
        text.replace_range(..1, &first.to_uppercase());
    }
    text.push('.');
    page.verdict(tone, verdict.title(), &text, &details);
}

fn tiles(outcome: &Outcome) -> Vec<Tile> {
    let counts = &outcome.counts;
    let bytes = units::bytes(number(counts.body_bytes) / outcome.seconds);
    let (rate, note) = (
        units::count(units::rounded(outcome.throughput())),
        bytes + "/s of bodies",
    );
    let mut tiles = vec![Tile::new("Messages a second", rate, note)];
    let times = outcome.main_latency();
    if !times.is_empty() {
        let to = words::latency_to(&outcome.scenario);
        let at = |q: f64| units::time(times.value_at_quantile(q));
        tiles.push(Tile::new("Median latency", at(0.5), to));
        tiles.push(Tile::new("99 % within", at(0.99), "p99"));
        tiles.push(Tile::new("99.9 % within", at(0.999), "p99.9"));
        tiles.push(Tile::new("Slowest", units::time(times.max()), "maximum"));
    }
    if let Some(server) = &outcome.server {
        let each = units::time_f(server.cpu_us_each * 1e3);
        let cores = format!("per message, {} cores busy", units::digits(server.cores));
        tiles.push(Tile::new("CPU of the server", each, cores));
        let resident = units::bytes(number(server.resident_bytes));
        tiles.push(Tile::new(
            "Memory of the server",
            resident,
            "resident at the end",
        ));
    }
    let share = number(counts.failed) / number(counts.intended.max(1));
    let note = format!("{} of what was intended", units::percent(share));
    tiles.push(Tile::new("Failed", units::count(counts.failed), note));
    tiles
}

const fn how_latency_counts(scenario: &Scenario) -> &'static str {
    match scenario.load {
        Load::Open { .. } => {
            "Open loop: each message has a time at which it should be sent, whatever the server \
             does, and its latency counts from that time. What waits because the server is slow \
             is in these figures."
        }
        Load::Closed => {
            "Closed loop: a new message is sent when an earlier one is through. The rate is the \
             most that this window allows, and the latency is that of a server that is never \
             idle; use an open loop for the latency at a given rate."
        }
    }
}

fn latency_axis<'a>(all: impl Iterator<Item = &'a Times>) -> Axis {
    let (mut least, mut most) = (f64::MAX, 0f64);
    for times in all.filter(|times| !times.is_empty()) {
        least = least.min(number(times.value_at_quantile(0.5)));
        most = most.max(number(times.max()));
    }
    let axis = Axis::new("latency", Unit::Nanoseconds);
    if most > least * LOG_FROM {
        axis.log()
    } else {
        axis.with_zero()
    }
}

/// The histograms worth a line: those of the server, not the generator's lateness.
fn of_server(outcome: &Outcome) -> impl Iterator<Item = (&'static str, &Times)> {
    table::kinds(outcome)
        .into_iter()
        .take(2)
        .filter(|(_, times)| !times.is_empty())
}

fn by_percentile(outcome: &Outcome) -> Plot {
    let times = outcome.main_latency();
    let description = format!(
        "Latency rises from {} at the median to {} at the 99th percentile and {} at most.",
        units::time(times.value_at_quantile(0.5)),
        units::time(times.value_at_quantile(0.99)),
        units::time(times.max())
    );
    let mut plot = Plot::new(
        "Latency by percentile",
        &description,
        Axis::new("percentile", Unit::Quantile),
        latency_axis(of_server(outcome).map(|(_, times)| times)),
    );
    for (name, times) in of_server(outcome) {
        plot = plot.line(Line::new(name, percentiles(times)));
    }
    plot
}

/// Twenty points for each nine, as far as there are messages to tell.
pub(crate) fn percentiles(times: &Times) -> Vec<(f64, f64)> {
    let most = number(times.len()).log10();
    (0..=160u32)
        .map(|step| f64::from(step) / 20.0)
        .take_while(|nines| *nines <= most)
        .map(|nines| 1.0 - 10f64.powf(-nines))
        .map(|q| (q, number(times.value_at_quantile(q))))
        .collect()
}

fn slice_latency<'a>(outcome: &Outcome, slice: &'a Slice) -> &'a Times {
    if outcome.scenario.consumers == 0 {
        &slice.acknowledged
    } else {
        &slice.latency
    }
}

fn latency_over_time(outcome: &Outcome) -> Plot {
    let slices = || {
        outcome
            .timeline
            .iter()
            .map(|s| (s.end, slice_latency(outcome, s)))
    };
    let worst = slices().max_by_key(|(_, times)| times.max());
    let description = worst.map_or_else(String::new, |(end, times)| {
        let (max, end) = (units::time(times.max()), units::seconds(end));
        format!("Percentiles of each slice of the run. The slowest message took {max}, at {end}.")
    });
    let mut plot = Plot::new(
        "Latency over time",
        &description,
        Axis::new("time", Unit::Seconds).with_zero(),
        latency_axis(slices().map(|(_, times)| times)),
    );
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    for (name, q) in quantiles {
        let at = |times: &Times| match times.is_empty() {
            true => f64::NAN,
            false => number(times.value_at_quantile(q)),
        };
        let points = slices().map(|(end, times)| (end, at(times))).collect();
        plot = plot.line(Line::new(name, points));
    }
    with_errors(plot, outcome)
}

/// What a slice has of something.
type Of = fn(&Counts) -> u64;

fn throughput_over_time(outcome: &Outcome) -> Plot {
    let requests = matches!(
        outcome.scenario.pattern,
        Pattern::Command | Pattern::Query | Pattern::Echo
    );
    let came = if requests { "answered" } else { "delivered" };
    let kinds: [(&str, Of, usize); 4] = [
        (came, |counts| counts.delivered, 0),
        ("sent", |counts| counts.sent, 1),
        ("confirmed", |counts| counts.acknowledged, 2),
        ("intended", |counts| counts.intended, 5),
    ];
    let open = matches!(outcome.scenario.load, Load::Open { .. });
    let rates = |of: Of| -> Vec<(f64, f64)> {
        let mut begin = 0.0;
        let rate = |slice: &Slice| {
            let length = slice.end - std::mem::replace(&mut begin, slice.end);
            (slice.end, number(of(&slice.counts)) / length)
        };
        outcome.timeline.iter().map(rate).collect()
    };
    let least = outcome.timeline.iter().map(|s| s.counts.sent).min();
    let description = format!(
        "{} messages a second came through on average; the slowest slice sent {}.",
        units::rate(outcome.throughput()),
        units::count(least.unwrap_or(0))
    );
    let mut plot = Plot::new(
        "Throughput over time",
        &description,
        Axis::new("time", Unit::Seconds).with_zero(),
        Axis::new("messages a second", Unit::Count).with_zero(),
    );
    for (name, of, colour) in kinds {
        let there = outcome.timeline.iter().any(|slice| of(&slice.counts) > 0);
        if there && (open || name != "intended") {
            plot = plot.line(Line::new(name, rates(of)).colour(colour));
        }
    }
    with_errors(plot, outcome)
}

fn with_errors(mut plot: Plot, outcome: &Outcome) -> Plot {
    for slice in outcome
        .timeline
        .iter()
        .filter(|slice| slice.counts.failed > 0)
    {
        let failed = units::count(slice.counts.failed);
        plot = plot.error(slice.end, &format!("{failed} failed"));
    }
    plot
}

fn figures(page: &mut Page, outcome: &Outcome) {
    page.side_by_side();
    latency_table(page, outcome);
    messages_table(page, outcome);
    checks_table(page, outcome);
    spent_table(page, outcome);
    page.end();
    if !outcome.errors.is_empty() {
        let row = |error: &crate::outcome::ErrorCount| {
            vec![error.text.clone(), units::count(error.count)]
        };
        let rows: Vec<Vec<String>> = outcome.errors.iter().map(row).collect();
        page.table("Errors", &["text", "count"], &rows);
    }
}

fn latency_table(page: &mut Page, outcome: &Outcome) {
    let kinds = table::kinds(outcome);
    let kinds: Vec<(&str, &Times)> = kinds.into_iter().filter(|k| !k.1.is_empty()).collect();
    if kinds.is_empty() {
        return;
    }
    let mut head = vec![""];
    head.extend(kinds.iter().map(|(name, _)| *name));
    let row = |name: &str, of: &dyn Fn(&Times) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(kinds.iter().map(|(_, times)| of(times)));
        row
    };
    let mut rows = vec![
        row("least", &|times| units::time(times.min())),
        row("mean", &|times| units::time_f(times.mean())),
    ];
    for (name, q) in QUANTILES {
        rows.push(row(name, &|times| units::time(times.value_at_quantile(q))));
    }
    rows.push(row("most", &|times| units::time(times.max())));
    rows.push(row("measured", &|times| units::count(times.len())));
    page.table("Latency", &head, &rows);
}

fn messages_table(page: &mut Page, outcome: &Outcome) {
    let counts = &outcome.counts;
    let rows = [
        ("intended", counts.intended),
        ("sent", counts.sent),
        ("confirmed", counts.acknowledged),
        ("delivered", counts.delivered),
        ("failed", counts.failed),
    ];
    let row = |(name, count): (&str, u64)| {
        let rate = units::rate(number(count) / outcome.seconds);
        vec![name.to_owned(), units::count(count), rate]
    };
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
    let rate = format!(
        "{}/s",
        units::bytes(number(counts.body_bytes) / outcome.seconds)
    );
    rows.push(vec![
        "bodies".into(),
        units::bytes(number(counts.body_bytes)),
        rate,
    ]);
    page.table("Messages", &["", "count", "a second"], &rows);
}

fn checks_table(page: &mut Page, outcome: &Outcome) {
    let checks = &outcome.checks;
    let rows = [
        ("checked", checks.checked),
        ("lost", checks.lost),
        ("repeated", checks.duplicated),
        ("out of order", checks.reordered),
        ("damaged", checks.corrupted),
        ("redelivered, announced as such", checks.redelivered),
    ];
    let rows = rows.map(|(name, count)| vec![name.to_owned(), units::count(count)]);
    page.table("Checks, over the whole run", &[], &rows);
}

fn spent_table(page: &mut Page, outcome: &Outcome) {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| rows.push((name.to_owned(), value));
    if let Some(server) = &outcome.server {
        put(
            "server: CPU per message",
            units::time_f(server.cpu_us_each * 1e3),
        );
        put("server: cores busy", units::digits(server.cores));
        put(
            "server: resident memory",
            units::bytes(number(server.resident_bytes)),
        );
        if let Some(bytes) = server.written_bytes_each {
            put("server: written per message", units::bytes(bytes));
        }
    }
    let generator = &outcome.generator;
    put(
        "generator: CPU per message",
        units::time_f(generator.cpu_us_each * 1e3),
    );
    for (core, busy) in generator.busy.iter().enumerate() {
        put(
            &format!("generator: core {core} busy"),
            units::percent(*busy),
        );
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(n, v)| vec![n, v]).collect();
    page.table("Cost", &[], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_page_says_what_the_result_is_worth() {
        let good = html(&sample::events(), "ringmq-loadgen run").unwrap();
        assert!(good.contains("verdict good") && !good.contains("verdict bad"));
        let invalid = html(&sample::invalid(), "").unwrap();
        assert!(invalid.contains("verdict bad") && invalid.contains("<h2>Not valid</h2>"));
        assert!(invalid.contains("<li>the generator was 4 ms late</li>"));
        let bad = html(&sample::bad(), "").unwrap();
        assert!(bad.contains("<h2>Violations</h2>") && bad.contains("3 lost, 1 damaged"));
    }

    #[test]
    fn the_page_has_all_plots_and_says_how_to_repeat_it() {
        let page = html(&sample::poisson(), "ringmq-loadgen run --rate 50000").unwrap();
        for part in [
            "Latency by percentile",
            "Latency over time",
            "Throughput over time",
            "12 failed",
            "ringmq-loadgen run --rate 50000",
            "pattern = &quot;events-store&quot;",
            "A Processor &amp; Co &lt;12-core&gt;",
            "2026-11-21 15:04:05",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn the_scenario_on_the_page_can_be_read_again() {
        for outcome in [sample::events(), sample::poisson()] {
            let text = toml::to_string(&outcome.scenario).unwrap();
            let read: Scenario = toml::from_str(&text).unwrap();
            assert_eq!(read, outcome.scenario);
        }
    }

    #[test]
    fn a_run_without_any_message_still_makes_a_page() {
        let mut nothing = sample::invalid();
        nothing.latency.reset();
        nothing.timeline.clear();
        nothing.counts = Counts::default();
        let page = html(&nothing, "").unwrap();
        assert!(page.contains("no data") && !page.contains("NaN"));
    }

    #[test]
    fn a_run_that_ended_at_once_divides_by_nothing() {
        let mut short = sample::invalid();
        short.seconds = 1e-9;
        short.counts = Counts::default();
        for slice in &mut short.timeline {
            slice.end = 0.0;
        }
        let page = html(&short, "").unwrap();
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(table::table(&short).contains("through"));
    }

    #[test]
    fn percentiles_go_as_far_as_there_are_messages() {
        let outcome = sample::events();
        let points = percentiles(&outcome.latency);
        let last = points.last().unwrap();
        assert!(last.0 > 0.99999 && last.0 < 0.999999, "{last:?}");
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
