//! What lies in the directory of a log.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::{Options, RecoveryReport};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::codec::BadFile;
use crate::error::io_error;
use crate::fs::Fs;
use crate::id::{Position, SegmentId};
use crate::layout::LogFileName;
use crate::log::checkpoints::{KEPT, checkpoint_path};

/// The files of a log, by what their names say, and the checkpoint that is used.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub segments: BTreeSet<SegmentId>,
    pub indexes: BTreeSet<SegmentId>,
    /// What was in the making.
    pub temporary: Vec<PathBuf>,
    pub checkpoint: Option<Checkpoint>,
    /// Checkpoints that can be used, older first.
    pub kept: Vec<(u64, Position)>,
    /// Numbers of those that cannot, or are too many.
    pub bad: Vec<u64>,
    pub last_number: u64,
}

impl Files {
    /// Lists the directory and reads the checkpoints.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub(super) fn list(
        fs: &dyn Fs,
        options: &Options,
        report: &mut RecoveryReport,
    ) -> Result<Self, Error> {
        let directory = &options.directory;
        let entries = match fs.list(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("list", directory)(error)),
        };
        let mut files = Self::default();
        let mut checkpoints = BTreeSet::new();
        for entry in entries {
            match LogFileName::parse(&entry.name) {
                Some(LogFileName::Segment(id)) => {
                    files.segments.insert(id);
                }
                Some(LogFileName::Index(id)) => {
                    files.indexes.insert(id);
                }
                Some(LogFileName::Checkpoint(number)) => {
                    checkpoints.insert(number);
                }
                Some(LogFileName::Temporary) => files.temporary.push(directory.join(&entry.name)),
                None => {}
            }
        }
        files.last_number = checkpoints.last().copied().unwrap_or(0);
        for number in checkpoints.into_iter().rev() {
            files.read_checkpoint(fs, options, number, report)?;
        }
        files.kept.reverse();
        report.checkpoint = files.checkpoint.as_ref().map(|used| used.number);
        Ok(files)
    }

    fn read_checkpoint(
        &mut self,
        fs: &dyn Fs,
        options: &Options,
        number: u64,
        report: &mut RecoveryReport,
    ) -> Result<(), Error> {
        if self.kept.len() == KEPT {
            self.bad.push(number);
            return Ok(());
        }
        let path = checkpoint_path(&options.directory, number);
        let read = fs.read(&path).map_err(|error| error.to_string());
        let decoded = read.and_then(|bytes| {
            let decoded = Checkpoint::decrypt(&bytes, &options.keyring).and_then(|checkpoint| {
                checkpoint.check(options.store, options.log)?;
                Ok(checkpoint)
            });
            match decoded {
                Err(
                    bad @ (BadFile::NewerFormat { .. }
                    | BadFile::OtherStore { .. }
                    | BadFile::Encrypted { .. }),
                ) => Ok(Err(bad)),
                decoded => decoded.map(Ok).map_err(|bad| bad.to_string()),
            }
        });
        match decoded {
            Ok(Ok(checkpoint)) => {
                self.kept.push((number, checkpoint.position));
                self.checkpoint.get_or_insert(checkpoint);
            }
            Ok(Err(BadFile::Encrypted { key })) => {
                return Err(Error::Encrypted {
                    path,
                    key: Some(key),
                    given: options.keyring.ids().count(),
                });
            }
            Ok(Err(bad)) => return Err(Error::Unusable { path, bad }),
            Err(reason) => {
                let shown = path.display();
                report.bad_checkpoints.push(format!("{shown}: {reason}"));
                self.bad.push(number);
            }
        }
        Ok(())
    }
}
