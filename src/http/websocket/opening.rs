//! The opening: whether a request asks for a WebSocket, and how that is granted.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, StatusCode};
use tungstenite::handshake::derive_accept_key;

use crate::http::body::Body;
use crate::http::envelope;
use crate::http::exchange::Response;

/// The version that everybody speaks (RFC 6455).
const VERSION: &str = "13";

/// Why a request opens no WebSocket. The texts are those that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The connection is not to be upgraded.
    #[error(
        "websocket: the client is not using the websocket protocol: \
         'upgrade' token not found in 'Connection' header"
    )]
    NoUpgrade,
    /// It is to be upgraded to something else.
    #[error(
        "websocket: the client is not using the websocket protocol: \
         'websocket' token not found in 'Upgrade' header"
    )]
    OtherProtocol,
    /// The method is none that asks for a resource.
    #[error("websocket: the client is not using the websocket protocol: request method is not GET")]
    Method,
    /// It is another version of the protocol.
    #[error("websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header")]
    Version,
    /// There is no key, or it is no key.
    #[error(
        "websocket: not a websocket handshake: \
         'Sec-WebSocket-Key' header must be Base64 encoded value of 16-byte in length"
    )]
    Key,
}

impl Refusal {
    /// The answer that says so.
    pub(crate) fn response(self) -> Response {
        let body = Body::full(envelope::failure(&self.to_string()));
        let mut response = envelope::response(StatusCode::BAD_REQUEST, body);
        if self == Self::Version {
            let version = HeaderValue::from_static(VERSION);
            response
                .headers_mut()
                .insert(SEC_WEBSOCKET_VERSION, version);
        }
        response
    }
}

/// Checks a request that wants to open a WebSocket; gives the headers of the answer 101.
///
/// Neither subprotocols nor extensions are agreed on, and the origin is not looked at: the port's
/// own rules do that.
///
/// # Errors
/// The first of: connection, protocol, method, version, key.
pub(crate) fn accept(head: &Parts) -> Result<HeaderMap, Refusal> {
    let headers = &head.headers;
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::NoUpgrade);
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(Refusal::OtherProtocol);
    }
    if head.method != Method::GET {
        return Err(Refusal::Method);
    }
    if !has_token(headers, &SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(Refusal::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
    if !is_key(key.as_bytes()) {
        return Err(Refusal::Key);
    }
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let mut answer = HeaderMap::with_capacity(3);
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| Refusal::Key)?);
    Ok(answer)
}

/// Whether one of the comma-separated tokens of a header is this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// Whether this is the base64 of sixteen bytes.
fn is_key(key: &[u8]) -> bool {
    use base64::Engine as _;
    let mut bytes = [0; 18];
    let decoded = base64::engine::general_purpose::STANDARD.decode_slice(key, &mut bytes);
    decoded == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The example of RFC 6455.
    const GOOD: [(&str, &str); 4] = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_good_opening_is_granted_as_the_standard_says() {
        let answer = accept(&request(&GOOD)).unwrap();
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer[UPGRADE], "websocket");
        assert_eq!(answer[CONNECTION], "Upgrade");
        assert_eq!(answer.len(), 3, "no subprotocol, no extension");
    }

    #[test]
    fn tokens_may_be_in_lists_in_any_case() {
        let mut lines = GOOD;
        lines[0].1 = "keep-alive, UPGRADE";
        lines[1].1 = "h2c ,WebSocket";
        assert!(accept(&request(&lines)).is_ok());
    }

    #[test]
    fn every_flaw_is_named() {
        let table = [
            (0, "keep-alive", Refusal::NoUpgrade),
            (1, "h2c", Refusal::OtherProtocol),
            (2, "8", Refusal::Version),
            (3, "", Refusal::Key),
            (3, "short", Refusal::Key),
            (3, "dGhlIHNhbXBsZSBub25jZSE=", Refusal::Key),
            (3, "!!!!IHNhbXBsZSBub25jZQ==", Refusal::Key),
        ];
        for (place, value, refusal) in table {
            let mut lines = GOOD;
            lines[place].1 = value;
            assert_eq!(accept(&request(&lines)), Err(refusal), "{value}");
        }
        for place in 0..GOOD.len() {
            let mut lines = GOOD.to_vec();
            lines.remove(place);
            assert!(accept(&request(&lines)).is_err(), "{place}");
        }
    }

    #[test]
    fn only_a_get_opens_a_socket() {
        let mut head = request(&GOOD);
        head.method = Method::POST;
        assert_eq!(accept(&head), Err(Refusal::Method));
    }

    #[test]
    fn a_refused_version_says_which_one_is_spoken() {
        let response = Refusal::Version.response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        let response = Refusal::Key.response();
        assert_eq!(response.status(), 400);
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_VERSION));
    }
}
