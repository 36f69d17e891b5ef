//! Memory for what may be large: bodies, frames, and what is made of them.
//!
//! Room that nothing was written to yet costs nothing. So what is large gets the room for all that
//! it may become, and never moves; and it is given back on a blocking thread, because tens of
//! megabytes take longer than an executor may be held.

use bytes::Bytes;

use crate::rt;

/// From this size on memory is given back beside the executor.
pub(super) const ASIDE_BYTES_MIN: usize = 1 << 20;

/// Bytes that are written one behind the other. Grows when it is full; whoever knows how much will
/// come asks for it in the beginning.
#[derive(Debug, Default)]
pub(super) struct Room(Vec<u8>);

impl Room {
    /// Makes room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// What was written.
    pub(super) fn written(&self) -> &[u8] {
        &self.0
    }

    /// The same, to be changed.
    pub(super) fn written_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How much was written.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// How much may be written before it has to move.
    pub(super) const fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends one byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Appends some.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends so many bytes, which `write` fills in.
    pub(super) fn fill<R>(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let begin = self.0.len();
        self.0.resize(begin + bytes, 0);
        write(self.0.get_mut(begin..).unwrap_or_default())
    }

    /// Takes back what was appended behind the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Makes it wider, which moves what was written.
    pub(super) fn widen(&mut self, bytes: usize) {
        self.0.reserve_exact(bytes.saturating_sub(self.0.len()));
    }

    /// What was written, as it is.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match self.len() >= ASIDE_BYTES_MIN {
            true => Bytes::from_owner(self),
            false => std::mem::take(&mut self.0).into(),
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.len() >= ASIDE_BYTES_MIN {
            rt::let_go(std::mem::take(&mut self.0), ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_however_wide_the_room_was() {
        for width in [0, 1, 100, ASIDE_BYTES_MIN, 3 * ASIDE_BYTES_MIN] {
            let mut room = Room::new(width);
            let mut expected = Vec::new();
            for byte in 0..=255_u8 {
                room.push(byte);
                room.extend(&[byte; 7_000]);
                expected.push(byte);
                expected.extend([byte; 7_000]);
            }
            assert!(room.written() == expected, "{width}");
            room.truncate(5);
            room.fill(2, |room| room.copy_from_slice(b"ab"));
            assert_eq!(room.into_bytes(), [0, 0, 0, 0, 0, b'a', b'b'][..]);
        }
    }

    #[test]
    fn a_large_room_does_not_move_and_may_go_in_parts() {
        let mut room = Room::new(8 << 20);
        room.extend(&vec![7; 4 << 20]);
        let at = room.written().as_ptr();
        room.extend(&vec![8; 4 << 20]);
        assert_eq!((room.written().as_ptr(), room.capacity()), (at, 8 << 20));
        let bytes = room.into_bytes();
        let part = bytes.slice((4 << 20) - 1..);
        drop(bytes);
        assert_eq!(part.get(..2), Some(&[7, 8][..]));
        assert_eq!(part.as_ptr(), at.wrapping_add((4 << 20) - 1));
    }
}
