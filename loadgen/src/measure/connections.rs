//! Idle connections and subscriptions: what each costs the server in memory.

use bytes::Bytes;
use clap::Args;
use prost::Message;
use ringmq::rt;
use ringmq::wire::client::{CallOptions, Client, ClientStream};
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::SubscribeType;

use crate::measure::Run;
use crate::measure::costs::each;
use crate::measure::report::{Interval, Report};
use crate::outcome::{number, times};
use crate::server;

const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Connections, each with one subscription to a channel of its own.
    #[arg(long, default_value_t = 2000)]
    pub(crate) connections: u64,
    /// Further subscriptions on each connection.
    #[arg(long, default_value_t = 10)]
    pub(crate) subscriptions: u64,
}

/// What idle clients cost the server, in bytes of resident memory each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    pub connection: f64,
    /// The first subscription of a connection.
    pub first_subscription: f64,
    /// Each further one.
    pub subscription: f64,
    /// Of the whole process at the end.
    pub resident: u64,
}

/// Connects and subscribes, and looks at the server's memory in between. Everything is closed
/// when it returns.
///
/// # Errors
/// When the server's process is not known, or refuses.
pub(crate) async fn costs(run: &Run, scenario: &Scenario) -> anyhow::Result<Costs> {
    let resident = || {
        run.pid
            .and_then(server::memory)
            .unwrap_or_default()
            .resident
    };
    // Warms the allocator and the lazily made parts of the server.
    let warm = connect(run, 10).await?;
    subscribe_each(&warm, "warm").await?;
    rt::sleep(run.settle).await;
    let bare = resident();
    let clients = connect(run, scenario.connections).await?;
    rt::sleep(run.settle).await;
    let connected = resident();
    let mut streams = subscribe_each(&clients, "first").await?;
    rt::sleep(run.settle).await;
    let subscribed = resident();
    for round in 0..scenario.subscriptions {
        streams.extend(subscribe_each(&clients, &format!("more.{round}")).await?);
    }
    rt::sleep(run.settle).await;
    let full = resident();
    let further = scenario.connections * scenario.subscriptions;
    let costs = Costs {
        connection: each(bare, connected, scenario.connections),
        first_subscription: each(connected, subscribed, scenario.connections),
        subscription: each(subscribed, full, further),
        resident: full,
    };
    drop(streams);
    for client in clients {
        client.close();
    }
    Ok(costs)
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let interval = Interval::begin(&run);
    let costs = costs(&run, &scenario).await?;
    let name = format!("{} connections", scenario.connections);
    let mut report = interval.end(name, scenario.connections, &times());
    let kib = |bytes: f64| bytes / 1024.0;
    report.figures = vec![
        ("KiB per connection".into(), kib(costs.connection)),
        (
            "KiB per connection, first subscription".into(),
            kib(costs.first_subscription),
        ),
        (
            "KiB per further subscription".into(),
            kib(costs.subscription),
        ),
        (
            "MiB resident".into(),
            number(costs.resident) / 1024.0 / 1024.0,
        ),
    ];
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
        let message = subscribe(&channel);
        let options = CallOptions::default();
        let mut stream = client.server_stream(SUBSCRIBE_TO_EVENTS, message, &options)?;
        stream.headers().await?;
        streams.push(stream);
    }
    Ok(streams)
}

fn subscribe(channel: &str) -> Bytes {
    let subscribe = Subscribe {
        subscribe_type_data: SubscribeType::Events.into(),
        client_id: "loadgen-subscriber".into(),
        channel: channel.into(),
        ..Subscribe::default()
    };
    subscribe.encode_to_vec().into()
}
