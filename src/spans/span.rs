//! One span: what was done, for whom, to which message, and how it ended.

use super::Carried;
use super::context::{SpanId, TraceContext};
use crate::model::Kind;

/// Ids and names are clipped to so many bytes, so that a full ring has a known size.
const TEXT_BYTES_MAX: usize = 256;

/// So is the text of a refusal.
const REASON_BYTES_MAX: usize = 1_024;

/// Links to other spans that one span may have.
const LINKS_MAX: usize = 32;

/// What the broker does with messages, as far as spans tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Takes a message, until it is accepted, and durable where that was asked for.
    Send,
    /// Takes a request, until its answer has come.
    Request,
    /// Takes the answer to a request.
    Respond,
    /// Answers a consumer that asks for messages.
    Receive,
    /// Hands a message to a subscriber.
    Deliver,
}

impl Operation {
    /// The first word of the span's name, and `messaging.operation.name`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Request => "request",
            Self::Respond => "respond",
            Self::Receive => "receive",
            Self::Deliver => "deliver",
        }
    }

    /// `messaging.operation.type`: a word of the conventions where they have one.
    pub(super) const fn convention(self) -> &'static str {
        match self {
            Self::Send | Self::Request | Self::Respond => "send",
            Self::Receive => "receive",
            Self::Deliver => "deliver",
        }
    }

    /// Whether a client waits for its end. Otherwise it is the broker that sends.
    pub(super) const fn is_a_call(self) -> bool {
        !matches!(self, Self::Deliver)
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) sort: &'static str,
    pub(super) text: Box<str>,
}

/// A span that is recorded. [`Spans::end`](super::Spans::end) takes it; dropped, it is forgotten.
///
/// Texts are clipped to 256 bytes, reasons to 1,024.
#[derive(Clone, Debug)]
pub struct Span {
    pub(super) context: TraceContext,
    pub(super) parent: Option<SpanId>,
    pub(super) tracestate: Box<str>,
    pub(super) operation: Operation,
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    pub(super) kind: Option<Kind>,
    pub(super) channel: Box<str>,
    pub(super) client: Box<str>,
    pub(super) message_id: Box<str>,
    pub(super) group: Box<str>,
    pub(super) body_bytes: Option<u64>,
    pub(super) message_count: Option<u64>,
    pub(super) waited_ns: Option<u64>,
    pub(super) links: Vec<TraceContext>,
    pub(super) links_dropped: u32,
    pub(super) failure: Option<Failure>,
}

impl Span {
    pub(super) fn new(
        context: TraceContext,
        parent: Option<&Carried<'_>>,
        operation: Operation,
        start_ns: i64,
    ) -> Self {
        Self {
            context,
            parent: parent.map(|parent| parent.context.span_id),
            tracestate: parent.map_or("", |parent| parent.tracestate).into(),
            operation,
            start_ns,
            end_ns: start_ns,
            kind: None,
            channel: Box::default(),
            client: Box::default(),
            message_id: Box::default(),
            group: Box::default(),
            body_bytes: None,
            message_count: None,
            waited_ns: None,
            links: Vec::new(),
            links_dropped: 0,
            failure: None,
        }
    }

    /// The span as others refer to it.
    #[must_use]
    pub const fn context(&self) -> &TraceContext {
        &self.context
    }

    /// The channel and its kind.
    pub fn channel(&mut self, kind: Kind, channel: &str) -> &mut Self {
        self.kind = Some(kind);
        self.channel = clipped(channel, TEXT_BYTES_MAX);
        self
    }

    /// Who made the call.
    pub fn client(&mut self, client: &str) -> &mut Self {
        self.client = clipped(client, TEXT_BYTES_MAX);
        self
    }

    /// The message.
    pub fn message(&mut self, id: &str, body_bytes: usize) -> &mut Self {
        self.message_id = clipped(id, TEXT_BYTES_MAX);
        self.body_bytes = Some(u64::try_from(body_bytes).unwrap_or(u64::MAX));
        self
    }

    /// The group that the subscriber belongs to; empty: none.
    pub fn group(&mut self, group: &str) -> &mut Self {
        self.group = clipped(group, TEXT_BYTES_MAX);
        self
    }

    /// How many messages it was.
    pub fn count(&mut self, messages: usize) -> &mut Self {
        self.message_count = Some(u64::try_from(messages).unwrap_or(u64::MAX));
        self
    }

    /// How long the message had been with the broker, in nanoseconds.
    pub fn waited(&mut self, waited_ns: u64) -> &mut Self {
        self.waited_ns = Some(waited_ns);
        self
    }

    /// Another span that this one has to do with. More than 32 are counted only.
    pub fn link(&mut self, context: TraceContext) -> &mut Self {
        if self.links.len() < LINKS_MAX {
            self.links.push(context);
        } else {
            self.links_dropped = self.links_dropped.saturating_add(1);
        }
        self
    }

    /// It failed: a word for the sort of failure, and what the client was told.
    pub fn failed(&mut self, sort: &'static str, reason: &str) -> &mut Self {
        self.failure = Some(Failure {
            sort,
            text: clipped(reason, REASON_BYTES_MAX),
        });
        self
    }

    pub(super) fn ended_at(&mut self, now_ns: i64) {
        // The wall clock may have been set back meanwhile.
        self.end_ns = now_ns.max(self.start_ns);
    }
}

/// The beginning of a text, cut between characters.
fn clipped(text: &str, bytes_max: usize) -> Box<str> {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::context::TraceId;

    fn span() -> Span {
        let (trace, id) = (TraceId::new([1; 16]), SpanId::new([2; 8]));
        let context = TraceContext::sampled(trace.unwrap(), id.unwrap(), 0);
        Span::new(context, None, Operation::Send, 100)
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        let mut span = span();
        span.client(&"é".repeat(200))
            .failed("Internal", &"x".repeat(2_000));
        assert_eq!(&*span.client, "é".repeat(128));
        assert_eq!(span.failure.unwrap().text.len(), REASON_BYTES_MAX);
        let odd = format!("x{}", "é".repeat(200));
        assert_eq!(clipped(&odd, TEXT_BYTES_MAX).len(), 255);
        assert_eq!(&*clipped("", 5), "");
    }

    #[test]
    fn span_never_ends_before_it_began() {
        let mut span = span();
        span.ended_at(50);
        assert_eq!((span.start_ns, span.end_ns), (100, 100));
        span.ended_at(150);
        assert_eq!(span.end_ns, 150);
    }

    #[test]
    fn links_are_bounded_and_the_others_counted() {
        let mut span = span();
        let other = *span.context();
        for _ in 0..40 {
            span.link(other);
        }
        assert_eq!((span.links.len(), span.links_dropped), (32, 8));
    }
}
