//! Who asks over REST and its sockets, and what they may do: texts and codes as clients know them.

use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

use crate::broker::{Answer, HttpBroker, PATIENCE, base64};
use crate::raw::Raw;
use crate::sockets::Socket;

const KEY: &str = "a key for these tests alone";

const PREFIX: &str = "Error 421: authentication verification failed, ";

const DENIED: &str = "Error 412: access denied to resource";

/// A token of these tests' key. `later` is when it ends, from now.
pub(crate) fn token(subject: &str, later: i64) -> String {
    signed(&json!({"sub": subject, "exp": now() + later}))
}

fn signed(claims: &Value) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let signature = hmac::sign(&key, text.as_bytes());
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    text
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Flags of a broker that takes these tokens.
pub(crate) fn flags(more: &[&str]) -> Vec<String> {
    let key = format!("authentication.jwt_config.key={KEY}");
    let settings = [
        "authentication.enable=true",
        &key,
        "authentication.jwt_config.signature_type=HS256",
    ];
    let settings = settings.iter().chain(more);
    settings
        .flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()])
        .collect()
}

fn start(more: &[&str]) -> HttpBroker {
    HttpBroker::start_with(1, flags(more))
}

/// A request of REST with this token.
fn asked(broker: &HttpBroker, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    broker.send(broker.rest(), method, path, &headers, body.as_bytes())
}

fn posted(broker: &HttpBroker, path: &str, token: &str, body: &Value) -> Answer {
    asked(broker, "POST", path, token, body)
}

/// Opens a socket with further headers, or returns the response that is none.
pub(crate) fn opened(
    address: std::net::SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocket<TcpStream>, Box<Answer>> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _response)) => Ok(socket),
        Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            let (head, body) = response.into_parts();
            Err(Box::new(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(body.unwrap_or_default()).unwrap(),
            }))
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

fn socket(broker: &HttpBroker, path: &str, token: &str) -> Result<Socket, Box<Answer>> {
    let bearer = format!("Bearer {token}");
    opened(broker.rest(), path, &[("authorization", &bearer)]).map(Socket::of)
}

fn event(client: &str, channel: &str) -> Value {
    json!({"EventID": "e", "ClientID": client, "Channel": channel, "Body": base64("b")})
}

fn message(client: &str, channel: &str) -> Value {
    json!({"ClientID": client, "Channel": channel, "Body": base64("b")})
}

#[test]
fn every_route_asks_and_a_preflight_passes() {
    let broker = start(&[]);
    for path in [
        "/",
        "/ping",
        "/openapi.json",
        "/queue/info",
        "/nowhere",
        "/send/event",
    ] {
        let answer = broker.get(path);
        assert_eq!(
            answer.failure(401),
            "invalid authentication header",
            "{path}"
        );
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = broker.post("/send/event", &event("c", "a"));
    assert_eq!(answer.failure(401), "invalid authentication header");
    for path in ["/send/stream", "/subscribe/events?client_id=c&channel=a"] {
        let refused = opened(broker.rest(), path, &[]).unwrap_err();
        assert_eq!(
            refused.failure(401),
            "invalid authentication header",
            "{path}"
        );
    }
    // No parameter of a query is a token.
    let token = token("c", 600);
    for name in ["token", "access_token", "authorization"] {
        let answer = broker.get(&format!("/?{name}={token}"));
        assert_eq!(answer.status, 401, "{name}");
    }
    let headers = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let answer = broker.send(broker.rest(), "OPTIONS", "/send/event", &headers, b"");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization")
    );
    broker.broker.stop();
}

#[test]
fn the_header_is_two_words_and_the_last_one_counts() {
    let broker = start(&[]);
    let good = token("c", 600);
    for odd in [
        good.clone(),
        format!("bearer {good}"),
        format!("BEARER {good}"),
        format!("Bearer  {good}"),
        format!("Bearer {good} x"),
        format!("Basic {}", base64("a:b")),
        "Bearer".to_owned(),
    ] {
        let answer = broker.send(broker.rest(), "GET", "/", &[("Authorization", &odd)], b"");
        assert_eq!(
            answer.failure(401),
            "invalid authentication header",
            "{odd}"
        );
    }
    let answer = asked(&broker, "GET", "/", &good, &Value::Null);
    assert_eq!((answer.status, answer.text.as_str()), (200, "hi"));
    let get = |first: &str, last: &str| {
        let mut raw = Raw::connect(broker.rest());
        raw.write(format!(
            "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {first}\r\nAuthorization: {last}\r\n\r\n"
        ));
        raw.response().status
    };
    let (good, bad) = (format!("Bearer {good}"), "Bearer x".to_owned());
    assert_eq!((get(&bad, &good), get(&good, &bad)), (200, 401));
    broker.broker.stop();
}

