//! How much a connection may move before the reactor is let in.
//!
//! The executor looks at sockets when no task can run. A connection whose peer keeps up, together
//! with the calls that feed it, always has a task that can run: without a budget it would keep
//! every other socket of the core waiting. When many have something to move, each has less of it at
//! a time ([`crate::wire::quantum`]).

use std::task::{Context, Poll, ready};

use crate::wire::quantum::part_of;
use crate::wire::reactor_turn::ReactorTurn;

/// What is read before the reactor has its turn. By what frames cost, a flood of them takes about a
/// tenth of a millisecond then: one with a single call waits for little beside two that flood.
const READ_BYTES: usize = 256 << 10;

/// What is written before that. Larger: peers that take what we write send window updates, and
/// those come through the reactor.
const WRITE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Budget {
    read_left: usize,
    write_left: usize,
    /// The last read found nothing; what comes next has come through the reactor.
    read_dry: bool,
    /// Set while the reactor has its turn.
    yielding: Option<ReactorTurn>,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            read_left: READ_BYTES,
            write_left: WRITE_BYTES,
            read_dry: false,
            yielding: None,
        }
    }

    /// Pending when enough was read; the task is woken when the reactor has had its turn.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read_left > 0 {
            Poll::Ready(())
        } else {
            self.poll_yield(cx)
        }
    }

    /// Pending when enough was written.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_left > 0 {
            Poll::Ready(())
        } else {
            self.poll_yield(cx)
        }
    }

    /// So many bytes came, and are worked off with that.
    pub(crate) fn has_read(&mut self, count: usize) {
        self.has_come();
        self.spend_read(count);
    }

    /// Something came; what it costs is told as it is worked off.
    pub(super) fn has_come(&mut self) {
        if std::mem::take(&mut self.read_dry) {
            self.write_left = part_of(WRITE_BYTES);
        }
    }

    /// What was read cost so much to work off, in bytes.
    pub(super) fn spend_read(&mut self, cost: usize) {
        self.read_left = self.read_left.saturating_sub(cost);
    }

    /// What may be spent before the reactor has its turn.
    pub(crate) const fn read_left(&self) -> usize {
        self.read_left
    }

    pub(crate) fn found_nothing(&mut self) {
        self.read_dry = true;
        self.read_left = part_of(READ_BYTES);
    }

    pub(crate) fn has_written(&mut self, count: usize) {
        self.write_left = self.write_left.saturating_sub(count);
    }

    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.yielding.get_or_insert_default().poll(cx));
        self.yielding = None;
        self.read_left = part_of(READ_BYTES);
        self.write_left = part_of(WRITE_BYTES);
        Poll::Ready(())
    }
}
