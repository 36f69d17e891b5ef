//! The end of the log, made ready for what is appended next.

use std::cmp::Ordering;

use super::Recovery;
use crate::Error;
use crate::cipher::KeyMaker;
use crate::error::io_error;
use crate::frame::Seed;
use crate::fs::{FsFile, Region};
use crate::id::{Generation, Position, SegmentId};
use crate::log::gather::{Filling, to_u32, to_usize};
use crate::log::options::mutation;
use crate::log::segments::{index_path, segment_path};
use crate::log::walk::{Step, Walk};
use crate::log::{FIRST_FRAME, Log, after_seal, seed};
use crate::segment::SegmentHeader;

/// How much is written again with one write; what cannot be read in it is left out whole.
const REWRITE_BYTES: u32 = 64 << 10;

/// How much is made zero with one write.
const ZEROS_BYTES: u32 = 1 << 20;

impl Recovery {
    /// Decides where the log goes on: behind the last frame, or in a new segment when the last
    /// one is no place to go on.
    pub(super) fn settle_end(&mut self) {
        let mut before = 0;
        let ids: Vec<_> = self.segments.iter().map(|segment| segment.id).collect();
        for id in ids {
            if let Some(segment) = self.segments.get_mut(id) {
                segment.before = before;
                before += u64::from(segment.end.unwrap_or(0));
            }
        }
        let scanned = self.segments.get(self.from.segment());
        self.segments.scanned_from = scanned.map_or(before, |segment| segment.before);
        let last = self.segments.back().map(|last| last.id);
        let end = self.end;
        if end < self.from {
            // What the checkpoint holds was there: the log has lost its end. What is appended must
            // come to lie behind it.
            self.appendable = false;
            let used = self.from.offset() > FIRST_FRAME;
            let behind = self.from.segment();
            let behind = if used { behind.next() } else { behind };
            self.add_missing(last.map_or(self.from.segment(), SegmentId::next), behind);
            self.end = Position::new(behind, FIRST_FRAME);
        } else if !self.appendable && Some(end.segment()) == last {
            self.end = after_seal(end.segment());
        }
        // It takes no more, though it has no seal.
        if !self.appendable
            && Some(end.segment()) == last
            && let Some(last) = self.segments.get_mut(end.segment())
        {
            last.end.get_or_insert(end.offset());
        }
    }

    /// Makes zero what lies behind the last frame (rule L7), and everything durable that counts
    /// from now on.
    pub(super) fn mend_tail(&mut self) -> Result<(), Error> {
        let Some(last) = self.segments.back() else {
            return Ok(());
        };
        let (id, generation, len) = (last.id, last.generation, last.len);
        let encrypted = !last.cipher.is_plain();
        let Some(region) = last.region.clone() else {
            return Ok(());
        };
        let path = segment_path(&self.options.directory, id);
        if self.appendable && self.end.offset() == FIRST_FRAME {
            // Not even its preamble was written: it was never in use.
            self.segments.pop_back();
            drop(region);
            self.fs.remove(&path).map_err(io_error("remove", &path))?;
            let directory = &self.options.directory;
            let _none_for_it = self.fs.remove(&index_path(directory, id));
            let synced = self.fs.sync_directory(directory);
            synced.map_err(io_error("sync", directory))?;
            self.appendable = false;
            return Ok(());
        }
        let mut file = self.fs.open(&path).map_err(io_error("open", &path))?;
        if self.appendable {
            let from = self.end.offset();
            let seed = seed(&self.options, id, generation);
            let to = torn_end(&*region, id, seed, from..len);
            self.report.torn_bytes = u64::from(to - from);
            let mut at = from;
            while at < to && !mutation!(self.options, keep_tail_behind_torn) {
                let zeros = vec![0; to_usize(ZEROS_BYTES.min(to - at))];
                let written = file.write_at(u64::from(at), &zeros);
                written.map_err(io_error("write", &path))?;
                at += to_u32(zeros.len());
            }
            let headless = self
                .report
                .damaged
                .iter()
                .any(|damaged| damaged.segment == id && damaged.range == (0..FIRST_FRAME));
            if headless {
                let header = SegmentHeader {
                    store: self.options.store,
                    log: self.options.log,
                    segment: id,
                    generation,
                    len,
                    encrypted,
                };
                let written = file.write_at(0, &header.encode());
                written.map_err(io_error("write", &path))?;
            }
        }
        self.write_again(&mut *file, &*region, id)
            .map_err(io_error("write", &path))?;
        file.sync().map_err(io_error("sync", &path))
    }

    /// Writes again what nothing says was synced. After a sync that failed, a page may be shown by
    /// the cache, counted as clean, and be missing on the disk: the next sync alone would succeed
    /// and not write it.
    fn write_again(
        &self,
        file: &mut dyn FsFile,
        region: &dyn Region,
        id: SegmentId,
    ) -> std::io::Result<()> {
        let sealed_end = self.segments.get(id).and_then(|segment| segment.end);
        let end = if self.end.segment() == id {
            self.end.offset()
        } else {
            sealed_end.unwrap_or(0)
        };
        let known = self.known_synced;
        let mut at = match known.segment().cmp(&id) {
            Ordering::Less => 0,
            Ordering::Equal => known.offset(),
            Ordering::Greater => end,
        };
        while at < end {
            let to = end.min(at.saturating_add(REWRITE_BYTES));
            // What cannot be read is damage, and reported as that.
            if region.populate(at..to).is_ok()
                && let Some(bytes) = region.slice(at..to)
            {
                file.write_at(u64::from(at), &bytes)?;
            }
            at = to;
        }
        Ok(())
    }
}

/// Where what a crash left behind the last frame ends. In a file that was zero before its use
/// that is the last byte that is not; a recycled one holds old bytes everywhere, and only whole
/// headers of this use could ever be taken for frames.
fn torn_end(
    region: &dyn Region,
    segment: SegmentId,
    seed: Seed,
    range: std::ops::Range<u32>,
) -> u32 {
    let mut walk = Walk::new(region, segment, seed, range.clone());
    if seed.generation == Generation::new(1) {
        let last = walk.last_byte_set(range.start);
        return last.map_or(range.start, |last| last + 1);
    }
    let mut end = range.start;
    let mut from = range.start;
    while let Some(at) = walk.find(from) {
        from = at + 8;
        walk.go_to(at);
        if let Step::Frame(frame) = walk.next() {
            end = at + to_u32(frame.header.frame_len());
        }
    }
    end
}

impl Log {
    /// Goes on in the last segment, if there is room.
    pub(super) fn begin_filling(&mut self, appendable: bool) {
        self.record_bytes_max = to_usize(self.options.segment_bytes)
            .saturating_sub(self.segment_overhead() + self.frame_overhead());
        let last = self.segments.back().filter(|_| appendable);
        self.gather.filling = last.map(|last| {
            let seed = self.seed(last.id, last.generation);
            let filling = Filling::new(last.id, seed, last.len, self.committed.offset());
            let salt = self.key_maker.as_ref().map(KeyMaker::salt);
            match last.cipher.key() {
                Some(key) => filling.encrypted(key.clone(), salt),
                None => filling,
            }
        });
    }
}
