//! Mapped files: the only unsafe code of this broker.
//!
//! A mapping shows what is written to its file later, by whoever writes. That is what the log
//! wants (it writes through the ring and reads in the mapping) and what Rust forbids for memory
//! that is borrowed. So no reference to the mapping as a whole is ever made: it is held as a
//! pointer, and a slice borrows exactly its own range.
//!
//! What cannot be checked here is what the file's owner keeps to:
//!
//! 1. **A file is never made shorter while it is mapped.** An access behind its end would end the
//!    process. `RealFs` has no call that shortens a file: `create` puts a new file in the place of
//!    an old one.
//! 2. **Slices are only taken of bytes that are completely written, and those are not written
//!    again as long as the slice lives.** The log slices below its written mark, never writes
//!    below it, and puts the file of a segment to use again only when [`Region::handles`] is 0.
//! 3. **Nobody else writes the store.** The lock file keeps a second broker out; whoever edits
//!    segments by hand under a running broker breaks it.
//!
//! The simulated file system checks the second rule in every test that uses it.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use bytes::Bytes;

use crate::fs::Region;
#[cfg(not(miri))]
use mapping::Mapping;
#[cfg(miri)]
use reading::Mapping;

/// A file that is mapped for reading.
///
/// It may be used from any thread; the file stays mapped until the region and all its slices are
/// dropped.
pub(crate) struct MappedRegion {
    mapping: Arc<Mapping>,
    len: u32,
}

impl MappedRegion {
    /// Maps a file as long as it is now.
    ///
    /// # Errors
    /// Those of the system; `InvalidInput` for an empty file and for one of 4 GiB and more.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let len = u32::try_from(file.metadata()?.len()).ok();
        let len = len.filter(|len| *len > 0).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file is mapped only between 1 byte and 4 GiB",
            )
        })?;
        let mapping = Mapping::new(file, to_usize(len))?;
        Ok(Self {
            mapping: Arc::new(mapping),
            len,
        })
    }

    /// Offset and length of a range, if it lies in the region.
    fn place(&self, range: &Range<u32>) -> Option<(usize, usize)> {
        let len = range.end.checked_sub(range.start)?;
        (range.end <= self.len).then(|| (to_usize(range.start), to_usize(len)))
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("addresses have at least 32 bits")
}

impl Region for MappedRegion {
    fn len(&self) -> u32 {
        self.len
    }

    fn slice(&self, range: Range<u32>) -> Option<Bytes> {
        let (start, len) = self.place(&range)?;
        if len == 0 {
            return Some(Bytes::new());
        }
        Some(Mapping::slice(&self.mapping, start, len))
    }

    fn populate(&self, range: Range<u32>) -> io::Result<()> {
        let (start, len) = self
            .place(&range)
            .ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        if len == 0 {
            return Ok(());
        }
        self.mapping.populate(start, len)
    }

    fn is_resident(&self, range: Range<u32>) -> bool {
        let place = self.place(&range);
        place.is_some_and(|(start, len)| self.mapping.is_resident(start, len))
    }

    fn release(&self, range: Range<u32>) {
        if let Some((start, len)) = self.place(&range)
            && len > 0
        {
            self.mapping.release(start, len);
        }
    }

    fn handles(&self) -> usize {
        let slices = Arc::strong_count(&self.mapping).saturating_sub(1);
        // Whoever sees that the last slice is gone also sees its reads as done: the file may be
        // written from here on.
        fence(Ordering::Acquire);
        slices
    }
}

impl fmt::Debug for MappedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedRegion")
            .field("len", &self.len)
            .field("handles", &self.handles())
            .finish_non_exhaustive()
    }
}

#[cfg(not(miri))]
mod mapping {
    use std::fs::File;
    use std::io::{self, IoSliceMut};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use bytes::Bytes;
    use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
    use rustix::io::{ReadWriteFlags, preadv2};

    /// Bytes that are looked for in the page cache at once.
    const PROBE_BYTES: usize = 16 << 10;

    /// Bytes that are read at once where the kernel cannot populate a mapping.
    const READ_BYTES: usize = 64 << 10;

    /// The mapping of a file, as a pointer: shared, read-only, unmapped when dropped.
    pub(super) struct Mapping {
        map: MmapRaw,
        file: File,
        /// Whether the kernel can populate a mapping (from Linux 5.14 on).
        populates: bool,
    }

