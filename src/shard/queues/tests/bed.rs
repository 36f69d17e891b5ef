//! Shards on executors of their own, and a client of theirs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::RealFs;
use ringmq_storage::log::{Log, Mutations, Options};
use ringmq_storage::record::queue::QueueHead;
use ringmq_storage::{SlotId, StoreId};

use crate::engine::stored::{Slots, StoredKind};
use crate::model::ShardId;
use crate::rt::{
    self,
    start::{Plan, start},
};
use crate::shard::{
    Action, BodyPolicy, ChannelCounts, ChannelPolicy, Consumer, ConsumerEvent, Framing, LaneBounds,
    LogPlacement, OpenedLog, Placement, PollRequest, Polled, QueueFraming, Receipts, Seat,
    Settings, SettleFailure, Shard, StoreFailure, StoredSeed, StoredSettings, Which,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Every channel in one slot, which the last shard has; those elsewhere in one of the first.
struct InOneSlot {
    shards: u16,
}

impl Placement for InOneSlot {
    fn slot(&self, channel: &str) -> SlotId {
        let last = !channel.starts_with("elsewhere");
        SlotId::new(if last { self.shards - 1 } else { 0 }).unwrap()
    }

    fn owner(&self, channel: &str) -> ShardId {
        ShardId::new(self.slot(channel).index())
    }
}

/// A policy, with what the names of channels say of them.
fn policy_of(channel: &str, general: &ChannelPolicy) -> ChannelPolicy {
    let mut policy = general.clone();
    if channel.contains("small") {
        policy.limits.messages_max = 1;
    }
    if channel.contains("parked") {
        policy.queue.dead_letter = Some("elsewhere.parking".into());
    }
    policy
}

/// A store that outlives its shards.
pub(super) struct Bed {
    cores: u16,
    policy: ChannelPolicy,
    directory: tempfile::TempDir,
}

impl Bed {
    pub(super) fn new(cores: u16) -> Self {
        Self::with_policy(cores, ChannelPolicy::default())
    }

    pub(super) fn with_policy(cores: u16, policy: ChannelPolicy) -> Self {
        Self {
            cores,
            policy,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts the shards and runs a test on the first of them.
    pub(super) fn run<F: Future<Output = ()> + 'static>(
        &mut self,
        test: impl Fn(Rc<Shard>) -> F + Clone + Send + 'static,
    ) {
        let plan = Plan {
            cpu: None,
            spin: None,
        };
        let plans = vec![plan; usize::from(self.cores)];
        let (tx, rx) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let seeds: Vec<_> = Seat::all(self.cores)
            .into_iter()
            .zip(0..)
            .map(|(seat, number)| (seat, self.open(number)))
            .collect();
        let (cores, told, policy) = (self.cores, done.clone(), self.policy.clone());
        let executors = start(&plans, seeds, move |id, (seat, log)| {
            let (test, tx, done) = (test.clone(), tx.clone(), told.clone());
            let policy = policy.clone();
            async move {
                let id = ShardId::new(u16::try_from(id).unwrap());
                let shard = shard(id, cores, policy, log);
                shard.run(seat).await;
                if id.number() == 0 {
                    test(shard).await;
                    tx.send(()).unwrap();
                }
                drop(tx);
                while !done.load(Ordering::Relaxed) {
                    rt::sleep(Duration::from_millis(1)).await;
                }
                rt::blocking_ended().await;
            }
        })
        .unwrap();
        // A test that panics ends its executor, and drops its sender.
        let outcome = rx.recv_timeout(PATIENCE);
        done.store(true, Ordering::Relaxed);
        outcome.expect("the test ends in time, and well");
        executors.join();
    }

    fn open(&self, number: u16) -> OpenedLog {
        let slots = SlotId::all().filter(|slot| slot.index() % self.cores == number);
        let options = Options {
            store: StoreId::from_bytes([7; 16]),
            log: number,
            directory: self.directory.path().join(number.to_string()),
            slots: slots.collect(),
            segment_bytes: 4 << 20,
            segment_bytes_first: 1 << 20,
            frame_bytes_max: 256 << 10,
            batch_bytes_max: 1 << 20,
            free_bytes_min: 0,
            reserve_bytes: 64 << 10,
            checkpoint_every_bytes: 4 << 20,
            keyring: Keyring::default(),
            mutations: Mutations::default(),
        };
        let mut slots = Slots::new(options.slots.iter().copied());
        let opened = Log::open(Arc::new(RealFs), options, &mut slots).unwrap();
        slots.go_live();
        OpenedLog {
            number,
            log: opened.log,
            slots,
            channels: Arc::new(ChannelCounts::new(self.cores)),
        }
    }
}

fn shard(id: ShardId, cores: u16, policy: ChannelPolicy, log: OpenedLog) -> Rc<Shard> {
    let settings = Settings {
        subscriber_buffer_bytes: 1 << 20,
        delivery_buffer_bytes_max: 1 << 20,
        pending_requests_max: 10,
        match_cache_entries: 10,
        query_cache_bytes: 1 << 10,
        lane: LaneBounds {
            messages_max: 10_000,
            bytes_max: 10 << 20,
        },
        fail_fast: false,
    };
    let stored = StoredSeed {
        settings: StoredSettings {
            strict: false,
            sync_interval: Duration::from_millis(1),
            inflight_bytes_max: 10 << 20,
            framing: Framing {
                before: |_, _, _, _| {},
                after: |_, _, _| {},
            },
            queue_framing: QueueFraming {
                before: |_, message, out| {
                    let before = format!("{}:{}:", message.sequence, message.receives);
                    out.extend_from_slice(before.as_bytes());
                    let QueueHead {
                        moved,
                        origin,
                        rerouted,
                        ..
                    } = message.head;
                    if let Some((reason, _)) = moved {
                        let dead = if rerouted { "dead " } else { "" };
                        let came = format!("({reason} {dead}from {origin})");
                        out.extend_from_slice(came.as_bytes());
                    }
                },
                after: |_, out| out.extend_from_slice(b";"),
                policy: |_| BodyPolicy {
                    receives_max: 2,
                    ..BodyPolicy::default()
                },
            },
            policy: Box::new(move |channel| policy_of(channel, &policy)),
            cursor_expiry: None.into(),
            purge_inactive: None.into(),
            file_hook: None,
        },
        placement: LogPlacement {
            logs: cores,
            shards: cores,
        },
        logs: vec![log],
        fs: Arc::new(RealFs),
    };
    let placement = Box::new(InOneSlot { shards: cores });
    Shard::new(id, cores, settings, placement, stored)
}

/// What an answer contains.
pub(super) fn text(polled: &Polled) -> String {
    String::from_utf8(polled.parts.concat()).unwrap()
}

/// A client: it sends, and is a consumer.
pub(super) struct Client {
    shard: Rc<Shard>,
    pub(super) consumer: Consumer,
    receipts: Receipts,
    pub(super) tickets: RefCell<Vec<u64>>,
    queued: Cell<usize>,
}

impl Client {
    pub(super) fn new(shard: &Rc<Shard>) -> Self {
        Self {
            shard: shard.clone(),
            consumer: shard.consumer(),
            receipts: shard.receipts(),
            tickets: RefCell::default(),
            queued: Cell::new(0),
        }
    }

    pub(super) async fn send(&self, channel: &str, body: &str) {
        self.send_at(channel, body, 0).await;
    }

    pub(super) async fn send_at(&self, channel: &str, body: &str, visible_at_ns: u64) {
        self.queue(channel, body, visible_at_ns);
        self.all_stored().await;
    }

    /// Hands a message over; nobody waits for it.
    pub(super) fn queue(&self, channel: &str, body: &str, visible_at_ns: u64) {
        self.queue_with(channel, body, |head| head.visible_at_ns = visible_at_ns);
    }

    /// The same with anything else in its head.
    pub(super) fn queue_with(
        &self,
        channel: &str,
        body: &str,
        change: impl FnOnce(&mut QueueHead<'_>),
    ) {
        let mut head = QueueHead {
            visible_at_ns: 0,
            expires_at_ns: 0,
            receives_max: 1024,
            rerouted: false,
            policy_cleared: false,
            dead_letter: "",
            origin: "",
            moved: None,
        };
        change(&mut head);
        let len = head.encoded_len() + body.len();
        let mut encode = |out: &mut Vec<u8>| {
            head.encode(out);
            out.extend_from_slice(body.as_bytes());
        };
        let kind = StoredKind::Queue;
        self.shard
            .store_message(kind, channel, len, &mut encode, &self.receipts)
            .unwrap();
        self.queued.set(self.queued.get() + 1);
    }

    pub(super) async fn all_stored(&self) {
        for _ in 0..self.queued.take() {
            let stored = std::future::poll_fn(|cx| self.receipts.poll_front(cx)).await;
            stored.unwrap();
        }
    }

    pub(super) async fn event(&self) -> ConsumerEvent {
        std::future::poll_fn(|cx| self.consumer.poll_event(cx)).await
    }

    pub(super) fn ask(&self, channel: &str, items_max: u32, wait: Duration) -> u64 {
        self.ask_with(channel, |request| {
            request.items_max = items_max;
            request.wait = wait;
        })
    }

    pub(super) fn ask_with(&self, channel: &str, change: impl FnOnce(&mut PollRequest<'_>)) -> u64 {
        let mut request = PollRequest {
            channel,
            items_max: 10_000,
            bytes_max: 1 << 20,
            wait: Duration::from_secs(5),
            peek: false,
            visibility: None,
            field: 1,
        };
        change(&mut request);
        self.consumer.poll(&request)
    }

    pub(super) async fn poll(&self, channel: &str, items_max: u32, wait: Duration) -> Polled {
        let ticket = self.ask(channel, items_max, wait);
        self.polled(ticket).await.unwrap()
    }

    pub(super) async fn polled(&self, asked: u64) -> Result<Polled, StoreFailure> {
        match self.event().await {
            ConsumerEvent::Polled { ticket, outcome } => {
                assert_eq!(ticket, asked);
                outcome
            }
            event => panic!("{event:?}"),
        }
    }

    pub(super) async fn settle(
        &self,
        polled: &Polled,
        which: Which,
        action: Action,
    ) -> Result<(), SettleFailure> {
        let delivery = polled.delivery.unwrap();
        let asked = self.consumer.settle(delivery, which, action, true);
        match self.event().await {
            ConsumerEvent::Settled { ticket, outcome } => {
                assert_eq!(ticket, asked);
                outcome
            }
            event => panic!("{event:?}"),
        }
    }

    pub(super) async fn drain(&self, channel: &str) -> u64 {
        let asked = self.consumer.drain(channel);
        match self.event().await {
            ConsumerEvent::Drained { ticket, outcome } => {
                assert_eq!(ticket, asked);
                outcome.unwrap()
            }
            event => panic!("{event:?}"),
        }
    }
}
