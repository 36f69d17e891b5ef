//! The corked connection: what h2 reads from and writes to.
//!
//! * **Writing.** Frames gather in one buffer; `poll_flush` says "done" without doing anything; the
//!   driver calls [`Cork::poll_flush_out`] once at the end of its turn. While more than
//!   [`OUT_BYTES_MAX`] waits and the socket takes nothing, h2 is told to wait.
//! * **Reading.** One large read serves many of h2's small ones, which go on for as long as there
//!   is something.
//! * **Budget.** After a good deal of either the reactor is let in, see [`budget`]. What is read
//!   counts for what it costs, see [`watch`].
//! * **Idle.** Both buffers belong to the executor's [`pool`] and are held only while they hold
//!   bytes, so a connection that waits owns none.
//!
//! "Flushed" does not mean "on the wire" here. Whoever drops the connection first calls
//! [`Cork::close`], which writes out what is left.

mod budget;
mod pool;
mod tls;
mod watch;

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rt::{self, Conn, Instant};
use crate::wire::alarm::Alarm;
pub(crate) use crate::wire::cork::budget::Budget;
use crate::wire::cork::pool::{READ_BYTES, ReadBuffer, WRITE_BYTES};
pub(crate) use crate::wire::cork::tls::TlsConn;
pub(crate) use crate::wire::cork::watch::FrameWatch;
use crate::wire::reactor_turn::ReactorTurn;

/// Above this h2 waits for the socket.
const OUT_BYTES_MAX: usize = 64 << 10;

/// The least that is read at once.
const APPETITE_BYTES_MIN: usize = 2 << 10;

/// How long the last bytes may take to leave, and the peer to close its side after them.
const LINGER: Duration = Duration::from_secs(1);

/// The most that is read and thrown away while the peer closes its side.
const LINGER_BYTES_MAX: usize = 64 << 10;

/// What a byte of that counts for: nobody looks at it, and all that it costs is its way here.
const LINGER_BYTE_COST: usize = 4;

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The socket as it is.
    Plain(Conn),
    /// The socket behind TLS. It may hold bytes that it has taken and the socket has not.
    Tls(Box<TlsConn>),
}

impl Transport {
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(conn) => conn.poll_read(cx, buf),
            Self::Tls(conn) => conn.poll_read(cx, buf),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(conn) => conn.poll_write(cx, buf),
            Self::Tls(conn) => conn.poll_write(cx, buf),
        }
    }

    /// Ready when all that was taken is with the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(conn) => conn.poll_flush(cx),
        }
    }

    /// Ends our direction once all that was taken has left.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(conn) => {
                conn.shutdown(Shutdown::Write);
                Poll::Ready(Ok(()))
            }
            Self::Tls(conn) => conn.poll_finish(cx),
        }
    }

    /// Ends both directions at once, whatever has not left.
    pub(crate) fn abort(&mut self) {
        match self {
            Self::Plain(conn) => conn.shutdown(Shutdown::Both),
            Self::Tls(conn) => conn.shutdown(Shutdown::Both),
        }
    }

    /// See [`Conn::set_unacknowledged_max`].
    pub(crate) fn set_unacknowledged_max(&self, limit: Option<Duration>) {
        match self {
            Self::Plain(conn) => conn.set_unacknowledged_max(limit),
            Self::Tls(conn) => conn.conn().set_unacknowledged_max(limit),
        }
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Reads the client's opening before the first frame.
    Server,
    /// Reads frames from the first byte on.
    Client,
}

/// How reading ended. When h2 is told, it lets go of all that the connection held and wakes all of
/// its calls: hundreds that end at once stand in line for that.
#[derive(Debug)]
struct Ending {
    turn: ReactorTurn,
    outcome: io::Result<()>,
}

impl Ending {
    fn new(outcome: io::Result<()>) -> Self {
        let turn = ReactorTurn::default();
        Self { turn, outcome }
    }
}

/// The corked connection. h2 holds one clone, the driver another; both run in the driver's task.
#[derive(Clone, Debug)]
pub(crate) struct Cork(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    /// What h2 has written; bytes before `out_start` are with the socket already.
    out: Vec<u8>,
    out_start: usize,
    /// What the socket gave and h2 has not taken.
    input: Option<ReadBuffer>,
    /// How much is read at once: less while what is read cannot be worked off at once.
    appetite: usize,
    budget: Budget,
    /// Nothing is read, and h2 gets nothing, for now.
    input_held: bool,
    watch: FrameWatch,
    /// The peer has ended its side, or the socket failed, and it is not this one's turn yet.
    ending: Option<Ending>,
    /// When the peer last gave a sign of life.
    alive_at: Instant,
    /// Whether the socket refused bytes the last time.
    blocked: bool,
    /// Whether h2 was told to wait for room.
    refused: bool,
    failed: Option<io::ErrorKind>,
    /// Bytes that came when nobody wanted any more.
    thrown_away: usize,
}

