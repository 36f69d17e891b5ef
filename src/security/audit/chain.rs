//! How a line is tied to the one before it.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

/// Longest line of an audit log, in bytes, without its end.
pub const LINE_BYTES_MAX: usize = 32 << 10;

/// The SHA-256 of a line, or zeros before the first one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a line without its end.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        let mut hash = Self::default();
        hash.0.copy_from_slice(digest(&SHA256, line).as_ref());
        hash
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = Self::default();
        if text.len() != 2 * hash.0.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, pair) in hash.0.iter_mut().zip(pairs) {
            let digits = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The end of a chain: what the next line is tied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// The number of the last line; 0 before the first.
    pub(super) last: u64,
    /// The hash of the last line.
    pub(super) hash: Hash,
}

impl Chain {
    /// The chain after a line of its next number.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.last += 1;
        self.hash = Hash::of(line);
    }
}

/// What of a line ties it to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) previous: Hash,
}

impl Link {
    /// Reads a line. `None` when it is no line of an audit log.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            n: u64,
            previous: &'a str,
        }
        let fields: Fields<'_> = serde_json::from_slice(line).ok()?;
        Some(Self {
            number: fields.n,
            previous: Hash::parse(fields.previous)?,
        })
    }

    /// Whether the line is the next one of a chain.
    pub(super) fn follows(&self, chain: &Chain) -> bool {
        chain.last.checked_add(1) == Some(self.number) && self.previous == chain.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hash::of(b"").to_string(), empty);
        assert_eq!(Hash::parse(empty), Some(Hash::of(b"")));
        assert_eq!(Hash::parse(&empty.to_uppercase()), Some(Hash::of(b"")));
        for wrong in [
            "",
            "e3",
            &empty[1..],
            &empty.replace('e', "g"),
            &"é".repeat(32),
        ] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_follows_the_one_whose_hash_it_has() {
        let mut chain = Chain::default();
        let line = |n: u64, previous: Hash| format!(r#"{{"n":{n},"previous":"{previous}"}}"#);
        let first = line(1, Hash::default());
        assert!(Link::read(first.as_bytes()).unwrap().follows(&chain));
        chain.add(first.as_bytes());
        let follows = |line: String| Link::read(line.as_bytes()).unwrap().follows(&chain);
        assert!(follows(line(2, Hash::of(first.as_bytes()))));
        assert!(!follows(line(3, Hash::of(first.as_bytes()))));
        assert!(!follows(line(2, Hash::default())));
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"n":1}"#,
            r#"{"n":-1,"previous":""}"#,
            "\0\0",
        ] {
            assert_eq!(Link::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
