//! Queues under producers, consumers and crashes of both, of the broker too: what was acknowledged
//! to its producer is delivered, what was settled for good never comes again, and every repetition
//! has a reason.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::say;
use crate::mock::kubemq::{field, number, path};
use crate::mock::peer::{PATIENCE, Peer};
use crate::mock::process::{Process, server_command};
use crate::mock::queues::{self, downstream, received, stream};
use crate::mock::stored::life::Random;

const START_DEADLINE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 12;
const QUEUES: u64 = 3;
const PRODUCERS: u64 = 16;
const CONSUMERS: u64 = 16;

/// What is known of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its producer was told that it is stored.
    acknowledged: bool,
    deliveries: u64,
    /// An acknowledgement was sent whose success nobody tells.
    ack_sent: bool,
    /// A consumer was told that it is settled.
    settled: bool,
}

/// What all clients saw, over all lives of the broker.
#[derive(Debug, Default)]
struct Ledger {
    messages: Mutex<HashMap<u64, Known>>,
    next: AtomicU64,
    /// Deliveries behind the first, by what explains them.
    after_unconfirmed_ack: AtomicU64,
    after_crash: AtomicU64,
}

impl Ledger {
    fn known<R>(&self, number: u64, change: impl FnOnce(&mut Known) -> R) -> R {
        let mut messages = self.messages.lock().unwrap();
        change(messages.entry(number).or_default())
    }

    /// # Panics
    /// When the message was settled for good.
    fn delivered(&self, body: &[u8]) -> u64 {
        let number = u64::from_le_bytes(body.try_into().unwrap());
        self.known(number, |known| {
            assert!(!known.settled, "message {number} was settled: {known:?}");
            known.deliveries += 1;
            if known.deliveries > 1 {
                let reason = if known.ack_sent {
                    &self.after_unconfirmed_ack
                } else {
                    &self.after_crash
                };
                reason.fetch_add(1, Ordering::Relaxed);
            }
        });
        number
    }
}

/// One life of the broker.
struct Life<'a> {
    address: SocketAddr,
    ledger: &'a Ledger,
    ending: AtomicBool,
    acknowledged: AtomicU64,
    settled: AtomicU64,
}

