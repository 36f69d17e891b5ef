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
//!
//! # Reading
//! A document becomes the encoded message at once ([`encoded`]), field after field: there is no
//! tree, and no message of the contract's types, so that what reading takes is bounded by the
//! text. What is encoded is hardly ever longer than its text; where it would be more than twice as
//! long (lists of negative numbers), the document is refused.
//!
//! # Bounds
//! A document is checked as a whole before anything of it is kept: without recursion, down to
//! [`scan::DEPTH_MAX`] levels. A list has at most [`wire_error::BATCH_MESSAGES_MAX`] messages and
//! a message at most [`TAGS_MAX`] tags, because whoever takes them goes through all of them. The
//! size of the text itself is the caller's to bound.
//!
//! [`wire_error::BATCH_MESSAGES_MAX`]: crate::wire_error::BATCH_MESSAGES_MAX

mod base64;
mod error;
mod messages;
mod read;
mod scan;
mod value;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use error::JsonError;
pub(crate) use write::write_text;

use bytes::Bytes;

use read::Reader;
use value::{Read, Value};
use wire::Wire;
use write::Writer;

/// Tags that a message may have: going through them takes about a millisecond.
pub(crate) const TAGS_MAX: usize = 1 << 16;

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
    number: u32,
    name: &'static str,
    /// What the reference's decoder calls the type, where it is an enumeration.
    enumeration: Option<&'static str>,
    get: fn(&M) -> &dyn Value,
    read: Read,
}

impl<M> std::fmt::Debug for Field<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reads a document that holds one message and nothing else, and encodes it. An empty document and
/// `null` are the empty message.
///
/// # Errors
/// The first flaw of the text; only when there is none, the first value of a wrong type.
pub(crate) fn encoded<M: JsonMessage>(text: &[u8]) -> Result<Bytes, JsonError> {
    read::<M>(text, scan::check_blank)
}

/// As [`encoded`], of the message at the head of a document; what follows it is ignored, as the
/// reference does with the body of a request.
///
/// # Errors
/// As there.
pub(crate) fn encoded_head<M: JsonMessage>(text: &[u8]) -> Result<Bytes, JsonError> {
    read::<M>(text, |_, _| Ok(()))
}

/// As [`encoded`], for those who want to look into the message.
///
/// # Errors
/// As there.
pub(crate) fn decode<M: JsonMessage>(text: &[u8]) -> Result<M, JsonError> {
    let message = M::decode(encoded::<M>(text)?);
    debug_assert!(message.is_ok(), "what is encoded here can be decoded");
    Ok(message.unwrap_or_default())
}

/// Reads a message; `check_rest` judges what follows it.
fn read<M: JsonMessage>(
    text: &[u8],
    check_rest: impl FnOnce(&[u8], usize) -> Result<(), JsonError>,
) -> Result<Bytes, JsonError> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    let text = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
    let end = scan::value_end(text.as_bytes(), 0)?;
    check_rest(text.as_bytes(), end)?;
    let mut wire = Wire::of(end);
    Reader::new(text).message::<M>(&mut wire, false)?;
    Ok(wire.into_bytes())
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
