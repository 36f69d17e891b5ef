//! HTTP as odd clients speak it: in pieces, ahead of time, too slowly, too much of it.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::broker::{HttpBroker, base64};
use crate::raw::Raw;

fn event(id: &str) -> String {
    json!({"EventID": id, "ClientID": "c", "Channel": "conn.events", "Metadata": "m"}).to_string()
}

fn sent(answer: &Value) -> &str {
    assert_eq!(answer["data"]["Sent"], true, "{answer}");
    answer["data"]["EventID"].as_str().unwrap()
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    let broker = HttpBroker::start(1);
    let mut raw = Raw::connect(broker.rest());
    let mut all = String::new();
    for number in 0..20 {
        let body = event(&format!("e{number}"));
        let length = body.len();
        all += &format!(
            "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        );
    }
    assert!(raw.write(all));
    for number in 0..20 {
        assert_eq!(sent(&raw.response().json()), format!("e{number}"));
        assert_eq!(raw.response().text, "hi");
    }
    // The connection is still good, until it says that it is done.
    assert!(raw.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_eq!(raw.response().text, "hi");
    assert_eq!(raw.end(), b"");
    broker.end();
}

#[test]
fn bodies_may_come_in_chunks_and_heads_in_pieces() {
    let broker = HttpBroker::start(1);
    let mut raw = Raw::connect(broker.rest());
    let head = "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    for byte in head.bytes() {
        assert!(raw.write([byte]));
    }
    let body = event("chunked");
    for chunk in body.as_bytes().chunks(7) {
        assert!(raw.write(format!("{:x}\r\n", chunk.len())));
        assert!(raw.write(chunk));
        assert!(raw.write("\r\n"));
    }
    assert!(raw.write("0\r\n\r\n"));
    assert_eq!(sent(&raw.response().json()), "chunked");

    assert!(raw.write(format!("{head}0\r\n\r\n")));
    let empty = "Error 101: invalid clientID value, cannot be empty";
    assert_eq!(raw.response().failure(400), empty);
    broker.end();
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_or_that_it_is_too_much() {
    let broker = HttpBroker::start_with(1, ["--set", "rest.body_limit=2K"]);
    let mut raw = Raw::connect(broker.rest());
    let body = event("asked");
    let length = body.len();
    let head = |length: usize| {
        format!(
            "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    assert!(raw.write(head(length)));
    assert_eq!(raw.response().status, 100);
    assert!(raw.write(body));
    assert_eq!(sent(&raw.response().json()), "asked");

    assert!(raw.write(head(1 << 20)));
    assert_eq!(raw.response().status, 413);
    assert_eq!(raw.end(), b"");
    broker.end();
}

#[test]
fn bodies_over_the_limit_are_refused_however_they_come() {
    let broker = HttpBroker::start_with(1, ["--set", "rest.body_limit=2K"]);
    let too_large = "{\"error_code\":413,\"message\":\"Request Entity Too Large\"}\n";
    let body = |bytes: usize| {
        let body = base64(vec![1; bytes]);
        json!({"ClientID": "c", "Channel": "conn.large", "Body": body})
    };
    assert_eq!(
        broker.post("/send/event", &body(1_000)).data()["Sent"],
        true
    );
    let refused = broker.post("/send/event", &body(2_000));
    assert_eq!((refused.status, &*refused.text), (413, too_large));

    let mut raw = Raw::connect(broker.rest());
    let text = body(1_800).to_string();
    assert!(raw.write(format!(
        "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
        text.len()
    )));
    let refused = raw.response();
    assert_eq!((refused.status, &*refused.text), (413, too_large));
    raw.end();
    broker.end();
}

#[test]
fn a_client_that_sends_on_is_told_why_the_connection_ends() {
    const BODY_BYTES: usize = 8 << 20;
    let broker = HttpBroker::start_with(1, ["--set", "rest.body_limit=2K"]);
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write(format!(
        "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n"
    )));
    // All of it, before the answer is looked at, as simple clients do.
    for _ in 0..BODY_BYTES / 4096 {
        assert!(raw.write([b'x'; 4096]), "the broker lets it go by");
    }
    assert_eq!(raw.response().status, 413);
    assert_eq!(raw.end(), b"");
    broker.end();
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let broker = HttpBroker::start_with(1, ["--set", "rest.read_timeout=1"]);
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write(
        "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{\"ClientID\":"
    ));
    let answer = raw.response();
    assert_eq!(answer.status, 408);
    assert_eq!(
        answer.text,
        "{\"error_code\":408,\"message\":\"Request Timeout\"}\n"
    );
    assert_eq!(raw.end(), b"");

    // A head that does not come has no answer.
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write("GET / HTT"));
    raw.end();
    let mut raw = Raw::connect(broker.rest());
    raw.end();

    // Others do not notice, and a poll may take longer than that.
    let poll = json!({
        "RequestID": "r", "ClientID": "c", "Channel": "conn.slow", "MaxNumberOfMessages": 1,
        "WaitTimeSeconds": 4,
    });
    assert_eq!(
        broker.post("/queue/receive", &poll).data(),
        json!({"RequestID": "r"})
    );
    broker.end();
}

#[test]
fn clients_that_go_while_their_messages_are_read_hold_nothing_up() {
    let broker = HttpBroker::start(1);
    let body = base64(vec![7; 6 << 20]);
    let message = json!({"ClientID": "c", "Channel": "conn.gone", "Body": body}).to_string();
    for _ in 0..4 {
        let mut raw = Raw::connect(broker.rest());
        assert!(raw.post("/queue/send", "", &message));
        raw.vanish();
    }
    broker.broker.assert_nothing_left();
    // It waits for the threads that read them, and ends.
    broker.end();
}

#[test]
fn what_is_no_http_is_refused_and_leaves_nothing_behind() {
    let broker = HttpBroker::start(1);
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000));
    let wrong = [
        "\u{1}\u{2}\u{3}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        &long,
        &many,
    ];
    for bytes in wrong {
        let mut raw = Raw::connect(broker.rest());
        raw.write(bytes);
        let answer = String::from_utf8(raw.end()).unwrap();
        let is_refusal = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refusal, "{:?}: {answer}", bytes.get(..40));
    }
    // A body that breaks off in the middle of a chunk is no message.
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write(
        "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    ));
    assert!(!String::from_utf8(raw.end()).unwrap().contains("\"Sent\""));
    broker.broker.assert_nothing_left();
    broker.end();
}

