//! Writing: in one line for frames, or over several lines as the envelope of REST has it.

use std::fmt::Write as _;

use super::{JsonMessage, base64};

/// A text under construction.
pub(crate) struct Writer<'a> {
    out: &'a mut String,
    /// The indent of the line that is being written; `None`: all in one line.
    depth: Option<usize>,
}

impl<'a> Writer<'a> {
    pub(super) const fn compact(out: &'a mut String) -> Self {
        Self { out, depth: None }
    }

    pub(super) const fn indented(out: &'a mut String, depth: usize) -> Self {
        Self {
            out,
            depth: Some(depth),
        }
    }

    /// Writes the fields of a message that are not zero.
    pub(super) fn message<M: JsonMessage>(&mut self, message: &M) {
        self.object(|members| {
            for field in M::FIELDS {
                let value = (field.get)(message);
                if !value.is_zero() {
                    members.member(field.name, |writer| value.write(writer));
                }
            }
        });
    }

    pub(super) fn text(&mut self, text: &str) {
        write_text(text, self.out);
    }

    pub(super) fn plain(&mut self, text: &'static str) {
        self.out.push_str(text);
    }

    pub(super) fn number(&mut self, number: impl std::fmt::Display) {
        write!(self.out, "{number}").expect("a String takes all that is written");
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.out.push('"');
        base64::encode(bytes, self.out);
        self.out.push('"');
    }

    /// Writes a list with one item for each of `items`.
    pub(super) fn list<I: IntoIterator>(
        &mut self,
        items: I,
        mut item: impl FnMut(&mut Self, I::Item),
    ) {
        self.out.push('[');
        self.indent(1);
        let mut count = 0_usize;
        for one in items {
            self.begin_item(count);
            item(self, one);
            count += 1;
        }
        self.end(count, ']');
    }

    /// Writes an object with what `write` adds to it.
    pub(super) fn object(&mut self, write: impl FnOnce(&mut Members<'_, 'a>)) {
        self.out.push('{');
        self.indent(1);
        let mut members = Members {
            writer: self,
            count: 0,
        };
        write(&mut members);
        let count = members.count;
        self.end(count, '}');
    }

    const fn indent(&mut self, by: isize) {
        if let Some(depth) = &mut self.depth {
            *depth = depth.saturating_add_signed(by);
        }
    }

    fn begin_item(&mut self, count: usize) {
        if count > 0 {
            self.out.push(',');
        }
        self.new_line();
    }

    /// What is empty stays in its line.
    fn end(&mut self, count: usize, bracket: char) {
        self.indent(-1);
        if count > 0 {
            self.new_line();
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self) {
        if let Some(depth) = self.depth {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n('\t', depth));
        }
    }
}

/// The members of an object under construction.
pub(super) struct Members<'w, 'a> {
    writer: &'w mut Writer<'a>,
    count: usize,
}

impl<'a> Members<'_, 'a> {
    /// Writes one member; `value` writes what it holds.
    pub(super) fn member(&mut self, name: &str, value: impl FnOnce(&mut Writer<'a>)) {
        self.writer.begin_item(self.count);
        self.count += 1;
        self.writer.text(name);
        self.writer.out.push(':');
        if self.writer.depth.is_some() {
            self.writer.out.push(' ');
        }
        value(self.writer);
    }
}

/// Appends a text with its quotation marks.
///
/// `<`, `>`, `&` and the two separators of lines are written as escapes, as the reference does it,
/// so that a text can stand in a page.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(must_be_escaped) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = special.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(character) => write!(out, "\\u{:04x}", u32::from(character))
                .expect("a String takes all that is written"),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

const fn must_be_escaped(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}' | '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}'
    )
}
