//! May they: which right each method needs.

use prost::Message;
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, QueueMessagesBatchRequest, QueuesInfoRequest, QueuesInfoResponse,
    ReceiveQueueMessagesRequest, Request,
};

use crate::broker::{Broker, asking_for_tokens, token_of};
use crate::client::{
    Client, DENIED, OK, PERMISSION_DENIED, event, method, queue_message, receive, request, stored,
    subscribe,
};
use crate::mock::peer::Peer;

/// Each client has one right, and its name says which.
const RIGHTS: [&str; 12] = [
    "Events.Read",
    "Events.Write",
    "EventsStore.Read",
    "EventsStore.Write",
    "Queues.Read",
    "Queues.Write",
    "Commands.Read",
    "Commands.Write",
    "Queries.Read",
    "Queries.Write",
    "Management.Read",
    "Management.Write",
];

fn policy() -> String {
    let rules = RIGHTS.map(|right| {
        let (resource, action) = right.split_once('.').unwrap();
        let client = right.replace('.', "\\\\.");
        format!(r#"{{"ClientID":"{client}","{resource}":true,"Channel":".*","{action}":true}}"#)
    });
    format!("[{}]", rules.join(","))
}

/// A call as a client makes it, and the right that it needs.
type Row = (&'static str, fn(&str) -> Vec<u8>, &'static str);

const ROWS: [Row; 18] = [
    (
        method::SEND_EVENT,
        |id| event(id, "a").encode_to_vec(),
        "Events.Write",
    ),
    (
        method::SEND_EVENT,
        |id| stored(id, "a").encode_to_vec(),
        "EventsStore.Write",
    ),
    (
        method::SUBSCRIBE_TO_EVENTS,
        |id| subscribe(1, id, "a").encode_to_vec(),
        "Events.Read",
    ),
    (
        method::SUBSCRIBE_TO_EVENTS,
        |id| subscribe(2, id, "a").encode_to_vec(),
        "EventsStore.Read",
    ),
    (
        method::SUBSCRIBE_TO_REQUESTS,
        |id| subscribe(3, id, "served").encode_to_vec(),
        "Commands.Read",
    ),
    (
        method::SUBSCRIBE_TO_REQUESTS,
        |id| subscribe(4, id, "served").encode_to_vec(),
        "Queries.Read",
    ),
    (method::SEND_REQUEST, |id| asked(1, id), "Commands.Write"),
    (method::SEND_REQUEST, |id| asked(2, id), "Queries.Write"),
    (
        method::SEND_QUEUE_MESSAGE,
        |id| queue_message(id, "q").encode_to_vec(),
        "Queues.Write",
    ),
    (method::SEND_QUEUE_MESSAGES_BATCH, batch, "Queues.Write"),
    (
        method::RECEIVE_QUEUE_MESSAGES,
        |id| receive(id, "q").encode_to_vec(),
        "Queues.Read",
    ),
    (method::RECEIVE_QUEUE_MESSAGES, peek, "Queues.Read"),
    (method::ACK_ALL_QUEUE_MESSAGES, ack_all, "Queues.Write"),
    (
        method::SEND_REQUEST,
        |id| manage(id, "list-channels"),
        "Management.Read",
    ),
    (
        method::SEND_REQUEST,
        |id| manage(id, "create-channel"),
        "Management.Write",
    ),
    (
        method::SEND_REQUEST,
        |id| manage(id, "purge-channel"),
        "Management.Write",
    ),
    (
        method::SEND_REQUEST,
        |id| manage(id, "delete-channel"),
        "Management.Write",
    ),
    (
        method::SEND_REQUEST,
        |id| manage(id, "redrive-queue"),
        "Management.Write",
    ),
];

/// A request that nobody answers, and that does not wait for long.
fn asked(kind: i32, client: &str) -> Vec<u8> {
    let request = Request {
        timeout: 50,
        ..request(kind, client, "unserved")
    };
    request.encode_to_vec()
}

fn batch(client: &str) -> Vec<u8> {
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch".into(),
        messages: vec![queue_message(client, "q"), queue_message(client, "r")],
    };
    batch.encode_to_vec()
}

