//! Filling channels with a number of events.

use clap::Args;
use ringmq::rt;

use super::publisher::{self, Totals};
use crate::measure::Run;
use crate::measure::report::{Interval, Report};
use crate::outcome::number;

/// Events in flight on a connection, where nothing else is asked for.
const WINDOW: u64 = 4096;

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Events for each channel.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Events in flight on each connection.
    #[arg(long, default_value_t = WINDOW)]
    window: u64,
    /// Channels, each with a connection of its own.
    #[arg(long, default_value_t = 1)]
    channels: u64,
    /// The channel; with several, channel n is `CHANNEL.n`.
    #[arg(long, default_value = "loadgen.filled")]
    channel: String,
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Totals::new();
    let interval = Interval::begin(&run);
    for number in 0..scenario.channels {
        let channel = match scenario.channels {
            1 => scenario.channel.clone(),
            _ => format!("{}.{number}", scenario.channel),
        };
        let client = run.connect().await?;
        let frames = publisher::frames(&channel, run.size);
        publisher::stream(&client, frames, scenario.window, scenario.count, &totals)?;
    }
    totals.wait(scenario.count * scenario.channels).await;
    let messages = totals.acknowledged.get();
    let name = format!(
        "fill: {} events of {} bytes in {} channels",
        scenario.count, run.size, scenario.channels
    );
    let mut report = interval.end(name, messages, &totals.latency.borrow());
    report.violations = totals.violations.get();
    let bytes = number(messages) * f64::from(run.size);
    let rate = bytes / 1024.0 / 1024.0 / report.seconds;
    report.figures.push(("MiB of bodies a second".into(), rate));
    Ok(report)
}

/// Publishes `count` events to a new channel.
///
/// # Errors
/// When the server refuses one.
pub(crate) async fn fill(run: &Run, count: u64) -> anyhow::Result<()> {
    let channel = format!("loadgen.{}.{}", std::process::id(), rt::unix_ns());
    let totals = Totals::new();
    let client = run.connect().await?;
    let frames = publisher::frames(&channel, run.size);
    publisher::stream(&client, frames, WINDOW, count, &totals)?;
    totals.wait(count).await;
    client.close();
    anyhow::ensure!(totals.violations.get() == 0, "the server refuses events");
    Ok(())
}
