//! Calls that are not what gRPC says.

use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched};
use crate::mock::frame::{Frame, error, setting};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Peer, Reply, grpc_framed};

const INTERNAL: u32 = 13;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;

/// Sends one DATA frame on a new call and waits for the answer.
fn answer_to(peer: &mut Peer, path: &str, data: &[u8]) -> Reply {
    let stream = peer.open(path);
    peer.send(&Frame::data(stream, data, true));
    peer.finish(stream)
}

pub(crate) fn a_message_prefix_of_four_gibibytes_is_refused_at_once(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let before = broker.rss_bytes();
    for method in [
        path::SEND_EVENT,
        path::SEND_EVENTS_STREAM,
        path::SEND_REQUEST,
    ] {
        // The stream stays open: the prefix alone is enough for the refusal.
        let stream = peer.open(method);
        peer.send(&Frame::data(stream, [0, 0xff, 0xff, 0xff, 0xff], false));
        let asked = Instant::now();
        let reply = peer.finish(stream);
        assert_eq!(
            reply.grpc_status(),
            Some(RESOURCE_EXHAUSTED),
            "{method}: {reply:?}"
        );
        assert!(reply.grpc_message().contains("4294967295"), "{reply:?}");
        assert!(
            asked.elapsed().as_secs() < 2,
            "{method} took {:?}",
            asked.elapsed()
        );
    }
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 8 * MIB, "grew by {grown} bytes");
}

pub(crate) fn a_compressed_message_without_an_encoding_is_an_error(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let reply = answer_to(&mut peer, path::SEND_EVENT, &[1, 0, 0, 0, 2, 0x1f, 0x8b]);
    assert_eq!(reply.grpc_status(), Some(INTERNAL), "{reply:?}");
    assert!(peer.goaway.is_none(), "the connection stays");
}

/// 256 KiB that inflate to 256 MiB, above the limit of a message.
pub(crate) fn a_compression_bomb_is_refused(broker: &Broker) {
    let zeros = vec![0; 1 << 20];
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..256 {
        bomb.write_all(&zeros).unwrap();
    }
    let mut framed = grpc_framed(&bomb.finish().unwrap());
    framed[0] = 1;
    let mut peer = Peer::connect(broker.grpc());
    let mut fields = Peer::call_fields(path::SEND_EVENT);
    fields.push(("grpc-encoding", "gzip"));
    let stream = peer.open_with(&fields, false);
    peer.send_framed(stream, &framed, true);
    let reply = peer.finish(stream);
    assert_eq!(reply.grpc_status(), Some(RESOURCE_EXHAUSTED), "{reply:?}");
}

pub(crate) fn a_message_cut_at_the_end_of_the_stream_is_an_error(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    for cut in [&[0, 0, 0][..], &[0, 0, 0, 0, 9, 0x12, 1]] {
        for method in [
            path::SEND_EVENT,
            path::SUBSCRIBE_TO_EVENTS,
            path::SEND_EVENTS_STREAM,
        ] {
            let reply = answer_to(&mut peer, method, cut);
            assert_eq!(
                reply.grpc_status(),
                Some(INTERNAL),
                "{method}, {cut:?}: {reply:?}"
            );
        }
    }
    // No message at all, where there must be one.
    let reply = answer_to(&mut peer, path::SEND_EVENT, &[]);
    assert!(
        matches!(reply.grpc_status(), Some(INTERNAL | UNIMPLEMENTED)),
        "{reply:?}"
    );
}

pub(crate) fn an_unknown_content_type_is_an_unsupported_media_type(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    for content_type in ["text/html", "application/json", "application/grpcweb"] {
        let mut fields = Peer::call_fields(path::PING);
        fields.retain(|(name, _)| *name != "content-type");
        fields.push(("content-type", content_type));
        let stream = peer.open_with(&fields, false);
        peer.send_message(stream, &[], true);
        let reply = peer.finish(stream);
        assert_eq!(
            reply.http_status(),
            Some("415"),
            "{content_type}: {reply:?}"
        );
    }
    let mut fields = Peer::call_fields(path::PING);
    fields.retain(|(name, _)| *name != "content-type");
    fields.push(("content-type", "application/grpc+proto"));
    let stream = peer.open_with(&fields, false);
    peer.send_message(stream, &[], true);
    assert_eq!(peer.finish(stream).grpc_status(), Some(0));
}

pub(crate) fn a_get_request_is_not_a_call(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let mut fields = Peer::call_fields(path::PING);
    fields.retain(|(name, _)| *name != ":method");
    fields.insert(0, (":method", "GET"));
    let stream = peer.open_with(&fields, true);
    let reply = peer.finish(stream);
    assert_eq!(reply.http_status(), Some("405"), "{reply:?}");
}

pub(crate) fn a_method_that_does_not_exist_is_unimplemented(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let unknown = [
        (
            "/kubemq.kubemq/Nope",
            "unknown method Nope for service kubemq.kubemq",
        ),
        ("/no.such.Service/Ping", "unknown service no.such.Service"),
    ];
    for (path, text) in unknown {
        let reply = peer.unary(path, &[]);
        assert_eq!(
            reply.grpc_status(),
            Some(UNIMPLEMENTED),
            "{path}: {reply:?}"
        );
        assert_eq!(reply.grpc_message(), text);
    }
    for path in [
        "/",
        "",
        "/kubemq.kubemq",
        "kubemq.kubemq/Ping",
        "/kubemq.kubemq/Ping/x",
    ] {
        let stream = peer.call(path, &[]);
        let reply = peer.finish(stream);
        let refused = reply.grpc_status() == Some(UNIMPLEMENTED) || reply.reset.is_some();
        assert!(refused, "{path:?}: {reply:?}");
    }
}

pub(crate) fn streams_above_the_limit_are_refused_and_the_others_served(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let limit = peer.settings.get(&setting::MAX_CONCURRENT_STREAMS).copied();
    let limit = limit.expect("the broker announces how many streams it takes") as usize;
    let subscription = kubemq::subscribe(kubemq::EVENTS, "many.streams", "");
    let mut streams = Vec::new();
    for _ in 0..limit {
        streams.push(peer.call(path::SUBSCRIBE_TO_EVENTS, &subscription));
    }
    let all_open = |p: &mut Peer| streams.iter().all(|s| p.reply(*s).headers.is_some());
    assert!(
        peer.wait(all_open),
        "all streams up to the limit are served"
    );
    for _ in 0..50 {
        let above = peer.call(path::SUBSCRIBE_TO_EVENTS, &subscription);
        let reply = peer.finish(above);
        assert_eq!(reply.reset, Some(error::REFUSED_STREAM), "{reply:?}");
    }
    assert!(
        peer.goaway.is_none() && peer.ended.is_none(),
        "the connection lives"
    );
    // One leaves, another may come.
    peer.send(&Frame::reset(streams[0], error::CANCEL));
    let ping = peer.unary(path::PING, &[]);
    assert_eq!(ping.grpc_status(), Some(0), "{ping:?}");
}
