//! The file system of the operating system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl, statvfs};
use rustix::io::Errno;

use crate::fs::{Entry, Fs, FsFile, PAGE_BYTES, Region};
use crate::region::MappedRegion;

/// The file system of the operating system. No call of it shortens a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => entries.push(Entry {
                    name,
                    is_directory: metadata.is_dir(),
                    len: metadata.len(),
                }),
                // Removed while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.as_os_str().is_empty() || directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(Path::new(""));
        self.create_directory(parent)?;
        match fs::create_dir(directory) {
            Ok(()) => {}
            // Somebody else made it meanwhile; its name may not be durable yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.sync_directory(parent)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let create = || File::options().write(true).create_new(true).open(path);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(path)?;
                create()?
            }
            created => created?,
        };
        Ok(Box::new(RealFile::new(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = File::options().write(true).open(path)?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir_all(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        // The parent of a bare name.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        File::open(directory)?.sync_all()
    }

    fn map(&self, path: &Path) -> io::Result<Arc<dyn Region>> {
        Ok(Arc::new(MappedRegion::new(File::open(path)?)?))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let statistics = statvfs(directory)?;
        // What is kept for the administrator does not count.
        Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
    }
}

/// A file that is open for writing.
#[derive(Debug)]
struct RealFile {
    file: File,
    /// Kept from one slice to the next: fresh memory costs more than writing it.
    zeros: Vec<u8>,
}

impl RealFile {
    const fn new(file: File) -> Self {
        let zeros = Vec::new();
        Self { file, zeros }
    }
}

impl FsFile for RealFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(quota_is_storage)
    }

    fn write_zeros(&mut self, offset: u64, len: u32) -> io::Result<()> {
        // The disk takes them out of memory that begins with a page.
        let room = to_usize(len) + PAGE_BYTES;
        if self.zeros.len() < room {
            self.zeros.resize(room, 0);
        }
        let aligned = self.zeros.as_ptr().align_offset(PAGE_BYTES);
        let zeros = self.zeros.get(aligned..);
        let zeros = zeros.and_then(|zeros| zeros.get(..to_usize(len)));
        let zeros = zeros.unwrap_or_default();
        debug_assert_eq!(zeros.len(), to_usize(len));
        let written = match self.write_direct(offset, zeros) {
            Some(written) => written,
            None => self.file.write_all_at(zeros, offset),
        };
        written.map_err(quota_is_storage)
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // This file system cannot; whoever needs the space writes zeros anyway.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(errno) => return Err(quota_is_storage(errno.into())),
            }
        }
        if self.file.metadata()?.len() < len {
            self.file.set_len(len)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data().map_err(quota_is_storage)
    }
}

impl RealFile {
    /// Writes past the page cache; `None` where the file system does not let us.
    fn write_direct(&self, offset: u64, pages: &[u8]) -> Option<io::Result<()>> {
        let flags = fcntl_getfl(&self.file).ok()?;
        fcntl_setfl(&self.file, flags | OFlags::DIRECT).ok()?;
        let written = self.file.write_all_at(pages, offset);
        let back = fcntl_setfl(&self.file, flags);
        match written {
            // Its blocks are larger than our pages.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => None,
            Ok(()) => Some(back.map_err(io::Error::from)),
            failed => Some(failed),
        }
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("addresses have at least 32 bits here")
}

/// A used up quota is a full disk to us: the same is to be done about it.
fn quota_is_storage(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::QuotaExceeded {
        return io::Error::new(io::ErrorKind::StorageFull, error);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_written_mapped_renamed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("a/b/c");
        RealFs.create_directory(&nested).unwrap();
        RealFs.create_directory(&nested).unwrap();
        let old = nested.join("old");
        let new = nested.join("new");
        let mut file = RealFs.create(&old).unwrap();
        file.reserve(8_192).unwrap();
        file.write_at(4_090, b"over the page").unwrap();
        file.sync().unwrap();
        RealFs.rename(&old, &new).unwrap();
        RealFs.sync_directory(&nested).unwrap();
        let expected = Entry {
            name: "new".to_owned(),
            is_directory: false,
            len: 8_192,
        };
        assert_eq!(RealFs.list(&nested).unwrap(), [expected]);
        let region = RealFs.map(&new).unwrap();
        assert_eq!(&region.slice(4_090..4_103).unwrap()[..], b"over the page");
        RealFs.open(&new).unwrap().write_at(0, b"later").unwrap();
        assert_eq!(&region.slice(0..5).unwrap()[..], b"later");
        RealFs.remove(&new).unwrap();
        assert_eq!(
            RealFs.read(&new).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(&region.slice(0..5).unwrap()[..], b"later");
        RealFs
            .remove_directory(&directory.path().join("a"))
            .unwrap();
        assert_eq!(
            RealFs.list(&nested).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn creating_anew_leaves_the_mapped_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        RealFs.create(&path).unwrap().write_at(0, b"first").unwrap();
        let region = RealFs.map(&path).unwrap();
        RealFs.create(&path).unwrap();
        assert_eq!(RealFs.read(&path).unwrap(), b"");
        assert_eq!(&region.slice(0..5).unwrap()[..], b"first");
    }

    #[test]
    fn zeros_are_written_where_they_are_asked_for_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = RealFs.create(&path).unwrap();
        file.write_at(0, &vec![7; 5 * PAGE_BYTES]).unwrap();
        file.write_zeros(4_096, 8_192).unwrap();
        // What is written next need not be aligned.
        file.write_at(20_000, b"later").unwrap();
        file.sync().unwrap();
        let mut expected = vec![7; 5 * PAGE_BYTES];
        expected[4_096..12_288].fill(0);
        expected[20_000..20_005].copy_from_slice(b"later");
        assert_eq!(RealFs.read(&path).unwrap(), expected);
    }

    #[test]
    fn zeros_beyond_a_full_disk_are_an_error() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let error = RealFile::new(file).write_zeros(0, 4_096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn reserving_never_shortens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = RealFs.create(&path).unwrap();
        file.write_at(0, &[1; 10_000]).unwrap();
        file.reserve(0).unwrap();
        file.reserve(100).unwrap();
        assert_eq!(RealFs.read(&path).unwrap(), [1; 10_000]);
    }

    #[test]
    fn replaced_file_has_the_new_content_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LAYOUT");
        let fs: &dyn Fs = &RealFs;
        fs.replace(&path, b"one").unwrap();
        fs.replace(&path, b"two").unwrap();
        assert_eq!(fs.read(&path).unwrap(), b"two");
        assert_eq!(fs.list(directory.path()).unwrap().len(), 1);
    }

    #[test]
    fn full_disk_and_used_up_quota_look_the_same() {
        let full = |errno: Errno| quota_is_storage(errno.into()).kind();
        assert_eq!(full(Errno::NOSPC), io::ErrorKind::StorageFull);
        assert_eq!(full(Errno::DQUOT), io::ErrorKind::StorageFull);
        assert_ne!(full(Errno::IO), io::ErrorKind::StorageFull);
    }

    #[test]
    fn free_space_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        assert!(RealFs.free_bytes(directory.path()).unwrap() > 0);
    }

    #[test]
    fn missing_files_are_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing");
        let kinds = [
            RealFs.open(&path).map(drop).unwrap_err().kind(),
            RealFs.map(&path).map(drop).unwrap_err().kind(),
            RealFs.remove(&path).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [io::ErrorKind::NotFound; 3]);
    }
}
