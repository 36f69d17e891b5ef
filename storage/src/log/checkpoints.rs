//! Checkpoints: the state of the slots at a place of the log, so that recovery reads only what
//! lies behind it. Two are kept: when the newer one cannot be read, the older one can.

use std::io;
use std::path::{Path, PathBuf};

use super::{FIRST_FRAME, Log};
use crate::SlotId;
use crate::checkpoint::{Checkpoint, Section, SegmentEntry};
use crate::cipher::{DataKey, KeyPlace, WrappedKey};
use crate::fs::Fs;
use crate::id::{FrameIndex, Position, Term};

/// How many checkpoints are kept.
pub(super) const KEPT: usize = 2;

/// A checkpoint in the making: the caller encodes slot after slot, with pauses as it likes, and
/// hands it to [`Log::submit_checkpoint`].
///
/// A section may be newer than the place of the checkpoint: it names the last frame in it.
#[derive(Debug)]
pub struct CheckpointBuilder {
    checkpoint: Checkpoint,
    slots: Vec<(SlotId, FrameIndex, Position)>,
}

impl CheckpointBuilder {
    /// The slots that are to be encoded, each once.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotId> {
        self.slots.iter().map(|(slot, ..)| *slot).collect()
    }

    /// Adds the state of a slot: the last frame in it, the time of its last record, and whatever
    /// `encode` appends.
    pub fn section(
        &mut self,
        slot: SlotId,
        (applied, last_timestamp_ns): (FrameIndex, u64),
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut logical = Vec::new();
        encode(&mut logical);
        let known = self.slots.iter().find(|(known, ..)| *known == slot);
        let (floor, void) = known.map_or_else(Default::default, |(_, floor, void)| (*floor, *void));
        self.checkpoint.sections.push(Section {
            slot,
            applied,
            term: Term::new(u64::from(applied > FrameIndex::default())),
            last_timestamp_ns,
            floor,
            void,
            logical,
        });
    }
}

/// A checkpoint that waits until the log is synced as far as its sections reach.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    checkpoint: Checkpoint,
    reaches: Position,
}

/// A checkpoint on its way to disk.
#[derive(Debug)]
pub(super) struct WriteCheckpoint {
    directory: PathBuf,
    checkpoint: Checkpoint,
    reaches: Position,
    /// What the file is encrypted with: made for this writing of it.
    key: Option<(DataKey, WrappedKey)>,
    /// Numbers of those that are removed then.
    outdated: Vec<u64>,
}

impl WriteCheckpoint {
    pub(super) fn run(&mut self, fs: &dyn Fs) -> io::Result<()> {
        fs.create_directory(&self.directory)?;
        let path = checkpoint_path(&self.directory, self.checkpoint.number);
        let bytes = match &self.key {
            Some(key) => self.checkpoint.encrypt(key),
            None => self.checkpoint.encode(),
        };
        fs.replace(&path, &bytes)?;
        for number in &self.outdated {
            match fs.remove(&checkpoint_path(&self.directory, *number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn again(&self) -> PendingCheckpoint {
        PendingCheckpoint {
            checkpoint: self.checkpoint.clone(),
            reaches: self.reaches,
        }
    }
}

/// The file of a checkpoint.
pub(super) fn checkpoint_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("checkpoint-{number:016}"))
}

impl Log {
    /// Whether it is time for a checkpoint: a segment was sealed, or enough was committed since
    /// the last one was begun.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        let jobs = &self.jobs;
        let committed = jobs.committed_bytes.saturating_sub(jobs.checkpointed_bytes);
        self.poisoned.is_none()
            && jobs.checkpoint.is_none()
            && (jobs.sealed_since_checkpoint || committed >= self.options.checkpoint_every_bytes)
    }

    /// Whether something was committed since the last checkpoint was begun.
    #[must_use]
    pub fn has_changed_since_checkpoint(&self) -> bool {
        self.committed > self.jobs.checkpointed
    }

    /// Begins a checkpoint of what is committed by now.
    pub fn begin_checkpoint(&mut self) -> CheckpointBuilder {
        self.jobs.checkpointed = self.committed;
        self.jobs.checkpointed_bytes = self.jobs.committed_bytes;
        self.jobs.sealed_since_checkpoint = false;
        let slots = self.slots.own().iter();
        let slots = slots.map(|slot| {
            let known = self.slots.get(*slot);
            (*slot, known.floor, known.void)
        });
        // One that is not written yet may not come to be: its lack would count as damage.
        let written = self.segments.iter();
        let written =
            written.filter(|segment| Position::new(segment.id, FIRST_FRAME) < self.committed);
        let segments = written.map(|segment| SegmentEntry {
            segment: segment.id,
            generation: segment.generation,
            len: segment.len,
            // A plain file is no place for a key.
            key: segment
                .cipher
                .key()
                .filter(|_| self.key_maker.is_some())
                .map(|key| key.data()),
        });
        CheckpointBuilder {
            slots: slots.collect(),
            checkpoint: Checkpoint {
                store: self.options.store,
                log: self.options.log,
                number: 0,
                position: self.committed,
                synced_through: self.synced.min(self.committed),
                sections: Vec::new(),
                segments: segments.collect(),
                floors: self.index.floors(),
            },
        }
    }

    /// Queues the checkpoint to be written by a job, as soon as everything in it is synced. One
    /// that waits already gives way to it.
    pub fn submit_checkpoint(&mut self, builder: CheckpointBuilder) {
        let CheckpointBuilder { checkpoint, .. } = builder;
        debug_assert!(checkpoint.position <= self.committed);
        let newer = self
            .jobs
            .checkpoint
            .as_ref()
            .is_none_or(|waiting| waiting.checkpoint.position <= checkpoint.position);
        if newer {
            self.jobs.checkpoint = Some(PendingCheckpoint {
                checkpoint,
                reaches: self.committed,
            });
        }
    }

    pub(super) fn next_checkpoint(&mut self) -> Option<Box<WriteCheckpoint>> {
        let synced = self.synced;
        let waiting = self
            .jobs
            .checkpoint
            .take_if(|waiting| waiting.reaches <= synced);
        let PendingCheckpoint {
            mut checkpoint,
            reaches,
        } = waiting?;
        if checkpoint.number == 0 {
            self.jobs.last_number += 1;
            checkpoint.number = self.jobs.last_number;
        }
        // Everything in it is synced, and that is what is known when it is read.
        checkpoint.synced_through = checkpoint.position;
        let kept = self.jobs.kept.iter().map(|(number, _)| *number);
        let kept = kept.rev().skip(KEPT - 1);
        let outdated = kept.chain(self.jobs.outdated.iter().copied()).collect();
        let place = KeyPlace::Checkpoint {
            store: checkpoint.store,
            log: checkpoint.log,
            number: checkpoint.number,
        };
        let maker = self.key_maker.as_mut();
        Some(Box::new(WriteCheckpoint {
            directory: self.options.directory.clone(),
            key: maker.map(|maker| maker.file_key(&place)),
            checkpoint,
            reaches,
            outdated,
        }))
    }

    pub(super) fn checkpoint_written(&mut self, written: &WriteCheckpoint) {
        let checkpoint = &written.checkpoint;
        for section in &checkpoint.sections {
            self.slots.get_mut(section.slot).floor = section.applied;
        }
        self.jobs
            .outdated
            .retain(|number| !written.outdated.contains(number));
        self.jobs
            .kept
            .push_back((checkpoint.number, checkpoint.position));
        while self.jobs.kept.len() > KEPT {
            self.jobs.kept.pop_front();
        }
    }
}
