//! Messages that come in parts, put together.

use std::rc::Rc;

use super::pieces::Part;
use crate::http::gather::{Full, Gathered, Gathering};
use crate::wire::framing::GatherLimit;

/// Why a message does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It began within another one.
    Misplaced,
    /// It is a text and not UTF-8.
    NotUtf8,
    /// It is larger than it may be.
    TooLarge,
    /// Others hold what large messages may hold.
    NoRoom,
}

/// The message that is under way, if there is one.
#[derive(Debug)]
pub(super) struct Parts {
    gathering: Option<Gathering>,
    /// Of a text: bytes that are known to be UTF-8.
    checked: usize,
    message_bytes_max: usize,
    /// What the connection may hold.
    limit: Rc<GatherLimit>,
}

impl Parts {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            gathering: None,
            checked: 0,
            message_bytes_max,
            limit: GatherLimit::new(message_bytes_max),
        }
    }

    /// Adds a part; gives the message when that was the last one, and whether it is a text.
    ///
    /// # Errors
    /// [`Flaw`]: the message is lost.
    pub(super) fn add(
        &mut self,
        part: Part,
        payload: &[u8],
    ) -> Result<Option<(bool, Gathered)>, Flaw> {
        let Part::Piece { is_text, is_last } = part else {
            return Err(Flaw::Misplaced);
        };
        let (limit, max) = (&self.limit, self.message_bytes_max);
        let begun = self.gathering.take();
        let mut gathering = begun.unwrap_or_else(|| Gathering::new(limit.clone(), max));
        if gathering.len() + payload.len() > max {
            return Err(Flaw::TooLarge);
        }
        gathering.add_copied(payload).map_err(|full| match full {
            Full::Connection => Flaw::TooLarge,
            Full::Core => Flaw::NoRoom,
        })?;
        if is_text {
            self.checked = checked(gathering.gathered(), self.checked, is_last)?;
        }
        if !is_last {
            self.gathering = Some(gathering);
            return Ok(None);
        }
        self.checked = 0;
        Ok(Some((is_text, gathering.finish())))
    }
}

/// How much of a text is UTF-8, behind what is known to be. Its last character may be cut, unless
/// nothing follows.
fn checked(text: &[u8], known: usize, is_last: bool) -> Result<usize, Flaw> {
    let new = text.get(known..).unwrap_or_default();
    match std::str::from_utf8(new) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() && !is_last => Ok(known + error.valid_up_to()),
        Err(_) => Err(Flaw::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn piece(is_text: bool, is_last: bool) -> Part {
        Part::Piece { is_text, is_last }
    }

    #[test]
    fn a_text_is_checked_across_its_parts() {
        let text = "a\u{e4}\u{20ac}\u{1f600}z".as_bytes();
        for step in 1..=text.len() {
            let mut parts = Parts::new(100);
            let count = text.chunks(step).count();
            for (number, chunk) in text.chunks(step).enumerate() {
                let is_last = number + 1 == count;
                let whole = parts.add(piece(true, is_last), chunk).unwrap();
                assert_eq!(whole.is_some(), is_last);
                if let Some((is_text, whole)) = whole {
                    assert!(is_text && *whole == *text, "{step}");
                }
            }
        }
        let mut parts = Parts::new(100);
        assert_eq!(parts.add(piece(true, false), b"a\xe2\x82"), Ok(None));
        assert_eq!(parts.add(piece(true, false), b"x"), Err(Flaw::NotUtf8));
        let mut cut = Parts::new(100);
        assert_eq!(cut.add(piece(true, true), b"a\xe2\x82"), Err(Flaw::NotUtf8));
        let mut bytes = Parts::new(100);
        assert_eq!(bytes.add(piece(false, false), b"\xff"), Ok(None));
    }

    #[test]
    fn all_parts_together_are_bounded() {
        let mut parts = Parts::new(100);
        for _ in 0..3 {
            assert_eq!(parts.add(piece(false, false), &[0; 60]), Ok(None));
            let whole = parts.add(piece(false, true), &[0; 40]).unwrap();
            assert_eq!(whole.map(|(_, whole)| whole.len()), Some(100));
        }
        assert_eq!(parts.add(piece(false, false), &[0; 60]), Ok(None));
        let more = parts.add(piece(false, true), &[0; 41]);
        assert_eq!(more, Err(Flaw::TooLarge));
        assert_eq!(parts.add(Part::Misplaced, b""), Err(Flaw::Misplaced));
        assert_eq!(parts.limit.held_bytes(), 0);
    }
}
