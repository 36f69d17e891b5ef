//! `ringmq store dump`: the messages of a channel, one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use prost::Message;
use ringmq_proto::kubemq::EventReceive;
use ringmq_storage::record::Record;
use ringmq_storage::{ChannelKey, Position};
use serde::Serialize;

use super::state::replay;
use super::survey::survey;
use super::walk::{messages, walk};
use super::{Error, Opened, Verdict, text};
use crate::cli::arguments::DumpKind;
use crate::engine::events_store::StoredKind;
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
    let kept = state.slots.channel(key).ok_or_else(absent)?.first.get();
    let mut closed = false;
    let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
        if frame.header.slot != Some(slot) || closed {
            return Ok(());
        }
        let base = frame.header.base_timestamp_ns;
        for (_, record) in messages(frame).filter(|(found, _)| *found == key) {
            let sequence = record.head.sequence.get();
            if sequence >= kept && wanted.sequences.contains(&sequence) && !closed {
                closed = !line(out, &format(wanted.channel, base, &record))?;
            }
        }
        Ok(())
    })?;
    let mut lost = walked.damaged.iter().flat_map(|damaged| &damaged.missing);
    let lost = lost.any(|(channel, _, _): &(ChannelKey, _, _)| *channel == key);
    if lost || state.halted.contains_key(&slot) {
        eprintln!("ringmq: damaged messages were left out; run `ringmq store verify`");
        return Ok(Verdict::Damaged);
    }
    Ok(Verdict::Sound)
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
