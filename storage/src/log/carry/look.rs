//! When carrying pays.
//!
//! Segments go oldest first, so what one of them keeps holds all behind it (rule L12). Two things
//! are looked at:
//!
//! - Logs with queues: when the segments have almost twice as many bytes as the messages that are
//!   needed, all of them are carried, oldest first. Segments that keep much are among them; but
//!   each round through the log frees almost as much as it copies.
//! - What the oldest segments keep, up to some segment, when it is only a small part of them.
//!
//! Segments of which nothing is needed cost nothing: they are forgotten before anything is carried.

use super::super::index::{Block, ChannelIndex};
use super::super::keeps::Keeps;
use super::super::segments::Segment;
use super::{CHANNELS_MAX, Carried, Carrying, Log};
use crate::frame::FRAME_HEADER_BYTES;
use crate::id::{ChannelKey, SegmentId};
use crate::record::RECORD_HEADER_BYTES;

/// Segments are carried when that costs less than this part of what it frees.
const GAIN_FACTOR: u64 = 4;

/// Sealed segments may have so many quarters of the bytes that are needed.
const SPACE_QUARTERS: u64 = 7;

/// Segments that keep something, looked at from the oldest on.
const KEEPERS_MAX: usize = 64;

/// Blocks of the index that are estimated for one look.
const BLOCKS_MAX: usize = 1024;

/// Segments that are carried by the same figures, where counting takes long.
const SEGMENTS_MAX: usize = 8;

/// Messages of a block that are asked for, to tell how many are needed.
const SAMPLES: u64 = 16;

/// Bytes of a record beside its payload: its head, and half of the most padding.
const RECORD_BYTES: u64 = 36;
const _: () = assert!(RECORD_HEADER_BYTES == 32);

/// What [`Log::look_for_carrying`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is nothing to carry.
    Nothing,
    /// It takes more: call again, at once if you like.
    More,
    /// [`Log::carry_some`] has something to do.
    Found,
}

/// What changes when there may be more to carry: trims, the oldest segment, the newest one.
type Moment = (u64, SegmentId, SegmentId);

/// What is known of looking for something to carry.
#[derive(Debug, Default)]
pub(in crate::log) struct Looks {
    /// When it was last looked in vain.
    last: Option<Moment>,
    now: Option<Looking>,
    round: Option<Round>,
    /// The last round freed little: bytes of the segments and of what was needed then. The figures
    /// deceive, so that none begins until they have changed a lot.
    futile: Option<(u64, u64)>,
    /// Bytes of frame headers for each message that was carried.
    header_bytes: u64,
}

/// A look that takes more than one call.
#[derive(Debug)]
struct Looking {
    begun: Moment,
    /// The segment whose channels are asked for, and how many were.
    swept: (SegmentId, usize),
    needed: Option<Needed>,
}

/// Counts what is needed of all channels.
#[derive(Debug, Default)]
struct Needed {
    channels: Vec<ChannelKey>,
    counted: usize,
    bytes: u64,
    /// Some channel is a queue.
    sparse: bool,
    /// Segments that were found with these figures.
    used: usize,
}

impl Needed {
    /// Counts a segment; whether the next one needs new figures.
    fn is_used_up(&mut self) -> bool {
        self.used += 1;
        self.channels.len() <= CHANNELS_MAX || self.used >= SEGMENTS_MAX
    }
}

/// A way through the log, up to where it ended at the beginning.
#[derive(Debug)]
struct Round {
    until: SegmentId,
    freed: u64,
    appended: u64,
}

impl Looks {
    /// A segment was carried.
    pub(super) fn carried(&mut self, carried: &Carried, segment: Option<&Segment>) {
        let header = u64::try_from(FRAME_HEADER_BYTES).unwrap_or(64);
        let headers = header.saturating_mul(carried.frames);
        if let Some(header) = headers.checked_div(carried.messages) {
            self.header_bytes = u64::midpoint(self.header_bytes, header);
        }
        if let Some(round) = &mut self.round {
            round.freed += segment.map_or(0, used_bytes);
            round.appended += carried.bytes;
        }
    }
}

fn used_bytes(segment: &Segment) -> u64 {
    u64::from(segment.end.unwrap_or(segment.len))
}

