//! What a run found, for people and for programs: a table, JSON, an HdrHistogram log, a page.

/// Appends formatted text to a string, which takes everything.
macro_rules! put {
    ($text:expr, $($rest:tt)*) => {
        std::fmt::Write::write_fmt(&mut $text, format_args!($($rest)*)).expect("strings take all")
    };
}

pub(crate) mod hlog;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod page;
pub(crate) mod plot;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod words;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::outcome::Outcome;
use crate::scenario::Scenario;

pub(crate) use words::Verdict;

/// Where a result goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sinks {
    /// Whether the run is shown while it lasts, on stderr.
    pub live: bool,
    /// A file, or `-` for the standard output; the table then goes to stderr.
    pub json: Option<PathBuf>,
    pub hlog: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// How to do it again; see [`command_line`].
    pub command: String,
}

impl Sinks {
    /// What shows the run while it lasts: [`live::Live::show`] takes each look at it.
    pub(crate) fn live(&self, scenario: &Scenario) -> live::Live {
        live::Live::new(scenario, self.live)
    }

    /// Prints the table and writes what was asked for.
    ///
    /// # Errors
    ///
    /// The first file that cannot be written, by its name. The table is out by then.
    pub(crate) fn write(&self, outcome: &Outcome) -> anyhow::Result<Verdict> {
        let table = table::table(outcome);
        if self.json.as_deref().is_some_and(is_stdout) {
            std::io::stderr().lock().write_all(table.as_bytes())?;
        } else {
            std::io::stdout().lock().write_all(table.as_bytes())?;
        }
        if let Some(path) = &self.json {
            let mut value = json::json(outcome);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("command".into(), self.command.as_str().into());
            }
            write(path, format!("{value:#}\n"))?;
        }
        if let Some(path) = &self.hlog {
            write(path, hlog::hlog(outcome)?)?;
        }
        if let Some(path) = &self.html {
            write(path, html::html(outcome, &self.command)?)?;
        }
        Ok(Verdict::of(outcome))
    }
}

/// Whether the path means the standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Writes a report to a file, or to the standard output for `-`.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    if is_stdout(path) {
        std::io::stdout().lock().write_all(text.as_ref())?;
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The command line as a shell takes it, without secrets: reports are shown around.
pub(crate) fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut secret = false;
    for argument in arguments {
        let hidden = std::mem::replace(&mut secret, argument == "--token");
        words.push(if hidden {
            "…".to_owned()
        } else if argument.starts_with("--token=") {
            "--token=…".to_owned()
        } else {
            quoted(&argument)
        });
    }
    words.join(" ")
}

/// In single quotes if a shell would take anything in it for its own.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> String {
        command_line(arguments.iter().map(|a| (*a).to_owned()))
    }

    #[test]
    fn the_command_line_can_be_pasted_and_keeps_no_secret() {
        assert_eq!(
            line(&["ringmq-loadgen", "run", "--name", "it's", ""]),
            r"ringmq-loadgen run --name 'it'\''s' ''"
        );
        assert_eq!(
            line(&["x", "--token", "abc", "--rate", "5"]),
            "x --token … --rate 5"
        );
        assert_eq!(line(&["x", "--token=abc", "y"]), "x --token=… y");
    }

    #[test]
    fn the_verdict_decides_the_exit_code() {
        assert_eq!(Verdict::of(&sample::events()).exit_code(), 0);
        assert_eq!(Verdict::of(&sample::invalid()).exit_code(), 4);
        assert_eq!(
            Verdict::of(&sample::bad()).exit_code(),
            3,
            "violations stand"
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write(Path::new("/nowhere/at/all.json"), "").unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/at/all.json"));
    }
}
