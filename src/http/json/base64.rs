//! Base64 as bodies carry it: the standard alphabet with padding.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::error::JsonError;
use super::wire::Wire;
use crate::rt;

/// What the reference decodes: padding must be there, bits behind the last byte are not looked at.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Appends what a body holds; line breaks inside it are skipped, as tools that wrap lines need it.
///
/// # Errors
/// The first byte that does not fit.
pub(super) fn decode(text: &str, out: &mut Wire) -> Result<(), JsonError> {
    if decode_joined(text, out) {
        return Ok(());
    }
    let is_break = |c: char| matches!(c, '\r' | '\n');
    if text.contains(is_break) {
        let joined: String = text.chars().filter(|c| !is_break(*c)).collect();
        if decode_joined(&joined, out) {
            return Ok(());
        }
    }
    let offset = flaw(text.as_bytes());
    Err(JsonError::Base64 { offset })
}

/// Text that is decoded at a time, and the bytes that it holds: whole groups of four, of which each
/// is three bytes.
const PIECE: usize = 32 << 10;
const PIECE_BYTES: usize = PIECE / 4 * 3;

/// Decodes a text without line breaks; false, and nothing is appended, when it is no base64.
fn decode_joined(text: &str, out: &mut Wire) -> bool {
    let begin = out.len();
    let mut pieces = text.as_bytes().chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let piece_begin = out.len();
        let most = base64::decoded_len_estimate(piece.len());
        let decoded = out.fill(most, |room| DECODER.decode_slice(piece, room));
        // Only the last one may end with padding.
        let is_sound = |bytes: &usize| *bytes == PIECE_BYTES || pieces.peek().is_none();
        let Some(bytes) = decoded.ok().filter(is_sound) else {
            out.truncate(begin);
            return false;
        };
        out.truncate(piece_begin + bytes);
        rt::went_through(piece.len());
    }
    true
}

/// Appends bytes as base64.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    // Pieces without padding, up to the last one.
    for piece in bytes.chunks(PIECE_BYTES) {
        STANDARD.encode_string(piece, out);
        rt::went_through(piece.len());
    }
}

/// Where a text that is no base64 breaks, counted as the reference counts.
fn flaw(text: &[u8]) -> usize {
    // The place in the group of four that is being read.
    let mut place = 0;
    let mut bytes = text
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => place = (place + 1) % 4,
            b'=' if place == 2 => {
                return match bytes.next() {
                    None => text.len(),
                    Some((after, b'=')) => bytes.next().map_or(after, |(trailing, _)| trailing),
                    Some((after, _)) => after.saturating_sub(1),
                };
            }
            b'=' if place == 3 => return bytes.next().map_or(at, |(trailing, _)| trailing),
            _ => return at,
        }
    }
    // Cut short: the reference names the begin of the last group.
    text.len().saturating_sub(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Vec<u8>, JsonError> {
        let mut out = Wire::of(text.len());
        super::decode(text, &mut out)?;
        Ok(out.into_bytes().into())
    }

    fn flaw_of(text: &str) -> usize {
        match decode(text) {
            Err(JsonError::Base64 { offset }) => offset,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn vectors_of_rfc_4648_go_both_ways() {
        let vectors = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in vectors {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
            let mut out = String::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn wrapped_lines_and_left_over_bits_are_taken() {
        assert_eq!(decode("Zm9v\r\nYmFy\n").unwrap(), b"foobar");
        assert_eq!(decode("Zh==").unwrap(), b"f");
        assert_eq!(decode("Zm9=").unwrap(), b"fo");
    }

    #[test]
    fn long_bodies_go_both_ways_and_are_padded_at_their_end_only() {
        for length in [24_575, 24_576, 24_577, 100_000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut text = String::new();
            encode(&bytes, &mut text);
            assert!(text == STANDARD.encode(&bytes), "{length}");
            assert!(decode(&text).unwrap() == bytes, "{length}");
        }
        let padded = "Zm9v".repeat(PIECE / 4 - 1) + "Zg==";
        assert_eq!(decode(&padded).unwrap().len(), PIECE_BYTES - 2);
        assert_eq!(flaw_of(&(padded.clone() + "Zm9v")), PIECE);
        assert_eq!(flaw_of(&("Zm9v".repeat(PIECE) + "Zm9")), 4 * PIECE);
    }

    #[test]
    fn the_first_byte_that_does_not_fit_is_named() {
        let flaws = [
            ("not base64!", 3),
            ("abc", 0),
            ("Zm9vYg", 4),
            ("Zm9vYg=", 7),
            ("Zm9vYg=A", 6),
            ("Zm9v=", 4),
            ("=", 0),
            ("Z===", 1),
            ("Zg==Zg==", 4),
            ("Zm8=Z", 4),
            ("Zm9v-_", 4),
            ("größe", 2),
        ];
        for (text, offset) in flaws {
            assert_eq!(flaw_of(text), offset, "{text:?}");
        }
    }
}
