//! One call, as its caller sees it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{HeaderMap, StatusCode};

use crate::wire::control::ConnectionControl;
use crate::wire::framing::{Encoding, GatherLimit};
use crate::wire::inlet::Inlet;
use crate::wire::outlet::{Chunk, Gone, Outlet, OutputLimits, Sink, Sort};
use crate::wire::status::{Code, GRPC_ENCODING, GRPC_STATUS, GRPC_STATUS_DETAILS, Status};

/// The sending half of a call; both halves hold it, the receiving one to cancel.
pub(super) type SharedOutlet = Rc<RefCell<Outlet>>;

pub(super) fn outlet(
    stream: SendStream<Chunk>,
    control: &ConnectionControl,
    limits: OutputLimits,
) -> SharedOutlet {
    Rc::new(RefCell::new(Outlet::new(
        Sink::Stream(stream),
        control.output(),
        limits,
        Sort::Stream,
    )))
}

/// The sending half of a bidirectional call. Dropped, it ends this half.
#[derive(Debug)]
pub struct ClientSender {
    outlet: SharedOutlet,
    finished: bool,
}

impl ClientSender {
    pub(super) const fn new(outlet: SharedOutlet) -> Self {
        Self {
            outlet,
            finished: false,
        }
    }

    /// How many bytes may be handed over now: at least one, at most `want`. Only the last poller
    /// is woken.
    ///
    /// # Errors
    /// [`Gone`] when the server is.
    pub fn poll_capacity(
        &mut self,
        want: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Gone>> {
        self.outlet.borrow_mut().poll_capacity(want, cx)
    }

    /// Hands over messages with their prefixes; never waits.
    ///
    /// # Errors
    /// [`Gone`] when the server is.
    pub fn send_frames(&mut self, frames: Bytes) -> Result<(), Gone> {
        self.outlet.borrow_mut().send(frames, true)
    }

    /// Hands over one message; never waits.
    ///
    /// # Errors
    /// [`Gone`] when the server is.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), Gone> {
        self.outlet.borrow_mut().send(message, false)
    }

    /// Waits for capacity and hands over all of `frames`, in pieces when it has to.
    ///
    /// # Errors
    /// [`Gone`] when the server is.
    pub async fn send_all(&mut self, mut frames: Bytes) -> Result<(), Gone> {
        while !frames.is_empty() {
            let want = frames.len();
            let granted = std::future::poll_fn(|cx| self.poll_capacity(want, cx)).await?;
            self.send_frames(frames.split_to(granted.min(want)))?;
        }
        Ok(())
    }

    /// Bytes handed over that still wait here.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.outlet.borrow().buffered()
    }

    /// Ends this half; the server goes on.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            let _server_is_gone = self.outlet.borrow_mut().finish();
        }
    }
}

impl Drop for ClientSender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The receiving half of a call. Dropped before its end, it cancels the call.
///
/// Messages may be slices of h2's read buffer, as on the server side.
#[derive(Debug)]
pub struct ClientStream {
    state: State,
    outlet: SharedOutlet,
    /// Of one message, and of the connection's incomplete ones.
    limits: (usize, Rc<GatherLimit>),
    /// What came with a status that is no success. Boxed: it is rare.
    details: Option<Box<[u8]>>,
}

#[derive(Debug)]
enum State {
    /// Waits for the headers.
    Headers(ResponseFuture),
    /// Messages come.
    Messages(Inlet),
    /// The status came, or the call broke.
    Ended(Status),
}

impl ClientStream {
    pub(super) const fn new(
        response: ResponseFuture,
        outlet: SharedOutlet,
        limits: (usize, Rc<GatherLimit>),
    ) -> Self {
        Self {
            state: State::Headers(response),
            outlet,
            limits,
            details: None,
        }
    }

    /// What the server sent beside the status of a call that failed: an encoded
    /// `google.rpc.Status`. `None` when there is none, or the call goes on.
    #[must_use]
    pub fn details(&self) -> Option<&[u8]> {
        self.details.as_deref()
    }

    /// Waits until the server has sent its headers.
    ///
    /// # Errors
    /// The call's status when it ended at once.
    pub async fn headers(&mut self) -> Result<(), Status> {
        std::future::poll_fn(|cx| self.poll_headers(cx)).await
    }

