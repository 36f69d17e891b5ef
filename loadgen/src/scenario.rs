//! What a run does: the messages, who sends them, who gets them, how fast and for how long.
//!
//! The same structure is read from a TOML file, set by flags, and printed with each result, so
//! that a result says how to repeat it.

pub(crate) mod check;
pub(crate) mod file;

use serde::{Deserialize, Serialize};

/// One scenario. Counts of producers, consumers and groups are for each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scenario {
    /// For people; in the head of each report.
    pub name: String,
    pub pattern: Pattern,
    /// How messages travel: over streams, or by one call each.
    pub calls: Calls,
    /// Channels; each belongs to one core of the generator.
    pub channels: u32,
    /// Names of channels begin with this; a run and a number follow.
    pub channel_prefix: String,
    /// Senders of each channel (callers, for commands and queries).
    pub producers: u32,
    /// Receivers of each channel (responders, for commands and queries); none: sending alone.
    pub consumers: u32,
    /// Groups that the consumers of a channel are spread over; 0: no groups, each gets everything.
    /// Queues have none: their consumers share the messages.
    pub groups: u32,
    pub payload: Payload,
    /// Connections to the server, over all cores; 0: one for each producer and consumer.
    pub connections: u32,
    /// Messages in flight for each producer.
    pub window: u32,
    /// Messages of one request (queues), or handed to the transport at once (streams).
    pub batch: u32,
    pub load: Load,
    /// Seconds that are run before and not counted.
    pub warm_up: f64,
    /// Seconds that are counted.
    pub duration: f64,
    /// Seconds at most in which what is on the way may arrive after that.
    pub drain: f64,
    /// Of everything that is drawn; the same seed sends the same messages at the same times.
    pub seed: u64,
    pub queue: QueueOptions,
    pub request: RequestOptions,
}

/// What a message is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pattern {
    /// Publish and subscribe, not stored.
    Events,
    /// Publish and subscribe, stored: acknowledged when durable.
    EventsStore,
    /// Sent, received and acknowledged.
    Queue,
    /// Request and answer, without data.
    Command,
    /// Request and answer, with data.
    Query,
    /// A server that sends back what it gets (`ringmq-echo`): the transport alone.
    Echo,
}

impl Pattern {
    /// Whether messages can travel over long-lived streams; requests are calls.
    pub(crate) const fn is_streamed(self) -> bool {
        !matches!(self, Self::Command | Self::Query)
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Calls {
    /// Over long-lived streams.
    Stream,
    /// By one unary call for each message, or each batch of a queue.
    Unary,
}

/// Sizes of bodies, in bytes; [`crate::payload::STAMP_BYTES`] at least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Payload {
    /// All alike.
    Fixed(u32),
    /// From least to most, each as likely.
    Uniform { least: u32, most: u32 },
    /// Normal around a mean, cut at the stamp's size and at twice the mean.
    Normal { mean: u32, deviation: u32 },
    /// Sizes with weights.
    Mix(Vec<(u32, u32)>),
}

/// How fast messages are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Load {
    /// As fast as the window lets: a new one when an earlier one is through.
    Closed,
    /// At times that do not depend on the server, over all producers.
    Open { arrivals: Arrivals, rate: Rate },
}

/// How the times of an open loop lie around its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Independent of each other: exponential gaps.
    Poisson,
}

/// Messages a second over time; times count from the beginning of the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Rate {
    /// All the time.
    Constant(f64),
    /// From one rate to another, in a straight line over warm-up and duration.
    Ramp { from: f64, to: f64 },
    /// One after the other, each for so many seconds; the last one goes on.
    Steps(Vec<Step>),
}

/// A rate and how long it lasts. A recorded rate file is read into these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub seconds: f64,
    pub rate: f64,
}

/// What consumers of queues ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueOptions {
    /// Messages of one poll, at most.
    pub items: u32,
    /// How long a poll waits for the first one, in milliseconds.
    pub wait_ms: u32,
    /// Whether messages are acknowledged by being handed out.
    pub auto_ack: bool,
}

/// What callers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RequestOptions {
    /// After which a request counts as failed, in milliseconds.
    pub timeout_ms: u32,
    /// Bytes of each answer's body to a query.
    pub answer_bytes: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            pattern: Pattern::Events,
            calls: Calls::Stream,
            channels: 1,
            channel_prefix: "loadgen".into(),
            producers: 1,
            consumers: 1,
            groups: 0,
            payload: Payload::Fixed(1024),
            connections: 0,
            window: 1024,
            batch: 64,
            load: Load::Closed,
            warm_up: 2.0,
            duration: 10.0,
            drain: 5.0,
            seed: 1,
            queue: QueueOptions::default(),
            request: RequestOptions::default(),
        }
    }
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            items: 256,
            wait_ms: 5_000,
            auto_ack: false,
        }
    }
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            answer_bytes: 1024,
        }
    }
}
