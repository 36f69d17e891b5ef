//! A real broker and peers that say what comes of mutated examples, through every layer that the
//! bytes of a network meet.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::random::Random;
use super::{Case, cases};
use crate::harness::Broker;
use crate::mock::broker::Watched as _;
use crate::mock::frame::Frame;
use crate::mock::hpack;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Peer, grpc_framed};
use crate::mock::queues;

/// How long nothing has to come before a peer goes on: not a bound of the broker's.
const QUIET: Duration = Duration::from_millis(20);

/// Every unary method, with what a client sends there; none that waits for somebody.
fn unary() -> Vec<(&'static str, Vec<u8>)> {
    let request = kubemq::request(kubemq::QUERY, "fuzz", b"{}", 5);
    let message = queues::message("id", "fuzz", b"body");
    vec![
        (path::PING, Vec::new()),
        (path::SEND_EVENT, kubemq::event("fuzz", b"body")),
        (
            path::SEND_EVENT,
            kubemq::stored_event("id", "fuzz", b"body"),
        ),
        (path::SEND_REQUEST, request.clone()),
        (path::SEND_RESPONSE, kubemq::response(&request)),
        (path::SEND_QUEUE_MESSAGE, message.clone()),
        (
            path::SEND_QUEUE_MESSAGES_BATCH,
            queues::upstream("id", [message.as_slice()]),
        ),
        (
            path::RECEIVE_QUEUE_MESSAGES,
            queues::receive("fuzz", 1, 0, false),
        ),
        (path::ACK_ALL_QUEUE_MESSAGES, queues::ack_all("fuzz", 0)),
        (path::QUEUES_INFO, Vec::new()),
    ]
}

/// Every streaming method, likewise.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let message = queues::message("id", "fuzz", b"body");
    vec![
        (path::SEND_EVENTS_STREAM, kubemq::event("fuzz", b"body")),
        (
            path::SUBSCRIBE_TO_EVENTS,
            kubemq::subscribe(kubemq::EVENTS, "fuzz.>", "group"),
        ),
        (
            path::SUBSCRIBE_TO_EVENTS,
            kubemq::subscribe_stored("fuzz", "client", 2),
        ),
        (
            path::SUBSCRIBE_TO_REQUESTS,
            kubemq::subscribe(kubemq::QUERIES, "fuzz", ""),
        ),
        (
            path::QUEUES_UPSTREAM,
            queues::upstream("id", [message.as_slice()]),
        ),
        (
            path::QUEUES_DOWNSTREAM,
            queues::get("id", "fuzz", 1, 5, false),
        ),
        (
            path::STREAM_QUEUE_MESSAGE,
            queues::stream_request("id", 1, "fuzz", 1, 1, 0),
        ),
    ]
}

/// Contract messages through the whole unary path: each call is answered or refused, whatever it
/// says.
pub(crate) fn unary_calls(broker: &Broker) {
    let calls = unary();
    let examples: Vec<_> = calls.iter().map(|(_, message)| message.clone()).collect();
    let mut peer = Peer::connect(broker.grpc());
    for seed in 0..cases(1_500) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let (path, _) = calls[random.below(calls.len())];
        let reply = peer.unary(path, &random.input(&examples));
        assert!(reply.grpc_status().is_some(), "{path}: {reply:?}");
    }
}

/// Streams: what makes no sense is answered or ends the stream, and nothing else.
pub(crate) fn streaming_calls(broker: &Broker) {
    let calls = streams();
    let examples: Vec<_> = calls.iter().map(|(_, message)| message.clone()).collect();
    for seed in 0..cases(200) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let mut peer = Peer::connect(broker.grpc());
        for _ in 0..4 {
            let (path, _) = calls[random.below(calls.len())];
            let stream = peer.open(path);
            for _ in 0..random.below(4) {
                peer.send_message(stream, &random.input(&examples), false);
            }
            if random.below(3) > 0 {
                peer.send(&Frame::data(stream, [], true));
            }
        }
        let pong = peer.unary(path::PING, &[]);
        assert_eq!(
            pong.grpc_status(),
            Some(0),
            "the connection lives: {pong:?}"
        );
    }
    broker.wait_zero(&["connections", "subscriptions"]);
}

