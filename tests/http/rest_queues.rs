//! Queues over REST: what is sent is there once, whoever looks at it and however its receivers end.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::broker::{HttpBroker, PATIENCE, base64, from_base64};
use crate::contract;
use crate::harness::poll;
use crate::mock::broker::counter;
use crate::raw::Raw;

fn message(channel: &str, id: &str) -> Value {
    json!({"MessageID": id, "ClientID": "c", "Channel": channel, "Body": base64(id)})
}

fn receive(channel: &str, items: u32, wait_seconds: u32) -> Value {
    json!({
        "RequestID": "r", "ClientID": "c", "Channel": channel, "MaxNumberOfMessages": items,
        "WaitTimeSeconds": wait_seconds,
    })
}

fn send(broker: &HttpBroker, channel: &str, ids: &[&str]) {
    for id in ids {
        let data = broker.post("/queue/send", &message(channel, id)).data();
        assert_eq!(data["MessageID"], *id);
        assert!(
            data["SentAt"].as_i64().unwrap() > 1_700_000_000_000_000_000,
            "{data}"
        );
    }
}

/// The ids of the messages in an answer.
fn ids(data: &Value) -> Vec<&str> {
    let messages = data.get("Messages").and_then(Value::as_array);
    let messages = messages.into_iter().flatten();
    messages
        .map(|message| message["MessageID"].as_str().unwrap())
        .collect()
}

/// The ids of what waits in a queue.
fn peeked(broker: &HttpBroker, channel: &str) -> Vec<String> {
    let mut request = receive(channel, 100, 1);
    request["IsPeak"] = json!(true);
    let data = broker.post("/queue/receive", &request).data();
    ids(&data).into_iter().map(str::to_owned).collect()
}

#[test]
fn messages_are_sent_peeked_and_received_once() {
    let broker = HttpBroker::start(2);
    send(&broker, "q.once", &["m1", "m2"]);
    let batch = json!({"BatchID": "b1", "Messages": [
        message("q.once", "m3"), message("q.once", "m4"),
    ]});
    let data = broker.post("/queue/send_batch", &batch).data();
    assert_eq!(data["BatchID"], "b1");
    assert!(data.get("HaveErrors").is_none(), "{data}");
    let results = data["Results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert!(
        results
            .iter()
            .all(|result| result["SentAt"].is_i64() && result.get("IsError").is_none())
    );

    assert_eq!(peeked(&broker, "q.once"), ["m1", "m2", "m3", "m4"]);
    let data = broker
        .post("/queue/receive", &receive("q.once", 3, 1))
        .data();
    assert_eq!(ids(&data), ["m1", "m2", "m3"]);
    assert_eq!(
        (&data["RequestID"], &data["MessagesReceived"]),
        (&json!("r"), &json!(3))
    );
    let first = &data["Messages"][0];
    assert_eq!(from_base64(&first["Body"]), b"m1");
    assert_eq!(first["Attributes"]["Sequence"], 1);
    assert_eq!(first["Attributes"]["ReceiveCount"], 1);
    assert_eq!(first["Policy"]["MaxReceiveCount"], 1024);
    assert!(first["Attributes"].get("MD5OfBody").is_none());

    let data = broker
        .post("/queue/receive", &receive("q.once", 10, 1))
        .data();
    assert_eq!(ids(&data), ["m4"]);
    let data = broker
        .post("/queue/receive", &receive("q.once", 10, 1))
        .data();
    assert_eq!(data, json!({"RequestID": "r"}));
    broker.end();
}

#[test]
fn a_batch_with_a_bad_message_says_which_and_stores_the_others() {
    let broker = HttpBroker::start(1);
    let batch = json!({"BatchID": "b", "Messages": [
        message("q.batch", "m1"), message("", "m2"), message("q.batch", "m3"), {},
    ]});
    let data = broker.post("/queue/send_batch", &batch).data();
    assert_eq!(data["HaveErrors"], true);
    let failed = |place: usize| data["Results"][place]["IsError"] == true;
    assert_eq!(
        [0, 1, 2, 3].map(failed),
        [false, true, false, true],
        "{data}"
    );
    assert_eq!(data["Results"][1]["MessageID"], "m2");
    assert_eq!(peeked(&broker, "q.batch"), ["m1", "m3"]);
    broker.end();
}

#[test]
fn ack_all_removes_what_waits_and_counts_it() {
    let broker = HttpBroker::start(1);
    send(&broker, "q.acked", &["m1", "m2", "m3"]);
    let request =
        json!({"RequestID": "a", "ClientID": "c", "Channel": "q.acked", "WaitTimeSeconds": 1});
    let data = broker.post("/queue/ack_all", &request).data();
    assert_eq!(data, json!({"RequestID": "a", "AffectedMessages": 3}));
    let data = broker.post("/queue/ack_all", &request).data();
    assert_eq!(data, json!({"RequestID": "a"}));
    broker.end();
}

#[test]
fn infos_are_asked_for_by_a_body_on_get() {
    let broker = HttpBroker::start(2);
    send(&broker, "q.info.a", &["m1", "m2"]);
    send(&broker, "q.info.b", &["m1"]);
    let info = |names: &str| {
        let request = json!({"RequestID": "i", "QueueName": names});
        let answer = broker.send_json(broker.rest(), "GET", "/queue/info?QueueName=x", &request);
        answer.data()
    };
    let data = info("q.info.a;nosuch");
    assert_eq!(data["RefRequestID"], "i");
    assert_eq!(data["Info"]["TotalQueue"], 1);
    assert_eq!(data["Info"]["Queues"][0]["Name"], "q.info.a");
    assert_eq!(data["Info"]["Queues"][0]["Waiting"], 2);
    assert_eq!(info("q.info.b;q.info.a")["Info"]["TotalQueue"], 2);
    assert_eq!(info("nosuch"), json!({"RefRequestID": "i", "Info": {}}));
    // Without a body: all of them.
    assert_eq!(broker.get("/queue/info").data()["Info"]["TotalQueue"], 2);
    broker.end();
}

