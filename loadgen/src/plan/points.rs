//! What was measured of a broker on a machine; saved, and loaded to answer further questions.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::outcome::{Machine, number};
use crate::scenario::{Calls, Pattern};
use crate::spread::Spread;

/// The form of the file. A file of another version is refused.
const VERSION: u32 = 1;

/// Everything that was measured. Points that were disturbed are in it, marked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measured {
    pub version: u32,
    /// The broker, as it was named.
    pub broker: String,
    pub machine: MachineFacts,
    /// When measuring began, Unix milliseconds.
    pub taken_unix_ms: u64,
    /// Seconds of each run, and how often each was made.
    pub seconds: f64,
    pub rounds: u32,
    /// Whether the generator had processors of its own beside the broker.
    pub generator_apart: bool,
    pub points: Vec<Point>,
    pub curves: Vec<Curve>,
    pub disk: Vec<StoredBytes>,
    pub memory: Memory,
    /// What whoever reads the figures should know, in sentences.
    pub notes: Vec<String>,
}

/// The machine that was measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineFacts {
    pub processors: usize,
    pub model: String,
    pub kernel: String,
    pub memory_bytes: u64,
}

impl From<&Machine> for MachineFacts {
    fn from(machine: &Machine) -> Self {
        Self {
            processors: machine.processors,
            model: machine.model.clone(),
            kernel: machine.kernel.clone(),
            memory_bytes: machine.memory_bytes,
        }
    }
}

/// Messages that are alike to the model: one fit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    pub pattern: Pattern,
    pub calls: Calls,
    /// For what is stored.
    pub sync: Option<Sync>,
}

/// When a stored message is acknowledged (`store.sync` of the broker).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sync {
    /// After its sync to disk.
    Strict,
    /// After the append; a power cut may undo the last interval.
    Interval,
}

/// What a point is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// As much as goes through: the cost of a message when batches are full.
    Saturation,
    /// One message at a time: the cost of a message that comes alone, and the least latency.
    Alone,
    /// As much as goes through over many channels, with one executor and with two.
    Scaling,
}

/// One scenario at full speed (or one at a time), and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    pub purpose: Purpose,
    pub family: Family,
    pub executors: u32,
    /// Bytes of each body.
    pub size: u32,
    /// Subscribers that get each message.
    pub fan_out: u32,
    /// Messages sent a second.
    pub rate: Spread,
    /// CPU time of the broker for each message sent, with all its deliveries, in microseconds.
    pub cpu_us_each: Spread,
    /// Of the broker's executors, the part that was in use, 0 to 1.
    pub busy: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Bytes written to storage for each message, as the kernel counts.
    pub written_bytes_each: Option<f64>,
    /// Bytes over the network for each message, both ways together, without the body's.
    pub wire_bytes_each: Option<f64>,
    /// Memory of the broker under this load.
    pub resident_bytes: u64,
    /// Messages that were lost, repeated, reordered or damaged.
    pub violations: u64,
    /// Why a run of this point is not to be trusted; empty: all were good.
    pub doubts: Vec<String>,
}

/// A broker is saturated when its executors have this much to do.
pub(crate) const SATURATED: f64 = 0.95;

impl Point {
    /// Messages a second that one executor could do at this cost.
    pub(crate) fn saturation(&self) -> f64 {
        f64::from(self.executors) * 1e6 / self.cpu_us_each.median
    }

    /// Whether the broker was the limit, so that its saturation was seen and not only computed.
    pub(crate) fn saturated(&self) -> bool {
        self.busy >= SATURATED
    }
}

/// Latency against utilisation, of one family on one executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Curve {
    pub family: Family,
    pub size: u32,
    /// Messages a second that are counted as the whole.
    pub saturation: f64,
    /// In the order of their utilisation.
    pub loads: Vec<CurvePoint>,
}

/// A load below saturation and its latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CurvePoint {
    /// Rate as a part of saturation.
    pub utilisation: f64,
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Processors the broker used.
    pub busy: f64,
    /// Whether the broker kept up.
    pub kept_up: bool,
    /// Lost beyond what it kept up with, plain events are no violation.
    pub violations: u64,
    pub doubts: Vec<String>,
}

/// What stored messages take on disk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredBytes {
    pub pattern: Pattern,
    /// Bytes of each body.
    pub size: u32,
    /// Messages that were stored.
    pub messages: u64,
    /// Bytes of files for each of them.
    pub disk_bytes_each: f64,
    /// Bytes written to storage for each of them, as the kernel counts.
    pub written_bytes_each: Option<f64>,
}

