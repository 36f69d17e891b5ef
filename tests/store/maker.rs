//! Makes stores, and runs the tools on them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use prost::Message;
use ringmq::engine::queues::{MESSAGE_ENCODING, SettleReason};
use ringmq::engine::stored::{CursorOwner, Limits, NewMessage, Slots, StoredKind};
use ringmq_proto::kubemq::{EventReceive, QueueMessage};
use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::{Fs, RealFs};
use ringmq_storage::layout::Layout;
use ringmq_storage::log::{Carry, JobOutcome, Log, Options, ReadCursor, Refused};
use ringmq_storage::record::queue::{QueueHead, Requeued, Run};
use ringmq_storage::{ChannelKey, Sequence, SlotId, Store};
use serde_json::Value;
use tempfile::TempDir;

/// 2026-11-21, and a nanosecond for each message.
const BEGIN_NS: u64 = 1_795_219_200_000_000_000;

/// A store that is being made. Everything in it is synced after each call.
pub(crate) struct Maker {
    store: Store,
    fs: Arc<dyn Fs>,
    pub(crate) layout: Layout,
    logs: Vec<(Log, Slots)>,
    now_ns: u64,
}

impl Maker {
    /// Makes or opens the store in a directory; a new one gets so many logs.
    pub(crate) fn open(path: &Path, log_count: u16, keyring: &Keyring) -> Self {
        let store = Store::open(path, ringmq_storage::Options { create: true }).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let layout = Layout::read(&*fs, path).unwrap().unwrap_or_else(|| {
            let layout = Layout {
                generation: 1,
                log_count,
            };
            layout.replace(&*fs, path).unwrap();
            layout
        });
        let logs = (0..layout.log_count).map(|log| open_log(&store, &fs, layout, (log, keyring)));
        let logs = logs.collect();
        Self {
            store,
            fs,
            layout,
            logs,
            now_ns: BEGIN_NS,
        }
    }

    fn log_of(&mut self, channel: &str) -> (SlotId, &mut (Log, Slots)) {
        let slot = self.store.slot_of(channel);
        let log = usize::from(slot.index() % self.layout.log_count);
        (slot, &mut self.logs[log])
    }

    /// The log that a channel lies in.
    pub(crate) fn log_number(&self, channel: &str) -> u16 {
        self.store.slot_of(channel).index() % self.layout.log_count
    }

    /// Stores an event, and gives back its sequence.
    pub(crate) fn publish(&mut self, channel: &str, body: &[u8]) -> u64 {
        let event = EventReceive {
            event_id: format!("id-{}", self.now_ns),
            channel: channel.to_owned(),
            metadata: "meta".to_owned(),
            body: body.to_vec().into(),
            tags: [("key".to_owned(), "value".to_owned())].into(),
            ..EventReceive::default()
        };
        self.store_message(StoredKind::EventsStore, channel, 1, &event.encode_to_vec())
    }

    /// Sends a message to a queue, and gives back its sequence.
    pub(crate) fn send(&mut self, channel: &str, body: &[u8]) -> u64 {
        let message = QueueMessage {
            message_id: format!("id-{}", self.now_ns),
            channel: channel.to_owned(),
            metadata: "meta".to_owned(),
            body: body.to_vec().into(),
            ..QueueMessage::default()
        };
        let head = QueueHead {
            visible_at_ns: 0,
            expires_at_ns: 0,
            receives_max: 3,
            rerouted: false,
            policy_cleared: false,
            dead_letter: "dead",
            origin: "",
            moved: None,
        };
        let mut payload = Vec::new();
        head.encode(&mut payload);
        payload.extend_from_slice(&message.encode_to_vec());
        self.store_message(StoredKind::Queue, channel, MESSAGE_ENCODING, &payload)
    }

    /// Settles messages of a queue.
    pub(crate) fn settle(&mut self, channel: &str, runs: &[(u64, u64)]) {
        let runs = runs.iter().map(|(first, last)| Run {
            first: Sequence::new(*first),
            last: Sequence::new(*last),
        });
        let runs: Vec<_> = runs.collect();
        let (now_ns, fs) = (self.now_ns, self.fs.clone());
        let (slot, (log, slots)) = self.log_of(channel);
        let key = slots.find(slot, StoredKind::Queue, channel).unwrap();
        let settled = slots.prepare_settle(log, key, SettleReason::Acked, 0, &runs, now_ns);
        settled.unwrap();
        commit(&*fs, log, slots);
    }

