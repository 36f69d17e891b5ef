//! One example of everything that lies in a log, with fixed numbers.

use ringmq_storage::checkpoint::{ChannelFloor, Checkpoint, Section, SegmentEntry};
use ringmq_storage::frame::{Frame, FrameHeader, FrameKind, frame_len};
use ringmq_storage::record::payload::{
    ChannelCreate, CursorCreate, encode_cursor_delete, encode_moves,
};
use ringmq_storage::record::queue::{
    Counted, MoveId, QueueHead, Requeued, Run, encode_counted, encode_move, encode_move_ids,
    encode_requeued, encode_settle,
};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::scan::{Frames, ScanEnd};
use ringmq_storage::segment::{Preamble, PreambleEntry, SegmentHeader};
use ringmq_storage::segment_index::{Block, Entry, SegmentIndex, SlotRange};
use ringmq_storage::{
    ChannelId, ChannelKey, CursorId, FrameIndex, Generation, Position, SegmentId, Sequence, SlotId,
    StoreId, Term,
};

pub const SEGMENT_LEN: u32 = 1536;
/// 2026-11-21T08:00:00Z.
const TIME_NS: u64 = 1_795_248_000_000_000_000;

pub fn slot(index: u16) -> SlotId {
    SlotId::new(index).expect("a slot")
}

pub fn segment_header() -> SegmentHeader {
    SegmentHeader {
        store: StoreId::from_bytes(*b"0123456789abcdef"),
        log: 1,
        segment: SegmentId::new(7),
        generation: Generation::new(3),
        len: SEGMENT_LEN,
        encrypted: false,
    }
}

fn preamble() -> Preamble {
    let entry = |index: u16, commit: u64| PreambleEntry {
        slot: slot(index),
        term: Term::new(1),
        vote: 0,
        commit: FrameIndex::new(commit),
        floor_index: FrameIndex::new(commit / 2),
        floor_term: Term::new(1),
        void: Position::default(),
    };
    Preamble {
        entries: vec![entry(3, 40), entry(5, 11)],
        key: None,
    }
}

/// Writes frames as the log lays them down.
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self {
            bytes: segment_header().encode().to_vec(),
        }
    }

    pub fn frame(&mut self, kind: FrameKind, of: Option<(u16, u64)>, count: u32, payload: &[u8]) {
        let offset = u32::try_from(self.bytes.len()).expect("a small segment");
        let header = FrameHeader {
            payload_len: u32::try_from(payload.len()).expect("a small payload"),
            kind,
            flags: 0,
            slot: of.map(|(index, _)| slot(index)),
            record_count: count,
            term: Term::new(u64::from(of.is_some())),
            index: FrameIndex::new(of.map_or(0, |(_, index)| index)),
            base_timestamp_ns: of.map_or(0, |_| TIME_NS),
            synced_through: Position::new(SegmentId::new(6), 65_536),
            payload_checksum: crc32fast::hash(payload),
        };
        let end = self.bytes.len() + frame_len(payload.len());
        self.bytes
            .extend_from_slice(&header.encode(&segment_header().seed(), offset));
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(end, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        assert!(self.bytes.len() <= SEGMENT_LEN as usize, "the frames fit");
        self.bytes.resize(SEGMENT_LEN as usize, 0);
        self.bytes
    }
}

pub fn record(out: &mut Vec<u8>, kind: RecordKind, channel: u32, sequence: u64, payload: &[u8]) {
    out.resize(out.len().next_multiple_of(8), 0);
    let head = RecordHead {
        kind,
        encoding: u8::from(kind == RecordKind::Message),
        channel: ChannelId::new(channel),
        sequence: Sequence::new(sequence),
        time_delta_ns: 1500,
        payload_len: u32::try_from(payload.len()).expect("a small payload"),
    };
    out.extend_from_slice(&head.encode());
    out.extend_from_slice(payload);
}

