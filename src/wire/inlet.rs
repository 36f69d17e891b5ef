//! The receiving half of a stream: DATA frames in, messages out, window given back late.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;

use crate::wire::framing::{Encoding, GatherLimit, Held, MessageDecoder};
use crate::wire::reactor_turn::ReactorTurn;
use crate::wire::status::Status;

/// The receiving half of a stream.
///
/// A chunk's share of the flow-control window is given back when the next chunk is asked for, not
/// when the chunk comes: a reader that stops asking stops the sender, one window later.
#[derive(Debug)]
pub(crate) struct Inlet {
    stream: RecvStream,
    decoder: MessageDecoder,
    /// Set while others have their turn and a message is inflated in part.
    yielding: Option<Box<ReactorTurn>>,
    /// Bytes taken from h2 whose window was not given back.
    unreleased: usize,
    ended: bool,
    /// What a broken stream means to this side.
    lost: fn(&h2::Error) -> Status,
}

impl Inlet {
    pub(crate) const fn new(
        stream: RecvStream,
        message_bytes_max: usize,
        gather_limit: Rc<GatherLimit>,
        encoding: Encoding,
        lost: fn(&h2::Error) -> Status,
    ) -> Self {
        let decoder = MessageDecoder::new(message_bytes_max, gather_limit, encoding);
        Self {
            stream,
            decoder,
            yielding: None,
            unreleased: 0,
            ended: false,
            lost,
        }
    }

    /// The next message; `None` when the peer ended its half between messages.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(turn) = &mut self.yielding {
                std::task::ready!(turn.poll(cx));
                self.yielding = None;
            }
            if let Some(message) = self.decoder.next_message()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.decoder.is_inflating() {
                self.yielding = Some(Box::default());
                continue;
            }
            if self.ended {
                return Poll::Ready(self.decoder.finish().map(|()| None));
            }
            self.release();
            match std::task::ready!(self.stream.poll_data(cx)) {
                Some(Ok(chunk)) => self.take(chunk),
                Some(Err(error)) => return Poll::Ready(Err((self.lost)(&error))),
                None => self.ended = true,
            }
        }
    }

    /// The next message among those that have arrived; never waits and keeps no waker.
    pub(crate) fn try_message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if self.yielding.is_some() {
                return Ok(None);
            }
            if let Some(message) = self.decoder.next_message()? {
                return Ok(Some(message));
            }
            if self.decoder.is_inflating() {
                self.yielding = Some(Box::default());
                return Ok(None);
            }
            // h2 would keep the waker of a poll that has to wait; so ask only when data is there.
            let in_flight = self.stream.flow_control().used_capacity();
            if self.ended || in_flight <= self.unreleased {
                return Ok(None);
            }
            let mut cx = Context::from_waker(std::task::Waker::noop());
            match self.stream.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(chunk))) => self.take(chunk),
                Poll::Ready(Some(Err(error))) => return Err((self.lost)(&error)),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => return Ok(None),
            }
        }
    }

    /// What the last message counts for, see [`MessageDecoder::take_held`].
    pub(crate) const fn take_held(&mut self) -> Option<Held> {
        self.decoder.take_held()
    }

    /// Gives the window of everything taken so far back to the sender.
    pub(crate) fn release(&mut self) {
        let count = std::mem::take(&mut self.unreleased);
        if count > 0 {
            // Refused only when we release more than came, or the stream is gone.
            let _stream_is_gone = self.stream.flow_control().release_capacity(count);
        }
    }

    /// The stream, for what only the client side has: trailers.
    pub(crate) fn stream_mut(&mut self) -> &mut RecvStream {
        &mut self.stream
    }

    fn take(&mut self, chunk: Bytes) {
        self.unreleased += chunk.len();
        self.decoder.push(chunk);
    }
}
