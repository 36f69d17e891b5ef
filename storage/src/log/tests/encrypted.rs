use super::*;
use crate::Error;
use crate::cipher::{DataKey, Keyring, Salt, SegmentKey};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, payload_checksum};
use crate::fs::Fs;
use crate::segment::SegmentHeader;

const FIRST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SECOND: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

fn keyring(keys: &[&str]) -> Keyring {
    Keyring::parse(&keys.join("\n")).unwrap()
}

fn with_keys(keys: &[&str]) -> Options {
    Options {
        keyring: keyring(keys),
        ..options()
    }
}

/// Opens the log of a bench again, with other keys.
fn reopen(bench: Bench, keyring: Keyring) -> Bench {
    let mut bench = bench;
    bench.options.keyring = keyring;
    bench.reopen()
}

/// Two channels with some hundred messages, over segments of which the first is not the last.
fn fill(bench: &mut Bench, from: u64) {
    for number in from..from + 600 {
        for slot in 0..2 {
            let key = key(slot, 1);
            bench.send(key, &payload(key, number, 2000));
        }
        if number % 7 == 0 {
            bench.commit();
            bench.jobs();
        }
    }
    bench.commit();
    bench.jobs();
}

fn check(bench: &mut Bench) {
    bench.check(key(0, 1));
    bench.check(key(1, 1));
}

/// Every file of the log, by name.
fn files(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let directory = &bench.options.directory;
    let entries = bench.fs.list(directory).unwrap().into_iter();
    let mut files: Vec<_> = entries
        .map(|entry| {
            let bytes = bench.fs.read(&directory.join(&entry.name)).unwrap();
            (entry.name, bytes)
        })
        .collect();
    files.sort();
    files
}

/// The master keys of the segments that are in use, in order.
fn masters(bench: &Bench) -> Vec<Option<crate::cipher::KeyId>> {
    let segments = bench.log.segments.iter();
    let keys = segments.map(|segment| segment.cipher.key().and_then(|key| key.master()));
    keys.collect()
}

#[test]
fn what_is_encrypted_is_read_as_it_was_written() {
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    check(&mut bench);
    let mut bench = bench.reopen();
    check(&mut bench);
    bench.checkpoint();
    fill(&mut bench, 601);
    let mut bench = bench.reopen();
    assert!(bench.report.checkpoint.is_some());
    assert_eq!(bench.report.damaged, vec![]);
    check(&mut bench);
}

#[test]
fn no_file_holds_a_name_or_a_message() {
    let texts = ["0/1/3", "0/1/500.", "1/1/77."];
    let holds = |bench: &Bench, text: &str| {
        let files = files(bench);
        files.iter().any(|(_, bytes)| {
            bytes
                .windows(text.len())
                .any(|found| found == text.as_bytes())
        })
    };
    for (keys, expected) in [(Keyring::default(), true), (keyring(&[FIRST]), false)] {
        let mut bench = Bench::with(Options {
            keyring: keys,
            ..options()
        });
        fill(&mut bench, 1);
        bench.checkpoint();
        for text in texts {
            assert_eq!(holds(&bench, text), expected, "{text}");
        }
    }
}

#[test]
fn log_without_its_key_is_refused_and_nothing_is_changed() {
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    // What an ended job leaves, and a tail to be mended: none of it is touched.
    let stray = bench.options.directory.join("00000099.segment.tmp");
    bench.fs.create(&stray).unwrap();
    bench.send(key(0, 1), b"torn");
    let batch = bench.log.take_batch().unwrap();
    let path = bench.log.segment_path(batch.segment).unwrap();
    let half = &batch.bytes[..40];
    let written = bench.fs.append_write(&path, batch.offset.into(), half);
    written.unwrap();
    for checkpointed in [false, true] {
        let before = files(&bench);
        bench.fs.kill();
        for (keys, told) in [
            (Keyring::default(), "no key is given"),
            (keyring(&[SECOND]), "none of the keys that are given (1)"),
        ] {
            let options = Options {
                keyring: keys,
                ..bench.options.clone()
            };
            let fs = Arc::new(bench.fs.clone());
            let refused = Log::open(fs, options, &mut Model::default()).unwrap_err();
            let id = keyring(&[FIRST]).writing().unwrap();
            let Error::Encrypted { key, .. } = &refused else {
                panic!("{refused}");
            };
            assert_eq!(*key, Some(id));
            let text = refused.to_string();
            assert!(
                text.contains(told) && text.contains(&id.to_string()),
                "{text}"
            );
            assert!(!text.contains(FIRST) && !text.contains(SECOND), "{text}");
            assert!(files(&bench) == before, "it was changed");
        }
        bench = bench.reopen();
        if !checkpointed {
            bench.checkpoint();
            bench.fs.create(&stray).unwrap();
        }
    }
}