    /// The next message; `None` when the call ended well.
    ///
    /// # Errors
    /// The call's status; `UNAVAILABLE` when the connection is lost.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// As [`message`](Self::message), for those that poll.
    ///
    /// # Errors
    /// As there.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        ready!(self.poll_headers(cx))?;
        let State::Messages(inlet) = &mut self.state else {
            // `poll_headers` answers the error of a call that has ended.
            return Poll::Ready(Ok(None));
        };
        let status = match ready!(inlet.poll_message(cx)) {
            Ok(Some(message)) => return Poll::Ready(Ok(Some(message))),
            Ok(None) => match ready!(inlet.stream_mut().poll_trailers(cx)) {
                Ok(trailers) => {
                    self.details = trailers.as_ref().and_then(details_of);
                    trailers.as_ref().and_then(Status::from_trailers).unwrap_or(
                        Status::from_static(
                            Code::Internal,
                            "server closed the stream without sending trailers",
                        ),
                    )
                }
                Err(error) => lost(&error),
            },
            Err(status) => status,
        };
        Poll::Ready(self.end(status).map(|()| None))
    }

    /// The next message among those that have arrived; leaves no waker behind.
    ///
    /// # Errors
    /// As [`message`](Self::message).
    pub fn try_message(&mut self) -> Result<Option<Bytes>, Status> {
        match &mut self.state {
            State::Messages(inlet) => inlet.try_message(),
            State::Headers(_) | State::Ended(_) => Ok(None),
        }
    }

    /// Lets the server send as much as was taken, without asking for the next message.
    pub fn release(&mut self) {
        if let State::Messages(inlet) = &mut self.state {
            inlet.release();
        }
    }

    /// The one message of a call that answers with exactly one.
    pub(super) async fn only_message(&mut self) -> Result<Bytes, Status> {
        let Some(message) = self.message().await? else {
            return Err(Status::from_static(Code::Internal, NO_RESPONSE));
        };
        if self.message().await?.is_some() {
            return Err(Status::from_static(Code::Internal, SECOND_RESPONSE));
        }
        Ok(message)
    }

    fn poll_headers(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let response = match &mut self.state {
            State::Messages(_) => return Poll::Ready(Ok(())),
            State::Ended(status) if status.is_ok() => return Poll::Ready(Ok(())),
            State::Ended(status) => return Poll::Ready(Err(status.clone())),
            State::Headers(response) => ready!(Pin::new(response).poll(cx)),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return Poll::Ready(self.end(lost(&error))),
        };
        if let Some(status) = refusal(response.status(), response.headers()) {
            self.details = details_of(response.headers());
            return Poll::Ready(self.end(status));
        }
        let encoding = response.headers().get(GRPC_ENCODING);
        let encoding = Encoding::from_header(encoding.and_then(|value| value.to_str().ok()));
        let body = response.into_body();
        let (message_bytes_max, gather_limit) = &self.limits;
        let gather_limit = Rc::clone(gather_limit);
        let inlet = Inlet::new(body, *message_bytes_max, gather_limit, encoding, lost);
        self.state = State::Messages(inlet);
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, status: Status) -> Result<(), Status> {
        let result = if status.is_ok() {
            Ok(())
        } else {
            Err(status.clone())
        };
        self.state = State::Ended(status);
        result
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if !matches!(self.state, State::Ended(_)) {
            self.outlet.borrow_mut().cancel();
        }
    }
}

/// The status of a response that has no messages.
fn refusal(http_status: StatusCode, headers: &HeaderMap) -> Option<Status> {
    if headers.contains_key(GRPC_STATUS) {
        return Status::from_trailers(headers);
    }
    let code = match http_status.as_u16() {
        200 => return None,
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Some(Status::new(
        code,
        format!("unexpected HTTP status code {http_status}"),
    ))
}

/// What stands beside a status; one that is not base64 is left out.
fn details_of(headers: &HeaderMap) -> Option<Box<[u8]>> {
    // The padding is left out by some, written by others.
    let value = headers.get(GRPC_STATUS_DETAILS)?.as_bytes();
    let digits = value.trim_ascii_end().split(|byte| *byte == b'=').next()?;
    Some(STANDARD_NO_PAD.decode(digits).ok()?.into_boxed_slice())
}

/// What a broken stream means to the caller.
pub(super) fn lost(error: &h2::Error) -> Status {
    let code = match error.reason().filter(|_| error.is_reset()) {
        Some(Reason::REFUSED_STREAM) | None => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

const NO_RESPONSE: &str =
    "cardinality violation: received no response message from non-server-streaming RPC";
const SECOND_RESPONSE: &str = "cardinality violation: expected <EOF> for non \
     server-streaming RPCs, but received another message";
