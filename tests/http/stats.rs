//! Statistics of the management port: exact counts, pages that fit together, the snapshot.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::broker::{HttpBroker, PATIENCE, base64, websocket};
use crate::harness::poll;

fn send(broker: &HttpBroker, queue: &str, count: usize) {
    for _ in 0..count {
        let message = json!({"ClientID": "sender", "Channel": queue, "Body": base64("x")});
        broker.post("/queue/send", &message).data();
    }
}

fn receive_one(broker: &HttpBroker, queue: &str) {
    let receive = json!({
        "ClientID": "receiver", "Channel": queue, "MaxNumberOfMessages": 1, "WaitTimeSeconds": 30,
    });
    let data = broker.post("/queue/receive", &receive).data();
    assert_eq!(data["MessagesReceived"], 1, "{data}");
}

fn event(broker: &HttpBroker, channel: &str, store: bool) {
    let event = json!({
        "ClientID": "sender", "Channel": channel, "Body": base64("x"), "Store": store,
    });
    broker.post("/send/event", &event).data();
}

/// The data of a list.
fn list(broker: &HttpBroker, path: &str) -> Value {
    let answer = broker.api_get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    let envelope = answer.json();
    assert_eq!(envelope["error"], false, "{envelope}");
    assert_eq!(envelope["error_string"], "", "{envelope}");
    envelope["data"].clone()
}

