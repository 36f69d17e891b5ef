//! `ringmq store info`: what is in a store.

use std::collections::BTreeMap;
use std::fmt::Write;

use ringmq_storage::cipher::KeyId;
use ringmq_storage::record::record_len;
use ringmq_storage::{ChannelKey, Position, SegmentId};
use serde::Serialize;

use super::present::Present;
use super::state::{LogState, replay};
use super::survey::{Head, LogFiles, SegmentFile, Survey, survey};
use super::walk::{GO_ON, messages, walk};
use super::{Error, Opened, Verdict, text};
use crate::engine::stored::{CursorOwner, StoredKind};

/// All that is told of a store.
#[derive(Serialize)]
pub(super) struct Report {
    path: String,
    store_id: String,
    created_ns: u64,
    format_version: u32,
    layout_generation: Option<u32>,
    bytes: u64,
    live_bytes: u64,
    /// Master keys that are needed to read it; a segment or a checkpoint without one is plain.
    keys: Vec<KeyUse>,
    logs: Vec<Log>,
    channels: Vec<Channel>,
    positions: Vec<Cursor>,
    /// Damaged ranges and slots; `ringmq store verify` has them.
    damaged: usize,
}

#[derive(Serialize)]
struct KeyUse {
    key: String,
    segments: usize,
    checkpoints: usize,
}

#[derive(Serialize)]
struct Log {
    log: u16,
    bytes: u64,
    end: String,
    checkpoint: Option<u64>,
    torn_bytes: u64,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    segment: u32,
    generation: Option<u32>,
    bytes: u64,
    state: &'static str,
    live_bytes: u64,
    indexed: bool,
}

#[derive(Serialize)]
struct Channel {
    log: u16,
    slot: u16,
    channel: u32,
    kind: &'static str,
    name: String,
    messages: u64,
    first: u64,
    last: u64,
    bytes: u64,
    last_timestamp_ns: u64,
}

#[derive(Serialize)]
struct Cursor {
    channel: String,
    owner: &'static str,
    name: String,
    position: u64,
    behind: u64,
    last_active_ns: u64,
}

/// Bytes of kept messages, by where they lie and whose they are.
#[derive(Default)]
struct Live {
    segments: BTreeMap<SegmentId, u64>,
    channels: BTreeMap<ChannelKey, u64>,
}

/// Reads the logs and adds up.
pub(super) fn collect(opened: &Opened) -> Result<Report, Error> {
    let survey = survey(opened)?;
    let store = &opened.store;
    let mut report = Report {
        path: store.path().display().to_string(),
        store_id: store.id().to_string(),
        created_ns: store.created_at_unix_ns(),
        format_version: store.format_version(),
        layout_generation: survey.layout.map(|layout| layout.generation),
        bytes: survey.logs.iter().map(|files| files.bytes).sum(),
        live_bytes: 0,
        keys: key_uses(&survey),
        logs: Vec::new(),
        channels: Vec::new(),
        positions: Vec::new(),
        damaged: 0,
    };
    let Some(layout) = survey.layout else {
        return Ok(report);
    };
    for files in &survey.logs {
        let state = replay(opened, layout, files)?;
        // Of a message that was carried the original may be there still.
        let (mut live, mut seen) = (Live::default(), Present::default());
        let walked = walk(opened.fs(), files, Position::default(), &mut |frame| {
            for (key, record) in messages(frame) {
                let sequence = record.head.sequence;
                if state.keeps(key, sequence) && seen.insert(key, sequence) {
                    let bytes = u64::try_from(record_len(record.payload.len())).unwrap_or(0);
                    *live.segments.entry(frame.position.segment()).or_default() += bytes;
                    *live.channels.entry(key).or_default() += bytes;
                }
            }
            GO_ON
        })?;
        report.damaged += walked.damaged.len() + state.halted.len();
        report.live_bytes += live.channels.values().sum::<u64>();
        report.logs.push(Log {
            log: files.number,
            bytes: files.bytes,
            end: walked.end.to_string(),
            checkpoint: files.checkpoint().map(|checkpoint| checkpoint.number),
            torn_bytes: walked.torn_bytes,
            segments: segments(files, &live),
        });
        report.add_channels(files.number, &state, &live);
    }
    report
        .channels
        .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(report)
}

/// How many files need which master key.
fn key_uses(survey: &Survey) -> Vec<KeyUse> {
    let mut uses: BTreeMap<KeyId, (usize, usize)> = BTreeMap::new();
    for files in &survey.logs {
        for (file, _) in files.used() {
            if let Some(key) = file.cipher.key().and_then(|key| key.master()) {
                uses.entry(key).or_default().0 += 1;
            }
        }
        for key in files.checkpoints.iter().filter_map(|file| file.key) {
            uses.entry(key).or_default().1 += 1;
        }
    }
    let uses = uses
        .into_iter()
        .map(|(key, (segments, checkpoints))| KeyUse {
            key: key.to_string(),
            segments,
            checkpoints,
        });
    uses.collect()
}

fn segments(files: &LogFiles, live: &Live) -> Vec<Segment> {
    let last = files.used().next_back().map(|(file, _)| file.id);
    let segment = |file: &SegmentFile| {
        let (state, generation) = match &file.head {
            Head::Used(header) if last == Some(file.id) => ("active", Some(header.generation)),
            Head::Used(header) => ("sealed", Some(header.generation)),
            Head::Spare => ("spare", None),
            Head::Unknown => ("damaged", None),
        };
        Segment {
            segment: file.id.get(),
            generation: generation.map(ringmq_storage::Generation::get),
            bytes: file.len,
            state,
            live_bytes: live.segments.get(&file.id).copied().unwrap_or(0),
            indexed: files.indexes.iter().any(|(id, _)| *id == file.id),
        }
    };
    files.segments.iter().map(segment).collect()
}

