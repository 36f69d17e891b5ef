//! Events over WebSockets: published, received, stored and replayed.

use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Protocol, Type};

use crate::broker::{HttpBroker, PATIENCE, base64, websocket};
use crate::mock::broker::{Watched as _, counter};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::sockets::{Socket, event, publish};

fn stored(id: &str, channel: &str, body: &str) -> Value {
    let mut event = event(id, channel, body);
    event["Store"] = json!(true);
    event
}

/// The path of a subscription to stored events.
fn store(channel: &str, client: &str, start: u64, value: i64) -> String {
    format!(
        "/subscribe/events?client_id={client}&channel={channel}&subscribe_type=events_store\
         &events_store_type_data={start}&events_store_type_value={value}"
    )
}

/// The sequences of the next events.
fn sequences(socket: &mut Socket, count: usize) -> Vec<u64> {
    let events = (0..count).map(|_| socket.hear());
    events
        .map(|event| event["Sequence"].as_u64().unwrap())
        .collect()
}

#[test]
fn every_frame_of_a_publish_stream_has_its_result_in_order() {
    let broker = HttpBroker::start(2);
    let mut socket = Socket::open(&broker, "/send/stream");
    let mut expected = Vec::new();
    for number in 0..600 {
        let id = format!("e{number}");
        let sent = json!({"EventID": id, "Sent": true});
        let failed = |error: &str| json!({"EventID": id, "Error": error});
        match number % 6 {
            0 | 1 => {
                socket.write(&event(&id, "ordered", "plain"));
                expected.push(sent);
            }
            2 => {
                socket.write(&stored(&id, "ordered", "stored"));
                expected.push(sent);
            }
            3 => {
                let mut bad = event(&id, "ordered", "x");
                bad["ClientID"] = json!("");
                socket.write(&bad);
                expected.push(failed("Error 101: invalid clientID value, cannot be empty"));
            }
            4 => {
                let mut bad = event(&id, "ordered", "x");
                bad["Body"] = json!("no base64!");
                socket.write(&bad);
                expected.push(failed("code=400, message="));
            }
            _ => {
                socket.say_binary(event(&id, "ordered", "x").to_string());
                expected.push(failed("a frame must be a text"));
            }
        }
    }
    socket.say_text("{bad");
    expected.push(json!({"Error": "code=400, message=Syntax error"}));
    socket.flush();
    for expected in expected {
        let result = socket.hear();
        assert_eq!(result["EventID"], expected["EventID"], "{result}");
        assert_eq!(result["Sent"], expected["Sent"], "{result}");
        let error = expected["Error"].as_str().unwrap_or_default();
        let told = result["Error"].as_str().unwrap_or_default();
        assert!(told.starts_with(error), "{result}, not {expected}");
        assert_eq!(told.is_empty(), error.is_empty(), "{result}");
    }
    assert!(socket.is_silent(), "one result for each frame");
    socket.leave();
    broker.end();
}

#[test]
fn a_flood_of_frames_that_are_no_events_is_answered_whole() {
    let broker = HttpBroker::start(1);
    let mut socket = Socket::open(&broker, "/send/stream");
    for number in 0..5000 {
        socket.write(&json!({"EventID": number.to_string(), "Body": "no base64!"}));
    }
    socket.flush();
    for number in 0..5000 {
        let result = socket.hear();
        assert_eq!(result["EventID"], *number.to_string());
        assert!(result["Error"].is_string(), "{result}");
    }
    socket.say(&event("last", "flood", "x"));
    assert_eq!(socket.hear(), json!({"EventID": "last", "Sent": true}));
    socket.leave();
    broker.end();
}

#[test]
fn an_event_without_an_id_is_given_one_and_a_routed_one_has_one_result() {
    let broker = HttpBroker::start(2);
    let mut reader = Socket::events(&broker, "given", "");
    let mut socket = Socket::open(&broker, "/send/stream");
    socket.say(&event("", "given", "x"));
    let result = socket.hear();
    let id = result["EventID"].as_str().unwrap();
    assert_eq!(id.len(), 22);
    assert_eq!(reader.hear()["EventID"], id);

    socket.say(&event("r1", "given;events_store:kept;queues:q", "x"));
    assert_eq!(socket.hear(), json!({"EventID": "r1", "Sent": true}));
    socket.say(&event("r2", "given;other", "x"));
    assert_eq!(socket.hear(), json!({"EventID": "r2", "Sent": true}));
    assert!(socket.is_silent());
    assert_eq!(reader.hear()["EventID"], "r1");
    assert_eq!(reader.hear()["EventID"], "r2");
    socket.leave();
    reader.leave();
    broker.end();
}

