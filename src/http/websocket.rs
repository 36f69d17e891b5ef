//! One WebSocket, from its opening to its last byte.
//!
//! ```text
//!   sockets, management API      text and binary messages, pings of the service
//!      │
//!   WebSocket ── vitals          who is silent is asked, who stays silent is ended
//!      │    │
//!      │    └── outgoing         frames of ours, written in one step for each turn
//!   parts                        fragments put together, in room that does not move
//!      │
//!   tungstenite                  frames of the peer: masks, UTF-8, limits
//!      │
//!   pieces                       fragments and large frames become small messages
//!      │
//!   Socket                       the connection, plain or TLS, with its share of turns
//! ```
//!
//! Like the rest of the transports it is polled by one task and never waits by itself: what is
//! handed over gathers until [`WebSocket::poll_flush`], and what the peer sends is read by
//! [`WebSocket::poll_message`].
//!
//! # Bounds
//! A message of the peer has at most [`Settings::message_bytes_max`]. What the peer has not taken
//! of ours is bounded by [`OUT_BYTES_MAX`] and one frame: beyond it there is no
//! [room](WebSocket::poll_room), and nothing more is read either, because pings want answers.
//!
//! # The end
//! A close frame is answered at once with its code and no reason. A peer that breaks the protocol
//! is told so by the code (1002, 1007, 1009); one whose large message finds no room in its core is
//! told to come back (1013). Whoever holds the socket calls
//! [`WebSocket::close`] in any case: it sees the last frame off.

mod opening;
mod outgoing;
mod parts;
mod pieces;
mod slice;
mod stream;
#[cfg(test)]
mod tests;
mod vitals;

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};

use crate::config::Config;
use crate::http::gather::{Gathered, NO_ROOM};
use crate::http::socket::Socket;
use crate::wire::server::ConnectionControl;
use crate::wire::{Alarm, Gone};

pub(crate) use opening::accept;
pub(crate) use outgoing::LARGE_BYTES;
pub(crate) use slice::Slice;

use parts::{Flaw, Parts};
use pieces::Part;
use stream::Stream;
use vitals::Vitals;

/// What may wait for the peer before there is no room.
pub(crate) const OUT_BYTES_MAX: usize = 256 << 10;

/// What one look at the socket reads at most. Held by each socket all its life.
const READ_BYTES: usize = 4 << 10;

/// How long the peer may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last frames may take to leave, and the peer to answer the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A reason's longest text in a close frame.
const REASON_BYTES_MAX: usize = 123;

/// What a socket is allowed, and asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The largest message, over all its fragments. A larger one ends the socket with code 1009.
    pub(crate) message_bytes_max: usize,
    /// Silence after which the peer is asked whether it lives; it has ten seconds to answer.
    /// `None`: never.
    pub(crate) ping_every: Option<Duration>,
}

/// What the peer has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A text, which is UTF-8.
    Text(Gathered),
    /// Anything else.
    Binary(Gathered),
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it in order, with this code.
    Closed {
        /// `None` when it gave none.
        code: Option<u16>,
    },
    /// The connection was lost, the peer stayed silent, or it broke the protocol.
    Broken,
}

/// A WebSocket, on the server's side.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// Reads; what it writes are answers to pings. Frames of ours go past it, so that a large one
    /// is not copied: into `Stream::out`, where both meet.
    protocol: tungstenite::protocol::WebSocket<Stream>,
    /// A message that comes in parts.
    parts: Parts,
    vitals: Vitals,
    /// Messages of one turn.
    slice: Slice,
    /// What was asked of the connection is answered here.
    control: ConnectionControl,
    ended: Option<End>,
    /// Our last frame was handed over: nothing may follow it.
    close_sent: bool,
}

impl WebSocket {
    /// Takes over a connection behind its opening, with the limits of the configuration.
    /// `read_ahead` is what came with the opening; what is asked of the connection is asked by
    /// way of `control`.
    pub(crate) fn new(
        socket: Socket,
        read_ahead: Bytes,
        config: &Config,
        control: ConnectionControl,
    ) -> Self {
        let rest = &config.rest;
        let memory = match config.limits.connection_memory_bytes {
            0 => usize::MAX,
            bytes => bytes,
        };
        let settings = Settings {
            message_bytes_max: config.rest_body_limit().min(memory),
            ping_every: (rest.ping_seconds > 0).then(|| Duration::from_secs(rest.ping_seconds)),
        };
        Self::with_settings(socket, read_ahead, settings, control)
    }