impl Cork {
    pub(crate) fn new(transport: Transport, side: Side) -> Self {
        let now = rt::now();
        Self(Rc::new(RefCell::new(Inner {
            transport,
            out: Vec::new(),
            out_start: 0,
            input: None,
            appetite: READ_BYTES,
            budget: Budget::new(),
            input_held: false,
            watch: FrameWatch::new(side, now),
            ending: None,
            alive_at: now,
            blocked: false,
            refused: false,
            failed: None,
            thrown_away: 0,
        })))
    }

    /// Writes what has gathered. Pending when the socket takes no more; the driver is woken then.
    ///
    /// # Errors
    /// What the socket answers.
    pub(crate) fn poll_flush_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush_out(cx)
    }

    /// Whether h2 was told to wait for room since the last call. When a flush has made room, h2
    /// must be polled again: what woke for the room may have been used up by that flush.
    pub(crate) fn take_refused(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().refused)
    }

    /// Hands nothing over until [`take_input`](Self::take_input). Whoever holds sees to being
    /// polled.
    pub(crate) fn hold_input(&self) {
        self.0.borrow_mut().input_held = true;
    }

    /// Reads again; says whether nothing was read before. h2 must be polled then: nothing else
    /// wakes it.
    pub(crate) fn take_input(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().input_held)
    }

    /// When the peer last gave a sign of life: sent something, or took something after it had
    /// refused to.
    pub(crate) fn alive_at(&self) -> Instant {
        self.0.borrow().alive_at
    }

    /// The kind of frames with which the peer floods us, if it does. Nothing more is read then.
    pub(crate) fn flood(&self) -> Option<&'static str> {
        self.0.borrow().watch.flood()
    }

    /// Writes out what is left, tells the peer that no more will come, and waits a little for it
    /// to close its side: a socket closed with unread bytes answers with a reset, and the peer
    /// would lose our last words.
    pub(crate) async fn close(&self) {
        let mut limit = Alarm::new(LINGER);
        std::future::poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if limit.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            inner.poll_close(cx)
        })
        .await;
        let mut inner = self.0.borrow_mut();
        inner.transport.abort();
        inner.give_back();
    }
}

impl Inner {
    fn waiting(&self) -> usize {
        self.out.len() - self.out_start
    }

