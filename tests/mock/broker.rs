//! What the tests want to know of a running broker.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::kubemq::{self, path};
use super::peer::{PATIENCE, Peer};
use crate::harness::Broker;

pub(crate) const MIB: u64 = 1 << 20;

/// A broker that is looked at from outside.
pub(crate) trait Watched {
    /// Resident memory.
    fn rss_bytes(&self) -> u64;

    /// Time on a processor, in the kernel's ticks of a hundredth of a second.
    fn cpu_ticks(&self) -> u64;

    /// Whether the process has ended, in whatever way.
    fn has_ended(&self) -> bool;

    /// Waits until the named levels are zero; the report that says so.
    fn wait_zero(&self, names: &[&str]) -> Value;

    /// Others are served: a ping and an event, on a connection of their own.
    fn assert_serves(&self);

    /// Ends the broker as an operator would; it must exit with 0 and say nothing of a panic.
    fn end(self);
}

impl Watched for Broker {
    fn rss_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the broker runs");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .expect("a resident process");
        let kib = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the broker runs");
        // User and system time are the 14th and 15th field; the second one is in brackets.
        let (_, fields) = stat.rsplit_once(") ").expect("the name of the program");
        let times = fields.split(' ').skip(11).take(2);
        times
            .map(|ticks| ticks.parse::<u64>().expect("a count"))
            .sum()
    }

    fn has_ended(&self) -> bool {
        // A zombie until its parent, the harness, asks for it.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }

    fn wait_zero(&self, names: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if names.iter().all(|name| level(&status, name) == 0) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{names:?} did not go to zero: {status}"
            );
            // Each report is a long line of the log.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn assert_serves(&self) {
        let mut peer = Peer::connect(self.grpc());
        let ping = peer.unary(path::PING, &[]);
        assert_eq!(ping.grpc_status(), Some(0), "{ping:?}");
        let subscription = kubemq::subscribe(kubemq::EVENTS, "serves.others", "");
        let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &subscription);
        let sent = peer.unary(path::SEND_EVENT, &kubemq::event("serves.others", b"hello"));
        assert_eq!(sent.grpc_status(), Some(0), "{sent:?}");
        let event = peer.next_message(stream).expect("the event arrives");
        assert_eq!(kubemq::event_body(&event), b"hello");
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        self.assert_exits_0();
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// A level of the executors, added up.
pub(crate) fn level(status: &Value, name: &str) -> u64 {
    let shards = report(status).get("shards").and_then(Value::as_array);
    let levels = shards.into_iter().flatten().map(|shard| {
        let level = shard.get(name).and_then(Value::as_u64);
        level.unwrap_or_else(|| panic!("no level {name} in {shard}"))
    });
    levels.sum()
}

/// A counter of the broker; with a label, its values added up.
pub(crate) fn counter(status: &Value, name: &str) -> u64 {
    let counters = report(status).get("counters").and_then(Value::as_object);
    let of_family = |key: &str| key == name || key.starts_with(&format!("{name}{{"));
    let values = counters
        .into_iter()
        .flatten()
        .filter(|(key, _)| of_family(key));
    values.filter_map(|(_, value)| value.as_u64()).sum()
}

/// The line's one member holds the report.
fn report(status: &Value) -> &Value {
    status.get("status").unwrap_or(status)
}
