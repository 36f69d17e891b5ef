//! Whether all that a wildcard matches is within some languages, or outside of one.
//!
//! The wildcard and the languages read the same name together, byte by byte; what they have read
//! is one state of them all. All states that can be reached are looked at, the shortest names
//! first, so that a name that decides the question against the wildcard is found as the shortest
//! one, and names that are too long for a channel do not count. That is exact: nothing is
//! estimated, and no name is forgotten.

use std::collections::HashSet;

use super::language::{Alphabet, Language, State};
use super::wildcard::{Reading, Wildcard};
use crate::model::name::CHANNEL_BYTES_MAX;

/// Bytes that all languages together read to answer one question, about: more than a thousandth
/// of a second of an executor is not spent on what a subscriber can make up.
const WORK_MAX: usize = 100_000;

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

/// A state of all, and the way to it.
struct Node {
    reading: Reading,
    states: Box<[State]>,
    before: usize,
    byte: u8,
}

fn search(
    wildcard: &Wildcard<'_>,
    question: &Question<'_>,
    work: &mut Work,
) -> Result<Option<String>, TooComplex> {
    let languages = question.languages;
    let mut alphabet = Alphabet::new();
    wildcard.mark(&mut alphabet);
    languages
        .iter()
        .for_each(|language| language.mark(&mut alphabet));
    let bytes = alphabet.representatives();

    let start = Node {
        reading: wildcard.start(),
        states: languages.iter().map(|language| language.start()).collect(),
        before: usize::MAX,
        byte: 0,
    };
    let mut seen = HashSet::from([(start.reading, start.states.clone())]);
    let mut nodes = vec![start];
    let mut level = 0..1;
    // No channel has an empty name, and the level is the length of the name.
    for _length in 1..=CHANNEL_BYTES_MAX {
        for before in level.clone() {
            for byte in &bytes {
                let Some(node) = step(wildcard, question, &nodes, (before, *byte), work)? else {
                    continue;
                };
                let accepted = languages
                    .iter()
                    .zip(&node.states)
                    .any(|(language, state)| language.accepts(*state));
                let answers = wildcard.accepts(node.reading) && (question.answers)(accepted);
                if seen.insert((node.reading, node.states.clone())) {
                    nodes.push(node);
                    if answers {
                        return Ok(Some(name(&nodes)));
                    }
                }
            }
        }
        level = level.end..nodes.len();
        if level.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// Reads one more byte with all; `None` where the question is decided for all that follows.
fn step(
    wildcard: &Wildcard<'_>,
    question: &Question<'_>,
    nodes: &[Node],
    (before, byte): (usize, u8),
    work: &mut Work,
) -> Result<Option<Node>, TooComplex> {
    let from = nodes.get(before).ok_or(TooComplex)?;
    let Some(reading) = wildcard.next(from.reading, byte) else {
        return Ok(None);
    };
    work.spend(question.languages.len() + 1)?;
    let pairs = question.languages.iter().zip(&from.states);
    let states: Box<[State]> = pairs
        .map(|(language, state)| language.next(*state, byte))
        .collect();
    let hopeless = (question.hopeless)(&states);
    Ok((!hopeless).then_some(Node {
        reading,
        states,
        before,
        byte,
    }))
}

/// The name that led to the last node.
fn name(nodes: &[Node]) -> String {
    let mut bytes = Vec::new();
    let mut next = nodes.last();
    while let Some(node) = next.filter(|node| node.before != usize::MAX) {
        bytes.push(node.byte);
        next = nodes.get(node.before);
    }
    bytes.reverse();
    String::from_utf8_lossy(&bytes).into_owned()
}
