//! Reading a text that [`super::scan`] has checked.

use std::borrow::Cow;

use super::error::{JsonError, TypeError};
use super::wire::{Cut, Wire};
use super::{JsonMessage, scan};

/// What an error shows of a number: a body may be one of millions of digits.
const SHOWN_DIGITS_MAX: usize = 40;

/// Where the reading stands.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Tags that the message has which is being read.
    pub(super) tags: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            tags: 0,
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

    /// Takes a string as it stands, with its escapes and without its quotation marks.
    pub(super) fn raw_string(&mut self) -> Result<&'a str, JsonError> {
        let quoted = self.skip()?;
        let inside = quoted.strip_prefix('"');
        let inside = inside.and_then(|rest| rest.strip_suffix('"'));
        Ok(inside.unwrap_or_default())
    }

    /// Takes a string, as it is when it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let inside = self.raw_string()?;
        if !inside.contains('\\') {
            return Ok(Cow::Borrowed(inside));
        }
        let mut plain = String::with_capacity(inside.len());
        unescape(inside, |piece| plain.push_str(piece));
        Ok(Cow::Owned(plain))
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

    /// Reads an object as the fields of a message; `null` has none. `again`: the message goes on
    /// from another place, where any field may have been set.
    pub(super) fn message<M: JsonMessage>(
        &mut self,
        wire: &mut Wire,
        again: bool,
    ) -> Result<(), JsonError> {
        if self.take_null()? {
            return Ok(());
        }
        if self.peek() != b'{' {
            return Err(self.wrong(M::NAME));
        }
        let begin = wire.len();
        // A bit for each field.
        let mut set = if again { u32::MAX } else { 0 };
        let mut cuts = Vec::new();
        self.object(|reader, name| {
            let mut fields = M::FIELDS.iter().zip(0..u32::BITS);
            let known = fields.find(|(field, _)| field.name.eq_ignore_ascii_case(&name));
            let Some((field, bit)) = known else {
                return reader.skip().map(|_| ());
            };
            let mut slot = Slot::new(field.number);
            slot.was_set = set & (1 << bit) != 0;
            set |= 1 << bit;
            let end = wire.len();
            (field.read)(reader, wire, &mut slot)
                .map_err(|error| error.within(M::NAME, field.name, field.enumeration))?;
            if slot.was_set && slot.starts_anew {
                Cut::add(&mut cuts, slot.number, end);
            }
            Ok(())
        })?;
        if !cuts.is_empty() {
            wire.cut(begin, &cuts);
        }
        Ok(())
    }
}

/// A field that is being read.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// It may have a value already, so that a zero is to be written down.
    pub(super) was_set: bool,
    /// Set when what was written of it before counts no more, although it would be put together
    /// with what is written now.
    pub(super) starts_anew: bool,
}

impl Slot {
    /// A field that has no value yet.
    pub(super) const fn new(number: u32) -> Self {
        Self {
            number,
            was_set: false,
            starts_anew: false,
        }
    }
}

/// What stands for half of a pair of surrogates, as JavaScript may write it.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Gives the pieces of a string without its escapes.
pub(super) fn unescape(text: &str, mut put: impl FnMut(&str)) {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        put(plain);
        let mut characters = escaped.chars();
        let mut bytes = [0; 4];
        match characters.next() {
            Some('b') => put("\u{8}"),
            Some('f') => put("\u{c}"),
            Some('n') => put("\n"),
            Some('r') => put("\r"),
            Some('t') => put("\t"),
            Some('u') => {
                let (character, after) = unescape_unicode(characters.as_str());
                put(character.encode_utf8(&mut bytes));
                rest = after;
                continue;
            }
            Some(itself) => put(itself.encode_utf8(&mut bytes)),
            None => {}
        }
        rest = characters.as_str();
    }
    put(rest);
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
