//! Traces through a real broker: the context goes from sender to receiver, and the broker's own
//! spans reach a collector.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpListener;

use prost::Message as _;
use ringmq_proto::kubemq::{Event, EventReceive, Request, Response, Result as SendResult};
use ringmq_proto::otlp::trace::Span;
use ringmq_proto::otlp::trace::span::SpanKind;
use serde_json::json;

use crate::broker::{HttpBroker, base64};
use crate::collector::{Collector, attribute};
use crate::contract;
use crate::harness::poll;
use crate::mock::broker::counter;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{PATIENCE, Peer};

const STATE: &str = "vendor=1";

/// A context of its own for each case.
fn parent(number: u8) -> String {
    format!("00-{}-{}-01", hex(number, 16), hex(number, 8))
}

fn hex(number: u8, bytes: usize) -> String {
    format!("{number:02x}").repeat(bytes)
}

/// A file for `--config`.
fn settings(endpoint: &str, sampler: &str) -> tempfile::TempPath {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    write!(
        file,
        "[telemetry]\nenable = true\nservice_name = \"orders\"\n\
         [telemetry.exporter]\nendpoint = \"{endpoint}\"\nprotocol = \"http\"\n\
         [telemetry.traces]\nsampler = \"{sampler}\"\n"
    )
    .unwrap();
    file.into_temp_path()
}

fn traced_broker(cores: usize, endpoint: &str, sampler: &str) -> HttpBroker {
    let settings = settings(endpoint, sampler);
    HttpBroker::start_with(cores, ["--config", settings.to_str().unwrap()])
}

/// The span of a trace with this name; there must be one.
fn span<'a>(spans: &'a [Span], number: u8, name: &str) -> &'a Span {
    let mut found = spans
        .iter()
        .filter(|span| span.trace_id[..] == [number; 16] && span.name == name);
    let only = found.next();
    assert!(found.next().is_none(), "two of {name}");
    only.unwrap_or_else(|| panic!("no {name} of trace {number}: {spans:#?}"))
}

/// A unary call with metadata.
fn call(peer: &mut Peer, path: &str, metadata: &[(&str, &str)], message: &[u8]) -> Vec<u8> {
    let mut fields = Peer::call_fields(path);
    fields.extend_from_slice(metadata);
    let stream = peer.open_with(&fields, false);
    peer.send_message(stream, message, true);
    let mut reply = peer.finish(stream);
    assert_eq!(reply.grpc_status(), Some(0), "{}", reply.grpc_message());
    reply.take_message().unwrap()
}

fn post(broker: &HttpBroker, path: &str, traceparent: &str, body: &serde_json::Value) {
    let headers = [
        ("Content-Type", "application/json"),
        ("traceparent", traceparent),
    ];
    let body = body.to_string();
    let answer = broker.send(broker.rest(), "POST", path, &headers, body.as_bytes());
    answer.data();
}

fn context(tags: &HashMap<String, String>) -> (Option<&str>, Option<&str>) {
    let tag = |key: &str| tags.get(key).map(String::as_str);
    (tag("traceparent"), tag("tracestate"))
}

/// An event whose tags name its context.
fn tagged_event(broker: &HttpBroker, number: u8) {
    let mut receiver = Peer::connect(broker.grpc());
    let stream = contract::subscribe_events(&mut receiver, "t.events");
    let parent = parent(number);
    let event = Event {
        tags: contract::tags(&[("traceparent", &parent), ("k", "v")]),
        ..contract::event("t.events", false)
    };
    assert!(contract::send_event(broker.grpc(), &event).sent);
    let received = contract::next_event(&mut receiver, stream);
    assert_eq!(received.tags, event.tags, "as they were sent");
}

/// A stored event whose call names the context.
fn stored_event_of_a_traced_call(broker: &HttpBroker, number: u8) {
    let mut receiver = Peer::connect(broker.grpc());
    let stream = contract::subscribe_stored(&mut receiver, "t.stored");
    let parent = parent(number);
    let metadata = [("traceparent", &*parent), ("tracestate", STATE)];
    let message = contract::event("t.stored", true).encode_to_vec();
    let mut sender = Peer::connect(broker.grpc());
    let answer = call(&mut sender, path::SEND_EVENT, &metadata, &message);
    assert!(SendResult::decode(&*answer).unwrap().sent);
    let received: EventReceive = contract::next_event(&mut receiver, stream);
    assert_eq!(context(&received.tags), (Some(&*parent), Some(STATE)));
}

