//! The buffers of an executor's connections, held by a connection only while they hold bytes.

use std::cell::RefCell;

/// One read of the socket.
pub(super) const READ_BYTES: usize = 64 << 10;

/// What is gathered at most, so that a buffer never grows: 64 KiB, then a frame or two and their
/// neighbours in h2's own buffer.
pub(super) const WRITE_BYTES: usize = (64 << 10) + (48 << 10);

/// Buffers of each kind that are kept. Only connections in the middle of something hold one, and
/// one connection runs at a time; the rest are those that wait for their peer.
const KEPT_MAX: usize = 8;

/// A blocked connection with less than this to write does not keep a whole buffer.
const SMALL_BYTES: usize = 16 << 10;

thread_local! {
    static READ: RefCell<Vec<ReadBuffer>> = const { RefCell::new(Vec::new()) };
    static WRITE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that the socket fills and h2 empties.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// Where the socket writes: from the front, since buffers are refilled only when empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// As [`space`](Self::space), so much at most.
    pub(super) fn space_of(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.bytes.len());
        self.bytes.split_at_mut(most).0
    }

    pub(super) fn filled(&mut self, count: usize) {
        self.start = 0;
        self.end = count;
    }

    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes that were taken out of it.
    pub(super) const fn consumed(&self) -> usize {
        self.start
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

pub(super) fn take_read() -> ReadBuffer {
    let kept = READ.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| ReadBuffer {
        bytes: vec![0; READ_BYTES].into_boxed_slice(),
        start: 0,
        end: 0,
    })
}

/// Moves the little that is unread out of a whole buffer, for a connection that has to wait before
/// it goes on with it.
pub(super) fn shrink_waiting(buffer: ReadBuffer) -> ReadBuffer {
    if buffer.unread().len() >= SMALL_BYTES || buffer.bytes.len() != READ_BYTES {
        return buffer;
    }
    let bytes: Box<[u8]> = buffer.unread().into();
    let small = ReadBuffer {
        start: 0,
        end: bytes.len(),
        bytes,
    };
    give_read(buffer);
    small
}

pub(super) fn give_read(mut buffer: ReadBuffer) {
    // One that was shrunk is no whole buffer.
    if buffer.bytes.len() != READ_BYTES {
        return;
    }
    buffer.filled(0);
    READ.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    });
}

/// Gives `out` a whole buffer if it has none.
pub(super) fn take_write(out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        let kept = WRITE.with_borrow_mut(Vec::pop);
        *out = kept.unwrap_or_else(|| Vec::with_capacity(WRITE_BYTES));
    }
}

/// Takes the emptied buffer back.
pub(super) fn give_write(out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        return;
    }
    let mut buffer = std::mem::take(out);
    buffer.clear();
    // One that grew, or was shrunk, is no whole buffer.
    if buffer.capacity() == WRITE_BYTES {
        WRITE.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}

/// Moves the little that a blocked connection has to write out of its whole buffer.
pub(super) fn shrink_blocked(out: &mut Vec<u8>, start: &mut usize) {
    let rest = out.get(*start..).unwrap_or_default();
    if rest.len() < SMALL_BYTES && out.capacity() >= WRITE_BYTES {
        let small = rest.to_vec();
        give_write(out);
        *out = small;
        *start = 0;
    }
}
