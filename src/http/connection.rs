//! One connection that speaks HTTP, from its first byte to its end.
//!
//! hyper does the protocol; this file gives it our socket, watches the times, and takes the socket
//! back for a WebSocket. HTTP/2 is told by its opening, on any port: with TLS the client says
//! beforehand what it speaks, and opens accordingly.
//!
//! # Times
//! A connection without a request in work is closed after `read_timeout`, and so is one whose
//! next head does not come whole in that time. One whose peer takes nothing of a response for
//! `write_timeout` is broken off. A request in work has all the time it needs: a long poll is
//! never cut.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;

use super::Port;
use super::body::RequestBody;
use super::context::Contexts;
use super::exchange::{Exchange, Response, Upgrade};
use super::socket::Socket;
use super::websocket::WebSocket;
use crate::model::identity::CertificateNames;
use crate::rt::{self, Conn, Instant, Queue};
use crate::telemetry::with_sources;
use crate::wire::local::LocalClient;
use crate::wire::server::ConnectionControl;
use crate::wire::tls::{self, ServerTls};
use crate::wire::{Alarm, MarkEnded, TlsConn, Transport};

/// The opening of HTTP/2 (RFC 9113, section 3.4).
const HTTP2_OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the head of a request may take: target and headers.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers that a request may have.
const HEADERS_MAX: usize = 128;

/// Requests of one connection of HTTP/2 that may be in work.
const STREAMS_MAX: u32 = 250;

/// Requests of one connection that are answered before others have their turn.
const REQUESTS_PER_TURN: usize = 8;

/// What is read from a socket at once.
const READ_BYTES: usize = 16 << 10;

/// How often times are looked at: how exact they are.
const TICK: Duration = Duration::from_secs(1);

thread_local! {
    /// Where sockets are read into: hyper takes copies, of what it has room for.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// In order: either side had nothing more to say.
    Closed,
    /// The broker ends.
    Drained,
    /// No request came in time, or the peer took nothing of a response.
    Timeout,
    /// The peer and we did not agree on TLS.
    Tls(tls::Error),
    /// The peer went in the middle of something, or spoke something else.
    Broken(String),
}

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
struct Times {
    read: Duration,
    write: Duration,
}

/// What connection and handlers share.
struct Shared {
    port: Port,
    contexts: Rc<Contexts>,
    peer: SocketAddr,
    client: LocalClient,
    times: Times,
    /// Requests whose response has not gone to hyper.
    in_work: Cell<usize>,
    /// Requests that have come.
    requests: Cell<usize>,
    /// When there was last a reason to keep the connection.
    active_at: Cell<Instant>,
    /// Whether a handler left a body unread and ends the connection for it.
    cut_off: Cell<bool>,
    upgrade: Upgrade,
}

/// Serves a connection to its end, over TLS if there is an identity to show.
pub async fn serve(
    port: Port,
    conn: Conn,
    tls: Option<Arc<ServerTls>>,
    peer: SocketAddr,
    contexts: Rc<Contexts>,
    control: ConnectionControl,
) -> Ended {
    let _told_whatever_happens = MarkEnded(control.clone());
    let accepted = match tls {
        None => Ok((Socket::plain(conn), None)),
        Some(tls) => Box::pin(accept(conn, &tls, &contexts, &control)).await,
    };
    let (socket, certificate) = match accepted {
        Ok(accepted) => accepted,
        Err(ended) => return ended,
    };
    let context = contexts.current();
    let config = &context.config.rest;
    let shared = Rc::new(Shared {
        port,
        peer,
        client: context.client(peer, certificate, control.clone()),
        times: Times {
            read: config.read_timeout,
            write: config.write_timeout,
        },
        in_work: Cell::new(0),
        requests: Cell::new(0),
        active_at: Cell::new(rt::now()),
        cut_off: Cell::new(false),
        upgrade: Upgrade::default(),
        contexts,
    });
    run(&shared, socket, &control).await
}

/// A socket, and the names that its peer has proved.
type Accepted = (Socket, Option<Rc<CertificateNames>>);

/// The handshake of TLS, which ends when the broker does.
async fn accept(
    conn: Conn,
    tls: &ServerTls,
    contexts: &Contexts,
    control: &ConnectionControl,
) -> Result<Accepted, Ended> {
    let timeout = contexts.current().config.grpc.handshake_timeout;
    let mut accepting = pin!(TlsConn::accept(conn, tls, timeout, control));
    std::future::poll_fn(|cx| {
        if control.asked().poll(cx).is_ready() && leaves(control) {
            return Poll::Ready(Err(Ended::Drained));
        }
        accepting.as_mut().poll(cx).map(|accepted| match accepted {
            Ok(conn) => {
                let certificate = conn.certificate().cloned();
                Ok((Socket::new(Transport::Tls(Box::new(conn))), certificate))
            }
            Err(error) => Err(Ended::Tls(error)),
        })
    })
    .await
}

