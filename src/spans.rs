//! Spans: where a message has been and how long that took, told to a collector of OpenTelemetry.
//!
//! ```text
//!   grpc ── begin ─► Span ── end ─► ring (bounded) ─► exporter ─► batch ─► OTLP over gRPC or HTTP
//!            │
//!         sampler: most spans end here
//! ```
//!
//! One [`Spans`] for each executor, with a ring and an exporter of its own: nothing is shared, and
//! nothing waits. A ring that is full drops the newest span and counts it; an exporter that cannot
//! reach its collector tries again for a while, then drops the batch and counts that. Without
//! tracing there is no [`Spans`] at all: callers hold an `Option`.
//!
//! What the context of a trace looks like and how it travels is in [`context`] and
//! `docs/tracing.md`.

pub mod context;
mod exporter;
mod sampler;
pub mod setup;
mod span;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::{self, Instant, Notify, Queue};

pub use context::{SpanId, TraceContext, TraceId};
pub use sampler::Sampler;
pub use setup::{Setup, SetupError};
pub use span::{Operation, Span};

/// Spans of one core that may wait for their export.
const WAITING_MAX: usize = 2_048;

/// What becomes of spans; for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The collector took them.
    Exported,
    /// Too many waited already.
    QueueFull,
    /// The collector refused them.
    Refused,
    /// The collector could not be reached for too long.
    Unreachable,
    /// The broker ended before they had left.
    Shutdown,
}

/// What a message says about the trace that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'a> {
    /// The sender's span.
    pub context: TraceContext,
    /// The sender's `tracestate`, valid or empty.
    pub tracestate: &'a str,
}

impl<'a> Carried<'a> {
    /// Reads both headers; `None` without a valid `traceparent`. A `tracestate` that breaks a rule
    /// is left out.
    #[must_use]
    pub fn read(traceparent: Option<&'a str>, tracestate: Option<&'a str>) -> Option<Self> {
        let context = TraceContext::parse(traceparent?)?;
        let tracestate = tracestate.filter(|text| context::tracestate_is_valid(text));
        Some(Self {
            context,
            tracestate: tracestate.unwrap_or_default(),
        })
    }
}

/// Fills bytes with what nobody can guess, for ids.
type Random = Box<dyn Fn(&mut [u8])>;

/// Counts what became of so many spans.
type Tell = Box<dyn Fn(Fate, u64)>;

/// The spans of one executor.
///
/// # Threading
/// Belongs to its executor and is shared there by `Rc`.
pub struct Spans {
    setup: Arc<Setup>,
    sampler: Cell<Sampler>,
    random: Random,
    tell: Tell,
    ring: RefCell<VecDeque<Span>>,
    /// Raised for the exporter: there is a span where there was none, a batch is full, or the end
    /// has come.
    work: Notify,
    /// Until when the exporter may go on; `None` while the broker runs.
    until: Cell<Option<Instant>>,
    ended: Notify,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spans")
            .field("setup", &self.setup)
            .field("waiting", &self.ring.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Spans {
    /// Starts the exporter of this executor. `random` fills the ids; `tell` counts what becomes of
    /// the spans.
    #[must_use]
    pub fn start(
        setup: Arc<Setup>,
        random: impl Fn(&mut [u8]) + 'static,
        tell: impl Fn(Fate, u64) + 'static,
    ) -> Rc<Self> {
        let spans = Rc::new(Self {
            sampler: Cell::new(setup.sampler),
            setup,
            random: Box::new(random),
            tell: Box::new(tell),
            ring: RefCell::default(),
            work: Notify::new(),
            until: Cell::new(None),
            ended: Notify::new(),
        });
        rt::spawn(Queue::Background, "spans", exporter::run(spans.clone()));
        spans
    }

    /// Samples differently from now on.
    pub fn set_sampler(&self, sampler: Sampler) {
        self.sampler.set(sampler);
    }

    /// Begins a span now; `None` when its trace is not recorded. Then nothing was allocated.
    #[must_use]
    pub fn begin(&self, operation: Operation, parent: Option<&Carried<'_>>) -> Option<Span> {
        self.begin_at(operation, parent, rt::unix_ns())
    }

    /// As [`begin`](Self::begin), for what began earlier: nanoseconds since 1970.
    #[must_use]
    pub fn begin_at(
        &self,
        operation: Operation,
        parent: Option<&Carried<'_>>,
        start_ns: i64,
    ) -> Option<Span> {
        let sampler = self.sampler.get();
        let trace = match parent {
            None if sampler.needs_a_parent() => return None,
            None => None,
            Some(parent) => Some(parent.context.trace_id),
        };
        let trace = trace.or_else(|| TraceId::new(self.draw()))?;
        if !sampler.samples(trace, parent.map(|parent| &parent.context)) {
            return None;
        }
        let span_id = SpanId::new(self.draw())?;
        // The random bit of a trace is its first span's; ours are random.
        let flags = parent.map_or(context::RANDOM, |parent| parent.context.flags);
        let context = TraceContext::sampled(trace, span_id, flags);
        Some(Span::new(context, parent, operation, start_ns))
    }

    /// Ends a span now and hands it to the exporter; never waits. When too many wait it is dropped
    /// and counted.
    pub fn end(&self, mut span: Span) {
        span.ended_at(rt::unix_ns());
        let mut ring = self.ring.borrow_mut();
        if ring.len() >= WAITING_MAX {
            drop(ring);
            return (self.tell)(Fate::QueueFull, 1);
        }
        ring.push_back(span);
        let waiting = ring.len();
        drop(ring);
        if waiting == 1 || waiting == exporter::BATCH_SPANS_MAX {
            self.work.raise();
        }
    }

    /// Sends what waits, for at most `patience`, and ends the exporter. What has not left by then
    /// is dropped and counted.
    pub async fn finish(&self, patience: Duration) {
        self.until.set(Some(rt::now().after(patience)));
        self.work.raise();
        self.ended.wait().await;
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }

    /// Takes up to `count` spans, the oldest first.
    fn take(&self, count: usize) -> Vec<Span> {
        let mut ring = self.ring.borrow_mut();
        let count = count.min(ring.len());
        ring.drain(..count).collect()
    }

    fn waiting(&self) -> usize {
        self.ring.borrow().len()
    }
}
