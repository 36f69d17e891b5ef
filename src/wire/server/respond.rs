//! The ways to answer a call.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::Shared;
use super::open::Open;
use crate::wire::control::ConnectionControl;
use crate::wire::local::Pipe;
use crate::wire::outlet::{Chunk, Gone, Outlet, Sink, Sort, add_status, trailers};
use crate::wire::status::{Code, Status};

const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// Who waits for the answer.
#[derive(Debug)]
pub(super) enum Way {
    /// The peer of a stream of HTTP/2.
    Stream(SendResponse<Chunk>),
    /// A caller inside the process.
    Local(Rc<Pipe>),
}

/// The way to answer a call, once.
///
/// Dropped without an answer, as by a panic, it answers with `Settings::abandoned`: every call
/// ends.
#[derive(Debug)]
pub struct Responder {
    /// `None` once answered.
    way: Option<Way>,
    shared: Open,
}

impl Responder {
    pub(super) fn new(way: Way, shared: Rc<Shared>) -> Self {
        Self {
            way: Some(way),
            shared: Open::new(shared),
        }
    }

    /// Answers with one message, or refuses. Nothing waits: the answer is queued whole.
    pub fn unary(mut self, answer: Result<Bytes, Status>) {
        match answer {
            Ok(message) => self.answer(message, false),
            Err(status) => self.send_refusal(status),
        }
    }

    /// Refuses with headers only.
    pub fn refuse(mut self, status: Status) {
        let status = if status.is_ok() {
            OK_IS_NO_REFUSAL
        } else {
            status
        };
        self.send_refusal(status);
    }

    /// Sends the headers at once and answers with a stream of messages.
    ///
    /// # Errors
    /// `CANCELLED` when the caller is gone.
    pub fn start(self) -> Result<ResponseStream, Status> {
        self.start_as(Sort::Stream)
    }

    /// Begins the one answer of a unary call whose way to the caller matters: see
    /// [`ResponseStream::finish_in_full`]. It counts as an answer (`Settings::answers_bytes_max`).
    ///
    /// # Errors
    /// `CANCELLED` when the caller is gone.
    pub fn start_unary(self) -> Result<ResponseStream, Status> {
        self.start_as(Sort::Answer)
    }

    fn start_as(mut self, sort: Sort) -> Result<ResponseStream, Status> {
        let gone = || Status::new(Code::Cancelled, "context canceled");
        let sink = match self.way.take().ok_or_else(gone)? {
            Way::Stream(mut respond) => {
                let stream = respond.send_response(grpc_headers(), false);
                Sink::Stream(stream.map_err(|_| gone())?)
            }
            Way::Local(pipe) => {
                pipe.start();
                Sink::Local(pipe)
            }
        };
        let outlet = Outlet::new(
            sink,
            self.shared.control.output(),
            self.shared.settings.output_limits(),
            sort,
        );
        Ok(ResponseStream {
            outlet,
            shared: self.shared.another(),
            finished: false,
        })
    }

    /// Ready when the caller is gone: it has reset the call, or the connection is dead. Only the
    /// last poller is woken.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.way {
            Some(Way::Stream(respond)) => respond.poll_reset(cx).map(|_| ()),
            Some(Way::Local(pipe)) => pipe.poll_reset(cx),
            None => Poll::Ready(()),
        }
    }

    /// The connection that carries the call.
    #[must_use]
    pub fn control(&self) -> &ConnectionControl {
        &self.shared.control
    }

    fn answer(&mut self, message: Bytes, framed: bool) {
        // A caller that is gone needs no answer: errors end here.
        match self.way.take() {
            Some(Way::Stream(mut respond)) => {
                if let Ok(mut stream) = respond.send_response(grpc_headers(), false) {
                    let chunk = Chunk::answer(self.shared.control.output(), message, framed);
                    if stream.send_data(chunk, false).is_ok() {
                        let _caller_is_gone = stream.send_trailers(trailers(Status::OK));
                    }
                }
            }
            Some(Way::Local(pipe)) => {
                let chunk = Chunk::answer(self.shared.control.output(), message, framed);
                pipe.start();
                if pipe.answer(chunk).is_ok() {
                    let _caller_is_gone = pipe.finish(Status::OK);
                }
            }
            None => {}
        }
    }

    fn send_refusal(&mut self, status: Status) {
        match self.way.take() {
            Some(Way::Stream(mut respond)) => {
                let _caller_is_gone = respond.send_response(refusal(StatusCode::OK, status), true);
            }
            Some(Way::Local(pipe)) => {
                let _caller_is_gone = pipe.finish(status);
            }
            None => {}
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.way.is_some() {
            let status = self.shared.settings.abandoned_status();
            self.send_refusal(status);
        }
    }
}

