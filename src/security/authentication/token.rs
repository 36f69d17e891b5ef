//! Tokens as RFC 7515 and RFC 7519 write them, in the compact form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::strict;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Why a token is refused. The texts are those that clients know, where the reference has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A word that belongs to HTTP.
    #[error("tokenstring should not contain 'bearer '")]
    Bearer,
    /// It is no token at all.
    #[error("token contains an invalid number of segments")]
    Segments,
    /// It is too long to be looked at.
    #[error("token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// A segment is no base64url.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// A segment is no JSON object, or says something twice.
    #[error("token {0} is not a JSON object with distinct names")]
    Json(&'static str),
    /// Its head asks for something that we do not know.
    #[error("token header needs an extension that is not known")]
    Critical,
    /// Its head does not say how it is signed.
    #[error("signing method (alg) is unspecified.")]
    Unspecified,
    /// Its head names a signature that does not exist.
    #[error("signing method (alg) is unavailable.")]
    Unavailable,
    /// It is not signed as it has to be.
    #[error("unexpected signing method: {0}")]
    Method(&'static str),
    /// No key has the name in its head.
    #[error("signing key is unknown")]
    UnknownKey,
    /// Somebody else has signed it, or it was changed.
    #[error("signature is invalid")]
    Signature,
    /// It has ended.
    #[error("token is expired by {}", go_duration(*.0))]
    Expired(i64),
    /// It has not begun.
    #[error("token is not valid yet")]
    NotYet,
    /// It was issued in the future.
    #[error("token used before issued")]
    BeforeIssued,
    /// It never ends, and has to.
    #[error("token has no expiry")]
    NoExpiry,
    /// It is somebody else's.
    #[error("token was issued by somebody else")]
    Issuer,
    /// It is meant for somebody else.
    #[error("token is meant for somebody else")]
    Audience,
    /// A claim is not of its kind.
    #[error("claim {0} is not of the right type")]
    Claim(Box<str>),
    /// A claim is needed and missing.
    #[error("claim {0} is missing")]
    Missing(Box<str>),
    /// It gives more roles than anybody needs.
    #[error("token has too many roles")]
    Roles,
    /// It is an API key that nobody has made, or that was taken away.
    #[error("api key is unknown")]
    KeyUnknown,
    /// It is an API key that has ended.
    #[error("api key is expired by {}", go_duration(*.0))]
    KeyExpired(i64),
    /// The certificate has ended.
    #[error("certificate is expired")]
    CertificateExpired,
    /// The certificate does not have the field that names its owner.
    #[error("certificate has no {0}")]
    CertificateField(&'static str),
}

/// The head of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

/// A token taken apart; nothing of it is verified.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// What a token says of itself; nothing of it is verified. For people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its head, as JSON.
    pub header: String,
    /// Its claims, as JSON.
    pub claims: String,
}

impl Inspected {
    /// Looks into a token; `None` when there is nothing to be seen.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let mut segments = token.split('.');
        let mut text = || {
            let json = object(segments.next()?, "").ok()?;
            serde_json::to_string(&json).ok()
        };
        Some(Self {
            header: text()?,
            claims: text()?,
        })
    }
}

impl<'a> Parts<'a> {
    /// Takes a token apart. What is wrong is found in the order in which the reference finds it.
    pub(super) fn of(token: &'a str) -> Result<Self, Fault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let bearer = token.get(..7);
        if bearer.is_some_and(|word| word.eq_ignore_ascii_case("bearer ")) {
            return Err(Fault::Bearer);
        }
        let mut segments = token.split('.');
        let (Some(head), Some(body), Some(tail), None) = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) else {
            return Err(Fault::Segments);
        };
        let head = object(head, "header")?;
        let claims = object(body, "claims")?;
        let header = header(&head)?;
        let signed = token.get(..token.len() - tail.len() - 1);
        Ok(Self {
            header,
            claims,
            signed: signed.unwrap_or_default(),
            // A signature that cannot be read is a wrong one.
            signature: decode(tail).map_err(|_| Fault::Signature)?,
        })
    }
}

fn header(head: &Map<String, Value>) -> Result<Header, Fault> {
    let algorithm = match head.get("alg") {
        // It exists, and nobody accepts it.
        Some(Value::String(name)) if name == "none" => return Err(Fault::Method("none")),
        Some(Value::String(name)) => Algorithm::named(name).ok_or(Fault::Unavailable)?,
        _ => return Err(Fault::Unspecified),
    };
    if head.contains_key("crit") {
        return Err(Fault::Critical);
    }
    let key_id = match head.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(Fault::Json("header")),
    };
    Ok(Header { algorithm, key_id })
}