#[test]
fn old_clients_and_odd_targets_are_served() {
    let broker = HttpBroker::start(1);
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write("GET / HTTP/1.0\r\n\r\n"));
    assert_eq!(raw.response().text, "hi");
    assert_eq!(raw.end(), b"");
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write("GET http://elsewhere/ping?x=%zz&y HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(raw.response().data()["Version"], "v2.6.0");
    assert!(raw.write("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(raw.response().status, 204);
    drop(raw);
    broker.end();
}

#[test]
fn many_clients_at_a_time_are_served_each_for_itself() {
    const CLIENTS: usize = 64;
    const ROUNDS: usize = 10;
    let broker = HttpBroker::start(2);
    let ready = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (broker, ready) = (&broker, &ready);
            scope.spawn(move || {
                let mut raw = Raw::connect(broker.rest());
                let channel = format!("conn.queue.{client}");
                ready.wait();
                for round in 0..ROUNDS {
                    let id = format!("m{client}-{round}");
                    let message = json!({
                        "MessageID": id, "ClientID": "c", "Channel": channel, "Metadata": "m",
                    });
                    raw.post("/queue/send", "", &message.to_string());
                    assert_eq!(raw.response().data()["MessageID"], *id);
                    let receive = json!({
                        "ClientID": "c", "Channel": channel, "MaxNumberOfMessages": 1,
                        "WaitTimeSeconds": 30,
                    });
                    raw.post("/queue/receive", "", &receive.to_string());
                    let data = raw.response().data();
                    assert_eq!(data["Messages"][0]["MessageID"], *id);
                }
            });
        }
    });
    broker.broker.assert_nothing_left();
    broker.end();
}
