//! Encoded messages under construction.
//!
//! What goes into a field with a length is written behind one byte for it, and moves on when that
//! was too little: nothing has to be known before it is read.

use bytes::Bytes;

use super::error::JsonError;
use super::read::Slot;
use crate::http::room::Room;

/// What may be written beyond twice the text.
const SLACK_BYTES: usize = 64 << 10;

/// Wire types: numbers, and what has a length.
const VARINT: u32 = 0;
const DELIMITED: u32 = 2;

/// What was written so far.
#[derive(Debug)]
pub(super) struct Wire {
    room: Room,
    bytes_max: usize,
}

/// A field that has a length, and whose value is being written.
#[derive(Debug)]
#[must_use = "its length is not written yet"]
pub(super) struct Open {
    /// Where the field begins.
    field: usize,
    /// Where its value does, behind one byte for the length.
    value: usize,
}

/// What counts no more: of one field all that begins before an offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    number: u32,
    end: usize,
}

impl Cut {
    /// Notes another cut; of each field only the last one matters.
    pub(super) fn add(cuts: &mut Vec<Self>, number: u32, end: usize) {
        match cuts.iter_mut().find(|cut| cut.number == number) {
            Some(cut) => cut.end = end,
            None => cuts.push(Self { number, end }),
        }
    }
}

impl Wire {
    /// Makes room for what a text of so many bytes may hold.
    pub(super) fn of(text_bytes: usize) -> Self {
        Self {
            // Long tags take some bytes more than their text.
            room: Room::new(text_bytes + text_bytes / 16 + 64),
            bytes_max: text_bytes.saturating_mul(2).saturating_add(SLACK_BYTES),
        }
    }

    /// How much was written.
    pub(super) const fn len(&self) -> usize {
        self.room.len()
    }

    /// Refuses what is much longer than its text.
    ///
    /// # Errors
    /// [`JsonError::TooManyEntries`].
    pub(super) const fn check_len(&self) -> Result<(), JsonError> {
        if self.len() > self.bytes_max {
            return Err(JsonError::TooManyEntries);
        }
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.room.into_bytes()
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.room.push(byte);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.room.extend(bytes);
    }

    pub(super) fn fill<R>(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        self.room.fill(bytes, write)
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.room.truncate(len);
    }

    pub(super) fn varint(&mut self, number: u64) {
        let bytes = varint_len(number);
        self.room.fill(bytes, |room| put_varint(number, room));
    }

    /// Appends a field that is a number.
    pub(super) fn number(&mut self, field: u32, number: u64) {
        self.key(field, VARINT);
        self.varint(number);
    }

    /// Appends a field that has a length.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, DELIMITED);
        self.varint(widen(bytes.len()));
        self.room.extend(bytes);
    }

    /// Appends a field that is a number; a zero only where there may be another.
    pub(super) fn set(&mut self, slot: &Slot, number: u64) {
        if number != 0 || slot.was_set {
            self.number(slot.number, number);
        }
    }

    /// The same for a text.
    pub(super) fn text(&mut self, slot: &Slot, text: &str) {
        if !text.is_empty() || slot.was_set {
            self.bytes(slot.number, text.as_bytes());
        }
    }

    /// Begins a field that has a length: all that is written until [`close`](Self::close).
    pub(super) fn open(&mut self, field: u32) -> Open {
        let begin = self.len();
        self.key(field, DELIMITED);
        self.room.push(0);
        Open {
            field: begin,
            value: self.len(),
        }
    }

    /// Ends the field.
    pub(super) fn close(&mut self, open: &Open) {
        let bytes = self.len() - open.value;
        let length = widen(bytes);
        let more = varint_len(length) - 1;
        if more > 0 {
            self.room.fill(more, |_| ());
            let range = open.value..open.value + bytes;
            self.room
                .written_mut()
                .copy_within(range, open.value + more);
        }
        let place = open.value - 1..open.value + more;
        if let Some(place) = self.room.written_mut().get_mut(place) {
            put_varint(length, place);
        }
    }

    /// Ends the field; one that is empty is taken back, unless it is to stay.
    pub(super) fn close_value(&mut self, open: &Open, stays: bool) {
        if self.len() > open.value || stays {
            self.close(open);
        } else {
            self.room.truncate(open.field);
        }
    }

    /// Takes fields out of the message that began at an offset and ends here.
    pub(super) fn cut(&mut self, begin: usize, cuts: &[Cut]) {
        let written = self.room.written_mut();
        let (mut from, mut to) = (begin, begin);
        while let Some((number, bytes)) = written.get(from..).and_then(first_field) {
            let counts = |cut: &Cut| cut.number != number || cut.end <= from;
            if cuts.iter().all(counts) {
                written.copy_within(from..from + bytes, to);
                to += bytes;
            }
            from += bytes;
        }
        debug_assert_eq!(from, self.room.len(), "all that is written is fields");
        self.room.truncate(to);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }
}

