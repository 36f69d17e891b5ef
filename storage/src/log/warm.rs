//! Warming: what was not read or written lately is brought into memory, and checked, off the
//! executor. A bad sector is an error of a range there, and not the end of the process.

use std::ops::Range;
use std::sync::Arc;

use super::walk::{Step, Walk};
use super::{Log, ReadCursor};
use crate::frame::Seed;
use crate::fs::Region;
use crate::id::{Generation, SegmentId};

/// How much is warmed at once for a reader that goes on.
pub(super) const WARM_BYTES: u32 = 1 << 20;

/// Work for a blocking thread: brings a range of a segment into memory and checks its frames.
#[derive(Debug)]
pub struct Warm {
    pub(super) region: Arc<dyn Region>,
    pub(super) seed: Seed,
    pub(super) segment: SegmentId,
    pub(super) generation: Generation,
    /// From the frame to be read to the end of what may be read.
    pub(super) range: Range<u32>,
    /// How much of it is enough, but for the end of its last frame.
    pub(super) len: u32,
    /// What the reader has behind it.
    pub(super) release: Option<(Arc<dyn Region>, Range<u32>)>,
}

/// What was warmed; goes back to the log by [`Log::warmed`].
#[derive(Debug)]
pub struct Warmed {
    segment: SegmentId,
    generation: Generation,
    range: Range<u32>,
    bad: Vec<Range<u32>>,
}

/// The largest range that is looked for in memory before it is warmed.
const RESIDENT_BYTES_MAX: u32 = 32 << 10;

/// The last frame of a range mostly ends within this.
const LAST_FRAME_BYTES: u32 = 16 << 10;

impl Warm {
    /// Whether it is a small range that is in memory already: it can be run where it is then, for
    /// some ten microseconds.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        let Range { start, end } = self.range;
        let to = start.saturating_add(self.len + LAST_FRAME_BYTES).min(end);
        self.len <= RESIDENT_BYTES_MAX
            && self.release.is_none()
            && self.region.is_resident(start..to)
    }

    /// Bytes that are brought into memory, at most.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Range { start, end } = &self.range;
        u64::from(end.saturating_sub(*start).min(self.len))
    }

    /// Does the work. Blocks.
    #[must_use]
    pub fn run(self) -> Warmed {
        if let Some((region, behind)) = self.release {
            region.release(behind);
        }
        let Range { start, end } = self.range;
        let target = start.saturating_add(self.len).min(end);
        let walk = Walk::new(&*self.region, self.segment, self.seed, start..end);
        let mut walk = walk.by(self.len);
        let mut bad = Vec::new();
        while walk.offset() < target {
            match walk.next() {
                Step::Frame(_) => {}
                Step::Bad(_) => {
                    let from = walk.offset();
                    let to = walk.find(from + 8).unwrap_or(end);
                    bad.push(from..to);
                    walk.go_to(to);
                }
                Step::End => break,
            }
        }
        Warmed {
            segment: self.segment,
            generation: self.generation,
            range: start..walk.offset().max(target),
            bad,
        }
    }
}

impl Log {
    /// Takes note of what was warmed for a reader: it may read there now. Frames that were found
    /// damaged are never delivered.
    pub fn warmed(&mut self, warmed: Warmed, cursor: &mut ReadCursor) {
        let Warmed {
            segment: id,
            generation,
            range,
            bad,
        } = warmed;
        let segment = self.segments.get_mut(id);
        let Some(segment) = segment.filter(|segment| segment.generation == generation) else {
            return;
        };
        for range in bad {
            segment.add_damage(range);
        }
        cursor.warm = Some((id, range));
    }
}