fn peek(client: &str) -> Vec<u8> {
    let peek = ReceiveQueueMessagesRequest {
        is_peak: true,
        ..receive(client, "q")
    };
    peek.encode_to_vec()
}

fn ack_all(client: &str) -> Vec<u8> {
    let ack_all = AckAllQueueMessagesRequest {
        request_id: "all".into(),
        client_id: client.into(),
        channel: "q".into(),
        wait_time_seconds: 1,
    };
    ack_all.encode_to_vec()
}

fn manage(client: &str, operation: &str) -> Vec<u8> {
    let tags = [("channel_type", "queues"), ("channel", "managed")];
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let request = Request {
        channel: "kubemq.cluster.internal.requests".into(),
        metadata: operation.into(),
        tags: tags.map(owned).into_iter().collect(),
        ..request(2, client, "")
    };
    request.encode_to_vec()
}

#[test]
fn each_method_needs_its_right_and_no_other() {
    let broker = Broker::start("", Some(&policy()));
    let mut peer = Peer::connect(broker.grpc());
    for (method, message, right) in ROWS {
        for client in RIGHTS.into_iter().chain(["nobody"]) {
            let stream = peer.call(method, &message(client));
            // A subscription that lives has headers and no end.
            let known = peer.wait(|peer| {
                let reply = peer.reply(stream);
                reply.ended || (client == right && reply.headers.is_some())
            });
            assert!(known, "{method} as {client}");
            let reply = peer.reply(stream);
            let denied = reply.grpc_status() == Some(PERMISSION_DENIED);
            let told = reply.grpc_message().to_owned();
            assert_eq!(
                denied,
                client != right,
                "{method} ({right}) as {client}: {told}"
            );
            if denied {
                assert_eq!(told, DENIED);
            }
        }
    }
    broker.end();
}

/// It names no client: the one counts whose token it is.
#[test]
fn what_is_in_the_queues_is_for_those_who_manage_them() {
    let policy = r#"[
        {"ClientID":"all","Management":true,"Channel":".*","Read":true},
        {"ClientID":"some","Management":true,"Channel":"orders\\..*","Read":true},
        {"ClientID":"user","Queues":true,"Channel":".*","Read":true,"Write":true}]"#;
    let broker = Broker::start(&asking_for_tokens(""), Some(policy));
    let info = |names: &str| QueuesInfoRequest {
        request_id: "info".into(),
        queue_name: names.into(),
    };
    let table = [
        ("all", "", true),
        ("all", "orders.a;bills", true),
        ("some", "orders.a;orders.b", true),
        ("some", "orders.a;bills", false),
        ("some", "", false),
        ("user", "orders.a", false),
    ];
    for (client, names, allowed) in table {
        let mut peer = Client::with_token(broker.grpc(), &token_of(client));
        match allowed {
            true => {
                let _answer: QueuesInfoResponse = peer.unary(method::QUEUES_INFO, &info(names));
            }
            false => peer.denied(method::QUEUES_INFO, &info(names)),
        }
    }
    broker.end();
}

/// Lists show every channel there is; a part of them is not enough.
#[test]
fn a_list_needs_a_right_to_all_channels() {
    let policy = r#"[
        {"ClientID":"all","Management":true,"Channel":".*","Read":true},
        {"ClientID":"some","Management":true,"Channel":"orders\\..*","Read":true,"Write":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut peer = Peer::connect(broker.grpc());
    for (client, allowed) in [("all", true), ("some", false)] {
        let reply = peer.unary(method::SEND_REQUEST, &manage(client, "list-channels"));
        assert_eq!(reply.grpc_status() == Some(OK), allowed, "{client}");
    }
    broker.end();
}
