//! Who did what, and who was refused: lines in a file, each tied to the one before.
//!
//! ```text
//!   {"n":7,"time":"…","what":"channel.purge","outcome":"done","who":"alice",…,"previous":"9f2c…"}
//!                                                                               │
//!   SHA-256 of the whole line 6, without its end ◄──────────────────────────────┘
//! ```
//!
//! A line that is changed, taken out or put in breaks the chain behind it, and `ringmq audit
//! verify` says where. Lines cut off at the end break nothing: for that the hash of the last line
//! is written into the broker's own log when the broker starts and stops, when a file is full and
//! once an hour, and can be asked for when the file is verified.
//!
//! # What is written when
//! Nobody waits for the file. An entry goes into a bounded queue, and a thread of its own writes
//! and syncs what has come. Refusals are what anybody can cause: the same one within a minute is
//! counted and told in one line, and of different ones only a bounded number stands alone. What
//! found no room in the queue is counted in the next line (`lost`). Acts that were allowed are
//! never summed up, and refusals leave half of the queue to them.
//!
//! # Crashes
//! A line that was torn by a crash is cut at the next start, which a line of its own tells. A
//! file that does not end in a line of a chain is no audit log, or no sound one: it is left
//! alone, and the broker does not start.
//!
//! # Files
//! A file that has become large is renamed to end in the number of its last line, and the chain
//! goes on in a new one. No file is ever deleted.

mod chain;
mod file;
mod record;
mod sums;
mod verify;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::model::identity::Proof;
use crate::rt;

use file::LogFile;
use record::Record;
use writer::Writer;

pub use chain::{Hash, LINE_BYTES_MAX};
pub use verify::{Flaw, Verdict, Verifier};

/// Entries that may wait for the writer. Those of refusals may fill half of it.
const WAITING_MAX: usize = 4_096;
const WAITING_REFUSALS_MAX: usize = WAITING_MAX / 2;

/// What is written down.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The name of the identity; empty without one.
    pub who: &'a str,
    /// How it was recognised.
    pub proof: Proof,
    /// What it calls itself.
    pub client_id: &'a str,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    /// What was done or asked for: `channel.purge`, `access.denied`, and so on.
    pub what: &'a str,
    /// To what.
    pub target: &'a str,
    /// Whether it was done; otherwise why not.
    pub outcome: Result<(), &'a str>,
}

/// The files of a log, the oldest first: those that were put aside, and the one that grows.
///
/// # Errors
/// When its directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    file::files(path)
}

/// Writes entries down. A clone writes into the same file.
///
/// # Threading
/// May be used from any thread, and never blocks.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    desk: Option<Arc<Desk>>,
}

#[derive(Debug)]
struct Desk {
    items: Sender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Entries in the queue. The queue itself has no bound, so that an end always gets in.
    waiting: AtomicUsize,
    /// Entries that found no room and have not been told yet.
    lost: AtomicU64,
}

#[derive(Debug)]
enum Item {
    Record(Record),
    /// Answered when all before is on the disk.
    Flush(Sender<()>),
    /// The same, and the last line is written.
    Close(Sender<()>),
}

impl Auditor {
    /// One that writes nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { desk: None }
    }

    /// Opens a file, or makes it, and writes that a broker begins. Blocks: not for an executor.
    ///
    /// # Errors
    /// When the file cannot be opened or written, is held by another broker, or ends in something
    /// that is no line of a chain; and when no thread can be had.
    pub fn start(path: &Path) -> io::Result<Self> {
        let writer = Writer::open(LogFile::open(path)?, rt::unix_ns())?;
        let (items, queue) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let seen = counts.clone();
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                rt::step_aside();
                writer::run(writer, &queue, &seen);
            })?;
        let desk = Some(Arc::new(Desk { items, counts }));
        Ok(Self { desk })
    }

    /// Whether entries are written at all.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.desk.is_some()
    }

    /// Writes an entry down, some time later. When too many wait, it is counted only.
    pub fn record(&self, entry: Entry<'_>) {
        let Some(desk) = &self.desk else { return };
        let room = match entry.outcome {
            Ok(()) => WAITING_MAX,
            Err(_) => WAITING_REFUSALS_MAX,
        };
        if desk.counts.waiting.fetch_add(1, Ordering::Relaxed) >= room {
            desk.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            desk.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let record = Record::of(&entry, rt::unix_ns());
        let _thread_has_ended = desk.items.send(Item::Record(record));
    }

    /// Waits until all of so far is on the disk; false when that took longer. Blocks.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        self.ask(Item::Flush, patience)
    }

    /// Writes that the broker ends, and waits until that is on the disk; false when that took
    /// longer. What is recorded afterwards is lost. Blocks.
    #[must_use]
    pub fn close(&self, patience: Duration) -> bool {
        self.ask(Item::Close, patience)
    }

    fn ask(&self, item: fn(Sender<()>) -> Item, patience: Duration) -> bool {
        let Some(desk) = &self.desk else { return true };
        let (done, written): (_, Receiver<()>) = mpsc::channel();
        desk.items.send(item(done)).is_err()
            || written.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

#[cfg(test)]
mod tests;
