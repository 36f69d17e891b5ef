//! Runs one connection to its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};

use super::open::Calls;
use super::respond::refusal;
use super::{Call, ConnectionControl, Ended, Service, Settings, Shared, open};
use crate::model::identity::CertificateNames;
use crate::rt::{self, Conn, Instant};
use crate::wire::alarm::Alarm;
use crate::wire::control::MarkEnded;
use crate::wire::cork::{Cork, Side, TlsConn, Transport};
use crate::wire::framing::GatherLimit;
use crate::wire::outlet::Chunk;
use crate::wire::quantum::part_of;
use crate::wire::reactor_turn::ReactorTurn;
use crate::wire::status::{Code, GRPC_TIMEOUT, Status};
use crate::wire::timeout;
use crate::wire::tls::{self, ServerTls};
use crate::wire::vitals::Vitals;

/// HTTP/2's smallest limit of a frame. Larger frames gain nothing behind a cork and delay others.
const FRAME_BYTES_MAX: u32 = 16 << 10;

/// Calls that are taken before the reactor has its turn.
const CALLS_PER_TURN: usize = 256;

/// How long a connection may be left unread while calls of it wait: less than any peer waits for
/// the answer to a ping. What else it has to say waits for no longer.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// Runs one connection to its end: opening, calls, keepalive, orderly close. The future belongs in
/// a task of its own; dropping it early drops the connection without a word.
pub fn serve<S: Service>(
    conn: Conn,
    peer: SocketAddr,
    service: Rc<S>,
    settings: Rc<Settings>,
    control: ConnectionControl,
) -> impl Future<Output = Ended> {
    run(
        Transport::Plain(conn),
        None,
        peer,
        service,
        settings,
        control,
    )
}

/// As [`serve`], over TLS. The handshakes of TLS and HTTP/2 have the time for one each.
pub async fn serve_tls<S: Service>(
    conn: Conn,
    tls: Arc<ServerTls>,
    peer: SocketAddr,
    service: Rc<S>,
    settings: Rc<Settings>,
    control: ConnectionControl,
) -> Ended {
    let _told_whatever_happens = MarkEnded(control.clone());
    // Boxed as the opening is.
    let accepting = Box::pin(accept(conn, &tls, &settings, &control));
    match accepting.await {
        Ok(conn) => {
            let certificate = conn.certificate().cloned();
            let transport = Transport::Tls(conn);
            run(transport, certificate, peer, service, settings, control).await
        }
        Err(ended) => ended,
    }
}

/// The handshake of TLS, unless the connection is to end before.
async fn accept(
    conn: Conn,
    tls: &ServerTls,
    settings: &Settings,
    control: &ConnectionControl,
) -> Result<Box<TlsConn>, Ended> {
    let timeout = settings.handshake_timeout;
    let mut accepting = std::pin::pin!(TlsConn::accept(conn, tls, timeout, control));
    std::future::poll_fn(|cx| {
        while control.asked().poll(cx).is_ready() {}
        if control.wants_close() || control.wants_drain() {
            return Poll::Ready(Err(Ended::Closed));
        }
        accepting.as_mut().poll(cx).map(|accepted| match accepted {
            Ok(conn) => Ok(Box::new(conn)),
            Err(tls::Error::Timeout { .. }) => Err(Ended::HandshakeTimeout),
            Err(error) => Err(Ended::Tls(error)),
        })
    })
    .await
}

async fn run<S: Service>(
    transport: Transport,
    certificate: Option<Rc<CertificateNames>>,
    peer: SocketAddr,
    service: Rc<S>,
    settings: Rc<Settings>,
    control: ConnectionControl,
) -> Ended {
    let cork = Cork::new(transport, Side::Server);
    let _told_whatever_happens = MarkEnded(control.clone());
    let gather_limit = GatherLimit::new(settings.gather_bytes_max);
    let shared = Shared {
        peer,
        certificate,
        control: control.clone(),
        settings,
        gather_limit,
        calls: Calls::default(),
    };
    // Both are boxed: the opening is as large as the connection, and an idle one should not carry
    // the room for it through its life.
    let opening = Box::pin(Driver::open(cork.clone(), service, Rc::new(shared)));
    let ended = match opening.await {
        Ok(mut driver) => {
            let ended = std::future::poll_fn(|cx| driver.turn(cx)).await;
            // All that it held goes with it. Hundreds may end at once.
            let mut turn = ReactorTurn::default();
            std::future::poll_fn(|cx| turn.poll(cx)).await;
            drop(driver);
            ended
        }
        Err(ended) => ended,
    };
    // The driver is dropped: every open call has been told.
    control.mark_ended();
    cork.close().await;
    ended
}

