//! Frames that wait for the peer: small ones in one buffer, large ones as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;

use crate::http::socket::Socket;

/// From this size on a payload is not copied behind the others.
pub(crate) const LARGE_BYTES: usize = 16 << 10;

/// Pieces of one write.
const PIECES_MAX: usize = 16;

/// What waits for the peer, in order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// Behind the pieces.
    gather: BytesMut,
    bytes: usize,
}

impl Outgoing {
    /// How many bytes wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame of its own.
    pub(super) fn frame(&mut self, opcode: OpCode, payload: &[u8]) {
        self.header(opcode, payload.len());
        self.bytes_of_a_frame(payload);
    }

    /// Adds a frame, the payload of which is kept as it is when it is large.
    pub(super) fn frame_of(&mut self, opcode: OpCode, payload: Bytes) {
        if payload.len() < LARGE_BYTES {
            return self.frame(opcode, &payload);
        }
        self.header(opcode, payload.len());
        self.bytes += payload.len();
        self.pieces.push_back(self.gather.split().freeze());
        self.pieces.push_back(payload);
    }

    /// Adds bytes of a frame that somebody else has made.
    pub(super) fn bytes_of_a_frame(&mut self, bytes: &[u8]) {
        self.gather.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    fn header(&mut self, opcode: OpCode, payload_bytes: usize) {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let length = u64::try_from(payload_bytes).unwrap_or(u64::MAX);
        let before = self.gather.len();
        let formatted = header.format(length, &mut (&mut self.gather).writer());
        debug_assert!(formatted.is_ok(), "memory takes what is written");
        self.bytes += self.gather.len() - before;
    }

    /// Writes until nothing is left.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            if !self.gather.is_empty() {
                self.pieces.push_back(self.gather.split().freeze());
            }
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(socket.poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.gather.capacity() > LARGE_BYTES {
            // One that waits owns no more than it needs.
            self.gather = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        let mut left = count;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > left {
                return piece.advance(left);
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
        debug_assert_eq!(left, 0, "more was written than waited");
    }
}
