//! Work that may block, one piece at a time: segments made ahead, indexes and checkpoints written,
//! segments dropped.
//!
//! A segment is made in slices of 1 MiB, each a job, so that other work of the thread gets its
//! turn and the disk keeps serving commits.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoints::{PendingCheckpoint, WriteCheckpoint};
use super::gather::{to_u32, to_usize};
use super::reclaim::Drop;
use super::segments::{index_path, segment_path};
use super::{Log, Refused};
use crate::fs::{Fs, FsFile, Region};
use crate::id::{Generation, Position, SegmentId};
use crate::segment_index::SegmentIndex;

/// Zeros written by one job.
const SLICE_BYTES: u32 = 1 << 20;

/// A segment that is prepared: reserved, zeroed, synced, mapped.
#[derive(Debug)]
pub(super) struct Spare {
    pub id: SegmentId,
    pub generation: Generation,
    pub len: u32,
    pub region: Arc<dyn Region>,
}

/// A piece of work for a blocking thread.
#[derive(Debug)]
pub struct Job(Work);

#[derive(Debug)]
pub(super) enum Work {
    Prepare(Box<Preparation>),
    Index(Box<WriteIndex>),
    Checkpoint(Box<WriteCheckpoint>),
    Drop(Box<Drop>),
    /// Lets go of the memory of a segment that was read while it was young.
    Release(Arc<dyn Region>),
}

/// What became of a job; goes back to the log by [`Log::done`].
#[derive(Debug)]
pub struct Done {
    work: Work,
    result: io::Result<Option<Spare>>,
}

/// What a finished job means for the caller.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobOutcome {
    /// Nothing in particular.
    Fine,
    /// A segment was prepared: what was refused may be tried again, and its file be opened.
    NewSegment(SegmentId),
    /// A checkpoint is durable.
    CheckpointWritten,
    /// The job failed, for want of space as a rule; it comes again. Wait a second before
    /// [`Log::next_job`].
    Retry {
        /// Why.
        error: io::Error,
    },
}

impl Job {
    /// Does the work. Blocks.
    #[must_use]
    pub fn run(self, fs: &dyn Fs) -> Done {
        let Self(mut work) = self;
        let result = match &mut work {
            Work::Prepare(preparation) => preparation.run(fs),
            Work::Index(index) => index.run(fs).map(|()| None),
            Work::Checkpoint(checkpoint) => checkpoint.run(fs).map(|()| None),
            Work::Drop(drop) => drop.run(fs),
            Work::Release(region) => {
                region.release(0..region.len());
                Ok(None)
            }
        };
        Done { work, result }
    }
}

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Preparation {
    directory: PathBuf,
    id: SegmentId,
    len: u32,
    free_bytes_min: u64,
    zeroed: u32,
    file: Option<Box<dyn FsFile>>,
}

impl Preparation {
    fn temporary(&self) -> PathBuf {
        let mut path = segment_path(&self.directory, self.id);
        path.set_extension("tmp");
        path
    }

    fn run(&mut self, fs: &dyn Fs) -> io::Result<Option<Spare>> {
        let result = self.slice(fs);
        if result.is_err() {
            // What is there of it must not take the space that is missing.
            self.file = None;
            self.zeroed = 0;
            let _nothing_to_remove = fs.remove(&self.temporary());
        }
        result
    }

    fn slice(&mut self, fs: &dyn Fs) -> io::Result<Option<Spare>> {
        if self.file.is_none() {
            fs.create_directory(&self.directory)?;
            let free = fs.free_bytes(&self.directory)?;
            if free < u64::from(self.len).saturating_add(self.free_bytes_min) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let mut file = fs.create(&self.temporary())?;
            file.reserve(u64::from(self.len))?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let slice = SLICE_BYTES.min(self.len - self.zeroed);
        // Written, not only reserved: a write into an unwritten extent stalls the sync behind it.
        file.write_zeros(u64::from(self.zeroed), slice)?;
        // Slice by slice: commits would wait while the disk takes all of it at once.
        file.sync()?;
        self.zeroed += slice;
        if self.zeroed < self.len {
            return Ok(None);
        }
        self.file = None;
        let path = segment_path(&self.directory, self.id);
        fs.rename(&self.temporary(), &path)?;
        fs.sync_directory(&self.directory)?;
        Ok(Some(Spare {
            id: self.id,
            generation: Generation::new(1),
            len: self.len,
            region: fs.map(&path)?,
        }))
    }
}

/// The index of a sealed segment, on its way to disk.
#[derive(Debug)]
pub(super) struct WriteIndex {
    path: PathBuf,
    segment: SegmentId,
    index: SegmentIndex,
    region: Option<Arc<dyn Region>>,
}

impl WriteIndex {
    fn run(&mut self, fs: &dyn Fs) -> io::Result<()> {
        fs.replace(&self.path, &self.index.encode())?;
        // Its commits have mapped every page of it; who reads it gets back what is read.
        if let Some(region) = &self.region {
            region.release(0..region.len());
        }
        Ok(())
    }
}

/// What is to be done beside the commits.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// The last job was a slice of a segment in the making.
    sliced: bool,
    /// A job is out.
    out: bool,
    spares: VecDeque<Spare>,
    preparing: Option<Box<Preparation>>,
    /// The next segment that is prepared.
    next_id: SegmentId,
    /// Something was appended, or was there: segments are made ahead.
    begun: bool,
    /// A record needs a segment of this size.
    wanted_bytes: usize,
    /// The last segment could not be made.
    full: bool,
    /// Sealed segments without an index on disk.
    unindexed: VecDeque<SegmentId>,
    /// Up to here segments are no longer young.
    pub(super) cooled: SegmentId,
    /// The next index to be written, and how much was committed when it was made: it leaves out
    /// what was trimmed by then, and may not know more than what is synced.
    index: Option<(Position, Box<WriteIndex>)>,
    pub(super) checkpoint: Option<PendingCheckpoint>,
    /// Where the last two durable checkpoints begin their replay, older first.
    pub(super) kept: VecDeque<(u64, Position)>,
    pub(super) last_number: u64,
    /// Numbers of checkpoints that cannot be used: removed when the next one is written.
    pub(super) outdated: Vec<u64>,
    /// Where the last checkpoint was begun, as a place and as bytes of the log.
    pub(super) checkpointed: Position,
    pub(super) checkpointed_bytes: u64,
    pub(super) committed_bytes: u64,
    pub(super) sealed_since_checkpoint: bool,
    pub(super) drops: VecDeque<Box<Drop>>,
}