/// Bytes of HTTP/2, behind a good opening.
pub(crate) fn http2(broker: &Broker) {
    let block = hpack::encode(&Peer::call_fields(path::SEND_EVENT));
    let message = grpc_framed(&kubemq::event("fuzz", b"body"));
    let mut call = Frame::headers(1, block, false).to_bytes();
    Frame::data(1, message, true).encode(&mut call);
    let examples = [
        call,
        Frame::settings(&[(1, 0), (3, 1), (4, 0)]).to_bytes(),
        [
            Frame::window_update(0, 1),
            Frame::reset(1, 8),
            Frame::ping(*b"12345678"),
        ]
        .iter()
        .flat_map(Frame::to_bytes)
        .collect(),
    ];
    for seed in 0..cases(400) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let mut peer = Peer::connect(broker.grpc());
        for _ in 0..8 {
            if !peer.write(&random.input(&examples)) {
                break;
            }
        }
        peer.wait_for(QUIET, |peer| peer.goaway.is_some());
    }
    broker.wait_zero(&["connections", "subscriptions", "pending"]);
}

/// Says something and takes what comes until nothing does.
fn exchange(address: SocketAddr, said: &[&[u8]]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).expect("the broker listens");
    socket.set_read_timeout(Some(QUIET)).unwrap();
    socket
        .set_write_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut heard = Vec::new();
    let mut piece = [0; 16 << 10];
    for bytes in said {
        if socket.write_all(bytes).is_err() {
            return heard;
        }
        loop {
            match socket.read(&mut piece) {
                Ok(0) => return heard,
                Ok(count) => heard.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return heard,
            }
        }
    }
    heard
}

fn ports(broker: &Broker) -> [SocketAddr; 2] {
    ["rest", "api"].map(|name| broker.address(name).expect("it is served"))
}

/// Heads and bodies of HTTP/1.1.
pub(crate) fn http1(broker: &Broker) {
    let json = br#"{"Channel":"fuzz","ClientID":"fuzz","Body":"aGVsbG8="}"#;
    let post = |more: &str, body: &[u8]| {
        let head = format!(
            "POST /send/event HTTP/1.1\r\nHost: fuzz\r\nContent-Type: application/json\r\n{more}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let examples = [
        b"GET /ping HTTP/1.1\r\nHost: fuzz\r\nConnection: keep-alive\r\n\r\n".repeat(2),
        post("Content-Length: 54\r\n", json),
        post(
            "Transfer-Encoding: chunked\r\n",
            b"5\r\n{\"Cha\r\n3\r\n\":1\r\n0\r\n\r\n",
        ),
        b"OPTIONS /send/event HTTP/1.0\r\nOrigin: http://a\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec(),
        super::web_socket::opening("/send/stream"),
    ];
    for seed in 0..cases(300) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let port = ports(broker)[random.below(2)];
        let heard = exchange(port, &[&random.input(&examples)]);
        let spoken = heard.is_empty() || heard.starts_with(b"HTTP/1.") || heard.starts_with(b"\0");
        assert!(spoken, "{:?}", String::from_utf8_lossy(&heard));
    }
}