#[test]
fn what_one_transport_sends_the_others_receive() {
    let broker = HttpBroker::start(2);
    let mut by_socket = Socket::events(&broker, "all.of.them", "");
    let mut peer = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe(kubemq::EVENTS, "all.of.them", "");
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    let mut publisher = Socket::open(&broker, "/send/stream");

    publish(&broker, "rest", "all.of.them");
    let event = json!({
        "EventID": "socket", "ClientID": "s1", "Channel": "all.of.them", "Metadata": "md",
        "Body": base64("socket"), "Tags": {"a": "1"},
    });
    publisher.say(&event);
    assert_eq!(publisher.hear()["Sent"], true);
    let sent = peer.unary(path::SEND_EVENT, &kubemq::event("all.of.them", b"grpc"));
    assert_eq!(sent.grpc_status(), Some(0));

    let mut bodies = Vec::new();
    for _ in 0..3 {
        let event = peer.next_message(stream).unwrap();
        bodies.push(String::from_utf8(kubemq::event_body(&event).to_vec()).unwrap());
    }
    bodies.sort();
    assert_eq!(bodies, ["grpc", "rest", "socket"]);
    let mut heard: Vec<_> = (0..3).map(|_| by_socket.hear()).collect();
    heard.sort_by_key(|event| event["Body"].to_string());
    let bodies: Vec<_> = heard.iter().map(|event| event["Body"].clone()).collect();
    let mut expected = ["grpc", "rest", "socket"].map(base64);
    expected.sort();
    assert_eq!(bodies, expected);
    let socket = heard
        .iter()
        .find(|event| event["EventID"] == "socket")
        .unwrap();
    assert_eq!(socket["Metadata"], "md");
    assert_eq!(socket["Tags"], json!({"a": "1"}));
    assert!(socket["Timestamp"].as_i64().unwrap() > 1_600_000_000_000_000_000);
    assert_eq!(socket["Sequence"], Value::Null);
    broker.end();
}

#[test]
fn a_pattern_gets_what_it_matches_and_a_group_shares() {
    let broker = HttpBroker::start(2);
    let mut one = Socket::events(&broker, "w.*", "");
    let mut tail = Socket::events(&broker, "w.%3E", "");
    let mut members = [
        Socket::events(&broker, "w.a", "g"),
        Socket::events(&broker, "w.a", "g"),
    ];
    for number in 0..20 {
        publish(&broker, &format!("e{number}"), "w.a");
    }
    publish(&broker, "deep", "w.a.b");
    for number in 0..20 {
        let id = format!("e{number}");
        assert_eq!(one.hear()["EventID"], *id);
        assert_eq!(tail.hear()["EventID"], *id);
    }
    let deep = tail.hear();
    assert_eq!(
        (&deep["EventID"], &deep["Channel"]),
        (&json!("deep"), &json!("w.a.b"))
    );
    assert!(one.is_silent());
    let shares = members.iter_mut().map(|member| {
        let stream = member.inner().get_ref();
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let texts = std::iter::from_fn(|| member.inner().read().ok());
        texts.filter(tungstenite::Message::is_text).count()
    });
    assert_eq!(shares.sum::<usize>(), 20);
    broker.end();
}

#[test]
fn stored_events_start_where_the_query_says() {
    let broker = HttpBroker::start(2);
    for number in 1..=4 {
        let id = format!("es{number}");
        let sent = broker
            .post("/send/event", &stored(&id, "starts", &id))
            .data();
        assert_eq!(sent["Sent"], true);
    }
    let table = [
        ("first", 2, 0, 4),
        ("last", 3, 0, 1),
        ("sequence", 4, 3, 2),
        ("time", 5, 1, 4),
        ("delta", 6, 3600, 4),
        ("new", 1, 0, 0),
    ];
    for (name, start, value, count) in table {
        let mut socket = Socket::open(&broker, &store("starts", name, start, value));
        let expected: Vec<u64> = (5 - count..5).collect();
        let count = usize::try_from(count).unwrap();
        assert_eq!(sequences(&mut socket, count), expected, "{name}");
        assert!(socket.is_silent(), "{name}");
        socket.leave();
    }
    let mut socket = Socket::open(&broker, &store("starts", "fields", 3, 0));
    let event = socket.hear();
    assert_eq!(event["EventID"], "es4");
    assert_eq!(event["Body"], base64("es4"));
    assert!(event["Timestamp"].as_i64().unwrap() > 1_600_000_000_000_000_000);
    broker.end();
}

