//! What waits to leave for one subscriber.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::rt::Notify;
use crate::wire::chunks::{self, CHUNK_BYTES};

/// Frames from this size on are shared between subscribers and never copied into a chunk.
pub(super) const SHARED_MIN_BYTES: usize = 8 << 10;

/// Why a subscription ends by the broker's will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The broker shuts down.
    Shutdown,
    /// The channel was deleted.
    ChannelDeleted,
}

/// What became of a frame that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be sent.
    Taken,
    /// The subscriber's own bound is reached; the frame was dropped.
    SubscriberFull,
    /// The bound of all subscribers of this core is reached; the frame was dropped.
    CoreFull,
}

/// Bytes that wait in all outboxes of one core, and their bound.
#[derive(Debug)]
pub struct Budget {
    used: Cell<usize>,
    max: usize,
}

impl Budget {
    /// Makes a budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            used: Cell::new(0),
            max,
        }
    }

    /// Bytes that wait now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.get()
    }
}

/// The delivery buffer of one subscriber, bounded in bytes.
///
/// Owned by the core that holds the subscriber's connection; filled by that core's shard, emptied
/// by the subscription's task. It dies with the task; frames that still wait are dropped with it.
/// An empty outbox always takes one frame, so that a message larger than the bound still passes.
#[derive(Debug)]
pub struct Outbox {
    queue: RefCell<Chunks>,
    bytes_max: usize,
    budget: Rc<Budget>,
    ready: Notify,
    ended: Cell<Option<EndReason>>,
    /// Frames taken in since the last report, see [`Outbox::take_frames`].
    frames: Cell<u64>,
    /// Frames dropped since the last report, see [`Outbox::take_dropped`].
    dropped: Cell<u64>,
    /// Whether the shards that choose among group members were told that this one is full.
    reported_full: Cell<bool>,
}

#[derive(Debug, Default)]
struct Chunks {
    done: VecDeque<Bytes>,
    /// Small frames gather in a chunk of the executor's stock: one DATA frame carries many of them.
    tail: Option<BytesMut>,
    bytes: usize,
}

impl Outbox {
    /// Makes an empty outbox for at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize, budget: Rc<Budget>) -> Self {
        Self {
            queue: RefCell::default(),
            bytes_max,
            budget,
            ready: Notify::new(),
            ended: Cell::new(None),
            frames: Cell::new(0),
            dropped: Cell::new(0),
            reported_full: Cell::new(false),
        }
    }

    /// Takes a copy of a small frame.
    pub fn offer_copy(&self, frame: &[u8]) -> Offered {
        self.offer(frame.len(), |queue| queue.append(frame))
    }

    /// Takes a shared frame: no byte is copied when it is large.
    pub fn offer_shared(&self, frame: &Bytes) -> Offered {
        if frame.len() < SHARED_MIN_BYTES {
            return self.offer_copy(frame);
        }
        self.offer(frame.len(), |queue| {
            queue.seal();
            queue.done.push_back(frame.clone());
        })
    }

    /// Takes a frame of `len` bytes that `encode` appends where it will wait: nothing is copied.
    pub fn offer_encoded(&self, len: usize, encode: impl FnOnce(&mut BytesMut)) -> Offered {
        self.offer(len, |queue| queue.append_with(len, encode))
    }

    fn offer(&self, len: usize, put: impl FnOnce(&mut Chunks)) -> Offered {
        let mut queue = self.queue.borrow_mut();
        if queue.bytes > 0 {
            let refused = if queue.bytes.saturating_add(len) > self.bytes_max {
                Some(Offered::SubscriberFull)
            } else if self.budget.used.get().saturating_add(len) > self.budget.max {
                Some(Offered::CoreFull)
            } else {
                None
            };
            if let Some(refused) = refused {
                self.dropped.set(self.dropped.get() + 1);
                return refused;
            }
        }
        put(&mut queue);
        queue.bytes += len;
        self.budget.used.set(self.budget.used.get() + len);
        drop(queue);
        self.frames.set(self.frames.get() + 1);
        self.ready.raise();
        Offered::Taken
    }

    /// The next chunk of whole frames, or nothing.
    pub fn take(&self) -> Option<Bytes> {
        let mut queue = self.queue.borrow_mut();
        if queue.done.is_empty() {
            queue.seal();
        }
        let chunk = queue.done.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(chunk.len());
        self.budget
            .used
            .set(self.budget.used.get().saturating_sub(chunk.len()));
        Some(chunk)
    }

    /// Ready when there may be something to take, or the subscription has ended.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.poll(cx)
    }

    /// Ends the subscription; its task is woken and tells the client.
    pub fn end(&self, reason: EndReason) {
        self.ended.set(Some(reason));
        self.ready.raise();
    }

    /// Why the subscription ends, once it does.
    #[must_use]
    pub fn ended(&self) -> Option<EndReason> {
        self.ended.get()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.queue.borrow().bytes
    }

    /// Frames taken in since the last call: when nothing waits, they have all been handed out.
    pub fn take_frames(&self) -> u64 {
        self.frames.replace(0)
    }

    /// Frames dropped since the last call; for a log line at a bounded rate.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.replace(0)
    }

    /// The next thing to tell the shards that choose group members: `true`, full; `false`, room
    /// again. Full begins at three quarters of the bound and ends at one quarter, so that it does
    /// not flutter.
    pub fn full_changed(&self) -> Option<bool> {
        let bytes = self.bytes();
        let full = if self.reported_full.get() {
            bytes > self.bytes_max / 4
        } else {
            bytes > self.bytes_max / 4 * 3
        };
        (self.reported_full.replace(full) != full).then_some(full)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let waiting = self.queue.borrow().bytes;
        self.budget
            .used
            .set(self.budget.used.get().saturating_sub(waiting));
    }
}

