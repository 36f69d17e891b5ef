//! Tags: the `map<string, string>` of events, requests and responses, left in its encoded form.

use bytes::BufMut;

use super::DecodeError;
use super::scan::{Field, FieldNumber, Fields};

/// The tags of a message, where they stand in it.
///
/// Entries are checked when the message is parsed and never decoded again unless somebody asks:
/// they are copied as they are. Of several entries with one key the last one counts.
#[derive(Clone, Copy, Debug)]
pub struct Tags<'a> {
    message: &'a [u8],
    number: FieldNumber,
    /// From the first entry to the end of the last one.
    start: usize,
    end: usize,
    /// What the entries take, keys of the fields included.
    bytes: usize,
}

impl<'a> Tags<'a> {
    /// No tags yet; entries are fields `number` of `message`.
    pub(super) const fn none(message: &'a [u8], number: FieldNumber) -> Self {
        Self {
            message,
            number,
            start: 0,
            end: 0,
            bytes: 0,
        }
    }

    /// Takes the next entry.
    pub(super) fn add(&mut self, field: &Field<'a>) -> Result<(), DecodeError> {
        entry(field.bytes()?)?;
        if self.bytes == 0 {
            self.start = field.start;
        }
        self.end = field.end;
        self.bytes += field.end - field.start;
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What the encoded entries take, in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.bytes
    }

    /// Appends the encoded entries as they are. They keep the field number.
    pub(super) fn write(&self, out: &mut impl BufMut) {
        let Some(range) = self.message.get(self.start..self.end) else {
            return;
        };
        if range.len() == self.bytes {
            return out.put_slice(range);
        }
        // Other fields stand between the entries: no encoder does that, but it is legal.
        for field in self.fields(range) {
            out.put_slice(range.get(field.start..field.end).unwrap_or_default());
        }
    }

    /// The keys and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let range = self.message.get(self.start..self.end).unwrap_or_default();
        self.fields(range)
            .filter_map(|field| entry(field.bytes().ok()?).ok())
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter()
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .last()
    }

    fn fields(&self, range: &'a [u8]) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let number = self.number;
        Fields::new(range)
            .map_while(Result::ok)
            .filter(move |field| field.number == number)
    }
}

/// Decodes an entry: 1 is the key, 2 the value, both text; what is missing is empty.
fn entry(message: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut key, mut value) = ("", "");
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}
