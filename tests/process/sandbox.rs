//! The seccomp profile of `docs/deploy`: the broker lives with it, and it denies what it should.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Broker, say};
use crate::mock::peer::PATIENCE;
use crate::mock::process::{FREE_PORTS, Process, program};

const PROFILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/docs/deploy/ringmq-seccomp.json"
);
const SANDBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/sandbox.py");

/// What the sandbox exits with where there is none.
const SKIPPED: i32 = 77;

/// A command under the profile; it stands before the arguments.
fn sandboxed(directory: &Path, inside: &str) -> Command {
    let mut command = program("python3", directory);
    command.args([SANDBOX, PROFILE, inside]);
    command
}

/// Whether this machine can try the profile.
fn is_possible(directory: &Path) -> bool {
    let Ok(tried) = sandboxed(directory, "true").output() else {
        say("skipped: python3, which installs the seccomp filter, is not there");
        return false;
    };
    let possible = tried.status.code() != Some(SKIPPED);
    if !possible {
        say(&format!(
            "skipped: {}",
            String::from_utf8_lossy(&tried.stdout)
        ));
    }
    possible
}

#[test]
fn the_broker_serves_and_stops_under_the_profile() {
    let directory = tempfile::tempdir().unwrap();
    if !is_possible(directory.path()) {
        return;
    }
    let mut command = sandboxed(directory.path(), Broker::BINARY);
    command.arg("demo").args(FREE_PORTS);
    command.arg("--data").arg(directory.path().join("store"));
    let mut broker = Process::start(&mut command);
    // The last thing that the demo shows; stored messages and queues came before it.
    let shown = broker.wait_line(PATIENCE, |line| {
        line.contains("query") && line.contains("answered")
    });
    assert!(shown.is_some(), "{}", broker.output());
    broker.signal(Signal::HUP);
    broker.signal(Signal::TERM);
    let status = broker.wait_end(PATIENCE);
    let output = broker.output();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn the_profile_denies_what_a_broker_never_does() {
    let directory = tempfile::tempdir().unwrap();
    if !is_possible(directory.path()) {
        return;
    }
    // Each would be answered with something else than EPERM, or succeed, without the filter.
    let tried = "\
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0), lambda: libc.personality(0xffffffff)):
    ctypes.set_errno(0)
    if call() != -1 or ctypes.get_errno() != 1:
        sys.exit('allowed')
";
    let mut command = sandboxed(directory.path(), "python3");
    let output = command.args(["-c", tried]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut without = program("python3", directory.path());
    let output = without.args(["-c", tried]).output().unwrap();
    assert!(!output.status.success(), "the test sees a missing filter");
}
