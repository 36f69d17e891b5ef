//! The encrypted transport: rustls between the cork and the socket.
//!
//! ```text
//!   cork::out ──► session.writer ─ seals ─► records ──► one vectored write of the socket
//!   cork::input ◄── session.reader ◄─ opens ◄─ input ◄── one read of the socket
//! ```
//!
//! * **Writing.** The cork hands over a turn's output at once, so records are as full as they can
//!   be. The sealed records stay in the session until the socket takes them; nothing more is taken
//!   from the cork before. So at most one buffer of the cork waits here, sealed.
//! * **Reading.** The session would read 4 KiB at a time; one large read feeds it piece by piece.
//!   What it has opened is taken before it is fed again: it refuses more than it has room for.
//! * **Handshakes.** Those of a server are made in [`handshake`], and their cryptography elsewhere;
//!   a client's are made here, one at a time.
//! * **End.** A `close_notify` goes before the end of the socket. One that is missing on the other
//!   side is no error here: HTTP/2 says itself where its streams end.

mod handshake;

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::pool::{self, ReadBuffer};
use crate::model::identity::CertificateNames;
use crate::rt::Conn;
use crate::wire::alarm::Alarm;
use crate::wire::control::ConnectionControl;
use crate::wire::tls::{ClientTls, Error, ServerTls, Standing};

/// An encrypted connection after its handshake.
#[derive(Debug)]
pub(crate) struct TlsConn {
    conn: Conn,
    session: rustls::Connection,
    /// The names in the certificate that the client has shown, and what it is watched by.
    certificate: Option<Rc<CertificateNames>>,
    standing: Option<Standing>,
    /// For messages: the server's name, or "the client".
    peer: Box<str>,
    /// Sealed bytes that the session has not been fed with.
    input: Option<ReadBuffer>,
    /// What ended the session, until it has been told.
    failed: Option<Error>,
    /// The peer's side of the socket has ended.
    ended: bool,
    /// The peer has said something, beside its handshake.
    heard: bool,
    said_goodbye: bool,
    /// The socket has taken something since the cork last asked.
    progress: bool,
}

impl TlsConn {
    /// The client's side; fails unless the server proves its name and agrees on the protocol.
    pub(crate) async fn connect(conn: Conn, tls: &ClientTls) -> Result<Self, Error> {
        let peer = tls.server_name();
        let this = Self::new(conn, tls.session()?, peer);
        let timeout = tls.handshake_timeout();
        this.shake_hands(timeout, |agreed| tls.accepts(agreed))
            .await
    }

    /// The server's side. A client that shows a certificate is told to leave by `control` when
    /// that ends.
    pub(crate) async fn accept(
        conn: Conn,
        tls: &ServerTls,
        timeout: Duration,
        control: &ConnectionControl,
    ) -> Result<Self, Error> {
        handshake::accept(conn, tls, timeout, control).await
    }

    /// The names that the client has proved.
    pub(crate) const fn certificate(&self) -> Option<&Rc<CertificateNames>> {
        self.certificate.as_ref()
    }

    fn new(conn: Conn, mut session: rustls::Connection, peer: String) -> Self {
        // The cork bounds what waits.
        session.set_buffer_limit(None);
        Self {
            conn,
            session,
            certificate: None,
            standing: None,
            peer: peer.into_boxed_str(),
            input: None,
            failed: None,
            ended: false,
            heard: false,
            said_goodbye: false,
            progress: false,
        }
    }

    async fn shake_hands(
        mut self,
        timeout: Duration,
        accepts: impl Fn(Option<&[u8]>) -> bool,
    ) -> Result<Self, Error> {
        let mut limit = Alarm::new(timeout);
        let shaken = std::future::poll_fn(|cx| {
            let shaken = self.poll_handshake(cx);
            if shaken.is_pending() && limit.poll(cx).is_ready() {
                let peer = self.peer.to_string();
                let after = timeout;
                return Poll::Ready(Err(Error::Timeout { peer, after }));
            }
            shaken
        })
        .await;
        let agreed = shaken.and_then(|()| self.check_protocol(&accepts));
        if let Err(error) = agreed {
            self.conn.shutdown(Shutdown::Both);
            self.give_back();
            return Err(error);
        }
        Ok(self)
    }

