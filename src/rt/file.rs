//! Files that an executor appends to.
//!
//! Writes and syncs go through the ring: the kernel's workers do them, and the executor serves
//! other tasks meanwhile. Opening, reading and everything else about files may block and belongs
//! on [`crate::rt::blocking`].

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};
use rustix::fs::OFlags;

/// Sees what the ring is asked to do, before it is asked: the place where a test that cuts the
/// power notes what a file held. A broker that serves has none.
pub trait FileHook {
    /// `len` bytes are about to be written at `offset`.
    fn before_write(&self, path: &Path, offset: u64, len: usize);
    /// A sync is about to begin; it covers the writes that have ended.
    fn before_sync(&self, path: &Path);
    /// That sync has succeeded.
    fn synced(&self, path: &Path);
}

/// A file of the log, written and synced through the ring of the executor that opened it.
///
/// It never grows by itself and is never cut: the log prepares whole segments. Who writes waits
/// for the end of the write before syncing it, and keeps one of both under way at a time.
pub struct LogFile {
    file: BufferedFile,
    path: PathBuf,
    write_through: bool,
    hook: Option<Rc<dyn FileHook>>,
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile")
            .field("path", &self.path)
            .field("write_through", &self.write_through)
            .finish_non_exhaustive()
    }
}

impl LogFile {
    /// Opens a file that exists, for reading and writing, and leaves its bytes alone.
    ///
    /// # Errors
    /// What opening it answers.
    pub async fn open(path: &Path, hook: Option<Rc<dyn FileHook>>) -> io::Result<Self> {
        Self::open_with(path, hook, false).await
    }

    /// Opens it so that each write ends when its bytes survive a loss of power (`O_DSYNC`): one
    /// turn through the ring and its workers instead of the two that a write and a sync take.
    ///
    /// # Errors
    /// What opening it answers.
    pub async fn open_write_through(
        path: &Path,
        hook: Option<Rc<dyn FileHook>>,
    ) -> io::Result<Self> {
        Self::open_with(path, hook, true).await
    }

    async fn open_with(
        path: &Path,
        hook: Option<Rc<dyn FileHook>>,
        write_through: bool,
    ) -> io::Result<Self> {
        let flags = match write_through {
            true => OFlags::DSYNC,
            false => OFlags::empty(),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .buffered_open(path)
            .await
            .map_err(into_io)?;
        let path = path.to_owned();
        Ok(Self {
            file,
            path,
            write_through,
            hook,
        })
    }

    /// Whether each write survives a loss of power when it has ended, so that no sync is needed.
    #[must_use]
    pub fn is_write_through(&self) -> bool {
        self.write_through
    }

    /// Writes all of `bytes` at `offset`. They are in the file then, and on the disk if it was
    /// opened to write through.
    ///
    /// A future that is dropped on the way leaves open how much was written.
    ///
    /// # Errors
    /// What the write answers, with the kernel's code; [`io::ErrorKind::WriteZero`] when only a
    /// part was written. The kernel goes on by itself after a part, so that this is the end of a
    /// disk and no accident. How much lies in the file, and on the disk, is unknown after any
    /// error, and no later sync makes it known.
    pub async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let len = bytes.len();
        if len == 0 {
            return Ok(());
        }
        if let Some(hook) = &self.hook {
            hook.before_write(&self.path, offset, len);
            if self.write_through {
                hook.before_sync(&self.path);
            }
        }
        let _expected = super::poller::expect();
        let written = self.file.write_at(bytes, offset).await.map_err(into_io)?;
        if written != len {
            let text = format!("{written} of {len} bytes written at offset {offset}");
            return Err(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        if let Some(hook) = self.hook.as_ref().filter(|_| self.write_through) {
            hook.synced(&self.path);
        }
        Ok(())
    }

    /// Makes every write that has ended survive a loss of power.
    ///
    /// # Errors
    /// What the sync answers. It is final: the kernel may have dropped what it could not write,
    /// and another sync would succeed without it.
    pub async fn sync_data(&self) -> io::Result<()> {
        if let Some(hook) = &self.hook {
            hook.before_sync(&self.path);
        }
        let _expected = super::poller::expect();
        self.file.fdatasync().await.map_err(into_io)?;
        if let Some(hook) = &self.hook {
            hook.synced(&self.path);
        }
        Ok(())
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes it and waits for that. Dropping it closes it as well, a turn of the reactor later.
    pub async fn close(self) {
        if let Err(error) = self.file.close().await {
            tracing::debug!(path = %self.path.display(), %error, "log file not closed");
        }
    }
}

/// The kernel's own error where there is one: its code tells a full disk from a broken one.
fn into_io(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}
