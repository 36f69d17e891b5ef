//! Recovery: from what lies on disk to a log that goes on where it ended.
//!
//! The newest checkpoint that can be read gives the state at a place; the indexes of the sealed
//! segments before it are loaded, the frames behind it are scanned and replayed. Nothing is
//! guessed:
//!
//! - A bad frame in the last segment, and nothing behind it says that it was synced: a torn tail.
//!   It is cut and made zero (rule L7 of `docs/replication.md`).
//! - A bad frame before that, or one that a later frame or the checkpoint knows as synced: damage,
//!   quarantined and reported (rules L6, L8).
//! - A later frame of a slot with an index that is there already: the earlier ones do not count
//!   (rule L3).
//! - A gap in the indexes of a slot that a damaged range explains: the state goes on behind it,
//!   what is damaged is left out.
//! - Another gap, or a frame that contradicts the state: the slot is halted, the others go on.
//! - A frame that a newer version wrote: the log is refused, nothing is changed (rule L10).

mod ciphers;
mod files;
mod replay;
mod scan;
mod tail;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use self::files::Files;
use self::scan::Found;
use super::carry::Looks;
use super::decrypted::Decrypted;
use super::gather::Gather;
use super::index::Index;
use super::jobs::Jobs;
use super::segments::{Segments, segment_path};
use super::slots::SlotTable;
use super::{Apply, Divergence, FIRST_FRAME, Log, Options};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::cipher::KeyMaker;
use crate::fs::Fs;
use crate::id::{Position, SegmentId};

/// A log that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What was found.
    pub report: RecoveryReport,
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Number of the checkpoint that was used.
    pub checkpoint: Option<u64>,
    /// Checkpoints that could not be used, and why.
    pub bad_checkpoints: Vec<String>,
    /// Segments of the log.
    pub segments: usize,
    /// Segments whose index was missing or damaged and was made anew.
    pub indexes_rebuilt: usize,
    /// Frames that were applied.
    pub frames_replayed: u64,
    /// Frames that lie in a damaged range, as far as later ones of their slots tell.
    pub frames_lost: u64,
    /// Bytes of segments that were read.
    pub bytes_scanned: u64,
    /// Bytes of the torn tail that was cut.
    pub torn_bytes: u64,
    /// What cannot be read. Messages in it are lost and are left out when a channel is read.
    pub damaged: Vec<DamagedRange>,
    /// Slots that were halted: their last state can be read, nothing is appended to them.
    pub halted: Vec<Divergence>,
}

/// A part of a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment's file.
    pub path: PathBuf,
    /// The segment.
    pub segment: SegmentId,
    /// The bytes concerned.
    pub range: Range<u32>,
    /// What was found there.
    pub reason: String,
}

/// A log that is being opened.
struct Recovery {
    fs: Arc<dyn Fs>,
    options: Options,
    files: Files,
    report: RecoveryReport,
    segments: Segments,
    index: Index,
    slots: SlotTable,
    /// Where frames begin that the checkpoint does not hold.
    from: Position,
    /// Frames that were found, in order.
    found: Vec<Found>,
    unindexed: Vec<SegmentId>,
    /// Where the log goes on: in its last segment, or with a new one.
    end: Position,
    appendable: bool,
    /// Everything before this place was synced: the checkpoint says so, or a later frame.
    known_synced: Position,
    key_maker: Option<KeyMaker>,
}

