//! Server-sent events: monitors and subscriptions for browsers and `curl -N`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::api::done;
use crate::broker::{HttpBroker, PATIENCE};
use crate::contract;

/// A reader of events.
struct Events {
    lines: BufReader<TcpStream>,
    /// What a chunk has left.
    piece: String,
}

/// One event: its name, its id, its data.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: String,
}

impl Event {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    /// Asks for events, and waits until they are live.
    fn open(broker: &HttpBroker, path: &str, last: Option<&str>) -> Self {
        let mut events = Self::ask(broker, path, last);
        let mut opening = String::new();
        while !opening.contains(": connected\n\n") {
            assert!(events.fill(), "{opening}");
            opening.push_str(&std::mem::take(&mut events.piece));
        }
        events
    }

    fn ask(broker: &HttpBroker, path: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(broker.api()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let last = last.unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{last}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let piece = String::new();
        Self { lines, piece }
    }

    /// Reads the next chunk; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut size = String::new();
        if self.lines.read_line(&mut size).unwrap() == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        std::io::Read::read_exact(&mut self.lines, &mut chunk).unwrap();
        chunk.truncate(size);
        self.piece.push_str(&String::from_utf8(chunk).unwrap());
        size > 0
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.piece.find("\n\n") {
                let text: String = self.piece.drain(..at + 2).collect();
                let mut event = Event::default();
                for line in text.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = id.to_owned(),
                        Some(("data", data)) => event.data.push_str(data),
                        _ => {}
                    }
                }
                if !event.data.is_empty() {
                    return Some(event);
                }
            } else if !self.fill() {
                return None;
            }
        }
    }
}

#[test]
fn monitors_of_every_kind_stream_events() {
    let broker = HttpBroker::start(2);
    let grpc = broker.grpc();
    let open = |kind: &str| {
        let path = format!("/api/monitor?kind={kind}&channel=watched");
        Events::open(&broker, &path, None)
    };
    let (mut events, mut stored) = (open("events"), open("events_store"));
    let (mut queue, mut commands) = (open("queue"), open("commands"));
    assert!(contract::send_event(grpc, &contract::event("watched", false)).sent);
    assert!(contract::send_event(grpc, &contract::event("watched", true)).sent);
    assert!(!contract::send_queue(grpc, &contract::queue_message("watched")).is_error);
    assert!(events.next().unwrap().json()["messageId"].is_string());
    assert_eq!(stored.next().unwrap().json()["sequence"], 1);
    assert_eq!(queue.next().unwrap().json()["sequence"], 1);
    let asked = json!({"requestId": "r1", "channel": "watched", "body": "x",
        "isCommands": true, "timeout": 1});
    crate::api::act(&broker, "send_cqrs_message_request", &asked);
    assert_eq!(commands.next().unwrap().json()["requestId"], "r1");
    broker.end();
}

#[test]
fn a_reader_of_stored_events_goes_on_behind_what_it_names() {
    let broker = HttpBroker::start(2);
    for id in ["s1", "s2", "s3"] {
        let sent = json!({"channel": "kept", "body": id, "messageId": id});
        done(&broker, "send_pubsub_message", &sent);
    }
    let path = |client: &str| {
        format!(
            "/api/subscribe/pubsub?subscribe_type=events_store&channel=kept&client_id={client}\
             &events_store_type_data=2"
        )
    };
    let mut events = Events::open(&broker, &path("first"), None);
    for id in 1..=3 {
        let event = events.next().unwrap();
        assert_eq!(event.id, id.to_string());
        assert_eq!(event.json()["sequence"], id);
    }
    let mut events = Events::open(&broker, &path("second"), Some("2"));
    assert_eq!(events.next().unwrap().json()["messageId"], "s3");
    broker.end();
}

#[test]
fn events_and_requests_stream_to_readers_until_the_broker_ends() {
    let broker = HttpBroker::start(2);
    let path = "/api/subscribe/pubsub?subscribe_type=events&channel=news";
    let mut news = Events::open(&broker, path, None);
    let path = "/api/subscribe/cqrs?subscribe_type=commands&channel=ask";
    let mut asked = Events::open(&broker, path, None);
    done(
        &broker,
        "send_pubsub_message",
        &json!({"channel": "news", "body": "x", "isEvents": true, "messageId": "n1"}),
    );
    assert_eq!(news.next().unwrap().json()["messageId"], "n1");
    let request = json!({"requestId": "r1", "channel": "ask", "body": "x", "isCommands": true,
        "timeout": 20});
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| done(&broker, "send_cqrs_message_request", &request));
        let shown = asked.next().unwrap().json();
        let answer = json!({"requestId": "r1", "replyChannel": shown["replyChannel"],
            "executed": true});
        done(&broker, "send_cqrs_message_response", &answer);
        assert_eq!(asking.join().unwrap()["executed"], true);
    });
    let mut process = broker.broker;
    process.signal(rustix::process::Signal::TERM);
    let end = news.next().expect("a last word");
    assert_eq!(end.name, "end");
    assert_eq!(end.json()["error"], true);
    assert!(news.next().is_none());
    process.assert_exits_0();
}
