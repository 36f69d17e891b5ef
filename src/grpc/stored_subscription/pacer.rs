//! One timer for all subscriptions of a core that wait a moment until their next ping.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use super::confirmation::PING_EVERY;
use crate::rt::{self, Queue};

/// Wakes those who wait, all at once, a moment after the first of them came. Without any there is
/// no timer.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Pacer {
    /// Times that it woke; tells who registered since the last.
    turns: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Pace {
    pacer: Rc<Pacer>,
    /// The turn that wakes this one.
    registered: Option<u64>,
}

impl Pace {
    pub(super) fn new(pacer: &Rc<Pacer>) -> Self {
        Self {
            pacer: pacer.clone(),
            registered: None,
        }
    }

    /// Wakes the task at the next turn. Always to be called from the same task. True for the first
    /// time in a turn.
    pub(super) fn register(&mut self, cx: &Context<'_>) -> bool {
        let turn = self.pacer.turns.get();
        if self.registered.replace(turn) == Some(turn) {
            return false;
        }
        let first = {
            let mut waiters = self.pacer.waiters.borrow_mut();
            waiters.push(cx.waker().clone());
            waiters.len() == 1
        };
        if first {
            let pacer = self.pacer.clone();
            rt::spawn(Queue::Serve, "pacer", async move {
                rt::sleep(PING_EVERY).await;
                pacer.turns.set(pacer.turns.get() + 1);
                let waiters = pacer.waiters.take();
                waiters.into_iter().for_each(Waker::wake);
            });
        }
        true
    }
}