impl Report {
    pub(super) const fn verdict(&self) -> Verdict {
        if self.damaged == 0 {
            Verdict::Sound
        } else {
            Verdict::Damaged
        }
    }

    fn add_channels(&mut self, log: u16, state: &LogState, live: &Live) {
        for (key, channel) in state.slots.channels() {
            let name = channel.name.to_string();
            for (_, cursor) in state.slots.cursors(key) {
                self.positions.push(Cursor {
                    channel: name.clone(),
                    owner: match cursor.owner {
                        CursorOwner::Client => "client",
                        CursorOwner::Group => "group",
                    },
                    name: cursor.name.to_string(),
                    position: cursor.position.get(),
                    behind: channel.last.get().saturating_sub(cursor.position.get()),
                    last_active_ns: cursor.last_active_ns,
                });
            }
            self.channels.push(Channel {
                log,
                slot: key.slot.index(),
                channel: key.channel.get(),
                kind: match channel.kind {
                    StoredKind::EventsStore => "events_store",
                    StoredKind::Queue => "queues",
                    StoredKind::Events => "events",
                    StoredKind::Commands => "commands",
                    StoredKind::Queries => "queries",
                },
                name,
                messages: channel.messages(),
                first: channel.first.get(),
                last: channel.last.get(),
                bytes: live.channels.get(&key).copied().unwrap_or(0),
                last_timestamp_ns: channel.last_timestamp_ns,
            });
        }
    }

    pub(super) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.unwrap_or_default() + "\n"
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _infallible = writeln!(text, "{name:<10}{value}");
        };
        line("store", &self.path);
        line("id", &self.store_id);
        line("created", &text::time(self.created_ns));
        line("format", &self.format_version.to_string());
        match self.layout_generation {
            Some(generation) => {
                let logs = self.logs.len();
                line("layout", &format!("generation {generation}, {logs} logs"));
            }
            None => line("layout", "none: nothing was ever stored"),
        }
        let (all, live) = (text::bytes(self.bytes), text::bytes(self.live_bytes));
        line("size", &format!("{all} on disk, {live} in kept messages"));
        for used in &self.keys {
            let (segments, checkpoints) = (used.segments, used.checkpoints);
            let what = format!(
                "{}, {segments} segments, {checkpoints} checkpoints",
                used.key
            );
            line("key", &what);
        }
        if self.damaged > 0 {
            line(
                "damage",
                &format!("{}, see `ringmq store verify`", self.damaged),
            );
        }
        self.logs_text(&mut text);
        self.channels_text(&mut text);
        text
    }

    fn logs_text(&self, text: &mut String) {
        let head = [
            "LOG",
            "SEGMENT",
            "GENERATION",
            "SIZE",
            "STATE",
            "LIVE",
            "INDEX",
        ];
        let mut rows = Vec::new();
        for log in &self.logs {
            for segment in &log.segments {
                rows.push([
                    log.log.to_string(),
                    segment.segment.to_string(),
                    segment
                        .generation
                        .map_or_else(|| "-".to_owned(), |n| n.to_string()),
                    text::bytes(segment.bytes),
                    segment.state.to_owned(),
                    percent(segment.live_bytes, segment.bytes),
                    if segment.indexed { "yes" } else { "no" }.to_owned(),
                ]);
            }
        }
        if !rows.is_empty() {
            *text += &format!("\n{}", text::table(head, &rows));
        }
        for log in &self.logs {
            let checkpoint = log.checkpoint.map_or_else(
                || "no checkpoint".to_owned(),
                |number| format!("checkpoint {number}"),
            );
            *text += &format!("log {} ends at {}, {checkpoint}\n", log.log, log.end);
        }
    }

    fn channels_text(&self, text: &mut String) {
        let head = [
            "KIND", "CHANNEL", "MESSAGES", "FIRST", "LAST", "SIZE", "NEWEST",
        ];
        let rows: Vec<_> = self.channels.iter().map(Channel::row).collect();
        if !rows.is_empty() {
            *text += &format!("\n{}", text::table(head, &rows));
        }
        let head = [
            "CHANNEL",
            "OWNER",
            "NAME",
            "POSITION",
            "BEHIND",
            "LAST USED",
        ];
        let rows: Vec<_> = self.positions.iter().map(Cursor::row).collect();
        if !rows.is_empty() {
            *text += &format!("\n{}", text::table(head, &rows));
        }
    }
}

impl Channel {
    fn row(&self) -> [String; 7] {
        let newest = match self.last_timestamp_ns {
            0 => "-".to_owned(),
            ns => text::time(ns),
        };
        [
            self.kind.to_owned(),
            self.name.clone(),
            self.messages.to_string(),
            self.first.to_string(),
            self.last.to_string(),
            text::bytes(self.bytes),
            newest,
        ]
    }
}

impl Cursor {
    fn row(&self) -> [String; 6] {
        [
            self.channel.clone(),
            self.owner.to_owned(),
            self.name.clone(),
            self.position.to_string(),
            self.behind.to_string(),
            text::time(self.last_active_ns),
        ]
    }
}

fn percent(part: u64, whole: u64) -> String {
    let whole = u128::from(whole.max(1));
    format!("{} %", u128::from(part) * 100 / whole)
}
