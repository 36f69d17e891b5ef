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

use std::sync::Arc;

use super::gather::to_u32;
use super::index::ENTRY_DISTANCE;
use super::segments::Segment;
use super::{Class, Keeps, Log, ReadCursor, Refused, Warm};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::fs::Region;
use crate::id::{ChannelKey, SegmentId};
use crate::record::{RECORD_HEADER_BYTES, Record, RecordKind, Records, record_len};

/// A segment is carried when that costs less than this part of what it frees.
const GAIN_FACTOR: u64 = 4;

/// Segments that keep something, looked at from the oldest on.
const KEEPERS_MAX: usize = 64;

/// What [`Log::carry_some`] came to.
#[derive(Debug)]
pub enum Carry {
    /// There is nothing to carry. It is looked for again when channels have been trimmed.
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
    /// Entries of the index for what is kept, in order: frames that matter begin there, or less
    /// than the distance of two entries behind.
    entries: Vec<u32>,
}

impl Carrying {
    /// The next place at or behind its own that matters.
    fn next_offset(&self) -> Option<u32> {
        let behind = self.entries.partition_point(|entry| *entry <= self.offset);
        let before = behind.checked_sub(1).and_then(|at| self.entries.get(at));
        if before.is_some_and(|entry| self.offset < entry.saturating_add(ENTRY_DISTANCE)) {
            return Some(self.offset);
        }
        self.entries.get(behind).copied()
    }
}

/// A segment's mapping, and where what may be read of it ends.
type Readable = (Arc<dyn Region>, u32);

/// The records of a frame that count.
struct Kept {
    header: FrameHeader,
    payload: Vec<u8>,
}

