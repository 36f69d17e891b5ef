//! OTLP/gRPC, by the client that this crate has.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use ringmq_proto::otlp::EXPORT;
use ringmq_proto::otlp::collector::ExportTraceServiceResponse;

use super::{Outcome, connect};
use crate::spans::setup::Setup;
use crate::wire::client::{CallOptions, Client, ClientSettings, ClientStream};
use crate::wire::framing;
use crate::wire::status::{Code, Status};

/// What a collector may answer.
const ANSWER_BYTES_MAX: usize = 256 << 10;

const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-RingMQ/", env!("CARGO_PKG_VERSION"));

pub(super) struct Sender {
    setup: Arc<Setup>,
    options: CallOptions,
    client: Option<Client>,
}

impl Sender {
    pub(super) fn new(setup: Arc<Setup>) -> Self {
        let mut options = CallOptions::with_timeout(setup.timeout);
        options.metadata = setup.headers.clone();
        if setup.gzip {
            options = options.metadata("grpc-encoding", "gzip");
        }
        Self {
            setup,
            options,
            client: None,
        }
    }

    pub(super) async fn send(&mut self, message: &Bytes) -> Outcome {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return Outcome::later(error.to_string()),
        };
        let frame = if self.setup.gzip {
            gzip_frame(message.clone()).await
        } else {
            let mut out = BytesMut::new();
            framing::frame(message, &mut out);
            out.freeze()
        };
        let (mut sender, mut answer) = match client.bidi(EXPORT, &self.options) {
            Ok(call) => call,
            Err(status) => return outcome(&status, None),
        };
        // When the collector is gone, the answer says so.
        if sender.send_all(frame).await.is_ok() {
            sender.finish();
        }
        match only(&mut answer).await {
            Ok(response) => taken(&response),
            Err(status) => outcome(&status, answer.details()),
        }
    }

    pub(super) fn disconnect(&mut self) {
        if let Some(client) = self.client.take() {
            client.close();
        }
    }

    /// The connection; a new one when the last has ended.
    async fn client(&mut self) -> std::io::Result<Client> {
        if let Some(client) = self.client.take_if(|client| !client.control().has_ended()) {
            self.client = Some(client.clone());
            return Ok(client);
        }
        let (conn, address) = connect::connect(&self.setup.target).await?;
        let settings = ClientSettings {
            message_bytes_max: ANSWER_BYTES_MAX,
            user_agent: USER_AGENT,
            keepalive_time: Some(Duration::from_secs(60)),
            tls: self.setup.target.tls.clone(),
            ..ClientSettings::default()
        };
        let client = Client::over(conn, address, settings).await?;
        self.client = Some(client.clone());
        Ok(client)
    }
}

/// The one message of the answer.
async fn only(answer: &mut ClientStream) -> Result<Bytes, Status> {
    let first = answer.message().await?;
    while answer.message().await?.is_some() {}
    Ok(first.unwrap_or_default())
}

fn taken(response: &Bytes) -> Outcome {
    // An answer that cannot be read is a collector that took the spans all the same.
    let response = ExportTraceServiceResponse::decode(&response[..]).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    Outcome::Taken {
        rejected: partial.rejected_spans.max(0).cast_unsigned(),
        remark: partial.error_message,
    }
}

/// What a status means, after the list of OTLP.
fn outcome(status: &Status, details: Option<&[u8]>) -> Outcome {
    let reason = format!("{}: {}", status.code(), status.message());
    let after = details.and_then(retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Later { reason, after },
        // Without a time to come back it is a quota that is used up.
        Code::ResourceExhausted if after.is_some() => Outcome::Later { reason, after },
        _ => Outcome::Refused { reason },
    }
}

/// The delay of a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
    let status = StatusDetails::decode(details).ok()?;
    let info = status
        .details
        .iter()
        .find(|any| any.type_url == RETRY_INFO)?;
    let info = RetryInfo::decode(&info.value[..]).ok()?;
    Duration::try_from(info.retry_delay?).ok()
}

/// `google.rpc.Status`, as far as it matters here.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// A compressed message with its prefix.
async fn gzip_frame(message: Bytes) -> Bytes {
    let compressed = super::gzip(message).await;
    let mut frame = BytesMut::with_capacity(compressed.len() + framing::PREFIX_BYTES);
    let [_plain, length @ ..] = framing::prefix(compressed.len());
    frame.put_u8(1);
    frame.put_slice(&length);
    frame.put_slice(&compressed);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use ringmq_proto::otlp::collector::ExportTracePartialSuccess;

    use super::*;

    fn details(seconds: i64) -> Vec<u8> {
        let info = RetryInfo {
            retry_delay: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let any = |type_url: &str, value| prost_types::Any {
            type_url: type_url.to_owned(),
            value,
        };
        let status = StatusDetails {
            details: vec![
                any("type.googleapis.com/google.rpc.DebugInfo", vec![1, 2]),
                any(
                    "type.googleapis.com/google.rpc.RetryInfo",
                    info.encode_to_vec(),
                ),
            ],
        };
        status.encode_to_vec()
    }

    #[test]
    fn retry_info_says_when_to_come_back() {
        assert_eq!(retry_delay(&details(3)), Some(Duration::from_secs(3)));
        assert_eq!(retry_delay(&details(-3)), None);
        assert_eq!(retry_delay(b"\xff\xff"), None);
        assert_eq!(retry_delay(b""), None);
    }

    #[test]
    fn statuses_are_sorted_as_the_protocol_says() {
        let sort = |code, details: Option<&[u8]>| outcome(&Status::new(code, "x"), details);
        for code in [
            Code::Unavailable,
            Code::Aborted,
            Code::DataLoss,
            Code::Cancelled,
        ] {
            assert!(matches!(
                sort(code, None),
                Outcome::Later { after: None, .. }
            ));
        }
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::Unimplemented,
        ] {
            assert!(matches!(sort(code, None), Outcome::Refused { .. }));
        }
        let quota = sort(Code::ResourceExhausted, None);
        assert!(matches!(quota, Outcome::Refused { .. }));
        let busy = sort(Code::ResourceExhausted, Some(&details(2)));
        let two = Some(Duration::from_secs(2));
        assert!(matches!(busy, Outcome::Later { after, .. } if after == two));
    }

    #[test]
    fn answers_say_how_many_were_not_taken() {
        let response = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".into(),
            }),
        };
        let expected = Outcome::Taken {
            rejected: 3,
            remark: "too old".into(),
        };
        assert_eq!(taken(&response.encode_to_vec().into()), expected);
        let all = Outcome::Taken {
            rejected: 0,
            remark: String::new(),
        };
        assert_eq!(taken(&Bytes::new()), all);
    }
}
