//! Child commands with a deadline and their whole output.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::poll;

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Whether it ended by itself with exit code 0.
    pub(crate) success: bool,
    /// How it ended, in words.
    pub(crate) ending: String,
    /// What it wrote to stdout and stderr.
    pub(crate) output: String,
}

impl Finished {
    /// Returns the lines of the output that `wanted` picks.
    pub(crate) fn lines(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        self.output.lines().filter(|line| wanted(line)).collect()
    }
}

/// Runs a command to its end and kills it at the deadline.
///
/// # Errors
/// A text that names the command, if it cannot be started.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{name} cannot be run: {error}");
    // A file, not a pipe: nobody has to read while the command runs.
    let folder = tempfile::tempdir().map_err(failed)?;
    let path = folder.path().join("output.txt");
    let file = File::create(&path).map_err(failed)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .spawn()
        .map_err(failed)?;
    let status = poll(deadline, || child.try_wait().ok().flatten());
    if status.is_none() {
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
    }
    let output = fs::read(&path).map_err(failed)?;
    Ok(Finished {
        success: status.is_some_and(|status| status.success()),
        ending: match status {
            Some(status) => format!("{name}: {status}"),
            None => format!("{name}: killed after {} s", deadline.as_secs()),
        },
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}
