//! Which files a store has, by log.

use std::path::{Path, PathBuf};

use ringmq_storage::checkpoint::Checkpoint;
use ringmq_storage::cipher::{Cipher, KeyId, MissingKey, WrappedKey};
use ringmq_storage::frame::FrameKind;
use ringmq_storage::fs::{Entry, Fs};
use ringmq_storage::layout::{Layout, LogFileName};
use ringmq_storage::scan::Frames;
use ringmq_storage::segment::{Preamble, SEGMENT_HEADER_BYTES, SegmentHeader};
use ringmq_storage::{BadFile, SegmentId, StoreId};

use super::{Error, Opened, failed};

/// The files of a store's logs.
pub(super) struct Survey {
    /// `None`: nothing was ever stored.
    pub(super) layout: Option<Layout>,
    pub(super) logs: Vec<LogFiles>,
}

/// The files of one log, oldest first.
pub(super) struct LogFiles {
    pub(super) number: u16,
    pub(super) directory: PathBuf,
    pub(super) segments: Vec<SegmentFile>,
    pub(super) indexes: Vec<(SegmentId, PathBuf)>,
    pub(super) checkpoints: Vec<CheckpointFile>,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

/// A segment's file.
pub(super) struct SegmentFile {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    pub(super) head: Head,
    /// How its frames are to be read.
    pub(super) cipher: Cipher,
    /// What is wrong with its header, when something is.
    pub(super) fault: Option<String>,
}

/// What a segment is.
pub(super) enum Head {
    /// In use. Its header may be damaged, when another file tells what it was.
    Used(SegmentHeader),
    /// Made ahead and not used yet.
    Spare,
    /// Nobody can tell.
    Unknown,
}

/// A checkpoint's file.
pub(super) struct CheckpointFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) content: Result<Checkpoint, String>,
    /// The master key that it needs.
    pub(super) key: Option<KeyId>,
}

impl LogFiles {
    /// The newest checkpoint that can be read.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        let mut newest_first = self.checkpoints.iter().rev();
        newest_first.find_map(|file| file.content.as_ref().ok())
    }

    /// The segments that hold frames, oldest first, with their headers.
    pub(super) fn used(&self) -> impl DoubleEndedIterator<Item = (&SegmentFile, &SegmentHeader)> {
        self.segments.iter().filter_map(|file| match &file.head {
            Head::Used(header) => Some((file, header)),
            Head::Spare | Head::Unknown => None,
        })
    }
}

impl LogFiles {
    /// Segments whose files are gone: ids are dense. Only the oldest may be missing; these were
    /// given back.
    pub(super) fn missing(&self) -> Vec<SegmentId> {
        let first = self.used().next().map(|(file, _)| file.id);
        let last = self.used().next_back().map(|(file, _)| file.id);
        let (Some(first), Some(last)) = (first, last) else {
            return Vec::new();
        };
        let ids = (first.get()..last.get()).map(SegmentId::new);
        ids.filter(|id| self.used().all(|(file, _)| file.id != *id))
            .collect()
    }
}

impl SegmentFile {
    pub(super) fn read(&self, fs: &dyn Fs) -> Result<Vec<u8>, Error> {
        fs.read(&self.path).map_err(failed("read", &self.path))
    }
}

/// Looks at all logs. Heads of segments and checkpoints are read, frames are not.
pub(super) fn survey(opened: &Opened) -> Result<Survey, Error> {
    let path = opened.store.path();
    let Some(layout) = Layout::read(opened.fs(), path)? else {
        return Ok(Survey {
            layout: None,
            logs: Vec::new(),
        });
    };
    let logs = (0..layout.log_count)
        .map(|number| {
            let directory = layout.log_directory(path, number);
            log_files(opened, number, &directory)
        })
        .collect::<Result<_, _>>()?;
    let layout = Some(layout);
    Ok(Survey { layout, logs })
}

fn log_files(opened: &Opened, number: u16, directory: &Path) -> Result<LogFiles, Error> {
    let (fs, store) = (opened.fs(), opened.store.id());
    let mut entries = match fs.list(directory) {
        Ok(entries) => entries,
        // The log has never been written to.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("list", directory)(error)),
    };
    // Names have their numbers padded with zeros: their order is that of the log.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut files = LogFiles {
        number,
        directory: directory.to_owned(),
        segments: Vec::new(),
        indexes: Vec::new(),
        checkpoints: Vec::new(),
        bytes: entries.iter().map(|entry| entry.len).sum(),
    };
    for entry in entries {
        let path = directory.join(&entry.name);
        add_file(opened, &mut files, &entry, path)?;
    }
    recall_heads(store, &mut files);
    find_ciphers(opened, &mut files)?;
    Ok(files)
}