    impl Mapping {
        pub(super) fn new(file: File, len: usize) -> io::Result<Self> {
            let map = MmapOptions::new().len(len).map_raw_read_only(&file)?;
            assert_eq!(
                map.len(),
                len,
                "the mapping has the length that was asked for"
            );
            let populates = map.advise_range(Advice::PopulateRead, 0, 0).is_ok();
            Ok(Self {
                map,
                file,
                populates,
            })
        }

        /// The bytes of a range inside of the mapping, that hold it.
        pub(super) fn slice(mapping: &Arc<Self>, start: usize, len: usize) -> Bytes {
            Bytes::from_owner(Slice::new(Arc::clone(mapping), start, len))
        }

        pub(super) fn populate(&self, start: usize, len: usize) -> io::Result<()> {
            if self.populates {
                return self.map.advise_range(Advice::PopulateRead, start, len);
            }
            // Reading fills the page cache, which is what the mapping shows; and a page that the
            // disk cannot give is an error here, where touching it would end the process.
            let mut buffer = vec![0; READ_BYTES.min(len)];
            for from in (start..start + len).step_by(READ_BYTES) {
                let part = buffer.get_mut(..READ_BYTES.min(start + len - from));
                let at = u64::try_from(from).unwrap_or(u64::MAX);
                self.file.read_exact_at(part.unwrap_or_default(), at)?;
            }
            Ok(())
        }

        #[cfg(test)]
        pub(super) fn set_file(&mut self, file: File) {
            self.file = file;
            self.populates = false;
        }

        /// Reads without waiting, which succeeds only where the page cache has everything.
        pub(super) fn is_resident(&self, start: usize, len: usize) -> bool {
            let mut buffer = [0; PROBE_BYTES];
            (start..start + len).step_by(PROBE_BYTES).all(|from| {
                let want = PROBE_BYTES.min(start + len - from);
                let part = buffer.get_mut(..want).unwrap_or_default();
                let at = u64::try_from(from).unwrap_or(u64::MAX);
                let mut parts = [IoSliceMut::new(part)];
                preadv2(&self.file, &mut parts, at, ReadWriteFlags::NOWAIT) == Ok(want)
            })
        }

        pub(super) fn release(&self, start: usize, len: usize) {
            // SAFETY: The range lies in the mapping (`MappedRegion::place`). The mapping is a
            // shared one of a file that is never shortened (rule 1 of the module), so the pages
            // come back with the same content at the next access; slices stay valid.
            let released = unsafe {
                self.map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, start, len)
            };
            debug_assert!(released.is_ok(), "releasing a range: {released:?}");
        }
    }

    /// A range of a mapping, lent out.
    ///
    /// INVARIANT: `start + len` is at most the length of the mapping, checked by `new`.
    struct Slice {
        mapping: Arc<Mapping>,
        start: usize,
        len: usize,
    }

    impl Slice {
        fn new(mapping: Arc<Mapping>, start: usize, len: usize) -> Self {
            let end = start.checked_add(len);
            assert!(
                end.is_some_and(|end| end <= mapping.map.len()),
                "a slice lies in its mapping"
            );
            Self {
                mapping,
                start,
                len,
            }
        }
    }

    impl AsRef<[u8]> for Slice {
        fn as_ref(&self) -> &[u8] {
            let first = self.mapping.map.as_ptr().wrapping_add(self.start);
            // SAFETY: The range lies in the mapping (invariant of `Slice`), which `self.mapping`
            // keeps for at least as long as the borrow, so the pointer is valid and not null; one
            // byte needs no alignment; a mapping is far below `isize::MAX`. The pages exist as
            // files are never shortened while mapped (rule 1 of the module). Nobody writes the
            // range meanwhile: slices are taken of written bytes only, which the log does not
            // write again while they live (rule 2), and no other process writes the store (3).
            unsafe { std::slice::from_raw_parts(first, self.len) }
        }
    }
}

/// Without mappings, for Miri: a slice is a copy, read from the file when it is taken.
#[cfg(miri)]
mod reading {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use bytes::Bytes;

    pub(super) struct Mapping {
        file: File,
    }

    /// A copy that counts as a user of its mapping.
    struct Slice {
        _mapping: Arc<Mapping>,
        bytes: Vec<u8>,
    }

