//! Gathering: records become frames, frames become batches.
//!
//! ```text
//! sealed:  batches of segments that are full, in order        filling: the segment in use
//! ┌────────────────────────────────────────┐                  ┌──────────────────────────┐
//! │ frame │ frame │ ... │ seal (must sync)  │ ───────────────► │ (preamble) │ frame │ open │
//! └────────────────────────────────────────┘                  └──────────────────────────┘
//! ```
//!
//! One batch is out at a time; what is appended meanwhile makes the next one. A batch never spans
//! segments.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::SlotId;
use crate::cipher::{ENCRYPTION_BYTES, KeyId, Salt, SegmentKey};
use crate::frame::{
    ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader, FrameKind, Seed, frame_len, payload_checksum,
};
use crate::fs::PAGE_BYTES;
use crate::id::{FrameIndex, Position, SegmentId, Term};
use crate::record::RecordHead;

/// Length of the frame that ends a segment.
pub(super) const SEAL_BYTES: usize = FRAME_HEADER_BYTES;

/// The buffer of a batch begins with at least this much.
const BUFFER_BYTES_MIN: usize = 4 << 10;

/// Frames to be written to a segment in one piece.
#[derive(Debug)]
pub struct Batch {
    /// The segment; its file is [`Log::segment_path`](super::Log::segment_path).
    pub segment: SegmentId,
    /// Where in the file the bytes belong.
    pub offset: u32,
    /// The frames, and zeros up to the end of their last page: a page that is written as a whole
    /// needs not be read before.
    pub bytes: Vec<u8>,
    /// The end of the batch: what `written`, `synced` and `commit` are told.
    pub end: Position,
    /// Whether the batch ends its segment: it is synced before the next batch is taken, whatever
    /// the policy.
    pub must_sync: bool,
    /// Zeros that are added when the batch is taken.
    padding: usize,
}

impl Batch {
    /// Leaves the padding out.
    pub(super) fn unpad(&mut self) {
        let frames = self.bytes.len().saturating_sub(self.padding);
        self.bytes.truncate(frames);
    }
}

/// A frame that still takes records.
#[derive(Debug)]
struct OpenFrame {
    header: FrameHeader,
    /// Where it begins in the buffer.
    at: usize,
    /// Where its last record ends, without padding.
    payload_end: usize,
}

/// The segment that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    pub segment: SegmentId,
    seed: Seed,
    /// What the payloads are encrypted with, under a salt that was drawn for this opening of the
    /// log.
    key: Option<(Arc<SegmentKey>, Salt)>,
    /// Of an encrypted segment the master key that wraps its own, where that is known.
    master: Option<Option<KeyId>>,
    /// Length of the segment.
    len: usize,
    /// Where in the segment the buffer begins.
    start: usize,
    bytes: Vec<u8>,
    open: Option<OpenFrame>,
}

impl Filling {
    pub(super) fn new(segment: SegmentId, seed: Seed, len: u32, start: u32) -> Self {
        Self {
            segment,
            seed,
            key: None,
            master: None,
            len: to_usize(len),
            start: to_usize(start),
            bytes: Vec::new(),
            open: None,
        }
    }

    /// The segment is encrypted: frames of slots are, from now on. Without a salt none may come.
    pub(super) fn encrypted(mut self, key: Arc<SegmentKey>, salt: Option<Salt>) -> Self {
        debug_assert!(self.bytes.is_empty(), "all frames, or none");
        self.master = Some(key.master());
        self.key = salt.map(|salt| (key, salt));
        self
    }

    /// Whether what is written here is encrypted as it is to be: with a key that this master key
    /// wraps, or not at all.
    pub(super) fn is_for(&self, master: Option<KeyId>) -> bool {
        self.master == master.map(Some)
    }

    /// What encryption adds to each frame.
    pub(super) fn frame_extra(&self) -> usize {
        if self.key.is_some() {
            ENCRYPTION_BYTES
        } else {
            0
        }
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> Position {
        Position::new(self.segment, to_u32(self.start + self.bytes.len()))
    }

    /// Bytes left in the segment behind what has gathered, its seal not counted.
    pub(super) fn room(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |_| self.frame_extra());
        self.len
            .saturating_sub(self.start + self.bytes.len() + open + SEAL_BYTES)
    }