fn object(segment: &str, name: &'static str) -> Result<Map<String, Value>, Fault> {
    let bytes = decode(segment)?;
    strict::object(&bytes).ok_or(Fault::Json(name))
}

/// Strict: two texts never mean the same bytes.
fn decode(segment: &str) -> Result<Vec<u8>, Fault> {
    use base64::DecodeError;
    URL_SAFE_NO_PAD.decode(segment).map_err(|error| {
        Fault::Base64(match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => segment.len(),
        })
    })
}

/// Seconds as the reference writes a duration.
fn go_duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(head: &str, body: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.AAAA", encode(head), encode(body))
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table of all cases")]
    fn what_is_wrong_with_a_token_is_told_in_the_words_of_the_reference() {
        let good = token(r#"{"alg":"HS256"}"#, "{}");
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        let deep = format!("{{\"a\":{}", "[".repeat(8000));
        let cases: &[(&str, &str)] = &[
            ("", "token contains an invalid number of segments"),
            ("abc", "token contains an invalid number of segments"),
            ("a.b", "token contains an invalid number of segments"),
            ("a.b.c.d", "token contains an invalid number of segments"),
            ("....", "token contains an invalid number of segments"),
            (
                "..",
                "token header is not a JSON object with distinct names",
            ),
            (
                &format!("Bearer {good}"),
                "tokenstring should not contain 'bearer '",
            ),
            (
                &format!("bEaReR {good}"),
                "tokenstring should not contain 'bearer '",
            ),
            (&long, "token is longer than 16384 bytes"),
            ("a*b.c.d", "illegal base64 data at input byte 1"),
            ("é.c.d", "illegal base64 data at input byte 0"),
            (
                &token("[]", "{}"),
                "token header is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256","alg":"none"}"#, "{}"),
                "token header is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256","kid":1}"#, "{}"),
                "token header is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256"}"#, r#"{"exp":1,"exp":2}"#),
                "token claims is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256"}"#, r#"{"a":{"b":1,"b":2}}"#),
                "token claims is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256"}"#, &deep),
                "token claims is not a JSON object with distinct names",
            ),
            (
                &token(r#"{"alg":"HS256"}"#, "{} x"),
                "token claims is not a JSON object with distinct names",
            ),
            (&token("{}", "{}"), "signing method (alg) is unspecified."),
            (
                &token(r#"{"alg":7}"#, "{}"),
                "signing method (alg) is unspecified.",
            ),
            (
                &token(r#"{"alg":"HS1"}"#, "{}"),
                "signing method (alg) is unavailable.",
            ),
            (
                &token(r#"{"alg":"hs256"}"#, "{}"),
                "signing method (alg) is unavailable.",
            ),
            (
                &token(r#"{"alg":"none"}"#, "{}"),
                "unexpected signing method: none",
            ),
            (
                &token(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}"),
                "token header needs an extension that is not known",
            ),
            (&good.replace("AAAA", "AA*A"), "signature is invalid"),
            // The last bits are not zero: another spelling of the same bytes.
            (&good.replace("AAAA", "AB"), "signature is invalid"),
        ];
        for (token, expected) in cases {
            let found = Parts::of(token).expect_err(token).to_string();
            assert_eq!(found, *expected, "{token}");
        }
        assert_eq!(Parts::of(&good).unwrap().signature, [0, 0, 0]);
    }

    /// Every text that a good one becomes by a cut or a changed byte is taken apart or refused.
    #[test]
    fn a_truncated_or_changed_token_is_never_more_than_refused() {
        let good = token(r#"{"alg":"RS256","kid":"k"}"#, r#"{"sub":"é","exp":1}"#);
        for at in 0..good.len() {
            let _cut = Parts::of(&good[..at]);
            for byte in [b'.', b'A', b' ', b'=', b'"', 0x7f] {
                let mut changed = good.clone().into_bytes();
                changed[at] = byte;
                let _changed = Parts::of(std::str::from_utf8(&changed).unwrap());
            }
        }
    }

    #[test]
    fn durations_are_written_as_the_reference_writes_them() {
        for (seconds, text) in [
            (0, "0s"),
            (-5, "0s"),
            (43, "43s"),
            (60, "1m0s"),
            (103, "1m43s"),
            (3600, "1h0m0s"),
            (90_061, "25h1m1s"),
        ] {
            assert_eq!(go_duration(seconds), text);
        }
    }
}
