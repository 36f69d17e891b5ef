//! WebSockets that speak in odd frames.

use std::net::SocketAddr;

use super::http::on_socket;
use super::{Attack, Field, Port, on};

pub(super) const ATTACKS: &[Attack] = &[
    on(Port::Rest, "ws-pings", pings),
    on(Port::Rest, "ws-pings-unread", pings_unread),
    on(Port::Rest, "ws-empty-fragments", empty_fragments),
    on(Port::Rest, "ws-endless-message", endless_message),
    on(Port::Rest, "ws-huge-frame", huge_frame),
    on(Port::Rest, "ws-bad-json", bad_json),
];

/// Where events are published.
const STREAM: &str = "/send/stream";

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(0x80 | u8::try_from(short).unwrap_or_default()),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            let length = u64::try_from(payload.len()).unwrap_or_default();
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn pings(field: &Field, address: SocketAddr) {
    on_socket(
        field,
        address,
        STREAM,
        &frame(0x89, b"attack").repeat(500),
        true,
    );
}

fn pings_unread(field: &Field, address: SocketAddr) {
    on_socket(
        field,
        address,
        STREAM,
        &frame(0x89, &[7; 125]).repeat(500),
        false,
    );
}

/// A message that goes on for ever, a fragment of nothing at a time.
fn empty_fragments(field: &Field, address: SocketAddr) {
    let mut bytes = frame(0x01, b"");
    bytes.extend(frame(0x00, b"").repeat(1_000));
    // The message does not end: what begins anew is an error, what continues is not.
    field.sockets(address, |mut socket| {
        socket.send(field, &super::http::upgrade(STREAM), false)?;
        socket.wait_for_some(field)?;
        socket.send(field, &bytes, true)?;
        loop {
            socket.send(field, bytes.get(6..).unwrap_or_default(), true)?;
        }
    });
}

/// The same with something in it.
fn endless_message(field: &Field, address: SocketAddr) {
    let more = frame(0x00, &[b' '; 16 << 10]).repeat(16);
    field.sockets(address, |mut socket| {
        socket.send(field, &super::http::upgrade(STREAM), false)?;
        socket.wait_for_some(field)?;
        socket.send(field, &frame(0x01, b""), true)?;
        loop {
            socket.send(field, &more, true)?;
        }
    });
}

/// A frame that is said to be larger than all memory.
fn huge_frame(field: &Field, address: SocketAddr) {
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&(1_u64 << 62).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    on_socket(field, address, STREAM, &head, true);
}

fn bad_json(field: &Field, address: SocketAddr) {
    on_socket(field, address, STREAM, &frame(0x81, b"{").repeat(500), true);
}
