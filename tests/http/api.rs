//! The management port: what the broker says of itself, who may ask, and the actions.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use serde_json::{Value, json};

use crate::broker::{Answer, HttpBroker, PATIENCE, websocket};
use crate::harness::{poll, say};
use crate::raw::Raw;

/// Does an action; its envelope.
pub(crate) fn act(broker: &HttpBroker, action: &str, data: &Value) -> Value {
    let answer = broker.api_post("/api/request", &json!({"type": action, "data": data}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let content = answer.header("content-type");
    assert_eq!(content, Some("application/json; charset=UTF-8"));
    answer.json()
}

/// Does an action that succeeds; its data.
pub(crate) fn done(broker: &HttpBroker, action: &str, data: &Value) -> Value {
    let envelope = act(broker, action, data);
    assert_eq!(envelope["error"], false, "{action} {data}: {envelope}");
    assert_eq!(envelope["error_string"], "");
    envelope["data"].clone()
}

/// Does an action that is refused; the text.
fn refused(broker: &HttpBroker, action: &str, data: &Value) -> String {
    let envelope = act(broker, action, data);
    assert_eq!(envelope["error"], true, "{action} {data}: {envelope}");
    assert_eq!(envelope["data"], Value::Null);
    envelope["error_string"].as_str().unwrap().to_owned()
}

/// GET on a connection that stays, and follows no redirection.
fn get_raw(raw: &mut Raw, path: &str) -> Answer {
    raw.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    raw.response()
}

fn asked_with(broker: &HttpBroker, path: &str, headers: &[(&str, &str)]) -> Answer {
    broker.send(broker.api(), "GET", path, headers, b"")
}

#[test]
fn a_broker_that_serves_says_that_it_is_healthy_and_ready() {
    let broker = HttpBroker::start(2);
    let health = broker.api_get("/health");
    assert_eq!((health.status, health.text.as_str()), (200, "healthy"));
    let plain = Some("text/plain; charset=UTF-8");
    assert_eq!(health.header("content-type"), plain);
    let ready = broker.api_get("/ready");
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), json!({"is_healthy": true, "is_ready": true}));
    let missing = broker.api_get("/foo");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.text, "code=404, message=Not Found");
    let wrong = broker.send(broker.api(), "POST", "/ready", &[], b"");
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("OPTIONS, GET"))
    );
    let wrong = broker.api_get("/api/request");
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("OPTIONS, POST"))
    );
    broker.end();
}

#[test]
fn a_broker_that_drains_is_not_ready() {
    let broker = HttpBroker::start_with(2, ["--set", "server.drain_grace_seconds=5"]);
    let mut kept = Raw::connect(broker.api());
    assert_eq!(get_raw(&mut kept, "/ready").status, 200);
    // A request without a responder keeps the drain waiting, as long as its grace period is.
    let mut asking = Raw::connect(broker.rest());
    let body = json!({"ClientID": "c", "Channel": "nobody", "Metadata": "m",
        "RequestTypeData": 2, "Timeout": 600_000});
    asking.post("/send/request", "", &body.to_string());
    let mut process = broker.broker;
    let asked = poll(PATIENCE, || {
        (process.status()["pending"] == 1).then_some(())
    });
    assert!(asked.is_some(), "the request waits");
    process.signal(rustix::process::Signal::TERM);
    let seen = poll(PATIENCE, || {
        let answer = get_raw(&mut kept, "/ready");
        (answer.status == 500).then_some(answer)
    });
    let seen = seen.expect("it drains").json();
    assert_eq!(seen["is_healthy"], true);
    assert_eq!(seen["is_ready"], false);
    assert_eq!(seen["reasons"], json!(["the broker is shutting down"]));
    process.assert_exits_0();
}

