//! Attacks a running broker, one way after the other, while quiet clients use it, and prints what
//! they noticed, what it took, and whether the broker lives.
//!
//! Pin the broker and this program to different processors: what is told of latencies is the
//! broker's only then.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ringmq_bench::attacks::{self, Attack, Field, Memory, Port, Quiet, Turns};
use rustls::ClientConfig;

const USAGE: &str = "usage: ringmq-attacks --addresses FILE --pid PID [--seconds S] [--threads N]
                      [--quiet N] [--ca FILE] [--only NAME]... [--list]

  --addresses FILE  what the broker writes with --addresses-file
  --pid PID         its process
  --seconds S       how long each attack lasts (5)
  --threads N       from how many threads (2)
  --quiet N         quiet clients beside it (2)
  --ca FILE         the broker speaks TLS; its authority (PEM)
  --only NAME       attacks whose name begins so
  --list            prints the names";

/// Before an attack begins, and after its connections are gone.
const REST: Duration = Duration::from_millis(1_500);

/// How much less the threads of an attack weigh than those of the quiet clients.
const NICE: i32 = 10;

#[derive(Debug, Default)]
struct Options {
    addresses: PathBuf,
    pid: u32,
    seconds: f64,
    threads: usize,
    quiet: usize,
    ca: Option<PathBuf>,
    only: Vec<String>,
    list: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seconds: 5.0,
        threads: 2,
        quiet: 2,
        ..Options::default()
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--list" {
            options.list = true;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        let bad = |_| format!("{name} {value}: not a number\n{USAGE}");
        match name.as_str() {
            "--addresses" => options.addresses = PathBuf::from(value),
            "--pid" => options.pid = value.parse().map_err(bad)?,
            "--seconds" => options.seconds = value.parse().map_err(|_| USAGE.to_owned())?,
            "--threads" => options.threads = value.parse().map_err(bad)?,
            "--quiet" => options.quiet = value.parse().map_err(bad)?,
            "--ca" => options.ca = Some(PathBuf::from(value)),
            "--only" => options.only.push(value),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// Where a listener is, in the broker's file: a flat object of strings.
fn address(file: &str, listener: &str) -> Option<SocketAddr> {
    let (_, rest) = file.split_once(&format!("\"{listener}\""))?;
    rest.split('"').nth(1)?.parse().ok()
}

/// A broker under attack.
struct Broker {
    grpc: SocketAddr,
    rest: Option<SocketAddr>,
    api: Option<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
    memory: Memory,
    quiet: Quiet,
}

impl Broker {
    fn new(options: &Options) -> Result<Self, String> {
        let file = std::fs::read_to_string(&options.addresses)
            .map_err(|error| format!("{}: {error}", options.addresses.display()))?;
        let grpc = address(&file, "grpc").ok_or("no address of gRPC in the file")?;
        let tls = options.ca.as_deref().map(attacks::trusting).transpose()?;
        Ok(Self {
            grpc,
            rest: address(&file, "rest"),
            api: address(&file, "api"),
            memory: Memory::watch(options.pid),
            quiet: Quiet::start(grpc, tls.as_ref(), options.quiet),
            tls,
        })
    }

    fn turns(&self) -> Option<Turns> {
        attacks::turns(self.api?)
    }

    fn suffers(&self, attack: &Attack, options: &Options) -> Outcome {
        rest(REST);
        let baseline = self.memory.now().unwrap_or(0);
        let before = self.quiet.seen();
        let turns = self.turns();
        let _what_was_before = self.memory.take_peak();
        let field = Field::new(self.grpc, self.rest, self.api, self.tls.clone());
        std::thread::scope(|scope| {
            for _ in 0..options.threads {
                scope.spawn(|| {
                    stand_back();
                    attack.run(&field);
                });
            }
            rest(Duration::from_secs_f64(options.seconds));
            field.end();
        });
        let during = self.quiet.seen();
        let peak = self.memory.take_peak();
        let turns = turns.and_then(|before| attacks::turn_bound(&before, &self.turns()?));
        rest(REST);
        let after = self.quiet.seen();
        Outcome {
            name: attack.name,
            effort: field.effort(),
            peak: peak.saturating_sub(baseline),
            left: self.memory.now().unwrap_or(0).saturating_sub(baseline),
            p50_before: before.p50,
            p50: during.p50,
            p99: during.p99,
            failed: during.failed,
            turns,
            alive: after.answered > 0 && self.memory.now().is_some(),
        }
    }
}

/// Lets the quiet clients have the processor first: what they wait for then is the broker, and not
/// an attack that happens to run beside them.
fn stand_back() {
    let _as_it_was = rustix::process::nice(NICE);
}

#[allow(clippy::disallowed_methods, reason = "an ordinary thread may sleep")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// A line of the table.
struct Outcome {
    name: &'static str,
    effort: attacks::Effort,
    peak: u64,
    left: u64,
    p50_before: Duration,
    p50: Duration,
    p99: Duration,
    failed: usize,
    turns: Option<(String, u64)>,
    alive: bool,
}

const HEADING: &str = "\
| attack | sent MiB | connections | ended by it | peak MiB over baseline | left MiB \
| quiet p50 before us | during us | ratio | p99 during us | quiet failed \
| longest turn s | turns > 5 ms | alive |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let (bound, late) = match &self.turns {
            Some((bound, late)) => (format!("<= {bound}"), late.to_string()),
            None => ("?".to_owned(), "?".to_owned()),
        };
        let before = self.p50_before.max(Duration::from_micros(1));
        let effort = &self.effort;
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} | {} | {bound} | {late} | {} |",
            self.name,
            mib(effort.bytes),
            effort.connections,
            effort.refusals,
            mib(self.peak),
            mib(self.left),
            self.p50_before.as_micros(),
            self.p50.as_micros(),
            self.p50.as_secs_f64() / before.as_secs_f64(),
            self.p99.as_micros(),
            self.failed,
            if self.alive { "yes" } else { "NO" },
        )
    }
}

fn run() -> Result<bool, String> {
    let options = options()?;
    let mut out = std::io::stdout();
    let mut say = |line: &str| writeln!(out, "{line}").map_err(|error| error.to_string());
    let wanted = |attack: &&Attack| {
        let named = options
            .only
            .iter()
            .any(|name| attack.name.starts_with(name.as_str()));
        options.only.is_empty() || named
    };
    let all = attacks::all();
    let wanted: Vec<_> = all.iter().filter(wanted).collect();
    if options.list {
        for attack in wanted {
            say(attack.name)?;
        }
        return Ok(true);
    }
    let broker = Broker::new(&options)?;
    let served = |attack: &Attack| match attack.port {
        Port::Grpc => true,
        Port::Rest => broker.rest.is_some(),
        Port::Api => broker.api.is_some(),
    };
    say(HEADING)?;
    let mut all_alive = true;
    for attack in wanted {
        if !served(attack) || attack.tls && options.ca.is_none() {
            continue;
        }
        let outcome = broker.suffers(attack, &options);
        say(&outcome.to_string())?;
        all_alive &= outcome.alive;
    }
    Ok(all_alive)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(64)
        }
    }
}
