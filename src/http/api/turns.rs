//! Turns of a socket: what its peer says, and what happens for it, whichever comes first.

use std::task::{Context, Poll};

use super::super::websocket::{Message, Slice, WebSocket};
use super::standing::Standing;

/// What happens for the peer of a socket.
pub(super) trait Source {
    /// What happened.
    type Event;

    /// What happens next; asked only while the socket has room for it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Event>;

    /// All that was sent is with the kernel.
    fn flushed(&mut self) {}

    /// Whether the peer may still look on.
    fn standing(&mut self) -> &mut Standing;
}

/// What comes first.
pub(super) enum Turn<E> {
    /// The peer says this.
    Heard(String),
    /// This has happened.
    Happened(E),
    /// The connection is to end.
    Leaving,
    /// The peer may no longer look on.
    Dismissed,
    /// The peer has closed, or is gone.
    Gone,
}

/// Waits for what comes first. `slice` bounds the work between two looks at other sockets.
pub(super) async fn next<S: Source>(
    socket: &mut WebSocket,
    slice: &mut Slice,
    source: &mut S,
) -> Turn<S::Event> {
    std::future::poll_fn(|cx| poll(socket, slice, source, cx)).await
}

fn poll<S: Source>(
    socket: &mut WebSocket,
    slice: &mut Slice,
    source: &mut S,
    cx: &mut Context<'_>,
) -> Poll<Turn<S::Event>> {
    socket.serve_control(cx);
    if socket.control().wants_drain() {
        return Poll::Ready(Turn::Leaving);
    }
    if source.standing().poll(cx).is_ready() {
        return Poll::Ready(Turn::Dismissed);
    }
    match socket.poll_message(cx) {
        Poll::Ready(Some(Message::Text(bytes) | Message::Binary(bytes))) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Poll::Ready(Turn::Heard(text));
        }
        Poll::Ready(None) => return Poll::Ready(Turn::Gone),
        Poll::Pending => {}
    }
    match socket.poll_room(cx) {
        Poll::Ready(Err(_gone)) => return Poll::Ready(Turn::Gone),
        Poll::Ready(Ok(())) => {
            if slice.poll(cx).is_ready() {
                match source.poll(cx) {
                    Poll::Ready(event) => return Poll::Ready(Turn::Happened(event)),
                    Poll::Pending => slice.rest(),
                }
            }
        }
        Poll::Pending => {}
    }
    match socket.poll_flush(cx) {
        Poll::Ready(Ok(())) => source.flushed(),
        Poll::Ready(Err(_gone)) => return Poll::Ready(Turn::Gone),
        Poll::Pending => {}
    }
    Poll::Pending
}

/// Sends a text to the peer, and counts the work. One who is gone is found by the next turn.
pub(super) fn send(socket: &mut WebSocket, slice: &mut Slice, text: impl Into<bytes::Bytes>) {
    let text = text.into();
    slice.spend(text.len());
    let _found_by_the_next_turn = socket.send_text(text);
}

/// How a socket is closed: the code, and the reason.
pub(in crate::http) type Farewell = (u16, &'static str);

/// The broker ends.
pub(super) const SHUTTING_DOWN: Farewell = (1001, "the broker is shutting down");

/// The peer may no longer look on.
pub(in crate::http) const DISMISSED: Farewell = (1008, "access has ended");