#[test]
fn tokens_that_are_not_taken_say_why() {
    let broker = start(&[]);
    let refused = |token: &str| {
        let text = asked(&broker, "GET", "/ping", token, &Value::Null).failure(401);
        let reason = text.strip_prefix(PREFIX);
        reason.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let good = token("c", 600);
    let mut forged = good.clone();
    forged.pop();
    assert_eq!(refused(&format!("{forged}_")), "signature is invalid");
    let expired = refused(&token("c", -103));
    let age = expired.strip_prefix("token is expired by 1m").unwrap();
    let seconds: u32 = age.strip_suffix('s').unwrap().parse().unwrap();
    assert!((43..60).contains(&seconds), "{expired}");
    let early = signed(&json!({"exp": now() + 600, "nbf": now() + 300}));
    assert_eq!(refused(&early), "token is not valid yet");
    let early = signed(&json!({"exp": now() + 600, "iat": now() + 300}));
    assert_eq!(refused(&early), "token used before issued");
    for parts in ["x", "a.b", "a.b.c.d"] {
        assert_eq!(
            refused(parts),
            "token contains an invalid number of segments",
            "{parts}"
        );
    }
    let (_, rest) = good.split_once('.').unwrap();
    for algorithm in ["HS512", "none", "RS256"] {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm}).to_string());
        let expected = format!("unexpected signing method: {algorithm}");
        assert_eq!(refused(&format!("{head}.{rest}")), expected);
    }
    // Without an end it counts for ever.
    let endless = signed(&json!({"sub": "c"}));
    assert_eq!(
        asked(&broker, "GET", "/", &endless, &Value::Null).status,
        200
    );
    broker.broker.stop();
}

#[test]
fn who_shows_forged_tokens_is_told_when_to_come_back() {
    let broker = start(&["limits.requests_per_second=1", "limits.requests_burst=2"]);
    let (good, forged) = (token("c", 600), format!("{}x", token("c", 600)));
    assert_eq!(asked(&broker, "GET", "/", &good, &Value::Null).status, 200);
    let bearer = format!("Bearer {forged}");
    let headers = [("Authorization", bearer.as_str())];
    for (address, path) in [(broker.rest(), "/"), (broker.api(), "/config")] {
        let deadline = std::time::Instant::now() + PATIENCE;
        let refused = loop {
            let answer = broker.send(address, "GET", path, &headers, b"");
            if answer.status != 401 {
                break answer;
            }
            assert!(std::time::Instant::now() < deadline, "never too often");
        };
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!(refused.text.contains("limits.requests_per_second"));
        let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=2).contains(&after), "{after}");
    }
    // Who is known is no stranger, whatever comes from the same address.
    assert_eq!(asked(&broker, "GET", "/", &good, &Value::Null).status, 200);
    broker.broker.stop();
}

#[test]
fn a_token_says_nothing_of_the_client_id_unless_ids_are_bound() {
    let token = token("alice", 600);
    let sent = |broker: &HttpBroker, client: &str| {
        posted(broker, "/send/event", &token, &event(client, "a"))
    };
    let broker = start(&[]);
    assert_eq!(sent(&broker, "bob").data()["Sent"], true);
    broker.broker.stop();

    let broker = start(&["authentication.client_id_binding=checked"]);
    let text = sent(&broker, "bob").failure(400);
    assert!(text.starts_with("Error 412: "), "{text}");
    assert_eq!(sent(&broker, "alice").data()["Sent"], true);
    assert_eq!(sent(&broker, "").data()["Sent"], true, "filled in");
    broker.broker.stop();

    let broker = start(&["authentication.client_id_binding=forced"]);
    let path = "/subscribe/events?subscribe_type=events&channel=a&client_id=x";
    let mut listener = socket(&broker, path, &token).unwrap();
    assert_eq!(sent(&broker, "bob").data()["Sent"], true);
    assert_eq!(listener.hear()["Channel"], "a");
    let queue = json!({"ClientID": "bob", "Channel": "q", "Body": base64("b")});
    assert_eq!(posted(&broker, "/queue/send", &token, &queue).status, 200);
    let receive = json!({
        "ClientID": "carol", "Channel": "q", "MaxNumberOfMessages": 1, "WaitTimeSeconds": 5
    });
    let received = posted(&broker, "/queue/receive", &token, &receive).data();
    assert_eq!(received["Messages"][0]["ClientID"], "alice");
    drop(listener);
    broker.broker.stop();
}