#[test]
fn delay_and_expiration_are_added_up_and_kept() {
    let broker = HttpBroker::start(1);
    let mut delayed = message("q.delayed", "m1");
    delayed["Policy"] = json!({"DelaySeconds": 2, "ExpirationSeconds": 3_600});
    let data = broker.post("/queue/send", &delayed).data();
    let time = |name: &str| data[name].as_i64().unwrap();
    assert_eq!(time("DelayedTo") - time("SentAt"), 2_000_000_000);
    assert_eq!(time("ExpirationAt") - time("SentAt"), 3_602_000_000_000);
    assert_eq!(peeked(&broker, "q.delayed"), [""; 0]);
    // The wait ends when the delay does.
    let data = broker
        .post("/queue/receive", &receive("q.delayed", 1, 25))
        .data();
    assert_eq!(ids(&data), ["m1"]);

    let mut short = message("q.expired", "m1");
    short["Policy"] = json!({"ExpirationSeconds": 1});
    broker.post("/queue/send", &short).data();
    let expired =
        poll(PATIENCE, || {
            let data = broker.post("/queue/receive", &json!({
            "RequestID": "r", "ClientID": "c", "Channel": "q.expired", "MaxNumberOfMessages": 1,
            "WaitTimeSeconds": 1, "IsPeak": true,
        }));
            (data.data()["MessagesExpired"] == 1).then_some(())
        });
    assert!(expired.is_some(), "the message expires");
    broker.end();
}

#[test]
fn a_long_poll_is_answered_when_the_message_comes() {
    let broker = HttpBroker::start(2);
    let before = calls(&broker);
    thread::scope(|scope| {
        let polls = ["q.poll.a", "q.poll.b"].map(|channel| {
            let broker = &broker;
            scope.spawn(move || {
                broker
                    .post("/queue/receive", &receive(channel, 10, 3_600))
                    .data()
            })
        });
        // The polls are waiting before the messages come.
        wait_for_calls(&broker, before + 2);
        contract::send_queue(broker.grpc(), &contract::queue_message("q.poll.a"));
        send(&broker, "q.poll.b", &["m1"]);
        let [a, b] = polls.map(|poll| poll.join().unwrap());
        assert_eq!(ids(&a), ["message-1"]);
        assert_eq!(ids(&b), ["m1"]);
    });
    broker.end();
}

/// How many calls the broker has begun.
fn calls(broker: &HttpBroker) -> u64 {
    counter(&broker.broker.status(), "broker_streams_opened_total")
}

/// Waits until the broker has begun that many calls.
fn wait_for_calls(broker: &HttpBroker, count: u64) {
    let begun = poll(PATIENCE, || (calls(broker) >= count).then_some(()));
    assert!(begun.is_some(), "{count} calls should have begun");
}

#[test]
fn a_client_that_vanishes_in_a_long_poll_takes_nothing_with_it() {
    let broker = HttpBroker::start(2);
    for (round, resets) in [(0, true), (1, false)] {
        let channel = format!("q.vanish.{round}");
        let mut raw = Raw::connect(broker.rest());
        let before = calls(&broker);
        assert!(raw.post("/queue/receive", "", &receive(&channel, 1, 600).to_string()));
        wait_for_calls(&broker, before + 1);
        if resets {
            raw.vanish();
        } else {
            drop(raw);
        }
        send(&broker, &channel, &["m1"]);
        let data = broker
            .post("/queue/receive", &receive(&channel, 1, 20))
            .data();
        assert_eq!(ids(&data), ["m1"], "{channel}");
    }
    broker.end();
}

#[test]
fn a_long_poll_is_told_that_the_broker_ends() {
    let mut broker = HttpBroker::start(2);
    let before = calls(&broker);
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.post(
        "/queue/receive",
        "",
        &receive("q.ends", 1, 3_600).to_string()
    ));
    wait_for_calls(&broker, before + 1);
    broker.broker.signal(Signal::TERM);
    let answer = raw.response();
    assert_eq!(answer.failure(503), "Error 409: server is in shutdown mode");
    assert_eq!(raw.end(), b"");
    broker.broker.assert_exits_0();
}

#[test]
fn a_client_that_takes_no_answer_loses_no_message() {
    // More than the kernel's buffers take when the client's window is small: the answer cannot
    // leave in full.
    const BODY_BYTES: usize = 8 << 20;
    let broker = HttpBroker::start(1);
    let body = base64(vec![7_u8; BODY_BYTES]);
    for round in 0..3 {
        let channel = format!("q.unread.{round}");
        let message =
            json!({"MessageID": "large", "ClientID": "c", "Channel": channel, "Body": body});
        broker.post("/queue/send", &message).data();
        let mut raw = Raw::connect_narrow(broker.rest());
        assert!(raw.post("/queue/receive", "", &receive(&channel, 1, 20).to_string()));
        // It is leased: nobody else sees it.
        let leased = poll(PATIENCE, || {
            peeked(&broker, &channel).is_empty().then_some(())
        });
        assert!(leased.is_some(), "the answer is on its way");
        raw.vanish();
        let data = broker
            .post("/queue/receive", &receive(&channel, 1, 20))
            .data();
        assert_eq!(ids(&data), ["large"], "round {round}");
        assert_eq!(data["Messages"][0]["Attributes"]["Sequence"], 1);
    }
    broker.end();
}
