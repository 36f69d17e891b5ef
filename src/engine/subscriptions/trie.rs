//! The wildcard patterns, as a trie over their tokens.
//!
//! ```text
//!   orders.*.paid ─┐     (root) ── orders ─┬─ * ── paid ●
//!   orders.>      ─┘                       └─ > ●
//! ```
//!
//! A walk follows a name token by token and branches where both the token itself and `*` lead on.
//! It visits at most 2^depth nodes, and no more than the patterns with a matching beginning have;
//! patterns that begin otherwise cost nothing.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::pattern::{ONE, REST};
use crate::engine::arena::Arena;

/// The wildcard patterns of one table, by id. Memory follows the highest number of nodes.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Arena<Node>,
    root: u32,
}

#[derive(Debug, Default)]
struct Node {
    /// By token. An empty map owns no memory.
    children: HashMap<Box<str>, u32, RandomState>,
    /// The child for `*`.
    one: Option<u32>,
    /// The pattern that ends here.
    here: Option<u32>,
    /// The pattern that ends in `>` after this node.
    rest: Option<u32>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.one.is_none() && self.here.is_none() && self.rest.is_none()
    }

    fn child(&self, token: &str) -> Option<u32> {
        if token == ONE {
            self.one
        } else {
            self.children.get(token).copied()
        }
    }
}

/// Where a walk stands: a node, and the offset of the next token in the name. The offset after the
/// last token is one beyond the dot that is not there.
pub(super) type Step = (u32, usize);

impl Trie {
    pub(super) fn new() -> Self {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::default()).index();
        Self { nodes, root }
    }

    /// Whether there are no patterns.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.node(self.root).is_empty()
    }

    /// Adds a wildcard pattern that is not in the trie.
    pub(super) fn insert(&mut self, pattern: &str, id: u32) {
        let mut at = self.root;
        for token in pattern.split('.') {
            if token == REST {
                self.node_mut(at).rest = Some(id);
                return;
            }
            at = match self.node(at).child(token) {
                Some(child) => child,
                None => self.grow(at, token),
            };
        }
        self.node_mut(at).here = Some(id);
    }

    /// Removes a pattern and the nodes that were there for it only.
    pub(super) fn remove(&mut self, pattern: &str) {
        let mut path = vec![self.root];
        for token in pattern.split('.').filter(|token| *token != REST) {
            let at = path.last().copied().unwrap_or(self.root);
            let Some(child) = self.node(at).child(token) else {
                debug_assert!(false, "only patterns of the trie are removed from it");
                return;
            };
            path.push(child);
        }
        let end = path.pop().unwrap_or(self.root);
        let node = self.node_mut(end);
        let ended = if pattern.rsplit('.').next() == Some(REST) {
            &mut node.rest
        } else {
            &mut node.here
        };
        debug_assert!(
            ended.is_some(),
            "only patterns of the trie are removed from it"
        );
        *ended = None;
        self.prune(end, &path, pattern);
    }

    /// Appends the ids of the patterns that match `name` to `found`. `steps` is working memory.
    pub(super) fn find(&self, name: &str, steps: &mut Vec<Step>, found: &mut Vec<u32>) {
        steps.clear();
        steps.push((self.root, 0));
        while let Some(step) = steps.pop() {
            self.walk(name, step, steps, found);
        }
    }

    fn walk(&self, name: &str, (at, offset): Step, steps: &mut Vec<Step>, found: &mut Vec<u32>) {
        let node = self.node(at);
        // `get` is none one beyond the end: no token is left.
        let Some(left) = name.get(offset..) else {
            found.extend(node.here);
            return;
        };
        found.extend(node.rest);
        if node.children.is_empty() && node.one.is_none() {
            return;
        }
        let dot = left
            .bytes()
            .position(|byte| byte == b'.')
            .unwrap_or(left.len());
        let token = left.get(..dot).unwrap_or(left);
        let next = offset + dot + 1;
        steps.extend(node.one.map(|child| (child, next)));
        steps.extend(node.children.get(token).map(|child| (*child, next)));
    }

    fn grow(&mut self, parent: u32, token: &str) -> u32 {
        let child = self.nodes.insert(Node::default()).index();
        let parent = self.node_mut(parent);
        if token == ONE {
            parent.one = Some(child);
        } else {
            parent.children.insert(token.into(), child);
        }
        child
    }

    /// Removes `end` and its ancestors on `path` as far as they are empty.
    fn prune(&mut self, mut end: u32, path: &[u32], pattern: &str) {
        let tokens = pattern.rsplit('.').filter(|token| *token != REST);
        for (&parent, token) in path.iter().rev().zip(tokens) {
            if !self.node(end).is_empty() {
                return;
            }
            self.nodes.remove_at(end);
            let node = self.node_mut(parent);
            if token == ONE {
                node.one = None;
            } else {
                node.children.remove(token);
            }
            end = parent;
        }
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes.at(at).expect("nodes are linked while they live")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes
            .at_mut(at)
            .expect("nodes are linked while they live")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [&str; 8] = ["*", ">", "a.*", "a.>", "*.b", "a.*.c", "*.*.>", "*.x>"];

    fn filled() -> Trie {
        let mut trie = Trie::new();
        for (id, pattern) in (0..).zip(PATTERNS) {
            trie.insert(pattern, id);
        }
        trie
    }

    fn find(trie: &Trie, name: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        trie.find(name, &mut Vec::new(), &mut found);
        found.sort_unstable();
        found.iter().map(|id| PATTERNS[*id as usize]).collect()
    }

    #[test]
    fn a_name_finds_every_pattern_that_matches_it() {
        let trie = filled();
        assert_eq!(find(&trie, "a"), ["*", ">"]);
        assert_eq!(find(&trie, "a.b"), [">", "a.*", "a.>", "*.b"]);
        assert_eq!(find(&trie, "b.b"), [">", "*.b"]);
        assert_eq!(find(&trie, "a.b.c"), [">", "a.>", "a.*.c", "*.*.>"]);
        assert_eq!(find(&trie, "a.b.c.d"), [">", "a.>", "*.*.>"]);
        assert_eq!(find(&trie, "A.B.C"), [">", "*.*.>"]);
    }

    #[test]
    fn tokens_are_compared_whole_and_in_full() {
        let mut trie = Trie::new();
        trie.insert("a.*", 0);
        trie.insert("\u{e4}.*", 1);
        assert_eq!(find(&trie, "aa.b"), [""; 0]);
        assert_eq!(find(&trie, "a"), [""; 0]);
        assert_eq!(find(&trie, "\u{e4}.\u{f6}"), [PATTERNS[1]]);
    }

    #[test]
    fn removed_patterns_leave_no_nodes_behind() {
        let mut trie = filled();
        assert!(!trie.is_empty());
        for (removed, pattern) in PATTERNS.into_iter().enumerate() {
            trie.remove(pattern);
            let mut expected = find(&filled(), "a.b.c");
            expected.retain(|pattern| !PATTERNS[..=removed].contains(pattern));
            assert_eq!(find(&trie, "a.b.c"), expected);
        }
        assert!(trie.is_empty());
        assert_eq!(trie.nodes.len(), 1, "only the root is left");
    }
}
