//! What has to hold for any bytes that are read from a disk. Each function takes arbitrary bytes,
//! panics when something does not hold, and says whether there was anything in the bytes that could
//! be read.
//!
//! Checksums would keep a fuzzer out of everything behind them. So the bytes are read twice: as
//! they are, and repaired, with the checksums and a few fields made right.

use ringmq_storage::checkpoint::Checkpoint;
use ringmq_storage::frame::{FRAME_HEADER_BYTES, FrameHeader, Seed};
use ringmq_storage::record::payload::{
    BadPayload, ChannelCreate, CursorCreate, decode_cursor_delete, decode_moves,
    encode_cursor_delete, encode_moves,
};
use ringmq_storage::record::queue::{
    QueueHead, decode_counted, decode_move, decode_move_ids, decode_requeued, decode_settle,
    encode_counted, encode_move, encode_move_ids, encode_requeued, encode_settle,
};
use ringmq_storage::record::{Record, RecordKind, Records, record_len};
use ringmq_storage::scan::{Frames, find_next_header, find_next_valid};
use ringmq_storage::segment::{Preamble, SEGMENT_HEADER_BYTES, SegmentHeader};
use ringmq_storage::segment_index::SegmentIndex;
use ringmq_storage::{Generation, SegmentId, StoreId};

/// Longer inputs find nothing new and take longer.
const BYTES_MAX: usize = 16 << 10;

const SEED: Seed = Seed {
    store: StoreId::from_bytes(*b"0123456789abcdef"),
    segment: SegmentId::new(7),
    generation: Generation::new(3),
};

/// The file of a segment.
pub fn segment(data: &[u8]) -> bool {
    let data = data.get(..BYTES_MAX).unwrap_or(data);
    walk(data) | walk(&repaired_segment(data))
}

fn walk(bytes: &[u8]) -> bool {
    let header = SegmentHeader::decode(bytes);
    if let Ok(Some(header)) = header {
        assert_eq!(Some(&header.encode()), bytes.first_chunk(), "one spelling");
    }
    let seed = header.ok().flatten().map_or(SEED, |header| header.seed());
    let len = u32::try_from(bytes.len()).expect("a short input");
    let from = u32::try_from(SEGMENT_HEADER_BYTES).expect("a small number");
    let mut frames = Frames::new(bytes, seed, seed.segment, from, len);
    let mut expected = from;
    for frame in frames.by_ref() {
        let offset = expected as usize;
        let frame = match frame {
            Ok(frame) => frame,
            Err(end) => {
                assert_eq!(end.offset, expected);
                assert!(end.next_offset().is_none_or(|next| next > end.offset));
                break;
            }
        };
        assert_eq!(frame.position.offset(), expected);
        let header = frame.header.encode(&seed, expected);
        assert_eq!(Some(header.as_slice()), bytes.get(offset..offset + 64));
        expected += u32::try_from(frame.header.frame_len()).expect("it lies in the input");
        assert!(expected <= len, "a frame ends in its range");
        if let Ok(preamble) = Preamble::decode(frame.payload) {
            assert_eq!(preamble.encode(), frame.payload, "one spelling");
        }
        records(frame.payload);
    }
    assert!(frames.next().is_none(), "a walk ends once");
    assert!(frames.offset() <= expected);
    search(bytes, &seed, frames.offset().saturating_add(1));
    frames.offset() > from
}

/// The search skips what cannot be a header; step by step it must find the same.
fn search(bytes: &[u8], seed: &Seed, from: u32) {
    let header_at = |offset: usize| {
        let at = u32::try_from(offset).expect("a short input");
        FrameHeader::decode(bytes.get(offset..)?, seed, at).ok()
    };
    let first = (from as usize).next_multiple_of(8);
    let mut steps = (first..bytes.len()).step_by(8);
    let expected = steps.find(|offset| header_at(*offset).is_some());
    let found = find_next_header(bytes, *seed, seed.segment, from);
    assert_eq!(found.map(|found| found as usize), expected);
    if let Some(valid) = find_next_valid(bytes, *seed, seed.segment, from) {
        let header = header_at(valid as usize).expect("a header");
        let bytes = bytes.get(valid as usize..).unwrap_or_default();
        assert!(header.check_payload(bytes).is_ok());
        assert!(found.is_some_and(|found| found <= valid));
    }
}

fn records(payload: &[u8]) {
    let mut at = 0;
    let mut failed = false;
    for record in Records::new(payload) {
        assert!(!failed, "nothing comes behind an error");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        let bytes = payload.get(at..).unwrap_or_default();
        assert!(bytes.starts_with(&record.head.encode()), "one spelling");
        assert_eq!(record.payload.len(), record.head.payload_len as usize);
        at += record_len(record.payload.len());
        known_payload(&record);
    }
    assert!(failed || at >= payload.len(), "all of it was read");
}