impl Log {
    /// Looks for something to carry, a little with each call, and forgets segments of which
    /// nothing is needed. It appends nothing and disturbs nobody.
    pub fn look_for_carrying(&mut self, keeps: &dyn Keeps) -> Look {
        if self.poisoned.is_some() {
            return Look::Nothing;
        }
        if self.carrying.is_some() {
            return Look::Found;
        }
        let front = self.segments.iter().next().map(|segment| segment.id);
        let now = (
            self.index.trims,
            front.unwrap_or_default(),
            self.committed.segment(),
        );
        if self.looks.now.is_none() && self.looks.last == Some(now) {
            return Look::Nothing;
        }
        let mut looking = self.looks.now.take().unwrap_or(Looking {
            begun: now,
            swept: (SegmentId::default(), 0),
            needed: None,
        });
        let found = self.look_on(&mut looking, keeps);
        if found == Look::Nothing {
            self.looks.last = Some(looking.begun);
            self.looks.round = None;
        } else {
            self.looks.now = Some(looking);
        }
        found
    }

    fn look_on(&mut self, looking: &mut Looking, keeps: &dyn Keeps) -> Look {
        let Some(keeper) = self.keeper() else {
            return Look::Nothing;
        };
        if looking.swept.0 != keeper.id {
            looking.swept = (keeper.id, 0);
        }
        let (id, done) = looking.swept;
        if done < keeper.channels.len() {
            self.release_some(id, done, &|key, first, last| {
                keeps.next_kept(key, first, last).is_some()
            });
            looking.swept.1 = done + CHANNELS_MAX;
            return Look::More;
        }
        // What is damaged and needed stays where it is.
        if keeper.carried {
            return Look::Nothing;
        }
        if !self.count_needed(&mut looking.needed, keeps) {
            return Look::More;
        }
        let needed = looking.needed.as_ref();
        let fills = needed.is_some_and(|needed| {
            let wasteful = needed.sparse && self.is_wasteful(needed.bytes);
            wasteful && self.begin_segment(id, needed.bytes)
        });
        if !fills && !self.carrying_pays(keeps) {
            return Look::Nothing;
        }
        self.carrying = Some(Carrying::new(id, self.needed_entries(id, keeps)));
        // Good enough for some segments more.
        looking.needed.take_if(|needed| needed.is_used_up());
        Look::Found
    }

    /// The oldest segment that keeps something; those before it only wait to be dropped.
    fn keeper(&self) -> Option<&Segment> {
        let mut segments = self.segments.iter();
        let keeper = segments.find(|segment| segment.live_blocks > 0)?;
        (keeper.id < self.committed.segment()).then_some(keeper)
    }

