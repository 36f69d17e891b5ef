//! Each route, and that what one transport sends another receives.

use prost::Message as _;
use ringmq_proto::kubemq::{QueueMessage, Request, Response};
use serde_json::{Value, json};

use crate::broker::{HttpBroker, base64, from_base64};
use crate::contract;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;

#[test]
fn every_response_says_who_answers() {
    let broker = HttpBroker::start(1);
    let answers = [
        broker.get("/"),
        broker.get("/ping"),
        broker.get("/nosuch"),
        broker.get("/send/event"),
        broker.post("/send/event", &json!({})),
    ];
    for answer in &answers {
        let product = answer.header("x-powered-by").unwrap();
        assert_eq!(product, concat!("RingMQ ", env!("CARGO_PKG_VERSION")));
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_str().unwrap();
        assert_eq!(answer.header("broker"), Some(machine));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let [root, ping, unknown, wrong_method, refused] = answers;
    assert_eq!((root.status, &*root.text), (200, "hi"));
    assert_eq!(
        root.header("content-type"),
        Some("text/plain; charset=UTF-8")
    );
    let json = Some("application/json; charset=UTF-8");
    assert_eq!(ping.header("content-type"), json);
    let pong = ping.data();
    assert!(
        pong["ServerStartTime"].as_i64().unwrap() > 1_700_000_000,
        "{pong}"
    );
    assert_eq!(pong["Version"], "v2.6.0");
    assert!(pong["Host"].is_string());

    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.text,
        "{\"error_code\":404,\"message\":\"Not Found\"}\n"
    );
    assert_eq!(unknown.header("content-type"), json);
    assert_eq!(wrong_method.status, 405);
    assert_eq!(
        wrong_method.text,
        "{\"error_code\":405,\"message\":\"Method Not Allowed\"}\n"
    );
    assert_eq!(wrong_method.header("allow"), Some("OPTIONS, POST"));
    assert_eq!(
        refused.text,
        "{\n\t\"is_error\": true,\n\t\"message\": \"Error 101: invalid clientID value, cannot be \
         empty\",\n\t\"data\": null\n}\n"
    );
    broker.end();
}

