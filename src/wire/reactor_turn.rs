//! Waiting until the reactor has looked at the sockets.

use std::task::{Context, Poll, ready};

use crate::rt::{self, Notify, Queue};

/// One pass of the reactor, waited for by a task that has other wakers, too.
///
/// A short timer in that task would not do: polled again because of another waker, it is over by
/// the clock although the reactor had no turn. So a task of its own waits, and only the reactor
/// wakes that.
#[derive(Debug, Default)]
pub(crate) struct ReactorTurn {
    passed: Notify,
    under_way: bool,
}

impl ReactorTurn {
    /// Ready once the reactor has had its turn since the first poll; then it starts over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.under_way {
            self.under_way = true;
            let passed = self.passed.clone();
            rt::spawn(Queue::Serve, "reactor turn", async move {
                rt::reactor_yield().await;
                passed.raise();
            });
        }
        ready!(self.passed.poll(cx));
        self.under_way = false;
        Poll::Ready(())
    }
}
