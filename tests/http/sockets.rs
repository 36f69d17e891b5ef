//! WebSockets of the REST port: how they open, live and end, whatever they carry.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::SockRef;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::broker::{HttpBroker, PATIENCE, base64, websocket};
use crate::mock::broker::{Watched as _, level};

/// Silence of this length is taken for silence.
const SILENCE: Duration = Duration::from_millis(300);

/// A client's side of a socket.
pub(crate) struct Socket(WebSocket<TcpStream>);

impl Socket {
    pub(crate) fn open(broker: &HttpBroker, path: &str) -> Self {
        Self(broker.socket(path))
    }

    pub(crate) const fn of(socket: WebSocket<TcpStream>) -> Self {
        Self(socket)
    }

    /// Subscribes to plain events, in a group when it has a name.
    pub(crate) fn events(broker: &HttpBroker, channel: &str, group: &str) -> Self {
        let path = format!(
            "/subscribe/events?client_id=c1&channel={channel}&group={group}&subscribe_type=events"
        );
        Self::open(broker, &path)
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        self.0.send(text.into()).unwrap();
    }

    pub(crate) fn say_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        self.0.send(bytes.into().into()).unwrap();
    }

    /// Hands a frame over without sending it.
    pub(crate) fn write(&mut self, message: &Value) {
        self.0.write(message.to_string().into()).unwrap();
    }

    pub(crate) fn flush(&mut self) {
        self.0.flush().unwrap();
    }

    /// The next text, as JSON. Pings are answered.
    pub(crate) fn hear(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// Waits until the broker knows that all texts have arrived: it has asked by a ping, and the
    /// answer is on its way, ahead of whatever this client sends next.
    pub(crate) fn confirm(&mut self) {
        while !matches!(self.0.read().unwrap(), Message::Ping(_)) {}
        self.0.flush().unwrap();
    }

    /// Whether nothing comes for a while.
    pub(crate) fn is_silent(&mut self) -> bool {
        let stream = self.0.get_ref();
        let patience = stream.read_timeout().unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let heard = loop {
            match self.0.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                heard => break heard,
            }
        };
        self.0.get_ref().set_read_timeout(patience).unwrap();
        match heard {
            Ok(message) => panic!("{message:?}"),
            Err(tungstenite::Error::Io(error)) => error.kind() == std::io::ErrorKind::WouldBlock,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads to the close frame; its code, and the texts before it.
    pub(crate) fn last_words(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut texts = Vec::new();
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => texts.push(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return (texts, frame.map(|frame| frame.code.into())),
                _ => {}
            }
        }
    }

    /// Closes in order, and waits for the end of the connection.
    pub(crate) fn leave(mut self) {
        self.0.close(None).unwrap();
        while self.0.read().is_ok() {}
    }

    /// Is gone as a crashed process is.
    pub(crate) fn vanish(self) {
        let stream = SockRef::from(self.0.get_ref());
        stream.set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn inner(&mut self) -> &mut WebSocket<TcpStream> {
        &mut self.0
    }
}

/// Waits until the broker has seen that all sockets are gone; one connection is that of REST.
pub(crate) fn wait_gone(broker: &HttpBroker) {
    let deadline = Instant::now() + PATIENCE;
    while level(&broker.broker.status(), "connections") > 1 {
        assert!(Instant::now() < deadline, "connections are left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An event for [`HttpBroker::post`] and publish streams.
pub(crate) fn event(id: &str, channel: &str, body: &str) -> Value {
    json!({"EventID": id, "ClientID": "s1", "Channel": channel, "Body": base64(body)})
}

/// Publishes a plain event by REST.
pub(crate) fn publish(broker: &HttpBroker, id: &str, channel: &str) {
    let sent = broker.post("/send/event", &event(id, channel, id)).data();
    assert_eq!(sent["Sent"], true);
}

#[test]
fn a_request_that_opens_no_socket_is_told_why() {
    let broker = HttpBroker::start(1);
    let path = "/subscribe/events?client_id=c1&channel=x&subscribe_type=events";
    let version = ("Sec-WebSocket-Version", "13");
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let connection = ("Connection", "Upgrade");
    let upgrade = ("Upgrade", "websocket");
    let table: [(&[(&str, &str)], &str); 5] = [
        (&[], "'upgrade' token not found in 'Connection' header"),
        (&[connection], "'websocket' token not found in 'Upgrade'"),
        (&[connection, upgrade, key], "unsupported version: 13"),
        (
            &[connection, upgrade, key, ("Sec-WebSocket-Version", "8")],
            "unsupported version: 13",
        ),
        (&[connection, upgrade, version], "'Sec-WebSocket-Key'"),
    ];
    for (headers, text) in table {
        let answer = broker.send(broker.rest(), "GET", path, headers, b"");
        let failure = answer.failure(400);
        assert!(failure.starts_with("websocket: "), "{failure}");
        assert!(failure.contains(text), "{failure}");
    }
    let answer = broker.send(broker.rest(), "GET", path, &[connection, upgrade, key], b"");
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    assert_eq!(level(&broker.broker.status(), "subscriptions"), 0);
    broker.end();
}

#[test]
fn what_is_wrong_with_a_subscription_is_the_text_of_an_ordinary_answer() {
    let broker = HttpBroker::start(1);
    let events = "/subscribe/events";
    let requests = "/subscribe/requests";
    let stored = "client_id=c1&channel=x&subscribe_type=events_store";
    let table = [
        (events, "client_id=&channel=x&subscribe_type=events", "101"),
        (events, "channel=x&subscribe_type=events", "101"),
        (events, "client_id=c&channel=&subscribe_type=events", "102"),
        (events, "client_id=c&channel=x&subscribe_type=foo", "207"),
        (
            events,
            "client_id=c&channel=x&subscribe_type=commands",
            "207",
        ),
        (events, stored, "111"),
        (events, &format!("{stored}&events_store_type_data=9"), "111"),
        (events, &format!("{stored}&events_store_type_data=x"), "111"),
        (events, &format!("{stored}&events_store_type_data=4"), "112"),
        (events, &format!("{stored}&events_store_type_data=5"), "113"),
        (events, &format!("{stored}&events_store_type_data=6"), "114"),
        (
            events,
            "client_id=c&channel=x.*&subscribe_type=events_store&events_store_type_data=1",
            "107",
        ),
        (
            events,
            "client_id=c&channel=x&subscribe_type=events&events_store_type_data=1",
            "118",
        ),
        (
            requests,
            "client_id=c&channel=x&subscribe_type=events",
            "207",
        ),
        (
            requests,
            "client_id=&channel=x&subscribe_type=commands",
            "101",
        ),
        (
            requests,
            "client_id=c&channel=x%20y&subscribe_type=queries",
            "108",
        ),
    ];
    for (path, query, number) in table {
        let answer = websocket(broker.rest(), &format!("{path}?{query}")).unwrap_err();
        let failure = answer.failure(400);
        assert!(
            failure.starts_with(&format!("Error {number}: ")),
            "{query}: {failure}"
        );
    }
    let path = "/subscribe/requests?client_id=r1&channel=x.*&subscribe_type=commands";
    Socket::open(&broker, path).leave();
    broker.broker.wait_zero(&["subscriptions", "pending"]);
    broker.end();
}

#[test]
fn a_ping_is_answered_a_close_code_repeated_and_what_a_subscriber_says_ignored() {
    let broker = HttpBroker::start(1);
    let mut socket = Socket::events(&broker, "life", "");
    socket.say_text("hello");
    socket.say_text("{bad");
    socket.say_binary([0, 255]);
    assert!(socket.is_silent());
    let client = socket.inner();
    client.send(Message::Ping("hi".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("hi".into()));
    publish(&broker, "e1", "life");
    assert_eq!(socket.hear()["EventID"], "e1");
    let frame = CloseFrame {
        code: 4000.into(),
        reason: "bye".into(),
    };
    socket.inner().close(Some(frame)).unwrap();
    let Message::Close(Some(answer)) = socket.inner().read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!((u16::from(answer.code), &*answer.reason), (4000, ""));
    broker.broker.wait_zero(&["subscriptions", "pending"]);
    broker.end();
}

#[test]
fn an_event_in_fragments_and_a_large_one_arrive_whole() {
    let broker = HttpBroker::start(2);
    let mut reader = Socket::events(&broker, "whole", "");
    let mut writer = Socket::open(&broker, "/send/stream");
    let text = event("in pieces", "whole", "abc").to_string();
    let (start, rest) = text.split_at(20);
    let (middle, end) = rest.split_at(20);
    for (piece, opcode, last) in [
        (start, Data::Text, false),
        (middle, Data::Continue, false),
        (end, Data::Continue, true),
    ] {
        let frame = Frame::message(piece.to_owned(), OpCode::Data(opcode), last);
        writer.inner().send(Message::Frame(frame)).unwrap();
        if !last {
            writer.inner().send(Message::Ping("p".into())).unwrap();
        }
    }
    assert_eq!(writer.hear()["Sent"], true);
    assert_eq!(reader.hear()["EventID"], "in pieces");

    let body = "x".repeat(3 << 20);
    writer.say(&event("large", "whole", &body));
    assert_eq!(writer.hear(), json!({"EventID": "large", "Sent": true}));
    let received = reader.hear();
    assert_eq!(received["EventID"], "large");
    assert_eq!(
        received["Body"].as_str().unwrap().len(),
        base64(&body).len()
    );
    writer.leave();
    reader.leave();
    broker.end();
}

#[test]
fn large_frames_and_small_ones_keep_their_order() {
    let broker = HttpBroker::start(1);
    let mut listener = Socket::events(&broker, "a", "");
    let mut publisher = Socket::open(&broker, "/send/stream");
    let large = "x".repeat(3 << 20);
    for (id, body) in [
        ("e1", "first"),
        ("e2", &large),
        ("e3", "last"),
        ("e4", &large),
    ] {
        publisher.say(&event(id, "a", body));
    }
    publisher.say_text(&format!("{{\"EventID\": \"e5\", \"Metadata\": \"{large}\""));
    for (id, sent) in [
        ("e1", true),
        ("e2", true),
        ("e3", true),
        ("e4", true),
        ("e5", false),
    ] {
        let result = publisher.hear();
        if sent {
            assert_eq!(result["EventID"], id);
        }
        assert_eq!(result["Sent"] == true, sent, "{id}");
    }
    for id in ["e1", "e2", "e3", "e4"] {
        let received = listener.hear();
        assert_eq!(received["EventID"], id);
        let length = crate::broker::from_base64(&received["Body"]).len();
        assert_eq!(length > 1 << 20, ["e2", "e4"].contains(&id));
    }
    listener.leave();
    publisher.leave();
    broker.end();
}

#[test]
fn commands_and_queries_come_by_socket_and_are_answered_by_rest() {
    let broker = HttpBroker::start(2);
    for (kind, name) in [(1, "commands"), (2, "queries")] {
        let path =
            format!("/subscribe/requests?client_id=r1&channel=ask.{name}&subscribe_type={name}");
        let mut responder = Socket::open(&broker, &path);
        let request = json!({
            "RequestID": "q1", "RequestTypeData": kind, "ClientID": "s1", "Timeout": 20_000,
            "Channel": format!("ask.{name}"), "Metadata": "m", "Body": base64("x"), "Tags": {"z": "1"},
        });
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| broker.post("/send/request", &request).data());
            let asked = responder.hear();
            for (field, expected) in [
                ("RequestID", json!("q1")),
                ("RequestTypeData", json!(kind)),
                ("Channel", request["Channel"].clone()),
                ("Body", json!(base64("x"))),
                ("Tags", json!({"z": "1"})),
            ] {
                assert_eq!(asked[field], expected, "{field} of {asked}");
            }
            let response = json!({
                "ClientID": "r1", "RequestID": "q1", "ReplyChannel": asked["ReplyChannel"],
                "Executed": true, "Metadata": "rm", "Body": base64("ans"),
            });
            assert_eq!(broker.post("/send/response", &response).data(), Value::Null);
            asking.join().unwrap()
        });
        assert_eq!(answer["Executed"], true);
        let body = if kind == 2 {
            json!(base64("ans"))
        } else {
            Value::Null
        };
        assert_eq!(answer["Body"], body, "a command's answer has no body");
        responder.leave();
    }
    broker.broker.wait_zero(&["subscriptions", "pending"]);
    broker.end();
}

#[test]
fn the_end_of_the_broker_is_told_before_the_socket_closes() {
    let broker = HttpBroker::start(2);
    let mut sockets = [
        Socket::events(&broker, "end", ""),
        Socket::open(
            &broker,
            "/subscribe/events?client_id=c2&channel=end&subscribe_type=events_store&events_store_type_data=1",
        ),
        Socket::open(
            &broker,
            "/subscribe/requests?client_id=c1&channel=end&subscribe_type=queries",
        ),
        Socket::open(&broker, "/send/stream"),
        Socket::open(&broker, "/queue/stream"),
        Socket::open(&broker, "/queue/upstream"),
        Socket::open(&broker, "/queue/downstream"),
    ];
    broker.broker.signal(Signal::TERM);
    for socket in &mut sockets {
        let (texts, code) = socket.last_words();
        let told = json!({
            "is_error": true,
            "message": "reason Error 409: server is in shutdown mode: \
                        Error 205: connection was closed by server",
            "data": null,
        });
        assert_eq!(texts, [told]);
        assert_eq!(code, Some(1001));
    }
    broker.broker.end();
}

#[test]
fn a_thousand_sockets_leave_nothing_behind() {
    let broker = HttpBroker::start(2);
    let tasks = level(&broker.broker.status(), "tasks");
    let paths = [
        "/send/stream",
        "/queue/stream",
        "/queue/upstream",
        "/queue/downstream",
        "/subscribe/events?client_id=c1&channel=many.*&subscribe_type=events",
        "/subscribe/requests?client_id=c1&channel=many&group=g&subscribe_type=commands",
    ];
    for round in 0..10 {
        let open: Vec<_> = (0..100)
            .map(|number| Socket::open(&broker, paths[(round + number) % paths.len()]))
            .collect();
        for (number, socket) in open.into_iter().enumerate() {
            match number % 3 {
                0 => socket.vanish(),
                1 => drop(socket),
                _ => socket.leave(),
            }
        }
    }
    let status = broker
        .broker
        .wait_zero(&["connections", "subscriptions", "pending"]);
    // Alarms and what a report asks for come and go.
    let left = level(&status, "tasks");
    assert!(left <= tasks + 8, "{tasks} before, {left} after");
    assert_eq!(level(&status, "task_panics"), 0);
    broker.end();
}
