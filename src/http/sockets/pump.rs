//! Between a socket and a call: each takes what the other gives, at the pace of the slower one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::turned::{self, Heard, Later, Turned};
use crate::http::json::{self, JsonMessage};
use crate::http::websocket::{End, LARGE_BYTES, Slice, WebSocket};
use crate::rt;
use crate::wire::local::LocalCall;
use crate::wire::{Alarm, Code, Status};

/// Answers to frames that the call never saw, which wait for those before them. With more the
/// client is not read from any further.
const FLAWS_BYTES_MAX: usize = 64 << 10;

/// How long a call may go on behind a close frame: what the client has sent is worked off.
const FAREWELL: Duration = Duration::from_secs(5);

/// What clients look for in the text that announces an end by the server.
const CLOSED_BY_SERVER: &str = "Error 205: connection was closed by server";

/// What only an error of ours can bring about.
const BROKE_OFF: Status = Status::from_static(Code::Internal, "a message cannot be written");

/// Codes of the close frame.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const FAILED: u16 = 1011;

/// What the two sides of a socket say to each other.
pub(super) trait Dialogue: 'static {
    /// What a frame of the client holds.
    type Said: JsonMessage;
    /// What a frame to the client holds.
    type Told: JsonMessage;
    /// Its ways.
    const RULES: Rules;

    /// The answer to a frame that holds no such message; `None`: it is passed over.
    fn flaw(frame: &[u8], flaw: String) -> Option<Self::Told>;
}

/// The ways of a dialogue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Frames of the client mean something.
    pub(super) listens: bool,
    /// Each of them has exactly one answer, in their order.
    pub(super) answers_each: bool,
    /// The client's half has an end in order, which a close frame is.
    pub(super) ends_in_order: bool,
}

/// Serves a socket and its call until one of them ends, and sees both off.
pub(super) async fn run<D: Dialogue>(socket: WebSocket, call: LocalCall) {
    let mut pump = Pump {
        socket,
        call,
        slice: Slice::default(),
        said: 0,
        told: 0,
        flaws: VecDeque::new(),
        flaws_bytes: 0,
        hearing: None,
        telling: None,
        text: String::new(),
    };
    let over = std::future::poll_fn(|cx| pump.turn::<D>(cx)).await;
    match over {
        Over::Call(ended) => pump.call_ended(ended).await,
        Over::Client => pump.client_ended::<D>().await,
    }
}

/// What has ended.
enum Over {
    Call(Result<(), Status>),
    Client,
}

struct Pump {
    socket: WebSocket,
    call: LocalCall,
    /// Messages of the call in one turn.
    slice: Slice,
    /// Messages that went to the call, and that came from it.
    said: u64,
    told: u64,
    /// Answers of our own, each with the count of those that go before it.
    flaws: VecDeque<(u64, String)>,
    flaws_bytes: usize,
    /// A large frame that is being read; those behind it wait.
    hearing: Option<Later<Heard>>,
    /// A large message that is being written; those behind it wait.
    telling: Option<Later<String>>,
    /// Room for one text.
    text: String,
}

impl Pump {
    /// Moves what can be moved; ready when one side has ended.
    fn turn<D: Dialogue>(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        self.socket.serve_control(cx);
        loop {
            let full = self.listen::<D>(cx);
            let told = self.tell::<D>(cx);
            if let Poll::Ready(Told::Ended(ended)) = told {
                return Poll::Ready(Over::Call(ended));
            }
            if self.socket.ended().is_some() {
                return Poll::Ready(Over::Client);
            }
            let Ok(()) = ready!(self.socket.poll_flush(cx)) else {
                return Poll::Ready(Over::Client);
            };
            if self.call.unwritten() > 0 && self.telling.is_none() {
                self.call.written();
            }
            // There is room again for what was held back, and nobody else would say so.
            let goes_on = told.is_ready() || (full && self.flaws_bytes < FLAWS_BYTES_MAX);
            if !goes_on {
                return Poll::Pending;
            }
        }
    }

