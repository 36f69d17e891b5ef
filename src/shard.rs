//! One executor's world: the channels it owns, the subscribers it serves, its way to the others.
//!
//! ```text
//!   grpc ──publish──► Shard ──route──► own tables ──select──► outbox (subscriber here)
//!                       │                              └────► lane ──► pump ──► outbox (elsewhere)
//!                       └─ channel owned elsewhere ──► lane ──► pump ──► own tables there
//! ```
//!
//! A channel is owned by one shard: [`Shard::owner`], a pure function of its name. The owner holds
//! the literal subscriptions to it; subscriptions with wildcards are held by every shard. So the
//! owner alone sees all that match an event, and picks one member of each group.
//!
//! A subscriber lives where its connection does. Its key names it there; owners know it as
//! (core, key). Requests are remembered where the requester lives; the reply channel that
//! responders see leads there from any core.
//!
//! # Threading
//! A [`Shard`] belongs to one executor and is shared there by `Rc`. Other executors reach it by
//! the mesh only.

mod admission;
mod ask_all;
mod channels;
mod clients;
mod keyed;
mod lane;
mod message;
mod outbox;
mod publish;
mod pump;
mod queues;
mod readiness;
mod requests;
mod stored;
mod subscribe;
mod taps;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use foldhash::fast::FixedState;

use crate::engine::cache::ResponseCache;
use crate::engine::clock::SteadyClock;
use crate::engine::pending::{PendingKey, PendingRequests};
use crate::engine::subscriptions::{SubscriberAddress, SubscriptionId, SubscriptionTable};
use crate::model::{Kind, ShardId};
use crate::routing::{self, RouteError, RoutingTable, Target};
use crate::rt::{self, Notify};
use crate::telemetry::counters::{Counters, CountersSnapshot};
use crate::telemetry::latency::Latencies;
use crate::telemetry::status::ShardReport;
use crate::wire::chunks::Pieces;
use ringmq_storage::SlotId;

pub use admission::{Admission, Overload, Overloaded};
pub use channels::{
    ChannelChange, ChannelFacts, ChannelList, ChannelQuestion, ChannelTotals, LATELY_MS, ListsBusy,
    PositionLag, Rank, Survey, SurveyQuestion, Surveyed, WhichChannels, WriteChannel,
};
pub use clients::{ClientIsHere, ClientQuestion, merge_client_reports};
pub use lane::{Bounds as LaneBounds, Full};
pub use message::ChannelAt;
pub use outbox::{Budget, EndReason, Offered, Outbox};
pub use pump::Seat;
pub use queues::{
    Action, BodyPolicy, Consumer, ConsumerEvent, Delivery, HandedMessage, PollRequest, Polled,
    QueueFraming, QueuePolicy, Redrive, Redriven, SettleFailure, Which,
};
pub use readiness::Readiness;
pub use requests::{Ask, Outcome, Pending, Refused, Responded};
pub(crate) use stored::record;
pub use stored::{
    ChannelCounts, ChannelPolicy, EVENT_ENCODING, Framing, LogPlacement, OpenedLog, Receipts,
    Start, StoreBusy, StoreFailure, StoredChunk, StoredRefused, StoredSeed, StoredSettings,
    StoredSubscribe, StoredSubscriber,
};
pub use subscribe::Subscriber;
pub use taps::{QUEUE_FIELD, Tap, TapEvent, TapRefused, Tapped, TappedWhat, Unanswered};

use channels::Channels;
use clients::Clients;
use keyed::Keyed;
use lane::Lane;
use requests::Waiter;
use stored::Stored;
use taps::Taps;
use timers::Timers;

/// The bounds of one shard; each is a configuration key of the same name.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that may wait for one subscriber.
    pub subscriber_buffer_bytes: usize,
    /// Bytes that may wait for all subscribers of one core.
    pub delivery_buffer_bytes_max: usize,
    /// Requests that may wait for their answer on one core.
    pub pending_requests_max: usize,
    /// Channel names whose matches are remembered, for each kind.
    pub match_cache_entries: usize,
    /// Bytes of remembered query answers on one core.
    pub query_cache_bytes: usize,
    /// The lane of work to each other core.
    pub lane: LaneBounds,
    /// Whether a request without a responder fails at once.
    pub fail_fast: bool,
}

/// Where channels live: the same on every core, never changed while the broker runs.
pub trait Placement: 'static {
    /// The slot of a channel.
    fn slot(&self, channel: &str) -> SlotId;

    /// The shard that owns a channel's subscriptions.
    fn owner(&self, channel: &str) -> ShardId;
}

