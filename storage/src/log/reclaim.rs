//! Reclaim: segments that hold nothing that counts any more are dropped, oldest first.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::jobs::Spare;
use super::segments::{index_path, segment_path};
use super::{Log, LogStats};
use crate::fs::{Fs, Region};
use crate::id::{Generation, SegmentId};

/// A segment on its way out.
#[derive(Debug)]
pub(super) struct Drop {
    directory: PathBuf,
    id: SegmentId,
    /// Put to use again: as which segment, and what it is then.
    recycled: Option<(SegmentId, Generation, Arc<dyn Region>)>,
}

impl Drop {
    /// The file is removed and not put to use again; the id that it was to get.
    pub(super) fn give_up_recycling(&mut self) -> Option<SegmentId> {
        self.recycled.take().map(|(id, ..)| id)
    }

    pub(super) fn run(&mut self, fs: &dyn Fs) -> io::Result<Option<Spare>> {
        remove(fs, &index_path(&self.directory, self.id))?;
        let path = segment_path(&self.directory, self.id);
        let spare = match &self.recycled {
            None => {
                remove(fs, &path)?;
                None
            }
            Some((id, generation, region)) => {
                fs.rename(&path, &segment_path(&self.directory, *id))?;
                Some(Spare {
                    id: *id,
                    generation: *generation,
                    len: region.len(),
                    region: region.clone(),
                })
            }
        };
        // Before the next one goes, so that a crash never leaves a hole.
        fs.sync_directory(&self.directory)?;
        Ok(spare)
    }
}

fn remove(fs: &dyn Fs, path: &std::path::Path) -> io::Result<()> {
    match fs.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Log {
    /// The oldest segment, when it can go: no message in it is kept, and every checkpoint that
    /// may be read at the next start begins behind it (rule L12).
    pub(super) fn next_drop(&mut self) -> Option<Box<Drop>> {
        if let Some(drop) = self.jobs.drops.pop_front() {
            return Some(drop);
        }
        let needed = self
            .jobs
            .kept
            .front()
            .map(|(_, position)| position.segment());
        let needed = needed.filter(|_| !self.jobs.kept.is_empty())?;
        let (committed, synced) = (self.committed, self.synced);
        let front = self.segments.front_mut()?;
        if front.live_blocks > 0 || front.id >= needed || front.id >= committed.segment() {
            return None;
        }
        // What trimmed its last message must not be lost while the segment is gone.
        if *front.unused_since.get_or_insert(committed) > synced {
            return None;
        }
        let segment = self.segments.pop_front()?;
        let region = segment.region.filter(|region| {
            segment.len == self.options.segment_bytes
                && segment.damaged_bytes == 0
                && self.jobs.wants_recycled()
                && Arc::strong_count(region) == 1
                && region.handles() == 0
        });
        let generation = segment.generation.next();
        let recycled = region.map(|region| (self.jobs.take_id(), generation, region));
        Some(Box::new(Drop {
            directory: self.options.directory.clone(),
            id: segment.id,
            recycled,
        }))
    }

    /// Figures of the log. Goes over all channels.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let mut stats = self.file_stats();
        self.index.add_to(&mut stats);
        stats
    }

    /// The figures that do not depend on how many channels there are: without `live_bytes`,
    /// `channels` and `index_bytes`, which are zero.
    #[must_use]
    pub fn file_stats(&self) -> LogStats {
        let mut stats = LogStats {
            segments: self.segments.len(),
            frames: self.frames,
            full: self.jobs.is_full(),
            ..LogStats::default()
        };
        for segment in self.segments.iter() {
            stats.file_bytes += u64::from(segment.len);
            stats.used_bytes += u64::from(self.readable_end(segment));
            stats.damaged_bytes += segment.damaged_bytes;
        }
        for spare in self.jobs.spares() {
            stats.spares += 1;
            stats.file_bytes += u64::from(spare.len);
        }
        stats
    }
}
