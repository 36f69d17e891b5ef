//! Waking a waiting task from the same executor.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A flag that one task waits for and any other task of the executor raises.
///
/// Raising it before anyone waits is remembered; several raises count as one. Clones share the
/// flag.
#[derive(Clone, Debug, Default)]
pub struct Notify(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// Makes a lowered flag.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and wakes the waiter, if there is one.
    pub fn raise(&self) {
        if !self.0.raised.replace(true) {
            // Taken out first: waking may run code that registers anew.
            let waiter = self.0.waiter.borrow_mut().take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Ready when the flag is raised; lowers it. Only the last poller is woken.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.raised.replace(false) {
            return Poll::Ready(());
        }
        let mut waiter = self.0.waiter.borrow_mut();
        match waiter.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for the flag and lowers it.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}
