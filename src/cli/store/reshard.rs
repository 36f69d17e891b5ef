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
//! Frames of one segment come to lie in one segment again: what was carried stays behind what it
//! was carried past.
//!
//! INVARIANT: until `LAYOUT` is replaced nobody reads the new logs, and everything in them has
//! been synced before. A crash leaves the old store or the new one, and a directory that the next
//! start or the next reshard removes.

mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use ringmq_storage::cipher::ENCRYPTION_BYTES;
use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::layout::Layout;
use ringmq_storage::{FrameIndex, Position, SegmentId, SlotId};

use super::state::{LogState, replay, slots_of};
use super::survey::{LogFiles, survey};
use super::walk::{GO_ON, messages, walk};
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
    /// First entry of each slot with a message that is kept.
    first_live: BTreeMap<SlotId, FrameIndex>,
    /// Bytes that may be copied, by segment and slot.
    bytes: BTreeMap<(SegmentId, SlotId), u64>,
}

/// Rewrites the store into so many logs.
pub(super) fn run(opened: &Opened, logs: u16) -> Result<Done, Error> {
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
    let rewritten = rewrite(opened, from, to, &sources);
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
    let mut source = Source {
        files,
        state: replay(opened, layout, files)?,
        first_live: BTreeMap::new(),
        bytes: BTreeMap::new(),
    };
    // As it will lie in the new logs.
    let extra = opened.keyring.writing().map_or(0, |_| ENCRYPTION_BYTES);
    let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
        let (Some(slot), kind) = (frame.header.slot, frame.header.kind) else {
            return GO_ON;
        };
        if kind == FrameKind::Entry && source.is_kept(frame) {
            source.first_live.entry(slot).or_insert(frame.header.index);
        }
        if source.needs(frame).is_some() {
            let len = frame.header.frame_len() + extra;
            let len = u64::try_from(len).unwrap_or(u64::MAX);
            let place = (frame.position.segment(), slot);
            *source.bytes.entry(place).or_default() += len;
        }
        GO_ON
    })?;
    let lost = source.state.lost(&walked.present);
    if !walked.damaged.is_empty() || !source.state.halted.is_empty() || !lost.is_empty() {
        return Err(Error::NotSound);
    }
    Ok(source)
}

impl Source<'_> {
    /// Whether a message of the frame is kept.
    fn is_kept(&self, frame: &Frame<'_>) -> bool {
        messages(frame).any(|(key, record)| self.state.keeps(key, record.head.sequence))
    }

    /// The slot of a frame that is copied: from the first kept entry of the slot on, since its
    /// indexes are dense; and what was carried and is kept.
    fn needs(&self, frame: &Frame<'_>) -> Option<SlotId> {
        let slot = frame.header.slot?;
        let needed = match frame.header.kind {
            FrameKind::Entry | FrameKind::NoOp => {
                let first = self.first_live.get(&slot);
                first.is_some_and(|first| frame.header.index >= *first)
            }
            FrameKind::Carried => self.is_kept(frame),
            FrameKind::Preamble | FrameKind::Seal => false,
        };
        needed.then_some(slot)
    }

    /// Bytes of a segment that go to a log.
    fn bytes_for(&self, segment: SegmentId, to: Layout, log: u16) -> u64 {
        let of_log = |slot: &SlotId| slot.index() % to.log_count == log;
        let bytes = self.bytes.iter();
        let bytes = bytes.filter(|((found, slot), _)| *found == segment && of_log(slot));
        bytes.map(|(_, bytes)| *bytes).sum()
    }
}

/// Better to say at once what would show at the end.
fn check_space(opened: &Opened, sources: &[Source<'_>]) -> Result<(), Error> {
    let path = opened.store.path();
    let free = opened
        .fs()
        .free_bytes(path)
        .map_err(failed("look at", path))?;
    let bytes: u64 = sources
        .iter()
        .flat_map(|source| source.bytes.values())
        .sum();
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
) -> Result<(u64, u64), Error> {
    let (fs, path) = (opened.fs(), opened.store.path());
    let writers = (0..to.log_count).map(|log| {
        let directory = to.log_directory(path, log);
        let slots = slots_of(to, log).collect();
        // Each log draws its own: what two of them write must never share a key.
        let maker = opened.keyring.key_maker();
        let maker = maker.map_err(ringmq_storage::Error::Random)?;
        let writer = LogWriter::new(fs, opened.store.id(), log, directory, slots);
        Ok(writer.encrypted_by(maker))
    });
    let mut writers: Vec<LogWriter<'_>> = writers.collect::<Result<_, Error>>()?;
    let (mut frames, mut bytes) = (0, 0);
    for source in sources {
        let mut segment = SegmentId::default();
        walk(fs, source.files, Position::default(), &mut |frame| {
            if frame.position.segment() != segment {
                segment = frame.position.segment();
                for (log, writer) in (0..).zip(&mut writers) {
                    writer.next_segment(source.bytes_for(segment, to, log))?;
                }
            }
            let Some(slot) = source.needs(frame) else {
                return GO_ON;
            };
            frames += 1;
            bytes += u64::try_from(frame.header.frame_len()).unwrap_or(u64::MAX);
            let log = usize::from(slot.index() % to.log_count);
            if let Some(writer) = writers.get_mut(log) {
                writer.frame(slot, frame)?;
            }
            GO_ON
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
