//! Queues in the KubeMQ contract, as protobuf fields written by hand.

use super::kubemq::{Message, field, number};

/// `QueuesDownstreamRequest.RequestTypeData`.
pub(crate) mod downstream {
    pub(crate) const GET: u64 = 1;
    pub(crate) const ACK_ALL: u64 = 2;
    pub(crate) const ACK_RANGE: u64 = 3;
    pub(crate) const NACK_ALL: u64 = 4;
    pub(crate) const NACK_RANGE: u64 = 5;
    pub(crate) const REQUEUE_ALL: u64 = 6;
    pub(crate) const REQUEUE_RANGE: u64 = 7;
    pub(crate) const ACTIVE_OFFSETS: u64 = 8;
    pub(crate) const TRANSACTION_STATUS: u64 = 9;
    pub(crate) const CLOSE_BY_CLIENT: u64 = 10;
    pub(crate) const CLOSE_BY_SERVER: u64 = 11;
}

/// `StreamQueueMessagesRequest.StreamRequestTypeData`.
pub(crate) mod stream {
    pub(crate) const RECEIVE: u64 = 1;
    pub(crate) const ACK: u64 = 2;
    pub(crate) const REJECT: u64 = 3;
    pub(crate) const MODIFY_VISIBILITY: u64 = 4;
    pub(crate) const RESEND: u64 = 5;
    pub(crate) const SEND_MODIFIED: u64 = 6;
}

/// A policy; 0 and empty leave a field out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    pub(crate) expiration_seconds: u64,
    pub(crate) delay_seconds: u64,
    pub(crate) receives_max: u64,
    pub(crate) dead_letter: &'a str,
}

pub(crate) fn message(id: &str, channel: &str, body: &[u8]) -> Vec<u8> {
    message_with(id, channel, body, Policy::default())
}

pub(crate) fn message_with(id: &str, channel: &str, body: &[u8], policy: Policy<'_>) -> Vec<u8> {
    let policy = Message::default()
        .varint(1, policy.expiration_seconds)
        .varint(2, policy.delay_seconds)
        .varint(3, policy.receives_max)
        .bytes(4, policy.dead_letter);
    Message::default()
        .bytes(1, id)
        .bytes(2, "mock")
        .bytes(3, channel)
        .bytes(5, body)
        .bytes(8, policy.0)
        .0
}

/// A `QueuesUpstreamRequest`.
pub(crate) fn upstream<'a>(id: &str, messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let request = Message::default().bytes(1, id);
    let messages = messages.into_iter();
    messages
        .fold(request, |request, message| request.bytes(2, message))
        .0
}

/// A Get of a downstream.
pub(crate) fn get(id: &str, channel: &str, items: u64, wait_ms: u64, auto_ack: bool) -> Vec<u8> {
    Message::default()
        .bytes(1, id)
        .bytes(2, "mock")
        .varint(3, downstream::GET)
        .bytes(4, channel)
        .varint(5, items)
        .varint(6, wait_ms)
        .varint(7, auto_ack.into())
        .0
}

/// A Get of up to 10 messages that asks for a visibility.
pub(crate) fn get_with(id: &str, channel: &str, visibility_seconds: &str) -> Vec<u8> {
    let visibility = Message::default()
        .bytes(1, "visibility_seconds")
        .bytes(2, visibility_seconds);
    let mut get = get(id, channel, 10, 30_000, false);
    get.extend(Message::default().bytes(12, visibility.0).0);
    get
}

/// A settlement, or a question, of a downstream.
pub(crate) fn settle(id: &str, kind: u64, transaction: &[u8], sequences: &[u64]) -> Vec<u8> {
    let settle = Message::default()
        .bytes(1, id)
        .bytes(2, "mock")
        .varint(3, kind)
        .bytes(10, transaction);
    let sequences = sequences.iter();
    sequences
        .fold(settle, |settle, sequence| settle.varint(9, *sequence))
        .0
}

/// A requeue of a downstream.
pub(crate) fn requeue(
    id: &str,
    kind: u64,
    transaction: &[u8],
    sequences: &[u64],
    target: &str,
) -> Vec<u8> {
    let mut requeue = settle(id, kind, transaction, sequences);
    requeue.extend(Message::default().bytes(8, target).0);
    requeue
}

/// A `StreamQueueMessagesRequest`.
pub(crate) fn stream_request(
    id: &str,
    kind: u64,
    channel: &str,
    visibility_seconds: u64,
    wait_seconds: u64,
    sequence: u64,
) -> Vec<u8> {
    Message::default()
        .bytes(1, id)
        .bytes(2, "mock")
        .varint(3, kind)
        .bytes(4, channel)
        .varint(5, visibility_seconds)
        .varint(6, wait_seconds)
        .varint(7, sequence)
        .0
}

/// A `StreamQueueMessagesRequest` that sends another message in place of the received one.
pub(crate) fn stream_modified(id: &str, message: &[u8]) -> Vec<u8> {
    let mut request = stream_request(id, stream::SEND_MODIFIED, "", 0, 0, 0);
    request.extend(Message::default().bytes(8, message).0);
    request
}

/// A `ReceiveQueueMessagesRequest`.
pub(crate) fn receive(channel: &str, items: u64, wait_seconds: u64, peek: bool) -> Vec<u8> {
    Message::default()
        .bytes(1, "receive")
        .bytes(2, "mock")
        .bytes(3, channel)
        .varint(4, items)
        .varint(5, wait_seconds)
        .varint(6, peek.into())
        .0
}

/// An `AckAllQueueMessagesRequest`.
pub(crate) fn ack_all(channel: &str, wait_seconds: u64) -> Vec<u8> {
    Message::default()
        .bytes(1, "ack-all")
        .bytes(2, "mock")
        .bytes(3, channel)
        .varint(4, wait_seconds)
        .0
}

/// A message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) body: Vec<u8>,
    pub(crate) timestamp_ns: u64,
    pub(crate) sequence: u64,
    pub(crate) receives: u64,
    pub(crate) rerouted: bool,
    pub(crate) rerouted_from: String,
    pub(crate) expires_at_ns: u64,
    pub(crate) delayed_to_ns: u64,
}

impl Received {
    pub(crate) fn of(message: &[u8]) -> Self {
        let attributes = field(message, 7);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            id: text(field(message, 1)),
            channel: text(last_field(message, 3)),
            body: field(message, 5).to_vec(),
            timestamp_ns: number(attributes, 1),
            sequence: number(attributes, 2),
            receives: number(attributes, 4),
            rerouted: number(attributes, 5) == 1,
            rerouted_from: text(field(attributes, 6)),
            expires_at_ns: number(attributes, 7),
            delayed_to_ns: number(attributes, 8),
        }
    }
}

/// Of a field that comes several times the last one counts: a message that was moved carries its
/// first queue, and behind it the one that it is in.
fn last_field(message: &[u8], wanted: u64) -> &[u8] {
    let found = super::kubemq::fields(message, wanted);
    found.last().copied().unwrap_or_default()
}

/// The messages of an answer; they are in field `wanted` of it: 4 of a downstream's, 2 of a
/// receive's, 3 of a stream's.
pub(crate) fn received(answer: &[u8], wanted: u64) -> Vec<Received> {
    let messages = super::kubemq::fields(answer, wanted);
    messages.into_iter().map(Received::of).collect()
}
