//! Attacks on connections: too slow, too many, too quiet, and with no end. `tests/h2/floods.rs` has
//! those of HTTP/2. After each, others are served and the broker ends cleanly; the figures are
//! those of `ringmq-attacks`, in `docs/security.md`.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "fuzz/web_socket.rs"]
mod web_socket;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};

use harness::Broker;
use mock::broker::{MIB, Watched as _};
use mock::frame::PREFACE;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections of an attack.
const MANY: usize = 200;

/// What so many connections may take, with what a broker under attack keeps in its stocks.
const GROWTH_BYTES_MAX: u64 = 32 * MIB;

/// A broker whose patience is short.
fn broker(more: &[&str]) -> Broker {
    let settings = [
        "grpc.handshake_timeout_seconds=1",
        "rest.read_timeout=1",
        "rest.write_timeout=1",
    ];
    let settings = settings.iter().chain(more);
    Broker::start_with(2, settings.flat_map(|setting| ["--set", setting]))
}

fn attacked(broker: Broker, attack: impl FnOnce(&Broker)) {
    let before = broker.rss_bytes();
    attack(&broker);
    broker.assert_serves();
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {grown} bytes");
    broker.end();
}

fn port(broker: &Broker, name: &str) -> SocketAddr {
    broker.address(name).expect("it is served")
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the broker listens");
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Whether the broker has ended a connection; what it says before is thrown away.
fn has_ended(socket: &mut TcpStream) -> bool {
    let mut thrown_away = [0; 4096];
    loop {
        match socket.read(&mut thrown_away) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Many connections say `said`, byte by byte and for ever. Each of them is ended.
fn dribble(address: SocketAddr, said: impl Fn(usize) -> Option<u8>) {
    let mut sockets: Vec<TcpStream> = (0..MANY).map(|_| connect(address)).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut at = 0;
    while !sockets.is_empty() {
        assert!(
            Instant::now() < deadline,
            "{} are still open",
            sockets.len()
        );
        sockets.retain_mut(|socket| {
            let written = said(at).map_or(Ok(1), |byte| socket.write(&[byte]));
            let broken = matches!(&written, Err(error) if error.kind() != ErrorKind::WouldBlock);
            !broken && !has_ended(socket)
        });
        at += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn openings_that_come_slowly_are_not_waited_for_for_ever() {
    attacked(broker(&[]), |broker| {
        dribble(broker.grpc(), |at| PREFACE.get(at).copied());
    });
}

#[test]
fn who_connects_and_says_nothing_is_thrown_out_on_every_port() {
    attacked(broker(&[]), |broker| {
        for name in ["grpc", "rest", "api"] {
            dribble(port(broker, name), |_| None);
        }
    });
}

#[test]
fn heads_that_come_slowly_are_not_waited_for_for_ever() {
    const HEAD: &[u8] = b"GET /ping HTTP/1.1\r\nX-Slow: ";
    attacked(broker(&[]), |broker| {
        for name in ["rest", "api"] {
            let said = |at| Some(HEAD.get(at).copied().unwrap_or(b'a'));
            dribble(port(broker, name), said);
        }
    });
}

#[test]
fn bodies_that_come_slowly_are_not_waited_for_for_ever() {
    const HEAD: &[u8] =
        b"POST /send/event HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                          Content-Length: 100000\r\n\r\n";
    attacked(broker(&[]), |broker| {
        let mut sockets: Vec<TcpStream> =
            (0..MANY).map(|_| connect(port(broker, "rest"))).collect();
        for socket in &mut sockets {
            assert_eq!(socket.write(HEAD).unwrap(), HEAD.len());
        }
        let deadline = Instant::now() + PATIENCE;
        while !sockets.is_empty() {
            assert!(
                Instant::now() < deadline,
                "{} are still open",
                sockets.len()
            );
            sockets.retain_mut(|socket| socket.write(b" ").is_ok() && !has_ended(socket));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// Says the same for ever, until the broker ends the connection.
fn ended_by(address: SocketAddr, opening: &[u8], chunk: &[u8]) {
    let mut socket = TcpStream::connect(address).expect("the broker listens");
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut said = socket.write_all(opening);
    while said.is_ok() {
        assert!(Instant::now() < deadline, "it goes on for ever");
        said = socket.write_all(chunk);
    }
    let kind = said.unwrap_err().kind();
    assert!(kind != ErrorKind::WouldBlock, "neither read nor ended");
}

#[test]
fn heads_without_end_end_the_connection() {
    let line = b"X-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100);
    attacked(broker(&[]), |broker| {
        for name in ["rest", "api"] {
            ended_by(
                port(broker, name),
                b"GET /ping HTTP/1.1\r\nHost: a\r\n",
                &line,
            );
        }
    });
}

#[test]
fn noise_ends_the_connection() {
    let noise = b"\x93\x02noise\xff\0".repeat(1_000);
    attacked(broker(&[]), |broker| {
        for name in ["grpc", "rest", "api"] {
            ended_by(port(broker, name), &noise, &noise);
        }
    });
}

#[test]
fn messages_of_a_web_socket_without_end_end_it() {
    let more = web_socket::frame(0x00, &vec![b' '; 60_000]).repeat(4);
    attacked(broker(&["rest.body_limit=1000000"]), |broker| {
        let opening = [
            web_socket::opening("/send/stream"),
            web_socket::frame(0x01, b""),
        ]
        .concat();
        ended_by(port(broker, "rest"), &opening, &more);
    });
}

#[test]
fn a_frame_of_a_web_socket_that_fits_no_memory_ends_it() {
    let mut huge = vec![0x81, 0xff];
    huge.extend_from_slice(&(1_u64 << 62).to_be_bytes());
    huge.extend_from_slice(&[0; 4]);
    attacked(broker(&[]), |broker| {
        let opening = [web_socket::opening("/send/stream"), huge].concat();
        ended_by(port(broker, "rest"), &opening, &vec![b' '; 60_000]);
    });
}

/// Made and dropped, as fast as that goes.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    attacked(broker(&[]), |broker| {
        for name in ["grpc", "rest", "api"] {
            for _ in 0..1_000 {
                drop(TcpStream::connect(port(broker, name)));
            }
        }
        broker.wait_zero(&["connections"]);
    });
}

/// The beginning of an opening of TLS: a record whose rest comes a byte at a time.
#[test]
fn openings_of_tls_that_come_slowly_are_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("server.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let settings = [("cert", "server.pem"), ("key", "key.pem")]
        .map(|(key, name)| format!("security.{key}.filename={}", path(name).display()));
    let broker = broker(&[&settings[0], &settings[1]]);
    for name in ["grpc", "rest"] {
        dribble(port(&broker, name), |at| match at {
            0 => Some(22),
            1 | 2 => Some(3),
            3 => Some(0x3f),
            4 => Some(0xff),
            5 => Some(1),
            _ => Some(0),
        });
    }
    broker.end();
}