    /// Counts what is needed of some more channels; whether these were all.
    fn count_needed(&self, needed: &mut Option<Needed>, keeps: &dyn Keeps) -> bool {
        let needed = needed.get_or_insert_with(|| Needed {
            channels: self.index.keys(),
            ..Needed::default()
        });
        let rest = needed.channels.get(needed.counted..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        let record_bytes = RECORD_BYTES + self.looks.header_bytes;
        for key in rest.iter().take(CHANNELS_MAX) {
            let (messages, bytes) = if let Some(live) = keeps.live(*key) {
                needed.sparse = true;
                (live.messages, live.bytes)
            } else {
                let usage = self.index.usage(*key);
                (usage.count, usage.bytes)
            };
            let heads = messages.saturating_mul(record_bytes);
            needed.bytes = needed.bytes.saturating_add(bytes).saturating_add(heads);
        }
        needed.counted += CHANNELS_MAX;
        false
    }

    /// Bytes of the sealed segments from the first on that keeps something.
    fn kept_segments_bytes(&self) -> u64 {
        let sealed = self.segments.iter();
        let sealed = sealed.filter(|segment| segment.id < self.committed.segment());
        let kept = sealed.skip_while(|segment| segment.live_blocks == 0);
        kept.map(used_bytes).sum()
    }

    /// Whether the sealed segments have almost twice the bytes that are needed.
    fn is_wasteful(&mut self, needed: u64) -> bool {
        let used = self.kept_segments_bytes();
        if let Some((used_then, needed_then)) = self.looks.futile {
            if used < used_then / 2 * 3 && needed > needed_then / 2 {
                return false;
            }
            self.looks.futile = None;
        }
        used.saturating_mul(4) >= needed.saturating_mul(SPACE_QUARTERS)
    }

    /// Goes on with the round through the log, or begins one; `false` when one has freed little.
    fn begin_segment(&mut self, id: SegmentId, needed: u64) -> bool {
        if let Some(round) = self.looks.round.take_if(|round| round.until <= id)
            && round.appended.saturating_mul(5) > round.freed.saturating_mul(4)
        {
            self.looks.futile = Some((self.kept_segments_bytes(), needed));
            return false;
        }
        let until = self.committed.segment();
        self.looks.round.get_or_insert(Round {
            until,
            freed: 0,
            appended: 0,
        });
        true
    }

    /// The entries of the index for what is needed of a segment; `None` when those would take long
    /// to find.
    fn needed_entries(&self, id: SegmentId, keeps: &dyn Keeps) -> Option<Vec<u32>> {
        let segment = self.segments.get(id)?;
        if segment.live_blocks > CHANNELS_MAX {
            return None;
        }
        let mut entries = Vec::new();
        for (key, channel, block) in self.index.blocks_in(id, &segment.channels) {
            let mut next = channel.first.max(block.from);
            while let Some(needed) = keeps.next_kept(key, next, block.last)
                && let Some((at, entry)) = block.entry_for(needed)
            {
                entries.push(entry.offset);
                let Some(behind) = block.entries.get(at + 1) else {
                    break;
                };
                next = block.sequence_at(behind);
            }
        }
        entries.sort_unstable();
        entries.dedup();
        Some(entries)
    }

    /// Whether carrying what the oldest segments keep, up to some segment, frees much more than it
    /// costs.
    fn carrying_pays(&self, keeps: &dyn Keeps) -> bool {
        let (mut cost, mut gain, mut kept_by, mut blocks) = (0_u64, 0_u64, 0, 0);
        for segment in self.segments.iter() {
            // What is damaged stays where it is.
            let stays = segment.carried && segment.live_blocks > 0;
            blocks += segment.live_blocks;
            let looked_long = kept_by > KEEPERS_MAX || blocks > BLOCKS_MAX;
            if stays || segment.id >= self.committed.segment() || looked_long {
                return false;
            }
            gain += u64::from(segment.len);
            if segment.live_blocks > 0 {
                kept_by += 1;
                cost = cost.saturating_add(self.kept_bytes(segment, keeps));
            }
            if cost.saturating_mul(GAIN_FACTOR) <= gain {
                return true;
            }
        }
        false
    }

    /// Bytes of the records that a segment keeps, about.
    fn kept_bytes(&self, segment: &Segment, keeps: &dyn Keeps) -> u64 {
        let blocks = self.index.blocks_in(segment.id, &segment.channels);
        let bytes = blocks.map(|(key, channel, block)| kept_of_block(key, channel, block, keeps));
        bytes.fold(0, u64::saturating_add)
    }
}

fn kept_of_block(key: ChannelKey, channel: &ChannelIndex, block: &Block, keeps: &dyn Keeps) -> u64 {
    let from = channel.first.max(block.from);
    let count = block.last.get().saturating_sub(from.get()) + 1;
    let heads = count.saturating_mul(RECORD_BYTES);
    let bytes = block.kept_bytes(channel.first).saturating_add(heads);
    let Some(live) = keeps.live(key) else {
        return bytes;
    };
    // A few messages of a channel may all be in this block.
    if live.messages.saturating_mul(SAMPLES) < count {
        return bytes / count.max(1) * live.messages.max(1);
    }
    let samples = count.min(SAMPLES);
    let kept = (0..samples).filter(|sample| {
        // Never the same place of each stretch: every second message may be settled.
        let stretch = count / samples;
        let at = sample * stretch + sample.wrapping_mul(0x9e37_79b9) % stretch.max(1);
        keeps.keeps(key, crate::Sequence::new(from.get() + at))
    });
    let kept = u64::try_from(kept.count()).unwrap_or(samples);
    bytes / samples.max(1) * kept
}
