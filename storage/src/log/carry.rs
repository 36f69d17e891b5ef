//! Carrying: the few messages that an old segment still keeps are copied to the end of the log, so
//! that the segment, and what it holds up behind it, can be dropped.
//!
//! A carried frame has the records of one older frame that count, word for word, and names that
//! frame by slot, term and index. It is no entry of its slot: it supersedes nothing and is not
//! applied; the index takes its messages to be there, and no longer where they were, when it is
//! committed. Until then, and after a crash before that, they are where they were.
//!
//! Frames that were carried themselves go first: what a channel has in carried frames is older
//! than what was stored in the same segment, so its messages come to lie in their order again.
//!
//! When all that is needed of a segment was carried and committed, the index forgets the rest of
//! it. A crash before the segment is dropped brings the rest back, from the segment's index on
//! disk; then there is nothing left to carry, and it is forgotten again.

mod kept;
mod look;

use std::ops::Range;
use std::sync::Arc;

use self::kept::Kept;
pub use self::look::Look;
pub(super) use self::look::Looks;
use super::gather::{Filling, to_u32, to_usize};
use super::index::ENTRY_DISTANCE;
use super::segments::Segment;
use super::warm::WARM_BYTES;
use super::{Class, Keeps, Log, ReadCursor, Refused, Warm};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::fs::Region;
use crate::id::SegmentId;

/// A frame that is looked through counts as much as this part of it that is copied.
const LOOK_SHARE: usize = 2;

/// Channels of a segment that are looked at in one go.
const CHANNELS_MAX: usize = 1024;

/// What [`Log::carry_some`] came to.
#[derive(Debug)]
pub enum Carry {
    /// There is nothing to carry. It is looked for again when channels have been trimmed, messages
    /// of queues settled, or another segment was filled.
    Idle,
    /// Frames were appended, or might have been: call again after the next commit.
    More,
    /// Run this elsewhere, hand the result to [`Log::warmed`] with the same cursor, and call
    /// again.
    Cold(Warm),
    /// There is no room: call again later.
    Refused(Refused),
}

/// A segment that is being carried.
#[derive(Debug)]
pub(super) struct Carrying {
    segment: SegmentId,
    /// Kind of the frames that are carried now.
    kind: FrameKind,
    offset: u32,
    /// Entries of the index for what is needed, in order: frames that matter begin there, or less
    /// than the distance of two entries behind. `None`: anywhere.
    entries: Option<Vec<u32>>,
    /// All that can be carried is appended; once it is committed the rest of the segment is
    /// forgotten: so many of its channels are done.
    forgotten: Option<usize>,
    /// Frames, messages and bytes that were appended.
    carried: Carried,
}

/// What was appended for a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    frames: u64,
    messages: u64,
    bytes: u64,
}

impl Carrying {
    fn new(segment: SegmentId, entries: Option<Vec<u32>>) -> Self {
        Self {
            segment,
            kind: FrameKind::Carried,
            offset: super::FIRST_FRAME,
            entries,
            forgotten: None,
            carried: Carried::default(),
        }
    }

    /// The next place at or behind its own that matters.
    fn next_offset(&self, end: u32) -> Option<u32> {
        let Some(entries) = &self.entries else {
            return Some(self.offset).filter(|offset| *offset < end);
        };
        let behind = entries.partition_point(|entry| *entry <= self.offset);
        let before = behind.checked_sub(1).and_then(|at| entries.get(at));
        if before.is_some_and(|entry| self.offset < entry.saturating_add(ENTRY_DISTANCE)) {
            return Some(self.offset);
        }
        entries.get(behind).copied()
    }
}

/// A segment's mapping, and where what may be read of it ends.
type Readable = (Arc<dyn Region>, u32);

