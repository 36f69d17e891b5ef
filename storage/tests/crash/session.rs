//! The time between opening a log and losing it: the part of the shard that commits and runs jobs.

use ringmq_storage::Position;
use ringmq_storage::log::{Batch, Carry, Done, Job, Log, ReadCursor};

use super::craft::Tail;
use super::world::{Outcome, World};

/// A batch on its way.
enum Flight {
    None,
    Taken(Batch),
    Written(Batch),
    Synced(Batch),
}

enum Work {
    None,
    Job(Job),
    Done(Done),
}

pub(crate) struct Session {
    pub(crate) log: Log,
    flight: Flight,
    work: Work,
    carried: ReadCursor,
}

impl Session {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            log,
            flight: Flight::None,
            work: Work::None,
            carried: ReadCursor::default(),
        }
    }

    pub(crate) fn has_failed_sync(&self) -> bool {
        self.log.poisoned().is_some()
    }

    /// A poisoned log takes nothing and hands nothing out.
    pub(crate) fn check_poisoned(&mut self, world: &mut World) -> Outcome {
        if self.log.take_batch().is_some() {
            return Err("a poisoned log hands out a batch".to_owned());
        }
        world.check_some(&mut self.log)
    }

    fn commit(&mut self, through: Position, world: &mut World) -> Outcome {
        let committed = self.log.commit(through, &mut world.model);
        committed.map_err(|divergence| format!("commit through {through}: {divergence:?}"))?;
        world.oracle.note_committed(through);
        Ok(())
    }

    /// One step of the batch that is on its way.
    pub(crate) fn commit_step(&mut self, world: &mut World) -> Outcome {
        let eager = !world.habits.strict || world.options.mutations.answer_before_sync;
        self.flight = match std::mem::replace(&mut self.flight, Flight::None) {
            Flight::None => self.log.take_batch().map_or(Flight::None, Flight::Taken),
            Flight::Taken(batch) => {
                world.nonces.note(&batch)?;
                let path = self.log.segment_path(batch.segment);
                let path = path.ok_or("a batch for an unknown segment")?;
                let written = world
                    .fs
                    .append_write(&path, u64::from(batch.offset), &batch.bytes);
                written.map_err(|error| format!("writing a batch: {error}"))?;
                self.log.written(batch.end);
                world.seen.note_batch(&batch);
                if eager {
                    self.commit(batch.end, world)?;
                }
                Flight::Written(batch)
            }
            Flight::Written(batch) => {
                let rolls = batch.must_sync && !world.options.mutations.roll_without_sync;
                let waits = rolls || world.habits.strict;
                if waits && !self.sync_batch(&batch, world)? {
                    return Ok(());
                }
                if waits {
                    Flight::Synced(batch)
                } else {
                    Flight::None
                }
            }
            Flight::Synced(batch) => {
                if !eager {
                    self.commit(batch.end, world)?;
                }
                Flight::None
            }
        };
        Ok(())
    }

    /// Syncs a batch; false when that fails and the log is given up.
    fn sync_batch(&mut self, batch: &Batch, world: &mut World) -> Outcome<bool> {
        let path = self.log.segment_path(batch.segment);
        let path = path.ok_or("a batch of an unknown segment")?;
        if let Err(error) = world.fs.sync_path(&path) {
            self.log.fail(error.to_string());
            return Ok(false);
        }
        self.log.synced(batch.end);
        world.oracle.note_durable(batch.end);
        Ok(true)
    }

    /// The sync that comes from time to time when answers do not wait for it.
    pub(crate) fn sync(&mut self, world: &mut World) -> Outcome {
        let Some((segment, end)) = self.log.unsynced() else {
            return Ok(());
        };
        let path = self.log.segment_path(segment);
        let path = path.ok_or("an unsynced segment without a file")?;
        if let Err(error) = world.fs.sync_path(&path) {
            self.log.fail(error.to_string());
            return Ok(());
        }
        self.log.synced(end);
        world.oracle.note_durable(end);
        Ok(())
    }

    /// One step of the job that is under way, if there is one to do.
    pub(crate) fn job_step(&mut self, world: &mut World) -> Outcome {
        self.work = match std::mem::replace(&mut self.work, Work::None) {
            Work::None => {
                if self.log.wants_checkpoint() {
                    self.checkpoint(world)?;
                }
                self.log.next_job().map_or(Work::None, Work::Job)
            }
            Work::Job(job) => Work::Done(job.run(&world.fs)),
            Work::Done(done) => {
                self.log.done(done);
                Work::None
            }
        };
        Ok(())
    }

    pub(crate) fn checkpoint(&mut self, world: &mut World) -> Outcome {
        let mut builder = self.log.begin_checkpoint();
        for slot in &world.options.slots {
            let applied = world.model.applied(*slot);
            builder.section(*slot, applied, |out| world.model.encode(*slot, out));
        }
        self.log.submit_checkpoint(builder);
        world.seen.checkpoints += 1;
        Ok(())
    }

    /// Compaction, as the shard does it when it has nothing else to do.
    pub(crate) fn carry(&mut self, world: &mut World) {
        let bytes_max = [1, 500, 20_000][world.random.below(3)];
        if let Carry::Cold(warm) = self
            .log
            .carry_some(&mut self.carried, bytes_max, &world.model)
        {
            self.log.warmed(warm.run(), &mut self.carried);
        }
    }

    fn is_idle(&self) -> bool {
        matches!((&self.flight, &self.work), (Flight::None, Work::None)) && !self.log.has_gathered()
    }

    /// Ends in order: everything is written, synced and checkpointed.
    pub(crate) fn close(&mut self, world: &mut World) -> Outcome<Option<Tail>> {
        world.fs.limit_bytes(None);
        let with_checkpoint = world.random.percent(50);
        for round in 0..2 {
            for _ in 0..400 {
                if self.is_idle() && self.log.unsynced().is_none() {
                    break;
                }
                self.commit_step(world)?;
                self.sync(world)?;
                self.job_step(world)?;
                if self.has_failed_sync() {
                    return Ok(None);
                }
            }
            if round == 0 && with_checkpoint {
                self.checkpoint(world)?;
                self.job_step(world)?;
            }
        }
        if !self.is_idle() || self.log.unsynced().is_some() {
            return Ok(None);
        }
        let end = self.log.committed();
        let path = self.log.segment_path(end.segment());
        Ok(path.map(|path| Tail { end, path }))
    }
}
