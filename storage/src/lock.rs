//! The lock file: one broker for one store.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, io_error};

pub(crate) const LOCK_FILE: &str = "LOCK";

/// Longest text that is read back from a lock file.
const OWNER_BYTES_MAX: u64 = 64;

/// The exclusive hold on a store. The kernel releases it when the process ends, however it ends;
/// the file itself stays.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Unlocks, and does not leave it to the close: a process that is being forked off at this
    /// moment holds a copy of the descriptor until it executes, and with it the lock.
    fn drop(&mut self) {
        let _released_by_the_close_then = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock of the store in `directory`; never waits.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked {
                    path: directory.to_owned(),
                    owner: owner(&mut file),
                });
            }
            Err(errno) => return Err(io_error("lock", &path)(errno.into())),
        }
        // Only a help for the operator: the lock is the flock, not the text.
        if file.set_len(0).and_then(|()| file.rewind()).is_ok() {
            let _informative = writeln!(file, "process {}", std::process::id());
        }
        Ok(Self { file })
    }
}

/// Reads what the holder wrote about itself, if it makes sense.
fn owner(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(OWNER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let line = text.lines().next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    (!line.is_empty() && line.chars().all(plain)).then(|| line.to_owned())
}