/// All kinds that a record can have.
pub const KINDS: [RecordKind; 13] = [
    RecordKind::Message,
    RecordKind::ChannelCreate,
    RecordKind::ChannelDelete,
    RecordKind::Trim,
    RecordKind::CursorCreate,
    RecordKind::CursorMove,
    RecordKind::CursorDelete,
    RecordKind::QueueSettle,
    RecordKind::QueueRequeue,
    RecordKind::QueueCount,
    RecordKind::QueueMove,
    RecordKind::QueueMoveCancel,
    RecordKind::QueueMoveForget,
];

/// The payload of a record, the first byte being its kind.
pub fn record_payload(data: &[u8]) -> bool {
    let Some((kind, payload)) = data.split_first() else {
        return false;
    };
    let mut bytes = vec![0; 32];
    let len = u32::try_from(payload.len()).expect("a short input");
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4] = KINDS[usize::from(*kind) % KINDS.len()] as u8;
    bytes.extend_from_slice(payload);
    let record = Records::new(&bytes).next().expect("a record");
    let read = known_payload(&record.expect("a good one"));
    if let Ok(preamble) = Preamble::decode(payload) {
        assert_eq!(preamble.encode(), payload, "one spelling");
    }
    records(payload);
    read
}

fn known_payload(record: &Record<'_>) -> bool {
    let payload = record.payload;
    let mut again = Vec::new();
    match record.head.kind {
        RecordKind::ChannelCreate => {
            let Ok(create) = ChannelCreate::decode(payload) else {
                return false;
            };
            create.encode(&mut again);
        }
        RecordKind::CursorCreate => {
            let Ok(create) = CursorCreate::decode(payload) else {
                return false;
            };
            create.encode(&mut again);
        }
        RecordKind::CursorMove => {
            let Ok(moves) = decode_moves(payload) else {
                return false;
            };
            encode_moves(&moves.collect::<Vec<_>>(), &mut again);
        }
        RecordKind::CursorDelete => {
            let Ok(cursor) = decode_cursor_delete(payload) else {
                return false;
            };
            encode_cursor_delete(cursor, &mut again);
        }
        RecordKind::Message => {
            let Ok((head, body)) = QueueHead::decode(payload) else {
                return true;
            };
            head.encode(&mut again);
            assert_eq!(again.len(), head.encoded_len());
            again.extend_from_slice(body);
        }
        RecordKind::ChannelDelete | RecordKind::Trim | RecordKind::QueueMoveCancel => return true,
        RecordKind::QueueSettle
        | RecordKind::QueueRequeue
        | RecordKind::QueueCount
        | RecordKind::QueueMove
        | RecordKind::QueueMoveForget => match queue_payload(record) {
            Ok(bytes) => again = bytes,
            Err(BadPayload) => return false,
        },
    }
    assert_eq!(again, payload, "one spelling");
    true
}

/// Reads what a record says of a queue, and writes it again.
fn queue_payload(record: &Record<'_>) -> Result<Vec<u8>, BadPayload> {
    let (payload, mut again) = (record.payload, Vec::new());
    let sized = |count: usize, hint: (usize, Option<usize>)| {
        assert_eq!(hint, (count, Some(count)), "no entry is lost");
    };
    match record.head.kind {
        RecordKind::QueueSettle => {
            let (bytes, runs) = decode_settle(payload)?;
            let hint = runs.size_hint();
            let runs: Vec<_> = runs.collect();
            sized(runs.len(), hint);
            encode_settle(bytes, &runs, &mut again);
        }
        RecordKind::QueueRequeue => {
            let entries = decode_requeued(payload)?;
            let hint = entries.size_hint();
            let entries: Vec<_> = entries.collect();
            sized(entries.len(), hint);
            encode_requeued(&entries, &mut again);
        }
        RecordKind::QueueCount => {
            let entries = decode_counted(payload)?;
            let hint = entries.size_hint();
            let entries: Vec<_> = entries.collect();
            sized(entries.len(), hint);
            encode_counted(&entries, &mut again);
        }
        RecordKind::QueueMove => {
            let (reason, target) = decode_move(payload)?;
            encode_move(reason, target, &mut again);
        }
        _ => {
            let ids = decode_move_ids(payload)?;
            let hint = ids.size_hint();
            let ids: Vec<_> = ids.collect();
            sized(ids.len(), hint);
            encode_move_ids(&ids, &mut again);
        }
    }
    Ok(again)
}

