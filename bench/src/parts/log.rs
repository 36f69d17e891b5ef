//! The log: append and commit, reads by way of the index, recovery.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use ringmq::engine::stored::{Effect, Limits, NewMessage, Slots, StoreRefusal, StoredKind};
use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::{Fs, FsFile, RealFs};
use ringmq_storage::log::{Log, Mutations, Options, ReadCursor, ReadEnd, Refused};
use ringmq_storage::{ChannelKey, SegmentId, Sequence, SlotId, StoreId};

use super::{BODY_BYTES, CHANNEL, MESSAGES, Part, Run, part};

/// Messages that a log of a read or of a recovery holds: 8 MiB.
const STORED: u64 = 8 << 10;

pub(super) const PARTS: &[Part] = &[
    part("append/and commit", MESSAGES, || {
        let mut bed = Bed::new();
        let body = vec![7; BODY_BYTES];
        Box::new(move || {
            bed.store(StoredKind::EventsStore, &body, MESSAGES);
            bed.commit();
            bed.trim_some(StoredKind::EventsStore);
        })
    }),
    part("index/read in order", MESSAGES, || {
        read(|from| from % (STORED - 2 * MESSAGES))
    }),
    part("index/read anywhere", MESSAGES, || {
        read(|from| from * 2_654_435_761 % (STORED - 2 * MESSAGES))
    }),
    part("recovery/open 8 MiB of messages", STORED, || {
        let mut bed = Bed::filled();
        let (options, directory) = (bed.options(), bed.directory.take());
        drop(bed);
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        Box::new(move || {
            let mut slots = Slots::new(options.slots.iter().copied());
            let opened = Log::open(fs.clone(), options.clone(), &mut slots).expect("a whole log");
            assert!(directory.is_some() && slots.channel_count() == 1);
            black_box(opened);
        })
    }),
];

/// Reads 64 messages from another place each time.
fn read(place: fn(u64) -> u64) -> Run {
    let mut bed = Bed::filled();
    let key = bed.key(StoredKind::EventsStore);
    let mut cursor = ReadCursor::default();
    let mut at = 0;
    Box::new(move || {
        at += MESSAGES;
        let first = place(at) + 1;
        let (from, upto) = (Sequence::new(first), Sequence::new(first + MESSAGES - 1));
        let mut seen = 0;
        while seen < MESSAGES {
            let from = Sequence::new(from.get() + seen);
            let end = bed
                .log
                .read(key, from, upto, &mut cursor, usize::MAX, &mut |stored| {
                    black_box(stored.payload.first());
                    seen += 1;
                });
            if let ReadEnd::Cold(warm) = end {
                bed.log.warmed(warm.run(), &mut cursor);
            }
        }
    })
}

/// A log on a disk, with the state of its slots. Nothing is synced: the disk is not measured here.
pub(super) struct Bed {
    directory: Option<tempfile::TempDir>,
    fs: Arc<dyn Fs>,
    pub(super) log: Log,
    pub(super) slots: Slots,
    files: HashMap<SegmentId, Box<dyn FsFile>>,
    effects: Vec<Effect>,
    pub(super) now_ns: u64,
    untrimmed: u64,
}