    fn check_protocol(&self, accepts: &dyn Fn(Option<&[u8]>) -> bool) -> Result<(), Error> {
        if accepts(self.session.alpn_protocol()) {
            return Ok(());
        }
        let peer = self.peer.to_string();
        Err(Error::NoHttp2 { peer })
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(self.socket_error(error)));
            }
            if !self.session.is_handshaking() {
                // The last flight may still wait for the socket; it leaves with the first frames.
                return Poll::Ready(Ok(()));
            }
            if self.feed() {
                continue;
            }
            if let Some(error) = self.failed.take() {
                // The alert, if the socket has room for it.
                let _told_or_not = self.poll_flush(cx);
                return Poll::Ready(Err(error));
            }
            if self.ended {
                let peer = self.peer.to_string();
                return Poll::Ready(Err(Error::Closed { peer }));
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(Err(self.socket_error(error)));
            }
        }
    }

    fn socket_error(&self, reason: io::Error) -> Error {
        let peer = self.peer.to_string();
        Error::Io { peer, reason }
    }

    /// Reads what the peer has said, up to the length of `buf`. Zero: it says no more.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            let space = buf.get_mut(filled..).unwrap_or_default();
            if space.is_empty() {
                return Poll::Ready(Ok(filled));
            }
            match self.session.reader().read(space) {
                Ok(count) if count > 0 => {
                    filled += count;
                    self.heard = true;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer's `close_notify`, or the end of the socket without one.
                Ok(_) | Err(_) => return Poll::Ready(self.end(filled)),
            }
            if self.feed() {
                continue;
            }
            // What came before a failure is handed over before it.
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Err(error.into()));
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                self.end(0)?;
                return Poll::Ready(Err(error));
            }
        }
    }

    /// The peer says no more. A server that has said nothing at all did not want us: it begins
    /// with its settings.
    fn end(&self, filled: usize) -> io::Result<usize> {
        if self.heard || matches!(self.session, rustls::Connection::Server(_)) {
            return Ok(filled);
        }
        let peer = self.peer.to_string();
        Err(Error::ClosedUnheard { peer }.into())
    }

    /// Feeds the session with a piece of what has arrived; false when there is none.
    fn feed(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let Some(input) = &mut self.input else {
            return false;
        };
        let mut sealed = input.unread();
        let fed = self.session.read_tls(&mut sealed);
        let opened = match fed {
            Ok(count) => {
                input.consume(count);
                if count == 0 || input.unread().is_empty() {
                    self.give_back();
                }
                let opened = self.session.process_new_packets();
                opened.map_err(|error| Error::from_rustls(error, &self.peer))
            }
            Err(error) => Err(self.socket_error(error)),
        };
        if let Err(error) = opened {
            self.failed = Some(error);
            self.give_back();
        }
        true
    }

    /// One read of the socket.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = pool::take_read();
        match self.conn.poll_read(cx, buffer.space()) {
            Poll::Ready(Ok(count)) if count > 0 => {
                buffer.filled(count);
                self.input = Some(buffer);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => {
                pool::give_read(buffer);
                self.ended = true;
                // Tells the session, whose reader says it from now on.
                self.session.read_tls(&mut io::empty())?;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                pool::give_read(buffer);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                pool::give_read(buffer);
                Poll::Pending
            }
        }
    }

    /// Takes all of `buf` once what was taken before is with the socket; [`Self::poll_flush`] says
    /// when it has left.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let taken = self.session.writer().write(buf)?;
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    /// Writes what is sealed. Pending when the socket takes no more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let conn = &mut self.conn;
            match self.session.write_tls(&mut Socket { conn, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => self.progress = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the socket has taken something since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Says goodbye, and ends our direction when that has left.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            self.session.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        self.conn.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }

    pub(super) const fn conn(&self) -> &Conn {
        &self.conn
    }

    pub(super) fn shutdown(&mut self, how: Shutdown) {
        self.conn.shutdown(how);
        self.give_back();
    }

    fn give_back(&mut self) {
        if let Some(input) = self.input.take() {
            pool::give_read(input);
        }
    }
}

/// Lets the session write its records as they lie.
struct Socket<'a, 'b> {
    conn: &'a mut Conn,
    cx: &'a mut Context<'b>,
}

fn blocking<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        blocking(self.conn.poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            [only] => self.write(only),
            bufs => blocking(self.conn.poll_write_vectored(self.cx, bufs)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