/// The file of a checkpoint.
pub fn checkpoint(data: &[u8]) -> bool {
    let data = data.get(..BYTES_MAX).unwrap_or(data);
    let check = |bytes: &[u8]| {
        let Ok(checkpoint) = Checkpoint::decode(bytes) else {
            return false;
        };
        assert_eq!(checkpoint.encode(), bytes, "one spelling");
        let states = checkpoint.sections.iter();
        let states: usize = states.map(|section| section.logical.capacity()).sum();
        let entries = checkpoint.sections.capacity() * 80
            + checkpoint.segments.capacity() * 16
            + checkpoint.floors.capacity() * 32;
        assert!(states <= bytes.len() && entries <= bytes.len() * 4 + 1024);
        true
    };
    check(data) | check(&repaired_checkpoint(data))
}

/// The index of a segment.
pub fn segment_index(data: &[u8]) -> bool {
    let data = data.get(..BYTES_MAX).unwrap_or(data);
    let check = |bytes: &[u8]| {
        let Ok(index) = SegmentIndex::decode(bytes) else {
            return false;
        };
        assert_eq!(index.encode(), bytes, "one spelling");
        let entries = index.blocks.iter();
        let entries: usize = entries.map(|block| block.entries.capacity() * 16).sum();
        let blocks = index.blocks.capacity() * 96 + index.slots.capacity() * 24;
        assert!(entries <= bytes.len() && blocks <= bytes.len() * 4 + 1024);
        for block in &index.blocks {
            assert!(!block.entries.is_empty() && block.first <= block.last);
        }
        true
    };
    check(data) | check(&repaired_index(data))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(field.copied().unwrap_or_default())
}

fn checksum(bytes: &[u8], from: usize, to: usize) -> [u8; 4] {
    crc32fast::hash(bytes.get(from..to).unwrap_or_default()).to_le_bytes()
}

/// Makes frames out of whatever lies there.
fn repaired_segment(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = SEGMENT_HEADER_BYTES;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let room = bytes.len() - at - FRAME_HEADER_BYTES;
        let len = (u32_at(&bytes, at) as usize).min(room);
        let kind = [1, 1, 1, 2, 6, 9, 7, 3][usize::from(bytes[at + 4] % 8)];
        let slot = bytes[at + 6] % 70;
        put(
            &mut bytes,
            at,
            &u32::try_from(len).unwrap_or(0).to_le_bytes(),
        );
        put(&mut bytes, at + 4, &[kind, 0, slot, 0]);
        if kind == 6 || kind == 7 {
            put(&mut bytes, at + 6, &[0xff, 0xff]);
        }
        put(&mut bytes, at + 12, &[0; 4]);
        put(&mut bytes, at + 52, &[0; 8]);
        let begin = at + FRAME_HEADER_BYTES;
        repair_records(&mut bytes[begin..begin + len]);
        let payload = checksum(&bytes, begin, begin + len);
        put(&mut bytes, at + 48, &payload);
        let header = bytes.get(at..at + 60).unwrap_or_default();
        let offset = u32::try_from(at).expect("a short input");
        let header = SEED.checksum(offset, header).to_le_bytes();
        put(&mut bytes, at + 60, &header);
        at = begin + len.next_multiple_of(8);
    }
    bytes
}

fn repair_records(payload: &mut [u8]) {
    let mut at = 0;
    while at + 32 <= payload.len() {
        let len = u32_at(payload, at) % 64;
        put(payload, at, &len.to_le_bytes());
        // Now and then a kind that does not exist.
        let kind = payload[at + 4] % 9;
        put(payload, at + 4, &[kind, 0]);
        put(payload, at + 7, &[0]);
        put(payload, at + 12, &[0; 4]);
        put(payload, at + 28, &[0; 4]);
        at += record_len(len as usize);
    }
}

/// Magic, version, length and both checksums; the checksum of the header is its last field, that
/// of the body the one before.
fn seal_file(bytes: &mut [u8], magic: &[u8; 8], header_bytes: usize, len_at: usize) {
    let len = u64::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
    put(bytes, 0, magic);
    put(bytes, 8, &1_u32.to_le_bytes());
    put(bytes, len_at, &len);
    let body = checksum(bytes, header_bytes, bytes.len());
    put(bytes, header_bytes - 8, &body);
    let header = checksum(bytes, 0, header_bytes - 4);
    put(bytes, header_bytes - 4, &header);
}

