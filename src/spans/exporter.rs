//! Takes spans from the ring to the collector: one task of each executor, in its background queue.
//!
//! A batch leaves when it is full, or [`DELAY`] after its first span. One batch is on its way at a
//! time; while it is tried again the ring fills, and what comes then is dropped and counted. Work
//! is cut into slices, so that no batch delays a message.

mod connect;
mod encode;
mod grpc;
mod http;
mod retry;

use std::future::Future;
use std::io::Write as _;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::setup::Protocol;
use super::{Fate, Spans};
use crate::rt::{self, Instant};
use crate::wire::Alarm;

pub(super) use encode::encode_resource;

use encode::Batch;
use retry::Backoff;

/// Spans that leave together at most.
pub(super) const BATCH_SPANS_MAX: usize = 512;

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// For so long the log says nothing of further failures.
const QUIET: Duration = Duration::from_secs(60);

/// What an attempt to export came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The collector has them, but for so many; and what it says about that.
    Taken { rejected: u64, remark: String },
    /// It will never take them.
    Refused { reason: String },
    /// It may take them later; perhaps it says when.
    Later {
        reason: String,
        after: Option<Duration>,
    },
}

impl Outcome {
    fn later(reason: impl Into<String>) -> Self {
        Self::Later {
            reason: reason.into(),
            after: None,
        }
    }
}

/// The connection to the collector; made when it is needed.
enum Sender {
    Grpc(grpc::Sender),
    Http(http::Sender),
}

impl Sender {
    async fn send(&mut self, message: &Bytes) -> Outcome {
        match self {
            Self::Grpc(sender) => sender.send(message).await,
            Self::Http(sender) => sender.send(message).await,
        }
    }

    /// Gives up the connection: it may be one whose other end has vanished.
    fn disconnect(&mut self) {
        match self {
            Self::Grpc(sender) => sender.disconnect(),
            Self::Http(sender) => sender.disconnect(),
        }
    }
}

/// The exporter's life: until [`Spans::finish`].
pub(super) async fn run(spans: Rc<Spans>) {
    let sender = match spans.setup.protocol {
        Protocol::Grpc => Sender::Grpc(grpc::Sender::new(spans.setup.clone())),
        Protocol::Http => Sender::Http(http::Sender::new(spans.setup.clone())),
    };
    let mut exporter = Exporter {
        spans,
        sender,
        failing: false,
        logged_at: None,
    };
    while exporter.gather().await {
        exporter.export().await;
    }
    let spans = exporter.spans;
    let left = spans.take(usize::MAX).len();
    if left > 0 {
        (spans.tell)(Fate::Shutdown, count(left));
    }
    spans.ended.raise();
}

struct Exporter {
    spans: Rc<Spans>,
    sender: Sender,
    /// Whether the last batch was lost.
    failing: bool,
    logged_at: Option<Instant>,
}

