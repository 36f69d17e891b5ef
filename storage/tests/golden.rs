//! The bytes of the format, as version 1 has them for good, and version 2 those of encrypted files.
//!
//! If a test here fails, the format has changed: stores in the field would no longer be read. The
//! files under `golden/` were computed from `docs/FORMAT.md` by other code than ours; nothing
//! writes them, and they are never edited. A new version of the format gets files of its own.

#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

use std::fmt::Write;

use ringmq_storage::checkpoint::Checkpoint;
use ringmq_storage::cipher::{Cipher, ENCRYPTION_BYTES, Keyring, Salt};
use ringmq_storage::frame::FrameKind;
use ringmq_storage::record::queue::{
    QueueHead, decode_counted, decode_move, decode_move_ids, decode_requeued, decode_settle,
};
use ringmq_storage::record::{RecordKind, Records};
use ringmq_storage::segment::{Preamble, SegmentHeader};
use ringmq_storage::segment_index::SegmentIndex;

#[path = "golden/sample.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared by several test binaries")]
mod sample;

const SEGMENT: &str = include_str!("golden/segment.v1.hex");
const CHECKPOINT: &str = include_str!("golden/checkpoint.v1.hex");
const INDEX: &str = include_str!("golden/index.v1.hex");
const QUEUE: &str = include_str!("golden/queue.v1.hex");
const ENCRYPTED_SEGMENT: &str = include_str!("golden/segment.v2.hex");
const ENCRYPTED_CHECKPOINT: &str = include_str!("golden/checkpoint.v2.hex");

/// The master key that the encrypted files are under.
const MASTER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The salt of their frames.
const SALT: [u8; 8] = *b"saltsalt";

/// Sixteen bytes a line.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, line) in bytes.chunks(16).enumerate() {
        write!(text, "{:04x}:", number * 16).unwrap();
        for byte in line {
            write!(text, " {byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> Vec<u8> {
    let bytes = text
        .lines()
        .flat_map(|line| line.split_once(':').unwrap().1.split_whitespace());
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn assert_same(found: &[u8], golden: &str) {
    let found = dump(found);
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden, "the format has changed");
    }
    assert_eq!(found.lines().count(), golden.lines().count());
}

#[test]
fn segments_are_written_as_ever() {
    assert_same(&sample::segment(), SEGMENT);
}

#[test]
fn checkpoints_are_written_as_ever() {
    assert_same(&sample::checkpoint().encode(), CHECKPOINT);
}

#[test]
fn indexes_are_written_as_ever() {
    assert_same(&sample::index().encode(), INDEX);
}

#[test]
fn old_segments_are_read() {
    let bytes = parse(SEGMENT);
    let header = SegmentHeader::decode(&bytes).unwrap().unwrap();
    assert_eq!(header, sample::segment_header());
    let frames = sample::scan(&bytes).unwrap();
    let kinds: Vec<_> = frames.iter().map(|frame| frame.header.kind).collect();
    assert_eq!(
        kinds,
        [
            FrameKind::Preamble,
            FrameKind::Entry,
            FrameKind::NoOp,
            FrameKind::Entry,
            FrameKind::Carried,
            FrameKind::Seal
        ]
    );
    assert_eq!(
        Preamble::decode(frames[0].payload).unwrap().entries.len(),
        2
    );
    let mut kinds = Vec::new();
    for frame in &frames[1..] {
        let records = Records::new(frame.payload).map(Result::unwrap);
        let before = kinds.len();
        kinds.extend(records.map(|record| record.head.kind));
        assert_eq!(kinds.len() - before, frame.header.record_count as usize);
    }
    assert_eq!(
        kinds,
        [
            RecordKind::ChannelCreate,
            RecordKind::Message,
            RecordKind::Message,
            RecordKind::Message,
            RecordKind::CursorCreate,
            RecordKind::CursorMove,
            RecordKind::CursorDelete,
            RecordKind::Trim,
            RecordKind::ChannelDelete,
            RecordKind::Message,
        ]
    );
}

#[test]
fn old_checkpoints_are_read() {
    let found = Checkpoint::decode(&parse(CHECKPOINT));
    assert_eq!(found, Ok(sample::checkpoint()));
}

#[test]
fn old_indexes_are_read() {
    assert_eq!(SegmentIndex::decode(&parse(INDEX)), Ok(sample::index()));
}

