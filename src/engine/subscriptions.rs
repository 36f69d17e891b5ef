//! The subscription table: who gets a message on a channel.
//!
//! One table for each kind on each shard, for the channels that the shard owns. A pattern is a
//! channel's name or has wildcards among its dot-separated tokens:
//!
//! | pattern | matches | does not match |
//! |---|---|---|
//! | `a.b` | `a.b` | `a.B`, `a.b.c` |
//! | `a.*` | `a.b` | `a`, `a.b.c` |
//! | `a.>` | `a.b`, `a.b.c` | `a` |
//! | `a*` | `a*` | `ab` |
//! | `a.>.c` | nothing | |
//!
//! Every subscriber without a group gets the message, and one member of each group. A group is
//! known by its name alone: its members on `w.x` and on `w.*` share.
//!
//! ```text
//!                  ┌► names ─────────────────────┐
//!   channel ───────┤                             ├─► ids ─► patterns ─► solos, cohorts
//!                  └► match cache ◄─ (miss) trie ┘
//! ```
//!
//! While there are no wildcard patterns, a selection is one lookup of the name. With some, a name
//! that was seen lately is one lookup in the match cache, which allocates nothing; any other is
//! one lookup of the name and a walk of the trie, whose cost grows with the tokens of the name and
//! the patterns that begin alike, not with the subscriptions.

mod groups;
mod match_cache;
#[cfg(test)]
mod model;
mod pattern;
mod selection;
mod trie;

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::arena::{Arena, Key};
use groups::{GroupNames, Member};
use match_cache::MatchCache;
pub use pattern::is_wildcard;
use pattern::{Pattern, Shape};
pub use selection::Selection;
use selection::{Span, gather};
use trie::{Step, Trie};

/// Where a subscriber is: its executor, and its key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberAddress {
    /// The executor.
    pub core: u16,
    /// What that executor knows the subscriber by.
    pub key: u64,
}

/// A standing interest in the channels that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// A channel's name, or a pattern with wildcards.
    pub pattern: Box<str>,
    /// The name of the consumer group; empty: none.
    pub group: Box<str>,
    /// Who wants the messages.
    pub address: SubscriberAddress,
}

/// Names one subscription of one table; goes stale when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(Key);

/// The subscriptions of one kind on one shard.
///
/// Owned by the shard's executor. The number of subscriptions is bounded by whoever adds them;
/// memory follows its peak. Measured on x86-64, with names of 28 bytes: 230 to 300 bytes for a
/// subscription on a channel of its own, 480 to 550 if it is also the only one of its group, 730
/// to 820 on a wildcard pattern of its own, 50 to 80 on a pattern that others share; 160 for an
/// entry of the match cache.
#[derive(Debug)]
pub struct SubscriptionTable {
    subscriptions: Arena<Position>,
    patterns: Arena<Pattern>,
    /// All patterns by their text.
    names: HashMap<Rc<str>, u32, RandomState>,
    wildcards: Trie,
    groups: GroupNames,
    cache: MatchCache,
    /// Selections that the cache could not count, as the turn of what it does not hold.
    turn: usize,
    scratch: Scratch,
}

/// Where the member of a subscription is.
#[derive(Clone, Copy, Debug)]
struct Position {
    pattern: u32,
    group: Option<u32>,
    /// In the solos of the pattern, or in its cohort of the group.
    index: usize,
}

/// Working memory of a selection; empty between two, but for its capacity.
#[derive(Debug, Default)]
struct Scratch {
    steps: Vec<Step>,
    found: Vec<u32>,
    spans: Vec<Span>,
}

impl SubscriptionTable {
    /// Makes an empty table whose match cache holds up to `cache_entries_max` channels; zero turns
    /// the cache off.
    #[must_use]
    pub fn new(cache_entries_max: usize) -> Self {
        Self {
            subscriptions: Arena::new(),
            patterns: Arena::new(),
            names: HashMap::default(),
            wildcards: Trie::new(),
            groups: GroupNames::new(),
            cache: MatchCache::new(cache_entries_max),
            turn: 0,
            scratch: Scratch::default(),
        }
    }

    /// The number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there are no subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Adds a subscription, with room in its subscriber's buffer. One that is there already, to the
    /// letter, is a second one with deliveries of its own.
    pub fn add(&mut self, subscription: Subscription) -> SubscriptionId {
        let Subscription {
            pattern,
            group,
            address,
        } = subscription;
        let pattern = self.open_pattern(&pattern);
        let group = (!group.is_empty()).then(|| self.groups.join(&group));
        let key = self.subscriptions.insert(Position {
            pattern,
            group,
            index: 0,
        });
        let members = self.pattern_mut(pattern).members_or_new(group);
        if members.is_empty() {
            // Most patterns have one subscriber.
            members.reserve_exact(1);
        }
        let index = members.len();
        members.push(Member::new(address, key.index()));
        self.position_mut(key.index()).index = index;
        SubscriptionId(key)
    }

