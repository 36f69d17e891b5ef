//! A frame: what happened between two moments, and how that looks.

use std::cmp::Reverse;
use std::collections::HashMap;

use comfy_table::{CellAlignment, ContentArrangement};
use serde::Serialize;

use super::Sort;
use super::sample::{Row as Counted, Sample};
use crate::cli::output::{Output, Style};
use crate::cli::text;
use crate::rt;

/// Methods whose latencies are shown.
const METHODS_MAX: usize = 5;

/// What happened between two moments, as programs read it.
#[derive(Debug, Serialize)]
pub(super) struct Frame<'a> {
    time: String,
    host: &'a str,
    version: &'a str,
    uptime_seconds: u64,
    channel_count: u64,
    connections: Option<f64>,
    total: Rates,
    waiting: u64,
    /// How busy each core was, of 100.
    cores_percent: Vec<f64>,
    latencies: Vec<Latency>,
    channels: Vec<Row<'a>>,
    #[serde(skip)]
    sort: Sort,
}

/// A second's worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rates {
    in_per_second: f64,
    out_per_second: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
}

/// A channel.
#[derive(Debug, Serialize)]
struct Row<'a> {
    kind: &'a str,
    name: &'a str,
    #[serde(flatten)]
    rates: Rates,
    messages_in: u64,
    messages_out: u64,
    waiting: u64,
}

/// How long calls of a method took.
#[derive(Debug, Serialize)]
struct Latency {
    method: String,
    calls_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Where a frame is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Lines there is room for; without columns: rows of channels.
    pub(super) rows: usize,
    /// Columns of the terminal, if it is one.
    pub(super) columns: Option<u16>,
    pub(super) output: Output,
}

/// To one place behind the point.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// What was added, a second.
#[allow(
    clippy::cast_precision_loss,
    reason = "a rate for people needs no 52 bits"
)]
fn per_second(before: u64, now: u64, seconds: f64) -> f64 {
    // A channel that was deleted and made again counts from 0.
    let added = now.checked_sub(before).unwrap_or(now);
    rounded(added as f64 / seconds)
}

impl Rates {
    fn of(before: &Counted, now: &Counted, seconds: f64) -> Self {
        let rate = |count: fn(&Counted) -> u64| per_second(count(before), count(now), seconds);
        Self {
            in_per_second: rate(|row| row.messages_in),
            out_per_second: rate(|row| row.messages_out),
            bytes_in_per_second: rate(|row| row.bytes_in),
            bytes_out_per_second: rate(|row| row.bytes_out),
        }
    }

    fn add(&mut self, other: Self) {
        self.in_per_second = rounded(self.in_per_second + other.in_per_second);
        self.out_per_second = rounded(self.out_per_second + other.out_per_second);
        self.bytes_in_per_second = rounded(self.bytes_in_per_second + other.bytes_in_per_second);
        self.bytes_out_per_second = rounded(self.bytes_out_per_second + other.bytes_out_per_second);
    }

    fn messages(self) -> f64 {
        self.in_per_second + self.out_per_second
    }

    fn bytes(self) -> f64 {
        self.bytes_in_per_second + self.bytes_out_per_second
    }
}

impl<'a> Frame<'a> {
    /// What happened between two moments, the channels in order.
    pub(super) fn of(before: &Sample, now: &'a Sample, sort: Sort) -> Self {
        let seconds = now.at.since(before.at).as_secs_f64().max(1e-3);
        let known: HashMap<_, _> = before
            .rows
            .iter()
            .map(|channel| ((channel.kind.as_str(), channel.name.as_str()), channel))
            .collect();
        let mut total = Rates::default();
        let mut rows = Vec::with_capacity(now.rows.len());
        for channel in &now.rows {
            let key = (channel.kind.as_str(), channel.name.as_str());
            // One that is seen for the first time has no rate yet.
            let before = known.get(&key).copied().unwrap_or(channel);
            let rates = Rates::of(before, channel, seconds);
            total.add(rates);
            rows.push(Row {
                kind: &channel.kind,
                name: &channel.name,
                rates,
                messages_in: channel.messages_in,
                messages_out: channel.messages_out,
                waiting: channel.waiting,
            });
        }
        order(&mut rows, sort);
        Self {
            time: text::time_ms(u64::try_from(rt::unix_ns()).unwrap_or(0)),
            host: &now.host,
            version: &now.version,
            uptime_seconds: now.uptime_seconds,
            channel_count: now.channel_count,
            connections: now.metrics.as_ref().map(|metrics| metrics.connections),
            total,
            waiting: rows.iter().map(|row| row.waiting).sum(),
            cores_percent: cores(before, now, seconds),
            latencies: latencies(before, now, seconds),
            channels: rows,
            sort,
        }
    }

