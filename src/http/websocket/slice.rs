//! How much is worked off before the reactor is let in.

use std::task::{Context, Poll, ready};

use crate::wire::ReactorTurn;

/// Bytes of messages in one go: well below a millisecond of reading and writing JSON.
const SLICE_BYTES: usize = 64 << 10;

/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 512;

/// Messages that are worked off in one go. The executor looks at its sockets when no task can run;
/// one that always has a message at hand would keep all others waiting.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    spent: usize,
    /// Set while the reactor has its turn.
    turn: Option<ReactorTurn>,
}

impl Slice {
    /// Ready when another message may be worked off; pending while the reactor has its turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.spent >= SLICE_BYTES {
            ready!(self.turn.get_or_insert_default().poll(cx));
            self.turn = None;
            self.spent = 0;
        }
        Poll::Ready(())
    }

    /// A message of so many bytes was worked off.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.spent = self.spent.saturating_add(bytes + MESSAGE_BYTES);
    }

    /// There was no other one: the reactor is let in anyway.
    pub(crate) fn rest(&mut self) {
        if self.turn.is_none() {
            self.spent = 0;
        }
    }
}
