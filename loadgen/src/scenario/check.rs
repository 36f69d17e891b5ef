//! What a scenario may not be: every problem at once, each with its field, its value and the limit.

use std::fmt;

use super::{Load, Pattern, Payload, Rate, Scenario};
use crate::payload::BODY_BYTES_MIN;
use crate::verify;

/// Channels of one run.
pub(super) const CHANNELS_MAX: u32 = 100_000;

/// Producers of a channel; consumers of a channel.
pub(super) const MEMBERS_MAX: u32 = 10_000;

/// Producers and consumers over all channels.
pub(super) const MEMBERS_OF_ALL_MAX: u64 = 1_000_000;

/// Connections of one run.
pub(super) const CONNECTIONS_MAX: u32 = 100_000;

/// Messages in flight for each producer: so far behind may a message come and still be told from a
/// lost one.
#[allow(clippy::cast_possible_truncation, reason = "a constant that fits")]
pub(super) const WINDOW_MAX: u32 = verify::WINDOW as u32;

/// Messages of one request, or handed to the transport at once.
pub(super) const BATCH_MAX: u32 = 10_000;

/// Bytes of a body, and of the bodies of one batch: they are in memory at once.
pub(super) const BODY_BYTES_MAX: u32 = 64 << 20;

/// Messages a second, over all producers.
pub(super) const RATE_MAX: f64 = 1e9;

/// Seconds of each part of a run: a week.
pub(super) const SECONDS_MAX: f64 = 604_800.0;

/// Steps of a rate, and sizes of a mix.
pub(super) const PARTS_MAX: usize = 100_000;

/// Milliseconds that anything waits: an hour.
pub(super) const WAIT_MS_MAX: u32 = 3_600_000;

/// Messages of one poll of a queue.
pub(super) const ITEMS_MAX: u32 = 10_000;

/// Bytes of the names of channels before the run and the number.
pub(super) const PREFIX_BYTES_MAX: usize = 200;

/// One thing that is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key of the file; the flag has the same name.
    pub field: &'static str,
    /// The value and what it may be.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

