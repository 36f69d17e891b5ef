//! Subscriptions of pages, and the stream of one queue message at a time.

use serde_json::{Value, json};

use crate::api::done;
use crate::api_monitor::Socket;
use crate::broker::{HttpBroker, PATIENCE, websocket};
use crate::contract;
use crate::harness::poll;

fn refusal(broker: &HttpBroker, path: &str) -> String {
    let answer = websocket(broker.api(), path).unwrap_err();
    assert_eq!(answer.status, 200, "{answer:?}");
    let envelope = answer.json();
    assert_eq!(envelope["error"], true);
    assert_eq!(envelope["data"], Value::Null);
    envelope["error_string"].as_str().unwrap().to_owned()
}

#[test]
fn subscriptions_that_cannot_be_are_refused_before_the_socket_opens() {
    let broker = HttpBroker::start(1);
    let invalid = "invalid subscription type, valid values are 1,2,3,4,5,6";
    let stored = "/api/subscribe/pubsub?subscribe_type=events_store&channel=a&client_id=x";
    for (path, text) in [
        ("/api/subscribe/pubsub", "unknown subscribe type: "),
        (
            "/api/subscribe/pubsub?subscribe_type=foo",
            "unknown subscribe type: foo",
        ),
        (
            "/api/subscribe/pubsub?subscribe_type=events",
            "Error 102: invalid channel value, cannot be empty",
        ),
        (&format!("{stored}&events_store_type_data=9"), invalid),
        (stored, invalid),
        (
            "/api/subscribe/pubsub?subscribe_type=events_store&channel=a&events_store_type_data=2",
            "Error 101: invalid clientID value, cannot be empty",
        ),
        ("/api/subscribe/cqrs", "unknown subscribe type: "),
        (
            "/api/subscribe/cqrs?subscribe_type=commands",
            "Error 102: invalid channel value, cannot be empty",
        ),
    ] {
        assert_eq!(refusal(&broker, path), text, "{path}");
    }
    let time = format!("{stored}&events_store_type_data=5&events_store_type_value=zzz");
    let error = refusal(&broker, &time);
    assert!(
        error.starts_with("error parsing time value, error: "),
        "{error}"
    );
    let plain = broker.api_get("/api/stream_queue_messages");
    assert_eq!(plain.status, 400);
    broker.end();
}

#[test]
fn events_reach_a_page_however_they_are_sent() {
    let broker = HttpBroker::start(2);
    let path = "/api/subscribe/pubsub?subscribe_type=events&channel=news.*";
    let mut socket = Socket::open(&broker, path);
    let sent = json!({"channel": "news.a", "body": {"q": 1}, "isEvents": true, "tags": "a=1",
        "metadata": "mm", "messageId": "x1"});
    done(&broker, "send_pubsub_message", &sent);
    let mut shown = socket.json();
    let at = shown.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(at.as_i64().unwrap() > 1_500_000_000_000, "milliseconds");
    let expected = json!({"messageId": "x1", "metadata": "mm", "body": {"q": 1},
        "tags": "{\"a\":\"1\"}"});
    assert_eq!(shown, expected);
    assert!(contract::send_event(broker.grpc(), &contract::event("news.b", false)).sent);
    assert!(socket.json()["messageId"].is_string());
    // What it says is of no interest.
    socket.say("hello");
    done(&broker, "send_pubsub_message", &sent);
    assert_eq!(socket.json()["messageId"], "x1");
    socket.close();
    broker.end();
}

