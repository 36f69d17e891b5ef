//! What is in a simulated file: what reads show, what the disk holds, and the writes in between.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Weak;

use super::Random;

/// A disk writes this many bytes or none of them.
pub(super) const SECTOR_BYTES: usize = 512;

/// A write that is not synced.
#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    /// Empty when only the length changed.
    bytes: Vec<u8>,
    /// Length of the file behind it.
    len: usize,
}

/// Bytes that somebody holds a slice of.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) range: Range<usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What reads show.
    bytes: Vec<u8>,
    /// What is certain to be on the disk.
    durable: Vec<u8>,
    /// What has been written since, in order: any of it may be on the disk.
    journal: Vec<Write>,
    /// What the disk cannot read any more, until it is written anew.
    unreadable: Vec<Range<usize>>,
    lent: Vec<Weak<Lent>>,
}

/// What becomes of writes that are not synced when the power goes.
enum Loss {
    All,
    Nothing,
    /// What came first stays; the first write that is lost may be torn.
    Suffix,
    /// Each sector for itself has what it had at some moment since the last sync.
    Sectors {
        kept_percent: usize,
    },
    /// As `Sectors`, but only the last write is touched: a group commit in flight.
    LastWrite {
        kept_percent: usize,
    },
}

impl Loss {
    fn choose(random: &mut Random) -> Self {
        let kept_percent = [10, 50, 90][random.below(3)];
        match random.below(10) {
            0 => Self::All,
            1 => Self::Nothing,
            2 | 3 => Self::Suffix,
            4..=6 => Self::Sectors { kept_percent },
            _ => Self::LastWrite { kept_percent },
        }
    }
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written or reserved since the last sync.
    pub(super) fn is_synced(&self) -> bool {
        self.journal.is_empty()
    }

    /// Writes; behind the end the file grows, a gap is zero.
    ///
    /// # Panics
    /// When it changes bytes that are lent out: with a real file that is a data race.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.check_lent(offset, bytes);
        self.bytes[offset..end].copy_from_slice(bytes);
        self.unreadable
            .retain(|bad| bad.end <= offset || end <= bad.start);
        self.journal.push(Write {
            offset,
            bytes: bytes.to_vec(),
            len: self.bytes.len(),
        });
    }

    fn check_lent(&mut self, offset: usize, bytes: &[u8]) {
        self.lent.retain(|lent| lent.strong_count() > 0);
        for lent in self.lent.iter().filter_map(Weak::upgrade) {
            let first = lent.range.start.max(offset);
            let end = lent.range.end.min(offset + bytes.len());
            let changes =
                first < end && self.bytes[first..end] != bytes[first - offset..end - offset];
            assert!(
                !changes,
                "bytes {first}..{end} are written while a slice of {:?} lives",
                lent.range
            );
        }
    }

    pub(super) fn lend(&mut self, lent: Weak<Lent>) {
        self.lent.push(lent);
    }

    pub(super) fn reserve(&mut self, len: usize) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
            self.journal.push(Write {
                offset: len,
                bytes: Vec::new(),
                len,
            });
        }
    }

    pub(super) fn sync(&mut self) {
        for write in self.journal.drain(..) {
            apply(&mut self.durable, &write);
        }
    }

    /// A sync that fails: some of the sectors reached the disk, the others are dropped and no
    /// later sync brings them; reads go on showing them.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let kept_percent = [0, 50, 90][random.below(3)];
        self.durable = self.survivor(&Loss::Sectors { kept_percent }, random);
        self.journal.clear();
    }

    /// What is found after a power cut.
    pub(super) fn crashed(&self, random: &mut Random) -> Self {
        let durable = self.survivor(&Loss::choose(random), random);
        Self {
            bytes: durable.clone(),
            durable,
            unreadable: self.unreadable.clone(),
            ..Self::default()
        }
    }

    fn survivor(&self, loss: &Loss, random: &mut Random) -> Vec<u8> {
        let mut result = self.durable.clone();
        let last = self.journal.len().saturating_sub(1);
        match *loss {
            Loss::All => {}
            Loss::Nothing => self
                .journal
                .iter()
                .for_each(|write| apply(&mut result, write)),
            Loss::Suffix => {
                let kept = random.below(self.journal.len() + 1);
                let (kept, lost) = self.journal.split_at(kept);
                kept.iter().for_each(|write| apply(&mut result, write));
                if let Some(torn) = lost.first() {
                    let torn = Write {
                        bytes: torn.bytes[..torn_len(torn, random)].to_vec(),
                        len: result.len(),
                        ..*torn
                    };
                    apply(&mut result, &torn);
                }
            }
            Loss::Sectors { kept_percent } => {
                apply_sectors(&mut result, &self.journal, kept_percent, random);
            }
            Loss::LastWrite { kept_percent } => {
                let (kept, torn) = self.journal.split_at(last);
                kept.iter().for_each(|write| apply(&mut result, write));
                apply_sectors(&mut result, torn, kept_percent, random);
            }
        }
        result
    }

    /// Spoils what is on the disk, and what reads show.
    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) {
        for bytes in [&mut self.bytes, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Cuts the file, on the disk as well.
    pub(super) fn truncate(&mut self, len: usize) {
        self.sync();
        self.bytes.truncate(len);
        self.durable.truncate(len);
    }

    pub(super) fn fail_reads(&mut self, range: Range<usize>) {
        self.unreadable.push(range);
    }

    pub(super) fn is_readable(&self, range: &Range<usize>) -> bool {
        let hit = |bad: &Range<usize>| bad.start < range.end && range.start < bad.end;
        !self.unreadable.iter().any(hit)
    }
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    let end = write.offset + write.bytes.len();
    bytes.resize(bytes.len().max(end).max(write.len), 0);
    if !write.bytes.is_empty() {
        bytes[write.offset..end].copy_from_slice(&write.bytes);
    }
}

/// Bytes of a write that stay when it ends early: it ends with a sector of the file.
fn torn_len(write: &Write, random: &mut Random) -> usize {
    let sectors = write.bytes.len().div_ceil(SECTOR_BYTES);
    let end = write.offset / SECTOR_BYTES + random.below(sectors + 1);
    let len = (end * SECTOR_BYTES).saturating_sub(write.offset);
    len.min(write.bytes.len())
}

/// Applies writes sector by sector. What a sector misses, it also misses of later writes: the disk
/// has got it as it was at one moment.
fn apply_sectors(bytes: &mut Vec<u8>, writes: &[Write], kept_percent: usize, random: &mut Random) {
    let mut lost = BTreeSet::new();
    let mut lens = vec![bytes.len()];
    for write in writes {
        let end = write.offset + write.bytes.len();
        let mut from = write.offset;
        while from < end {
            let sector = from / SECTOR_BYTES;
            let until = end.min((sector + 1) * SECTOR_BYTES);
            if !random.percent(kept_percent) {
                lost.insert(sector);
            }
            if !lost.contains(&sector) {
                let part = &write.bytes[from - write.offset..until - write.offset];
                bytes.resize(bytes.len().max(until), 0);
                bytes[from..until].copy_from_slice(part);
            }
            lens.extend((until > lens[lens.len() - 1]).then_some(until));
            from = until;
        }
        lens.extend((write.len > lens[lens.len() - 1]).then_some(write.len));
    }
    // The length is one that the file has had, or would have had with a part of a write.
    bytes.resize(lens[random.below(lens.len())], 0);
}
