//! What messages that are not whole yet may hold.

use std::cell::Cell;
use std::rc::Rc;

use crate::wire::chunks::CHUNK_BYTES;

/// What the unfinished messages of all connections of a core may hold, unless the limit of one
/// connection is higher. A thousand connections hold no more than some do.
const CORE_BYTES_MAX: usize = 512 << 20;

/// Messages of a core that are gathered in chunks of its stock. With small messages, one of each
/// DATA frame reaches into the next, for a moment; those that a peer leaves unfinished have no more
/// memory than they need.
const IN_CHUNKS_MAX: usize = 32;

thread_local! {
    static IN_CHUNKS: Cell<usize> = const { Cell::new(0) };
    /// What they hold.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What the incomplete messages of one connection may hold together. Without it each of some
/// thousand streams could begin a message of the largest size and leave it at that.
#[derive(Debug)]
pub struct GatherLimit {
    held_bytes: Cell<usize>,
    bytes_max: usize,
}

impl GatherLimit {
    /// Makes a limit that nothing counts against yet.
    #[must_use]
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            held_bytes: Cell::new(0),
            bytes_max,
        })
    }

    /// Counts bytes of a message that does not come through a decoder; false when there is no room
    /// for them, on the connection or on its core.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let held = self.held_bytes.get().saturating_add(bytes);
        let of_core = HELD_BYTES.get().saturating_add(bytes);
        // One connection alone may always hold what it may.
        let fits = held <= self.bytes_max && of_core <= CORE_BYTES_MAX.max(self.bytes_max);
        if fits {
            self.held_bytes.set(held);
            HELD_BYTES.set(of_core);
        }
        fits
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.held_bytes
            .set(self.held_bytes.get().saturating_sub(bytes));
        HELD_BYTES.set(HELD_BYTES.get().saturating_sub(bytes));
    }

    /// Bytes that incomplete messages hold.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }
}

/// What a message counts for against the limit of its connection, as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    limit: Rc<GatherLimit>,
}

impl Held {
    pub(super) fn none(limit: &Rc<GatherLimit>) -> Self {
        Self {
            bytes: 0,
            limit: Rc::clone(limit),
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts more; false when there is no room for it.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.limit.take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Hands over what was counted.
    pub(super) fn split(&mut self) -> Self {
        Self {
            bytes: std::mem::take(&mut self.bytes),
            limit: Rc::clone(&self.limit),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.limit.give_back(self.bytes);
    }
}

/// The leave to gather a message in a chunk.
#[derive(Debug)]
pub(super) struct InChunk(());

impl InChunk {
    /// `None` when the message does not fit into a chunk, or too many are gathered in one.
    pub(super) fn take(length: usize) -> Option<Self> {
        let taken = IN_CHUNKS.get();
        if length > CHUNK_BYTES || taken >= IN_CHUNKS_MAX {
            return None;
        }
        IN_CHUNKS.set(taken + 1);
        Some(Self(()))
    }
}

impl Drop for InChunk {
    fn drop(&mut self) {
        IN_CHUNKS.set(IN_CHUNKS.get().saturating_sub(1));
    }
}
