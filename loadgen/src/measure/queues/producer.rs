//! One upstream: so many messages in flight, each result checked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Notify, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};
use ringmq_proto::kubemq::{
    QueueMessage, QueueMessagePolicy, QueuesUpstreamRequest, QueuesUpstreamResponse,
};

use super::{Totals, UPSTREAM};

/// What a producer sends.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub channel: String,
    pub size: u32,
    /// Messages in flight at most.
    pub window: u64,
    /// Messages in one request.
    pub batch: u64,
    /// Messages in all.
    pub count: u64,
    /// Time between two requests; zero: as fast as results come.
    pub pause: Duration,
    /// Delays in seconds, from least to most: one is drawn for each message.
    pub delays: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Producer {
    /// Of every message; the number is in its id.
    body: Bytes,
    load: Load,
    totals: Rc<Totals>,
    /// Messages of each request in flight, oldest first.
    in_flight: RefCell<VecDeque<u64>>,
    waiting: Cell<u64>,
    moved: Notify,
}

/// Starts a producer on a connection.
pub(crate) fn start(client: &Client, load: Load, totals: &Rc<Totals>) -> anyhow::Result<()> {
    let (sender, results) = client.bidi(UPSTREAM, &CallOptions::default())?;
    let bytes = usize::try_from(load.size).unwrap_or(usize::MAX);
    let producer = Rc::new(Producer {
        body: vec![0xA5; bytes].into(),
        load,
        totals: totals.clone(),
        in_flight: RefCell::default(),
        waiting: Cell::new(0),
        moved: Notify::new(),
    });
    rt::spawn(Queue::Serve, "results", producer.clone().receive(results));
    rt::spawn(Queue::Serve, "send", producer.send(sender));
    Ok(())
}

impl Producer {
    async fn send(self: Rc<Self>, mut sender: ClientSender) {
        let began_ns = rt::now().as_ns();
        let pause_ns = u64::try_from(self.load.pause.as_nanos()).unwrap_or(u64::MAX);
        let mut requests = 0_u64;
        let mut sent = 0;
        let mut random = 0x9e37_79b9_7f4a_7c15;
        while !self.totals.stop.get() && sent < self.load.count {
            let due_ns = began_ns + pause_ns.saturating_mul(requests);
            let now_ns = rt::now().as_ns();
            if due_ns > now_ns {
                rt::sleep(Duration::from_nanos(due_ns - now_ns)).await;
            } else if self.waiting.get() + self.load.batch > self.load.window.max(self.load.batch) {
                self.moved.wait().await;
                continue;
            }
            let batch = self.load.batch.min(self.load.count - sent);
            let frame = self.request(sent, batch, &mut random);
            self.in_flight.borrow_mut().push_back(batch);
            self.waiting.set(self.waiting.get() + batch);
            sent += batch;
            requests += 1;
            if sender.send_all(frame).await.is_err() {
                return self.totals.violation("the upstream ended");
            }
        }
        // The stream stays open until the process ends: results may still come.
        std::future::pending::<()>().await;
    }

    fn request(&self, first: u64, batch: u64, random: &mut u64) -> Bytes {
        let messages = (first..first + batch).map(|number| {
            let policy = self.load.delays.map(|(least, most)| QueueMessagePolicy {
                delay_seconds: draw(random, least, most),
                ..QueueMessagePolicy::default()
            });
            QueueMessage {
                message_id: number.to_string(),
                client_id: "loadgen-producer".into(),
                channel: self.load.channel.clone(),
                body: self.body.clone(),
                policy,
                ..QueueMessage::default()
            }
        });
        let request = QueuesUpstreamRequest {
            request_id: first.to_string(),
            messages: messages.collect(),
        };
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(request.encoded_len()).unwrap_or(u32::MAX));
        let encoded = request.encode(&mut frame);
        debug_assert!(encoded.is_ok(), "memory grows");
        frame.freeze()
    }

    async fn receive(self: Rc<Self>, mut results: ClientStream) {
        loop {
            let message = match results.message().await {
                Ok(Some(message)) => message,
                _ if self.totals.stop.get() => return,
                end => return self.totals.violation(&format!("upstream: {end:?}")),
            };
            let Ok(response) = QueuesUpstreamResponse::decode(message) else {
                return self.totals.violation("no response");
            };
            let wanted = self.in_flight.borrow_mut().pop_front().unwrap_or(0);
            let stored = response.results.iter().filter(|result| !result.is_error);
            let stored = u64::try_from(stored.count()).unwrap_or(0);
            if response.is_error || stored != wanted {
                let refused = response.results.iter().find(|result| result.is_error);
                let text = refused.map_or(response.error.as_str(), |result| &result.error);
                self.totals.violation(&format!("refused: {text}"));
            }
            self.waiting.set(self.waiting.get().saturating_sub(wanted));
            self.totals.sent.set(self.totals.sent.get() + stored);
            self.moved.raise();
            self.totals.moved.raise();
        }
    }
}

/// A number from `least` to `most`, by xorshift: runs are alike.
fn draw(random: &mut u64, least: u32, most: u32) -> i32 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let span = u64::from(most.saturating_sub(least)) + 1;
    let drawn = u64::from(least) + *random % span;
    i32::try_from(drawn).unwrap_or(i32::MAX)
}
