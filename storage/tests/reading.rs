//! The rules of reading a log (`docs/FORMAT.md`, "How a log is read"), on logs that were made by
//! hand: a replica that another leader corrected, a newer broker, an operator's mistake. No single
//! node writes these.

#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ringmq_storage::checkpoint::{Checkpoint, Section, SegmentEntry};
use ringmq_storage::frame::{Frame, FrameHeader, FrameKind, Seed};
use ringmq_storage::fs::RealFs;
use ringmq_storage::layout::LogFileName;
use ringmq_storage::log::{Apply, Divergence, Log, Opened, Options};
use ringmq_storage::record::{RecordHead, RecordKind, Records};
use ringmq_storage::segment::{Preamble, PreambleEntry, SegmentHeader};
use ringmq_storage::{
    ChannelId, ChannelKey, Error, FrameIndex, Generation, Position, SegmentId, Sequence, SlotId,
    StoreId, Term,
};
use tempfile::TempDir;

const STORE: StoreId = StoreId::from_bytes([7; 16]);
const LEN: u32 = 1 << 16;
const SLOT: u16 = 3;
/// Where the header of a frame says what it is.
const KIND_AT: usize = 4;
const FLAGS_AT: usize = 5;
const SLOT_AT: usize = 6;
const RESERVED_AT: usize = 12;

fn slot() -> SlotId {
    SlotId::new(SLOT).unwrap()
}

/// What was applied: frames by term and index, with the bodies of their messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    restored: Option<u64>,
    applied: Vec<(u64, u64, Vec<String>)>,
}

impl Apply for State {
    fn restore(&mut self, section: &Section) -> Result<(), Divergence> {
        self.restored = Some(section.applied.get());
        Ok(())
    }

    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Divergence> {
        let bodies = Records::new(frame.payload).map(|record| {
            let record = record.unwrap();
            String::from_utf8(record.payload.to_vec()).unwrap()
        });
        let header = frame.header;
        let bodies = bodies.collect();
        self.applied
            .push((header.term.get(), header.index.get(), bodies));
        Ok(())
    }
}

/// A segment that is written by hand.
struct Segment {
    header: SegmentHeader,
    bytes: Vec<u8>,
}

impl Segment {
    fn new(id: u32, log: u16) -> Self {
        let header = SegmentHeader {
            store: STORE,
            log,
            segment: SegmentId::new(id),
            generation: Generation::new(1),
            len: LEN,
            encrypted: false,
        };
        let mut segment = Self {
            header,
            bytes: header.encode().to_vec(),
        };
        let entry = PreambleEntry {
            slot: slot(),
            term: Term::new(1),
            vote: 0,
            commit: FrameIndex::default(),
            floor_index: FrameIndex::default(),
            floor_term: Term::default(),
            void: Position::default(),
        };
        let preamble = Preamble {
            entries: vec![entry],
            key: None,
        };
        segment.frame(FrameKind::Preamble, None, &preamble.encode());
        segment
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap()
    }

    fn position(&self) -> Position {
        Position::new(self.header.segment, self.end())
    }

    fn seed(&self) -> Seed {
        self.header.seed()
    }

