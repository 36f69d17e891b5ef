//! The segments of a log, in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cipher::Cipher;
use crate::fs::Region;
use crate::id::{ChannelKey, Generation, Position, SegmentId};

/// What has been written or scanned this far behind the end is taken to be in memory.
const HOT_BYTES: u64 = 64 << 20;

/// A segment that is in use, or was.
#[derive(Debug)]
pub(in crate::log) struct Segment {
    pub id: SegmentId,
    pub generation: Generation,
    /// Length of the file.
    pub len: u32,
    /// `None` for a segment whose file is missing.
    pub region: Option<Arc<dyn Region>>,
    /// How its frames are to be read.
    pub cipher: Cipher,
    /// Where its frames end, the seal included; `None` as long as it is being filled.
    pub end: Option<u32>,
    /// Bytes of the log before this segment.
    pub before: u64,
    /// Blocks of the index with messages that are kept.
    pub live_blocks: usize,
    /// Channels with a block here, once for each block; some may be gone.
    pub channels: Vec<ChannelKey>,
    /// Ranges that readers pass over, in order: damaged ones, and frames that were superseded.
    skipped: Vec<Range<u32>>,
    pub damaged_bytes: u64,
    /// Whether its index lies on disk.
    pub indexed: bool,
    /// Whether all that can be carried from it was.
    pub carried: bool,
    /// How much was committed when it was first seen to hold nothing that counts.
    pub unused_since: Option<Position>,
}

impl Segment {
    /// A segment without a file, or before its file is looked at.
    pub(in crate::log) fn new(id: SegmentId, region: Option<Arc<dyn Region>>) -> Self {
        Self {
            id,
            generation: Generation::default(),
            len: 0,
            region,
            cipher: Cipher::Plain,
            end: None,
            before: 0,
            live_blocks: 0,
            channels: Vec::new(),
            skipped: Vec::new(),
            damaged_bytes: 0,
            indexed: false,
            carried: false,
            unused_since: None,
        }
    }

    /// Whether an offset lies in a range that is passed over; where what is passed over ends, since
    /// ranges may follow each other without a gap.
    pub(in crate::log) fn skip_at(&self, offset: u32) -> Option<u32> {
        let at = self.skipped.partition_point(|range| range.end <= offset);
        let mut ranges = self.skipped.get(at..)?.iter();
        let mut end = ranges.next().filter(|range| range.contains(&offset))?.end;
        for range in ranges {
            if range.start > end {
                break;
            }
            end = end.max(range.end);
        }
        Some(end)
    }

    /// Where the next range behind an offset begins that is passed over.
    pub(in crate::log) fn skip_behind(&self, offset: u32) -> u32 {
        let at = self.skipped.partition_point(|range| range.start <= offset);
        self.skipped.get(at).map_or(u32::MAX, |range| range.start)
    }

    /// Notes a range that cannot be read.
    pub(in crate::log) fn add_damage(&mut self, range: Range<u32>) {
        if self.skip(range.clone()) {
            self.damaged_bytes += u64::from(range.end - range.start);
        }
    }

    /// Notes a range that does not count; whether that is new.
    pub(in crate::log) fn skip(&mut self, range: Range<u32>) -> bool {
        if range.is_empty()
            || self
                .skip_at(range.start)
                .is_some_and(|end| end >= range.end)
        {
            return false;
        }
        let at = self
            .skipped
            .partition_point(|known| known.start < range.start);
        self.skipped.insert(at, range);
        true
    }

    pub(in crate::log) fn skips(&self) -> bool {
        !self.skipped.is_empty()
    }
}

/// The segments of a log: ids dense, oldest first.
#[derive(Debug, Default)]
pub(in crate::log) struct Segments {
    list: VecDeque<Segment>,
    /// Bytes of the log before which nothing was read or written by this process.
    pub scanned_from: u64,
}

