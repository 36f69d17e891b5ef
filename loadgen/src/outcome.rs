//! What a run found: the one structure that every report is made from.

use hdrhistogram::Histogram;

use crate::scenario::Scenario;

/// Nanoseconds, to three digits, up to a minute and more.
pub(crate) type Times = Histogram<u64>;

/// An empty histogram of nanoseconds. It grows as far as it has to, from 1 ns on.
pub(crate) fn times() -> Times {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are constants")
}

/// The result of one run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub scenario: Scenario,
    /// The server, as the user named it.
    pub target: String,
    pub machine: Machine,
    /// When the counted time began, Unix milliseconds.
    pub began_unix_ms: u64,
    /// The counted time, in seconds.
    pub seconds: f64,
    /// Of the counted time.
    pub counts: Counts,
    /// From the moment at which a message should have been sent to the consumer; for requests and
    /// echoes to the answer. Empty without consumers.
    pub latency: Times,
    /// From that moment to the server's confirmation; events store and queues.
    pub acknowledged: Times,
    /// By how much the generator itself handed messages over too late.
    pub lateness: Times,
    pub errors: Vec<ErrorCount>,
    /// Over the whole run, warm-up and drain included.
    pub checks: Checks,
    pub generator: GeneratorUse,
    /// When the process of the server is known and on this machine.
    pub server: Option<ServerUse>,
    /// The counted time in slices of equal length.
    pub timeline: Vec<Slice>,
    /// Why this result is not to be trusted; empty: it is valid.
    pub invalid: Vec<String>,
}

/// Messages of the counted time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// That should have been sent; in a closed loop those that were.
    pub intended: u64,
    /// Handed to the transport.
    pub sent: u64,
    /// Confirmed by the server; events store and queues.
    pub acknowledged: u64,
    /// Received, over all consumers; answers, for requests and echoes.
    pub delivered: u64,
    /// Bytes of the bodies that were delivered (sent, without consumers).
    pub body_bytes: u64,
    /// Failed: refused, timed out, broken off.
    pub failed: u64,
}

impl Counts {
    /// What came through: delivered; without consumers what was confirmed, or else sent.
    pub(crate) const fn through(&self, scenario: &Scenario) -> u64 {
        match (scenario.consumers, self.acknowledged) {
            (0, 0) => self.sent,
            (0, acknowledged) => acknowledged,
            _ => self.delivered,
        }
    }
}

/// An error text and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCount {
    pub text: String,
    pub count: u64,
}

/// What the verification found. Redelivered is no violation: the server said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    /// Messages whose number, order and checksum were looked at.
    pub checked: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupted: u64,
    /// Repetitions that the server announced as such.
    pub redelivered: u64,
    /// The first few violations in words: consumer, channel, producer, number.
    pub examples: Vec<String>,
}

impl Checks {
    /// Violations of all kinds.
    pub(crate) const fn violations(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted
    }
}

/// What the generator spent.
#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorUse {
    /// Of each of its cores, the part of the counted time in which it had work, 0 to 1.
    pub busy: Vec<f64>,
    /// CPU time in microseconds for each message, spinning included.
    pub cpu_us_each: f64,
}

/// What the server spent, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerUse {
    /// CPU time in microseconds for each message that was delivered (sent, without consumers).
    pub cpu_us_each: f64,
    /// Processors in use on average.
    pub cores: f64,
    /// Resident memory at the end, in bytes.
    pub resident_bytes: u64,
    /// Bytes written to storage for each message, when the kernel tells.
    pub written_bytes_each: Option<f64>,
}

/// The machine the generator runs on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub processors: usize,
    pub model: String,
    pub kernel: String,
    pub memory_bytes: u64,
}

/// A part of the counted time.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Its end, in seconds from the beginning of the counted time.
    pub end: f64,
    pub counts: Counts,
    pub latency: Times,
    pub acknowledged: Times,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connections and subscriptions are made.
    #[default]
    Connect,
    WarmUp,
    /// The counted time.
    Measure,
    /// Nothing new is sent; what is on the way may arrive.
    Drain,
}

/// A look at a running run, several times a second. Counts and times are those since the last look,
/// in each phase, so that a warm-up can be watched too.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub phase: Phase,
    /// Seconds since the beginning of the warm-up; 0 before.
    pub elapsed: f64,
    /// Warm-up and duration, in seconds.
    pub total: f64,
    /// Seconds since the last look.
    pub span: f64,
    /// Since the last look.
    pub counts: Counts,
    /// Since the last look; what [`Outcome::main_latency`] is.
    pub latency: Times,
    /// Of the whole run, so far.
    pub failed: u64,
    /// Of the whole run, so far, as far as they are known before its end.
    pub violations: u64,
}

/// A count as a floating-point number; exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "figures are for people")]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}

impl Outcome {
    /// Messages a second that came through: delivered, or acknowledged without consumers.
    pub(crate) fn throughput(&self) -> f64 {
        number(self.counts.through(&self.scenario)) / self.seconds
    }

    /// The latency that the scenario is about: to the consumer, or to the confirmation.
    pub(crate) const fn main_latency(&self) -> &Times {
        if self.scenario.consumers == 0 {
            &self.acknowledged
        } else {
            &self.latency
        }
    }
}
