//! A pattern: what it means, from its text alone, and who subscribes to it.

use std::rc::Rc;

use super::groups::{Cohort, Member};

/// Matches exactly one token.
pub(super) const ONE: &str = "*";

/// Matches one or more tokens at the end.
pub(super) const REST: &str = ">";

/// How a pattern is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Matches the channel of the same name.
    Literal,
    /// Matches what the trie says.
    Wildcard,
    /// Has tokens after `>`: valid, and matches nothing.
    Barren,
}

impl Shape {
    pub(super) fn of(pattern: &str) -> Self {
        let mut shape = Self::Literal;
        let mut tokens = pattern.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                REST if tokens.peek().is_some() => return Self::Barren,
                ONE | REST => shape = Self::Wildcard,
                _ => {}
            }
        }
        shape
    }
}

/// Whether a pattern has `*` or `>` as a whole token. Inside of a longer token they stand for
/// themselves: `a*` is the name of a channel.
#[must_use]
pub fn is_wildcard(pattern: &str) -> bool {
    Shape::of(pattern) != Shape::Literal
}

/// One pattern with its subscribers.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: Rc<str>,
    pub(super) shape: Shape,
    /// The subscribers without a group.
    pub(super) solos: Vec<Member>,
    /// The others; sorted by group.
    pub(super) cohorts: Vec<Cohort>,
    /// Of the channel of this name, while there is no wildcard pattern.
    turn: usize,
}

impl Pattern {
    pub(super) fn new(text: Rc<str>, shape: Shape) -> Self {
        Self {
            text,
            shape,
            solos: Vec::new(),
            cohorts: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.solos.is_empty() && self.cohorts.is_empty()
    }

    /// How many subscribe.
    pub(super) fn member_count(&self) -> usize {
        let cohorts = self.cohorts.iter().map(|cohort| cohort.members.len());
        self.solos.len() + cohorts.sum::<usize>()
    }

    pub(super) fn take_turn(&mut self) -> usize {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        turn
    }

    /// The members of a group that has some here; the solos for none.
    pub(super) fn members(&mut self, group: Option<u32>) -> &mut Vec<Member> {
        let Some(group) = group else {
            return &mut self.solos;
        };
        let cohort = self
            .cohort(group)
            .ok()
            .and_then(|at| self.cohorts.get_mut(at));
        &mut cohort.expect("a member's group has a cohort").members
    }

    /// As [`Pattern::members`], for a group that may have none yet.
    pub(super) fn members_or_new(&mut self, group: Option<u32>) -> &mut Vec<Member> {
        if let Some(group) = group
            && let Err(at) = self.cohort(group)
        {
            self.cohorts.insert(
                at,
                Cohort {
                    group,
                    members: Vec::new(),
                },
            );
        }
        self.members(group)
    }

    /// Drops the cohort of a group whose last member here has left.
    pub(super) fn drop_if_empty(&mut self, group: u32) {
        if let Ok(at) = self.cohort(group)
            && self
                .cohorts
                .get(at)
                .is_some_and(|cohort| cohort.members.is_empty())
        {
            self.cohorts.remove(at);
        }
    }

    /// Where the cohort of a group is, or belongs.
    fn cohort(&self, group: u32) -> Result<usize, usize> {
        self.cohorts
            .binary_search_by_key(&group, |cohort| cohort.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_wildcards() {
        for literal in [
            "", "a", "a*", "*a", "a.b*", ">>", "**", "a>.b", "a..b", "a.",
        ] {
            assert_eq!(Shape::of(literal), Shape::Literal, "{literal}");
            assert!(!is_wildcard(literal));
        }
        for wildcard in ["*", ">", "a.*", "*.a", "a.>", "*.>", "a.*.c"] {
            assert_eq!(Shape::of(wildcard), Shape::Wildcard, "{wildcard}");
            assert!(is_wildcard(wildcard));
        }
        for barren in ["a.>.c", ">.a", ">.>", "*.>.*", ">."] {
            assert_eq!(Shape::of(barren), Shape::Barren, "{barren}");
            assert!(is_wildcard(barren));
        }
    }
}
