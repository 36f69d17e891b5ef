//! The thread that writes log lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writer; the next ones are dropped.
const LINES_MAX: usize = 8_192;

/// How long the log may hold up the end of the process.
const LAST_FLUSH: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// Where the lines go in; usable from any thread, never waits.
#[derive(Clone, Debug)]
pub(super) struct LineSink {
    items: Sender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines in the queue. The queue itself has no bound, so that a flush always gets in.
    waiting: AtomicUsize,
    /// Lines that were dropped and not yet reported.
    dropped: AtomicU64,
}

/// The running thread. It ends with the process: the subscriber keeps a sink for good.
#[derive(Debug)]
pub(super) struct LogThread {
    items: Sender<Item>,
}

/// Starts the thread that writes to `target`.
pub(super) fn start(target: Box<dyn Write + Send>) -> io::Result<(LineSink, LogThread)> {
    let (items, queue) = mpsc::channel();
    let sink = LineSink {
        items: items.clone(),
        counts: Arc::new(Counts::default()),
    };
    let counts = sink.counts.clone();
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || run(&queue, target, &counts))?;
    Ok((sink, LogThread { items }))
}

fn run(queue: &mpsc::Receiver<Item>, mut target: Box<dyn Write + Send>, counts: &Counts) {
    while let Ok(item) = queue.recv() {
        // A log that cannot be written has nobody to complain to.
        match item {
            Item::Line(line) => {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                let _nobody_to_tell = target.write_all(&line);
            }
            Item::Flush(done) => {
                let _nobody_to_tell = target.flush();
                let _gave_up_waiting = done.send(());
            }
        }
        let dropped = counts.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _nobody_to_tell = writeln!(target, "{dropped} log lines were dropped: too many");
        }
    }
}

impl LogThread {
    /// Waits until every line of so far is written; false when that took longer than `timeout`.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let (done, written) = mpsc::channel();
        // An error means that the thread has ended: nothing is left to be written.
        self.items.send(Item::Flush(done)).is_err()
            || written.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.flush(LAST_FLUSH);
    }
}

impl<'a> MakeWriter<'a> for LineSink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            sink: self,
            bytes: Vec::with_capacity(256),
        }
    }
}

/// One line in the making; handed over when it is dropped.
#[derive(Debug)]
pub(super) struct Line<'a> {
    sink: &'a LineSink,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let counts = &self.sink.counts;
        if counts.waiting.fetch_add(1, Ordering::Relaxed) >= LINES_MAX {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = Item::Line(std::mem::take(&mut self.bytes));
        let _thread_has_ended = self.sink.items.send(line);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    struct Captured(mpsc::Sender<Vec<u8>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A target, and a function that gives what was written to it.
    pub(in crate::telemetry::log) fn captured() -> (Box<dyn Write + Send>, impl FnOnce() -> String)
    {
        let (written_tx, written) = mpsc::channel::<Vec<u8>>();
        let read = move || String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        (Box::new(Captured(written_tx)), read)
    }

    /// A target that takes nothing before it is told to go on.
    struct Stuck(mpsc::Receiver<()>, Box<dyn Write + Send>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _disconnected_is_go = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn stuck_target_drops_lines_and_says_how_many() {
        let (lines, written) = captured();
        let (go, gate) = mpsc::channel();
        let (sink, thread) = start(Box::new(Stuck(gate, lines))).unwrap();
        for n in 0..LINES_MAX + 100 {
            sink.make_writer()
                .write_all(format!("{n}\n").as_bytes())
                .unwrap();
        }
        // The first line is with the target, or still on its way there.
        let dropped = sink.counts.dropped.load(Ordering::Relaxed);
        assert!((99..=100).contains(&dropped), "{dropped}");
        assert!(!thread.flush(Duration::from_millis(1)));
        drop(go);
        assert!(thread.flush(Duration::from_secs(10)));
        let text = written();
        assert!(text.starts_with("0\n"), "the first line is missing");
        assert!(text.contains(&format!("{dropped} log lines were dropped")));
    }
}
