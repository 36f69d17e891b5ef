//! Reading: committed messages of a channel, in order, from the mappings.
//!
//! The index names the frame at which to begin; from there frames are walked, at most to the place
//! of the next entry. Nothing here waits for a disk: what may be cold is warmed elsewhere first.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::decrypted::Decrypted;
use super::index::Block;
use super::segments::Segment;
use super::warm::WARM_BYTES;
use super::{Log, Warm};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::fs::Region;
use crate::id::{ChannelKey, Position, SegmentId, Sequence};
use crate::record::{RECORD_HEADER_BYTES, RecordHead, RecordKind, record_len};

use super::gather::{to_u32, to_usize};

/// A reader that asks for what lies closer than this behind what it had goes on there.
const AHEAD_BYTES: u32 = 64 << 10;

/// What a search by time reads in one go.
const SEEK_BYTES: usize = 64 << 10;

/// Where a reader of one channel goes on. It is a memory only: a cursor that does not fit is no
/// error, and a new one finds its place by the index.
#[derive(Clone, Debug, Default)]
pub struct ReadCursor {
    place: Option<Place>,
    /// What was warmed for this reader.
    pub(super) warm: Option<(SegmentId, Range<u32>)>,
    /// How far a search by time has come, and for which time.
    sought: Option<(u64, Sequence)>,
}

/// The record to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    key: ChannelKey,
    next: Sequence,
    segment: SegmentId,
    /// The kind of the frame.
    kind: FrameKind,
    /// The first message of the block: in another one of the segment the place says nothing.
    block: Sequence,
    /// The frame.
    offset: u32,
    /// Bytes of its payload before the record.
    skip: usize,
}

/// A message in the log. It is lent for the time of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The message's number in its channel.
    pub sequence: Sequence,
    /// When it was stored, in nanoseconds since 1970-01-01 UTC.
    pub timestamp_ns: u64,
    /// How the payload is encoded, a number of the layers above.
    pub encoding: u8,
    /// The payload.
    pub payload: &'a [u8],
    /// What the payload is a part of: bytes of the mapping, or of a frame that was decrypted.
    holder: &'a Bytes,
    /// Whether the holder is memory of its own, which lives as long as a part of it.
    decrypted: bool,
}

/// A decrypted message that is smaller than this part of its frame is copied when it is shared: it
/// must not keep much more memory than its own.
const SHARE_MIN: usize = 4;

impl Stored<'_> {
    /// The payload without a copy; it keeps the segment's mapping alive. That of an encrypted
    /// segment was decrypted, and takes memory as long as it lives: its own, and up to three times
    /// as much beside.
    #[must_use]
    pub fn shared(&self) -> Bytes {
        self.share(self.payload)
    }

    /// The same for a part of the payload.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> Bytes {
        let shared = self.holder.slice_ref(part);
        if self.decrypted && part.len() < self.holder.len() / SHARE_MIN {
            return Bytes::copy_from_slice(part);
        }
        shared
    }
}

/// Why a read ended. What was visited before counts in any case.
#[derive(Debug)]
pub enum ReadEnd {
    /// Everything committed, or asked for, was visited.
    CaughtUp,
    /// There is more: `bytes_max` is used up.
    More,
    /// What follows may be cold: run this elsewhere, hand the result to [`Log::warmed`], and read
    /// on.
    Cold(Warm),
    /// These messages are lost; read on behind them.
    Damaged {
        /// The first one.
        first: Sequence,
        /// The last one.
        last: Sequence,
    },
}

/// What a search by time found.
#[derive(Debug)]
pub enum Seek {
    /// The first message that is not older.
    At(Sequence),
    /// All messages are older.
    End,
    /// Run this elsewhere, hand the result to [`Log::warmed`], and search again with the same
    /// cursor.
    Cold(Warm),
}

/// A part of a segment that can be read.
struct Window<'a> {
    segment: &'a Segment,
    base: u32,
    bytes: Bytes,
    decrypted: &'a Decrypted,
}

/// The records of a frame.
enum FrameRecords<'a> {
    /// Where they lie.
    Stored(&'a [u8]),
    /// A copy.
    Decrypted(Bytes),
}

/// What the messages of a frame are parts of.
struct Holder<'a> {
    holder: &'a Bytes,
    decrypted: bool,
}

/// One call of [`Log::read`].
struct Pass<'v> {
    place: Place,
    until: Sequence,
    bytes_left: usize,
    visited: bool,
    visit: &'v mut dyn FnMut(Stored<'_>),
}

