//! The types that fields have, each with its way in and out.

use std::collections::HashMap;

use bytes::Bytes;

use super::error::JsonError;
use super::read::{Reader, Slot, unescape};
use super::wire::Wire;
use super::write::Writer;
use super::{JsonMessage, TAGS_MAX, base64};
use crate::wire_error::BATCH_MESSAGES_MAX;

/// Reads what comes next, and writes it as a field. Of a zero nothing is written, unless it may
/// have to take the place of another value.
pub(super) type Read = fn(&mut Reader<'_>, &mut Wire, &mut Slot) -> Result<(), JsonError>;

/// A field's value.
pub(crate) trait Value {
    /// See [`Read`].
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError>
    where
        Self: Sized;
    /// Whether an answer leaves it out.
    fn is_zero(&self) -> bool;
    fn write(&self, writer: &mut Writer<'_>);
}

impl Value for String {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'"' {
            return Err(reader.wrong("string"));
        }
        let text = reader.raw_string()?;
        if !text.contains('\\') {
            wire.text(slot, text);
            return Ok(());
        }
        let open = wire.open(slot.number);
        unescape(text, |piece| wire.extend(piece.as_bytes()));
        wire.close_value(&open, slot.was_set);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.text(self);
    }
}

impl Value for bool {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        match reader.peek() {
            b'n' => {}
            b't' => wire.set(slot, 1),
            b'f' => wire.set(slot, 0),
            _ => return Err(reader.wrong("bool")),
        }
        reader.skip().map(|_| ())
    }

    fn is_zero(&self) -> bool {
        !*self
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.plain(if *self { "true" } else { "false" });
    }
}

/// Reads a whole number; one with a fraction or an exponent is none, as for the reference. `null`
/// is `None`.
fn read_number<N: std::str::FromStr>(
    reader: &mut Reader<'_>,
    expected: &'static str,
) -> Result<Option<N>, JsonError> {
    if reader.take_null()? {
        return Ok(None);
    }
    if !matches!(reader.peek(), b'-' | b'0'..=b'9') {
        return Err(reader.wrong(expected));
    }
    let text = reader.skip()?;
    let number = text.parse();
    let number = number.map_err(|_| reader.wrong_number(expected, text))?;
    Ok(Some(number))
}

macro_rules! numbers {
    ($($type:ident is $go_type:literal, by $as_wire:expr;)*) => {$(
        impl Value for $type {
            fn read(
                reader: &mut Reader<'_>,
                wire: &mut Wire,
                slot: &mut Slot,
            ) -> Result<(), JsonError> {
                if let Some(number) = read_number::<$type>(reader, $go_type)? {
                    wire.set(slot, $as_wire(number));
                }
                Ok(())
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.number(*self);
            }
        }
    )*};
}

numbers! {
    i32 is "int32", by |number| i64::from(number).cast_unsigned();
    i64 is "int64", by i64::cast_unsigned;
    u64 is "uint64", by std::convert::identity;
}

impl Value for Bytes {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        let open = wire.open(slot.number);
        match reader.peek() {
            b'n' => reader.skip().map(|_| ())?,
            b'"' => base64::decode(&reader.string()?, wire)?,
            b'[' => reader.list(|reader| {
                wire.push(read_number(reader, "uint8")?.unwrap_or(0));
                Ok(())
            })?,
            _ => return Err(reader.wrong("[]uint8")),
        }
        wire.close_value(&open, slot.was_set);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.base64(self);
    }
}

/// Numbers of the fields that an entry of a map has.
const KEY: u32 = 1;
const VALUE: u32 = 2;

impl Value for HashMap<String, String> {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        if reader.take_null()? {
            slot.starts_anew = true;
            return Ok(());
        }
        if reader.peek() != b'{' {
            return Err(reader.wrong("map[string]string"));
        }
        reader.object(|reader, key| {
            reader.tags += 1;
            if reader.tags > TAGS_MAX {
                return Err(JsonError::TooManyEntries);
            }
            let entry = wire.open(slot.number);
            wire.text(&Slot::new(KEY), &key);
            String::read(reader, wire, &mut Slot::new(VALUE))?;
            wire.close(&entry);
            Ok(())
        })
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        // In order of the keys: the same message is always the same text.
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable();
        writer.object(|members| {
            for (key, value) in entries {
                members.member(key, |writer| writer.text(value));
            }
        });
    }
}

impl Value for Vec<i64> {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        slot.starts_anew = true;
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'[' {
            return Err(reader.wrong("[]int64"));
        }
        let open = wire.open(slot.number);
        reader.list(|reader| {
            let number = read_number(reader, "int64")?.unwrap_or(0_i64);
            wire.varint(number.cast_unsigned());
            wire.check_len()
        })?;
        wire.close_value(&open, false);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.list(self, |writer, number| writer.number(number));
    }
}

impl<M: JsonMessage> Value for Option<M> {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        if reader.take_null()? {
            slot.starts_anew = true;
            return Ok(());
        }
        let open = wire.open(slot.number);
        reader.message::<M>(wire, slot.was_set)?;
        wire.close(&open);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        if let Some(message) = self {
            writer.message(message);
        }
    }
}

impl<M: JsonMessage> Value for Vec<M> {
    fn read(reader: &mut Reader<'_>, wire: &mut Wire, slot: &mut Slot) -> Result<(), JsonError> {
        slot.starts_anew = true;
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'[' {
            return Err(reader.wrong(M::LIST_NAME));
        }
        let mut count = 0;
        let tags = std::mem::take(&mut reader.tags);
        reader.list(|reader| {
            count += 1;
            if count > BATCH_MESSAGES_MAX {
                return Err(JsonError::TooManyMessages);
            }
            reader.tags = 0;
            let open = wire.open(slot.number);
            reader.message::<M>(wire, false)?;
            wire.close(&open);
            Ok(())
        })?;
        reader.tags = tags;
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.list(self, |writer, message| writer.message(message));
    }
}
