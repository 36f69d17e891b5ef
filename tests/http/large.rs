//! What is large: taken whole, bounded in number and, over all connections, in memory.

use serde_json::json;
use tungstenite::Message;

use crate::broker::{Answer, HttpBroker, PATIENCE, base64, from_base64};
use crate::harness::poll;
use crate::raw::Raw;

const MIB: usize = 1 << 20;

/// What those are told who come when others hold too much.
const NO_ROOM: &str = "limit reached: large bodies and messages over HTTP, 128 MiB of a core; \
                       try again in 1000 ms";

/// A body that begins, has so many bytes, and does not end. When it is refused, it is answered.
fn hold(broker: &HttpBroker, bytes: usize) -> Raw {
    let mut raw = Raw::connect(broker.rest());
    assert!(raw.write(format!(
        "POST /send/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        100 * MIB
    )));
    let mut pieces = 0..bytes / MIB;
    let _refused = pieces.all(|_| raw.write(vec![b' '; MIB]));
    raw
}

/// An event whose body has so many bytes.
fn event(broker: &HttpBroker, bytes: usize) -> Answer {
    let body = base64(vec![7; bytes]);
    broker.post(
        "/send/event",
        &json!({"ClientID": "c", "Channel": "large", "Body": body}),
    )
}

#[test]
fn large_bodies_share_the_memory_of_a_core_and_small_ones_are_taken_beside_them() {
    let broker = HttpBroker::start(1);
    // Together one MiB less than there is.
    let mut held = [90 * MIB, 37 * MIB].map(|bytes| (bytes, hold(&broker, bytes)));
    let refused = poll(PATIENCE, || {
        // An event that comes before all of these was read may take what the last bytes need: then
        // it is one of these that is refused, and comes again.
        for (bytes, raw) in &mut held {
            if raw.is_answered() {
                *raw = hold(&broker, *bytes);
            }
        }
        let answer = event(&broker, 2 * MIB);
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect("what is held is counted");
    assert_eq!(refused.failure(429), NO_ROOM);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(event(&broker, 1_000).data()["Sent"], true);

    let mut socket = broker.socket("/send/stream");
    // The broker may have ended it before all of it was written.
    let _sent = socket.send(Message::text(" ".repeat(3 * MIB / 2)));
    let frame = match socket.read() {
        Ok(Message::Close(frame)) => frame.expect("a code and a reason"),
        other => panic!("no close frame: {other:?}"),
    };
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (1013, NO_ROOM)
    );

    for (_, raw) in held {
        raw.vanish();
    }
    let taken = poll(PATIENCE, || {
        (event(&broker, 2 * MIB).status == 200).then_some(())
    });
    assert!(taken.is_some(), "what nobody holds any more is free");
    broker.end();
}

#[test]
fn a_batch_of_too_many_messages_is_refused_as_over_grpc() {
    let broker = HttpBroker::start(1);
    let batch = |count: usize| {
        let messages = "{},".repeat(count - 1);
        format!("{{\"BatchID\":\"b\",\"RequestID\":\"r\",\"Messages\":[{messages}{{}}]}}")
    };
    let headers = [("Content-Type", "application/json")];
    let body = batch((1 << 18) + 1);
    let refused = broker.send(
        broker.rest(),
        "POST",
        "/queue/send_batch",
        &headers,
        body.as_bytes(),
    );
    assert_eq!(refused.failure(400), "a batch may have 262144 messages");

    let mut socket = broker.socket("/queue/upstream");
    socket.send(Message::text(body)).unwrap();
    let answer = socket.read().unwrap().into_text().unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let expected = json!({
        "RefRequestID": "r", "IsError": true, "Error": "a batch may have 262144 messages",
    });
    assert_eq!(answer, expected);
    broker.end();
}

#[test]
fn large_messages_arrive_as_they_were_sent_whichever_way_they_came() {
    let broker = HttpBroker::start(1);
    let mut events =
        broker.socket("/subscribe/events?client_id=s&channel=large&subscribe_type=events");
    let bodies: Vec<Vec<u8>> = [3 * MIB, 5 * MIB + 1]
        .iter()
        .map(|&bytes| (0..=250_u8).cycle().take(bytes).collect())
        .collect();
    let text = |body: &[u8]| {
        json!({
            "ClientID": "c", "Channel": "large", "Metadata": "ä\"€", "Body": base64(body),
        })
    };
    let sent = broker.post("/send/event", &text(&bodies[0]));
    assert_eq!(sent.data()["Sent"], true);
    let mut stream = broker.socket("/send/stream");
    stream
        .send(Message::text(text(&bodies[1]).to_string()))
        .unwrap();
    for body in &bodies {
        let event = events.read().unwrap().into_text().unwrap();
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["Metadata"], "ä\"€");
        assert!(from_base64(&event["Body"]) == *body, "{} bytes", body.len());
    }
    broker.end();
}
