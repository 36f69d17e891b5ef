//! What the codecs promise of bytes that are not as they were written: damage is noticed, nothing
//! panics, and no promise on disk takes memory that the file does not pay for.

#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use ringmq_storage::checkpoint::{ChannelFloor, Checkpoint, Section, SegmentEntry};
use ringmq_storage::frame::{BadFrame, FRAME_HEADER_BYTES, FrameKind, Seed, frame_len};
use ringmq_storage::record::payload::{
    BadPayload, ChannelCreate, CursorCreate, decode_cursor_delete, decode_moves,
    encode_cursor_delete, encode_moves,
};
use ringmq_storage::record::{RecordKind, Records};
use ringmq_storage::scan::{Frames, find_next_header, find_next_valid};
use ringmq_storage::segment::SegmentHeader;
use ringmq_storage::segment_index::{Block, Entry, SegmentIndex, SlotRange};
use ringmq_storage::{
    BadFile, ChannelId, ChannelKey, CursorId, FrameIndex, Generation, Position, SegmentId,
    Sequence, SlotId, StoreId, Term,
};

#[path = "codec/queues.rs"]
mod queues;
#[path = "golden/sample.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared by several test binaries")]
mod sample;

/// Every way to flip one bit.
fn flips(good: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..good.len() * 8).map(|bit| {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        (bit / 8, bad)
    })
}

/// What counts of the frames of a segment.
fn meaning(bytes: &[u8]) -> Vec<(u32, FrameKind, Vec<u8>)> {
    let frames = sample::scan(bytes).unwrap();
    let meaning = |frame: ringmq_storage::frame::Frame<'_>| {
        (
            frame.position.offset(),
            frame.header.kind,
            frame.payload.to_vec(),
        )
    };
    frames.into_iter().map(meaning).collect()
}

#[test]
fn flipped_bit_of_a_segment_is_noticed_or_without_meaning() {
    let good = sample::segment();
    let expected = meaning(&good);
    // Where the frames lie without their padding: what has a meaning.
    let covered = |at: usize| {
        expected.iter().find_map(|(offset, _, payload)| {
            let begin = *offset as usize;
            let end = begin + FRAME_HEADER_BYTES + payload.len();
            (begin..end).contains(&at).then_some((*offset, begin + 64))
        })
    };
    let (mut noticed, mut harmless) = (0, 0);
    for (at, bad) in flips(&good).skip(64 * 8) {
        if let Some((offset, payload_at)) = covered(at) {
            let end = sample::scan(&bad).expect_err("a frame has changed");
            assert_eq!(end.offset, offset, "byte {at}");
            let expected = if at < payload_at {
                BadFrame::HeaderChecksum
            } else {
                BadFrame::PayloadChecksum
            };
            assert_eq!(end.reason, expected, "byte {at}");
            assert_eq!(end.header.is_some(), at >= payload_at);
            noticed += 1;
        } else {
            assert_eq!(meaning(&bad), expected, "byte {at}");
            harmless += 1;
        }
    }
    assert!(noticed > 8 * 800, "{noticed}");
    assert!(harmless > 8 * 100, "{harmless}");
}

#[test]
fn flipped_bit_of_a_checkpoint_is_noticed() {
    for (at, bad) in flips(&sample::checkpoint().encode()) {
        let found = Checkpoint::decode(&bad);
        assert!(
            matches!(found, Err(BadFile::Magic | BadFile::Checksum)),
            "byte {at}: {found:?}"
        );
    }
}

#[test]
fn flipped_bit_of_an_index_is_noticed() {
    for (at, bad) in flips(&sample::index().encode()) {
        let found = SegmentIndex::decode(&bad);
        assert!(
            matches!(found, Err(BadFile::Magic | BadFile::Checksum)),
            "byte {at}: {found:?}"
        );
    }
}

