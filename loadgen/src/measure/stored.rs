//! Stored events: filling a channel with a number of them, replaying it. Every receipt and every
//! delivery is checked against what was sent.

mod fill;
pub(crate) mod memory;
mod publisher;
mod replay;

use bytes::Bytes;
use clap::Subcommand;
use prost::Message;
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};

use crate::measure::Run;
use crate::measure::report::Report;

pub(crate) use fill::fill;

/// What filled channels are stamped with: they are replayed by other processes.
const RUN: u64 = 1;

const SEND_EVENTS_STREAM: &str = "/kubemq.kubemq/SendEventsStream";
const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Publishes a number of events as fast as they are acknowledged.
    Fill(fill::Scenario),
    /// Reads a channel from its first event.
    Replay(replay::Scenario),
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let memory = memory::Sampler::start(run.pid);
    let mut report = match scenario {
        Scenario::Fill(scenario) => fill::run(run, scenario).await,
        Scenario::Replay(scenario) => replay::run(run, scenario).await,
    }?;
    report.figures.extend(memory.end());
    Ok(report)
}

/// Asks for a channel's events from the first one that is kept.
fn subscribe_from_first(channel: &str, client_id: &str) -> Bytes {
    let subscribe = Subscribe {
        subscribe_type_data: SubscribeType::EventsStore.into(),
        client_id: client_id.into(),
        channel: channel.into(),
        events_store_type_data: EventsStoreType::StartFromFirst.into(),
        ..Subscribe::default()
    };
    subscribe.encode_to_vec().into()
}
