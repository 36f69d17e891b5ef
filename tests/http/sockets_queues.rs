//! Queues over WebSockets: the stream of one message, and the two of batches.

use serde_json::{Value, json};

use crate::broker::{HttpBroker, PATIENCE, base64};
use crate::harness::poll;
use crate::sockets::{Socket, wait_gone};

/// Longer than any test takes: what comes back comes back before it.
const HOUR: u64 = 3600;

/// Sends messages by REST; their bodies are their ids.
fn send(broker: &HttpBroker, channel: &str, ids: &[&str]) {
    for id in ids {
        let result = broker.post("/queue/send", &message(id, channel)).data();
        assert_eq!(result["IsError"], Value::Null, "{result}");
    }
}

fn message(id: &str, channel: &str) -> Value {
    json!({"MessageID": id, "ClientID": "s", "Channel": channel, "Body": base64(id)})
}

/// Receives by REST up to `max` messages, as (id, receive count); waits for the first one.
fn receive(broker: &HttpBroker, channel: &str, max: u32) -> Vec<(String, u64)> {
    let request = json!({
        "ClientID": "c", "Channel": channel, "MaxNumberOfMessages": max, "WaitTimeSeconds": 20,
    });
    received(&broker.post("/queue/receive", &request).data())
}

/// Receives by REST what is there, which must be nothing.
fn assert_empty(broker: &HttpBroker, channel: &str) {
    let request = json!({
        "ClientID": "c", "Channel": channel, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1,
    });
    let data = broker.post("/queue/receive", &request).data();
    assert_eq!(received(&data), [], "{data}");
}

/// Waits until so many messages can be had: what came back and what was sent on is on its way.
fn wait_visible(broker: &HttpBroker, channel: &str, count: usize) {
    let request = json!({
        "ClientID": "c", "Channel": channel, "MaxNumberOfMessages": 100, "WaitTimeSeconds": 1,
        "IsPeak": true,
    });
    let seen = poll(PATIENCE, || {
        let data = broker.post("/queue/receive", &request).data();
        (received(&data).len() >= count).then_some(())
    });
    assert!(seen.is_some(), "{count} messages do not show in {channel}");
}

/// The messages of an answer.
fn received(answer: &Value) -> Vec<(String, u64)> {
    let messages = answer["Messages"].as_array().into_iter().flatten();
    let pairs = messages.map(|message| {
        let id = message["MessageID"].as_str().unwrap().to_owned();
        (id, message["Attributes"]["ReceiveCount"].as_u64().unwrap())
    });
    pairs.collect()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|(id, count)| ((*id).to_owned(), *count))
        .collect()
}

/// A request of the stream of one message.
fn request(kind: u64, channel: &str, fields: &Value) -> Value {
    let mut request = json!({
        "RequestID": format!("r{kind}"), "ClientID": "c", "StreamRequestTypeData": kind,
        "Channel": channel,
    });
    add(&mut request, fields);
    request
}

/// Asks for a message, to be held for long.
fn hold(channel: &str) -> Value {
    request(
        1,
        channel,
        &json!({"VisibilitySeconds": HOUR, "WaitTimeSeconds": 20}),
    )
}

fn add(request: &mut Value, fields: &Value) {
    let request = request.as_object_mut().unwrap();
    request.extend(fields.as_object().unwrap().clone());
}

/// Opens a stream that holds a message; the message.
fn holding(broker: &HttpBroker, channel: &str) -> (Socket, Value) {
    let mut socket = Socket::open(broker, "/queue/stream");
    socket.say(&hold(channel));
    let answer = socket.hear();
    assert_eq!(answer["IsError"], Value::Null, "{answer}");
    (socket, answer["Message"].clone())
}

#[test]
fn a_stream_is_closed_in_order_once_its_message_is_settled() {
    let broker = HttpBroker::start(2);
    send(&broker, "q", &["m0", "m1", "m2", "m3"]);
    let modified = json!({"ModifiedMessage": message("new", "other")});
    for (kind, fields) in [
        (2, json!({"RefSequence": 1})),
        (3, json!({"RefSequence": 2})),
        (5, json!({"Channel": "other"})),
        (6, modified),
    ] {
        let (mut socket, message) = holding(&broker, "q");
        assert_eq!(message["Attributes"]["ReceiveCount"], 1, "{message}");
        socket.say(&request(kind, "q", &fields));
        let answer = json!({"RequestID": format!("r{kind}"), "StreamRequestTypeData": kind});
        assert_eq!(socket.last_words(), (vec![answer], Some(1000)));
    }
    assert_eq!(receive(&broker, "q", 10), pairs(&[("m1", 2)]));
    assert_eq!(
        receive(&broker, "other", 10),
        pairs(&[("m2", 1), ("new", 1)])
    );
    assert_empty(&broker, "q");
    broker.end();
}

