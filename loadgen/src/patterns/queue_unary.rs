//! Queues by calls: one for each message or each batch, and one for each receiving, which
//! acknowledges what it hands out.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::Client;
use ringmq_proto::kubemq::ReceiveQueueMessagesRequest;

use super::calls::{self, Callers};
use super::queue_answers::{RECEIVED, polled, result};
use super::queues::{CONSUMER, REFUSED_PAUSE, UNREADABLE, delivery, frames, settle_results};
use crate::flow::Flow;
use crate::payload::{self, Frames, put_varint};
use crate::worker::{Pacer, Worker, describe};

const SEND: &str = "/kubemq.kubemq/SendQueueMessage";
const SEND_BATCH: &str = "/kubemq.kubemq/SendQueueMessagesBatch";
const RECEIVE: &str = "/kubemq.kubemq/ReceiveQueueMessages";

/// Fields of a batch: its id, and each of its messages.
const BATCH_ID_KEY: u8 = 1 << 3 | 2;
const MESSAGES_FIELD: u8 = 2;

/// Messages that the contract lets one call receive.
const RECEIVED_MAX: u32 = 1024;

/// Starts the calls of a flow, consumers first.
pub(super) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    for number in 0..worker.scenario().consumers {
        let consumer = Consumer {
            worker: worker.clone(),
            flow: flow.clone(),
            number,
            client: worker.client().await?,
        };
        rt::spawn(Queue::Serve, "consume", consumer.run());
    }
    for number in 0..worker.scenario().producers {
        let Some(pacer) = Pacer::new(worker, flow, number) else {
            continue;
        };
        let producer = Rc::new(Producer {
            worker: worker.clone(),
            flow: flow.clone(),
            number,
            client: worker.client().await?,
        });
        let frames = frames(worker, flow, number);
        rt::spawn(Queue::Serve, "produce", producer.send(pacer, frames));
    }
    Ok(())
}

/// Sends one call after the other, without waiting for their answers: that is the window's part.
#[derive(Debug)]
struct Producer {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    number: u32,
    client: Client,
}

/// A call to be made.
#[derive(Debug)]
enum Due {
    /// With one message, which should have been sent at this time.
    One(Bytes, u64),
    /// With several of them.
    Batch(Bytes, Vec<u64>),
}

impl Producer {
    async fn send(self: Rc<Self>, mut pacer: Pacer, mut frames: Frames) {
        let callers = Callers::new();
        let mut due = Vec::new();
        let batches = self.worker.scenario().batch > 1;
        let call = |due| {
            callers.call(due, || {
                let producer = self.clone();
                async move |due| producer.call(due).await
            });
        };
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.number, due.len());
            if batches {
                call(self.batch(first, &due, &mut frames));
                continue;
            }
            for (number, intended_ns) in (first..).zip(due.iter().copied()) {
                let (message, body_bytes) = frames.message(number, intended_ns);
                self.flow.sent(1, body_bytes);
                call(Due::One(message, intended_ns));
            }
        }
        drop(pacer);
        self.flow.closed(self.number).await;
        callers.close();
    }

    fn batch(&self, first: u64, due: &[u64], frames: &mut Frames) -> Due {
        let id = payload::id(self.number, first);
        let mut message = BytesMut::new();
        message.put_u8(BATCH_ID_KEY);
        put_varint(id.len(), &mut message);
        message.put_slice(&id);
        let mut body_bytes = 0;
        for (number, intended_ns) in (first..).zip(due) {
            body_bytes += frames.nested(MESSAGES_FIELD, number, *intended_ns, &mut message);
        }
        self.flow.sent(due.len(), body_bytes);
        Due::Batch(message.freeze(), due.to_vec())
    }

    async fn call(&self, due: Due) {
        let options = &self.worker.call_options;
        let (count, answer) = match due {
            Due::One(message, intended_ns) => {
                let answer = self.client.unary(SEND, message, options).await;
                (1, answer.map(|answer| self.settle(&answer, intended_ns)))
            }
            Due::Batch(message, due) => {
                let answer = self.client.unary(SEND_BATCH, message, options).await;
                (
                    due.len(),
                    answer.map(|answer| self.settle_batch(&answer, &due)),
                )
            }
        };
        if let Err(status) = answer {
            calls::failed(&self.flow, self.number, &self.client, count, &status).await;
        }
    }

    fn settle(&self, answer: &Bytes, intended_ns: u64) {
        let now_ns = rt::now().as_ns();
        let (flow, number) = (&self.flow, self.number);
        match result(answer) {
            Some(Ok(())) => flow.acknowledged(number, intended_ns, now_ns),
            Some(Err(reason)) => flow.refused(number, 1, &reason),
            None => flow.refused(number, 1, UNREADABLE),
        }
    }

    fn settle_batch(&self, answer: &Bytes, due: &[u64]) {
        settle_results(&self.flow, self.number, answer, due, rt::now().as_ns());
    }
}

/// Receives one call after the other.
#[derive(Debug)]
struct Consumer {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    number: u32,
    client: Client,
}

impl Consumer {
    async fn run(self) {
        let options = &self.worker.scenario().queue;
        let request = ReceiveQueueMessagesRequest {
            client_id: CONSUMER.into(),
            channel: self.flow.channel.clone(),
            max_number_of_messages: limited(options.items.clamp(1, RECEIVED_MAX)),
            wait_time_seconds: limited(options.wait_ms.div_ceil(1_000).max(1)),
            ..ReceiveQueueMessagesRequest::default()
        };
        let request = Bytes::from(request.encode_to_vec());
        while !self.worker.is_closing() {
            let options = &self.worker.call_options;
            let answer = self.client.unary(RECEIVE, request.clone(), options).await;
            let problem = match &answer {
                Ok(answer) => self.take(answer),
                Err(status) if self.client.control().has_ended() => {
                    return self.flow.consumer_broke(self.number, &describe(status));
                }
                Err(status) => Some(describe(status)),
            };
            if let Some(problem) = problem {
                self.flow.meter.failed(&problem, 1, rt::now().as_ns());
                rt::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    /// Takes the messages of an answer; says what was wrong with it.
    fn take(&self, answer: &Bytes) -> Option<String> {
        let now_ns = rt::now().as_ns();
        let polled = polled(answer, RECEIVED, |message| {
            let delivery = delivery(message.receive_count);
            self.flow.take(self.number, message.body, now_ns, delivery);
        });
        match polled {
            Some(polled) => polled.refusal.map(|refusal| refusal.into_owned()),
            None => Some(UNREADABLE.into()),
        }
    }
}

fn limited(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
