//! Memory for what may be large: bodies, frames, and what is made of them.
//!
//! Room that nothing was written to yet costs nothing. So what is large gets the room for all that
//! it may become, and never moves.
//!
//! Large room is a mapping of its own. An allocator gives the memory of many megabytes back to the
//! machine some time after it was freed, on whichever thread frees something then; that is mostly
//! an executor, which stands still for many milliseconds. And new pages are dear, above all where
//! a host has to find them first. So mappings are kept for the next room ([`pool`]), which takes no
//! time; those that are not kept are unmapped on a blocking thread.
//!
//! A mapping that was kept holds what an earlier client has sent. Nobody can see that: of a room
//! only what was written to it can be read, and what is given away to be written is zero.

mod pool;

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;

use crate::rt;
use pool::{Mapping, Pool};

/// From this size on memory is a mapping, and given back beside the executor.
pub(super) const ASIDE_BYTES_MIN: usize = 1 << 20;

/// A message that turned out to be shorter than this leaves its mapping.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// How often it is looked for mappings that nobody needs any more.
const ROUND: Duration = Duration::from_secs(1);

thread_local! {
    /// What blocking threads give back for this executor.
    static LEAVING: Cell<usize> = const { Cell::new(0) };
}

/// Gives mappings that nobody needs any more back to the machine, for ever. One executor of the
/// process runs this.
pub async fn trim_rooms() {
    loop {
        rt::sleep(ROUND).await;
        let idle = Pool::of_process().take_idle(rt::now());
        if !idle.is_empty() {
            rt::blocking(move || drop(idle)).await;
        }
    }
}

/// Drops what holds rooms, and `with` it what has to stay until their memory is given back: at once
/// when it is kept, and else behind what blocking threads have to give back. These work in order,
/// so at most one mapping is still on its way then.
pub(super) fn let_go(held: impl Sized, with: impl Sized + 'static) {
    drop(held);
    if LEAVING.get() > 0 {
        rt::let_go((), with);
    }
}

/// Something that leaves.
struct Leaving;

impl Leaving {
    fn begin() -> Self {
        LEAVING.set(LEAVING.get() + 1);
        Self
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        LEAVING.set(LEAVING.get().saturating_sub(1));
    }
}

/// Bytes that are written one behind the other. Grows when it is full; whoever knows how much will
/// come asks for it in the beginning.
#[derive(Debug)]
pub(super) struct Room {
    memory: Memory,
    pool: &'static Pool,
}

#[derive(Debug)]
enum Memory {
    /// What is small; anything when the kernel refuses a mapping.
    Heap(Vec<u8>),
    Mapped {
        mapping: Mapping,
        /// How much was written.
        len: usize,
    },
}

impl Default for Room {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Room {
    /// Makes room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self::of(Pool::of_process(), bytes)
    }

    fn of(pool: &'static Pool, bytes: usize) -> Self {
        let memory = Memory::Heap(Vec::new());
        let mut room = Self { memory, pool };
        room.widen(bytes);
        room
    }

