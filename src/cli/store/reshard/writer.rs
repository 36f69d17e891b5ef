//! Writes a new log, segment after segment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ringmq_storage::checkpoint::{ChannelFloor, Checkpoint, Section, SegmentEntry};
use ringmq_storage::cipher::{KeyMaker, KeyPlace, Salt, SegmentKey, WrappedKey};
use ringmq_storage::frame::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, frame_len, payload_checksum,
};
use ringmq_storage::fs::{Fs, FsFile};
use ringmq_storage::layout::LogFileName;
use ringmq_storage::segment::{Preamble, PreambleEntry, SEGMENT_HEADER_BYTES, SegmentHeader};
use ringmq_storage::{FrameIndex, Generation, Position, SegmentId, SlotId, StoreId, Term};

use crate::cli::store::{Error, failed};
use crate::engine::stored::Slots;

/// Segments end at a page.
const PAGE_BYTES: u32 = 4 << 10;

/// Size of a log's only segment when nothing is in it.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// What is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Term of every frame on a single node.
const TERM: Term = Term::new(1);

/// A log in the making.
pub(super) struct LogWriter<'a> {
    fs: &'a dyn Fs,
    store: StoreId,
    log: u16,
    directory: PathBuf,
    /// The slots of the log: first and last frame that was written.
    slots: BTreeMap<SlotId, Option<(FrameIndex, FrameIndex)>>,
    open: Option<OpenSegment>,
    /// Makes the keys of what is written; `None` when that is plain.
    key_maker: Option<KeyMaker>,
    segments: Vec<SegmentEntry>,
}

/// A segment that is being filled.
struct OpenSegment {
    header: SegmentHeader,
    path: PathBuf,
    file: Box<dyn FsFile>,
    buffer: Vec<u8>,
    /// What payloads are encrypted with. Frames come one behind the other: no offset comes twice.
    key: Option<(SegmentKey, Salt)>,
    /// Where the buffer begins.
    written: u32,
}

impl<'a> LogWriter<'a> {
    pub(super) fn new(
        fs: &'a dyn Fs,
        store: StoreId,
        log: u16,
        directory: PathBuf,
        slots: Vec<SlotId>,
    ) -> Self {
        Self {
            fs,
            store,
            log,
            directory,
            slots: slots.into_iter().map(|slot| (slot, None)).collect(),
            open: None,
            key_maker: None,
            segments: Vec::new(),
        }
    }

    /// Encrypts what is written, if there is something to do that with.
    pub(super) fn encrypted_by(self, key_maker: Option<KeyMaker>) -> Self {
        Self { key_maker, ..self }
    }

