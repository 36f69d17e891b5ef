//! Commands and queries: callers with so many open calls each, and the responders that they reach.
//!
//! A caller checks that the answer is that to its request. Responders check that each request comes
//! once to each of their groups; calls overtake each other, so their order says nothing.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{Client, ClientStream};
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::subscribe::SubscribeType;

use super::calls::{self, Callers};
use super::queues::UNREADABLE;
use super::request_answers::{Answer, AnswerFrames, Asked};
use super::take_all;
use crate::flow::{Delivery, Flow};
use crate::meter::Violation;
use crate::payload::{self, BODY_BYTES_MIN, Bodies, Frames, Sending};
use crate::scenario::{Pattern, Payload};
use crate::worker::{Pacer, Worker, describe};

const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
const SEND_RESPONSE: &str = "/kubemq.kubemq/SendResponse";
const SUBSCRIBE: &str = "/kubemq.kubemq/SubscribeToRequests";

/// Subscribes the responders of a flow, then starts its callers.
pub(super) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    let scenario = worker.scenario();
    let query = scenario.pattern == Pattern::Query;
    let kind = if query {
        SubscribeType::Queries
    } else {
        SubscribeType::Commands
    };
    for number in 0..scenario.consumers {
        let client = worker.client().await?;
        let subscribe = Subscribe {
            subscribe_type_data: kind.into(),
            client_id: format!("loadgen-responder-{number}"),
            channel: flow.channel.clone(),
            group: Flow::group_name(scenario, number),
            ..Subscribe::default()
        };
        let message = subscribe.encode_to_vec().into();
        let requests = worker.subscribe(&client, SUBSCRIBE, message).await?;
        let payload = Payload::Fixed(scenario.request.answer_bytes.max(BODY_BYTES_MIN));
        let bodies = query.then(|| Bodies::new(&payload, u64::from(number), flow.checksum));
        let responder = Rc::new(Responder {
            worker: worker.clone(),
            flow: flow.clone(),
            number,
            client,
            frames: RefCell::new(AnswerFrames::new(bodies)),
            callers: Callers::new(),
        });
        rt::spawn(Queue::Serve, "respond", responder.run(requests));
    }
    for number in 0..scenario.producers {
        let Some(pacer) = Pacer::new(worker, flow, number) else {
            continue;
        };
        let caller = Rc::new(Caller {
            worker: worker.clone(),
            flow: flow.clone(),
            number,
            client: worker.client().await?,
            has_body: query,
            checks: scenario.consumers > 0,
        });
        let frames = requests(worker, flow, number);
        rt::spawn(Queue::Serve, "call", caller.run(pacer, frames));
    }
    Ok(())
}

/// The requests of a caller.
fn requests(worker: &Worker, flow: &Flow, producer: u32) -> Frames {
    let scenario = worker.scenario();
    let kind = if scenario.pattern == Pattern::Query {
        RequestType::Query
    } else {
        RequestType::Command
    };
    let sending = Sending {
        channel: &flow.channel,
        client_id: "loadgen-caller",
        run: flow.run,
        flow: flow.number,
        producer,
    };
    let timeout_ms = i32::try_from(scenario.request.timeout_ms).unwrap_or(i32::MAX);
    Frames::request(&sending, kind, timeout_ms, worker.bodies(flow, producer))
}

/// Starts one call after the other, without waiting for the answers: that is the window's part.
#[derive(Debug)]
struct Caller {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    number: u32,
    client: Client,
    /// Answers have a body.
    has_body: bool,
    /// The responders are ours, so their answers are known.
    checks: bool,
}

/// A request to be made.
#[derive(Debug)]
struct Due {
    message: Bytes,
    number: u64,
    intended_ns: u64,
}

