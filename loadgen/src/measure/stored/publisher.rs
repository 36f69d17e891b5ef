//! One publisher on a connection of its own: so many events in flight, each receipt checked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use prost::Message;
use ringmq::rt::{self, Notify, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};

use super::{SEND_EVENT, SEND_EVENTS_STREAM};
use crate::measure::payload::Template;
use crate::measure::report::histogram;

/// Messages handed to the transport at once.
const BATCH_MAX: u64 = 64;

/// What all publishers of a run share.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) acknowledged: Cell<u64>,
    pub(super) violations: Cell<u64>,
    pub(super) latency: RefCell<Histogram<u64>>,
    pub(super) stop: Cell<bool>,
    /// The first refusal's text, for the report.
    pub(super) refusal: RefCell<Option<String>>,
    pub(super) moved: Notify,
}

impl Totals {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            acknowledged: Cell::new(0),
            violations: Cell::new(0),
            latency: RefCell::new(histogram()),
            stop: Cell::new(false),
            refusal: RefCell::new(None),
            moved: Notify::new(),
        })
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

    /// Says what went wrong first, if anything did.
    pub(super) fn complain(&self) {
        if let Some(text) = self.refusal.borrow().as_deref() {
            eprintln!("first violation: {text}");
        }
    }
}

/// One publish stream. Its receipts come in the order of its events.
#[derive(Debug)]
struct Stream {
    totals: Rc<Totals>,
    template: Template,
    /// When each event in flight was sent, oldest first.
    in_flight: RefCell<VecDeque<u64>>,
    acknowledged: Cell<u64>,
    moved: Notify,
}

/// Starts a stream that keeps `window` events in flight, `count` in all.
pub(super) fn stream(
    client: &Client,
    template: Template,
    window: u64,
    count: u64,
    totals: &Rc<Totals>,
) -> anyhow::Result<()> {
    let (sender, results) = client.bidi(SEND_EVENTS_STREAM, &CallOptions::default())?;
    let stream = Rc::new(Stream {
        totals: totals.clone(),
        template,
        in_flight: RefCell::default(),
        acknowledged: Cell::new(0),
        moved: Notify::new(),
    });
    rt::spawn(Queue::Serve, "receipts", stream.clone().receive(results));
    rt::spawn(Queue::Serve, "send", stream.send(sender, window, count));
    Ok(())
}

impl Stream {
    async fn send(self: Rc<Self>, mut sender: ClientSender, window: u64, count: u64) {
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
            let mut frames = BytesMut::new();
            for number in sent..sent + batch {
                self.template.write(number, now_ns, &mut frames);
                self.in_flight.borrow_mut().push_back(now_ns);
            }
            sent += batch;
            if sender.send_all(frames.freeze()).await.is_err() {
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
                Err(status) => break self.end(format!("publish stream: {status:?}")),
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

/// Starts `callers` tasks that each have one unary call open, until the run stops.
pub(super) fn unary(client: &Client, template: &Template, callers: u64, totals: &Rc<Totals>) {
    let next = Rc::new(Cell::new(0));
    for _ in 0..callers {
        let (client, template) = (client.clone(), template.clone());
        let (totals, next) = (totals.clone(), next.clone());
        rt::spawn(Queue::Serve, "call", async move {
            let options = CallOptions::default();
            while !totals.stop.get() {
                let number = next.replace(next.get() + 1);
                let sent_ns = rt::now().as_ns();
                let message = template.message(number, sent_ns);
                match client.unary(SEND_EVENT, message, &options).await {
                    Ok(result) => match check(number, &result) {
                        Ok(()) => totals.take(sent_ns),
                        Err(text) => totals.violation(text),
                    },
                    Err(status) => return totals.violation(format!("SendEvent: {status:?}")),
                }
            }
        });
    }
}

/// Whether a result acknowledges event `number`.
fn check(number: u64, result: &Bytes) -> Result<(), String> {
    let id = Template::event_id(number);
    // What every encoder makes of an id and `Sent`, without decoding; anything else is looked at.
    let expected = result
        .strip_prefix(&[0x0A, 24])
        .and_then(|rest| rest.strip_suffix(&[0x10, 1]));
    if expected == Some(&id) {
        return Ok(());
    }
    let id = String::from_utf8_lossy(&id);
    match ringmq_proto::kubemq::Result::decode(result.clone()) {
        Ok(result) if result.event_id != id => {
            Err(format!("receipt for {}, not {id}", result.event_id))
        }
        Ok(result) if result.sent && result.error.is_empty() => Ok(()),
        Ok(result) => Err(format!("{id} refused: {}", result.error)),
        Err(error) => Err(format!("no result: {error}")),
    }
}
