//! Spans as OTLP has them.
//!
//! A batch grows span by span, so that the work can be cut into slices; the few bytes around them
//! are written at the end.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use ringmq_proto::otlp::common::{AnyValue, InstrumentationScope, KeyValue, any_value};
use ringmq_proto::otlp::resource::Resource;
use ringmq_proto::otlp::trace::span::{Link, SpanKind};
use ringmq_proto::otlp::trace::status::StatusCode;
use ringmq_proto::otlp::trace::{Span as OtlpSpan, Status};

use crate::spans::context::TraceContext;
use crate::spans::span::Span;

/// Spans that are encoded between two looks at the sockets.
const SLICE_SPANS: u32 = 16;

/// `messaging.system`, which tools know the channels by.
const SYSTEM: &str = "kubemq";

/// The version of the conventions that names and attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.36.0";

/// `Span.flags` and `Link.flags`: it is known where the other span is, and it is elsewhere.
const IS_REMOTE_KNOWN: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Fields of the messages around the spans.
const REQUEST_RESOURCE_SPANS: u32 = 1;
const RESOURCE_SPANS_RESOURCE: u32 = 1;
const RESOURCE_SPANS_SCOPE_SPANS: u32 = 2;
const RESOURCE_SPANS_SCHEMA_URL: u32 = 3;
const SCOPE_SPANS_SCOPE: u32 = 1;
const SCOPE_SPANS_SPANS: u32 = 2;
const SCOPE_SPANS_SCHEMA_URL: u32 = 3;

/// The resource: who sends.
pub(in crate::spans) fn encode_resource(service: &str, instance: &str, host: &str) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    let resource = Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", version),
            text("service.instance.id", instance),
            text("host.name", host),
            number("process.pid", u64::from(std::process::id())),
            text("telemetry.sdk.name", "ringmq"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", version),
        ],
        dropped_attributes_count: 0,
    };
    resource.encode_to_vec().into()
}

/// A batch that grows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The scope and the spans, as fields of `ScopeSpans`.
    scope_spans: BytesMut,
    /// Spans since the last pause.
    slice: u32,
}

impl Batch {
    /// Adds a span; true when it is time for a pause.
    pub(super) fn add(&mut self, span: &Span) -> bool {
        if self.scope_spans.is_empty() {
            let scope = InstrumentationScope {
                name: "ringmq".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            };
            prost::encoding::message::encode(SCOPE_SPANS_SCOPE, &scope, &mut self.scope_spans);
        }
        let span = convert(span);
        prost::encoding::message::encode(SCOPE_SPANS_SPANS, &span, &mut self.scope_spans);
        self.slice += 1;
        if self.slice < SLICE_SPANS {
            return false;
        }
        self.slice = 0;
        true
    }

    /// The whole `ExportTraceServiceRequest`.
    pub(super) fn finish(mut self, resource: &Bytes) -> Bytes {
        put_field(
            SCOPE_SPANS_SCHEMA_URL,
            SCHEMA_URL.as_bytes(),
            &mut self.scope_spans,
        );
        let mut head = BytesMut::new();
        put_field(RESOURCE_SPANS_RESOURCE, resource, &mut head);
        put_length(
            RESOURCE_SPANS_SCOPE_SPANS,
            self.scope_spans.len(),
            &mut head,
        );
        let mut tail = BytesMut::new();
        put_field(RESOURCE_SPANS_SCHEMA_URL, SCHEMA_URL.as_bytes(), &mut tail);
        let length = head.len() + self.scope_spans.len() + tail.len();
        let mut request = BytesMut::with_capacity(length + 8);
        put_length(REQUEST_RESOURCE_SPANS, length, &mut request);
        request.put_slice(&head);
        request.put_slice(&self.scope_spans);
        request.put_slice(&tail);
        request.freeze()
    }
}

fn put_length(field: u32, length: usize, out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(u64::try_from(length).unwrap_or(u64::MAX), out);
}

fn put_field(field: u32, bytes: &[u8], out: &mut BytesMut) {
    put_length(field, bytes.len(), out);
    out.put_slice(bytes);
}

fn convert(span: &Span) -> OtlpSpan {
    let remote = if span.parent.is_some() { IS_REMOTE } else { 0 };
    let kind = if span.operation.is_a_call() {
        SpanKind::Server
    } else {
        SpanKind::Producer
    };
    OtlpSpan {
        trace_id: Bytes::copy_from_slice(span.context.trace_id.bytes()),
        span_id: Bytes::copy_from_slice(span.context.span_id.bytes()),
        trace_state: span.tracestate.to_string(),
        parent_span_id: span
            .parent
            .map(|parent| Bytes::copy_from_slice(parent.bytes()))
            .unwrap_or_default(),
        flags: u32::from(span.context.flags) | IS_REMOTE_KNOWN | remote,
        name: name(span),
        kind: kind.into(),
        start_time_unix_nano: span.start_ns.max(0).cast_unsigned(),
        end_time_unix_nano: span.end_ns.max(0).cast_unsigned(),
        attributes: attributes(span),
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.links_dropped,
        status: span.failure.as_ref().map(|failure| Status {
            message: failure.text.to_string(),
            code: StatusCode::Error.into(),
        }),
        ..OtlpSpan::default()
    }
}

