//! The routing table: from keys to routes.

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::Deserialize;

use crate::model::name::ROUTE_BYTES_MAX;

/// Largest table, in bytes of its JSON.
pub const TABLE_BYTES_MAX: usize = 1 << 20;

/// Entries that a table may have.
pub const ENTRIES_MAX: usize = 1024;

/// Memory of one compiled key, and of all together.
const KEY_BYTES_MAX: usize = 1 << 20;
const KEYS_BYTES_MAX: usize = 32 << 20;

/// The entries of a table, in their order. The empty table matches nothing.
#[derive(Clone, Default)]
pub struct RoutingTable {
    keys: RegexSet,
    routes: Arc<[Box<str>]>,
}

impl fmt::Debug for RoutingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable")
            .field("entries", &self.routes.len())
            .finish_non_exhaustive()
    }
}

/// Why a text is no table. Entries are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is larger than [`TABLE_BYTES_MAX`].
    #[error("the table has {0} bytes, it may have {TABLE_BYTES_MAX}")]
    TooLarge(usize),
    /// It is no JSON, or of another shape.
    #[error("the table is no JSON array of objects with the texts Key and Routes: {0}")]
    Json(String),
    /// It has more than [`ENTRIES_MAX`] entries.
    #[error("the table has {0} entries, it may have {ENTRIES_MAX}")]
    TooManyEntries(usize),
    /// An entry has no key.
    #[error("entry {0} has an empty Key")]
    NoKey(usize),
    /// An entry leads nowhere.
    #[error("entry {0} has empty Routes")]
    NoRoutes(usize),
    /// An entry's routes are longer than a route may be.
    #[error("the Routes of entry {0} are longer than {ROUTE_BYTES_MAX} bytes")]
    RoutesTooLong(usize),
    /// A key is no regular expression, or too large a one.
    #[error("the Key of entry {entry} is no regular expression: {reason}")]
    Key {
        /// The entry.
        entry: usize,
        /// What the parser says.
        reason: String,
    },
    /// All keys together are too large.
    #[error("the keys are too large together: {0}")]
    Keys(String),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "key", alias = "KEY")]
    #[serde(rename = "Key")]
    key: String,
    #[serde(alias = "routes", alias = "ROUTES")]
    #[serde(rename = "Routes")]
    routes: String,
}

impl RoutingTable {
    /// Reads a table. `anchored`: a key must match the whole of what is asked for; otherwise a
    /// part of it is enough, as in the reference.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(json: &str, anchored: bool) -> Result<Self, TableError> {
        if json.len() > TABLE_BYTES_MAX {
            return Err(TableError::TooLarge(json.len()));
        }
        let entries: Vec<Entry> =
            serde_json::from_str(json).map_err(|error| TableError::Json(error.to_string()))?;
        if entries.len() > ENTRIES_MAX {
            return Err(TableError::TooManyEntries(entries.len()));
        }
        let mut keys = Vec::with_capacity(entries.len());
        let mut routes = Vec::with_capacity(entries.len());
        for (number, entry) in (1..).zip(entries) {
            check_routes(number, &entry.routes)?;
            keys.push(read_key(number, &entry.key, anchored)?);
            routes.push(entry.routes.into_boxed_str());
        }
        let keys = RegexSetBuilder::new(keys)
            .size_limit(KEYS_BYTES_MAX)
            .build()
            .map_err(|error| TableError::Keys(error.to_string()))?;
        let routes = routes.into();
        Ok(Self { keys, routes })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes of all entries that match a key.
    pub(super) fn routes_of(&self, key: &str) -> impl Iterator<Item = &str> {
        let matches = self.keys.matches(key);
        let routes = self.routes.iter().enumerate();
        routes
            .filter(move |(index, _)| matches.matched(*index))
            .map(|(_, routes)| &**routes)
    }
}

fn check_routes(entry: usize, routes: &str) -> Result<(), TableError> {
    if routes.trim().is_empty() {
        return Err(TableError::NoRoutes(entry));
    }
    if routes.len() > ROUTE_BYTES_MAX {
        return Err(TableError::RoutesTooLong(entry));
    }
    Ok(())
}

