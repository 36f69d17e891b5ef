//! JSON with places: enough of it for a policy, whose values are flat.
//!
//! Whoever writes rules by hand wants to be told where a mistake is. A reader that keeps offsets
//! can name the beginning of each key and value, after the text is known to be well formed, too.

use super::Problem;

/// A place in a text, counted from 1. Columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

impl Place {
    /// The place of the byte `offset`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        Places::new(text).of(offset)
    }
}

/// Finds places from the beginning of a text to its end, in one pass for all of them.
#[derive(Debug)]
pub(super) struct Places<'a> {
    rest: &'a str,
    offset: usize,
    place: Place,
}

impl<'a> Places<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            offset: 0,
            place: Place { line: 1, column: 1 },
        }
    }

    /// The place of a byte that is not before the last one that was asked for.
    pub(super) fn of(&mut self, offset: usize) -> Place {
        let step = self
            .rest
            .floor_char_boundary(offset.saturating_sub(self.offset));
        let (passed, rest) = self.rest.split_at(step);
        for character in passed.chars() {
            if character == '\n' {
                self.place.line += 1;
                self.place.column = 1;
            } else {
                self.place.column += 1;
            }
        }
        self.rest = rest;
        self.offset += step;
        self.place
    }
}

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

/// A value, as far as rules have them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Text(String),
    Texts(Vec<(usize, String)>),
}

/// Goes through a text from left to right.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text
            .split_at_checked(self.at)
            .map_or("", |(_, rest)| rest)
    }

    /// Steps over white space, and tells the offset behind it.
    pub(super) fn offset(&mut self) -> usize {
        let blanks = [' ', '\t', '\r', '\n'];
        self.at = self.text.len() - self.rest().trim_start_matches(blanks).len();
        self.at
    }

    /// The next character behind white space; it is not taken.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.offset();
        self.rest().chars().next()
    }

    /// Takes this character, if it is the next one.
    pub(super) fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// The fault that something else was expected here.
    pub(super) fn expected(&mut self, what: &'static str) -> Fault {
        let found = self.peek();
        Fault {
            at: self.at,
            problem: Problem::Expected { what, found },
        }
    }

    /// Takes a value.
    pub(super) fn value(&mut self) -> Result<Value, Fault> {
        match self.peek() {
            Some('"') => self.text().map(Value::Text),
            Some('[') => self.texts().map(Value::Texts),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let words = [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.expected("true, false or a text in double quotes"))
    }

    fn texts(&mut self) -> Result<Vec<(usize, String)>, Fault> {
        let mut texts = Vec::new();
        let opened = self.take('[');
        debug_assert!(opened, "the caller has seen the bracket");
        if self.take(']') {
            return Ok(texts);
        }
        loop {
            let at = self.offset();
            if self.peek() != Some('"') {
                return Err(self.expected("a text in double quotes"));
            }
            texts.push((at, self.text()?));
            if self.take(']') {
                return Ok(texts);
            }
            if !self.take(',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    /// Takes a text in double quotes.
    pub(super) fn text(&mut self) -> Result<String, Fault> {
        let at = self.offset();
        let Some(inside) = self.rest().strip_prefix('"') else {
            return Err(self.expected("a text in double quotes"));
        };
        let Some(length) = closing_quote(inside) else {
            let problem = Problem::Unclosed;
            return Err(Fault { at, problem });
        };
        let quoted = self.rest().split_at_checked(length + 2);
        let text = quoted.and_then(|(quoted, _)| serde_json::from_str(quoted).ok());
        let Some(text) = text else {
            let problem = Problem::BadText;
            return Err(Fault { at, problem });
        };
        self.at = at + length + 2;
        Ok(text)
    }
}

/// The offset of the quote that closes a text; what `\` stands before does not count.
fn closing_quote(inside: &str) -> Option<usize> {
    let mut escaped = false;
    inside.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Value, Fault> {
        Reader::new(text).value()
    }

    #[test]
    fn values_of_rules_are_read() {
        assert_eq!(value(" null"), Ok(Value::Null));
        assert_eq!(value("\ttrue"), Ok(Value::Bool(true)));
        assert_eq!(value("false"), Ok(Value::Bool(false)));
        let text = r#""a\"b\\\u00e9\ud83d\ude00é""#;
        assert_eq!(value(text), Ok(Value::Text("a\"b\\é😀é".into())));
        let texts = Value::Texts(vec![(1, "a".into()), (6, "b".into())]);
        assert_eq!(value("[\"a\" ,\"b\"]"), Ok(texts));
        assert_eq!(value("[ ]"), Ok(Value::Texts(Vec::new())));
    }

    #[test]
    fn what_is_no_value_is_refused_where_it_is() {
        for (text, at) in [
            ("", 0),
            (" 1", 1),
            ("{}", 0),
            ("[1]", 1),
            ("[\"a\",]", 5),
            ("[\"a\" \"b\"]", 5),
            ("tru", 0),
            (" \"a", 1),
            ("\"\\x\"", 0),
            ("\"\\ud800\"", 0),
            ("\"a\nb\"", 0),
            ("\"a\\\"", 0),
        ] {
            assert_eq!(value(text).map_err(|fault| fault.at), Err(at), "{text:?}");
        }
    }

    #[test]
    fn places_are_lines_and_characters() {
        let text = "é1\n  ü2\n";
        let place = |offset| {
            let place = Place::of(text, offset);
            (place.line, place.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (1, 2));
        assert_eq!(place(4), (2, 1));
        assert_eq!(place(8), (2, 4));
        assert_eq!(place(99), (3, 1));
        let mut places = Places::new(text);
        for offset in [0, 2, 2, 4, 8, 99] {
            assert_eq!(places.of(offset), Place::of(text, offset));
        }
    }
}
