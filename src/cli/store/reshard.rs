//! `ringmq store reshard`: rewrites a store into another number of logs.
//!
//! ```text
//! logs-1/000 ─┐                       ┌─► logs-2/000
//!             ├─► frames, by slot ────┼─► logs-2/001    then LAYOUT: generation 1 ─► 2,
//! logs-1/001 ─┘   payloads verbatim   └─► logs-2/002    then logs-1 goes
//! ```
//!
//! A frame keeps its payload, slot, index, term and times; only its place and what its header's
//! checksum is seeded with change (rule L9 of `docs/replication.md`). What the records said is
//! written as a checkpoint, so that frames before a slot's first kept message can stay behind.
//!
//! INVARIANT: until `LAYOUT` is replaced nobody reads the new logs, and everything in them has
//! been synced before. A crash leaves the old store or the new one, and a directory that the next
//! start or the next reshard removes.

mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::layout::Layout;
use ringmq_storage::{FrameIndex, Position, SLOT_COUNT, SlotId};

use super::state::{LogState, replay, slots_of};
use super::survey::{LogFiles, survey};
use super::walk::{messages, walk};
use super::{Error, Opened, failed, text};
use writer::LogWriter;

/// What was done.
pub(super) enum Done {
    /// The store is as it should be already.
    Nothing(String),
    /// It was rewritten.
    Rewritten {
        from: Layout,
        to: Layout,
        frames: u64,
        bytes: u64,
    },
}

/// A log that is read: its files, its state, and what of it is copied.
struct Source<'a> {
    files: &'a LogFiles,
    state: LogState,
    /// First frame of each slot with a message that is kept.
    first_live: BTreeMap<SlotId, FrameIndex>,
    bytes: u64,
}

/// Rewrites the store into so many logs.
pub(super) fn run(opened: &Opened, logs: u16, segment_bytes: u32) -> Result<Done, Error> {
    let survey = survey(opened)?;
    let Some(from) = survey.layout else {
        let text = "nothing was ever stored: the next start of the broker makes the logs";
        return Ok(Done::Nothing(text.to_owned()));
    };
    from.remove_others(opened.fs(), opened.store.path())?;
    if from.log_count == logs {
        return Ok(Done::Nothing(format!("the store has {logs} logs already")));
    }
    let mut sources = Vec::new();
    for files in &survey.logs {
        sources.push(source(opened, from, files)?);
    }
    let to = Layout {
        generation: from.generation + 1,
        log_count: logs,
    };
    check_space(opened, &sources)?;
    let rewritten = rewrite(opened, from, to, &sources, segment_bytes);
    if rewritten.is_err() {
        let new = to.logs_directory(opened.store.path());
        let _the_next_reshard_removes_it = opened.fs().remove_directory(&new);
    }
    let (frames, bytes) = rewritten?;
    to.replace(opened.fs(), opened.store.path())?;
    to.remove_others(opened.fs(), opened.store.path())?;
    Ok(Done::Rewritten {
        from,
        to,
        frames,
        bytes,
    })
}

/// Reads a log once, to know that it is sound and which frames of it are needed.
fn source<'a>(opened: &Opened, layout: Layout, files: &'a LogFiles) -> Result<Source<'a>, Error> {
    let state = replay(opened, layout, files)?;
    let (mut first_live, mut bytes) = (BTreeMap::new(), 0);
    let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
        let Some(slot) = frame.header.slot else {
            return Ok(());
        };
        let kept = messages(frame).any(|(key, record)| {
            let channel = state.slots.channel(key);
            channel.is_some_and(|channel| channel.first <= record.head.sequence)
        });
        if kept {
            first_live.entry(slot).or_insert(frame.header.index);
        }
        if first_live.contains_key(&slot) {
            bytes += u64::try_from(frame.header.frame_len()).unwrap_or(u64::MAX);
        }
        Ok(())
    })?;
    if !walked.damaged.is_empty() || !state.halted.is_empty() {
        return Err(Error::NotSound);
    }
    Ok(Source {
        files,
        state,
        first_live,
        bytes,
    })
}

/// Better to say at once what would show at the end.
fn check_space(opened: &Opened, sources: &[Source<'_>]) -> Result<(), Error> {
    let path = opened.store.path();
    let free = opened
        .fs()
        .free_bytes(path)
        .map_err(failed("look at", path))?;
    let bytes: u64 = sources.iter().map(|source| source.bytes).sum();
    if free < bytes {
        let text = format!(
            "{} are to be copied, {} are free",
            text::bytes(bytes),
            text::bytes(free)
        );
        let source = io::Error::new(io::ErrorKind::StorageFull, text);
        return Err(failed("reshard", path)(source));
    }
    Ok(())
}

fn rewrite(
    opened: &Opened,
    from: Layout,
    to: Layout,
    sources: &[Source<'_>],
    segment_bytes: u32,
) -> Result<(u64, u64), Error> {
    let (fs, path) = (opened.fs(), opened.store.path());
    let mut writers: Vec<LogWriter<'_>> = (0..to.log_count)
        .map(|log| {
            let directory = to.log_directory(path, log);
            let slots = slots_of(to, log).collect();
            LogWriter::new(fs, opened.store.id(), log, directory, slots, segment_bytes)
        })
        .collect();
    let (mut frames, mut bytes) = (0, 0);
    for source in sources {
        walk(fs, source.files, Position::default(), &mut |frame| {
            let Some(slot) = needed(source, frame) else {
                return Ok(());
            };
            let log = usize::from(slot.index() % to.log_count);
            frames += 1;
            bytes += u64::try_from(frame.header.frame_len()).unwrap_or(u64::MAX);
            writers
                .get_mut(log)
                .map_or(Ok(()), |writer| writer.frame(slot, frame))
        })?;
    }
    for writer in writers {
        let state_of = |slot: SlotId| {
            let log = usize::from(slot.index() % from.log_count);
            sources.get(log).map(|source| &source.state.slots)
        };
        writer.finish(&state_of)?;
    }
    let new = to.logs_directory(path);
    fs.create_directory(&new).map_err(failed("make", &new))?;
    fs.sync_directory(&new).map_err(failed("sync", &new))?;
    fs.sync_directory(path).map_err(failed("sync", path))?;
    Ok((frames, bytes))
}

/// The slot of a frame that is copied.
fn needed(source: &Source<'_>, frame: &Frame<'_>) -> Option<SlotId> {
    let slot = frame.header.slot.filter(|slot| slot.index() < SLOT_COUNT)?;
    let first = source.first_live.get(&slot)?;
    let entry = matches!(frame.header.kind, FrameKind::Entry | FrameKind::NoOp);
    (entry && frame.header.index >= *first).then_some(slot)
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(why) => writeln!(f, "nothing to do: {why}"),
            Self::Rewritten {
                from,
                to,
                frames,
                bytes,
            } => writeln!(
                f,
                "rewritten from {} logs into {}: {frames} frames, {}; generation {}",
                from.log_count,
                to.log_count,
                text::bytes(*bytes),
                to.generation
            ),
        }
    }
}
