//! Where messages lie: per channel, sparse, in memory.
//!
//! A channel has a block for each segment that holds messages of it, in order of sequence. A block
//! has an entry of 16 bytes for the first frame with messages of the channel, and one for each
//! further such frame that begins at least [`ENTRY_DISTANCE`] behind the last entry. What lies
//! between two entries is found by walking frames.

mod blocks;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(super) use self::blocks::{Block, ChannelIndex, Messages};
use super::LogStats;
use super::segments::Segments;
use crate::checkpoint::ChannelFloor;
use crate::id::{ChannelKey, Position, SegmentId, Sequence};
use crate::segment_index::{self, Entry};

/// Frames that begin closer than this behind an entry get none of their own. It bounds how far a
/// reader walks.
pub(super) const ENTRY_DISTANCE: u32 = 16 << 10;

/// What a channel holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The first message that is kept; behind `last` when none is. 0 for an unknown channel.
    pub first: Sequence,
    /// The last message, trimmed or not. 0 when there never was one.
    pub last: Sequence,
    /// Messages kept.
    pub count: u64,
    /// Bytes of their payloads; estimated from the neighbours where a trim ended between two
    /// entries of the index.
    pub bytes: u64,
}

/// What the index tells of a channel and one of its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Bytes of the payloads that are kept.
    pub bytes: u64,
    /// Bytes that the index of the channel takes in memory.
    pub index_bytes: usize,
    /// About when the message was stored, in nanoseconds since 1970: never too late, and too early
    /// by what lies in 16 KiB of frames. `None` when the index does not know it.
    pub time_ns: Option<u64>,
}

/// Hashes the two numbers of a key; they come from our own records, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u32(u32::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = self.0.rotate_left(20) ^ u64::from(number);
        self.0 = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The index of a log.
#[derive(Debug, Default)]
pub(super) struct Index {
    channels: HashMap<ChannelKey, ChannelIndex, BuildHasherDefault<KeyHasher>>,
    /// Where channels begin is known: from the checkpoint, or because there was none. Before, the
    /// least message that was found is taken for it.
    settled: bool,
    /// Everything that is kept is known: recovery is over.
    complete: bool,
    /// Counts what may free something: trims, deletions, settlements of queues.
    pub(super) trims: u64,
}

impl Index {
    pub(super) fn channel(&self, key: ChannelKey) -> Option<&ChannelIndex> {
        self.channels.get(&key)
    }

    /// Adds messages of the frame at `at`. Those that are there already are left out.
    pub(super) fn push(
        &mut self,
        key: ChannelKey,
        at: Position,
        messages: &Messages,
        segments: &mut Segments,
    ) {
        let channel = self.channels.entry(key).or_default();
        let least = match channel.blocks.back() {
            Some(block) => block.last.next(),
            None => channel.first,
        };
        if messages.last < least {
            return;
        }
        let messages = &Messages {
            first: messages.first.max(least),
            ..*messages
        };
        if channel.first == Sequence::default() {
            channel.first = messages.first;
        }
        match channel.blocks.back() {
            Some(block) if block.segment == at.segment() && !block.carried => {
                let last = channel.blocks.len() - 1;
                channel.push_to(last, at, messages, |from, to| {
                    let segment = segments.get(at.segment());
                    segment.is_some_and(|segment| segment.skip_behind(from) < to)
                });
            }
            _ => {
                channel.insert(Block::new(at, false, messages));
                segments.add_block(at.segment(), key);
            }
        }
    }