#[test]
fn stored_events_are_replayed_and_the_position_moves() {
    let broker = HttpBroker::start(2);
    for id in ["s1", "s2", "s3"] {
        let sent = json!({"channel": "kept", "body": id, "messageId": id});
        done(&broker, "send_pubsub_message", &sent);
    }
    let path = "/api/subscribe/pubsub?subscribe_type=events_store&channel=kept&client_id=page\
        &events_store_type_data=2";
    let mut socket = Socket::open(&broker, path);
    for (sequence, id) in (1..).zip(["s1", "s2", "s3"]) {
        let shown = socket.json();
        assert_eq!(
            (&shown["messageId"], &shown["sequence"]),
            (&json!(id), &json!(sequence))
        );
        assert_eq!(shown["metadata"], "");
    }
    let second = socket.alive_during(|| refusal(&broker, path));
    assert_eq!(second, "stan: clientID already registered");
    socket.close();
    // It moves with the answer to the ping behind them: once the first is not replayed, it has.
    let moved = poll(PATIENCE, || {
        let sent = json!({"channel": "kept", "body": "more"});
        done(&broker, "send_pubsub_message", &sent);
        let mut socket = Socket(websocket(broker.api(), path).ok()?);
        let first = socket.json()["messageId"] == "s1";
        socket.is_silent();
        socket.close();
        (!first).then_some(())
    });
    assert!(moved.is_some(), "the page has them");
    broker.end();
}

#[test]
fn a_page_answers_queries() {
    let broker = HttpBroker::start(2);
    let path = "/api/subscribe/cqrs?subscribe_type=queries&channel=ask";
    let mut responder = Socket::open(&broker, path);
    let asked = json!({"requestId": "r1", "channel": "ask", "body": "x", "isCommands": false,
        "timeout": 20, "tags": "a=b"});
    let answered = std::thread::scope(|scope| {
        let asking = scope.spawn(|| done(&broker, "send_cqrs_message_request", &asked));
        let mut request = responder.json();
        let fields = request.as_object_mut().unwrap();
        assert!(fields.remove("timestamp").unwrap().is_i64());
        let reply = fields.remove("replyChannel").unwrap();
        let expected = json!({"requestId": "r1", "metadata": "", "body": "x",
            "tags": "{\"a\":\"b\"}", "isCommand": false});
        assert_eq!(request, expected);
        let answer = json!({"requestId": "r1", "replyChannel": reply, "body": {"ok": 1},
            "executed": true, "metadata": "rm", "tags": "c=d"});
        done(&broker, "send_cqrs_message_response", &answer);
        asking.join().unwrap()
    });
    let mut answered = answered;
    assert!(
        answered
            .as_object_mut()
            .unwrap()
            .remove("timestamp")
            .is_some()
    );
    let expected = json!({"metadata": "rm", "body": {"ok": 1}, "tags": "{\"c\":\"d\"}",
        "executed": true});
    assert_eq!(answered, expected);
    broker.end();
}

fn send(broker: &HttpBroker, channel: &str, id: &str) {
    let message = json!({"channel": channel, "body": id, "messageId": id});
    done(broker, "send_queue_message", &message);
}

fn poll_of(channel: &str, visibility: u32, wait: u32) -> Value {
    json!({"requestType": "stream_queue_messages", "channel": channel,
        "visibilitySeconds": visibility, "waitSeconds": wait})
}

fn settle(action: &str, sequence: u64) -> Value {
    json!({"requestType": action, "refSequence": sequence})
}

