//! The streams of queues as the SDKs use them: what they rely on, rule by rule.

use std::time::{Duration, Instant};

use crate::harness::Broker;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::mock::queues::{self, Policy, Received, downstream, received};

pub(super) const OK: u32 = 0;
pub(super) const UNAVAILABLE: u32 = 14;

/// Longer than whatever happens at once takes; shorter than the shortest wait.
pub(super) const AT_ONCE: Duration = Duration::from_millis(700);

/// Silence of this length is taken for silence.
pub(super) const SILENCE: Duration = Duration::from_millis(300);

/// A wait that no test sits through, in milliseconds.
pub(super) const LONG_MS: u64 = 30_000;

/// Sends messages, each by a call of its own; their bodies are their ids.
pub(super) fn send(broker: &Broker, channel: &str, ids: &[&str]) {
    send_with(broker, channel, ids, Policy::default());
}

pub(super) fn send_with(broker: &Broker, channel: &str, ids: &[&str], policy: Policy<'_>) {
    let mut peer = Peer::connect(broker.grpc());
    for id in ids {
        let message = queues::message_with(id, channel, id.as_bytes(), policy);
        assert_eq!(send_one(&mut peer, &message), "");
    }
}

/// Sends a message; the error of its result.
pub(super) fn send_one(peer: &mut Peer, message: &[u8]) -> String {
    let mut reply = peer.unary(path::SEND_QUEUE_MESSAGE, message);
    assert_eq!(reply.grpc_status(), Some(OK), "{reply:?}");
    text(kubemq::field(&reply.take_message().expect("a result"), 6))
}

/// What is in a queue, in its order: (id, sequence, receives). Takes it all, and what comes within
/// a second.
pub(super) fn rest(broker: &Broker, channel: &str) -> Vec<(String, u64, u64)> {
    let mut peer = Peer::connect(broker.grpc());
    let mut found = Vec::new();
    loop {
        let request = queues::receive(channel, 1024, 1, false);
        let mut reply = peer.unary(path::RECEIVE_QUEUE_MESSAGES, &request);
        let messages = received(&reply.take_message().expect("an answer"), 2);
        if messages.is_empty() {
            return found;
        }
        found.extend(messages.into_iter().map(|m| (m.id, m.sequence, m.receives)));
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn entry(id: &str, sequence: u64, receives: u64) -> (String, u64, u64) {
    (id.to_owned(), sequence, receives)
}

pub(super) fn ids(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| &message.id[..]).collect()
}

/// An answer on a stream of polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) transaction: String,
    pub(super) id: String,
    pub(super) kind: u64,
    pub(super) messages: Vec<Received>,
    pub(super) offsets: Vec<u64>,
    /// The error, if it is one.
    pub(super) error: Option<String>,
    pub(super) complete: bool,
}

impl Answer {
    pub(super) fn of(answer: &[u8]) -> Self {
        let is_error = kubemq::number(answer, 6) == 1;
        Self {
            transaction: text(kubemq::field(answer, 1)),
            id: text(kubemq::field(answer, 2)),
            kind: kubemq::number(answer, 3),
            messages: received(answer, 4),
            offsets: packed(kubemq::field(answer, 5)),
            error: is_error.then(|| text(kubemq::field(answer, 7))),
            complete: kubemq::number(answer, 8) == 1,
        }
    }

    pub(super) fn ids(&self) -> Vec<&str> {
        ids(&self.messages)
    }

    pub(super) fn sequences(&self) -> Vec<u64> {
        self.messages.iter().map(|m| m.sequence).collect()
    }
}

pub(super) fn packed(bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0, 0);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    numbers
}

/// A stream of polls on a connection of its own.
pub(super) struct Polls {
    pub(super) peer: Peer,
    pub(super) stream: u32,
}

impl Polls {
    pub(super) fn open(broker: &Broker) -> Self {
        let mut peer = Peer::connect(broker.grpc());
        let stream = peer.open(path::QUEUES_DOWNSTREAM);
        Self { peer, stream }
    }