#[test]
fn the_configuration_shows_and_its_secrets_do_not() {
    let secret = "x-api-key=hunter2";
    let broker = HttpBroker::start_with(
        1,
        [
            "--set",
            &format!("telemetry.exporter.headers={secret}"),
            "--set",
            "queue.max_receive_count=77",
        ],
    );
    let shown = broker.api_get("/config");
    assert_eq!(shown.status, 200);
    assert_eq!(shown.text, broker.api_get("/api/config").text);
    assert!(!shown.text.contains("hunter2"), "{}", shown.text);
    let config = shown.json();
    assert_eq!(config["queue"]["maxReceiveCount"], 77);
    assert_eq!(config["grpc"]["bodyLimit"], 104_857_600);
    assert_eq!(config["store"]["maxRetention"], 1_440);
    assert!(config["rest"]["cors"].is_object());
    assert!(shown.text.starts_with("{\n\t\""), "indented by tabs");
    broker.end();
}

#[test]
fn paths_of_the_dashboard_lead_to_a_page_that_needs_nothing_else() {
    let broker = HttpBroker::start(1);
    for (path, to) in [
        ("/dashboard", "/dashboard/"),
        ("/queues/abc", "/queues"),
        ("/pubsubx", "/pubsub"),
        ("/cqrs", "/cqrs/"),
    ] {
        let moved = get_raw(&mut Raw::connect(broker.api()), path);
        assert_eq!((moved.status, moved.text.as_str()), (301, ""), "{path}");
        assert_eq!(moved.header("location"), Some(to));
    }
    for path in ["/", "/dashboard/", "/queues/", "/pubsub/", "/cqrs/"] {
        let page = broker.api_get(path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=UTF-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(page.text.contains(env!("CARGO_PKG_VERSION")));
        for elsewhere in ["http://", "https://", "src=", "@import", "{{"] {
            assert!(!page.text.contains(elsewhere), "{elsewhere} in {path}");
        }
    }
    broker.end();
}

#[test]
fn pages_of_other_sites_may_not_ask() {
    let args = ["--set", "api.allow_origins=https://ops.example.com"];
    let broker = HttpBroker::start_with(1, args);
    let own = format!("http://{}", broker.api());
    for (headers, status) in [
        (vec![("Host", "evil.example")], 403),
        (vec![("Host", "localhost.evil.example:8080")], 403),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Host", "0.0.0.0:8080")], 403),
        // Without an origin, as a page may ask that reads no answer.
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Sec-Fetch-Site", "same-site")], 403),
        (vec![("Sec-Fetch-Site", "same-origin")], 200),
        (
            vec![
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
            ],
            200,
        ),
        (vec![("Origin", "http://localhost:1")], 403),
        (vec![("Origin", own.as_str())], 200),
        (
            vec![
                ("Host", "localhost:8080"),
                ("Origin", "http://localhost:8080"),
            ],
            200,
        ),
        (vec![("Host", "ops.example.com")], 200),
    ] {
        let answer = asked_with(&broker, "/config", &headers);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        // Probes and scrapers come with any.
        assert_eq!(asked_with(&broker, "/health", &headers).status, 200);
    }
    let foreign = asked_with(&broker, "/config", &[("Origin", "http://evil.example")]);
    assert!(foreign.text.contains("api.allow_origins"), "{foreign:?}");

    let named = [("Origin", "https://ops.example.com")];
    let answer = asked_with(&broker, "/config", &named);
    assert_eq!(answer.status, 200);
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://ops.example.com"));
    let preflight = broker.send(broker.api(), "OPTIONS", "/api/request", &named, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET,POST")
    );

    // No page of another site may open a socket either: browsers do not ask before.
    let socket = "/api/monitor?kind=events&channel=a";
    let opening = [
        ("Origin", "http://evil.example"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(asked_with(&broker, socket, &opening).status, 403);
    broker.end();
}

/// An address of this machine that is not the loopback, if it has one.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel only chooses by which address it would.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    let usable = TcpListener::bind((address, 0)).is_ok();
    (!address.is_loopback() && usable).then_some(address)
}

#[test]
fn other_machines_may_only_probe_and_scrape() {
    let Some(outer) = outer_address() else {
        return say("skipped: this machine has no address but the loopback");
    };
    let broker = HttpBroker::start_with(1, ["--set", "api.bind=0.0.0.0"]);
    let address = SocketAddr::new(outer, broker.api().port());
    let from_outside = |path: &str| broker.send(address, "GET", path, &[], b"");
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(from_outside(path).status, 200, "{path}");
    }
    for path in [
        "/",
        "/config",
        "/api/config",
        "/v1/stats/queues",
        "/nothing",
    ] {
        let answer = from_outside(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(
            answer.text.contains("while nobody has to say who it is"),
            "{answer:?}"
        );
    }
    let request = json!({"type": "purge_queue_channel", "data": {"channel": "q"}});
    let answer = broker.send_json(address, "POST", "/api/request", &request);
    assert_eq!(answer.status, 403);
    let refused = websocket(address, "/api/monitor?kind=events&channel=a").unwrap_err();
    assert_eq!(refused.status, 403);
    broker.broker.stop();
}

#[test]
fn channels_are_created() {
    let broker = HttpBroker::start(2);
    for kind in ["queues", "events", "events_store", "commands", "queries"] {
        let asked = json!({"type": kind, "name": format!("made.{kind}")});
        assert_eq!(done(&broker, "create_channel", &asked), Value::Null);
        assert_eq!(
            done(&broker, "create_channel", &asked),
            Value::Null,
            "twice"
        );
    }
    for (asked, text) in [
        (json!({}), "type not set"),
        (json!({"type": "queues"}), "name not set"),
        (
            json!({"type": "foo", "name": "x"}),
            "unsupported channel type foo",
        ),
        (
            json!({"type": "queues", "name": "a b"}),
            "error creating queue channel a b , error: Error 120: invalid queue name value, \
             cannot be empty, contains wildcards ,white spaces and end with dot",
        ),
    ] {
        assert_eq!(refused(&broker, "create_channel", &asked), text);
    }
    broker.end();
}

#[test]
fn what_is_no_action_is_refused_with_status_200() {
    let broker = HttpBroker::start(1);
    assert_eq!(
        refused(&broker, "zzz", &json!({})),
        "unknown action type: zzz"
    );
    let without_data = broker.api_post("/api/request", &json!({"type": "create_channel"}));
    assert_eq!(without_data.json()["error_string"], "type not set");
    let say = |sort: &str, body: &[u8]| {
        let headers = [("Content-Type", sort)];
        let answer = broker.send(broker.api(), "POST", "/api/request", &headers, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["error_string"].as_str().unwrap().to_owned()
    };
    let error = say("application/json", b"{bad");
    assert!(
        error.starts_with("code=400, message=Syntax error: offset=2, "),
        "{error}"
    );
    let error = say("text/plain", b"{}");
    assert_eq!(error, "code=415, message=Unsupported Media Type");
    let error = say("application/x-www-form-urlencoded", b"type=x");
    assert_eq!(error, "type not set");
    assert_eq!(say("application/json", b""), "type not set");
    broker.end();
}

#[test]
fn queue_messages_are_sent_seen_received_and_cleared_away() {
    let broker = HttpBroker::start(2);
    let sent = done(
        &broker,
        "send_queue_message",
        &json!({"channel": "q", "body": "hello", "metadata": "md", "tags": "a=1,b=2",
            "clientId": "ignored", "messageId": "m1"}),
    );
    assert_eq!(sent["messageId"], "m1");
    assert!(sent["sentAt"].as_str().unwrap().ends_with('Z'), "{sent}");
    assert_eq!(sent.get("expiresAt"), None);
    let object = json!({"channel": "q", "body": {"x": 1}, "messageId": "m2"});
    done(&broker, "send_queue_message", &object);

    let look = json!({"channel": "q", "isPeek": true, "count": 10});
    let seen = done(&broker, "receive_queue_messages", &look);
    let first = &seen[0];
    assert!(
        first["timestamp"].as_i64().unwrap() > 1_500_000_000_000,
        "milliseconds"
    );
    let mut expected = json!({"messageId": "m1", "clientId": "kubemq-web-client",
        "metadata": "md", "body": "hello", "sequence": 1, "tags": r#"{"a":"1","b":"2"}"#,
        "receivedCount": 1, "reRoutedFrom": "", "expirationAt": 0, "delayedTo": 0});
    expected["timestamp"] = first["timestamp"].clone();
    assert_eq!(first, &expected);
    assert_eq!(seen[1]["body"], json!({"x": 1}));
    assert_eq!(seen[1]["tags"], "");

    let one = json!({"channel": "q", "count": 1});
    let received = done(&broker, "receive_queue_messages", &one);
    assert_eq!(received[0]["messageId"], "m1");
    assert_eq!(received.as_array().unwrap().len(), 1);
    let purged = done(&broker, "purge_queue_channel", &json!({"channel": "q"}));
    assert_eq!(purged, json!({"count": 1}));
    let purged = done(&broker, "purge_queue_channel", &json!({"channel": "q"}));
    assert_eq!(purged, json!({"count": 0}));
    assert_eq!(done(&broker, "receive_queue_messages", &one), Value::Null);
    broker.end();
}

#[test]
fn the_policy_of_a_queue_message_is_in_seconds() {
    let broker = HttpBroker::start(1);
    let asked = json!({"channel": "q", "body": "x", "messageId": "m", "expirationAt": 50,
        "delayedTo": 1, "maxReceiveCount": 3, "maxReceiveQueue": "dead"});
    let sent = done(&broker, "send_queue_message", &asked);
    for field in ["expiresAt", "delayedTo"] {
        let text = sent[field].as_str().unwrap();
        assert_eq!(text.len(), "2026-11-21 18:04:05".len(), "{text}");
    }
    let received = poll(PATIENCE, || {
        let asked = json!({"channel": "q", "count": 1});
        let received = done(&broker, "receive_queue_messages", &asked);
        received.as_array().cloned()
    });
    let message = &received.expect("its delay is over")[0];
    let at = |field: &str| message[field].as_i64().unwrap();
    assert_eq!(at("expirationAt") - at("delayedTo"), 50_000, "{message}");
    broker.end();
}

#[test]
fn queue_actions_that_are_refused_say_why() {
    let broker = HttpBroker::start(1);
    let send = "send_queue_message";
    let receive = "receive_queue_messages";
    for (action, asked, text) in [
        (send, json!({"body": "x"}), "channel not set"),
        (send, json!({"channel": "q"}), "body not set"),
        (
            send,
            json!({"channel": "q", "body": 5}),
            "unsupported data type: float64",
        ),
        (
            send,
            json!({"channel": "q", "body": "x", "tags": "a:1"}),
            "invalid tag a:1",
        ),
        (
            send,
            json!({"channel": "a b", "body": "x"}),
            "error sending queue message on channel: a b , error: Error 120: invalid queue name \
             value, cannot be empty, contains wildcards ,white spaces and end with dot",
        ),
        (receive, json!({"count": 1}), "channel not set"),
        (
            receive,
            json!({"channel": "q", "count": 0}),
            "error receiving queue messages, error: Error 122: max messages should be between 1 \
             and max message setting in kubemq config  ",
        ),
        ("purge_queue_channel", json!({}), "channel not set"),
    ] {
        assert_eq!(refused(&broker, action, &asked), text, "{action} {asked}");
    }
    broker.end();
}

#[test]
fn events_and_requests_that_are_refused_say_why() {
    let broker = HttpBroker::start(1);
    let publish = "send_pubsub_message";
    let ask = "send_cqrs_message_request";
    let respond = "send_cqrs_message_response";
    for (action, asked, text) in [
        (publish, json!({"body": "x"}), "channel not set"),
        (publish, json!({"channel": "e"}), "body not set"),
        (
            publish,
            json!({"channel": "a.*", "body": "x"}),
            "Error 107: invalid channel value, no wildcards are allowed",
        ),
        (ask, json!({"body": "x", "timeout": 1}), "channel not set"),
        (ask, json!({"channel": "c", "timeout": 1}), "body not set"),
        (
            ask,
            json!({"channel": "c", "body": "x", "isCommands": true}),
            "timeout must be greater than 0",
        ),
        (
            ask,
            json!({"channel": "c", "body": "x", "isCommands": true, "timeout": 1}),
            "Error 301: timeout for request message",
        ),
        (
            respond,
            json!({"requestId": "a", "body": "x"}),
            "reply channel not set",
        ),
    ] {
        assert_eq!(refused(&broker, action, &asked), text, "{action} {asked}");
    }
    let late = json!({"requestId": "a", "replyChannel": "b", "body": "x", "executed": true});
    assert_eq!(
        done(&broker, respond, &late),
        Value::Null,
        "dropped, and counted"
    );
    broker.end();
}
