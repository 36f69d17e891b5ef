//! Reading a channel from its first event: every sequence once and in order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ringmq::rt::{self, Instant, Queue};
use ringmq::wire::client::{CallOptions, ClientStream};

use super::{RUN, SUBSCRIBE_TO_EVENTS, subscribe_from_first};
use crate::measure::Run;
use crate::measure::report::{Interval, Report};
use crate::outcome::{number, times};
use crate::payload::{self, Stamp};

/// A replay that gets nothing for this long has lost something.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Events that are read by each subscriber.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Subscribers, each with a connection and a new client id of its own.
    #[arg(long, default_value_t = 1)]
    subscribers: u64,
    /// The channel.
    #[arg(long, default_value = "loadgen.filled")]
    channel: String,
}

#[derive(Debug)]
struct Reader {
    received: Cell<u64>,
    bytes: Cell<u64>,
    violations: Cell<u64>,
    first_at: Cell<Option<Instant>>,
    ended: Cell<bool>,
}

pub(super) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let mut readers = Vec::new();
    let interval = Interval::begin(&run);
    let began = rt::now();
    for place in 0..scenario.subscribers {
        let client = run.connect().await?;
        let client_id = format!("loadgen-{}-{}-{place}", std::process::id(), rt::unix_ns());
        let message = subscribe_from_first(&scenario.channel, &client_id);
        let options = CallOptions::default();
        let mut stream = client.server_stream(SUBSCRIBE_TO_EVENTS, message, &options)?;
        stream.headers().await.context("cannot subscribe")?;
        let reader = Rc::new(Reader {
            received: Cell::new(0),
            bytes: Cell::new(0),
            violations: Cell::new(0),
            first_at: Cell::new(None),
            ended: Cell::new(false),
        });
        readers.push(reader.clone());
        let reading = reader.read(stream, scenario.count);
        rt::spawn(Queue::Serve, "receive", reading);
    }
    wait(&readers).await;
    let sum = |of: fn(&Reader) -> u64| readers.iter().map(|reader| of(reader)).sum::<u64>();
    let received = sum(|reader| reader.received.get());
    let name = format!(
        "replay: {} events by {} subscribers",
        scenario.count, scenario.subscribers
    );
    let mut report = interval.end(name, received, &times());
    let missing = (scenario.count * scenario.subscribers).saturating_sub(received);
    report.violations = sum(|reader| reader.violations.get()) + missing;
    let mib = number(sum(|reader| reader.bytes.get())) / 1024.0 / 1024.0;
    report
        .figures
        .push(("MiB a second".into(), mib / report.seconds));
    let first = readers.iter().filter_map(|reader| reader.first_at.get());
    if let Some(first) = first.map(|at| at.since(began)).max() {
        let ms = first.as_secs_f64() * 1e3;
        report.figures.push(("ms to the first event".into(), ms));
    }
    Ok(report)
}

/// Waits until every reader has ended, or nothing has come for a while.
async fn wait(readers: &[Rc<Reader>]) {
    let (mut seen, mut since) = (0, rt::now());
    while readers.iter().any(|reader| !reader.ended.get()) {
        let received = readers.iter().map(|reader| reader.received.get()).sum();
        if seen != received {
            (seen, since) = (received, rt::now());
        } else if rt::now().since(since) > PATIENCE {
            return;
        }
        rt::sleep(Duration::from_millis(1)).await;
    }
}

impl Reader {
    async fn read(self: Rc<Self>, mut stream: ClientStream, count: u64) {
        let mut last = None;
        while self.received.get() < count {
            let Ok(Some(first)) = stream.message().await else {
                self.violation("the subscription ended");
                break;
            };
            if self.first_at.get().is_none() {
                self.first_at.set(Some(rt::now()));
            }
            let mut next = Some(first);
            while let Some(message) = next {
                last = self.take(&message, last);
                if self.received.get() >= count {
                    break;
                }
                next = stream.try_message().unwrap_or(None);
            }
        }
        self.ended.set(true);
    }

    /// Takes one event behind the last one; gives back its sequence and the number in its body.
    fn take(&self, message: &[u8], last: Option<(u64, u64)>) -> Option<(u64, u64)> {
        self.received.set(self.received.get() + 1);
        let len = u64::try_from(message.len()).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get() + len);
        let sequence = payload::number_field(message, 6);
        let body = payload::field(message, 4).unwrap_or_default();
        let (Some(sequence), Ok(Stamp { number: sent, .. })) =
            (sequence, payload::read(body, true, RUN))
        else {
            self.violation("an event without sequence, or that was not filled in, or damaged");
            return last;
        };
        if let Some((last_sequence, last_sent)) = last {
            if sequence != last_sequence + 1 {
                self.violation(&format!("sequence {sequence} follows {last_sequence}"));
            }
            // Another publisher begins at 0 again.
            if sent != last_sent + 1 && sent != 0 {
                self.violation(&format!("event {sent} follows {last_sent}"));
            }
        }
        Some((sequence, sent))
    }

    fn violation(&self, text: &str) {
        if self.violations.get() == 0 {
            eprintln!("first violation: {text}");
        }
        self.violations.set(self.violations.get() + 1);
    }
}
