//! What it costs to make segments and to fill them: the same work as the store's, one batch after
//! the other, on one thread. CPU time counts; the wall is the disk's and the neighbours'.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ringmq::rt;
use ringmq::telemetry::latency::LatencyHistogram;
use ringmq_storage::fs::{Fs, PAGE_BYTES, RealFs};

const SEGMENT_BYTES: u64 = 64 << 20;
const SLICE_BYTES: u32 = 1 << 20;

/// A message of 1 KiB with the head of its record, and the head of the frame around a batch.
const RECORD_BYTES: u64 = 1024 + 32;
const FRAME_HEAD_BYTES: u64 = 64;

/// `O_DSYNC` of Linux on every architecture but three that nobody runs this on.
const O_DSYNC: i32 = 0o10000;

const USAGE: &str = "usage: ringmq-segments [--directory DIR] [--segments N] [--rounds N] \
                     [--batch MESSAGES]";

/// A way to make a segment and to fill it.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    /// Zeros go through the page cache.
    cached: bool,
    /// Batches go on with zeros to the end of their last page.
    padded: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: "zeros through the page cache",
        cached: true,
        padded: false,
    },
    Way {
        name: "zeros past it",
        cached: false,
        padded: false,
    },
    Way {
        name: "zeros past it, whole pages",
        cached: false,
        padded: true,
    },
];

#[derive(Clone, Debug)]
struct Options {
    directory: PathBuf,
    segments: u32,
    rounds: u32,
    batch: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        directory: PathBuf::from("."),
        segments: 8,
        rounds: 1,
        batch: 1024,
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        let wrong = |_| format!("{flag} {value}: not understood\n{USAGE}");
        match flag.as_str() {
            "--directory" => options.directory = value.into(),
            "--segments" => options.segments = value.parse().map_err(wrong)?,
            "--rounds" => options.rounds = value.parse().map_err(wrong)?,
            "--batch" => options.batch = value.parse().map_err(wrong)?,
            _ => return Err(format!("{flag}: not understood\n{USAGE}")),
        }
    }
    Ok(options)
}

/// What was spent, all segments together.
#[derive(Debug, Default)]
struct Spent {
    making_ns: u64,
    filling_ns: u64,
    batches: LatencyHistogram,
}

/// CPU time of the calling thread.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

fn make(path: &Path, way: Way) -> io::Result<()> {
    let mut file = RealFs.create(path)?;
    file.reserve(SEGMENT_BYTES)?;
    let zeros = vec![0; usize::try_from(SLICE_BYTES).unwrap_or(0)];
    for slice in 0..SEGMENT_BYTES / u64::from(SLICE_BYTES) {
        let offset = slice * u64::from(SLICE_BYTES);
        if way.cached {
            file.write_at(offset, &zeros)?;
        } else {
            file.write_zeros(offset, SLICE_BYTES)?;
        }
        file.sync()?;
    }
    Ok(())
}

fn fill(file: &File, way: Way, batch: u64, latency: &LatencyHistogram) -> io::Result<()> {
    let len = FRAME_HEAD_BYTES + batch * RECORD_BYTES;
    let page = u64::try_from(PAGE_BYTES).unwrap_or(1);
    let index = |bytes: u64| usize::try_from(bytes).unwrap_or(0);
    // One buffer for all: what memory costs that is new each time is another question.
    let mut bytes = vec![1; index(len + page)];
    bytes.get_mut(index(len)..).unwrap_or_default().fill(0);
    let mut offset = 0;
    while (offset + len).next_multiple_of(page) <= SEGMENT_BYTES {
        let end = offset + len;
        let to = if way.padded {
            end.next_multiple_of(page)
        } else {
            end
        };
        let bytes = bytes.get(..index(to - offset)).unwrap_or_default();
        let from = rt::now();
        file.write_all_at(bytes, offset)?;
        let ns = rt::now().since(from).as_nanos();
        latency.record_ns(u64::try_from(ns).unwrap_or(u64::MAX));
        offset = end;
    }
    Ok(())
}

fn measure(options: &Options, way: Way) -> io::Result<Spent> {
    let mut spent = Spent::default();
    let own = std::process::id();
    let path = |number| options.directory.join(format!("segment.{own}.{number}"));
    for number in 0..options.segments {
        let path = path(number);
        let began = cpu_ns();
        make(&path, way)?;
        let made = cpu_ns();
        let through = OpenOptions::new()
            .write(true)
            .custom_flags(O_DSYNC)
            .open(&path)?;
        fill(&through, way, options.batch, &spent.batches)?;
        spent.making_ns += made - began;
        spent.filling_ns += cpu_ns() - made;
    }
    // Only now: what a removed file leaves is memory that the next one gets.
    (0..options.segments).try_for_each(|number| fs::remove_file(path(number)))?;
    Ok(spent)
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
    let mut out = io::stdout();
    writeln!(
        out,
        "| making, filling | making, CPU ms a MiB | filling | batch p50 µs | p99 | p99.9 |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for _ in 0..options.rounds {
        for way in WAYS {
            let spent = measure(&options, way)?;
            let mib = f64::from(options.segments) * figure(SEGMENT_BYTES >> 20);
            let a_mib = |ns: u64| figure(ns) / 1e6 / mib;
            let (making, filling) = (a_mib(spent.making_ns), a_mib(spent.filling_ns));
            let batch = spent.batches.snapshot().summary();
            let us = |ns: u64| figure(ns) / 1e3;
            let (p50, p99, p999) = (us(batch.p50_ns), us(batch.p99_ns), us(batch.p999_ns));
            let name = way.name;
            writeln!(
                out,
                "| {name} | {making:.3} | {filling:.3} | {p50:.0} | {p99:.0} | {p999:.0} |"
            )?;
        }
    }
    Ok(())
}
