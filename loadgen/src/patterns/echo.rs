//! A server that sends back what it gets: what the transport costs, without a broker.
//!
//! Each producer is its own consumer.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};

use super::calls::{self, Callers};
use super::events::frames;
use super::{ended_by, take_all};
use crate::flow::{Delivery, Flow};
use crate::payload::{Frames, field};
use crate::scenario::Calls;
use crate::worker::{Pacer, Worker, describe};

const STREAM: &str = "/ringmq.bench.Echo/Stream";
const UNARY: &str = "/ringmq.bench.Echo/Unary";

/// The field of a sent event that holds its body.
const BODY: u64 = 5;

pub(super) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    for producer in 0..worker.scenario().producers {
        let client = worker.client().await?;
        let Some(pacer) = Pacer::new(worker, flow, producer) else {
            continue;
        };
        let frames = frames(worker, flow, producer);
        let echo = Echo {
            producer,
            flow: flow.clone(),
        };
        if worker.scenario().calls == Calls::Unary {
            let options = Rc::new(worker.call_options.clone());
            rt::spawn(
                Queue::Serve,
                "call",
                echo.call(pacer, frames, client, options),
            );
            continue;
        }
        let (sender, answers) = client
            .bidi(STREAM, &worker.call_options)
            .map_err(|status| anyhow::anyhow!("{STREAM}: {}", describe(&status)))?;
        rt::spawn(Queue::Serve, "receive", echo.clone().receive(answers));
        rt::spawn(Queue::Serve, "send", echo.send(pacer, frames, sender));
    }
    Ok(())
}

/// One producer.
#[derive(Clone, Debug)]
struct Echo {
    producer: u32,
    flow: Rc<Flow>,
}

impl Echo {
    async fn send(self, mut pacer: Pacer, mut frames: Frames, mut sender: ClientSender) {
        let mut due = Vec::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.producer, due.len());
            let mut out = BytesMut::new();
            let mut bytes = 0;
            for (number, intended_ns) in (first..).zip(&due) {
                bytes += frames.frame(number, *intended_ns, &mut out);
            }
            if pacer
                .hand_over(sender.send_all(out.freeze()))
                .await
                .is_err()
            {
                return self
                    .flow
                    .producer_broke(self.producer, "the server is gone");
            }
            self.flow.sent(due.len(), bytes);
        }
        drop(pacer);
        self.flow.closed(self.producer).await;
    }

    async fn receive(self, mut answers: ClientStream) {
        let end = take_all(&mut answers, |message, now_ns| self.take(message, now_ns)).await;
        let text = format!("echo: {}", ended_by(end.as_ref()));
        self.flow.producer_broke(self.producer, &text);
    }

    async fn call(
        self,
        mut pacer: Pacer,
        mut frames: Frames,
        client: Client,
        options: Rc<CallOptions>,
    ) {
        let callers = Callers::new();
        let mut due = Vec::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.producer, due.len());
            let mut sent_bytes = 0;
            for (number, intended_ns) in (first..).zip(&due) {
                let (message, bytes) = frames.message(number, *intended_ns);
                sent_bytes += bytes;
                callers.call(message, || {
                    caller(client.clone(), options.clone(), self.clone())
                });
            }
            self.flow.sent(due.len(), sent_bytes);
        }
        callers.close();
    }

    fn take(&self, message: &[u8], now_ns: u64) {
        let body = field(message, BODY).unwrap_or_default();
        let taken = self.flow.take(self.producer, body, now_ns, Delivery::First);
        if taken.is_some()
            && let Some(window) = self.flow.window(self.producer)
        {
            window.settled(1);
        }
    }
}

/// Makes the calls of one task.
fn caller(client: Client, options: Rc<CallOptions>, echo: Echo) -> impl AsyncFn(Bytes) {
    async move |message| match client.unary(UNARY, message, &options).await {
        Ok(answer) => echo.take(&answer, rt::now().as_ns()),
        Err(status) => calls::failed(&echo.flow, echo.producer, &client, 1, &status).await,
    }
}
