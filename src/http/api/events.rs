//! Server-sent events: what a socket would say, for browsers and for `curl -N`.
//!
//! A comment is sent when nothing else was for a while, so that whoever is between the broker and
//! the reader keeps the connection, and one that is gone is noticed.

use std::fmt::Write as _;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

use super::super::body::Body;
use super::super::context::Context as Shared;
use super::super::exchange::{Exchange, Response};
use crate::wire::Alarm;

/// Silence after which a comment is sent.
const KEEPALIVE_MAX: Duration = Duration::from_secs(15);
const KEEPALIVE_MIN: Duration = Duration::from_millis(500);

/// What is sent at once: the reader knows that it is live, and how soon to come back.
const OPENING: &str = "retry: 2000\n: connected\n\n";

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// What readers tell apart by; without a name it is a `message`.
    pub name: Option<&'static str>,
    /// What a reader that comes back names as its last one.
    pub id: Option<u64>,
    /// Text, mostly JSON in one line.
    pub data: String,
}

impl Sent {
    fn encode(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 32);
        if let Some(name) = self.name {
            let _text_never_fails = writeln!(text, "event: {name}");
        }
        if let Some(id) = self.id {
            let _text_never_fails = writeln!(text, "id: {id}");
        }
        for line in self.data.lines() {
            let _text_never_fails = writeln!(text, "data: {line}");
        }
        text.push('\n');
        text.into()
    }
}

/// Whether events are asked for.
pub(super) fn are_wanted(exchange: &Exchange) -> bool {
    let accepts = exchange.head.headers.get_all(ACCEPT);
    accepts
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().starts_with("text/event-stream"))
}

/// Answers with events until there are no more.
pub(super) fn respond(
    shared: &Shared,
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Sent>> + 'static,
) -> Response {
    // A connection that is silent for the whole of that time is closed.
    let keepalive = (shared.config.rest.read_timeout / 2).clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
    let mut opening = Some(OPENING);
    let mut silence = Alarm::new(keepalive);
    let body = Body::stream(move |cx| {
        if let Some(opening) = opening.take() {
            return Poll::Ready(Some(Bytes::from_static(opening.as_bytes())));
        }
        if let Poll::Ready(sent) = next(cx) {
            silence.reset(keepalive);
            return Poll::Ready(sent.map(|sent| sent.encode()));
        }
        if silence.poll(cx).is_ready() {
            silence.reset(keepalive);
            return Poll::Ready(Some(Bytes::from_static(b": nothing new\n\n")));
        }
        Poll::Pending
    });
    let mut response = Response::new(body);
    let set: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, "text/event-stream; charset=UTF-8"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in set {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_an_event_is_marked() {
        let sent = Sent {
            name: Some("dropped"),
            id: Some(7),
            data: "{\n}".to_owned(),
        };
        let text = sent.encode();
        assert_eq!(&text[..], b"event: dropped\nid: 7\ndata: {\ndata: }\n\n");
        let plain = Sent {
            data: "x".to_owned(),
            ..Sent::default()
        };
        assert_eq!(&plain.encode()[..], b"data: x\n\n");
    }
}
