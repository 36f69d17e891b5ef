//! Chunks of memory that come back: an executor's stock for what is made, handed to h2 as
//! [`Bytes`] and soon gone again.
//!
//! Asking the allocator for each chunk would cost two allocations (the bytes and their counter)
//! and, at low rates, cold memory for every message. A chunk that was split into [`Bytes`] is
//! whole again when the last of these is dropped, on whatever core that happens; its handle waits
//! in the stock until then.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The size of a chunk: one HTTP/2 DATA frame of the default size.
pub const CHUNK_BYTES: usize = 16 << 10;

/// Handles that are kept: 1 MiB of memory for each executor. In flight may be more; those chunks
/// are freed when their bytes are gone.
const KEPT_MAX: usize = 64;

/// Chunks at the front of the stock that are looked at before a new one is made.
const LOOKS_MAX: usize = 3;

thread_local! {
    static STOCK: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// An empty buffer of [`CHUNK_BYTES`]; it does not grow as long as no more than that is written.
#[must_use]
pub fn take() -> BytesMut {
    STOCK.with_borrow_mut(|stock| {
        // The last one is still in the processor's cache.
        if let Some(last) = stock.pop_back() {
            match reclaim(last) {
                Ok(chunk) => return chunk,
                Err(in_use) => stock.push_back(in_use),
            }
        }
        // The first ones have been on their way to a socket for longest. Those that wait for a
        // slow peer make room for others.
        for _ in 0..LOOKS_MAX {
            match stock.pop_front().map(reclaim) {
                Some(Ok(chunk)) => return chunk,
                Some(Err(in_use)) => stock.push_back(in_use),
                None => break,
            }
        }
        BytesMut::with_capacity(CHUNK_BYTES)
    })
}

/// The whole chunk, if no bytes of it are left anywhere.
fn reclaim(mut chunk: BytesMut) -> Result<BytesMut, BytesMut> {
    match chunk.try_reclaim(CHUNK_BYTES) {
        true => Ok(chunk),
        false => Err(chunk),
    }
}

/// Takes the handle of a chunk back, when what was written to it has been split off.
pub fn give(chunk: BytesMut) {
    debug_assert!(chunk.is_empty(), "what was written is somebody's");
    STOCK.with_borrow_mut(|stock| {
        if stock.len() < KEPT_MAX {
            stock.push_back(chunk);
        }
    });
}

/// From this length on a piece has memory of its own: who gets it may keep it.
const OWN_MIN_BYTES: usize = CHUNK_BYTES / 2;

/// Small pieces, one behind the other in one chunk. Each of them keeps the chunk from coming back:
/// for what is gone within a turn or two.
#[derive(Debug, Default)]
pub struct Pieces(Option<BytesMut>);

impl Pieces {
    /// Makes a piece of at most `len` bytes, which `write` appends. Half a chunk or more has memory
    /// of its own.
    pub fn make<R>(&mut self, len: usize, write: impl FnOnce(&mut BytesMut) -> R) -> (Bytes, R) {
        if len >= OWN_MIN_BYTES {
            let mut own = BytesMut::with_capacity(len);
            let written = write(&mut own);
            return (own.freeze(), written);
        }
        if let Some(used_up) = self.0.take_if(|chunk| chunk.capacity() < len) {
            give(used_up);
        }
        let chunk = self.0.get_or_insert_with(take);
        let written = write(chunk);
        (chunk.split().freeze(), written)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn finished(byte: u8, len: usize) -> Bytes {
        let mut chunk = take();
        chunk.put_bytes(byte, len);
        let bytes = chunk.split().freeze();
        give(chunk);
        bytes
    }

    #[test]
    fn a_chunk_comes_back_when_its_bytes_are_gone() {
        let first = finished(1, 100);
        let place = first.as_ptr();
        drop(first);
        let again = finished(2, CHUNK_BYTES);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(again.len(), CHUNK_BYTES);
    }

    #[test]
    fn bytes_that_are_kept_are_not_written_over() {
        let kept: Vec<Bytes> = (0..100).map(|n| finished(n, 1000)).collect();
        let passing: Vec<_> = (0..1000).map(|_| finished(255, 1000).as_ptr()).collect();
        for (n, bytes) in (0_u8..).zip(&kept) {
            assert!(bytes.iter().all(|byte| *byte == n));
            assert!(!passing.contains(&bytes.as_ptr()));
        }
    }

    #[test]
    fn what_comes_back_is_found_behind_what_does_not() {
        let stuck: Vec<Bytes> = (0..10).map(|n| finished(n, 1000)).collect();
        let mut places: Vec<_> = stuck.iter().map(|bytes| bytes.as_ptr()).collect();
        // As in a busy connection: the last chunk is on its way while the next one is written.
        let mut in_flight = VecDeque::new();
        let mut fresh = 0;
        for _ in 0..1000 {
            let bytes = finished(7, 1000);
            fresh += usize::from(!places.contains(&bytes.as_ptr()));
            places.push(bytes.as_ptr());
            in_flight.push_back(bytes);
            if in_flight.len() > 4 {
                in_flight.pop_front();
            }
        }
        assert!(fresh < KEPT_MAX, "{fresh} of 1000 chunks were new");
    }

    #[test]
    fn pieces_share_chunks_and_large_ones_have_their_own() {
        let mut pieces = Pieces::default();
        let mut made = Vec::new();
        for len in [
            1,
            100,
            OWN_MIN_BYTES - 1,
            1,
            OWN_MIN_BYTES - 1,
            CHUNK_BYTES + 1,
            7,
        ] {
            let (piece, start) = pieces.make(len, |out| {
                let start = out.len();
                out.put_bytes(9, len);
                start
            });
            assert_eq!((piece.len(), start), (len, 0));
            made.push(piece);
        }
        let follows = |first: usize, second: usize| {
            made[second].as_ptr() == made[first].as_ptr().wrapping_add(made[first].len())
        };
        assert!(follows(0, 1) && follows(1, 2) && follows(2, 3));
        assert!(!follows(3, 4), "that chunk was used up");
        assert!(follows(4, 6), "a large piece is not among the small ones");
        assert!(made.iter().flatten().all(|byte| *byte == 9));
    }
}