impl Log {
    /// Copies some of what the oldest segment keeps to the end of the log, about `bytes_max`
    /// bytes, when that frees much more than it costs. For times when nothing else is to be done:
    /// it only does something when all that was appended is committed. The cursor is the caller's
    /// and used for nothing else; `keeps` knows which messages are still needed.
    pub fn carry_some(
        &mut self,
        cursor: &mut ReadCursor,
        bytes_max: usize,
        keeps: &dyn Keeps,
    ) -> Carry {
        if self.poisoned.is_some() {
            return Carry::Idle;
        }
        // What is appended and not committed may trim or delete what would be carried.
        if self.committed < self.end() || self.written > self.committed {
            return Carry::More;
        }
        let carrying = self.carrying.take().or_else(|| self.find_segment());
        let Some(mut carrying) = carrying else {
            return Carry::Idle;
        };
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(offset) = carrying.next_offset() else {
                if carrying.kind == FrameKind::Carried {
                    (carrying.kind, carrying.offset) = (FrameKind::Entry, 0);
                    continue;
                }
                if let Some(segment) = self.segments.get_mut(carrying.segment) {
                    segment.carried = true;
                }
                return Carry::More;
            };
            carrying.offset = offset;
            match self.carry_frame(&mut carrying, cursor, keeps) {
                Ok(carried) => bytes += carried,
                Err(end) => {
                    self.carrying = Some(carrying);
                    return end;
                }
            }
        }
        self.carrying = Some(carrying);
        Carry::More
    }

    /// Carries the frame at the place and goes on to the next; the bytes that were appended.
    fn carry_frame(
        &mut self,
        carrying: &mut Carrying,
        cursor: &ReadCursor,
        keeps: &dyn Keeps,
    ) -> Result<usize, Carry> {
        let offset = carrying.offset;
        let Some(segment) = self.segments.get(carrying.segment) else {
            carrying.entries.clear();
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
            carrying.offset = u32::MAX;
            return Ok(0);
        };
        let mut appended = 0;
        if header.kind == carrying.kind
            && let Some(kept) = self.kept(carrying.segment, &header, payload, keeps)
        {
            appended = kept.payload.len() + FRAME_HEADER_BYTES;
            self.append_carried(&kept).map_err(Carry::Refused)?;
        }
        carrying.offset = offset + to_u32(header.frame_len());
        Ok(appended)
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
                release: self.behind(cursor),
            }));
        }
        let end = warm.map_or(end, |(_, range)| end.min(range.end));
        Ok(Some((region.clone(), end)))
    }

    /// The records of a frame whose messages are kept, and found there by the index.
    fn kept(
        &self,
        segment: SegmentId,
        header: &FrameHeader,
        payload: &[u8],
        keeps: &dyn Keeps,
    ) -> Option<Kept> {
        let slot = header.slot?;
        let carried = header.kind == FrameKind::Carried;
        let mut kept = Kept {
            header: *header,
            payload: Vec::new(),
        };
        kept.header.record_count = 0;
        let mut at = 0;
        for record in Records::new(payload) {
            let Record {
                head,
                payload: body,
            } = record.ok()?;
            let from = at;
            at += record_len(body.len());
            let key = ChannelKey {
                slot,
                channel: head.channel,
            };
            let channel = self.index.channel(key);
            let counts = head.kind == RecordKind::Message
                && channel.is_some_and(|channel| {
                    let block = channel.block_for(head.sequence);
                    head.sequence >= channel.first
                        && block.is_some_and(|block| {
                            (block.segment, block.carried) == (segment, carried)
                                && block.from <= head.sequence
                        })
                });
            if counts && keeps.keeps(key, head.sequence) {
                // The last record of a frame may lack its padding; not so in the middle of one.
                let end = from + RECORD_HEADER_BYTES + body.len();
                kept.payload
                    .resize(kept.payload.len().next_multiple_of(8), 0);
                kept.payload
                    .extend_from_slice(payload.get(from..end).unwrap_or_default());
                kept.header.record_count += 1;
            }
        }
        (kept.header.record_count > 0).then_some(kept)
    }

    fn append_carried(&mut self, kept: &Kept) -> Result<(), Refused> {
        let bytes = FRAME_HEADER_BYTES + kept.payload.len().next_multiple_of(8);
        let room = self
            .gather
            .filling
            .as_ref()
            .map_or(0, |filling| filling.room());
        if bytes + self.reserve_for(Class::Message) > room {
            self.roll(bytes)?;
        }
        self.gather.reserve();
        if let Some(filling) = &mut self.gather.filling {
            filling.push_carried(&kept.header, &kept.payload, self.synced);
        }
        Ok(())
    }

    /// The oldest segment, when carrying what it keeps pays. It must be the first there is: those
    /// before it would have to be dropped anyway.
    fn find_segment(&mut self) -> Option<Carrying> {
        let front = self.segments.iter().next()?;
        let id = front.id;
        // Nothing changes without a trim, or another segment in front.
        let now = (self.index.trims, id);
        if std::mem::replace(&mut self.carried_at, now) == now {
            return None;
        }
        if front.carried || front.live_blocks == 0 || id >= self.committed.segment() {
            return None;
        }
        if !self.carrying_pays() {
            return None;
        }
        let mut entries = Vec::new();
        for (_, channel, block) in self.index.blocks_in(id, &front.channels) {
            let from = channel.first.max(block.from);
            let first = block.entry_for(from).map_or(0, |(at, _)| at);
            entries.extend(block.entries.iter().skip(first).map(|entry| entry.offset));
        }
        entries.sort_unstable();
        entries.dedup();
        Some(Carrying {
            segment: id,
            kind: FrameKind::Carried,
            offset: 0,
            entries,
        })
    }

    /// Whether carrying what the oldest segments keep, up to some segment, frees much more than it
    /// costs: what one of them keeps holds all behind it (rule L12).
    fn carrying_pays(&self) -> bool {
        let (mut cost, mut gain, mut kept_by) = (0_u64, 0_u64, 0);
        for segment in self.segments.iter() {
            // What is damaged stays where it is.
            let stays = segment.carried && segment.live_blocks > 0;
            if stays || segment.id >= self.committed.segment() || kept_by > KEEPERS_MAX {
                return false;
            }
            gain += u64::from(segment.len);
            if segment.live_blocks > 0 {
                kept_by += 1;
                cost += self.kept_bytes(segment);
            }
            if cost.saturating_mul(GAIN_FACTOR) <= gain {
                return true;
            }
        }
        false
    }

    /// Bytes of the records that a segment keeps.
    fn kept_bytes(&self, segment: &Segment) -> u64 {
        let head = u64::try_from(RECORD_HEADER_BYTES).unwrap_or(32);
        let blocks = self.index.blocks_in(segment.id, &segment.channels);
        let bytes = blocks.into_iter().map(|(_, channel, block)| {
            let from = channel.first.max(block.from);
            let count = block.last.get().saturating_sub(from.get()) + 1;
            let heads = count.saturating_mul(head);
            block.kept_bytes(channel.first).saturating_add(heads)
        });
        bytes.sum()
    }
}