/// The HTTP/2 opening, within its time.
async fn open(
    cork: &Cork,
    settings: &Settings,
    control: &ConnectionControl,
) -> Result<Connection<Cork, Chunk>, Ended> {
    let mut opening = std::pin::pin!(builder(settings).handshake::<_, Chunk>(cork.clone()));
    let mut limit = Alarm::new(settings.handshake_timeout);
    std::future::poll_fn(|cx| {
        let opened = opening.as_mut().poll(cx);
        let flushed = cork.poll_flush_out(cx);
        if let Poll::Ready(opened) = opened {
            return Poll::Ready(opened.map_err(|error| ended_by(&error)));
        }
        if let Poll::Ready(Err(error)) = flushed {
            return Poll::Ready(Err(Ended::Io(error)));
        }
        while control.asked().poll(cx).is_ready() {}
        if control.wants_close() || control.wants_drain() {
            return Poll::Ready(Err(Ended::Closed));
        }
        limit.poll(cx).map(|()| Err(Ended::HandshakeTimeout))
    })
    .await
}

/// Sets every limit that h2 has: its defaults are meant for browsers, and change.
fn builder(settings: &Settings) -> Builder {
    let mut builder = h2::server::Builder::new();
    let budget = usize::try_from(settings.connection_window_bytes).unwrap_or(usize::MAX);
    builder
        .initial_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(settings.concurrent_streams_max)
        .max_header_list_size(settings.header_list_bytes_max)
        .max_send_buffer_size(settings.stream_send_bytes_max)
        .max_concurrent_reset_streams(settings.local_resets_max)
        .max_pending_accept_reset_streams(settings.pending_resets_max)
        .max_local_error_reset_streams(Some(settings.error_resets_max))
        .reset_stream_duration(Duration::from_secs(1))
        // What many unread small frames may cost us beside their bytes, at 256 bytes a frame: as
        // much as the window admits of data.
        .data_frame_budget(budget);
    builder
}

struct Driver<S> {
    connection: Connection<Cork, Chunk>,
    cork: Cork,
    service: Rc<S>,
    shared: Rc<Shared>,
    vitals: Vitals,
    age: Option<Alarm>,
    draining: bool,
    /// Set while the reactor has its turn and no call is taken.
    yielding: Option<ReactorTurn>,
    /// Until when nothing is read for the sake of calls that wait.
    hold: Option<Alarm>,
}

impl<S: Service> Driver<S> {
    async fn open(cork: Cork, service: Rc<S>, shared: Rc<Shared>) -> Result<Box<Self>, Ended> {
        let settings = &shared.settings;
        let mut connection = open(&cork, settings, &shared.control).await?;
        let pings = connection.ping_pong();
        let time = Some(settings.keepalive_time);
        let vitals = Vitals::new(pings, time, settings.keepalive_timeout);
        Ok(Box::new(Self {
            connection,
            cork,
            service,
            vitals,
            age: settings.connection_age_max.map(Alarm::new),
            shared,
            draining: false,
            yielding: None,
            hold: None,
        }))
    }

