//! Connections that never become HTTP/2.

use std::time::{Duration, Instant};

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::frame::PREFACE;
use crate::mock::peer::{PATIENCE, Peer};
use crate::random::Random;

pub(crate) fn a_wrong_preface_ends_the_connection(broker: &Broker) {
    let tls_hello = [
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc][..],
        &[3; 200],
    ];
    let openings: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        &tls_hello.concat(),
        &[0; 64],
    ];
    for opening in openings {
        let mut peer = Peer::silent(broker.grpc());
        peer.write(opening);
        let refused = peer.wait_refused(PATIENCE);
        assert!(refused, "refused: {}", String::from_utf8_lossy(opening));
    }
}

pub(crate) fn garbage_after_the_preface_ends_the_connection(broker: &Broker) {
    let mut random = Random::new(1);
    for _ in 0..64 {
        let mut peer = Peer::silent(broker.grpc());
        let garbage: Vec<u8> = (0..4_096).map(|_| random.byte()).collect();
        peer.write(PREFACE);
        peer.write(&garbage);
        assert!(peer.wait_refused(PATIENCE), "refused: {:?}", &garbage[..32]);
    }
}

/// Slowloris: connections that say nothing, half of the preface, or one byte a second.
pub(crate) fn a_client_that_never_speaks_is_thrown_out(broker: &Broker) {
    let mut peers: Vec<Peer> = (0..100).map(|_| Peer::silent(broker.grpc())).collect();
    for peer in peers.iter_mut().skip(50) {
        peer.write(&PREFACE[..12]);
    }
    let mut dribbling = Peer::silent(broker.grpc());
    broker.assert_serves();

    let deadline = Instant::now() + 2 * PATIENCE;
    let mut rest = PREFACE.iter();
    while !dribbling.wait_refused(Duration::from_secs(1)) {
        assert!(
            Instant::now() < deadline,
            "a byte a second keeps the connection for ever"
        );
        if let Some(byte) = rest.next() {
            dribbling.write(&[*byte]);
        }
    }
    for peer in &mut peers {
        assert!(peer.wait_refused(PATIENCE), "a silent connection is ended");
    }
    broker.wait_zero(&["connections"]);
}
