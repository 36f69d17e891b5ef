//! More connections than there is room for.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::frame::Frame;
use crate::mock::hpack;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer, grpc_framed};

fn is_served(peer: &mut Peer) -> bool {
    peer.unary(path::PING, &[]).grpc_status() == Some(0)
}

/// Waits until a new connection is served.
fn wait_served(broker: &Broker) {
    let served = crate::harness::poll(PATIENCE, || {
        let mut peer = Peer::silent(broker.grpc());
        peer.greet();
        let answered = peer.wait_for(Duration::from_secs(1), |p| !p.settings.is_empty());
        (answered && is_served(&mut peer)).then_some(())
    });
    assert!(served.is_some(), "{}", broker.log());
}

#[test]
fn connections_above_the_limit_are_closed_at_once() {
    let broker = Broker::start_with(4, ["--set", "grpc.max_connections=10"]);
    let mut served: Vec<Peer> = (0..10).map(|_| Peer::connect(broker.grpc())).collect();
    for _ in 0..20 {
        let mut above = Peer::silent(broker.grpc());
        above.greet();
        assert!(above.wait_refused(PATIENCE), "closed, not left waiting");
    }
    assert!(served.iter_mut().all(is_served));
    served.pop();
    wait_served(&broker);
    broker.end();
}

#[test]
fn connections_of_one_address_are_bounded_over_all_ports() {
    let broker = Broker::start_with(2, ["--set", "limits.connections_per_address=3"]);
    let rest = broker.address("rest").unwrap();
    let mut served: Vec<Peer> = (0..2).map(|_| Peer::connect(broker.grpc())).collect();
    let third = std::net::TcpStream::connect(rest).unwrap();
    // The acceptors are threads of their own: one more may come before the third.
    let mut before = Vec::new();
    let refused = (0..4).any(|_| {
        let mut above = Peer::silent(broker.grpc());
        above.greet();
        above.wait_for(PATIENCE, |p| !p.settings.is_empty());
        let refused = above.settings.is_empty();
        before.push(above);
        refused
    });
    assert!(refused, "{}", broker.log());
    assert!(served.iter_mut().all(is_served));
    let named = crate::harness::poll(PATIENCE, || {
        let log = broker.log();
        log.contains("limits.connections_per_address").then_some(())
    });
    assert!(named.is_some(), "{}", broker.log());
    drop((third, before, served));
    wait_served(&broker);
    broker.end();
}

#[test]
fn new_connections_of_one_address_are_bounded_in_a_second() {
    let broker = Broker::start_with(1, ["--set", "limits.handshakes_per_address=1"]);
    let refused = (0..20)
        .filter(|_| {
            let mut peer = Peer::silent(broker.grpc());
            peer.greet();
            peer.wait_for(PATIENCE, |p| !p.settings.is_empty());
            peer.settings.is_empty()
        })
        .count();
    assert!(refused > 0, "twenty within a few seconds");
    wait_served(&broker);
    broker.end();
}

/// A server whose `accept` fails without end must neither spin nor give up.
#[test]
fn running_out_of_open_files_is_survived() {
    let broker = Broker::start(2);
    let mut served: Vec<Peer> = (0..4).map(|_| Peer::connect(broker.grpc())).collect();
    let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
    let open = std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .unwrap()
        .count();
    let limit = Some(u64::try_from(open).unwrap() + 4);
    let few = Rlimit {
        current: limit,
        maximum: limit,
    };
    let before = prlimit(pid, Resource::Nofile, few).unwrap();
    // Raising the hard limit again takes a privilege.
    let waiting: Vec<Peer> = (0..50).map(|_| Peer::silent(broker.grpc())).collect();

    let busy = broker.cpu_ticks();
    std::thread::sleep(Duration::from_secs(2));
    let ticks = broker.cpu_ticks() - busy;
    assert!(
        ticks < 100,
        "{ticks} hundredths of a second of work while nothing can be accepted"
    );
    assert!(
        served.iter_mut().all(is_served),
        "those who are there are served"
    );
    drop(waiting);
    drop(served);
    wait_served(&broker);
    let _not_privileged = prlimit(pid, Resource::Nofile, before);
    broker.end();
}

/// Room on the way between two cores is room for the event at hand: one that waits for less than
/// it needs would be tried again for ever, and nothing else would run on its core.
#[test]
fn a_large_event_right_behind_a_small_one_waits_for_its_room() {
    const LANE_BYTES: usize = 64 << 10;
    let broker = Broker::start_with(4, ["--set", "engine.mesh_lane_bytes_max=65536"]);
    let mut peer = Peer::connect(broker.grpc());
    let call = hpack::encode(&Peer::call_fields(path::SEND_EVENTS_STREAM));
    for number in 0..64 {
        let channel = format!("behind.{number}");
        let mut events = grpc_framed(&kubemq::event(&channel, b"small"));
        events.extend(grpc_framed(&kubemq::event(&channel, &vec![7; LANE_BYTES])));
        let stream = peer.next_stream();
        // At once, so that the core takes both in one turn.
        let mut upload = Vec::new();
        Frame::headers(stream, call.clone(), false).encode(&mut upload);
        for chunk in events.chunks(16 << 10) {
            Frame::data(stream, chunk, false).encode(&mut upload);
        }
        Frame::data(stream, [], true).encode(&mut upload);
        assert!(peer.reserve(stream, events.len()), "the windows open");
        assert!(peer.write(&upload));
        assert_eq!(peer.finish(stream).grpc_status(), Some(0), "{channel}");
    }
    broker.end();
}
