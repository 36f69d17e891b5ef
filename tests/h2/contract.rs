//! Calls with the types of the contract, for tests whose subject is not the wire.

use std::collections::HashMap;
use std::net::SocketAddr;

use prost::Message;
use ringmq_proto::kubemq::{
    Event, EventReceive, QueueMessage, QueuesInfo, QueuesInfoRequest, QueuesInfoResponse,
    ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse, Request, Response, Result,
    SendQueueMessageResult,
};
use serde_json::Value;

use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Peer, Reply};

/// The channel of channel management.
pub(crate) const MANAGEMENT: &str = "kubemq.cluster.internal.requests";

/// The kinds, as channel management names them.
pub(crate) const KINDS: [&str; 5] = ["events", "events_store", "commands", "queries", "queues"];

pub(crate) fn tags(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    entries.iter().map(owned).collect()
}

/// The answer of a unary call that must succeed.
pub(crate) fn unary<M: Message + Default>(
    address: SocketAddr,
    path: &str,
    message: &impl Message,
) -> M {
    let mut reply = call(address, path, message);
    assert_eq!(reply.grpc_status(), Some(0), "{}", reply.grpc_message());
    M::decode(&*reply.take_message().expect("an answer")).expect("of the contract")
}

/// A unary call and whatever comes of it.
pub(crate) fn call(address: SocketAddr, path: &str, message: &impl Message) -> Reply {
    Peer::connect(address).unary(path, &message.encode_to_vec())
}

/// A request to channel management, as the SDKs make it.
pub(crate) fn operation(operation: &str, entries: &[(&str, &str)]) -> Request {
    Request {
        request_id: "manage-1".into(),
        request_type_data: i32::try_from(kubemq::QUERY).expect("small"),
        client_id: "mock".into(),
        channel: MANAGEMENT.into(),
        metadata: operation.into(),
        timeout: 10_000,
        tags: tags(entries),
        ..Request::default()
    }
}

/// The answer of channel management.
pub(crate) fn manage(address: SocketAddr, name: &str, entries: &[(&str, &str)]) -> Response {
    unary(address, path::SEND_REQUEST, &operation(name, entries))
}

/// Creates, deletes or empties a channel, which must succeed.
pub(crate) fn change(address: SocketAddr, operation: &str, kind: &str, channel: &str) -> Response {
    let entries = [
        ("channel_type", kind),
        ("channel", channel),
        ("client_id", "mock"),
    ];
    let response = manage(address, operation, &entries);
    assert!(response.executed, "{}", response.error);
    assert_eq!(response.error, "");
    response
}

/// The channels of a kind whose names hold a text.
pub(crate) fn list(address: SocketAddr, kind: &str, search: &str) -> Vec<Value> {
    let entries = [("channel_type", kind), ("channel_search", search)];
    let response = manage(address, "list-channels", &entries);
    assert!(response.executed, "{}", response.error);
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    body.as_array().expect("an array").clone()
}

/// The only channel of that name.
pub(crate) fn listed(address: SocketAddr, kind: &str, name: &str) -> Value {
    let found = list(address, kind, name);
    let mut found = found.into_iter().filter(|item| item["name"] == name);
    let only = found
        .next()
        .unwrap_or_else(|| panic!("{name} is not listed"));
    assert!(found.next().is_none(), "{name} is listed twice");
    only
}

pub(crate) fn send_event(address: SocketAddr, event: &Event) -> Result {
    unary(address, path::SEND_EVENT, event)
}

pub(crate) fn event(channel: &str, store: bool) -> Event {
    Event {
        event_id: "event-1".into(),
        client_id: "mock".into(),
        channel: channel.into(),
        body: "body".into(),
        store,
        ..Event::default()
    }
}

pub(crate) fn send_queue(address: SocketAddr, message: &QueueMessage) -> SendQueueMessageResult {
    unary(address, path::SEND_QUEUE_MESSAGE, message)
}

pub(crate) fn queue_message(channel: &str) -> QueueMessage {
    QueueMessage {
        message_id: "message-1".into(),
        client_id: "mock".into(),
        channel: channel.into(),
        body: "body".into(),
        ..QueueMessage::default()
    }
}

/// What is in a queue; with `peek` it stays there.
pub(crate) fn receive(address: SocketAddr, channel: &str, peek: bool) -> Vec<QueueMessage> {
    let request = ReceiveQueueMessagesRequest {
        client_id: "mock".into(),
        channel: channel.into(),
        max_number_of_messages: 100,
        wait_time_seconds: 1,
        is_peak: peek,
        ..ReceiveQueueMessagesRequest::default()
    };
    let path = path::RECEIVE_QUEUE_MESSAGES;
    let answer: ReceiveQueueMessagesResponse = unary(address, path, &request);
    assert!(!answer.is_error, "{}", answer.error);
    answer.messages
}

/// What the queues hold.
pub(crate) fn queues_info(address: SocketAddr, names: &str) -> QueuesInfo {
    let request = QueuesInfoRequest {
        request_id: "info-1".into(),
        queue_name: names.into(),
    };
    let answer: QueuesInfoResponse = unary(address, path::QUEUES_INFO, &request);
    assert_eq!(answer.ref_request_id, "info-1");
    answer.info.expect("an info")
}

/// The next event of a subscription, which must come.
pub(crate) fn next_event(peer: &mut Peer, stream: u32) -> EventReceive {
    let message = peer.next_message(stream).expect("another event");
    EventReceive::decode(&*message).expect("an event")
}

/// A subscription to plain events.
pub(crate) fn subscribe_events(peer: &mut Peer, channel: &str) -> u32 {
    let subscribe = kubemq::subscribe(kubemq::EVENTS, channel, "");
    peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscribe)
}

/// A subscription to stored events, from the first one.
pub(crate) fn subscribe_stored(peer: &mut Peer, channel: &str) -> u32 {
    let subscribe = kubemq::subscribe_stored(channel, "mock", kubemq::START_FROM_FIRST);
    peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscribe)
}
