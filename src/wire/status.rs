//! The outcome of a call: code and text, as they travel in `grpc-status` and `grpc-message`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

/// The codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(
    missing_docs,
    reason = "the names are gRPC's own and mean what its documentation says"
)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Every code, at the index of its number.
const CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// The header values of the codes, prepared once: a response must not format a number.
const VALUES: [&str; 17] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
];

impl Code {
    /// Reads a number from the wire; one that gRPC does not know is `Unknown`.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        let known = usize::try_from(number)
            .ok()
            .and_then(|index| CODES.get(index));
        known.copied().unwrap_or(Self::Unknown)
    }

    /// The number that travels.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name as Go prints it, for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    /// The value of the `grpc-status` header; allocates nothing.
    pub(crate) fn header_value(self) -> HeaderValue {
        let value = VALUES
            .get(usize::from(self.number()))
            .copied()
            .unwrap_or("2");
        HeaderValue::from_static(value)
    }

    /// Reads the value of a `grpc-status` header; what is no number is `Unknown`.
    pub(crate) fn from_header_value(value: &HeaderValue) -> Self {
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        number.map_or(Self::Unknown, Self::from_number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call ended: a code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    /// In milliseconds.
    retry_after_ms: Option<u32>,
}

impl Status {
    /// The end of a call that went well.
    pub const OK: Self = Self {
        code: Code::Ok,
        message: Cow::Borrowed(""),
        retry_after_ms: None,
    };

    /// Makes a status; a static text is not copied.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// Makes a status with a static text, also in constants.
    #[must_use]
    pub const fn from_static(code: Code, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            retry_after_ms: None,
        }
    }

    /// Says when another try may succeed, rounded up to milliseconds: clients of gRPC find it as
    /// `grpc-retry-pushback-ms`.
    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after_ms = after.map(|after| {
            let ms = after.as_nanos().div_ceil(1_000_000);
            u32::try_from(ms).unwrap_or(u32::MAX)
        });
        self
    }

    /// When another try may succeed, in whole milliseconds; `None` when that is not known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms
            .map(|ms| Duration::from_millis(ms.into()))
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The text, decoded.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the call went well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// The value of the `grpc-message` header, percent-encoded where it must be; `None` when there
    /// is no text, the header is left out then.
    pub(crate) fn into_message_header_value(self) -> Option<HeaderValue> {
        if self.message.is_empty() {
            return None;
        }
        let as_is = self.message.bytes().all(travels_as_is);
        let encoded = match self.message {
            Cow::Borrowed(text) if as_is => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) if as_is => Bytes::from(text),
            text => percent_encode(text.as_bytes()),
        };
        // Encoded text is printable ASCII, which every header value may hold.
        HeaderValue::from_maybe_shared(encoded).ok()
    }

    /// Reads a status from the trailers of a response; `None` when they hold no `grpc-status`.
    pub(crate) fn from_trailers(trailers: &http::HeaderMap) -> Option<Self> {
        let code = Code::from_header_value(trailers.get(GRPC_STATUS)?);
        let message = trailers
            .get(GRPC_MESSAGE)
            .map(|value| percent_decode(value.as_bytes()));
        let pushback = trailers.get(GRPC_RETRY_PUSHBACK_MS);
        let pushback = pushback.and_then(|value| value.to_str().ok());
        Some(Self {
            code,
            message: Cow::Owned(message.unwrap_or_default()),
            retry_after_ms: pushback.and_then(|text| text.parse().ok()),
        })
    }
}

/// Name of the header that carries the compression.
pub(crate) const GRPC_ENCODING: http::HeaderName = http::HeaderName::from_static("grpc-encoding");

/// Name of the header that carries the timeout.
pub(crate) const GRPC_TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");

/// Name of the header that carries the code.
pub(crate) const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");

/// Name of the header that carries the text.
pub(crate) const GRPC_MESSAGE: http::HeaderName = http::HeaderName::from_static("grpc-message");

/// Name of the header that says when to try again.
pub(crate) const GRPC_RETRY_PUSHBACK_MS: http::HeaderName =
    http::HeaderName::from_static("grpc-retry-pushback-ms");

/// Name of the header that carries an encoded `google.rpc.Status`, in base64.
pub(crate) const GRPC_STATUS_DETAILS: http::HeaderName =
    http::HeaderName::from_static("grpc-status-details-bin");

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// gRPC encodes everything but printable ASCII, and the percent sign itself.
fn travels_as_is(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

fn percent_encode(text: &[u8]) -> Bytes {
    let mut encoded = BytesMut::with_capacity(text.len() + 16);
    for &byte in text {
        if travels_as_is(byte) {
            encoded.put_u8(byte);
        } else {
            encoded.put_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    encoded.freeze()
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' + (nibble - 10)
    }
}

/// Undoes the encoding; broken escapes stay as they are, bytes that are no UTF-8 are replaced: a
/// status is shown to people and must never fail to arrive.
fn percent_decode(encoded: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let Some(([high, low], after)) = tail.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number_and_its_header() {
        for (number, code) in CODES.iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(Code::from_number(u32::from(code.number())), *code);
            assert_eq!(Code::from_header_value(&code.header_value()), *code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(
            Code::from_header_value(&HeaderValue::from_static("nine")),
            Code::Unknown
        );
    }

    #[test]
    fn text_survives_the_header_and_travels_as_printable_ascii() {
        let texts = [
            "plain, with spaces",
            "100 % größer\n",
            "\u{1F980}",
            "%41",
            "%",
            "%4",
            "~ !",
        ];
        for text in texts {
            let status = Status::new(Code::Internal, text.to_owned());
            let value = status.into_message_header_value().unwrap();
            assert!(
                value
                    .as_bytes()
                    .iter()
                    .all(|byte| (b' '..=b'~').contains(byte)),
                "{value:?}"
            );
            assert_eq!(percent_decode(value.as_bytes()), text);
        }
    }

    #[test]
    fn static_text_is_not_copied() {
        let text = "server is in shutdown mode";
        let value = Status::new(Code::Unavailable, text)
            .into_message_header_value()
            .unwrap();
        assert_eq!(value.as_bytes().as_ptr(), text.as_ptr());
    }

    #[test]
    fn broken_escapes_and_foreign_bytes_are_shown_not_lost() {
        assert_eq!(percent_decode(b"50%"), "50%");
        assert_eq!(percent_decode(b"%zz%4"), "%zz%4");
        assert_eq!(percent_decode(b"%ff!"), "\u{FFFD}!");
    }

    #[test]
    fn empty_text_sends_no_header() {
        assert!(Status::OK.into_message_header_value().is_none());
    }

    #[test]
    fn display_is_code_then_text() {
        assert_eq!(
            Status::new(Code::NotFound, "gone").to_string(),
            "NotFound: gone"
        );
    }
}
