//! The socket of a connection that speaks HTTP: plain or behind TLS, with its fair share of turns.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use crate::rt::{self, Conn};
use crate::wire::{Budget, FrameWatch, Side, Transport};

/// What is read at once of frames, which may cost much more than their bytes.
const FRAMES_BYTES: usize = 8 << 10;

/// What is sealed at once: a record of TLS.
const SEALED_BYTES: usize = 16 << 10;

/// What a byte counts for that is not a frame of HTTP/2: it is copied more than once on its way,
/// and a large body takes fresh memory for each.
const BYTE_COST: usize = 2;

/// A connection's bytes, both ways. Polled by one task.
#[derive(Debug)]
pub(crate) struct Socket {
    transport: Transport,
    /// Bytes that were read before and are to be read again.
    ahead: Bytes,
    budget: Budget,
    /// Of a connection of HTTP/2: what its frames cost.
    frames: Option<Box<FrameWatch>>,
    /// Whether the peer has not taken what it was offered.
    blocked: bool,
    /// Bytes that have gone to the peer, to see whether there is progress.
    written: u64,
    /// Bytes that TLS has sealed and the kernel has not taken: they are not written yet.
    owed: usize,
}

impl Socket {
    /// A socket without TLS.
    pub(crate) fn plain(conn: Conn) -> Self {
        Self::new(Transport::Plain(conn))
    }

    /// Whatever carries the bytes.
    pub(crate) const fn new(transport: Transport) -> Self {
        Self {
            transport,
            ahead: Bytes::new(),
            budget: Budget::new(),
            frames: None,
            blocked: false,
            written: 0,
            owed: 0,
        }
    }

    /// From now on frames of HTTP/2 are read, from the opening on. They count for what they cost,
    /// and a flood of those that carry no work is an error.
    pub(crate) fn watch_frames(&mut self) {
        self.frames = Some(Box::new(FrameWatch::new(Side::Server, rt::now())));
    }

    /// Puts bytes back: they are read next.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.ahead.is_empty(), "bytes are put back in one piece");
        self.ahead = bytes;
    }

    /// Reads what is there, up to the length of `buf`; zero: the peer sends no more. After a good
    /// deal it is pending until the other sockets of the core were looked at.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.frames.is_some() {
            return self.poll_read_frames(cx, buf);
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.len());
            let (head, _) = buf.split_at_mut(count);
            self.ahead.copy_to_slice(head);
            return Poll::Ready(Ok(count));
        }
        ready!(self.budget.poll_read(cx));
        let read = self.transport.poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(count)) => self.budget.has_read(*count * BYTE_COST),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.budget.found_nothing(),
        }
        read
    }

    /// What was read has cost more than its bytes.
    pub(crate) fn charge(&mut self, cost: usize) {
        self.budget.has_read(cost);
    }

    /// As [`poll_read`](Self::poll_read), no further than the budget of the turn goes.
    fn poll_read_frames(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.budget.poll_read(cx));
        let Some(frames) = &mut self.frames else {
            return Poll::Pending;
        };
        if let Some(kind) = frames.flood() {
            return Poll::Ready(Err(io::Error::other(format!("flood of {kind} frames"))));
        }
        if self.ahead.is_empty() {
            let mut piece = [0; FRAMES_BYTES];
            let (piece, _) = piece.split_at_mut(buf.len().min(FRAMES_BYTES));
            match self.transport.poll_read(cx, piece) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    let read = piece.get(..count).unwrap_or_default();
                    self.ahead = Bytes::copy_from_slice(read);
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => {
                    self.budget.found_nothing();
                    return Poll::Pending;
                }
            }
        }
        let most = self.ahead.len().min(buf.len());
        let unread = self.ahead.get(..most).unwrap_or_default();
        let (count, cost) = frames.scan(unread, rt::now(), self.budget.read_left());
        let (room, _) = buf.split_at_mut(count);
        self.ahead.copy_to_slice(room);
        self.budget.has_read(cost);
        Poll::Ready(Ok(count))
    }

    /// Hands over what the peer takes of `buf`. Taken means that the kernel has it, behind TLS too:
    /// whoever is told so lets go of what the bytes carried. While it is pending, the next call
    /// begins with the same bytes.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.budget.poll_write(cx));
        let written = match &mut self.transport {
            Transport::Plain(conn) => conn.poll_write(cx, buf),
            Transport::Tls(_) => self.poll_write_sealed(cx, buf),
        };
        self.account(written)
    }

    /// As [`poll_write`](Self::poll_write), of several pieces in one step where that is possible.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.budget.poll_write(cx));
        let written = match &mut self.transport {
            Transport::Plain(conn) => conn.poll_write_vectored(cx, bufs),
            Transport::Tls(_) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                self.poll_write_sealed(cx, first.map_or(&[], |buf| buf))
            }
        };
        self.account(written)
    }

    /// Seals some of `buf` and waits until the kernel has taken it.
    fn poll_write_sealed(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.owed == 0 {
            let some = buf.get(..SEALED_BYTES).unwrap_or(buf);
            self.owed = ready!(self.transport.poll_write(cx, some))?;
        }
        ready!(self.transport.poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.owed)))
    }

    /// Ready when all that was handed over is with the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport.poll_flush(cx);
        self.blocked = flushed.is_pending();
        flushed
    }

    /// Ends our direction once all that was handed over has left.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_finish(cx)
    }

    /// Ends both directions now.
    pub(crate) fn abort(&mut self) {
        self.transport.abort();
    }

    /// See [`Conn::set_unacknowledged_max`].
    pub(crate) fn set_unacknowledged_max(&self, limit: Option<std::time::Duration>) {
        self.transport.set_unacknowledged_max(limit);
    }

    /// Whether the peer takes nothing of what it was offered last.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bytes that were handed over since the beginning.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    fn account(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.blocked = written.is_pending();
        if let Poll::Ready(Ok(count)) = &written {
            self.budget.has_written(*count);
            self.written += u64::try_from(*count).unwrap_or(0);
        }
        written
    }
}
