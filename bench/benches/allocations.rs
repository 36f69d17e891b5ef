//! How often the broker asks for memory on the way of a plain event.
//!
//! `cargo bench -p ringmq-bench --bench allocations`
//!
//! This process is the broker, whole, and its allocator counts. The clients are a second process,
//! so that nothing of theirs is counted. After a warm-up each load is run once, and what was asked
//! for meanwhile is divided by its events. A load above its bound fails the bench.

#![forbid(unsafe_code)]

#[path = "allocations/broker.rs"]
mod broker;
#[path = "allocations/clients.rs"]
mod clients;

use std::io::Write;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use broker::Broker;
use clients::Clients;

/// The broker itself ships another allocator: how often it is asked does not depend on that.
#[global_allocator]
static GLOBAL: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What the clients send.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Bytes of a body.
    body_bytes: usize,
    /// Events that the publisher hands over together.
    batch: u64,
    /// Batches on their way at a time.
    in_flight: u64,
    /// The most allocations for each event, at one executor.
    bound: f64,
}

const fn load(body_bytes: usize, batch: u64, in_flight: u64, bound: f64) -> Load {
    Load {
        body_bytes,
        batch,
        in_flight,
        bound,
    }
}

/// One batch at a time: each is a wake-up of the executor, which costs the runtime some nine
/// allocations. With many in flight h2's two or three for each DATA frame are what is left.
const LOADS: [Load; 8] = [
    load(128, 1, 1, 20.0),
    load(128, 16, 1, 1.5),
    load(128, 64, 1, 0.4),
    load(1024, 16, 1, 2.0),
    load(128, 1, 256, 2.0),
    load(128, 16, 64, 0.3),
    load(128, 64, 16, 0.1),
    load(1024, 16, 64, 0.5),
];

/// Events of one run, for each batch in flight or event of a batch; at least.
const EVENTS: u64 = 5_000;
const EVENTS_IN_A_TEST: u64 = 1_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().map(String::as_str);
    match words.next() {
        Some("clients") => clients::serve(words),
        Some("broker") => match words.next().and_then(|cores| cores.parse().ok()) {
            Some(cores) => measure(cores, words.next() == Some("--test")),
            None => ExitCode::FAILURE,
        },
        _ => {
            // The wake-ups of two executors and what crosses between them: shown, not bounded.
            let test = arguments.iter().any(|word| word == "--test");
            let ended = ["1", "2"].map(|cores| run_broker(cores, test));
            match ended.iter().all(|good| *good) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs this program again as a broker with so many executors; whether every load kept its bound.
fn run_broker(cores: &str, test: bool) -> bool {
    let own = std::env::current_exe().expect("a program knows where it is");
    let mode = if test { "--test" } else { "--bench" };
    let status = std::process::Command::new(own)
        .args(["broker", cores, mode])
        .status()
        .expect("it starts as it did before");
    status.success()
}

fn measure(cores: usize, test: bool) -> ExitCode {
    let broker = Broker::start(cores);
    let mut good = true;
    say(&format!(
        "\n{cores} executor(s)\n{:>6} {:>7} {:>10} {:>9} | {:>11} {:>9} {:>9}",
        "bytes", "batch", "in flight", "events", "allocations", "per event", "B/event"
    ));
    for load in LOADS {
        let events = if test { EVENTS_IN_A_TEST } else { EVENTS } * load.batch.max(4);
        let mut clients = Clients::start(broker.address(), &load, events);
        clients.warm_up();
        let region = Region::new(GLOBAL);
        clients.run();
        let stats = region.change();
        let asked = stats.allocations + stats.reallocations;
        let each = ratio(asked, events);
        say(&format!(
            "{:>6} {:>7} {:>10} {:>9} | {:>11} {:>9.4} {:>9.1}",
            load.body_bytes,
            load.batch,
            load.in_flight,
            events,
            asked,
            each,
            ratio(stats.bytes_allocated, events),
        ));
        if cores == 1 && each > load.bound {
            good = false;
            say(&format!("       above its bound of {}", load.bound));
        }
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn ratio(count: usize, events: u64) -> f64 {
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    count / u32::try_from(events).map_or(f64::INFINITY, f64::from)
}

fn say(line: &str) {
    let _reader_is_gone = writeln!(std::io::stdout(), "{line}");
}