/// One shard.
pub struct Shard {
    id: u16,
    count: u16,
    settings: Settings,
    placement: Box<dyn Placement>,
    admission: Admission,
    stored: Stored,
    /// Consumers of queues whose calls are on this core.
    consumers: RefCell<Keyed<Rc<queues::Local>>>,
    queue_clock: RefCell<SteadyClock>,
    /// Subscriptions of events, commands and queries that this shard holds.
    tables: [RefCell<SubscriptionTable>; 3],
    held: RefCell<HashMap<(usize, SubscriberAddress), SubscriptionId, FixedState>>,
    subscribers: RefCell<subscribe::Subscribers>,
    budget: Rc<Budget>,
    cache: RefCell<ResponseCache>,
    pending: RefCell<PendingRequests<Rc<Waiter>>>,
    timers: Timers<PendingKey>,
    /// The lanes, by peer; the place of this shard is empty.
    lanes: Vec<Option<Lane>>,
    random: RefCell<Random>,
    routing: RefCell<RoutingTable>,
    channels: Channels,
    /// Questions to all cores that wait for answers.
    asked: ask_all::Asked,
    clients: Clients,
    taps: Taps,
    draining: Cell<bool>,
    drained: RefCell<slab::Slab<Notify>>,
    /// What is counted on this core.
    pub counters: Counters,
    /// How long calls took on this core.
    pub latencies: Latencies,
    // Reused by every publish: nothing is allocated on the way of an event.
    chosen: RefCell<Vec<SubscriberAddress>>,
    scratch: RefCell<BytesMut>,
    /// What goes to other cores and is copied or sent there at once.
    pieces: RefCell<Pieces>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// Makes shard `id` of `count`. It lives when [`Shard::run`] does.
    #[must_use]
    pub fn new(
        id: ShardId,
        count: u16,
        settings: Settings,
        placement: Box<dyn Placement>,
        stored: StoredSeed,
    ) -> Rc<Self> {
        let id = id.number();
        let table = || RefCell::new(SubscriptionTable::new(settings.match_cache_entries));
        let lane = |peer: u16| (peer != id).then(|| Lane::new(settings.lane));
        let mut clock = SteadyClock::new(rt::now().as_ns(), rt::unix_ns().cast_unsigned());
        let now_ns = clock.read(rt::now().as_ns(), rt::unix_ns().cast_unsigned());
        let admission = Admission::new(id, stored.settings.inflight_bytes_max);
        let stored = Stored::new(stored, now_ns);
        Rc::new(Self {
            id,
            count,
            settings,
            placement,
            admission,
            stored,
            consumers: RefCell::default(),
            queue_clock: RefCell::new(clock),
            tables: [table(), table(), table()],
            held: RefCell::default(),
            subscribers: RefCell::default(),
            budget: Rc::new(Budget::new(settings.delivery_buffer_bytes_max)),
            cache: RefCell::new(ResponseCache::new(settings.query_cache_bytes)),
            pending: RefCell::new(PendingRequests::new(id, settings.pending_requests_max)),
            timers: Timers::new(),
            lanes: (0..count).map(lane).collect(),
            random: RefCell::default(),
            routing: RefCell::default(),
            channels: Channels::default(),
            asked: RefCell::default(),
            clients: Clients::default(),
            taps: Taps::default(),
            draining: Cell::new(false),
            drained: RefCell::default(),
            counters: Counters::default(),
            latencies: Latencies::default(),
            chosen: RefCell::default(),
            scratch: RefCell::default(),
            pieces: RefCell::default(),
        })
    }

    /// This shard's number, from 0.
    #[must_use]
    pub fn id(&self) -> ShardId {
        ShardId::new(self.id)
    }

    /// The shard that owns a channel.
    #[must_use]
    pub fn owner(&self, channel: &str) -> ShardId {
        if self.count == 1 {
            ShardId::default()
        } else {
            self.placement.owner(channel)
        }
    }

