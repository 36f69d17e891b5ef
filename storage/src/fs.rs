//! The file system as the log sees it: a trait, so that tests can lose what was not synced, tear
//! writes, fill the disk and fail a sync.
//!
//! Every call may block; none is made on an executor. The appends of a group commit do not pass
//! here: the log hands them out as `Batch`es, and the shard writes them
//! through the ring.

mod real;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use real::RealFs;

/// Size of a page of the page cache, and of a block of most file systems. What is written in whole
/// pages needs nothing read before.
pub const PAGE_BYTES: usize = 4096;

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the directory. Names that are not UTF-8 are not ours and are left out.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Length in bytes.
    pub len: u64,
}

/// A file system.
pub trait Fs: Debug + Send + Sync + 'static {
    /// The entries of a directory, in no order.
    ///
    /// # Errors
    /// Those of the system; a missing directory is `NotFound`.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a directory and those above it that are missing; one that exists is fine. The new
    /// names are durable when this returns.
    ///
    /// # Errors
    /// Those of the system.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// The whole content of a small file.
    ///
    /// # Errors
    /// Those of the system; a missing file is `NotFound`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Makes an empty file for writing, in the place of one that may exist: whoever has that one
    /// mapped keeps it as it was.
    ///
    /// # Errors
    /// Those of the system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// Opens a file that exists for writing.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// Renames a file, in the place of one that may exist. Durable after
    /// [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_directory(&self, directory: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Maps a file for reading. Its length must not change as long as the region lives.
    ///
    /// # Errors
    /// Those of the system; an empty file cannot be mapped.
    fn map(&self, path: &Path) -> io::Result<Arc<dyn Region>>;

    /// Bytes that may still be written to the file system of `directory` by this process.
    ///
    /// # Errors
    /// Those of the system.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

impl dyn Fs {
    /// Writes a small file so that a crash leaves the old content, or none, or the new one: to
    /// `<path>.new`, synced, renamed, and the directory synced.
    ///
    /// # Errors
    /// Those of the system; the old content is untouched then.
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        let mut file = self.create(temporary)?;
        file.write_at(0, content)?;
        file.sync()?;
        drop(file);
        self.rename(temporary, path)?;
        path.parent()
            .map_or(Ok(()), |parent| self.sync_directory(parent))
    }
}

/// A file that is open for writing.
pub trait FsFile: Debug + Send {
    /// Writes all of `bytes` at an offset.
    ///
    /// # Errors
    /// Those of the system: a full disk is `StorageFull`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes `len` zeros at an offset, both multiples of [`PAGE_BYTES`].
    ///
    /// Where the file system can, they go to the disk without passing the page cache: that is for
    /// space which is written long before it is read.
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at).
    fn write_zeros(&mut self, offset: u64, len: u32) -> io::Result<()> {
        self.write_at(offset, &vec![0; usize::try_from(len).unwrap_or(0)])
    }

    /// Reserves the space of the first `len` bytes, and makes the file at least that long.
    ///
    /// # Errors
    /// Those of the system: a full disk is `StorageFull`.
    fn reserve(&mut self, len: u64) -> io::Result<()>;

    /// Makes everything written durable, and the length.
    ///
    /// # Errors
    /// Those of the system; what was written is in doubt then and must be written anew.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is mapped for reading, shared by all who read it.
///
/// It shows what has been written to the file since, by whatever way.
pub trait Region: Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u32;

    /// Whether it has no bytes; no region does.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range, without a copy where the region is memory; they keep the region
    /// alive. Only for ranges that are completely written and never written again as long as the
    /// slice lives. `None` when the range ends behind the region.
    fn slice(&self, range: Range<u32>) -> Option<Bytes>;

    /// Brings a range into memory. Blocks; never called on an executor.
    ///
    /// # Errors
    /// When the range cannot be read.
    fn populate(&self, range: Range<u32>) -> io::Result<()>;

    /// Whether a range is in memory at this moment, so that looking at it does not wait for the
    /// disk. `false` where that cannot be told. Costs about a copy of the range.
    fn is_resident(&self, range: Range<u32>) -> bool;

    /// Lets go of the memory that shows a range; the next access gets it back. Never called on an
    /// executor.
    fn release(&self, range: Range<u32>);

    /// Slices that live. The file may be written where it was lent out only when this is 0 and
    /// nobody else holds the region, who might take another.
    fn handles(&self) -> usize;
}
