//! Events: one publish stream for each pair of connections, and its subscribers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use hdrhistogram::Histogram;
use prost::Message;
use ringmq::rt::{self, Instant, Notify, Queue};
use ringmq::wire::client::{CallOptions, ClientSender, ClientStream};
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::SubscribeType;

use crate::measure::Run;
use crate::measure::payload::{Template, field, stamp};
use crate::measure::report::{Interval, Report, histogram};

const SEND_EVENTS_STREAM: &str = "/kubemq.kubemq/SendEventsStream";
const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";
const ECHO_STREAM: &str = "/ringmq.bench.Echo/Stream";

/// Messages handed to the transport at once.
const BATCH_MAX: u64 = 64;

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Publishers, each with connections and a channel of its own.
    #[arg(long, default_value_t = 1)]
    publishers: u32,
    /// Subscribers of each channel.
    #[arg(long, default_value_t = 1)]
    subscribers: u32,
    /// Messages in flight for each publisher, when there is no rate.
    #[arg(long, default_value_t = 1024)]
    window: u64,
    /// Messages a second, over all publishers. Without it: as fast as they arrive.
    #[arg(long)]
    rate: Option<u32>,
}

/// What one publisher and its subscribers share.
#[derive(Debug)]
struct Flow {
    sent: Cell<u64>,
    /// Received by each subscriber.
    received: RefCell<Vec<u64>>,
    moved: Notify,
    totals: Rc<Totals>,
}

#[derive(Debug)]
struct Totals {
    received: Cell<u64>,
    violations: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    stop: Cell<bool>,
}

impl Flow {
    fn in_flight(&self) -> u64 {
        let slowest = self.received.borrow().iter().copied().min().unwrap_or(0);
        self.sent.get().saturating_sub(slowest)
    }
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Rc::new(Totals {
        received: Cell::new(0),
        violations: Cell::new(0),
        latency: RefCell::new(histogram()),
        stop: Cell::new(false),
    });
    let mut flows = Vec::new();
    for publisher in 0..scenario.publishers {
        flows.push(open(&run, &scenario, publisher, &totals).await?);
    }
    rt::sleep(run.warm_up).await;
    totals.latency.borrow_mut().reset();
    let before = totals.received.get();
    let interval = Interval::begin(&run);
    rt::sleep(run.duration).await;
    let messages = totals.received.get() - before;
    let name = format!(
        "{}: {} publishers, {} subscribers each, {} bytes",
        if run.echo { "echo" } else { "events" },
        scenario.publishers,
        scenario.subscribers,
        run.size
    );
    let mut report = interval.end(name, messages, &totals.latency.borrow());
    totals.stop.set(true);
    report.violations = totals.violations.get() + missing(&flows).await;
    Ok(report)
}

