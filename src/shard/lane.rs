//! The way from this shard to one other: two lanes over one queue of batches.
//!
//! *Work* is bounded in messages and bytes; a full lane refuses. *Notes* (replies, settlements,
//! control) are never refused. Both leave together in one batch for each turn of the flusher, so
//! that a burst wakes the peer once. The peer's pump always takes what comes without waiting for
//! anyone, so neither lane can block the other for good, nor can two shards block each other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Poll, Waker};

use super::message::{Note, Work};
use crate::rt::Notify;
use crate::rt::mesh::Outgoing;
use crate::telemetry::counters::Counters;

/// Messages that travel in one batch at most: bounds the time that a peer spends on one.
const BATCH_MAX: usize = 1024;

/// Batches in the queue between two executors. While they travel, the lane gathers.
pub(super) const QUEUE_BATCHES: usize = 8;

/// Publishers that may wait for room in one lane; one more is refused.
const WAITERS_MAX: usize = 4096;

/// The lane is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What travels between two executors.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub work: Vec<Work>,
    pub notes: Vec<Note>,
}

/// The lanes to one peer.
#[derive(Debug)]
pub(super) struct Lane {
    work: RefCell<VecDeque<Work>>,
    work_bytes: Cell<usize>,
    notes: RefCell<Vec<Note>>,
    ready: Notify,
    waiters: RefCell<VecDeque<Waker>>,
    bounds: Bounds,
}

/// The bounds of one lane of work.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages.
    pub messages_max: usize,
    /// Bytes of their bodies. One message passes an empty lane whatever its size.
    pub bytes_max: usize,
}

impl Lane {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            work: RefCell::default(),
            work_bytes: Cell::new(0),
            notes: RefCell::default(),
            ready: Notify::new(),
            waiters: RefCell::default(),
            bounds,
        }
    }

    /// Whether `bytes` more may be put on the lane.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let messages = self.work.borrow().len();
        messages == 0
            || (messages < self.bounds.messages_max
                && self.work_bytes.get().saturating_add(bytes) <= self.bounds.bytes_max)
    }

    /// Puts work on the lane.
    pub(super) fn push_work(&self, work: Work) -> Result<(), Full> {
        let weight = work.weight();
        if !self.has_room(weight) {
            return Err(Full);
        }
        self.work_bytes.set(self.work_bytes.get() + weight);
        self.work.borrow_mut().push_back(work);
        self.ready.raise();
        Ok(())
    }

    /// Puts a note on its lane; never refused.
    pub(super) fn push_note(&self, note: Note) {
        self.notes.borrow_mut().push(note);
        self.ready.raise();
    }

    /// Waits until the lane has room for `bytes`.
    pub(super) async fn room(&self, bytes: usize) -> Result<(), Full> {
        let mut registered = false;
        std::future::poll_fn(|cx| {
            // Of the very size: ready for less, the caller would come back at once, for ever.
            if self.has_room(bytes) {
                return Poll::Ready(Ok(()));
            }
            // A second poll means that this waiter was woken (all are at once) or polled for
            // another reason; it may then stand in the line twice, which is harmless.
            let mut waiters = self.waiters.borrow_mut();
            if !registered && waiters.len() >= WAITERS_MAX {
                return Poll::Ready(Err(Full));
            }
            registered = true;
            waiters.push_back(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Messages that wait on the lane of work.
    pub(super) fn depth(&self) -> usize {
        self.work.borrow().len()
    }

    fn take(&self) -> Option<Batch> {
        let mut work = self.work.borrow_mut();
        let count = work.len().min(BATCH_MAX);
        let batch = Batch {
            work: work.drain(..count).collect(),
            notes: std::mem::take(&mut *self.notes.borrow_mut()),
        };
        let bytes: usize = batch.work.iter().map(Work::weight).sum();
        self.work_bytes
            .set(self.work_bytes.get().saturating_sub(bytes));
        (!batch.work.is_empty() || !batch.notes.is_empty()).then_some(batch)
    }

    fn wake_waiters(&self) {
        if self.waiters.borrow().is_empty() || !self.has_room(1) {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Sends what gathers, until the peer ends. One task for each lane runs this.
    pub(super) async fn flush(&self, outgoing: Outgoing<Batch>, counters: &Counters) {
        loop {
            self.ready.wait().await;
            while let Some(batch) = self.take() {
                counters.mesh_batches.increment();
                let messages = batch.work.len() + batch.notes.len();
                counters
                    .mesh_messages
                    .add(messages.try_into().unwrap_or(u64::MAX));
                if !outgoing.send(batch).await {
                    return;
                }
                self.wake_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn deliver(len: usize) -> Work {
        Work::Deliver {
            key: 1,
            frame: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn work_is_bounded_in_messages_and_bytes_and_notes_are_not() {
        let lane = Lane::new(Bounds {
            messages_max: 3,
            bytes_max: 100,
        });
        assert_eq!(
            lane.push_work(deliver(500)),
            Ok(()),
            "an empty lane takes any size"
        );
        assert_eq!(lane.push_work(deliver(1)), Err(Full));
        assert!(lane.take().is_some());
        for _ in 0..3 {
            assert_eq!(lane.push_work(deliver(10)), Ok(()));
        }
        assert_eq!(lane.push_work(deliver(10)), Err(Full));
        for key in 0..100 {
            lane.push_note(Note::Subscribed { key });
        }
        let batch = lane.take().expect("a batch");
        assert_eq!((batch.work.len(), batch.notes.len()), (3, 100));
        assert!(lane.take().is_none());
    }

    #[test]
    fn a_batch_is_bounded() {
        let lane = Lane::new(Bounds {
            messages_max: 5000,
            bytes_max: 1 << 20,
        });
        for _ in 0..1500 {
            lane.push_work(deliver(1)).expect("room");
        }
        assert_eq!(lane.take().map(|batch| batch.work.len()), Some(BATCH_MAX));
        assert_eq!(
            lane.take().map(|batch| batch.work.len()),
            Some(1500 - BATCH_MAX)
        );
        assert_eq!(lane.depth(), 0);
    }
}
