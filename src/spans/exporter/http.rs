//! OTLP/HTTP with protobuf bodies, over HTTP/1.1.

mod socket;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use prost::Message as _;
use ringmq_proto::otlp::collector::ExportTraceServiceResponse;

use super::{Outcome, connect};
use crate::rt::{self, Queue};
use crate::spans::setup::Setup;
use crate::wire::{TlsConn, Transport};

use socket::Socket;

/// What of an answer is read; the rest ends the connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!(
    "OTel-OTLP-Exporter-RingMQ/",
    env!("CARGO_PKG_VERSION")
));

pub(super) struct Sender {
    setup: Arc<Setup>,
    requests: Option<SendRequest<Whole>>,
}

impl Sender {
    pub(super) const fn new(setup: Arc<Setup>) -> Self {
        Self {
            setup,
            requests: None,
        }
    }

    pub(super) async fn send(&mut self, message: &Bytes) -> Outcome {
        let body = if self.setup.gzip {
            super::gzip(message.clone()).await
        } else {
            message.clone()
        };
        let sent = match self.connected().await {
            Ok(requests) => requests,
            Err(error) => return Outcome::later(error.to_string()),
        };
        let mut requests = sent;
        let request = match self.request(body) {
            Ok(request) => request,
            Err(error) => {
                let reason = error.to_string();
                return Outcome::Refused { reason };
            }
        };
        let response = match requests.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Outcome::later(error.to_string()),
        };
        let (head, body) = response.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(reason) => return Outcome::later(reason),
        };
        // Kept only when the exchange came to its end.
        self.requests = Some(requests);
        outcome(head.status, &head.headers, &body)
    }

    pub(super) fn disconnect(&mut self) {
        // Given up with the attempt, too: it is kept only when an exchange has come to its end.
        self.requests = None;
    }

    /// A connection that takes a request; a new one when the last has ended.
    async fn connected(&mut self) -> Result<SendRequest<Whole>, Box<dyn std::error::Error>> {
        if let Some(mut requests) = self.requests.take()
            && requests.ready().await.is_ok()
        {
            return Ok(requests);
        }
        let target = &self.setup.target;
        let (conn, _address) = connect::connect(target).await?;
        let transport = match &target.tls {
            None => Transport::Plain(conn),
            Some(tls) => Transport::Tls(Box::new(TlsConn::connect(conn, tls).await?)),
        };
        let (mut requests, connection) = http1::handshake(Socket::new(transport)).await?;
        rt::spawn(Queue::Background, "otlp connection", async move {
            // Why it ended is what the request in progress is told.
            let _told = connection.await;
        });
        requests.ready().await?;
        Ok(requests)
    }

    fn request(&self, body: Bytes) -> http::Result<Request<Whole>> {
        let target = &self.setup.target;
        let host = match target.host.contains(':') {
            true => format!("[{}]:{}", target.host, target.port),
            false => format!("{}:{}", target.host, target.port),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&*target.path)
            .header(header::HOST, host)
            .body(Whole(Some(body)))?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, USER_AGENT);
        for (name, value) in &self.setup.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        if self.setup.gzip {
            let gzip = HeaderValue::from_static("gzip");
            headers.insert(header::CONTENT_ENCODING, gzip);
        }
        Ok(request)
    }
}

/// What an answer means, after the list of OTLP.
fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        // An answer that cannot be read is a collector that took the spans all the same.
        let response = ExportTraceServiceResponse::decode(body).unwrap_or_default();
        let partial = response.partial_success.unwrap_or_default();
        return Outcome::Taken {
            rejected: partial.rejected_spans.max(0).cast_unsigned(),
            remark: partial.error_message,
        };
    }
    let reason = format!("HTTP status {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            let after = headers.get(header::RETRY_AFTER);
            let seconds = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Outcome::Later {
                reason,
                after: seconds.map(Duration::from_secs),
            }
        }
        _ => Outcome::Refused { reason },
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, String> {
    let mut whole = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let frame = match frame {
            None => return Ok(whole.freeze()),
            Some(frame) => frame.map_err(|error| error.to_string())?,
        };
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
            whole.extend_from_slice(&data);
        }
    }
}

/// A body that is here as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_as_the_protocol_says() {
        let none = HeaderMap::new();
        let sort = |status: u16| outcome(StatusCode::from_u16(status).unwrap(), &none, b"");
        assert!(matches!(sort(200), Outcome::Taken { rejected: 0, .. }));
        for status in [429, 502, 503, 504] {
            assert!(matches!(sort(status), Outcome::Later { after: None, .. }));
        }
        for status in [400, 401, 404, 413, 500, 501, 301] {
            assert!(matches!(sort(status), Outcome::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_counts_in_seconds() {
        let mut headers = HeaderMap::new();
        let mut after = |value: &str| {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            match outcome(StatusCode::SERVICE_UNAVAILABLE, &headers, b"") {
                Outcome::Later { after, .. } => after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