impl Caller {
    async fn run(self: Rc<Self>, mut pacer: Pacer, mut frames: Frames) {
        let callers = Callers::new();
        let mut due = Vec::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.number, due.len());
            for (number, intended_ns) in (first..).zip(due.iter().copied()) {
                let (message, body_bytes) = frames.message(number, intended_ns);
                self.flow.sent(1, body_bytes);
                let due = Due {
                    message,
                    number,
                    intended_ns,
                };
                callers.call(due, || {
                    let caller = self.clone();
                    async move |due| caller.call(due).await
                });
            }
        }
        drop(pacer);
        self.flow.closed(self.number).await;
        callers.close();
    }

    async fn call(&self, due: Due) {
        let options = &self.worker.call_options;
        let answer = self.client.unary(SEND_REQUEST, due.message, options);
        match answer.await {
            Ok(answer) => self.take(&answer, due.number, due.intended_ns),
            Err(status) => {
                calls::failed(&self.flow, self.number, &self.client, 1, &status).await;
            }
        }
    }

    fn take(&self, answer: &Bytes, number: u64, intended_ns: u64) {
        let now_ns = rt::now().as_ns();
        let Some(answer) = Answer::read(answer) else {
            return self.flow.refused(self.number, 1, UNREADABLE);
        };
        if let Some(refusal) = &answer.refusal {
            return self.flow.refused(self.number, 1, refusal);
        }
        if self.checks {
            self.check(&answer, number);
        }
        let body_bytes = answer.body.len();
        self.flow
            .answered(self.number, intended_ns, now_ns, body_bytes);
    }

    /// Whether the answer is that to request `number`, and undamaged.
    fn check(&self, answer: &Answer<'_>, number: u64) {
        let (flow, meter) = (&self.flow, &self.flow.meter);
        meter.checked();
        let problem = if payload::read_id(answer.id) != Some((self.number, number)) {
            "the answer to another request"
        } else if !self.has_body {
            return;
        } else {
            match payload::read(answer.body, flow.checksum, flow.run) {
                Ok(stamp) if (stamp.producer, stamp.number) == (self.number, number) => return,
                Ok(_) => "the body of another answer",
                Err(_) => "a damaged answer",
            }
        };
        meter.violation(Violation::Corrupted, 1, || {
            let (producer, channel) = (self.number, &flow.channel);
            format!("request {number} of producer {producer} to {channel}: {problem}")
        });
    }
}

/// Answers what comes.
#[derive(Debug)]
struct Responder {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    number: u32,
    client: Client,
    frames: RefCell<AnswerFrames>,
    callers: Rc<Callers<Bytes>>,
}

impl Responder {
    async fn run(self: Rc<Self>, mut requests: ClientStream) {
        let end = take_all(&mut requests, |request, _now_ns| self.answer(request)).await;
        let end = match end {
            None => "the server ended a subscription to requests".to_owned(),
            Some(status) => format!("subscription to requests: {}", describe(&status)),
        };
        self.flow.consumer_broke(self.number, &end);
        self.callers.close();
    }

    /// Starts the answer to a request. One that is not as it was sent gets none.
    fn answer(self: &Rc<Self>, request: &Bytes) {
        let Some(asked) = Asked::read(request) else {
            return self
                .flow
                .corrupted(self.number, "a request that cannot be read");
        };
        let Some(stamp) = self.flow.check(self.number, asked.body, Delivery::First) else {
            return;
        };
        let mut answer = BytesMut::new();
        self.frames.borrow_mut().write(&asked, &stamp, &mut answer);
        self.callers.call(answer.freeze(), || {
            let responder = self.clone();
            async move |answer| responder.send(answer).await
        });
    }

    async fn send(&self, answer: Bytes) {
        let options = &self.worker.call_options;
        let sent = self.client.unary(SEND_RESPONSE, answer, options).await;
        if let Err(status) = sent
            && !self.worker.is_closing()
        {
            let text = format!("answer: {}", describe(&status));
            self.flow.meter.failed(&text, 1, rt::now().as_ns());
        }
    }
}
