//! Where configuration is read from: the file, the environment, the command line. The file is only
//! read: no broker writes into it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::base64;
use super::error::Problem;
use super::fold::{Layers, shorten};
use super::machine::{Finding, Machine};
use super::origin::{FileSource, Origin};
use super::{file, reference, settings};

/// The file that is read when nobody names one.
pub const DEFAULT_FILE: &str = "ringmq.toml";

/// The same in YAML. Who has both must say which one counts.
const DEFAULT_YAML: &str = "ringmq.yaml";

/// The file of the reference, which counts when there is none of ours.
const REFERENCE_FILE: &str = "config.yaml";

/// The variable that names or holds the file.
const FILE_VARIABLE: &str = "CONFIG";

/// What Kubernetes puts into `GRPC_PORT` when a service is called `grpc`.
const INJECTED: &[&str] = &["tcp://", "udp://", "sctp://"];

/// Everything that a configuration depends on, so that tests can make it up.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The environment.
    pub environment: HashMap<String, OsString>,
    /// The flags, in the order of the command line.
    pub flags: Vec<FlagValue>,
    /// The file that the command line names.
    pub file: Option<PathBuf>,
    /// Where [`DEFAULT_FILE`] is looked for.
    pub directory: PathBuf,
    /// What is left open by the settings.
    pub machine: Machine,
}

/// A flag of the command line.
#[derive(Clone, PartialEq, Eq)]
pub enum FlagValue {
    /// A flag of a setting.
    Setting {
        /// The setting's key.
        key: &'static str,
        /// The flag, as `--grpc-port`.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// What stands behind a `--set`: key, equals sign, value.
    Assignment(String),
}

impl Sources {
    /// The sources of this process, with an empty command line.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Self {
            environment: variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            flags: Vec::new(),
            file: None,
            directory: PathBuf::from("."),
            machine: Machine::read(),
        }
    }

    /// Reads all layers.
    pub(super) fn read(&self, layers: &mut Layers) -> Option<FileSource> {
        let file = self.read_file(layers);
        layers.next_layer();
        self.read_environment(layers);
        layers.next_layer();
        self.read_flags(layers);
        file
    }

    fn read_file(&self, layers: &mut Layers) -> Option<FileSource> {
        let (source, text) = match self.locate_file() {
            Ok(found) => found?,
            Err(problem) => {
                layers.problems.push(problem);
                return None;
            }
        };
        if let Err(message) = file::put(layers, &source, &text) {
            let file = source.clone();
            layers.problems.push(Problem::Syntax { file, message });
        }
        Some(source)
    }

    /// The file that counts and its text: the command line's, then `CONFIG`'s, then a default one
    /// if there is any.
    fn locate_file(&self) -> Result<Option<(FileSource, String)>, Problem> {
        let read = |path: PathBuf| match read_bounded(&path) {
            Ok(text) => Ok(Some((FileSource::Path(path), text))),
            Err(source) => Err(Problem::Unreadable {
                file: FileSource::Path(path),
                source,
            }),
        };
        if let Some(path) = &self.file {
            return read(path.clone());
        }
        if let Some(text) = self.variable(FILE_VARIABLE)? {
            let path = PathBuf::from(&text);
            if path.exists() {
                return read(path);
            }
            // A path has one line: this is the file itself.
            if text.trim_end().contains('\n') && base64::decode(&text).is_none() {
                return Ok(Some((FileSource::Variable, text)));
            }
            let decoded = base64::decode(&text).and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.map(|text| Some((FileSource::Variable, text)));
            return decoded.ok_or_else(|| Problem::Dangling {
                shown: shorten(&text),
            });
        }
        let path = |name: &str| Some(self.directory.join(name)).filter(|path| path.exists());
        let default = match (path(DEFAULT_FILE), path(DEFAULT_YAML)) {
            (Some(_), Some(_)) => {
                let (first, second) = (DEFAULT_FILE, DEFAULT_YAML);
                return Err(Problem::TwoFiles { first, second });
            }
            (ours, yaml) => ours.or(yaml).or_else(|| path(REFERENCE_FILE)),
        };
        default.map_or(Ok(None), read)
    }

    fn read_environment(&self, layers: &mut Layers) {
        let settings = settings::KEYS.iter().map(|key| (key.name, key.env));
        let reference = reference::all().map(|key| (key.name, key.env));
        for (key, names) in settings.chain(reference) {
            let mut before: Option<(&str, String)> = None;
            for name in names {
                let value = match self.variable(name) {
                    Ok(value) => value,
                    Err(problem) => {
                        layers.problems.push(problem);
                        continue;
                    }
                };
                let Some(value) = value else { continue };
                if INJECTED.iter().any(|scheme| value.starts_with(scheme)) {
                    layers.warnings.push(injected(name, &value));
                } else if let Some((first, used)) = &before {
                    if *used != value {
                        layers.warnings.push(overruled(first, name));
                    }
                } else {
                    layers.put(key, value.clone(), Origin::Environment(name));
                    before = Some((name, value));
                }
            }
        }
    }

    /// A variable's value; an empty one counts as not set, as it does with the reference.
    fn variable(&self, name: &'static str) -> Result<Option<String>, Problem> {
        let Some(value) = self.environment.get(name) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or(Problem::NotUnicode { name })?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn read_flags(&self, layers: &mut Layers) {
        for flag in &self.flags {
            match flag {
                FlagValue::Setting { key, flag, value } => {
                    layers.put(key, value.clone(), Origin::Flag((*flag).to_owned()));
                }
                FlagValue::Assignment(text) => match text.split_once('=') {
                    Some((key, value)) if !key.trim().is_empty() => {
                        let origin = Origin::Flag("--set".to_owned());
                        layers.put_named(key.trim(), value.to_owned(), origin);
                    }
                    _ => layers.problems.push(Problem::NoAssignment {
                        text: shorten(text),
                    }),
                },
            }
        }
    }
}

/// Reads a file, a little more of it than may be in it: the rest cannot make it right.
fn read_bounded(path: &Path) -> io::Result<String> {
    let max = u64::try_from(file::FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(max.saturating_add(1)).read_to_string(&mut text)?;
    Ok(text)
}

fn injected(name: &str, value: &str) -> Finding {
    Finding::warning(
        format!(
            "{name}={} was ignored: Kubernetes sets it for a service",
            shorten(value)
        ),
        "rename that service, or set enableServiceLinks: false in the pod".to_owned(),
    )
}

fn overruled(used: &str, ignored: &str) -> Finding {
    Finding::warning(
        format!("{ignored} was ignored: {used} sets the same to another value"),
        format!("unset {ignored}"),
    )
}

// Variables and flags may hold secrets: only their names are shown.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("environment", &self.environment.keys())
            .field("flags", &self.flags)
            .field("file", &self.file)
            .field("directory", &self.directory)
            .field("machine", &self.machine)
            .finish()
    }
}

impl fmt::Debug for FlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { flag, .. } => write!(f, "{flag} ***"),
            Self::Assignment(text) => {
                let key = text.split_once('=').map_or("", |(key, _)| key);
                write!(f, "--set {key}=***")
            }
        }
    }
}
