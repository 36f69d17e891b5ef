//! Tests of the log as a whole, on the simulated file system.

mod append;
mod carry;
mod damage;
mod encrypted;
mod model;
mod reclaim;
mod recovery;
mod roll;
mod sparse;
mod speed;
mod time;

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::fs::PAGE_BYTES;
use crate::id::{ChannelId, Sequence};
use crate::record::queue::{Run, encode_settle};
use crate::record::{RecordHead, RecordKind};
use crate::sim::SimFs;
use model::Model;

const MIB: u32 = 1 << 20;

fn slot(index: u16) -> SlotId {
    SlotId::new(index).unwrap()
}

fn key(slot_index: u16, channel: u32) -> ChannelKey {
    ChannelKey {
        slot: slot(slot_index),
        channel: ChannelId::new(channel),
    }
}

fn seq(number: u64) -> Sequence {
    Sequence::new(number)
}

fn options() -> Options {
    Options {
        store: StoreId::from_bytes(*b"0123456789abcdef"),
        log: 0,
        directory: PathBuf::from("/store/logs-1/000"),
        slots: (0..4).map(slot).collect(),
        segment_bytes: 4 * MIB,
        segment_bytes_first: MIB,
        frame_bytes_max: 256 << 10,
        batch_bytes_max: 4 * MIB,
        free_bytes_min: 0,
        reserve_bytes: 64 << 10,
        checkpoint_every_bytes: 64 << 20,
        keyring: crate::cipher::Keyring::default(),
        mutations: Mutations::default(),
    }
}

/// Messages that were read, by sequence, and ranges that were told to be lost.
type ReadAll = (Vec<(u64, Vec<u8>)>, Vec<(u64, u64)>);