#[test]
fn errors_of_a_stream_are_answered_and_it_goes_on() {
    let broker = HttpBroker::start(1);
    let mut socket = Socket::open(&broker, "/queue/stream");
    for (request, number) in [
        (request(1, "q", &json!({"ClientID": ""})), 101),
        (request(1, "", &json!({})), 120),
        (request(2, "q", &json!({"RefSequence": 1})), 124),
        (request(3, "q", &json!({})), 125),
        (request(0, "q", &json!({})), 132),
        (request(9, "q", &json!({})), 132),
        (request(1, "q", &json!({"VisibilitySeconds": 999_999})), 127),
    ] {
        socket.say(&request);
        let answer = socket.hear();
        let error = answer["Error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("Error {number}: ")),
            "{request}: {error}"
        );
        assert_eq!(answer["RequestID"], request["RequestID"]);
    }
    // What it cannot read it has always passed over.
    socket.say_text("{bad");
    socket.say_binary(hold("q").to_string());
    assert!(socket.is_silent());
    send(&broker, "q", &["m0"]);
    socket.say(&hold("q"));
    assert_eq!(socket.hear()["Message"]["MessageID"], "m0");
    socket.say(&hold("q"));
    let second = socket.hear();
    assert_eq!(
        second["Error"],
        "Error 128: subscription to queue is already active"
    );
    socket.say(&request(4, "q", &json!({"VisibilitySeconds": 1})));
    let (texts, code) = socket.last_words();
    assert_eq!(
        texts[0],
        json!({"RequestID": "r4", "StreamRequestTypeData": 4})
    );
    assert_eq!(
        texts[1]["Error"],
        "Error 129: current visibility timer expired"
    );
    assert_eq!(code, Some(1000));

    let mut socket = Socket::open(&broker, "/queue/stream");
    socket.say(&request(1, "empty", &json!({"WaitTimeSeconds": 1})));
    let (texts, code) = socket.last_words();
    assert_eq!(
        texts[0]["Error"],
        "Error 138: no new message in queue, wait time expired"
    );
    assert_eq!(code, Some(1000));
    broker.end();
}

#[test]
fn what_a_vanished_client_held_is_there_at_once_with_its_count_moved_on() {
    let broker = HttpBroker::start(2);
    send(&broker, "held", &["m0"]);
    let (socket, message) = holding(&broker, "held");
    assert_eq!(message["MessageID"], "m0");
    socket.vanish();
    assert_eq!(receive(&broker, "held", 1), pairs(&[("m0", 2)]));
    send(&broker, "held", &["m1"]);
    // An end without a reset and without a close frame is no better.
    let (socket, _) = holding(&broker, "held");
    drop(socket);
    assert_eq!(receive(&broker, "held", 1), pairs(&[("m1", 2)]));
    broker.end();
}

#[test]
fn what_a_client_held_that_closed_is_there_as_if_it_had_not_been_taken() {
    let broker = HttpBroker::start(2);
    send(&broker, "back", &["m0"]);
    let (socket, _) = holding(&broker, "back");
    socket.leave();
    assert_eq!(receive(&broker, "back", 1), pairs(&[("m0", 1)]));
    broker.end();
}

#[test]
fn batches_go_up_and_each_has_its_answer_in_order() {
    let broker = HttpBroker::start(2);
    let mut socket = Socket::open(&broker, "/queue/upstream");
    for number in 0..50 {
        let messages: Vec<_> = (0..4)
            .map(|place| message(&format!("{number}.{place}"), "up"))
            .collect();
        socket.write(&json!({"RequestID": format!("b{number}"), "Messages": messages}));
        if number % 10 == 0 {
            socket.say_text(&format!("{{\"RequestID\":\"bad{number}\",\"Messages\":7}}"));
        }
    }
    socket.write(
        &json!({"RequestID": "partly", "Messages": [message("good", "up"), message("bad", "")]}),
    );
    socket.write(&json!({"RequestID": "none", "Messages": []}));
    socket.flush();
    for number in 0..50 {
        let answer = socket.hear();
        assert_eq!(answer["RefRequestID"], format!("b{number}"), "{answer}");
        let results = answer["Results"].as_array().unwrap();
        let ids: Vec<_> = results
            .iter()
            .map(|result| result["MessageID"].as_str().unwrap())
            .collect();
        let expected: Vec<_> = (0..4).map(|place| format!("{number}.{place}")).collect();
        assert_eq!(ids, expected);
        if number % 10 == 0 {
            let answer = socket.hear();
            assert_eq!(answer["RefRequestID"], format!("bad{number}"), "{answer}");
            assert_eq!(answer["IsError"], true);
        }
    }
    let partly = socket.hear();
    assert_eq!(partly["Results"][0]["IsError"], Value::Null, "{partly}");
    assert_eq!(partly["Results"][1]["IsError"], true, "{partly}");
    let none = socket.hear();
    assert_eq!(
        (&none["RefRequestID"], &none["IsError"]),
        (&json!("none"), &json!(true))
    );
    socket.leave();
    assert_eq!(receive(&broker, "up", 1000).len(), 201);
    broker.end();
}