    /// As [`new`](Self::new), with limits of one's own.
    pub(crate) fn with_settings(
        mut socket: Socket,
        read_ahead: Bytes,
        settings: Settings,
        control: ConnectionControl,
    ) -> Self {
        if !read_ahead.is_empty() {
            socket.put_back(read_ahead);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            // Nothing stays there: the stream takes all of it at once.
            .write_buffer_size(0)
            .max_message_size(Some(settings.message_bytes_max))
            .max_frame_size(Some(settings.message_bytes_max));
        control.mark_answers_late();
        let stream = Stream::new(socket, settings.message_bytes_max);
        Self {
            protocol: tungstenite::protocol::WebSocket::from_raw_socket(
                stream,
                Role::Server,
                Some(config),
            ),
            parts: Parts::new(settings.message_bytes_max),
            vitals: Vitals::new(settings.ping_every, PING_TIMEOUT),
            slice: Slice::default(),
            control,
            ended: None,
            close_sent: false,
        }
    }

    /// The next message of the peer; `None` when there will be no more, see
    /// [`ended`](Self::ended). Pings are answered here, so it is to be polled also by those who
    /// expect no message.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            // Who does not take our answers is not read from.
            if ready!(self.poll_room(cx)).is_err() {
                return Poll::Ready(None);
            }
            ready!(self.slice.poll(cx));
            self.protocol.get_mut().attend(cx);
            match self.protocol.read() {
                Ok(message) => {
                    self.slice.spend(message.len());
                    if let Some(message) = self.take(message) {
                        return Poll::Ready(Some(message));
                    }
                }
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    self.slice.rest();
                    return self.found_nothing(cx);
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    /// How the socket ended; `None` while it lives.
    pub(crate) const fn ended(&self) -> Option<End> {
        self.ended
    }

    /// What is asked of the connection.
    pub(crate) const fn control(&self) -> &ConnectionControl {
        &self.control
    }

    /// Ready when another frame may be handed over.
    ///
    /// # Errors
    /// [`Gone`] when the socket has ended.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.ended.is_some() {
            return Poll::Ready(Err(Gone));
        }
        if self.protocol.get_ref().out.bytes() < OUT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        let _all_or_some = self.poll_flush(cx);
        if self.ended.is_some() {
            return Poll::Ready(Err(Gone));
        }
        match self.protocol.get_ref().out.bytes() < OUT_BYTES_MAX {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Hands a text over, which must be UTF-8. Never waits: wait for [room](Self::poll_room)
    /// before.
    ///
    /// # Errors
    /// [`Gone`] when the socket has ended.
    pub(crate) fn send_text(&mut self, text: impl Into<Bytes>) -> Result<(), Gone> {
        self.send(OpCode::Data(Data::Text), text.into())
    }

    /// As [`send_text`](Self::send_text), for a text that the caller keeps the room of.
    ///
    /// # Errors
    /// [`Gone`] when the socket has ended.
    pub(crate) fn send_str(&mut self, text: &str) -> Result<(), Gone> {
        self.check()?;
        let out = &mut self.protocol.get_mut().out;
        out.frame(OpCode::Data(Data::Text), text.as_bytes());
        Ok(())
    }

    /// Ready when all that was handed over is with the kernel.
    ///
    /// # Errors
    /// [`Gone`] when the socket is broken: some of it never will be.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.ended == Some(End::Broken) && !self.close_sent {
            return Poll::Ready(Err(Gone));
        }
        self.protocol.get_mut().poll_flush(cx).map(|flushed| {
            flushed.map_err(|_error| {
                self.ended = Some(End::Broken);
                Gone
            })
        })
    }

    /// Serves what was asked of the connection, and watches that the peer lives. To be called in
    /// each turn, before the reading.
    ///
    /// A ping goes out behind what was flushed. When the connection is to be closed, the socket has
    /// ended as broken. That it is to be drained is left to the caller, see
    /// [`control`](Self::control).
    pub(crate) fn serve_control(&mut self, cx: &mut Context<'_>) {
        while self.control.asked().poll(cx).is_ready() {}
        if self.ended.is_some() {
            return;
        }
        if self.control.wants_close() {
            self.ended = Some(End::Broken);
            return;
        }
        let stream = self.protocol.get_mut();
        // One that is behind takes nothing on purpose: its system says so, which is a sign of life.
        let doubted = stream.set_doubted(self.control.is_doubted() && !stream.is_blocked());
        let asks = self.vitals.poll(stream.alive_at, cx) || doubted;
        if self.vitals.is_overdue(stream.alive_at) && stream.is_blocked() {
            // It has not even taken our ping.
            self.ended = Some(End::Broken);
            return;
        }
        let wanted = self.control.wants_ping();
        if wanted || asks {
            let payload = self.vitals.ping(wanted);
            stream.out.frame(OpCode::Control(Control::Ping), &payload);
        }
        if wanted {
            self.control.ping_was_sent();
        }
    }

