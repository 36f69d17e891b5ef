//! A file system in memory that loses what a power cut may lose, for tests. Feature `sim`.
//!
//! It is a pessimist within the rules:
//!
//! - What is not synced survives a crash by chance, sector by sector (512 bytes): each holds what
//!   it held at some moment since the last sync. Lengths likewise.
//! - Files that were made, renamed or removed without a sync of the directory are there or not,
//!   in order of time or each by chance.
//! - A sync that fails has written some sectors; the others are lost for good, though reads go on
//!   showing them, and the next sync succeeds.
//! - A full disk takes the first part of a write.
//!
//! Everything follows from seeds: one thread doing the same twice gets the same twice.
//!
//! It also plays the ring ([`SimFs::append_write`], [`SimFs::sync_path`]), and it panics where a
//! real mapping would be misused: when bytes are written that somebody holds a slice of, and when
//! bytes are sliced that the disk cannot read.

#![allow(
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "only in tests: its callers are trusted, and regions must be usable from any thread"
)]

mod content;
mod keys;
mod names;
mod random;
mod region;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use self::content::Content;
pub use self::keys::Keys;
use self::names::{Names, Node};
pub use self::random::Random;
use self::region::SimRegion;
use crate::fs::{Entry, Fs, FsFile, Region};

/// A file, whatever its names are.
#[derive(Debug, Default)]
struct Inode {
    content: Mutex<Content>,
}

impl Inode {
    fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.content)
    }

    fn crashed(&self, random: &mut Random) -> Self {
        let content = self.content().crashed(random);
        Self {
            content: Mutex::new(content),
        }
    }
}

/// A test that panics in one thread fails by that panic, not by the next lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Debug)]
struct State {
    names: Names,
    random: Random,
    /// Counts crashes: files that were opened before the last one are of no use.
    epoch: u64,
    limit_bytes: Option<u64>,
    sync_fails: bool,
    /// Changes that still succeed before the power goes.
    changes_left: Option<u64>,
}

impl State {
    /// Asked before each change and each sync.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        let lens = self
            .names
            .files()
            .map(|inode| inode.content().bytes().len());
        lens.map(|len| u64::try_from(len).unwrap_or(u64::MAX)).sum()
    }

    /// Bytes by which files may still grow.
    fn free_bytes(&self) -> u64 {
        let limit = self.limit_bytes.unwrap_or(1 << 40);
        limit.saturating_sub(self.used_bytes())
    }

    /// Length up to which a file may grow, if it wants to be `wanted` bytes long.
    fn allowed_len(&self, len: usize, wanted: usize) -> usize {
        if wanted <= len || self.limit_bytes.is_none() {
            return wanted;
        }
        let free = usize::try_from(self.free_bytes()).unwrap_or(usize::MAX);
        wanted.min(len.saturating_add(free))
    }

    fn write(&mut self, inode: &Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        let offset = to_usize(offset);
        let len = inode.content().bytes().len();
        let allowed = self.allowed_len(len, offset + bytes.len());
        let taken = bytes.len().min(allowed.saturating_sub(offset));
        if taken > 0 {
            inode.content().write(offset, &bytes[..taken]);
        }
        if taken < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self, inode: &Inode) -> io::Result<()> {
        self.step()?;
        if std::mem::take(&mut self.sync_fails) {
            inode.content().fail_sync(&mut self.random);
            return Err(sync_failed());
        }
        inode.content().sync();
        Ok(())
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("simulated files fit into memory")
}

/// A file system in memory. Clones are the same file system.
#[derive(Clone, Debug)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

