//! A disk that spoils what was safe on it: what is lost is told, what is served is right.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Log, ReadCursor, ReadEnd, RecoveryReport, Stored};
use ringmq_storage::{ChannelKey, Sequence};

use super::session::Session;
use super::state::{Model, is_queue};
use super::world::{Outcome, World};

/// What became of a damaged log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damages {
    /// Lives in which recovery told of damage.
    pub(crate) reported: u64,
    /// Lives in which the damage looked like a torn tail.
    pub(crate) cut: u64,
    /// Messages that readers were told to be lost.
    pub(crate) lost: u64,
    pub(crate) read: u64,
}

impl World {
    /// Fills a log, closes it, spoils it, and opens it again.
    pub(crate) fn live_damaged(&mut self) -> Outcome<Damages> {
        self.habits.trouble = 0;
        let mut damages = Damages::default();
        let log = self.open(0)?;
        let mut session = Session::new(log);
        for _ in 0..200 {
            self.step(&mut session)?;
        }
        session.close(self)?;
        let whole = self.model.keys();
        drop(session);
        self.fs.kill();
        for _ in 0..self.random.between(1, 2) {
            self.spoil()?;
        }
        let mut model = Model::default();
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let opened = Log::open(fs, self.options.clone(), &mut model);
        let mut opened = opened.map_err(|error| format!("opening: {error}"))?;
        let report = &opened.report;
        damages.reported += u64::from(!report.damaged.is_empty());
        damages.cut += u64::from(report.torn_bytes > 0);
        let found = model.keys();
        if found != whole && !is_told(report) {
            return Err(format!(
                "{whole:?} became {found:?}, and nobody is told: {report:?}"
            ));
        }
        for (key, channel) in found {
            let runs = if is_queue(key.slot, key.channel.get()) {
                channel.runs(0)
            } else {
                vec![(channel.first, channel.last)]
            };
            let mut read =
                |(first, last)| self.read_damaged(&mut opened.log, key, first..=last, &mut damages);
            runs.into_iter().try_for_each(&mut read).map_err(|what| {
                format!(
                    "{key:?} ({channel:?}): {what}, {report:?}",
                    report = opened.report
                )
            })?;
        }
        Ok(damages)
    }

    /// Spoils a place in one of the segments.
    fn spoil(&mut self) -> Outcome {
        let directory = self.options.directory.clone();
        let mut entries = self
            .fs
            .list(&directory)
            .map_err(|error| error.to_string())?;
        entries.retain(|entry| entry.name.ends_with(".segment"));
        if entries.is_empty() {
            return Ok(());
        }
        let entry = &entries[self.random.below(entries.len())];
        let path = directory.join(&entry.name);
        // The segment's own header is kept: what becomes of a file without one is another matter.
        let len = usize::try_from(entry.len).unwrap_or(0);
        let offset = self.random.between(64, len - 1);
        let at = u64::try_from(offset).unwrap_or(0);
        let spoilt = if self.random.percent(70) {
            self.fs.flip_bit(&path, at, 3)
        } else {
            let sector = at.next_multiple_of(512);
            self.fs.fail_reads(&path, sector..sector + 512)
        };
        spoilt.map_err(|error| error.to_string())
    }

    /// Reads a channel: each message is right, or was told to be lost.
    fn read_damaged(
        &mut self,
        log: &mut Log,
        key: ChannelKey,
        range: RangeInclusive<u64>,
        damages: &mut Damages,
    ) -> Outcome {
        let (mut next, last_kept) = range.into_inner();
        let mut cursor = ReadCursor::default();
        for _ in 0..1_000_000 {
            let from = Sequence::new(next);
            let mut wrong = None;
            let mut visit = |stored: Stored<'_>| {
                let deed = self.oracle.message(key, next);
                let right = deed.is_some_and(|deed| {
                    stored.sequence.get() == next && stored.payload == deed.payload()
                });
                if !right {
                    wrong = wrong.or(Some((next, stored.sequence)));
                }
                next += 1;
                damages.read += 1;
            };
            let upto = Sequence::new(last_kept);
            let end = log.read(key, from, upto, &mut cursor, 4_000, &mut visit);
            if let Some((expected, read)) = wrong {
                return Err(format!("read {read} in the place of {expected}"));
            }
            match end {
                ReadEnd::CaughtUp if next > last_kept => return Ok(()),
                ReadEnd::CaughtUp => return Err(format!("caught up at {next}")),
                ReadEnd::More => {}
                ReadEnd::Cold(warm) => log.warmed(warm.run(), &mut cursor),
                ReadEnd::Damaged { first, last } => {
                    if first.get() != next || last < first || last.get() > last_kept {
                        return Err(format!("{first}..={last} damaged at {next}"));
                    }
                    damages.lost += last.get() + 1 - first.get();
                    next = last.get() + 1;
                }
            }
        }
        Err("reading does not end".to_owned())
    }
}

fn is_told(report: &RecoveryReport) -> bool {
    !report.damaged.is_empty() || report.torn_bytes > 0
}
