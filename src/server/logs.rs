//! Opening the logs of the store: before the executors start, each on a thread of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::Fs;
use ringmq_storage::layout::Layout;
use ringmq_storage::log::{self, Log, RecoveryReport};
use ringmq_storage::{SlotId, Store};

use super::{Failed, exit};
use crate::config::{Config, KeySource};
use crate::engine::stored::Slots;
use crate::rt;
use crate::shard::{ChannelCounts, LogPlacement, OpenedLog};

/// Logs that a store may have: one for each slot.
const LOGS_MAX: usize = ringmq_storage::SLOT_COUNT as usize;

/// A store that has just begun takes little space.
const SEGMENT_BYTES_FIRST: u32 = 1 << 20;

/// What replication will ship in one piece.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// What may gather while a batch is written: a few milliseconds of a disk.
const BATCH_BYTES_MAX: u32 = 4 << 20;

/// Room for the records that give space back when the disk is full.
const RESERVE_BYTES: u32 = 256 << 10;

/// The opened logs, by the shard that gets them.
pub(super) struct Logs {
    pub placement: LogPlacement,
    pub by_shard: Vec<Vec<OpenedLog>>,
}

/// Opens every log of the store for `shards` executors.
pub(super) fn open(
    store: &Store,
    config: &Config,
    shards: usize,
    fs: &Arc<dyn Fs>,
) -> Result<Logs, Failed> {
    let failed = |error: &dyn std::error::Error| Failed::new(exit::STORE, error);
    let keyring = keyring(config).map_err(|error| failed(&error))?;
    let layout = layout(store.path(), shards, &**fs).map_err(|error| failed(&error))?;
    // A rewrite by `ringmq store reshard` that was killed leaves logs that do not count.
    let removed = layout.remove_others(&**fs, store.path());
    removed.map_err(|error| failed(&error))?;
    let placement = LogPlacement {
        logs: layout.log_count,
        shards: u16::try_from(shards).unwrap_or(u16::MAX),
    };
    let channels = Arc::new(ChannelCounts::new(layout.log_count));
    let began = rt::now();
    let opened: Vec<Result<_, ringmq_storage::Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..layout.log_count)
            .map(|number| {
                let options = options(store, config, &keyring, layout, number);
                let channels = channels.clone();
                scope.spawn(move || open_one(fs.clone(), options, number, channels))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("opening a log does not panic"))
            .collect()
    });
    let mut by_shard: Vec<Vec<OpenedLog>> = (0..shards).map(|_| Vec::new()).collect();
    let mut frames = 0;
    for opened in opened {
        let (log, report) = opened.map_err(|error| failed(&error))?;
        frames += report.frames_replayed;
        tell(&log, &report);
        let owner = usize::from(placement.owner_of(log.number).number());
        if let Some(logs) = by_shard.get_mut(owner) {
            logs.push(log);
        }
    }
    let took_ms = u64::try_from(rt::now().since(began).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(logs = placement.logs, frames, took_ms, "store opened");
    if usize::from(placement.logs) < shards.min(LOGS_MAX) {
        tracing::warn!(
            logs = placement.logs,
            cores = shards,
            "the store has fewer logs than the broker has cores: stored channels use some of them \
             only; `ringmq store reshard` changes that"
        );
    }
    Ok(Logs {
        placement,
        by_shard,
    })
}

/// How the store is divided. One without any message yet is divided anew for the cores there are.
fn layout(store: &Path, shards: usize, fs: &dyn Fs) -> Result<Layout, ringmq_storage::Error> {
    let wanted = Layout {
        generation: 1,
        log_count: u16::try_from(shards.clamp(1, LOGS_MAX)).unwrap_or(1),
    };
    let layout = match Layout::read(fs, store)? {
        Some(layout) if layout.log_count == wanted.log_count => return Ok(layout),
        Some(layout) if has_records(store, layout, fs) => return Ok(layout),
        Some(layout) => Layout {
            generation: layout.generation,
            ..wanted
        },
        None => wanted,
    };
    layout.replace(fs, store)?;
    Ok(layout)
}

