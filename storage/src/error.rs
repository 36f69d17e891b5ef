//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;

use crate::cipher::{BadKeys, KeyId};
use crate::codec::BadFile;
use crate::log::Divergence;

/// Why a store was not opened. Nothing was changed in it, unless it was being created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the store open.
    #[error(
        "store {} is locked by another broker ({}); stop that one, or set another store.store_path",
        path.display(),
        owner.as_deref().unwrap_or("process unknown")
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// What the other broker wrote into the lock file about itself.
        owner: Option<String>,
    },
    /// There is no store, and the caller did not want a new one.
    #[error("no store in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is in use for something else, or a store in it has lost its manifest.
    #[error(
        "directory {} is no store: it has no MANIFEST, yet it holds {found:?}; \
         choose an empty or new directory, or restore the manifest",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first entry that does not belong to an empty store.
        found: String,
    },
    /// The manifest was written by a newer RingMQ.
    #[error(
        "{} has format version {found}, this RingMQ supports up to {supported}; \
         use the version that wrote it or a newer one",
        path.display()
    )]
    NewerFormat {
        /// The manifest.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The manifest is not what was written.
    #[error(
        "{} is damaged: {damage} (supported format version: {supported}); \
         restore it from a copy, the store cannot be read without it",
        path.display()
    )]
    Damaged {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// A file of a log was written by a newer RingMQ, or belongs to another store.
    #[error("{} cannot be used: {bad}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        bad: BadFile,
    },
    /// A file is encrypted, and the key to it was not given. Nothing was changed.
    #[error(
        "{} is encrypted{}, and {}; give the key by store.encryption.key_file or \
         STORE_ENCRYPTION_KEY",
        path.display(),
        key.map_or_else(String::new, |key| format!(" with key {key}")),
        if *given == 0 { "no key is given".to_owned() } else {
            format!("that is none of the keys that are given ({given})")
        }
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The master key that is missing, where that could be read.
        key: Option<KeyId>,
        /// How many keys were given.
        given: usize,
    },
    /// The master keys cannot be used. The message holds nothing of them.
    #[error(
        "the keys {} cannot be used: {bad}",
        path.as_ref().map_or_else(
            || "of store.encryption.key".to_owned(),
            |path| format!("in {}", path.display()),
        )
    )]
    Keys {
        /// The file; `None` for the setting.
        path: Option<PathBuf>,
        /// Why.
        bad: BadKeys,
    },
    /// No checkpoint of a log can be read, and the log does not reach back to its beginning.
    #[error(
        "the log in {} has no checkpoint that can be read, and older segments are gone; \
         restore a checkpoint file from a copy, the log cannot be read without one",
        path.display()
    )]
    CheckpointLost {
        /// The log's directory.
        path: PathBuf,
    },
    /// The state in a checkpoint cannot be used.
    #[error("the checkpoint of a log cannot be used: {0}")]
    Diverged(Divergence),
    /// The system gave no random bytes, for a new store or for keys.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What is wrong with a manifest or a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The first line is not that of such a file.
    #[error("the first line is not `{magic} <version> <checksum>`")]
    Head {
        /// What the line begins with.
        magic: &'static str,
    },
    /// The content is not what the checksum was made of.
    #[error("the checksum is {found:08x}, the content has {computed:08x}")]
    Checksum {
        /// The checksum in the file.
        found: u32,
        /// The checksum of what is in the file.
        computed: u32,
    },
    /// The checksum holds, yet a field is missing, unknown or outside its range.
    #[error("the checksum holds, but {0}")]
    Field(String),
}

/// Names the file and the action in an I/O error.
pub(crate) fn io_error(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
