//! More connections than there is room for.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::kubemq::path;
use crate::mock::peer::{PATIENCE, Peer};

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
