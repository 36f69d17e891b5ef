//! Reading a text that [`super::scan`] has checked.

use std::borrow::Cow;

use super::error::{JsonError, TypeError};
use super::{JsonMessage, KEPT_BYTES_MIN, KEPT_PER_BYTE, scan};

/// What an error shows of a number: a body may be one of millions of digits.
const SHOWN_DIGITS_MAX: usize = 40;

/// Where the reading stands.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// What messages and tags may still take in memory.
    room_bytes: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            room_bytes: KEPT_BYTES_MIN.saturating_add(text.len().saturating_mul(KEPT_PER_BYTE)),
        }
    }

    /// The first byte of what comes next; 0 at the end, which a checked text does not reach.
    pub(super) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| scan::is_blank(*byte)) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Takes a byte if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let comes = self.peek() == byte;
        self.at += usize::from(comes);
        comes
    }

    /// Takes `null` if it comes next.
    pub(super) fn take_null(&mut self) -> Result<bool, JsonError> {
        let comes = self.peek() == b'n';
        if comes {
            self.skip()?;
        }
        Ok(comes)
    }

    /// Goes over a value; returns its text.
    pub(super) fn skip(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let begin = self.at;
        self.at = scan::value_end(self.text.as_bytes(), begin)?;
        Ok(self.text.get(begin..self.at).unwrap_or_default())
    }

    /// Counts what a message or a tag that will be kept takes beside its texts.
    pub(super) fn count_kept(&mut self, bytes: usize) -> Result<(), JsonError> {
        let left = self.room_bytes.checked_sub(bytes);
        self.room_bytes = left.ok_or(JsonError::TooManyEntries)?;
        Ok(())
    }

    /// The error of the value that comes next.
    pub(super) fn wrong(&mut self, expected: &'static str) -> JsonError {
        let got = match self.peek() {
            b'"' => "string",
            b't' | b'f' => "bool",
            b'{' => "object",
            b'[' => "array",
            b'n' => "null",
            _ => "number",
        };
        if matches!(self.peek(), b'{' | b'[') {
            self.at += 1;
        } else if let Err(error) = self.skip() {
            return error;
        }
        self.type_error(expected, Cow::Borrowed(got))
    }

    /// The error of the number that was taken last and does not fit its type.
    pub(super) fn wrong_number(&self, expected: &'static str, number: &str) -> JsonError {
        let shown: String = number.chars().take(SHOWN_DIGITS_MAX).collect();
        let more = if shown.len() < number.len() {
            "…"
        } else {
            ""
        };
        self.type_error(expected, Cow::Owned(format!("number {shown}{more}")))
    }

    fn type_error(&self, expected: &'static str, got: Cow<'static, str>) -> JsonError {
        JsonError::Type(Box::new(TypeError {
            expected,
            got,
            field: String::new(),
            parent: "",
            offset: self.at,
        }))
    }

    /// Takes a string, as it is when it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let quoted = self.skip()?;
        let inside = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or_default();
        Ok(if inside.contains('\\') {
            Cow::Owned(unescape(inside))
        } else {
            Cow::Borrowed(inside)
        })
    }

    /// Goes through the values of a list; at the opening bracket.
    pub(super) fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.take(b'[');
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.take(b',') {
                self.take(b']');
                return Ok(());
            }
        }
    }

    /// Goes through the members of an object; at the opening bracket. `member` takes the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.take(b'{');
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.take(b':');
            member(self, name)?;
            if !self.take(b',') {
                self.take(b'}');
                return Ok(());
            }
        }
    }

    /// Reads an object into a message; `null` leaves it as it is.
    pub(super) fn message<M: JsonMessage>(&mut self, message: &mut M) -> Result<(), JsonError> {
        if self.take_null()? {
            return Ok(());
        }
        if self.peek() != b'{' {
            return Err(self.wrong(M::NAME));
        }
        self.object(|reader, name| {
            let known = M::FIELDS
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(&name));
            let Some(field) = known else {
                return reader.skip().map(|_| ());
            };
            (field.get_mut)(message)
                .read(reader)
                .map_err(|error| error.within(M::NAME, field.name, field.enumeration))
        })
    }
}

/// What stands for half of a pair of surrogates, as JavaScript may write it.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut characters = escaped.chars();
        match characters.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (character, after) = unescape_unicode(characters.as_str());
                out.push(character);
                rest = after;
                continue;
            }
            Some(itself) => out.push(itself),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out
}

/// Reads the digits behind `\u`, and the second half of a pair if it follows.
fn unescape_unicode(text: &str) -> (char, &str) {
    let Some((high, after)) = unit(text) else {
        return (REPLACEMENT, text);
    };
    if let Some(character) = char::from_u32(high) {
        return (character, after);
    }
    let second = after.strip_prefix("\\u").and_then(unit);
    if let (0xd800..0xdc00, Some((low @ 0xdc00..0xe000, after))) = (high, second) {
        let pair = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(pair).unwrap_or(REPLACEMENT), after);
    }
    (REPLACEMENT, after)
}

/// Four hexadecimal digits.
fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, after))
}