    /// Whether a record of `record_bytes` goes into the open frame.
    pub(super) fn continues(
        &self,
        slot: SlotId,
        timestamp_ns: u64,
        record_bytes: usize,
        frame_bytes_max: u32,
    ) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let behind = timestamp_ns.saturating_sub(open.header.base_timestamp_ns);
            open.header.kind == FrameKind::Entry
                && open.header.slot == Some(slot)
                && u32::try_from(behind).is_ok()
                && self.bytes.len() - open.at + record_bytes <= to_usize(frame_bytes_max)
        })
    }

    /// Begins a frame; its header is filled in when it is closed.
    pub(super) fn open_frame(&mut self, slot: SlotId, timestamp_ns: u64, index: FrameIndex) {
        debug_assert!(self.open.is_none());
        let header = FrameHeader {
            payload_len: 0,
            kind: FrameKind::Entry,
            flags: 0,
            slot: Some(slot),
            record_count: 0,
            term: Term::new(1),
            index,
            base_timestamp_ns: timestamp_ns,
            synced_through: Position::default(),
            payload_checksum: 0,
        };
        self.begin(header);
    }

    fn begin(&mut self, header: FrameHeader) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        self.open = Some(OpenFrame {
            header,
            at,
            payload_end: at + FRAME_HEADER_BYTES,
        });
    }

    /// Appends a record to the open frame.
    ///
    /// # Panics
    /// When `write` writes another number of bytes than the head says.
    pub(super) fn push(
        &mut self,
        timestamp_ns: u64,
        mut head: RecordHead,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        let Some(open) = &mut self.open else {
            debug_assert!(false, "a record needs an open frame");
            return;
        };
        let behind = timestamp_ns.saturating_sub(open.header.base_timestamp_ns);
        head.time_delta_ns = u32::try_from(behind).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&head.encode());
        let expected = self.bytes.len() + to_usize(head.payload_len);
        write(&mut self.bytes);
        assert_eq!(
            self.bytes.len(),
            expected,
            "a record holds exactly what its head says"
        );
        open.payload_end = expected;
        open.header.record_count += 1;
        let padded = expected.next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
    }

    /// Completes the open frame: it is encrypted, its checksums are computed and its header is
    /// written.
    /// `synced_through` is what is synced by now (rule L8).
    pub(super) fn close_frame(&mut self, synced_through: Position) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.header.synced_through = synced_through;
        let offset = to_u32(self.start + open.at);
        if let Some((key, salt)) = &self.key
            && open.header.slot.is_some()
        {
            let from = open.at + FRAME_HEADER_BYTES;
            self.bytes.truncate(open.payload_end);
            // This place of the segment is written once under this salt: the nonce is new.
            key.encrypt(*salt, &mut open.header, offset, &mut self.bytes, from);
            open.payload_end = self.bytes.len();
            let padded = open.payload_end.next_multiple_of(ALIGNMENT);
            self.bytes.resize(padded, 0);
        }
        let payload = self
            .bytes
            .get(open.at + FRAME_HEADER_BYTES..open.payload_end);
        let payload = payload.unwrap_or_default();
        open.header.payload_len = to_u32(payload.len());
        open.header.payload_checksum = payload_checksum(payload);
        debug_assert_eq!(self.bytes.len() - open.at, frame_len(payload.len()));
        let header = open.header.encode(&self.seed, offset);
        if let Some(place) = self.bytes.get_mut(open.at..open.at + FRAME_HEADER_BYTES) {
            place.copy_from_slice(&header);
        }
    }

    /// Adds a whole frame with records of an older one, under that one's name.
    pub(super) fn push_carried(
        &mut self,
        original: &FrameHeader,
        payload: &[u8],
        synced_through: Position,
    ) {
        self.close_frame(synced_through);
        let header = FrameHeader {
            kind: FrameKind::Carried,
            flags: 0,
            ..*original
        };
        self.push_whole(header, payload, synced_through);
    }

    /// Adds a whole frame of the log itself.
    pub(super) fn push_own(&mut self, kind: FrameKind, payload: &[u8], synced_through: Position) {
        let header = FrameHeader {
            payload_len: 0,
            kind,
            flags: 0,
            slot: None,
            record_count: 0,
            term: Term::default(),
            index: FrameIndex::default(),
            base_timestamp_ns: 0,
            synced_through: Position::default(),
            payload_checksum: 0,
        };
        self.push_whole(header, payload, synced_through);
    }

    fn push_whole(&mut self, header: FrameHeader, payload: &[u8], synced_through: Position) {
        debug_assert!(self.open.is_none());
        self.begin(header);
        self.bytes.extend_from_slice(payload);
        if let Some(open) = &mut self.open {
            open.payload_end = self.bytes.len();
        }
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
        self.close_frame(synced_through);
    }

    /// Adds bytes that are no frame: the head of the segment.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        debug_assert!(self.open.is_none());
        self.bytes.extend_from_slice(bytes);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn take(&mut self, end: Position, must_sync: bool) -> Batch {
        debug_assert!(self.open.is_none());
        let bytes = std::mem::take(&mut self.bytes);
        let offset = to_u32(self.start);
        self.start += bytes.len();
        debug_assert!(self.start <= self.len);
        let pages_end = self.start.next_multiple_of(PAGE_BYTES).min(self.len);
        Batch {
            segment: self.segment,
            offset,
            bytes,
            end,
            must_sync,
            padding: pages_end.saturating_sub(self.start),
        }
    }
}