impl Scenario {
    /// Everything that is wrong with this scenario; nothing: it can be run.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.check_members(&mut problems);
        self.check_groups(&mut problems);
        check_payload(&self.payload, &mut problems);
        self.check_flight(&mut problems);
        self.check_load(&mut problems);
        self.check_times(&mut problems);
        self.check_options(&mut problems);
        problems.0
    }

    fn check_members(&self, problems: &mut Problems) {
        problems.range("channels", self.channels, 1, CHANNELS_MAX);
        problems.range("producers", self.producers, 1, MEMBERS_MAX);
        problems.range("consumers", self.consumers, 0, MEMBERS_MAX);
        problems.range("connections", self.connections, 0, CONNECTIONS_MAX);
        let members = u64::from(self.producers) + u64::from(self.consumers);
        let all = members * u64::from(self.channels);
        if all > MEMBERS_OF_ALL_MAX {
            problems.put(
                "channels",
                format!(
                    "{} with {members} producers and consumers each make {all}, which is above \
                     {MEMBERS_OF_ALL_MAX}",
                    self.channels
                ),
            );
        } else if self.connections == 0 && all > u64::from(CONNECTIONS_MAX) {
            problems.put(
                "connections",
                format!(
                    "0 makes one for each of {all} producers and consumers, which is above \
                     {CONNECTIONS_MAX}; set how many they share"
                ),
            );
        }
        self.check_prefix(problems);
    }

    fn check_prefix(&self, problems: &mut Problems) {
        let prefix = &self.channel_prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            let len = prefix.len();
            problems.put(
                "channel_prefix",
                format!("{len} bytes are not between 1 and {PREFIX_BYTES_MAX}"),
            );
        } else if !prefix.chars().all(plain) || prefix.ends_with('.') {
            problems.put(
                "channel_prefix",
                format!("`{prefix}` has more than letters, digits and ._-/: or ends in a dot"),
            );
        }
    }

    fn check_groups(&self, problems: &mut Problems) {
        let (groups, consumers) = (self.groups, self.consumers);
        match self.pattern {
            Pattern::Queue if groups > 0 => problems.put(
                "groups",
                format!("{groups} with the pattern queue: its consumers share the messages, set 0"),
            ),
            Pattern::Echo if groups > 0 => problems.put(
                "groups",
                format!("{groups} with the pattern echo: the sender gets the answer, set 0"),
            ),
            _ if groups > consumers => problems.put(
                "groups",
                format!("{groups} is above the number of consumers, {consumers}"),
            ),
            _ => {}
        }
        match self.pattern {
            // A result of an echo counts its producers as consumers; it can be run again.
            Pattern::Echo if consumers != 1 && consumers != self.producers => problems.put(
                "consumers",
                format!("{consumers} with the pattern echo: each producer gets its own, set 1"),
            ),
            Pattern::Command | Pattern::Query if consumers == 0 => problems.put(
                "consumers",
                "0 responders leave every command and query without an answer, set 1 or more"
                    .to_owned(),
            ),
            _ => {}
        }
    }

    fn check_flight(&self, problems: &mut Problems) {
        problems.range("window", self.window, 1, WINDOW_MAX);
        problems.range("batch", self.batch, 1, BATCH_MAX);
        let batch = u64::from(self.batch.min(self.window));
        let bytes = batch * u64::from(self.payload.most());
        if batch > 1 && bytes > u64::from(BODY_BYTES_MAX) {
            problems.put(
                "batch",
                format!(
                    "{batch} bodies of up to {} bytes are {bytes} bytes at once, which is above \
                     {BODY_BYTES_MAX}",
                    self.payload.most()
                ),
            );
        }
    }

    fn check_load(&self, problems: &mut Problems) {
        let Load::Open { rate, .. } = &self.load else {
            return;
        };
        match rate {
            Rate::Constant(rate) => check_rate(*rate, 1e-6, problems),
            Rate::Ramp { from, to } => {
                check_rate(*from, 0.0, problems);
                check_rate(*to, 0.0, problems);
                if *from == 0.0 && *to == 0.0 {
                    problems.put("load", "a ramp from 0 to 0 sends nothing".to_owned());
                }
            }
            Rate::Steps(steps) => {
                problems.parts("load", "steps", steps.len());
                for step in steps {
                    check_rate(step.rate, 0.0, problems);
                    problems.seconds("load", step.seconds, 1e-6);
                }
                if !steps.is_empty() && steps.iter().all(|step| step.rate == 0.0) {
                    problems.put("load", "steps of rate 0 alone send nothing".to_owned());
                }
            }
        }
    }

    fn check_times(&self, problems: &mut Problems) {
        problems.seconds("warm_up", self.warm_up, 0.0);
        problems.seconds("duration", self.duration, 0.1);
        problems.seconds("drain", self.drain, 0.0);
    }

    fn check_options(&self, problems: &mut Problems) {
        let (queue, request) = (&self.queue, &self.request);
        problems.range("queue.items", queue.items, 1, ITEMS_MAX);
        problems.range("queue.wait_ms", queue.wait_ms, 1, WAIT_MS_MAX);
        problems.range("request.timeout_ms", request.timeout_ms, 1, WAIT_MS_MAX);
        problems.range(
            "request.answer_bytes",
            request.answer_bytes,
            0,
            BODY_BYTES_MAX,
        );
    }
}

impl Payload {
    /// The largest body.
    pub(crate) fn most(&self) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { most, .. } => *most,
            Self::Normal { mean, .. } => mean.saturating_mul(2),
            Self::Mix(sizes) => sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
        }
    }
}

fn check_payload(payload: &Payload, problems: &mut Problems) {
    let mut size = |bytes| problems.range("payload", bytes, BODY_BYTES_MIN, BODY_BYTES_MAX);
    match payload {
        Payload::Fixed(bytes) => size(*bytes),
        Payload::Uniform { least, most } => {
            size(*least);
            size(*most);
            if least > most {
                problems.put(
                    "payload",
                    format!("from {least} to {most} bytes is backwards"),
                );
            }
        }
        Payload::Normal { mean, deviation } => {
            size(*mean);
            // Sizes are drawn up to twice the mean.
            size(mean.saturating_mul(2));
            if deviation > mean {
                problems.put(
                    "payload",
                    format!("a deviation of {deviation} is above the mean, {mean}"),
                );
            }
        }
        Payload::Mix(sizes) => {
            sizes.iter().for_each(|(bytes, _)| size(*bytes));
            problems.parts("payload", "sizes", sizes.len());
            if !sizes.is_empty() && sizes.iter().all(|(_, weight)| *weight == 0) {
                problems.put("payload", "each size of the mix has weight 0".to_owned());
            }
        }
    }
}