/// Checks a key alone, so that the error can name its entry.
fn read_key(entry: usize, key: &str, anchored: bool) -> Result<String, TableError> {
    if key.is_empty() {
        return Err(TableError::NoKey(entry));
    }
    let compile = |key: &str| -> Result<Regex, TableError> {
        let compiled = RegexBuilder::new(key).size_limit(KEY_BYTES_MAX).build();
        compiled.map_err(|error| {
            let reason = error.to_string();
            TableError::Key { entry, reason }
        })
    };
    compile(key)?;
    if !anchored {
        return Ok(key.to_owned());
    }
    let whole = format!("^(?:{key})$");
    compile(&whole)?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(table: &'a RoutingTable, key: &str) -> Vec<&'a str> {
        table.routes_of(key).collect()
    }

    #[test]
    fn keys_match_the_whole_or_a_part_as_the_switch_says() {
        let json = r#"[{"Key":"a.c","Routes":"1"},{"Key":"x|abc","Routes":"2"}]"#;
        let anchored = RoutingTable::parse(json, true).unwrap();
        assert_eq!(found(&anchored, "abc"), ["1", "2"]);
        assert_eq!(found(&anchored, "xabcx"), [""; 0]);
        assert_eq!(found(&anchored, "x"), ["2"]);
        let old = RoutingTable::parse(json, false).unwrap();
        assert_eq!(found(&old, "xabcx"), ["1", "2"]);
        assert!(found(&RoutingTable::default(), "abc").is_empty());
    }

    #[test]
    fn names_of_fields_may_be_written_small_and_unknown_ones_are_passed_over() {
        let json = r#"[{"key":"a","routes":"b","Comment":"c"}]"#;
        let table = RoutingTable::parse(json, true).unwrap();
        assert_eq!((table.len(), table.is_empty()), (1, false));
        assert!(RoutingTable::parse("[]", true).unwrap().is_empty());
    }

    #[test]
    fn a_bad_table_is_refused_with_its_entry_and_reason() {
        let error = |json: &str| RoutingTable::parse(json, true).unwrap_err().to_string();
        for (json, text) in [
            ("{}", "no JSON array"),
            ("[{\"Key\":\"a\"}]", "Routes"),
            ("[{\"Key\":1,\"Routes\":\"a\"}]", "no JSON array"),
            (r#"[{"Key":"","Routes":"a"}]"#, "entry 1 has an empty Key"),
            (
                r#"[{"Key":"a","Routes":"a"},{"Key":"a","Routes":" "}]"#,
                "entry 2 has empty Routes",
            ),
            (
                r#"[{"Key":"*","Routes":"a"}]"#,
                "the Key of entry 1 is no regular expression",
            ),
            (
                r#"[{"Key":"a)(b","Routes":"a"}]"#,
                "the Key of entry 1 is no regular expression",
            ),
            (
                r#"[{"Key":"(?:a{1000}){1000}","Routes":"a"}]"#,
                "the Key of entry 1",
            ),
        ] {
            assert!(error(json).contains(text), "{json}: {}", error(json));
        }
    }

    #[test]
    fn a_table_is_bounded_in_bytes_entries_and_routes() {
        let entry = r#"{"Key":"a","Routes":"b"}"#;
        let of = |count: usize| format!("[{}]", vec![entry; count].join(","));
        assert!(RoutingTable::parse(&of(ENTRIES_MAX), true).is_ok());
        let found = RoutingTable::parse(&of(ENTRIES_MAX + 1), true);
        assert_eq!(
            found.unwrap_err(),
            TableError::TooManyEntries(ENTRIES_MAX + 1)
        );
        let long = "r".repeat(ROUTE_BYTES_MAX + 1);
        let found = RoutingTable::parse(&format!(r#"[{{"Key":"a","Routes":"{long}"}}]"#), true);
        assert_eq!(found.unwrap_err(), TableError::RoutesTooLong(1));
        let found = RoutingTable::parse(&" ".repeat(TABLE_BYTES_MAX + 1), true);
        assert_eq!(
            found.unwrap_err(),
            TableError::TooLarge(TABLE_BYTES_MAX + 1)
        );
    }
}
