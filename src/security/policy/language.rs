//! What an expression matches, as something that reads one byte after the other.
//!
//! Most expressions name one client or one channel and are kept as that text; the others become
//! automata that decide each byte by one look into a table, whatever is asked. Both are languages
//! over bytes, which [`super::cover`] lays one into another.

use std::fmt;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::{Problem, dialect};

/// Memory of one automaton. An expression that needs more is refused when a policy is read.
pub(super) const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// Memory for making one.
const MAKING_BYTES_MAX: usize = 8 << 20;

/// Larger automata are not made smaller.
const MINIMIZED_BYTES_MAX: usize = 16 << 10;

/// The texts that an expression matches.
pub(super) enum Language {
    /// This one.
    Literal(Box<str>),
    /// Those that end in a match.
    Automaton(Box<Automaton>),
}

/// An expression as a table.
pub(super) struct Automaton {
    table: dense::DFA<Vec<u32>>,
    start: StateID,
    /// Whether a match anywhere is enough, whatever follows it.
    anywhere: bool,
}

/// How far a language has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// So many bytes of the literal were there.
    Literal(usize),
    /// A row of the table.
    Row(StateID),
    /// Whatever follows, it is in the language.
    All,
    /// Whatever follows, it is not.
    Dead,
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.debug_tuple("Literal").field(text).finish(),
            Self::Automaton(automaton) => f
                .debug_tuple("Automaton")
                .field(&automaton.table.memory_usage())
                .finish(),
        }
    }
}

impl Language {
    /// Reads an expression. It matches a whole text; with `anywhere`, a part of one is enough.
    pub(super) fn parse(pattern: &str, anywhere: bool) -> Result<Self, Problem> {
        if let Some(literal) = literal(pattern, anywhere) {
            return Ok(Self::Literal(literal.into()));
        }
        let bad = |reason: &str| Problem::Pattern(reason.to_owned());
        let translated = dialect::translate(pattern).map_err(bad)?;
        // Bytes outside characters cannot stand in a name; the syntax needs leave for them only
        // because of `\B` in ASCII.
        let syntax = syntax::Config::new().utf8(false);
        syntax::parse_with(&translated, &syntax)
            .map_err(|error| bad(last_reason(&error.to_string())))?;
        Automaton::new(&translated, syntax, anywhere)
            .map(|automaton| Self::Automaton(Box::new(automaton)))
            .ok_or(Problem::TooLarge)
    }

    /// Whether a text is in the language.
    pub(super) fn matches(&self, text: &str) -> bool {
        if let Self::Literal(literal) = self {
            return **literal == *text;
        }
        let mut state = self.start();
        for byte in text.bytes() {
            state = self.next(state, byte);
            match state {
                State::All => return true,
                State::Dead => return false,
                State::Literal(_) | State::Row(_) => {}
            }
        }
        self.accepts(state)
    }

    /// Whether it may hold more than one text.
    pub(super) const fn is_many(&self) -> bool {
        matches!(self, Self::Automaton(_))
    }

    /// Where reading begins.
    pub(super) fn start(&self) -> State {
        match self {
            Self::Literal(_) => State::Literal(0),
            Self::Automaton(automaton) => automaton.settle(automaton.start),
        }
    }

    /// Reads a byte.
    pub(super) fn next(&self, state: State, byte: u8) -> State {
        match (self, state) {
            (Self::Literal(literal), State::Literal(read)) => {
                if literal.as_bytes().get(read) == Some(&byte) {
                    State::Literal(read + 1)
                } else {
                    State::Dead
                }
            }
            (Self::Automaton(automaton), State::Row(row)) => {
                automaton.settle(automaton.table.next_state(row, byte))
            }
            (_, State::All) => State::All,
            (_, State::Literal(_) | State::Row(_) | State::Dead) => State::Dead,
        }
    }