impl Jobs {
    /// Begins where the log ends.
    pub(super) fn begin(&mut self, next_id: SegmentId, begun: bool) {
        (self.next_id, self.begun) = (next_id, begun);
    }

    pub(super) fn has_spares(&self) -> bool {
        !self.spares.is_empty()
    }

    pub(super) fn has_spare(&self, id: SegmentId) -> bool {
        self.spares.iter().any(|spare| spare.id == id)
    }

    pub(super) fn spares(&self) -> impl Iterator<Item = &Spare> {
        self.spares.iter()
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Takes the next segment if it has room for `bytes`.
    pub(super) fn take_spare(&mut self, bytes: usize) -> Result<Spare, Refused> {
        self.begun = true;
        // One that is too small for this record is made anew when no job is out.
        if let Some(spare) = self.spares.front()
            && bytes <= to_usize(spare.len)
        {
            self.wanted_bytes = 0;
            return self.spares.pop_front().ok_or(Refused::Busy);
        }
        self.wanted_bytes = self.wanted_bytes.max(bytes);
        Err(if self.full {
            Refused::Full
        } else {
            Refused::Busy
        })
    }

    /// A segment is full and committed.
    pub(super) fn sealed(&mut self, id: SegmentId) {
        self.unindexed.push_back(id);
        self.sealed_since_checkpoint = true;
    }

    /// Whether a dropped segment of full size would be of use.
    pub(super) fn wants_recycled(&self) -> bool {
        self.spares.len() < 2 && self.preparing.is_none()
    }

    /// The id of the segment that a dropped one becomes.
    pub(super) fn take_id(&mut self) -> SegmentId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }

    /// Gives up the prepared segments when the next one is too small for the record that waits.
    /// Only while no job is out: what that brings back is the segment behind them.
    fn discard_small_spares(&mut self) {
        debug_assert!(!self.out, "no segment is on its way");
        if let Some(spare) = self.spares.front()
            && to_usize(spare.len) < self.wanted_bytes
        {
            self.next_id = spare.id;
            self.spares.clear();
        }
    }

    fn add_spare(&mut self, spare: Spare) -> JobOutcome {
        let id = spare.id;
        debug_assert!(self.spares.back().is_none_or(|last| last.id.next() == id));
        self.full = false;
        self.spares.push_back(spare);
        JobOutcome::NewSegment(id)
    }
}

impl Log {
    /// The next job, to be run on another thread. One is out at a time: `None` also until the
    /// last one is [`done`](Self::done).
    pub fn next_job(&mut self) -> Option<Job> {
        if self.jobs.out || self.poisoned.is_some() {
            return None;
        }
        self.jobs.discard_small_spares();
        // Short work comes between the slices of a segment that is waited for: under a flood there
        // is always one, and the pages of sealed segments must be let go all the same.
        let sliced = std::mem::take(&mut self.jobs.sliced);
        let urgent = !sliced && !self.jobs.full && !self.jobs.has_spares();
        let work = urgent
            .then(|| self.next_preparation())
            .flatten()
            .or_else(|| self.next_checkpoint().map(Work::Checkpoint))
            .or_else(|| self.next_drop().map(Work::Drop))
            .or_else(|| self.next_index())
            .or_else(|| self.next_release())
            .or_else(|| self.next_preparation())?;
        self.jobs.out = true;
        self.jobs.sliced = matches!(work, Work::Prepare(_));
        Some(Job(work))
    }

