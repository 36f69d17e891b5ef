//! What the files of a log have in common: little-endian fields that are read front to back, and
//! the ways in which bytes can turn out not to be a file of ours.

use crate::StoreId;
use crate::cipher::KeyId;
use crate::frame::{ALIGNMENT, BadFrame};
use crate::manifest::{ENCRYPTED_VERSION, FORMAT_VERSION};

/// Why the bytes of a file are not what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFile {
    /// The magic bytes are those of something else.
    #[error("no file of this kind")]
    Magic,
    /// The file ends before its content does.
    #[error("cut short")]
    Short,
    /// A checksum differs: the file is torn or damaged.
    #[error("checksum mismatch")]
    Checksum,
    /// The checksum holds, but a newer version wrote the file.
    #[error("format version {found}, supported up to {ENCRYPTED_VERSION}")]
    NewerFormat {
        /// The version in the file.
        found: u32,
    },
    /// The checksum holds, but a field has no meaning.
    #[error("the checksum holds, but {0}")]
    Field(&'static str),
    /// The file is sound and belongs to another store.
    #[error("file of store {found}")]
    OtherStore {
        /// The store that wrote it.
        found: StoreId,
    },
    /// The file is sound and belongs elsewhere in its store: to another log, or to another use
    /// of the segment's file.
    #[error("file of another place in the store: {0}")]
    OtherPlace(&'static str),
    /// The file is encrypted with a master key that is not there.
    #[error("encrypted with key {key}")]
    Encrypted {
        /// The master key.
        key: KeyId,
    },
    /// The file is sound and its content is not what was encrypted for it, or its key is damaged.
    #[error("the checksum holds, but it is not what was encrypted for this place")]
    Forged,
    /// A frame in the file is sound and says what this version does not know.
    #[error("{bad} at offset {offset}, by a newer version; use that one")]
    NewerFrame {
        /// Where the frame begins.
        offset: u32,
        /// What is unknown.
        bad: BadFrame,
    },
}

/// Checks what all headers begin and end with, and returns what lies between: magic, version and,
/// in the last four bytes, the checksum of the bytes before it.
pub(crate) fn open_header<'a>(
    bytes: &'a [u8],
    header_bytes: usize,
    magic: &[u8; 8],
) -> Result<Fields<'a>, BadFile> {
    match open_versioned(bytes, header_bytes, magic)? {
        (FORMAT_VERSION, fields) => Ok(fields),
        (found, _) => Err(BadFile::NewerFormat { found }),
    }
}

/// The same for a file that may be encrypted: also which of the two versions it is.
pub(crate) fn open_versioned<'a>(
    bytes: &'a [u8],
    header_bytes: usize,
    magic: &[u8; 8],
) -> Result<(u32, Fields<'a>), BadFile> {
    let (header, _) = bytes.split_at_checked(header_bytes).ok_or(BadFile::Short)?;
    if !header.starts_with(magic) {
        return Err(BadFile::Magic);
    }
    let (covered, checksum) = header.split_last_chunk().ok_or(BadFile::Short)?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
        return Err(BadFile::Checksum);
    }
    let mut fields = Fields::new(covered);
    fields.take(magic.len()).ok_or(BadFile::Short)?;
    match fields.u32().ok_or(BadFile::Short)? {
        version @ (FORMAT_VERSION | ENCRYPTED_VERSION) => Ok((version, fields)),
        0 => Err(BadFile::Field("its format version is 0")),
        found => Err(BadFile::NewerFormat { found }),
    }
}

/// Appends the checksum of everything from `start` on: the end of a header.
pub(crate) fn close_header(out: &mut Vec<u8>, start: usize) {
    let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Fills up with zeros to the alignment.
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Fields that are read one after the other; `None` where the bytes end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes what a length on disk says, and the zeros up to the alignment behind it.
    pub(crate) fn take_padded(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let padded = self.take(len.checked_next_multiple_of(ALIGNMENT)?)?;
        let (taken, padding) = padded.split_at_checked(len)?;
        padding.iter().all(|byte| *byte == 0).then_some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes bytes that are reserved; `None` unless they are 0. A version that gives them a
    /// meaning must not be misread by this one.
    pub(crate) fn reserved<const N: usize>(&mut self) -> Option<()> {
        let bytes = self.array::<N>()?;
        bytes.iter().all(|byte| *byte == 0).then_some(())
    }
}