    /// Puts a message of a queue back to its tail.
    pub(crate) fn put_back(&mut self, channel: &str, sequence: u64, receives: u32) {
        let old = Sequence::new(sequence);
        let (now_ns, fs) = (self.now_ns, self.fs.clone());
        let (slot, (log, slots)) = self.log_of(channel);
        let key = slots.find(slot, StoredKind::Queue, channel).unwrap();
        let entries = [Requeued { old, receives }];
        slots.prepare_requeue(log, key, &entries, now_ns).unwrap();
        commit(&*fs, log, slots);
    }

    fn store_message(
        &mut self,
        kind: StoredKind,
        channel: &str,
        encoding: u8,
        payload: &[u8],
    ) -> u64 {
        self.now_ns += 1;
        let (now_ns, fs) = (self.now_ns, self.fs.clone());
        let (slot, (log, slots)) = self.log_of(channel);
        loop {
            let request = NewMessage {
                slot,
                kind,
                channel,
                now_ns,
                encoding,
                payload_len: u32::try_from(payload.len()).unwrap(),
                moved: None,
                limits: &Limits::default(),
            };
            let stored = slots.prepare_message(log, request, &mut |out| {
                out.extend_from_slice(payload);
            });
            match stored {
                Ok(accepted) => {
                    commit(&*fs, log, slots);
                    return accepted.sequence.get();
                }
                Err(refusal) => {
                    assert_eq!(refusal.to_string(), Refused::Busy.to_string());
                    work(&*fs, log);
                }
            }
        }
    }

    fn key(&mut self, channel: &str) -> ChannelKey {
        let (slot, (_, slots)) = self.log_of(channel);
        slots.find(slot, StoredKind::EventsStore, channel).unwrap()
    }

    /// Removes the events up to a sequence.
    pub(crate) fn trim(&mut self, channel: &str, through: u64) {
        let (key, now_ns, fs) = (self.key(channel), self.now_ns, self.fs.clone());
        let (_, (log, slots)) = self.log_of(channel);
        slots
            .prepare_trim(log, key, Sequence::new(through), now_ns)
            .unwrap();
        commit(&*fs, log, slots);
    }

    /// Makes a durable position.
    pub(crate) fn subscribe(&mut self, channel: &str, client: &str, position: u64) {
        let (key, now_ns, fs) = (self.key(channel), self.now_ns, self.fs.clone());
        let (_, (log, slots)) = self.log_of(channel);
        let (owner, limits) = (CursorOwner::Client, Limits::default());
        let position = Sequence::new(position);
        let made = slots.prepare_cursor(log, key, owner, client, position, now_ns, &limits);
        made.unwrap();
        commit(&*fs, log, slots);
    }

    /// Writes a checkpoint of every log, and whatever else waits to be done.
    pub(crate) fn checkpoint(&mut self) {
        for (log, slots) in &mut self.logs {
            if !log.has_changed_since_checkpoint() {
                continue;
            }
            let mut builder = log.begin_checkpoint();
            for slot in builder.slots() {
                builder.section(slot, slots.applied(slot), |out| {
                    slots.encode_section(slot, out);
                });
            }
            log.submit_checkpoint(builder);
            work(&*self.fs, log);
        }
    }

    /// Copies what mostly dead segments keep to the end of the logs, and drops them.
    pub(crate) fn carry(&mut self) {
        for (log, slots) in &mut self.logs {
            let mut cursor = ReadCursor::default();
            loop {
                match log.carry_some(&mut cursor, 256 << 10, slots) {
                    Carry::Idle => break,
                    // A slice that fills a segment waits until the next one is made.
                    Carry::More | Carry::Refused(Refused::Busy) => {
                        commit(&*self.fs, log, slots);
                    }
                    Carry::Cold(warm) => log.warmed(warm.run(), &mut cursor),
                    Carry::Refused(refused) => panic!("{refused}"),
                }
            }
        }
        // What was carried must be in a checkpoint before the originals go.
        self.publish("after", b"carrying");
        self.checkpoint();
        self.publish("after", b"carrying");
        self.checkpoint();
    }