    /// The same with no more channels than so many.
    pub(super) fn limited(mut self, rows: usize) -> Self {
        self.channels.truncate(rows);
        self
    }

    /// The frame for people.
    pub(super) fn text(&self, view: View) -> String {
        let output = view.output;
        let mut head = vec![format!(
            "{}  {}  up {}  {} channels  {} messages wait",
            output.paint(Style::Head, &text::harmless(self.host)),
            text::harmless(self.version),
            text::span(self.uptime_seconds),
            self.channel_count,
            self.waiting
        )];
        let connections = self
            .connections
            .map_or(String::new(), |count| format!("  {count:.0} connections"));
        head.push(format!(
            "in {}/s {}/s  out {}/s {}/s{connections}",
            count(self.total.in_per_second),
            size(self.total.bytes_in_per_second),
            count(self.total.out_per_second),
            size(self.total.bytes_out_per_second),
        ));
        if !self.cores_percent.is_empty() {
            let cores: Vec<_> = self.cores_percent.iter().map(|use_| bar(*use_)).collect();
            head.push(format!("cores {}", cores.join(" ")));
        }
        for latency in self.latencies.iter().take(METHODS_MAX) {
            head.push(format!(
                "{:<24} {}/s  p50 {:.3} ms  p99 {:.3} ms",
                latency.method,
                count(latency.calls_per_second),
                latency.p50_ms,
                latency.p99_ms
            ));
        }
        let keys = "keys: r rate, i in, o out, b bytes, w waiting, n name; q quits";
        if view.columns.is_some() {
            head.push(output.paint(Style::Faint, keys));
        }
        let rows = match view.columns {
            // A head of the table, and a line left for the cursor.
            Some(_) => view.rows.saturating_sub(head.len() + 2),
            None => view.rows,
        };
        format!("{}\n{}", head.join("\n"), self.table(rows, view))
    }

    fn table(&self, rows: usize, view: View) -> String {
        let marked = |name: &str, sort: Sort| match sort == self.sort {
            true => format!("{name}*"),
            false => name.to_owned(),
        };
        let heads = [
            "kind".to_owned(),
            marked("channel", Sort::Name),
            marked("in/s", Sort::In),
            marked("out/s", Sort::Out),
            marked("bytes/s", Sort::Bytes),
            marked("waiting", Sort::Waiting),
            "in".to_owned(),
            "out".to_owned(),
        ];
        let mut table = text::plain_table(heads.iter().map(String::as_str).collect());
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if let Some(columns) = view.columns {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(columns);
        }
        for row in self.channels.iter().take(rows) {
            table.add_row([
                row.kind.to_owned(),
                text::harmless(row.name).into_owned(),
                count(row.rates.in_per_second),
                count(row.rates.out_per_second),
                size(row.rates.bytes()),
                row.waiting.to_string(),
                row.messages_in.to_string(),
                row.messages_out.to_string(),
            ]);
            if let Some(last) = table.row_iter_mut().last() {
                last.max_height(1);
            }
        }
        let text = table.trim_fmt();
        match text.split_once('\n') {
            Some((head, rows)) => format!("{}\n{rows}\n", view.output.paint(Style::Head, head)),
            None => format!("{}\n", view.output.paint(Style::Head, &text)),
        }
    }
}

/// Sorts channels; those that are equal by what they have done, and by name.
fn order(rows: &mut [Row<'_>], sort: Sort) {
    let value = |row: &Row<'_>| match sort {
        Sort::Rate => row.rates.messages(),
        Sort::In => row.rates.in_per_second,
        Sort::Out => row.rates.out_per_second,
        Sort::Bytes => row.rates.bytes(),
        Sort::Waiting | Sort::Name => 0.0,
    };
    let seen = |row: &Row<'_>| Reverse(row.messages_in.saturating_add(row.messages_out));
    rows.sort_by(|a, b| {
        let by_name = (a.name, a.kind).cmp(&(b.name, b.kind));
        match sort {
            Sort::Name => by_name,
            Sort::Waiting => b.waiting.cmp(&a.waiting).then(by_name),
            Sort::Rate | Sort::In | Sort::Out | Sort::Bytes => value(b)
                .total_cmp(&value(a))
                .then_with(|| seen(a).cmp(&seen(b)))
                .then(by_name),
        }
    });
}