/// The messages between two entries of the index.
struct Stretch {
    /// Frame of the first.
    offset: u32,
    /// No frame of them begins here or behind.
    limit: u32,
    /// The first message of the next entry, or behind the block.
    behind: Sequence,
    /// The kind of its frames.
    kind: FrameKind,
    /// The first message of its block.
    block: Sequence,
}

/// How a stretch ended.
enum Outcome {
    /// It was read to its end.
    Through,
    /// The window was.
    Beyond,
    Ended(ReadEnd),
}

impl Log {
    /// Visits the messages `from..=upto` of a channel in order, as far as they are committed, can
    /// be read without waiting, and fit into `bytes_max` (payloads, and 32 bytes for each
    /// message; one message always fits). Below the first message that is kept it begins with
    /// that.
    pub fn read(
        &self,
        key: ChannelKey,
        from: Sequence,
        upto: Sequence,
        cursor: &mut ReadCursor,
        bytes_max: usize,
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> ReadEnd {
        let Some(channel) = self.index.channel(key) else {
            return ReadEnd::CaughtUp;
        };
        let mut pass = Pass {
            place: Place {
                key,
                next: from.max(channel.first),
                segment: SegmentId::default(),
                kind: FrameKind::Entry,
                block: Sequence::default(),
                offset: 0,
                skip: 0,
            },
            until: upto.min(channel.last),
            bytes_left: bytes_max,
            visited: false,
            visit,
        };
        if let Some(place) = cursor.place
            && place.key == key
            && place.next <= pass.place.next
        {
            // What lies between was passed over, or lies behind it in the same block.
            let next = pass.place.next;
            pass.place = Place { next, ..place };
        }
        let mut window = None;
        let end = loop {
            if pass.place.next > pass.until {
                break ReadEnd::CaughtUp;
            }
            let block = channel.block_for(pass.place.next);
            let block = block.filter(|block| block.from <= pass.until);
            let Some((block, stretch)) = block.and_then(|block| {
                let stretch = block.stretch_for(pass.place.next)?;
                Some((block, stretch))
            }) else {
                break pass.lost(pass.until.next());
            };
            if block.from > pass.place.next {
                break pass.lost(block.from);
            }
            pass.enter(block.segment, &stretch);
            if let Err(end) = self.look(&mut window, &mut pass, &stretch, cursor) {
                break end;
            }
            let outcome = match &window {
                Some(window) => pass.read_stretch(window, &stretch),
                None => Outcome::Through,
            };
            if let Outcome::Ended(end) = outcome {
                break end;
            }
        };
        cursor.place = Some(pass.place);
        end
    }

    /// Makes `window` one that shows the pass's place.
    fn look<'a>(
        &'a self,
        window: &mut Option<Window<'a>>,
        pass: &mut Pass<'_>,
        stretch: &Stretch,
        cursor: &ReadCursor,
    ) -> Result<(), ReadEnd> {
        let place = &mut pass.place;
        let segment = self.segments.get(place.segment);
        let Some(segment) = segment else {
            return Err(pass.lost(stretch.behind));
        };
        if let Some(end) = segment.skip_at(place.offset) {
            (place.offset, place.skip) = (end, 0);
        }
        let shown = window.as_ref().is_some_and(|window| {
            window.segment.id == place.segment && window.contains(place.offset)
        });
        if shown {
            return Ok(());
        }
        let (id, offset) = (place.segment, place.offset);
        let readable = self.readable_end(segment);
        let region = segment.region.as_ref().filter(|_| offset < readable);
        let Some(region) = region.filter(|_| offset < stretch.limit) else {
            return Err(pass.lost(stretch.behind));
        };
        let warm = cursor.warm.as_ref().filter(|(warmed, _)| *warmed == id);
        let hot_from = self.segments.hot_from(segment, self.committed);
        let to = match &warm {
            _ if offset >= hot_from => readable,
            Some((_, warm)) if warm.contains(&offset) => warm.end.min(readable),
            _ => {
                // One message here and one there: not a whole window for each.
                let near = warm.is_some_and(|(_, warm)| {
                    let ahead = warm.end.saturating_add(AHEAD_BYTES);
                    (warm.start..ahead).contains(&offset)
                });
                let goes_on = near || pass.until >= stretch.behind;
                let len = if goes_on {
                    WARM_BYTES
                } else {
                    stretch.limit - offset
                };
                return Err(ReadEnd::Cold(Warm {
                    len,
                    region: region.clone(),
                    seed: self.seed(id, segment.generation),
                    segment: id,
                    generation: segment.generation,
                    range: offset..readable,
                    // Who reads here and there may come back.
                    release: self.behind(cursor).filter(|_| goes_on),
                }));
            }
        };
        // Nothing is shown that could not be touched.
        let to = to.min(segment.skip_behind(offset));
        let Some(bytes) = region.slice(offset..to) else {
            return Err(pass.lost(stretch.behind));
        };
        *window = Some(Window {
            segment,
            base: offset,
            bytes,
            decrypted: &self.decrypted,
        });
        Ok(())
    }

