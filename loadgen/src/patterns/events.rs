//! Events, plain and stored, over streams and by calls.

mod receipts;

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};
use ringmq_proto::kubemq::{self, Subscribe};

use receipts::Receipts;

use super::calls::Callers;
use super::{ended_by, take_all};
use crate::flow::{Delivery, Flow};
use crate::payload::{Frames, Sending, field};
use crate::scenario::{Calls, Pattern, Scenario};
use crate::worker::{Pacer, Worker, describe};

const SEND_EVENT: &str = "/kubemq.kubemq/SendEvent";
const SEND_EVENTS_STREAM: &str = "/kubemq.kubemq/SendEventsStream";
const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";

/// The field of a received event that holds its body.
const BODY: u64 = 4;

/// How long a producer whose stream is gone waits for the reason to be told.
const REASON_PATIENCE: Duration = Duration::from_millis(200);

pub(super) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    let scenario = worker.scenario();
    for consumer in 0..scenario.consumers {
        let client = worker.client().await?;
        let message = subscription(scenario, flow, consumer);
        let stream = worker
            .subscribe(&client, SUBSCRIBE_TO_EVENTS, message)
            .await?;
        rt::spawn(
            Queue::Serve,
            "consumer",
            receive(flow.clone(), consumer, stream),
        );
    }
    for producer in 0..scenario.producers {
        let client = worker.client().await?;
        let Some(pacer) = Pacer::new(worker, flow, producer) else {
            continue;
        };
        let producer = Producer {
            number: producer,
            flow: flow.clone(),
            frames: frames(worker, flow, producer),
            receipts: Rc::new(Receipts::new(flow, producer)),
        };
        match scenario.calls {
            Calls::Stream => {
                let (sender, results) = client
                    .bidi(SEND_EVENTS_STREAM, &worker.call_options)
                    .map_err(|status| anyhow::anyhow!(describe(&status)))?;
                let receipts = producer.receipts.clone();
                rt::spawn(Queue::Serve, "results", receipts.read(results));
                rt::spawn(Queue::Serve, "send", producer.send(pacer, sender));
            }
            Calls::Unary => {
                let options = worker.call_options.clone();
                let calls = producer.call(pacer, client, Rc::new(options));
                rt::spawn(Queue::Serve, "call", calls);
            }
        }
    }
    Ok(())
}

fn subscription(scenario: &Scenario, flow: &Flow, consumer: u32) -> Bytes {
    let (kind, start) = match scenario.pattern {
        Pattern::EventsStore => (SubscribeType::EventsStore, EventsStoreType::StartNewOnly),
        _ => (SubscribeType::Events, EventsStoreType::Undefined),
    };
    let subscribe = Subscribe {
        subscribe_type_data: kind.into(),
        // A stored subscription is known by its client and group; names of other runs are others.
        client_id: format!("consumer-{:x}-{}-{consumer}", flow.run, flow.number),
        channel: flow.channel.clone(),
        group: Flow::group_name(scenario, consumer),
        events_store_type_data: start.into(),
        ..Subscribe::default()
    };
    subscribe.encode_to_vec().into()
}

/// The messages of a producer. An echo gets the same.
pub(super) fn frames(worker: &Worker, flow: &Flow, producer: u32) -> Frames {
    let sending = Sending {
        channel: &flow.channel,
        client_id: "loadgen-producer",
        run: flow.run,
        flow: flow.number,
        producer,
    };
    let store = worker.scenario().pattern == Pattern::EventsStore;
    Frames::event(&sending, store, worker.bodies(flow, producer))
}

/// One producer and its part of the flow.
#[derive(Debug)]
struct Producer {
    number: u32,
    flow: Rc<Flow>,
    frames: Frames,
    receipts: Rc<Receipts>,
}

impl Producer {
    async fn send(mut self, mut pacer: Pacer, mut sender: ClientSender) {
        let mut due = Vec::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.number, due.len());
            self.receipts.expect(first, &due);
            let mut out = BytesMut::new();
            let mut bytes = 0;
            for (number, intended_ns) in (first..).zip(&due) {
                bytes += self.frames.frame(number, *intended_ns, &mut out);
            }
            if pacer
                .hand_over(sender.send_all(out.freeze()))
                .await
                .is_err()
            {
                return self.gone(pacer).await;
            }
            self.flow.sent(due.len(), bytes);
        }
        drop(pacer);
        // The stream stays open until the run closes: receipts may still come.
        self.flow.closed(self.number).await;
    }

    /// The stream is gone. Why is read from its results; if they do not end, from nowhere.
    async fn gone(&self, pacer: Pacer) {
        rt::sleep(REASON_PATIENCE).await;
        self.flow
            .producer_broke(self.number, "publish stream: the server is gone");
        drop(pacer);
    }

    async fn call(mut self, mut pacer: Pacer, client: Client, options: Rc<CallOptions>) {
        let callers = Callers::new();
        let mut due = Vec::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.number, due.len());
            self.receipts.expect(first, &due);
            let mut sent_bytes = 0;
            for (number, intended_ns) in (first..).zip(&due) {
                let (message, bytes) = self.frames.message(number, *intended_ns);
                sent_bytes += bytes;
                callers.call((number, message), || {
                    caller(client.clone(), options.clone(), self.receipts.clone())
                });
            }
            self.flow.sent(due.len(), sent_bytes);
        }
        callers.close();
    }
}

/// Makes the calls of one task.
fn caller(
    client: Client,
    options: Rc<CallOptions>,
    receipts: Rc<Receipts>,
) -> impl AsyncFn((u64, Bytes)) {
    async move |(number, message)| match client.unary(SEND_EVENT, message, &options).await {
        Ok(result) => receipts.answered(&result),
        Err(status) => receipts.failed(number, &client, &status).await,
    }
}

async fn receive(flow: Rc<Flow>, consumer: u32, mut stream: ClientStream) {
    let end = take_all(&mut stream, |message, now_ns| {
        let body = field(message, BODY).unwrap_or_default();
        flow.take(consumer, body, now_ns, Delivery::First);
    });
    let end = end.await;
    let text = format!("subscription: {}", ended_by(end.as_ref()));
    flow.consumer_broke(consumer, &text);
}

/// What a result says of the event with this id: `None`, it is accepted; the reason, if refused.
fn verdict(result: &kubemq::Result) -> Option<String> {
    match result.error.as_str() {
        "" if result.sent => None,
        "" => Some("not sent, without a reason".to_owned()),
        error => Some(error.to_owned()),
    }
}
