//! HTTP/1.1: slow, endless, unread; and JSON that is nothing but structure.

use std::net::SocketAddr;

use super::connections::hold;
use super::{Attack, Field, Port, on};

pub(super) const ATTACKS: &[Attack] = &[
    on(Port::Rest, "http-slow-heads", slow_heads),
    on(Port::Api, "api-slow-heads", slow_heads),
    on(Port::Rest, "http-slow-bodies", slow_bodies),
    on(Port::Rest, "http-endless-head", endless_head),
    on(Port::Rest, "http-requests", requests),
    on(Port::Rest, "http-unread", unread),
    on(Port::Rest, "http-tiny-chunks", tiny_chunks),
    on(Port::Rest, "http-large-bodies", large_bodies),
    on(Port::Rest, "json-depth", json_depth),
    on(Port::Rest, "json-numbers", json_numbers),
    on(Port::Rest, "json-keys", json_keys),
    on(Port::Rest, "json-batch", json_batch),
    on(Port::Api, "api-requests", api_requests),
];

/// Connections of a thread that are held.
const HELD: usize = 400;

const GET: &[u8] = b"GET /ping HTTP/1.1\r\nHost: broker\r\n\r\n";

/// Heads that come a byte at a time and have no end.
fn slow_heads(field: &Field, address: SocketAddr) {
    const HEAD: &[u8] = b"GET /ping HTTP/1.1\r\nHost: broker\r\nX-Slow: ";
    hold(field, address, HELD, |at| {
        HEAD.get(at).copied().unwrap_or(b'a')
    });
}

/// Bodies that do.
fn slow_bodies(field: &Field, address: SocketAddr) {
    let head = post("/send/event", 100_000);
    hold(field, address, HELD, |at| {
        head.get(at).copied().unwrap_or(b' ')
    });
}

fn post(path: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    head.into_bytes()
}

/// The same bytes again and again.
fn again(field: &Field, address: SocketAddr, first: &[u8], bytes: &[u8], reads: bool) {
    field.sockets(address, |mut socket| {
        socket.send(field, first, reads)?;
        loop {
            socket.send(field, bytes, reads)?;
        }
    });
}

fn endless_head(field: &Field, address: SocketAddr) {
    let line = b"X-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(200);
    again(
        field,
        address,
        b"GET /ping HTTP/1.1\r\nHost: broker\r\n",
        &line,
        true,
    );
}

/// Requests without waiting for answers.
fn requests(field: &Field, address: SocketAddr) {
    again(field, address, &[], &GET.repeat(200), true);
}

fn api_requests(field: &Field, address: SocketAddr) {
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    again(field, address, &[], &request.repeat(20), true);
}

/// And without reading them.
fn unread(field: &Field, address: SocketAddr) {
    again(field, address, &[], &GET.repeat(200), false);
}

/// A body in chunks of a byte.
fn tiny_chunks(field: &Field, address: SocketAddr) {
    let head = b"POST /send/event HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n";
    again(field, address, head, &b"1\r\n \r\n".repeat(2_000), true);
}

/// The same request of JSON, one after the other.
fn posts(field: &Field, address: SocketAddr, path: &str, body: &[u8]) {
    let head = post(path, body.len());
    field.sockets(address, |mut socket| {
        loop {
            socket.send(field, &head, true)?;
            socket.send(field, body, true)?;
            socket.wait_for_some(field)?;
        }
    });
}

const BODY_BYTES: usize = 64 << 20;

/// A body that is taken and means nothing.
fn large_bodies(field: &Field, address: SocketAddr) {
    posts(field, address, "/send/event", &vec![b' '; BODY_BYTES]);
}

fn json_depth(field: &Field, address: SocketAddr) {
    posts(field, address, "/send/event", &vec![b'['; BODY_BYTES]);
}

/// A body of bytes, written as numbers.
fn json_numbers(field: &Field, address: SocketAddr) {
    let mut body = b"{\"Channel\":\"attack\",\"ClientID\":\"attack\",\"Body\":[1".to_vec();
    body.extend(b",1".repeat(BODY_BYTES / 2));
    body.extend_from_slice(b"]}");
    posts(field, address, "/send/event", &body);
}

/// Tags, of which there is no end.
fn json_keys(field: &Field, address: SocketAddr) {
    let mut body = b"{\"Channel\":\"attack\",\"ClientID\":\"attack\",\"Tags\":{\"\":\"\"".to_vec();
    for number in 0..BODY_BYTES / 14 {
        body.extend_from_slice(format!(",\"{number:08}\":\"\"").as_bytes());
    }
    body.extend_from_slice(b"}}");
    posts(field, address, "/send/event", &body);
}

/// Queue messages that say nothing, in one request.
fn json_batch(field: &Field, address: SocketAddr) {
    let mut body = b"{\"BatchID\":\"attack\",\"Messages\":[{}".to_vec();
    body.extend(b",{}".repeat(BODY_BYTES / 3));
    body.extend_from_slice(b"]}");
    posts(field, address, "/queue/send_batch", &body);
}

/// Opens a WebSocket.
pub(super) fn upgrade(path: &str) -> Vec<u8> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    );
    head.into_bytes()
}

/// As [`again`], on a WebSocket.
pub(super) fn on_socket(field: &Field, address: SocketAddr, path: &str, bytes: &[u8], reads: bool) {
    field.sockets(address, |mut socket| {
        socket.send(field, &upgrade(path), false)?;
        socket.wait_for_some(field)?;
        loop {
            socket.send(field, bytes, reads)?;
        }
    });
}