/// A segment: a preamble, a frame of every kind, every kind of record, a seal, zeros.
pub fn segment() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.frame(FrameKind::Preamble, None, 0, &preamble().encode());

    let mut payload = Vec::new();
    let mut create = Vec::new();
    let name = "orders.größe";
    ChannelCreate { kind: 1, name }.encode(&mut create);
    record(&mut payload, RecordKind::ChannelCreate, 2, 0, &create);
    record(&mut payload, RecordKind::Message, 2, 1, b"hello");
    record(&mut payload, RecordKind::Message, 2, 2, b"");
    record(
        &mut payload,
        RecordKind::Message,
        2,
        3,
        b"eighteen bytes, ok",
    );
    writer.frame(FrameKind::Entry, Some((3, 41)), 4, &payload);

    writer.frame(FrameKind::NoOp, Some((5, 12)), 0, &[]);

    let mut payload = Vec::new();
    let mut create = Vec::new();
    let name = "client-1";
    CursorCreate {
        cursor: CursorId::new(9),
        owner: 1,
        name,
    }
    .encode(&mut create);
    record(&mut payload, RecordKind::CursorCreate, 2, 1, &create);
    let mut moves = Vec::new();
    let pairs = [(9, 3), (4, u64::MAX)];
    let pairs = pairs.map(|(cursor, to)| (CursorId::new(cursor), Sequence::new(to)));
    encode_moves(&pairs, &mut moves);
    record(&mut payload, RecordKind::CursorMove, 0, 0, &moves);
    let mut delete = Vec::new();
    encode_cursor_delete(CursorId::new(9), &mut delete);
    record(&mut payload, RecordKind::CursorDelete, 2, 0, &delete);
    record(&mut payload, RecordKind::Trim, 2, 2, &[]);
    record(&mut payload, RecordKind::ChannelDelete, 2, 0, &[]);
    writer.frame(FrameKind::Entry, Some((3, 42)), 5, &payload);

    let mut payload = Vec::new();
    record(&mut payload, RecordKind::Message, 8, 77, b"carried");
    writer.frame(FrameKind::Carried, Some((5, 6)), 1, &payload);

    writer.frame(FrameKind::Seal, None, 0, &[]);
    writer.finish()
}

/// The records of queues, one after the other.
pub fn queue_records() -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, encoding, channel, sequence, payload) in queue_payloads() {
        let begin = out.len().next_multiple_of(8);
        record(&mut out, kind, channel, sequence, &payload);
        // Behind length, kind and flags.
        out[begin + 6] = encoding;
    }
    out
}

/// A record of a queue: kind, encoding, channel, sequence, payload.
pub type QueueRecord = (RecordKind, u8, u32, u64, Vec<u8>);

fn move_id() -> MoveId {
    MoveId {
        slot: slot(3),
        channel: ChannelId::new(9),
        sequence: Sequence::new(77),
    }
}

/// A message that was sent, and one that was moved.
fn queue_messages() -> [Vec<u8>; 2] {
    let sent = QueueHead {
        visible_at_ns: TIME_NS + 5_000_000_000,
        expires_at_ns: TIME_NS + 60_000_000_000,
        receives_max: 3,
        rerouted: false,
        policy_cleared: false,
        dead_letter: "orders.tot",
        origin: "",
        moved: None,
    };
    let dead = QueueHead {
        visible_at_ns: 0,
        expires_at_ns: 0,
        receives_max: 1,
        rerouted: true,
        policy_cleared: true,
        dead_letter: "",
        origin: "größe",
        moved: Some((1, move_id())),
    };
    [(sent, &b"body"[..]), (dead, b"dead letter")].map(|(head, body)| {
        let mut payload = Vec::new();
        head.encode(&mut payload);
        payload.extend_from_slice(body);
        payload
    })
}

