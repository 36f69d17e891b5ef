//! What the integration tests share: a broker as a child process, child commands with a deadline,
//! and a Python environment of the project's own.
//!
//! Nothing here sleeps for a fixed time: every wait polls a condition and has a deadline, after
//! which the test fails with the broker's log.

#![allow(dead_code, reason = "each test binary uses a part of the harness")]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests' threads may block and read the clock"
)]
#![allow(
    clippy::unwrap_used,
    reason = "what the harness cannot do fails the test"
)]

mod broker;
mod command;
mod python;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

pub(crate) use broker::Broker;
pub(crate) use command::{Finished, run};
pub(crate) use python::{clean, python_environment};

/// Returns the root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the build directory, wherever it was put.
pub(crate) fn target() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch).to_path_buf()
}

/// Polls `condition` until it gives a value; `None` after the deadline.
pub(crate) fn poll<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a line that is seen also when the test passes.
pub(crate) fn say(line: &str) {
    use io::Write as _;

    // The test runner captures the print macros only. A closed stdout fails no test.
    let _closed = writeln!(io::stdout().lock(), "{line}");
}