/// The number of the field that stands first, and how long it is; `None` behind the last one.
fn first_field(written: &[u8]) -> Option<(u32, usize)> {
    let mut rest = written;
    let key = take_varint(&mut rest)?;
    let value = take_varint(&mut rest)?;
    let mut bytes = written.len() - rest.len();
    if key & 7 == u64::from(DELIMITED) {
        bytes = bytes.checked_add(usize::try_from(value).ok()?)?;
    }
    (bytes <= written.len()).then_some((u32::try_from(key >> 3).ok()?, bytes))
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn varint_len(number: u64) -> usize {
    prost::encoding::encoded_len_varint(number)
}

fn put_varint(mut number: u64, room: &mut [u8]) {
    let mut bytes = room.iter_mut().peekable();
    while let Some(byte) = bytes.next() {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        *byte = if bytes.peek().is_some() {
            low | 0x80
        } else {
            low
        };
    }
    debug_assert_eq!(number, 0, "there was room for it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_size_are_put_before_what_was_written() {
        for bytes in [0, 1, 127, 128, 16_383, 16_384, 3 << 20] {
            let mut wire = Wire::of(0);
            wire.number(1, 300);
            let open = wire.open(17);
            wire.fill(bytes, |room| room.fill(7));
            wire.close(&open);
            let mut expected = vec![0x08, 0xac, 0x02, 0x8a, 0x01];
            prost::encoding::encode_varint(bytes as u64, &mut expected);
            expected.extend(vec![7; bytes]);
            assert!(wire.into_bytes() == expected, "{bytes}");
        }
    }

    #[test]
    fn numbers_are_written_as_others_write_them() {
        for number in [0, 1, 127, 128, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut wire = Wire::of(0);
            wire.varint(number);
            let mut expected = Vec::new();
            prost::encoding::encode_varint(number, &mut expected);
            let written = wire.into_bytes();
            assert_eq!(written, expected);
            assert_eq!(take_varint(&mut &written[..]), Some(number));
        }
    }

    #[test]
    fn fields_are_cut_up_to_where_they_count_again() {
        let mut wire = Wire::of(0);
        wire.bytes(9, b"before the message");
        let begin = wire.len();
        wire.bytes(1, b"old");
        wire.number(2, 5);
        wire.bytes(3, b"");
        let mut cuts = Vec::new();
        Cut::add(&mut cuts, 1, wire.len());
        wire.bytes(1, b"older than the end");
        Cut::add(&mut cuts, 1, wire.len());
        Cut::add(&mut cuts, 3, wire.len());
        wire.bytes(1, b"new");
        wire.bytes(3, b"new");
        wire.cut(begin, &cuts);
        let mut expected = Wire::of(0);
        expected.bytes(9, b"before the message");
        expected.number(2, 5);
        expected.bytes(1, b"new");
        expected.bytes(3, b"new");
        assert_eq!(wire.into_bytes(), expected.into_bytes());
    }
}