/// Waits for what is still on the way; gives back what never came.
async fn missing(flows: &[Rc<Flow>]) -> u64 {
    let began = rt::now();
    loop {
        let open: u64 = flows.iter().map(|flow| flow.in_flight()).sum();
        if open == 0 || rt::now().since(began) > Duration::from_secs(3) {
            return open;
        }
        rt::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(
    run: &Run,
    scenario: &Scenario,
    publisher: u32,
    totals: &Rc<Totals>,
) -> anyhow::Result<Rc<Flow>> {
    let channel = format!("loadgen.{}.{publisher}", std::process::id());
    let subscribers = usize::try_from(if run.echo { 1 } else { scenario.subscribers })?;
    let flow = Rc::new(Flow {
        sent: Cell::new(0),
        received: RefCell::new(vec![0; subscribers]),
        moved: Notify::new(),
        totals: totals.clone(),
    });
    let options = CallOptions::default();
    let connection = run.connect().await?;
    let sender = if run.echo {
        let (sender, stream) = connection.bidi(ECHO_STREAM, &options)?;
        rt::spawn(Queue::Serve, "receive", receive(flow.clone(), 0, stream, 5));
        sender
    } else {
        for place in 0..subscribers {
            let subscriber = run.connect().await?;
            let message = subscribe(SubscribeType::Events, &channel);
            let mut stream = subscriber.server_stream(SUBSCRIBE_TO_EVENTS, message, &options)?;
            stream.headers().await?;
            rt::spawn(
                Queue::Serve,
                "receive",
                receive(flow.clone(), place, stream, 4),
            );
        }
        let (sender, results) = connection.bidi(SEND_EVENTS_STREAM, &options)?;
        rt::spawn(
            Queue::Serve,
            "results",
            fail_on_result(flow.clone(), results),
        );
        sender
    };
    let template = Template::new(&channel, run.size);
    match scenario.rate {
        None => {
            let sending = send_windowed(flow.clone(), sender, template, scenario.window);
            rt::spawn(Queue::Serve, "send", sending);
        }
        Some(rate) => {
            let each = Duration::from_secs(1) * scenario.publishers / rate.max(1);
            rt::spawn(
                Queue::Serve,
                "send",
                send_at_rate(flow.clone(), sender, template, each),
            );
        }
    }
    Ok(flow)
}

pub(crate) fn subscribe(kind: SubscribeType, channel: &str) -> Bytes {
    let subscribe = Subscribe {
        subscribe_type_data: kind.into(),
        client_id: "loadgen-subscriber".into(),
        channel: channel.into(),
        ..Subscribe::default()
    };
    subscribe.encode_to_vec().into()
}

async fn send_windowed(flow: Rc<Flow>, mut sender: ClientSender, template: Template, window: u64) {
    while !flow.totals.stop.get() {
        let room = window.saturating_sub(flow.in_flight()).min(BATCH_MAX);
        if room == 0 {
            flow.moved.wait().await;
            continue;
        }
        let now_ns = rt::now().as_ns();
        if send_batch(&flow, &mut sender, &template, room, |_| now_ns)
            .await
            .is_err()
        {
            return;
        }
    }
    // The stream stays open until the process ends: what is on the way may still arrive.
    std::future::pending::<()>().await;
}

/// Sends message n at its time, or as soon after it as the process runs: the latency counts from
/// the time at which it should have left.
async fn send_at_rate(
    flow: Rc<Flow>,
    mut sender: ClientSender,
    template: Template,
    each: Duration,
) {
    let began = rt::now();
    let each_ns = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX).max(1);
    let due_at = |number: u64| began.as_ns() + number * each_ns;
    while !flow.totals.stop.get() {
        let now_ns = rt::now().as_ns();
        let due = (now_ns - began.as_ns()) / each_ns + 1;
        let first = flow.sent.get();
        let count = due.saturating_sub(first).min(BATCH_MAX);
        if count == 0 {
            rt::sleep(Duration::from_nanos(due_at(first).saturating_sub(now_ns))).await;
        } else if send_batch(&flow, &mut sender, &template, count, due_at)
            .await
            .is_err()
        {
            return;
        }
    }
    std::future::pending::<()>().await;
}

async fn send_batch(
    flow: &Flow,
    sender: &mut ClientSender,
    template: &Template,
    count: u64,
    intended_ns: impl Fn(u64) -> u64,
) -> Result<(), ()> {
    let first = flow.sent.get();
    let mut frames = BytesMut::new();
    for number in first..first + count {
        template.write(number, intended_ns(number), &mut frames);
    }
    flow.sent.set(first + count);
    sender.send_all(frames.freeze()).await.map_err(|_| ())
}

async fn receive(flow: Rc<Flow>, place: usize, mut stream: ClientStream, body_field: u64) {
    while let Ok(Some(first)) = stream.message().await {
        let now = rt::now();
        let mut latency = flow.totals.latency.borrow_mut();
        let mut next = Some(first);
        while let Some(message) = next {
            take(&flow, place, &message, body_field, now, &mut latency);
            next = stream.try_message().unwrap_or(None);
        }
        drop(latency);
        flow.moved.raise();
    }
    if !flow.totals.stop.get() {
        violation(&flow);
    }
}

fn take(
    flow: &Flow,
    place: usize,
    message: &[u8],
    body_field: u64,
    now: Instant,
    latency: &mut Histogram<u64>,
) {
    let Some((number, intended_ns)) = field(message, body_field).and_then(stamp) else {
        return violation(flow);
    };
    let mut received = flow.received.borrow_mut();
    let Some(expected) = received.get_mut(place) else {
        return;
    };
    if number != *expected {
        violation(flow);
    }
    *expected = number + 1;
    flow.totals.received.set(flow.totals.received.get() + 1);
    latency.saturating_record(now.as_ns().saturating_sub(intended_ns));
}

fn violation(flow: &Flow) {
    flow.totals.violations.set(flow.totals.violations.get() + 1);
}

/// A plain event that went out is answered by silence; any result is a refusal.
async fn fail_on_result(flow: Rc<Flow>, mut results: ClientStream) {
    while let Ok(Some(_refused)) = results.message().await {
        violation(&flow);
    }
}
