//! Spans of what clients do. Without tracing none of this exists: a [`Watch`](super::Watch) holds
//! no [`Tracer`] then, and looks no further.
//!
//! A message's own context, its tag, counts before that of the call that brings it. On streams it
//! is the only one: a stream lives for hours, and its messages have nothing to do with one another.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use super::{Access, Deed};
use crate::grpc::codec::context::{
    HandedOn, Sent, TRACEPARENT, TRACESTATE, batch_with_context, with_context,
};
use crate::grpc::codec::response::ResponseView;
use crate::grpc::codec::scan::{Fields, Value};
use crate::grpc::codec::tags::Tags;
use crate::model::Kind;
use crate::rt;
use crate::spans::{Carried, Operation, Span, Spans, TraceContext};
use crate::wire::framing::{Encoding, GatherLimit, MessageDecoder};
use crate::wire::server::Call;
use ringmq_proto::kubemq::Subscribe;

/// Messages of one answer that are looked at for spans; the others are handed on without.
const LOOKS_MAX: usize = 1_024;

/// What tracing knows of one call.
pub(super) struct Tracer {
    spans: Rc<Spans>,
    /// When a call with one message came. `None`: it is a stream.
    arrived_ns: Option<i64>,
    /// What its caller said in the metadata.
    call: Option<CallContext>,
    /// The subscription that the call is.
    deliveries: Option<Deliveries>,
}

struct CallContext {
    context: TraceContext,
    traceparent: Box<str>,
    tracestate: Box<str>,
}

impl CallContext {
    fn of(call: &Call) -> Option<Self> {
        let traceparent = call.metadata(TRACEPARENT)?;
        let carried = Carried::read(Some(traceparent), call.metadata(TRACESTATE))?;
        Some(Self {
            context: carried.context,
            traceparent: traceparent.into(),
            tracestate: carried.tracestate.into(),
        })
    }

    fn carried(&self) -> Carried<'_> {
        Carried {
            context: self.context,
            tracestate: &self.tracestate,
        }
    }
}

/// An access that is traced.
#[derive(Debug)]
pub(super) struct Traced {
    /// Polls have one only when their caller is traced.
    span: Option<Span>,
    /// Who receives; of polls.
    client: Box<str>,
}

/// What goes to one subscriber.
struct Deliveries {
    kind: Kind,
    client: Box<str>,
    group: Box<str>,
    /// Finds the messages; it copies those that come in pieces.
    frames: MessageDecoder,
}

impl Tracer {
    pub(super) fn of(spans: &Rc<Spans>, call: &Call) -> Self {
        let is_stream = ["Stream", "Subscribe", "Upstream", "Downstream"]
            .iter()
            .any(|word| call.path().contains(word));
        Self {
            spans: spans.clone(),
            arrived_ns: (!is_stream).then(rt::unix_ns),
            call: if is_stream {
                None
            } else {
                CallContext::of(call)
            },
            deliveries: None,
        }
    }

    /// The message with the caller's context as tags, unless it has one or there is none.
    pub(super) fn with_context(&self, message: &[u8], sent: Sent) -> Option<Bytes> {
        let call = self.call.as_ref()?;
        with_context(message, sent, &call.traceparent, &call.tracestate)
    }

    pub(super) fn batch_with_context(&self, request: &[u8]) -> Option<Bytes> {
        let call = self.call.as_ref()?;
        batch_with_context(request, &call.traceparent, &call.tracestate)
    }

    /// Something has begun.
    pub(super) fn begin(&self, access: &Access<'_>, deed: Deed) -> Option<Box<Traced>> {
        let operation = match (deed, access.kind) {
            (Deed::Send, Kind::Commands | Kind::Queries) => Operation::Request,
            (Deed::Send, _) => Operation::Send,
            (Deed::Receive | Deed::Peek | Deed::Stream, _) => Operation::Receive,
            _ => return None,
        };
        let parent = self.carried(access.tags.as_ref());
        if operation == Operation::Receive {
            // Without a traced caller the spans are those of the messages that are handed out.
            let span = parent.and_then(|parent| self.span(operation, Some(&parent), access));
            let client = access.client.into();
            return Some(Box::new(Traced { span, client }));
        }
        let span = self.span(operation, parent.as_ref(), access)?;
        Some(Box::new(Traced {
            span: Some(span),
            client: Box::default(),
        }))
    }