impl Bed {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("room for a log");
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let options = options(&directory);
        let mut slots = Slots::new(options.slots.iter().copied());
        let opened = Log::open(fs.clone(), options, &mut slots).expect("a new log");
        slots.go_live();
        let mut bed = Self {
            directory: Some(directory),
            fs,
            log: opened.log,
            slots,
            files: HashMap::new(),
            effects: Vec::new(),
            now_ns: 1_700_000_000_000_000_000,
            untrimmed: 0,
        };
        bed.jobs();
        bed
    }

    fn filled() -> Self {
        let mut bed = Self::new();
        let body = vec![7; BODY_BYTES];
        for _ in 0..STORED / MESSAGES {
            bed.store(StoredKind::EventsStore, &body, MESSAGES);
            bed.commit();
        }
        bed
    }

    fn options(&self) -> Options {
        options(self.directory.as_ref().expect("it was not given away"))
    }

    pub(super) fn key(&self, kind: StoredKind) -> ChannelKey {
        let key = self.slots.find(slot(), kind, CHANNEL);
        key.expect("a message was stored")
    }

    pub(super) fn store(&mut self, kind: StoredKind, payload: &[u8], count: u64) {
        let limits = Limits::default();
        for _ in 0..count {
            self.now_ns += 1_000;
            let request = NewMessage {
                slot: slot(),
                kind,
                channel: CHANNEL,
                now_ns: self.now_ns,
                encoding: if kind == StoredKind::Queue { 2 } else { 1 },
                payload_len: u32::try_from(payload.len()).expect("a small message"),
                moved: None,
                limits: &limits,
            };
            let write = &mut |out: &mut Vec<u8>| out.extend_from_slice(payload);
            self.append(|slots, log, _| {
                let stored = slots.prepare_message(log, request, write);
                stored.map(drop)
            });
        }
        self.untrimmed += count;
    }

    /// Appends something; where a segment ends, behind what has gathered in it.
    pub(super) fn append(
        &mut self,
        mut what: impl FnMut(&mut Slots, &mut Log, u64) -> Result<(), StoreRefusal>,
    ) {
        for _ in 0..3 {
            match what(&mut self.slots, &mut self.log, self.now_ns) {
                Ok(()) => return,
                Err(StoreRefusal::Log(Refused::Busy)) => self.commit(),
                Err(refusal) => panic!("the log has room: {refusal:?}"),
            }
        }
        panic!("the log has room once everything is committed");
    }

    /// Writes and commits what has gathered.
    pub(super) fn commit(&mut self) {
        while let Some(batch) = self.log.take_batch() {
            let path = self.log.segment_path(batch.segment).expect("it is filled");
            let open = || self.fs.open(&path).expect("it was made");
            let file = self.files.entry(batch.segment).or_insert_with(open);
            file.write_at(u64::from(batch.offset), &batch.bytes)
                .expect("it was reserved");
            self.log.written(batch.end);
            self.log.synced(batch.end);
            self.log
                .commit(batch.end, &mut self.slots)
                .expect("records follow from the state");
            if batch.must_sync {
                self.files.remove(&batch.segment);
            }
        }
        self.slots.take_effects(&mut self.effects);
        self.effects.clear();
        self.jobs();
    }

    /// Forgets messages from time to time, so that the log does not grow.
    pub(super) fn trim_some(&mut self, kind: StoredKind) {
        if self.untrimmed < STORED {
            return;
        }
        self.untrimmed = 0;
        if kind != StoredKind::Queue {
            let key = self.key(kind);
            let last = self.slots.channel(key).expect("it has messages").last;
            self.append(|slots, log, now_ns| slots.prepare_trim(log, key, last, now_ns));
        }
        let mut builder = self.log.begin_checkpoint();
        for slot in builder.slots() {
            let slots = &self.slots;
            builder.section(slot, slots.applied(slot), |out| {
                slots.encode_section(slot, out);
            });
        }
        self.log.submit_checkpoint(builder);
        self.commit();
    }

    fn jobs(&mut self) {
        while let Some(job) = self.log.next_job() {
            let done = job.run(&*self.fs);
            self.log.done(done);
        }
    }
}

fn slot() -> SlotId {
    SlotId::all().next().expect("there are slots")
}

fn options(directory: &tempfile::TempDir) -> Options {
    Options {
        store: StoreId::from_bytes([7; 16]),
        log: 0,
        directory: directory.path().join("log"),
        slots: vec![slot()],
        segment_bytes: 4 << 20,
        segment_bytes_first: 1 << 20,
        frame_bytes_max: 256 << 10,
        batch_bytes_max: 4 << 20,
        free_bytes_min: 0,
        reserve_bytes: 64 << 10,
        checkpoint_every_bytes: 64 << 20,
        keyring: Keyring::default(),
        mutations: Mutations::default(),
    }
}