#[test]
fn methods_other_than_the_routes_own_are_told_so() {
    let broker = HttpBroker::start(1);
    for (method, path, allowed) in [
        ("POST", "/ping", "OPTIONS, GET"),
        ("POST", "/queue/info", "OPTIONS, GET"),
        ("PUT", "/queue/send", "OPTIONS, POST"),
        ("DELETE", "/send/event", "OPTIONS, POST"),
        ("HEAD", "/send/event", "OPTIONS, POST"),
        ("PATCH", "/subscribe/events", "OPTIONS, GET"),
    ] {
        let answer = broker.send(broker.rest(), method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    let head = broker.send(broker.rest(), "HEAD", "/ping", &[], b"");
    assert_eq!((head.status, &*head.text), (200, ""));
    broker.end();
}

/// What a page of another origin asks before it posts.
const PREFLIGHT: [(&str, &str); 3] = [
    ("Origin", "http://a.b"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "content-type"),
];

#[test]
fn pages_of_any_origin_may_by_default() {
    let broker = HttpBroker::start(1);
    let answer = broker.send(broker.rest(), "OPTIONS", "/send/event", &PREFLIGHT, b"");
    assert_eq!((answer.status, &*answer.text), (204, ""));
    assert_eq!(answer.header("allow"), Some("OPTIONS, POST"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET,POST")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("content-type")
    );
    let simple = broker.send(
        broker.rest(),
        "GET",
        "/ping",
        &[("Origin", "http://a.b")],
        b"",
    );
    assert_eq!(simple.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        broker.get("/ping").header("access-control-allow-origin"),
        None
    );
    broker.end();
}

#[test]
fn pages_of_origins_that_are_listed_may_and_others_not() {
    let settings = [
        "--set",
        "rest.cors.allow_origins=http://a.b,https://c.d",
        "--set",
        "rest.cors.allow_methods=POST",
        "--set",
        "rest.cors.allow_headers=Authorization,Content-Type",
        "--set",
        "rest.cors.expose_headers=Broker",
        "--set",
        "rest.cors.allow_credentials=true",
        "--set",
        "rest.cors.max_age=600",
    ];
    let broker = HttpBroker::start_with(1, settings);
    let answer = broker.send(broker.rest(), "OPTIONS", "/send/event", &PREFLIGHT, b"");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://a.b")
    );
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("Authorization,Content-Type")
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    let simple = broker.send(
        broker.rest(),
        "GET",
        "/ping",
        &[("Origin", "https://c.d")],
        b"",
    );
    assert_eq!(
        simple.header("access-control-allow-origin"),
        Some("https://c.d")
    );
    assert_eq!(
        simple.header("access-control-expose-headers"),
        Some("Broker")
    );
    let other = broker.send(
        broker.rest(),
        "GET",
        "/ping",
        &[("Origin", "https://e.f")],
        b"",
    );
    assert_eq!(other.status, 200);
    assert_eq!(other.header("access-control-allow-origin"), None);
    broker.end();
}

#[test]
fn an_event_of_rest_arrives_at_a_subscriber_of_grpc() {
    let broker = HttpBroker::start(2);
    let mut peer = Peer::connect(broker.grpc());
    let stream = contract::subscribe_events(&mut peer, "http.events.*");
    let sent = broker.post(
        "/send/event",
        &json!({
            "EventID": "e1", "ClientID": "c1", "Channel": "http.events.a", "Metadata": "m",
            "Body": base64(b"\0hello\xff"), "Tags": {"k": "v"},
        }),
    );
    assert_eq!(sent.data(), json!({"EventID": "e1", "Sent": true}));
    let event = contract::next_event(&mut peer, stream);
    assert_eq!((&*event.event_id, &*event.channel), ("e1", "http.events.a"));
    assert_eq!(
        (&*event.metadata, &event.body[..]),
        ("m", &b"\0hello\xff"[..])
    );
    assert_eq!(event.tags.get("k").map(String::as_str), Some("v"));
    assert_eq!(event.sequence, 0);

    let unnamed = json!({"clientid": "c1", "CHANNEL": "http.events.b", "body": [1, 2, 3]});
    let sent = broker.post("/send/event", &unnamed).data();
    let id = sent["EventID"].as_str().unwrap();
    assert_eq!(id.len(), 22);
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    let event = contract::next_event(&mut peer, stream);
    assert_eq!((&*event.event_id, &event.body[..]), (id, &[1, 2, 3][..]));
    drop(peer);
    broker.end();
}

#[test]
fn a_stored_event_of_rest_is_read_again_by_grpc() {
    let broker = HttpBroker::start(2);
    for number in 1..=3 {
        let event = json!({
            "EventID": format!("e{number}"), "ClientID": "c1", "Channel": "http.stored",
            "Metadata": "m", "Store": true,
        });
        let sent = broker.post("/send/event", &event).data();
        assert_eq!(sent, json!({"EventID": format!("e{number}"), "Sent": true}));
    }
    let mut peer = Peer::connect(broker.grpc());
    let stream = contract::subscribe_stored(&mut peer, "http.stored");
    for number in 1..=3_u64 {
        let event = contract::next_event(&mut peer, stream);
        assert_eq!(
            (event.event_id, event.sequence),
            (format!("e{number}"), number)
        );
    }
    drop(peer);
    broker.end();
}

/// Receives the next request of a subscription.
fn next_request(peer: &mut Peer, stream: u32) -> Request {
    let message = peer.next_message(stream).expect("a request");
    Request::decode(&*message).unwrap()
}

#[test]
fn a_responder_of_grpc_answers_requests_of_rest() {
    let broker = HttpBroker::start(2);
    let mut peer = Peer::connect(broker.grpc());
    for (kind, number, channel) in [
        (kubemq::COMMANDS, 1, "http.commands"),
        (kubemq::QUERIES, 2, "http.queries"),
    ] {
        let subscribe = kubemq::subscribe(kind, channel, "");
        let stream = peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let request = json!({
                    "RequestID": "r1", "RequestTypeData": number, "ClientID": "c1",
                    "Channel": channel, "Body": base64("question"), "Timeout": 20_000,
                });
                broker.post("/send/request", &request)
            });
            let request = next_request(&mut peer, stream);
            assert_eq!(&request.body[..], b"question");
            let response = Response {
                client_id: "mock".into(),
                request_id: request.request_id,
                reply_channel: request.reply_channel,
                metadata: "m".into(),
                body: "answer".into(),
                executed: true,
                tags: contract::tags(&[("k", "v")]),
                ..Response::default()
            };
            peer.unary(path::SEND_RESPONSE, &response.encode_to_vec());
            asking.join().unwrap()
        });
        let data = asked.data();
        assert_eq!(
            (&data["RequestID"], &data["Executed"]),
            (&json!("r1"), &json!(true))
        );
        assert_eq!(data["Tags"], json!({"k": "v"}));
        // What a command answers is only whether it was executed.
        let is_query = number == 2;
        assert_eq!(data.get("Body").is_some(), is_query, "{data}");
        assert_eq!(data.get("Metadata").is_some(), is_query, "{data}");
    }
    drop(peer);
    broker.end();
}

