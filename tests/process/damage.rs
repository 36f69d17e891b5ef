//! Stored bytes that changed on the disk: named, left out, and nothing else suffers.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::harness::Broker;
use crate::mock::broker::counter;
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::Peer;

const SEQUENCE: u64 = 6;

fn start(data: &Path) -> Broker {
    let data = data.to_str().unwrap();
    let small = "store.segment_bytes=1MiB";
    Broker::start_with(1, ["--data", data, "--set", small])
}

/// The body of an event: a text that is found again in the files, and filling.
fn body(channel: &str, number: u64) -> Vec<u8> {
    let mut body = format!("<{channel}:{number}>").into_bytes();
    body.resize(8_000, b'.');
    body
}

fn publish(peer: &mut Peer, channel: &str, number: u64) -> Option<u64> {
    let event = kubemq::stored_event(&number.to_string(), channel, &body(channel, number));
    let receipt = peer.unary(path::SEND_EVENT, &event).take_message()?;
    Some(kubemq::number(&receipt, 2))
}

/// Reads a channel from its first event on until a sequence; gives back all sequences.
fn read(broker: &Broker, channel: &str, upto: u64) -> Vec<u64> {
    read_from(broker, "reader", channel, upto)
}

fn read_from(broker: &Broker, client: &str, channel: &str, upto: u64) -> Vec<u64> {
    let mut peer = Peer::connect(broker.grpc());
    let request = kubemq::subscribe_stored(channel, client, START_FROM_FIRST);
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &request);
    let mut sequences = Vec::new();
    while sequences.last() != Some(&upto) {
        let event = peer.next_message(stream);
        let event = event.unwrap_or_else(|| panic!("nothing behind {:?}", sequences.last()));
        let sequence = kubemq::number(&event, SEQUENCE);
        assert_eq!(kubemq::event_body(&event), body(channel, sequence));
        sequences.push(sequence);
    }
    sequences
}

/// Changes one byte in the middle of an event's body, wherever it lies.
fn damage(data: &Path, channel: &str, number: u64) -> PathBuf {
    let text = format!("<{channel}:{number}>").into_bytes();
    for entry in std::fs::read_dir(data.join("logs-1/000")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Some(at) = bytes.windows(text.len()).position(|window| window == text) else {
            continue;
        };
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"!", u64::try_from(at + 100).unwrap())
            .unwrap();
        return path;
    }
    panic!("event {number} of {channel} is nowhere");
}

/// Behind a checkpoint nothing is read at the start: the damage shows when somebody comes by.
#[test]
fn damaged_old_event_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = start(&data);
    let mut peer = Peer::connect(broker.grpc());
    for number in 1..=400 {
        assert_eq!(publish(&mut peer, "old", number), Some(1));
        assert_eq!(publish(&mut peer, "other", number), Some(1));
    }
    drop(peer);
    broker.stop();
    let path = damage(&data, "old", 7);

    let broker = start(&data);
    let expected: Vec<u64> = (1..=400).filter(|number| *number != 7).collect();
    assert_eq!(read(&broker, "old", 400), expected);
    assert_eq!(read(&broker, "other", 400), (1..=400).collect::<Vec<_>>());
    let mut peer = Peer::connect(broker.grpc());
    assert_eq!(publish(&mut peer, "old", 401), Some(1), "writing goes on");
    drop(peer);
    let log = broker.log();
    assert!(
        log.contains("stored messages are damaged and were left out"),
        "{log}"
    );
    assert_eq!(
        counter(&broker.status(), "broker_damaged_messages_total"),
        1
    );
    broker.stop();
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(path.exists(), "{file} is kept as it is");
}

/// What was written since the last checkpoint is read at the start.
#[test]
fn damaged_new_event_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = start(&data);
    let mut peer = Peer::connect(broker.grpc());
    for number in 1..=30 {
        assert_eq!(publish(&mut peer, "new", number), Some(1));
        assert_eq!(publish(&mut peer, "other", number), Some(1));
    }
    drop(peer);
    broker.kill();
    let path = damage(&data, "new", 7);

    let broker = start(&data);
    let log = broker.log();
    assert!(
        log.contains("stored messages are damaged and will be left out"),
        "{log}"
    );
    assert!(log.contains(&path.display().to_string()), "{log}");
    assert_eq!(read(&broker, "other", 30), (1..=30).collect::<Vec<_>>());
    let expected: Vec<u64> = (1..=30).filter(|number| *number != 7).collect();
    assert_eq!(
        read(&broker, "new", 30),
        expected,
        "what lies behind it is served"
    );
    let mut peer = Peer::connect(broker.grpc());
    for channel in ["new", "other"] {
        assert_eq!(
            publish(&mut peer, channel, 31),
            Some(1),
            "{channel} goes on"
        );
    }
    assert_eq!(read_from(&broker, "second reader", "new", 31).len(), 30);
    drop(peer);
    broker.stop();
    // The next start comes to the same end.
    let broker = start(&data);
    assert_eq!(read_from(&broker, "third reader", "new", 31).len(), 30);
    broker.stop();
}
