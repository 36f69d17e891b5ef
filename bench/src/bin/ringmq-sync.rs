//! The bare cost of durability: the bytes of a batch written and synced in a loop, with nothing
//! around it, one batch in flight. What the broker takes on top of this is its own.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ringmq::rt::start::{Plan, start};
use ringmq::rt::{self, LogFile};
use ringmq::telemetry::latency::LatencyHistogram;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The file, written with zeroes before anything is measured: an overwrite needs no new extents.
const FILE_BYTES: u64 = 64 << 20;

/// A message of 1 KiB with the head of its record, and the head of the frame around a batch.
const RECORD_BYTES: usize = 1024 + 32;
const FRAME_HEAD_BYTES: usize = 64;

/// Messages in a batch.
const BATCHES: [usize; 4] = [1, 16, 64, 1024];

/// `O_DSYNC` of Linux on every architecture but three that nobody runs this on.
const O_DSYNC: i32 = 0o10000;

/// A way to get a batch to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A thread: `pwrite`, then `fdatasync`.
    Thread,
    /// A thread: `pwrite` to a file opened with `O_DSYNC`.
    ThreadDsync,
    /// An executor: a write and a sync through the ring, as the broker does it.
    Ring,
    /// An executor: a write through the ring to a file opened with `O_DSYNC`.
    RingDsync,
    /// An executor: `pwrite` on the spot, and a sync through the ring.
    Inline,
    /// An executor: `pwrite` and `fdatasync` on its blocking thread.
    Blocking,
}

const MODES: [(Mode, &str); 6] = [
    (Mode::Thread, "thread"),
    (Mode::ThreadDsync, "thread-dsync"),
    (Mode::Ring, "ring"),
    (Mode::RingDsync, "ring-dsync"),
    (Mode::Inline, "inline"),
    (Mode::Blocking, "blocking"),
];

