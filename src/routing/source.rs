//! Where the routing table comes from, and how a change of it is noticed.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::table::{RoutingTable, TABLE_BYTES_MAX, TableError};

/// Where the table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteSource {
    /// Nowhere: there is no table.
    #[default]
    None,
    /// In the configuration: the JSON itself.
    Inline(String),
    /// In a file, which may be replaced while the broker runs.
    File(PathBuf),
}

/// Why there is no table where there should be one.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no table.
    #[error("{place}: {error}")]
    Table {
        /// Where it stands.
        place: String,
        /// What is wrong with it.
        error: TableError,
    },
}

impl RouteSource {
    /// The JSON of the table. Blocks: not for an executor.
    ///
    /// # Errors
    /// [`LoadError::Read`]. A file that is too large is not read to its end.
    fn read(&self) -> Result<String, LoadError> {
        match self {
            Self::None => Ok("[]".to_owned()),
            Self::Inline(json) => Ok(json.clone()),
            Self::File(path) => read_file(path).map_err(|source| LoadError::Read {
                path: path.clone(),
                source,
            }),
        }
    }

    fn place(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Inline(_) => "routing.data".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let one_more = u64::try_from(TABLE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    std::fs::File::open(path)?
        .take(one_more)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Looks after a table that may change. Blocks: lives on a thread of its own.
#[derive(Debug)]
pub struct Watch {
    source: RouteSource,
    anchored: bool,
    /// What was read last, good or bad: a bad table is told once.
    seen: Option<String>,
    /// Whether the file could not be read the last time.
    unreadable: bool,
}

impl Watch {
    /// Watches a source whose keys are anchored or not.
    #[must_use]
    pub const fn new(source: RouteSource, anchored: bool) -> Self {
        Self {
            source,
            anchored,
            seen: None,
            unreadable: false,
        }
    }

    /// Reads the table if it has changed since the last call: `Ok(None)` when it has not. The
    /// first call always reads it.
    ///
    /// # Errors
    /// [`LoadError`]; the table that was read before stays good. The same error of the same text
    /// is told once.
    pub fn poll(&mut self) -> Result<Option<RoutingTable>, LoadError> {
        let json = match self.source.read() {
            Ok(json) => json,
            Err(error) => {
                let told = std::mem::replace(&mut self.unreadable, true);
                return if told { Ok(None) } else { Err(error) };
            }
        };
        self.unreadable = false;
        if self.seen.as_ref() == Some(&json) {
            return Ok(None);
        }
        let parsed = RoutingTable::parse(&json, self.anchored);
        self.seen = Some(json);
        parsed.map(Some).map_err(|error| LoadError::Table {
            place: self.source.place(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"[{"Key":"a","Routes":"b"}]"#;

    #[test]
    fn without_a_source_the_table_is_empty() {
        let mut watch = Watch::new(RouteSource::None, true);
        assert!(watch.poll().unwrap().is_some_and(|table| table.is_empty()));
    }

    #[test]
    fn a_changed_file_is_read_again_and_an_unchanged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes.json");
        std::fs::write(&path, ONE).unwrap();
        let mut watch = Watch::new(RouteSource::File(path.clone()), true);
        assert_eq!(watch.poll().unwrap().map(|table| table.len()), Some(1));
        assert!(watch.poll().unwrap().is_none());
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(watch.poll().unwrap().map(|table| table.len()), Some(0));
    }

    #[test]
    fn a_bad_or_missing_file_is_told_once_and_a_good_one_is_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes.json");
        let mut watch = Watch::new(RouteSource::File(path.clone()), true);
        let error = watch.poll().unwrap_err().to_string();
        assert!(error.contains("routes.json"), "{error}");
        assert!(watch.poll().unwrap().is_none());
        std::fs::write(&path, "nonsense").unwrap();
        let error = watch.poll().unwrap_err().to_string();
        assert!(
            error.contains("routes.json: the table is no JSON"),
            "{error}"
        );
        assert!(watch.poll().unwrap().is_none());
        std::fs::write(&path, ONE).unwrap();
        assert!(watch.poll().unwrap().is_some());
    }

    #[test]
    fn a_table_in_the_configuration_names_its_key_when_it_is_bad() {
        let mut watch = Watch::new(RouteSource::Inline("[1]".into()), true);
        let error = watch.poll().unwrap_err().to_string();
        assert!(error.starts_with("routing.data: "), "{error}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_without_being_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes.json");
        std::fs::write(&path, " ".repeat(TABLE_BYTES_MAX * 2)).unwrap();
        let error = Watch::new(RouteSource::File(path), true)
            .poll()
            .unwrap_err();
        let LoadError::Table { error, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(error, TableError::TooLarge(TABLE_BYTES_MAX + 1));
    }
}