/// Asks for a list until it is as wanted: an answer may be here before its message is counted.
fn list_until(broker: &HttpBroker, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = poll(PATIENCE, || {
        last = list(broker, path);
        wanted(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{last}"))
}

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn queues_are_listed_with_exact_counts() {
    let broker = HttpBroker::start(3);
    let none = list(&broker, "/v1/stats/queues");
    assert_eq!(
        (&none["total_queues"], &none["queues"]),
        (&json!(0), &Value::Null)
    );
    for number in 0..7 {
        send(&broker, &format!("exact.{number}"), 3);
    }
    receive_one(&broker, "exact.4");
    let data = list_until(&broker, "/v1/stats/queues", |data| {
        // Its acknowledgement is committed, too.
        data["waiting"] == 20 && data["queues"][4]["messages"] == 2
    });
    assert_eq!(
        (&data["total_queues"], &data["sent"]),
        (&json!(7), &json!(21))
    );
    assert_eq!(data["delivered"], 1);
    assert!(data["now"].as_str().unwrap().ends_with('Z'), "{data}");
    let queues = data["queues"].as_array().unwrap();
    assert_eq!(
        names(&data["queues"]),
        [0, 1, 2, 3, 4, 5, 6].map(|n| format!("exact.{n}"))
    );
    let keys: BTreeSet<_> = queues[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = BTreeSet::from([
        "bytes",
        "delivered",
        "first_sequence",
        "last_sequence",
        "messages",
        "name",
        "sent",
        "subscribers",
        "waiting",
    ]);
    assert_eq!(keys, expected);
    for queue in queues {
        let taken = u64::from(queue["name"] == "exact.4");
        assert_eq!(queue["sent"], 3, "{queue}");
        assert_eq!(queue["waiting"], 3 - taken, "{queue}");
        assert_eq!(queue["delivered"], taken, "{queue}");
        assert_eq!(queue["first_sequence"], 1 + taken, "{queue}");
        assert_eq!(queue["last_sequence"], 3, "{queue}");
    }
    broker.end();
}

#[test]
fn stored_events_wait_until_somebody_has_a_position() {
    let broker = HttpBroker::start(2);
    event(&broker, "kept", true);
    event(&broker, "kept", true);
    let data = list(&broker, "/v1/stats/events_stores");
    assert_eq!(
        (&data["total_queues"], &data["sent"]),
        (&json!(1), &json!(2))
    );
    let kept = &data["queues"][0];
    assert_eq!(
        (&kept["messages"], &kept["waiting"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(
        (&kept["delivered"], &kept["subscribers"]),
        (&json!(0), &json!(0))
    );
    broker.end();
}

#[test]
fn pages_fit_together_in_every_order() {
    let broker = HttpBroker::start(3);
    for number in 0..10 {
        send(&broker, &format!("paged.{number}"), 1 + number % 4);
    }
    send(&broker, "other", 1);
    for (sort, key) in [
        ("name", "name"),
        ("waiting", "waiting"),
        ("messages", "sent"),
    ] {
        for order in ["asc", "desc"] {
            let mut rows = Vec::new();
            for page in 1..=5 {
                let path = format!(
                    "/v1/stats/queues?page={page}&per_page=3&search=paged&sort={sort}&order={order}"
                );
                let data = list(&broker, &path);
                assert_eq!(
                    (&data["page"], &data["per_page"]),
                    (&json!(page), &json!(3))
                );
                assert_eq!((&data["pages"], &data["total"]), (&json!(4), &json!(10)));
                assert_eq!(
                    (&data["total_queues"], &data["sent"]),
                    (&json!(10), &json!(23))
                );
                rows.extend(data["queues"].as_array().cloned().unwrap_or_default());
            }
            let unique: BTreeSet<_> = rows
                .iter()
                .map(|row| row["name"].as_str().unwrap())
                .collect();
            assert_eq!((rows.len(), unique.len()), (10, 10), "{sort} {order}");
            let figures: Vec<_> = rows.iter().map(|row| row[key].as_u64()).collect();
            let names: Vec<_> = rows.iter().map(|row| row["name"].as_str()).collect();
            let in_order = match (sort, order) {
                ("name", "asc") => names.is_sorted(),
                ("name", _) => names.iter().rev().is_sorted(),
                (_, "asc") => figures.is_sorted(),
                (_, _) => figures.iter().rev().is_sorted(),
            };
            assert!(in_order, "{sort} {order}: {rows:?}");
        }
    }
    broker.end();
}

#[test]
fn a_page_has_bounds_and_a_bad_question_a_reason() {
    let broker = HttpBroker::start(1);
    send(&broker, "one", 1);
    let first = list(&broker, "/v1/stats/queues?page=1");
    assert_eq!(
        (&first["per_page"], &first["total"]),
        (&json!(100), &json!(1))
    );
    assert!(first["queues"][0]["in_flight"].is_u64(), "{first}");
    for refused in [
        "page=0",
        "per_page=x",
        "sort=size",
        "order=up",
        "per_page=1001",
    ] {
        let answer = broker.api_get(&format!("/v1/stats/queues?{refused}"));
        let envelope = answer.json();
        assert_eq!(
            (answer.status, &envelope["error"]),
            (400, &json!(true)),
            "{envelope}"
        );
        assert!(
            envelope["error_string"]
                .as_str()
                .unwrap()
                .starts_with("invalid "),
            "{envelope}"
        );
    }
    broker.end();
}

#[test]
fn channels_of_all_kinds_are_listed_and_summed() {
    let broker = HttpBroker::start(2);
    send(&broker, "mixed", 2);
    event(&broker, "mixed", true);
    event(&broker, "mixed", false);
    event(&broker, "mixed", false);
    let counted = |data: &Value| {
        let kinds = data["Summery"].as_array().unwrap();
        kinds
            .iter()
            .any(|it| it["kind"] == "events" && it["total_messages"] == 2)
    };
    let data = list_until(&broker, "/v1/stats/channels", counted);
    assert!(
        data["Host"].is_string() && data["LastUpdate"].is_string(),
        "{data}"
    );
    let of = |list: &str, kind: &str| {
        let found = data[list]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["kind"] == kind);
        found.unwrap_or_else(|| panic!("{kind} in {data}"))["total_messages"].clone()
    };
    for (kind, messages) in [("queues", 2), ("events_store", 1), ("events", 2)] {
        assert_eq!(of("Channels", kind), messages);
        assert_eq!(of("Summery", kind), messages);
    }
    let only = list(
        &broker,
        "/v1/stats/channels?kind=events&page=1&sort=activity&order=desc",
    );
    assert_eq!(
        (&only["total"], names(&only["Channels"])),
        (&json!(1), vec!["mixed"])
    );
    assert_eq!(only["Channels"][0]["messages_in"], 2);
    broker.end();
}

#[test]
fn clients_are_listed_with_what_they_did() {
    let broker = HttpBroker::start(2);
    send(&broker, "q", 3);
    receive_one(&broker, "q");
    let data = list_until(&broker, "/v1/stats/clients", |data| {
        data["TotalMessages"] == 4 && data["Clients"].as_array().is_some_and(|it| it.len() == 2)
    });
    assert_eq!(data["TotalErrors"], 0);
    assert_eq!(names(&data["Clients"]), ["receiver", "sender"]);
    let by_messages = list(
        &broker,
        "/v1/stats/clients?sort=messages&order=desc&per_page=1",
    );
    assert_eq!(names(&by_messages["Clients"]), ["sender"]);
    assert_eq!(
        (&by_messages["total"], &by_messages["pages"]),
        (&json!(2), &json!(2))
    );
    broker.end();
}

/// The bytes behind the head of a response that ends with its connection.
fn raw_body(broker: &HttpBroker, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(broker.api()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{headers}\r\n"
    )
    .unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec())
        .unwrap()
        .to_lowercase();
    (head, all.split_off(end + 4))
}

#[test]
fn lists_are_packed_for_those_who_ask() {
    let broker = HttpBroker::start(2);
    for number in 0..40 {
        send(&broker, &format!("packed.{number}"), 1);
    }
    let (head, packed) = raw_body(&broker, "/v1/stats/queues", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(data["data"]["queues"].as_array().unwrap().len(), 40);
    assert!(
        packed.len() < text.len() / 3,
        "{} of {}",
        packed.len(),
        text.len()
    );
    let (head, plain) = raw_body(&broker, "/v1/stats/queues", "");
    assert!(!head.contains("content-encoding"), "{head}");
    let plain: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(plain["data"]["queues"], data["data"]["queues"]);
    broker.end();
}

#[test]
fn snapshot_tells_channels_clients_and_the_node() {
    let broker = HttpBroker::start(2);
    send(&broker, "shown", 3);
    receive_one(&broker, "shown");
    let failing = json!({"ClientID": "sender", "Channel": "shown"});
    assert_eq!(broker.post("/queue/send", &failing).data()["IsError"], true);
    event(&broker, "shown", false);
    let data = list_until(&broker, "/api/snapshot", |data| {
        let queue = &data["queues"]["channelsList"][0];
        queue["total"]["messages"] == 4 && data["pubsub"]["channels"] == 1
    });
    let queue = &data["queues"]["channelsList"][0];
    assert_eq!(
        (&queue["name"], &queue["type"]),
        (&json!("shown"), &json!("queues"))
    );
    assert_eq!(queue["channelKey"], "queues-shown");
    assert_eq!(
        (&queue["incoming"]["messages"], &queue["incoming"]["errors"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(
        (
            &queue["outgoing"]["messages"],
            &queue["outgoing"]["waiting"]
        ),
        (&json!(1), &json!(2))
    );
    assert_eq!(queue["isActive"], true);
    assert_eq!(names(&queue["clients"]).len(), 2);
    assert_eq!(
        (&data["nodeType"], &data["queues"]["name"]),
        (&json!("community"), &json!("queues"))
    );
    assert_eq!(data["commandsQueries"]["name"], "request_reply");
    assert_eq!(
        (&data["channels"], &data["activeChannels"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(data["statsCards"]["channels"]["primaryItemValue"], "2");
    assert_eq!(data["statsCards"]["channels"]["queues"]["caption"], "(1/1)");
    let top = data["topChannels"].as_array().unwrap();
    let types: BTreeSet<_> = top.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, BTreeSet::from(["Events", "Queue"]));
    let host = &data["hostsInfo"][0];
    assert_eq!(
        (&host["status"], &host["role"]),
        (&json!("Running"), &json!("Standalone"))
    );
    assert!(host["osThreads"].as_u64().unwrap() > 2, "{host}");
    broker.end();
}

#[test]
fn viewers_of_the_snapshot_are_sent_the_bare_document() {
    let broker = HttpBroker::start(2);
    event(&broker, "seen", true);
    let mut socket = websocket(broker.api(), "/api/connection").unwrap();
    for _ in 0..2 {
        let message = socket.read().unwrap();
        let document: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert!(document["hostsInfo"].is_array() && document.get("data").is_none());
        assert_eq!(document["nodeType"], "community");
    }
    socket.close(None).unwrap();
    broker.end();
}
