//! `ringmq store verify`: reads every byte, and tells what is not what was written.

use std::fmt;
use std::path::PathBuf;

use ringmq_storage::fs::Fs;
use ringmq_storage::segment_index::SegmentIndex;
use ringmq_storage::{Position, SegmentId};

use super::state::replay;
use super::survey::{LogFiles, survey};
use super::walk::{DamagedRange, GO_ON, walk};
use super::{Error, Opened, Verdict, text};

/// What was read, and what of it is damaged.
#[derive(Default)]
pub(super) struct Report {
    segments: usize,
    frames: u64,
    bytes: u64,
    findings: Vec<Finding>,
    lost: Vec<String>,
    notes: Vec<String>,
}

/// A damaged range, in words.
struct Finding {
    path: PathBuf,
    bytes: String,
    reason: String,
}

impl Report {
    pub(super) fn verdict(&self) -> Verdict {
        if self.findings.is_empty() && self.lost.is_empty() {
            Verdict::Sound
        } else {
            Verdict::Damaged
        }
    }

    fn add(&mut self, path: PathBuf, reason: String) {
        self.findings.push(Finding {
            path,
            bytes: String::new(),
            reason,
        });
    }
}

/// Reads all files of the logs.
pub(super) fn collect(opened: &Opened) -> Result<Report, Error> {
    let survey = survey(opened)?;
    let mut report = Report::default();
    let Some(layout) = survey.layout else {
        return Ok(report);
    };
    for files in &survey.logs {
        let state = replay(opened, layout, files)?;
        let walked = walk(opened.fs(), files, Position::default(), &mut |_frame| GO_ON)?;
        report.segments += files.used().count();
        report.frames += walked.frames;
        report.bytes += walked.bytes;
        report
            .findings
            .extend(walked.damaged.into_iter().map(finding));
        for (key, first, last) in state.lost(&walked.present) {
            let count = last.get() - first.get() + 1;
            let name = state.name(key);
            report
                .lost
                .push(format!("{name}: sequences {first} to {last} ({count})"));
        }
        if walked.torn_bytes > 0 {
            report.notes.push(format!(
                "log {}: ends with {} of a write that was never acknowledged; the next start of \
                 the broker cuts them",
                files.number,
                text::bytes(walked.torn_bytes)
            ));
        }
        for (slot, reason) in &state.halted {
            let what = format!("slot {slot}: {reason}");
            report.add(files.directory.clone(), what);
        }
        derived_files(opened.fs(), files, &mut report);
    }
    Ok(report)
}

fn finding(damaged: DamagedRange) -> Finding {
    Finding {
        path: damaged.path,
        bytes: format!(", bytes {} to {}", damaged.bytes.start, damaged.bytes.end),
        reason: damaged.reason,
    }
}

/// Checks what is made from the segments: checkpoints and indexes.
fn derived_files(fs: &dyn Fs, files: &LogFiles, report: &mut Report) {
    for checkpoint in &files.checkpoints {
        match &checkpoint.content {
            Ok(content) if content.number == checkpoint.number => {}
            Ok(content) => {
                let found = format!("it is checkpoint {}", content.number);
                report.add(checkpoint.path.clone(), found);
            }
            Err(bad) => report.add(checkpoint.path.clone(), bad.clone()),
        }
    }
    for (segment, path) in &files.indexes {
        let bad = match fs.read(path) {
            Ok(bytes) => index_fault(files, *segment, &bytes),
            Err(error) => Some(error.to_string()),
        };
        if let Some(bad) = bad {
            let made_again = "the index is made again at the next start";
            report.add(path.clone(), format!("{bad} ({made_again})"));
        }
    }
}

fn index_fault(files: &LogFiles, segment: SegmentId, bytes: &[u8]) -> Option<String> {
    let mut used = files.used();
    // The index of a segment that is gone does no harm.
    let (_, header) = used.find(|(file, _)| file.id == segment)?;
    let checked = SegmentIndex::decode(bytes).and_then(|index| index.check(header));
    checked.err().map(|bad| bad.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding {
                path,
                bytes,
                reason,
            } = finding;
            writeln!(f, "damaged: {}{bytes}: {reason}", path.display())?;
        }
        for channel in &self.lost {
            writeln!(f, "lost: {channel}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let verdict = match self.findings.len() {
            0 if self.lost.is_empty() => "sound".to_owned(),
            1 => "1 damaged range".to_owned(),
            ranges => format!("{ranges} damaged ranges"),
        };
        writeln!(
            f,
            "{verdict}: {} segments, {} frames, {} read",
            self.segments,
            self.frames,
            text::bytes(self.bytes)
        )
    }
}
