//! The store as a whole: its directory, who holds it, what it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, io_error};
use crate::lock::{LOCK_FILE, Lock};
use crate::manifest::{FORMAT_VERSION, MANIFEST_TEMPORARY_FILE, Manifest, StoreId, sync_directory};
use crate::slot::{Placement, SlotId};

/// How to open a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Makes a new store where there is none; otherwise that is [`Error::Missing`].
    pub create: bool,
}

/// An open store. It belongs to this process until it is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    manifest: Manifest,
    created: bool,
    _lock: Lock,
}

impl Store {
    /// Opens the store in the directory `path`.
    ///
    /// Blocks the calling thread for some file operations; never waits for another broker.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it open; [`Error::NewerFormat`] and
    /// [`Error::Damaged`] when its manifest cannot be read with certainty; [`Error::Foreign`] when
    /// the directory holds something else; [`Error::Missing`] and [`Error::Io`].
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        ensure_directory(path, options.create)?;
        let lock = Lock::take(path)?;
        if let Some(manifest) = Manifest::read(path)? {
            return Ok(Self {
                path: path.to_owned(),
                manifest,
                created: false,
                _lock: lock,
            });
        }
        // Without its manifest nobody knows where a store's channels are: a directory that holds
        // anything is not made a new store.
        if let Some(found) = foreign_entry(path)? {
            return Err(Error::Foreign {
                path: path.to_owned(),
                found,
            });
        }
        if !options.create {
            return Err(Error::Missing {
                path: path.to_owned(),
            });
        }
        let manifest = Manifest::generate(wall_clock_ns())?;
        manifest.write(path)?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            created: true,
            _lock: lock,
        })
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the store, the same for as long as it lives.
    #[must_use]
    pub const fn id(&self) -> StoreId {
        self.manifest.store_id
    }

    /// The format of the store.
    #[must_use]
    pub const fn format_version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// When the store was created, in nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn created_at_unix_ns(&self) -> u64 {
        self.manifest.created_at_unix_ns
    }

    /// Whether this opening created the store.
    #[must_use]
    pub const fn was_created(&self) -> bool {
        self.created
    }

    /// The map from channels to slots, for the shards to keep copies of.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        Placement::new(self.manifest.hash_seed)
    }

    /// The slot of a channel.
    #[must_use]
    pub fn slot_of(&self, channel: &str) -> SlotId {
        self.placement().slot_of(channel)
    }
}

/// Nanoseconds since 1970-01-01 UTC, for the manifest. Nothing is ever computed with it.
#[allow(
    clippy::disallowed_methods,
    reason = "a note for people, taken once in a store's life"
)]
fn wall_clock_ns() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

fn ensure_directory(path: &Path, create: bool) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(io_error("use as a directory", path)(
            io::ErrorKind::NotADirectory.into(),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            fs::create_dir_all(path).map_err(io_error("create directory", path))?;
            // The directory's own name must survive a power cut too.
            match path.canonicalize().as_deref().map(Path::parent) {
                Ok(Some(parent)) => sync_directory(parent),
                _ => Ok(()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error("open", path)(error)),
    }
}

/// The first entry that an empty store does not have. Hidden files and `lost+found` are what
/// volumes and file systems bring with them.
fn foreign_entry(path: &Path) -> Result<Option<String>, Error> {
    for entry in fs::read_dir(path).map_err(io_error("list", path))? {
        let name = entry.map_err(io_error("list", path))?.file_name();
        let name = name.to_string_lossy();
        let ours = [LOCK_FILE, MANIFEST_TEMPORARY_FILE].contains(&name.as_ref());
        if !ours && !name.starts_with('.') && name != "lost+found" {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}
