//! The types that fields have, each with its way in and out.

use std::collections::HashMap;

use bytes::Bytes;

use super::error::JsonError;
use super::read::Reader;
use super::write::Writer;
use super::{JsonMessage, base64};

/// A field's value.
pub(crate) trait Value {
    /// Reads what comes next into it.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError>;
    /// Whether an answer leaves it out.
    fn is_zero(&self) -> bool;
    fn write(&self, writer: &mut Writer<'_>);
}

impl Value for String {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'"' {
            return Err(reader.wrong("string"));
        }
        *self = reader.string()?.into_owned();
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
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        match reader.peek() {
            b'n' => {}
            b't' => *self = true,
            b'f' => *self = false,
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

/// Reads a whole number; one with a fraction or an exponent is none, as for the reference.
fn read_number<N: std::str::FromStr>(
    number: &mut N,
    reader: &mut Reader<'_>,
    expected: &'static str,
) -> Result<(), JsonError> {
    if reader.take_null()? {
        return Ok(());
    }
    if !matches!(reader.peek(), b'-' | b'0'..=b'9') {
        return Err(reader.wrong(expected));
    }
    let text = reader.skip()?;
    *number = text
        .parse()
        .map_err(|_| reader.wrong_number(expected, text))?;
    Ok(())
}

macro_rules! numbers {
    ($($type:ident is $go_type:literal),*) => {$(
        impl Value for $type {
            fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
                read_number(self, reader, $go_type)
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

numbers!(i32 is "int32", i64 is "int64", u64 is "uint64");

impl Value for Bytes {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            self.clear();
            return Ok(());
        }
        match reader.peek() {
            b'"' => *self = base64::decode(&reader.string()?)?.into(),
            b'[' => {
                let mut bytes = Vec::new();
                reader.list(|reader| {
                    let mut byte = 0_u8;
                    read_number(&mut byte, reader, "uint8")?;
                    bytes.push(byte);
                    Ok(())
                })?;
                *self = bytes.into();
            }
            _ => return Err(reader.wrong("[]uint8")),
        }
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.base64(self);
    }
}

/// What a tag takes: its two texts, their places in the table, and what the allocator adds.
const TAG_BYTES: usize = 128;

impl Value for HashMap<String, String> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            self.clear();
            return Ok(());
        }
        if reader.peek() != b'{' {
            return Err(reader.wrong("map[string]string"));
        }
        reader.object(|reader, key| {
            reader.count_kept(TAG_BYTES)?;
            let mut value = String::new();
            value.read(reader)?;
            self.insert(key.into_owned(), value);
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
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        self.clear();
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'[' {
            return Err(reader.wrong("[]int64"));
        }
        reader.list(|reader| {
            let mut number = 0_i64;
            number.read(reader)?;
            self.push(number);
            Ok(())
        })
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.list(self, |writer, number| writer.number(number));
    }
}

impl<M: JsonMessage> Value for Option<M> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            *self = None;
            return Ok(());
        }
        reader.message(self.get_or_insert_default())
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
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        self.clear();
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek() != b'[' {
            return Err(reader.wrong(M::LIST_NAME));
        }
        reader.list(|reader| {
            reader.count_kept(size_of::<M>())?;
            let mut message = M::default();
            reader.message(&mut message)?;
            self.push(message);
            Ok(())
        })
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.list(self, |writer, message| writer.message(message));
    }
}
