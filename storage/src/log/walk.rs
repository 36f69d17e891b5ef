//! Walking frames that may be cold, torn or damaged: off the executor, with every checksum.

use std::ops::Range;

use bytes::Bytes;

use crate::frame::{BadFrame, FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, Seed};
use crate::fs::Region;
use crate::id::{Position, SegmentId};

use super::gather::{to_u32, to_usize};

/// How much is brought into memory at once, as a rule.
const WINDOW_BYTES: u32 = 1 << 20;

/// When a window cannot be read, its pages are tried one by one.
const PAGE_BYTES: u32 = 4 << 10;

/// What a walk came to.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Frame(Frame<'a>),
    /// No frame is at the walk's place; it stays there.
    Bad(Fault),
    /// The walk is at its end.
    End,
}

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Frame(#[from] BadFrame),
    #[error("unreadable")]
    Unreadable,
}

/// A walk over the frames of a segment.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    region: &'a dyn Region,
    segment: SegmentId,
    seed: Seed,
    /// Where the next frame begins.
    offset: u32,
    end: u32,
    /// What is in memory: it begins at `base`.
    window: Bytes,
    base: u32,
    /// How much is brought into memory at once.
    window_bytes: u32,
    /// Lets go of what lies behind while it goes on.
    releases: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        region: &'a dyn Region,
        segment: SegmentId,
        seed: Seed,
        range: Range<u32>,
    ) -> Self {
        Self {
            region,
            segment,
            seed,
            offset: range.start,
            end: range.end.min(region.len()),
            window: Bytes::new(),
            base: range.start,
            window_bytes: WINDOW_BYTES,
            releases: false,
        }
    }

    /// Brings no more into memory at once than this, but for larger frames.
    pub(super) fn by(mut self, window_bytes: u32) -> Self {
        self.window_bytes = window_bytes.min(WINDOW_BYTES);
        self
    }

    /// Lets go of the memory that was walked over: the walk is long, and nobody reads it soon.
    pub(super) fn releasing(mut self) -> Self {
        self.releases = true;
        self
    }

    pub(super) fn offset(&self) -> u32 {
        self.offset
    }

    /// Goes on elsewhere.
    pub(super) fn go_to(&mut self, offset: u32) {
        self.offset = offset;
    }

    /// The next frame, checked. Behind the last, or a bad one, it stays where it is.
    pub(super) fn next(&mut self) -> Step<'_> {
        if self.offset >= self.end {
            return Step::End;
        }
        let at = self.offset;
        let seed = self.seed;
        let header = match self.bytes(at, FRAME_HEADER_BYTES) {
            Ok(bytes) => FrameHeader::decode(bytes, &seed, at),
            Err(fault) => return Step::Bad(fault),
        };
        let header = match header {
            Ok(header) => header,
            Err(bad) => return Step::Bad(bad.into()),
        };
        let bytes = match self.bytes(at, header.frame_len()) {
            Ok(bytes) => bytes,
            Err(fault) => return Step::Bad(fault),
        };
        match header.check_payload(bytes) {
            Err(bad) => Step::Bad(bad.into()),
            Ok(_) => {
                self.offset = at + to_u32(header.frame_len());
                // Looked up again: what is returned borrows the walk as it is now.
                let bytes = self.in_window(at, header.frame_len()).unwrap_or_default();
                let payload = header.payload(bytes).unwrap_or_default();
                Step::Frame(Frame {
                    header,
                    payload,
                    position: Position::new(self.segment, at),
                })
            }
        }
    }

    /// The next place from `from` on where a valid frame begins, header and payload.
    pub(super) fn find(&mut self, from: u32) -> Option<u32> {
        let mut at = from.next_multiple_of(8);
        while at.checked_add(to_u32(FRAME_HEADER_BYTES))? <= self.end {
            let Ok(_) = self.bytes(at, FRAME_HEADER_BYTES) else {
                at = (at + 1).next_multiple_of(PAGE_BYTES);
                continue;
            };
            let skip = to_usize(at - self.base);
            let window = self.window.get(skip..).unwrap_or_default();
            match candidate(window) {
                // The last bytes of the window are looked at again, with what follows them.
                None => {
                    let covered = to_u32(window.len()) & !7;
                    at += covered.saturating_sub(to_u32(FRAME_HEADER_BYTES)).max(8);
                    self.forget_window(at);
                }
                Some(ahead) => {
                    at += to_u32(ahead);
                    self.offset = at;
                    if let Step::Frame(_) = self.next() {
                        self.offset = at;
                        return Some(at);
                    }
                    at += 8;
                }
            }
        }
        None
    }

    /// Whether every byte from `from` to the end of the walk is zero.
    pub(super) fn last_byte_set(&mut self, from: u32) -> Option<u32> {
        let mut last = None;
        let mut at = from;
        while at < self.end {
            self.forget_window(at);
            let Ok(_) = self.bytes(at, 1) else {
                last = Some(at);
                at = (at + 1).next_multiple_of(PAGE_BYTES);
                continue;
            };
            if let Some(set) = self.window.iter().rposition(|byte| *byte != 0) {
                last = Some(at + to_u32(set));
            }
            at += to_u32(self.window.len()).max(1);
        }
        last
    }

    fn forget_window(&mut self, at: u32) {
        self.window = Bytes::new();
        self.base = at;
    }

    fn in_window(&self, at: u32, len: usize) -> Option<&[u8]> {
        let from = to_usize(at.checked_sub(self.base)?);
        self.window.get(from..from.checked_add(len)?)
    }

    fn bytes(&mut self, at: u32, len: usize) -> Result<&[u8], Fault> {
        if self.in_window(at, len).is_none() {
            self.load(at, len)?;
        }
        Ok(self.in_window(at, len).ok_or(BadFrame::Short)?)
    }

    /// Brings a window into memory that begins at `at` and has at least `len` bytes.
    fn load(&mut self, at: u32, len: usize) -> Result<(), Fault> {
        let len = u32::try_from(len).map_err(|_| BadFrame::Short)?;
        let least = at.checked_add(len).filter(|end| *end <= self.end);
        let least = least.ok_or(BadFrame::Short)?;
        if self.releases && at > self.base {
            self.window = Bytes::new();
            self.region.release(self.base..at);
        }
        let wanted = at.saturating_add(len.max(self.window_bytes)).min(self.end);
        let mut to = wanted;
        if self.region.populate(at..wanted).is_err() {
            to = at;
            while to < wanted {
                let page = (to + 1).next_multiple_of(PAGE_BYTES).min(wanted);
                if self.region.populate(to..page).is_err() {
                    break;
                }
                to = page;
            }
        }
        if to < least {
            return Err(Fault::Unreadable);
        }
        self.window = self.region.slice(at..to).unwrap_or_default();
        self.base = at;
        Ok(())
    }
}

/// Where in `bytes` something lies that may be a frame's header: aligned, of a kind that exists,
/// with no flags but the one that there is. Zeros, the most of what is looked at, are passed over
/// fast.
fn candidate(bytes: &[u8]) -> Option<usize> {
    let mut ahead = 0;
    for word in bytes.chunks_exact(8) {
        if let [_, _, _, _, kind, 0 | FrameHeader::ENCRYPTED, ..] = *word
            && FrameKind::from_u8(kind).is_some()
            && bytes.len() - ahead >= FRAME_HEADER_BYTES
        {
            return Some(ahead);
        }
        ahead += 8;
    }
    None
}
