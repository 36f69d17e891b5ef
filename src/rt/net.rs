//! Sockets.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::io::{AsyncRead, AsyncWrite};

thread_local! {
    static RECEIVED: Cell<u64> = const { Cell::new(0) };
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that the connections of this executor have moved since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from sockets.
    pub received: u64,
    /// Bytes written to sockets.
    pub sent: u64,
}

/// Reads the counts of the calling executor.
#[must_use]
pub fn traffic() -> Traffic {
    Traffic {
        received: RECEIVED.get(),
        sent: SENT.get(),
    }
}

/// Counts a finished transfer.
fn counted(
    counter: &'static std::thread::LocalKey<Cell<u64>>,
    moved: Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = &moved {
        counter.set(counter.get() + u64::try_from(*bytes).unwrap_or(u64::MAX));
    }
    moved
}

/// A connected stream socket that belongs to this executor.
///
/// One task polls it: the last poller of each direction is the one that is woken.
#[derive(Debug)]
pub struct Conn {
    stream: glommio::net::TcpStream,
}

impl Conn {
    /// Takes over a connected socket: makes it non-blocking and turns Nagle's delay off.
    ///
    /// # Errors
    /// What the socket options answer.
    pub fn from_std(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self::from_socket(stream.into()))
    }

    /// Takes over one end of a local socket pair, which has no such options.
    pub(super) fn from_socket(socket: socket2::Socket) -> Self {
        Self {
            stream: glommio::net::TcpStream::from(socket),
        }
    }

    /// Connects to `address`; the attempt runs on the blocking thread and ends after `timeout`.
    ///
    /// # Errors
    /// What `connect` answers; `TimedOut`.
    pub async fn connect(address: SocketAddr, timeout: std::time::Duration) -> io::Result<Self> {
        let stream = super::blocking(move || TcpStream::connect_timeout(&address, timeout)).await;
        let stream = stream.ok_or_else(|| io::Error::other("connect panicked"))??;
        Self::from_std(stream)
    }

    /// Reads what is there, up to the length of `buf`. Zero: the peer sends no more. A reset with
    /// a pending read may show as zero too, so an end with calls open counts as broken.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        counted(&RECEIVED, Pin::new(&mut self.stream).poll_read(cx, buf))
    }

    /// Writes as much of `buf` as the socket takes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        counted(&SENT, Pin::new(&mut self.stream).poll_write(cx, buf))
    }

    /// Writes as much of `bufs` as the socket takes, in one call.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        counted(
            &SENT,
            Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        )
    }

    /// Ends a direction now. Before dropping a connection call it with `Both`: with a read poll
    /// pending in the kernel, a bare drop delays the FIN until the reactor turns.
    pub fn shutdown(&mut self, how: Shutdown) {
        // The runtime's shutdown never waits: behind its future is the plain system call.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _already_closed = self.stream.poll_shutdown(&mut cx, how);
    }

    /// Address of the peer.
    ///
    /// # Errors
    /// When the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr().map_err(io::Error::other)
    }
}
