//! Where messages lie: per channel, sparse, in memory.
//!
//! A channel has a block for each segment that holds messages of it, in order of sequence. A block
//! has an entry of 16 bytes for the first frame with messages of the channel, and one for each
//! further such frame that begins at least [`ENTRY_DISTANCE`] behind the last entry. What lies
//! between two entries is found by walking frames.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::LogStats;
use super::segments::Segments;
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

/// The messages of a channel in one segment.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub segment: SegmentId,
    /// In carried frames.
    pub carried: bool,
    pub first: Sequence,
    pub last: Sequence,
    pub base_time_ns: u64,
    pub last_time_ns: u64,
    pub bytes: u64,
    pub entries: Vec<Entry>,
}

impl Block {
    fn new(at: Position, sequence: Sequence, time_ns: u64) -> Self {
        Self {
            segment: at.segment(),
            carried: false,
            first: sequence,
            last: sequence,
            base_time_ns: time_ns,
            last_time_ns: time_ns,
            bytes: 0,
            entries: Vec::new(),
        }
    }

    /// Adds a message of the frame at `at`. The walk from an entry must not meet frames that do not
    /// count, so behind some there is a new entry: `gap` tells whether some lie between two places.
    fn push(
        &mut self,
        at: Position,
        &Message {
            sequence,
            time_ns,
            bytes,
        }: &Message,
        gap: impl FnOnce(u32, u32) -> bool,
    ) {
        let wanted = self.entries.last().is_none_or(|last| {
            at.offset() >= last.offset.saturating_add(ENTRY_DISTANCE)
                || gap(last.offset, at.offset())
        });
        if wanted {
            let milliseconds = time_ns.saturating_sub(self.base_time_ns) / 1_000_000;
            self.entries.push(Entry {
                sequence_delta: saturated(sequence.get() - self.first.get()),
                offset: at.offset(),
                time_delta_ms: saturated(milliseconds),
                bytes_before: saturated(self.bytes),
            });
        }
        self.last = sequence;
        self.last_time_ns = self.last_time_ns.max(time_ns);
        self.bytes += u64::from(bytes);
    }

    /// First sequence at an entry.
    pub(super) fn sequence_at(&self, entry: &Entry) -> Sequence {
        Sequence::new(self.first.get() + u64::from(entry.sequence_delta))
    }

    /// Whether everything before an entry is surely older than `time_ns`. Entries know their time
    /// to the millisecond, rounded down.
    fn begins_before(&self, entry: &Entry, time_ns: u64) -> bool {
        let ends = (u64::from(entry.time_delta_ms) + 1).saturating_mul(1_000_000);
        entry.time_delta_ms < u32::MAX && self.base_time_ns.saturating_add(ends) <= time_ns
    }

    /// The last entry at or before a sequence, and its number.
    pub(super) fn entry_for(&self, sequence: Sequence) -> Option<(usize, &Entry)> {
        let behind = self
            .entries
            .partition_point(|entry| self.sequence_at(entry) <= sequence);
        let at = behind.saturating_sub(1);
        self.entries.get(at).map(|entry| (at, entry))
    }

    /// Messages and bytes between an entry and the next one.
    fn group(&self, at: usize) -> Option<Group> {
        let entry = self.entries.get(at)?;
        let first = self.sequence_at(entry);
        let (behind, bytes_behind) = match self.entries.get(at + 1) {
            Some(next) => (self.sequence_at(next), u64::from(next.bytes_before)),
            None => (self.last.next(), self.bytes),
        };
        Some(Group {
            first,
            count: behind.get().saturating_sub(first.get()).max(1),
            bytes: bytes_behind.saturating_sub(u64::from(entry.bytes_before)),
            bytes_behind,
        })
    }

    /// Bytes of the messages from `first` on.
    pub(super) fn bytes_from(&self, first: Sequence) -> u64 {
        if first <= self.first {
            return self.bytes;
        }
        let group = self.entry_for(first).and_then(|(at, _)| self.group(at));
        let Some(group) = group.filter(|_| first <= self.last) else {
            return 0;
        };
        let left = group.count - (first.get() - group.first.get()).min(group.count);
        self.bytes.saturating_sub(group.bytes_behind) + group.bytes * left / group.count
    }
}

/// Messages that share an entry.
struct Group {
    first: Sequence,
    count: u64,
    bytes: u64,
    /// Bytes of the block before the next entry.
    bytes_behind: u64,
}