#[derive(Clone, Debug)]
struct Options {
    directory: PathBuf,
    cpu: Option<usize>,
    seconds: f64,
    rounds: u32,
    json: bool,
    modes: Vec<(Mode, &'static str)>,
    batches: Vec<usize>,
}

const USAGE: &str = "usage: ringmq-sync [--directory DIR] [--cpu N] [--seconds S] [--rounds N] \
                     [--batch MESSAGES] [--mode MODE] [--json]";

fn options() -> Result<Options, String> {
    let mut options = Options {
        directory: PathBuf::from("."),
        cpu: None,
        seconds: 1.0,
        rounds: 1,
        json: false,
        modes: Vec::new(),
        batches: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--json" {
            options.json = true;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        let wrong = || format!("{flag} {value}: not understood\n{USAGE}");
        match flag.as_str() {
            "--directory" => options.directory = value.into(),
            "--cpu" => options.cpu = Some(value.parse().map_err(|_| wrong())?),
            "--seconds" => options.seconds = value.parse().map_err(|_| wrong())?,
            "--rounds" => options.rounds = value.parse().map_err(|_| wrong())?,
            "--batch" => options.batches.push(value.parse().map_err(|_| wrong())?),
            "--mode" => {
                let mode = MODES.into_iter().find(|(_, name)| *name == value);
                options.modes.push(mode.ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
    }
    if options.modes.is_empty() {
        options.modes = MODES.to_vec();
    }
    if options.batches.is_empty() {
        options.batches = BATCHES.to_vec();
    }
    Ok(options)
}

/// What one mode does with one size of batch; offsets go round in the file.
#[derive(Clone, Debug)]
struct Trial {
    path: PathBuf,
    mode: Mode,
    batch_bytes: usize,
    duration: Duration,
}

impl Trial {
    fn open(&self, flags: i32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&self.path)
    }

    fn next_offset(&self, offset: u64) -> u64 {
        let len = u64::try_from(self.batch_bytes).unwrap_or(u64::MAX);
        let next = offset + len.next_multiple_of(8);
        if next + len > FILE_BYTES { 0 } else { next }
    }

    fn on_thread(&self, latency: &LatencyHistogram) -> io::Result<()> {
        let through = self.mode == Mode::ThreadDsync;
        let file = self.open(if through { O_DSYNC } else { 0 })?;
        let (began, mut offset) = (rt::now(), 0);
        while rt::now().since(began) < self.duration {
            let from = rt::now();
            file.write_all_at(&vec![1; self.batch_bytes], offset)?;
            if !through {
                file.sync_data()?;
            }
            record(latency, from);
            offset = self.next_offset(offset);
        }
        Ok(())
    }

    async fn on_executor(&self, latency: &LatencyHistogram) -> io::Result<()> {
        let log = match self.mode {
            Mode::RingDsync => LogFile::open_write_through(&self.path, None).await?,
            _ => LogFile::open(&self.path, None).await?,
        };
        let file = Arc::new(self.open(0)?);
        let (began, mut offset) = (rt::now(), 0);
        while rt::now().since(began) < self.duration {
            let from = rt::now();
            let bytes = vec![1; self.batch_bytes];
            match self.mode {
                Mode::Inline => {
                    file.write_all_at(&bytes, offset)?;
                    log.sync_data().await?;
                }
                Mode::Blocking => {
                    let file = file.clone();
                    let work = move || {
                        file.write_all_at(&bytes, offset)?;
                        file.sync_data()
                    };
                    let done = rt::blocking(work).await;
                    done.unwrap_or_else(|| Err(io::Error::other("the blocking thread panicked")))?;
                }
                Mode::RingDsync => log.write_at(bytes, offset).await?,
                Mode::Thread | Mode::ThreadDsync | Mode::Ring => {
                    log.write_at(bytes, offset).await?;
                    log.sync_data().await?;
                }
            }
            record(latency, from);
            offset = self.next_offset(offset);
        }
        log.close().await;
        Ok(())
    }
}

fn record(latency: &LatencyHistogram, from: rt::Instant) {
    let ns = rt::now().since(from).as_nanos();
    latency.record_ns(u64::try_from(ns).unwrap_or(u64::MAX));
}

/// Runs one trial on a thread or an executor of its own, pinned alike.
fn run(trial: &Trial, cpu: Option<usize>) -> io::Result<LatencyHistogram> {
    let (tx, rx) = mpsc::channel();
    let seed = (trial.clone(), tx);
    let executors = start(&[Plan { cpu, spin: None }], vec![seed], |_, (trial, tx)| {
        async move {
            let latency = LatencyHistogram::default();
            // A thread that blocks may as well be the executor's: it has nothing else to do.
            let done = match trial.mode {
                Mode::Thread | Mode::ThreadDsync => trial.on_thread(&latency),
                _ => trial.on_executor(&latency).await,
            };
            let _main_waits = tx.send(done.map(|()| latency));
        }
    })
    .map_err(io::Error::other)?;
    let latency = rx.recv().map_err(io::Error::other)?;
    executors.join();
    latency
}

fn prepare(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeroes)?;
    }
    file.sync_all()
}

fn measure(options: &Options, path: &Path) -> io::Result<()> {
    let mut out = io::stdout();
    if !options.json {
        writeln!(
            out,
            "| messages | mode | batches/s | messages/s | p50 µs | p99 | p99.9 | max |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    }
    for round in 0..options.rounds {
        for messages in &options.batches {
            for (mode, name) in &options.modes {
                let trial = Trial {
                    path: path.to_owned(),
                    mode: *mode,
                    batch_bytes: FRAME_HEAD_BYTES + messages * RECORD_BYTES,
                    duration: Duration::from_secs_f64(options.seconds),
                };
                let summary = run(&trial, options.cpu)?.snapshot().summary();
                let rate = figure(summary.count) / options.seconds;
                let per_second = rate * figure(u64::try_from(*messages).unwrap_or(u64::MAX));
                let us = |ns: u64| figure(ns) / 1e3;
                let (p50, p99) = (us(summary.p50_ns), us(summary.p99_ns));
                let (p999, max) = (us(summary.p999_ns), us(summary.max_ns));
                if options.json {
                    writeln!(
                        out,
                        "{{\"round\":{round},\"messages\":{messages},\"mode\":\"{name}\",\
                         \"batches_per_second\":{rate:.0},\"messages_per_second\":{per_second:.0},\
                         \"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"p999_us\":{p999:.1},\
                         \"max_us\":{max:.1}}}"
                    )?;
                } else {
                    writeln!(
                        out,
                        "| {messages} | {name} | {rate:.0} | {per_second:.0} | {p50:.0} | \
                         {p99:.0} | {p999:.0} | {max:.0} |"
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// A count as a floating-point number; exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "figures are for people")]
const fn figure(count: u64) -> f64 {
    count as f64
}

fn main() -> io::Result<()> {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            std::process::exit(64);
        }
    };
    let path = options
        .directory
        .join(format!("ringmq-sync.{}", std::process::id()));
    prepare(&path)?;
    let measured = measure(&options, &path);
    std::fs::remove_file(&path)?;
    measured
}
