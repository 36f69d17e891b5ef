//! Frames of encrypted segments that were decrypted lately.
//!
//! A frame holds many messages, and a reader takes some at a time: without a memory each turn
//! would decrypt the whole frame again. What was committed is in it, so that who reads at the end
//! of the log decrypts nothing.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::id::Position;

/// Bytes of the records that are kept. One frame is handed out whatever its size.
const KEPT_BYTES: usize = 4 << 20;

/// What an entry takes beside its records, about.
const ENTRY_BYTES: usize = 128;

/// Owner: a log. Nothing of a plain log is ever in it.
#[derive(Debug, Default)]
pub(super) struct Decrypted(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<Position, Bytes>,
    /// From the one that was added first.
    order: VecDeque<Position>,
    bytes: usize,
}

impl Decrypted {
    /// The records of the frame at a place, if they are there.
    pub(super) fn get(&self, at: Position) -> Option<Bytes> {
        self.0.borrow().frames.get(&at).cloned()
    }

    /// Keeps the records of a frame; those that were added first go.
    pub(super) fn add(&self, at: Position, records: &Bytes) {
        let cost = records.len() + ENTRY_BYTES;
        if cost > KEPT_BYTES {
            return;
        }
        let mut kept = self.0.borrow_mut();
        if kept.frames.insert(at, records.clone()).is_some() {
            return;
        }
        kept.order.push_back(at);
        kept.bytes += cost;
        while kept.bytes > KEPT_BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            let gone = kept.frames.remove(&oldest);
            kept.bytes -= gone.map_or(0, |gone| gone.len() + ENTRY_BYTES);
        }
        debug_assert_eq!(kept.frames.len(), kept.order.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SegmentId;

    fn at(offset: u32) -> Position {
        Position::new(SegmentId::new(1), offset)
    }

    #[test]
    fn what_was_added_first_goes_first_and_the_memory_is_bounded() {
        let kept = Decrypted::default();
        let records = Bytes::from(vec![7; 1 << 20]);
        for number in 0..8 {
            kept.add(at(number), &records);
            kept.add(at(number), &records);
        }
        assert!(kept.get(at(4)).is_none());
        for number in 5..8 {
            assert_eq!(kept.get(at(number)), Some(records.clone()));
        }
        assert!(kept.0.borrow().bytes <= KEPT_BYTES);
        kept.add(at(9), &Bytes::from(vec![0; KEPT_BYTES]));
        assert!(kept.get(at(9)).is_none(), "it would push out all others");
        assert!(kept.get(at(7)).is_some());
    }
}