#[test]
fn a_socket_ends_with_its_token_and_does_not_come_back_with_it() {
    let broker = start(&[]);
    // Long enough for what comes before its end, on whatever machine.
    let short = token("c", 15);
    let path = "/subscribe/events?subscribe_type=events&channel=a&client_id=c";
    let mut listener = socket(&broker, path, &short).unwrap();
    let mut publisher = socket(&broker, "/send/stream", &short).unwrap();
    publisher.say(&event("c", "a"));
    assert_eq!(publisher.hear()["Sent"], true);
    assert_eq!(listener.hear()["Channel"], "a");
    for socket in [&mut listener, &mut publisher] {
        let (texts, code) = socket.last_words();
        let text = texts.last().unwrap()["message"].as_str().unwrap();
        assert!(text.contains("token expired"), "{text}");
        assert_eq!(code, Some(1001));
    }
    let refused = socket(&broker, path, &short).map(|_| ()).unwrap_err();
    let text = refused.failure(401);
    assert!(
        text.starts_with(&format!("{PREFIX}token is expired by ")),
        "{text}"
    );
    broker.broker.stop();
}

/// Rules for a client each.
const POLICY: &str = r#"[
    {"ClientID": "reader", "Channel": "a", "Events": true, "EventsStore": true, "Queues": true,
     "Commands": true, "Queries": true, "Read": true},
    {"ClientID": "writer", "Channel": "a", "Events": true, "EventsStore": true, "Queues": true,
     "Commands": true, "Queries": true, "Write": true},
    {"ClientID": "all", "Channel": ".*", "Events": true, "Read": true}
]"#;

fn guarded() -> HttpBroker {
    let policy = format!("authorization.policy_data={POLICY}");
    start(&["authorization.enable=true", &policy])
}

#[test]
fn what_no_rule_allows_is_refused_with_400() {
    let broker = guarded();
    let token = token("x", 600);
    let post = |path: &str, body: &Value| posted(&broker, path, &token, body);
    let mut stored = event("reader", "a");
    stored["Store"] = json!(true);
    let request = |client: &str, kind: i32| {
        json!({"ClientID": client, "Channel": "a", "RequestTypeData": kind, "Timeout": 100,
               "Metadata": "m"})
    };
    let batch =
        json!({"BatchID": "b", "Messages": [message("writer", "a"), message("reader", "a")]});
    let receive = json!({
        "ClientID": "writer", "Channel": "a", "MaxNumberOfMessages": 1, "WaitTimeSeconds": 1
    });
    let mut peek = receive.clone();
    peek["IsPeak"] = json!(true);
    let ack_all = json!({"ClientID": "reader", "Channel": "a", "WaitTimeSeconds": 1});
    for (path, body) in [
        ("/send/event", &event("reader", "a")),
        ("/send/event", &event("writer", "b")),
        ("/send/event", &event("xwriter", "a")),
        ("/send/event", &stored),
        ("/send/request", &request("reader", 1)),
        ("/send/request", &request("reader", 2)),
        ("/queue/send", &message("reader", "a")),
        ("/queue/send_batch", &batch),
        ("/queue/receive", &receive),
        ("/queue/receive", &peek),
        ("/queue/ack_all", &ack_all),
    ] {
        assert_eq!(post(path, body).failure(400), DENIED, "{path} {body}");
    }
    // All or nothing: the first message of the batch was allowed and is not there.
    let mut receive = receive;
    receive["ClientID"] = json!("reader");
    let nothing = post("/queue/receive", &receive).data();
    assert_eq!(nothing["Messages"], Value::Null);
    broker.broker.stop();
}