/// Whether any log of the layout has a file.
fn has_records(store: &Path, layout: Layout, fs: &dyn Fs) -> bool {
    (0..layout.log_count).any(|number| {
        let entries = fs.list(&layout.log_directory(store, number));
        entries.is_ok_and(|entries| !entries.is_empty())
    })
}

/// The master keys, and what there is to be said about them.
fn keyring(config: &Config) -> Result<Keyring, ringmq_storage::Error> {
    let keyring = config.store.encryption.keyring()?;
    if let Some(KeySource::File(path)) = config.store.encryption.key_source()
        && let Ok(found) = std::fs::metadata(&path)
        && found.mode() & 0o077 != 0
    {
        tracing::warn!(
            file = %path.display(),
            "the file with the keys of the store can be read by others than its owner"
        );
    }
    match keyring.writing() {
        Some(key) => tracing::info!(%key, "what is stored from now on is encrypted"),
        None if !keyring.is_empty() => tracing::warn!(
            "store.encryption.enable is off: what is stored from now on is plain; the keys are \
             used to read what was stored before"
        ),
        None => {}
    }
    Ok(keyring)
}

fn options(
    store: &Store,
    config: &Config,
    keyring: &Keyring,
    layout: Layout,
    number: u16,
) -> log::Options {
    let slots = SlotId::all().filter(|slot| slot.index() % layout.log_count == number);
    let directory: PathBuf = layout.log_directory(store.path(), number);
    log::Options {
        store: store.id(),
        log: number,
        directory,
        slots: slots.collect(),
        segment_bytes: config.store.segment_bytes,
        segment_bytes_first: SEGMENT_BYTES_FIRST,
        frame_bytes_max: FRAME_BYTES_MAX,
        batch_bytes_max: BATCH_BYTES_MAX,
        free_bytes_min: config.store.free_bytes_min,
        reserve_bytes: RESERVE_BYTES,
        checkpoint_every_bytes: u64::from(config.store.segment_bytes),
        keyring: keyring.clone(),
        mutations: log::Mutations::default(),
    }
}

fn open_one(
    fs: Arc<dyn Fs>,
    options: log::Options,
    number: u16,
    channels: Arc<ChannelCounts>,
) -> Result<(OpenedLog, RecoveryReport), ringmq_storage::Error> {
    let mut slots = Slots::new(options.slots.iter().copied());
    let opened = Log::open(fs, options, &mut slots)?;
    slots.go_live();
    channels.set(number, slots.channel_count());
    let log = OpenedLog {
        number,
        log: opened.log,
        slots,
        channels,
    };
    Ok((log, opened.report))
}

fn tell(opened: &OpenedLog, report: &RecoveryReport) {
    let log = opened.number;
    tracing::debug!(
        log,
        frames = report.frames_replayed,
        scanned_bytes = report.bytes_scanned,
        segments = report.segments,
        "log opened"
    );
    if report.torn_bytes > 0 {
        tracing::warn!(
            log,
            bytes = report.torn_bytes,
            "the broker was ended in the middle of a write: its unacknowledged rest was cut"
        );
    }
    for bad in &report.bad_checkpoints {
        tracing::warn!(
            log,
            reason = bad,
            "a checkpoint could not be read; an older one was used"
        );
    }
    for halted in &report.halted {
        tracing::error!(
            log,
            reason = %halted,
            "a slot of the log contradicts itself and takes no more messages; what it holds can \
             be read. This is a bug or a damaged disk: keep a copy of the store and report it"
        );
    }
    for damaged in &report.damaged {
        tracing::error!(
            log,
            file = %damaged.path.display(),
            bytes = ?damaged.range,
            reason = damaged.reason,
            "stored messages are damaged and will be left out; the rest is served. \
             `ringmq store verify` lists them"
        );
    }
}
