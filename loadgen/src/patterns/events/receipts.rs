//! What the server says about the events of one producer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use ringmq::rt;
use ringmq::wire::client::{Client, ClientStream};
use ringmq::wire::status::Status;
use ringmq_proto::kubemq;

use super::verdict;
use crate::flow::{Flow, Through};
use crate::patterns::calls;
use crate::patterns::{ended_by, take_all};
use crate::payload::read_id;

/// The events of one producer that wait for a receipt.
#[derive(Debug)]
pub(super) struct Receipts {
    flow: Rc<Flow>,
    producer: u32,
    /// Whether each event gets a receipt; otherwise only those that are refused do.
    each: bool,
    waiting: RefCell<Waiting>,
}

/// The intended times of messages, by number.
#[derive(Debug, Default)]
struct Waiting {
    /// The number of the first one.
    first: u64,
    /// `None`: its receipt has come, but not that of all before it.
    times: VecDeque<Option<u64>>,
}

impl Waiting {
    /// Takes the intended time of a message off; `None`: it waits for nothing.
    fn take(&mut self, number: u64) -> Option<u64> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let taken = self.times.get_mut(place)?.take();
        while let Some(None) = self.times.front() {
            self.times.pop_front();
            self.first += 1;
        }
        taken
    }
}

impl Receipts {
    pub(super) fn new(flow: &Rc<Flow>, producer: u32) -> Self {
        let through: Option<Through> = flow.window(producer).map(|window| window.through());
        Self {
            flow: flow.clone(),
            producer,
            each: through.is_some_and(|through| through.confirmed),
            waiting: RefCell::default(),
        }
    }

    /// Messages from `first` on are sent now; these are their intended times.
    pub(super) fn expect(&self, first: u64, intended_ns: &[u64]) {
        if self.each {
            let mut waiting = self.waiting.borrow_mut();
            debug_assert_eq!(waiting.first + waiting.times.len() as u64, first);
            waiting.times.extend(intended_ns.iter().copied().map(Some));
        }
    }

    /// Reads the results of a stream until it ends.
    pub(super) async fn read(self: Rc<Self>, mut results: ClientStream) {
        let end = take_all(&mut results, |result, now_ns| self.receipt(result, now_ns)).await;
        let text = format!("publish stream: {}", ended_by(end.as_ref()));
        self.flow.producer_broke(self.producer, &text);
    }

    /// The answer to a call.
    pub(super) fn answered(&self, result: &Bytes) {
        self.receipt(result, rt::now().as_ns());
    }

    /// A call ended without an answer.
    pub(super) async fn failed(&self, number: u64, client: &Client, status: &Status) {
        if self.take(number).is_some() {
            calls::failed(&self.flow, self.producer, client, 1, status).await;
        }
    }

    fn receipt(&self, result: &Bytes, now_ns: u64) {
        if self.each
            && let Some(number) = self.accepted(result)
            && let Some(intended_ns) = self.take(number)
        {
            return self.flow.acknowledged(self.producer, intended_ns, now_ns);
        }
        self.look_closer(result, now_ns);
    }

    /// The number of the event that a result accepts, when it looks as every encoder writes it:
    /// the id and `Sent`, nothing else.
    fn accepted(&self, result: &[u8]) -> Option<u64> {
        let id = result
            .strip_prefix(&[0x0A, 24])
            .and_then(|rest| rest.strip_suffix(&[0x10, 1]))?;
        let (producer, number) = read_id(id)?;
        (producer == self.producer).then_some(number)
    }

    fn take(&self, number: u64) -> Option<u64> {
        self.waiting.borrow_mut().take(number)
    }

    /// Any other result: a refusal, or a receipt that nothing waits for.
    #[cold]
    fn look_closer(&self, result: &Bytes, now_ns: u64) {
        let result = match kubemq::Result::decode(result.clone()) {
            Ok(result) => result,
            Err(error) => return self.odd(&format!("a receipt that is none: {error}"), now_ns),
        };
        let problem = verdict(&result);
        let id = read_id(result.event_id.as_bytes());
        let number = id.filter(|(producer, _)| *producer == self.producer);
        let time = number.and_then(|(_, number)| self.take(number));
        match (problem, time) {
            (Some(problem), Some(_)) => self.refused(&problem),
            // Plain events have no times; a refusal is news all the same.
            (Some(problem), None) if !self.each => self.refused(&problem),
            (None, None) if !self.each => {}
            (None, Some(time)) => self.flow.acknowledged(self.producer, time, now_ns),
            (_, None) => self.odd("a receipt for nothing that was sent", now_ns),
        }
    }

    fn refused(&self, text: &str) {
        if !self.flow.clock.is_closing() {
            self.flow.refused(self.producer, 1, text);
        }
    }

    fn odd(&self, text: &str, now_ns: u64) {
        self.flow.meter.failed(text, 1, now_ns);
    }
}
