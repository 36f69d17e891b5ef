//! A pattern with wildcards, as something that reads one byte after the other.
//!
//! Its language is the names of channels that it matches, no more: white space, control
//! characters, `;` and empty tokens are in no name, so no rule has to cover them. A wildcard
//! token ends where the next dot is, so there is never a choice: reading has one state.

use regex_automata::util::syntax;

use super::language::{Alphabet, Automaton, Language, State};
use crate::model::name::{CHANNEL_BYTES_MAX, check_pattern};

/// The characters of a token.
const TOKEN: &str = r"[^.*>;\s\x00-\x1f\x7f-\x{9f}]+";

/// What all wildcards have in common: the language of one token.
#[derive(Debug)]
pub(super) struct Token(Language);

impl Token {
    pub(super) fn new() -> Self {
        let automaton = Automaton::new(TOKEN, syntax::Config::new(), false);
        let automaton = automaton.expect("a class of characters is a small automaton");
        Self(Language::Automaton(Box::new(automaton)))
    }

    #[cfg(test)]
    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

/// A pattern that matches more than one channel.
#[derive(Debug)]
pub(super) struct Wildcard<'a> {
    parts: Vec<Part>,
    token: &'a Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// This byte.
    Byte(u8),
    /// A token: `*`.
    Token,
    /// One token or more: `>`.
    Tail,
}

/// How far a pattern has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    part: usize,
    /// Within a token.
    token: State,
}

impl<'a> Wildcard<'a> {
    /// Reads a pattern. `None` for a name without wildcards, and for what matches no channel.
    pub(super) fn of(pattern: &str, token: &'a Token) -> Option<Self> {
        if !pattern.contains(['*', '>']) || check_pattern(pattern).is_err() {
            return None;
        }
        let mut parts = Vec::with_capacity(pattern.len());
        let mut tokens = pattern.split('.').peekable();
        while let Some(text) = tokens.next() {
            let is_last = tokens.peek().is_none();
            match text {
                "*" => parts.push(Part::Token),
                ">" if is_last => parts.push(Part::Tail),
                // Accepted in a subscription, and in no name of a channel.
                text if text.contains(['*', '>']) => return None,
                text => parts.extend(text.bytes().map(Part::Byte)),
            }
            if !is_last {
                parts.push(Part::Byte(b'.'));
            }
        }
        Some(Self { parts, token })
    }

    pub(super) fn start(&self) -> Reading {
        self.enter(0)
    }

    fn enter(&self, part: usize) -> Reading {
        let token = self.token.0.start();
        Reading { part, token }
    }

    /// Reads a byte. `None`: nothing that the pattern matches begins so.
    pub(super) fn next(&self, reading: Reading, byte: u8) -> Option<Reading> {
        let part = *self.parts.get(reading.part)?;
        if let Part::Byte(wanted) = part {
            return (byte == wanted).then(|| self.enter(reading.part + 1));
        }
        if byte == b'.' {
            let ended = self.token.0.accepts(reading.token);
            return match part {
                Part::Tail if ended => Some(self.enter(reading.part)),
                // The part behind a token is the dot.
                Part::Token if ended && self.parts.len() > reading.part + 1 => {
                    Some(self.enter(reading.part + 2))
                }
                Part::Byte(_) | Part::Token | Part::Tail => None,
            };
        }
        match self.token.0.next(reading.token, byte) {
            State::Dead => None,
            token => Some(Reading { token, ..reading }),
        }
    }

    /// Whether a name that ends here is matched.
    pub(super) fn accepts(&self, reading: Reading) -> bool {
        match self.parts.get(reading.part) {
            None => true,
            Some(Part::Byte(_)) => false,
            Some(Part::Token | Part::Tail) => {
                self.parts.len() == reading.part + 1 && self.token.0.accepts(reading.token)
            }
        }
    }

    /// Whether it matches a channel's name.
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut bytes = name.bytes();
        let reading = bytes.try_fold(self.start(), |reading, byte| self.next(reading, byte));
        name.len() <= CHANNEL_BYTES_MAX && reading.is_some_and(|reading| self.accepts(reading))
    }

    /// Tells apart the bytes that the pattern tells apart.
    pub(super) fn mark(&self, alphabet: &mut Alphabet) {
        self.token.0.mark(alphabet);
        alphabet.single(b'.');
        for part in &self.parts {
            if let Part::Byte(byte) = part {
                alphabet.single(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::check_channel;

    #[test]
    fn characters_of_a_token_are_those_of_a_channels_name() {
        let token = Token::new();
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = character.to_string();
            let expected = check_channel(&text).is_ok();
            assert_eq!(token.matches(&text), expected, "{character:?}");
        }
    }

    fn matches(pattern: &str, name: &str) -> Option<bool> {
        let token = Token::new();
        Some(Wildcard::of(pattern, &token)?.matches(name))
    }

    #[test]
    fn patterns_match_what_subscriptions_get() {
        for (pattern, name, expected) in [
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.*", "a.", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b.", false),
            ("*.b", "a.b", true),
            ("*.b", ".b", false),
            ("*.*.c", "é.世.c", true),
            (">", "a", true),
            (">", "a.b", true),
            (">", "a b", false),
            (">", "a;b", false),
            (">", "", false),
            ("*", "a", true),
            ("*", "a.b", false),
        ] {
            assert_eq!(matches(pattern, name), Some(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn names_and_patterns_that_match_nothing_are_no_wildcards() {
        for pattern in ["a", "a.b", "a*", ">.a", "a.>.b", "*x.a", "a b.*", "..*", ""] {
            assert_eq!(matches(pattern, "a"), None, "{pattern}");
        }
    }
}
