//! The handshake of a server.
//!
//! ```text
//!   head of a record ─► is it TLS? ─► a place ─► ┌► what the peer says ─► aside: the session ─┐
//!                                                └───── what is to be said ◄──────────────────┘
//! ```
//!
//! A peer that says nothing holds its socket and no more. With the head of its first record it
//! asks for a place; there the session is made, and goes to a thread beside the executors with
//! each piece that the peer says. All of it has one limit in time.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConnection;

use super::{TlsConn, pool};
use crate::model::identity::CertificateNames;
use crate::rt::{self, Conn};
use crate::wire::alarm::Alarm;
use crate::wire::control::ConnectionControl;
use crate::wire::tls::{self, Error, Place, ServerTls, Standing};

/// The head of a record: its kind, its version, its length.
const HEAD_BYTES: usize = 5;

/// Records of a handshake are of this kind, and have this first half of a version.
const HANDSHAKE: u8 = 22;
const MAJOR_VERSION: u8 = 3;

/// What is read at once: a record. The whole of a handshake is less, as a rule.
const READ_BYTES: usize = 16 << 10;

/// How long a peer may keep a place waiting, in all, before somebody else may have it.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// How long a refused peer may take to read why; and what it may still say.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: usize = 64 << 10;

/// What a client reads that speaks HTTP without TLS here; as servers written in Go say it.
const SPOKE_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// For messages.
const PEER: &str = "the client";

/// Makes a connection of a socket, or says why not.
pub(super) async fn accept(
    mut conn: Conn,
    tls: &ServerTls,
    timeout: Duration,
    control: &ConnectionControl,
) -> Result<TlsConn, Error> {
    let mut limit = Alarm::new(timeout);
    let shaken = {
        let mut shaking = std::pin::pin!(shake_hands(&mut conn, tls, control));
        std::future::poll_fn(|cx| {
            let shaken = shaking.as_mut().poll(cx);
            if shaken.is_pending() && limit.poll(cx).is_ready() {
                let (peer, after) = (PEER.to_owned(), timeout);
                return Poll::Ready(Err(Error::Timeout { peer, after }));
            }
            shaken
        })
        .await
    };
    let agreed = shaken.and_then(|shaken| {
        shaken.check_time()?;
        if tls.accepts(shaken.session.alpn_protocol()) {
            return Ok(shaken);
        }
        let peer = PEER.to_owned();
        Err(Error::NoHttp2 { peer })
    });
    match agreed {
        Ok(shaken) => Ok(shaken.into_conn(conn)),
        Err(error) => {
            say_farewell(&mut conn, &error).await;
            Err(error)
        }
    }
}

/// A handshake that has come to its end.
struct Shaken {
    session: Box<ServerConnection>,
    certificate: Option<Rc<CertificateNames>>,
    standing: Standing,
    /// What the peer has said behind it, still sealed.
    rest: Vec<u8>,
}

impl Shaken {
    /// A session that is resumed shows a certificate that was verified some time ago.
    fn check_time(&self) -> Result<(), Error> {
        let ends_at_ns = self.certificate.as_ref().map(|names| names.expires_at_ns);
        let over_ns = rt::unix_ns().saturating_sub(ends_at_ns.unwrap_or(i64::MAX));
        match u64::try_from(over_ns) {
            Ok(over_ns) => Err(Error::Expired {
                peer: PEER.to_owned(),
                since: Duration::from_nanos(over_ns),
            }),
            Err(_not_yet) => Ok(()),
        }
    }

    fn into_conn(self, conn: Conn) -> TlsConn {
        let session = rustls::Connection::Server(*self.session);
        let mut tls = TlsConn::new(conn, session, PEER.to_owned());
        if !self.rest.is_empty() {
            let mut input = pool::take_read();
            let mut space = input.space();
            // A read is never larger than the buffer.
            let copied = io::Write::write(&mut space, &self.rest).unwrap_or(0);
            debug_assert_eq!(copied, self.rest.len(), "what was read fits");
            input.filled(copied);
            tls.input = Some(input);
        }
        tls.certificate = self.certificate;
        tls.standing = Some(self.standing);
        tls
    }
}

