//! Who did what: each access to a channel as a record, published as an event, kept in a channel of
//! stored events, or written into the log.
//!
//! ```text
//!   access ─► begin ─► OpenReport ─finish─► buffer of this core ─► writer (background)
//!                      (its result)         bounded, drops          ├─► <prefix>.<resource>.…
//!                                                                   ├─► the audit channel, stored
//!                                                                   └─► the log
//! ```
//!
//! Nothing here holds up an access, nor fails one: what does not fit is dropped and counted by
//! reason. A record is written after the access has its result, and so behind the answer that the
//! client gets; the records of one core are in the order of the results. The records of the last
//! moment before a crash are lost with it.
//!
//! Accesses to the channels of the reports themselves are not published. What the broker sends
//! there is no access, so nothing here can feed itself.
//!
//! # Threading
//! One [`Notifications`] for each executor. Nothing crosses cores but what is published and stored,
//! the way of all messages.

mod names;
mod record;
mod writer;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use crate::model::Kind;
use crate::rt::{self, Notify, Queue};
use crate::shard::{ChannelAt, Shard};

use record::Record;

/// Records that may wait on one core, and their bytes.
const RECORDS_MAX: usize = 8_192;
const RECORD_BYTES_MAX: usize = 4 << 20;

/// How often the end of the broker looks whether all records are written.
const FINISH_STEP: Duration = Duration::from_millis(2);

/// Where records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Published to channels that begin with this.
    pub prefix: Option<Box<str>>,
    /// Written into the log, at a bounded rate.
    pub log: bool,
    /// Kept in this channel of stored events.
    pub audit: Option<Box<str>>,
}

impl Settings {
    /// Whether records go anywhere.
    #[must_use]
    pub const fn is_anything_wanted(&self) -> bool {
        self.prefix.is_some() || self.log || self.audit.is_some()
    }
}

/// An event of the broker: a record on its way.
#[derive(Clone, Copy, Debug)]
pub struct ReportEvent<'a> {
    /// The record's id.
    pub id: &'a str,
    /// Where it goes.
    pub channel: &'a str,
    /// The record as JSON.
    pub body: &'a [u8],
    /// When it is published.
    pub now_ns: i64,
}

/// Fills bytes with random ones.
pub type FillRandom<'a> = &'a mut dyn FnMut(&mut [u8]);

/// How records become what subscribers get, and what is stored: nothing here knows the contract.
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    /// Bytes of what `frame` appends.
    pub frame_len: fn(&ReportEvent<'_>) -> usize,
    /// Appends the frame of a plain event.
    pub frame: fn(&ReportEvent<'_>, &mut BytesMut) -> ChannelAt,
    /// Bytes of what `stored` appends.
    pub stored_len: fn(&ReportEvent<'_>) -> usize,
    /// Appends the stored form.
    pub stored: fn(&ReportEvent<'_>, &mut Vec<u8>),
    /// Makes an id, with random bytes.
    pub id: fn(FillRandom<'_>) -> String,
}

/// What is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Channels of a kind.
    Channels(Kind),
    /// The one who waits for a response; it has no channel.
    Responses,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A message, a request or a response is sent.
    Send,
    /// A subscription begins.
    Subscribe,
    /// Messages are taken by a single call.
    Receive,
    /// Messages are looked at and stay where they are.
    Peek,
    /// Messages are taken on a stream.
    Stream,
    /// Messages that were taken are done with.
    Ack,
    /// They go back.
    Nack,
    /// They go to another queue.
    Requeue,
    /// All messages of a queue are done with.
    AckAll,
    /// Channels are listed, made or unmade.
    Manage,
}

/// One access, as it begins.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// What is accessed.
    pub resource: Resource,
    /// The channel, as it was named, valid or not.
    pub channel: &'a str,
    /// The client id, as it was given.
    pub client: &'a str,
    /// The id of the message, the request or the transaction; may be empty.
    pub message_id: &'a str,
    /// What is done.
    pub deed: Deed,
}

/// What becomes of the records of one core.
pub struct Notifications {
    shard: Rc<Shard>,
    settings: RefCell<Rc<Settings>>,
    /// What the settings say, for those who ask with every message.
    wanted: Cell<bool>,
    encoding: Encoding,
    waiting: RefCell<VecDeque<Record>>,
    waiting_bytes: Cell<usize>,
    ready: Notify,
    /// Whether a record is with the writer, or a receipt is outstanding.
    busy: Cell<bool>,
}

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifications")
            .field("settings", &self.settings())
            .finish_non_exhaustive()
    }
}

