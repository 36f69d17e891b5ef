//! `ringmq status`: whether the broker is well, which one it is, and how much there is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_proto::health::health_check_response::ServingStatus;
use ringmq_proto::health::{HealthCheckRequest, HealthCheckResponse};
use ringmq_proto::kubemq::{Empty, PingResult, QueuesInfoRequest, QueuesInfoResponse};
use ringmq_proto::method;
use serde::Serialize;
use serde_json::Value;

use super::connection::{self, Outcome, Session, Target};
use super::failure::Failure;
use super::output::{Output, Style};
use super::{channels, management, text};
use crate::model::Kind;
use crate::rt;

/// How long what not every server knows may take.
const EXTRA_PATIENCE: Duration = Duration::from_secs(3);

/// What is known of a broker, as programs read it. What a server does not tell is `null`.
#[derive(Debug, Default, Serialize)]
struct Report {
    address: String,
    health: &'static str,
    host: String,
    version: String,
    started: String,
    uptime_seconds: u64,
    channels: Option<BTreeMap<&'static str, Count>>,
    queues: u64,
    waiting: u64,
    management: Management,
}

/// Channels of a kind.
#[derive(Debug, Default, Serialize)]
struct Count {
    channels: usize,
    active: usize,
    messages_in: u64,
    messages_out: u64,
}

/// What the management service tells.
#[derive(Debug, Default, Serialize)]
struct Management {
    address: String,
    ready: Option<bool>,
    clients: Option<u64>,
    messages_in: Option<u64>,
    messages_out: Option<u64>,
    #[serde(skip)]
    problem: String,
}

/// Asks and writes. A broker that does not serve is a refusal.
pub(super) fn run(target: Target, output: Output) -> Outcome {
    connection::run(target, output, |session| async move {
        let report = collect(&session).await?;
        write(&session, &report)?;
        match report.health {
            "not serving" => Err(Failure::Refused("the broker does not serve".to_owned())),
            _ => Ok(()),
        }
    })
}

async fn collect(session: &Session) -> Result<Report, Failure> {
    let ping: PingResult = session.call(method::PING, &Empty {}).await?;
    let request = QueuesInfoRequest::default();
    let queues: QueuesInfoResponse = session.call(method::QUEUES_INFO, &request).await?;
    let queues = queues.info.unwrap_or_default();
    let api = session.target().api().to_owned();
    let asked = api.clone();
    let management = rt::blocking(move || ask_management(&asked)).await;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Report {
        address: session.target().name().to_owned(),
        health: health(session).await,
        host: ping.host,
        version: ping.version,
        started: text::time(number(ping.server_start_time).saturating_mul(1_000_000_000)),
        uptime_seconds: number(ping.server_up_time_seconds),
        channels: count_channels(session).await,
        queues: u64::try_from(queues.total_queue).unwrap_or(0),
        waiting: number(queues.waiting),
        management: Management {
            address: api,
            ..management.unwrap_or_default()
        },
    })
}

/// The word of the health service; a server without one answers all the same, so it is up.
async fn health(session: &Session) -> &'static str {
    let request = HealthCheckRequest::default();
    let asked = session.call_within(method::HEALTH_CHECK, &request, EXTRA_PATIENCE);
    let answer: Result<HealthCheckResponse, _> = asked.await;
    match answer.map(|answer| answer.status()) {
        Ok(ServingStatus::Serving) => "serving",
        Ok(ServingStatus::NotServing) => "not serving",
        Ok(ServingStatus::Unknown | ServingStatus::ServiceUnknown) | Err(_) => "unknown",
    }
}

/// Channels by kind; none where the server has no channel management.
async fn count_channels(session: &Session) -> Option<BTreeMap<&'static str, Count>> {
    let mut counts = BTreeMap::new();
    for kind in Kind::ALL {
        let found = channels::list(session, kind, "", EXTRA_PATIENCE)
            .await
            .ok()?;
        let count = Count {
            channels: found.len(),
            active: found.iter().filter(|channel| channel.is_active).count(),
            messages_in: found.iter().map(|channel| channel.incoming.messages).sum(),
            messages_out: found.iter().map(|channel| channel.outgoing.messages).sum(),
        };
        counts.insert(kind.name(), count);
    }
    Some(counts)
}

/// Blocks.
fn ask_management(api: &str) -> Management {
    let ready = match management::get(api, "/ready", EXTRA_PATIENCE) {
        Ok(answer) => match answer.status {
            200 => Ok(true),
            500..=599 => Ok(false),
            status => Err(format!("it answers with {status}")),
        },
        Err(Failure::Unreachable { reason, .. }) => Err(reason),
        Err(failure) => Err(failure.to_string()),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(problem) => {
            return Management {
                problem,
                ..Management::default()
            };
        }
    };
    let snapshot = management::get(api, "/api/snapshot", EXTRA_PATIENCE).ok();
    let snapshot = snapshot
        .and_then(|answer| answer.data())
        .unwrap_or_default();
    let number = |pointer: &str| snapshot.pointer(pointer).and_then(Value::as_u64);
    Management {
        ready: Some(ready),
        clients: number("/clients"),
        messages_in: number("/incoming/messages"),
        messages_out: number("/outgoing/messages"),
        ..Management::default()
    }
}

fn write(session: &Session, report: &Report) -> Outcome {
    let output = session.output;
    if output.is_json() {
        return output.json(report);
    }
    let good =
        |good: bool, text: &str| output.paint(if good { Style::Good } else { Style::Bad }, text);
    let mut facts = vec![
        ("address", report.address.clone()),
        (
            "health",
            good(report.health != "not serving", report.health),
        ),
        ("host", report.host.clone()),
        ("version", report.version.clone()),
        ("started", report.started.clone()),
        ("uptime", text::span(report.uptime_seconds)),
    ];
    let management = &report.management;
    facts.push((
        "management",
        match management.ready {
            Some(true) => format!("{} {}", management.address, good(true, "ready")),
            Some(false) => format!("{} {}", management.address, good(false, "not ready")),
            None => format!("{} not known: {}", management.address, management.problem),
        },
    ));
    if let Some(clients) = management.clients {
        facts.push(("clients", clients.to_string()));
    }
    facts.push((
        "queues",
        format!(
            "{}, in which {} wait",
            report.queues,
            text::counted(report.waiting, "message")
        ),
    ));
    output.facts(&facts)?;
    let Some(channels) = &report.channels else {
        output.note("the server has no channel management: channels are not counted");
        return Ok(());
    };
    let head = ["kind", "channels", "active", "in", "out"];
    let rows: Vec<_> = channels.iter().collect();
    output.text("\n")?;
    output.rows(&rows, head, |(kind, count)| {
        [
            (**kind).to_owned(),
            count.channels.to_string(),
            count.active.to_string(),
            count.messages_in.to_string(),
            count.messages_out.to_string(),
        ]
    })
}