    /// Takes note that messages were carried to the frame at `at`: they count there, and no longer
    /// where they were.
    ///
    /// Messages of a block are carried in order, and all that are needed. So those before them in
    /// the block are needed no more; except that some of a damaged segment could not be read: of
    /// such a one it stays what was not carried.
    ///
    /// Messages that follow one another in their new segment share a block, also when some between
    /// them are nowhere any more: a block for every gap would cost more than small messages.
    ///
    /// In recovery neither is known: what lies between may be found later in the log.
    pub(super) fn carry(
        &mut self,
        key: ChannelKey,
        at: Position,
        messages: &Messages,
        segments: &mut Segments,
    ) {
        let sequence = messages.first;
        let channel = self.channels.entry(key).or_default();
        if channel.first == Sequence::default() || !self.settled && sequence < channel.first {
            channel.first = sequence;
        }
        let block = channel.block_for(sequence);
        let newer =
            block.is_some_and(|block| block.from <= sequence && block.segment >= at.segment());
        if newer || messages.last < channel.first {
            return;
        }
        let whole = block.filter(|block| {
            let segment = segments.get(block.segment);
            let sound = segment.is_some_and(|segment| !segment.skips());
            self.complete && sound && block.from <= sequence
        });
        let from = whole.map_or(sequence, |block| block.from);
        channel.cut(from, messages.last, |segment, added| {
            segments.change_block(segment, key, added);
        });
        let behind = channel
            .blocks
            .partition_point(|block| block.last < sequence);
        let before = behind.checked_sub(1).filter(|before| {
            channel.blocks.get(*before).is_some_and(|block| {
                let follows =
                    block.last.next() == sequence || self.complete && block.reaches(messages.last);
                block.carried && block.segment == at.segment() && follows
            })
        });
        if let Some(before) = before {
            channel.push_to(before, at, messages, |_, _| false);
        } else {
            channel.insert(Block::new(at, true, messages));
            segments.add_block(at.segment(), key);
        }
    }

    /// Messages up to and including `through` are gone.
    pub(super) fn trim(&mut self, key: ChannelKey, through: Sequence, segments: &mut Segments) {
        let Some(channel) = self.channels.get_mut(&key) else {
            return;
        };
        if through < channel.first {
            return;
        }
        self.trims += 1;
        channel.first = through.next();
        // In recovery the index may not know what is trimmed: the index of a sealed segment is
        // written without it when the trim came first.
        channel.last = channel.last.max(through);
        while let Some(block) = channel.blocks.front()
            && block.last <= through
        {
            segments.remove_block(block.segment);
            channel.pop_front();
        }
    }

    /// The channel is gone.
    pub(super) fn delete(&mut self, key: ChannelKey, segments: &mut Segments) {
        self.trims += 1;
        let channel = self.channels.remove(&key).unwrap_or_default();
        for block in &channel.blocks {
            segments.remove_block(block.segment);
        }
    }

    /// Forgets the blocks of some channels in a segment that `needed` does not want.
    pub(super) fn release(
        &mut self,
        segment: SegmentId,
        keys: &[ChannelKey],
        needed: &dyn Fn(ChannelKey, Sequence, Sequence) -> bool,
        segments: &mut Segments,
    ) {
        for key in keys {
            let Some(channel) = self.channels.get_mut(key) else {
                continue;
            };
            let released = channel.release(segment, |first, last| needed(*key, first, last));
            for _ in 0..released {
                segments.remove_block(segment);
            }
            if released > 0 {
                channel.join(|segment| segments.remove_block(segment));
            }
        }
    }

    /// The channels, in no order.
    pub(super) fn keys(&self) -> Vec<ChannelKey> {
        self.channels.keys().copied().collect()
    }

    /// What every channel keeps, in order of the keys: for a checkpoint.
    pub(super) fn floors(&self) -> Vec<ChannelFloor> {
        let floors = self.channels.iter().map(|(key, channel)| ChannelFloor {
            key: *key,
            first: channel.first,
            last: channel.last,
        });
        let mut floors: Vec<_> = floors.collect();
        floors.sort_unstable_by_key(|floor| floor.key);
        floors
    }

    /// Brings back what a checkpoint says: channels that it does not name are gone, and of the
    /// others what lies before the first message that they keep. What cannot be found of the rest
    /// is lost, which readers are told.
    pub(super) fn keep(&mut self, floors: &[ChannelFloor], segments: &mut Segments) {
        self.settled = true;
        let mut kept = std::mem::take(&mut self.channels);
        for ChannelFloor { key, first, last } in floors {
            let mut channel = kept.remove(key).unwrap_or_default();
            channel.last = channel.last.max(*last);
            self.channels.insert(*key, channel);
            self.trim(*key, Sequence::new(first.get().saturating_sub(1)), segments);
            if let Some(channel) = self.channels.get_mut(key) {
                channel.first = *first;
            }
        }
        for channel in kept.values() {
            for block in &channel.blocks {
                segments.remove_block(block.segment);
            }
        }
    }