/// One of each kind of a queue's records.
pub fn queue_payloads() -> Vec<QueueRecord> {
    let seq = Sequence::new;
    let with = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = Vec::new();
        encode(&mut payload);
        payload
    };
    let runs = [(5, 5), (9, 12)].map(|(first, last)| Run {
        first: seq(first),
        last: seq(last),
    });
    let put_back = [(6, 2), (8, 1)].map(|(old, receives)| Requeued {
        old: seq(old),
        receives,
    });
    let counted = [Counted {
        first: seq(13),
        count: 2,
        receives: 3,
    }];
    let [sent, dead] = queue_messages();
    let settled = with(&|out| encode_settle(123, &runs, out));
    let requeued = with(&|out| encode_requeued(&put_back, out));
    let counted = with(&|out| encode_counted(&counted, out));
    let moved = with(&|out| encode_move(1, "orders.tot", out));
    let over = with(&|out| encode_move_ids(&[move_id()], out));
    vec![
        (RecordKind::Message, 2, 2, 7, sent),
        (RecordKind::Message, 2, 2, 8, dead),
        (RecordKind::QueueSettle, 1, 2, 4, settled),
        (RecordKind::QueueRequeue, 0, 2, 13, requeued),
        (RecordKind::QueueCount, 0, 2, 0, counted),
        (RecordKind::QueueMove, 0, 2, 13, moved),
        (RecordKind::QueueMoveCancel, 0, 2, 13, Vec::new()),
        (RecordKind::QueueMoveForget, 0, 0, 0, over),
    ]
}

/// Every frame of a segment, or where it goes wrong.
pub fn scan(bytes: &[u8]) -> Result<Vec<Frame<'_>>, ScanEnd> {
    let header = segment_header();
    Frames::new(bytes, header.seed(), header.segment, 64, SEGMENT_LEN).collect()
}

pub fn checkpoint() -> Checkpoint {
    let section = |index: u16, applied: u64, logical: &[u8]| Section {
        slot: slot(index),
        applied: FrameIndex::new(applied),
        term: Term::new(1),
        last_timestamp_ns: TIME_NS,
        floor: FrameIndex::new(applied / 2),
        void: Position::default(),
        logical: logical.to_vec(),
    };
    let segment = |id: u32| SegmentEntry {
        segment: SegmentId::new(id),
        generation: Generation::new(1 + id % 2),
        len: SEGMENT_LEN,
        key: None,
    };
    let header = segment_header();
    Checkpoint {
        store: header.store,
        log: header.log,
        number: 12,
        position: Position::new(header.segment, 512),
        synced_through: Position::new(header.segment, 640),
        sections: vec![section(3, 41, b"state of slot 3"), section(5, 11, b"")],
        segments: vec![segment(6), segment(7)],
        floors: vec![
            ChannelFloor {
                key: key(3, 2),
                first: Sequence::new(3),
                last: Sequence::new(5),
            },
            ChannelFloor {
                key: key(5, 8),
                first: Sequence::new(70),
                last: Sequence::new(69),
            },
        ],
    }
}

pub fn index() -> SegmentIndex {
    let header = segment_header();
    let entry = |sequence_delta: u32, offset: u32| Entry {
        sequence_delta,
        offset,
        time_delta_ms: sequence_delta * 10,
        bytes_before: sequence_delta * 100,
    };
    let block = |key: ChannelKey, carried, first: u64, last: u64, entries: &[Entry]| Block {
        key,
        carried,
        first: Sequence::new(first),
        last: Sequence::new(last),
        base_time_ns: TIME_NS,
        last_time_ns: TIME_NS + 1_000_000_000,
        bytes: 12_345,
        entries: entries.to_vec(),
    };
    let range = |index: u16, first: u64, last: u64| SlotRange {
        slot: slot(index),
        first: FrameIndex::new(first),
        last: FrameIndex::new(last),
    };
    SegmentIndex {
        store: header.store,
        log: header.log,
        segment: header.segment,
        generation: header.generation,
        seal_offset: 1024,
        slots: vec![range(3, 41, 42), range(5, 12, 12)],
        blocks: vec![
            block(key(3, 2), false, 1, 40, &[entry(0, 248), entry(20, 512)]),
            block(key(5, 8), true, 77, 77, &[entry(0, 928)]),
        ],
    }
}

fn key(index: u16, channel: u32) -> ChannelKey {
    ChannelKey {
        slot: slot(index),
        channel: ChannelId::new(channel),
    }
}
