//! The index of one channel.

use std::collections::VecDeque;

use super::ENTRY_DISTANCE;
use crate::id::{Position, SegmentId, Sequence};
use crate::segment_index::Entry;

/// The messages of a channel in one segment.
#[derive(Clone, Debug)]
pub(in crate::log) struct Block {
    pub segment: SegmentId,
    /// In carried frames: copied from an older segment.
    pub carried: bool,
    pub first: Sequence,
    /// The first one that counts here: those before were carried to another segment.
    pub from: Sequence,
    pub last: Sequence,
    pub base_time_ns: u64,
    pub last_time_ns: u64,
    pub bytes: u64,
    pub entries: Vec<Entry>,
}

impl Block {
    pub(super) fn new(at: Position, carried: bool, messages: &Messages) -> Self {
        let (sequence, time_ns) = (messages.first, messages.time_ns);
        let mut block = Self {
            segment: at.segment(),
            carried,
            first: sequence,
            from: sequence,
            last: sequence,
            base_time_ns: time_ns,
            last_time_ns: time_ns,
            bytes: 0,
            entries: Vec::new(),
        };
        block.push(at, messages, |_, _| false);
        block
    }

    /// Adds messages of the frame at `at`. The walk from an entry must not meet frames that do
    /// not count, so behind some there is a new entry: `gap` tells whether some lie between two
    /// places.
    pub(super) fn push(
        &mut self,
        at: Position,
        messages: &Messages,
        gap: impl FnOnce(u32, u32) -> bool,
    ) {
        let wanted = self.entries.last().is_none_or(|last| {
            at.offset() >= last.offset.saturating_add(ENTRY_DISTANCE)
                || gap(last.offset, at.offset())
        });
        if wanted {
            let behind = messages.time_ns.saturating_sub(self.base_time_ns);
            let milliseconds = behind / 1_000_000;
            self.entries.push(Entry {
                sequence_delta: saturated(messages.first.get() - self.first.get()),
                offset: at.offset(),
                time_delta_ms: saturated(milliseconds),
                bytes_before: saturated(self.bytes),
            });
        }
        self.last = messages.last;
        self.last_time_ns = self.last_time_ns.max(messages.last_time_ns);
        self.bytes += messages.bytes;
    }

    /// First sequence at an entry.
    pub(in crate::log) fn sequence_at(&self, entry: &Entry) -> Sequence {
        Sequence::new(self.first.get() + u64::from(entry.sequence_delta))
    }

    /// Whether everything before an entry is surely older than `time_ns`. Entries know their time
    /// to the millisecond, rounded down.
    fn begins_before(&self, entry: &Entry, time_ns: u64) -> bool {
        let ends = (u64::from(entry.time_delta_ms) + 1).saturating_mul(1_000_000);
        entry.time_delta_ms < u32::MAX && self.base_time_ns.saturating_add(ends) <= time_ns
    }

