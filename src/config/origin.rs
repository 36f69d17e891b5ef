//! Where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// Where a value of the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File(Place),
    /// This environment variable.
    Environment(&'static str),
    /// This flag, as `--grpc-port` or `--set`.
    Flag(String),
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: FileSource,
    /// The line, counted from 1.
    pub line: usize,
}

/// Where the configuration file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// A file at this path.
    Path(PathBuf),
    /// The variable `CONFIG` itself, as base64.
    Variable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(Place {
                source: FileSource::Path(path),
                line,
            }) => write!(f, "file {}:{line}", path.display()),
            Self::File(Place { source, line }) => write!(f, "{source}, line {line}"),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl fmt::Display for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "file {}", path.display()),
            Self::Variable => f.write_str("file in env CONFIG"),
        }
    }
}