async fn shake_hands(
    conn: &mut Conn,
    tls: &ServerTls,
    control: &ConnectionControl,
) -> Result<Shaken, Error> {
    let mut input = head(conn, tls).await?;
    let place = tls.handshakes().place().map_err(socket_error)?;
    std::future::poll_fn(|cx| place.poll_inside(cx)).await;
    let mut session = Box::new(tls.session()?);
    let mut patience = Patience::new(&place);
    loop {
        let stepped = tls.handshakes().run(move || step(session, input)).await;
        let Some(stepped) = stepped.map_err(socket_error)? else {
            let peer = PEER.to_owned();
            return Err(Error::Abandoned { peer });
        };
        session = stepped.session;
        if let Err(error) = stepped.outcome {
            // The alert, if the socket has room for it.
            std::future::poll_fn(|cx| {
                let _told_or_not = poll_flush(&mut session, conn, cx);
                Poll::Ready(())
            })
            .await;
            return Err(Error::from_rustls(error, PEER));
        }
        let ended = !session.is_handshaking();
        input = patience
            .wait(|cx| {
                // The last flight may wait for the socket; it leaves with the first frames.
                let flushed = poll_flush(&mut session, conn, cx);
                if ended {
                    return Poll::Ready(Ok(Vec::new()));
                }
                ready!(flushed)?;
                poll_read(conn, cx, READ_BYTES)
            })
            .await?;
        if ended {
            let certificate = stepped.certificate.map(Rc::new);
            let chain = session.peer_certificates().unwrap_or_default();
            // Still at its place: other settings may have it verified once more.
            let standing = Standing::enter(control, certificate.as_ref(), chain, tls).await?;
            return Ok(Shaken {
                session,
                certificate,
                standing,
                rest: stepped.rest,
            });
        }
        if input.is_empty() {
            return Err(closed());
        }
    }
}

/// The first bytes of the peer, once it is clear that they begin a handshake.
async fn head(conn: &mut Conn, tls: &ServerTls) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    while head.len() < HEAD_BYTES {
        let missing = HEAD_BYTES - head.len();
        let read = std::future::poll_fn(|cx| poll_read(conn, cx, missing)).await;
        let read = read.map_err(socket_error)?;
        if read.is_empty() {
            return Err(closed());
        }
        head.extend_from_slice(&read);
        let is_tls = matches!(
            head.as_slice(),
            [HANDSHAKE] | [HANDSHAKE, MAJOR_VERSION, ..]
        );
        let may_be_http = tls.speaks_http1() && head.iter().all(|byte| is_of_method(*byte));
        if !is_tls && !may_be_http {
            return Err(not_tls());
        }
    }
    if head.first() == Some(&HANDSHAKE) {
        return Ok(head);
    }
    // All of it, or as much as an empty socket takes, which is more.
    std::future::poll_fn(|cx| {
        let _told_or_not = conn.poll_write(cx, SPOKE_HTTP);
        Poll::Ready(())
    })
    .await;
    Err(not_tls())
}

/// A request of HTTP/1 begins with its method and a blank. That of HTTP/2 does not: it has a star
/// there, and would not understand the answer.
const fn is_of_method(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b' ' | b'/')
}

/// What a thread beside the executors gives back.
struct Stepped {
    session: Box<ServerConnection>,
    /// What the peer has said behind its handshake.
    rest: Vec<u8>,
    outcome: Result<(), rustls::Error>,
    certificate: Option<CertificateNames>,
}