/// What things take in memory, in bytes. What was not measured is `None`, and is not planned for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// The broker with nothing to do, by executors: with one, with two.
    pub idle: Vec<f64>,
    /// The most that load added to that, for each executor.
    pub under_load: Option<f64>,
    pub connection: Option<f64>,
    /// The first subscription of a connection; it touches buffers of the connection.
    pub first_subscription: Option<f64>,
    pub further_subscription: Option<f64>,
    /// An idle queue.
    pub channel: Option<f64>,
    pub stored_event: Option<f64>,
    /// A queue's message that waits for a consumer.
    pub waiting_message: Option<f64>,
    /// A queue's message that waits for its time.
    pub delayed_message: Option<f64>,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = match self.pattern {
            Pattern::Events => "events",
            Pattern::EventsStore => "events store",
            Pattern::Queue => "queue",
            Pattern::Command => "command",
            Pattern::Query => "query",
            Pattern::Echo => "echo",
        };
        f.write_str(pattern)?;
        if has_both_calls(self.pattern) {
            f.write_str(match self.calls {
                Calls::Stream => ", stream",
                Calls::Unary => ", unary",
            })?;
        }
        match self.sync {
            Some(Sync::Strict) => f.write_str(", strict"),
            Some(Sync::Interval) => f.write_str(", interval"),
            None => Ok(()),
        }
    }
}

/// Whether a pattern can be driven over streams and by unary calls. Requests cannot: their callers
/// call, their responders subscribe.
pub(crate) const fn has_both_calls(pattern: Pattern) -> bool {
    !matches!(pattern, Pattern::Command | Pattern::Query)
}

/// Whether a pattern's messages are kept on disk.
pub(crate) const fn is_stored(pattern: Pattern) -> bool {
    matches!(pattern, Pattern::EventsStore | Pattern::Queue)
}

/// Whether each message of a pattern may go to many.
pub(crate) const fn fans_out(pattern: Pattern) -> bool {
    matches!(pattern, Pattern::Events | Pattern::EventsStore)
}

impl Measured {
    /// Nothing measured yet.
    pub(crate) fn new(broker: String, taken_unix_ms: u64, seconds: f64, rounds: u32) -> Self {
        Self {
            version: VERSION,
            broker,
            machine: MachineFacts::default(),
            taken_unix_ms,
            seconds,
            rounds,
            generator_apart: true,
            points: Vec::new(),
            curves: Vec::new(),
            disk: Vec::new(),
            memory: Memory::default(),
            notes: Vec::new(),
        }
    }

    /// The points of a family for one purpose.
    pub(crate) fn points_of(
        &self,
        family: Family,
        purpose: Purpose,
    ) -> impl Iterator<Item = &Point> {
        self.points
            .iter()
            .filter(move |point| point.family == family && point.purpose == purpose)
    }

