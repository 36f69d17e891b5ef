//! A client that is killed in the middle of everything leaves nothing behind.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::harness::Broker;
use crate::mock::broker::{MIB, Watched, level};
use crate::mock::frame::Frame;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer};
use crate::mock::process::Process;

const ROUNDS: usize = 20;

/// Rounds until buffers and tables have the size that they keep.
const WARM_UP_ROUNDS: usize = 5;

/// Names the broker that the client of this process is to use; unset, there is no client.
const BROKER_VARIABLE: &str = "RINGMQ_TEST_CLIENT_OF";

/// The client, as a process of its own: this test, run again with the variable set. It says when
/// everything is in progress, and goes on until it is killed.
#[test]
fn client_in_the_middle_of_everything() {
    let Ok(address) = std::env::var(BROKER_VARIABLE) else {
        return;
    };
    let address: SocketAddr = address.parse().unwrap();
    let mut connections: Vec<Peer> = (0..4).map(|_| busy_connection(address)).collect();
    let mut uploads = Vec::new();
    for peer in &mut connections {
        uploads.push(peer.open(path::SEND_EVENTS_STREAM));
    }
    eprintln!("in the middle of everything");
    // None of the subscriptions is read; a pace keeps what waits for them comparable.
    let event = kubemq::event("killed.a", &[7; 1_024]);
    loop {
        for (peer, upload) in connections.iter_mut().zip(&uploads) {
            assert!(
                peer.send_message(*upload, &event, false),
                "the broker lives: {peer:?}"
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection with subscriptions of all kinds, requests that wait in both directions, and a
/// message that is not whole.
fn busy_connection(address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(address);
    for (channel, group) in [
        ("killed.a", ""),
        ("killed.a", "group"),
        ("killed.*", ""),
        ("killed.>", "group"),
    ] {
        let subscription = kubemq::subscribe(kubemq::EVENTS, channel, group);
        peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
    }
    for (kind, channel) in [
        (kubemq::COMMANDS, "killed.c"),
        (kubemq::QUERIES, "killed.q"),
    ] {
        let subscription = kubemq::subscribe(kind, channel, "");
        peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscription);
    }
    for (kind, channel) in [
        (kubemq::COMMAND, "killed.c"),
        (kubemq::QUERY, "killed.q"),
        (kubemq::QUERY, "nobody"),
    ] {
        peer.call(
            path::SEND_REQUEST,
            &kubemq::request(kind, channel, b"wait", 3_600_000),
        );
    }
    let half = peer.open(path::SEND_EVENT);
    peer.send(&Frame::data(half, [0, 0, 1, 0, 0, 0x12], false));
    peer
}

/// Starts the client, lets others call it and wait, and kills it.
fn one_round(broker: &Broker) {
    let mut client = Process::start(
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::client_in_the_middle_of_everything",
                "--nocapture",
            ])
            .env(BROKER_VARIABLE, broker.grpc().to_string()),
    );
    let ready = client.wait_line(PATIENCE, |line| {
        line.contains("in the middle of everything")
    });
    assert!(ready.is_some(), "{}", client.output());
    // Another client waits for an answer of the one that is about to die, and gives up soon.
    let mut caller = Peer::connect(broker.grpc());
    let command = kubemq::request(kubemq::COMMAND, "killed.c", b"too late", 300);
    let call = caller.call(path::SEND_REQUEST, &command);
    client.kill();
    let reply = caller.finish(call);
    assert!(
        reply.grpc_message().contains("Error 301"),
        "the caller times out: {reply:?}"
    );
}

/// What stays behind after a round, in numbers that must not grow.
#[derive(Clone, Copy, Debug)]
struct Left {
    tasks: u64,
    rss_bytes: u64,
}

fn nothing_is_left_behind(cores: usize) {
    let broker = Broker::start(cores);
    let idle_tasks = level(&broker.status(), "tasks");
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        one_round(&broker);
        let status = broker.wait_zero(&["subscriptions", "pending", "connections"]);
        // The last task of a connection ends a moment after it has left the list: what counts is
        // what stays.
        let mut tasks = level(&status, "tasks");
        let settled_by = Instant::now() + PATIENCE;
        while tasks > idle_tasks && Instant::now() < settled_by {
            tasks = level(&broker.status(), "tasks");
        }
        left.push(Left {
            tasks,
            rss_bytes: broker.rss_bytes(),
        });
    }
    eprintln!("after each of {ROUNDS} rounds: {left:?}");
    let (first, last) = left.split_at(WARM_UP_ROUNDS);
    let most_tasks = first.iter().map(|l| l.tasks).max().unwrap();
    let most_rss_bytes = first.iter().map(|l| l.rss_bytes).max().unwrap();
    for after in last {
        assert!(after.tasks <= most_tasks, "tasks are left behind: {left:?}");
        assert!(
            after.rss_bytes <= most_rss_bytes + 16 * MIB,
            "memory is left behind: {left:?}"
        );
    }
    broker.assert_serves();
    broker.end();
}

#[test]
fn a_killed_client_leaves_nothing_behind_with_one_shard() {
    nothing_is_left_behind(1);
}

#[test]
fn a_killed_client_leaves_nothing_behind_with_four_shards() {
    nothing_is_left_behind(4);
}
