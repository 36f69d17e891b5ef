//! Connections: too many, too slow, too quiet.

use std::net::SocketAddr;
use std::time::Duration;

use super::socket::Socket;
use super::{Attack, Field, Over, Port, on};

pub(super) const ATTACKS: &[Attack] = &[
    on(Port::Grpc, "connections", connections),
    on(Port::Grpc, "half-open", half_open),
    on(Port::Grpc, "slow-preface", slow_preface),
    on(Port::Grpc, "garbage", garbage),
    on(Port::Rest, "rest-connections", connections),
    on(Port::Api, "api-connections", connections),
    with_tls("tls-slow-hello", tls_slow_hello),
    with_tls("tls-handshakes", tls_handshakes),
    with_tls("tls-hellos-unread", tls_hellos_unread),
    with_tls("tls-garbage", garbage),
    with_tls("tls-half-open", half_open),
];

const fn with_tls(name: &'static str, run: fn(&Field, SocketAddr)) -> Attack {
    Attack {
        tls: true,
        ..on(Port::Grpc, name, run)
    }
}

/// Connections of a thread that are held.
const HELD: usize = 400;

/// Made and dropped.
fn connections(field: &Field, address: SocketAddr) {
    while !field.is_over() {
        let _made_or_not = field.connect_plain(address);
    }
}

/// Holds as many connections as it may, and lets each say something now and then. Those that the
/// broker has ended are made anew.
pub(super) fn hold(field: &Field, address: SocketAddr, count: usize, said: impl Fn(usize) -> u8) {
    let mut held: Vec<(Socket, usize)> = Vec::new();
    while !field.is_over() {
        while held.len() < count && !field.is_over() {
            match field.connect_plain(address) {
                Ok(socket) => held.push((socket, 0)),
                Err(_) => break,
            }
        }
        held.retain_mut(|(socket, at)| {
            let byte = said(*at);
            *at += 1;
            let outcome = socket.send(field, &[byte], true);
            if outcome == Err(Over::Refused) {
                field
                    .refusals
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            outcome.is_ok()
        });
        field.pause(Duration::from_millis(100));
    }
}

/// Made, and nothing said.
fn half_open(field: &Field, address: SocketAddr) {
    let mut held = Vec::new();
    while !field.is_over() {
        if held.len() < HELD {
            held.extend(field.connect_plain(address));
        } else {
            field.pause(Duration::from_millis(50));
            held.retain_mut(|socket| socket.drain().is_ok());
        }
    }
}

/// The opening of HTTP/2, a byte at a time.
fn slow_preface(field: &Field, address: SocketAddr) {
    const OPENING: &[u8] =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff";
    hold(field, address, HELD, |at| {
        OPENING.get(at).copied().unwrap_or(0)
    });
}

/// What no protocol begins with.
fn garbage(field: &Field, address: SocketAddr) {
    let noise = b"\x93\x02garbage\xff\x00".repeat(2_000);
    while !field.is_over() {
        let outcome = field.connect_plain(address).and_then(|mut socket| {
            loop {
                socket.send(field, &noise, true)?;
            }
        });
        if outcome == Err::<(), _>(Over::Refused) {
            field
                .refusals
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// A whole opening of TLS 1.3, with the key share of nobody.
fn hello(number: usize) -> Vec<u8> {
    let mut random = [0x5a; 32];
    let (changing, _) = random.split_at_mut(8);
    changing.copy_from_slice(&u64::try_from(number).unwrap_or_default().to_be_bytes());
    let extension = |kind: u16, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap_or_default();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
    };
    let share = [&[0, 36, 0, 0x1d, 0, 32][..], &random].concat();
    let extensions = [
        // X25519 and P-256; what it verifies; TLS 1.3; the share of X25519; h2.
        extension(10, &[0, 4, 0, 0x1d, 0, 0x17]),
        extension(13, &[0, 8, 4, 3, 8, 4, 8, 7, 4, 1]),
        extension(43, &[2, 3, 4]),
        extension(51, &share),
        extension(16, &[0, 3, 2, b'h', b'2']),
    ]
    .concat();
    let length = u16::try_from(extensions.len()).unwrap_or_default();
    let body = [
        // TLS 1.2, as it says; no session; one suite; no compression.
        &[3, 3][..],
        &random,
        &[0, 0, 2, 0x13, 1, 1, 0],
        &length.to_be_bytes(),
        &extensions,
    ]
    .concat();
    let length = u16::try_from(body.len()).unwrap_or_default();
    let message = [&[1, 0][..], &length.to_be_bytes(), &body].concat();
    let length = u16::try_from(message.len()).unwrap_or_default();
    [&[22, 3, 1][..], &length.to_be_bytes(), &message].concat()
}

/// The opening of TLS, a byte at a time.
fn tls_slow_hello(field: &Field, address: SocketAddr) {
    let hello = hello(0);
    hold(field, address, HELD, |at| {
        hello.get(at).copied().unwrap_or(0)
    });
}

/// Has the broker sign, and goes.
fn tls_handshakes(field: &Field, address: SocketAddr) {
    let mut number = 0;
    while !field.is_over() {
        number += 1;
        let _made_or_not = field.connect_plain(address).and_then(|mut socket| {
            socket.send(field, &hello(number), false)?;
            socket.wait_for_some(field)
        });
    }
}

/// Has the broker sign for hundreds at once, and takes none of it.
fn tls_hellos_unread(field: &Field, address: SocketAddr) {
    let mut number = 0;
    while !field.is_over() {
        let mut held = Vec::new();
        while held.len() < HELD && !field.is_over() {
            number += 1;
            held.extend(field.connect_plain(address).and_then(|mut socket| {
                socket.send(field, &hello(number), false)?;
                Ok(socket)
            }));
        }
        field.pause(Duration::from_millis(200));
    }
}
