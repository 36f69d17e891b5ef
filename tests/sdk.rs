//! The official SDKs drive the broker: the Python suite in `tests/sdk/python` (the published
//! `kubemq`, and raw `grpcio`), and the Rust suite in `tests/sdk/rust` (the published crate).
//!
//! Each suite runs with one and with four shards, and what needs TLS once more beside brokers with
//! TLS, tokens and a policy. Both bring what they need: a Python environment
//! and a build directory under `target`. `RINGMQ_PYTEST_ARGS` adds arguments to pytest, say
//! `-k cache`.

mod harness;
#[path = "sdk/secure.rs"]
mod secure;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use harness::{Broker, Finished, clean, python_environment, root, run, say, target};

const SHARDS: [usize; 2] = [1, 4];
const BUILD_DEADLINE: Duration = Duration::from_secs(1200);
const SUITE_DEADLINE: Duration = Duration::from_secs(900);

#[test]
fn python_suite_passes_with_one_and_with_four_shards() {
    let python = prepared(|prepared| &prepared.python);
    pass("Python SDK", |broker, cores| {
        let more = std::env::var("RINGMQ_PYTEST_ARGS").unwrap_or_default();
        let mut pytest = Command::new(python);
        clean(&mut pytest)
            .args([
                "-m",
                "pytest",
                "-q",
                "-n",
                "4",
                "--dist",
                "worksteal",
                "--color=no",
            ])
            .args(more.split_whitespace())
            .current_dir(root().join("tests/sdk/python"))
            .env("RINGMQ_BINARY", Broker::BINARY)
            .env("RINGMQ_CORES", cores.to_string());
        run(address(&mut pytest, broker), SUITE_DEADLINE)
    });
}

#[test]
fn rust_suite_passes_with_one_and_with_four_shards() {
    prepared(|prepared| &prepared.rust);
    pass("Rust SDK", |broker, _| {
        run(address(&mut rust_suite(), broker), SUITE_DEADLINE)
    });
}

#[test]
fn python_suite_passes_over_tls_and_with_tokens() {
    let python = prepared(|prepared| &prepared.python);
    let brokers = secure::Brokers::start();
    let mut pytest = Command::new(python);
    clean(&mut pytest)
        .args(["-m", "pytest", "-q", "--color=no", "test_secure.py"])
        .current_dir(root().join("tests/sdk/python"));
    let outcome = run(brokers.named_for(&mut pytest), SUITE_DEADLINE)
        .and_then(|finished| report("Python SDK over TLS", 1, &finished));
    brokers.stop();
    assert_eq!(outcome, Ok(()));
}

#[test]
fn rust_suite_passes_over_tls_and_with_tokens() {
    prepared(|prepared| &prepared.rust);
    let brokers = secure::Brokers::start();
    let mut suite = rust_suite();
    suite.args(["--test", "secure", "--", "--ignored"]);
    let outcome = run(brokers.named_for(&mut suite), SUITE_DEADLINE)
        .and_then(|finished| report("Rust SDK over TLS", 1, &finished));
    brokers.stop();
    assert_eq!(outcome, Ok(()));
}

/// Runs a suite for each count of shards, side by side, and shows its counts.
fn pass(suite: &str, start: impl Fn(&Broker, usize) -> Result<Finished, String> + Sync) {
    let outcomes = thread::scope(|scope| {
        let running = SHARDS.map(|cores| {
            let start = &start;
            scope.spawn(move || {
                let broker = Broker::start(cores);
                let outcome =
                    start(&broker, cores).and_then(|finished| report(suite, cores, &finished));
                broker.assert_nothing_left();
                broker.stop();
                outcome
            })
        });
        running.map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("the broker failed".into()))
        })
    });
    let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{suite}: {}", failures.join("\n"));
}

/// Shows the lines with the counts, or everything if the suite failed.
fn report(suite: &str, cores: usize, finished: &Finished) -> Result<(), String> {
    let counts =
        finished.lines(|line| line.starts_with("test result:") || line.contains(" passed"));
    for line in counts {
        say(&format!(
            "{suite}, {cores} shard(s): {}",
            line.trim_matches(['=', ' '])
        ));
    }
    if finished.success {
        return Ok(());
    }
    say(&format!("{suite}, {cores} shard(s):\n{}", finished.output));
    Err(format!("with {cores} shard(s): {}", finished.ending))
}

/// Tells a suite where the broker is.
fn address<'a>(command: &'a mut Command, broker: &Broker) -> &'a mut Command {
    alone(command).env("RINGMQ_ADDRESS", broker.grpc().to_string())
}

/// Keeps the machine's settings for KubeMQ clients out.
fn alone(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KUBEMQ_") {
            command.env_remove(name);
        }
    }
    command
        // gRPC libraries ask proxies for loopback addresses too.
        .env("no_proxy", "127.0.0.1,localhost")
        .env("NO_PROXY", "127.0.0.1,localhost")
}

struct Prepared {
    python: Result<PathBuf, String>,
    rust: Result<(), String>,
}

/// Installs and builds before any suite starts: a compiler beside them would disturb their clocks.
fn prepared<T>(part: impl FnOnce(&'static Prepared) -> &'static Result<T, String>) -> &'static T {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        let requirements = root().join("tests/sdk/python/requirements.txt");
        let rust = thread::spawn(build_rust_suite);
        let python = python_environment("sdk-venv", &requirements);
        let rust = rust
            .join()
            .unwrap_or_else(|_| Err("the build panicked".into()));
        Prepared { python, rust }
    });
    match part(prepared) {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

fn build_rust_suite() -> Result<(), String> {
    let built = run(rust_suite().arg("--no-run"), BUILD_DEADLINE)?;
    if built.success {
        Ok(())
    } else {
        Err(format!("{}\n{}", built.ending, built.output))
    }
}

fn rust_suite() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--locked", "--manifest-path"])
        .arg(root().join("tests/sdk/rust/Cargo.toml"))
        .env("CARGO_TARGET_DIR", target().join("sdk-rust"));
    command
}
