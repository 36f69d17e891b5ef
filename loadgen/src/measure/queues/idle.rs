//! Idle queues: created by channel management, listed as SDKs list them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::ensure;
use bytes::Bytes;
use clap::Args;
use prost::Message;
use ringmq::rt::{self, Notify, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSettings};
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Request, Response};

use super::SEND_REQUEST;
use crate::measure::Run;
use crate::measure::costs::each;
use crate::measure::report::{Interval, Report};
use crate::outcome::{number, times};
use crate::server;

const MANAGEMENT: &str = "kubemq.cluster.internal.requests";

/// Calls that are open while queues are created.
const CALLERS: u64 = 64;

/// A list of many queues is long.
const LIST_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Queues.
    #[arg(long, default_value_t = 100_000)]
    queues: u64,
    /// How often they are listed.
    #[arg(long, default_value_t = 10)]
    lists: u64,
}

/// What an idle queue costs the server, in bytes of resident memory.
pub(crate) async fn cost(run: &Run, queues: u64) -> anyhow::Result<f64> {
    let client = connect(run).await?;
    let cost = cost_with(&client, run, queues).await;
    client.close();
    cost
}

async fn cost_with(client: &Client, run: &Run, queues: u64) -> anyhow::Result<f64> {
    let resident = || {
        run.pid
            .and_then(server::memory)
            .unwrap_or_default()
            .resident
    };
    let prefix = format!("idle.{}.{}", std::process::id(), rt::unix_ns());
    create(client, &format!("{prefix}.warm"), 1_000).await?;
    rt::sleep(run.settle).await;
    let before = resident();
    create(client, &prefix, queues).await?;
    rt::sleep(run.settle).await;
    Ok(each(before, resident(), queues))
}

async fn connect(run: &Run) -> anyhow::Result<Client> {
    let settings = ClientSettings {
        message_bytes_max: LIST_BYTES_MAX,
        gather_bytes_max: LIST_BYTES_MAX,
        ..ClientSettings::default()
    };
    Ok(Client::connect(run.address, settings).await?)
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let client = connect(&run).await?;
    let interval = Interval::begin(&run);
    let cost = cost_with(&client, &run, scenario.queues).await?;
    let mut latency = times();
    let mut bytes = 0;
    for _ in 0..scenario.lists {
        let began = rt::now();
        let body = manage(&client, "list-channels", "").await?;
        let took_ns = u64::try_from(rt::now().since(began).as_nanos()).unwrap_or(u64::MAX);
        latency.saturating_record(took_ns);
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&body)?;
        let listed = u64::try_from(listed.len())?;
        ensure!(listed >= scenario.queues, "{listed} queues are listed");
        bytes = body.len();
    }
    let name = format!("{} idle queues, listed", scenario.queues);
    let mut report = interval.end(name, scenario.queues, &latency);
    report.figures = vec![
        ("bytes per idle queue".into(), cost),
        (
            "MiB of the list".into(),
            number(u64::try_from(bytes)?) / 1_048_576.0,
        ),
    ];
    Ok(report)
}

/// Queues that are being created.
#[derive(Debug, Default)]
struct Creation {
    next: Cell<u64>,
    callers: Cell<u64>,
    failed: RefCell<Option<anyhow::Error>>,
    ended: Notify,
}

async fn create(client: &Client, prefix: &str, count: u64) -> anyhow::Result<()> {
    let creation = Rc::new(Creation::default());
    creation.callers.set(CALLERS);
    for _ in 0..CALLERS {
        let (client, creation, prefix) = (client.clone(), creation.clone(), prefix.to_owned());
        rt::spawn(Queue::Serve, "create", async move {
            while creation.next.get() < count && creation.failed.borrow().is_none() {
                let number = creation.next.replace(creation.next.get() + 1);
                let channel = format!("{prefix}.{number}");
                if let Err(error) = manage(&client, "create-channel", &channel).await {
                    creation.failed.replace(Some(error));
                }
            }
            creation.callers.set(creation.callers.get() - 1);
            creation.ended.raise();
        });
    }
    while creation.callers.get() > 0 {
        creation.ended.wait().await;
    }
    creation.failed.take().map_or(Ok(()), Err)
}

async fn manage(client: &Client, operation: &str, channel: &str) -> anyhow::Result<Bytes> {
    let tags = [
        ("channel_type", "queues"),
        ("channel", channel),
        ("client_id", "loadgen"),
    ];
    let request = Request {
        request_id: "loadgen".into(),
        request_type_data: RequestType::Query.into(),
        client_id: "loadgen".into(),
        channel: MANAGEMENT.into(),
        metadata: operation.into(),
        timeout: 10_000,
        tags: tags.map(|(key, value)| (key.into(), value.into())).into(),
        ..Request::default()
    };
    let message = request.encode_to_vec().into();
    let options = CallOptions::default();
    let answer = client.unary(SEND_REQUEST, message, &options);
    let answer = answer
        .await
        .map_err(|status| anyhow::anyhow!("{operation}: {status:?}"))?;
    let response = Response::decode(answer)?;
    ensure!(response.executed, "{operation}: {}", response.error);
    Ok(response.body)
}
