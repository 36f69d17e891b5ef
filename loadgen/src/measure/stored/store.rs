//! Durable appends, closed loop: the next event of a place goes out when its last is acknowledged.

use clap::Args;
use ringmq::rt;

use super::publisher::{self, Totals};
use crate::measure::Run;
use crate::measure::payload::Template;
use crate::measure::report::{Interval, Report};

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Events in flight, over all connections; at least one on each.
    #[arg(long, default_value_t = 64)]
    window: u64,
    /// Connections, each with a publish stream and a channel of its own.
    #[arg(long, default_value_t = 1)]
    connections: u64,
    /// Unary calls instead of a stream: each event in flight is a call.
    #[arg(long)]
    unary: bool,
    /// The channel; connection n publishes to `CHANNEL.n`.
    #[arg(long, default_value = "loadgen.store")]
    channel: String,
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Totals::new();
    let connections = scenario.connections.max(1);
    let window = (scenario.window / connections).max(1);
    for number in 0..connections {
        let client = run.connect().await?;
        let template = Template::stored(&format!("{}.{number}", scenario.channel), run.size);
        if scenario.unary {
            publisher::unary(&client, &template, window, &totals);
        } else {
            publisher::stream(&client, template, window, u64::MAX, &totals)?;
        }
    }
    rt::sleep(run.warm_up).await;
    totals.latency.borrow_mut().reset();
    let before = totals.acknowledged.get();
    let interval = Interval::begin(&run);
    rt::sleep(run.duration).await;
    let messages = totals.acknowledged.get() - before;
    let how = if scenario.unary { "calls" } else { "a stream" };
    let name = format!(
        "store by {how}: {} in flight over {connections} connections, {} bytes",
        window * connections,
        run.size
    );
    let mut report = interval.end(name, messages, &totals.latency.borrow());
    totals.stop.set(true);
    totals.complain();
    report.violations = totals.violations.get();
    Ok(report)
}