#[test]
fn a_response_of_rest_answers_a_request_of_grpc() {
    let broker = HttpBroker::start(2);
    let mut responder = Peer::connect(broker.grpc());
    let subscribe = kubemq::subscribe(kubemq::QUERIES, "http.asked", "");
    let stream = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
    let mut requester = Peer::connect(broker.grpc());
    let call = requester.call(
        path::SEND_REQUEST,
        &kubemq::request(kubemq::QUERY, "http.asked", b"question", 20_000),
    );
    let request = next_request(&mut responder, stream);
    let response = json!({
        "ClientID": "c2", "RequestID": request.request_id, "ReplyChannel": request.reply_channel,
        "Metadata": "m", "Body": base64("answer"), "Executed": true,
    });
    assert_eq!(broker.post("/send/response", &response).data(), Value::Null);
    let mut reply = requester.finish(call);
    assert_eq!(reply.grpc_status(), Some(0), "{}", reply.grpc_message());
    let answer = Response::decode(&*reply.take_message().unwrap()).unwrap();
    assert_eq!(&answer.body[..], b"answer");
    assert!(answer.executed);

    // One that nobody waits for is taken, and leads nowhere.
    let nobody = json!({"ClientID": "c2", "RequestID": "x", "ReplyChannel": "_REPLY.abc"});
    assert_eq!(broker.post("/send/response", &nobody).data(), Value::Null);
    drop((responder, requester));
    broker.end();
}

#[test]
fn a_failed_command_is_no_failure_of_rest() {
    let broker = HttpBroker::start(1);
    let mut peer = Peer::connect(broker.grpc());
    let subscribe = kubemq::subscribe(kubemq::COMMANDS, "http.failing", "");
    let stream = peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let request = json!({
                "RequestTypeData": 1, "ClientID": "c1", "Channel": "http.failing",
                "Metadata": "do", "Timeout": 20_000,
            });
            broker.post("/send/request", &request)
        });
        let request = next_request(&mut peer, stream);
        let response = Response {
            client_id: "mock".into(),
            request_id: request.request_id,
            reply_channel: request.reply_channel,
            error: "it broke".into(),
            ..Response::default()
        };
        peer.unary(path::SEND_RESPONSE, &response.encode_to_vec());
        asking.join().unwrap()
    });
    let data = answer.data();
    assert_eq!(data["Error"], "it broke");
    assert!(data.get("Executed").is_none(), "{data}");
    drop(peer);
    broker.end();
}

#[test]
fn large_bodies_go_both_ways_in_full() {
    let broker = HttpBroker::start(1);
    let body: Vec<u8> = (0..3_000_000_u32)
        .map(|number| number.to_le_bytes()[0] ^ 0x5a)
        .collect();
    let mut peer = Peer::connect(broker.grpc());
    let stream = contract::subscribe_events(&mut peer, "http.large");
    let event = json!({"ClientID": "c1", "Channel": "http.large", "Body": base64(&body)});
    assert_eq!(broker.post("/send/event", &event).data()["Sent"], true);
    assert!(contract::next_event(&mut peer, stream).body == body);

    let message = json!({"ClientID": "c1", "Channel": "http.large", "Body": base64(&body)});
    broker.post("/queue/send", &message).data();
    let receive = json!({
        "ClientID": "c1", "Channel": "http.large", "MaxNumberOfMessages": 1, "WaitTimeSeconds": 5,
    });
    let data = broker.post("/queue/receive", &receive).data();
    assert!(from_base64(&data["Messages"][0]["Body"]) == body);
    drop(peer);
    broker.end();
}

#[test]
fn odd_text_goes_both_ways() {
    let broker = HttpBroker::start(1);
    let odd = "a\"\\\n\t\u{1}<&>\u{2028}\u{1f600}";
    let message = QueueMessage {
        metadata: odd.into(),
        tags: contract::tags(&[(odd, odd)]),
        ..contract::queue_message("http.odd")
    };
    contract::send_queue(broker.grpc(), &message);
    let receive = json!({
        "ClientID": "c1", "Channel": "http.odd", "MaxNumberOfMessages": 1, "WaitTimeSeconds": 5,
    });
    let data = broker.post("/queue/receive", &receive).data();
    assert_eq!(data["Messages"][0]["Metadata"], odd);
    assert_eq!(data["Messages"][0]["Tags"][odd], odd);

    let event = json!({"ClientID": "c1", "Channel": "http.odd", "Metadata": odd});
    let mut peer = Peer::connect(broker.grpc());
    let stream = contract::subscribe_events(&mut peer, "http.odd");
    broker.post("/send/event", &event).data();
    assert_eq!(contract::next_event(&mut peer, stream).metadata, odd);
    drop(peer);
    broker.end();
}
