//! Floods: cheap for the peer, and bounded here.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::frame::{Frame, error, flag, kind};
use crate::mock::hpack;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Flooded, PATIENCE, Peer, grpc_framed};

/// What a flooded broker may grow by: buffers of a few connections, never the flood.
const GROWTH_BYTES_MAX: u64 = 64 * MIB;

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

/// Chunks of a flood of calls, after which every machine must have ended the connection.
const CHUNKS_MAX: usize = 2_000;

/// Calls that are reset as soon as they are made, until the broker ends the connection.
fn reset_rapidly(peer: &mut Peer, path: &str, message: Option<&[u8]>) -> Flooded {
    let block = hpack::encode(&Peer::call_fields(path));
    let mut outcome = Flooded::Taken;
    for _ in 0..CHUNKS_MAX {
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
        assert_ended_as_flood(peer);
    });
    broker.wait_zero(&["subscriptions", "connections"]);
}

/// Calls that were begun, and then taken back all at once: what every client does whose deadlines
/// pass. The connection stays.
pub(crate) fn calls_taken_back_together_are_no_flood(broker: &Broker) {
    let subscription = kubemq::subscribe(kubemq::EVENTS, "together.*", "");
    let mut peer = Peer::connect(broker.grpc());
    for _ in 0..3 {
        let streams: Vec<u32> = (0..500)
            .map(|_| peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription))
            .collect();
        let mut resets = Vec::new();
        for stream in streams {
            Frame::reset(stream, error::CANCEL).encode(&mut resets);
        }
        peer.write(&resets);
        let pong = peer.unary(path::PING, &[]);
        assert_eq!(pong.grpc_status(), Some(0), "{pong:?}");
    }
    drop(peer);
    broker.wait_zero(&["subscriptions", "connections"]);
}

/// Calls that the broker has to reset because of the frame behind each.
fn make_it_reset(peer: &mut Peer, mistake: impl Fn(u32) -> Frame) {
    let block = hpack::encode(&Peer::call_fields(path::SEND_EVENTS_STREAM));
    for _ in 0..CHUNKS_MAX {
        let mut chunk = Vec::new();
        for _ in 0..100 {
            let stream = peer.next_stream();
            Frame::headers(stream, block.clone(), false).encode(&mut chunk);
            mistake(stream).encode(&mut chunk);
        }
        if peer.flood(&chunk, 1, true) != Flooded::Taken {
            return;
        }
    }
    panic!("the flood ends the connection: {peer:?}");
}

pub(crate) fn calls_that_make_it_reset_are_bounded(broker: &Broker) {
    let mistakes: [fn(u32) -> Frame; 3] = [
        |stream| Frame::window_update(stream, 0),
        |stream| Frame::window_update(stream, 0x7fff_ffff),
        // A stream that depends on itself.
        |stream| {
            let payload = [&stream.to_be_bytes()[..], &[16]].concat();
            Frame::new(kind::PRIORITY, 0, stream, payload)
        },
    ];
    for mistake in mistakes {
        bounded(broker, |peer| make_it_reset(peer, mistake));
    }
}

/// The same frame again and again, until the broker ends the connection.
fn flood_with(peer: &mut Peer, frame: &Frame) {
    let chunk = frame.to_bytes().repeat(500);
    peer.flood(&chunk, CHUNKS_MAX, true);
    assert_ended_as_flood(peer);
}

pub(crate) fn frames_without_work_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        flood_with(peer, &Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 16]));
    });
    bounded(broker, |peer| {
        flood_with(peer, &Frame::new(0xbe, 0, 0, []));
    });
}

pub(crate) fn window_updates_are_bounded(broker: &Broker) {
    bounded(broker, |peer| {
        let stream = peer.open(path::SEND_EVENTS_STREAM);
        let mut pair = Frame::window_update(stream, 1).to_bytes();
        Frame::window_update(0, 1).encode(&mut pair);
        peer.flood(&pair.repeat(500), 100, true);
    });
}

/// A byte for each field: hundreds of fields in a head of some hundred bytes.
pub(crate) fn references_to_fields_are_bounded(broker: &Broker) {
    let mut block = hpack::encode(&Peer::call_fields(path::PING));
    // Remember `x: ` and refer to it.
    block.extend_from_slice(&[0x40, 1, b'x', 0]);
    block.extend([0x80 | 62].repeat(400));
    bounded(broker, |peer| {
        for _ in 0..20 {
            let mut chunk = Vec::new();
            for _ in 0..50 {
                let stream = peer.next_stream();
                Frame::headers(stream, block.clone(), true).encode(&mut chunk);
            }
            peer.flood(&chunk, 1, true);
        }
    });
}

/// Thousands of streams, each with a message of which a byte is missing that never comes.
pub(crate) fn messages_that_never_end_are_bounded(broker: &Broker) {
    let block = hpack::encode(&Peer::call_fields(path::SEND_EVENT));
    bounded(broker, |peer| {
        for length in [0x20_u8, 0xff] {
            let mut chunk = Vec::new();
            for _ in 0..1_000 {
                let stream = peer.next_stream();
                Frame::headers(stream, block.clone(), false).encode(&mut chunk);
                let promised = [0, 0, length, 0, 0, 0x0a];
                Frame::data(stream, promised, false).encode(&mut chunk);
            }
            peer.flood(&chunk, 1, true);
        }
    });
    broker.wait_zero(&["connections"]);
}

/// A compressed message whose call does not end stays in memory; so do its like on other streams,
/// up to the limit of the connection. What was let go of is with the allocator for a while.
pub(crate) fn inflated_messages_of_calls_without_end_are_bounded(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let before = broker.rss_bytes();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&kubemq::event("bombs", &vec![0; 60 << 20]))
        .unwrap();
    let mut message = grpc_framed(&bomb.finish().unwrap());
    message[0] = 1;
    let mut fields = Peer::call_fields(path::SEND_EVENT);
    fields.push(("grpc-encoding", "gzip"));
    let streams: Vec<u32> = (0..40)
        .map(|_| {
            let stream = peer.open_with(&fields, false);
            assert!(peer.send_framed(stream, &message, false));
            stream
        })
        .collect();
    let refused = |peer: &mut Peer| {
        let ended = streams.iter().filter(|stream| peer.reply(**stream).ended);
        ended.count() >= 36
    };
    assert!(
        peer.wait(refused),
        "the limit of 200 MiB has room for three"
    );
    broker.assert_serves();
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(
        grown < 1_000 * MIB,
        "2.4 GiB are asked for: grew by {grown} bytes"
    );
    drop(peer);
    broker.wait_zero(&["connections"]);
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