    /// Takes what the client says, while the service keeps up with it. True when too many answers
    /// of our own wait.
    fn listen<D: Dialogue>(&mut self, cx: &mut Context<'_>) -> bool {
        while self.flaws_bytes < FLAWS_BYTES_MAX {
            if self.call.poll_room(cx).is_pending() {
                return false;
            }
            if let Some(hearing) = &mut self.hearing {
                let Poll::Ready(heard) = turned::poll_heard::<D>(hearing, cx) else {
                    return false;
                };
                self.hearing = None;
                self.heard::<D>(heard);
                continue;
            }
            match self.socket.poll_message(cx) {
                Poll::Ready(Some(frame)) if D::RULES.listens => match turned::hear::<D>(frame) {
                    Turned::Now(heard) => self.heard::<D>(heard),
                    Turned::Later(later) => self.hearing = Some(later),
                },
                Poll::Ready(Some(_)) => {}
                // At the end there is something to do for the caller.
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    fn heard<D: Dialogue>(&mut self, heard: Heard) {
        match heard {
            Heard::Said(message) => {
                self.said += 1;
                self.call.send(message);
            }
            Heard::Flaw(Some(text)) => {
                let before = if D::RULES.answers_each { self.said } else { 0 };
                self.flaws_bytes += text.len();
                self.flaws.push_back((before, text));
            }
            Heard::Flaw(None) => {}
        }
    }

    /// Tells the client what the call says. Ready when the socket has no room, or the call has
    /// ended; pending while the call has nothing to say.
    fn tell<D: Dialogue>(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        loop {
            match self.socket.poll_room(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(Told::NoRoom),
            }
            if let Some(telling) = &mut self.telling {
                let text = ready!(telling.poll(cx));
                self.telling = None;
                let Some(text) = text else {
                    return Poll::Ready(Told::Ended(Err(BROKE_OFF)));
                };
                let _ended_or_not = self.socket.send_text(text);
                continue;
            }
            if let Some(text) = self.due_flaw() {
                let _ended_or_not = self.socket.send_text(text);
                continue;
            }
            ready!(self.slice.poll(cx));
            match self.call.poll_message(cx) {
                Poll::Ready(Ok(Some(message))) => {
                    self.told += 1;
                    self.slice.spend(message.len());
                    self.say::<D>(message);
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Told::Ended(Ok(()))),
                Poll::Ready(Err(status)) => return Poll::Ready(Told::Ended(Err(status))),
                Poll::Pending => {
                    self.slice.rest();
                    return Poll::Pending;
                }
            }
        }
    }

    fn say<D: Dialogue>(&mut self, message: Bytes) {
        self.telling = turned::tell_later::<D>(&message);
        if self.telling.is_some() {
            return;
        }
        self.text.clear();
        turned::tell_at_once::<D>(message, &mut self.text);
        if self.text.is_empty() {
            return;
        }
        let _ended_or_not = if self.text.len() < LARGE_BYTES {
            self.socket.send_str(&self.text)
        } else {
            self.socket.send_text(std::mem::take(&mut self.text))
        };
    }

    /// The next answer of our own, if all that go before it have been sent.
    fn due_flaw(&mut self) -> Option<String> {
        let (before, _) = self.flaws.front()?;
        if *before > self.told {
            return None;
        }
        let (_, text) = self.flaws.pop_front()?;
        self.flaws_bytes = self.flaws_bytes.saturating_sub(text.len());
        Some(text)
    }

    /// The service has ended the call: the client is told why, and the socket is closed.
    async fn call_ended(mut self, ended: Result<(), Status>) {
        for (_, text) in std::mem::take(&mut self.flaws) {
            let _ended_or_not = self.socket.send_text(text);
        }
        let going_away = self.socket.control().wants_drain();
        let code = match ended {
            Ok(()) if going_away => GOING_AWAY,
            Ok(()) => NORMAL,
            Err(status) => {
                let _ended_or_not = self.socket.send_text(server_end(status.message()));
                match status.code() {
                    Code::Unavailable => GOING_AWAY,
                    _ => FAILED,
                }
            }
        };
        drop(self.call);
        self.socket.close(code, "").await;
    }

    /// The client has closed the socket, or is gone.
    async fn client_ended<D: Dialogue>(self) {
        let Self {
            socket, mut call, ..
        } = self;
        let closed = matches!(socket.ended(), Some(End::Closed { .. }));
        if !closed || !D::RULES.ends_in_order {
            // The answer to a ping may have come right before the end: the service takes it first.
            rt::reactor_yield().await;
            // Before the last frames: what the client held is free at once.
            drop(call);
            return socket.close(NORMAL, "").await;
        }
        call.end();
        let mut closing = pin!(socket.close(NORMAL, ""));
        let mut limit = Alarm::new(FAREWELL);
        let mut closed = false;
        std::future::poll_fn(|cx| {
            closed = closed || closing.as_mut().poll(cx).is_ready();
            while let Poll::Ready(message) = call.poll_message(cx) {
                if !matches!(message, Ok(Some(_))) {
                    return if closed {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
                if D::RULES.answers_each {
                    // Results, which nobody reads any more. Messages of queues go back instead.
                    call.written();
                }
            }
            match closed && limit.poll(cx).is_ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// What [`Pump::tell`] has come to.
enum Told {
    /// The socket takes no more for now.
    NoRoom,
    Ended(Result<(), Status>),
}

/// The text that announces an end by the server.
fn server_end(reason: &str) -> String {
    let mut text = String::from("{\"is_error\":true,\"message\":");
    let message = format!("reason {reason}: {CLOSED_BY_SERVER}");
    json::write_text(&message, &mut text);
    text.push_str(",\"data\":null}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_by_the_server_has_the_text_that_clients_know() {
        let text = server_end("Error 409: server is in shutdown mode");
        let expected = "{\"is_error\":true,\"message\":\"reason Error 409: server is in shutdown \
                        mode: Error 205: connection was closed by server\",\"data\":null}";
        assert_eq!(text, expected);
        assert!(server_end("a \"quoted\" one").contains("a \\\"quoted\\\" one"));
    }
}
