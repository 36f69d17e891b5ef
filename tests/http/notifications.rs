//! Records of accesses, as an operator gets them from a broker with these settings.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::broker::{HttpBroker, PATIENCE, from_base64};
use crate::contract;
use crate::harness::poll;
use crate::mock::kubemq::path;
use crate::sockets::{Socket, event};

const ARGS: [&str; 6] = [
    "--set",
    "notification.enable=true",
    "--set",
    "notification.log=true",
    "--set",
    "audit.enable=true",
];

/// The channel of the next record of a client, and what it says in one line.
fn record_of(socket: &mut Socket, client: &str) -> (String, String) {
    loop {
        let event = socket.hear();
        let record: Value = serde_json::from_slice(&from_base64(&event["Body"])).unwrap();
        if record["ClientID"] == client {
            let fields = ["Resource", "Channel", "Action", "SubAction", "Result"];
            let line = fields.map(|field| record[field].as_str().unwrap());
            let channel = event["Channel"].as_str().unwrap().to_owned();
            return (channel, line.join(" "));
        }
    }
}

/// What the audit channel says of three clients, read from its beginning.
fn audited(broker: &HttpBroker, reader: &str) -> [String; 3] {
    let path = format!(
        "/subscribe/events?client_id={reader}&channel=_audit&subscribe_type=events_store\
         &events_store_type_data=2"
    );
    let mut replay = Socket::open(broker, &path);
    ["by-rest", "by-socket", "by-grpc"].map(|client| record_of(&mut replay, client).1)
}

fn sent_by(client: &str, channel: &str, store: bool) -> Value {
    let mut event = event("m", channel, "x");
    event["ClientID"] = json!(client);
    event["Store"] = json!(store);
    event
}

#[test]
fn accesses_over_every_transport_are_published_and_kept_over_a_restart() {
    let mut broker = HttpBroker::start_with(2, ARGS);
    let reports = "/subscribe/events?client_id=watcher&channel=notifications.%3E\
                   &subscribe_type=events";
    let mut reports = Socket::open(&broker, reports);
    let answer = broker.post("/send/event", &sent_by("by-rest", "orders", false));
    assert_eq!(answer.data()["Sent"], true);
    let (channel, by_rest) = record_of(&mut reports, "by-rest");
    assert_eq!(channel, "notifications.events.orders");
    assert_eq!(by_rest, "events orders Send  OK");
    let mut socket = Socket::open(&broker, "/send/stream");
    socket.say(&sent_by("by-socket", "ledger", true));
    assert_eq!(socket.hear()["Sent"], true);
    let (channel, by_socket) = record_of(&mut reports, "by-socket");
    assert_eq!(channel, "notifications.events_store.ledger");
    assert_eq!(by_socket, "events_store ledger Send  OK");
    let mut refused = contract::event("no channel", false);
    refused.client_id = "by-grpc".into();
    let reply = contract::call(broker.grpc(), path::SEND_EVENT, &refused);
    assert_ne!(reply.grpc_status(), Some(0));
    let (channel, by_grpc) = record_of(&mut reports, "by-grpc");
    assert_eq!(channel, "notifications.events.%invalid");
    assert!(
        by_grpc.starts_with("events no channel Send  Error 108:"),
        "{by_grpc}"
    );
    let logged = poll(PATIENCE, || {
        let log = broker.broker.log();
        let line = |client: &str| {
            log.lines()
                .any(|l| l.contains("access") && l.contains(client))
        };
        ["by-rest", "by-socket", "by-grpc"]
            .iter()
            .all(|client| line(client))
            .then_some(())
    });
    assert!(logged.is_some(), "{}", broker.broker.log());
    let expected = [by_rest, by_socket, by_grpc];
    assert_eq!(audited(&broker, "reader-1"), expected);
    drop((reports, socket));
    broker.broker.signal(Signal::TERM);
    broker.broker.assert_exits_0();
    broker.broker.start_again(2, ARGS);
    assert_eq!(audited(&broker, "reader-2"), expected);
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let broker = HttpBroker::start(1);
    let mut reports = Socket::events(&broker, "notifications.%3E", "");
    let answer = broker.post("/send/event", &sent_by("by-rest", "orders", false));
    assert_eq!(answer.data()["Sent"], true);
    // What comes is the first that is sent there.
    let last = broker.post("/send/event", &sent_by("me", "notifications.end", false));
    assert_eq!(last.data()["Sent"], true);
    assert_eq!(reports.hear()["Channel"], "notifications.end");
}
