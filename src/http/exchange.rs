//! A request and what its handler needs.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::body::{Body, BodyError, RequestBody};
use super::caller::Caller;
use super::context::Context;
use super::gather::Gathered;
use super::websocket::{self, WebSocket};
use crate::rt;
use crate::security::limits::LimitReached;
use crate::wire::local::LocalClient;

/// A response.
pub(crate) type Response = http::Response<Body>;

/// What serves a socket after its connection has stopped to speak HTTP.
pub(super) type Serve = Box<dyn FnOnce(WebSocket) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What a handler leaves for its connection.
pub(super) type Upgrade = Rc<RefCell<Option<Serve>>>;

/// Metadata that a request hands on to the calls that it makes.
const HANDED_ON: [(HeaderName, &str); 2] = [
    (HeaderName::from_static("traceparent"), "traceparent"),
    (HeaderName::from_static("tracestate"), "tracestate"),
];

/// A request with what its handler needs.
pub(crate) struct Exchange {
    /// Method, target and headers.
    pub(crate) head: Parts,
    pub(super) body: RequestBody,
    /// What handlers work with.
    pub(crate) context: Rc<Context>,
    /// Who asks.
    pub(crate) peer: SocketAddr,
    pub(super) client: LocalClient,
    /// Who makes the request, once that was found out.
    pub(super) caller: Option<Caller>,
    pub(super) upgrade: Upgrade,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.head.method)
            .field("uri", &self.head.uri)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// The path as it came, without the query.
    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// A parameter of the query, decoded; of several the last one.
    pub(crate) fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.head.uri.query()?;
        parameters(query)
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .last()
    }

    /// The value of a header (lower case) that is printable; the first one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The token that the request shows, if it has the form of one; of several the last one.
    pub(super) fn bearer(&self) -> Option<&str> {
        let value = self
            .head
            .headers
            .get_all(AUTHORIZATION)
            .iter()
            .next_back()?;
        value.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Asks before a token is looked at: the address may have shown too many of no worth.
    ///
    /// # Errors
    /// [`LimitReached`], which is counted.
    pub(super) fn may_show(&self, token: Option<&str>) -> Result<(), LimitReached> {
        let security = &self.context.security;
        let shown = security.may_show(token, self.peer.ip(), rt::unix_ns());
        shown.inspect_err(|_reached| self.context.shard.counters.refusals_limit.increment())
    }

    /// A client for the calls that this request makes: the service sees the peer's address, who
    /// it is and its trace.
    pub(crate) fn client(&self) -> LocalClient {
        let mut client = self.client.clone();
        if let Some(caller) = &self.caller {
            caller.speaks(&mut client);
        }
        for (header, key) in HANDED_ON {
            if let Some(value) = self.head.headers.get(&header) {
                client.add_metadata(key, value.clone());
            }
        }
        client
    }

    /// Reads the body, up to `max` bytes.
    ///
    /// # Errors
    /// [`BodyError`].
    pub(crate) async fn read_body(&mut self, max: usize) -> Result<Gathered, BodyError> {
        self.body.read(max).await
    }

    /// Whether the request asks for a WebSocket.
    pub(crate) fn wants_upgrade(&self) -> bool {
        let upgrade = self.header("upgrade").unwrap_or_default();
        upgrade.trim().eq_ignore_ascii_case("websocket")
    }

    /// Answers 101 and hands the socket to `serve` once that has left. A request that is no
    /// opening of a WebSocket is answered as one.
    pub(crate) fn upgrade<F>(self, serve: impl FnOnce(WebSocket) -> F + 'static) -> Response
    where
        F: Future<Output = ()> + 'static,
    {
        match websocket::accept(&self.head) {
            Ok(headers) => {
                let serve: Serve = Box::new(move |socket| Box::pin(serve(socket)));
                self.upgrade.replace(Some(serve));
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                *response.headers_mut() = headers;
                response
            }
            Err(refusal) => refusal.response(),
        }
    }
}

/// The parameters of a query: `+` is a blank, `%` two hexadecimal digits; what is no text is left
/// as it is.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.as_slice().first_chunk::<2>().copied();
                match digits.and_then(hexadecimal) {
                    Some(value) => {
                        bytes.push(value);
                        rest = rest.as_slice().get(2..).unwrap_or_default().iter();
                    }
                    None => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(_no_text) => Cow::Borrowed(text),
    }
}

fn hexadecimal([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A response of plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, PLAIN);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_odd_ones_stay() {
        let read = |query| -> Vec<(String, String)> {
            parameters(query)
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect()
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            read("a=1&b=x%20y+z&c"),
            [pair("a", "1"), pair("b", "x y z"), pair("c", "")]
        );
        assert_eq!(
            read("a=%zz&b=%4&c=%ff&=&&"),
            [
                pair("a", "%zz"),
                pair("b", "%4"),
                pair("c", "%ff"),
                pair("", "")
            ]
        );
        assert_eq!(read("channel=%D0%BA.*"), [pair("channel", "к.*")]);
    }
}
