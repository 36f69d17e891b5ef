//! Whether all that a wildcard matches is within some languages, or outside of one.
//!
//! The wildcard and the languages read the same name together, byte by byte; what they have read
//! is one state of them all. All states that can be reached are looked at, the shortest names
//! first, so that a name that decides the question against the wildcard is found as the shortest
//! one, and names that are too long for a channel do not count. That is exact: nothing is
//! estimated, and no name is forgotten.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::language::{Alphabet, Language, State};
use super::wildcard::{Reading, Wildcard};
use crate::model::name::CHANNEL_BYTES_MAX;

/// Bytes that the wildcard and all languages together read for one decision: that is what an
/// executor spends, at most, on what a subscriber has made up. Some milliseconds at the worst.
/// What is done besides counts as so many bytes as take as long.
const WORK_MAX: usize = 100_000;

/// What a search costs before it reads anything: the bytes are sorted by what tells them apart.
const SEARCH_WORK: usize = 200;

/// Bytes that lead nowhere are cheaper than those that the languages read.
const BYTES_TRIED_PER_WORK: usize = 8;

/// The question cannot be answered within the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooComplex;

/// What may still be spent on one decision.
#[derive(Debug)]
pub(super) struct Work(usize);

impl Work {
    pub(super) const fn new() -> Self {
        Self(WORK_MAX)
    }

    fn spend(&mut self, work: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(work).ok_or(TooComplex)?;
        Ok(())
    }
}

/// Finds a channel that the wildcard matches and none of the languages holds.
pub(super) fn uncovered(
    wildcard: &Wildcard<'_>,
    languages: &[&Language],
    work: &mut Work,
) -> Result<Option<String>, TooComplex> {
    let question = Question {
        languages,
        hopeless: |states| states.contains(&State::All),
        answers: |accepted| !accepted,
    };
    search(wildcard, &question, work)
}

/// Finds a channel that the wildcard matches and the language holds.
pub(super) fn overlap(
    wildcard: &Wildcard<'_>,
    language: &Language,
    work: &mut Work,
) -> Result<Option<String>, TooComplex> {
    if let Language::Literal(name) = language {
        return Ok(wildcard.matches(name).then(|| name.to_string()));
    }
    let question = Question {
        languages: &[language],
        hopeless: |states| states.contains(&State::Dead),
        answers: |accepted| accepted,
    };
    search(wildcard, &question, work)
}

struct Question<'a> {
    languages: &'a [&'a Language],
    /// Whether nothing that follows can answer it.
    hopeless: fn(&[State]) -> bool,
    /// Whether a name answers it, by whether one of the languages holds it.
    answers: fn(bool) -> bool,
}

/// What all have read, and the way to it. The states of the languages lie in a list of their own,
/// as many for each node as there are languages.
struct Node {
    reading: Reading,
    before: usize,
    byte: u8,
    /// Another node with the same hash.
    alike: Option<usize>,
}

fn search(
    wildcard: &Wildcard<'_>,
    question: &Question<'_>,
    work: &mut Work,
) -> Result<Option<String>, TooComplex> {
    work.spend(SEARCH_WORK)?;
    let languages = question.languages;
    let mut alphabet = Alphabet::new();
    wildcard.mark(&mut alphabet);
    languages
        .iter()
        .for_each(|language| language.mark(&mut alphabet));
    let bytes = alphabet.representatives();

    let mut seen = Seen::new(languages.len());
    let mut states: Vec<State> = languages.iter().map(|language| language.start()).collect();
    seen.add(wildcard.start(), &states, (usize::MAX, 0));
    let mut level = 0..1;
    // No channel has an empty name, and the level is the length of the name.
    for _length in 1..=CHANNEL_BYTES_MAX {
        for before in level.clone() {
            work.spend(bytes.len() / BYTES_TRIED_PER_WORK)?;
            for byte in bytes.iter().copied() {
                let Some(reading) = seen.reading(before, wildcard, byte) else {
                    continue;
                };
                work.spend(languages.len() + 1)?;
                states.clear();
                let from = languages.iter().zip(seen.states(before));
                states.extend(from.map(|(language, state)| language.next(*state, byte)));
                if (question.hopeless)(&states) || !seen.add(reading, &states, (before, byte)) {
                    continue;
                }
                let mut pairs = languages.iter().zip(&states);
                let held = pairs.any(|(language, state)| language.accepts(*state));
                if wildcard.accepts(reading) && (question.answers)(held) {
                    return Ok(Some(seen.name()));
                }
            }
        }
        level = level.end..seen.nodes.len();
        if level.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// All that has been reached, in the order in which that happened.
struct Seen {
    nodes: Vec<Node>,
    states: Vec<State>,
    width: usize,
    /// The last node with a hash.
    by_hash: HashMap<u64, usize, RandomState>,
    hasher: RandomState,
}

impl Seen {
    fn new(width: usize) -> Self {
        Self {
            nodes: Vec::new(),
            states: Vec::new(),
            width,
            by_hash: HashMap::default(),
            hasher: RandomState::default(),
        }
    }

    fn states(&self, node: usize) -> &[State] {
        let begin = node * self.width;
        self.states
            .get(begin..begin + self.width)
            .unwrap_or_default()
    }

    /// What the wildcard has read with one more byte behind a node.
    fn reading(&self, node: usize, wildcard: &Wildcard<'_>, byte: u8) -> Option<Reading> {
        let node = self.nodes.get(node)?;
        wildcard.next(node.reading, byte)
    }

    /// Adds a node; false when it was there.
    fn add(&mut self, reading: Reading, states: &[State], (before, byte): (usize, u8)) -> bool {
        debug_assert_eq!(states.len(), self.width, "one state of each language");
        let hash = self.hasher.hash_one((reading, states));
        let same_hash = self.by_hash.get(&hash).copied();
        let mut next = same_hash;
        while let Some(at) = next {
            let Some(node) = self.nodes.get(at) else {
                break;
            };
            if node.reading == reading && self.states(at) == states {
                return false;
            }
            next = node.alike;
        }
        self.by_hash.insert(hash, self.nodes.len());
        self.states.extend_from_slice(states);
        self.nodes.push(Node {
            reading,
            before,
            byte,
            alike: same_hash,
        });
        true
    }

    /// The name that led to the last node.
    fn name(&self) -> String {
        let mut bytes = Vec::new();
        let mut next = self.nodes.last();
        while let Some(node) = next.filter(|node| node.before != usize::MAX) {
            bytes.push(node.byte);
            next = self.nodes.get(node.before);
        }
        bytes.reverse();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