/// A stream of messages to the caller.
///
/// Gather small messages into one `Bytes`: each call of [`send_frames`](Self::send_frames) is a
/// DATA frame, or several of 16 KiB when it is larger.
///
/// Dropped without [`finish`](Self::finish) it ends with `Settings::abandoned`.
#[derive(Debug)]
pub struct ResponseStream {
    outlet: Outlet,
    shared: Open,
    finished: bool,
}

impl ResponseStream {
    /// How many bytes may be handed over now: at least one, at most `want`. Pending while the
    /// stream's buffer is full; only the last poller is woken.
    ///
    /// # Errors
    /// [`Gone`] when the caller is.
    pub fn poll_send_capacity(
        &mut self,
        want: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Gone>> {
        self.outlet.poll_capacity(want, cx)
    }

    /// Hands over messages with their prefixes. Never waits: stay within the granted capacity, or
    /// exceed it knowingly by one batch.
    ///
    /// # Errors
    /// [`Gone`] when the caller is.
    pub fn send_frames(&mut self, frames: Bytes) -> Result<(), Gone> {
        self.outlet.send(frames, true)
    }

    /// Hands over one message; its prefix is added without a copy. As
    /// [`send_frames`](Self::send_frames) otherwise.
    ///
    /// # Errors
    /// [`Gone`] when the caller is.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), Gone> {
        self.outlet.send(message, false)
    }

    /// Waits for capacity and hands over all of `frames`, in pieces when it has to.
    ///
    /// # Errors
    /// [`Gone`] when the caller is.
    pub async fn send_all(&mut self, frames: Bytes) -> Result<(), Gone> {
        send_all(&mut self.outlet, frames).await
    }

    /// Ends the call, behind everything that was handed over.
    pub fn finish(mut self, status: Status) {
        self.send_trailers(status);
    }

    /// Ends the call, and waits until all that was handed over has gone on towards the socket.
    ///
    /// # Errors
    /// [`Gone`] when some of it was thrown away: the caller reset the call, or the connection died.
    pub async fn finish_in_full(mut self, status: Status) -> Result<(), Gone> {
        self.send_trailers(status);
        std::future::poll_fn(|cx| self.outlet.poll_all_written(cx)).await
    }

    /// Ready when the caller is gone. Only the last poller is woken.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.outlet.poll_reset(cx)
    }

    /// Bytes handed over that still wait here for the peer to take them.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.outlet.buffered()
    }

    /// Bytes handed over since the start, prefixes included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.outlet.sent()
    }

    /// Bytes that have gone on towards the socket since the start (or were thrown away by a
    /// reset): a [`ConnectionControl::ping`] made now goes out behind them.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.outlet.written()
    }

    /// Ready when [`written`](Self::written) has reached `count`. Only the last poller is woken,
    /// one who waits for capacity included: wait for both in one task.
    pub fn poll_written(&mut self, count: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.outlet.poll_written(count, cx)
    }

    fn send_trailers(&mut self, status: Status) {
        self.finished = true;
        let _caller_is_gone = self.outlet.finish_with(status);
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if !self.finished {
            let status = self.shared.settings.abandoned_status();
            self.send_trailers(status);
        }
    }
}

/// Hands over `bytes` as capacity allows.
pub(crate) async fn send_all(outlet: &mut Outlet, mut bytes: Bytes) -> Result<(), Gone> {
    while !bytes.is_empty() {
        let want = bytes.len();
        let granted = std::future::poll_fn(|cx| outlet.poll_capacity(want, cx)).await?;
        outlet.send(bytes.split_to(granted.min(want)), true)?;
    }
    Ok(())
}

const OK_IS_NO_REFUSAL: Status = Status::from_static(Code::Unknown, "refused without a reason");

fn grpc_headers() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT);
    response
}

/// A response without a body: a refusal.
pub(super) fn refusal(http_status: StatusCode, status: Status) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http_status;
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT);
    add_status(response.headers_mut(), status);
    response
}
