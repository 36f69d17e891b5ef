//! Who may use the management port once everybody has to say who it is, and sessions of browsers.

use serde_json::{Value, json};

use crate::broker::{Answer, HttpBroker, PATIENCE};
use crate::security::{flags, opened, token};
use crate::sockets::Socket;

const POLICY: &str = r#"[
    {"ClientID": "looker", "Channel": ".*", "Management": true, "Read": true},
    {"ClientID": "boss", "Channel": ".*", "Management": true, "Events": true, "Queues": true,
     "Read": true, "Write": true},
    {"ClientID": "half", "Channel": "a", "Management": true, "Read": true, "Write": true}
]"#;

fn start(more: &[&str]) -> HttpBroker {
    HttpBroker::start_with(2, flags(more))
}

fn get(broker: &HttpBroker, path: &str, headers: &[(&str, &str)]) -> Answer {
    broker.send(broker.api(), "GET", path, headers, b"")
}

fn post(broker: &HttpBroker, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let json = ("Content-Type", "application/json");
    let headers: Vec<_> = headers.iter().copied().chain([json]).collect();
    broker.send(
        broker.api(),
        "POST",
        path,
        &headers,
        body.to_string().as_bytes(),
    )
}

fn bearer(subject: &str) -> String {
    format!("Bearer {}", token(subject, 600))
}

/// Opens a session; the cookie as a browser sends it back, and the header that set it.
fn log_in(broker: &HttpBroker, token: &str) -> (String, String) {
    let answer = post(broker, "/api/login", &[], &json!({"token": token}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let header = answer.header("set-cookie").unwrap().to_owned();
    let (cookie, _) = header.split_once(';').unwrap();
    (cookie.to_owned(), header)
}

fn error(answer: &Answer) -> String {
    let envelope = answer.json();
    assert_eq!(envelope["error"], true, "{answer:?}");
    envelope["error_string"].as_str().unwrap().to_owned()
}

#[test]
fn all_but_probes_and_scrapes_asks_who_it_is() {
    let broker = start(&[]);
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(&broker, path, &[]).status, 200, "{path}");
    }
    for path in [
        "/config",
        "/api/snapshot",
        "/v1/stats/queues",
        "/api/session",
        "/nothing",
    ] {
        let answer = get(&broker, path, &[]);
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        assert!(error(&answer).contains("/api/login"), "{answer:?}");
    }
    let action = json!({"type": "create_channel", "data": {"type": "queues", "name": "q"}});
    assert_eq!(post(&broker, "/api/request", &[], &action).status, 401);
    for path in ["/api/connection", "/api/monitor?kind=events&channel=a"] {
        assert_eq!(
            opened(broker.api(), path, &[]).unwrap_err().status,
            401,
            "{path}"
        );
    }
    // A person gets a page that asks.
    for path in ["/", "/dashboard/", "/queues/x"] {
        let page = get(&broker, path, &[]);
        assert_eq!(page.status, 401, "{path}");
        assert!(page.text.contains("Token or API key"), "{path}");
    }
    let bearer = bearer("anybody");
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(get(&broker, "/", &headers).status, 200);
    let config = get(&broker, "/config", &headers);
    assert_eq!(config.json()["authentication"]["jwtConfig"]["key"], "***");
    let created = post(&broker, "/api/request", &headers, &action).json();
    assert_eq!(created["error"], false, "{created}");
    let odd = [("Authorization", "Basic YTpi")];
    assert_eq!(
        error(&get(&broker, "/config", &odd)),
        "invalid authentication header"
    );
    let bad = [("Authorization", "Bearer x.y")];
    let text = error(&get(&broker, "/config", &bad));
    assert!(text.starts_with("Error 421: "), "{text}");
    broker.broker.stop();
}

#[test]
fn a_session_stands_for_its_token_until_it_is_closed() {
    let broker = start(&[]);
    let (cookie, header) = log_in(&broker, &token("alice", 600));
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(header.contains(attribute), "{header}");
    }
    assert!(!header.contains("Secure"), "there is no TLS: {header}");
    let headers = [("Cookie", cookie.as_str())];
    // Connections land on every core.
    for _ in 0..8 {
        let mut raw = crate::raw::Raw::connect(broker.api());
        raw.write(format!(
            "GET /api/session HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"
        ));
        let who = raw.response().json();
        let data = &who["data"];
        assert_eq!(
            (&data["name"], &data["proof"]),
            (&json!("alice"), &json!("session"))
        );
        assert!(data["expires_at"].is_string(), "{who}");
    }
    assert_eq!(get(&broker, "/config", &headers).status, 200);
    let mut viewer = opened(broker.api(), "/api/connection", &[("cookie", &cookie)]).unwrap();
    assert!(viewer.read().unwrap().is_text(), "the snapshot");
    let other = [("Cookie", "ringmq-session=0123")];
    assert_eq!(get(&broker, "/config", &other).status, 401);

    let out = post(&broker, "/api/logout", &headers, &Value::Null);
    assert_eq!(out.status, 200);
    assert!(
        out.header("set-cookie").unwrap().contains("Max-Age=0"),
        "{out:?}"
    );
    assert_eq!(get(&broker, "/config", &headers).status, 401);
    // Who looked on with it looks on no longer.
    let code = loop {
        if let tungstenite::Message::Close(frame) = viewer.read().unwrap() {
            break frame.map(|it| u16::from(it.code));
        }
    };
    assert_eq!(code, Some(1008));
    broker.broker.stop();
}

