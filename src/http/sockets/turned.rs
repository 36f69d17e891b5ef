//! Frames turned into messages of the contract, and messages into frames.
//!
//! Small ones at once. A large one is turned on a blocking thread, as REST does: some megabytes of
//! JSON take longer than an executor may be held. Its socket waits for it, so the order stays.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message as _;

use super::pump::Dialogue;
use crate::http::json;
use crate::http::websocket::Message;
use crate::rt;

/// Frames and messages up to this size are turned at once: less than half a millisecond.
const AT_ONCE_BYTES_MAX: usize = 128 << 10;

/// What a frame is told that is none of the protocol.
const NOT_TEXT: &str = "a frame must be a text that holds one JSON object";

/// What only an error of ours can bring about.
const BROKE_OFF: &str = "the frame could not be read";

/// What a frame holds.
pub(super) enum Heard {
    /// A message, encoded for its call.
    Said(Bytes),
    /// None; this is answered, if anything.
    Flaw(Option<String>),
}

/// Something that is turned aside; `None` when that broke off.
pub(super) struct Later<T>(Pin<Box<dyn Future<Output = Option<T>>>>);

impl<T> Later<T> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll(cx)
    }
}

/// What comes of turning.
pub(super) enum Turned<T> {
    /// This.
    Now(T),
    /// That is not known yet.
    Later(Later<T>),
}

fn turned<T: Send + 'static>(bytes: usize, turn: impl FnOnce() -> T + Send + 'static) -> Turned<T> {
    if bytes <= AT_ONCE_BYTES_MAX {
        Turned::Now(turn())
    } else {
        Turned::Later(Later(Box::pin(rt::heavy(turn))))
    }
}

/// Reads a frame.
pub(super) fn hear<D: Dialogue>(frame: Message) -> Turned<Heard> {
    let bytes = match &frame {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
    };
    turned(bytes, move || read::<D>(frame))
}

/// Waits for a frame that is read aside.
pub(super) fn poll_heard<D: Dialogue>(
    later: &mut Later<Heard>,
    cx: &mut Context<'_>,
) -> Poll<Heard> {
    let heard = ready!(later.poll(cx));
    Poll::Ready(heard.unwrap_or_else(|| Heard::Flaw(flaw::<D>(&[], BROKE_OFF.to_owned()))))
}

fn read<D: Dialogue>(frame: Message) -> Heard {
    let (frame, said) = match frame {
        Message::Text(text) => {
            let said = json::encoded::<D::Said>(&text);
            (text, said.map_err(|error| error.to_string()))
        }
        Message::Binary(bytes) => (bytes, Err(NOT_TEXT.to_owned())),
    };
    match said {
        Ok(said) => Heard::Said(frame.replaced_by(said)),
        Err(error) => Heard::Flaw(flaw::<D>(&frame, error)),
    }
}

fn flaw<D: Dialogue>(frame: &[u8], error: String) -> Option<String> {
    let answer = D::flaw(frame, error)?;
    let mut text = String::new();
    json::encode(&answer, &mut text);
    Some(text)
}

/// Writes a large message; `None` for one that is small, and written by [`tell_at_once`].
pub(super) fn tell_later<D: Dialogue>(message: &Bytes) -> Option<Later<String>> {
    if message.len() <= AT_ONCE_BYTES_MAX {
        return None;
    }
    let message = message.clone();
    let turn = move || {
        let mut text = String::new();
        tell_at_once::<D>(message, &mut text);
        text
    };
    Some(Later(Box::pin(rt::heavy(turn))))
}

/// Writes a message. One that cannot be read, which would be an error of ours, writes nothing.
pub(super) fn tell_at_once<D: Dialogue>(message: Bytes, text: &mut String) {
    match D::Told::decode(message) {
        Ok(told) => json::encode(&told, text),
        Err(error) => debug_assert!(false, "the service says what it can read: {error}"),
    }
}
