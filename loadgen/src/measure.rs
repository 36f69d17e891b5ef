//! Measurements of one thing each: what a connection costs, how long a replay takes, how late a
//! delayed message comes, what an idle queue is.

mod connections;
pub(crate) mod costs;
mod cpu;
mod events;
mod payload;
mod queues;
mod report;
mod requests;
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
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5, global = true)]
    seconds: u64,
    /// Seconds before that, which are not.
    #[arg(long, default_value_t = 1, global = true)]
    warm_up: u64,
    /// Bytes of each body, 16 at least.
    #[arg(long, default_value_t = 1024, global = true)]
    size: usize,
    /// The server is an echo, not a broker.
    #[arg(long, global = true)]
    echo: bool,
    /// Prints the report as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Debug, Subcommand)]
enum Scenario {
    /// Events from one publish stream to subscribers, as fast as they arrive or at a rate.
    Events(events::Scenario),
    /// Queries from callers through one responder and back.
    Requests(requests::Scenario),
    /// Idle connections with subscriptions: what each costs in memory.
    Connections(connections::Scenario),
    /// Stored events: durable appends, filling a channel, replaying it.
    #[command(subcommand)]
    Stored(stored::Scenario),
    /// Queues: send, receive and acknowledge; delays; idle queues.
    #[command(subcommand)]
    Queues(queues::Scenario),
    /// Memory for each connection, subscription, queue and message.
    Costs(costs::Scenario),
}

/// What every scenario needs to know.
#[derive(Clone, Debug)]
struct Run {
    address: SocketAddr,
    pid: Option<u32>,
    warm_up: Duration,
    duration: Duration,
    size: usize,
    echo: bool,
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
        args.size >= payload::STAMP_BYTES,
        "--size must be 16 or more"
    );
    let run = Run {
        address: args.address,
        pid: args.pid,
        warm_up: Duration::from_secs(args.warm_up),
        duration: Duration::from_secs(args.seconds),
        size: args.size,
        echo: args.echo,
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
        Scenario::Events(scenario) => events::run(run, scenario).await,
        Scenario::Requests(scenario) => requests::run(run, scenario).await,
        Scenario::Connections(scenario) => connections::run(run, scenario).await,
        Scenario::Stored(scenario) => stored::run(run, scenario).await,
        Scenario::Queues(scenario) => queues::run(run, scenario).await,
        Scenario::Costs(scenario) => costs::run(run, scenario).await,
    }
}
