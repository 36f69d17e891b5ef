//! Waiting until the executor has looked at its sockets.

use std::task::{Context, Poll};

use crate::rt;

/// One look at the sockets, waited for by a task that has other wakers, too.
///
/// A short timer in that task would not do: polled again because of another waker, it is over by
/// the clock although nobody has looked.
#[derive(Debug, Default)]
pub(crate) struct ReactorTurn(rt::Look);

impl ReactorTurn {
    /// Ready once the sockets were looked at since the first poll; then it starts over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}
