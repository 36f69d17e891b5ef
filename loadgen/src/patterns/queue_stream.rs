//! Queues over streams: requests with messages go up, and their results come down; consumers get
//! what is there, and acknowledge it together with the wish for more.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{ClientSender, ClientStream};
use ringmq_proto::kubemq::{QueuesDownstreamRequest, QueuesDownstreamRequestType};

use super::queue_answers::{DOWNSTREAM, polled};
use super::queues::{CONSUMER, REFUSED_PAUSE, UNREADABLE, delivery, frames, settle_results};
use super::take_all;
use crate::flow::Flow;
use crate::payload::{self, Frames, PREFIX_BYTES, put_varint};
use crate::worker::{Pacer, Worker, describe};

const UPSTREAM_PATH: &str = "/kubemq.kubemq/QueuesUpstream";
const DOWNSTREAM_PATH: &str = "/kubemq.kubemq/QueuesDownstream";

/// Fields of an upstream request: its id, and each of its messages.
const REQUEST_ID_KEY: u8 = 1 << 3 | 2;
const MESSAGES_FIELD: u8 = 2;

/// The field of a downstream request that names what is acknowledged.
const TRANSACTION_KEY: u8 = 10 << 3 | 2;

const GET: u64 = 1;
const CLOSE_BY_SERVER: u64 = 11;

/// Opens the streams of a flow, consumers first.
pub(super) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    for number in 0..worker.scenario().consumers {
        let client = worker.client().await?;
        let (sender, responses) = client
            .bidi(DOWNSTREAM_PATH, &worker.call_options)
            .map_err(|status| anyhow::anyhow!("{DOWNSTREAM_PATH}: {}", describe(&status)))?;
        let consumer = Consumer::new(worker, flow, number);
        rt::spawn(Queue::Serve, "consume", consumer.run(sender, responses));
    }
    for number in 0..worker.scenario().producers {
        let Some(pacer) = Pacer::new(worker, flow, number) else {
            continue;
        };
        let client = worker.client().await?;
        let (sender, responses) = client
            .bidi(UPSTREAM_PATH, &worker.call_options)
            .map_err(|status| anyhow::anyhow!("{UPSTREAM_PATH}: {}", describe(&status)))?;
        let producer = Rc::new(Producer {
            flow: flow.clone(),
            number,
            in_flight: RefCell::default(),
            spare: RefCell::default(),
        });
        let frames = frames(worker, flow, number);
        let receiving = producer.clone().receive(responses);
        rt::spawn(Queue::Serve, "results", receiving);
        let sending = producer.send(sender, pacer, frames);
        rt::spawn(Queue::Serve, "produce", sending);
    }
    Ok(())
}

/// One upstream.
#[derive(Debug)]
struct Producer {
    flow: Rc<Flow>,
    number: u32,
    /// Oldest first. Servers may answer in another order.
    in_flight: RefCell<VecDeque<Sent>>,
    /// Lists that are used again.
    spare: RefCell<Vec<Vec<u64>>>,
}

/// A request in flight.
#[derive(Debug)]
struct Sent {
    /// The number of its first message, which is in its id.
    first: u64,
    /// When each of its messages should have been sent.
    intended_ns: Vec<u64>,
}

impl Producer {
    async fn send(self: Rc<Self>, mut sender: ClientSender, mut pacer: Pacer, mut frames: Frames) {
        let mut due = Vec::new();
        let mut out = BytesMut::new();
        while pacer.next(&mut due).await.is_some() {
            let first = self.flow.number(self.number, due.len());
            let body_bytes = self.request(first, &due, &mut frames, &mut out);
            let mut intended_ns = self.spare.borrow_mut().pop().unwrap_or_default();
            intended_ns.clone_from(&due);
            let sent = Sent { first, intended_ns };
            self.in_flight.borrow_mut().push_back(sent);
            let sending = sender.send_all(out.split().freeze());
            if pacer.hand_over(sending).await.is_err() {
                // The other half says why, and ends this one's run.
                break;
            }
            self.flow.sent(due.len(), body_bytes);
        }
        drop(pacer);
        // The stream stays open: some servers answer nothing behind the end of this half.
        self.flow.closed(self.number).await;
    }

    /// Writes a request with its prefix; gives back the bytes of the bodies in it.
    fn request(&self, first: u64, due: &[u64], frames: &mut Frames, out: &mut BytesMut) -> usize {
        let begin = out.len();
        out.put_slice(&[0; PREFIX_BYTES]);
        let id = payload::id(self.number, first);
        out.put_u8(REQUEST_ID_KEY);
        put_varint(id.len(), out);
        out.put_slice(&id);
        let mut bodies = 0;
        for (number, intended_ns) in (first..).zip(due) {
            bodies += frames.nested(MESSAGES_FIELD, number, *intended_ns, out);
        }
        let length = u32::try_from(out.len() - begin - PREFIX_BYTES).unwrap_or(u32::MAX);
        if let Some(prefix) = out.get_mut(begin + 1..begin + PREFIX_BYTES) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
        bodies
    }