    /// What the store says of a channel: first and last sequence that is kept.
    pub(crate) fn kept(&mut self, channel: &str) -> (u64, u64) {
        let key = self.key(channel);
        let (_, (_, slots)) = self.log_of(channel);
        let channel = slots.channel(key).unwrap();
        (channel.first.get(), channel.last.get())
    }

    /// The position of a client.
    pub(crate) fn position(&mut self, channel: &str, client: &str) -> Option<u64> {
        let key = self.key(channel);
        let (_, (_, slots)) = self.log_of(channel);
        let found = slots.cursor(key, CursorOwner::Client, client);
        found.map(|(_, position)| position.get())
    }
}

fn open_log(
    store: &Store,
    fs: &Arc<dyn Fs>,
    layout: Layout,
    (log, keyring): (u16, &Keyring),
) -> (Log, Slots) {
    let slots = SlotId::all().filter(|slot| slot.index() % layout.log_count == log);
    let options = Options {
        store: store.id(),
        log,
        directory: layout.log_directory(store.path(), log),
        slots: slots.collect(),
        segment_bytes: 4 << 20,
        segment_bytes_first: 1 << 20,
        frame_bytes_max: 256 << 10,
        batch_bytes_max: 4 << 20,
        free_bytes_min: 0,
        reserve_bytes: 64 << 10,
        checkpoint_every_bytes: u64::MAX,
        keyring: keyring.clone(),
        mutations: ringmq_storage::log::Mutations::default(),
    };
    let mut slots = Slots::new(options.slots.iter().copied());
    let opened = Log::open(fs.clone(), options, &mut slots).unwrap();
    let report = opened.report;
    assert!(
        report.damaged.is_empty() && report.halted.is_empty(),
        "{report:?}"
    );
    slots.go_live();
    (opened.log, slots)
}

/// Makes durable what has gathered, and applies it.
fn commit(fs: &dyn Fs, log: &mut Log, slots: &mut Slots) {
    while let Some(batch) = log.take_batch() {
        let path = log.segment_path(batch.segment).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&batch.bytes, u64::from(batch.offset))
            .unwrap();
        log.written(batch.end);
        file.sync_data().unwrap();
        log.synced(batch.end);
        log.commit(batch.end, slots).unwrap();
    }
    work(fs, log);
}

fn work(fs: &dyn Fs, log: &mut Log) {
    while let Some(job) = log.next_job() {
        let outcome = log.done(job.run(fs));
        assert!(!matches!(outcome, JobOutcome::Retry { .. }), "{outcome:?}");
    }
}

/// A directory with a store, and what the tools say of it.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    /// Master keys, as they are written down; none: the store is plain.
    pub(crate) keys: String,
    /// With the keys what was encrypted is read, and nothing new is encrypted.
    pub(crate) reading_only: bool,
}

/// What a tool ended with.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    pub(crate) errors: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            keys: String::new(),
            reading_only: false,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn maker(&self, log_count: u16) -> Maker {
        let keyring = match &*self.keys {
            "" => Keyring::default(),
            keys => Keyring::parse(keys).unwrap(),
        };
        Maker::open(&self.path(), log_count, &keyring)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command
            .env_clear()
            .env("HOST", "node-1")
            .arg("--data")
            .arg(self.path());
        if !self.keys.is_empty() {
            command.env("STORE_ENCRYPTION_KEY", &self.keys);
            let enable = if self.reading_only { "false" } else { "true" };
            command.env("STORE_ENCRYPTION_ENABLE", enable);
        }
        let segments = ["--set", "store.segment_bytes=4MiB"];
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(segments)
            .arg("store")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Told {
            code: status.code(),
            text: text(stdout),
            errors: text(stderr),
        }
    }

    /// Runs a tool that must find all well.
    pub(crate) fn sound(&self, arguments: &[&str]) -> String {
        let told = self.run(arguments);
        assert_eq!(told.code, Some(0), "{}{}", told.text, told.errors);
        told.text
    }

    /// The lines of a dump.
    pub(crate) fn dump(&self, channel: &str, more: &[&str]) -> Vec<Value> {
        let text = self.sound(&[&["dump", "--channel", channel], more].concat());
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// The files of the logs, sorted, with what is in them.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.path()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.file_name().is_none_or(|name| name != "LOCK") {
                    files.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    /// Changes one byte of a file.
    pub(crate) fn damage(path: &Path, offset: u64) {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
    }
}