fn check_rate(rate: f64, least: f64, problems: &mut Problems) {
    // Not a number compares as false, and so is refused.
    if rate >= least && rate <= RATE_MAX {
        return;
    }
    let text = match least {
        0.0 => format!("a rate of {rate} is not between 0 and {RATE_MAX} messages a second"),
        _ => format!(
            "a rate of {rate} is not above 0 and up to {RATE_MAX} messages a second; without a \
             rate the loop is closed"
        ),
    };
    problems.put("load", text);
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn put(&mut self, field: &'static str, text: String) {
        let problem = Problem { field, text };
        // Many steps can be wrong in the same way.
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    fn range(&mut self, field: &'static str, value: u32, least: u32, most: u32) {
        if value < least || value > most {
            self.put(field, format!("{value} is not between {least} and {most}"));
        }
    }

    fn seconds(&mut self, field: &'static str, value: f64, least: f64) {
        if !(value >= least && value <= SECONDS_MAX) {
            self.put(
                field,
                format!("{value} seconds are not between {least} and {SECONDS_MAX}"),
            );
        }
    }

    fn parts(&mut self, field: &'static str, what: &str, count: usize) {
        if count == 0 || count > PARTS_MAX {
            self.put(
                field,
                format!("{count} {what} are not between 1 and {PARTS_MAX}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arrivals, Step};
    use super::*;

    fn problem(change: impl FnOnce(&mut Scenario)) -> String {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        let problems = scenario.problems();
        let [problem] = problems.as_slice() else {
            panic!("one problem was expected: {problems:?}");
        };
        problem.to_string()
    }

    fn open(rate: Rate) -> Load {
        Load::Open {
            arrivals: Arrivals::Poisson,
            rate,
        }
    }

    #[test]
    fn the_default_is_right_for_each_pattern() {
        use clap::ValueEnum;
        for pattern in Pattern::value_variants() {
            let scenario = Scenario {
                pattern: *pattern,
                ..Scenario::default()
            };
            assert_eq!(scenario.problems(), []);
        }
    }

    #[test]
    fn counts_name_their_limits() {
        assert_eq!(
            problem(|s| s.producers = 0),
            "producers: 0 is not between 1 and 10000"
        );
        assert_eq!(
            problem(|s| s.window = 0),
            "window: 0 is not between 1 and 65536"
        );
        assert!(problem(|s| s.window = 65_537).starts_with("window: 65537"));
        assert!(problem(|s| s.batch = 0).starts_with("batch: 0"));
        assert!(problem(|s| s.channels = 0).starts_with("channels: 0"));
        assert!(problem(|s| s.consumers = 10_001).starts_with("consumers: 10001"));
        assert!(problem(|s| s.connections = 100_001).starts_with("connections: 100001"));
        assert!(problem(|s| s.queue.items = 0).starts_with("queue.items: 0"));
        assert!(problem(|s| s.queue.wait_ms = 0).starts_with("queue.wait_ms: 0"));
        assert!(problem(|s| s.request.timeout_ms = 0).starts_with("request.timeout_ms: 0"));
    }

    #[test]
    fn a_million_members_are_too_many_and_a_connection_for_each_is_before_that() {
        let many = problem(|s| s.channels = 60_000);
        assert!(many.contains("120000 producers and consumers"), "{many}");
        let more = problem(|s| (s.channels, s.producers) = (100_000, 10));
        assert!(more.contains("above 1000000"), "{more}");
    }

    #[test]
    fn bodies_hold_a_stamp_and_fit_into_memory() {
        assert_eq!(
            problem(|s| s.payload = Payload::Fixed(39)),
            "payload: 39 is not between 40 and 67108864"
        );
        let uniform = |least, most| Payload::Uniform { least, most };
        assert!(problem(|s| s.payload = uniform(39, 100)).contains("39 is not"));
        assert!(problem(|s| s.payload = uniform(101, 100)).contains("backwards"));
        let normal = |mean, deviation| Payload::Normal { mean, deviation };
        assert!(problem(|s| s.payload = normal(100, 101)).contains("deviation of 101"));
        assert!(problem(|s| s.payload = Payload::Mix(vec![])).contains("0 sizes"));
        assert!(problem(|s| s.payload = Payload::Mix(vec![(64, 0)])).contains("weight 0"));
        assert!(problem(|s| s.payload = Payload::Mix(vec![(12, 1), (64, 1)])).contains("12 is"));
        let large = problem(|s| s.payload = Payload::Fixed(2 << 20));
        assert!(large.starts_with("batch: 64 bodies"), "{large}");
        let mut scenario = Scenario {
            payload: Payload::Fixed(64 << 20),
            window: 1,
            ..Scenario::default()
        };
        assert_eq!(scenario.problems(), [], "one at a time");
        scenario.window = 2;
        assert_eq!(scenario.problems().len(), 1);
    }

    #[test]
    fn an_open_loop_sends_something() {
        assert!(problem(|s| s.load = open(Rate::Constant(0.0))).contains("rate of 0 is not above"));
        assert!(problem(|s| s.load = open(Rate::Constant(f64::NAN))).contains("NaN"));
        assert!(problem(|s| s.load = open(Rate::Constant(2e9))).contains("2000000000"));
        let ramp = |from, to| open(Rate::Ramp { from, to });
        assert!(problem(|s| s.load = ramp(0.0, 0.0)).contains("sends nothing"));
        assert!(problem(|s| s.load = ramp(-1.0, 5.0)).contains("rate of -1"));
        let steps = |steps: &[(f64, f64)]| {
            let step = |(seconds, rate): &(f64, f64)| Step {
                seconds: *seconds,
                rate: *rate,
            };
            open(Rate::Steps(steps.iter().map(step).collect()))
        };
        assert!(problem(|s| s.load = steps(&[])).contains("0 steps"));
        assert!(problem(|s| s.load = steps(&[(1.0, 0.0)])).contains("send nothing"));
        assert!(problem(|s| s.load = steps(&[(0.0, 5.0)])).contains("0 seconds"));
        let fine = Scenario {
            load: steps(&[(1.0, 0.0), (1.0, 5.0)]),
            ..Scenario::default()
        };
        assert_eq!(fine.problems(), []);
    }

    #[test]
    fn groups_go_with_patterns_that_have_them() {
        assert!(problem(|s| s.groups = 2).contains("above the number of consumers, 1"));
        let grouped = |pattern| {
            move |s: &mut Scenario| {
                (s.pattern, s.groups) = (pattern, 1);
            }
        };
        assert!(problem(grouped(Pattern::Queue)).contains("pattern queue"));
        assert!(problem(grouped(Pattern::Echo)).contains("pattern echo"));
        let alone = |pattern, consumers| {
            move |s: &mut Scenario| {
                (s.pattern, s.consumers) = (pattern, consumers);
            }
        };
        assert!(problem(alone(Pattern::Echo, 2)).starts_with("consumers: 2 with"));
        assert!(problem(alone(Pattern::Query, 0)).starts_with("consumers: 0 responders"));
    }

    #[test]
    fn times_are_finite_and_something_is_counted() {
        assert!(problem(|s| s.duration = 0.0).starts_with("duration: 0 seconds"));
        assert!(problem(|s| s.warm_up = -1.0).starts_with("warm_up: -1 seconds"));
        assert!(problem(|s| s.drain = f64::INFINITY).starts_with("drain: inf"));
    }

    #[test]
    fn prefixes_are_names_of_channels() {
        for bad in ["", "a b", "a.*", "a.>", "trailing."] {
            let text = problem(|s| s.channel_prefix = bad.into());
            assert!(text.starts_with("channel_prefix: "), "{text}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let scenario = Scenario {
            producers: 0,
            window: 0,
            payload: Payload::Fixed(1),
            ..Scenario::default()
        };
        let fields: Vec<_> = scenario.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["producers", "payload", "window"]);
    }
}
