//! Memory for what may be large: bodies, frames, and what is made of them.
//!
//! Small rooms come from the allocator. Large ones are mappings of their own, for three reasons:
//! room that nothing was written to yet costs nothing, so that what gathers never moves; what was
//! written is the system's again as soon as the room goes, whatever the allocator keeps for later;
//! and tens of megabytes take longer to give back than an executor may be held, so a room that
//! goes there is given back on a blocking thread.

use bytes::Bytes;
use memmap2::MmapMut;

use crate::rt;

/// From this size on a room is a mapping.
pub(super) const MAPPED_BYTES_MIN: usize = 1 << 20;

/// Bytes that are written one behind the other. Grows when it is full; whoever knows how much will
/// come asks for it in the beginning.
#[derive(Debug, Default)]
pub(super) struct Room {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    /// As long as the room is wide.
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Memory {
    fn new(bytes: usize) -> Self {
        if bytes >= MAPPED_BYTES_MIN
            && let Ok(mapping) = MmapMut::map_anon(bytes)
        {
            return Self::Mapped(mapping);
        }
        Self::Heap(vec![0; bytes])
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
    }
}

impl Room {
    /// Makes room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            memory: Memory::new(bytes),
            len: 0,
        }
    }

    /// What was written.
    pub(super) fn written(&self) -> &[u8] {
        self.memory.all().get(..self.len).unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn written_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        self.memory.all_mut().get_mut(..len).unwrap_or_default()
    }

    /// How much was written.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How much may be written before it has to move.
    pub(super) fn capacity(&self) -> usize {
        self.memory.all().len()
    }

    /// Appends one byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.fill(1, |room| room.fill(byte));
    }

    /// Appends some.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |room| room.copy_from_slice(bytes));
    }

    /// Appends so many bytes, which `write` fills in.
    pub(super) fn fill<R>(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let end = self.len.saturating_add(bytes);
        if end > self.capacity() {
            self.widen(end.max(2 * self.capacity()));
        }
        let begin = std::mem::replace(&mut self.len, end);
        let room = self.memory.all_mut().get_mut(begin..end);
        write(room.unwrap_or_default())
    }

    /// Takes back what was appended behind the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes it wider, which moves what was written.
    pub(super) fn widen(&mut self, bytes: usize) {
        let mut wider = Memory::new(bytes.max(self.len));
        let (begin, _) = wider.all_mut().split_at_mut(self.len);
        begin.copy_from_slice(self.written());
        self.memory = wider;
    }

    /// What was written, as it is.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match &mut self.memory {
            Memory::Heap(bytes) => {
                bytes.truncate(self.len);
                std::mem::take(bytes).into()
            }
            Memory::Mapped(_) => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        self.written()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.len >= MAPPED_BYTES_MIN {
            rt::let_go(std::mem::take(&mut self.memory), ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_however_wide_the_room_was() {
        for width in [0, 1, 100, MAPPED_BYTES_MIN, 3 * MAPPED_BYTES_MIN] {
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
        room.extend(&[7; 4 << 20]);
        let at = room.written().as_ptr();
        room.extend(&[8; 4 << 20]);
        assert_eq!((room.written().as_ptr(), room.capacity()), (at, 8 << 20));
        let bytes = room.into_bytes();
        let part = bytes.slice((4 << 20) - 1..);
        drop(bytes);
        assert_eq!(part.get(..2), Some(&[7, 8][..]));
        assert_eq!(part.as_ptr(), at.wrapping_add((4 << 20) - 1));
    }
}