    /// What was written.
    pub(super) fn written(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(heap) => heap,
            Memory::Mapped { mapping, len } => mapping.first(*len),
        }
    }

    /// The same, to be changed.
    pub(super) fn written_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(heap) => heap,
            Memory::Mapped { mapping, len } => mapping.first_mut(*len),
        }
    }

    /// How much was written.
    pub(super) const fn len(&self) -> usize {
        match &self.memory {
            Memory::Heap(heap) => heap.len(),
            Memory::Mapped { len, .. } => *len,
        }
    }

    /// How much may be written before it has to move.
    pub(super) fn capacity(&self) -> usize {
        match &self.memory {
            Memory::Heap(heap) => heap.capacity(),
            Memory::Mapped { mapping, .. } => mapping.capacity(),
        }
    }

    /// Appends one byte.
    pub(super) fn push(&mut self, byte: u8) {
        match &mut self.memory {
            Memory::Heap(heap) if heap.len() < heap.capacity() => heap.push(byte),
            Memory::Heap(_) | Memory::Mapped { .. } => self.extend(&[byte]),
        }
    }

    /// Appends some.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        match &mut self.memory {
            Memory::Heap(heap) => heap.extend_from_slice(bytes),
            Memory::Mapped { mapping, len } => {
                let begin = *len;
                *len += bytes.len();
                mapping.claim(begin, *len).copy_from_slice(bytes);
                self.pool.used(mapping, *len);
            }
        }
    }

    /// Appends so many bytes, which `write` fills in. They are zero before, so that one that it
    /// leaves out shows nothing of whoever had this memory.
    pub(super) fn fill<R>(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        self.reserve(bytes);
        match &mut self.memory {
            Memory::Heap(heap) => {
                let begin = heap.len();
                heap.resize(begin + bytes, 0);
                write(heap.get_mut(begin..).unwrap_or_default())
            }
            Memory::Mapped { mapping, len } => {
                let begin = *len;
                *len += bytes;
                self.pool.used(mapping, *len);
                write(mapping.claim_zeroed(begin, *len))
            }
        }
    }

    /// Takes back what was appended behind the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.memory {
            Memory::Heap(heap) => heap.truncate(len),
            Memory::Mapped { len: written, .. } => *written = len.min(*written),
        }
    }

    /// Makes it wider, which moves what was written. When the kernel refuses, it grows by what
    /// comes.
    pub(super) fn widen(&mut self, bytes: usize) {
        if bytes <= self.capacity() {
            return;
        }
        match &mut self.memory {
            Memory::Heap(heap) if bytes < ASIDE_BYTES_MIN => {
                heap.reserve_exact(bytes - heap.len());
            }
            Memory::Heap(_) | Memory::Mapped { .. } => {
                self.move_to_mapping(bytes);
            }
        }
    }

    /// Makes room for so many more, and for as many again as there are.
    fn reserve(&mut self, more: usize) {
        let needed = self.len().saturating_add(more);
        if needed <= self.capacity() {
            return;
        }
        let wanted = needed.max(self.capacity().saturating_mul(2));
        if wanted >= ASIDE_BYTES_MIN && self.move_to_mapping(wanted) {
            return;
        }
        if let Memory::Heap(heap) = &mut self.memory {
            heap.reserve(more);
        } else {
            let mut heap = Vec::with_capacity(needed);
            heap.extend_from_slice(self.written());
            self.replace(Memory::Heap(heap));
        }
    }

    /// Moves into a mapping of at least so many bytes; false when the kernel refuses it.
    fn move_to_mapping(&mut self, bytes: usize) -> bool {
        let Some(mut mapping) = self.pool.take(bytes) else {
            return false;
        };
        let len = self.len();
        mapping.claim(0, len).copy_from_slice(self.written());
        self.pool.used(&mut mapping, len);
        self.replace(Memory::Mapped { mapping, len });
        true
    }

    /// Holds this from now on, and gives back what it held.
    fn replace(&mut self, memory: Memory) {
        match std::mem::replace(&mut self.memory, memory) {
            Memory::Heap(heap) if heap.capacity() < ASIDE_BYTES_MIN => {}
            Memory::Heap(heap) => rt::let_go(heap, Leaving::begin()),
            Memory::Mapped { mapping, .. } => {
                if let Err(refused) = self.pool.put(mapping) {
                    rt::let_go(refused, Leaving::begin());
                }
            }
        }
    }

    /// What was written, as it is.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match &mut self.memory {
            Memory::Heap(heap) if heap.len() < ASIDE_BYTES_MIN => std::mem::take(heap).into(),
            Memory::Mapped { mapping, len } if *len < COPIED_BYTES_MAX => {
                Bytes::copy_from_slice(mapping.first(*len))
            }
            Memory::Heap(_) | Memory::Mapped { .. } => Bytes::from_owner(self),
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
        self.replace(Memory::Heap(Vec::new()));
    }
}

#[cfg(test)]
mod tests;
