//! The layout: how many logs the store has, and the names of their files.
//!
//! ```text
//! data/
//! ├── LAYOUT                    ringmq-layout 1 <checksum>, then {"generation":1,"log_count":2}
//! └── logs-<generation>/
//!     ├── 000/                  one directory for each log
//!     │   ├── 00000007.segment
//!     │   ├── 00000007.index    of a sealed segment
//!     │   └── checkpoint-0000000000000003
//!     └── 001/
//! ```
//!
//! The number of logs is fixed when the store first needs one. Another number means to write the
//! logs anew, into the directory of the next generation; replacing `LAYOUT` is the switch.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Damage, Error, io_error};
use crate::fs::Fs;
use crate::id::SegmentId;
use crate::manifest::FORMAT_VERSION;
use crate::slot::SLOT_COUNT;
use crate::text;

const LAYOUT_FILE: &str = "LAYOUT";
const MAGIC: &str = "ringmq-layout";

/// A layout is less than a hundred bytes; a file beyond this is something else.
const LAYOUT_BYTES_MAX: u64 = 4 << 10;

/// How the logs of a store lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which set of logs counts, from 1.
    pub generation: u32,
    /// Logs of the store: 1 to the number of slots. A slot lies in log `slot % log_count`.
    pub log_count: u16,
}

/// The body as it lies in the file. Unknown fields are refused: within one version there are none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    generation: u32,
    log_count: u16,
}

impl Layout {
    /// Reads the layout of the store in `directory`; `None` when it never had a log.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NewerFormat`] and those of the system.
    pub fn read(fs: &dyn Fs, directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(LAYOUT_FILE);
        let supported = FORMAT_VERSION;
        let entries = match fs.list(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("list", directory)(error)),
        };
        let Some(entry) = entries.iter().find(|entry| entry.name == LAYOUT_FILE) else {
            return Ok(None);
        };
        let bytes = if entry.len > LAYOUT_BYTES_MAX {
            Vec::new()
        } else {
            fs.read(&path).map_err(io_error("read", &path))?
        };
        match Self::decode(&bytes) {
            Ok(layout) => Ok(Some(layout)),
            Err(text::Unreadable::Newer(found)) => Err(Error::NewerFormat {
                path,
                found,
                supported,
            }),
            Err(text::Unreadable::Damaged(damage)) => Err(Error::Damaged {
                path,
                damage,
                supported,
            }),
        }
    }

    /// Puts this layout in the place of the one in `directory`, or of none. A crash leaves one or
    /// the other.
    ///
    /// # Errors
    /// Those of the system.
    pub fn replace(&self, fs: &dyn Fs, directory: &Path) -> Result<(), Error> {
        let path = directory.join(LAYOUT_FILE);
        fs.replace(&path, &self.encode())
            .map_err(io_error("write", &path))
    }

    /// Removes the logs of other generations from `directory`: what a crash left of a store that
    /// was being written anew, or of the one before it. Nobody reads them.
    ///
    /// # Errors
    /// Those of the system.
    pub fn remove_others(&self, fs: &dyn Fs, directory: &Path) -> Result<(), Error> {
        let own = self.logs_directory(directory);
        let mut removed = false;
        for entry in fs.list(directory).map_err(io_error("list", directory))? {
            let path = directory.join(&entry.name);
            let digits = entry.name.strip_prefix("logs-");
            let logs = digits.is_some_and(|digits| digits.parse::<u32>().is_ok());
            if entry.is_directory && logs && path != own {
                fs.remove_directory(&path)
                    .map_err(io_error("remove", &path))?;
                removed = true;
            }
        }
        if removed {
            fs.sync_directory(directory)
                .map_err(io_error("sync", directory))?;
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        debug_assert!(self.check().is_ok(), "a layout that can be read again");
        let body = Body {
            generation: self.generation,
            log_count: self.log_count,
        };
        let body = serde_json::to_string(&body).expect("integers always serialise");
        text::encode(MAGIC, FORMAT_VERSION, &format!("{body}\n"))
    }

    fn decode(bytes: &[u8]) -> Result<Self, text::Unreadable> {
        let body = text::decode(MAGIC, FORMAT_VERSION, bytes)?;
        let body: Body =
            serde_json::from_slice(body).map_err(|error| Damage::Field(error.to_string()))?;
        let layout = Self {
            generation: body.generation,
            log_count: body.log_count,
        };
        layout.check().map_err(Damage::Field)?;
        Ok(layout)
    }

    fn check(&self) -> Result<(), String> {
        if self.generation == 0 {
            return Err("generation is 0".to_owned());
        }
        if !(1..=SLOT_COUNT).contains(&self.log_count) {
            let found = self.log_count;
            return Err(format!("log_count is {found}, not 1 to {SLOT_COUNT}"));
        }
        Ok(())
    }

    /// Directory of all logs of this layout.
    #[must_use]
    pub fn logs_directory(&self, directory: &Path) -> PathBuf {
        directory.join(format!("logs-{}", self.generation))
    }

    /// Directory of one log.
    #[must_use]
    pub fn log_directory(&self, directory: &Path, log: u16) -> PathBuf {
        debug_assert!(log < self.log_count, "one of the layout's logs");
        self.logs_directory(directory).join(format!("{log:03}"))
    }
}

/// A file in the directory of a log, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogFileName {
    /// A segment.
    Segment(SegmentId),
    /// The index of a sealed segment.
    Index(SegmentId),
    /// A checkpoint, by its number.
    Checkpoint(u64),
    /// A file in the making, without meaning.
    Temporary,
}