#[test]
fn cut_or_longer_files_are_noticed() {
    let (checkpoint, index) = (sample::checkpoint().encode(), sample::index().encode());
    for len in 0..checkpoint.len() {
        assert!(Checkpoint::decode(&checkpoint[..len]).is_err(), "{len}");
    }
    for len in 0..index.len() {
        assert!(SegmentIndex::decode(&index[..len]).is_err(), "{len}");
    }
    let longer = |bytes: &[u8]| [bytes, &[0; 8]].concat();
    assert_eq!(
        Checkpoint::decode(&longer(&checkpoint)),
        Err(BadFile::Short)
    );
    assert_eq!(SegmentIndex::decode(&longer(&index)), Err(BadFile::Short));
}

#[test]
fn cut_segment_ends_at_the_first_frame_that_is_not_whole() {
    let good = sample::segment();
    let all = meaning(&good);
    for len in 64..good.len() {
        let whole = |frame: &&(u32, FrameKind, Vec<u8>)| {
            frame.0 as usize + FRAME_HEADER_BYTES + frame.2.len() <= len
        };
        let frames = sample::scan(&good[..len]);
        match all.iter().find(|frame| !whole(frame)) {
            None => assert_eq!(frames.unwrap().len(), all.len()),
            Some((offset, ..)) => {
                let end = frames.expect_err("a frame is cut");
                assert_eq!(
                    (end.offset, end.reason),
                    (*offset, BadFrame::Short),
                    "{len}"
                );
            }
        }
    }
}

/// Promises of a file whose checksums hold: nobody but a bug makes one, and it must not take the
/// machine down either.
#[test]
fn counts_alone_take_no_memory() {
    let sealed = |mut bytes: Vec<u8>, at: usize, count: &[u8], header: usize| {
        bytes[at..at + count.len()].copy_from_slice(count);
        let checksum = crc32fast::hash(&bytes[..header - 4]).to_le_bytes();
        bytes[header - 4..header].copy_from_slice(&checksum);
        bytes
    };
    let most = u32::MAX.to_le_bytes();
    for at in [64, 68, 72] {
        let bytes = sealed(sample::checkpoint().encode(), at, &most, 88);
        let found = Checkpoint::decode(&bytes);
        let refused = matches!(found, Err(BadFile::Field(_) | BadFile::Checksum));
        assert!(refused, "{at}: {found:?}");
        let bytes = sealed(sample::checkpoint().encode(), at, &[0; 4], 88);
        assert!(Checkpoint::decode(&bytes).is_err(), "what is not counted");
    }
    for (at, count) in [(42, &most[..2]), (44, &most[..])] {
        let bytes = sealed(sample::index().encode(), at, count, 64);
        let found = SegmentIndex::decode(&bytes);
        let refused = matches!(found, Err(BadFile::Field(_) | BadFile::Checksum));
        assert!(refused, "{at}: {found:?}");
        let bytes = sealed(sample::index().encode(), at, &[0; 2], 64);
        assert!(SegmentIndex::decode(&bytes).is_err(), "what is not counted");
    }
}

#[test]
fn entries_that_cannot_be_searched_are_refused() {
    let wrong: [fn(&mut Block); 8] = [
        |block| block.entries[1].offset = block.entries[0].offset,
        |block| block.entries[1].sequence_delta = 0,
        |block| block.entries[0].sequence_delta = 1,
        |block| block.entries[0].offset = 56,
        |block| block.entries[1].offset = 516,
        |block| block.entries[1].offset = 1024,
        |block| block.entries[1].sequence_delta = 40,
        |block| block.last = Sequence::new(20),
    ];
    let with = |change: fn(&mut Block)| {
        let mut index = sample::index();
        change(&mut index.blocks[0]);
        SegmentIndex::decode(&index.encode()).map(drop)
    };
    assert_eq!(with(|_| ()), Ok(()));
    for (number, change) in wrong.into_iter().enumerate() {
        assert!(matches!(with(change), Err(BadFile::Field(_))), "{number}");
    }
}