    /// Ends the socket: sends the close frame, unless the last one was sent before, and waits a
    /// moment until it has left and was answered.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        if self.ended.is_none() {
            self.send_close(Some(code), reason);
        }
        if self.ended == Some(End::Broken) && !self.close_sent {
            return self.protocol.get_mut().abort();
        }
        let mut limit = Alarm::new(CLOSE_TIMEOUT);
        std::future::poll_fn(|cx| {
            if limit.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.poll_closed(cx)
        })
        .await;
    }

    /// Ready when the last frame has left and the peer has closed, or is gone.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.poll_flush(cx)).is_err() {
            return Poll::Ready(());
        }
        while self.ended.is_none() {
            // Until the answer comes, what the peer had to say is of no interest any more.
            if ready!(self.poll_message(cx)).is_none() {
                break;
            }
        }
        // A socket that is dropped with unread bytes resets the connection, and the peer might
        // not read what we sent last.
        self.protocol.get_mut().poll_finished(cx)
    }

    fn send(&mut self, opcode: OpCode, payload: Bytes) -> Result<(), Gone> {
        self.check()?;
        self.protocol.get_mut().out.frame_of(opcode, payload);
        Ok(())
    }

    fn check(&self) -> Result<(), Gone> {
        match self.ended.is_some() || self.close_sent {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    /// Takes what tungstenite has read; gives back what is for the caller.
    fn take(&mut self, message: tungstenite::Message) -> Option<Message> {
        match message {
            tungstenite::Message::Text(text) => self.take_data(true, text.into()),
            tungstenite::Message::Binary(bytes) => self.take_data(false, bytes),
            tungstenite::Message::Pong(payload) => {
                if self.vitals.was_answered(&payload) {
                    self.control.ping_was_answered();
                }
                None
            }
            tungstenite::Message::Close(frame) => {
                let code = frame.map(|frame| u16::from(frame.code));
                // tungstenite would repeat the reason; it is not asked any more.
                self.send_close(code, "");
                self.ended = Some(End::Closed { code });
                None
            }
            // Its answer goes out with the next read. Raw frames are never read.
            tungstenite::Message::Ping(_) | tungstenite::Message::Frame(_) => None,
        }
    }

    /// Takes a message, or a part of one; gives back what is whole.
    fn take_data(&mut self, is_text: bool, payload: Bytes) -> Option<Message> {
        let (is_text, whole) = match self.protocol.get_mut().next_part() {
            Part::Whole => (is_text, payload.into()),
            part => match self.parts.add(part, &payload) {
                Ok(whole) => whole?,
                Err(flaw) => {
                    self.fail_by(flaw);
                    return None;
                }
            },
        };
        Some(match is_text {
            true => Message::Text(whole),
            false => Message::Binary(whole),
        })
    }

    /// A message cannot go on.
    fn fail_by(&mut self, flaw: Flaw) {
        tracing::debug!(?flaw, "a websocket broke");
        match flaw {
            Flaw::Misplaced => self.send_close(Some(CloseCode::Protocol.into()), ""),
            Flaw::NotUtf8 => self.send_close(Some(CloseCode::Invalid.into()), ""),
            Flaw::TooLarge => self.send_close(Some(CloseCode::Size.into()), ""),
            Flaw::NoRoom => {
                self.send_close(Some(CloseCode::Again.into()), &NO_ROOM.to_string());
            }
        }
        self.ended = Some(End::Broken);
    }

    /// There is nothing to read for now.
    fn found_nothing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        // Only now: an answer that we have not read would have been one.
        if self.vitals.is_overdue(self.protocol.get_ref().alive_at) {
            self.ended = Some(End::Broken);
        }
        // Answers to pings.
        let _all_or_some = self.poll_flush(cx);
        match self.ended {
            Some(_) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Reading has failed for good.
    fn fail(&mut self, error: &tungstenite::Error) {
        use tungstenite::Error;
        use tungstenite::error::ProtocolError;
        tracing::debug!(%error, "a websocket broke");
        match error {
            Error::Capacity(_) => self.send_close(Some(CloseCode::Size.into()), ""),
            Error::Utf8(_) => self.send_close(Some(CloseCode::Invalid.into()), ""),
            // The connection is gone.
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_) => {}
            _ => self.send_close(Some(CloseCode::Protocol.into()), ""),
        }
        self.ended = Some(End::Broken);
    }

    /// Hands the last frame over, unless that was done.
    fn send_close(&mut self, code: Option<u16>, reason: &str) {
        if std::mem::replace(&mut self.close_sent, true) {
            return;
        }
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            let end = reason.floor_char_boundary(REASON_BYTES_MAX);
            payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
        }
        let out = &mut self.protocol.get_mut().out;
        out.frame(OpCode::Control(Control::Close), &payload);
    }
}