impl Notifications {
    /// Starts the writer of an executor. While nothing is wanted it sleeps.
    #[must_use]
    pub fn start(shard: Rc<Shard>, settings: Settings, encoding: Encoding) -> Rc<Self> {
        let notifications = Rc::new(Self {
            shard,
            wanted: Cell::new(settings.is_anything_wanted()),
            settings: RefCell::new(Rc::new(settings)),
            encoding,
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            ready: Notify::new(),
            busy: Cell::new(false),
        });
        let writer = writer::Writer::new(notifications.clone());
        rt::spawn(Queue::Background, "notifications", writer.run());
        notifications
    }

    /// Changes where records go, from the next one on that is written.
    pub fn set_settings(&self, settings: Settings) {
        self.wanted.set(settings.is_anything_wanted());
        self.settings.replace(Rc::new(settings));
    }

    /// Whether records go anywhere.
    #[inline]
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.wanted.get()
    }

    fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// Begins the record of an access; `None` when nobody wants it.
    #[must_use]
    pub fn begin(self: &Rc<Self>, access: &Access<'_>) -> Option<OpenReport> {
        if !self.wanted.get() {
            return None;
        }
        let settings = self.settings.borrow();
        let prefix = settings.prefix.as_deref();
        let published = prefix.is_some_and(|prefix| !is_report(access, prefix));
        if !published && !settings.log && settings.audit.is_none() {
            return None;
        }
        let record = Record::begin(access, published, rt::unix_ns());
        Some(OpenReport {
            to: self.clone(),
            record: Some(Box::new(record)),
        })
    }

    fn push(&self, record: Record) {
        let counters = &self.shard.counters;
        let bytes = record.bytes();
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= RECORDS_MAX || self.waiting_bytes.get() + bytes > RECORD_BYTES_MAX {
            return counters.notification_drops_buffer_full.increment();
        }
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        waiting.push_back(record);
        self.ready.raise();
    }

    fn pop(&self) -> Option<Record> {
        let record = self.waiting.borrow_mut().pop_front()?;
        let left = self.waiting_bytes.get().saturating_sub(record.bytes());
        self.waiting_bytes.set(left);
        Some(record)
    }

    /// Waits until every record is where it goes, at most for `patience`: for the end of the
    /// broker, before its logs are closed.
    pub async fn finish(&self, patience: Duration) {
        let began = rt::now();
        while self.busy.get() || !self.waiting.borrow().is_empty() {
            if rt::now().since(began) > patience {
                let left = self.waiting.borrow().len();
                tracing::warn!(left, "records of accesses were not written in time");
                return;
            }
            rt::sleep(FINISH_STEP).await;
        }
    }
}

/// Whether an access is to channels of the reports.
fn is_report(access: &Access<'_>, prefix: &str) -> bool {
    access.resource == Resource::Channels(Kind::Events) && names::is_below(access.channel, prefix)
}

/// The record of an access whose result is not known yet. Dropped before that, it says so: its
/// client has gone, or its connection.
#[derive(Debug)]
pub struct OpenReport {
    to: Rc<Notifications>,
    record: Option<Box<Record>>,
}

impl OpenReport {
    /// Adds the result: `Ok`, or why not.
    pub fn finish(mut self, result: Result<(), Cow<'static, str>>) {
        let result = result.err().unwrap_or(Cow::Borrowed("OK"));
        self.end(result);
    }

    fn end(&mut self, result: Cow<'static, str>) {
        if let Some(mut record) = self.record.take() {
            record.end(result, rt::unix_ns());
            self.to.push(*record);
        }
    }
}

impl Drop for OpenReport {
    fn drop(&mut self) {
        self.end(Cow::Borrowed("unknown: the client has gone"));
    }
}
