//! The handle to a running connection.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::rt::{Notify, Sleep};
use crate::wire::outlet::{ConnectionOutput, Gone};

/// A handle to a connection: ends it, or asks whether its peer lives. Clones are the same handle;
/// it outlives the connection and does nothing then.
#[derive(Clone, Debug, Default)]
pub struct ConnectionControl(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Wakes the driver when something below was asked for.
    asked: Notify,
    drain: Cell<bool>,
    close: Cell<bool>,
    ended: Cell<bool>,
    /// Pings by number: the highest asked for, sent and answered. h2 sends one at a time.
    ping_wanted: Cell<u64>,
    ping_sent: Cell<u64>,
    ping_answered: Cell<u64>,
    ping_waiters: RefCell<Slab<Waker>>,
    /// Pings are answered by the peer's program, when it reads, not by its transport.
    answers_late: Cell<bool>,
    /// How many want to know whether the peer's system lives.
    doubts: Cell<u32>,
    /// Calls that wait for what more calls would only wait for longer.
    holds: Cell<u32>,
    output: Rc<ConnectionOutput>,
}

impl ConnectionControl {
    /// Makes the handle for a connection that is about to be served.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the peer to open no more calls, and closes when the last open one has ended.
    pub fn drain(&self) {
        self.0.drain.set(true);
        self.0.asked.raise();
    }

    /// Closes now; open calls are broken off.
    pub fn close(&self) {
        self.0.close.set(true);
        self.0.asked.raise();
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ended.get()
    }

    /// Asks the peer for a sign of life.
    ///
    /// The ping goes out behind everything that streams report as written
    /// ([`ResponseStream::written`](crate::wire::server::ResponseStream::written)) at this moment;
    /// so when it is answered, the peer's transport has received all of that.
    ///
    /// # Errors
    /// [`Gone`] when the connection ends first.
    #[must_use = "the answer is what tells"]
    pub fn ping(&self) -> Ping {
        // A ping that was sent before this moment proves nothing about what came after it.
        let number = self.0.ping_sent.get() + 1;
        if self.0.ping_wanted.get() < number {
            self.0.ping_wanted.set(number);
            self.0.asked.raise();
        }
        Ping {
            control: self.clone(),
            number,
            slot: None,
        }
    }

    /// Whether the peer lives: it answers a ping in time, or what carries its answers says so.
    ///
    /// A program that answers pings only when it reads may be busy with what it has read. Its
    /// connection lives as long as its system acknowledges what is sent; the transport ends it
    /// otherwise, while there are [`doubts`](Self::is_doubted).
    pub(crate) async fn answers_within(&self, patience: Duration) -> bool {
        let doubt = self.0.answers_late.get().then(|| Doubt::new(self));
        let mut ping = pin!(self.ping());
        // The transport has as long again to find out.
        let factor = if doubt.is_some() { 2 } else { 1 };
        let mut limit = Sleep::new(patience * factor);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = ping.as_mut().poll(cx) {
                return Poll::Ready(answer.is_ok());
            }
            limit.poll(cx).map(|()| doubt.is_some())
        })
        .await
    }

    /// Says that pings are answered by the peer's program. The transport serves
    /// [`is_doubted`](Self::is_doubted) then.
    pub(crate) fn mark_answers_late(&self) {
        self.0.answers_late.set(true);
    }

    /// Whether the transport is to end the connection soon when the peer's system acknowledges
    /// nothing.
    pub(crate) fn is_doubted(&self) -> bool {
        self.0.doubts.get() > 0
    }

    /// Has nothing further read from the peer while the guard lives: what it sends next would have
    /// to wait, too, and waits at less cost on its side. Only for a moment, see the driver: a peer
    /// whose pings are not read takes the connection for dead.
    #[must_use = "dropping it lets the peer go on"]
    pub fn hold(&self) -> Hold {
        self.0.holds.set(self.0.holds.get() + 1);
        Hold(self.clone())
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.holds.get() > 0
    }

    /// Bytes that wait in the connection's streams for the peer to take them.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.0.output.streams_bytes.get() + self.0.output.answers_bytes.get()
    }

    pub(crate) fn output(&self) -> &Rc<ConnectionOutput> {
        &self.0.output
    }

    pub(crate) fn asked(&self) -> &Notify {
        &self.0.asked
    }

    pub(crate) fn wants_drain(&self) -> bool {
        self.0.drain.get()
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.0.close.get()
    }

    pub(crate) fn wants_ping(&self) -> bool {
        let sent = self.0.ping_sent.get();
        self.0.ping_wanted.get() > sent && self.0.ping_answered.get() == sent
    }

    /// Asks for a ping that nobody waits for.
    pub(crate) fn want_ping(&self) {
        self.0
            .ping_wanted
            .set(self.0.ping_wanted.get().max(self.0.ping_sent.get() + 1));
    }

    pub(crate) fn ping_was_sent(&self) {
        self.0.ping_sent.set(self.0.ping_sent.get() + 1);
    }

    /// The ping under way was answered.
    pub(crate) fn ping_was_answered(&self) {
        self.0.ping_answered.set(self.0.ping_sent.get());
        self.wake_waiters();
        if self.wants_ping() {
            // One that was asked for meanwhile goes out in the driver's next turn.
            self.0.asked.raise();
        }
    }

    pub(crate) fn mark_ended(&self) {
        self.0.ended.set(true);
        self.wake_waiters();
    }

    fn wake_waiters(&self) {
        for (_, waiter) in self.0.ping_waiters.borrow().iter() {
            waiter.wake_by_ref();
        }
    }
}

/// Somebody wants to know whether the peer's system lives.
struct Doubt<'a>(&'a Inner);

impl<'a> Doubt<'a> {
    fn new(control: &'a ConnectionControl) -> Self {
        let inner = &*control.0;
        inner.doubts.set(inner.doubts.get() + 1);
        inner.asked.raise();
        Self(inner)
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.0.doubts.set(self.0.doubts.get().saturating_sub(1));
        self.0.asked.raise();
    }
}

/// Keeps a connection from being read on; see [`ConnectionControl::hold`].
#[derive(Debug)]
pub struct Hold(ConnectionControl);

impl Drop for Hold {
    fn drop(&mut self) {
        let Inner { holds, asked, .. } = &*self.0.0;
        holds.set(holds.get().saturating_sub(1));
        if holds.get() == 0 {
            asked.raise();
        }
    }
}

/// Tells those who wait for the connection that it is gone, also when its task panics.
pub(crate) struct MarkEnded(pub(crate) ConnectionControl);

impl Drop for MarkEnded {
    fn drop(&mut self) {
        self.0.mark_ended();
    }
}

/// Waits for the answer to a ping; see [`ConnectionControl::ping`].
#[derive(Debug)]
pub struct Ping {
    control: ConnectionControl,
    number: u64,
    slot: Option<usize>,
}

impl Future for Ping {
    type Output = Result<(), Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = Rc::clone(&self.control.0);
        if inner.ping_answered.get() >= self.number {
            return Poll::Ready(Ok(()));
        }
        if inner.ended.get() {
            return Poll::Ready(Err(Gone));
        }
        let mut waiters = inner.ping_waiters.borrow_mut();
        match self.slot.and_then(|slot| waiters.get_mut(slot)) {
            Some(known) => known.clone_from(cx.waker()),
            None => self.slot = Some(waiters.insert(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.control.0.ping_waiters.borrow_mut().try_remove(slot);
        }
    }
}
