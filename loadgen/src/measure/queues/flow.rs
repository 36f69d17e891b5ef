//! Send, receive, acknowledge.
//!
//! Every message is expected once. With one consumer the order of each producer is checked too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use ringmq::rt;
use ringmq_proto::kubemq::QueuesDownstreamResponse;

use super::Totals;
use super::consumer::{self, Wish};
use super::producer::{self, Load};
use crate::measure::Run;
use crate::measure::payload::stamp;
use crate::measure::report::{Interval, Report, number};

/// How long what was sent may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Producers, each with an upstream on a connection of its own.
    #[arg(long, default_value_t = 1)]
    producers: u64,
    /// Consumers, each with a downstream on a connection of its own.
    #[arg(long, default_value_t = 1)]
    consumers: u64,
    /// Messages in flight of each producer.
    #[arg(long, default_value_t = 1024)]
    window: u64,
    /// Messages in one request.
    #[arg(long, default_value_t = 16)]
    batch: u64,
    /// Messages of one Get.
    #[arg(long, default_value_t = 256)]
    items: i32,
    /// Messages a second over all producers; 0: as fast as it goes.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// The broker acknowledges for the consumer.
    #[arg(long)]
    auto_ack: bool,
}

/// What each producer's messages have shown: the next number, and those that came before it.
#[derive(Debug, Default)]
struct Seen {
    next: HashMap<u64, u64>,
    early: HashMap<u64, std::collections::BTreeSet<u64>>,
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Totals::new();
    let channel = format!("loadgen.{}.{}", std::process::id(), rt::unix_ns());
    let seen = Rc::new(RefCell::new(Seen::default()));
    for _ in 0..scenario.consumers {
        let client = run.connect().await?;
        let wish = Wish {
            channel: channel.clone(),
            items: scenario.items,
            auto_ack: scenario.auto_ack,
        };
        let (ordered, shared, seen) = (scenario.consumers == 1, totals.clone(), seen.clone());
        consumer::start(&client, wish, &totals, move |response| {
            take(response, &mut seen.borrow_mut(), &shared, ordered);
        })?;
    }
    let each = scenario.rate / scenario.producers.max(1);
    let pause = match each {
        0 => Duration::ZERO,
        each => Duration::from_secs(1).div_f64(number(each) / number(scenario.batch)),
    };
    for producer in 0..scenario.producers {
        let client = run.connect().await?;
        let load = Load {
            channel: channel.clone(),
            producer,
            size: run.size,
            window: scenario.window,
            batch: scenario.batch,
            count: u64::from(u32::MAX),
            pause,
            delays: None,
        };
        producer::start(&client, load, &totals)?;
    }
    rt::sleep(run.warm_up).await;
    totals.latency.borrow_mut().reset();
    let before = totals.received.get();
    let interval = Interval::begin(&run);
    rt::sleep(run.duration).await;
    let messages = totals.received.get() - before;
    let name = format!(
        "queue: {} producers, {} consumers, {} bytes",
        scenario.producers, scenario.consumers, run.size
    );
    let mut report = interval.end(name, messages, &totals.latency.borrow());
    totals.stop.set(true);
    let began = rt::now();
    while totals.received.get() < totals.sent.get() && rt::now().since(began) < PATIENCE {
        rt::sleep(Duration::from_millis(5)).await;
    }
    let missing = totals.sent.get().saturating_sub(totals.received.get());
    report.violations = totals.violations.get() + missing;
    Ok(report)
}

fn take(response: &QueuesDownstreamResponse, seen: &mut Seen, totals: &Totals, ordered: bool) {
    let now_ns = rt::now().as_ns();
    let mut latency = totals.latency.borrow_mut();
    for message in &response.messages {
        let Some((number, sent_ns)) = stamp(&message.body) else {
            totals.violation("a message without a stamp");
            continue;
        };
        latency.saturating_record(now_ns.saturating_sub(sent_ns));
        let (producer, number) = (number >> 32, number & u64::from(u32::MAX));
        let next = seen.next.entry(producer).or_default();
        if number == *next {
            *next += 1;
            let early = seen.early.entry(producer).or_default();
            while early.remove(next) {
                *next += 1;
            }
        } else if ordered || number < *next {
            totals.violation(&format!("message {number} where {next} comes next"));
        } else if !seen.early.entry(producer).or_default().insert(number) {
            totals.violation(&format!("message {number} came twice"));
        }
    }
}