#[test]
fn files_of_another_place_are_refused() {
    let header = sample::segment_header();
    let checkpoint = sample::checkpoint();
    assert_eq!(checkpoint.check(header.store, 1), Ok(()));
    assert!(checkpoint.check(StoreId::from_bytes([1; 16]), 1).is_err());
    assert!(checkpoint.check(header.store, 2).is_err());

    let index = sample::index();
    assert_eq!(index.check(&header), Ok(()));
    let others: [fn(&mut SegmentHeader); 5] = [
        |header| header.store = StoreId::from_bytes([1; 16]),
        |header| header.log = 2,
        |header| header.segment = SegmentId::new(8),
        |header| header.generation = Generation::new(4),
        |header| header.len = 1024,
    ];
    for (number, change) in others.into_iter().enumerate() {
        let mut other = header;
        change(&mut other);
        assert!(index.check(&other).is_err(), "{number}");
    }
}

#[test]
fn frames_of_another_place_are_no_frames() {
    let good = sample::segment();
    let own = sample::segment_header().seed();
    let scan = |seed: Seed, bytes: &[u8]| {
        Frames::new(bytes, seed, seed.segment, 64, 1536)
            .next()
            .unwrap()
            .is_ok()
    };
    assert!(scan(own, &good));
    let others = [
        Seed {
            store: StoreId::from_bytes([7; 16]),
            ..own
        },
        Seed {
            segment: SegmentId::new(8),
            ..own
        },
        Seed {
            generation: Generation::new(2),
            ..own
        },
    ];
    for other in others {
        assert!(!scan(other, &good), "{other:?}");
    }
    let mut moved = good.clone();
    moved.copy_within(64..1400, 72);
    assert!(!scan(own, &moved));
    let found = find_next_header(&moved, own, own.segment, 64);
    assert_eq!(found, None, "none of the frames lies where it was");
}

#[test]
fn next_frame_is_found_behind_damage() {
    let mut bytes = sample::segment();
    let own = sample::segment_header().seed();
    let starts: Vec<_> = meaning(&bytes).iter().map(|frame| frame.0).collect();
    let next = |bytes: &[u8], from| find_next_valid(bytes, own, own.segment, from);
    for pair in starts.windows(2) {
        assert_eq!(next(&bytes, pair[0]), Some(pair[0]));
        assert_eq!(next(&bytes, pair[0] + 1), Some(pair[1]));
    }
    let last = *starts.last().unwrap();
    assert_eq!(next(&bytes, last + 1), None);
    assert_eq!(next(&bytes, u32::MAX), None);
    // A header without its payload is found only by those who look for headers.
    let second = starts[1];
    bytes[second as usize + 70] ^= 1;
    assert_eq!(next(&bytes, second), Some(starts[2]));
    let header = find_next_header(&bytes, own, own.segment, second);
    assert_eq!(header, Some(second));
    let end = sample::scan(&bytes).expect_err("the payload has changed");
    assert_eq!(end.next_offset(), Some(starts[2]));
}

/// The zeros between are skipped by the block, and no frame with them.
#[test]
fn frame_far_behind_zeros_is_found_wherever_it_begins() {
    let header = sample::segment_header();
    let own = header.seed();
    for offset in (64..4096).step_by(8) {
        let mut writer = sample::Writer {
            bytes: vec![0; offset],
        };
        writer.frame(FrameKind::Seal, None, 0, &[]);
        let found = find_next_valid(&writer.bytes, own, own.segment, 64);
        assert_eq!(found, u32::try_from(offset).ok());
    }
}

#[test]
fn range_that_cuts_a_frame_does_not_yield_it() {
    let good = sample::segment();
    let own = sample::segment_header();
    let second = meaning(&good)[1].0;
    for end in 64..second {
        let mut frames = Frames::new(&good, own.seed(), own.segment, 64, end);
        match frames.next() {
            None => assert_eq!(end, 64),
            Some(found) => assert_eq!(found.unwrap_err().reason, BadFrame::Short),
        }
        assert!(frames.next().is_none());
    }
    let mut frames = Frames::new(&good, own.seed(), own.segment, 64, second);
    assert!(frames.next().unwrap().is_ok());
    assert!(frames.next().is_none());
}