/// A request of the stream of transactions.
fn downstream(kind: u64, fields: &Value) -> Value {
    let mut request = json!({
        "RequestID": format!("d{kind}"), "ClientID": "c", "RequestTypeData": kind,
    });
    add(&mut request, fields);
    request
}

fn get(channel: &str, max: u64, auto_ack: bool) -> Value {
    let fields = json!({
        "Channel": channel, "MaxItems": max, "WaitTimeout": 20_000, "AutoAck": auto_ack,
    });
    downstream(1, &fields)
}

#[test]
fn transactions_come_down_and_are_settled_by_ranges() {
    let broker = HttpBroker::start(2);
    send(&broker, "down", &["m1", "m2", "m3", "m4", "m5"]);
    let mut socket = Socket::open(&broker, "/queue/downstream");
    socket.say(&get("down", 5, false));
    let answer = socket.hear();
    assert_eq!(answer["RefRequestId"], "d1", "{answer}");
    assert_eq!(received(&answer).len(), 5);
    let transaction = answer["TransactionId"].clone();
    let settle = |kind, range: &[u64]| {
        downstream(
            kind,
            &json!({"RefTransactionId": transaction, "SequenceRange": range}),
        )
    };
    // Acknowledged, returned, and sent elsewhere: successes are silent.
    socket.say(&settle(3, &[1, 2]));
    socket.say(&settle(5, &[3]));
    let mut requeue = settle(7, &[4]);
    requeue["ReQueueChannel"] = json!("aside");
    socket.say(&requeue);
    socket.say(&downstream(8, &json!({"RefTransactionId": transaction})));
    let offsets = socket.hear();
    assert_eq!(offsets["ActiveOffsets"], json!([5]), "{offsets}");
    socket.say(&settle(3, &[4]));
    let refused = socket.hear();
    assert_eq!(refused["IsError"], true, "{refused}");
    socket.say_text("{\"RequestID\":\"d0\",\"MaxItems\":\"x\"}");
    let flawed = socket.hear();
    assert_eq!(
        (&flawed["RefRequestId"], &flawed["IsError"]),
        (&json!("d0"), &json!(true))
    );
    socket.leave();
    // The one that was returned is behind the one that was never settled.
    wait_visible(&broker, "down", 2);
    assert_eq!(receive(&broker, "down", 10), pairs(&[("m5", 1), ("m3", 2)]));
    assert_eq!(receive(&broker, "aside", 10), pairs(&[("m4", 1)]));
    broker.end();
}

#[test]
fn a_vanished_client_takes_nothing_with_it_not_even_what_it_waits_for() {
    let broker = HttpBroker::start(2);
    send(&broker, "taken", &["m1", "m2"]);
    let mut holder = Socket::open(&broker, "/queue/downstream");
    holder.say(&get("taken", 2, false));
    assert_eq!(received(&holder.hear()).len(), 2);
    let mut waiting = Socket::open(&broker, "/queue/downstream");
    waiting.say(&get("awaited", 1, true));
    assert!(waiting.is_silent());
    holder.vanish();
    waiting.vanish();
    wait_gone(&broker);
    let mut back = receive(&broker, "taken", 2);
    if back.len() < 2 {
        back.extend(receive(&broker, "taken", 2));
    }
    assert_eq!(back, pairs(&[("m1", 2), ("m2", 2)]));
    send(&broker, "awaited", &["m3"]);
    assert_eq!(receive(&broker, "awaited", 1), pairs(&[("m3", 1)]));
    broker.end();
}

#[test]
fn a_client_that_does_not_read_holds_no_more_than_fits_and_gives_it_back() {
    let broker = HttpBroker::start(1);
    let body = base64("x".repeat(64 << 10));
    let mut publisher = Socket::open(&broker, "/queue/upstream");
    for number in 0..20 {
        let messages: Vec<_> = (0..10)
            .map(|place| {
                let mut message = message(&format!("{number}.{place}"), "much");
                message["Body"] = json!(body);
                message
            })
            .collect();
        publisher.say(&json!({"RequestID": "b", "Messages": messages}));
        assert_eq!(publisher.hear()["IsError"], Value::Null);
    }
    // Each of them asks for all that an answer can hold, and reads nothing.
    let silent: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = Socket::open(&broker, "/queue/downstream");
            socket.say(&get("much", 1000, false));
            socket
        })
        .collect();
    silent.into_iter().for_each(Socket::vanish);
    let mut count = 0;
    while count < 200 {
        let messages = receive(&broker, "much", 1000);
        assert!(!messages.is_empty(), "{count} of 200 came back");
        count += messages.len();
    }
    assert_empty(&broker, "much");
    broker.end();
}