    /// Removes a subscription; false if it was removed before.
    pub fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some(Position {
            pattern,
            group,
            index,
        }) = self.subscriptions.remove(id.0)
        else {
            return false;
        };
        let members = self.pattern_mut(pattern).members(group);
        members.swap_remove(index);
        if let Some(moved) = members.get(index).map(|member| member.subscription) {
            self.position_mut(moved).index = index;
        }
        if let Some(group) = group {
            self.pattern_mut(pattern).drop_if_empty(group);
            self.groups.leave(group);
        }
        self.close_pattern_if_unused(pattern);
        true
    }

    /// Notes that a subscriber's buffer is full, or has room again. Group members with room are
    /// chosen before full ones. A subscriber without a group is listed either way; a stale id
    /// changes nothing.
    pub fn set_full(&mut self, id: SubscriptionId, full: bool) {
        let Some(&Position {
            pattern,
            group,
            index,
        }) = self.subscriptions.get(id.0)
        else {
            return;
        };
        if let Some(member) = self.pattern_mut(pattern).members(group).get_mut(index) {
            member.full = full;
        }
    }

    /// Fills `chosen` with everyone who gets a message on `channel`: all subscribers without a
    /// group, full or not, and one member of each group, unless all its members are full.
    ///
    /// Members of a group take turns on each channel. A subscriber is chosen once for each of its
    /// subscriptions. Apart from the growth of `chosen`, a repeated selection allocates nothing.
    pub fn select(&mut self, channel: &str, chosen: &mut Vec<SubscriberAddress>) -> Selection {
        chosen.clear();
        if self.wildcards.is_empty() {
            let Some(id) = self.literal(channel) else {
                return Selection::default();
            };
            let turn = self.pattern_mut(id).take_turn();
            return gather(&self.patterns, &[id], turn, &mut self.scratch.spans, chosen);
        }
        let entry = match self.cache.find(channel) {
            Some(entry) => Some(entry),
            None => self.resolve(channel),
        };
        let (matched, turn) = match entry {
            Some(entry) => self.cache.take_turn(entry),
            None => (self.scratch.found.as_slice(), self.turn),
        };
        gather(
            &self.patterns,
            matched,
            turn,
            &mut self.scratch.spans,
            chosen,
        )
    }

    /// Whether anybody is subscribed to `channel`, by its name or by a pattern that matches it.
    #[must_use]
    pub fn is_subscribed(&mut self, channel: &str) -> bool {
        if self.literal(channel).is_some() {
            return true;
        }
        let Scratch { steps, found, .. } = &mut self.scratch;
        found.clear();
        if !self.wildcards.is_empty() {
            self.wildcards.find(channel, steps, found);
        }
        !found.is_empty()
    }

    /// The channels that are subscribed to by their names, at places from `from` on, with the
    /// places and how many subscribe: for walks that are cut into slices.
    pub fn names_from(&self, from: u32) -> impl Iterator<Item = (u32, &str, usize)> {
        (from..self.patterns.index_end()).filter_map(|at| {
            let pattern = self.patterns.at(at)?;
            let named = pattern.shape == Shape::Literal;
            named.then(|| (at, &*pattern.text, pattern.member_count()))
        })
    }

    /// Finds the patterns that match `channel`, and caches them if it can.
    fn resolve(&mut self, channel: &str) -> Option<match_cache::Entry> {
        let literal = self.literal(channel);
        let Scratch { steps, found, .. } = &mut self.scratch;
        found.clear();
        found.extend(literal);
        self.wildcards.find(channel, steps, found);
        self.turn = self.turn.wrapping_add(1);
        self.cache.insert(channel, found, self.turn)
    }

    /// The pattern that is the name of `channel`.
    fn literal(&self, channel: &str) -> Option<u32> {
        let id = *self.names.get(channel)?;
        let shape = self.patterns.at(id)?.shape;
        (shape == Shape::Literal).then_some(id)
    }

    /// The id of a pattern, which it gets now if it is new.
    fn open_pattern(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.names.get(text) {
            return id;
        }
        let shape = Shape::of(text);
        let text: Rc<str> = text.into();
        let id = self
            .patterns
            .insert(Pattern::new(Rc::clone(&text), shape))
            .index();
        match shape {
            Shape::Literal => self.cache.outdate(&text),
            Shape::Wildcard => {
                self.wildcards.insert(&text, id);
                self.cache.outdate_all();
            }
            Shape::Barren => {}
        }
        self.names.insert(text, id);
        id
    }

    fn close_pattern_if_unused(&mut self, id: u32) {
        let pattern = self.pattern_mut(id);
        if !pattern.is_unused() {
            return;
        }
        let (text, shape) = (Rc::clone(&pattern.text), pattern.shape);
        self.patterns.remove_at(id);
        self.names.remove(&text);
        match shape {
            Shape::Literal => self.cache.outdate(&text),
            Shape::Wildcard => {
                self.wildcards.remove(&text);
                self.cache.outdate_all();
            }
            Shape::Barren => {}
        }
    }

    fn pattern_mut(&mut self, id: u32) -> &mut Pattern {
        self.patterns
            .at_mut(id)
            .expect("a pattern lives while it has subscriptions")
    }

    fn position_mut(&mut self, subscription: u32) -> &mut Position {
        self.subscriptions
            .at_mut(subscription)
            .expect("members name live subscriptions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(pattern: &str, group: &str, key: u64) -> Subscription {
        let address = SubscriberAddress { core: 0, key };
        Subscription {
            pattern: pattern.into(),
            group: group.into(),
            address,
        }
    }

    fn table(subscriptions: &[(&str, &str)]) -> SubscriptionTable {
        let mut table = SubscriptionTable::new(100);
        for ((pattern, group), key) in subscriptions.iter().zip(0..) {
            table.add(subscription(pattern, group, key));
        }
        table
    }

    fn select(table: &mut SubscriptionTable, channel: &str) -> Vec<u64> {
        let mut chosen = Vec::new();
        table.select(channel, &mut chosen);
        let mut keys: Vec<_> = chosen.iter().map(|address| address.key).collect();
        keys.sort_unstable();
        keys
    }

    impl SubscriptionTable {
        /// Whether nothing is left of the subscriptions that were here.
        pub(super) fn is_swept(&self) -> bool {
            self.patterns.is_empty() && self.names.is_empty() && self.wildcards.is_empty()
        }
    }

    #[test]
    fn wildcards_match_as_the_table_in_the_docs_says() {
        let mut table = table(&[
            ("a.b", ""),
            ("a.*", ""),
            ("a.>", ""),
            ("a*", ""),
            ("a.>.c", ""),
        ]);
        for _ in 0..2 {
            assert_eq!(select(&mut table, "a.b"), [0, 1, 2]);
            assert_eq!(select(&mut table, "a.B"), [1, 2]);
            assert_eq!(select(&mut table, "a.b.c"), [2]);
            assert!(select(&mut table, "a").is_empty());
            assert!(select(&mut table, "ab").is_empty());
            assert_eq!(select(&mut table, "a*"), [3]);
            assert_eq!(select(&mut table, "a.>.c"), [2]);
        }
    }

    #[test]
    fn a_group_shares_over_overlapping_patterns() {
        let mut table = table(&[("w.x", "g"), ("w.*", "g"), ("w.*", "h"), ("w.x", "")]);
        let mut deliveries = [0; 4];
        for _ in 0..20 {
            for key in select(&mut table, "w.x") {
                deliveries[usize::try_from(key).unwrap()] += 1;
            }
        }
        assert_eq!(deliveries, [10, 10, 20, 20]);
    }

    #[test]
    fn channels_take_turns_of_their_own() {
        // A publisher that alternates between two channels must not tie each to one member.
        let mut table = table(&[("w.*", "g"), ("w.*", "g")]);
        let mut chosen = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            chosen[0].extend(select(&mut table, "w.x"));
            chosen[1].extend(select(&mut table, "w.y"));
        }
        for chosen in chosen {
            assert_eq!(
                chosen.iter().filter(|key| **key == 0).count(),
                2,
                "{chosen:?}"
            );
        }
    }

    #[test]
    fn two_subscriptions_of_one_subscriber_are_two_deliveries() {
        let mut table = SubscriptionTable::new(10);
        let first = table.add(subscription("a", "", 7));
        table.add(subscription("a", "", 7));
        table.add(subscription("*", "", 7));
        assert_eq!(select(&mut table, "a"), [7, 7, 7]);
        assert!(table.remove(first));
        assert!(!table.remove(first));
        assert_eq!(select(&mut table, "a"), [7, 7]);
    }

    #[test]
    fn names_are_listed_and_patterns_are_found_to_be_subscribed() {
        let mut table = table(&[("a", ""), ("b", "g"), ("w.*", ""), ("x*", ""), ("a", "g")]);
        let mut names: Vec<_> = table
            .names_from(0)
            .map(|(_, name, count)| (name.to_owned(), count))
            .collect();
        names.sort_unstable();
        let expected = [("a", 2), ("b", 1), ("x*", 1)];
        assert_eq!(
            names,
            expected.map(|(name, count)| (name.to_owned(), count))
        );
        let (first, _, _) = table.names_from(0).next().unwrap();
        assert_eq!(table.names_from(first + 1).count(), 2);
        for (channel, subscribed) in [("a", true), ("w.1", true), ("w", false), ("xy", false)] {
            assert_eq!(table.is_subscribed(channel), subscribed, "{channel}");
        }
    }

    #[test]
    fn a_full_group_is_counted_and_full_solos_are_listed() {
        let mut table = SubscriptionTable::new(10);
        let ids = [("a", "g"), ("a", "")].map(|(pattern, group)| {
            let id = table.add(subscription(pattern, group, 1));
            table.set_full(id, true);
            id
        });
        let mut chosen = Vec::new();
        let selection = table.select("a", &mut chosen);
        assert_eq!(
            (selection, chosen.len()),
            (
                Selection {
                    matched: 2,
                    groups_full: 1
                },
                1
            )
        );
        table.set_full(ids[0], false);
        let selection = table.select("a", &mut chosen);
        assert_eq!(
            (selection, chosen.len()),
            (
                Selection {
                    matched: 2,
                    groups_full: 0
                },
                2
            )
        );
    }
}
