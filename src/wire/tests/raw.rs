//! A peer that speaks in hand-made frames.

use std::task::Poll;
use std::time::Duration;

use crate::rt::{Conn, Sleep};

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Raw {
    conn: Conn,
    input: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block without compression.
pub(super) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn integer(mut value: usize, block: &mut Vec<u8>) {
    let byte = |value: usize| u8::try_from(value).unwrap();
    if value < 127 {
        return block.push(byte(value));
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(byte(value % 128 + 128));
        value /= 128;
    }
    block.push(byte(value));
}

/// The head of a call.
pub(super) fn call(path: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ])
}

impl Raw {
    pub(super) const fn over(conn: Conn) -> Self {
        Self {
            conn,
            input: Vec::new(),
        }
    }

    /// Opens HTTP/2 with the settings' defaults.
    pub(super) async fn open(conn: Conn) -> Self {
        let mut raw = Self::over(conn);
        raw.write(PREFACE).await;
        raw.write(&frame(SETTINGS, 0, 0, &[])).await;
        raw.write(&frame(SETTINGS, 1, 0, &[])).await;
        raw
    }

    /// Writes all; ends early when the server has closed.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|cx| self.conn.poll_write(cx, bytes)).await;
            let Ok(count) = written else { return };
            bytes = &bytes[count..];
        }
    }

    /// Writes as much as the server takes until it takes nothing for `patience`; the number of
    /// bytes that it took.
    pub(super) async fn push(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let mut pushed = 0;
        while pushed < bytes.len() {
            let mut limit = Sleep::new(patience);
            let written = std::future::poll_fn(|cx| {
                if let Poll::Ready(written) = self.conn.poll_write(cx, &bytes[pushed..]) {
                    return Poll::Ready(written.ok());
                }
                limit.poll(cx).map(|()| None)
            })
            .await;
            match written {
                Some(count) => pushed += count,
                None => break,
            }
        }
        pushed
    }

    pub(super) async fn pong(&mut self, ping: &Frame) {
        let pong = frame(PING, 1, 0, &ping.payload);
        self.write(&pong).await;
    }

    /// The next frame; `None` when the server closed, or says nothing for five seconds.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let mut limit = Sleep::new(Duration::from_secs(5));
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            let read = std::future::poll_fn(|cx| {
                if let Poll::Ready(read) = self.conn.poll_read(cx, &mut buffer) {
                    return Poll::Ready(read.unwrap_or(0));
                }
                limit.poll(cx).map(|()| 0)
            })
            .await;
            if read == 0 {
                return None;
            }
            self.input.extend_from_slice(&buffer[..read]);
        }
    }

    /// The next frame of a kind (not an acknowledgement); others are skipped.
    pub(super) async fn frame_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            let acknowledges = matches!(frame.kind, SETTINGS | PING) && frame.flags & 1 == 1;
            if frame.kind == kind && !acknowledges {
                return Some(frame);
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.input.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = self.input.get(9..9 + length)?.to_vec();
        self.input.drain(..9 + length);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }
}
