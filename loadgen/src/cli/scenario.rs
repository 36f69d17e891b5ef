//! The flags of a scenario. They override what the file says.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::parse;
use crate::scenario::{Arrivals, Calls, Load, Pattern, Payload, Rate, Scenario, Step, file};

/// What is sent, by whom, to whom.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Scenario")]
pub(crate) struct ScenarioArgs {
    /// A scenario in a file: TOML, JSON, or the JSON result of an earlier run. Flags override it
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Name in the head of each report
    #[arg(long)]
    name: Option<String>,
    /// What messages are to the server [default: events]
    #[arg(long)]
    pattern: Option<Pattern>,
    /// Over streams, or by one call each [default: stream]
    #[arg(long)]
    calls: Option<Calls>,
    /// Channels; each belongs to one core of the generator [default: 1]
    #[arg(long)]
    channels: Option<u32>,
    /// Names of channels begin with this; a run and a number follow [default: loadgen]
    #[arg(long, value_name = "PREFIX")]
    channel_prefix: Option<String>,
    /// Senders of each channel; callers, for commands and queries [default: 1]
    #[arg(long)]
    producers: Option<u32>,
    /// Receivers of each channel, responders for requests; 0: sending alone [default: 1]
    #[arg(long)]
    consumers: Option<u32>,
    /// Groups that the consumers of a channel are spread over; 0: each gets everything [default: 0]
    #[arg(long)]
    groups: Option<u32>,
    /// Bytes of each body, at least 40: as in 1024, 1KiB [default: 1KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes, conflicts_with = "payload")]
    size: Option<u32>,
    /// Sizes that differ: uniform:100:2000, normal:1000:200, mix:128:9,8192:1 (size:weight)
    #[arg(long, value_name = "SIZES", value_parser = parse::payload)]
    payload: Option<Payload>,
    /// Connections over all cores; 0: one for each producer and consumer [default: 0]
    #[arg(long)]
    connections: Option<u32>,
    /// Messages in flight for each producer, up to 65536 [default: 1024]
    #[arg(long)]
    window: Option<u32>,
    /// Messages of one request (queues), or handed to the transport at once [default: 64]
    #[arg(long)]
    batch: Option<u32>,
    /// What is run before and not counted, as in 2, 500ms [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    warm_up: Option<f64>,
    /// What is counted, as in 10, 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    duration: Option<f64>,
    /// How long what is on the way may still arrive after that [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    drain: Option<f64>,
    /// The same seed sends the same messages at the same times [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    options: PatternArgs,
}

/// How fast.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Load (without a rate: as fast as the windows let)")]
struct LoadArgs {
    /// Messages a second over all producers, whatever the server does
    #[arg(long, value_name = "RATE", group = "how_fast")]
    rate: Option<f64>,
    /// A rate that changes in a straight line over warm-up and duration
    #[arg(long, value_name = "FROM:TO", value_parser = parse::ramp, group = "how_fast")]
    ramp: Option<Rate>,
    /// Rates one after the other, each for so many seconds; the last one goes on
    #[arg(
        long,
        value_name = "SECONDS:RATE,…",
        value_parser = parse::step,
        value_delimiter = ',',
        group = "how_fast"
    )]
    steps: Vec<Step>,
    /// A recorded rate: a file with lines of `seconds,rate`, each a step
    #[arg(long, value_name = "FILE", group = "how_fast")]
    rate_file: Option<PathBuf>,
    /// As fast as the windows let, although the file has a rate
    #[arg(long, group = "how_fast")]
    closed: bool,
    /// How the times of messages lie around the rate [default: constant]
    #[arg(long)]
    arrivals: Option<Arrivals>,
}

/// What goes with some patterns.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Queues and requests")]
struct PatternArgs {
    /// Messages of one poll of a queue, at most [default: 256]
    #[arg(long)]
    items: Option<u32>,
    /// Milliseconds that a poll waits for the first message [default: 5000]
    #[arg(long, value_name = "MS")]
    wait_ms: Option<u32>,
    /// Messages of queues are acknowledged by being handed out
    #[arg(long)]
    auto_ack: bool,
    /// Milliseconds after which a request counts as failed [default: 10000]
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u32>,
    /// Bytes of each answer's body to a query [default: 1KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    answer_size: Option<u32>,
}