    /// Recovery is over: nothing else will be found.
    pub(super) fn complete(&mut self, segments: &mut Segments) {
        self.complete = true;
        for channel in self.channels.values_mut() {
            channel.join(|segment| segments.remove_block(segment));
        }
    }

    /// Adds a block that was read from the index of a sealed segment; the segments come in order.
    pub(super) fn restore(
        &mut self,
        segment: SegmentId,
        block: segment_index::Block,
        segments: &mut Segments,
    ) {
        let key = block.key;
        let channel = self.channels.entry(key).or_default();
        let overlaps = block.first <= channel.last;
        if overlaps && !block.carried || block.entries.is_empty() {
            return;
        }
        if channel.first == Sequence::default() || block.first < channel.first {
            channel.first = block.first;
        }
        channel.cut(block.first, block.last, |segment, added| {
            segments.change_block(segment, key, added);
        });
        segments.add_block(segment, key);
        channel.insert(Block {
            segment,
            carried: block.carried,
            first: block.first,
            from: block.first,
            last: block.last,
            base_time_ns: block.base_time_ns,
            last_time_ns: block.last_time_ns,
            bytes: block.bytes,
            entries: block.entries,
        });
    }

    /// The blocks of a segment that has blocks of these channels.
    pub(super) fn blocks_in<'a>(
        &'a self,
        segment: SegmentId,
        keys: &[ChannelKey],
    ) -> impl Iterator<Item = (ChannelKey, &'a ChannelIndex, &'a Block)> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().flat_map(move |key| {
            let channel = self.channels.get(&key);
            channel.into_iter().flat_map(move |channel| {
                let blocks = channel.blocks.iter();
                let of_segment = blocks.filter(move |block| block.segment == segment);
                of_segment.map(move |block| (key, channel, block))
            })
        })
    }

    /// The blocks of a segment, for its index on disk.
    pub(super) fn blocks_of(
        &self,
        segment: SegmentId,
        keys: &[ChannelKey],
    ) -> Vec<segment_index::Block> {
        let blocks = self.blocks_in(segment, keys);
        let blocks = blocks.map(|(key, _, block)| segment_index::Block {
            key,
            carried: block.carried,
            first: block.from,
            last: block.last,
            base_time_ns: block.base_time_ns,
            last_time_ns: block.last_time_ns,
            bytes: block.kept_bytes(block.from),
            entries: block.kept_entries(),
        });
        blocks.collect()
    }

    pub(super) fn usage(&self, key: ChannelKey) -> Usage {
        self.channel(key).map_or_else(Usage::default, |channel| {
            let last = channel.last.get();
            Usage {
                first: channel.first,
                last: channel.last,
                count: (last + 1).saturating_sub(channel.first.get().max(1)),
                bytes: channel.bytes(),
            }
        })
    }

    pub(super) fn add_to(&self, stats: &mut LogStats) {
        stats.channels = self.channels.len();
        for channel in self.channels.values() {
            stats.live_bytes += channel.bytes();
            stats.index_bytes += index_bytes(channel);
        }
    }

    pub(super) fn through_time(&self, key: ChannelKey, before_ns: u64) -> Option<Sequence> {
        self.channel(key)?.through_time(before_ns)
    }

    pub(super) fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        self.channel(key)?.through_bytes(bytes_max)
    }

    pub(super) fn depth(&self, key: ChannelKey, sequence: Sequence) -> Depth {
        self.channel(key)
            .map_or_else(Depth::default, |channel| Depth {
                bytes: channel.bytes(),
                index_bytes: index_bytes(channel),
                time_ns: channel.time_of(sequence),
            })
    }
}

fn index_bytes(channel: &ChannelIndex) -> usize {
    let entries = channel.blocks.iter().map(|block| block.entries.capacity());
    size_of::<(ChannelKey, ChannelIndex)>()
        + channel.blocks.capacity() * size_of::<Block>()
        + entries.sum::<usize>() * size_of::<Entry>()
}
