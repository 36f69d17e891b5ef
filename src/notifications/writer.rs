//! The task that writes the records of one core.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::names::report_channel;
use super::record::Record;
use super::{Notifications, ReportEvent};
use crate::engine::stored::StoredKind;
use crate::rt::{self, Instant};
use crate::shard::{Full, Receipts, StoreBusy, StoreFailure};

/// Records that are written in one turn.
const RECORDS_PER_TURN: usize = 32;

/// Records of the audit channel that wait for their commit; then the writer waits, too.
const RECEIPTS_MAX: usize = 1_024;

/// Lines of one core in the log, for each second.
const LINES_MAX: u32 = 100;
const LINES_WINDOW: Duration = Duration::from_secs(1);

/// A log that takes no records is named at most this often.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Takes records out of the buffer and brings them where they go.
pub(super) struct Writer {
    from: Rc<Notifications>,
    receipts: Receipts,
    // Reused by every record.
    body: Vec<u8>,
    channel: String,
    lines: Lines,
    failure_logged: Option<Instant>,
}

/// What the writer does next.
enum Next {
    Records,
    Receipt(Result<(), StoreFailure>),
}

impl Writer {
    pub(super) fn new(from: Rc<Notifications>) -> Self {
        Self {
            receipts: from.shard.receipts(),
            from,
            body: Vec::new(),
            channel: String::new(),
            lines: Lines::default(),
            failure_logged: None,
        }
    }

    /// Runs as long as the executor.
    pub(super) async fn run(mut self) {
        let mut written = 0_usize;
        loop {
            while let Some(record) = self.from.pop() {
                self.from.busy.set(true);
                self.write(&record).await;
                written += 1;
                if written.is_multiple_of(RECORDS_PER_TURN) {
                    rt::reactor_yield().await;
                }
            }
            self.from.busy.set(self.receipts.outstanding() > 0);
            match std::future::poll_fn(|cx| self.poll_next(cx)).await {
                Next::Records => {}
                Next::Receipt(outcome) => self.stored(outcome),
            }
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.from.ready.poll(cx).is_ready() {
            return Poll::Ready(Next::Records);
        }
        self.receipts.poll_front(cx).map(Next::Receipt)
    }

    async fn write(&mut self, record: &Record) {
        let shard = self.from.shard.clone();
        let settings = self.from.settings();
        if settings.log {
            self.lines.write(record);
        }
        let prefix = settings.prefix.as_deref().filter(|_| record.published);
        let audit = settings.audit.as_deref();
        if prefix.is_none() && audit.is_none() {
            return;
        }
        let id = (self.from.encoding.id)(&mut |bytes| shard.fill_random(bytes));
        self.body.clear();
        record.write(&id, &mut self.body);
        if let Some(prefix) = prefix {
            self.publish(record, prefix, &id).await;
        }
        if let Some(channel) = audit {
            self.store(channel, &id).await;
        }
    }

    async fn publish(&mut self, record: &Record, prefix: &str, id: &str) {
        let from = &self.from;
        report_channel(prefix, record.resource, &record.channel, &mut self.channel);
        let event = ReportEvent {
            id,
            channel: &self.channel,
            body: &self.body,
            now_ns: rt::unix_ns(),
        };
        let bytes = (from.encoding.frame_len)(&event);
        let counters = &from.shard.counters;
        loop {
            let encode = |out: &mut _| (from.encoding.frame)(&event, out);
            match from.shard.publish(event.channel, bytes, encode) {
                Ok(()) => return counters.notifications_published.increment(),
                Err(Full) => {
                    if from.shard.room(event.channel, bytes).await.is_err() {
                        return counters.notification_drops_mesh_full.increment();
                    }
                }
            }
        }
    }

    async fn store(&mut self, channel: &str, id: &str) {
        while let Some(outcome) = self.receipts.try_front() {
            self.stored(outcome);
        }
        while self.receipts.outstanding() >= RECEIPTS_MAX {
            let outcome = std::future::poll_fn(|cx| self.receipts.poll_front(cx)).await;
            self.stored(outcome);
        }
        let from = &self.from;
        let event = ReportEvent {
            id,
            channel,
            body: &self.body,
            now_ns: 0,
        };
        let bytes = (from.encoding.stored_len)(&event);
        let mut encode = |out: &mut Vec<u8>| (from.encoding.stored)(&event, out);
        while let Err(StoreBusy) = from.shard.store_message(
            StoredKind::EventsStore,
            channel,
            bytes,
            &mut encode,
            &self.receipts,
        ) {
            if from.shard.store_room(channel, bytes).await.is_err() {
                return from
                    .shard
                    .counters
                    .notification_drops_store_full
                    .increment();
            }
        }
    }

    /// Counts what became of a record of the audit channel.
    fn stored(&mut self, outcome: Result<(), StoreFailure>) {
        let counters = &self.from.shard.counters;
        match outcome {
            Ok(()) => counters.notifications_stored.increment(),
            Err(failure) => {
                counters.notification_drops_store_failed.increment();
                let recently = |at: Instant| rt::now().since(at) < FAILURE_LOGGED_EVERY;
                if !self.failure_logged.is_some_and(recently) {
                    self.failure_logged = Some(rt::now());
                    tracing::warn!(%failure, "the audit channel took no record");
                }
            }
        }
    }
}

/// Lines of the log, at a bounded rate.
#[derive(Default)]
struct Lines {
    /// When the current window began.
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    fn write(&mut self, record: &Record) {
        let now = rt::now();
        let over = |began: Instant| now.since(began) >= LINES_WINDOW;
        if self.began.is_none_or(over) {
            self.began = Some(now);
            self.written = 0;
            let left_out = std::mem::take(&mut self.left_out);
            if left_out > 0 {
                tracing::warn!(left_out, "accesses were not written into the log");
            }
        }
        if self.written >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.written += 1;
        record.log();
    }
}
