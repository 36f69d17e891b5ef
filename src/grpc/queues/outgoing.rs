//! What a stream of answers still has to send, and what is to happen when it has left.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::wire::Gone;
use crate::wire::server::ResponseStream;

/// Parts below this are copied into one with their neighbours: each part is a frame of its own.
const GATHERED_BYTES_MAX: usize = 4 << 10;

/// Frames of answers on their way to the client, in their order.
#[derive(Debug)]
pub(super) struct Outgoing<M> {
    stream: ResponseStream,
    parts: VecDeque<Bytes>,
    /// What follows the parts, small things side by side.
    tail: BytesMut,
    bytes: usize,
    /// Bytes that were taken over since the beginning.
    taken: u64,
    /// What is waited for until so many bytes have left; ascending.
    marks: VecDeque<(u64, M)>,
}

impl<M> Outgoing<M> {
    pub(super) fn new(stream: ResponseStream) -> Self {
        Self {
            stream,
            parts: VecDeque::new(),
            tail: BytesMut::new(),
            bytes: 0,
            taken: 0,
            marks: VecDeque::new(),
        }
    }

    /// Bytes that wait here.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits here, and no mark either.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.marks.is_empty()
    }

    /// Whether something is to happen when bytes have left.
    pub(super) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Adds what `write` appends: whole frames, or the beginning of one.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.count(self.tail.len() - before);
    }

    /// Adds the next part of a frame.
    pub(super) fn push(&mut self, part: Bytes) {
        self.count(part.len());
        if part.len() < GATHERED_BYTES_MAX {
            self.tail.extend_from_slice(&part);
            return;
        }
        self.end_tail();
        self.parts.push_back(part);
    }

    /// Remembers `mark` until all that was added so far has left.
    pub(super) fn mark(&mut self, mark: M) {
        self.marks.push_back((self.taken, mark));
    }

    /// Ready when the client is gone. To be asked before [`poll_left`](Self::poll_left): what a
    /// reset threw away counts as left.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx)
    }

    /// Hands over what the client takes now.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        while self.bytes > 0 {
            self.end_tail();
            let Some(part) = self.parts.front_mut() else {
                break;
            };
            let Poll::Ready(granted) = self.stream.poll_send_capacity(part.len(), cx) else {
                break;
            };
            let chunk = part.split_to(granted?.min(part.len()));
            self.bytes -= chunk.len();
            if part.is_empty() {
                self.parts.pop_front();
            }
            self.stream.send_frames(chunk)?;
        }
        Ok(())
    }

    /// The next mark before which everything has left towards the socket.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<M> {
        let Some((end, _)) = self.marks.front() else {
            return Poll::Pending;
        };
        if self.stream.poll_written(*end, cx).is_pending() {
            return Poll::Pending;
        }
        match self.marks.pop_front() {
            Some((_, mark)) => Poll::Ready(mark),
            None => Poll::Pending,
        }
    }

    /// The stream, to end it.
    pub(super) fn into_stream(self) -> ResponseStream {
        self.stream
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.taken += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
    }
}