    fn frame(&mut self, kind: FrameKind, of: Option<(u64, u64)>, payload: &[u8]) {
        let (term, index) = of.unwrap_or_default();
        let header = FrameHeader {
            payload_len: u32::try_from(payload.len()).unwrap(),
            kind,
            flags: 0,
            slot: of.map(|_| slot()),
            record_count: u32::from(!payload.is_empty() && of.is_some()),
            term: Term::new(term),
            index: FrameIndex::new(index),
            base_timestamp_ns: 1_000 + index,
            synced_through: Position::default(),
            payload_checksum: crc32fast::hash(payload),
        };
        let header = header.encode(&self.seed(), self.end());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// A frame with one message of channel 1.
    fn message(&mut self, kind: FrameKind, (term, index): (u64, u64), sequence: u64, body: &str) {
        let head = RecordHead {
            kind: RecordKind::Message,
            encoding: 1,
            channel: ChannelId::new(1),
            sequence: Sequence::new(sequence),
            time_delta_ns: 0,
            payload_len: u32::try_from(body.len()).unwrap(),
        };
        let payload = [&head.encode(), body.as_bytes()].concat();
        self.frame(kind, Some((term, index)), &payload);
    }

    /// An entry whose index is its message's sequence.
    fn entry(&mut self, term: u64, index: u64) {
        let body = format!("{index} of {term}");
        self.message(FrameKind::Entry, (term, index), index, &body);
    }

    /// Changes a byte of the header at `offset`; its checksum holds.
    fn forge(&mut self, offset: u32, at: usize, byte: u8) {
        let begin = offset as usize;
        self.bytes[begin + at] = byte;
        let checksum = self.seed().checksum(offset, &self.bytes[begin..begin + 60]);
        self.bytes[begin + 60..begin + 64].copy_from_slice(&checksum.to_le_bytes());
    }
}

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: LogFileName) -> PathBuf {
        self.0.path().join(name.to_string())
    }

    fn put(&self, segment: &Segment) {
        let mut bytes = segment.bytes.clone();
        bytes.resize(LEN as usize, 0);
        self.put_as(segment.header.segment, &bytes);
    }

    fn put_as(&self, id: SegmentId, bytes: &[u8]) {
        fs::write(self.path(LogFileName::Segment(id)), bytes).unwrap();
    }

    fn put_checkpoint(&self, position: Position, applied: u64, void: Position) {
        let section = Section {
            slot: slot(),
            applied: FrameIndex::new(applied),
            term: Term::new(1),
            last_timestamp_ns: 1_000,
            floor: FrameIndex::default(),
            void,
            logical: Vec::new(),
        };
        let checkpoint = Checkpoint {
            store: STORE,
            log: 0,
            number: 1,
            position,
            synced_through: position,
            sections: vec![section],
            segments: vec![SegmentEntry {
                segment: SegmentId::new(1),
                generation: Generation::new(1),
                len: LEN,
                key: None,
            }],
            floors: Vec::new(),
        };
        let path = self.path(LogFileName::Checkpoint(1));
        fs::write(path, checkpoint.encode()).unwrap();
    }

    fn open(&self) -> Result<(Opened, State), Error> {
        let options = Options {
            store: STORE,
            log: 0,
            directory: self.0.path().to_owned(),
            slots: SlotId::all().collect(),
            segment_bytes: 1 << 20,
            segment_bytes_first: 1 << 16,
            frame_bytes_max: 1 << 16,
            batch_bytes_max: 1 << 20,
            free_bytes_min: 0,
            reserve_bytes: 0,
            checkpoint_every_bytes: 1 << 20,
            keyring: ringmq_storage::cipher::Keyring::default(),
            mutations: ringmq_storage::log::Mutations::default(),
        };
        let mut state = State::default();
        let opened = Log::open(Arc::new(RealFs), options, &mut state)?;
        Ok((opened, state))
    }

    /// Every file with its bytes.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut content: Vec<_> = paths
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
        content.sort();
        content
    }
}

fn bodies(state: &State) -> Vec<&str> {
    let bodies = state.applied.iter().flat_map(|(.., bodies)| bodies);
    bodies.map(String::as_str).collect()
}

fn last(opened: &Opened) -> u64 {
    let key = ChannelKey {
        slot: slot(),
        channel: ChannelId::new(1),
    };
    opened.log.usage(key).last.get()
}

#[test]
fn log_made_by_hand_from_the_document_is_read() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    for index in 1..=3 {
        segment.entry(1, index);
    }
    segment.frame(FrameKind::NoOp, Some((1, 4)), &[]);
    directory.put(&segment);
    let (opened, state) = directory.open().unwrap();
    assert_eq!(bodies(&state), ["1 of 1", "2 of 1", "3 of 1"]);
    assert_eq!(state.applied.len(), 4, "a no-op is applied as well");
    assert_eq!(last(&opened), 3);
    assert_eq!(opened.log.committed(), segment.position());
    assert!(opened.report.damaged.is_empty() && opened.report.torn_bytes == 0);
}

#[test]
fn replay_goes_on_behind_the_checkpoint() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    segment.entry(1, 1);
    let position = segment.position();
    segment.entry(1, 2);
    segment.entry(1, 3);
    directory.put(&segment);
    // The section is newer than its place.
    directory.put_checkpoint(position, 2, Position::default());
    let (opened, state) = directory.open().unwrap();
    assert_eq!(state.restored, Some(2));
    assert_eq!(bodies(&state), ["3 of 1"]);
    assert_eq!(
        last(&opened),
        3,
        "those in the checkpoint are found as well"
    );
}

#[test]
fn later_leaders_frames_replace_those_with_their_index_and_all_behind() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    for index in 1..=4 {
        segment.entry(1, index);
    }
    segment.entry(2, 2);
    segment.entry(2, 3);
    directory.put(&segment);
    let (opened, state) = directory.open().unwrap();
    assert_eq!(bodies(&state), ["1 of 1", "2 of 2", "3 of 2"]);
    assert_eq!(last(&opened), 3, "the fourth is gone with what it followed");
}