impl Life<'_> {
    fn queue(random: &mut Random) -> String {
        format!("work.{}", random.below(QUEUES))
    }

    /// Sends requests of a few messages until the broker is gone.
    fn produce(&self, mut peer: Peer, mut random: Random) {
        let upstream = peer.open(path::QUEUES_UPSTREAM);
        loop {
            let count = random.below(4) + 1;
            let first = self.ledger.next.fetch_add(count, Ordering::Relaxed);
            let queue = Self::queue(&mut random);
            let messages: Vec<_> = (first..first + count)
                .map(|number| queues::message(&number.to_string(), &queue, &number.to_le_bytes()))
                .collect();
            let request = queues::upstream("r", messages.iter().map(Vec::as_slice));
            if !peer.send_message(upstream, &request, false) {
                return;
            }
            let Some(answer) = peer.next_message(upstream) else {
                return;
            };
            let results = crate::mock::kubemq::fields(&answer, 2);
            assert_eq!(results.len() as u64, count, "a result for each message");
            for (number_of, result) in (first..).zip(results) {
                let refused = number(result, 5) == 1;
                let text = String::from_utf8_lossy(field(result, 6));
                assert!(!refused, "message {number_of}: {text}");
                self.ledger
                    .known(number_of, |known| known.acknowledged = true);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Consumes until the broker is gone; now and then it crashes, and another takes its place.
    fn consume(&self, mut random: Random) {
        while !self.ending.load(Ordering::Relaxed) {
            let Some(peer) = Peer::try_connect(self.address) else {
                return;
            };
            let alive = if random.below(2) == 0 {
                self.poll(peer, &mut random)
            } else {
                self.stream(peer, &mut random)
            };
            if !alive {
                return;
            }
        }
    }

    /// Gets and acknowledges over a downstream; success is silent. `false` when the broker is gone.
    fn poll(&self, mut peer: Peer, random: &mut Random) -> bool {
        let call = peer.open(path::QUEUES_DOWNSTREAM);
        for _ in 0..=random.below(30) {
            let get = queues::get("g", &Self::queue(random), random.below(8) + 1, 1_000, false);
            if !peer.send_message(call, &get, false) {
                return false;
            }
            let Some(answer) = peer.next_message(call) else {
                return false;
            };
            let messages = received(&answer, 4);
            let numbers: Vec<_> = messages
                .iter()
                .map(|message| self.ledger.delivered(&message.body))
                .collect();
            let (kind, sequences) = match random.below(12) {
                // It crashes while it holds them.
                0 => return true,
                1 => (downstream::NACK_ALL, Vec::new()),
                2 => (downstream::CLOSE_BY_CLIENT, Vec::new()),
                3 => {
                    let all = messages.iter().map(|message| message.sequence);
                    (downstream::ACK_RANGE, all.collect())
                }
                _ => (downstream::ACK_ALL, Vec::new()),
            };
            if numbers.is_empty() {
                continue;
            }
            if matches!(kind, downstream::ACK_ALL | downstream::ACK_RANGE) {
                for number in &numbers {
                    self.ledger.known(*number, |known| known.ack_sent = true);
                }
            }
            let settle = queues::settle("s", kind, field(&answer, 1), &sequences);
            if !peer.send_message(call, &settle, false) {
                return false;
            }
        }
        true
    }

    /// One message on a stream, settled with an answer. `false` when the broker is gone.
    fn stream(&self, mut peer: Peer, random: &mut Random) -> bool {
        let call = peer.open(path::STREAM_QUEUE_MESSAGE);
        let queue = Self::queue(random);
        let receive = queues::stream_request("r", stream::RECEIVE, &queue, 30, 1, 0);
        if !peer.send_message(call, &receive, false) {
            return false;
        }
        let Some(answer) = peer.next_message(call) else {
            return peer.ended.is_none();
        };
        let messages = received(&answer, 3);
        let [message] = &messages[..] else {
            return true;
        };
        let number_of = self.ledger.delivered(&message.body);
        let kind = match random.below(8) {
            0 => return true,
            1 => stream::REJECT,
            _ => stream::ACK,
        };
        if kind == stream::ACK {
            self.ledger.known(number_of, |known| known.ack_sent = true);
        }
        let settle = queues::stream_request("s", kind, "", 0, 0, message.sequence);
        if !peer.send_message(call, &settle, false) {
            return false;
        }
        let Some(answer) = peer.next_message(call) else {
            return peer.ended.is_none();
        };
        let refused = number(&answer, 4) == 1;
        assert!(!refused, "{}", String::from_utf8_lossy(field(&answer, 5)));
        if kind == stream::ACK {
            self.ledger.known(number_of, |known| known.settled = true);
            self.settled.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// A broker on a store that outlives it, and its address.
fn start(data: &Path, cores: usize) -> (Process, SocketAddr) {
    let mut command = server_command(cores, data);
    command
        .args(["--set", "store.segment_bytes=1048576"])
        .args(["--set", "store.sync=strict"]);
    let addresses = data.with_extension("addresses");
    Process::serve(&mut command, &addresses, START_DEADLINE)
}

fn live(address: SocketAddr, ledger: &Ledger, random: &mut Random, end: impl FnOnce()) {
    let life = Life {
        address,
        ledger,
        ending: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        settled: AtomicU64::new(0),
    };
    let wanted = random.below(300) + 100;
    std::thread::scope(|scope| {
        let life = &life;
        for _ in 0..PRODUCERS {
            let (peer, random) = (Peer::connect(address), Random::new(random.below(u64::MAX)));
            scope.spawn(move || life.produce(peer, random));
        }
        for _ in 0..CONSUMERS {
            let random = Random::new(random.below(u64::MAX));
            scope.spawn(move || life.consume(random));
        }
        let deadline = Instant::now() + PATIENCE;
        let progress = || {
            life.acknowledged.load(Ordering::Relaxed) >= wanted
                && life.settled.load(Ordering::Relaxed) >= wanted / 8
        };
        while !progress() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reached = progress();
        life.ending.store(true, Ordering::Relaxed);
        end();
        assert!(reached, "messages go through: {:?}", life.acknowledged);
    });
}

/// Takes everything that is left, by calls that consume.
fn drain(address: SocketAddr, ledger: &Ledger) -> u64 {
    let mut peer = Peer::connect(address);
    let mut drained = 0;
    for queue in 0..QUEUES {
        loop {
            let receive = queues::receive(&format!("work.{queue}"), 1_024, 1, false);
            let answer = peer
                .unary(path::RECEIVE_QUEUE_MESSAGES, &receive)
                .take_message();
            let messages = received(&answer.expect("an answer"), 2);
            if messages.is_empty() {
                break;
            }
            for message in &messages {
                ledger.delivered(&message.body);
            }
            drained += messages.len() as u64;
        }
    }
    drained
}

fn survives_kills(cores: usize) {
    let mut random = Random::seeded("queues");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ledger = Ledger::default();
    for _ in 0..ROUNDS {
        let (mut broker, address) = start(&data, cores);
        live(address, &ledger, &mut random, || broker.kill());
    }
    let (mut broker, address) = start(&data, cores);
    let drained = drain(address, &ledger);
    let messages = ledger.messages.lock().unwrap();
    let count = |of: fn(&Known) -> bool| messages.values().filter(|known| of(known)).count();
    let lost: Vec<_> = messages
        .iter()
        .filter(|(_, known)| known.acknowledged && known.deliveries == 0)
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}\n{}", broker.output());
    say(&format!(
        "{ROUNDS} kills with {cores} shards: {} acknowledged messages, none lost; {} settled for \
         good, none came again; {drained} were left; repeated: {} after an acknowledgement that \
         nobody confirmed, {} after a crash or a rejection",
        count(|known| known.acknowledged),
        count(|known| known.settled),
        ledger.after_unconfirmed_ack.load(Ordering::Relaxed),
        ledger.after_crash.load(Ordering::Relaxed),
    ));
    broker.kill();
}

#[test]
fn queues_survive_kills_with_one_shard() {
    survives_kills(1);
}

#[test]
fn queues_survive_kills_with_four_shards() {
    survives_kills(4);
}
