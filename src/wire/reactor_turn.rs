//! Waiting until others have had their turn.

use std::task::{Context, Poll};

use crate::rt;

/// A place in the executor's line, waited for by a task that has other wakers, too: the sockets are
/// looked at meanwhile, and whoever came before goes on.
///
/// A short timer in that task would not do: polled again because of another waker, it is over by
/// the clock although nobody has looked.
#[derive(Debug, Default)]
pub(crate) struct ReactorTurn(rt::PlaceInLine);

impl ReactorTurn {
    /// Ready once the sockets were looked at since the first poll and it is this one's turn; then
    /// it starts over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}
