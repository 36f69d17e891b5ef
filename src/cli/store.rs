//! `ringmq store`: an operator's tools for a store that no broker has open.
//!
//! All of them take the store's lock, so that none meets a broker, and read the files with the
//! codecs of `storage`, not through an open log: opening a log mends its tail, and a tool that
//! looks must not change what it sees.
//!
//! ```text
//! survey: which files ─► walk: frames and damage of a segment ─► state: what the records say
//!                          └─► info, verify, dump, reshard, rewrap
//! ```

mod dump;
mod info;
mod present;
mod reshard;
mod rewrap;
mod state;
mod survey;
mod verify;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringmq_storage::Store;
use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::{Fs, RealFs};

use super::arguments::StoreTask;
use super::{answer, exit, text};
use crate::config::Config;
use crate::telemetry::with_sources;

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The store cannot be opened or read, or is held by a broker.
    #[error(transparent)]
    Store(#[from] ringmq_storage::Error),
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What was asked for is not there.
    #[error("{0}")]
    Absent(String),
    /// A damaged store is not rewritten: what is missing in the copy could not be told any more.
    #[error(
        "the store is damaged and is left as it is: run `ringmq store verify`, and restore a copy"
    )]
    NotSound,
}

impl Error {
    const fn code(&self) -> u8 {
        match self {
            Self::Store(_) | Self::Absent(_) => exit::STORE,
            Self::Io { .. } => exit::IO,
            Self::NotSound => exit::DAMAGED,
        }
    }
}

/// Names the file and the action in an I/O error.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// An opened store, for a tool.
struct Opened {
    store: Store,
    fs: RealFs,
    keyring: Keyring,
}

impl Opened {
    fn fs(&self) -> &dyn Fs {
        &self.fs
    }
}

/// Whether a tool found all well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Sound,
    Damaged,
}

/// Does a task, and gives back the exit code of the process.
pub(super) fn run(config: &Config, task: &StoreTask) -> ExitCode {
    match perform(config, task) {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(exit::DAMAGED),
        Err(error) => {
            eprintln!("ringmq: {}", with_sources(&error));
            ExitCode::from(error.code())
        }
    }
}

fn perform(config: &Config, task: &StoreTask) -> Result<Verdict, Error> {
    let keyring = config.store.encryption.keyring()?;
    let opened = open(&config.store.path, keyring)?;
    match task {
        StoreTask::Info { json } => {
            let report = info::collect(&opened)?;
            answer(&if *json { report.json() } else { report.text() });
            Ok(report.verdict())
        }
        StoreTask::Verify => {
            let report = verify::collect(&opened)?;
            answer(&report.to_string());
            Ok(report.verdict())
        }
        StoreTask::Dump {
            channel,
            kind,
            from,
            to,
        } => {
            let wanted = dump::Wanted {
                channel,
                kind: *kind,
                sequences: *from..=to.unwrap_or(u64::MAX),
            };
            dump::write(&opened, &wanted, &mut io::stdout().lock())
        }
        StoreTask::Rewrap => {
            let done = rewrap::run(&opened)?;
            answer(&done.to_string());
            Ok(Verdict::Sound)
        }
        StoreTask::Reshard { logs } => {
            let done = reshard::run(&opened, *logs)?;
            answer(&done.to_string());
            Ok(Verdict::Sound)
        }
    }
}

/// Opens a store that exists. Its manifest is read and checked, its logs are not touched.
fn open(path: &Path, keyring: Keyring) -> Result<Opened, Error> {
    let options = ringmq_storage::Options { create: false };
    let store = Store::open(path, options)?;
    let fs = RealFs;
    Ok(Opened { store, fs, keyring })
}