#[test]
fn a_session_ends_with_its_token() {
    let broker = start(&[]);
    // Long enough for what comes before its end, on whatever machine.
    let (cookie, _) = log_in(&broker, &token("alice", 15));
    let path = "/api/monitor?kind=events&channel=a";
    let mut viewer = Socket::of(opened(broker.api(), path, &[("cookie", &cookie)]).unwrap());
    let headers = [("Cookie", cookie.as_str())];
    let deadline = std::time::Instant::now() + 2 * PATIENCE;
    while get(&broker, "/config", &headers).status != 401 {
        assert!(std::time::Instant::now() < deadline, "it never ends");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(viewer.last_words().1, Some(1008));
    broker.broker.stop();
}

#[test]
fn sessions_are_opened_by_what_is_recognised_and_by_own_pages() {
    let broker = start(&[]);
    let login =
        |headers: &[(&str, &str)], body: &Value| post(&broker, "/api/login", headers, body).status;
    let good = json!({"token": token("alice", 600)});
    assert_eq!(login(&[], &json!({"token": "x.y"})), 401);
    assert_eq!(login(&[], &json!({"token": token("alice", -5)})), 401);
    assert_eq!(login(&[], &json!({"password": "x"})), 400);
    for foreign in [
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        assert_eq!(login(&[foreign], &good), 403, "{foreign:?}");
    }
    let own = format!("http://{}", broker.api());
    assert_eq!(login(&[("Origin", &own)], &good), 200);
    // A form could be sent by any page.
    let form = [("Content-Type", "text/plain")];
    let body = good.to_string();
    let answer = broker.send(broker.api(), "POST", "/api/login", &form, body.as_bytes());
    assert_eq!(answer.status, 400);
    assert_eq!(get(&broker, "/api/login", &[]).status, 405);
    // A page of another site cannot use a session either.
    let (cookie, _) = log_in(&broker, &token("alice", 600));
    let headers = [
        ("Cookie", cookie.as_str()),
        ("Origin", "https://evil.example"),
    ];
    let action = json!({"type": "purge_queue_channel", "data": {"channel": "q"}});
    assert_eq!(post(&broker, "/api/request", &headers, &action).status, 403);
    assert_eq!(
        post(&broker, "/api/logout", &headers, &Value::Null).status,
        403
    );
    assert_eq!(get(&broker, "/config", &[("Cookie", &cookie)]).status, 200);
    broker.broker.stop();
}

#[test]
fn the_policy_says_who_may_look_and_who_may_act() {
    let policy = format!("authorization.policy_data={POLICY}");
    let settings = [
        "authorization.enable=true",
        "authentication.client_id_binding=forced",
        &policy,
    ];
    let broker = start(&settings);
    let [looker, boss, half, nobody] = ["looker", "boss", "half", "nobody"].map(bearer);
    let looks = |bearer: &str, path: &str| get(&broker, path, &[("Authorization", bearer)]).status;
    for path in ["/config", "/v1/stats/channels", "/api/snapshot"] {
        assert_eq!(
            (looks(&looker, path), looks(&boss, path)),
            (200, 200),
            "{path}"
        );
        assert_eq!(
            (looks(&half, path), looks(&nobody, path)),
            (403, 403),
            "{path}"
        );
    }
    let acts = |bearer: &str, action: &Value| {
        post(
            &broker,
            "/api/request",
            &[("Authorization", bearer)],
            action,
        )
    };
    let create =
        |name: &str| json!({"type": "create_channel", "data": {"type": "queues", "name": name}});
    let denied = "Error 412: access denied to resource";
    for (who, name) in [(&looker, "a"), (&nobody, "a"), (&half, "b")] {
        let text = error(&acts(who, &create(name)));
        assert!(text.ends_with(denied), "{name}: {text}");
    }
    for (who, name) in [(&boss, "b"), (&half, "a")] {
        assert_eq!(acts(who, &create(name)).json()["error"], false, "{name}");
    }
    // What is done with messages is asked for, too.
    let send = json!({"type": "send_queue_message", "data": {"channel": "a", "body": "x"}});
    assert!(error(&acts(&half, &send)).ends_with(denied));
    assert_eq!(acts(&boss, &send).json()["error"], false);
    let monitor = |bearer: &str, channel: &str| {
        let path = format!("/api/monitor?kind=events&channel={channel}");
        opened(broker.api(), &path, &[("authorization", bearer)]).map(|_| ())
    };
    assert!(monitor(&boss, "a").is_ok());
    for who in [&looker, &half, &nobody] {
        assert_eq!(monitor(who, "a").unwrap_err().status, 403);
    }
    broker.broker.stop();
}

#[test]
fn there_may_be_one_who_administers() {
    let broker = start(&["api.admin_username=root"]);
    let [root, other] = ["root", "other"].map(bearer);
    let looks = |bearer: &str| get(&broker, "/config", &[("Authorization", bearer)]).status;
    assert_eq!((looks(&root), looks(&other)), (200, 403));
    let body = json!({"token": token("other", 600)});
    assert_eq!(post(&broker, "/api/login", &[], &body).status, 403);
    broker.broker.stop();
}

#[test]
fn the_port_can_be_left_to_this_machine_alone() {
    let broker = start(&["api.auth.enable=false"]);
    assert_eq!(get(&broker, "/config", &[]).status, 200);
    let action = json!({"type": "create_channel", "data": {"type": "queues", "name": "q"}});
    let created = post(&broker, "/api/request", &[], &action).json();
    assert_eq!(created["error"], false, "{created}");
    let answer = post(
        &broker,
        "/api/login",
        &[],
        &json!({"token": token("a", 60)}),
    );
    assert!(error(&answer).contains("no sessions"), "{answer:?}");
    broker.broker.stop();
}
