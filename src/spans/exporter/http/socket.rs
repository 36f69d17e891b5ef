//! A connection as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::wire::Transport;

/// Answers of collectors are short.
const READ_BYTES: usize = 4 << 10;

pub(super) struct Socket {
    transport: Transport,
    buffer: Box<[u8]>,
}

impl Socket {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = this.buffer.len().min(out.remaining());
        let space = this.buffer.get_mut(..room).unwrap_or_default();
        let count = ready!(this.transport.poll_read(cx, space))?;
        out.put_slice(space.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.transport.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_finish(cx)
    }
}