    async fn receive(self: Rc<Self>, mut responses: ClientStream) {
        let end = take_all(&mut responses, |response, now_ns| {
            self.settle(response, now_ns);
        });
        let end = match end.await {
            None => "the server ended an upstream".to_owned(),
            Some(status) => format!("upstream: {}", describe(&status)),
        };
        self.flow.producer_broke(self.number, &end);
    }

    /// Takes the response to one request.
    fn settle(&self, response: &Bytes, now_ns: u64) {
        let Some(mut sent) = self.take(response) else {
            let text = "a response to no request";
            return self.flow.meter.failed(text, 1, now_ns);
        };
        settle_results(&self.flow, self.number, response, &sent.intended_ns, now_ns);
        sent.intended_ns.clear();
        self.spare.borrow_mut().push(sent.intended_ns);
    }

    /// The request that this is the response to: the one that it names, or else the oldest one.
    fn take(&self, response: &[u8]) -> Option<Sent> {
        let mut in_flight = self.in_flight.borrow_mut();
        let id = payload::field(response, 1).and_then(payload::read_id);
        let place = match id {
            None => 0,
            Some((_, first)) => in_flight.iter().position(|sent| sent.first == first)?,
        };
        in_flight.remove(place)
    }
}

/// One downstream.
#[derive(Debug)]
struct Consumer {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    number: u32,
    auto_ack: bool,
    /// The wish for messages, with its prefix.
    get: Bytes,
    /// An acknowledgement, without what it acknowledges.
    acknowledge: Bytes,
}

impl Consumer {
    fn new(worker: &Rc<Worker>, flow: &Rc<Flow>, number: u32) -> Self {
        let options = &worker.scenario().queue;
        let get = QueuesDownstreamRequest {
            request_id: "get".into(),
            client_id: CONSUMER.into(),
            request_type_data: QueuesDownstreamRequestType::Get.into(),
            channel: flow.channel.clone(),
            max_items: i32::try_from(options.items).unwrap_or(i32::MAX),
            wait_timeout: i32::try_from(options.wait_ms).unwrap_or(i32::MAX),
            auto_ack: options.auto_ack,
            ..QueuesDownstreamRequest::default()
        };
        let acknowledge = QueuesDownstreamRequest {
            request_id: "ack".into(),
            client_id: CONSUMER.into(),
            request_type_data: QueuesDownstreamRequestType::AckAll.into(),
            channel: flow.channel.clone(),
            ..QueuesDownstreamRequest::default()
        };
        let get = get.encode_to_vec();
        let mut framed = BytesMut::new();
        put_prefix(get.len(), &mut framed);
        framed.put_slice(&get);
        Self {
            worker: worker.clone(),
            flow: flow.clone(),
            number,
            auto_ack: options.auto_ack,
            get: framed.freeze(),
            acknowledge: acknowledge.encode_to_vec().into(),
        }
    }

    async fn run(self, sender: ClientSender, responses: ClientStream) {
        let end = self.consume(sender, responses).await;
        self.flow.consumer_broke(self.number, &end);
    }

    /// Gets and acknowledges until the stream ends; gives back why it did.
    async fn consume(&self, mut sender: ClientSender, mut responses: ClientStream) -> String {
        let mut next = BytesMut::from(&self.get[..]);
        loop {
            // When the server is gone, the other half says more about it.
            let _gone = sender.send_all(next.split().freeze()).await;
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return "the server ended a downstream".into(),
                Err(status) => return format!("downstream: {}", describe(&status)),
            };
            let now_ns = rt::now().as_ns();
            let answer = polled(&response, DOWNSTREAM, |message| {
                let delivery = delivery(message.receive_count);
                self.flow.take(self.number, message.body, now_ns, delivery);
            });
            let Some(answer) = answer else {
                return format!("downstream: {UNREADABLE}");
            };
            if let Some(refusal) = &answer.refusal {
                self.flow.meter.failed(refusal, 1, now_ns);
            }
            match answer.kind {
                CLOSE_BY_SERVER => return "the server closed a downstream".into(),
                // Some servers answer acknowledgements, too: the wish is still open.
                kind if kind != GET => continue,
                _ => {}
            }
            if answer.refusal.is_some() {
                rt::sleep(REFUSED_PAUSE).await;
            } else if answer.messages > 0 && !self.auto_ack {
                self.put_acknowledgement(answer.transaction, &mut next);
            }
            if self.worker.is_closing() {
                return String::new();
            }
            next.put_slice(&self.get);
        }
    }

    fn put_acknowledgement(&self, transaction: &[u8], out: &mut BytesMut) {
        let mut field = BytesMut::new();
        field.put_u8(TRANSACTION_KEY);
        put_varint(transaction.len(), &mut field);
        put_prefix(
            self.acknowledge.len() + field.len() + transaction.len(),
            out,
        );
        out.put_slice(&self.acknowledge);
        out.put_slice(&field);
        out.put_slice(transaction);
    }
}

