//! Smart routing: a name that something is sent to may stand for several channels.
//!
//! ```text
//!   orders;events_store:audit;routes:eu.new
//!   ──┬─── ────────┬───────── ──────┬──────
//!     │            │                └─ whatever the table says of the key `eu.new`
//!     │            └─ a channel of another kind
//!     └─ a channel of the sender's own kind
//! ```
//!
//! Parts are separated by `;`, blanks around them do not count, a target that is named twice gets
//! one copy. The table is asked once: what it names is not looked up again. An unknown prefix is
//! part of the channel's name.
//!
//! # Threading
//! A table never changes. A reload makes a new one, which every executor gets a clone of: the
//! clones share the program of the keys, but not its working memory, so no executor waits for
//! another.

mod source;
mod table;

use std::fmt;

use crate::model::Kind;
use crate::model::name::ROUTE_BYTES_MAX;

pub use source::{LoadError, RouteSource, Watch};
pub use table::{ENTRIES_MAX, RoutingTable, TABLE_BYTES_MAX, TableError};

/// Targets that one message may have. One with more is refused.
pub const TARGETS_MAX: usize = 256;

/// Where one copy of a message goes. The channel's name has yet to be checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The channel's kind: events, events store or queues.
    pub kind: Kind,
    /// The channel's name, as it was written.
    pub channel: Box<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.channel)
    }
}

/// Why a route leads nowhere; nothing may be sent then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No target is of the sender's own kind: nothing could answer the sender.
    #[error("no target of the kind {0}")]
    NoOwnTarget(Kind),
    /// There are more than [`TARGETS_MAX`].
    #[error("more than {TARGETS_MAX} targets")]
    TooManyTargets,
    /// What the table says of the route's keys is longer than a route may be.
    #[error("longer than {ROUTE_BYTES_MAX} bytes with what the table adds")]
    TooLong,
}

/// Finds the targets of a route for a sender of the kind `own`, in the order in which they are
/// written; at least one is of that kind.
///
/// # Errors
/// [`RouteError`].
pub fn expand(route: &str, own: Kind, table: &RoutingTable) -> Result<Vec<Target>, RouteError> {
    let mut expansion = Expansion {
        own,
        targets: Vec::new(),
        bytes_left: ROUTE_BYTES_MAX,
    };
    for part in route.split(';') {
        match read_part(part) {
            Part::Channel(kind, channel) => expansion.add(kind, channel)?,
            Part::Key(key) => expansion.add_key(key, table)?,
        }
    }
    if !expansion.targets.iter().any(|target| target.kind == own) {
        return Err(RouteError::NoOwnTarget(own));
    }
    Ok(expansion.targets)
}

/// One part of a route; either may be empty and counts for nothing then.
enum Part<'a> {
    /// A channel, without a kind of the sender's.
    Channel(Option<Kind>, &'a str),
    /// A key of the table.
    Key(&'a str),
}

fn read_part(part: &str) -> Part<'_> {
    const KINDS: [(&str, Kind); 3] = [
        ("events:", Kind::Events),
        ("events_store:", Kind::EventsStore),
        ("queues:", Kind::Queues),
    ];
    let part = part.trim();
    // The documentation says one, the code of the reference the other.
    for prefix in ["routes:", "route:"] {
        if let Some(key) = part.strip_prefix(prefix) {
            return Part::Key(key.trim());
        }
    }
    for (prefix, kind) in KINDS {
        if let Some(channel) = part.strip_prefix(prefix) {
            return Part::Channel(Some(kind), channel.trim());
        }
    }
    Part::Channel(None, part)
}

struct Expansion {
    own: Kind,
    targets: Vec<Target>,
    /// What the table may still add.
    bytes_left: usize,
}

impl Expansion {
    fn add(&mut self, kind: Option<Kind>, channel: &str) -> Result<(), RouteError> {
        let kind = kind.unwrap_or(self.own);
        let is_target = |target: &Target| target.kind == kind && *target.channel == *channel;
        if channel.is_empty() || self.targets.iter().any(is_target) {
            return Ok(());
        }
        if self.targets.len() >= TARGETS_MAX {
            return Err(RouteError::TooManyTargets);
        }
        self.targets.push(Target {
            kind,
            channel: channel.into(),
        });
        Ok(())
    }

    /// Adds what all entries that match say; a key of the table in there leads nowhere.
    fn add_key(&mut self, key: &str, table: &RoutingTable) -> Result<(), RouteError> {
        if key.is_empty() {
            return Ok(());
        }
        for routes in table.routes_of(key) {
            let filled = fill_in(routes, key, &mut self.bytes_left)?;
            for part in filled.split(';') {
                if let Part::Channel(kind, channel) = read_part(part) {
                    self.add(kind, channel)?;
                }
            }
        }
        Ok(())
    }
}

