//! The result as an HdrHistogram interval log, version 1.3, for the tools that read those.
//!
//! Values are nanoseconds; the readable maximum of each line is in milliseconds, which the divisor
//! in the head says. Tags: `latency` and `ack`, a line for each slice of the counted time;
//! `lateness`, one line for all of it. What was due in the counted time and came in the drain is a
//! last line of its tag. Timestamps are seconds since the counted time began.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::anyhow;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::outcome::{Outcome, Times};
use crate::report::{table, words};

const NS_PER_MS: f64 = 1e6;

/// The text of the log.
pub(crate) fn hlog(outcome: &Outcome) -> anyhow::Result<Vec<u8>> {
    let began = UNIX_EPOCH + Duration::from_millis(outcome.began_unix_ms);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(concat!(
            "[Logged with ringmq-loadgen ",
            env!("CARGO_PKG_VERSION"),
            "]"
        ))
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&table::printable(&words::name(&outcome.scenario)))
        .add_comment("Values are nanoseconds.")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut log, &mut serializer)?;
    let mut write = |times: &Times, begin: f64, end: f64, tag: &str| {
        let length = seconds(end - begin);
        let result = writer.write_histogram(times, seconds(begin), length, Tag::new(tag));
        result.map_err(|error| anyhow!("interval log: {error:?}"))
    };
    // Readers expect the lines in the order in which they begin.
    if !outcome.lateness.is_empty() {
        write(&outcome.lateness, 0.0, outcome.seconds, "lateness")?;
    }
    let (latency, ack) = (&outcome.latency, &outcome.acknowledged);
    let (mut late_latency, mut late_ack) = (latency.clone(), ack.clone());
    let mut begin = 0.0;
    for slice in &outcome.timeline {
        // A slice in which nothing came is a fact, unless nothing ever came.
        if !latency.is_empty() {
            write(&slice.latency, begin, slice.end, "latency")?;
        }
        if !ack.is_empty() {
            write(&slice.acknowledged, begin, slice.end, "ack")?;
        }
        late_latency.subtract(&slice.latency)?;
        late_ack.subtract(&slice.acknowledged)?;
        begin = slice.end;
    }
    // What was due in the counted time and came in the drain: in the sum of all lines it counts.
    let end = begin + outcome.scenario.drain;
    for (times, tag) in [(&late_latency, "latency"), (&late_ack, "ack")] {
        if !times.is_empty() {
            write(times, begin, end, tag)?;
        }
    }
    Ok(log)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::outcome::times;
    use crate::report::sample;

    /// The lines by tag: begin, length, histogram.
    type Lines = BTreeMap<String, Vec<(Duration, Duration, Times)>>;

    fn read(log: &[u8]) -> Lines {
        let mut lines = Lines::new();
        let mut deserializer = Deserializer::new();
        for entry in IntervalLogIterator::new(log) {
            let LogEntry::Interval(line) = entry.expect("a line that can be read") else {
                continue;
            };
            let histogram = deserializer
                .deserialize_interval(line.encoded_histogram())
                .expect("a histogram that can be read");
            let tag = line.tag().expect("a tag").as_str().to_owned();
            let interval = (line.start_timestamp(), line.duration(), histogram);
            lines.entry(tag).or_default().push(interval);
        }
        lines
    }

    trait Intervals {
        fn deserialize_interval(&mut self, text: &str) -> anyhow::Result<Times>;
    }

    impl Intervals for Deserializer {
        fn deserialize_interval(&mut self, text: &str) -> anyhow::Result<Times> {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
            Ok(self.deserialize(&mut bytes.as_slice())?)
        }
    }

    #[test]
    fn the_log_holds_what_was_measured() {
        let outcome = sample::poisson();
        let lines = read(&hlog(&outcome).unwrap());
        let tags: Vec<&str> = lines.keys().map(String::as_str).collect();
        assert_eq!(tags, ["ack", "latency", "lateness"]);
        let latency = &lines["latency"];
        assert_eq!(latency.len(), outcome.timeline.len());
        let mut all = times();
        let mut end = Duration::ZERO;
        for (begin, length, histogram) in latency {
            assert!(begin.abs_diff(end) < Duration::from_millis(2), "no gaps");
            end = *begin + *length;
            all.add(histogram).unwrap();
        }
        assert_eq!(all.len(), outcome.latency.len());
        for quantile in [0.5, 0.99, 0.9999, 1.0] {
            let (read, kept) = (
                all.value_at_quantile(quantile),
                outcome.latency.value_at_quantile(quantile),
            );
            assert_eq!(read, kept, "{quantile}");
        }
        assert_eq!(lines["lateness"].len(), 1);
    }

    #[test]
    fn what_came_in_the_drain_has_a_line_of_its_own() {
        let mut outcome = sample::events();
        outcome.latency.record_n(3_000_000_000, 7).unwrap();
        let lines = read(&hlog(&outcome).unwrap());
        let (begin, _, histogram) = lines["latency"].last().unwrap();
        assert_eq!(*begin, Duration::from_secs(10));
        assert_eq!((histogram.len(), lines["latency"].len()), (7, 41));
    }

    #[test]
    fn what_nobody_measured_has_no_lines() {
        let text = String::from_utf8(hlog(&sample::events()).unwrap()).unwrap();
        assert!(!text.contains("Tag=ack") && text.contains("Tag=latency"));
        assert!(text.contains("#[MaxValueDivisor: 1000000.000]"));
        assert!(text.contains("#[StartTime: 1795273445.000 (seconds since epoch)]"));
    }
}
