//! The order of use: a doubly linked list through the entries.

use super::Entry;
use crate::engine::arena::{Arena, NIL};

/// The neighbours of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    newer: u32,
    older: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            newer: NIL,
            older: NIL,
        }
    }
}

/// The two ends.
#[derive(Debug)]
pub(super) struct Recency {
    newest: u32,
    oldest: u32,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self {
            newest: NIL,
            oldest: NIL,
        }
    }

    /// The entry that was not used for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Puts an entry that is not linked at the newest end.
    pub(super) fn push_newest(&mut self, entries: &mut Arena<Entry>, index: u32) {
        let older = std::mem::replace(&mut self.newest, index);
        if let Some(entry) = entries.at_mut(index) {
            entry.links = Links { newer: NIL, older };
        }
        match entries.at_mut(older) {
            Some(entry) => entry.links.newer = index,
            None => self.oldest = index,
        }
    }

    /// Takes an entry out of the order.
    pub(super) fn remove(&mut self, entries: &mut Arena<Entry>, index: u32) {
        let Some(Links { newer, older }) = entries.at(index).map(|entry| entry.links) else {
            debug_assert!(false, "only live entries are in the order");
            return;
        };
        match entries.at_mut(newer) {
            Some(entry) => entry.links.older = older,
            None => self.newest = older,
        }
        match entries.at_mut(older) {
            Some(entry) => entry.links.newer = newer,
            None => self.oldest = newer,
        }
    }
}
