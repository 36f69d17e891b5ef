//! Flow control: windows out of bounds, and readers that do not read.

use std::sync::mpsc;
use std::time::Duration;

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched, counter};
use crate::mock::frame::{Frame, error, setting};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer};

pub(crate) fn a_window_beyond_its_limit_is_a_flow_control_error(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    peer.send(&Frame::window_update(0, 0x7fff_ffff));
    assert!(
        peer.wait_refused(PATIENCE),
        "the connection's window overflows"
    );
    if let Some(goaway) = &peer.goaway {
        assert_eq!(goaway.code, error::FLOW_CONTROL_ERROR, "{goaway:?}");
    }

    let mut peer = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe(kubemq::EVENTS, "windows", "");
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    peer.send(&Frame::window_update(stream, 0x7fff_ffff));
    let refused = peer.wait(|p| p.reply(stream).ended || p.goaway.is_some());
    assert!(
        refused || peer.ended.is_some(),
        "the stream's window overflows"
    );
    if let Some(code) = peer.reply(stream).reset {
        assert_eq!(code, error::FLOW_CONTROL_ERROR);
    }
    broker.wait_zero(&["subscriptions"]);
}

pub(crate) fn a_window_update_of_zero_is_a_protocol_error(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    peer.send(&Frame::window_update(0, 0));
    assert!(peer.wait_refused(PATIENCE), "zero for the connection");
    if let Some(goaway) = &peer.goaway {
        assert_eq!(goaway.code, error::PROTOCOL_ERROR, "{goaway:?}");
    }

    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::SEND_EVENTS_STREAM);
    peer.send(&Frame::window_update(stream, 0));
    let refused = peer.wait(|p| p.reply(stream).ended || p.goaway.is_some());
    assert!(refused || peer.ended.is_some(), "zero for a stream");
}

/// A subscription takes one message; what comes after it on the stream is read by nobody.
pub(crate) fn data_beyond_the_window_is_bounded(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::SUBSCRIBE_TO_EVENTS);
    let subscription = kubemq::subscribe(kubemq::EVENTS, "beyond", "");
    peer.send_message(stream, &subscription, false);
    let before = broker.rss_bytes();
    let chunk = Frame::data(stream, vec![0; 16 * 1024], false).to_bytes();
    peer.flood(&chunk, 4_096, true);
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(
        grown < 24 * MIB,
        "64 MiB beyond the window: grew by {grown} bytes"
    );
    drop(peer);

    // An upload that ignores the windows, to a call that does read.
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::SEND_EVENT);
    peer.send(&Frame::data(stream, [0, 0x01, 0, 0, 0], false));
    let chunk = Frame::data(stream, vec![0; 16 * 1024], false).to_bytes();
    peer.flood(&chunk, 2_048, true);
    drop(peer);
    broker.wait_zero(&["connections", "subscriptions"]);
}

const BODY_BYTES: usize = 64 * 1024;
const EVENTS: usize = 2_000;

/// One subscriber never reads while 128 MiB pass it by; another gets all of it in order.
pub(crate) fn a_slow_subscriber_hurts_only_itself(broker: &Broker) {
    let subscription = kubemq::subscribe(kubemq::EVENTS, "slow.readers", "");
    let mut slow = Peer::connect(broker.grpc());
    slow.replenishes = false;
    slow.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);

    let mut fast = Peer::connect(broker.grpc());
    let stream = fast.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    let (seen_tx, seen) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for expected in 0..EVENTS {
            let event = fast
                .next_message(stream)
                .expect("the fast one misses nothing");
            let body = kubemq::event_body(&event);
            assert_eq!(body.len(), BODY_BYTES);
            assert_eq!(body[..8], expected.to_be_bytes(), "in order");
            seen_tx.send(()).unwrap();
        }
    });

    let before = broker.rss_bytes();
    let mut publisher = Peer::connect(broker.grpc());
    let upload = publisher.open(path::SEND_EVENTS_STREAM);
    let mut body = vec![7; BODY_BYTES];
    for number in 0..EVENTS {
        body[..8].copy_from_slice(&number.to_be_bytes());
        assert!(publisher.send_message(upload, &kubemq::event("slow.readers", &body), false));
        // At most a few in flight: a reader that keeps up must not lose any.
        if number >= 8 {
            seen.recv_timeout(PATIENCE).expect("the fast one keeps up");
        }
    }
    reader.join().unwrap();
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "grew by {grown} bytes");
    let status = broker.status();
    assert!(
        counter(&status, "broker_drops_total") > 0,
        "the loss is counted: {status}"
    );
    slow.vanish();
}

/// A caller that grants no window keeps its answers waiting here; calls behind them are not taken.
pub(crate) fn answers_that_nobody_reads_are_bounded(broker: &Broker) {
    let mut responder = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe(kubemq::QUERIES, "unread.answers", "");
    let queries = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscription);
    let mut caller = Peer::connect_with(broker.grpc(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let query = kubemq::request(kubemq::QUERY, "unread.answers", b"tell me all", 600_000);
    let body = vec![7; 1 << 20];

    let before = broker.rss_bytes();
    let mut answered = 0;
    for _ in 0..100 {
        caller.call(path::SEND_REQUEST, &query);
        let mut request = None;
        responder.wait_for(Duration::from_secs(2), |p| {
            request = p.reply(queries).take_message();
            request.is_some()
        });
        let Some(request) = request else { break };
        let sent = responder.unary(path::SEND_RESPONSE, &kubemq::response_with(&request, &body));
        assert_eq!(sent.grpc_status(), Some(0), "{sent:?}");
        answered += 1;
    }
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(
        answered < 40,
        "{answered} answers of 1 MiB wait for one caller"
    );
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    caller.vanish();
    drop(responder);
    broker.wait_zero(&["connections", "subscriptions", "pending"]);
}