/// The messages of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelIndex {
    /// First message that is kept.
    pub first: Sequence,
    pub last: Sequence,
    /// In order of sequence.
    pub blocks: VecDeque<Block>,
    /// Bytes of all blocks.
    bytes: u64,
}

impl ChannelIndex {
    /// The block that holds a sequence or, if none does, the next one.
    pub(super) fn block_for(&self, sequence: Sequence) -> Option<&Block> {
        let at = self.blocks.partition_point(|block| block.last < sequence);
        self.blocks.get(at)
    }

    /// Bytes that are kept: only the first block may be trimmed in part.
    fn bytes(&self) -> u64 {
        let trimmed = self
            .blocks
            .front()
            .map_or(0, |block| block.bytes - block.bytes_from(self.first));
        self.bytes.saturating_sub(trimmed)
    }

    /// Where a search for the first message at or behind a time begins: everything before is
    /// older.
    pub(super) fn seek_from(&self, time_ns: u64) -> Option<Sequence> {
        let at = self
            .blocks
            .partition_point(|block| block.last_time_ns < time_ns);
        let block = self.blocks.get(at)?;
        let older = block
            .entries
            .partition_point(|entry| block.begins_before(entry, time_ns));
        let entry = block.entries.get(older.saturating_sub(1))?;
        Some(block.sequence_at(entry).max(self.first))
    }

    fn through_time(&self, before_ns: u64) -> Option<Sequence> {
        let whole = self
            .blocks
            .partition_point(|block| block.last_time_ns < before_ns);
        let mut through = whole
            .checked_sub(1)
            .and_then(|last| self.blocks.get(last))
            .map(|block| block.last);
        if let Some(block) = self.blocks.get(whole) {
            let older = block
                .entries
                .partition_point(|entry| block.begins_before(entry, before_ns));
            // The messages of the last such entry may be younger, those before it are not.
            let entry = older
                .checked_sub(1)
                .and_then(|last| block.entries.get(last));
            if let Some(entry) = entry.filter(|entry| entry.sequence_delta > 0) {
                through = Some(Sequence::new(block.sequence_at(entry).get() - 1));
            }
        }
        through.filter(|through| *through >= self.first)
    }

    fn through_bytes(&self, bytes_max: u64) -> Option<Sequence> {
        let mut excess = self
            .bytes()
            .checked_sub(bytes_max)
            .filter(|excess| *excess > 0)?;
        for block in &self.blocks {
            let held = block.bytes_from(self.first);
            if held <= excess {
                excess -= held;
                if excess == 0 {
                    return Some(block.last);
                }
                continue;
            }
            // Within this block, at the first entry whose predecessors are enough.
            let keep = held - excess;
            let enough = |at: &usize| {
                let group = block.group(*at);
                group.is_some_and(|group| block.bytes - group.bytes_behind <= keep)
            };
            let at = (0..block.entries.len()).find(enough)?;
            let group = block.group(at)?;
            let behind = block.bytes - group.bytes_behind;
            // As many of the entry's messages as there is room for, if all are of one size.
            let kept = ((keep - behind) * group.count)
                .checked_div(group.bytes)
                .unwrap_or(group.count);
            let cut = group.count - kept.min(group.count);
            let through = Sequence::new((group.first.get() + cut).saturating_sub(1));
            return Some(through).filter(|through| *through >= self.first);
        }
        Some(self.last)
    }
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
}

impl Index {
    pub(super) fn channel(&self, key: ChannelKey) -> Option<&ChannelIndex> {
        self.channels.get(&key)
    }

