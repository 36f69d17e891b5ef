//! A call as it arrives: who, what, until when, and the messages it brings.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use http::request::Parts;

use super::open::Arriving;
use super::respond::Way;
use super::{ConnectionControl, Responder, Shared};
use crate::model::identity::{CertificateNames, Identity};
use crate::rt::Instant;
use crate::wire::framing::Encoding;
use crate::wire::inlet::Inlet;
use crate::wire::local::Pipe;
use crate::wire::outlet::Chunk;
use crate::wire::status::{Code, GRPC_ENCODING, Status};

/// A call that a client has opened.
#[derive(Debug)]
pub struct Call {
    head: Parts,
    brought: Brought,
    way: Way,
    shared: Rc<Shared>,
    deadline: Option<Instant>,
    /// Who calls, when the transport has found that out.
    identity: Option<Rc<Identity>>,
}

/// Where the messages of a call come from.
#[derive(Debug)]
enum Brought {
    Stream(RecvStream),
    Local(Rc<Pipe>),
}

impl Call {
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Chunk>,
        shared: Rc<Shared>,
        deadline: Option<Instant>,
    ) -> Self {
        let (head, stream) = request.into_parts();
        Self {
            head,
            brought: Brought::Stream(stream),
            way: Way::Stream(respond),
            shared,
            deadline,
            identity: None,
        }
    }

    /// A call that was opened inside the process.
    pub(crate) fn local(
        head: Parts,
        pipe: Rc<Pipe>,
        shared: Rc<Shared>,
        identity: Option<Rc<Identity>>,
    ) -> Self {
        Self {
            head,
            brought: Brought::Local(pipe.clone()),
            way: Way::Local(pipe),
            shared,
            deadline: None,
            identity,
        }
    }

    /// The path, `/package.Service/Method`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The value of a metadata key (lower case); the last one when it is repeated. `None` when it
    /// is missing or not printable ASCII.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.head
            .headers
            .get_all(key)
            .iter()
            .next_back()?
            .to_str()
            .ok()
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.shared.peer
    }

    /// The names that the client has proved by the certificate of its connection.
    #[must_use]
    pub fn certificate(&self) -> Option<&Rc<CertificateNames>> {
        self.shared.certificate.as_ref()
    }

    /// Who calls, when the transport has found that out: the service does not look again.
    #[must_use]
    pub const fn identity(&self) -> Option<&Rc<Identity>> {
        self.identity.as_ref()
    }

    /// The connection that carries the call.
    #[must_use]
    pub fn control(&self) -> &ConnectionControl {
        &self.shared.control
    }

    /// When the caller stops waiting, counted from the arrival; `None`: never.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Splits the call into what it brings and the way to answer.
    #[must_use]
    pub fn into_parts(self) -> (MessageReader, Responder) {
        let source = match self.brought {
            Brought::Stream(stream) => {
                let encoding = self.head.headers.get(GRPC_ENCODING);
                let encoding = encoding.and_then(|value| value.to_str().ok());
                Source::Stream(Inlet::new(
                    stream,
                    self.shared.settings.message_bytes_max,
                    Rc::clone(&self.shared.gather_limit),
                    Encoding::from_header(encoding),
                    lost,
                ))
            }
            Brought::Local(pipe) => Source::Local(pipe),
        };
        let reader = MessageReader {
            source,
            arriving: Some(Arriving::new(Rc::clone(&self.shared))),
        };
        (reader, Responder::new(self.way, self.shared))
    }
}

/// The messages that a call brings, without their prefixes.
///
/// # Memory
/// A message may be a slice of h2's read buffer and keeps 8 KiB or more of it alive. Copy what
/// outlives the call's turn: into the log, into its own allocation.
///
/// # Backpressure
/// Asking for the next message is what lets the client send more; a reader that holds back holds
/// the client back, one window later (1 MiB by default).
#[derive(Debug)]
pub struct MessageReader {
    source: Source,
    /// Until the first message is here.
    arriving: Option<Arriving>,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all calls are streams, and a box for each would be an allocation"
)]
enum Source {
    Stream(Inlet),
    Local(Rc<Pipe>),
}

impl MessageReader {
    /// The next message; `None` when the client has ended its half.
    ///
    /// # Errors
    /// `CANCELLED` when the call was reset or the connection is gone; the decoder's refusals. After
    /// an error there are no more messages.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let message = ready!(match &mut self.source {
            Source::Stream(inlet) => inlet.poll_message(cx),
            Source::Local(pipe) => pipe.poll_request(cx),
        });
        self.arriving = None;
        Poll::Ready(message)
    }

    /// Waits for the next message; see [`poll_message`](Self::poll_message).
    ///
    /// # Errors
    /// As there.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The next message among those that are here. `None` says nothing about the end: poll for
    /// that, and before waiting, since this leaves no waker behind.
    ///
    /// # Errors
    /// As [`poll_message`](Self::poll_message).
    pub fn try_message(&mut self) -> Result<Option<Bytes>, Status> {
        let message = match &mut self.source {
            Source::Stream(inlet) => inlet.try_message(),
            Source::Local(pipe) => pipe.try_request(),
        };
        if matches!(message, Ok(Some(_)) | Err(_)) {
            self.arriving = None;
        }
        message
    }

    /// The one message of a call that brings exactly one; waits until the client has ended its
    /// half.
    ///
    /// # Errors
    /// As [`poll_message`](Self::poll_message); `INTERNAL` when there is none, or more.
    pub async fn only_message(&mut self) -> Result<Bytes, Status> {
        let Some(message) = self.message().await? else {
            return Err(Status::new(Code::Internal, NO_REQUEST));
        };
        // It is in memory while its end is waited for, which may never come.
        let _held = match &mut self.source {
            Source::Stream(inlet) => inlet.take_held(),
            Source::Local(_) => None,
        };
        if self.message().await?.is_some() {
            return Err(Status::new(Code::Internal, SECOND_REQUEST));
        }
        Ok(message)
    }

    /// Lets the client send as much as was taken, without asking for the next message.
    pub fn release(&mut self) {
        if let Source::Stream(inlet) = &mut self.source {
            inlet.release();
        }
    }
}

const NO_REQUEST: &str =
    "cardinality violation: received no request message from non-client-streaming RPC";
const SECOND_REQUEST: &str =
    "cardinality violation: received multiple request messages for non-client-streaming RPC";

/// A stream that broke is a call that its caller has given up.
fn lost(error: &h2::Error) -> Status {
    if error.is_reset() {
        Status::new(Code::Cancelled, "context canceled")
    } else {
        Status::new(Code::Cancelled, format!("connection lost: {error}"))
    }
}