/// Replaces `{1}`, `{2}` and so on by the parts of `key` between its dots. A number without a part
/// stays as it is.
fn fill_in(routes: &str, key: &str, bytes_left: &mut usize) -> Result<String, RouteError> {
    let mut filled = String::with_capacity(routes.len());
    let mut add = |text: &str| {
        *bytes_left = bytes_left
            .checked_sub(text.len())
            .ok_or(RouteError::TooLong)?;
        filled.push_str(text);
        Ok(())
    };
    let mut rest = routes;
    while let Some((before, behind)) = rest.split_once('{') {
        add(before)?;
        let found = behind.split_once('}').and_then(|(number, behind)| {
            let index = number.parse::<usize>().ok()?.checked_sub(1)?;
            Some((key.split('.').nth(index)?, behind))
        });
        match found {
            Some((part, behind)) => {
                add(part)?;
                rest = behind;
            }
            None => {
                add("{")?;
                rest = behind;
            }
        }
    }
    add(rest)?;
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: &str) -> RoutingTable {
        RoutingTable::parse(json, true).expect("a good table")
    }

    fn shown(route: &str, own: Kind, table: &RoutingTable) -> Vec<String> {
        let targets = expand(route, own, table).expect("a route with targets");
        targets.iter().map(ToString::to_string).collect()
    }

    fn of_events(route: &str) -> Vec<String> {
        shown(route, Kind::Events, &RoutingTable::default())
    }

    #[test]
    fn a_part_without_a_prefix_is_of_the_senders_kind() {
        assert_eq!(of_events("a;b"), ["events:a", "events:b"]);
        let none = RoutingTable::default();
        assert_eq!(shown("a;", Kind::Queues, &none), ["queues:a"]);
        assert_eq!(shown("a", Kind::EventsStore, &none), ["events_store:a"]);
    }

    #[test]
    fn each_prefix_names_its_kind() {
        let route = "events:a;events_store:a;queues:a";
        let all = ["events:a", "events_store:a", "queues:a"];
        for own in [Kind::Events, Kind::EventsStore, Kind::Queues] {
            assert_eq!(shown(route, own, &RoutingTable::default()), all);
        }
    }

    #[test]
    fn an_unknown_prefix_is_part_of_the_name() {
        assert_eq!(
            of_events("foo:bar;commands:c"),
            ["events:foo:bar", "events:commands:c"]
        );
    }

    #[test]
    fn blanks_empty_parts_and_repetitions_count_for_nothing() {
        assert_eq!(
            of_events(" events: a ; ;;a;events:a;\tqueues:\tq ;route:;queues:"),
            ["events:a", "queues:q"]
        );
    }

    #[test]
    fn without_a_target_of_the_senders_kind_nothing_is_sent() {
        let none = RoutingTable::default();
        for own in [Kind::Events, Kind::EventsStore] {
            let found = expand("queues:q", own, &none);
            assert_eq!(found, Err(RouteError::NoOwnTarget(own)));
        }
        for nothing in [";", "route:unknown", "events:;routes: "] {
            let found = expand(nothing, Kind::Events, &none);
            assert_eq!(found, Err(RouteError::NoOwnTarget(Kind::Events)));
        }
    }

    #[test]
    fn every_entry_that_matches_the_whole_key_applies_under_either_prefix() {
        let table = table(
            r#"[{"Key":"orders\\..*","Routes":"a;queues:b"},
                {"Key":"orders.eu","Routes":"events_store:c; a"},
                {"Key":"order","Routes":"never"}]"#,
        );
        for prefix in ["route:", "routes:", "routes: "] {
            assert_eq!(
                shown(&format!("{prefix}orders.eu;z"), Kind::Events, &table),
                ["events:a", "queues:b", "events_store:c", "events:z"]
            );
        }
    }

    #[test]
    fn the_parts_of_the_key_fill_in_the_numbers() {
        let table = table(r#"[{"Key":".*","Routes":"{2}.{1};queues:{1}{1};{3};{0};{x};{;{1"}]"#);
        assert_eq!(
            shown("route:a.b", Kind::Events, &table),
            [
                "events:b.a",
                "queues:aa",
                "events:{3}",
                "events:{0}",
                "events:{x}",
                "events:{",
                "events:{1"
            ]
        );
    }

    #[test]
    fn what_the_table_names_is_not_looked_up_again() {
        let table =
            table(r#"[{"Key":"a","Routes":"route:b;x;routes:b"},{"Key":"b","Routes":"never"}]"#);
        assert_eq!(shown("route:a", Kind::Events, &table), ["events:x"]);
    }

    #[test]
    fn a_route_is_bounded_in_targets_and_in_bytes() {
        let names: Vec<_> = (0..=TARGETS_MAX).map(|n| n.to_string()).collect();
        let most = names[1..].join(";");
        assert_eq!(of_events(&most).len(), TARGETS_MAX);
        let found = expand(&names.join(";"), Kind::Events, &RoutingTable::default());
        assert_eq!(found, Err(RouteError::TooManyTargets));
        let routes = "{1}".repeat(100);
        let table = table(&format!(r#"[{{"Key":".*","Routes":"{routes}"}}]"#));
        let key = "k".repeat(ROUTE_BYTES_MAX / 100 + 1);
        let found = expand(&format!("route:{key}"), Kind::Events, &table);
        assert_eq!(found, Err(RouteError::TooLong));
    }
}