#[test]
fn malformed_record_payloads_are_refused() {
    assert_eq!(ChannelCreate::decode(&[1; 7]), Err(BadPayload));
    assert_eq!(ChannelCreate::decode(&[1; 9]), Err(BadPayload), "reserved");
    let not_utf8 = [1, 0, 0, 0, 0, 0, 0, 0, 0xff];
    assert_eq!(ChannelCreate::decode(&not_utf8), Err(BadPayload));
    assert_eq!(CursorCreate::decode(&[0; 7]), Err(BadPayload));
    assert_eq!(CursorCreate::decode(&[1; 12]), Err(BadPayload), "reserved");
    assert!(decode_moves(&[0; 15]).is_err());
    assert!(decode_moves(&[1; 16]).is_err(), "reserved");
    assert_eq!(decode_moves(&[]).unwrap().len(), 0);
    assert_eq!(decode_cursor_delete(&[0; 7]), Err(BadPayload));
    assert_eq!(decode_cursor_delete(&[0; 9]), Err(BadPayload));
    assert_eq!(decode_cursor_delete(&[1; 8]), Err(BadPayload), "reserved");
}

fn any_slot() -> impl Strategy<Value = SlotId> {
    (0..64_u16).prop_map(sample::slot)
}

fn any_key() -> impl Strategy<Value = ChannelKey> {
    (any_slot(), any::<u32>()).prop_map(|(slot, channel)| ChannelKey {
        slot,
        channel: ChannelId::new(channel),
    })
}

prop_compose! {
    fn any_section()(
        slot in any_slot(),
        applied in any::<u64>(),
        below in any::<u64>(),
        numbers in any::<[u64; 3]>(),
        logical in vec(any::<u8>(), 0..100),
    ) -> Section {
        Section {
            slot,
            applied: FrameIndex::new(applied),
            term: Term::new(numbers[0]),
            last_timestamp_ns: numbers[1],
            floor: FrameIndex::new(below.min(applied)),
            void: Position::from_u64(numbers[2]),
            logical,
        }
    }
}

prop_compose! {
    fn any_checkpoint()(
        store in any::<[u8; 16]>(),
        log in any::<u16>(),
        numbers in any::<[u64; 3]>(),
        sections in vec(any_section(), 0..5),
        segments in vec(any::<[u32; 3]>(), 0..5),
        floors in vec((any_key(), any::<[u64; 2]>()), 0..5),
    ) -> Checkpoint {
        let [number, one, other] = numbers;
        let segments = segments.into_iter().map(|[segment, generation, len]| SegmentEntry {
            segment: SegmentId::new(segment),
            generation: Generation::new(generation),
            len,
            key: None,
        });
        let floors = floors.into_iter().map(|(key, [one, other])| ChannelFloor {
            key,
            first: Sequence::new(one.min(other)),
            last: Sequence::new(one.max(other)),
        });
        Checkpoint {
            store: StoreId::from_bytes(store),
            log,
            number,
            position: Position::from_u64(one.min(other)),
            synced_through: Position::from_u64(one.max(other)),
            sections,
            segments: segments.collect(),
            floors: floors.collect(),
        }
    }
}

prop_compose! {
    fn any_block()(
        key in any_key(),
        carried in any::<bool>(),
        first in any::<u32>(),
        numbers in any::<[u64; 3]>(),
        steps in vec((1..1000_u32, 1..10_u32, any::<[u32; 2]>()), 1..6),
    ) -> Block {
        let (mut offset, mut delta) = (64, 0);
        let entries: Vec<_> = steps
            .into_iter()
            .enumerate()
            .map(|(number, (step, behind, [time_delta_ms, bytes_before]))| {
                delta += if number == 0 { 0 } else { step };
                offset += behind * 8;
                Entry { sequence_delta: delta, offset, time_delta_ms, bytes_before }
            })
            .collect();
        let first = u64::from(first);
        Block {
            key,
            carried,
            first: Sequence::new(first),
            last: Sequence::new(first + u64::from(delta)),
            base_time_ns: numbers[0],
            last_time_ns: numbers[1],
            bytes: numbers[2],
            entries,
        }
    }
}

