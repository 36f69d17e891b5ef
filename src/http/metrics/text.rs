//! The two text formats of metrics: Prometheus 0.0.4 and OpenMetrics 1.0.

use crate::http::stats::write::{put, put_number};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Format {
    /// Text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    pub(in crate::http) fn of(accepted: &str) -> Self {
        let mut best = (0.0_f32, Self::Prometheus);
        for range in accepted.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Self::Prometheus,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
            // At the same weight, the one that can say more.
            let more = weight > best.0 || weight >= best.0 && format == Self::OpenMetrics;
            if weight > 0.0 && more {
                best = (weight, format);
            }
        }
        best.1
    }

    /// The type of the answer.
    pub(in crate::http) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the samples of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// Only grows. The family's name ends in `_total`.
    Counter,
    /// Only grows, under a name of the reference that does not say so: OpenMetrics has no counter
    /// without `_total`.
    OldCounter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Labels that say what something is. The family's name ends in `_info`.
    Info,
}

/// A value; none is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Value {
    /// A count, or bytes.
    Number(u64),
    /// Seconds, given in nanoseconds.
    Nanoseconds(u64),
}

/// Metrics as they are written.
#[derive(Debug)]
pub(in crate::http) struct Text {
    pub(in crate::http) format: Format,
    pub(in crate::http) out: Vec<u8>,
    /// What announces the family that was begun, until it has a sample: one without is left out.
    head: Vec<u8>,
}

impl Text {
    pub(in crate::http) const fn new(format: Format) -> Self {
        Self {
            format,
            out: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Begins a family: its samples follow. Without any it does not show.
    pub(in crate::http) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (name, kind) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => {
                (name.strip_suffix("_total").unwrap_or(name), "counter")
            }
            (Format::OpenMetrics, Kind::Info) => {
                (name.strip_suffix("_info").unwrap_or(name), "info")
            }
            (Format::OpenMetrics, Kind::OldCounter) => (name, "unknown"),
            (Format::Prometheus, Kind::Counter | Kind::OldCounter) => (name, "counter"),
            (Format::Prometheus, Kind::Info) | (_, Kind::Gauge) => (name, "gauge"),
            (_, Kind::Histogram) => (name, "histogram"),
        };
        self.head.clear();
        for (word, text) in [("# HELP ", help), ("# TYPE ", kind)] {
            put(word, &mut self.head);
            put(name, &mut self.head);
            self.head.push(b' ');
            put(text, &mut self.head);
            self.head.push(b'\n');
        }
    }

    /// Writes a sample; `name` is that of the family, of a histogram with its ending.
    pub(in crate::http) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: Value) {
        let out = &mut self.out;
        out.append(&mut self.head);
        put(name, out);
        for (at, (label, text)) in labels.iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            put(label, out);
            put("=\"", out);
            put_escaped(text, out);
            out.push(b'"');
        }
        if !labels.is_empty() {
            out.push(b'}');
        }
        out.push(b' ');
        put_value(value, out);
        out.push(b'\n');
    }

    /// Ends the exposition.
    pub(in crate::http) fn end(&mut self) {
        if self.format == Format::OpenMetrics {
            put("# EOF\n", &mut self.out);
        }
    }
}

fn put_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => put("\\\\", out),
            b'"' => put("\\\"", out),
            b'\n' => put("\\n", out),
            byte => out.push(byte),
        }
    }
}

/// Appends a value, exactly.
pub(in crate::http) fn put_value(value: Value, out: &mut Vec<u8>) {
    let nanoseconds = match value {
        Value::Number(number) => return put_number(number, out),
        Value::Nanoseconds(nanoseconds) => nanoseconds,
    };
    put_number(nanoseconds / 1_000_000_000, out);
    let fraction = nanoseconds % 1_000_000_000;
    if fraction > 0 {
        let digits = format!(".{fraction:09}");
        put(digits.trim_end_matches('0'), out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &Text) -> String {
        String::from_utf8(text.out.clone()).unwrap()
    }

    #[test]
    fn the_format_is_the_one_that_the_header_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.8";
        for (accepted, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html", Format::Prometheus),
            (
                "application/openmetrics-text; version=1.0.0",
                Format::OpenMetrics,
            ),
            (
                "text/plain, application/openmetrics-text",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0, */*", Format::Prometheus),
            (prometheus, Format::Prometheus),
        ] {
            assert_eq!(Format::of(accepted), format, "{accepted}");
        }
    }

    #[test]
    fn names_of_families_follow_the_format() {
        for (format, expected) in [
            (
                Format::Prometheus,
                "# HELP a_total Help.\n# TYPE a_total counter\na_total 1\n",
            ),
            (
                Format::OpenMetrics,
                "# HELP a Help.\n# TYPE a counter\na_total 1\n# EOF\n",
            ),
        ] {
            let mut text = Text::new(format);
            text.family("b", Kind::Gauge, "Without a sample.");
            text.family("a_total", Kind::Counter, "Help.");
            text.sample("a_total", &[], Value::Number(1));
            text.end();
            assert_eq!(written(&text), expected);
        }
    }

    #[test]
    fn seconds_are_exact() {
        for (nanoseconds, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (1_500_000_000, "1.5"),
            (60_000_000_000, "60"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            let mut out = Vec::new();
            put_value(Value::Nanoseconds(nanoseconds), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn labels_are_read_back(value in "\\PC{0,20}|[\\n\\\\\"a]{0,8}") {
            let mut text = Text::new(Format::Prometheus);
            text.sample("x", &[("channel", &value), ("kind", "queues")], Value::Number(7));
            let line = written(&text);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let inner = line.strip_prefix("x{channel=\"").unwrap();
            let inner = inner.strip_suffix("\",kind=\"queues\"} 7\n").unwrap();
            let (mut read, mut chars) = (String::new(), inner.chars());
            while let Some(next) = chars.next() {
                read.push(match next {
                    '\\' => match chars.next().unwrap() {
                        'n' => '\n',
                        quoted => quoted,
                    },
                    plain => {
                        prop_assert_ne!(plain, '"');
                        plain
                    }
                });
            }
            prop_assert_eq!(read, value);
        }
    }
}