impl ScenarioArgs {
    /// The scenario of file and flags, checked.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each.
    pub(crate) fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = match &self.scenario {
            Some(path) => file::read(path)?,
            None => Scenario::default(),
        };
        self.apply(&mut scenario)?;
        let problems = scenario.problems();
        match problems.as_slice() {
            [] => Ok(scenario),
            [problem] => bail!("{problem}"),
            problems => {
                let lines: Vec<_> = problems
                    .iter()
                    .map(|problem| format!("  {problem}"))
                    .collect();
                bail!("{} values are wrong:\n{}", lines.len(), lines.join("\n"))
            }
        }
    }

    /// The scenario for whoever sets the rate, and how messages lie around it: as the flag or else
    /// the file says, or independent of each other.
    ///
    /// # Errors
    /// As [`scenario`](Self::scenario).
    pub(crate) fn without_rate(&self) -> anyhow::Result<(Scenario, Arrivals)> {
        let mut flags = self.clone();
        let flag = flags.load.arrivals.take();
        let scenario = flags.scenario()?;
        let file = match &scenario.load {
            Load::Open { arrivals, .. } => Some(*arrivals),
            Load::Closed => None,
        };
        Ok((scenario, flag.or(file).unwrap_or(Arrivals::Poisson)))
    }

    fn apply(&self, scenario: &mut Scenario) -> anyhow::Result<()> {
        set(&mut scenario.name, self.name.as_ref());
        set(&mut scenario.pattern, self.pattern.as_ref());
        set(&mut scenario.calls, self.calls.as_ref());
        set(&mut scenario.channels, self.channels.as_ref());
        set(&mut scenario.channel_prefix, self.channel_prefix.as_ref());
        set(&mut scenario.producers, self.producers.as_ref());
        set(&mut scenario.consumers, self.consumers.as_ref());
        set(&mut scenario.groups, self.groups.as_ref());
        set(&mut scenario.payload, self.payload.as_ref());
        set(
            &mut scenario.payload,
            self.size.map(Payload::Fixed).as_ref(),
        );
        set(&mut scenario.connections, self.connections.as_ref());
        set(&mut scenario.window, self.window.as_ref());
        set(&mut scenario.batch, self.batch.as_ref());
        set(&mut scenario.warm_up, self.warm_up.as_ref());
        set(&mut scenario.duration, self.duration.as_ref());
        set(&mut scenario.drain, self.drain.as_ref());
        set(&mut scenario.seed, self.seed.as_ref());
        self.options.apply(scenario);
        self.load.apply(&mut scenario.load)
    }
}

impl LoadArgs {
    fn apply(&self, load: &mut Load) -> anyhow::Result<()> {
        if self.closed {
            *load = Load::Closed;
        } else if let Some(rate) = self.rate()? {
            let arrivals = match load {
                Load::Open { arrivals, .. } => *arrivals,
                Load::Closed => Arrivals::Constant,
            };
            *load = Load::Open { arrivals, rate };
        }
        match (self.arrivals, load) {
            (Some(wanted), Load::Open { arrivals, .. }) => *arrivals = wanted,
            (Some(_), Load::Closed) => bail!(
                "arrivals: a closed loop has none; give a rate by --rate, --ramp, --steps or \
                 --rate-file"
            ),
            (None, _) => {}
        }
        Ok(())
    }

    fn rate(&self) -> anyhow::Result<Option<Rate>> {
        if let Some(rate) = self.rate {
            return Ok(Some(Rate::Constant(rate)));
        }
        if let Some(path) = &self.rate_file {
            return Ok(Some(Rate::Steps(file::read_rates(path)?)));
        }
        let steps = (!self.steps.is_empty()).then(|| Rate::Steps(self.steps.clone()));
        Ok(self.ramp.clone().or(steps))
    }
}

impl PatternArgs {
    fn apply(&self, scenario: &mut Scenario) {
        set(&mut scenario.queue.items, self.items.as_ref());
        set(&mut scenario.queue.wait_ms, self.wait_ms.as_ref());
        scenario.queue.auto_ack |= self.auto_ack;
        set(&mut scenario.request.timeout_ms, self.timeout_ms.as_ref());
        set(
            &mut scenario.request.answer_bytes,
            self.answer_size.as_ref(),
        );
    }
}

fn set<T: Clone>(field: &mut T, flag: Option<&T>) {
    if let Some(value) = flag {
        *field = value.clone();
    }
}