    impl AsRef<[u8]> for Slice {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl Mapping {
        pub(super) fn new(file: File, _len: usize) -> io::Result<Self> {
            Ok(Self { file })
        }

        fn read(&self, start: usize, len: usize) -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; len];
            let at = u64::try_from(start).unwrap_or(u64::MAX);
            self.file.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        }

        pub(super) fn slice(mapping: &Arc<Self>, start: usize, len: usize) -> Bytes {
            let bytes = mapping.read(start, len);
            Bytes::from_owner(Slice {
                _mapping: Arc::clone(mapping),
                bytes: bytes.expect("an error here is the fault that a mapping would raise"),
            })
        }

        pub(super) fn populate(&self, start: usize, len: usize) -> io::Result<()> {
            self.read(start, len).map(drop)
        }

        pub(super) fn is_resident(&self, _start: usize, _len: usize) -> bool {
            false
        }

        pub(super) fn release(&self, _start: usize, _len: usize) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file_of(content: &[u8]) -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, content).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        (directory, file)
    }

    fn region_of(content: &[u8]) -> (tempfile::TempDir, File, MappedRegion) {
        let (directory, file) = file_of(content);
        let region = MappedRegion::new(file.try_clone().unwrap()).unwrap();
        (directory, file, region)
    }

    #[test]
    fn slice_outlives_its_region() {
        let (_directory, _file, region) = region_of(b"0123456789");
        let slice = region.slice(2..5).unwrap();
        let part = slice.slice(1..);
        drop(region);
        assert_eq!(&slice[..], b"234");
        drop(slice);
        assert_eq!(&part[..], b"34");
    }

    #[test]
    fn slice_shows_what_was_written_after_the_mapping() {
        let (_directory, file, region) = region_of(&[0; 10_000]);
        assert_eq!(&region.slice(0..4).unwrap()[..], &[0; 4]);
        file.write_all_at(b"late", 9_000).unwrap();
        assert_eq!(&region.slice(9_000..9_004).unwrap()[..], b"late");
    }

    #[test]
    fn ranges_outside_are_refused() {
        let (_directory, _file, region) = region_of(b"0123456789");
        assert_eq!(region.len(), 10);
        assert!(region.slice(9..11).is_none());
        assert!(region.slice(11..11).is_none());
        #[allow(
            clippy::reversed_empty_ranges,
            reason = "what a bad caller might ask for"
        )]
        let reversed = region.slice(5..4);
        assert!(reversed.is_none());
        assert_eq!(region.slice(10..10).unwrap().len(), 0);
        assert_eq!(
            region.populate(0..11).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        region.release(0..11);
    }

    #[test]
    fn handles_count_the_slices_that_live() {
        let (_directory, _file, region) = region_of(b"0123456789");
        assert_eq!(region.handles(), 0);
        let first = region.slice(0..4).unwrap();
        let second = region.slice(4..8).unwrap();
        assert_eq!(region.handles(), 2);
        let part = second.slice(1..2);
        drop(second);
        assert_eq!(region.handles(), 2, "a part holds the whole");
        drop((first, part));
        assert_eq!(region.handles(), 0);
        drop(region.slice(3..3));
        assert_eq!(region.handles(), 0);
    }

    #[test]
    fn content_stays_through_populate_and_release() {
        let content: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (_directory, _file, region) = region_of(&content);
        let slice = region.slice(100..40_000).unwrap();
        region.populate(5_000..50_000).unwrap();
        region.release(0..50_000);
        assert_eq!(&slice[..], &content[100..40_000]);
        region.populate(7..7).unwrap();
        region.release(0..4_096);
        assert_eq!(&slice[..], &content[100..40_000]);
    }

    #[cfg(not(miri))]
    #[test]
    fn populate_reads_the_file_where_the_kernel_cannot() {
        let (_directory, file) = file_of(&vec![7; 200_000]);
        let mut mapping = Mapping::new(file.try_clone().unwrap(), 200_000).unwrap();
        mapping.set_file(file);
        mapping.populate(3, 199_997).unwrap();
        assert!(
            mapping.populate(150_000, 60_000).is_err(),
            "behind the end of the file"
        );
    }

    #[test]
    fn an_empty_file_is_not_mapped() {
        let (_directory, file) = file_of(b"");
        let refused = MappedRegion::new(file).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