    /// Adds a message of the frame at `at`. One that is there already is left out.
    pub(super) fn push(
        &mut self,
        key: ChannelKey,
        at: Position,
        message: &Message,
        segments: &mut Segments,
    ) {
        let sequence = message.sequence;
        let channel = self.channels.entry(key).or_default();
        if sequence <= channel.last {
            return;
        }
        if channel.first == Sequence::default() {
            channel.first = sequence;
        }
        channel.last = sequence;
        channel.bytes += u64::from(message.bytes);
        match channel.blocks.back_mut() {
            Some(block) if block.segment == at.segment() => {
                block.push(at, message, |from, to| {
                    let segment = segments.get(at.segment());
                    segment.is_some_and(|segment| segment.skip_behind(from) < to)
                });
            }
            _ => {
                let mut block = Block::new(at, sequence, message.time_ns);
                block.push(at, message, |_, _| false);
                channel.blocks.push_back(block);
                segments.add_block(at.segment(), key);
            }
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
        channel.first = through.next();
        // In recovery the index may not know what is trimmed: the index of a sealed segment is
        // written without it when the trim came first.
        channel.last = channel.last.max(through);
        while let Some(block) = channel.blocks.front()
            && block.last <= through
        {
            segments.remove_block(block.segment);
            channel.bytes = channel.bytes.saturating_sub(block.bytes);
            channel.blocks.pop_front();
        }
    }

    /// The channel is gone.
    pub(super) fn delete(&mut self, key: ChannelKey, segments: &mut Segments) {
        let channel = self.channels.remove(&key).unwrap_or_default();
        for block in &channel.blocks {
            segments.remove_block(block.segment);
        }
    }

    /// What every channel keeps, in order of the keys: for a checkpoint.
    pub(super) fn floors(&self) -> Vec<(ChannelKey, Sequence)> {
        let mut floors: Vec<_> = self
            .channels
            .iter()
            .map(|(key, channel)| (*key, channel.first))
            .collect();
        floors.sort_unstable();
        floors
    }

    /// Brings back what a checkpoint says: channels that it does not name are gone, and of the
    /// others what lies before the first message that they keep.
    pub(super) fn keep(&mut self, floors: &[(ChannelKey, Sequence)], segments: &mut Segments) {
        let mut kept = std::mem::take(&mut self.channels);
        for (key, first) in floors {
            let mut channel = kept.remove(key).unwrap_or_default();
            let before = Sequence::new(first.get().saturating_sub(1));
            channel.last = channel.last.max(before);
            self.channels.insert(*key, channel);
            self.trim(*key, before, segments);
            if let Some(channel) = self.channels.get_mut(key) {
                channel.first = channel.first.max(*first);
            }
        }
        for channel in kept.values() {
            for block in &channel.blocks {
                segments.remove_block(block.segment);
            }
        }
    }

    /// Adds a block that was read from the index of a sealed segment; the segments come in order.
    pub(super) fn restore(
        &mut self,
        segment: SegmentId,
        block: segment_index::Block,
        segments: &mut Segments,
    ) {
        let channel = self.channels.entry(block.key).or_default();
        if block.first <= channel.last || block.entries.is_empty() {
            return;
        }
        if channel.first == Sequence::default() {
            channel.first = block.first;
        }
        channel.last = block.last;
        channel.bytes += block.bytes;
        segments.add_block(segment, block.key);
        channel.blocks.push_back(Block {
            segment,
            carried: block.carried,
            first: block.first,
            last: block.last,
            base_time_ns: block.base_time_ns,
            last_time_ns: block.last_time_ns,
            bytes: block.bytes,
            entries: block.entries,
        });
    }

    /// The blocks of a segment, for its index on disk.
    pub(super) fn blocks_of(
        &self,
        segment: SegmentId,
        keys: &[ChannelKey],
    ) -> Vec<segment_index::Block> {
        let mut blocks = Vec::with_capacity(keys.len());
        for key in keys {
            let channel = self.channels.get(key);
            let of_segment = channel
                .iter()
                .flat_map(|channel| &channel.blocks)
                .filter(|block| block.segment == segment);
            blocks.extend(of_segment.map(|block| segment_index::Block {
                key: *key,
                carried: block.carried,
                first: block.first,
                last: block.last,
                base_time_ns: block.base_time_ns,
                last_time_ns: block.last_time_ns,
                bytes: block.bytes,
                entries: block.entries.clone(),
            }));
        }
        blocks
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
            let entries = channel.blocks.iter().map(|block| block.entries.capacity());
            stats.index_bytes += size_of::<(ChannelKey, ChannelIndex)>()
                + channel.blocks.capacity() * size_of::<Block>()
                + entries.sum::<usize>() * size_of::<Entry>();
        }
    }

    pub(super) fn through_time(&self, key: ChannelKey, before_ns: u64) -> Option<Sequence> {
        self.channel(key)?.through_time(before_ns)
    }

    pub(super) fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        self.channel(key)?.through_bytes(bytes_max)
    }
}

/// What the index keeps of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub sequence: Sequence,
    pub time_ns: u64,
    pub bytes: u32,
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