fn put_prefix(length: usize, out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ringmq_proto::kubemq::{
        QueuesUpstreamRequest, QueuesUpstreamResponse, SendQueueMessageResult,
    };

    use super::*;
    use crate::clock::Clock;
    use crate::meter::Meter;
    use crate::payload::{Bodies, Sending};
    use crate::scenario::{Pattern, Payload, Scenario};

    fn producer() -> Producer {
        let scenario = Scenario {
            pattern: Pattern::Queue,
            consumers: 0,
            ..Scenario::default()
        };
        let meter = Meter::new(&Clock::new(&scenario), 0, &scenario, mpsc::channel().0);
        Producer {
            flow: Flow::new(0, 1, true, &scenario, &meter),
            number: 0,
            in_flight: RefCell::default(),
            spare: RefCell::default(),
        }
    }

    /// Puts a request with so many messages in flight; gives back its id.
    fn send(producer: &Producer, count: usize) -> String {
        let first = producer.flow.number(0, count);
        let intended_ns = vec![0; count];
        let sent = Sent { first, intended_ns };
        producer.in_flight.borrow_mut().push_back(sent);
        String::from_utf8(payload::id(0, first).to_vec()).unwrap()
    }

    fn settle(producer: &Producer, id: &str, errors: &[&str]) {
        let results = errors.iter().map(|error| SendQueueMessageResult {
            is_error: !error.is_empty(),
            error: (*error).into(),
            ..SendQueueMessageResult::default()
        });
        let response = QueuesUpstreamResponse {
            ref_request_id: id.into(),
            results: results.collect(),
            ..QueuesUpstreamResponse::default()
        };
        producer.settle(&response.encode_to_vec().into(), 1);
    }

    fn in_flight(producer: &Producer) -> u64 {
        producer.flow.window(0).unwrap().in_flight()
    }

    /// Errors by text and count.
    fn errors(producer: &Producer) -> Vec<(String, u64)> {
        let errors = producer.flow.meter.finish(2).errors;
        errors
            .into_iter()
            .map(|error| (error.text, error.count))
            .collect()
    }

    #[test]
    fn a_request_is_what_the_contract_says() {
        let producer = producer();
        let sending = Sending {
            channel: "a.queue",
            client_id: "a-client",
            run: 1,
            flow: 0,
            producer: 0,
        };
        let bodies = Bodies::new(&Payload::Fixed(300), 1, true);
        let mut frames = Frames::queue_message(&sending, bodies);
        let mut out = BytesMut::new();
        let bytes = producer.request(7, &[10, 20], &mut frames, &mut out);
        assert_eq!(bytes, 600);
        let (prefix, message) = out.split_at(PREFIX_BYTES);
        assert_eq!(prefix, ringmq::wire::framing::prefix(message.len()));
        let request = QueuesUpstreamRequest::decode(message).unwrap();
        assert_eq!(
            payload::read_id(request.request_id.as_bytes()),
            Some((0, 7))
        );
        let stamps = request.messages.iter().map(|message| {
            assert_eq!(message.channel, "a.queue");
            let stamp = payload::read(&message.body, true, 1).unwrap();
            (stamp.number, stamp.intended_ns)
        });
        assert_eq!(stamps.collect::<Vec<_>>(), [(7, 10), (8, 20)]);
    }

    #[test]
    fn answers_in_another_order_settle_the_requests_that_they_name() {
        let producer = producer();
        let (first, second) = (send(&producer, 1), send(&producer, 2));
        settle(&producer, &second, &["", ""]);
        assert_eq!(in_flight(&producer), 1);
        settle(&producer, &first, &[""]);
        assert_eq!((in_flight(&producer), errors(&producer)), (0, vec![]));
    }

    #[test]
    fn an_answer_without_a_name_is_that_to_the_oldest_request() {
        let producer = producer();
        send(&producer, 3);
        send(&producer, 1);
        settle(&producer, "", &["", "", ""]);
        assert_eq!((in_flight(&producer), errors(&producer)), (1, vec![]));
    }

    #[test]
    fn refused_messages_and_those_without_a_result_are_failed_and_not_in_flight() {
        let producer = producer();
        let id = send(&producer, 4);
        settle(&producer, &id, &["", "full"]);
        assert_eq!(in_flight(&producer), 0);
        let missing = ("no result for a message".to_owned(), 2);
        assert_eq!(errors(&producer), [("full".to_owned(), 1), missing]);
        assert_eq!(producer.flow.window(0).unwrap().expected(), 1);
    }

    #[test]
    fn an_answer_to_nothing_and_one_that_cannot_be_read_are_errors() {
        let producer = producer();
        settle(&producer, "", &[""]);
        send(&producer, 2);
        producer.settle(&Bytes::from_static(&[0xFF; 3]), 1);
        assert_eq!(in_flight(&producer), 0);
        let nothing = ("a response to no request".to_owned(), 1);
        assert_eq!(errors(&producer), [nothing, (UNREADABLE.to_owned(), 2)]);
    }
}