    /// The last entry at or before a sequence, and its number.
    pub(in crate::log) fn entry_for(&self, sequence: Sequence) -> Option<(usize, &Entry)> {
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

    /// Bytes of the messages that count here, of a channel that begins with `first`.
    pub(in crate::log) fn kept_bytes(&self, first: Sequence) -> u64 {
        self.bytes_from(first.max(self.from))
    }

    /// The entries of the messages that count here, as if the block began with them: a walk from
    /// the first of them may meet some that do not, which a reader passes over.
    pub(super) fn kept_entries(&self) -> Vec<Entry> {
        let (at, _) = self.entry_for(self.from).unzip();
        let kept = self.entries.iter().skip(at.unwrap_or(0));
        let bytes_before = self.bytes - self.kept_bytes(self.from);
        let rebased = kept.map(|entry| {
            let sequence = self.sequence_at(entry).max(self.from);
            let bytes = u64::from(entry.bytes_before).saturating_sub(bytes_before);
            Entry {
                sequence_delta: saturated(sequence.get() - self.from.get()),
                bytes_before: saturated(bytes),
                ..*entry
            }
        });
        rebased.collect()
    }

    /// The messages before `first`, as a block of their own. What is split lies near its beginning
    /// as a rule: the rest, which may be large, is not copied.
    fn before(&self, first: Sequence) -> Self {
        let (from, _) = self.entry_for(self.from).unzip();
        let last = Sequence::new(first.get() - 1);
        let (to, _) = self.entry_for(last).unzip();
        let entries = from
            .zip(to)
            .and_then(|(from, to)| self.entries.get(from..=to));
        let mut left = Self {
            entries: entries.unwrap_or_default().to_vec(),
            ..*self
        };
        // As `truncate`, with the entries behind already gone.
        left.bytes -= self.bytes_from(first);
        left.last = last;
        left
    }

    /// Whether a message behind all others can be told from the first by an entry.
    pub(super) fn reaches(&self, last: Sequence) -> bool {
        last.get() - self.first.get() < u64::from(u32::MAX)
    }

    /// Whether a block continues this one: in carried frames of the same segment, behind its own.
    fn is_joined_by(&self, next: &Self) -> bool {
        let ends = self.entries.last().map(|entry| entry.offset);
        let begins = next.kept_from().map(|entry| entry.offset);
        self.carried
            && next.carried
            && self.segment == next.segment
            && self.reaches(next.last)
            && ends
                .zip(begins)
                .is_some_and(|(ends, begins)| ends <= begins)
    }

    /// The entry for the first message that counts.
    fn kept_from(&self) -> Option<&Entry> {
        self.entry_for(self.from).map(|(_, entry)| entry)
    }

    /// Adds the messages of a block that continues this one.
    fn join(&mut self, next: &Self) {
        let ends = self.entries.last().map(|entry| entry.offset);
        let kept = next.kept_bytes(next.from);
        let before = next.bytes - kept;
        let (at, _) = next.entry_for(next.from).unzip();
        for entry in next.entries.iter().skip(at.unwrap_or(0)) {
            // The frame that one ends in may be the one that the other begins in.
            if ends.is_some_and(|ends| ends >= entry.offset) {
                continue;
            }
            let sequence = next.sequence_at(entry).max(next.from);
            let time_ns = next
                .base_time_ns
                .saturating_add(u64::from(entry.time_delta_ms) * 1_000_000);
            let behind = time_ns.saturating_sub(self.base_time_ns);
            let bytes = u64::from(entry.bytes_before).saturating_sub(before);
            self.entries.push(Entry {
                sequence_delta: saturated(sequence.get() - self.first.get()),
                offset: entry.offset,
                time_delta_ms: saturated(behind / 1_000_000),
                bytes_before: saturated(self.bytes + bytes),
            });
        }
        self.last = next.last;
        self.last_time_ns = self.last_time_ns.max(next.last_time_ns);
        self.bytes += kept;
    }

    /// Forgets the messages behind `last`.
    fn truncate(&mut self, last: Sequence) {
        self.bytes -= self.bytes_from(last.next());
        let kept = self
            .entries
            .partition_point(|entry| self.sequence_at(entry) <= last);
        self.entries.truncate(kept);
        self.last = last;
    }

    /// Bytes of the messages from `first` on.
    fn bytes_from(&self, first: Sequence) -> u64 {
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
pub(in crate::log) struct ChannelIndex {
    /// First message that is kept.
    pub first: Sequence,
    pub last: Sequence,
    /// In order of sequence.
    pub blocks: VecDeque<Block>,
    /// Bytes of all blocks, as far as they count, trimmed or not.
    bytes: u64,
}

impl ChannelIndex {
    /// Adds a block behind all others, or in its place among them.
    pub(super) fn insert(&mut self, block: Block) {
        let at = self
            .blocks
            .partition_point(|known| known.last < block.first);
        self.bytes += block.kept_bytes(block.from);
        self.last = self.last.max(block.last);
        self.blocks.insert(at, block);
    }

    /// Adds messages to the block at a place.
    pub(super) fn push_to(
        &mut self,
        number: usize,
        at: Position,
        messages: &Messages,
        gap: impl FnOnce(u32, u32) -> bool,
    ) {
        if let Some(block) = self.blocks.get_mut(number) {
            block.push(at, messages, gap);
            self.bytes += messages.bytes;
            self.last = self.last.max(messages.last);
        }
    }

    /// Takes the first block out.
    pub(super) fn pop_front(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        self.bytes = self.bytes.saturating_sub(block.kept_bytes(block.from));
        Some(block)
    }

    /// Forgets where the messages `first..=last` lie. `changed` hears of the blocks that are gone
    /// (false) and of those that came to be by a split (true).
    pub(super) fn cut(
        &mut self,
        first: Sequence,
        last: Sequence,
        mut changed: impl FnMut(SegmentId, bool),
    ) {
        let mut at = self.blocks.partition_point(|block| block.last < first);
        while let Some(block) = self.blocks.get_mut(at)
            && block.from <= last
        {
            self.bytes = self.bytes.saturating_sub(block.kept_bytes(block.from));
            // What was trimmed is not worth a block that would hold up its segment.
            let kept = block.from.max(self.first);
            let (before, behind) = (first > kept, last < block.last);
            let mut left = (before && behind).then(|| block.before(first));
            match (before, behind) {
                (false, false) => {
                    changed(block.segment, false);
                    self.blocks.remove(at);
                    continue;
                }
                (_, true) => block.from = last.next(),
                (true, false) => block.truncate(Sequence::new(first.get() - 1)),
            }
            self.bytes += block.kept_bytes(block.from);
            if let Some(left) = left.take() {
                changed(left.segment, true);
                self.bytes += left.kept_bytes(left.from);
                self.blocks.insert(at, left);
                return;
            }
            at += 1;
        }
    }

    /// Joins blocks of carried messages that follow each other in one segment; nothing that was
    /// between them is anywhere. `joined` hears of each block that is gone.
    pub(super) fn join(&mut self, mut joined: impl FnMut(SegmentId)) {
        let mut blocks: VecDeque<Block> = VecDeque::new();
        for block in std::mem::take(&mut self.blocks) {
            match blocks.back_mut() {
                Some(last) if last.is_joined_by(&block) => {
                    let before = last.kept_bytes(last.from) + block.kept_bytes(block.from);
                    self.bytes = self.bytes.saturating_sub(before);
                    joined(block.segment);
                    last.join(&block);
                    self.bytes += last.kept_bytes(last.from);
                }
                _ => blocks.push_back(block),
            }
        }
        self.blocks = blocks;
    }

    /// Forgets the blocks of a segment that `needed` does not want; how many those were.
    pub(super) fn release(
        &mut self,
        segment: SegmentId,
        mut needed: impl FnMut(Sequence, Sequence) -> bool,
    ) -> usize {
        let before = self.blocks.len();
        let (first, mut released) = (self.first, 0);
        self.blocks.retain(|block| {
            let stays = block.segment != segment || needed(block.from.max(first), block.last);
            if !stays {
                released += block.kept_bytes(block.from);
            }
            stays
        });
        self.bytes = self.bytes.saturating_sub(released);
        before - self.blocks.len()
    }

    /// The block that holds a sequence or, if none does, the next one.
    pub(in crate::log) fn block_for(&self, sequence: Sequence) -> Option<&Block> {
        let at = self.blocks.partition_point(|block| block.last < sequence);
        self.blocks.get(at)
    }

    /// Bytes that are kept: only the first block may be trimmed in part.
    pub(super) fn bytes(&self) -> u64 {
        let trimmed = self.blocks.front().map_or(0, |block| {
            block.kept_bytes(block.from) - block.kept_bytes(self.first)
        });
        self.bytes.saturating_sub(trimmed)
    }

    /// Where a search for the first message at or behind a time begins: everything before is
    /// older.
    pub(in crate::log) fn seek_from(&self, time_ns: u64) -> Option<Sequence> {
        let at = self
            .blocks
            .partition_point(|block| block.last_time_ns < time_ns);
        let block = self.blocks.get(at)?;
        let older = block
            .entries
            .partition_point(|entry| block.begins_before(entry, time_ns));
        let entry = block.entries.get(older.saturating_sub(1))?;
        Some(block.sequence_at(entry).max(block.from).max(self.first))
    }

    pub(super) fn through_time(&self, before_ns: u64) -> Option<Sequence> {
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

    /// About when a message was stored: not later, and earlier by what lies between two entries.
    pub(super) fn time_of(&self, sequence: Sequence) -> Option<u64> {
        let at = self.blocks.partition_point(|block| block.last < sequence);
        let block = self
            .blocks
            .get(at)
            .filter(|block| block.first <= sequence)?;
        let (_, entry) = block.entry_for(sequence)?;
        let behind = u64::from(entry.time_delta_ms).saturating_mul(1_000_000);
        let time_ns = block.base_time_ns.saturating_add(behind);
        Some(time_ns.min(block.last_time_ns))
    }

    pub(super) fn through_bytes(&self, bytes_max: u64) -> Option<Sequence> {
        let mut excess = self
            .bytes()
            .checked_sub(bytes_max)
            .filter(|excess| *excess > 0)?;
        for block in &self.blocks {
            let held = block.kept_bytes(self.first);
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

/// What the index keeps of messages of a channel that follow one another in a frame.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Messages {
    pub first: Sequence,
    pub last: Sequence,
    /// Time of the first.
    pub time_ns: u64,
    pub last_time_ns: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
