//! Idle connections and subscriptions: what each costs the server in memory.

use clap::Args;
use ringmq::rt;
use ringmq::wire::client::{CallOptions, Client, ClientStream};
use ringmq_proto::kubemq::subscribe::SubscribeType;

use crate::measure::Run;
use crate::measure::cpu;
use crate::measure::events::subscribe;
use crate::measure::report::{Interval, Report, histogram, number};

const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Connections, each with one subscription to a channel of its own.
    #[arg(long, default_value_t = 2000)]
    connections: u64,
    /// Further subscriptions on each connection.
    #[arg(long, default_value_t = 10)]
    subscriptions: u64,
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let resident = || run.pid.and_then(cpu::resident_bytes).unwrap_or(0);
    let interval = Interval::begin(&run);
    // Warms the allocator and the lazily made parts of the server.
    let warm = connect(&run, 10).await?;
    subscribe_each(&warm, "warm").await?;
    rt::sleep(run.warm_up).await;
    let bare = resident();
    let clients = connect(&run, scenario.connections).await?;
    rt::sleep(run.warm_up).await;
    let connected = resident();
    let mut streams = subscribe_each(&clients, "first").await?;
    rt::sleep(run.warm_up).await;
    let subscribed = resident();
    for round in 0..scenario.subscriptions {
        streams.extend(subscribe_each(&clients, &format!("more.{round}")).await?);
    }
    rt::sleep(run.warm_up).await;
    let full = resident();
    let kib = |from: u64, to: u64, count: u64| {
        number(to.saturating_sub(from)) / 1024.0 / number(count.max(1))
    };
    let name = format!("{} connections", scenario.connections);
    let mut report = interval.end(name, scenario.connections, &histogram());
    report.figures = vec![
        (
            "KiB per connection".into(),
            kib(bare, connected, scenario.connections),
        ),
        (
            "KiB per connection, first subscription".into(),
            kib(connected, subscribed, scenario.connections),
        ),
        (
            "KiB per further subscription".into(),
            kib(
                subscribed,
                full,
                scenario.connections * scenario.subscriptions,
            ),
        ),
        ("MiB resident".into(), number(full) / 1024.0 / 1024.0),
    ];
    drop(streams);
    Ok(report)
}

async fn connect(run: &Run, count: u64) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(run.connect().await?);
    }
    Ok(clients)
}

async fn subscribe_each(clients: &[Client], name: &str) -> anyhow::Result<Vec<ClientStream>> {
    let mut streams = Vec::with_capacity(clients.len());
    for (number, client) in clients.iter().enumerate() {
        let channel = format!("idle.{name}.{number}");
        let message = subscribe(SubscribeType::Events, &channel);
        let options = CallOptions::default();
        let mut stream = client.server_stream(SUBSCRIBE_TO_EVENTS, message, &options)?;
        stream.headers().await?;
        streams.push(stream);
    }
    Ok(streams)
}
