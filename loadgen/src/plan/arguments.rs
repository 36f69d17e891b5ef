//! What may stand behind `plan` on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::answer::{Node, Question};
use super::points::{Family, Sync, fans_out, has_both_calls, is_stored};
use crate::quantity;
use crate::scenario::{Calls, Pattern};

/// What is measured, and what is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub measuring: Measuring,
    #[command(flatten)]
    pub asked: Asked,
}

/// What is measured, and of which broker.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct Measuring {
    /// The broker's program; it is started again and again on a free port of the loopback
    /// interface, with data of its own [default: `ringmq` beside this program]
    #[arg(long, value_name = "PATH")]
    pub broker: Option<PathBuf>,
    /// Where brokers get their data directories: on the kind of disk that is planned for
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub directory: PathBuf,
    /// Measures a running broker of one executor instead; without memory, disk and scaling
    #[arg(long, requires = "broker_pid", conflicts_with_all = ["broker", "measured"])]
    pub broker_address: Option<SocketAddr>,
    /// Its process id
    #[arg(long, value_name = "PID", requires = "broker_address")]
    pub broker_pid: Option<u32>,
    /// Answers from the points of this file instead of measuring
    #[arg(long, value_name = "FILE")]
    pub measured: Option<PathBuf>,
    /// Keeps the measured points in this file
    #[arg(long, value_name = "FILE", conflicts_with = "measured")]
    pub save: Option<PathBuf>,
    /// Patterns that are measured [default: all but echo]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub patterns: Vec<Pattern>,
    /// Ways of storing that are measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Sync::Strict, Sync::Interval]
    )]
    pub syncs: Vec<Sync>,
    /// Seconds that are counted of each run
    #[arg(long, default_value_t = 1.5, value_parser = quantity::positive)]
    pub seconds_each: f64,
    /// How often each point is measured; the median counts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Leaves out what needs longest: memory of things, and space on disk
    #[arg(long)]
    pub without_memory: bool,
    /// Predicts scenarios that are not among the points, and measures them
    #[arg(long)]
    pub check: bool,
}

/// What is asked; without `--messages` nothing is, and the model alone is shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Question")]
pub(crate) struct Asked {
    /// Messages sent a second, over all channels
    #[arg(long, value_parser = quantity::positive)]
    pub messages: Option<f64>,
    /// Bytes of each body
    #[arg(long, default_value_t = 1024)]
    pub size: u32,
    #[arg(long, value_enum, default_value_t = Pattern::Queue)]
    pub pattern: Pattern,
    /// How messages travel
    #[arg(long, value_enum, default_value_t = Calls::Stream)]
    pub calls: Calls,
    /// When a stored message is acknowledged
    #[arg(long, value_enum, default_value_t = Sync::Strict)]
    pub sync: Sync,
    /// Subscribers (or groups of them) that get each message
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub fan_out: u32,
    /// How long messages are kept, as 7d; for queues how long they may wait with no consumer there
    #[arg(long, default_value = "0", value_parser = quantity::seconds)]
    pub retention: f64,
    /// Latency that 99 of 100 messages must keep, as 5ms
    #[arg(long, value_parser = quantity::seconds)]
    pub p99: Option<f64>,
    /// The part of each resource that stays free
    #[arg(long, default_value_t = 0.5, value_parser = quantity::part)]
    pub headroom: f64,
    /// Channels that the load is spread over
    #[arg(long, default_value_t = 16)]
    pub channels: u64,
    /// Connections of clients
    #[arg(long, default_value_t = 16)]
    pub connections: u64,
    /// Subscriptions [default: channels times fan-out]
    #[arg(long)]
    pub subscriptions: Option<u64>,
    /// Messages that wait for their delay at a time
    #[arg(long, default_value_t = 0)]
    pub delayed: u64,
    /// Cores of a node
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub node_cores: u64,
    /// Memory of a node
    #[arg(long, default_value = "16GiB", value_parser = quantity::bytes)]
    pub node_memory: f64,
    /// Space on the disk of a node
    #[arg(long, value_parser = quantity::bytes)]
    pub node_disk: Option<f64>,
    /// What the disk of a node takes a second
    #[arg(long, value_parser = quantity::bytes)]
    pub node_disk_rate: Option<f64>,
    /// Network of a node each way, as 10Gbit
    #[arg(long, value_parser = quantity::network)]
    pub node_network: Option<f64>,
}

impl Measuring {
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        if self.patterns.is_empty() {
            return vec![
                Pattern::Events,
                Pattern::EventsStore,
                Pattern::Queue,
                Pattern::Command,
                Pattern::Query,
            ];
        }
        self.patterns.clone()
    }
}

impl Asked {
    /// The question, if one is asked.
    pub(crate) fn question(&self) -> Option<Question> {
        let calls = match has_both_calls(self.pattern) {
            true => self.calls,
            false => Calls::Unary,
        };
        let fan_out = match fans_out(self.pattern) {
            true => self.fan_out,
            false => 1,
        };
        let subscriptions = self.channels.saturating_mul(u64::from(fan_out));
        Some(Question {
            family: Family {
                pattern: self.pattern,
                calls,
                sync: is_stored(self.pattern).then_some(self.sync),
            },
            messages_per_second: self.messages?,
            size_bytes: self.size,
            fan_out,
            retention_seconds: self.retention,
            p99_us: self.p99.map(|seconds| seconds * 1e6),
            headroom: self.headroom,
            channels: self.channels,
            connections: self.connections,
            subscriptions: self.subscriptions.unwrap_or(subscriptions),
            delayed: self.delayed,
            node: Node {
                cores: self.node_cores,
                memory_bytes: self.node_memory,
                disk_bytes: self.node_disk,
                disk_bytes_per_second: self.node_disk_rate,
                network_bytes_per_second: self.node_network,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn parse(line: &str) -> Result<PlanArgs, clap::Error> {
        Line::try_parse_from(["plan"].into_iter().chain(line.split_whitespace()))
            .map(|line| line.plan)
    }

    #[test]
    fn question_is_read_with_its_units() {
        let line = "--messages 50000 --size 2048 --pattern queue --retention 7d --p99 5ms \
                    --headroom 0.5 --node-disk 2TB --node-network 10Gbit";
        let question = parse(line).unwrap().asked.question().unwrap();
        assert_eq!(question.messages_per_second, 50_000.0);
        assert_eq!(question.retention_seconds, 604_800.0);
        assert!((question.p99_us.unwrap() - 5_000.0).abs() < 1e-6);
        assert_eq!(question.family.sync, Some(Sync::Strict));
        assert_eq!(question.node.disk_bytes, Some(2e12));
        assert_eq!(question.subscriptions, 16);
    }

    #[test]
    fn without_messages_nothing_is_asked() {
        assert!(parse("--size 100").unwrap().asked.question().is_none());
    }

    #[test]
    fn requests_have_one_way_and_no_sync() {
        let line = "--messages 1 --pattern query --fan-out 7 --sync interval";
        let question = parse(line).unwrap().asked.question().unwrap();
        assert_eq!(question.family.calls, Calls::Unary);
        assert_eq!((question.family.sync, question.fan_out), (None, 1));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "--broker-address 127.0.0.1:1",
            "--measured a.json --save b.json",
            "--headroom 1",
            "--fan-out 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
