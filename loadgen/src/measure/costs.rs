//! What the server holds in memory for each thing that it keeps: figures for planning.
//!
//! Each figure is the growth of the process over many such things, divided by their number. What
//! was freed would be used again for what comes next and hide its cost, so nothing is freed before
//! the last thing is measured: messages first, connections at the end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use ringmq::rt;
use ringmq::rt::start::{Plan, start};

use super::queues::producer::{self, Load};
use super::queues::{Totals, idle};
use super::report::{Interval, Report};
use super::{Run, connections, stored};
use crate::outcome::{number, times};
use crate::server;

/// Bytes of each body: they are in files, so that more of them cost no more memory.
const MESSAGE_BYTES: u32 = 128;

/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// How much is put into the server. A broker of its own is best: what it has freed before is used
/// first.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Scenario {
    /// Messages of each sort; four times as many are sent.
    #[arg(long, default_value_t = 100_000)]
    pub messages: u64,
    /// Queues.
    #[arg(long, default_value_t = 20_000)]
    pub queues: u64,
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    pub connections: u64,
    /// Further subscriptions on each connection.
    #[arg(long, default_value_t = 5)]
    pub subscriptions: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            messages: 100_000,
            queues: 20_000,
            connections: 1_000,
            subscriptions: 5,
        }
    }
}

/// Bytes of memory for each.
///
/// Of messages the part that is the process's own: what mirrors files is the kernel's to take
/// back. The bodies are in files; so none of these grows with the size of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Costs {
    pub connection: f64,
    /// The first subscription of a connection.
    pub first_subscription: f64,
    /// Each further one.
    pub subscription: f64,
    pub idle_queue: f64,
    /// A stored event that nobody reads.
    pub stored_event: f64,
    /// A queue's message that waits for a consumer.
    pub waiting_message: f64,
    /// A queue's message that waits for its time.
    pub delayed_message: f64,
}

/// Measures all of it. Blocks for some seconds.
///
/// # Errors
/// When the process cannot be looked at, or the server refuses what it is asked.
pub(crate) fn costs(address: SocketAddr, pid: u32, amounts: Scenario) -> anyhow::Result<Costs> {
    let run = Run {
        address,
        pid: Some(pid),
        settle: SETTLE,
        size: MESSAGE_BYTES,
    };
    let (tx, rx) = mpsc::channel();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![run], move |_, run| {
        let tx = tx.clone();
        async move {
            let _caller_waits = tx.send(measure(&run, amounts).await);
        }
    })?;
    let costs = rx.recv().context("the generator ended without figures")?;
    executors.join();
    costs
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let interval = Interval::begin(&run);
    let costs = measure(&run, scenario).await?;
    let mut report = interval.end("bytes of memory".into(), 0, &times());
    let figures = [
        ("connection", costs.connection),
        ("first subscription", costs.first_subscription),
        ("further subscription", costs.subscription),
        ("idle queue", costs.idle_queue),
        ("stored event", costs.stored_event),
        ("waiting message", costs.waiting_message),
        ("delayed message", costs.delayed_message),
    ];
    let named = figures.map(|(name, bytes)| (format!("bytes per {name}"), bytes));
    report.figures = named.into();
    Ok(report)
}

async fn measure(run: &Run, amounts: Scenario) -> anyhow::Result<Costs> {
    let count = amounts.messages;
    // Twelve hours, the most that there is: none becomes due while it is measured.
    let delay = Some((43_200, 43_200));
    let waiting_message = grown(run, count, || fill_queue(run, count, None)).await?;
    let delayed_message = grown(run, count, || fill_queue(run, count, delay)).await?;
    let stored_event = grown(run, count, || stored::fill(run, count)).await?;
    let idle_queue = idle::cost(run, amounts.queues).await?;
    let clients = connections::Scenario {
        connections: amounts.connections,
        subscriptions: amounts.subscriptions,
    };
    let clients = connections::costs(run, &clients).await?;
    Ok(Costs {
        connection: clients.connection,
        first_subscription: clients.first_subscription,
        subscription: clients.subscription,
        idle_queue,
        stored_event,
        waiting_message,
        delayed_message,
    })
}

/// Rounds in which messages are put in, after a first one that pays for what is made once.
const ROUNDS: usize = 3;

/// By how much the process's own memory grows for each of `count` things that `fill` makes: the
/// median of some rounds, as buffers come and go beside it.
async fn grown<F>(run: &Run, count: u64, fill: impl Fn() -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>>,
{
    fill().await?;
    let mut before = own_bytes(run).await?;
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        fill().await?;
        let after = own_bytes(run).await?;
        *round = each(before, after, count);
        before = after;
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds.get(ROUNDS / 2).copied().unwrap_or_default())
}

async fn own_bytes(run: &Run) -> anyhow::Result<u64> {
    rt::sleep(run.settle).await;
    let memory = run.pid.and_then(server::memory);
    Ok(memory.context("the server's process has ended")?.anonymous)
}

/// The growth from one figure to another for each of `count` things.
pub(crate) fn each(from: u64, to: u64, count: u64) -> f64 {
    number(to.saturating_sub(from)) / number(count.max(1))
}

/// Sends `count` messages to a queue that nobody reads.
async fn fill_queue(run: &Run, count: u64, delays: Option<(u32, u32)>) -> anyhow::Result<()> {
    let totals = Totals::new();
    let load = Load {
        channel: format!("loadgen.{}.{}", std::process::id(), rt::unix_ns()),
        size: run.size,
        window: 4096,
        batch: 64,
        count,
        pause: Duration::ZERO,
        delays,
    };
    let client = run.connect().await?;
    producer::start(&client, load, &Rc::clone(&totals))?;
    while totals.sent.get() < count && totals.violations.get() == 0 {
        totals.moved.wait().await;
    }
    totals.stop.set(true);
    client.close();
    ensure!(
        totals.violations.get() == 0,
        "the server refuses messages to a queue"
    );
    Ok(())
}
