//! Queries: callers, one responder, and the way back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientStream};
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::subscribe::SubscribeType;
use ringmq_proto::kubemq::{Request, Response};

use crate::measure::Run;
use crate::measure::events::subscribe;
use crate::measure::report::{Interval, Report, histogram};

const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
const SEND_RESPONSE: &str = "/kubemq.kubemq/SendResponse";
const SUBSCRIBE_TO_REQUESTS: &str = "/kubemq.kubemq/SubscribeToRequests";
const ECHO_UNARY: &str = "/ringmq.bench.Echo/Unary";

#[derive(Clone, Debug, Args)]
pub(crate) struct Scenario {
    /// Callers that each have one request open.
    #[arg(long, default_value_t = 1)]
    callers: u32,
}

#[derive(Debug)]
struct Totals {
    answered: Cell<u64>,
    violations: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    stop: Cell<bool>,
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let totals = Rc::new(Totals {
        answered: Cell::new(0),
        violations: Cell::new(0),
        latency: RefCell::new(histogram()),
        stop: Cell::new(false),
    });
    let channel = format!("loadgen.{}", std::process::id());
    if !run.echo {
        let responder = run.connect().await?;
        let message = subscribe(SubscribeType::Queries, &channel);
        let options = CallOptions::default();
        let mut stream = responder.server_stream(SUBSCRIBE_TO_REQUESTS, message, &options)?;
        stream.headers().await?;
        rt::spawn(Queue::Serve, "respond", respond(responder, stream));
    }
    let request = Request {
        request_type_data: RequestType::Query.into(),
        client_id: "loadgen-caller".into(),
        channel,
        body: Bytes::from(vec![0xA5; run.size]),
        timeout: 10_000,
        ..Request::default()
    };
    let caller = run.connect().await?;
    let message = Bytes::from(request.encode_to_vec());
    let path = if run.echo { ECHO_UNARY } else { SEND_REQUEST };
    for _ in 0..scenario.callers {
        let (totals, client) = (totals.clone(), caller.clone());
        rt::spawn(
            Queue::Serve,
            "call",
            call(totals, client, path, message.clone(), run.size),
        );
    }
    rt::sleep(run.warm_up).await;
    totals.latency.borrow_mut().reset();
    let before = totals.answered.get();
    let interval = Interval::begin(&run);
    rt::sleep(run.duration).await;
    let messages = totals.answered.get() - before;
    let kind = if run.echo { "echo calls" } else { "queries" };
    let name = format!("{kind}: {} callers, {} bytes", scenario.callers, run.size);
    let mut report = interval.end(name, messages, &totals.latency.borrow());
    totals.stop.set(true);
    report.violations = totals.violations.get();
    Ok(report)
}

async fn call(totals: Rc<Totals>, client: Client, path: &'static str, message: Bytes, size: usize) {
    let options = CallOptions::default();
    while !totals.stop.get() {
        let began = rt::now();
        let answer = client.unary(path, message.clone(), &options).await;
        let latency_ns = u64::try_from(rt::now().since(began).as_nanos()).unwrap_or(u64::MAX);
        // The answer holds the body that was asked with, whatever else is around it.
        match answer {
            Ok(answer) if answer.len() >= size => totals.answered.set(totals.answered.get() + 1),
            _ => totals.violations.set(totals.violations.get() + 1),
        }
        totals.latency.borrow_mut().saturating_record(latency_ns);
    }
}

/// Answers each query with its own body.
async fn respond(client: Client, mut requests: ClientStream) {
    while let Ok(Some(message)) = requests.message().await {
        let Ok(request) = Request::decode(message) else {
            return;
        };
        let response = Response {
            client_id: "loadgen-responder".into(),
            request_id: request.request_id,
            reply_channel: request.reply_channel,
            body: request.body,
            executed: true,
            ..Response::default()
        };
        let client = client.clone();
        rt::spawn(Queue::Serve, "response", async move {
            let message = response.encode_to_vec().into();
            let _the_caller_will_miss_it = client
                .unary(SEND_RESPONSE, message, &CallOptions::default())
                .await;
        });
    }
}
