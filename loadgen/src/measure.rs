//! Measurements of one thing each: what a connection costs, how long a replay takes, how late a
//! delayed message comes, what an idle queue is.

mod connections;
pub(crate) mod costs;
mod queues;
mod report;
mod stored;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use ringmq::rt::start::{Plan, start};
use ringmq::wire::client::{Client, ClientSettings};

use report::Report;

/// What is measured, and of which server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Measure {
    /// The server's gRPC address.
    #[arg(long, default_value = "127.0.0.1:50000", global = true)]
    address: SocketAddr,
    /// Process id of the server: its CPU time and memory are reported.
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Pins the generator to this processor.
    #[arg(long, global = true)]
    cpu: Option<usize>,
    /// Seconds in which the server may settle before its memory is read.
    #[arg(long, default_value_t = 1, global = true)]
    settle: u64,
    /// Bytes of each body.
    #[arg(long, default_value_t = 1024, global = true)]
    size: u32,
    /// Prints the report as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Debug, Subcommand)]
enum Scenario {
    /// Idle connections with subscriptions: what each costs in memory.
    Connections(connections::Scenario),
    /// Memory for each connection, subscription, queue and message.
    Costs(costs::Scenario),
    /// Stored events: filling a channel, replaying it.
    #[command(subcommand)]
    Stored(stored::Scenario),
    /// Queues: delays; idle queues.
    #[command(subcommand)]
    Queues(queues::Scenario),
}

/// What every scenario needs to know.
#[derive(Clone, Debug)]
struct Run {
    address: SocketAddr,
    pid: Option<u32>,
    settle: Duration,
    size: u32,
}

impl Run {
    async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(self.address, ClientSettings::default())
            .await
            .with_context(|| format!("cannot connect to {}", self.address))
    }
}

/// Measures and prints.
pub(crate) fn main(args: Measure) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.size >= crate::payload::BODY_BYTES_MIN,
        "--size must be {} or more",
        crate::payload::BODY_BYTES_MIN
    );
    let run = Run {
        address: args.address,
        pid: args.pid,
        settle: Duration::from_secs(args.settle),
        size: args.size,
    };
    let (tx, rx) = mpsc::channel();
    let plan = Plan {
        cpu: args.cpu,
        spin: None,
    };
    let seed = (run, args.scenario);
    let executors = start(&[plan], vec![seed], move |_, (run, scenario)| {
        let tx = tx.clone();
        async move {
            let _main_waits = tx.send(drive(run, scenario).await);
        }
    })?;
    let report = rx
        .recv()
        .context("the generator ended without a report")??;
    executors.join();
    report.print(args.json)?;
    anyhow::ensure!(report.violations == 0, "{} violations", report.violations);
    Ok(())
}

async fn drive(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    match scenario {
        Scenario::Connections(scenario) => connections::run(run, scenario).await,
        Scenario::Costs(scenario) => costs::run(run, scenario).await,
        Scenario::Stored(scenario) => stored::run(run, scenario).await,
        Scenario::Queues(scenario) => queues::run(run, scenario).await,
    }
}