    fn next_preparation(&mut self) -> Option<Work> {
        if let Some(preparing) = self.jobs.preparing.take() {
            return Some(Work::Prepare(preparing));
        }
        if !self.jobs.begun || self.jobs.has_spares() {
            return None;
        }
        let id = self.jobs.take_id();
        Some(Work::Prepare(Box::new(Preparation {
            directory: self.options.directory.clone(),
            id,
            len: self.segment_len(id),
            free_bytes_min: self.options.free_bytes_min,
            zeroed: 0,
            file: None,
        })))
    }

    /// Length of a new segment: doubling up to the full one, and enough for the record that waits
    /// for it.
    fn segment_len(&self, id: SegmentId) -> u32 {
        let full = self.options.segment_bytes;
        let doublings = id.get().saturating_sub(1).min(31);
        let grown = u64::from(self.options.segment_bytes_first) << doublings;
        let wanted = self.jobs.wanted_bytes.next_power_of_two();
        let len = grown.max(u64::try_from(wanted).unwrap_or(u64::MAX));
        u32::try_from(len).map_or(full, |len| len.min(full))
    }

    fn next_index(&mut self) -> Option<Work> {
        while self.jobs.index.is_none() {
            let id = self.jobs.unindexed.pop_front()?;
            let index = self.segment_index(id).map(|index| WriteIndex {
                path: index_path(&self.options.directory, id),
                segment: id,
                index,
                region: self
                    .segments
                    .get(id)
                    .and_then(|segment| segment.region.clone()),
            });
            self.jobs.index = index.map(|index| (self.committed, Box::new(index)));
        }
        let synced = self.synced;
        let ready = self.jobs.index.take_if(|(reaches, _)| *reaches <= synced);
        ready.map(|(_, index)| Work::Index(index))
    }

    /// Readers map what they read of young segments, and nobody warms, so nobody releases, there:
    /// it is done when a segment is young no longer.
    fn next_release(&mut self) -> Option<Work> {
        let id = self.jobs.cooled.next();
        let segment = self.segments.get(id);
        if segment.is_none()
            && self
                .segments
                .iter()
                .next()
                .is_some_and(|first| first.id > id)
        {
            self.jobs.cooled = id;
            return self.next_release();
        }
        let segment = segment?;
        let end = segment.end.filter(|_| id < self.committed.segment())?;
        if self.segments.hot_from(segment, self.committed) < end {
            return None;
        }
        self.jobs.cooled = id;
        segment.region.clone().map(Work::Release)
    }

    fn segment_index(&self, id: SegmentId) -> Option<SegmentIndex> {
        let segment = self.segments.get(id)?;
        Some(SegmentIndex {
            store: self.options.store,
            log: self.options.log,
            segment: id,
            generation: segment.generation,
            seal_offset: segment
                .end?
                .checked_sub(to_u32(super::gather::SEAL_BYTES))?,
            slots: Vec::new(),
            blocks: self.index.blocks_of(id, &segment.channels),
        })
    }

    /// Takes back what became of the job.
    pub fn done(&mut self, done: Done) -> JobOutcome {
        debug_assert!(self.jobs.out, "a job was out");
        self.jobs.out = false;
        match (done.work, done.result) {
            (Work::Prepare(_), Ok(Some(spare))) => self.jobs.add_spare(spare),
            (Work::Prepare(preparation), Ok(None)) => {
                self.jobs.preparing = Some(preparation);
                JobOutcome::Fine
            }
            (Work::Prepare(preparation), Err(error)) => {
                self.jobs.full = true;
                // Its size is decided anew.
                self.jobs.next_id = preparation.id;
                JobOutcome::Retry { error }
            }
            (Work::Index(index), Ok(_)) => {
                if let Some(segment) = self.segments.get_mut(index.segment) {
                    segment.indexed = true;
                }
                JobOutcome::Fine
            }
            (Work::Index(index), Err(error)) => {
                self.jobs.unindexed.push_front(index.segment);
                JobOutcome::Retry { error }
            }
            (Work::Checkpoint(checkpoint), Ok(_)) => {
                self.checkpoint_written(&checkpoint);
                JobOutcome::CheckpointWritten
            }
            (Work::Checkpoint(checkpoint), Err(error)) => {
                self.jobs.checkpoint.get_or_insert(checkpoint.again());
                JobOutcome::Retry { error }
            }
            (Work::Drop(_), Ok(Some(spare))) => self.jobs.add_spare(spare),
            (Work::Drop(mut drop), Err(error)) => {
                // Whatever came of it, the next segment is made anew: it must not wait for this.
                if let Some(id) = drop.give_up_recycling() {
                    self.jobs.next_id = id;
                }
                self.jobs.drops.push_front(drop);
                JobOutcome::Retry { error }
            }
            (Work::Drop(_) | Work::Release(_), _) => JobOutcome::Fine,
        }
    }
}