/// A state that came from a peer: 58 frames, of term 6. What the slot had behind that, of term 1,
/// lies before the place of the checkpoint's void position, was never committed, and must not
/// come back.
#[test]
fn frames_before_the_void_position_do_not_count() {
    let with_void = |void: fn(&Segment) -> Position| {
        let directory = Directory::new();
        let mut segment = Segment::new(1, 0);
        let position = segment.position();
        segment.entry(1, 59);
        segment.entry(1, 60);
        directory.put_checkpoint(position, 58, void(&segment));
        segment.entry(6, 59);
        directory.put(&segment);
        let (_, state) = directory.open().unwrap();
        let before_the_new_one = Directory::new();
        let mut cut = Segment::new(1, 0);
        cut.entry(1, 59);
        cut.entry(1, 60);
        before_the_new_one.put_checkpoint(position, 58, void(&cut));
        before_the_new_one.put(&cut);
        let (_, without) = before_the_new_one.open().unwrap();
        (state, without)
    };
    let (state, without) = with_void(Segment::position);
    assert_eq!(bodies(&state), ["59 of 6"]);
    assert_eq!(bodies(&without), [""; 0]);
    // The same log without the rule: what the peer's state replaced is back.
    let (_, without) = with_void(|_| Position::default());
    assert_eq!(bodies(&without), ["59 of 1", "60 of 1"]);
}

#[test]
fn carried_frames_change_no_state_and_replace_nothing() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    let position = segment.position();
    segment.entry(1, 3);
    segment.message(FrameKind::Carried, (1, 1), 1, "carried");
    segment.entry(1, 4);
    directory.put(&segment);
    directory.put_checkpoint(position, 2, Position::default());
    let (opened, state) = directory.open().unwrap();
    assert_eq!(bodies(&state), ["3 of 1", "4 of 1"]);
    assert!(opened.report.halted.is_empty());
}

#[test]
fn gap_in_a_slot_halts_it() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    segment.entry(1, 1);
    segment.entry(1, 3);
    directory.put(&segment);
    let (opened, state) = directory.open().unwrap();
    assert_eq!(bodies(&state), ["1 of 1"]);
    assert_eq!(opened.report.halted.len(), 1);
    assert_eq!(opened.report.halted[0].index, FrameIndex::new(3));
}

/// A newer broker wrote the last frames and was replaced by an older one. To cut them as a torn
/// tail would lose what the newer one acknowledged.
#[test]
fn frame_of_a_newer_version_is_neither_cut_nor_skipped() {
    let unknown = [
        (KIND_AT, 3),
        (KIND_AT, 200),
        (FLAGS_AT, 2),
        (SLOT_AT, 64),
        (RESERVED_AT, 1),
    ];
    for (at, byte) in unknown {
        for behind in [0, 2] {
            let directory = Directory::new();
            let mut segment = Segment::new(1, 0);
            segment.entry(1, 1);
            let newer = segment.end();
            segment.entry(1, 2);
            for index in 0..behind {
                segment.entry(1, 3 + index);
            }
            segment.forge(newer, at, byte);
            directory.put(&segment);
            let before = directory.content();
            assert!(directory.open().is_err(), "byte {at} is {byte}");
            assert_eq!(directory.content(), before, "nothing was changed");
        }
    }
}

#[test]
fn segment_of_another_log_is_refused_and_stays() {
    let directory = Directory::new();
    let mut segment = Segment::new(1, 0);
    segment.entry(1, 1);
    directory.put(&segment);
    let mut other = Segment::new(2, 1);
    other.entry(1, 1);
    directory.put(&other);
    let before = directory.content();
    assert!(directory.open().is_err());
    assert_eq!(directory.content(), before, "nothing was removed");
}

#[test]
fn recycled_file_that_is_not_in_use_yet_is_a_spare() {
    let directory = Directory::new();
    let mut old = Segment::new(1, 0);
    old.entry(1, 1);
    old.bytes.resize(LEN as usize, 0);
    let mut segment = Segment::new(2, 0);
    segment.entry(1, 2);
    let position = segment.position();
    directory.put(&segment);
    directory.put_as(SegmentId::new(3), &old.bytes);
    directory.put_checkpoint(position, 2, Position::default());
    let (opened, state) = directory.open().unwrap();
    assert_eq!(
        bodies(&state),
        [""; 0],
        "its frames are those of another use"
    );
    assert_eq!(opened.log.committed(), position);
    assert!(opened.report.halted.is_empty());
}
