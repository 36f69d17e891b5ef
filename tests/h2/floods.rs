//! Floods: cheap for the peer, and bounded here.

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::frame::{Frame, error, flag, kind};
use crate::mock::hpack;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Flooded, PATIENCE, Peer, grpc_framed};

/// What a flooded broker may grow by: buffers of a few connections, never the flood.
const GROWTH_BYTES_MAX: u64 = 24 * MIB;

/// Runs one flood on several connections, one after the other; memory must not follow.
fn bounded(broker: &Broker, mut flood: impl FnMut(&mut Peer)) {
    let once = |flood: &mut dyn FnMut(&mut Peer)| {
        let mut peer = Peer::connect(broker.grpc());
        flood(&mut peer);
        // Another client while the flooder is still connected.
        broker.assert_serves();
    };
    once(&mut flood);
    let before = broker.rss_bytes();
    for _ in 0..4 {
        once(&mut flood);
    }
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {grown} bytes");
}

/// Thousands of calls, each reset as soon as it is made.
fn reset_rapidly(peer: &mut Peer, path: &str, message: Option<&[u8]>) -> Flooded {
    let block = hpack::encode(&Peer::call_fields(path));
    let mut outcome = Flooded::Taken;
    for _ in 0..100 {
        let mut chunk = Vec::new();
        for _ in 0..100 {
            let stream = peer.next_stream();
            Frame::headers(stream, block.clone(), false).encode(&mut chunk);
            if let Some(message) = message {
                Frame::data(stream, grpc_framed(message), true).encode(&mut chunk);
            }
            Frame::reset(stream, error::CANCEL).encode(&mut chunk);
        }
        outcome = peer.flood(&chunk, 1, true);
        if outcome != Flooded::Taken {
            break;
        }
    }
    outcome
}

pub(crate) fn rapid_reset_is_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        reset_rapidly(peer, path::SEND_REQUEST, None);
        assert_ended_as_flood(peer);
    });
}

pub(crate) fn rapid_reset_of_subscriptions_is_bounded(broker: &Broker) {
    let subscription = kubemq::subscribe(kubemq::EVENTS, "rapid.*", "group");
    bounded(broker, |peer| {
        reset_rapidly(peer, path::SUBSCRIBE_TO_EVENTS, Some(&subscription));
    });
    broker.wait_zero(&["subscriptions", "connections"]);
}

/// The broker ends the connection, and says why if it still can.
fn assert_ended_as_flood(peer: &mut Peer) {
    assert!(peer.wait_refused(PATIENCE), "the flood ends the connection");
    if let Some(goaway) = &peer.goaway {
        assert_eq!(goaway.code, error::ENHANCE_YOUR_CALM, "{goaway:?}");
    }
}

fn settings_chunk() -> Vec<u8> {
    Frame::settings(&[(1, 4096), (4, 65_535)])
        .to_bytes()
        .repeat(500)
}

pub(crate) fn settings_frames_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        peer.flood(&settings_chunk(), 200, true);
        assert_ended_as_flood(peer);
    });
}

pub(crate) fn settings_frames_whose_answers_are_not_read_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        peer.flood(&settings_chunk(), 2_000, false);
        assert_ended_as_flood(peer);
    });
}

fn ping_chunk() -> Vec<u8> {
    Frame::ping(*b"12345678").to_bytes().repeat(500)
}

pub(crate) fn pings_are_answered_one_by_one(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    peer.write(&ping_chunk());
    assert!(
        peer.wait(|p| p.pongs == 500),
        "{} of a burst of 500 answered",
        peer.pongs
    );
    // Whoever waits for each answer may go on for ever.
    for answered in 501..3_000 {
        peer.send(&Frame::ping(*b"87654321"));
        assert!(
            peer.wait(|p| p.pongs == answered),
            "ping {answered}: {peer:?}"
        );
    }
}

pub(crate) fn pings_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        peer.flood(&ping_chunk(), 200, true);
        assert_ended_as_flood(peer);
    });
}

pub(crate) fn pings_whose_answers_are_not_read_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        peer.flood(&ping_chunk(), 2_000, false);
        assert_ended_as_flood(peer);
    });
}

pub(crate) fn empty_data_frames_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        let stream = peer.open(path::SEND_EVENTS_STREAM);
        let chunk = Frame::data(stream, [], false).to_bytes().repeat(1_000);
        peer.flood(&chunk, 200, true);
    });
}

pub(crate) fn continuation_frames_without_end_end_the_connection(broker: &Broker) {
    bounded(broker, |peer| {
        let stream = peer.next_stream();
        let block = hpack::encode(&Peer::call_fields(path::PING));
        peer.send(&Frame::new(kind::HEADERS, 0, stream, block));
        let piece = hpack::encode(&[("x-more", "and more")]);
        let chunk = Frame::new(kind::CONTINUATION, 0, stream, piece)
            .to_bytes()
            .repeat(1_000);
        let outcome = peer.flood(&chunk, 200, true);
        assert!(
            outcome != Flooded::Taken || peer.wait_refused(PATIENCE),
            "{outcome:?}"
        );
    });
}

pub(crate) fn huge_header_lists_are_refused(broker: &Broker) {
    bounded(broker, |peer| {
        let long = "x".repeat(4_000);
        let names: Vec<String> = (0..40).map(|n| format!("x-huge-{n}")).collect();
        let mut fields = Peer::call_fields(path::PING);
        fields.extend(names.iter().map(|name| (name.as_str(), long.as_str())));
        let block = hpack::encode(&fields);
        let stream = peer.next_stream();
        let mut pieces = block.chunks(16_000).peekable();
        let mut kind = kind::HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() {
                flag::END_HEADERS
            } else {
                0
            };
            peer.send(&Frame::new(kind, flags, stream, piece));
            kind = kind::CONTINUATION;
        }
        let refused = |p: &mut Peer| p.reply(stream).ended || p.goaway.is_some();
        let refused = peer.wait(refused) || peer.ended.is_some();
        assert!(refused, "160 KB of header fields are refused");
        assert_ne!(
            peer.reply(stream).grpc_status(),
            Some(0),
            "{:?}",
            peer.reply(stream)
        );
    });
}