#[test]
fn what_a_rule_allows_is_done_and_responders_may_answer() {
    let broker = guarded();
    let token = token("x", 600);
    let post = |path: &str, body: &Value| posted(&broker, path, &token, body);
    assert_eq!(
        post("/send/event", &event("writer", "a")).data()["Sent"],
        true
    );
    assert_eq!(post("/queue/send", &message("writer", "a")).status, 200);
    let ack_all = json!({"ClientID": "writer", "Channel": "a", "WaitTimeSeconds": 1});
    assert_eq!(
        post("/queue/ack_all", &ack_all).data()["AffectedMessages"],
        1
    );

    let path = "/subscribe/requests?subscribe_type=queries&channel=a&client_id=reader";
    let mut responder = socket(&broker, path, &token).unwrap();
    let answered = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let request = json!({
                "ClientID": "writer", "Channel": "a", "RequestTypeData": 2, "Timeout": 30_000,
                "Metadata": "m"
            });
            post("/send/request", &request).data()
        });
        let request = responder.hear();
        let response = json!({
            "ClientID": "reader", "RequestID": request["RequestID"],
            "ReplyChannel": request["ReplyChannel"], "Metadata": "done", "Executed": true
        });
        assert_eq!(post("/send/response", &response).status, 200);
        asking.join().unwrap()
    });
    assert_eq!(answered["Metadata"], "done");
    drop(responder);
    broker.broker.stop();
}

#[test]
fn sockets_are_denied_before_they_open_or_in_their_own_words() {
    let broker = guarded();
    let token = token("x", 600);
    let subscribe = |client: &str, channel: &str| {
        let path = "/subscribe/events?subscribe_type=events";
        socket(
            &broker,
            &format!("{path}&channel={channel}&client_id={client}"),
            &token,
        )
    };
    for (client, channel) in [
        ("writer", "a"),
        ("reader", "b"),
        ("reader", "%3E"),
        ("reader", "*"),
    ] {
        let refused = subscribe(client, channel).map(|_| ()).unwrap_err();
        assert_eq!(refused.failure(400), DENIED, "{client} {channel}");
    }
    drop(subscribe("reader", "a").unwrap());
    // A wildcard needs rules for all that it can match.
    drop(subscribe("all", "%3E").unwrap());

    let mut queue = socket(&broker, "/queue/stream", &token).unwrap();
    queue.say(&json!({
        "ClientID": "writer", "Channel": "a", "StreamRequestTypeData": 1, "WaitTimeSeconds": 1,
        "VisibilitySeconds": 1
    }));
    let answer = queue.hear();
    assert_eq!(
        (&answer["IsError"], &answer["Error"]),
        (&json!(true), &json!(DENIED))
    );
    drop(queue);

    let mut publisher = socket(&broker, "/send/stream", &token).unwrap();
    publisher.say(&event("reader", "a"));
    assert_eq!(publisher.hear()["Error"], DENIED);
    publisher.say(&event("writer", "a"));
    assert_eq!(publisher.hear()["Sent"], true, "the stream goes on");
    drop(publisher);
    broker.broker.stop();
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let settings = ["limits.requests_per_second=1", "limits.requests_burst=1"];
    let flags = settings.iter().flat_map(|setting| ["--set", *setting]);
    let broker = HttpBroker::start_with(1, flags);
    let deadline = std::time::Instant::now() + PATIENCE;
    let refused = loop {
        let answer = broker.post("/send/event", &event("c", "a"));
        if answer.status != 200 {
            break answer;
        }
        assert!(std::time::Instant::now() < deadline, "never too often");
    };
    let text = refused.failure(429);
    assert!(
        text.starts_with("limit reached: limits.requests_per_second"),
        "{text}"
    );
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&after), "{after}");
    std::thread::sleep(Duration::from_secs(after));
    assert_eq!(broker.post("/send/event", &event("c", "a")).status, 200);
    broker.broker.stop();
}

#[test]
fn pages_of_other_sites_open_no_sockets_where_sites_are_named() {
    let flags = ["--set", "rest.cors.allow_origins=https://ops.example"];
    let broker = HttpBroker::start_with(1, flags);
    let own = format!("http://{}", broker.rest());
    let open = |origin: &str| opened(broker.rest(), "/send/stream", &[("origin", origin)]);
    for origin in ["https://ops.example", &own] {
        let mut socket = Socket::of(open(origin).unwrap());
        socket.say(&event("c", "a"));
        assert_eq!(socket.hear()["Sent"], true, "{origin}");
        socket.inner().send(Message::Ping("x".into())).unwrap();
    }
    for origin in ["https://evil.example", "http://ops.example", "null"] {
        let text = open(origin).map(|_| ()).unwrap_err().failure(403);
        assert!(text.contains("rest.cors.allow_origins"), "{origin}: {text}");
    }
    drop(opened(broker.rest(), "/send/stream", &[]).unwrap());
    broker.broker.stop();
}
