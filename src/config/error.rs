//! What is wrong with a configuration: all of it at once.

use std::fmt;
use std::io;

use super::cpus::CpuList;
use super::origin::{FileSource, Origin};

/// The configuration was refused. Its text names every problem, one a line.
#[derive(Debug)]
pub struct Error {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Unreadable {
        /// Which file.
        file: FileSource,
        /// Why.
        source: io::Error,
    },
    /// Several files could be meant.
    #[error("{first} and {second} are both there: remove one, or name one with --config")]
    TwoFiles {
        /// One file.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The file is neither TOML nor YAML.
    #[error("{file}: {message}")]
    Syntax {
        /// Which file.
        file: FileSource,
        /// What the parser says, with the line.
        message: String,
    },
    /// `CONFIG` leads nowhere.
    #[error("env CONFIG: neither the path of a file nor a file in base64: {shown:?}")]
    Dangling {
        /// The beginning of its value.
        shown: String,
    },
    /// A value is outside what its key allows.
    #[error("{key} = {value:?} ({origin}): allowed is {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// Where it comes from.
        origin: Origin,
        /// What is allowed.
        expected: String,
    },
    /// There is no such key.
    #[error("{key} ({origin}): unknown key{}", did_you_mean(*nearest))]
    Unknown {
        /// The key, as it was spelled.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The known key that is spelled most alike.
        nearest: Option<&'static str>,
    },
    /// One source sets a key twice.
    #[error("{key}: set twice, by {first} and by {second}")]
    Twice {
        /// The key.
        key: &'static str,
        /// Once here.
        first: String,
        /// And once here.
        second: String,
    },
    /// `--set` without a value.
    #[error("flag --set {text:?}: expected key=value")]
    NoAssignment {
        /// What stands behind the flag.
        text: String,
    },
    /// A value is no text.
    #[error("env {name}: its value is not UTF-8")]
    NotUnicode {
        /// The variable.
        name: &'static str,
    },
    /// Protection was asked for without what it takes.
    #[error("{set} is set, but nothing says {what}: set {remedy}")]
    Incomplete {
        /// What is set.
        set: &'static str,
        /// What is not said.
        what: &'static str,
        /// The settings that would say it.
        remedy: &'static str,
    },
    /// Something was asked for that this version does not do, and that somebody may rely on.
    #[error("{key} is set ({origin}): {why}")]
    NotDone {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
        /// What this means, and what to do.
        why: &'static str,
    },
    /// A list stands where one value is meant.
    #[error("{key} ({origin}): a list, where one value is meant")]
    List {
        /// The key.
        key: &'static str,
        /// Where it stands.
        origin: Origin,
    },
    /// Two settings say where one thing is.
    #[error("{first} and {second} are both set: only one of them can count")]
    Both {
        /// One setting.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A setting that means nothing without another.
    #[error("{set} is set without {missing}: they belong together")]
    Alone {
        /// What is set.
        set: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A processor is named that this process may not use.
    #[error("engine.cpus names processor {cpu}, but this process may use {usable}")]
    NoSuchCpu {
        /// The processor.
        cpu: usize,
        /// Those that it may use.
        usable: CpuList,
    },
    /// There are more executors than processors for them.
    #[error("engine.cores is {cores}, but engine.cpus names {cpus}: leave one of them out")]
    FewCpus {
        /// Executors.
        cores: usize,
        /// Processors.
        cpus: usize,
    },
    /// Two services want one port.
    #[error("{first} and {second} are both {port}: each needs a port of its own")]
    SamePort {
        /// One service.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The port.
        port: u16,
    },
    /// A time is longer than the bound for it.
    #[error("{key} is {seconds} s, but {bound} is {max_seconds} s: lower one or raise the other")]
    AboveBound {
        /// What is too long.
        key: &'static str,
        /// How long it is.
        seconds: u64,
        /// The key of its bound.
        bound: &'static str,
        /// The bound.
        max_seconds: u64,
    },
}

impl Error {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error without a problem");
        Self { problems }
    }

    /// Everything that is wrong, in the order in which it was found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is refused:")?;
        for problem in &self.problems {
            let text = problem.to_string();
            write!(f, "\n  {}", text.trim_end().replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}