/// What has been appended and is not written yet.
#[derive(Debug, Default)]
pub(super) struct Gather {
    sealed: VecDeque<Batch>,
    sealed_bytes: usize,
    pub filling: Option<Filling>,
    /// End of the batch that is being written.
    out: Option<Position>,
    /// Size of recent batches: what the next buffer begins with.
    recent_bytes: usize,
}

impl Gather {
    /// Bytes that wait for a batch.
    pub(super) fn bytes(&self) -> usize {
        let filling = self
            .filling
            .as_ref()
            .map_or(0, |filling| filling.bytes.len());
        self.sealed_bytes + filling
    }

    /// Gives the segment's buffer room in one piece, so that it does not grow by doubling.
    pub(super) fn reserve(&mut self) {
        let recent = self.recent_bytes;
        if let Some(filling) = &mut self.filling
            && filling.bytes.capacity() == 0
        {
            filling
                .bytes
                .reserve(recent.max(BUFFER_BYTES_MIN) + PAGE_BYTES);
        }
    }

    /// Ends the segment and goes on in `next`, which holds its head already.
    pub(super) fn roll(&mut self, next: Filling, synced_through: Position) -> Option<SegmentId> {
        let old = self.filling.replace(next);
        let mut old = old?;
        old.close_frame(synced_through);
        old.push_own(FrameKind::Seal, &[], synced_through);
        let batch = old.take(super::after_seal(old.segment), true);
        self.sealed_bytes += batch.bytes.len();
        self.sealed.push_back(batch);
        Some(old.segment)
    }

    /// Where the segment that is being filled ends by now, or would with its seal.
    pub(super) fn seal_end(&self) -> Option<u32> {
        let batch = self.sealed.back()?;
        Some(batch.offset + to_u32(batch.bytes.len()))
    }

    /// Takes what has gathered. `synced_through` is what is synced by now; `ordered` whether a
    /// segment waits for the sync of the one before.
    pub(super) fn take(&mut self, synced_through: Position, ordered: bool) -> Option<Batch> {
        if self.out.is_some() {
            return None;
        }
        let may_begin = |segment, offset| {
            let begins = Position::new(segment, super::FIRST_FRAME);
            !ordered || offset != 0 || synced_through >= begins
        };
        let mut batch = if let Some(front) = self.sealed.front() {
            if !may_begin(front.segment, front.offset) {
                return None;
            }
            let batch = self.sealed.pop_front()?;
            self.sealed_bytes -= batch.bytes.len();
            batch
        } else {
            let filling = self.filling.as_mut()?;
            if filling.bytes.is_empty() || !may_begin(filling.segment, to_u32(filling.start)) {
                return None;
            }
            filling.close_frame(synced_through);
            filling.take(filling.end(), false)
        };
        self.recent_bytes = batch.bytes.len().max(self.recent_bytes / 8 * 7);
        self.out = Some(batch.end);
        let padded = batch.bytes.len() + batch.padding;
        batch.bytes.resize(padded, 0);
        Some(batch)
    }

    /// The batch that was out is in the file.
    pub(super) fn written(&mut self, end: Position) {
        assert_eq!(self.out.take(), Some(end), "one batch is out at a time");
    }
}

pub(super) fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("addresses have at least 32 bits here")
}

/// Offsets in a segment: its length is a u32.
pub(super) fn to_u32(number: usize) -> u32 {
    u32::try_from(number).expect("a segment is shorter than 4 GiB")
}
