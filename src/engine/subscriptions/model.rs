//! The subscription table against a list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Selection, SubscriberAddress, Subscription, SubscriptionId, SubscriptionTable};

/// Whether a pattern matches a name, one token at a time.
fn matches(pattern: &str, name: &str) -> bool {
    let mut names = name.split('.');
    let mut tokens = pattern.split('.').peekable();
    while let Some(token) = tokens.next() {
        match (token, names.next()) {
            (_, None) => return false,
            (">", Some(_)) => return tokens.peek().is_none(),
            ("*", Some(_)) => {}
            (token, Some(name)) if token == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

struct Listed {
    id: SubscriptionId,
    pattern: String,
    group: String,
    address: SubscriberAddress,
    full: bool,
}

/// A table and the list it must behave like.
struct Pair {
    table: SubscriptionTable,
    list: Vec<Listed>,
    removed: Vec<SubscriptionId>,
    next_key: u64,
    chosen: Vec<SubscriberAddress>,
}

impl Pair {
    fn new(cache_entries_max: usize) -> Self {
        Self {
            table: SubscriptionTable::new(cache_entries_max),
            list: Vec::new(),
            removed: Vec::new(),
            next_key: 0,
            chosen: Vec::new(),
        }
    }

    fn add(&mut self, pattern: &str, group: &str) {
        self.next_key += 1;
        let core = u16::try_from(self.next_key % 3).unwrap();
        let address = SubscriberAddress {
            core,
            key: self.next_key,
        };
        let id = self.table.add(Subscription {
            pattern: pattern.into(),
            group: group.into(),
            address,
        });
        let (pattern, group) = (pattern.to_owned(), group.to_owned());
        self.list.push(Listed {
            id,
            pattern,
            group,
            address,
            full: false,
        });
    }

    fn remove(&mut self, at: usize) {
        let listed = self.list.swap_remove(at);
        assert!(self.table.remove(listed.id));
        self.removed.push(listed.id);
    }

    fn set_full(&mut self, at: usize, full: bool) {
        let listed = &mut self.list[at];
        listed.full = full;
        self.table.set_full(listed.id, full);
    }

    fn use_a_stale_id(&mut self, at: usize) {
        let id = self.removed[at];
        assert!(!self.table.remove(id));
        self.table.set_full(id, true);
    }

    fn select(&mut self, channel: &str) -> Vec<SubscriberAddress> {
        // What was in there before does not matter.
        self.chosen.push(SubscriberAddress { core: 9, key: 9 });
        let selection = self.table.select(channel, &mut self.chosen);
        self.check(channel, selection);
        self.chosen.clone()
    }

    fn check(&self, channel: &str, selection: Selection) {
        let matching = self
            .list
            .iter()
            .filter(|listed| matches(&listed.pattern, channel));
        let (solos, grouped): (Vec<_>, Vec<_>) =
            matching.partition(|listed| listed.group.is_empty());
        let mut groups: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
        for listed in grouped {
            groups.entry(&listed.group).or_default().push(listed);
        }
        let all_full = |members: &Vec<&Listed>| members.iter().all(|listed| listed.full);
        let groups_full = groups.values().filter(|members| all_full(members)).count();
        assert_eq!(
            selection,
            Selection {
                matched: solos.len() + groups.len(),
                groups_full
            }
        );

        let mut left: BTreeSet<_> = self.chosen.iter().copied().collect();
        assert_eq!(left.len(), self.chosen.len(), "nobody is chosen twice");
        for solo in solos {
            assert!(
                left.remove(&solo.address),
                "a subscriber without group is always chosen"
            );
        }
        for members in groups.values() {
            let chosen = members.iter().filter(|listed| left.remove(&listed.address));
            let chosen: Vec<_> = chosen.collect();
            assert_eq!(
                chosen.len(),
                usize::from(!all_full(members)),
                "one for each group"
            );
            assert!(
                chosen.iter().all(|listed| !listed.full),
                "one with room is chosen"
            );
        }
        assert!(left.is_empty(), "only subscribers that match are chosen");
    }
}

#[derive(Clone, Debug)]
enum Action {
    Add { pattern: String, group: String },
    Remove(prop::sample::Index),
    SetFull(prop::sample::Index, bool),
    UseStaleId(prop::sample::Index),
    Select { channel: String },
}

fn text(token: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![4 => text("a|b|aa|\\*"), 2 => text("a|b|\\*|>"), 1 => text("a\\*|>>|a|")]
}

fn channel() -> impl Strategy<Value = String> {
    prop_oneof![8 => text("a|b|aa"), 1 => text("a|a\\*|>>|\\*|>|")]
}

fn group() -> impl Strategy<Value = String> {
    "|g|h"
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (pattern(), group()).prop_map(|(pattern, group)| Action::Add { pattern, group }),
        2 => any::<prop::sample::Index>().prop_map(Action::Remove),
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, full)| Action::SetFull(which, full)),
        1 => any::<prop::sample::Index>().prop_map(Action::UseStaleId),
        8 => channel().prop_map(|channel| Action::Select { channel }),
    ]
}

proptest! {
    #[test]
    fn a_table_does_what_a_list_does(
        cache_entries_max in 0..5_usize,
        actions in prop::collection::vec(action(), 1..150),
    ) {
        let mut pair = Pair::new(cache_entries_max);
        for action in actions {
            match action {
                Action::Add { pattern, group } => pair.add(&pattern, &group),
                Action::Remove(which) if !pair.list.is_empty() => {
                    pair.remove(which.index(pair.list.len()));
                }
                Action::SetFull(which, full) if !pair.list.is_empty() => {
                    pair.set_full(which.index(pair.list.len()), full);
                }
                Action::UseStaleId(which) if !pair.removed.is_empty() => {
                    pair.use_a_stale_id(which.index(pair.removed.len()));
                }
                Action::Select { channel } => drop(pair.select(&channel)),
                Action::Remove(_) | Action::SetFull(..) | Action::UseStaleId(_) => {}
            }
            prop_assert_eq!(pair.table.len(), pair.list.len());
            prop_assert_eq!(pair.table.is_empty(), pair.list.is_empty());
        }
        while !pair.list.is_empty() {
            pair.remove(0);
            pair.select("a.b");
        }
        prop_assert!(pair.table.is_swept());
    }

    #[test]
    fn the_members_with_room_share_evenly_on_each_channel(
        cache_entries_max in 0..3_usize,
        patterns in prop::collection::vec("a\\.b|a\\.\\*|a\\.>|>", 1..6),
        full in prop::collection::vec(any::<bool>(), 6),
        rounds in 1..4_usize,
    ) {
        let mut pair = Pair::new(cache_entries_max);
        for (at, pattern) in patterns.iter().enumerate() {
            pair.add(pattern, "g");
            pair.set_full(at, full[at]);
        }
        let ready = pair.list.iter().filter(|listed| !listed.full).count();
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        // A turn of the full ones goes to one of the others, so that a round takes both.
        let selections = rounds * patterns.len() * ready;
        for _ in 0..selections {
            for address in pair.select("a.b") {
                *counts.entry(address.key).or_default() += 1;
            }
        }
        prop_assert!(ready == 0 || counts.len() == ready);
        prop_assert!(counts.values().all(|count| *count == rounds * patterns.len()));
    }
}
