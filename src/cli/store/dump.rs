//! `ringmq store dump`: the messages of a channel, one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::{ControlFlow, RangeInclusive};

use prost::Message;
use ringmq_proto::kubemq::EventReceive;
use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::record::Record;
use ringmq_storage::{ChannelKey, Position, Sequence};
use serde::Serialize;

use super::state::replay;
use super::survey::{LogFiles, survey};
use super::walk::{GO_ON, Walked, messages, walk};
use super::{Error, Opened, Verdict, text};
use crate::cli::arguments::DumpKind;
use crate::engine::stored::StoredKind;
use crate::shard::EVENT_ENCODING;

/// Which messages.
pub(super) struct Wanted<'a> {
    pub(super) channel: &'a str,
    pub(super) kind: DumpKind,
    pub(super) sequences: RangeInclusive<u64>,
}

/// A message as it is printed. Bodies are any bytes: they are base64.
#[derive(Serialize)]
struct Line<'a> {
    channel: &'a str,
    sequence: u64,
    timestamp_ns: u64,
    encoding: u8,
    #[serde(flatten)]
    content: Content,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Event {
        id: String,
        metadata: String,
        body: String,
        tags: BTreeMap<String, String>,
    },
    Raw {
        raw: String,
    },
}

/// Writes what is wanted. A reader that goes away ends it quietly.
pub(super) fn write(
    opened: &Opened,
    wanted: &Wanted<'_>,
    out: &mut dyn Write,
) -> Result<Verdict, Error> {
    let survey = survey(opened)?;
    let kind = match wanted.kind {
        DumpKind::EventsStore => StoredKind::EventsStore,
        DumpKind::Queues => StoredKind::Queue,
    };
    let slot = opened.store.slot_of(wanted.channel);
    let absent = || {
        Error::Absent(format!(
            "there is no channel {:?} of that kind",
            wanted.channel
        ))
    };
    let layout = survey.layout.ok_or_else(absent)?;
    let number = slot.index() % layout.log_count;
    let mut logs = survey.logs.iter();
    let files = logs
        .find(|files| files.number == number)
        .ok_or_else(absent)?;
    let state = replay(opened, layout, files)?;
    let key = state
        .slots
        .find(slot, kind, wanted.channel)
        .ok_or_else(absent)?;
    let kept = state.slots.channel(key).ok_or_else(absent)?.first;
    let from = kept.max(Sequence::new(*wanted.sequences.start()));
    let range = from..=Sequence::new(*wanted.sequences.end());
    let (runs, walked) = runs(opened, files, key, &range)?;
    let mut printer = Printer {
        channel: wanted.channel,
        key,
        next: from,
        out,
        closed: false,
    };
    for run in runs {
        walk(opened.fs(), files, run.begin, &mut |frame| {
            printer.frame(frame, &run)
        })?;
    }
    let lost = state.lost(&walked.present);
    let lost = lost.iter().any(|(channel, first, last)| {
        *channel == key && first <= range.end() && last >= range.start()
    });
    if lost || state.halted.contains_key(&slot) {
        eprintln!("ringmq: damaged messages were left out; run `ringmq store verify`");
        return Ok(Verdict::Damaged);
    }
    Ok(Verdict::Sound)
}

/// Messages that follow each other in the log.
struct Run {
    first: Sequence,
    last: Sequence,
    /// The frame of the first one.
    begin: Position,
    kind: FrameKind,
}

/// Where a channel's messages lie, by sequence. They are in order in the log, but for those that
/// were carried.
fn runs(
    opened: &Opened,
    files: &LogFiles,
    key: ChannelKey,
    range: &RangeInclusive<Sequence>,
) -> Result<(Vec<Run>, Walked), Error> {
    let mut runs: Vec<Run> = Vec::new();
    let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
        for (found, record) in messages(frame) {
            let sequence = record.head.sequence;
            if found != key || !range.contains(&sequence) {
                continue;
            }
            let kind = frame.header.kind;
            match runs.last_mut() {
                Some(run) if run.last.next() == sequence && run.kind == kind => run.last = sequence,
                _ => runs.push(Run {
                    first: sequence,
                    last: sequence,
                    begin: frame.position,
                    kind,
                }),
            }
        }
        GO_ON
    })?;
    runs.sort_by_key(|run| run.first);
    Ok((runs, walked))
}

/// Prints messages in the order of their sequences, each once.
struct Printer<'a> {
    channel: &'a str,
    key: ChannelKey,
    next: Sequence,
    out: &'a mut dyn Write,
    closed: bool,
}

impl Printer<'_> {
    fn frame(&mut self, frame: &Frame<'_>, run: &Run) -> Result<ControlFlow<()>, Error> {
        if frame.header.kind != run.kind {
            return GO_ON;
        }
        for (key, record) in messages(frame) {
            let sequence = record.head.sequence;
            if self.closed || sequence > run.last && key == self.key {
                return Ok(ControlFlow::Break(()));
            }
            if key == self.key && sequence >= self.next {
                let base = frame.header.base_timestamp_ns;
                self.closed = !line(self.out, &format(self.channel, base, &record))?;
                self.next = sequence.next();
            }
        }
        if self.next > run.last {
            return Ok(ControlFlow::Break(()));
        }
        GO_ON
    }
}

/// Writes a line; `false` when nobody reads any more.
fn line(out: &mut dyn Write, line: &Line<'_>) -> Result<bool, Error> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    match out.write_all(&text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::Io {
            action: "write to",
            path: "standard output".into(),
            source,
        }),
    }
}

fn format<'a>(channel: &'a str, base_timestamp_ns: u64, record: &Record<'_>) -> Line<'a> {
    let head = &record.head;
    let event = (head.encoding == EVENT_ENCODING).then(|| EventReceive::decode(record.payload));
    let content = match event {
        Some(Ok(event)) => Content::Event {
            id: event.event_id,
            metadata: event.metadata,
            body: text::base64(&event.body),
            tags: event.tags.into_iter().collect(),
        },
        Some(Err(_)) | None => Content::Raw {
            raw: text::base64(record.payload),
        },
    };
    Line {
        channel,
        sequence: head.sequence.get(),
        timestamp_ns: base_timestamp_ns.saturating_add(u64::from(head.time_delta_ns)),
        encoding: head.encoding,
        content,
    }
}