/// A log with what it needs: its disk, its state, and a clock.
struct Bench {
    fs: SimFs,
    options: Options,
    log: Log,
    model: Model,
    report: RecoveryReport,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: Options) -> Self {
        Self::on(SimFs::new(1), options)
    }

    fn on(fs: SimFs, options: Options) -> Self {
        let mut model = Model::default();
        let opened = Log::open(Arc::new(fs.clone()), options.clone(), &mut model).unwrap();
        Self {
            fs,
            options,
            log: opened.log,
            model,
            report: opened.report,
            now_ns: 1_000_000_000_000,
        }
    }

    /// Ends the process without further ado, and starts again.
    fn reopen(self) -> Self {
        let now_ns = self.now_ns;
        drop(self.log);
        self.fs.kill();
        let mut bench = Self::on(self.fs, self.options);
        bench.now_ns = now_ns;
        bench
    }

    fn path(&self, segment: u32) -> PathBuf {
        segments::segment_path(&self.options.directory, SegmentId::new(segment))
    }

    /// Runs all jobs that there are; the errors of those that failed. Stops at the first failure.
    fn jobs(&mut self) -> Vec<std::io::ErrorKind> {
        while let Some(job) = self.log.next_job() {
            let done = job.run(&self.fs);
            if let JobOutcome::Retry { error } = self.log.done(done) {
                return vec![error.kind()];
            }
        }
        Vec::new()
    }

    fn checkpoint(&mut self) {
        let mut builder = self.log.begin_checkpoint();
        for slot in builder.slots() {
            let applied = self.model.applied(slot);
            builder.section(slot, applied, |out| self.model.encode(slot, out));
        }
        self.log.submit_checkpoint(builder);
        assert_eq!(self.jobs(), vec![]);
    }

    /// Writes, syncs and commits one batch.
    fn commit_one(&mut self) -> bool {
        let Some(batch) = self.log.take_batch() else {
            return false;
        };
        self.write(&batch);
        self.log.written(batch.end);
        let path = self.log.segment_path(batch.segment).unwrap();
        self.fs.sync_path(&path).unwrap();
        self.log.synced(batch.end);
        self.log.commit(batch.end, &mut self.model).unwrap();
        true
    }

    fn write(&self, batch: &Batch) {
        let path = self.log.segment_path(batch.segment).unwrap();
        let offset = u64::from(batch.offset);
        let to = offset + u64::try_from(batch.bytes.len()).unwrap();
        let segment = self.log.segments.get(batch.segment).unwrap();
        let whole_pages = to.is_multiple_of(u64::try_from(PAGE_BYTES).unwrap());
        assert!(whole_pages || to == u64::from(segment.len), "{to}");
        self.fs.append_write(&path, offset, &batch.bytes).unwrap();
    }

    fn commit(&mut self) {
        while self.commit_one() {}
        assert!(!self.log.has_gathered());
    }

    fn try_append(
        &mut self,
        key: ChannelKey,
        sequence: u64,
        payload: &[u8],
        class: Class,
    ) -> Result<(), Refused> {
        self.append_record(key, RecordKind::Message, sequence, payload, class)
    }

    fn append_record(
        &mut self,
        key: ChannelKey,
        kind: RecordKind,
        sequence: u64,
        payload: &[u8],
        class: Class,
    ) -> Result<(), Refused> {
        let head = RecordHead {
            kind,
            encoding: 1,
            channel: key.channel,
            sequence: seq(sequence),
            time_delta_ns: 0,
            payload_len: u32::try_from(payload.len()).unwrap(),
        };
        let now_ns = self.now_ns;
        self.log.append(key.slot, now_ns, head, class, &mut |out| {
            out.extend_from_slice(payload);
        })
    }

    /// Appends a message, the next of its channel; makes a segment or commits when it must.
    fn send(&mut self, key: ChannelKey, payload: &[u8]) -> u64 {
        let sequence = self.model.next(key);
        for _ in 0..3 {
            match self.try_append(key, sequence, payload, Class::Message) {
                Ok(()) => {
                    self.model.gathered(key, sequence);
                    return sequence;
                }
                Err(Refused::Busy) => {
                    assert_eq!(self.jobs(), vec![]);
                    self.commit();
                }
                Err(refused) => panic!("{refused}"),
            }
        }
        panic!("busy for ever");
    }

    fn trim(&mut self, key: ChannelKey, through: u64) {
        let kind = RecordKind::Trim;
        self.append_record(key, kind, through, &[], Class::System)
            .unwrap();
        self.commit();
    }

    /// Carries until there is nothing more to carry, and drops what can go.
    fn carry(&mut self) {
        let mut cursor = ReadCursor::default();
        loop {
            match self.log.carry_some(&mut cursor, 20_000, &self.model) {
                Carry::Idle => break,
                Carry::More | Carry::Refused(Refused::Busy) => {
                    self.commit();
                    self.jobs();
                }
                Carry::Cold(warm) => self.log.warmed(warm.run(), &mut cursor),
                Carry::Refused(refused) => panic!("{refused}"),
            }
        }
        self.jobs();
    }

    /// Reads everything of a channel from a sequence on, warming what is cold; lost ranges are
    /// returned as well.
    fn read_all(&mut self, key: ChannelKey, from: u64) -> ReadAll {
        let mut cursor = ReadCursor::default();
        self.read_on(key, from, &mut cursor)
    }

    fn read_on(&mut self, key: ChannelKey, from: u64, cursor: &mut ReadCursor) -> ReadAll {
        self.read_range(key, from, u64::MAX, cursor)
    }

    fn read_range(
        &mut self,
        key: ChannelKey,
        from: u64,
        upto: u64,
        cursor: &mut ReadCursor,
    ) -> ReadAll {
        let (mut messages, mut lost) = (Vec::new(), Vec::new());
        let (mut from, upto) = (seq(from), seq(upto));
        loop {
            let end = self
                .log
                .read(key, from, upto, cursor, 40_000, &mut |stored| {
                    assert_eq!(stored.shared(), stored.payload);
                    messages.push((stored.sequence.get(), stored.payload.to_vec()));
                    from = stored.sequence.next();
                });
            match end {
                ReadEnd::CaughtUp => return (messages, lost),
                ReadEnd::More => {}
                ReadEnd::Cold(warm) => self.log.warmed(warm.run(), cursor),
                ReadEnd::Damaged { first, last } => {
                    assert!(first >= from);
                    lost.push((first.get(), last.get()));
                    from = last.next();
                }
            }
        }
    }

    /// Settles messages of a queue; what it keeps begins behind `floor`.
    fn settle(&mut self, key: ChannelKey, floor: u64, runs: &[(u64, u64)]) {
        let run = |(first, last): &(u64, u64)| Run {
            first: seq(*first),
            last: seq(*last),
        };
        let runs: Vec<_> = runs.iter().map(run).collect();
        let mut payload = Vec::new();
        encode_settle(0, &runs, &mut payload);
        let kind = RecordKind::QueueSettle;
        self.append_record(key, kind, floor, &payload, Class::System)
            .unwrap();
        self.commit();
    }

    /// Checks that every message that a queue holds is read, when just such are asked for.
    fn check_queue(&mut self, key: ChannelKey) {
        let expected = self.model.messages(key);
        let mut cursor = ReadCursor::default();
        for run in expected.chunk_by(|(before, _), (after, _)| before + 1 == *after) {
            let (first, last) = (run[0].0, run[run.len() - 1].0);
            let (found, lost) = self.read_range(key, first, last, &mut cursor);
            assert_eq!(lost, vec![], "{key:?} {first}..={last}");
            assert!(found == run, "{key:?} {first}..={last}");
        }
    }

    /// Checks that a channel holds what was committed, all of it, in order.
    fn check(&mut self, key: ChannelKey) {
        let expected = self.model.messages(key);
        let (found, lost) = self.read_all(key, 0);
        assert_eq!(lost, vec![]);
        let numbers = |messages: &[(u64, Vec<u8>)]| -> Vec<u64> {
            messages.iter().map(|(number, _)| *number).collect()
        };
        assert_eq!(numbers(&found), numbers(&expected), "{key:?}");
        assert!(found == expected, "the payloads of {key:?} differ");
        let usage = self.log.usage(key);
        assert_eq!(usage.count, u64::try_from(expected.len()).unwrap());
    }
}

/// A payload that tells where it belongs.
fn payload(key: ChannelKey, number: u64, len: usize) -> Vec<u8> {
    let name = format!("{}/{}/{number}.", key.slot, key.channel);
    name.into_bytes().into_iter().cycle().take(len).collect()
}
