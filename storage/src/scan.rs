//! Walking the frames of a segment.

use crate::frame::{ALIGNMENT, BadFrame, FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, Seed};
use crate::id::{Position, SegmentId};

/// Where a walk ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at offset {offset}")]
pub struct ScanEnd {
    /// Where the frame begins that is none.
    pub offset: u32,
    /// What is wrong with it.
    pub reason: BadFrame,
    /// Its header, when that one holds: it names the slot and the index that are lost, and where
    /// the next frame begins.
    pub header: Option<FrameHeader>,
}

impl ScanEnd {
    /// Where the next frame begins, when the header of the bad one can be trusted.
    #[must_use]
    pub fn next_offset(&self) -> Option<u32> {
        let len = u32::try_from(self.header?.frame_len()).ok()?;
        self.offset.checked_add(len)
    }
}

/// The frames of a segment, in order. It ends behind a seal, at the end of its range, and after
/// the first frame that is none.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    seed: Seed,
    offset: u32,
    end: u32,
    finished: bool,
}

impl<'a> Frames<'a> {
    /// Walks the frames between two offsets of a segment, header and payload checked. `bytes` are
    /// the whole segment; `from` is where a frame begins.
    ///
    /// # Panics
    /// When the seed is another segment's.
    #[must_use]
    pub fn new(bytes: &'a [u8], seed: Seed, segment: SegmentId, from: u32, end: u32) -> Self {
        assert_eq!(seed.segment, segment, "the seed belongs to the segment");
        Self {
            bytes,
            seed,
            offset: from,
            end,
            finished: false,
        }
    }

    /// Where the next frame begins. Behind the last one once the walk is over.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    fn read(&self) -> Result<(Frame<'a>, u32), ScanEnd> {
        let offset = self.offset;
        let bad = |header: Option<FrameHeader>| {
            move |reason| ScanEnd {
                offset,
                reason,
                header,
            }
        };
        let range = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(self.end).ok());
        let bytes = range.and_then(|(from, end)| self.bytes.get(from..end.min(self.bytes.len())));
        let bytes = bytes.unwrap_or_default();
        let header = FrameHeader::decode(bytes, &self.seed, offset);
        let header = header.map_err(bad(None))?;
        let payload = header.check_payload(bytes);
        let payload = payload.map_err(bad(Some(header)))?;
        let next = u32::try_from(header.frame_len()).ok();
        let next = next.and_then(|len| offset.checked_add(len));
        let next = next.filter(|next| *next <= self.end);
        let next = next.ok_or(BadFrame::Short).map_err(bad(Some(header)))?;
        let position = Position::new(self.seed.segment, offset);
        let frame = Frame {
            header,
            payload,
            position,
        };
        Ok((frame, next))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, ScanEnd>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished || self.offset >= self.end {
            return None;
        }
        Some(match self.read() {
            Ok((frame, next)) => {
                debug_assert!(next > self.offset, "every frame has a header");
                self.offset = next;
                self.finished = frame.header.kind == FrameKind::Seal;
                Ok(frame)
            }
            Err(end) => {
                self.finished = true;
                Err(end)
            }
        })
    }
}

/// Looks for a frame, header and payload checked, at `from` or behind it, in steps of the
/// alignment. `bytes` are the whole segment. Behind a frame that is none, another one tells damage
/// from the end of the log, and its synced-through position how much had been promised (rule L8 of
/// `docs/replication.md`).
///
/// # Panics
/// When the seed is another segment's.
#[must_use]
pub fn find_next_valid(bytes: &[u8], seed: Seed, segment: SegmentId, from: u32) -> Option<u32> {
    let mut from = from;
    loop {
        let found = find_next_header(bytes, seed, segment, from)?;
        let rest = bytes.get(usize::try_from(found).ok()?..)?;
        let header = FrameHeader::decode(rest, &seed, found);
        if header.is_ok_and(|header| header.check_payload(rest).is_ok()) {
            return Some(found);
        }
        from = found.checked_add(STEP)?;
    }
}

/// Looks for the header of a frame as [`find_next_valid`] does, and not at its payload: what
/// would begin to look like a frame once something is written behind it.
///
/// # Panics
/// When the seed is another segment's.
#[must_use]
pub fn find_next_header(bytes: &[u8], seed: Seed, segment: SegmentId, from: u32) -> Option<u32> {
    assert_eq!(seed.segment, segment, "the seed belongs to the segment");
    let mut offset = from.checked_next_multiple_of(STEP)?;
    let mut rest = bytes.get(usize::try_from(offset).ok()?..)?;
    while rest.len() >= FRAME_HEADER_BYTES {
        let mut step = STEP;
        if rest.first_chunk().is_some_and(is_zero) {
            // No header: the kind is in the first step of one and never 0. Nearly all that is
            // searched was never written.
            step = BLOCK;
        } else if FrameHeader::decode_trusted(rest).is_ok()
            && FrameHeader::decode(rest, &seed, offset).is_ok()
        {
            // The fields come first: they rule most places out without a checksum.
            return Some(offset);
        }
        rest = rest.get(usize::try_from(step).ok()?..)?;
        offset = offset.checked_add(step)?;
    }
    None
}

const STEP: u32 = 8;
const BLOCK: u32 = 1 << 10;
const _: () = assert!(STEP as usize == ALIGNMENT && BLOCK.is_multiple_of(STEP));

fn is_zero(block: &[u8; BLOCK as usize]) -> bool {
    // The first byte rules out most blocks that are not; the whole is compared in wide steps.
    block.first() == Some(&0) && *block == [0; BLOCK as usize]
}
