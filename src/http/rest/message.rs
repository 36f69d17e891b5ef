//! From the body of a request to a message of the contract, and from its answer to the body of a
//! response.
//!
//! A large text is turned on a blocking thread: some megabytes take longer than an executor may
//! be held.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use crate::http::body::{Body, BodyError};
use crate::http::envelope;
use crate::http::exchange::{Exchange, Response};
use crate::http::gather::NO_ROOM;
use crate::http::json::{self, JsonError, JsonMessage};
use crate::rt;
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// Texts and messages up to this size are turned at once: less than half a millisecond.
const AT_ONCE_BYTES_MAX: usize = 128 << 10;

/// Why a request has no answer with data.
#[derive(Debug)]
pub(super) enum Failure {
    /// The body did not come whole.
    Body(BodyError),
    /// The body is of a type that is not understood.
    MediaType,
    /// The body is no message.
    Json(JsonError),
    /// The service refused.
    Refused(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Failure {
    pub(super) fn response(&self) -> Response {
        match self {
            Self::Body(BodyError::TooLarge) => envelope::cut_off(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Body(BodyError::Timeout) => envelope::cut_off(StatusCode::REQUEST_TIMEOUT),
            Self::Body(BodyError::NoRoom) => envelope::too_much(&NO_ROOM),
            Self::Body(BodyError::Broken) => envelope::cut_off(StatusCode::BAD_REQUEST),
            Self::MediaType => refused("code=415, message=Unsupported Media Type"),
            Self::Json(error) => refused(&error.to_string()),
            Self::Refused(status) => of_status(status),
        }
    }
}

/// What the service refuses is 400, as all that is the caller's fault; what another broker or a
/// later try may cure is 503, and what is too much for one client 429.
pub(in crate::http) fn of_status(status: &Status) -> Response {
    let mut response = without_retry(status);
    if let Some(after) = status.retry_after() {
        // Whole seconds, and never earlier than it helps.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        let seconds = HeaderValue::from(seconds);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

fn without_retry(status: &Status) -> Response {
    let text = status.message();
    if text == Refusal::NotReady.text() {
        return failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "rest server is not ready to accept requests",
        );
    }
    // The one text that differs from that of gRPC.
    if text == Refusal::BatchEmpty.text() {
        return refused(&Refusal::UpstreamEmpty.text());
    }
    let is_limit = status.retry_after().is_some() || text.starts_with(LIMIT_REACHED);
    match status.code() {
        Code::Unavailable => failed(StatusCode::SERVICE_UNAVAILABLE, text),
        Code::Unauthenticated => failed(StatusCode::UNAUTHORIZED, text),
        Code::ResourceExhausted if is_limit => failed(StatusCode::TOO_MANY_REQUESTS, text),
        _ => refused(text),
    }
}

/// How the texts of limits of one client begin.
const LIMIT_REACHED: &str = "limit reached: ";

fn refused(text: &str) -> Response {
    failed(StatusCode::BAD_REQUEST, text)
}

fn failed(status: StatusCode, text: &str) -> Response {
    envelope::response(status, Body::full(envelope::failure(text)))
}

/// Reads the message of a request, encoded for its call.
pub(super) async fn read<M: JsonMessage>(exchange: &mut Exchange) -> Result<Bytes, Failure> {
    let config = &exchange.context.config;
    let max = config.rest.body_limit.unwrap_or(config.grpc.body_limit);
    let text = exchange.read_body(max).await.map_err(Failure::Body)?;
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    match Media::of(exchange.header("content-type").unwrap_or_default()) {
        Media::Json => {}
        Media::Form => return Ok(Bytes::new()),
        Media::Other => return Err(Failure::MediaType),
    }
    let bytes = text.len();
    let turn = move || {
        let message = json::encoded_head::<M>(&text)?;
        Ok(text.replaced_by(message))
    };
    turned(bytes, turn).await?.map_err(Failure::Json)
}

/// Turns the answer of a call into the text of a response.
pub(super) async fn write<M: JsonMessage>(answer: Bytes) -> Result<Bytes, Failure> {
    let bytes = answer.len();
    let turn = move || M::decode(answer).map(|message| envelope::success(Some(&message)));
    turned(bytes, turn)
        .await?
        .map_err(|_undecodable| Failure::Refused(BROKEN))
}

/// What only an error of ours can bring about.
const BROKEN: Status = Status::from_static(Code::Internal, "the answer cannot be written");

/// Does `turn` here, or on a blocking thread if it has much to go through.
async fn turned<R: Send + 'static>(
    bytes: usize,
    turn: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Failure> {
    if bytes <= AT_ONCE_BYTES_MAX {
        return Ok(turn());
    }
    rt::heavy(turn).await.ok_or(Failure::Refused(BROKEN))
}

/// How a body is to be read, by the header that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    /// A form has no field that a message knows: it is the empty message, as `curl -d` sends it
    /// when it is not told otherwise.
    Form,
    Other,
}

impl Media {
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/json") {
            Self::Json
        } else if is("application/x-www-form-urlencoded") || is("multipart/form-data") {
            Self::Form
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_bodies_are_told_by_their_essence() {
        for json in [
            "application/json",
            "Application/JSON;charset=utf-8",
            "application/json ; a",
        ] {
            assert_eq!(Media::of(json), Media::Json, "{json}");
        }
        for form in [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ] {
            assert_eq!(Media::of(form), Media::Form, "{form}");
        }
        for other in [
            "",
            "text/plain",
            "application/xml",
            "application/jsonp",
            "json",
        ] {
            assert_eq!(Media::of(other), Media::Other, "{other}");
        }
    }

    #[test]
    fn refusals_are_400_and_what_time_may_cure_is_503() {
        let status = |refusal: Refusal| of_status(&refusal.into()).status();
        assert_eq!(status(Refusal::ClientIdEmpty), StatusCode::BAD_REQUEST);
        assert_eq!(status(Refusal::RequestTimedOut), StatusCode::BAD_REQUEST);
        assert_eq!(status(Refusal::BatchEmpty), StatusCode::BAD_REQUEST);
        assert_eq!(status(Refusal::NotReady), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            status(Refusal::ShuttingDown),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