    /// Whether a text that ends here is in the language.
    pub(super) fn accepts(&self, state: State) -> bool {
        match (self, state) {
            (Self::Literal(literal), State::Literal(read)) => read == literal.len(),
            (Self::Automaton(automaton), State::Row(row)) => {
                let end = automaton.table.next_eoi_state(row);
                automaton.table.is_match_state(end)
            }
            (_, State::All) => true,
            (_, State::Literal(_) | State::Row(_) | State::Dead) => false,
        }
    }

    /// Tells apart the bytes that the language tells apart.
    pub(super) fn mark(&self, alphabet: &mut Alphabet) {
        match self {
            Self::Literal(literal) => literal.bytes().for_each(|byte| alphabet.single(byte)),
            Self::Automaton(automaton) => alphabet.classes(&automaton.table),
        }
    }

    /// Memory of its table.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Literal(literal) => literal.len(),
            Self::Automaton(automaton) => automaton.table.memory_usage(),
        }
    }
}

impl Automaton {
    /// `None` when it would be too large.
    pub(super) fn new(pattern: &str, syntax: syntax::Config, anywhere: bool) -> Option<Self> {
        let (kind, anchored) = if anywhere {
            (StartKind::Unanchored, Anchored::No)
        } else {
            (StartKind::Anchored, Anchored::Yes)
        };
        let make = |minimize| {
            let config = config(kind).minimize(minimize);
            let thompson = thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
            dense::Builder::new()
                .configure(config)
                .syntax(syntax)
                .thompson(thompson)
                .build(pattern)
                .ok()
        };
        let mut table = make(false)?;
        // The fewer states there are, the fewer combinations of them; for large tables that would
        // take too long.
        if table.memory_usage() <= MINIMIZED_BYTES_MAX {
            table = make(true)?;
        }
        let start = table
            .start_state(&start::Config::new().anchored(anchored))
            .ok()?;
        Some(Self {
            table,
            start,
            anywhere,
        })
    }

    fn settle(&self, row: StateID) -> State {
        if self.table.is_dead_state(row) {
            State::Dead
        } else if self.anywhere && self.table.is_match_state(row) {
            State::All
        } else {
            State::Row(row)
        }
    }
}

fn config(kind: StartKind) -> dense::Config {
    dense::Config::new()
        .start_kind(kind)
        // All ends of matches count, not those alone that a search would prefer.
        .match_kind(MatchKind::All)
        .accelerate(false)
        .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .determinize_size_limit(Some(MAKING_BYTES_MAX))
}

/// Which bytes have to be told apart: all between two marks are alike.
#[derive(Debug)]
pub(super) struct Alphabet {
    begins: [bool; 256],
}

impl Alphabet {
    pub(super) const fn new() -> Self {
        Self {
            begins: [false; 256],
        }
    }

    fn begin(&mut self, byte: u8) {
        if let Some(begins) = self.begins.get_mut(usize::from(byte)) {
            *begins = true;
        }
    }

    pub(super) fn single(&mut self, byte: u8) {
        self.begin(byte);
        if let Some(next) = byte.checked_add(1) {
            self.begin(next);
        }
    }

    pub(super) fn classes(&mut self, table: &dense::DFA<Vec<u32>>) {
        let classes = table.byte_classes();
        for byte in 1..=u8::MAX {
            if classes.get(byte) != classes.get(byte - 1) {
                self.begin(byte);
            }
        }
    }

    /// One byte of each sort, those first that look well in an example.
    pub(super) fn representatives(&self) -> Vec<u8> {
        let mut found: Vec<u8> = Vec::new();
        for byte in 0..=u8::MAX {
            let begins = self.begins.get(usize::from(byte)).copied();
            match found.last_mut() {
                Some(last) if begins != Some(true) => {
                    if beauty(byte) < beauty(*last) {
                        *last = byte;
                    }
                }
                _ => found.push(byte),
            }
        }
        found.sort_by_key(|byte| (beauty(*byte), *byte));
        found
    }
}

const fn beauty(byte: u8) -> u8 {
    match byte {
        b'x' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        b'A'..=b'Z' => 3,
        b'!'..=b'~' => 4,
        _ => 5,
    }
}