    /// The families that have been measured, in the order of their points.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for point in &self.points {
            if !families.contains(&point.family) {
                families.push(point.family);
            }
        }
        families
    }

    /// The most that a load took beyond the idle broker, for each executor.
    pub(crate) fn note_load(&mut self) {
        let extra = self.points.iter().filter_map(|point| {
            let executors = usize::try_from(point.executors).ok()?;
            let idle = self.memory.idle.get(executors.checked_sub(1)?)?;
            Some((number(point.resident_bytes) - idle).max(0.0) / f64::from(point.executors))
        });
        self.memory.under_load = extra.max_by(f64::total_cmp);
    }

    /// # Errors
    /// When there is no such file, or it is not one of these.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the measured points in {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        // The version first: another version's fields are not ours to complain about.
        let value: serde_json::Value = serde_json::from_str(text)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        anyhow::ensure!(
            version == Some(u64::from(VERSION)),
            "these are not measured points of version {VERSION}; measure anew with --save"
        );
        Ok(serde_json::from_value(value)?)
    }

    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot save the measured points to {}", path.display()))
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) const EVENTS: Family = Family {
        pattern: Pattern::Events,
        calls: Calls::Stream,
        sync: None,
    };

    pub(crate) const QUEUE: Family = Family {
        pattern: Pattern::Queue,
        calls: Calls::Stream,
        sync: Some(Sync::Strict),
    };

    pub(crate) fn point(family: Family, size: u32, fan_out: u32, cpu_us: f64) -> Point {
        Point {
            purpose: Purpose::Saturation,
            family,
            executors: 1,
            size,
            fan_out,
            rate: Spread::of([1e6 / cpu_us]).unwrap(),
            cpu_us_each: Spread::of([cpu_us]).unwrap(),
            busy: 1.0,
            p50_us: 100.0,
            p99_us: 1_000.0,
            written_bytes_each: None,
            wire_bytes_each: Some(200.0),
            resident_bytes: 40 << 20,
            violations: 0,
            doubts: Vec::new(),
        }
    }

    /// A broker whose events cost 1 + 0.2 KiB + f (0.5 + 0.1 KiB) and whose queue 3 + 1 KiB, with
    /// eight tenths of the second executor's power.
    pub(crate) fn measured() -> Measured {
        let mut all = Measured::new("sample".into(), 0, 1.0, 1);
        for size in [128, 1024, 8192] {
            let kib = f64::from(size) / 1024.0;
            for fan_out in [1, 5] {
                let f = f64::from(fan_out);
                let cpu_us = 1.0 + 0.2 * kib + f * (0.5 + 0.1 * kib);
                all.points.push(point(EVENTS, size, fan_out, cpu_us));
            }
            all.points.push(point(QUEUE, size, 1, 3.0 + kib));
        }
        for family in [EVENTS, QUEUE] {
            for (executors, cpu_us) in [(1, 2.0), (2, 2.5)] {
                let mut scaling = point(family, 1024, 1, cpu_us);
                scaling.purpose = Purpose::Scaling;
                scaling.executors = executors;
                all.points.push(scaling);
            }
            let mut alone = point(family, 1024, 1, 40.0);
            alone.purpose = Purpose::Alone;
            all.points.push(alone);
            let p99s = [(0.1, 200.0), (0.5, 400.0), (0.8, 1_600.0), (0.95, 50_000.0)];
            let loads = p99s.map(|(utilisation, p99_us)| CurvePoint {
                utilisation,
                rate: utilisation * 100_000.0,
                p50_us: 100.0,
                p99_us,
                p999_us: p99_us * 2.0,
                busy: utilisation,
                kept_up: utilisation < 0.9,
                violations: 0,
                doubts: Vec::new(),
            });
            all.curves.push(Curve {
                family,
                size: 1024,
                saturation: 100_000.0,
                loads: loads.into(),
            });
        }
        for size in [128, 1024, 8192] {
            all.disk.push(StoredBytes {
                pattern: Pattern::Queue,
                size,
                messages: 1_000,
                disk_bytes_each: f64::from(size) * 1.01 + 60.0,
                written_bytes_each: Some(f64::from(size) * 2.0 + 100.0),
            });
        }
        all.memory = Memory {
            idle: vec![10e6, 16e6],
            under_load: None,
            connection: Some(16e3),
            first_subscription: Some(7e3),
            further_subscription: Some(2e3),
            channel: Some(656.0),
            stored_event: Some(0.14),
            waiting_message: Some(16.0),
            delayed_message: Some(69.0),
        };
        all.note_load();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{EVENTS, QUEUE, measured};
    use super::*;

    #[test]
    fn measured_points_survive_being_saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("measured.json");
        let mut whole = measured();
        // The last bit of a fraction may be lost in text; no figure here has one.
        for point in &mut whole.points {
            point.rate = Spread::of([1_000.0, 3_000.0]).unwrap();
            point.cpu_us_each = Spread::of([1.5]).unwrap();
        }
        whole.disk.clear();
        whole.save(&path).unwrap();
        assert_eq!(Measured::load(&path).unwrap(), whole);
    }

    #[test]
    fn file_of_another_version_or_of_something_else_is_refused() {
        let other = serde_json::json!({ "version": 2, "unknown": true }).to_string();
        let error = Measured::parse(&other).unwrap_err().to_string();
        assert!(error.contains("version 1"), "{error}");
        assert!(Measured::parse("{}").is_err());
        assert!(Measured::parse("no json").is_err());
    }

    #[test]
    fn load_is_what_goes_beyond_the_idle_broker() {
        // 40 MiB under load; idle 10 MB with one executor, which is the larger rest.
        let load = measured().memory.under_load.unwrap();
        assert_eq!(load, f64::from(40 << 20) - 10e6);
    }

    #[test]
    fn families_are_named_in_words() {
        assert_eq!(EVENTS.to_string(), "events, stream");
        assert_eq!(QUEUE.to_string(), "queue, stream, strict");
        let query = Family {
            pattern: Pattern::Query,
            ..EVENTS
        };
        assert_eq!(query.to_string(), "query");
    }
}