    /// Ends the segment, and begins one that takes frames of so many bytes; none for 0.
    pub(super) fn next_segment(&mut self, bytes: u64) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        if let Some(open) = self.open.take() {
            open.seal()?;
        }
        self.begin(bytes)
    }

    /// Appends a frame of one of the log's slots: its payload as it is, its header for its new
    /// place. The segment was begun with room for it.
    pub(super) fn frame(&mut self, slot: SlotId, frame: &Frame<'_>) -> Result<(), Error> {
        if matches!(frame.header.kind, FrameKind::Entry | FrameKind::NoOp) {
            let index = frame.header.index;
            let written = self.slots.entry(slot).or_default();
            *written = Some((written.map_or(index, |(first, _)| first), index));
        }
        let Some(open) = &mut self.open else {
            debug_assert!(false, "a segment is begun before its frames come");
            return Ok(());
        };
        open.push(frame.header, frame.payload);
        open.flush_if_large()
    }

    /// Makes a segment with room for frames of so many bytes and a seal.
    fn begin(&mut self, bytes: u64) -> Result<(), Error> {
        let (fs, directory) = (self.fs, &self.directory);
        fs.create_directory(directory)
            .map_err(failed("make", directory))?;
        let preamble = Preamble::encoded_len(self.slots.len()) + Preamble::KEY_BYTES;
        let preamble = frame_len(preamble);
        let overhead = to_u32(SEGMENT_HEADER_BYTES + preamble + frame_len(0));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX / 2);
        let bytes = bytes.saturating_add(overhead).next_multiple_of(PAGE_BYTES);
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let header = SegmentHeader {
            store: self.store,
            log: self.log,
            segment: SegmentId::new(count).next(),
            generation: Generation::new(1),
            len: bytes,
            encrypted: self.key_maker.is_some(),
        };
        let made = self.key_maker.as_mut().map(|maker| {
            let (key, wrapped) = maker.segment_key(&header);
            (key, maker.salt(), wrapped)
        });
        self.segments.push(SegmentEntry {
            segment: header.segment,
            generation: header.generation,
            len: bytes,
            key: made.as_ref().map(|(key, ..)| key.data()),
        });
        let mut open = OpenSegment::create(self.fs, &self.directory, header)?;
        open.buffer.extend_from_slice(&header.encode());
        let wrapped = made.as_ref().map(|(.., wrapped)| *wrapped);
        let payload = self.preamble(wrapped).encode();
        open.push(own_frame(FrameKind::Preamble, &payload), &payload);
        open.key = made.map(|(key, salt, _)| (key, salt));
        self.open = Some(open);
        Ok(())
    }

    fn preamble(&self, key: Option<WrappedKey>) -> Preamble {
        let entries = self.slots.iter().map(|(slot, written)| {
            let (first, last) = written.unwrap_or_default();
            let floor = FrameIndex::new(first.get().saturating_sub(1));
            PreambleEntry {
                slot: *slot,
                term: TERM,
                vote: 0,
                commit: last,
                floor_index: floor,
                floor_term: term_at(floor),
                void: Position::default(),
            }
        });
        Preamble {
            entries: entries.collect(),
            key,
        }
    }

    /// Completes the log: the last segment stays open for appends, a checkpoint holds the state.
    /// Everything is synced when this returns.
    pub(super) fn finish<'s>(
        mut self,
        state_of: &dyn Fn(SlotId) -> Option<&'s Slots>,
    ) -> Result<(), Error> {
        let sections: Vec<Section> = self
            .slots
            .iter()
            .filter_map(|(slot, written)| section(*slot, *written, state_of(*slot)?))
            .collect();
        let begun = |section: &Section| section.applied > FrameIndex::default();
        if !sections.iter().any(begun) {
            // Nothing ever happened to these slots: the log begins as a new one.
            return Ok(());
        }
        if self.open.is_none() {
            self.begin(SEGMENT_BYTES_MIN)?;
        }
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let end = open.end();
        open.leave_open()?;
        let floors = self
            .slots
            .keys()
            .filter_map(|slot| Some((*slot, state_of(*slot)?)));
        let floors = floors.flat_map(|(slot, slots)| floors_of(slot, slots));
        let checkpoint = Checkpoint {
            store: self.store,
            log: self.log,
            number: 1,
            position: end,
            synced_through: end,
            sections,
            floors: floors.collect(),
            segments: self.segments,
        };
        let name = LogFileName::Checkpoint(1).to_string();
        let path = self.directory.join(name);
        let place = KeyPlace::Checkpoint {
            store: self.store,
            log: self.log,
            number: checkpoint.number,
        };
        let bytes = match &mut self.key_maker {
            Some(maker) => checkpoint.encrypt(&maker.file_key(&place)),
            None => checkpoint.encode(),
        };
        let written = self.fs.replace(&path, &bytes);
        written.map_err(failed("write", &path))?;
        let directory = &self.directory;
        self.fs
            .sync_directory(directory)
            .map_err(failed("sync", directory))
    }
}

fn section(
    slot: SlotId,
    written: Option<(FrameIndex, FrameIndex)>,
    slots: &Slots,
) -> Option<Section> {
    let (applied, last_timestamp_ns) = slots.applied(slot);
    debug_assert!(
        written.is_none_or(|(_, last)| last <= applied),
        "all frames are applied"
    );
    let floor = written.map_or(applied, |(first, _)| FrameIndex::new(first.get() - 1));
    let mut logical = Vec::new();
    slots.encode_section(slot, &mut logical);
    (!logical.is_empty()).then_some(Section {
        slot,
        applied,
        term: term_at(applied),
        last_timestamp_ns,
        floor,
        void: Position::default(),
        logical,
    })
}