    fn poll_flush_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .out
            .get(self.out_start..)
            .filter(|rest| !rest.is_empty())
        {
            ready!(self.budget.poll_write(cx));
            match self.transport.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero))),
                Poll::Ready(Ok(count)) => {
                    self.out_start += count;
                    self.budget.has_written(count);
                    self.watch.credit();
                    if std::mem::take(&mut self.blocked) {
                        self.alive_at = rt::now();
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.fail(error.kind());
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    self.blocked = true;
                    pool::shrink_blocked(&mut self.out, &mut self.out_start);
                    return Poll::Pending;
                }
            }
        }
        self.out_start = 0;
        pool::give_write(&mut self.out);
        match &mut self.transport {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(_) => self.poll_flush_sealed(cx),
        }
    }

    /// Writes what TLS has taken and the socket has not.
    fn poll_flush_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Transport::Tls(conn) = &mut self.transport else {
            return Poll::Ready(Ok(()));
        };
        let flushed = conn.poll_flush(cx);
        if conn.take_progress() && self.blocked {
            self.alive_at = rt::now();
        }
        self.blocked = flushed.is_pending();
        if let Poll::Ready(Err(error)) = flushed {
            self.fail(error.kind());
            return Poll::Ready(Err(error));
        }
        flushed
    }

    /// The output is lost; drops it so that nobody tries again.
    fn fail(&mut self, kind: io::ErrorKind) -> io::Error {
        self.failed = Some(kind);
        self.out_start = 0;
        pool::give_write(&mut self.out);
        kind.into()
    }

    /// Makes room for output. Pending while too much waits.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if self.waiting() >= OUT_BYTES_MAX && self.poll_flush_out(cx)?.is_pending() {
            // Some of it may have gone.
            if self.waiting() >= OUT_BYTES_MAX {
                self.refused = true;
                return Poll::Pending;
            }
        }
        pool::take_write(&mut self.out);
        if self.out_start > 0 {
            // Some has gone and the rest has not: the room is at the front.
            self.out.copy_within(self.out_start.., 0);
            self.out.truncate(self.out.len() - self.out_start);
            self.out_start = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes as much of `bytes` as a buffer holds: a peer may ask for frames of 16 MiB, and h2
    /// hands them over whole.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let room = WRITE_BYTES.saturating_sub(self.out.len());
        let (piece, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.out.extend_from_slice(piece);
        piece.len()
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            return self.poll_ending(cx);
        }
        let mut buffer = pool::take_read();
        match self.transport.poll_read(cx, buffer.space_of(self.appetite)) {
            Poll::Ready(Ok(0)) => {
                pool::give_read(buffer);
                self.ending = Some(Ending::new(Ok(())));
                self.poll_ending(cx)
            }
            Poll::Ready(Ok(count)) => {
                self.budget.has_come();
                self.alive_at = rt::now();
                buffer.filled(count);
                self.input = Some(buffer);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                pool::give_read(buffer);
                self.ending = Some(Ending::new(Err(error)));
                self.poll_ending(cx)
            }
            Poll::Pending => {
                self.budget.found_nothing();
                pool::give_read(buffer);
                Poll::Pending
            }
        }
    }

    /// Tells how reading ended when it is time.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(ending) = &mut self.ending {
            ready!(ending.turn.poll(cx));
        }
        Poll::Ready(self.ending.take().map_or(Ok(()), |ending| ending.outcome))
    }

    /// Hands over what was read, as much of it as there is room and budget for.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let Some(mut input) = self.input.take() else {
            return;
        };
        let unread = input.unread();
        let (piece, _) = unread
            .split_at_checked(buf.remaining())
            .unwrap_or((unread, &[]));
        let budget = self.budget.read_left();
        let (count, cost) = self.watch.scan(piece, self.alive_at, budget);
        buf.put_slice(piece.get(..count).unwrap_or_default());
        input.consume(count);
        self.budget.spend_read(cost);
        if input.unread().is_empty() {
            self.appetite = (self.appetite * 2).min(READ_BYTES);
            pool::give_read(input);
        } else if self.budget.read_left() == 0 {
            self.watch.breathe();
            // Many connections may wait at a time, each with what it was too quick to read.
            if input.consumed() < input.unread().len() {
                self.appetite = (self.appetite / 2).max(APPETITE_BYTES_MIN);
            }
            self.input = Some(pool::shrink_waiting(input));
        } else {
            self.input = Some(input);
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A socket that fails now has nothing left to lose.
        let flushed = self.failed.is_some() || ready!(self.poll_flush_out(cx)).is_err();
        if flushed {
            return Poll::Ready(());
        }
        if ready!(self.transport.poll_finish(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut buffer = pool::take_read();
        let poll = loop {
            if self.budget.poll_read(cx).is_pending() {
                break Poll::Pending;
            }
            match self.transport.poll_read(cx, buffer.space()) {
                Poll::Ready(Ok(count)) if count > 0 && self.thrown_away < LINGER_BYTES_MAX => {
                    self.thrown_away += count;
                    self.budget.spend_read(LINGER_BYTE_COST * count);
                }
                Poll::Ready(_) => break Poll::Ready(()),
                Poll::Pending => break Poll::Pending,
            }
        };
        pool::give_read(buffer);
        poll
    }

    fn give_back(&mut self) {
        pool::give_write(&mut self.out);
        self.out_start = 0;
        if let Some(input) = self.input.take() {
            pool::give_read(input);
        }
    }
}

impl AsyncRead for Cork {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        // After a flood the driver, which looks after each turn, ends the connection.
        if inner.input_held || inner.watch.flood().is_some() {
            return Poll::Pending;
        }
        ready!(inner.budget.poll_read(cx));
        if inner.input.is_none() {
            ready!(inner.poll_input(cx))?;
        }
        inner.hand_over(buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cork {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        Poll::Ready(Ok(inner.append(buf)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        let mut taken = 0;
        for buf in bufs {
            let count = inner.append(buf);
            taken += count;
            if count < buf.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        // h2 copies frames of up to 256 bytes and hands larger ones over as they are; with "no"
        // it would copy up to 1 KiB, and we copy anyway.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver flushes when its turn ends.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        if let Some(kind) = inner.failed {
            return Poll::Ready(Err(kind.into()));
        }
        ready!(inner.poll_flush_out(cx))?;
        inner.transport.poll_finish(cx)
    }
}
