//! The file: where the chain ends in it, how it grows, when it is put aside.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::chain::{Chain, Hash, LINE_BYTES_MAX, Link};

/// A file that is larger is put aside, and a new one begun.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Digits of the number in the name of a file that was put aside: names sort as numbers do.
const NUMBER_DIGITS: usize = 12;

/// An audit log that is open for more lines. Nobody else writes into it.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    pub(super) chain: Chain,
    /// What was cut at the opening, in words.
    pub(super) torn: Option<String>,
    /// Whether the last write left something behind that could not be taken back.
    spoilt: bool,
}

/// The end of a file.
struct Tail {
    chain: Chain,
    /// Bytes of whole lines.
    whole_bytes: u64,
    /// What follows them.
    rest: Vec<u8>,
}

impl LogFile {
    /// Opens a file for appending, or makes it. The chain goes on where it ends.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = open_locked(path)?;
        let mut tail = read_tail(&mut file, path)?;
        if tail.whole_bytes == 0
            && let Some(before) = asides(path)?.last()
        {
            // A crash came between putting one aside and beginning the next.
            tail.chain = read_tail(&mut File::open(before)?, before)?.chain;
        }
        let mut log = Self {
            path: path.to_owned(),
            file,
            bytes: tail.whole_bytes,
            chain: tail.chain,
            torn: None,
            spoilt: false,
        };
        log.mend(&tail.rest)?;
        sync_directory(path)?;
        Ok(log)
    }

    /// Ends a last line that lacks nothing but its end, and cuts any other.
    fn mend(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        if Link::read(rest).is_some_and(|link| link.follows(&self.chain)) {
            self.file.write_all(b"\n")?;
            self.bytes += u64::try_from(rest.len() + 1).unwrap_or(0);
            self.chain.add(rest);
        } else {
            self.file.set_len(self.bytes)?;
            self.torn = Some(format!("{} bytes, SHA-256 {}", rest.len(), Hash::of(rest)));
        }
        self.file.sync_data()
    }

    /// Appends whole lines, which are on the disk when this comes back, and goes on from `chain`.
    /// When that fails, nothing of them is there.
    pub(super) fn append(&mut self, lines: &[u8], chain: Chain) -> io::Result<()> {
        if self.spoilt {
            self.file.set_len(self.bytes)?;
            self.spoilt = false;
        }
        let written = self
            .file
            .write_all(lines)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.spoilt = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += u64::try_from(lines.len()).unwrap_or(0);
        self.chain = chain;
        Ok(())
    }

    /// Whether it is time to put the file aside.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FILE_BYTES_MAX
    }

    /// Puts the file aside and begins a new one.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let aside = aside_name(&self.path, self.chain.last);
        fs::rename(&self.path, &aside)?;
        match open_locked(&self.path) {
            Ok(file) => {
                self.file = file;
                self.bytes = 0;
                sync_directory(&self.path)
            }
            // Back, so that the lines go on where the next start looks for them.
            Err(error) => fs::rename(&aside, &self.path).and(Err(error)),
        }
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another broker writes into this audit log",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_tail(file: &mut File, path: &Path) -> io::Result<Tail> {
    let bytes = file.seek(SeekFrom::End(0))?;
    // Room for a whole line and one that is torn.
    let window = u64::try_from(2 * LINE_BYTES_MAX + 2).unwrap_or(u64::MAX);
    let from = bytes.saturating_sub(window);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(window).read_to_end(&mut end)?;
    let (whole, rest) = match end.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => end.split_at_checked(at + 1).unwrap_or_default(),
        None => (&[][..], &end[..]),
    };
    let rest_bytes = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    let tail = |chain| Tail {
        chain,
        whole_bytes: bytes.saturating_sub(rest_bytes),
        rest: rest.to_vec(),
    };
    let lines = whole.strip_suffix(b"\n").unwrap_or_default();
    if whole.is_empty() && from == 0 && is_harmless(rest) {
        return Ok(tail(Chain::default()));
    }
    let last = lines
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let link = Link::read(last).ok_or_else(|| no_log(path))?;
    Ok(tail(Chain {
        last: link.number,
        hash: Hash::of(last),
    }))
}

/// Whether the beginning of a file may be our own first line, torn.
fn is_harmless(rest: &[u8]) -> bool {
    let ours = b"{\"n\":";
    let common = rest.len().min(ours.len());
    rest.get(..common) == ours.get(..common) || rest.iter().all(|byte| *byte == 0)
}

fn no_log(path: &Path) -> io::Error {
    let text = format!(
        "{} does not end in a line of an audit log: `ringmq audit verify` says what is in it; \
         move it away to begin a new one",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn aside_name(path: &Path, last: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{last:0NUMBER_DIGITS$}"));
    name.into()
}

/// The files of a log: those that were put aside, the oldest first, and the one that grows.
pub(super) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = asides(path)?;
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// The files that were put aside, the oldest first.
fn asides(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let other = entry.file_name();
        let digits = other.as_encoded_bytes().strip_prefix(name);
        let digits = digits.and_then(|rest| rest.strip_prefix(b"."));
        let digits = digits.filter(|digits| digits.len() >= NUMBER_DIGITS);
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new name is on the disk when its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}