impl Log {
    /// Opens the log, or begins a new one where there is none. Blocks.
    ///
    /// # Errors
    /// [`Error`] when the log cannot be read as a whole: without it nothing is served. Damage
    /// within it is no error: it is in the report.
    pub fn open(fs: Arc<dyn Fs>, options: Options, state: &mut dyn Apply) -> Result<Opened, Error> {
        let key_maker = options.keyring.key_maker().map_err(Error::Random)?;
        #[cfg(feature = "sim")]
        let key_maker = key_maker.map(|maker| {
            if options.mutations.one_salt {
                maker.with_salt(crate::cipher::Salt::new([0; 8]))
            } else {
                maker
            }
        });
        let mut report = RecoveryReport::default();
        let files = Files::list(&*fs, &options, &mut report)?;
        let checkpoint = files
            .checkpoint
            .clone()
            .unwrap_or_else(|| empty_checkpoint(&options));
        let mut recovery = Recovery {
            slots: SlotTable::new(options.slots.clone()),
            from: checkpoint.position,
            end: checkpoint.position,
            fs,
            options,
            files,
            report,
            segments: Segments::default(),
            index: Index::default(),
            found: Vec::new(),
            unindexed: Vec::new(),
            appendable: false,
            // Without a checkpoint nothing is known, the first segment's header included.
            known_synced: match checkpoint.number {
                0 => Position::default(),
                _ => checkpoint.synced_through,
            },
            key_maker,
        };
        recovery.restore(&checkpoint, state)?;
        recovery.map_segments(&checkpoint)?;
        recovery.load_indexes()?;
        recovery.scan_tail()?;
        recovery.replay(&checkpoint, state);
        recovery.mend_tail()?;
        Ok(recovery.finish(&checkpoint))
    }
}

fn empty_checkpoint(options: &Options) -> Checkpoint {
    Checkpoint {
        store: options.store,
        log: options.log,
        number: 0,
        position: Position::new(SegmentId::new(1), FIRST_FRAME),
        synced_through: Position::new(SegmentId::new(1), FIRST_FRAME),
        sections: Vec::new(),
        segments: Vec::new(),
        floors: Vec::new(),
    }
}

impl Recovery {
    fn restore(&mut self, checkpoint: &Checkpoint, state: &mut dyn Apply) -> Result<(), Error> {
        for section in &checkpoint.sections {
            state.restore(section).map_err(Error::Diverged)?;
            let slot = self.slots.get_mut(section.slot);
            slot.committed = section.applied;
            slot.floor = section.floor;
            slot.void = section.void;
            slot.last_timestamp_ns = section.last_timestamp_ns;
        }
        Ok(())
    }

    fn add_damage(&mut self, segment: SegmentId, range: Range<u32>, reason: String) {
        if let Some(known) = self.segments.get_mut(segment) {
            known.add_damage(range.clone());
        }
        self.report.damaged.push(DamagedRange {
            path: segment_path(&self.options.directory, segment),
            segment,
            range,
            reason,
        });
    }

    fn finish(mut self, checkpoint: &Checkpoint) -> Opened {
        self.index.complete(&mut self.segments);
        let end = self.end;
        self.report.segments = self.segments.len();
        let mut jobs = Jobs::default();
        let next_id = self
            .segments
            .back()
            .map_or(end.segment(), |last| last.id.next());
        jobs.begin(next_id.max(end.segment()), self.segments.len() > 0);
        for id in self.unindexed {
            jobs.sealed(id);
        }
        let cold = self.from.segment().get().saturating_sub(1);
        jobs.cooled = SegmentId::new(cold);
        // Behind damage, a checkpoint makes sure that the next start comes to the same end.
        jobs.sealed_since_checkpoint =
            end.segment() > checkpoint.position.segment() || self.report.frames_lost > 0;
        jobs.kept = self.files.kept.into();
        jobs.outdated = self.files.bad;
        jobs.last_number = self.files.last_number;
        jobs.checkpointed = checkpoint.position;
        jobs.checkpointed_bytes = self.segments.bytes_before(checkpoint.position);
        jobs.committed_bytes = self.segments.bytes_before(end);
        let mut log = Log {
            options: self.options,
            slots: self.slots,
            segments: self.segments,
            gather: Gather::default(),
            index: self.index,
            jobs,
            record_bytes_max: 0,
            written: end,
            synced: end,
            committed: end,
            frames: 0,
            carrying: None,
            looks: Looks::default(),
            key_maker: self.key_maker,
            decrypted: Decrypted::default(),
            poisoned: None,
        };
        log.begin_filling(self.appendable);
        Opened {
            log,
            report: self.report,
        }
    }
}