    /// What a reader has behind it: it has no use for it any more. From the beginning of the
    /// segment on, since the kernel maps neighbours of what is touched, those already let go too.
    pub(super) fn behind(&self, cursor: &ReadCursor) -> Option<(Arc<dyn Region>, Range<u32>)> {
        let (id, range) = cursor.warm.clone()?;
        let region = self.segments.get(id)?.region.clone()?;
        Some((region, 0..range.end))
    }

    /// Where what is committed ends in a segment.
    pub(super) fn readable_end(&self, segment: &Segment) -> u32 {
        let committed = self.committed;
        match segment.id.cmp(&committed.segment()) {
            std::cmp::Ordering::Less => segment.end.unwrap_or(0),
            std::cmp::Ordering::Equal => committed.offset(),
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Searches the first message of a channel that is not older than `timestamp_ns`.
    pub fn seek_time(&self, key: ChannelKey, timestamp_ns: u64, cursor: &mut ReadCursor) -> Seek {
        let channel = self.index.channel(key);
        let from = channel.and_then(|channel| channel.seek_from(timestamp_ns));
        let Some(mut from) = from else {
            return Seek::End;
        };
        if let Some((time, at)) = cursor.sought
            && time == timestamp_ns
        {
            from = from.max(at);
        }
        loop {
            let mut found = None;
            let mut next = from;
            let end = self.read(
                key,
                from,
                Sequence::new(u64::MAX),
                cursor,
                SEEK_BYTES,
                &mut |stored| {
                    if found.is_none() && stored.timestamp_ns >= timestamp_ns {
                        found = Some(stored.sequence);
                    }
                    next = stored.sequence.next();
                },
            );
            if let Some(found) = found {
                return Seek::At(found);
            }
            from = match end {
                ReadEnd::More => next,
                ReadEnd::Damaged { last, .. } => last.next(),
                ReadEnd::CaughtUp => return Seek::End,
                ReadEnd::Cold(warm) => {
                    cursor.sought = Some((timestamp_ns, next));
                    return Seek::Cold(warm);
                }
            };
        }
    }
}

impl Block {
    fn stretch_for(&self, sequence: Sequence) -> Option<Stretch> {
        let (at, entry) = self.entry_for(sequence)?;
        let limit = entry.offset.saturating_add(super::index::ENTRY_DISTANCE);
        // The frame of the next entry may begin with the last of these.
        let (behind, limit) = match self.entries.get(at + 1) {
            Some(next) => (
                self.sequence_at(next),
                limit.min(next.offset.saturating_add(8)),
            ),
            None => (self.last.next(), limit),
        };
        Some(Stretch {
            block: self.first,
            offset: entry.offset,
            limit,
            behind,
            kind: if self.carried {
                FrameKind::Carried
            } else {
                FrameKind::Entry
            },
        })
    }
}

impl Window<'_> {
    fn contains(&self, offset: u32) -> bool {
        offset >= self.base && to_usize(offset - self.base) < self.bytes.len()
    }

    /// The frame at an offset: this process has written or checked it.
    fn frame(&self, offset: u32) -> Option<(FrameHeader, &[u8])> {
        let bytes = self.bytes.get(to_usize(offset.checked_sub(self.base)?)..)?;
        let header = FrameHeader::decode_trusted(bytes).ok()?;
        Some((header, header.payload(bytes).ok()?))
    }

    /// The records of the frame at an offset; `None` when they cannot be decrypted.
    fn records<'b>(
        &self,
        header: &FrameHeader,
        offset: u32,
        stored: &'b [u8],
    ) -> Option<FrameRecords<'b>> {
        let cipher = &self.segment.cipher;
        if cipher.is_plain() && !header.is_encrypted() {
            return Some(FrameRecords::Stored(stored));
        }
        let at = Position::new(self.segment.id, offset);
        if let Some(kept) = self.decrypted.get(at) {
            return Some(FrameRecords::Decrypted(kept));
        }
        let records = cipher.decrypt(header, offset, stored).ok()?;
        let records = Bytes::from(records.into_owned());
        self.decrypted.add(at, &records);
        Some(FrameRecords::Decrypted(records))
    }
}