/// The only text that an expression matches, if that can be seen.
fn literal(pattern: &str, anywhere: bool) -> Option<String> {
    let (begins, inside) = match pattern.strip_prefix('^') {
        Some(inside) => (true, inside),
        None => (false, pattern),
    };
    let (ends, inside) = match inside.strip_suffix('$') {
        Some(inside) if !inside.ends_with('\\') => (true, inside),
        _ => (false, inside),
    };
    if anywhere && !(begins && ends) {
        return None;
    }
    let mut literal = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(next) = characters.next() {
        let plain = match next {
            '\\' => characters.next().filter(char::is_ascii_punctuation),
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => None,
            other => Some(other),
        };
        literal.push(plain?);
    }
    Some(literal)
}

/// The last line of what the library says; those before repeat the expression.
fn last_reason(text: &str) -> &str {
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(pattern: &str) -> Language {
        Language::parse(pattern, false).unwrap()
    }

    #[test]
    fn an_expression_matches_a_whole_text_or_a_part_as_it_is_told() {
        let cases = [
            ("foo.bar", "foo.bar", true, true),
            ("foo.bar", "fooXbar", true, true),
            ("foo.bar", "foo.bar.2", false, true),
            ("a|ab", "ab", true, true),
            ("a|ab", "xab", false, true),
            ("^a", "a", true, true),
            ("^a", "ba", false, false),
            ("^a", "ab", false, true),
            ("a$", "ba", false, true),
            ("a$", "ab", false, false),
            ("", "", true, true),
            ("", "x", false, true),
            (".*", "", true, true),
            (".*", "é世", true, true),
            ("(?i)straße", "STRAßE", true, true),
            (r"\bfoo\b", "a foo", false, true),
            (r"\bfoo\b", "afoo", false, false),
            (r".*\bfoo", "a.foo", true, true),
            (r".*\Bfoo", "afoo", true, true),
            (r"\d", "٣", false, false),
            ("[^a]", "é", true, true),
            ("^$", "", true, true),
            ("^$", "a", false, false),
        ];
        for (pattern, text, whole, part) in cases {
            assert_eq!(language(pattern).matches(text), whole, "{pattern} {text}");
            let anywhere = Language::parse(pattern, true).unwrap();
            assert_eq!(anywhere.matches(text), part, "{pattern} in {text}");
        }
    }

    #[test]
    fn an_expression_that_names_one_text_is_kept_as_that() {
        for (pattern, text) in [
            ("orders", "orders"),
            (r"orders\.eu", "orders.eu"),
            ("^orders$", "orders"),
            (r"^a\$$", "a$"),
            ("a,b:c/d-e", "a,b:c/d-e"),
        ] {
            assert!(
                matches!(language(pattern), Language::Literal(_)),
                "{pattern}"
            );
            assert!(language(pattern).matches(text), "{pattern}");
        }
        for pattern in ["a.b", r"\d", "a|b", r"a\$", "(?i)a"] {
            let literal = matches!(language(pattern), Language::Literal(_));
            assert_eq!(literal, pattern == r"a\$", "{pattern}");
        }
        assert!(matches!(
            Language::parse("^a$", true),
            Ok(Language::Literal(_))
        ));
        assert!(matches!(
            Language::parse("a", true),
            Ok(Language::Automaton(_))
        ));
    }

    #[test]
    fn a_bad_or_too_large_expression_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("*", "repetition operator missing expression"),
            ("a)(b", "unopened group"),
            (r"\", "incomplete escape"),
            ("[a--b]", "`--`"),
            (r"(a)\1", "backreferences are not supported"),
        ] {
            let problem = Language::parse(pattern, false).unwrap_err();
            assert!(problem.to_string().contains(reason), "{problem}");
        }
        for pattern in ["(?:a{1000}){1000}", ".*a.{12}", "(a|b)*a(a|b){20}"] {
            let problem = Language::parse(pattern, false).unwrap_err();
            assert_eq!(problem, Problem::TooLarge, "{pattern}");
        }
    }
}
