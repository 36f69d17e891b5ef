//! The bodies of requests and responses.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::gather::{Full, Gathered, Gathering};
use crate::rt;
use crate::wire::Alarm;
use crate::wire::framing::GatherLimit;
use crate::wire::local::LocalCall;

/// Pieces of a body that are taken before others have their turn. They may be a byte each.
const FRAMES_PER_TURN: usize = 64;

/// What a client sends behind its head.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    /// How long all of it may take.
    timeout: Duration,
    /// What all bodies of the connection that are being read may hold.
    limit: Rc<GatherLimit>,
}

/// A body that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than the limit.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// It did not come in time.
    #[error("the body did not come in time")]
    Timeout,
    /// Others hold what large bodies may hold.
    #[error("there is no room for another large body")]
    NoRoom,
    /// The client is gone, or what it sends is no body.
    #[error("the body broke off")]
    Broken,
}

impl From<Full> for BodyError {
    fn from(full: Full) -> Self {
        match full {
            Full::Connection => Self::TooLarge,
            Full::Core => Self::NoRoom,
        }
    }
}

impl RequestBody {
    pub(super) const fn new(incoming: Incoming, timeout: Duration, limit: Rc<GatherLimit>) -> Self {
        Self {
            incoming,
            timeout,
            limit,
        }
    }

    /// Reads all of it, up to `max` bytes.
    pub(crate) async fn read(&mut self, max: usize) -> Result<Gathered, BodyError> {
        use http_body::Body as _;
        let announced = self.incoming.size_hint().lower();
        if usize::try_from(announced).map_or(true, |bytes| bytes > max) {
            return Err(BodyError::TooLarge);
        }
        let mut limit = Alarm::new(self.timeout);
        let expected = match usize::try_from(announced) {
            Ok(0) | Err(_) => max,
            Ok(announced) => announced,
        };
        let mut gathering = Gathering::new(self.limit.clone(), expected);
        let mut frames = 0_usize;
        loop {
            frames += 1;
            if frames.is_multiple_of(FRAMES_PER_TURN) {
                let mut look = rt::Look::default();
                std::future::poll_fn(|cx| look.poll(cx)).await;
            }
            let frame = std::future::poll_fn(|cx| {
                let frame = Pin::new(&mut self.incoming).poll_frame(cx);
                match frame {
                    Poll::Pending if limit.poll(cx).is_ready() => {
                        Poll::Ready(Err(BodyError::Timeout))
                    }
                    frame => frame.map(Ok),
                }
            })
            .await?;
            match frame {
                None => return Ok(gathering.finish()),
                Some(Err(_broken)) => return Err(BodyError::Broken),
                Some(Ok(frame)) => {
                    // Trailers say nothing that we ask for.
                    if let Ok(data) = frame.into_data() {
                        if gathering.len() + data.len() > max {
                            return Err(BodyError::TooLarge);
                        }
                        gathering.add(data)?;
                    }
                }
            }
        }
    }
}

/// Gives the next piece of a body; `None` at its end.
type NextPiece = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Bytes>>>;

/// What is sent behind the head of a response.
pub struct Body(Kind);

enum Kind {
    Empty,
    Whole(Box<Piece>),
    Stream(NextPiece),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Empty => "Body::Empty",
            Kind::Whole(_) => "Body::Whole",
            Kind::Stream(_) => "Body::Stream",
        })
    }
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// All of it.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::whole(bytes.into(), None)
    }

    /// All of it, whose way to the client matters: once all has gone to the socket, the call is
    /// told that its messages are [`written`](LocalCall::written). If it never does, the call is
    /// dropped.
    #[must_use]
    pub fn settling(bytes: Bytes, call: LocalCall) -> Self {
        Self::whole(bytes, Some(call))
    }

    /// Pieces as they come.
    #[must_use]
    pub fn stream(next: impl FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + 'static) -> Self {
        Self(Kind::Stream(Box::new(next)))
    }

    fn whole(bytes: Bytes, mut call: Option<LocalCall>) -> Self {
        if bytes.is_empty() {
            if let Some(call) = &mut call {
                call.written();
            }
            return Self::empty();
        }
        Self(Kind::Whole(Box::new(Piece { bytes, call })))
    }
}

impl http_body::Body for Body {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Stream(next) => next(cx).map(|piece| {
                let piece = Piece {
                    bytes: piece?,
                    call: None,
                };
                Some(Ok(Frame::data(piece)))
            }),
            Kind::Whole(_) => match std::mem::replace(&mut self.0, Kind::Empty) {
                Kind::Whole(piece) => Poll::Ready(Some(Ok(Frame::data(*piece)))),
                Kind::Empty | Kind::Stream(_) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(piece) => {
                SizeHint::with_exact(u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX))
            }
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// Bytes of a response on their way to the socket. Reports when the last of them has gone there.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    call: Option<LocalCall>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.bytes.is_empty()
            && let Some(mut call) = self.call.take()
        {
            call.written();
        }
    }
}