impl SimFs {
    /// An empty file system without a limit. The seed decides what a failed sync loses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            names: Names::default(),
            random: Random::new(seed),
            epoch: 0,
            limit_bytes: None,
            sync_fails: false,
            changes_left: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Cuts the power: what was not synced survives as the seed has it. Regions of before go on
    /// showing what they showed; files of before refuse everything.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        state.epoch += 1;
        state.changes_left = None;
        state.sync_fails = false;
        state.names.crash(&mut Random::new(seed));
    }

    /// Kills the process: nothing is lost, and nothing that was not synced is safe. Files of
    /// before refuse everything.
    pub fn kill(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.changes_left = None;
        state.sync_fails = false;
    }

    /// Lets this many changes and syncs succeed and refuses all after them, as if the power went in
    /// the middle of what is being done: [`crash`](Self::crash) is to follow.
    pub fn stop_after(&self, changes: u64) {
        self.state().changes_left = Some(changes);
    }

    /// Whether [`stop_after`](Self::stop_after) has had all its changes.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().changes_left == Some(0)
    }

    /// Sets how many bytes all files may have together; `None` is no limit.
    pub fn limit_bytes(&self, limit: Option<u64>) {
        self.state().limit_bytes = limit;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Makes the next sync fail. One of a file loses a part of what it was to make durable; one of
    /// a directory just does not do it.
    pub fn fail_next_sync(&self) {
        self.state().sync_fails = true;
    }

    fn with_content<T>(&self, path: &Path, act: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let inode = self.state().names.find_file(path)?;
        let result = act(&mut inode.content());
        Ok(result)
    }

    /// Makes a range of a file unreadable until it is written anew, crashes included.
    ///
    /// # Errors
    /// A missing file is `NotFound`.
    pub fn fail_reads(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let range = to_usize(range.start)..to_usize(range.end);
        self.with_content(path, |content| content.fail_reads(range))
    }

    /// Turns over one bit of a file, 0 to 7, on the disk as well.
    ///
    /// # Errors
    /// A missing file is `NotFound`.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        assert!(bit < 8, "a byte has the bits 0 to 7");
        self.with_content(path, |content| content.flip_bit(to_usize(offset), bit))
    }

    /// Cuts a file, on the disk as well: an accident, never done by the log.
    ///
    /// # Errors
    /// A missing file is `NotFound`.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.with_content(path, |content| content.truncate(to_usize(len)))
    }

    /// Whether everything that was written to a file is synced.
    ///
    /// # Errors
    /// A missing file is `NotFound`.
    pub fn is_synced(&self, path: &Path) -> io::Result<bool> {
        self.with_content(path, |content| content.is_synced())
    }

    /// Writes as the ring does, to the file that has the name now.
    ///
    /// # Errors
    /// A missing file is `NotFound`; `StorageFull` after the first part was written.
    pub fn append_write(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.find_file(path)?;
        state.write(&inode, offset, bytes)
    }

    /// Syncs as the ring does, the file that has the name now.
    ///
    /// # Errors
    /// A missing file is `NotFound`; and that of [`fail_next_sync`](Self::fail_next_sync).
    pub fn sync_path(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.find_file(path)?;
        state.sync(&inode)
    }

    fn file(&self, inode: Arc<Inode>, epoch: u64) -> Box<dyn FsFile> {
        Box::new(SimFile {
            fs: self.clone(),
            inode,
            epoch,
        })
    }
}

impl Fs for SimFs {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let mut entries = Vec::new();
        for (path, node) in state.names.list(directory)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let (is_directory, len) = match node {
                Node::Directory => (true, 0),
                Node::File(inode) => (false, inode.content().bytes().len()),
            };
            entries.extend(name.map(|name| Entry {
                name: name.to_owned(),
                is_directory,
                len: u64::try_from(len).unwrap_or(u64::MAX),
            }));
        }
        Ok(entries)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.create_directory(directory)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = |content: &mut Content| {
            let readable = content.is_readable(&(0..content.bytes().len()));
            readable.then(|| content.bytes().to_vec())
        };
        self.with_content(path, read)?.ok_or_else(unreadable)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut state = self.state();
        state.step()?;
        let inode = Arc::new(Inode::default());
        state.names.put(path, Arc::clone(&inode))?;
        Ok(self.file(inode, state.epoch))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let state = self.state();
        let inode = state.names.find_file(path)?;
        Ok(self.file(inode, state.epoch))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.remove(path)
    }

    fn remove_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.remove_directory(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if std::mem::take(&mut state.sync_fails) {
            return Err(sync_failed());
        }
        state.names.sync(directory)
    }

    fn map(&self, path: &Path) -> io::Result<Arc<dyn Region>> {
        let inode = self.state().names.find_file(path)?;
        Ok(Arc::new(SimRegion::new(inode)?))
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(self.state().free_bytes())
    }
}

fn sync_failed() -> io::Error {
    io::Error::other("simulated failure of a sync")
}

fn unreadable() -> io::Error {
    io::Error::other("simulated unreadable sector")
}

/// A file that is open for writing.
#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: Arc<Inode>,
    epoch: u64,
}

impl SimFile {
    /// The state, as long as the process lives that opened the file.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.fs.state();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        Ok(state)
    }
}

impl FsFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state()?.write(&self.inode, offset, bytes)
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.step()?;
        let len_now = self.inode.content().bytes().len();
        if state.allowed_len(len_now, to_usize(len)) < to_usize(len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inode.content().reserve(to_usize(len));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync(&self.inode)
    }
}