fn name(span: &Span) -> String {
    let operation = span.operation.name();
    if span.channel.is_empty() {
        operation.to_owned()
    } else {
        format!("{operation} {}", span.channel)
    }
}

fn link(context: &TraceContext) -> Link {
    Link {
        trace_id: Bytes::copy_from_slice(context.trace_id.bytes()),
        span_id: Bytes::copy_from_slice(context.span_id.bytes()),
        flags: u32::from(context.flags) | IS_REMOTE_KNOWN | IS_REMOTE,
        ..Link::default()
    }
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(12);
    all.push(text("messaging.system", SYSTEM));
    all.push(text("messaging.operation.name", span.operation.name()));
    let convention = span.operation.convention();
    all.push(text("messaging.operation.type", convention));
    let texts = [
        ("messaging.destination.name", &span.channel),
        ("messaging.client.id", &span.client),
        ("messaging.message.id", &span.message_id),
        ("messaging.consumer.group.name", &span.group),
    ];
    for (key, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        all.push(text(key, value));
    }
    if let Some(kind) = span.kind {
        all.push(text("messaging.kubemq.channel.kind", kind.name()));
    }
    let numbers = [
        ("messaging.message.body.size", span.body_bytes),
        ("messaging.batch.message_count", span.message_count),
        (
            "messaging.kubemq.wait_us",
            span.waited_ns.map(|ns| ns / 1_000),
        ),
    ];
    for (key, value) in numbers {
        all.extend(value.map(|value| number(key, value)));
    }
    if let Some(failure) = &span.failure {
        all.push(text("error.type", failure.sort));
    }
    all
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}

#[cfg(test)]
mod tests {
    use ringmq_proto::otlp::collector::ExportTraceServiceRequest;

    use super::*;
    use crate::model::Kind;
    use crate::spans::context::{SpanId, TraceId};
    use crate::spans::{Carried, Operation};

    fn context(trace: u8, span: u8) -> TraceContext {
        TraceContext {
            trace_id: TraceId::new([trace; 16]).unwrap(),
            span_id: SpanId::new([span; 8]).unwrap(),
            flags: 1,
        }
    }

    fn encoded(spans: &[Span]) -> ExportTraceServiceRequest {
        let mut batch = Batch::default();
        for span in spans {
            batch.add(span);
        }
        let message = batch.finish(&encode_resource("orders", "one", "here"));
        ExportTraceServiceRequest::decode(message).unwrap()
    }

    fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
        let found = attributes.iter().find(|attribute| attribute.key == key)?;
        found.value.as_ref()?.value.as_ref()
    }

    #[test]
    fn batch_is_what_a_collector_reads() {
        let parent = Carried {
            context: context(7, 8),
            tracestate: "a=1",
        };
        let mut span = Span::new(context(7, 9), Some(&parent), Operation::Send, 1_000);
        span.channel(Kind::Queues, "orders")
            .client("me")
            .message("m-1", 12)
            .waited(5_000_000);
        span.link(context(1, 2)).failed("Internal", "no room");
        let root = Span::new(context(3, 4), None, Operation::Deliver, 1_000);
        let request = encoded(&[span, root]);

        let [resource_spans] = &request.resource_spans[..] else {
            panic!("{request:?}")
        };
        let resource = resource_spans.resource.as_ref().unwrap();
        let service = value(&resource.attributes, "service.name");
        assert_eq!(
            service,
            Some(&any_value::Value::StringValue("orders".into()))
        );
        let [scope_spans] = &resource_spans.scope_spans[..] else {
            panic!("{request:?}")
        };
        assert_eq!(scope_spans.scope.as_ref().unwrap().name, "ringmq");
        assert_eq!(scope_spans.schema_url, SCHEMA_URL);
        assert_eq!(resource_spans.schema_url, SCHEMA_URL);

        let [span, root] = &scope_spans.spans[..] else {
            panic!("{request:?}")
        };
        assert_eq!(
            (&span.trace_id[..], &span.span_id[..]),
            (&[7; 16][..], &[9; 8][..])
        );
        assert_eq!(
            (&span.parent_span_id[..], &*span.trace_state),
            (&[8; 8][..], "a=1")
        );
        assert_eq!((span.flags, &*span.name), (0x301, "send orders"));
        assert_eq!(span.kind(), SpanKind::Server);
        let status = span.status.as_ref().unwrap();
        assert_eq!(
            (status.code(), &*status.message),
            (StatusCode::Error, "no room")
        );
        let kind = value(&span.attributes, "messaging.kubemq.channel.kind");
        assert_eq!(kind, Some(&any_value::Value::StringValue("queues".into())));
        let waited = value(&span.attributes, "messaging.kubemq.wait_us");
        assert_eq!(waited, Some(&any_value::Value::IntValue(5_000)));
        assert_eq!(&span.links[0].trace_id[..], &[1; 16]);

        assert_eq!((root.kind(), root.flags), (SpanKind::Producer, 0x101));
        assert!(root.parent_span_id.is_empty() && root.status.is_none());
        assert_eq!(value(&root.attributes, "messaging.client.id"), None);
    }

    #[test]
    fn work_is_cut_into_slices() {
        let span = Span::new(context(1, 1), None, Operation::Send, 0);
        let mut batch = Batch::default();
        let pauses = (0..64).filter(|_| batch.add(&span)).count();
        assert_eq!(pauses, 4);
    }
}