async fn run(shared: &Rc<Shared>, mut socket: Socket, control: &ConnectionControl) -> Ended {
    match opening(shared, &mut socket, control).await {
        Ok(true) => run_http2(shared, socket, control).await,
        Ok(false) => Box::pin(run_http1(shared, socket, control)).await,
        Err(ended) => ended,
    }
}

/// Reads until it is clear whether the peer speaks HTTP/2; what was read is read again.
async fn opening(
    shared: &Shared,
    socket: &mut Socket,
    control: &ConnectionControl,
) -> Result<bool, Ended> {
    let mut limit = Alarm::new(shared.times.read);
    let mut read = Vec::with_capacity(HTTP2_OPENING.len());
    let mut piece = [0_u8; 1024];
    let spoken = std::future::poll_fn(|cx| {
        loop {
            let compared = read.len().min(HTTP2_OPENING.len());
            if read.get(..compared) != HTTP2_OPENING.get(..compared) {
                return Poll::Ready(Ok(false));
            }
            if read.len() >= HTTP2_OPENING.len() {
                return Poll::Ready(Ok(true));
            }
            if limit.poll(cx).is_ready() {
                return Poll::Ready(Err(Ended::Timeout));
            }
            if control.asked().poll(cx).is_ready() && leaves(control) {
                return Poll::Ready(Err(Ended::Drained));
            }
            match std::task::ready!(socket.poll_read(cx, &mut piece)) {
                Ok(0) if read.is_empty() => return Poll::Ready(Err(Ended::Closed)),
                Ok(0) => return Poll::Ready(Ok(false)),
                Ok(count) => read.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) => return Poll::Ready(Err(Ended::Broken(error.to_string()))),
            }
        }
    })
    .await;
    socket.put_back(Bytes::from(read));
    spoken
}

fn leaves(control: &ConnectionControl) -> bool {
    control.wants_drain() || control.wants_close()
}

async fn run_http1(shared: &Rc<Shared>, socket: Socket, control: &ConnectionControl) -> Ended {
    let io = Io(Rc::new(RefCell::new(Some(socket))));
    let service = {
        let shared = shared.clone();
        service_fn(move |request| Box::pin(answer(shared.clone(), request)))
    };
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .header_read_timeout(None)
        .serve_connection(io.clone(), service);
    let mut connection = Box::pin(connection);
    let mut watch = Watch::new(shared, &io, control);
    let outcome = std::future::poll_fn(|cx| {
        if let Some(ended) = watch.poll(cx) {
            return Poll::Ready(Err(ended));
        }
        if watch.drains() {
            connection.as_mut().graceful_shutdown();
        }
        connection.poll_without_shutdown(cx).map(Ok)
    })
    .await;
    match outcome {
        Err(ended) => ended,
        Ok(Err(error)) => Ended::Broken(with_sources(&error)),
        Ok(Ok(())) => {
            let serve = shared.upgrade.take();
            let read_ahead = match Pin::into_inner(connection) {
                connection if serve.is_some() => connection.into_parts().read_buf,
                _ => Bytes::new(),
            };
            let Some(socket) = io.take() else {
                return Ended::Closed;
            };
            match serve {
                Some(serve) => {
                    serve_socket(shared, socket, read_ahead, control, serve).await;
                    Ended::Closed
                }
                None => {
                    close(socket, shared.cut_off.get()).await;
                    Ended::Closed
                }
            }
        }
    }
}

/// Hands the socket over to what the handler left for it.
async fn serve_socket(
    shared: &Shared,
    socket: Socket,
    read_ahead: Bytes,
    control: &ConnectionControl,
    serve: super::exchange::Serve,
) {
    let context = shared.contexts.current();
    let socket = WebSocket::new(socket, read_ahead, &context.config, control.clone());
    serve(socket).await;
}

/// Ends our direction; the peer has a moment to read what is left. If it is still sending a body
/// that nobody reads, that is let go by: closed over unread bytes, the socket would take back the
/// response that says so.
async fn close(mut socket: Socket, is_cut_off: bool) {
    let mut patience = Alarm::new(TICK);
    let mut finished = false;
    // Much may come, as fast as the peer can.
    let mut unread = match is_cut_off {
        true => vec![0; READ_BYTES],
        false => Vec::new(),
    };
    std::future::poll_fn(|cx| {
        if patience.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !finished {
            finished = std::task::ready!(socket.poll_finish(cx)).is_ok();
            if !(finished && is_cut_off) {
                return Poll::Ready(());
            }
        }
        while let Ok(1..) = std::task::ready!(socket.poll_read(cx, &mut unread)) {}
        Poll::Ready(())
    })
    .await;
}

