//! The connection as tungstenite sees it: what cannot go on says so, and wakes the task later.

use std::io::{self, Read, Write};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use super::outgoing::Outgoing;
use super::pieces::{Part, Pieces};
use crate::http::socket::Socket;
use crate::rt::{self, Instant};

/// What is read at once: frames may be two bytes long, and are all looked at in one go.
const READ_BYTES: usize = 16 << 10;

/// What a frame counts for beside its bytes.
const FRAME_COST: usize = 512;

/// What is read and thrown away at once while the peer closes its side.
const DISCARD_BYTES: usize = 4 << 10;

/// The most of that.
const DISCARD_BYTES_MAX: usize = 1 << 20;

/// A peer that is in doubt: how long its system may take to acknowledge what it was sent. Shorter
/// than the patience of those who ask.
const DOUBTED: Duration = Duration::from_secs(1);

/// A connection for one who knows no wakers.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    /// What comes is cut here.
    pieces: Pieces,
    /// Cut and not read yet.
    cut: Bytes,
    /// What waits for the peer.
    pub(super) out: Outgoing,
    /// When the peer last gave a sign of life.
    pub(super) alive_at: Instant,
    /// Of the task that polls.
    waker: Waker,
    doubted: bool,
    /// Whether our direction has ended.
    finished: bool,
    discarded: usize,
}

impl Stream {
    pub(super) fn new(socket: Socket, frame_bytes_max: usize) -> Self {
        Self {
            socket,
            pieces: Pieces::new(frame_bytes_max),
            cut: Bytes::new(),
            out: Outgoing::default(),
            alive_at: rt::now(),
            waker: Waker::noop().clone(),
            doubted: false,
            finished: false,
            discarded: 0,
        }
    }

    /// What the next message is that was read.
    pub(super) fn next_part(&mut self) -> Part {
        self.pieces.next_part()
    }

    /// Remembers whom to wake; before each read.
    pub(super) fn attend(&mut self, cx: &Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
        }
    }

    /// Whether the peer has left behind something that it was offered.
    pub(super) fn is_blocked(&self) -> bool {
        self.socket.is_blocked()
    }

    /// Writes what waits. Ready when the kernel has all of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (before, was_blocked) = (self.out.bytes(), self.socket.is_blocked());
        let written = self.out.poll_write(&mut self.socket, cx);
        if was_blocked && self.out.bytes() < before {
            // It had left no room: it has taken some of it since.
            self.alive_at = rt::now();
        }
        ready!(written)?;
        self.socket.poll_flush(cx)
    }

    /// Ends our direction, and waits for the end of the other.
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.finished {
            if ready!(self.socket.poll_finish(cx)).is_err() {
                return Poll::Ready(());
            }
            self.finished = true;
        }
        let mut scratch = [0; DISCARD_BYTES];
        while self.discarded < DISCARD_BYTES_MAX {
            match ready!(self.socket.poll_read(cx, &mut scratch)) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.discarded += count,
            }
        }
        Poll::Ready(())
    }

    /// Says whether the connection is to break soon when the peer's system takes nothing. True
    /// when that is new: it needs something to take.
    pub(super) fn set_doubted(&mut self, doubted: bool) -> bool {
        if self.doubted == doubted {
            return false;
        }
        self.doubted = doubted;
        let limit = doubted.then_some(DOUBTED);
        self.socket.set_unacknowledged_max(limit);
        doubted
    }

    /// Ends both directions now.
    pub(super) fn abort(&mut self) {
        self.socket.abort();
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.cut.is_empty() {
            let mut cx = Context::from_waker(&self.waker);
            let most = buf.len().min(READ_BYTES);
            let (room, _) = buf.split_at_mut(most);
            let count = match self.socket.poll_read(&mut cx, room) {
                Poll::Ready(read) => {
                    self.alive_at = rt::now();
                    read?
                }
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            };
            let cut = self.pieces.take(buf.get(..count).unwrap_or_default());
            self.socket.charge(self.pieces.take_begun() * FRAME_COST);
            match cut {
                None => return Ok(count),
                // A head that has not come whole is kept back: there may be nothing to read yet.
                Some(cut) => self.cut = cut.into(),
            }
        }
        let count = buf.len().min(self.cut.len());
        let (room, _) = buf.split_at_mut(count);
        self.cut.copy_to_slice(room);
        Ok(count)
    }
}

impl Write for Stream {
    /// Takes all: how much may wait is the socket's business.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.bytes_of_a_frame(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
