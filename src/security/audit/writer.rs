//! The thread that writes the lines.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::file::LogFile;
use super::record::Record;
use super::sums::Sums;
use super::{Counts, Item};
use crate::rt;

/// How often it is looked whether sums are due.
const TICK: Duration = Duration::from_secs(1);

/// Bytes of lines that are written and synced together, about.
const BATCH_BYTES: usize = 64 << 10;

/// How often the end of the chain is told in the broker's log, if there are new lines.
const TOLD_EVERY_NS: i64 = 3_600_000_000_000;

/// A file that takes no lines is named at most this often.
const FAILURE_TOLD_EVERY_NS: i64 = 10_000_000_000;

/// Brings records into the file.
#[derive(Debug)]
pub(super) struct Writer {
    file: LogFile,
    sums: Sums,
    /// Entries that did not get into the file and have not been told yet.
    lost: u64,
    lines: Vec<u8>,
    told: Told,
}

#[derive(Debug)]
struct Told {
    /// The number of the last line that was told, and when.
    line: u64,
    at_ns: i64,
    failure_ns: Option<i64>,
}

impl Writer {
    /// Writes the first lines of a broker.
    pub(super) fn open(file: LogFile, now_ns: i64) -> io::Result<Self> {
        let torn = file.torn.clone();
        let mut writer = Self {
            file,
            sums: Sums::default(),
            lost: 0,
            lines: Vec::new(),
            told: Told {
                line: 0,
                at_ns: now_ns,
                failure_ns: None,
            },
        };
        let mut records = Vec::new();
        if let Some(torn) = torn {
            tracing::warn!(cut = %torn, "the audit log ended in a torn line");
            records.push((Record::of_log("audit.torn", &torn, now_ns), None));
        }
        let version = concat!("ringmq ", env!("CARGO_PKG_VERSION"));
        records.push((Record::of_log("audit.begin", version, now_ns), None));
        writer.append(&records)?;
        writer.tell(now_ns);
        Ok(writer)
    }

    /// Writes what has come, and the sums that are due.
    fn write(&mut self, came: Vec<Record>, lost: u64, now_ns: i64, all: bool) {
        self.lost += lost;
        let mut records = Vec::with_capacity(came.len());
        for record in came {
            if !record.is_refusal() || self.sums.admit(&record) {
                records.push((record, None));
            }
        }
        let sums = self.sums.take(now_ns, all).into_iter();
        records.extend(sums.map(|(record, times)| (record, Some(times))));
        if records.is_empty() {
            return;
        }
        if self.file.is_full() {
            self.rotate(now_ns);
        }
        if let Err(error) = self.append(&records) {
            self.lost += u64::try_from(records.len()).unwrap_or(0);
            self.complain(&error, now_ns);
        }
        if now_ns.saturating_sub(self.told.at_ns) >= TOLD_EVERY_NS {
            self.tell(now_ns);
        }
    }

    fn append(&mut self, records: &[(Record, Option<u64>)]) -> io::Result<()> {
        self.lines.clear();
        let mut chain = self.file.chain;
        let mut lost = self.lost;
        for (record, times) in records {
            record.write(*times, lost, &mut chain, &mut self.lines);
            lost = 0;
        }
        self.file.append(&self.lines, chain)?;
        self.lost = 0;
        Ok(())
    }

    fn rotate(&mut self, now_ns: i64) {
        self.tell(now_ns);
        if let Err(error) = self.file.rotate() {
            self.complain(&error, now_ns);
        }
    }

    /// Writes the end of the chain into the broker's log: lines that are cut off later are missed.
    fn tell(&mut self, now_ns: i64) {
        let chain = self.file.chain;
        if chain.last > self.told.line {
            tracing::info!(lines = chain.last, hash = %chain.hash, "the audit log so far");
        }
        self.told.line = chain.last;
        self.told.at_ns = now_ns;
    }

    fn complain(&mut self, error: &io::Error, now_ns: i64) {
        let lately = |at: i64| (0..FAILURE_TOLD_EVERY_NS).contains(&now_ns.saturating_sub(at));
        if !self.told.failure_ns.is_some_and(lately) {
            self.told.failure_ns = Some(now_ns);
            tracing::error!(%error, lost = self.lost, "the audit log takes no lines");
        }
    }
}

/// Writes what comes until it is told to close, or nobody is left who could.
pub(super) fn run(mut writer: Writer, queue: &Receiver<Item>, counts: &Counts) {
    loop {
        let mut asked: Vec<Sender<()>> = Vec::new();
        let (mut came, mut bytes, mut ends) = (Vec::new(), 0, false);
        let mut next = match queue.recv_timeout(TICK) {
            Ok(item) => Some(item),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                ends = true;
                None
            }
        };
        while let Some(item) = next.take() {
            match item {
                Item::Record(record) => {
                    counts.waiting.fetch_sub(1, Ordering::Relaxed);
                    bytes += record.bytes();
                    came.push(record);
                }
                Item::Flush(done) => asked.push(done),
                Item::Close(done) => {
                    asked.push(done);
                    ends = true;
                }
            }
            if bytes < BATCH_BYTES && !ends {
                next = queue.try_recv().ok();
            }
        }
        let now_ns = rt::unix_ns();
        if ends {
            came.push(Record::of_log("audit.end", "", now_ns));
        }
        writer.write(came, counts.lost.swap(0, Ordering::Relaxed), now_ns, ends);
        for done in asked {
            let _gave_up_waiting = done.send(());
        }
        if ends {
            return writer.tell(now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_told_in_the_next_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut writer = Writer::open(LogFile::open(&path).unwrap(), 0).unwrap();
        let act = || Record::of_log("act", "", 0);
        writer.write(vec![act()], 7, 0, false);
        writer.write(vec![act()], 0, 0, false);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("\"lost\":7"), "{text}");
        assert!(!lines[2].contains("lost"), "{text}");
    }
}