impl Log {
    /// Copies some of what the oldest segment keeps to the end of the log, about `bytes_max`
    /// bytes, when that frees much more than it costs. For times when nothing else is to be done:
    /// it only does something when all that was appended is committed. The cursor is the caller's
    /// and used for nothing else; `keeps` knows which messages are still needed.
    ///
    /// It looks for something to carry when [`look_for_carrying`](Self::look_for_carrying) has
    /// found nothing before.
    pub fn carry_some(
        &mut self,
        cursor: &mut ReadCursor,
        bytes_max: usize,
        keeps: &dyn Keeps,
    ) -> Carry {
        while self.carrying.is_none() {
            match self.look_for_carrying(keeps) {
                Look::Nothing => return Carry::Idle,
                Look::More | Look::Found => {}
            }
        }
        // What is appended and not committed may trim or delete what would be carried.
        if self.committed < self.end() || self.written > self.committed {
            return Carry::More;
        }
        let Some(mut carrying) = self.carrying.take().filter(|_| self.poisoned.is_none()) else {
            return Carry::Idle;
        };
        if carrying.forgotten.is_some() {
            self.forget_rest(carrying, keeps);
            return Carry::More;
        }
        let segment = self.segments.get(carrying.segment);
        let end = segment.and_then(|segment| segment.end).unwrap_or(0);
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(offset) = carrying.next_offset(end) else {
                if carrying.kind == FrameKind::Carried {
                    (carrying.kind, carrying.offset) = (FrameKind::Entry, super::FIRST_FRAME);
                    continue;
                }
                carrying.forgotten = Some(0);
                break;
            };
            carrying.offset = offset;
            match self.carry_frame(&mut carrying, cursor, keeps) {
                Ok(spent) => bytes += spent,
                Err(end) => {
                    self.carrying = Some(carrying);
                    return end;
                }
            }
        }
        self.carrying = Some(carrying);
        Carry::More
    }

    /// Carries the frame at the place and goes on to the next; what that counts.
    fn carry_frame(
        &mut self,
        carrying: &mut Carrying,
        cursor: &ReadCursor,
        keeps: &dyn Keeps,
    ) -> Result<usize, Carry> {
        let offset = carrying.offset;
        let Some(segment) = self.segments.get(carrying.segment) else {
            carrying.offset = u32::MAX;
            return Ok(0);
        };
        if let Some(end) = segment.skip_at(offset) {
            carrying.offset = end;
            return Ok(0);
        }
        let Some((region, end)) = self.carried_region(segment, offset, cursor)? else {
            carrying.offset = u32::MAX;
            return Ok(0);
        };
        let slice = |len: usize| region.slice(offset..offset.checked_add(to_u32(len))?.min(end));
        let head = slice(FRAME_HEADER_BYTES).unwrap_or_default();
        let found = FrameHeader::decode_trusted(&head).ok();
        let bytes = found.and_then(|header| slice(header.frame_len()));
        let bytes = bytes.unwrap_or_default();
        let found = found.and_then(|header| Some((header, header.payload(&bytes).ok()?)));
        let Some((header, payload)) = found else {
            // What lies behind cannot be found: it stays.
            self.note_damage(carrying, offset..end);
            return Ok(0);
        };
        let behind = offset + to_u32(header.frame_len());
        let mut appended = 0;
        if header.kind == carrying.kind {
            let segment = self.segments.get(carrying.segment);
            let records = segment.map(|segment| segment.cipher.decrypt(&header, offset, payload));
            let records = records.and_then(Result::ok);
            let kept = records
                .and_then(|records| self.kept(carrying.segment, &header, &records, keeps).ok());
            let Some(kept) = kept else {
                self.note_damage(carrying, offset..behind);
                return Ok(0);
            };
            if kept.header.record_count > 0 {
                appended = kept.payload.len() + FRAME_HEADER_BYTES;
                self.append_carried(&kept).map_err(Carry::Refused)?;
                carrying.carried.frames += 1;
                carrying.carried.messages += u64::from(kept.header.record_count);
                carrying.carried.bytes += u64::from(to_u32(appended));
            }
        }
        carrying.offset = behind;
        Ok(appended.max(header.frame_len() / LOOK_SHARE))
    }

    fn note_damage(&mut self, carrying: &mut Carrying, range: Range<u32>) {
        carrying.offset = range.end;
        if let Some(segment) = self.segments.get_mut(carrying.segment) {
            segment.add_damage(range);
        }
    }

    /// All that could be carried of a segment is committed elsewhere: what is left of it is not
    /// needed, or damaged. What is damaged and needed stays where it is, and its segment with it.
    fn forget_rest(&mut self, mut carrying: Carrying, keeps: &dyn Keeps) {
        let (id, done) = (carrying.segment, carrying.forgotten.unwrap_or(0));
        let Some(segment) = self.segments.get_mut(id) else {
            return;
        };
        let damaged = segment.skips();
        let more = self.release_some(id, done, &|key, first, last| {
            damaged && keeps.next_kept(key, first, last).is_some()
        });
        if more {
            carrying.forgotten = Some(done + CHANNELS_MAX);
            self.carrying = Some(carrying);
            return;
        }
        self.looks.carried(&carrying.carried, self.segments.get(id));
        if let Some(segment) = self.segments.get_mut(id) {
            segment.carried = true;
        }
    }

    /// Forgets what `needed` does not want of a segment, for the channels from number `done` on;
    /// whether there are more of them.
    fn release_some(
        &mut self,
        id: SegmentId,
        done: usize,
        needed: &dyn Fn(crate::ChannelKey, crate::Sequence, crate::Sequence) -> bool,
    ) -> bool {
        let Some(segment) = self.segments.get(id) else {
            return false;
        };
        let rest = segment.channels.get(done..).unwrap_or_default();
        let keys: Vec<_> = rest.iter().take(CHANNELS_MAX).copied().collect();
        let more = rest.len() > keys.len();
        self.index.release(id, &keys, needed, &mut self.segments);
        more
    }

    /// Where a frame can be read, and up to which end; `None` when nothing is there.
    fn carried_region(
        &self,
        segment: &Segment,
        offset: u32,
        cursor: &ReadCursor,
    ) -> Result<Option<Readable>, Carry> {
        let end = segment.end.unwrap_or(0).min(segment.skip_behind(offset));
        let Some(region) = segment.region.as_ref().filter(|_| offset < end) else {
            return Ok(None);
        };
        let warm = cursor.warm.as_ref();
        let warm = warm.filter(|(id, range)| *id == segment.id && range.contains(&offset));
        let hot = offset >= self.segments.hot_from(segment, self.committed);
        if warm.is_none() && !hot {
            return Err(Carry::Cold(Warm {
                region: region.clone(),
                seed: self.seed(segment.id, segment.generation),
                segment: segment.id,
                generation: segment.generation,
                range: offset..end,
                len: WARM_BYTES,
                release: self.behind(cursor),
            }));
        }
        let end = warm.map_or(end, |(_, range)| end.min(range.end));
        Ok(Some((region.clone(), end)))
    }

    fn append_carried(&mut self, kept: &Kept) -> Result<(), Refused> {
        let bytes = self.frame_overhead() + kept.payload.len().next_multiple_of(8);
        // Encryption adds to what just fitted, plain: no segment would ever be made that takes it.
        let max = to_usize(self.options.segment_bytes).saturating_sub(self.segment_overhead());
        if bytes > max {
            return Err(Refused::TooLarge {
                len: to_u32(kept.payload.len()),
                max: to_u32(max),
            });
        }
        let room = self.filling().map_or(0, Filling::room);
        if bytes + self.reserve_for(Class::Message) > room {
            self.roll(bytes)?;
        }
        self.gather.reserve();
        if let Some(filling) = &mut self.gather.filling {
            filling.push_carried(&kept.header, &kept.payload, self.synced);
        }
        Ok(())
    }
}
