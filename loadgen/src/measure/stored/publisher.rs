//! One publisher on a connection of its own: so many events in flight, each receipt checked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Notify, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};
use ringmq_proto::kubemq;

use super::{RUN, SEND_EVENTS_STREAM};
use crate::outcome::{Times, times};
use crate::payload::{Bodies, Frames, Sending, read_id};
use crate::scenario::Payload;
use crate::worker::describe;

/// Messages handed to the transport at once.
const BATCH_MAX: u64 = 64;

/// What all publishers of a run share.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) acknowledged: Cell<u64>,
    pub(super) violations: Cell<u64>,
    pub(super) latency: RefCell<Times>,
    pub(super) stop: Cell<bool>,
    /// The first refusal's text, for the report.
    refusal: RefCell<Option<String>>,
    moved: Notify,
}

impl Totals {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            acknowledged: Cell::new(0),
            violations: Cell::new(0),
            latency: RefCell::new(times()),
            stop: Cell::new(false),
            refusal: RefCell::new(None),
            moved: Notify::new(),
        })
    }

    /// Waits until so many events are acknowledged, or something is wrong.
    pub(super) async fn wait(&self, wanted: u64) {
        while self.acknowledged.get() < wanted && self.violations.get() == 0 {
            self.moved.wait().await;
        }
        self.stop.set(true);
        if let Some(text) = self.refusal.borrow().as_deref() {
            eprintln!("first violation: {text}");
        }
    }

    fn violation(&self, text: String) {
        self.violations.set(self.violations.get() + 1);
        self.refusal.borrow_mut().get_or_insert(text);
        self.moved.raise();
    }

    fn take(&self, sent_ns: u64) {
        let latency_ns = rt::now().as_ns().saturating_sub(sent_ns);
        self.latency.borrow_mut().saturating_record(latency_ns);
        self.acknowledged.set(self.acknowledged.get() + 1);
    }
}

/// Stored events to `channel` with bodies of so many bytes.
pub(super) fn frames(channel: &str, size: u32) -> Frames {
    let sending = Sending {
        channel,
        client_id: "loadgen-publisher",
        run: RUN,
        flow: 0,
        producer: 0,
    };
    Frames::event(&sending, true, Bodies::new(&Payload::Fixed(size), 1, true))
}

/// One publish stream. Its receipts come in the order of its events.
#[derive(Debug)]
struct Stream {
    totals: Rc<Totals>,
    /// When each event in flight was sent, oldest first.
    in_flight: RefCell<VecDeque<u64>>,
    acknowledged: Cell<u64>,
    moved: Notify,
}

/// Starts a stream that keeps `window` events in flight, `count` in all.
pub(super) fn stream(
    client: &Client,
    frames: Frames,
    window: u64,
    count: u64,
    totals: &Rc<Totals>,
) -> anyhow::Result<()> {
    let (sender, results) = client.bidi(SEND_EVENTS_STREAM, &CallOptions::default())?;
    let stream = Rc::new(Stream {
        totals: totals.clone(),
        in_flight: RefCell::default(),
        acknowledged: Cell::new(0),
        moved: Notify::new(),
    });
    rt::spawn(Queue::Serve, "receipts", stream.clone().receive(results));
    let sending = stream.send(sender, frames, window, count);
    rt::spawn(Queue::Serve, "send", sending);
    Ok(())
}

impl Stream {
    async fn send(
        self: Rc<Self>,
        mut sender: ClientSender,
        mut frames: Frames,
        window: u64,
        count: u64,
    ) {
        let mut sent = 0;
        while !self.totals.stop.get() && sent < count {
            let in_flight = sent - self.acknowledged.get();
            let room = window.saturating_sub(in_flight).min(count - sent);
            if room == 0 {
                self.moved.wait().await;
                continue;
            }
            let batch = room.min(BATCH_MAX);
            let now_ns = rt::now().as_ns();
            let mut out = BytesMut::new();
            for number in sent..sent + batch {
                frames.frame(number, now_ns, &mut out);
                self.in_flight.borrow_mut().push_back(now_ns);
            }
            sent += batch;
            if sender.send_all(out.freeze()).await.is_err() {
                return self.totals.violation("the publish stream ended".into());
            }
        }
        // The stream stays open until the process ends: receipts may still come.
        std::future::pending::<()>().await;
    }

    async fn receive(self: Rc<Self>, mut results: ClientStream) {
        loop {
            let first = match results.message().await {
                Ok(Some(first)) => first,
                Ok(None) => break self.end("the server ended the publish stream".into()),
                Err(status) => break self.end(format!("publish stream: {}", describe(&status))),
            };
            let mut next = Some(first);
            while let Some(result) = next {
                let number = self.acknowledged.get();
                let sent_ns = self.in_flight.borrow_mut().pop_front();
                match (check(number, &result), sent_ns) {
                    (Ok(()), Some(sent_ns)) => self.totals.take(sent_ns),
                    (Err(text), _) => self.totals.violation(text),
                    (Ok(()), None) => self.totals.violation("a receipt for nothing".into()),
                }
                self.acknowledged.set(number + 1);
                next = results.try_message().unwrap_or(None);
            }
            self.moved.raise();
            self.totals.moved.raise();
        }
    }

    fn end(&self, text: String) {
        if !self.totals.stop.get() {
            self.totals.violation(text);
        }
    }
}

/// Whether a result acknowledges event `number`.
fn check(number: u64, result: &Bytes) -> Result<(), String> {
    let result = match kubemq::Result::decode(result.clone()) {
        Ok(result) => result,
        Err(error) => return Err(format!("no result: {error}")),
    };
    let found = read_id(result.event_id.as_bytes());
    match found {
        Some((0, found)) if found == number => {}
        _ => return Err(format!("a receipt for {}, not {number}", result.event_id)),
    }
    if result.sent && result.error.is_empty() {
        Ok(())
    } else {
        Err(format!("{number} refused: {}", result.error))
    }
}