#[test]
fn records_of_queues_are_written_as_ever() {
    assert_same(&sample::queue_records(), QUEUE);
}

#[test]
fn old_records_of_queues_are_read() {
    let bytes = parse(QUEUE);
    let found = Records::new(&bytes).map(Result::unwrap);
    let found: Vec<_> = found
        .map(|record| {
            let head = record.head;
            let (channel, sequence) = (head.channel.get(), head.sequence.get());
            (
                head.kind,
                head.encoding,
                channel,
                sequence,
                record.payload.to_vec(),
            )
        })
        .collect();
    assert_eq!(found, sample::queue_payloads());
    let (head, body) = QueueHead::decode(&found[1].4).unwrap();
    assert_eq!((head.origin, body), ("größe", &b"dead letter"[..]));
    assert_eq!(
        head.moved.map(|(reason, id)| (reason, id.sequence.get())),
        Some((1, 77))
    );
    let (bytes, runs) = decode_settle(&found[2].4).unwrap();
    assert_eq!(
        (bytes, runs.map(|run| run.last.get()).collect()),
        (123, vec![5, 12])
    );
    let entries = decode_requeued(&found[3].4).unwrap();
    assert_eq!(
        entries.map(|entry| entry.old.get()).collect::<Vec<_>>(),
        [6, 8]
    );
    let counted = decode_counted(&found[4].4).unwrap().next().unwrap();
    assert_eq!(
        (counted.first.get(), counted.count, counted.receives),
        (13, 2, 3)
    );
    assert_eq!(decode_move(&found[5].4), Ok((1, "orders.tot")));
    let ids = decode_move_ids(&found[7].4).unwrap();
    assert_eq!(ids.map(|id| id.channel.get()).collect::<Vec<_>>(), [9]);
}

/// Reads the file that other code has encrypted, and encrypts what is in it again.
#[test]
fn encrypted_segments_are_read_and_written_as_ever() {
    let bytes = parse(ENCRYPTED_SEGMENT);
    let header = SegmentHeader::decode(&bytes).unwrap().unwrap();
    assert!(header.encrypted);
    let frames = sample::scan(&bytes).unwrap();
    let preamble = Preamble::decode(frames[0].payload).unwrap();
    let keyring = Keyring::parse(MASTER_KEY).unwrap();
    assert_eq!(preamble.key.map(|key| key.master), keyring.writing());
    let cipher = Cipher::of_segment(&header, preamble.key.as_ref(), None, &keyring).unwrap();
    let plain_bytes = parse(SEGMENT);
    let plain = sample::scan(&plain_bytes).unwrap();
    assert_eq!(frames.len(), plain.len());
    for (frame, plain) in frames.iter().zip(&plain).skip(1) {
        let offset = frame.position.offset();
        let records = cipher.decrypt(&frame.header, offset, frame.payload);
        assert_eq!(records.unwrap(), plain.payload);
        assert_eq!(frame.header.index, plain.header.index);
        assert_eq!(frame.header.is_encrypted(), plain.header.slot.is_some());
        if frame.header.is_encrypted() {
            let (mut header, mut stored) = (plain.header, plain.payload.to_vec());
            let key = cipher.key().unwrap();
            header.synced_through = frame.header.synced_through;
            key.encrypt(Salt::new(SALT), &mut header, offset, &mut stored, 0);
            assert_eq!(stored, frame.payload, "the format has changed");
            assert_eq!(stored.len(), plain.payload.len() + ENCRYPTION_BYTES);
        }
    }
}

#[test]
fn encrypted_checkpoints_are_read_as_ever() {
    let bytes = parse(ENCRYPTED_CHECKPOINT);
    let keyring = Keyring::parse(MASTER_KEY).unwrap();
    let found = Checkpoint::decrypt(&bytes, &keyring);
    assert_eq!(found, Ok(sample::checkpoint()));
    for index in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[index] ^= 0x10;
        assert!(Checkpoint::decrypt(&bad, &keyring).is_err(), "byte {index}");
        let cut = Checkpoint::decrypt(&bytes[..index], &keyring);
        assert!(cut.is_err(), "cut at {index}");
    }
    let other = MASTER_KEY.replace("00", "01");
    for keyring in [Keyring::default(), Keyring::parse(&other).unwrap()] {
        let refused = Checkpoint::decrypt(&bytes, &keyring).unwrap_err();
        assert!(
            refused.to_string().contains("encrypted with key "),
            "{refused}"
        );
    }
}
