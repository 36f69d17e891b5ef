//! Clients that leave, politely or not.

use crate::harness::Broker;
use crate::mock::broker::{Watched, level};
use crate::mock::frame::{Frame, error};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;

pub(crate) fn a_client_that_says_goaway_gets_its_answers(broker: &Broker) {
    let mut responder = Peer::connect(broker.grpc());
    let subscription = kubemq::subscribe(kubemq::COMMANDS, "goaway", "");
    let requests = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscription);

    let mut leaving = Peer::connect(broker.grpc());
    let command = kubemq::request(kubemq::COMMAND, "goaway", b"do it", 15_000);
    let call = leaving.call(path::SEND_REQUEST, &command);
    let request = responder
        .next_message(requests)
        .expect("the command arrives");
    leaving.send(&Frame::goaway(0, error::NO_ERROR));

    let sent = responder.unary(path::SEND_RESPONSE, &kubemq::response(&request));
    assert_eq!(sent.grpc_status(), Some(0), "{sent:?}");
    let reply = leaving.finish(call);
    assert_eq!(
        reply.grpc_status(),
        Some(0),
        "the call in flight is answered: {reply:?}"
    );
    drop((leaving, responder));
    broker.wait_zero(&["connections", "subscriptions", "pending"]);
}

pub(crate) fn vanished_clients_leave_nothing_behind(broker: &Broker) {
    let mut peers = Vec::new();
    for number in 0..20 {
        let mut peer = Peer::connect(broker.grpc());
        for channel in ["vanish.a", "vanish.*", "vanish.>"] {
            let group = if number % 2 == 0 { "group" } else { "" };
            let subscription = kubemq::subscribe(kubemq::EVENTS, channel, group);
            peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
        }
        let subscription = kubemq::subscribe(kubemq::QUERIES, "vanish.q", "");
        peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscription);
        let query = kubemq::request(kubemq::QUERY, "vanish.q", b"nobody answers", 600_000);
        peer.call(path::SEND_REQUEST, &query);
        // A message of which half is there, and an event right behind it on another stream.
        let half = peer.open(path::SEND_EVENT);
        peer.send(&Frame::data(half, [0, 0, 0, 1, 0, 0x12], false));
        peer.call(
            path::SEND_EVENT,
            &kubemq::event("vanish.a", b"for all of us"),
        );
        peers.push(peer);
    }
    let status = broker.status();
    assert_eq!(level(&status, "subscriptions"), 80, "{status}");
    for peer in peers {
        peer.vanish();
    }
    broker.wait_zero(&["connections", "subscriptions", "pending"]);
}