    /// It has ended; or why it was not done.
    pub(super) fn end(&self, traced: Box<Traced>, failure: Option<(&'static str, &str)>) {
        if let Some(mut span) = traced.span {
            if let Some((sort, reason)) = failure {
                span.failed(sort, reason);
            }
            self.spans.end(span);
        }
    }

    /// The answer to a request has come.
    pub(super) fn responded(&self, view: &ResponseView<'_>, failure: Option<(&'static str, &str)>) {
        let parent = self.carried(Some(&view.tags));
        // Responders that are not traced answer a request that may be.
        let Some(parent) = parent else { return };
        let start_ns = self.arrived_ns.unwrap_or_else(rt::unix_ns);
        let begun = self
            .spans
            .begin_at(Operation::Respond, Some(&parent), start_ns);
        if let Some(mut span) = begun {
            span.client(view.client_id)
                .message(view.request_id, view.body.len());
            if let Some((sort, reason)) = failure {
                span.failed(sort, reason);
            }
            self.spans.end(span);
        }
    }

    /// Messages of a queue are handed out: `parts` are fields, one of which may run over several.
    pub(super) fn handed_out(&self, traced: &mut Traced, parts: &[Bytes]) {
        let fields: Cow<'_, [u8]> = match parts {
            [] => return,
            [only] => Cow::Borrowed(only),
            several => Cow::Owned(several.concat()),
        };
        let mut count = 0;
        for field in Fields::new(&fields).map_while(Result::ok).take(LOOKS_MAX) {
            let Value::Bytes(message) = field.value else {
                continue;
            };
            count += 1;
            let Some(handed) = HandedOn::queue_message(message) else {
                continue;
            };
            let Some(parent) = read(&handed.tags) else {
                continue;
            };
            if let Some(span) = &mut traced.span {
                span.link(parent.context);
            }
            if let Some(mut span) = self.spans.begin(Operation::Receive, Some(&parent)) {
                span.client(&traced.client);
                if let Some(call) = &self.call {
                    span.link(call.context);
                }
                self.end_handed(span, Kind::Queues, &handed);
            }
        }
        if let Some(span) = &mut traced.span {
            span.count(count);
        }
    }

    /// A subscription begins.
    pub(super) fn subscribed(&mut self, kind: Kind, subscribe: &Subscribe) {
        let limit = GatherLimit::new(usize::MAX);
        self.deliveries = Some(Deliveries {
            kind,
            client: (*subscribe.client_id).into(),
            group: (*subscribe.group).into(),
            frames: MessageDecoder::new(usize::MAX, limit, Encoding::Identity),
        });
    }

    /// Frames go to the subscriber; one may run over several of them.
    pub(super) fn delivering(&mut self, frames: &Bytes) {
        let Some(mut deliveries) = self.deliveries.take() else {
            return;
        };
        deliveries.frames.push(frames.clone());
        // The frames are ours, so there are no errors.
        while let Ok(Some(message)) = deliveries.frames.next_message() {
            self.deliver(&deliveries, &message);
        }
        self.deliveries = Some(deliveries);
    }

    fn deliver(&self, deliveries: &Deliveries, message: &[u8]) {
        let handed = match deliveries.kind {
            Kind::Events | Kind::EventsStore => HandedOn::event(message),
            Kind::Commands | Kind::Queries => HandedOn::request(message),
            Kind::Queues => HandedOn::queue_message(message),
        };
        let Some(handed) = handed else { return };
        let Some(parent) = read(&handed.tags) else {
            return;
        };
        if let Some(mut span) = self.spans.begin(Operation::Deliver, Some(&parent)) {
            span.client(&deliveries.client).group(&deliveries.group);
            self.end_handed(span, deliveries.kind, &handed);
        }
    }

    fn end_handed(&self, mut span: Span, kind: Kind, handed: &HandedOn<'_>) {
        span.channel(kind, handed.channel)
            .message(handed.id, handed.body_bytes);
        if handed.taken_at_ns > 0 {
            let waited_ns = rt::unix_ns().saturating_sub(handed.taken_at_ns);
            span.waited(waited_ns.max(0).cast_unsigned());
        }
        self.spans.end(span);
    }

    fn span(
        &self,
        operation: Operation,
        parent: Option<&Carried<'_>>,
        access: &Access<'_>,
    ) -> Option<Span> {
        let start_ns = self.arrived_ns.unwrap_or_else(rt::unix_ns);
        let mut span = self.spans.begin_at(operation, parent, start_ns)?;
        span.channel(access.kind, access.channel)
            .client(access.client);
        if operation != Operation::Receive {
            span.message(access.id, access.body_bytes);
        }
        Some(span)
    }

    /// The context of a message: its own, otherwise its call's.
    fn carried<'a>(&'a self, tags: Option<&Tags<'a>>) -> Option<Carried<'a>> {
        let own = tags.and_then(read);
        own.or_else(|| self.call.as_ref().map(CallContext::carried))
    }
}

fn read<'a>(tags: &Tags<'a>) -> Option<Carried<'a>> {
    if tags.is_empty() {
        return None;
    }
    Carried::read(tags.get(TRACEPARENT), tags.get(TRACESTATE))
}