    /// One turn: all that has arrived, then one write.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Err(ended) = self.obey(cx) {
            return Poll::Ready(self.end(ended, cx));
        }
        loop {
            let advanced = self.advance(cx);
            self.vitals.after_turn(&self.shared.control, cx);
            // Also at the end: the last frames are in the cork, and `close` has less to wait for.
            let flushed = self.cork.poll_flush_out(cx);
            if let Poll::Ready(ended) = advanced {
                return Poll::Ready(ended);
            }
            if let Some(kind) = self.cork.flood() {
                return Poll::Ready(self.end(Ended::Flood(kind), cx));
            }
            match flushed {
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Io(error)),
                // h2 was told to wait for room, and there is room now.
                Poll::Ready(Ok(())) if self.cork.take_refused() => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Does what was asked for from outside, and what time asks for.
    fn obey(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while self.shared.control.asked().poll(cx).is_ready() {}
        if let Some(age) = &mut self.age
            && age.poll(cx).is_ready()
        {
            self.age = None;
            self.shared.control.drain();
        }
        if self.shared.control.wants_close() {
            return Err(Ended::Closed);
        }
        if self.shared.control.wants_drain() && !self.draining {
            self.draining = true;
            self.connection.graceful_shutdown();
        }
        let vitals = self
            .vitals
            .before_turn(&self.shared.control, self.cork.alive_at(), cx);
        vitals.map_err(|_dead| Ended::KeepaliveTimeout)
    }

    /// Lets h2 read and write, and takes the calls that have come.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.is_held(cx) {
            self.cork.hold_input();
            let closed = self.connection.poll_closed(cx);
            return closed.map(|result| self.finished(result));
        }
        for _ in 0..part_of(CALLS_PER_TURN) {
            if !self.may_take_calls(cx) {
                if self.yielding.is_none() {
                    // Answers wait for the peer, and what lets them go comes as input.
                    self.cork.take_input();
                }
                // Drives everything but new calls, which wait in h2.
                if let Poll::Ready(result) = self.connection.poll_closed(cx) {
                    return Poll::Ready(self.finished(result));
                }
                // Answers may have left just now; nobody would wake us for that.
                if !self.may_take_calls(cx) {
                    return Poll::Pending;
                }
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.take(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(self.finished(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(self.finished(Ok(()))),
                // None waits any more: further ones are in the socket.
                Poll::Pending if self.cork.take_input() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        // What waits in h2 is taken before more is read: a call costs a kilobyte there, in the
        // socket its bytes.
        self.cork.hold_input();
        // The turn has begun; its end wakes us.
        let _not_yet = self.yielding.get_or_insert_default().poll(cx);
        Poll::Pending
    }

    /// Whether nothing is to be read for now: calls wait, and have not for too long. The end of
    /// their wait wakes the driver, as does the alarm.
    fn is_held(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.shared.control.is_held() {
            self.hold = None;
            return false;
        }
        let alarm = self.hold.get_or_insert_with(|| Alarm::new(HOLD_MAX));
        alarm.poll(cx).is_pending()
    }

    fn may_take_calls(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(turn) = &mut self.yielding {
            if turn.poll(cx).is_pending() {
                return false;
            }
            self.yielding = None;
        }
        self.shared.control.output().answers_bytes.get() < self.shared.settings.answers_bytes_max
    }

    fn finished(&self, result: Result<(), h2::Error>) -> Ended {
        match result {
            Ok(()) if self.draining => Ended::Drained,
            Ok(()) => Ended::PeerClosed,
            Err(error) => ended_by(&error),
        }
    }

    /// Ends the connection from our side, with a last frame that says why.
    fn end(&mut self, ended: Ended, cx: &mut Context<'_>) -> Ended {
        let reason = match ended {
            Ended::Flood(_) => Reason::ENHANCE_YOUR_CALM,
            _ => Reason::NO_ERROR,
        };
        self.connection.abrupt_shutdown(reason);
        // One turn puts the frame into the cork; a peer that takes nothing does not get it.
        let _said_or_not = self.connection.poll_closed(cx);
        ended
    }

    fn take(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Chunk>) {
        let checked = check(&request).and_then(|deadline| match open::room(&self.shared) {
            Ok(()) => Ok(deadline),
            Err(status) => Err((StatusCode::OK, status)),
        });
        match checked {
            Ok(deadline) => {
                let shared = Rc::clone(&self.shared);
                self.service
                    .call(Call::new(request, respond, shared, deadline));
            }
            Err((http_status, status)) => {
                let _caller_is_gone = respond.send_response(refusal(http_status, status), true);
            }
        }
    }
}

/// Whether this is a gRPC call, and until when; in the order and with the texts of Go servers.
fn check(request: &Request<RecvStream>) -> Result<Option<Instant>, (StatusCode, Status)> {
    let headers = request.headers();
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if !content_type.is_some_and(is_grpc) {
        let content_type = String::from_utf8_lossy(content_type.unwrap_or_default());
        let text = format!("invalid gRPC request content-type {content_type:?}");
        let status = Status::new(Code::InvalidArgument, text);
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, status));
    }
    let mut deadline = None;
    if let Some(value) = headers.get(GRPC_TIMEOUT) {
        let timeout = timeout::parse(&String::from_utf8_lossy(value.as_bytes()));
        let timeout = timeout.map_err(|reason| {
            let text = format!("malformed grpc-timeout: {reason}");
            (StatusCode::BAD_REQUEST, Status::new(Code::Internal, text))
        })?;
        deadline = Some(rt::now().after(timeout));
    }
    if request.method() != Method::POST {
        let method = request.method().as_str();
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            Status::new(Code::Internal, text),
        ));
    }
    Ok(deadline)
}

/// `application/grpc`, alone or with a subtype or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(b"application/grpc".len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(b"application/grpc")
        && matches!(rest.first(), None | Some(b'+' | b';'))
}

fn ended_by(error: &h2::Error) -> Ended {
    if let Some(io) = error.get_io() {
        return Ended::Io(std::io::Error::new(io.kind(), io.to_string()));
    }
    Ended::Protocol {
        code: error.reason().map_or(0, u32::from),
        reason: error.to_string(),
        by_peer: error.is_remote(),
    }
}
