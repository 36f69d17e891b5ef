//! `ringmq store dump`: the messages of a channel, one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::{ControlFlow, RangeInclusive};

use prost::Message;
use ringmq_proto::kubemq::{EventReceive, QueueMessage};
use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::record::Record;
use ringmq_storage::record::queue::QueueHead;
use ringmq_storage::{ChannelKey, Position, Sequence};
use serde::Serialize;

use super::state::replay;
use super::survey::{LogFiles, survey};
use super::walk::{GO_ON, Walked, messages, walk};
use super::{Error, Opened, Verdict, text};
use crate::cli::arguments::DumpKind;
use crate::engine::queues::{MESSAGE_ENCODING as QUEUE_ENCODING, QueueState};
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
    Message(Box<QueueContent>),
    Raw {
        raw: String,
    },
}

/// What there is to be told of a message of a queue; what does not hold is left out.
#[derive(Serialize)]
struct QueueContent {
    id: String,
    metadata: String,
    body: String,
    tags: BTreeMap<String, String>,
    receives: u32,
    receives_max: u32,
    #[serde(skip_serializing_if = "is_zero")]
    visible_at_ns: u64,
    #[serde(skip_serializing_if = "is_zero")]
    expires_at_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    dead_letter_queue: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    came_from: String,
    /// The queue that it is on its way to.
    #[serde(skip_serializing_if = "Option::is_none")]
    moving_to: Option<String>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
    let channel = state.slots.channel(key).ok_or_else(absent)?;
    let from = Sequence::new(*wanted.sequences.start());
    let kept = Kept {
        key,
        queue: channel.queue(),
        displaced: displaced(channel.queue()),
        // The first body of a queue may be that of a later message.
        range: channel.first.max(from)..=Sequence::new(*wanted.sequences.end()),
    };
    let range = kept.range.clone();
    let (runs, walked) = runs(opened, files, &kept)?;
    let mut printer = Printer {
        channel: wanted.channel,
        kept: &kept,
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

/// The messages of a channel that are wanted.
struct Kept<'a> {
    key: ChannelKey,
    queue: Option<&'a QueueState>,
    displaced: BTreeMap<Sequence, Sequence>,
    range: RangeInclusive<Sequence>,
}

impl Kept<'_> {
    /// The sequence of the message whose body was stored under `body`, when it is wanted.
    fn sequence(&self, key: ChannelKey, body: Sequence) -> Option<Sequence> {
        let sequence = self.displaced.get(&body).copied().unwrap_or(body);
        let needed = self.queue.is_none_or(|queue| queue.keeps_body(body));
        let wanted = key == self.key && needed && self.range.contains(&sequence);
        wanted.then_some(sequence)
    }
}

/// The messages of a queue that have gone to its tail, by the sequence that they were stored under.
fn displaced(queue: Option<&QueueState>) -> BTreeMap<Sequence, Sequence> {
    let details = queue.into_iter().flat_map(|queue| {
        let details = queue.details_from(Sequence::new(0));
        details.map(|(sequence, detail)| (detail.body, sequence))
    });
    details
        .filter(|(body, sequence)| body != sequence)
        .collect()
}

/// Messages that follow each other in the log, by sequence and by body.
struct Run {
    first: Sequence,
    last: Sequence,
    /// The frame of the first one.
    begin: Position,
    kind: FrameKind,
    last_body: Sequence,
}

/// Where a channel's messages lie, by sequence. They are in order in the log, but for those that
/// were carried, and those of a queue that have gone to its tail.
fn runs(opened: &Opened, files: &LogFiles, kept: &Kept<'_>) -> Result<(Vec<Run>, Walked), Error> {
    let mut runs: Vec<Run> = Vec::new();
    let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
        for (key, record) in messages(frame) {
            let body = record.head.sequence;
            let Some(sequence) = kept.sequence(key, body) else {
                continue;
            };
            let kind = frame.header.kind;
            match runs.last_mut() {
                Some(run)
                    if run.last.next() == sequence
                        && run.last_body.next() == body
                        && run.kind == kind =>
                {
                    (run.last, run.last_body) = (sequence, body);
                }
                _ => runs.push(Run {
                    first: sequence,
                    last: sequence,
                    begin: frame.position,
                    kind,
                    last_body: body,
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
    kept: &'a Kept<'a>,
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
            let Some(sequence) = self.kept.sequence(key, record.head.sequence) else {
                continue;
            };
            let in_run = (run.first..=run.last).contains(&sequence);
            if in_run && sequence >= self.next {
                let base = frame.header.base_timestamp_ns;
                let line_of = format(self.channel, base, sequence, &record, self.kept.queue);
                self.closed = !line(self.out, &line_of)?;
                self.next = sequence.next();
            }
            if self.closed || in_run && record.head.sequence >= run.last_body {
                return Ok(ControlFlow::Break(()));
            }
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

fn format<'a>(
    channel: &'a str,
    base_timestamp_ns: u64,
    sequence: Sequence,
    record: &Record<'_>,
    queue: Option<&QueueState>,
) -> Line<'a> {
    let head = &record.head;
    let content = match head.encoding {
        EVENT_ENCODING => event(record.payload),
        QUEUE_ENCODING => queue.and_then(|queue| queue_message(record.payload, sequence, queue)),
        _ => None,
    };
    let raw = || Content::Raw {
        raw: text::base64(record.payload),
    };
    Line {
        channel,
        sequence: sequence.get(),
        timestamp_ns: base_timestamp_ns.saturating_add(u64::from(head.time_delta_ns)),
        encoding: head.encoding,
        content: content.unwrap_or_else(raw),
    }
}

fn event(payload: &[u8]) -> Option<Content> {
    let event = EventReceive::decode(payload).ok()?;
    Some(Content::Event {
        id: event.event_id,
        metadata: event.metadata,
        body: text::base64(&event.body),
        tags: event.tags.into_iter().collect(),
    })
}

fn queue_message(payload: &[u8], sequence: Sequence, queue: &QueueState) -> Option<Content> {
    let (head, body) = QueueHead::decode(payload).ok()?;
    let message = QueueMessage::decode(body).ok()?;
    let open = queue.open_move(sequence);
    Some(Content::Message(Box::new(QueueContent {
        id: message.message_id,
        metadata: message.metadata,
        body: text::base64(&message.body),
        tags: message.tags.into_iter().collect(),
        receives: queue.receives(sequence),
        receives_max: head.receives_max,
        visible_at_ns: head.visible_at_ns,
        expires_at_ns: head.expires_at_ns,
        dead_letter_queue: head.dead_letter.to_owned(),
        came_from: head.origin.to_owned(),
        moving_to: open.map(|open| open.target.to_string()),
    })))
}