/// Feeds the session with what the peer has said, until its handshake ends.
fn step(mut session: Box<ServerConnection>, mut input: Vec<u8>) -> Stepped {
    let mut sealed = input.as_slice();
    let outcome = feed(&mut session, &mut sealed);
    let fed = input.len() - sealed.len();
    input.drain(..fed);
    let certificate = match (session.is_handshaking(), session.peer_certificates()) {
        (false, Some([own, ..])) => Some(tls::names_of(own)),
        _ => None,
    };
    let unreadable = matches!(certificate, Some(None));
    Stepped {
        outcome: match outcome {
            // It was verified and names nobody for sure: whoever asks for names would be misled.
            Ok(()) if unreadable => Err(rustls::CertificateError::BadEncoding.into()),
            outcome => outcome,
        },
        session,
        rest: input,
        certificate: certificate.flatten(),
    }
}

fn feed(session: &mut ServerConnection, sealed: &mut &[u8]) -> Result<(), rustls::Error> {
    while session.is_handshaking() && !sealed.is_empty() {
        // It has room: what it was fed before was looked at. Only a message that is larger than
        // any of a handshake leaves none.
        let fed = session.read_tls(sealed);
        if !matches!(fed, Ok(1..)) {
            return Err(rustls::InvalidMessage::MessageTooLarge.into());
        }
        session.process_new_packets()?;
    }
    Ok(())
}

/// Waits for the peer, within the time that a place leaves it.
struct Patience<'a> {
    place: &'a Place,
    left: Duration,
    is_slow: bool,
}

impl<'a> Patience<'a> {
    const fn new(place: &'a Place) -> Self {
        Self {
            place,
            left: SLOW_AFTER,
            is_slow: false,
        }
    }

    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Result<T, Error> {
        let began = rt::now();
        let mut alarm = None;
        let waited = std::future::poll_fn(|cx| {
            if let Poll::Ready(ready) = poll(cx) {
                return Poll::Ready(ready.map_err(socket_error));
            }
            self.place.set_at_peer(true);
            if !self.is_slow {
                let alarm = alarm.get_or_insert_with(|| Alarm::new(self.left));
                if alarm.poll(cx).is_ready() {
                    self.is_slow = true;
                    self.place.mark_slow();
                }
            }
            if self.place.poll_put_out(cx).is_ready() {
                let peer = PEER.to_owned();
                return Poll::Ready(Err(Error::PutOut { peer }));
            }
            Poll::Pending
        })
        .await;
        self.place.set_at_peer(false);
        self.left = self.left.saturating_sub(rt::now().since(began));
        waited
    }
}

/// Writes what the session has to say.
fn poll_flush(
    session: &mut ServerConnection,
    conn: &mut Conn,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while session.wants_write() {
        match session.write_tls(&mut super::Socket { conn, cx }) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// One read of the socket; empty when the peer says no more. Holds no memory while it waits.
fn poll_read(conn: &mut Conn, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut buffer = pool::take_read();
    let space = buffer.space().get_mut(..max).unwrap_or_default();
    let read = conn.poll_read(cx, space).map_ok(|count| {
        buffer.filled(count);
        buffer.unread().to_vec()
    });
    pool::give_read(buffer);
    read
}

/// Lets a refused peer read why: a socket that is closed with unread bytes answers with a reset,
/// and the peer would lose our last words.
async fn say_farewell(conn: &mut Conn, error: &Error) {
    let is_worth_it = !matches!(
        error,
        Error::Timeout { .. } | Error::PutOut { .. } | Error::Closed { .. } | Error::Io { .. }
    );
    if is_worth_it {
        conn.shutdown(Shutdown::Write);
        let mut limit = Alarm::new(FAREWELL);
        let mut thrown_away = 0;
        std::future::poll_fn(|cx| {
            while thrown_away < FAREWELL_BYTES_MAX && limit.poll(cx).is_pending() {
                match ready!(poll_read(conn, cx, READ_BYTES)) {
                    Ok(bytes) if !bytes.is_empty() => thrown_away += bytes.len(),
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
    conn.shutdown(Shutdown::Both);
}

fn socket_error(reason: io::Error) -> Error {
    let peer = PEER.to_owned();
    Error::Io { peer, reason }
}

fn closed() -> Error {
    let peer = PEER.to_owned();
    Error::Closed { peer }
}

fn not_tls() -> Error {
    let peer = PEER.to_owned();
    Error::NotTls { peer }
}