#[test]
fn plain_log_goes_on_encrypted_and_encrypted_one_plain() {
    let mut bench = Bench::with(options());
    fill(&mut bench, 1);
    assert!(masters(&bench).iter().all(Option::is_none));
    let keys = keyring(&[FIRST]);
    let id = keys.writing();
    let plain = bench.log.segments.len();
    let mut bench = reopen(bench, keys.clone());
    check(&mut bench);
    fill(&mut bench, 601);
    bench.checkpoint();
    check(&mut bench);
    let found = masters(&bench);
    assert!(found[..plain].iter().all(Option::is_none));
    assert!(found.len() > plain && found[plain..].iter().all(|key| *key == id));

    // With the key at hand and encryption off, old segments are read and new ones are plain.
    let encrypted = found.len();
    let mut bench = reopen(bench, keys.reading_only());
    check(&mut bench);
    fill(&mut bench, 1201);
    bench.checkpoint();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.damaged, vec![]);
    check(&mut bench);
    assert!(masters(&bench)[encrypted..].iter().all(Option::is_none));
}

#[test]
fn new_key_writes_and_the_old_one_reads() {
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    bench.checkpoint();
    let mut bench = reopen(bench, keyring(&[SECOND, FIRST]));
    let before = bench.log.segments.len();
    fill(&mut bench, 601);
    bench.checkpoint();
    check(&mut bench);
    let ids: Vec<_> = keyring(&[FIRST, SECOND]).ids().map(Some).collect();
    let found = masters(&bench);
    assert!(found[..before].iter().all(|key| *key == ids[0]));
    assert!(found.len() > before && found[before..].iter().all(|key| *key == ids[1]));
    bench.fs.kill();
    let options = Options {
        keyring: keyring(&[SECOND]),
        ..bench.options.clone()
    };
    let fs = Arc::new(bench.fs.clone());
    let refused = Log::open(fs, options, &mut Model::default()).unwrap_err();
    assert!(matches!(refused, Error::Encrypted { key, .. } if key == ids[0]));
    let mut bench = bench.reopen();
    check(&mut bench);
}

/// A frame in the file: its offset, its header and its payload as it lies there.
fn frame_at(bench: &Bench, number: usize) -> (u32, FrameHeader, Vec<u8>) {
    let bytes = bench.fs.read(&bench.path(1)).unwrap();
    let header = SegmentHeader::decode(&bytes).unwrap().unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    let frames = crate::scan::Frames::new(&bytes, header.seed(), header.segment, 64, len);
    let frames: Vec<_> = frames.map_while(Result::ok).collect();
    let entries = frames
        .iter()
        .filter(|frame| frame.header.kind == FrameKind::Entry);
    let frame = entries.clone().nth(number).unwrap();
    (
        frame.position.offset(),
        frame.header,
        frame.payload.to_vec(),
    )
}

/// Writes a frame with checksums that hold, as somebody would who can write the file.
fn forge(bench: &Bench, offset: u32, mut header: FrameHeader, payload: &[u8]) {
    header.payload_len = u32::try_from(payload.len()).unwrap();
    header.payload_checksum = payload_checksum(payload);
    let bytes = bench.fs.read(&bench.path(1)).unwrap();
    let seed = SegmentHeader::decode(&bytes).unwrap().unwrap().seed();
    let mut file = bench.fs.open(&bench.path(1)).unwrap();
    let encoded = header.encode(&seed, offset);
    file.write_at(u64::from(offset), &encoded).unwrap();
    let at = u64::from(offset) + u64::try_from(FRAME_HEADER_BYTES).unwrap();
    file.write_at(at, payload).unwrap();
    file.sync().unwrap();
}

