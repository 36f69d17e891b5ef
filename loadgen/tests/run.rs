//! The program against a real broker, one second of each pattern: every run passes its own checks,
//! says so in JSON, and ends with the code that its result has.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]
#![allow(missing_docs, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_ringmq-loadgen");

const PATIENCE: Duration = Duration::from_secs(60);

/// The directory of all programs of this build. The servers belong to other packages, which this
/// test may not name: they are built here, unless they have been.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(LOADGEN).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // With all packages, as tests are: alone, they would be built with other features.
        cargo.args(["build", "--quiet", "--workspace", "--offline"]);
        cargo.args(["--bin", "ringmq", "--bin", "ringmq-echo"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        assert!(cargo.status().unwrap().success(), "the servers are built");
        folder.to_path_buf()
    })
}

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn broker() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = folder.path().join("addresses");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(programs().join("ringmq"));
        command.current_dir(folder.path()).arg("--data");
        command.arg(folder.path().join("data"));
        command.args([
            "server",
            "--bind",
            "127.0.0.1",
            "--grpc-port",
            "0",
            "--rest-port",
            "0",
            "--api-port",
            "0",
            "--cores",
            "1",
        ]);
        command.arg("--addresses-file").arg(&addresses);
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&addresses).unwrap_or_default();
            if let Ok(addresses) = serde_json::from_str::<Value>(&text) {
                break addresses["grpc"].as_str().unwrap().to_owned();
            }
            let running = child.try_wait().unwrap().is_none();
            assert!(running && began.elapsed() < PATIENCE, "the broker starts");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            child,
            address,
            _folder: folder,
        }
    }

    fn echo() -> Self {
        let mut command = Command::new(programs().join("ringmq-echo"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        lines.read_line(&mut address).unwrap();
        Self {
            child,
            address: address.trim().to_owned(),
            _folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs a scenario of a second; the exit code and the result.
    fn run(&self, flags: &[&str]) -> (Option<i32>, Value, String) {
        let pid = self.child.id().to_string();
        let common = ["--warm-up", "200ms", "--duration", "1s", "--drain", "10s"];
        let output = loadgen()
            .args(["run", "--address", &self.address, "--pid", &pid, "--quiet"])
            .args(["--json", "-", "--park"])
            .args(common)
            .args(flags)
            .output();
        result(&output.unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn loadgen() -> Command {
    Command::new(LOADGEN)
}

fn result(output: &Output) -> (Option<i32>, Value, String) {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, words)
}

/// A machine that is busy with other tests may make a result invalid: that is code 4, and rightly.
/// What is wrong with messages is never excused.
fn assert_sound((code, result, words): (Option<i32>, Value, String), flags: &[&str]) {
    assert!(matches!(code, Some(0 | 4)), "{flags:?}: {code:?} {words}");
    let checks = &result["checks"];
    for kind in ["lost", "duplicated", "reordered", "corrupted"] {
        assert_eq!(checks[kind], 0, "{flags:?}: {checks}");
    }
    assert!(result["counts"]["sent"].as_u64().unwrap() > 0, "{result}");
    let invalid = result["invalid"].as_array().unwrap();
    assert_eq!(
        code == Some(0),
        invalid.is_empty(),
        "{flags:?}: {invalid:?}"
    );
}

#[test]
fn every_pattern_passes_its_own_checks() {
    let broker = Server::broker();
    let runs: &[&[&str]] = &[
        &["--pattern", "events"],
        &["--pattern", "events", "--calls", "unary", "--window", "64"],
        &[
            "--pattern",
            "events",
            "--channels",
            "4",
            "--cores",
            "2",
            "--producers",
            "2",
        ],
        &["--pattern", "events", "--consumers", "4", "--groups", "2"],
        &["--pattern", "events", "--rate", "2000"],
        &["--pattern", "events-store"],
        &[
            "--pattern",
            "events-store",
            "--calls",
            "unary",
            "--consumers",
            "0",
        ],
        &["--pattern", "queue", "--consumers", "2"],
        &["--pattern", "queue", "--calls", "unary", "--batch", "8"],
        &["--pattern", "command", "--window", "16"],
        &["--pattern", "query", "--window", "16"],
    ];
    for flags in runs {
        assert_sound(broker.run(flags), flags);
    }
}

#[test]
fn an_echo_is_measured_in_both_ways() {
    let echo = Server::echo();
    for calls in ["stream", "unary"] {
        let flags = ["--pattern", "echo", "--calls", calls, "--window", "64"];
        assert_sound(echo.run(&flags), &flags);
    }
}

#[test]
fn a_broker_that_is_killed_ends_the_run_with_its_errors() {
    let mut broker = Server::broker();
    let mut run = loadgen();
    run.args([
        "run",
        "--address",
        &broker.address,
        "--quiet",
        "--json",
        "-",
    ]);
    run.args(["--park", "--warm-up", "100ms", "--duration", "30s"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let run = run.unwrap();
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    broker.child.kill().unwrap();
    let (code, result, words) = result(&run.wait_with_output().unwrap());
    assert_eq!(code, Some(4), "{words}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!result["errors"].as_array().unwrap().is_empty(), "{result}");
    assert!(
        !result["invalid"].as_array().unwrap().is_empty(),
        "{result}"
    );
}

#[test]
fn nobody_to_talk_to_is_an_error_and_nonsense_is_wrong_usage() {
    let output = loadgen()
        .args(["run", "--address", "127.0.0.1:1", "--quiet"])
        .output();
    let (code, _, words) = result(&output.unwrap());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("cannot connect to 127.0.0.1:1"), "{words}");
    let output = loadgen().args(["run", "--pattern", "letters"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}