/// A message by REST, received by gRPC from a caller that is traced, too.
fn queue_message_by_rest(broker: &HttpBroker, number: u8) {
    let parent = parent(number);
    let message = json!({
        "MessageID": "m", "ClientID": "c", "Channel": "t.queue", "Body": base64("body"),
    });
    post(broker, "/queue/send", &parent, &message);
    let received = contract::receive(broker.grpc(), "t.queue", false);
    assert_eq!(context(&received[0].tags), (Some(&*parent), None));
}

/// A message of one trace, received by REST in another.
fn message_and_poll_of_two_traces(broker: &HttpBroker, sender: u8, receiver: u8) {
    let message = json!({
        "ClientID": "c", "Channel": "t.two", "Body": base64("body"),
    });
    post(broker, "/queue/send", &parent(sender), &message);
    let poll = json!({
        "RequestID": "r", "ClientID": "consumer", "Channel": "t.two", "MaxNumberOfMessages": 5,
        "WaitTimeSeconds": 10,
    });
    post(broker, "/queue/receive", &parent(receiver), &poll);
}

/// A command by REST, answered over gRPC.
fn command_by_rest(broker: &HttpBroker, number: u8) {
    let mut responder = Peer::connect(broker.grpc());
    let subscribe = kubemq::subscribe(kubemq::COMMANDS, "t.commands", "");
    let stream = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
    let parent = parent(number);
    let command = json!({
        "RequestID": "r", "RequestTypeData": 1, "ClientID": "c", "Channel": "t.commands",
        "Body": base64("body"), "Timeout": 20_000,
    });
    std::thread::scope(|scope| {
        scope.spawn(|| post(broker, "/send/request", &parent, &command));
        let request = responder.next_message(stream).unwrap();
        let request = Request::decode(&*request).unwrap();
        assert_eq!(context(&request.tags), (Some(&*parent), None));
        let response = Response {
            client_id: "responder".into(),
            request_id: request.request_id,
            reply_channel: request.reply_channel,
            executed: true,
            ..Response::default()
        };
        let sent =
            Peer::connect(broker.grpc()).unary(path::SEND_RESPONSE, &response.encode_to_vec());
        assert_eq!(sent.grpc_status(), Some(0));
    });
}

/// Not sampled by its sender, and without any context: no spans.
fn untraced_events(broker: &HttpBroker, number: u8) {
    let quiet = parent(number).replace("-01", "-00");
    let plain = contract::event("t.quiet", false);
    let tagged = Event {
        tags: contract::tags(&[("traceparent", &quiet)]),
        ..plain.clone()
    };
    for event in [tagged, plain] {
        assert!(contract::send_event(broker.grpc(), &event).sent);
    }
}

/// An event that is refused.
fn refused_event(broker: &HttpBroker, number: u8) {
    let event = Event {
        tags: contract::tags(&[("traceparent", &parent(number))]),
        client_id: String::new(),
        ..contract::event("t.refused", false)
    };
    let reply = contract::call(broker.grpc(), path::SEND_EVENT, &event);
    assert_ne!(reply.grpc_status(), Some(0));
}

/// What a collector is told of the cases above: the trace, the name, and who waits for its end.
const EXPECTED: [(u8, &str, SpanKind); 12] = [
    (0x11, "send t.events", SpanKind::Server),
    (0x11, "deliver t.events", SpanKind::Producer),
    (0x22, "send t.stored", SpanKind::Server),
    (0x22, "deliver t.stored", SpanKind::Producer),
    (0x33, "send t.queue", SpanKind::Server),
    (0x33, "receive t.queue", SpanKind::Server),
    (0x44, "request t.commands", SpanKind::Server),
    (0x44, "deliver t.commands", SpanKind::Producer),
    (0x55, "send t.refused", SpanKind::Server),
    (0x88, "send t.two", SpanKind::Server),
    (0x88, "receive t.two", SpanKind::Server),
    (0x99, "receive t.two", SpanKind::Server),
];