impl LogFileName {
    /// Reads a name; `None` for one that is not ours. A name has one spelling.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if [".tmp", ".new"].iter().any(|end| name.ends_with(end)) {
            return Some(Self::Temporary);
        }
        let segment = |digits: &str| digits.parse().ok().map(SegmentId::new);
        let parsed = if let Some(digits) = name.strip_suffix(".segment") {
            Self::Segment(segment(digits)?)
        } else if let Some(digits) = name.strip_suffix(".index") {
            Self::Index(segment(digits)?)
        } else {
            let digits = name.strip_prefix("checkpoint-")?;
            Self::Checkpoint(digits.parse().ok()?)
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for LogFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(f, "{:08}.segment", segment.get()),
            Self::Index(segment) => write!(f, "{:08}.index", segment.get()),
            Self::Checkpoint(number) => write!(f, "checkpoint-{number:016}"),
            Self::Temporary => f.write_str("any.tmp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimFs;

    const SAMPLE: Layout = Layout {
        generation: 1,
        log_count: 2,
    };

    /// If this test fails, the format has changed: never edit the text.
    #[test]
    fn bytes_are_those_of_the_format() {
        let golden = "ringmq-layout 1 059afed4\n{\"generation\":1,\"log_count\":2}\n";
        assert_eq!(String::from_utf8_lossy(&SAMPLE.encode()), golden);
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let good = SAMPLE.encode();
        assert_eq!(Layout::decode(&good), Ok(SAMPLE));
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                let found = Layout::decode(&bad);
                let noticed = matches!(found, Err(text::Unreadable::Damaged(_)));
                assert!(noticed, "byte {index} bit {bit}");
            }
            assert!(Layout::decode(&good[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn intact_checksum_does_not_excuse_wrong_fields() {
        let wrong = [
            ("{\"generation\":0,\"log_count\":2}", "generation is 0"),
            ("{\"generation\":1,\"log_count\":0}", "log_count is 0"),
            ("{\"generation\":1,\"log_count\":65}", "log_count is 65"),
            ("{\"generation\":1}", "missing field"),
        ];
        for (body, expected) in wrong {
            let bytes = text::encode(MAGIC, FORMAT_VERSION, body);
            let Err(text::Unreadable::Damaged(Damage::Field(text))) = Layout::decode(&bytes) else {
                panic!("{body} was accepted");
            };
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn logs_of_other_generations_are_removed_and_nothing_else() {
        let (fs, store) = (SimFs::new(1), Path::new("/store"));
        for directory in ["logs-1/000", "logs-2/000", "logs-10/001", "logs-old"] {
            fs.create_directory(&store.join(directory)).unwrap();
        }
        let current = Layout {
            generation: 2,
            ..SAMPLE
        };
        current.remove_others(&fs, store).unwrap();
        let mut left: Vec<_> = fs
            .list(store)
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        left.sort();
        assert_eq!(left, ["logs-2", "logs-old"]);
    }

    #[test]
    fn layout_is_replaced_and_read_again() {
        let (fs, store) = (SimFs::new(1), Path::new("/store"));
        assert_eq!(Layout::read(&fs, store).unwrap(), None, "no directory");
        fs.create_directory(store).unwrap();
        assert_eq!(Layout::read(&fs, store).unwrap(), None, "no file");
        SAMPLE.replace(&fs, store).unwrap();
        assert_eq!(Layout::read(&fs, store).unwrap(), Some(SAMPLE));
        let next = Layout {
            generation: 2,
            log_count: 64,
        };
        next.replace(&fs, store).unwrap();
        assert_eq!(Layout::read(&fs, store).unwrap(), Some(next));
        assert_eq!(next.log_directory(store, 7), store.join("logs-2/007"));
    }

    #[test]
    fn newer_and_oversized_layouts_are_refused() {
        let (fs, store) = (SimFs::new(1), Path::new("/store"));
        fs.create_directory(store).unwrap();
        let path = store.join(LAYOUT_FILE);
        let newer = text::encode(MAGIC, 2, "anything");
        (&fs as &dyn Fs).replace(&path, &newer).unwrap();
        let error = Layout::read(&fs, store).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, .. }));
        (&fs as &dyn Fs).replace(&path, &[b' '; 5000]).unwrap();
        let error = Layout::read(&fs, store).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }));
    }

    #[test]
    fn names_have_one_spelling() {
        let names = [
            (
                "00000007.segment",
                Some(LogFileName::Segment(SegmentId::new(7))),
            ),
            (
                "4294967295.segment",
                Some(LogFileName::Segment(SegmentId::new(u32::MAX))),
            ),
            (
                "00000007.index",
                Some(LogFileName::Index(SegmentId::new(7))),
            ),
            (
                "checkpoint-0000000000000012",
                Some(LogFileName::Checkpoint(12)),
            ),
            ("00000007.segment.tmp", Some(LogFileName::Temporary)),
            (
                "checkpoint-0000000000000012.new",
                Some(LogFileName::Temporary),
            ),
            ("7.segment", None),
            ("+0000007.segment", None),
            ("000000007.segment", None),
            ("4294967296.segment", None),
            ("checkpoint-12", None),
            ("notes.txt", None),
            ("", None),
        ];
        for (name, expected) in names {
            assert_eq!(LogFileName::parse(name), expected, "{name}");
            if let Some(parsed) = expected.filter(|parsed| *parsed != LogFileName::Temporary) {
                assert_eq!(parsed.to_string(), name);
            }
        }
    }
}