#[test]
fn forged_frames_are_damage_and_never_served() {
    type Change = fn(&mut FrameHeader, &mut Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("a changed payload", |_, payload| payload[40] ^= 1),
        ("another salt", |_, payload| {
            *payload.last_mut().unwrap() ^= 1;
        }),
        ("another time", |header, _| header.base_timestamp_ns += 1),
        ("a plain payload", |header, payload| {
            header.flags = 0;
            payload.fill(0x20);
        }),
        ("no tag", |_, payload| payload.truncate(16)),
    ];
    for (what, change) in changes {
        for checkpointed in [false, true] {
            let mut bench = Bench::with(with_keys(&[FIRST]));
            fill(&mut bench, 1);
            if checkpointed {
                bench.checkpoint();
            }
            let (offset, mut header, payload) = frame_at(&bench, 20);
            let mut forged = payload.clone();
            change(&mut header, &mut forged);
            forge(&bench, offset, header, &forged);
            let mut bench = bench.reopen();
            let expected = bench.model.messages(key(0, 1));
            let (found, lost) = bench.read_all(key(0, 1), 0);
            let other = bench.read_all(key(1, 1), 0).1;
            assert!(
                !lost.is_empty() || !other.is_empty(),
                "{what}: nobody is told"
            );
            // Behind a checkpoint the state is that of before; else what was lost is not in it.
            assert!(
                found.iter().all(|message| expected.contains(message)),
                "{what}"
            );
            if !checkpointed {
                assert!(!bench.report.damaged.is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn frame_of_another_place_is_not_taken_though_its_checksums_are_made_to_hold() {
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    let (from, header, payload) = frame_at(&bench, 10);
    let (to, there, at_place) = frame_at(&bench, 11);
    assert_eq!(
        payload.len(),
        at_place.len(),
        "the messages have one length"
    );
    assert_ne!((from, header.index), (to, there.index));
    forge(&bench, to, header, &payload);
    let bench = bench.reopen();
    assert!(!bench.report.damaged.is_empty());
}

#[test]
fn damaged_key_of_a_segment_is_in_the_checkpoint_as_well() {
    let damage = |bench: &Bench| {
        // In the wrapped key, at the end of the preamble.
        let (first, ..) = frame_at(bench, 0);
        let at = u64::from(first) - 20;
        bench.fs.flip_bit(&bench.path(1), at, 3).unwrap();
    };
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    bench.checkpoint();
    damage(&bench);
    let mut bench = bench.reopen();
    check(&mut bench);

    // Without a checkpoint what the segment held is lost, and told; the others are read.
    let mut bench = Bench::with(with_keys(&[FIRST]));
    fill(&mut bench, 1);
    let all = bench.model.messages(key(0, 1));
    damage(&bench);
    for file in files(&bench) {
        let path = bench.options.directory.join(&file.0);
        if file.0.starts_with("checkpoint") {
            bench.fs.remove(&path).unwrap();
        }
    }
    let mut bench = bench.reopen();
    assert!(!bench.report.damaged.is_empty());
    let (found, _) = bench.read_all(key(0, 1), 0);
    assert!(!found.is_empty() && found.len() < all.len());
    assert!(found.iter().all(|message| all.contains(message)));
    fill(&mut bench, 601);
    let mut bench = bench.reopen();
    let (again, _) = bench.read_all(key(0, 1), 0);
    assert!(again.len() > found.len(), "it goes on behind what is lost");
}

#[test]
fn small_part_of_a_decrypted_frame_is_copied_when_it_is_shared() {
    let mut bench = Bench::with(with_keys(&[FIRST]));
    let key = key(0, 1);
    for number in 1..=40 {
        bench.send(key, &payload(key, number, 2000));
    }
    bench.commit();
    let (mut shared, mut whole) = (Vec::new(), Vec::new());
    let mut cursor = ReadCursor::default();
    let visit = &mut |stored: Stored<'_>| {
        whole.push(stored.payload.as_ptr());
        shared.push(stored.shared());
    };
    let all = (seq(1), seq(40));
    let end = bench
        .log
        .read(key, all.0, all.1, &mut cursor, 1 << 20, visit);
    assert!(matches!(end, ReadEnd::CaughtUp));
    assert_eq!(shared.len(), 40);
    for (shared, whole) in shared.iter().zip(whole) {
        assert_ne!(shared.as_ptr(), whole, "it would keep the whole frame");
    }
}

#[test]
fn the_same_place_and_salt_make_the_same_bytes_and_another_salt_others() {
    let header = SegmentHeader {
        store: StoreId::from_bytes([7; 16]),
        log: 0,
        segment: SegmentId::new(1),
        generation: Generation::new(1),
        len: 1 << 20,
        encrypted: true,
    };
    let key = SegmentKey::new(DataKey::from_bytes([3; 32]), &header, None);
    let frame = FrameHeader {
        payload_len: 0,
        kind: FrameKind::Entry,
        flags: 0,
        slot: Some(slot(1)),
        record_count: 1,
        term: crate::Term::new(1),
        index: FrameIndex::new(1),
        base_timestamp_ns: 5,
        synced_through: Position::default(),
        payload_checksum: 0,
    };
    let encrypt = |salt: u8, offset: u32| {
        let (mut header, mut buffer) = (frame, b"before, records".to_vec());
        key.encrypt(Salt::new([salt; 8]), &mut header, offset, &mut buffer, 8);
        assert!(buffer.starts_with(b"before, "));
        let stored = buffer.split_off(8);
        assert_eq!(key.decrypt(&header, offset, &stored).unwrap(), b"records");
        assert!(key.decrypt(&header, offset + 8, &stored).is_err());
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.decrypt(&header, offset, &changed).is_err(), "bit {bit}");
        }
        stored
    };
    assert_eq!(encrypt(1, 64), encrypt(1, 64));
    assert_ne!(encrypt(1, 64), encrypt(2, 64));
    assert_ne!(encrypt(1, 64), encrypt(1, 72));
}