/// JSON of every route that takes it: an answer of JSON, whatever the body says.
pub(crate) fn json(broker: &Broker) {
    let routes = ["event", "request", "response"].map(|name| format!("/send/{name}"));
    let queues = ["send", "send_batch", "receive", "ack_all"].map(|name| format!("/queue/{name}"));
    let routes = [&routes[..], &queues].concat();
    let examples = [
        r#"{"EventID":"id","ClientID":"c","Channel":"fuzz","Metadata":"m",
            "Body":"aGVsbG8=","Store":true,"Tags":{"a":"b"}}"#,
        r#"{"RequestID":"id","RequestTypeData":2,"ClientID":"c","Channel":"fuzz",
            "Body":[1,2,255],"Timeout":5,"CacheTTL":1}"#,
        r#"{"RequestID":"id","ClientID":"c","ReplyChannel":"_INBOX.x.1","Executed":true,
            "Timestamp":-1.5e3}"#,
        r#"{"MessageID":"id","ClientID":"c","Channel":"fuzz",
            "Policy":{"ExpirationSeconds":1,"DelaySeconds":0}}"#,
        r#"{"BatchID":"id","Messages":[{"ClientID":"c","Channel":"fuzz","Body":""},null,{}]}"#,
        r#"{"ClientID":"c","Channel":"fuzz","MaxNumberOfMessages":1,"WaitTimeSeconds":0,
            "IsPeak":true}"#,
    ];
    let examples = examples.map(|text| text.as_bytes().to_vec());
    let address = broker.address("rest").expect("it is served");
    let mut raw = Keeping::connect(address);
    for seed in 0..cases(1_500) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let route = &routes[random.below(routes.len())];
        let answer = raw.post(route, &random.input(&examples));
        let envelope: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        assert!(envelope["is_error"].is_boolean(), "{route}: {answer}");
    }
}

/// A connection of HTTP/1.1 that is kept from request to request.
struct Keeping {
    address: SocketAddr,
    socket: TcpStream,
    read: Vec<u8>,
}

impl Keeping {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the broker listens");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let read = Vec::new();
        Self {
            address,
            socket,
            read,
        }
    }

    /// The body of the answer.
    fn post(&mut self, route: &str, body: &[u8]) -> String {
        let head = format!(
            "POST {route} HTTP/1.1\r\nHost: fuzz\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.socket
            .write_all(&[head.as_bytes(), body].concat())
            .unwrap();
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length = head.split_once("content-length: ").map(|(_, rest)| rest);
                let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
                let length: usize = length.expect("an answer has a length");
                if rest.len() >= length {
                    if head.contains("connection: close") {
                        *self = Self::connect(self.address);
                    }
                    self.read.clear();
                    return rest.to_owned();
                }
            }
            let mut piece = [0; 16 << 10];
            let count = self.socket.read(&mut piece).expect("an answer comes");
            assert!(count > 0, "an answer comes: {text:?}");
            self.read.extend_from_slice(&piece[..count]);
        }
    }
}

/// Frames on every WebSocket.
pub(crate) fn web_sockets(broker: &Broker) {
    let address = broker.address("rest").expect("it is served");
    let text = br#"{"ClientID":"c","Channel":"fuzz","Body":"aGVsbG8="}"#;
    let examples = [
        super::web_socket::frame(0x81, text),
        super::web_socket::frame(0x89, b"ping"),
        super::web_socket::frame(0x88, &[0x03, 0xe8]),
        [
            super::web_socket::frame(0x01, b"{"),
            super::web_socket::frame(0x80, b"}"),
        ]
        .concat(),
        super::web_socket::frame(0x82, &vec![b' '; 70_000]),
    ];
    let paths = [
        "/send/stream",
        "/subscribe/events?channel=fuzz&client_id=c&subscribe_type=events",
        "/subscribe/requests?channel=fuzz&client_id=c&subscribe_type=commands",
        "/queue/stream",
        "/queue/upstream",
        "/queue/downstream",
    ];
    for seed in 0..cases(200) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let opening = super::web_socket::opening(paths[random.below(paths.len())]);
        let frames: Vec<u8> = (0..3).flat_map(|_| random.input(&examples)).collect();
        let heard = exchange(address, &[&opening, &frames]);
        assert!(
            heard.starts_with(b"HTTP/1.1 "),
            "{:?}",
            String::from_utf8_lossy(&heard)
        );
    }
    broker.wait_zero(&["subscriptions"]);
}
