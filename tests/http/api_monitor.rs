//! Monitors: what passes over a channel, of every kind, from any core, consumed by nobody.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringmq_proto::kubemq;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::api::{act, done};
use crate::broker::{HttpBroker, websocket};
use crate::contract;

/// A socket of the management port.
pub(crate) struct Socket(pub(crate) WebSocket<TcpStream>);

impl Socket {
    pub(crate) fn open(broker: &HttpBroker, path: &str) -> Self {
        let opened = websocket(broker.api(), path);
        Self(opened.unwrap_or_else(|answer| panic!("{path}: {answer:?}")))
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).unwrap();
    }

    /// The next text.
    pub(crate) fn text(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return text.as_str().to_owned(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    pub(crate) fn json(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        self.say(question.to_string());
        self.json()
    }

    /// Whether nothing comes for a moment.
    pub(crate) fn is_silent(&mut self) -> bool {
        let moment = Some(Duration::from_millis(300));
        self.0.get_ref().set_read_timeout(moment).unwrap();
        let silent = self.0.read().is_err();
        let patience = Some(crate::broker::PATIENCE);
        self.0.get_ref().set_read_timeout(patience).unwrap();
        silent
    }

    /// Answers pings while something else is done.
    pub(crate) fn alive_during<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let over = AtomicBool::new(false);
        let moment = Some(Duration::from_millis(20));
        self.0.get_ref().set_read_timeout(moment).unwrap();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _mostly_nothing = self.0.read();
                }
            });
            let result = act();
            over.store(true, Ordering::Relaxed);
            result
        });
        let patience = Some(crate::broker::PATIENCE);
        self.0.get_ref().set_read_timeout(patience).unwrap();
        result
    }

    /// Closes in order, and waits for the answer.
    pub(crate) fn close(mut self) {
        self.0.close(None).unwrap();
        while self.0.read().is_ok() {}
    }

    /// Is gone without a word.
    pub(crate) fn vanish(self) {
        socket2::SockRef::from(self.0.get_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// A monitor that was started.
fn monitor(broker: &HttpBroker, kind: &str, channel: &str) -> Socket {
    let mut socket = Socket::open(
        broker,
        &format!("/api/monitor?kind={kind}&channel={channel}"),
    );
    socket.say("start");
    let answer = socket.text();
    assert!(answer.ends_with(" Broker connected."), "{answer}");
    socket
}

#[test]
fn a_monitor_does_what_it_is_told() {
    let broker = HttpBroker::start(2);
    let mut socket = Socket::open(&broker, "/v1/stats/attach?kind=events&channel=m.one");
    socket.say("hello");
    assert_eq!(socket.text(), "Unknown command");
    let publish = |id: &str| {
        let event = json!({"channel": "m.one", "body": "x", "isEvents": true, "messageId": id});
        done(&broker, "send_pubsub_message", &event);
    };
    for round in ["first", "second"] {
        socket.say("start");
        assert!(socket.text().ends_with(" Broker connected."));
        // Once more changes nothing.
        socket.say("start");
        assert!(socket.text().ends_with(" Broker connected."));
        publish(round);
        assert_eq!(socket.json()["messageId"], round);
        socket.say("stop");
        assert_eq!(socket.text(), "Broker disconnected.");
    }
    publish("unseen");
    assert!(socket.is_silent());
    socket.close();
    broker.end();
}

#[test]
fn what_cannot_be_watched_is_answered_with_nothing() {
    let broker = HttpBroker::start(1);
    for query in [
        "",
        "?channel=x",
        "?kind=events",
        "?channel=x&kind=zz",
        "?channel=x&kind=queues",
        "?channel=a.*&kind=events",
        "?channel=a+b&kind=queue",
    ] {
        let answer = websocket(broker.api(), &format!("/api/monitor{query}")).unwrap_err();
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{query}");
    }
    let plain = broker.api_get("/api/monitor?channel=x&kind=events");
    assert_eq!(plain.status, 400);
    assert!(plain.text.contains("text/event-stream"), "{plain:?}");
    broker.end();
}

#[test]
fn events_are_seen_as_they_pass_on_every_core() {
    let broker = HttpBroker::start(2);
    let grpc = broker.grpc();
    // Names of both owners; publishers and viewers are spread over the cores.
    for number in 0..8 {
        let channel = format!("watched.{number}");
        let mut socket = monitor(&broker, "events", &channel);
        let event = kubemq::Event {
            event_id: "e1".to_owned(),
            metadata: "md".to_owned(),
            body: b"{\"a\":1}".as_slice().into(),
            tags: contract::tags(&[("k", "v")]),
            ..contract::event(&channel, false)
        };
        assert!(contract::send_event(grpc, &event).sent);
        let expected = json!({"messageId": "e1", "metadata": "md", "body": {"a": 1},
            "tags": "{\"k\":\"v\"}"});
        assert_eq!(socket.json(), expected);
        // Stored events of that name are another channel's.
        assert!(contract::send_event(grpc, &contract::event(&channel, true)).sent);
        assert!(socket.is_silent());
    }
    broker.end();
}

#[test]
fn stored_events_are_seen_when_they_are_stored() {
    let broker = HttpBroker::start(2);
    let grpc = broker.grpc();
    for number in 0..4 {
        let channel = format!("watched.{number}");
        assert!(contract::send_event(grpc, &contract::event(&channel, true)).sent);
        let mut socket = monitor(&broker, "events_store", &channel);
        for sequence in 2..5 {
            assert!(contract::send_event(grpc, &contract::event(&channel, true)).sent);
            let shown = socket.json();
            assert_eq!(shown["sequence"], sequence);
            assert!(
                shown["timestamp"].as_str().unwrap().ends_with('Z'),
                "{shown}"
            );
        }
    }
    broker.end();
}

#[test]
fn queue_messages_are_seen_and_stay_where_they_are() {
    let broker = HttpBroker::start(2);
    let grpc = broker.grpc();
    for number in 0..4 {
        let channel = format!("watched.{number}");
        // The queue is made by its first message.
        let mut socket = monitor(&broker, "queue", &channel);
        let message = kubemq::QueueMessage {
            message_id: "q1".to_owned(),
            body: b"plain".as_slice().into(),
            tags: contract::tags(&[]),
            policy: Some(kubemq::QueueMessagePolicy {
                expiration_seconds: 100,
                ..kubemq::QueueMessagePolicy::default()
            }),
            ..contract::queue_message(&channel)
        };
        assert!(!contract::send_queue(grpc, &message).is_error);
        let shown = socket.json();
        assert_eq!(shown["messageId"], "q1");
        assert_eq!(shown["body"], "plain");
        assert_eq!(shown["sequence"], 1);
        assert!(shown["expirationAt"].is_string(), "{shown}");
        assert_eq!(shown.get("receivedCount"), None);
        let kept = contract::receive(grpc, &channel, false);
        assert_eq!(kept.len(), 1, "a look takes nothing");
        assert_eq!(kept[0].attributes.as_ref().unwrap().receive_count, 1);
    }
    broker.end();
}

#[test]
fn a_monitor_sees_what_is_new_and_not_what_comes_back() {
    let broker = HttpBroker::start(1);
    let mut socket = monitor(&broker, "queue", "q");
    let send = |id: &str| {
        done(
            &broker,
            "send_queue_message",
            &json!({"channel": "q", "body": "x", "messageId": id}),
        );
    };
    send("m1");
    assert_eq!(socket.json()["messageId"], "m1");
    let mut stream = Socket::open(&broker, "/api/stream_queue_messages");
    let polled = stream.ask(
        &json!({"requestType": "stream_queue_messages", "channel": "q",
        "visibilitySeconds": 20, "waitSeconds": 5}),
    );
    assert_eq!(polled["message"]["messageId"], "m1");
    let rejected = stream.ask(&json!({"requestType": "reject_queue_messages", "refSequence": 1}));
    assert_eq!(rejected["isError"], false, "{rejected}");
    send("m2");
    // The tail got number 2 in between.
    let shown = socket.json();
    assert_eq!(
        (shown["messageId"].clone(), shown["sequence"].clone()),
        (json!("m2"), json!(3))
    );
    broker.end();
}

#[test]
fn requests_are_seen_with_their_answers() {
    let broker = HttpBroker::start(2);
    for (kind, is_command) in [("commands", true), ("queries", false)] {
        for number in 0..3 {
            let channel = format!("asked.{kind}.{number}");
            let mut socket = monitor(&broker, kind, &channel);
            let mut responder = Socket::open(
                &broker,
                &format!("/api/subscribe/cqrs?subscribe_type={kind}&channel={channel}"),
            );
            let asked = json!({"requestId": "r1", "channel": channel, "body": "question",
                "isCommands": is_command, "timeout": 20, "tags": "a=b"});
            let answered = std::thread::scope(|scope| {
                let asking = scope.spawn(|| done(&broker, "send_cqrs_message_request", &asked));
                let request = responder.json();
                assert_eq!(request["isCommand"], is_command);
                let answer = json!({"requestId": "r1", "replyChannel": request["replyChannel"],
                    "body": "answer", "executed": true, "metadata": "m"});
                done(&broker, "send_cqrs_message_response", &answer);
                asking.join().unwrap()
            });
            assert_eq!(answered["executed"], true);
            let expected = json!({"requestId": "r1", "body": "question", "timeout": 20_000,
                "tags": "{\"a\":\"b\"}"});
            assert_eq!(socket.json(), expected);
            let shown = socket.json();
            assert_eq!(shown["requestId"], "r1");
            assert_eq!(shown["body"], "answer");
            assert_eq!(shown["executed"], true);
        }
    }
    broker.end();
}

#[test]
fn a_request_without_an_answer_is_seen_to_its_end() {
    let broker = HttpBroker::start(2);
    let mut socket = monitor(&broker, "commands", "nobody");
    let asked = json!({"requestId": "r1", "channel": "nobody", "body": "x",
        "isCommands": true, "timeout": 1});
    let refused = act(&broker, "send_cqrs_message_request", &asked);
    assert_eq!(refused["error"], true);
    assert_eq!(socket.json()["timeout"], 1_000);
    let end = socket.json();
    assert_eq!(end["requestId"], "r1");
    assert_eq!(end["error"], "Error 301: timeout for request message");
    broker.end();
}

/// A viewer that does not read costs the broker its window, and is told what it has missed.
#[test]
fn who_does_not_look_misses_messages_and_nobody_waits() {
    const EVENTS: usize = 400;
    let broker = HttpBroker::start(2);
    let grpc = broker.grpc();
    let mut socket = monitor(&broker, "events", "flood");
    let event = kubemq::Event {
        body: vec![b'x'; 64 << 10].into(),
        ..contract::event("flood", false)
    };
    for _ in 0..EVENTS {
        assert!(contract::send_event(grpc, &event).sent);
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < EVENTS {
        let shown = socket.json();
        match shown.get("dropped") {
            Some(count) => missed += usize::try_from(count.as_u64().unwrap()).unwrap(),
            None => seen += 1,
        }
    }
    assert_eq!(seen + missed, EVENTS, "each is seen or counted");
    assert!(missed > 0 && seen > 0, "{seen} seen, {missed} missed");
    // And it goes on.
    assert!(contract::send_event(grpc, &contract::event("flood", false)).sent);
    assert!(socket.json().get("messageId").is_some());
    socket.vanish();
    broker.end();
}