#[test]
fn one_queue_message_at_a_time_is_polled_and_settled() {
    let broker = HttpBroker::start(2);
    send(&broker, "q", "s1");
    send(&broker, "q", "s2");
    let mut socket = Socket::open(&broker, "/api/stream_queue_messages");
    let polled = socket.ask(&poll_of("q", 20, 5));
    assert_eq!(polled["requestType"], "stream_queue_messages");
    assert_eq!(
        (&polled["isError"], &polled["error"]),
        (&json!(false), &json!(""))
    );
    assert_eq!(polled["message"]["messageId"], "s1");
    assert_eq!(polled["message"]["receivedCount"], 1);
    let second = socket.ask(&poll_of("q", 20, 5));
    assert_eq!(
        second["error"],
        "error polling queue messages, previous request is not finished yet"
    );
    let acked = socket.ask(&settle("ack_queue_messages", 1));
    let expected = json!({"requestType": "ack_queue_messages", "message": null, "error": "",
        "isError": false});
    assert_eq!(acked, expected);
    let none = socket.ask(&settle("ack_queue_messages", 1));
    assert_eq!(
        (&none["error"], &none["isError"]),
        (&json!("no active stream"), &json!(true))
    );

    let polled = socket.ask(&poll_of("q", 20, 5));
    assert_eq!(polled["message"]["messageId"], "s2");
    let rejected = socket.ask(&settle("reject_queue_messages", 2));
    assert_eq!(rejected["isError"], false, "{rejected}");
    let polled = socket.ask(&poll_of("q", 20, 5));
    assert_eq!(polled["message"]["receivedCount"], 2, "it comes again");

    // What is no request is passed over, and the socket lives on.
    socket.say(json!({"requestType": "zzz"}).to_string());
    assert!(socket.is_silent());
    let acked = socket.ask(&settle("ack_queue_messages", 3));
    assert_eq!(acked["isError"], false, "{acked}");
    socket.close();
    assert!(contract::receive(broker.grpc(), "q", true).is_empty());
    broker.end();
}

#[test]
fn wait_and_visibility_are_what_the_page_says() {
    let broker = HttpBroker::start(1);
    let mut socket = Socket::open(&broker, "/api/stream_queue_messages");
    let nothing = socket.ask(&poll_of("q", 1, 1));
    assert_eq!(
        nothing["error"],
        "Error 138: no new message in queue, wait time expired"
    );
    assert_eq!(nothing["isError"], true);
    send(&broker, "q", "s1");
    let polled = socket.ask(&poll_of("q", 1, 5));
    assert_eq!(polled["message"]["messageId"], "s1");
    let expired = socket.json();
    assert_eq!(
        expired["error"],
        "Error 129: current visibility timer expired"
    );
    let late = socket.ask(&settle("ack_queue_messages", 1));
    assert_eq!(late["error"], "no active stream");
    let polled = socket.ask(&poll_of("q", 20, 5));
    assert_eq!(polled["message"]["receivedCount"], 2);
    for (asked, text) in [
        (
            json!({"requestType": "stream_queue_messages"}),
            "previous request",
        ),
        (settle("ack_queue_messages", 0), "ref sequence"),
    ] {
        let error = socket.ask(&asked)["error"].clone();
        assert!(error.as_str().unwrap().contains(text), "{error}");
    }
    broker.end();
}

#[test]
fn polls_that_say_too_little_are_refused() {
    let broker = HttpBroker::start(1);
    let mut socket = Socket::open(&broker, "/api/stream_queue_messages");
    for (asked, text) in [
        (poll_of("", 1, 1), "channel not set"),
        (
            poll_of("q", 0, 1),
            "visibility seconds must be greater than 0",
        ),
        (poll_of("q", 1, 0), "wait seconds must be greater than 0"),
        (json!([1]), "code=400, message=Unmarshal type error"),
    ] {
        let answer = socket.ask(&asked);
        assert_eq!(answer["isError"], true, "{answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(text), "{error}");
    }
    socket.say("{bad");
    let error = socket.json();
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .starts_with("code=400, message=Syntax error")
    );
    broker.end();
}

#[test]
fn what_a_page_held_comes_back_when_it_has_gone() {
    let broker = HttpBroker::start(2);
    send(&broker, "q", "s1");
    let hold = || {
        let mut socket = Socket::open(&broker, "/api/stream_queue_messages");
        let polled = socket.ask(&poll_of("q", 600, 20));
        let count = polled["message"]["receivedCount"].as_i64().unwrap();
        (socket, count)
    };
    let (socket, count) = hold();
    assert_eq!(count, 1);
    socket.close();
    let (socket, count) = hold();
    assert_eq!(count, 1, "given back in order: not received");
    socket.vanish();
    let (socket, count) = hold();
    assert_eq!(count, 2, "lost: received once more");
    socket.close();
    broker.end();
}