    /// Finds the targets of a route for a sender of the kind `own`; at least one is of that kind.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn route(&self, route: &str, own: Kind) -> Result<Vec<Target>, RouteError> {
        routing::expand(route, own, &self.routing.borrow())
    }

    /// Replaces the table that routes ask.
    pub fn set_routing_table(&self, table: RoutingTable) {
        self.routing.replace(table);
    }

    /// Fills `bytes` from the operating system's generator, by way of a buffer.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        self.random.borrow_mut().fill(bytes);
    }

    /// Begins to end: subscriptions are told to, new ones and new requests are refused, and every
    /// [`Shutdown`] watch is woken.
    pub fn drain(&self) {
        self.draining.set(true);
        self.subscribers.borrow().end_all(EndReason::Shutdown);
        let receivers = self.stored.receivers.borrow();
        receivers.end_all(EndReason::Shutdown);
        drop(receivers);
        self.end_polls();
        self.taps.end_all();
        self.drained
            .borrow()
            .iter()
            .for_each(|(_, watch)| watch.raise());
    }

    /// Whether [`Shard::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Fails every request that still waits; for the end of the grace period.
    pub fn fail_pending(&self) {
        let waiters = self.pending.borrow_mut().drain();
        waiters
            .iter()
            .for_each(|waiter| waiter.finish(Outcome::ShuttingDown));
    }

    /// Watches for the drain; for streams that would otherwise live on.
    #[must_use]
    pub fn watch_shutdown(self: &Rc<Self>) -> Shutdown {
        let raised = Notify::new();
        if self.draining.get() {
            raised.raise();
        }
        let index = self.drained.borrow_mut().insert(raised.clone());
        Shutdown {
            shard: self.clone(),
            index,
            raised,
        }
    }

    /// Counts a turn of the executor.
    pub fn turned(&self, turn: Duration) {
        let ns = u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.executor_turn.record_ns(ns);
        self.admission.turned(turn);
        if turn > rt::turn::STALL {
            self.counters.executor_stalls.increment();
        }
    }

    /// What was counted here, and what lives here at this moment. Goes over all channels: not for
    /// what is asked again and again.
    #[must_use]
    pub fn counters(&self) -> CountersSnapshot {
        self.stored.measure(&self.counters);
        self.counters_light()
    }

    /// The same without a walk over the channels. What only that can tell is as old as the last
    /// such walk: waiting, leased, delayed and moving messages of queues, live bytes and the index
    /// of the log. A [`Survey`] knows them.
    #[must_use]
    pub fn counters_light(&self) -> CountersSnapshot {
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let counters = &self.counters;
        counters
            .requests_pending
            .set(level(self.pending.borrow().len()));
        counters
            .delivery_buffer_bytes
            .set(level(self.budget.used()));
        let cache = self.cache.borrow();
        counters.query_cache_bytes.set(level(cache.bytes()));
        let evictions = &counters.query_cache_evictions;
        evictions.add(cache.counters().evictions.saturating_sub(evictions.value()));
        counters.timers.set(level(self.timers.len()));
        counters
            .mesh_depth
            .set(level(self.lanes.iter().flatten().map(Lane::depth).sum()));
        let held = self.tables.iter().map(|table| table.borrow().len()).sum();
        counters.subscriptions_held.set(level(held));
        self.stored.measure_light(counters);
        self.admission.measure(counters);
        let consumers = self.consumers.borrow().iter().count();
        counters.queue_consumers.set(level(consumers));
        counters.snapshot()
    }

    /// This core's part of the status report. What the runtime counts is the executor's that calls.
    #[must_use]
    pub fn report(&self) -> ShardReport {
        self.take_runtime_counts();
        self.report_with(self.counters())
    }

    /// The report around counters that were read already.
    #[must_use]
    pub fn report_with(&self, counters: CountersSnapshot) -> ShardReport {
        let latencies = self.latencies.snapshot();
        ShardReport {
            shard: self.id,
            connections: usize::try_from(counters.connections).unwrap_or(usize::MAX),
            subscriptions: counters.subscriptions_events
                + counters.subscriptions_events_store
                + counters.subscriptions_commands
                + counters.subscriptions_queries,
            pending: counters.requests_pending,
            tasks: counters.tasks,
            task_panics: counters.task_panics,
            timers: counters.timers,
            delivery_buffer_bytes: counters.delivery_buffer_bytes,
            turns: latencies.executor_turn.summary(),
            stalls: counters.executor_stalls,
            watchdog: None,
            latencies,
            counters,
        }
    }

    /// Takes over what the runtime seam counts, which knows no counters.
    pub fn take_runtime_counts(&self) {
        let (tasks, traffic) = (rt::task_stats(), rt::traffic());
        let counters = &self.counters;
        counters.tasks.set(tasks.live);
        let rise = |counter: &crate::telemetry::counters::Counter, to: u64| {
            counter.add(to.saturating_sub(counter.value()));
        };
        rise(&counters.task_panics, tasks.panics);
        rise(&counters.received_bytes, traffic.received);
        rise(&counters.sent_bytes, traffic.sent);
    }

    fn table(&self, kind: Kind) -> Option<(usize, &RefCell<SubscriptionTable>)> {
        let index = match kind {
            Kind::Events => 0,
            Kind::Commands => 1,
            Kind::Queries => 2,
            Kind::EventsStore | Kind::Queues => return None,
        };
        self.tables.get(index).map(|table| (index, table))
    }

    fn lane(&self, peer: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(peer))?.as_ref()
    }

    /// Waits until the lane to the owner of `channel` has room for `bytes`.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn room(&self, channel: &str, bytes: usize) -> Result<(), Full> {
        match self.lane(self.owner(channel).number()) {
            Some(lane) => lane.room(bytes).await,
            None => Ok(()),
        }
    }
}

/// Tells a long-lived stream that the broker ends; unregisters when dropped.
#[derive(Debug)]
pub struct Shutdown {
    shard: Rc<Shard>,
    index: usize,
    raised: Notify,
}

impl Shutdown {
    /// Ready when the broker ends.
    pub fn poll(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.raised.poll(cx)
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        self.shard.drained.borrow_mut().try_remove(self.index);
    }
}

/// Random bytes, drawn from the operating system a page at a time.
#[derive(Debug)]
struct Random {
    page: Vec<u8>,
    at: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self {
            page: vec![0; 4096],
            at: usize::MAX,
        }
    }
}

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.page.get(self.at).is_none() {
                // The generator cannot fail once it is seeded, which it is long before a broker
                // starts; without it no secret can be made, so the task ends.
                getrandom::fill(&mut self.page).expect("the operating system has randomness");
                self.at = 0;
            }
            if let Some(drawn) = self.page.get_mut(self.at) {
                *byte = std::mem::take(drawn);
            }
            self.at += 1;
        }
    }
}