impl Exporter {
    /// Waits for a batch: a full one, or what has gathered in [`DELAY`]. False: it is the end.
    async fn gather(&self) -> bool {
        let spans = &self.spans;
        while spans.waiting() == 0 {
            if spans.until.get().is_some() {
                return false;
            }
            spans.work.wait().await;
        }
        let mut delay = Alarm::new(DELAY);
        std::future::poll_fn(|cx| {
            let closing = spans.until.get().is_some();
            if closing || spans.waiting() >= BATCH_SPANS_MAX || delay.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            while spans.work.poll(cx).is_ready() {
                if spans.until.get().is_some() || spans.waiting() >= BATCH_SPANS_MAX {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
        !self.is_over()
    }

    /// Takes one batch to its end: exported, or given up.
    async fn export(&mut self) {
        let batch = self.spans.take(BATCH_SPANS_MAX);
        let total = count(batch.len());
        let mut encoding = Batch::default();
        for span in batch {
            if encoding.add(&span) {
                rt::reactor_yield().await;
            }
        }
        let message = encoding.finish(&self.spans.setup.resource);
        let mut backoff = Backoff::new(rt::now());
        loop {
            let limit = self.spans.setup.timeout;
            let sent = within(&self.spans, limit, self.sender.send(&message)).await;
            let (reason, after) = match sent {
                Some(Outcome::Taken { rejected, remark }) => {
                    return self.taken(total, rejected.min(total), &remark);
                }
                Some(Outcome::Refused { reason }) => {
                    return self.lost(Fate::Refused, total, &reason);
                }
                Some(Outcome::Later { reason, after }) => (reason, after),
                None => {
                    self.sender.disconnect();
                    ("no answer in time".to_owned(), None)
                }
            };
            if self.is_over() {
                return self.lost(Fate::Shutdown, total, &reason);
            }
            let jitter = u64::from_le_bytes(self.spans.draw());
            let Some(pause) = backoff.next(rt::now(), after, jitter) else {
                return self.lost(Fate::Unreachable, total, &reason);
            };
            self.log_failure(&reason);
            self.rest(pause).await;
        }
    }

    /// Waits before the next attempt. The end of the broker cuts the pause short: one attempt is
    /// left then.
    async fn rest(&self, pause: Duration) {
        let spans = &self.spans;
        let until = spans.until.get();
        let closing = until.is_some();
        let left = until.map_or(pause, |until| until.since(rt::now()));
        let mut alarm = Alarm::new(pause.min(left));
        std::future::poll_fn(|cx| {
            while spans.work.poll(cx).is_ready() {}
            let ends = !closing && spans.until.get().is_some();
            if ends {
                return Poll::Ready(());
            }
            alarm.poll(cx)
        })
        .await;
    }

    fn taken(&mut self, total: u64, rejected: u64, remark: &str) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("spans are exported again");
        }
        (self.spans.tell)(Fate::Exported, total - rejected);
        if rejected > 0 {
            (self.spans.tell)(Fate::Refused, rejected);
        }
        if rejected > 0 || !remark.is_empty() {
            tracing::debug!(rejected, remark, "the collector has a remark on spans");
        }
    }

    fn lost(&mut self, fate: Fate, total: u64, reason: &str) {
        (self.spans.tell)(fate, total);
        self.log_failure(reason);
        self.failing = true;
    }

    /// At a bounded rate: a collector may be away for days.
    fn log_failure(&mut self, reason: &str) {
        let now = rt::now();
        if self.logged_at.is_some_and(|at| now.since(at) < QUIET) {
            return tracing::debug!(reason, "spans could not be exported");
        }
        self.logged_at = Some(now);
        let target = &self.spans.setup.target;
        tracing::warn!(host = %target.host, port = target.port, reason,
            "spans could not be exported; nothing else is affected");
    }

    /// Whether the time for the last spans is over.
    fn is_over(&self) -> bool {
        let until = self.spans.until.get();
        until.is_some_and(|until| rt::now() >= until)
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

/// Waits for `work`, for at most `limit`, and no longer than the exporter may live.
async fn within<T>(spans: &Spans, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let began = rt::now();
    let left = |limit: Duration| match spans.until.get() {
        Some(until) => limit.min(until.since(rt::now())),
        None => limit,
    };
    let mut alarm = Alarm::new(left(limit));
    let mut closing = spans.until.get().is_some();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        while spans.work.poll(cx).is_ready() {
            if spans.until.get().is_some() && !std::mem::replace(&mut closing, true) {
                let rest = limit.saturating_sub(rt::now().since(began));
                alarm.reset(left(rest));
            }
        }
        alarm.poll(cx).map(|()| None)
    })
    .await
}

/// Compresses off the executor: a full batch takes milliseconds.
async fn gzip(plain: Bytes) -> Bytes {
    let compressed = rt::blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain)?;
        encoder.finish()
    });
    match compressed.await {
        Some(Ok(compressed)) => compressed.into(),
        // A vector takes everything.
        Some(Err(_)) | None => Bytes::new(),
    }
}
