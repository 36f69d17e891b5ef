//! What a broker says of itself at one moment.

use std::time::Duration;

use ringmq_proto::kubemq::{Empty, PingResult};
use ringmq_proto::method;
use serde::Deserialize;

use super::metrics::Metrics;
use crate::cli::channels;
use crate::cli::connection::Session;
use crate::cli::failure::Failure;
use crate::cli::management;
use crate::model::Kind;
use crate::rt;

/// How long the management service may take to answer: a frame does not wait for it for ever.
const EXTRA_PATIENCE: Duration = Duration::from_secs(2);

/// Channels that are looked at, those that were used last: a frame has room for no more, and a
/// broker may have a hundred thousand.
const ROWS_MAX: usize = 500;

/// One moment.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) at: rt::Instant,
    pub(super) host: String,
    pub(super) version: String,
    pub(super) uptime_seconds: u64,
    pub(super) rows: Vec<Row>,
    /// How many channels there are; more than rows, perhaps.
    pub(super) channel_count: u64,
    /// Of the management service, where it is reached.
    pub(super) metrics: Option<Metrics>,
}

/// What went through a channel since it is there, as the management service lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) messages_in: u64,
    pub(super) bytes_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_out: u64,
    pub(super) waiting: u64,
}

/// A page of its list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    #[serde(rename = "Channels")]
    channels: Vec<Row>,
    total: Option<u64>,
}

/// What it told.
struct Told {
    page: Option<Page>,
    metrics: Option<Metrics>,
}

impl Sample {
    /// Asks the broker; its management service only if that is wanted.
    pub(super) async fn take(
        session: &Session,
        search: &str,
        ask_management_too: bool,
    ) -> Result<Self, Failure> {
        let ping: PingResult = session.call(method::PING, &Empty {}).await?;
        let (api, text) = (session.target().api().to_owned(), search.to_owned());
        let told = if ask_management_too {
            rt::blocking(move || ask_management(&api, &text)).await
        } else {
            None
        };
        let (page, metrics) = told.map_or((None, None), |told| (told.page, told.metrics));
        let page = match page {
            Some(page) => page,
            None => list(session, search).await?,
        };
        Ok(Self {
            at: rt::now(),
            host: ping.host,
            version: ping.version,
            uptime_seconds: u64::try_from(ping.server_up_time_seconds).unwrap_or(0),
            channel_count: page.total.unwrap_or(0),
            rows: page.channels,
            metrics,
        })
    }
}

/// Blocks.
fn ask_management(api: &str, search: &str) -> Told {
    let search = management::escaped(search);
    let path = format!(
        "/v1/stats/channels?page=1&per_page={ROWS_MAX}&sort=activity&order=desc&search={search}"
    );
    let page = management::get(api, &path, EXTRA_PATIENCE).ok();
    let page = page.and_then(|answer| {
        let page: Page = serde_json::from_value(answer.data()?).ok()?;
        // A server without pages tells no total, and too little of each channel.
        page.total.map(|_| page)
    });
    // Without the series of each channel, which are many.
    let metrics = management::get(api, "/metrics?channels=0", EXTRA_PATIENCE).ok();
    let metrics = metrics
        .filter(|answer| answer.status == 200)
        .and_then(|answer| {
            let text = String::from_utf8(answer.body).ok()?;
            Some(Metrics::read(&text))
        });
    Told { page, metrics }
}

/// The same by the contract, for servers whose management service is not reached.
async fn list(session: &Session, search: &str) -> Result<Page, Failure> {
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let found = channels::list(session, kind, search, session.patience()).await?;
        let found = found
            .into_iter()
            .filter(|channel| channel.name.contains(search));
        rows.extend(found.map(|channel| Row {
            kind: channel.kind,
            name: channel.name,
            messages_in: channel.incoming.messages,
            bytes_in: channel.incoming.volume,
            messages_out: channel.outgoing.messages,
            bytes_out: channel.outgoing.volume,
            waiting: channel.outgoing.waiting,
        }));
    }
    Ok(Page {
        total: u64::try_from(rows.len()).ok(),
        channels: rows,
    })
}