impl Chunks {
    fn append(&mut self, frame: &[u8]) {
        self.append_with(frame.len(), |tail| tail.extend_from_slice(frame));
    }

    fn append_with(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) {
        let full = |tail: &BytesMut| tail.len() + len > CHUNK_BYTES;
        if self.tail.as_ref().is_some_and(full) {
            self.seal();
        }
        let tail = self.tail.get_or_insert_with(|| match len > CHUNK_BYTES {
            false => chunks::take(),
            true => BytesMut::with_capacity(len),
        });
        let before = tail.len();
        write(tail);
        debug_assert_eq!(tail.len() - before, len, "the bounds count what is written");
    }

    fn seal(&mut self) {
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        if tail.len() > CHUNK_BYTES {
            self.done.push_back(tail.freeze());
        } else {
            self.done.push_back(tail.split().freeze());
            chunks::give(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(bytes_max: usize, core_max: usize) -> (Outbox, Rc<Budget>) {
        let budget = Rc::new(Budget::new(core_max));
        (Outbox::new(bytes_max, budget.clone()), budget)
    }

    #[test]
    fn small_frames_are_gathered_and_keep_their_order() {
        let (outbox, budget) = outbox(1 << 20, 1 << 20);
        let frames: Vec<Vec<u8>> = (0_u8..60).map(|n| vec![n; 1000]).collect();
        for frame in &frames {
            assert_eq!(outbox.offer_copy(frame), Offered::Taken);
        }
        let mut out = Vec::new();
        let mut chunks = 0;
        while let Some(chunk) = outbox.take() {
            assert!(chunk.len() <= CHUNK_BYTES);
            out.extend_from_slice(&chunk);
            chunks += 1;
        }
        assert_eq!(out, frames.concat());
        assert_eq!(chunks, 4);
        assert_eq!((outbox.take_frames(), outbox.take_frames()), (60, 0));
        assert_eq!((outbox.bytes(), budget.used()), (0, 0));
    }

    #[test]
    fn large_frames_are_shared_and_stay_in_order_with_small_ones() {
        let (outbox, _) = outbox(1 << 20, 1 << 20);
        let large = Bytes::from(vec![7; SHARED_MIN_BYTES]);
        outbox.offer_copy(b"before");
        outbox.offer_shared(&large);
        outbox.offer_copy(b"after");
        let chunks: Vec<Bytes> = std::iter::from_fn(|| outbox.take()).collect();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0].as_ref(), b"before");
        assert_eq!(
            chunks[1].as_ptr(),
            large.as_ptr(),
            "the bytes were not copied"
        );
        assert_eq!(chunks[2].as_ref(), b"after");
    }

    #[test]
    fn a_full_outbox_drops_and_counts_and_an_empty_one_takes_anything() {
        let (outbox, budget) = outbox(100, 1000);
        assert_eq!(outbox.offer_copy(&[0; 500]), Offered::Taken);
        assert_eq!(outbox.offer_copy(&[0; 1]), Offered::SubscriberFull);
        assert_eq!(outbox.take_dropped(), 1);
        assert_eq!(outbox.take_dropped(), 0);
        assert!(outbox.take().is_some());
        assert_eq!(outbox.offer_copy(&[0; 90]), Offered::Taken);
        drop(outbox);
        assert_eq!(budget.used(), 0, "what waited is given back");
    }

    #[test]
    fn the_core_bound_holds_over_all_outboxes() {
        let budget = Rc::new(Budget::new(150));
        let first = Outbox::new(1000, budget.clone());
        let second = Outbox::new(1000, budget);
        first.offer_copy(&[0; 100]);
        second.offer_copy(&[0; 40]);
        assert_eq!(second.offer_copy(&[0; 40]), Offered::CoreFull);
    }

    #[test]
    fn fullness_is_reported_once_each_way() {
        let (outbox, _) = outbox(1000, 1 << 20);
        outbox.offer_copy(&[0; 700]);
        assert_eq!(outbox.full_changed(), None);
        outbox.offer_copy(&[0; 100]);
        assert_eq!(outbox.full_changed(), Some(true));
        assert_eq!(outbox.full_changed(), None);
        while outbox.take().is_some() {}
        assert_eq!(outbox.full_changed(), Some(false));
        assert_eq!(outbox.full_changed(), None);
    }
}