#[test]
fn context_reaches_receivers_and_spans_reach_the_collector() {
    let collector = Collector::start();
    let broker = traced_broker(2, &collector.endpoint(), "parentbased_always_off");
    tagged_event(&broker, 0x11);
    stored_event_of_a_traced_call(&broker, 0x22);
    queue_message_by_rest(&broker, 0x33);
    command_by_rest(&broker, 0x44);
    refused_event(&broker, 0x55);
    untraced_events(&broker, 0x66);
    message_and_poll_of_two_traces(&broker, 0x88, 0x99);

    let all = poll(PATIENCE, || {
        let spans = collector.spans();
        (spans.len() >= EXPECTED.len()).then_some(spans)
    });
    let spans = all.unwrap_or_else(|| panic!("{:#?}\n{}", collector.spans(), broker.broker.log()));
    assert_eq!(spans.len(), EXPECTED.len(), "{spans:#?}");
    for (number, name, kind) in EXPECTED {
        let span = span(&spans, number, name);
        assert_eq!(span.parent_span_id[..], [number; 8], "{name}");
        assert_eq!(span.kind(), kind, "{name}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        let system = attribute(span, "messaging.system");
        assert_eq!(system.as_deref(), Some("kubemq"));
    }
    check_details(&spans);
    assert_eq!(collector.service_name().as_deref(), Some("orders"));

    let exported = u64::try_from(EXPECTED.len()).unwrap();
    let counted = poll(PATIENCE, || {
        let status = broker.broker.status();
        (counter(&status, "broker_spans_exported_total") == exported).then_some(())
    });
    assert!(counted.is_some(), "{:#}", broker.broker.status());
    broker.end();
}

fn check_details(spans: &[Span]) {
    let stored = span(spans, 0x22, "deliver t.stored");
    assert_eq!(stored.trace_state, STATE);
    let wanted = [
        ("messaging.destination.name", "t.stored"),
        ("messaging.message.id", "event-1"),
        ("messaging.client.id", "mock"),
        ("messaging.message.body.size", "4"),
        ("messaging.operation.name", "deliver"),
        ("messaging.kubemq.channel.kind", "events_store"),
    ];
    for (key, value) in wanted {
        assert_eq!(attribute(stored, key).as_deref(), Some(value), "{key}");
    }
    assert!(attribute(stored, "messaging.kubemq.wait_us").is_some());
    for (one, other) in [(0x88, 0x99), (0x99, 0x88)] {
        let received = span(spans, one, "receive t.two");
        assert_eq!(received.links.len(), 1, "{received:#?}");
        assert_eq!(received.links[0].trace_id[..], [other; 16]);
        let client = attribute(received, "messaging.client.id");
        assert_eq!(client.as_deref(), Some("consumer"));
    }
    let refused = span(spans, 0x55, "send t.refused");
    let status = refused.status.as_ref().unwrap();
    assert!(!status.message.is_empty() && status.code == 2, "{status:?}");
    assert!(attribute(refused, "error.type").is_some());
}

#[test]
fn spans_that_wait_leave_when_the_broker_ends() {
    let collector = Collector::start();
    let broker = traced_broker(1, &collector.endpoint(), "always_on");
    assert!(contract::send_event(broker.grpc(), &contract::event("t.last", false)).sent);
    broker.end();
    let spans = collector.spans();
    let last = spans.iter().find(|span| span.name == "send t.last");
    assert!(
        last.unwrap().parent_span_id.is_empty(),
        "nobody had begun the trace"
    );
}

#[test]
fn without_tracing_messages_are_as_they_were_sent() {
    let broker = HttpBroker::start(1);
    let mut receiver = Peer::connect(broker.grpc());
    let stream = contract::subscribe_events(&mut receiver, "t.off");
    let parent = parent(0x77);
    let metadata = [("traceparent", &*parent), ("tracestate", STATE)];
    let message = contract::event("t.off", false).encode_to_vec();
    call(
        &mut Peer::connect(broker.grpc()),
        path::SEND_EVENT,
        &metadata,
        &message,
    );
    let received = contract::next_event(&mut receiver, stream);
    assert!(received.tags.is_empty(), "{received:?}");
    drop(receiver);
    broker.end();
}

#[test]
fn collector_that_is_away_or_silent_costs_spans_and_nothing_else() {
    // Bound and never accepted from: the kernel connects, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let broker = traced_broker(1, &format!("http://{address}"), "always_on");
        let mut sender = Peer::connect(broker.grpc());
        let message = contract::event("t.lost", false).encode_to_vec();
        for _ in 0..3_000 {
            let answer = call(&mut sender, path::SEND_EVENT, &[], &message);
            assert!(SendResult::decode(&*answer).unwrap().sent);
        }
        let status = broker.broker.status();
        assert!(
            counter(&status, "broker_span_drops_total") > 0,
            "{status:#}"
        );
        assert_eq!(counter(&status, "broker_spans_exported_total"), 0);
        drop(sender);
        broker.end();
    }
}
