//! What stands between the two halves of a call inside the process.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::wire::outlet::{Chunk, Gone};
use crate::wire::status::{Code, Status};

/// What the service may leave unread before the caller is held back; one message more always goes.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// What a message counts for: with its place, since very many may be empty.
const fn weight(message: &Bytes) -> usize {
    message.len() + 64
}

/// One task that waits.
#[derive(Debug, Default)]
struct Waiter(RefCell<Option<Waker>>);

impl Waiter {
    fn register(&self, cx: &Context<'_>) {
        let mut waker = self.0.borrow_mut();
        match waker.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        let waker = self.0.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The two directions of one call. Each waiter has one task: the last poller is woken.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    requests: RefCell<VecDeque<Bytes>>,
    unread_bytes: Cell<usize>,
    /// The caller sends no more.
    ended: Cell<bool>,
    /// The caller is gone.
    reset: Cell<bool>,
    reader: Waiter,
    watcher: Waiter,
    room: Waiter,
    /// The service has taken the call.
    started: Cell<bool>,
    answers: RefCell<VecDeque<Chunk>>,
    /// The caller has a part of a message and can do nothing before it has the rest.
    starves: Cell<bool>,
    supplier: Waiter,
    /// How the call ended, until the caller was told.
    status: RefCell<Option<Status>>,
    caller: Waiter,
}

/// The caller's side.
impl Pipe {
    pub(super) fn send(&self, message: Bytes) {
        debug_assert!(!self.ended.get(), "nothing is sent behind the end");
        let bytes = self.unread_bytes.get() + weight(&message);
        self.unread_bytes.set(bytes);
        self.requests.borrow_mut().push_back(message);
        self.reader.wake();
    }

    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let full = self.unread_bytes.get() >= UNREAD_BYTES_MAX;
        if !full || self.status.borrow().is_some() {
            return Poll::Ready(());
        }
        self.room.register(cx);
        Poll::Pending
    }

    pub(super) fn end(&self) {
        self.ended.set(true);
        self.reader.wake();
    }

    pub(super) fn reset(&self) {
        self.reset.set(true);
        // What is left is thrown away; its owners are told.
        self.answers.take();
        self.reader.wake();
        self.watcher.wake();
    }

    pub(super) fn poll_started(&self, cx: &Context<'_>) -> Poll<Result<(), Status>> {
        if self.started.get() {
            return Poll::Ready(Ok(()));
        }
        match &*self.status.borrow() {
            Some(status) => Poll::Ready(Err(status.clone())),
            None => {
                self.caller.register(cx);
                Poll::Pending
            }
        }
    }

    /// The next piece of the answers. `in_part`: the caller has a part of a message, which it can
    /// pass on only whole; so the rest has to come, however much is said to wait already.
    pub(super) fn poll_chunk(
        &self,
        in_part: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Status>> {
        let chunk = self.answers.borrow_mut().pop_front();
        self.starves.set(chunk.is_none() && in_part);
        if self.starves.get() {
            self.supplier.wake();
        }
        if let Some(chunk) = chunk {
            return Poll::Ready(Ok(Some(chunk)));
        }
        match &*self.status.borrow() {
            Some(status) if status.is_ok() => Poll::Ready(Ok(None)),
            Some(status) => Poll::Ready(Err(status.clone())),
            None => {
                self.caller.register(cx);
                Poll::Pending
            }
        }
    }
}

/// The service's side.
impl Pipe {
    pub(crate) fn poll_request(&self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        match self.try_request() {
            Ok(None) if !self.ended.get() => {
                self.reader.register(cx);
                Poll::Pending
            }
            read => Poll::Ready(read),
        }
    }

    /// The next message among those that are here; `None` says nothing about the end.
    pub(crate) fn try_request(&self) -> Result<Option<Bytes>, Status> {
        let message = self.requests.borrow_mut().pop_front();
        if let Some(message) = message {
            let left = self.unread_bytes.get().saturating_sub(weight(&message));
            self.unread_bytes.set(left);
            if left < UNREAD_BYTES_MAX {
                self.room.wake();
            }
            return Ok(Some(message));
        }
        // The order counts: an end in order that came before the reset was an end in order.
        if self.reset.get() && !self.ended.get() {
            return Err(Status::new(Code::Cancelled, "context canceled"));
        }
        Ok(None)
    }

    /// Ready when the caller needs more, whatever waits already.
    pub(crate) fn poll_starves(&self, cx: &Context<'_>) -> Poll<()> {
        if self.starves.get() {
            return Poll::Ready(());
        }
        self.supplier.register(cx);
        Poll::Pending
    }

    pub(crate) fn start(&self) {
        self.started.set(true);
        self.caller.wake();
    }

    pub(crate) fn answer(&self, chunk: Chunk) -> Result<(), Gone> {
        if self.reset.get() {
            return Err(Gone);
        }
        // Enough for one answer: a caller that is still in a part of a message says so again.
        self.starves.set(false);
        self.answers.borrow_mut().push_back(chunk);
        self.caller.wake();
        Ok(())
    }

    /// Ends the call, once; behind all answers.
    pub(crate) fn finish(&self, status: Status) -> Result<(), Gone> {
        if self.reset.get() {
            return Err(Gone);
        }
        self.status.borrow_mut().get_or_insert(status);
        self.caller.wake();
        self.room.wake();
        Ok(())
    }

    /// Ready when the caller is gone.
    pub(crate) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        if self.reset.get() {
            return Poll::Ready(());
        }
        self.watcher.register(cx);
        Poll::Pending
    }
}