async fn run_http2(shared: &Rc<Shared>, mut socket: Socket, control: &ConnectionControl) -> Ended {
    socket.watch_frames();
    let io = Io(Rc::new(RefCell::new(Some(socket))));
    let service = {
        let shared = shared.clone();
        service_fn(move |request| answer(shared.clone(), request))
    };
    let connection = http2::Builder::new(Tasks(shared.port))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .serve_connection(io.clone(), service);
    let mut connection = pin!(connection);
    let mut watch = Watch::new(shared, &io, control);
    let outcome = std::future::poll_fn(|cx| {
        if let Some(ended) = watch.poll(cx) {
            return Poll::Ready(Err(ended));
        }
        if watch.drains() {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(Ok)
    })
    .await;
    match outcome {
        Err(ended) => ended,
        Ok(Ok(())) => Ended::Closed,
        Ok(Err(error)) => Ended::Broken(with_sources(&error)),
    }
}

/// Answers one request.
async fn answer(
    shared: Rc<Shared>,
    request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    let _in_work = InWork::begin(&shared);
    shared.requests.set(shared.requests.get() + 1);
    if shared.requests.get().is_multiple_of(REQUESTS_PER_TURN) {
        // Those that came in one read are answered without another look at the socket, which
        // would hold the others back.
        let mut look = rt::Look::default();
        std::future::poll_fn(|cx| look.poll(cx)).await;
    }
    let (head, incoming) = request.into_parts();
    let exchange = Exchange {
        head,
        body: RequestBody::new(
            incoming,
            shared.times.read,
            shared.client.gather_limit().clone(),
        ),
        context: shared.contexts.current(),
        peer: shared.peer,
        client: shared.client.clone(),
        caller: None,
        upgrade: shared.upgrade.clone(),
    };
    let response = shared.port.handle(exchange).await;
    if response.headers().contains_key(http::header::CONNECTION) {
        shared.cut_off.set(true);
    }
    Ok(response)
}

/// A request in work.
struct InWork(Rc<Shared>);

impl InWork {
    fn begin(shared: &Rc<Shared>) -> Self {
        shared.in_work.set(shared.in_work.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        let Shared {
            in_work, active_at, ..
        } = &*self.0;
        in_work.set(in_work.get().saturating_sub(1));
        active_at.set(rt::now());
    }
}

/// Watches the times of a connection, and whether it is to end.
struct Watch<'a> {
    shared: &'a Shared,
    io: &'a Io,
    control: &'a ConnectionControl,
    tick: Alarm,
    /// Bytes that had been written when the peer was last seen to take some.
    written: u64,
    took_at: Instant,
    drains: bool,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared, io: &'a Io, control: &'a ConnectionControl) -> Self {
        Self {
            shared,
            io,
            control,
            tick: Alarm::new(TICK),
            written: 0,
            took_at: rt::now(),
            drains: false,
        }
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Option<Ended> {
        while self.control.asked().poll(cx).is_ready() {
            if self.control.wants_close() {
                return Some(Ended::Drained);
            }
            self.drains |= self.control.wants_drain();
        }
        while self.tick.poll(cx).is_ready() {
            self.tick.reset(TICK);
            if self.is_overdue() {
                return Some(Ended::Timeout);
            }
        }
        None
    }

    /// Whether the connection is to finish what it does and end; true once.
    fn drains(&mut self) -> bool {
        std::mem::take(&mut self.drains)
    }

    fn is_overdue(&mut self) -> bool {
        let now = rt::now();
        let (blocked, written) = self.io.progress();
        if written != self.written {
            // A response that goes on, as a stream of events does, keeps its connection.
            self.shared.active_at.set(now);
        }
        if !blocked || written != self.written {
            (self.written, self.took_at) = (written, now);
        }
        if blocked {
            return now.since(self.took_at) > self.shared.times.write;
        }
        let idle = self.shared.in_work.get() == 0;
        idle && now.since(self.shared.active_at.get()) > self.shared.times.read
    }
}

/// Our socket as hyper wants it. The socket can be taken back.
#[derive(Clone)]
struct Io(Rc<RefCell<Option<Socket>>>);

impl Io {
    fn take(&self) -> Option<Socket> {
        self.0.take()
    }

    fn progress(&self) -> (bool, u64) {
        let socket = self.0.borrow();
        socket
            .as_ref()
            .map_or((false, 0), |socket| (socket.is_blocked(), socket.written()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Socket) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.borrow_mut().as_mut() {
            Some(socket) => act(socket),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = scratch.len().min(buf.remaining());
            let (scratch, _) = scratch.split_at_mut(room);
            self.with(|socket| socket.poll_read(cx, scratch))
                .map_ok(|count| {
                    buf.put_slice(scratch.get(..count).unwrap_or_default());
                })
        })
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write_vectored(cx, bufs))
    }

    /// Several pieces go as they are: a response is told of when its last byte is taken.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_finish(cx))
    }
}

/// Runs the requests of a connection of HTTP/2 as tasks of their own.
#[derive(Clone, Copy, Debug)]
struct Tasks(Port);

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        rt::spawn(self.0.queue(), "request", future);
    }
}

impl Port {
    /// Where the work of this port runs.
    #[must_use]
    pub const fn queue(self) -> Queue {
        match self {
            Self::Rest => Queue::Serve,
            Self::Api => Queue::Background,
        }
    }
}
