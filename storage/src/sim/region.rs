//! A simulated mapping.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::content::Lent;
use super::{Inode, unreadable};
use crate::fs::Region;

pub(super) struct SimRegion {
    inode: Arc<Inode>,
    len: u32,
    /// Counts the slices.
    users: Arc<()>,
}

/// A copy of the bytes, which the file watches.
struct Slice {
    bytes: Vec<u8>,
    _lent: Arc<Lent>,
    _user: Arc<()>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl SimRegion {
    pub(super) fn new(inode: Arc<Inode>) -> io::Result<Self> {
        let len = u32::try_from(inode.content().bytes().len()).ok();
        let len = len.filter(|len| *len > 0);
        Ok(Self {
            inode,
            len: len.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?,
            users: Arc::new(()),
        })
    }

    fn place(&self, range: &Range<u32>) -> Option<Range<usize>> {
        let inside = range.start <= range.end && range.end <= self.len;
        let to_usize = |number| usize::try_from(number).ok();
        if inside {
            Some(to_usize(range.start)?..to_usize(range.end)?)
        } else {
            None
        }
    }
}

impl Region for SimRegion {
    fn len(&self) -> u32 {
        self.len
    }

    fn slice(&self, range: Range<u32>) -> Option<Bytes> {
        let range = self.place(&range)?;
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let mut content = self.inode.content();
        assert!(
            content.is_readable(&range),
            "{range:?} cannot be read: an access to a mapping of it ends the process"
        );
        let bytes = content.bytes().get(range.clone()).map(<[u8]>::to_vec);
        let lent = Arc::new(Lent { range });
        content.lend(Arc::downgrade(&lent));
        Some(Bytes::from_owner(Slice {
            bytes: bytes.expect("a file is not shortened while it is mapped"),
            _lent: lent,
            _user: Arc::clone(&self.users),
        }))
    }

    fn populate(&self, range: Range<u32>) -> io::Result<()> {
        let range = self.place(&range);
        let range = range.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        if self.inode.content().is_readable(&range) {
            Ok(())
        } else {
            Err(unreadable())
        }
    }

    fn is_resident(&self, _range: Range<u32>) -> bool {
        false
    }

    fn release(&self, _range: Range<u32>) {}

    fn handles(&self) -> usize {
        Arc::strong_count(&self.users) - 1
    }
}

impl fmt::Debug for SimRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRegion")
            .field("len", &self.len)
            .field("handles", &self.handles())
            .finish_non_exhaustive()
    }
}