prop_compose! {
    fn any_index()(
        store in any::<[u8; 16]>(),
        log in any::<u16>(),
        numbers in any::<[u32; 2]>(),
        slots in vec((any_slot(), any::<[u64; 2]>()), 0..5),
        blocks in vec(any_block(), 0..5),
    ) -> SegmentIndex {
        let slots = slots.into_iter().map(|(slot, [one, other])| SlotRange {
            slot,
            first: FrameIndex::new(one.min(other)),
            last: FrameIndex::new(one.max(other)),
        });
        SegmentIndex {
            store: StoreId::from_bytes(store),
            log,
            segment: SegmentId::new(numbers[0]),
            generation: Generation::new(numbers[1]),
            seal_offset: 4096,
            slots: slots.collect(),
            blocks,
        }
    }
}

proptest! {
    #[test]
    fn checkpoints_come_back_as_they_were(checkpoint in any_checkpoint()) {
        prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
    }

    #[test]
    fn indexes_come_back_as_they_were(index in any_index()) {
        prop_assert_eq!(SegmentIndex::decode(&index.encode()), Ok(index));
    }

    #[test]
    fn segment_headers_come_back_as_they_were(
        store in any::<[u8; 16]>(), log in any::<u16>(), segment in 1..=u32::MAX,
        generation in 1..=u32::MAX, len in any::<u32>(), encrypted: bool,
    ) {
        let header = SegmentHeader {
            store: StoreId::from_bytes(store),
            log,
            segment: SegmentId::new(segment),
            generation: Generation::new(generation),
            len,
            encrypted,
        };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(Some(header)));
    }

    #[test]
    fn record_payloads_come_back_as_they_were(
        kind in any::<u8>(), cursor in any::<u32>(), name in "\\PC{0,40}",
        moves in vec(any::<(u32, u64)>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        let create = ChannelCreate { kind, name: &name };
        create.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), create.encoded_len());
        prop_assert_eq!(ChannelCreate::decode(&bytes), Ok(create));

        bytes.clear();
        let cursor = CursorId::new(cursor);
        let create = CursorCreate { cursor, owner: kind, name: &name };
        create.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), create.encoded_len());
        prop_assert_eq!(CursorCreate::decode(&bytes), Ok(create));

        bytes.clear();
        encode_cursor_delete(cursor, &mut bytes);
        prop_assert_eq!(decode_cursor_delete(&bytes), Ok(cursor));

        bytes.clear();
        let moves: Vec<_> = moves
            .iter()
            .map(|(cursor, to)| (CursorId::new(*cursor), Sequence::new(*to)))
            .collect();
        encode_moves(&moves, &mut bytes);
        prop_assert_eq!(decode_moves(&bytes).unwrap().collect::<Vec<_>>(), moves);
    }

    #[test]
    fn frames_and_records_come_back_as_they_were(
        frames in vec(vec((any::<u32>(), any::<u64>(), vec(any::<u8>(), 0..40)), 0..6), 0..6),
    ) {
        let mut writer = sample::Writer::new();
        for (number, records) in (1..).zip(&frames) {
            let mut payload = Vec::new();
            for (channel, sequence, body) in records {
                sample::record(&mut payload, RecordKind::Message, *channel, *sequence, body);
            }
            let count = u32::try_from(records.len()).unwrap();
            let before = writer.bytes.len();
            writer.frame(FrameKind::Entry, Some((3, number)), count, &payload);
            prop_assert_eq!(writer.bytes.len() - before, frame_len(payload.len()));
        }
        let end = u32::try_from(writer.bytes.len()).unwrap();
        let own = sample::segment_header();
        let found: Vec<_> = Frames::new(&writer.bytes, own.seed(), own.segment, 64, end)
            .map(|frame| {
                let records = Records::new(frame.unwrap().payload).map(Result::unwrap);
                let record = |record: ringmq_storage::record::Record<'_>| (
                    record.head.channel.get(),
                    record.head.sequence.get(),
                    record.payload.to_vec(),
                );
                records.map(record).collect::<Vec<_>>()
            })
            .collect();
        prop_assert_eq!(found, frames);
    }
}