fn cores(before: &Sample, now: &Sample, seconds: f64) -> Vec<f64> {
    let (Some(before), Some(now)) = (&before.metrics, &now.metrics) else {
        return Vec::new();
    };
    let share = |(core, busy): (&u32, &f64)| {
        let earlier = before.busy.get(core).copied().unwrap_or(0.0);
        rounded(((busy - earlier) / seconds * 100.0).clamp(0.0, 100.0))
    };
    now.busy.iter().map(share).collect()
}

fn latencies(before: &Sample, now: &Sample, seconds: f64) -> Vec<Latency> {
    let (Some(before), Some(now)) = (&before.metrics, &now.metrics) else {
        return Vec::new();
    };
    let shown = |latency: super::metrics::Latency| Latency {
        method: latency.method,
        calls_per_second: rounded(latency.calls / seconds),
        p50_ms: latency.p50 * 1e3,
        p99_ms: latency.p99 * 1e3,
    };
    now.latencies_since(before).into_iter().map(shown).collect()
}

/// A count, short.
fn count(number: f64) -> String {
    match number {
        number if number >= 1e7 => format!("{:.1}M", number / 1e6),
        number if number >= 1e4 => format!("{:.1}k", number / 1e3),
        number if number > 0.0 && number < 10.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes a second for people; never negative, and a cast saturates"
)]
fn size(bytes: f64) -> String {
    text::bytes(bytes as u64)
}

/// How busy something is, as eight steps and a number.
fn bar(percent: f64) -> String {
    const STEPS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let step = STEPS
        .iter()
        .zip((0..).map(|step| f64::from(step) * 12.5))
        .take_while(|(_, least)| percent >= *least)
        .last();
    format!("{}{percent:.0}%", step.map_or(" ", |(step, _)| step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(name: &str, messages_in: u64, waiting: u64) -> Counted {
        Counted {
            name: name.to_owned(),
            kind: "queues".to_owned(),
            messages_in,
            bytes_in: messages_in * 100,
            waiting,
            ..Counted::default()
        }
    }

    fn sample(at_ms: u64, rows: Vec<Counted>) -> Sample {
        Sample {
            at: rt::Instant::from_ns(at_ms * 1_000_000),
            rows,
            ..Sample::default()
        }
    }

    #[test]
    fn rates_are_what_was_added_between_two_samples() {
        let before = sample(0, vec![counted("a", 100, 0), counted("b", 50, 9)]);
        let now = sample(
            2_000,
            vec![
                counted("a", 300, 0),
                counted("b", 20, 9),
                counted("new", 1_000, 1),
            ],
        );
        let frame = Frame::of(&before, &now, Sort::Rate);
        let rates: Vec<_> = frame
            .channels
            .iter()
            .map(|row| (row.name, row.rates.in_per_second.round()))
            .collect();
        assert_eq!(rates, [("a", 100.0), ("b", 10.0), ("new", 0.0)]);
        assert!((frame.total.in_per_second - 110.0).abs() < 0.01);
        assert_eq!(frame.waiting, 10);
    }

    #[test]
    fn channels_are_sorted_by_what_is_wanted() {
        let now = sample(
            1,
            vec![counted("b", 1, 9), counted("a", 2, 0), counted("c", 3, 5)],
        );
        let names = |sort| {
            let frame = Frame::of(&now, &now, sort);
            frame
                .channels
                .iter()
                .map(|row| row.name)
                .collect::<String>()
        };
        assert_eq!(names(Sort::Name), "abc");
        assert_eq!(names(Sort::Waiting), "bca");
        assert_eq!(names(Sort::Rate), "cab");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 1.5, 999.0, 12_345.0, 2e7].map(count),
            ["0", "1.5", "999", "12.3k", "20.0M"]
        );
        assert_eq!([0.0, 50.0, 100.0].map(bar), [" 0%", "▄50%", "█100%"]);
    }
}
