//! The contract's messages as JSON, as REST and the sockets carry them.
//!
//! The rules are those that clients know from the encoder and decoder of the reference:
//!
//! - Fields have the names of the contract as they stand (`EventID`); on input they match in any
//!   case, unknown ones are skipped, of repeated ones the last counts.
//! - Answers leave out what is zero: the empty text, 0, false, the empty list and the empty map.
//! - Bytes are standard base64 with padding; on input also a list of numbers from 0 to 255.
//! - Numbers are plain JSON numbers, also above 2^53. Enumerations are numbers.
//! - `null` leaves a field as it is, or empties it.
//!
//! One table lists the fields of each message ([`messages`]); reading and writing go by it.
//! The middle form is the contract's own type, so a document becomes a call by
//! `decode::<Event>(text)?.encode_to_vec()`.
//!
//! # Bounds
//! A document is checked as a whole before anything of it is kept: without recursion, down to
//! [`scan::DEPTH_MAX`] levels. Messages and tags that are kept may take [`KEPT_BYTES_MIN`] and
//! [`KEPT_PER_BYTE`] times the size of the text, so that a body of tiny ones cannot become a
//! hundred times its size in memory. The size of the text itself is the caller's to bound.

mod base64;
mod error;
mod messages;
mod read;
mod scan;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use error::JsonError;
pub(crate) use write::write_text;

use read::Reader;
use value::Value;
use write::Writer;

/// What messages and tags of any document may take in memory.
pub(crate) const KEPT_BYTES_MIN: usize = 16 << 20;

/// What each byte of its text allows them beyond that: a short message of a batch needs six.
pub(crate) const KEPT_PER_BYTE: usize = 8;

/// A message of the contract that has a JSON form.
pub(crate) trait JsonMessage: prost::Message + std::fmt::Debug + Default + 'static {
    /// The type's name as the reference's decoder prints it: `kubemq.Event`.
    const NAME: &'static str;
    /// What the reference's decoder calls a list of them: `[]*kubemq.Event`.
    const LIST_NAME: &'static str;
    /// The fields, in the contract's order, which is also the order of the output.
    const FIELDS: &'static [Field<Self>];
}

/// One field of a message.
pub(crate) struct Field<M: 'static> {
    name: &'static str,
    /// What the reference's decoder calls the type, where it is an enumeration.
    enumeration: Option<&'static str>,
    get: fn(&M) -> &dyn Value,
    get_mut: fn(&mut M) -> &mut dyn Value,
}

impl<M> std::fmt::Debug for Field<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reads a document that holds one message and nothing else. An empty one and `null` are the
/// empty message.
///
/// # Errors
/// The first flaw of the text; only when there is none, the first value of a wrong type.
pub(crate) fn decode<M: JsonMessage>(text: &[u8]) -> Result<M, JsonError> {
    read(text, scan::check_blank)
}

/// Reads the message at the head of a document, and ignores what follows it, as the reference does
/// with the body of a request.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_head<M: JsonMessage>(text: &[u8]) -> Result<M, JsonError> {
    read(text, |_, _| Ok(()))
}

/// Reads a message; `check_rest` judges what follows it.
fn read<M: JsonMessage>(
    text: &[u8],
    check_rest: impl FnOnce(&[u8], usize) -> Result<(), JsonError>,
) -> Result<M, JsonError> {
    let mut message = M::default();
    if text.is_empty() {
        return Ok(message);
    }
    let text = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
    let end = scan::value_end(text.as_bytes(), 0)?;
    check_rest(text.as_bytes(), end)?;
    Reader::new(text).message(&mut message)?;
    Ok(message)
}

/// Appends a message in one line, as the frames of sockets carry it.
pub(crate) fn encode(message: &impl JsonMessage, out: &mut String) {
    Writer::compact(out).message(message);
}

/// Appends a message over several lines, indented by tabs; `depth` is the indent of the line that
/// it begins on.
pub(crate) fn encode_indented(message: &impl JsonMessage, depth: usize, out: &mut String) {
    Writer::indented(out, depth).message(message);
}
