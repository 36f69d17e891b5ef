//! Delayed messages: none may come early; how late each comes is the latency.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use ringmq::rt;

use super::Totals;
use super::consumer::{self, Wish};
use super::producer::{self, Load};
use crate::measure::Run;
use crate::measure::report::{Interval, Report};
use crate::outcome::number;

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Messages.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// The shortest delay, in seconds.
    #[arg(long, default_value_t = 1)]
    least: u32,
    /// The longest delay, in seconds.
    #[arg(long, default_value_t = 60)]
    most: u32,
    /// Messages sent in a second; their moments fall between the whole seconds by that.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Messages in one request.
    #[arg(long, default_value_t = 50)]
    batch: u64,
    /// Messages in flight.
    #[arg(long, default_value_t = 8192)]
    window: u64,
    /// Consumers.
    #[arg(long, default_value_t = 2)]
    consumers: u64,
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Totals::new();
    let channel = format!("loadgen.{}.{}", std::process::id(), rt::unix_ns());
    let early = Rc::new(Cell::new(0_u64));
    let seen = Rc::new(RefCell::new(vec![false; usize::try_from(scenario.count)?]));
    for _ in 0..scenario.consumers {
        let client = run.connect().await?;
        let wish = Wish {
            channel: channel.clone(),
            items: 1024,
            auto_ack: true,
        };
        let (shared, early, seen) = (totals.clone(), early.clone(), seen.clone());
        consumer::start(&client, wish, &totals, move |response| {
            let now_ns = rt::unix_ns();
            for message in &response.messages {
                note(&mut seen.borrow_mut(), &message.message_id, &shared);
                let due_ns = message.attributes.as_ref().map_or(0, |a| a.delayed_to);
                let late_ns = u64::try_from(now_ns - due_ns);
                match late_ns {
                    Ok(late_ns) if due_ns > 0 => {
                        shared.latency.borrow_mut().saturating_record(late_ns);
                    }
                    _ => early.set(early.get() + 1),
                }
            }
        })?;
    }
    let client = run.connect().await?;
    let load = Load {
        channel,
        size: run.size,
        window: scenario.window,
        batch: scenario.batch,
        count: scenario.count,
        pause: Duration::from_secs(1).div_f64(number(scenario.rate) / number(scenario.batch)),
        delays: Some((scenario.least, scenario.most)),
    };
    let interval = Interval::begin(&run);
    producer::start(&client, load, &totals)?;
    let began = rt::now();
    let sending = Duration::from_secs(scenario.count / scenario.rate.max(1));
    let patience = sending + Duration::from_secs(u64::from(scenario.most) + 30);
    while totals.received.get() < scenario.count && rt::now().since(began) < patience {
        rt::sleep(Duration::from_millis(50)).await;
    }
    totals.stop.set(true);
    let name = format!(
        "{} messages delayed by {} to {} s",
        scenario.count, scenario.least, scenario.most
    );
    let received = totals.received.get();
    let mut report = interval.end(name, received, &totals.latency.borrow());
    let missing = scenario.count.saturating_sub(received);
    report.violations = totals.violations.get() + missing + early.get();
    report.figures.push(("early".into(), number(early.get())));
    Ok(report)
}

/// Notes a message by its number, which is its id.
fn note(seen: &mut [bool], id: &str, totals: &Totals) {
    let place = id
        .parse()
        .ok()
        .and_then(|number: usize| seen.get_mut(number));
    match place {
        None => totals.violation(&format!("message {id}, which was never sent")),
        Some(true) => totals.violation(&format!("message {id} came twice")),
        Some(place) => *place = true,
    }
}