fn add_file(
    opened: &Opened,
    files: &mut LogFiles,
    entry: &Entry,
    path: PathBuf,
) -> Result<(), Error> {
    let (fs, store) = (opened.fs(), opened.store.id());
    match LogFileName::parse(&entry.name) {
        Some(LogFileName::Segment(id)) => {
            let (head, fault) = head(fs, store, files.number, id, &path);
            files.segments.push(SegmentFile {
                id,
                path,
                len: entry.len,
                head,
                cipher: Cipher::Plain,
                fault,
            });
        }
        Some(LogFileName::Index(id)) => files.indexes.push((id, path)),
        Some(LogFileName::Checkpoint(number)) => {
            let bytes = fs.read(&path).map_err(failed("read", &path))?;
            let content = Checkpoint::decrypt(&bytes, &opened.keyring);
            if let Err(BadFile::Encrypted { key }) = content {
                return Err(missing_key(opened, path, Some(key)));
            }
            let content = content.and_then(|checkpoint| {
                checkpoint.check(store, files.number)?;
                Ok(checkpoint)
            });
            files.checkpoints.push(CheckpointFile {
                number,
                path,
                content: content.map_err(|bad| bad.to_string()),
                key: Checkpoint::master_key(&bytes).ok().flatten(),
            });
        }
        // Without meaning, and removed when a broker opens the log.
        Some(LogFileName::Temporary) | None => {}
    }
    Ok(())
}

/// Reads a segment's header. It is looked at in the mapping, since files are large; a page that
/// cannot be read is an error of `populate`, not the end of the process.
fn head(
    fs: &dyn Fs,
    store: StoreId,
    log: u16,
    id: SegmentId,
    path: &Path,
) -> (Head, Option<String>) {
    let len = u32::try_from(SEGMENT_HEADER_BYTES).unwrap_or(u32::MAX);
    let bytes = fs.map(path).and_then(|region| {
        region.populate(0..len)?;
        Ok(region.slice(0..len).unwrap_or_default())
    });
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return (Head::Unknown, Some(error.to_string())),
    };
    let checked = |header: SegmentHeader| header.check(store, log, id).map(|()| header);
    match SegmentHeader::decode(&bytes).map(|header| header.map(checked).transpose()) {
        Ok(Ok(Some(header))) => (Head::Used(header), None),
        // A spare may keep the header of the segment that its file was before.
        Ok(Ok(None) | Err(BadFile::OtherPlace("another segment"))) => (Head::Spare, None),
        Ok(Err(bad)) | Err(bad) => (Head::Unknown, Some(bad.to_string())),
    }
}

/// Gives segments whose headers are damaged what the checkpoint knows of them.
fn recall_heads(store: StoreId, files: &mut LogFiles) {
    let Some(checkpoint) = files.checkpoint() else {
        return;
    };
    let (used, end) = (checkpoint.segments.clone(), checkpoint.position.segment());
    for file in &mut files.segments {
        let known = used.iter().find(|entry| entry.segment == file.id);
        let (Some(known), Head::Spare | Head::Unknown) = (known, &file.head) else {
            continue;
        };
        // The segment of the position itself may have been prepared only.
        if file.fault.is_none() && file.id >= end {
            continue;
        }
        file.fault
            .get_or_insert_with(|| "the header is gone".to_owned());
        file.head = Head::Used(SegmentHeader {
            store,
            log: files.number,
            segment: file.id,
            generation: known.generation,
            len: known.len,
            encrypted: false,
        });
    }
}

/// Where a preamble ends at the latest, whatever the slots of its log.
const PREAMBLE_END: u32 = 8 << 10;

/// Finds out how the frames of each segment are to be read.
fn find_ciphers(opened: &Opened, files: &mut LogFiles) -> Result<(), Error> {
    let copies = files
        .checkpoint()
        .map(|checkpoint| checkpoint.segments.clone());
    let copies = copies.unwrap_or_default();
    for file in &mut files.segments {
        let Head::Used(header) = &file.head else {
            continue;
        };
        let mut of_segment = copies.iter().filter(|entry| {
            entry.segment == header.segment && entry.generation == header.generation
        });
        let copy = of_segment.find_map(|entry| entry.key);
        let wrapped = wrapped_key(opened.fs(), &file.path, header);
        let cipher = Cipher::of_segment(header, wrapped.as_ref(), copy, &opened.keyring);
        let missing = |MissingKey(key)| missing_key(opened, file.path.clone(), key);
        file.cipher = cipher.map_err(missing)?;
    }
    Ok(())
}

fn missing_key(opened: &Opened, path: PathBuf, key: Option<KeyId>) -> Error {
    Error::Store(ringmq_storage::Error::Encrypted {
        path,
        key,
        given: opened.keyring.ids().count(),
    })
}

/// The wrapped key in a segment's preamble, when it has one that can be read.
pub(super) fn wrapped_key(fs: &dyn Fs, path: &Path, header: &SegmentHeader) -> Option<WrappedKey> {
    let region = fs.map(path).ok()?;
    let end = region.len().min(PREAMBLE_END);
    region.populate(0..end).ok()?;
    let bytes = region.slice(0..end)?;
    let from = u32::try_from(SEGMENT_HEADER_BYTES).ok()?;
    let mut frames = Frames::new(&bytes, header.seed(), header.segment, from, end);
    let frame = frames.next()?.ok()?;
    let preamble =
        (frame.header.kind == FrameKind::Preamble).then(|| Preamble::decode(frame.payload).ok());
    preamble.flatten()?.key
}
