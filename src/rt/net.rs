//! Sockets.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::poller::{Direction, Place};

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
    socket: OwnedFd,
    place: Place,
}

impl Conn {
    /// Takes over a connected socket: makes it non-blocking and turns Nagle's delay off.
    ///
    /// # Errors
    /// What the socket options answer; when the kernel watches no more sockets.
    pub fn from_std(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Self::from_socket(stream.into())
    }

    /// Takes over one end of a local socket pair, which has no such options.
    pub(super) fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let place = Place::new(&socket)?;
        Ok(Self { socket, place })
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
        let wanted = buf.len();
        let read = self.poll_transfer(Direction::Read, wanted, cx, |socket| {
            rustix::net::recv(socket, &mut *buf, RecvFlags::DONTWAIT).map(|(_, count)| count)
        });
        counted(&RECEIVED, read)
    }

    /// Writes as much of `buf` as the socket takes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_transfer(Direction::Write, buf.len(), cx, |socket| {
            rustix::net::send(socket, buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        });
        counted(&SENT, written)
    }

    /// Writes as much of `bufs` as the socket takes, in one call.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        let written = self.poll_transfer(Direction::Write, wanted, cx, |socket| {
            let mut control = SendAncillaryBuffer::default();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            rustix::net::sendmsg(socket, bufs, &mut control, flags)
        });
        counted(&SENT, written)
    }

    /// Tries until the transfer moves something, fails, or has to wait.
    fn poll_transfer(
        &self,
        direction: Direction,
        wanted: usize,
        cx: &Context<'_>,
        mut transfer: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.place.poll(direction, cx));
            match transfer(&self.socket) {
                Ok(count) => {
                    if count < wanted {
                        self.place.fell_short(direction);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.place.exhausted(direction),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Ends a direction now.
    pub fn shutdown(&mut self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        let _already_closed = rustix::net::shutdown(&self.socket, how);
    }

    /// Breaks the connection when what was sent stays without an acknowledgement of the peer's
    /// system for so long; `None`: as the system has it, minutes. Counts in milliseconds. A local
    /// pair has no such thing.
    pub fn set_unacknowledged_max(&self, limit: Option<std::time::Duration>) {
        let limit = limit.map_or(0, |limit| {
            u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)
        });
        let _no_tcp = rustix::net::sockopt::set_tcp_user_timeout(&self.socket, limit);
    }

    /// Address of the peer.
    ///
    /// # Errors
    /// When the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let address = rustix::net::getpeername(&self.socket)?;
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        SocketAddr::try_from(address).map_err(io::Error::from)
    }
}
