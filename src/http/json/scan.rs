//! The grammar of JSON: whether a text holds a value, and where the value ends.
//!
//! Nothing recurses, so no depth of nesting can exhaust the stack.

use super::error::JsonError;
use crate::rt;

/// How deep objects and lists may be nested; the reference's bound.
pub(super) const DEPTH_MAX: usize = 10_000;

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// The first value of a list, or its end.
    ValueOrEnd,
    Key,
    /// The first key of an object, or its end.
    KeyOrEnd,
    Colon,
    /// Behind a value of a list or an object.
    CommaOrEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nest {
    Object,
    List,
}

/// Checks the value that begins at `start`, perhaps behind white space; returns where it ends.
///
/// # Errors
/// The first byte that does not fit, or that the text ends too early.
pub(super) fn value_end(text: &[u8], start: usize) -> Result<usize, JsonError> {
    let mut scan = Scan::new(text, start);
    let mut nests = Vec::new();
    let mut expect = Expect::Value;
    loop {
        scan.skip_blank();
        scan.pause(PAUSE_BYTES);
        let Some(byte) = scan.peek() else {
            let blank = nests.is_empty();
            return Err(if blank {
                JsonError::Blank
            } else {
                JsonError::Incomplete
            });
        };
        expect = match (expect, byte) {
            (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => {
                scan.at += 1;
                nests.pop();
                Expect::CommaOrEnd
            }
            (Expect::Value | Expect::ValueOrEnd, byte) => scan.value(byte, &mut nests)?,
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                scan.string()?;
                Expect::Colon
            }
            (Expect::Key | Expect::KeyOrEnd, _) => {
                return Err(scan.unfit("looking for beginning of object key string"));
            }
            (Expect::Colon, b':') => {
                scan.at += 1;
                Expect::Value
            }
            (Expect::Colon, _) => return Err(scan.unfit("after object key")),
            (Expect::CommaOrEnd, byte) => scan.comma_or_end(byte, &mut nests)?,
        };
        if nests.is_empty() {
            scan.pause(0);
            return Ok(scan.at);
        }
    }
}

/// Checks that nothing but white space follows.
///
/// # Errors
/// The first byte that is something else.
pub(super) fn check_blank(text: &[u8], start: usize) -> Result<(), JsonError> {
    let mut scan = Scan::new(text, start);
    scan.skip_blank();
    match scan.peek() {
        None => Ok(()),
        Some(_) => Err(scan.unfit("after top-level value")),
    }
}

/// Whether JSON knows the byte as white space.
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// What is gone through before that is told.
const PAUSE_BYTES: usize = 8 << 10;

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// Up to where it was told how much was gone through.
    told: usize,
}

impl<'a> Scan<'a> {
    const fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at, told: at }
    }

    /// Lets others have the processor, as whoever works through long texts must.
    fn pause(&mut self, bytes: usize) {
        if self.at - self.told >= bytes {
            rt::went_through(self.at - self.told);
            self.told = self.at;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// The error of the byte that comes next.
    fn unfit(&self, context: &str) -> JsonError {
        let Some(byte) = self.peek() else {
            return JsonError::Incomplete;
        };
        let shown = match byte {
            b'\'' => r"'\''".to_owned(),
            b'"' => r#"'"'"#.to_owned(),
            // Go shows a byte as the character of that number.
            byte if byte < 0x20 || (0x7f..0xa0).contains(&byte) => control(byte),
            byte => format!("'{}'", char::from(byte)),
        };
        JsonError::Syntax {
            offset: self.at + 1,
            error: format!("invalid character {shown} {context}"),
        }
    }

    /// Goes over a value, or into it if it is an object or a list.
    fn value(&mut self, first: u8, nests: &mut Vec<Nest>) -> Result<Expect, JsonError> {
        match first {
            b'{' | b'[' => {
                self.at += 1;
                if nests.len() >= DEPTH_MAX {
                    let error = "exceeded max depth".to_owned();
                    let offset = self.at;
                    return Err(JsonError::Syntax { offset, error });
                }
                let is_object = first == b'{';
                nests.push(if is_object { Nest::Object } else { Nest::List });
                return Ok(if is_object {
                    Expect::KeyOrEnd
                } else {
                    Expect::ValueOrEnd
                });
            }
            b'"' => self.string()?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err(self.unfit("looking for beginning of value")),
        }
        Ok(Expect::CommaOrEnd)
    }

    fn comma_or_end(&mut self, byte: u8, nests: &mut Vec<Nest>) -> Result<Expect, JsonError> {
        let in_object = nests.last() == Some(&Nest::Object);
        let expect = match (byte, in_object) {
            (b',', true) => Expect::Key,
            (b',', false) => Expect::Value,
            (b'}', true) | (b']', false) => {
                nests.pop();
                Expect::CommaOrEnd
            }
            (_, true) => return Err(self.unfit("after object key:value pair")),
            (_, false) => return Err(self.unfit("after array element")),
        };
        self.at += 1;
        Ok(expect)
    }

    fn literal(&mut self, whole: &str) -> Result<(), JsonError> {
        for expected in whole.bytes() {
            if self.peek() != Some(expected) {
                let expected = char::from(expected);
                return Err(self.unfit(&format!("in literal {whole} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(JsonError::Incomplete),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.unfit("in string literal")),
                Some(_) => self.plain(),
            }
        }
    }

    /// Goes to the next byte of a string that is not itself, or ends it; not too far at a time.
    fn plain(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let plain = rest.iter().take(PAUSE_BYTES).position(special);
        self.at += plain.unwrap_or(rest.len().min(PAUSE_BYTES));
        self.pause(PAUSE_BYTES);
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Err(JsonError::Incomplete),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unfit(r"in \u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
                Ok(())
            }
            Some(_) => Err(self.unfit("in string escape code")),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// One digit and all that follow it.
    fn digits(&mut self, context: &str) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unfit(context));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }
}

/// A control character between quotation marks, as Go writes it.
fn control(byte: u8) -> String {
    match byte {
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x80.. => format!(r"'\u{byte:04x}'"),
        byte => format!(r"'\x{byte:02x}'"),
    }
}