    pub(super) fn send(&mut self, request: &[u8]) {
        assert!(self.peer.send_message(self.stream, request, false));
    }

    pub(super) fn get(&mut self, id: &str, channel: &str, items: u64, wait_ms: u64) {
        self.send(&queues::get(id, channel, items, wait_ms, false));
    }

    pub(super) fn get_auto(&mut self, id: &str, channel: &str, items: u64, wait_ms: u64) {
        self.send(&queues::get(id, channel, items, wait_ms, true));
    }

    pub(super) fn settle(&mut self, id: &str, kind: u64, transaction: &str, sequences: &[u64]) {
        self.send(&queues::settle(id, kind, transaction.as_bytes(), sequences));
    }

    pub(super) fn requeue(
        &mut self,
        kind: u64,
        transaction: &str,
        sequences: &[u64],
        target: &str,
    ) {
        let transaction = transaction.as_bytes();
        self.send(&queues::requeue(
            "requeue",
            kind,
            transaction,
            sequences,
            target,
        ));
    }

    /// The next answer, which must come.
    pub(super) fn answer(&mut self) -> Answer {
        let answer = self.peer.next_message(self.stream);
        Answer::of(&answer.unwrap_or_else(|| {
            panic!("no answer: {:?}", self.peer.reply(self.stream));
        }))
    }

    /// The next answer, which must come now.
    pub(super) fn answer_at_once(&mut self) -> Answer {
        let began = Instant::now();
        let answer = self.answer();
        assert!(
            began.elapsed() < AT_ONCE,
            "{:?}: {answer:?}",
            began.elapsed()
        );
        answer
    }

    /// Polls for messages that are there; the transaction and its messages.
    pub(super) fn take(&mut self, channel: &str, items: u64) -> Answer {
        self.get("take", channel, items, LONG_MS);
        let answer = self.answer();
        assert_eq!(answer.error, None);
        answer
    }

    pub(super) fn assert_silent(&mut self) {
        let mut message = None;
        let stream = self.stream;
        self.peer.wait_for(SILENCE, |peer| {
            message = peer.reply(stream).take_message();
            message.is_some() || peer.reply(stream).ended
        });
        let reply = self.peer.reply(stream);
        assert!(!reply.ended, "{reply:?}");
        let answer = message.map(|message| Answer::of(&message));
        assert_eq!(answer, None, "silence");
    }

    /// Settles in vain; the answer's error. Everything else of it is checked.
    pub(super) fn refused(&mut self, kind: u64, transaction: &str, sequences: &[u64]) -> String {
        self.settle("refused", kind, transaction, sequences);
        self.refusal(kind, transaction)
    }

    pub(super) fn refusal(&mut self, kind: u64, transaction: &str) -> String {
        let answer = self.answer_at_once();
        assert_eq!((answer.kind, &answer.transaction[..]), (kind, transaction));
        assert!(answer.messages.is_empty() && answer.offsets.is_empty());
        answer.error.expect("an error")
    }

    /// The open sequences of a transaction.
    pub(super) fn open_sequences(&mut self, transaction: &str) -> Vec<u64> {
        self.settle("open", downstream::ACTIVE_OFFSETS, transaction, &[]);
        let answer = self.answer_at_once();
        let expected = (downstream::ACTIVE_OFFSETS, transaction, "open");
        assert_eq!(
            (answer.kind, &answer.transaction[..], &answer.id[..]),
            expected
        );
        assert_eq!((answer.error, answer.complete), (None, false));
        answer.offsets
    }

    /// Ends this half.
    pub(super) fn half_close(&mut self) {
        let end = crate::mock::frame::Frame::data(self.stream, [], true);
        assert!(self.peer.send(&end));
    }

    /// Waits for the end of the call; its status.
    pub(super) fn finish(&mut self) -> Option<u32> {
        self.peer.finish(self.stream).grpc_status()
    }
}
