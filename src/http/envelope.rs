//! What answers of REST are wrapped in.
//!
//! Two forms, as clients know them: an object with `is_error`, `message` and `data`, in lines
//! indented by tabs, for everything that a handler answered; a short one with `error_code` for
//! what never reached a handler, or was too large for it.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::body::Body;
use super::exchange::Response;
use super::json::{self, JsonMessage};
use crate::security::limits::LimitReached;

/// What both forms say of themselves.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// The text of an answer; `None`: there is no data, as with what has failed.
pub(crate) fn success(data: Option<&impl JsonMessage>) -> Bytes {
    wrap(false, "OK", |out| match data {
        Some(message) => json::encode_indented(message, 1, out),
        None => out.push_str("null"),
    })
}

/// The text of a failure.
pub(crate) fn failure(message: &str) -> Bytes {
    wrap(true, message, |out| out.push_str("null"))
}

fn wrap(is_error: bool, message: &str, data: impl FnOnce(&mut String)) -> Bytes {
    let mut out = String::with_capacity(256);
    out.push_str("{\n\t\"is_error\": ");
    out.push_str(if is_error { "true" } else { "false" });
    out.push_str(",\n\t\"message\": ");
    json::write_text(message, &mut out);
    out.push_str(",\n\t\"data\": ");
    data(&mut out);
    out.push_str("\n}\n");
    out.into()
}

/// The response to what no handler took: the status says why.
pub(crate) fn unrouted(status: StatusCode) -> Response {
    let message = match status {
        // The name that it had when the reference was written.
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        status => status.canonical_reason().unwrap_or_default(),
    };
    let code = status.as_u16();
    let mut out = format!("{{\"error_code\":{code},\"message\":");
    json::write_text(message, &mut out);
    out.push_str("}\n");
    response(status, Body::full(out))
}

/// The response to a request whose body was not read to its end: the connection cannot go on.
pub(crate) fn cut_off(status: StatusCode) -> Response {
    closing(unrouted(status))
}

/// The same for a request whose body was not read because of a limit that time may lift.
pub(crate) fn too_much(reached: &LimitReached) -> Response {
    closing(limited(reached))
}

/// The response to somebody who has reached a limit.
pub(crate) fn limited(reached: &LimitReached) -> Response {
    let body = Body::full(failure(&reached.to_string()));
    let mut response = response(StatusCode::TOO_MANY_REQUESTS, body);
    if let Some(seconds) = reached.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn closing(mut response: Response) -> Response {
    const CLOSE: HeaderValue = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

/// A response that carries a text of one of the two forms.
pub(crate) fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use ringmq_proto::kubemq::{Empty, Result as EventResult};

    use super::*;

    #[test]
    fn success_has_its_members_in_order() {
        let result = EventResult {
            event_id: "e1".into(),
            sent: true,
            error: String::new(),
        };
        let expected = "{\n\t\"is_error\": false,\n\t\"message\": \"OK\",\n\t\"data\": {\n\t\t\
                        \"EventID\": \"e1\",\n\t\t\"Sent\": true\n\t}\n}\n";
        assert_eq!(success(Some(&result)), expected);
        let null = "{\n\t\"is_error\": false,\n\t\"message\": \"OK\",\n\t\"data\": null\n}\n";
        assert_eq!(success(None::<&Empty>), null);
    }

    #[test]
    fn failures_have_no_data_and_their_text_is_escaped() {
        let expected =
            "{\n\t\"is_error\": true,\n\t\"message\": \"no \\\"x\\\"\",\n\t\"data\": null\n}\n";
        assert_eq!(failure("no \"x\""), expected);
    }

    #[test]
    fn what_no_handler_took_has_the_short_form() {
        use http_body::Body as _;
        let response = unrouted(StatusCode::NOT_FOUND);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], JSON);
        let expected = "{\"error_code\":404,\"message\":\"Not Found\"}\n".len();
        assert_eq!(
            response.body().size_hint().exact(),
            u64::try_from(expected).ok()
        );
    }
}