fn repaired_checkpoint(data: &[u8]) -> Vec<u8> {
    const HEADER: usize = 88;
    const SECTION: usize = 56;
    const SEGMENT: usize = 16;
    const FLOOR: usize = 24;
    let mut bytes = data.to_vec();
    let sections = u32_at(&bytes, 64) % 4;
    put(&mut bytes, 14, &[0; 2]);
    put(&mut bytes, 64, &sections.to_le_bytes());
    put(&mut bytes, 76, &[0; 4]);
    let mut at = HEADER;
    for _ in 0..sections {
        let room = bytes.len().saturating_sub(at + SECTION);
        let len = (u32_at(&bytes, at + 48) as usize).min(room);
        let slot = u32_at(&bytes, at) % 65;
        put(&mut bytes, at, &slot.to_le_bytes());
        let begin = at + SECTION;
        let state = checksum(&bytes, begin, begin + len);
        put(&mut bytes, at + 4, &state);
        let len_field = u64::try_from(len).unwrap_or(0).to_le_bytes();
        put(&mut bytes, at + 48, &len_field);
        at = begin + len.next_multiple_of(8);
    }
    // What is left becomes segments and channels, or nearly.
    let left = bytes.len().saturating_sub(at);
    let segments = (left / SEGMENT).min(u32_at(&bytes, 68) as usize % 4);
    for _ in 0..segments {
        put(&mut bytes, at + 12, &[0; 4]);
        at += SEGMENT;
    }
    let whole = bytes.len().saturating_sub(at) / FLOOR;
    let floors = whole + usize::from(u32_at(&bytes, 72).is_multiple_of(16));
    for _ in 0..whole {
        let slot = u32_at(&bytes, at) % 64;
        put(&mut bytes, at, &slot.to_le_bytes());
        at += FLOOR;
    }
    bytes.truncate(at);
    let counts = [segments, floors].map(|count| u32::try_from(count).unwrap_or(0).to_le_bytes());
    put(&mut bytes, 68, &counts.concat());
    seal_file(&mut bytes, b"RMQCKP1\0", HEADER, 56);
    bytes
}

/// The smaller of two numbers of eight bytes first.
fn order(bytes: &mut [u8], at: usize) {
    let number = |from: usize| {
        let field = bytes.get(from..).and_then(|rest| rest.first_chunk());
        u64::from_le_bytes(field.copied().unwrap_or_default())
    };
    let (one, other) = (number(at), number(at + 8));
    put(bytes, at, &one.min(other).to_le_bytes());
    put(bytes, at + 8, &one.max(other).to_le_bytes());
}

fn repaired_index(data: &[u8]) -> Vec<u8> {
    const HEADER: usize = 64;
    const BLOCK: usize = 56;
    let mut bytes = data.to_vec();
    let room = bytes.len().saturating_sub(HEADER) / 24;
    let slots = room.min(u32_at(&bytes, 42) as usize % 4);
    let slots = u32::try_from(slots).unwrap_or(0);
    let mut at = HEADER;
    for _ in 0..slots {
        let slot = u64::from(u32_at(&bytes, at) % 64).to_le_bytes();
        put(&mut bytes, at, &slot);
        order(&mut bytes, at + 8);
        at += 24;
    }
    put(&mut bytes, 42, &slots.to_le_bytes()[..2]);
    let mut blocks = 0_u32;
    while at + BLOCK + 16 <= bytes.len() {
        let room = (bytes.len() - at - BLOCK) / 16;
        let entries = (u32_at(&bytes, at + 48) as usize % 5).min(room);
        let slot = u32_at(&bytes, at) % 64;
        let carried = u32_at(&bytes, at + 4) % 2;
        put(&mut bytes, at, &(slot | (carried << 16)).to_le_bytes());
        let count = u64::try_from(entries).unwrap_or(0).to_le_bytes();
        put(&mut bytes, at + 48, &count);
        // In order, or nearly.
        let (mut delta, mut offset) = (0, 64);
        for number in 0..entries {
            let entry = at + BLOCK + number * 16;
            put(&mut bytes, entry, &u32::to_le_bytes(delta));
            put(&mut bytes, entry + 4, &u32::to_le_bytes(offset));
            delta += u32_at(&bytes, entry + 8).wrapping_add(1) % 17;
            offset += u32_at(&bytes, entry + 12).wrapping_add(1) % 17 * 8;
        }
        put(&mut bytes, at + 8, &[0; 7]);
        put(&mut bytes, at + 16, &u64::from(delta + 200).to_le_bytes());
        at += BLOCK + entries * 16;
        blocks += 1;
    }
    bytes.truncate(at);
    put(&mut bytes, 44, &blocks.to_le_bytes());
    seal_file(&mut bytes, b"RMQIDX1\0", HEADER, 48);
    bytes
}