impl Pass<'_> {
    /// Everything up to `behind` is lost.
    fn lost(&mut self, behind: Sequence) -> ReadEnd {
        // Where the walk has come to may lie behind what comes next.
        (self.place.offset, self.place.skip) = (0, 0);
        let first = self.place.next;
        let last = behind.get().saturating_sub(1).min(self.until.get());
        let last = Sequence::new(last.max(first.get()));
        self.place.next = last.next();
        ReadEnd::Damaged { first, last }
    }

    /// Goes to the beginning of a stretch, unless the place lies within it already.
    fn enter(&mut self, segment: SegmentId, stretch: &Stretch) {
        let place = &mut self.place;
        let here = (segment, stretch.kind, stretch.block);
        let elsewhere = (place.segment, place.kind, place.block) != here;
        if elsewhere || place.offset < stretch.offset {
            (place.segment, place.kind, place.block) = here;
            (place.offset, place.skip) = (stretch.offset, 0);
        }
    }

    fn read_stretch(&mut self, window: &Window<'_>, stretch: &Stretch) -> Outcome {
        while self.place.next < stretch.behind {
            if self.place.next > self.until {
                return Outcome::Ended(ReadEnd::CaughtUp);
            }
            if self.place.offset >= stretch.limit {
                return Outcome::Ended(self.lost(stretch.behind));
            }
            if window.segment.skips() && window.segment.skip_at(self.place.offset).is_some() {
                return Outcome::Beyond;
            }
            if !window.contains(self.place.offset) {
                return Outcome::Beyond;
            }
            let Some((header, payload)) = window.frame(self.place.offset) else {
                return Outcome::Ended(self.lost(stretch.behind));
            };
            if header.kind == stretch.kind && header.slot == Some(self.place.key.slot) {
                let Some(records) = window.records(&header, self.place.offset, payload) else {
                    return Outcome::Ended(self.lost(stretch.behind));
                };
                let (holder, payload, decrypted) = match &records {
                    FrameRecords::Stored(payload) => (&window.bytes, *payload, false),
                    FrameRecords::Decrypted(records) => (records, &records[..], true),
                };
                let time_ns = header.base_timestamp_ns;
                let holder = Holder { holder, decrypted };
                if let Some(end) = self.read_frame(&holder, payload, time_ns, stretch) {
                    return Outcome::Ended(end);
                }
                // The last of the stretch may be the first of the next, in the same frame.
                if self.place.next >= stretch.behind && self.place.skip < payload.len() {
                    return Outcome::Through;
                }
            }
            self.place.offset += to_u32(header.frame_len());
            self.place.skip = 0;
        }
        Outcome::Through
    }

    fn read_frame(
        &mut self,
        holder: &Holder<'_>,
        payload: &[u8],
        base_time_ns: u64,
        stretch: &Stretch,
    ) -> Option<ReadEnd> {
        while self.place.next < stretch.behind
            && let Some((head, behind)) = payload
                .get(self.place.skip..)
                .and_then(|rest| rest.split_first_chunk::<RECORD_HEADER_BYTES>())
        {
            // Behind what is asked for there may be a gap: the place stays before it.
            if self.place.next > self.until {
                return Some(ReadEnd::CaughtUp);
            }
            let head = RecordHead::decode(head).ok();
            let payload = head.and_then(|head| behind.get(..to_usize(head.payload_len)));
            let (Some(head), Some(payload)) = (head, payload) else {
                return Some(self.lost(stretch.behind));
            };
            // Between the frames of a block there may be those of another one, that were carried
            // to the segment out of order.
            let wanted = head.kind == RecordKind::Message
                && head.channel == self.place.key.channel
                && (self.place.next..stretch.behind).contains(&head.sequence);
            if wanted {
                if head.sequence > self.place.next {
                    return Some(self.lost(head.sequence));
                }
                let cost = payload.len() + RECORD_HEADER_BYTES;
                if self.visited && cost > self.bytes_left {
                    return Some(ReadEnd::More);
                }
                self.bytes_left = self.bytes_left.saturating_sub(cost);
                self.visited = true;
                (self.visit)(Stored {
                    sequence: head.sequence,
                    timestamp_ns: base_time_ns.saturating_add(u64::from(head.time_delta_ns)),
                    encoding: head.encoding,
                    payload,
                    holder: holder.holder,
                    decrypted: holder.decrypted,
                });
                self.place.next = head.sequence.next();
            }
            self.place.skip += record_len(payload.len());
        }
        None
    }
}

const _: () = assert!(FRAME_HEADER_BYTES == 64);