impl Segments {
    pub(in crate::log) fn get(&self, id: SegmentId) -> Option<&Segment> {
        let first = self.list.front()?.id.get();
        self.list
            .get(usize::try_from(id.get().checked_sub(first)?).ok()?)
    }

    pub(in crate::log) fn get_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        let first = self.list.front()?.id.get();
        self.list
            .get_mut(usize::try_from(id.get().checked_sub(first)?).ok()?)
    }

    pub(in crate::log) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.list.iter()
    }

    pub(in crate::log) fn front_mut(&mut self) -> Option<&mut Segment> {
        self.list.front_mut()
    }

    pub(in crate::log) fn back(&self) -> Option<&Segment> {
        self.list.back()
    }

    pub(in crate::log) fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds the next segment.
    pub(in crate::log) fn push(&mut self, segment: Segment) {
        debug_assert!(
            self.list
                .back()
                .is_none_or(|last| last.id.next() == segment.id)
        );
        self.list.push_back(segment);
    }

    /// Takes the newest segment out.
    pub(in crate::log) fn pop_back(&mut self) -> Option<Segment> {
        self.list.pop_back()
    }

    /// Takes the oldest segment out.
    pub(in crate::log) fn pop_front(&mut self) -> Option<Segment> {
        self.list.pop_front()
    }

    pub(in crate::log) fn add_block(&mut self, id: SegmentId, key: ChannelKey) {
        if let Some(segment) = self.get_mut(id) {
            segment.live_blocks += 1;
            segment.channels.push(key);
        }
    }

    pub(in crate::log) fn remove_block(&mut self, id: SegmentId) {
        if let Some(segment) = self.get_mut(id) {
            debug_assert!(segment.live_blocks > 0, "a block is removed once");
            segment.live_blocks = segment.live_blocks.saturating_sub(1);
        }
    }

    /// A block came to be, or is gone.
    pub(in crate::log) fn change_block(&mut self, id: SegmentId, key: ChannelKey, added: bool) {
        if added {
            self.add_block(id, key);
        } else {
            self.remove_block(id);
        }
    }

    /// Bytes of the log before a position.
    pub(in crate::log) fn bytes_before(&self, position: Position) -> u64 {
        self.get(position.segment()).map_or(u64::MAX, |segment| {
            segment.before + u64::from(position.offset())
        })
    }

    /// The offset in a segment from which on it is in memory, when the log ends at `end`.
    pub(in crate::log) fn hot_from(&self, segment: &Segment, end: Position) -> u32 {
        let end = match self.get(end.segment()) {
            Some(last) => last.before + u64::from(end.offset()),
            // Behind the seal of the last segment.
            None => self.list.back().map_or(0, |last| {
                last.before + u64::from(last.end.unwrap_or(last.len))
            }),
        };
        let from = end.saturating_sub(HOT_BYTES).max(self.scanned_from);
        u32::try_from(from.saturating_sub(segment.before)).unwrap_or(u32::MAX)
    }
}

/// The file of a segment.
pub(in crate::log) fn segment_path(directory: &Path, id: SegmentId) -> PathBuf {
    directory.join(format!("{:08}.segment", id.get()))
}

/// The file of a sealed segment's index.
pub(in crate::log) fn index_path(directory: &Path, id: SegmentId) -> PathBuf {
    directory.join(format!("{:08}.index", id.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_follow_each_other_are_passed_over_together() {
        let mut segment = Segment::new(SegmentId::new(1), None);
        segment.add_damage(64..128);
        segment.add_damage(128..192);
        segment.add_damage(256..320);
        // Read at the end of the first, the second would be shown: an unreadable page ends the
        // process.
        assert_eq!(segment.skip_at(64), Some(192));
        assert_eq!(segment.skip_at(127), Some(192));
        assert_eq!(segment.skip_at(128), Some(192));
        assert_eq!(segment.skip_at(192), None);
        assert_eq!(segment.skip_behind(192), 256);
        assert!(!segment.skip(100..190), "it is known");
        assert_eq!(segment.damaged_bytes, 192);
    }
}