/// What is left of the channels of a slot.
fn floors_of(slot: SlotId, slots: &Slots) -> impl Iterator<Item = ChannelFloor> + '_ {
    let channels = slots.channels().filter(move |(key, _)| key.slot == slot);
    channels.map(|(key, channel)| {
        let (first, last) = (channel.first, channel.last);
        ChannelFloor { key, first, last }
    })
}

/// The term of a frame on a single node; there is none before the first.
fn term_at(index: FrameIndex) -> Term {
    Term::new(u64::from(index > FrameIndex::default()))
}

/// The header of a frame of the log itself.
fn own_frame(kind: FrameKind, payload: &[u8]) -> FrameHeader {
    FrameHeader {
        payload_len: to_u32(payload.len()),
        kind,
        flags: 0,
        slot: None,
        record_count: 0,
        term: Term::default(),
        index: FrameIndex::default(),
        base_timestamp_ns: 0,
        synced_through: Position::default(),
        payload_checksum: payload_checksum(payload),
    }
}

impl OpenSegment {
    fn create(fs: &dyn Fs, directory: &Path, header: SegmentHeader) -> Result<Self, Error> {
        let path = directory.join(LogFileName::Segment(header.segment).to_string());
        let made = fs.create(&path).and_then(|mut file| {
            file.reserve(u64::from(header.len))?;
            Ok(file)
        });
        let file = made.map_err(failed("make", &path))?;
        let buffer = Vec::with_capacity(WRITE_BYTES);
        Ok(Self {
            header,
            path,
            file,
            buffer,
            key: None,
            written: 0,
        })
    }

    fn offset(&self) -> u32 {
        self.written.saturating_add(to_u32(self.buffer.len()))
    }

    fn end(&self) -> Position {
        Position::new(self.header.segment, self.offset())
    }

    fn push(&mut self, mut header: FrameHeader, payload: &[u8]) {
        debug_assert!(
            self.offset() <= self.header.len,
            "segments are made long enough"
        );
        // The log is synced as a whole before anybody reads it.
        header.synced_through = self.end();
        let (at, offset) = (self.buffer.len(), self.offset());
        self.buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let from = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        if let Some((key, salt)) = self.key.as_ref().filter(|_| header.slot.is_some()) {
            key.encrypt(*salt, &mut header, offset, &mut self.buffer, from);
            header.payload_checksum = payload_checksum(self.buffer.get(from..).unwrap_or_default());
        }
        let encoded = header.encode(&self.header.seed(), offset);
        if let Some(place) = self.buffer.get_mut(at..from) {
            place.copy_from_slice(&encoded);
        }
        self.buffer.resize(at + header.frame_len(), 0);
    }

    fn flush_if_large(&mut self) -> Result<(), Error> {
        if self.buffer.len() < WRITE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let at = u64::from(self.written);
        let written = self.file.write_at(at, &self.buffer);
        written.map_err(failed("write", &self.path))?;
        self.written = self.offset();
        self.buffer.clear();
        Ok(())
    }

    fn seal(mut self) -> Result<(), Error> {
        self.push(own_frame(FrameKind::Seal, &[]), &[]);
        self.flush()?;
        self.sync()
    }

    /// Writes zeros behind the last frame: appends must find no unwritten extents.
    fn leave_open(mut self) -> Result<(), Error> {
        self.flush()?;
        let zeros = vec![0; WRITE_BYTES];
        while self.written < self.header.len {
            let left = usize::try_from(self.header.len - self.written).unwrap_or(WRITE_BYTES);
            self.buffer
                .extend_from_slice(zeros.get(..left.min(WRITE_BYTES)).unwrap_or(&zeros));
            self.flush()?;
        }
        self.sync()
    }

    fn sync(mut self) -> Result<(), Error> {
        let synced: io::Result<()> = self.file.sync();
        synced.map_err(failed("sync", &self.path))
    }
}

/// Lengths of frames and offsets in segments: both are below 4 GiB.
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