#[test]
fn a_place_in_stored_events_is_kept_over_a_reconnect() {
    let broker = HttpBroker::start(2);
    let send = |numbers: std::ops::RangeInclusive<u32>| {
        for number in numbers {
            let id = format!("e{number}");
            broker
                .post("/send/event", &stored(&id, "place", &id))
                .data();
        }
    };
    send(1..=3);
    let mut socket = Socket::open(&broker, &store("place", "keeper", 2, 0));
    assert_eq!(sequences(&mut socket, 3), [1, 2, 3]);
    socket.confirm();
    socket.leave();
    send(4..=5);
    // The start counts for a newcomer alone.
    let mut socket = Socket::open(&broker, &store("place", "keeper", 2, 0));
    assert_eq!(sequences(&mut socket, 2), [4, 5]);
    // Gone before it confirmed the last one: that comes again, behind what else it did not confirm.
    send(6..=6);
    assert_eq!(sequences(&mut socket, 1), [6]);
    socket.vanish();
    let mut socket = Socket::open(&broker, &store("place", "keeper", 2, 0));
    let first = sequences(&mut socket, 1)[0];
    assert!((4..=6).contains(&first), "{first}");
    let count = usize::try_from(6 - first).unwrap();
    let expected: Vec<u64> = (first + 1..=6).collect();
    assert_eq!(sequences(&mut socket, count), expected);
    assert!(socket.is_silent());
    broker.end();
}

#[test]
fn a_client_id_holds_one_socket_for_each_channel_while_it_lives() {
    let broker = HttpBroker::start(2);
    let path = store("held", "holder", 1, 0);
    let holder = Socket::open(&broker, &path);
    // It answers the broker's question whether it lives only while it reads.
    let holder = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut holder = holder;
            let event = holder.hear();
            assert_eq!(event["EventID"], "done");
            holder
        });
        let refused = websocket(broker.rest(), &path).unwrap_err();
        assert_eq!(refused.failure(400), "stan: clientID already registered");
        let other = Socket::open(&broker, &store("other", "holder", 1, 0));
        other.leave();
        broker
            .post("/send/event", &stored("done", "held", "x"))
            .data();
        reading.join().unwrap()
    });
    holder.vanish();
    // Free at once, or after the broker has asked in vain. What was not confirmed comes again.
    let mut next = Socket::open(&broker, &path);
    assert_eq!(next.hear()["EventID"], "done");
    broker.end();
}

/// A subscription of a client with the smallest window that the kernel allows, who does not read.
fn slow(broker: &HttpBroker, path: &str) -> Socket {
    let stream = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    stream.set_recv_buffer_size(4096).unwrap();
    stream.connect(&broker.rest().into()).unwrap();
    let stream: std::net::TcpStream = stream.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let opened = tungstenite::client(format!("ws://{}{path}", broker.rest()), stream);
    Socket::of(opened.unwrap().0)
}

#[test]
fn a_slow_reader_of_events_loses_some_and_hurts_nobody() {
    let broker = HttpBroker::start(1);
    let path = "/subscribe/events?client_id=slow&channel=fast&subscribe_type=events";
    let slow = slow(&broker, path);
    let mut reader = Socket::events(&broker, "fast", "");
    let body = "x".repeat(64 << 10);
    let mut publisher = Socket::open(&broker, "/send/stream");
    // More than the slow one's windows and buffers, in steps that the other one keeps up with.
    let mut number = 0;
    while counter(&broker.broker.status(), "broker_drops_total") == 0 {
        assert!(number < 4000, "nothing was dropped");
        for _ in 0..100 {
            publisher.say(&event(&number.to_string(), "fast", &body));
            assert_eq!(publisher.hear()["Sent"], true);
            assert_eq!(reader.hear()["EventID"], *number.to_string());
            number += 1;
        }
    }
    slow.vanish();
    publisher.leave();
    reader.leave();
    broker.broker.wait_zero(&["subscriptions", "pending"]);
    broker.end();
}

#[test]
fn a_slow_reader_of_stored_events_loses_nothing() {
    const EVENTS: u64 = 300;
    let broker = HttpBroker::start(2);
    let mut slow = slow(&broker, &store("kept", "slow", 1, 0));
    let body = "x".repeat(20_000);
    let mut publisher = Socket::open(&broker, "/send/stream");
    for number in 1..=EVENTS {
        publisher.write(&stored(&number.to_string(), "kept", &body));
    }
    publisher.flush();
    for number in 1..=EVENTS {
        let result = publisher.hear();
        assert_eq!(result, json!({"EventID": number.to_string(), "Sent": true}));
    }
    for number in 1..=EVENTS {
        let event = slow.hear();
        assert_eq!(event["Sequence"], number);
        assert_eq!(event["EventID"], *number.to_string());
    }
    assert!(slow.is_silent());
    broker.end();
}

#[test]
fn what_was_sent_before_a_close_frame_is_stored() {
    let broker = HttpBroker::start(2);
    let mut publisher = Socket::open(&broker, "/send/stream");
    for number in 1..=200 {
        publisher.write(&stored(&number.to_string(), "goodbye", "x"));
    }
    publisher.leave();
    let mut reader = Socket::open(&broker, &store("goodbye", "reader", 2, 0));
    let expected: Vec<u64> = (1..=200).collect();
    assert_eq!(sequences(&mut reader, 200), expected);
    broker.end();
}
