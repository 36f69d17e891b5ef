//! Cores with a shard, its service and its records each, and clients inside the process.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ringmq_storage::cipher::Keyring;
use ringmq_storage::fs::RealFs;
use ringmq_storage::log::{Log, Mutations, Options};
use ringmq_storage::{SlotId, StoreId};

use crate::engine::clients::ClientReport;
use crate::engine::stored::Slots;
use crate::grpc::{GrpcService, ServerInfo, queue_framing, report_encoding, stored_framing};
use crate::model::ShardId;
use crate::notifications::{self, Notifications};
use crate::rt::{
    self,
    start::{Plan, start},
};
use crate::shard::{
    ChannelCounts, ChannelPolicy, ClientQuestion, LaneBounds, LogPlacement, OpenedLog, Placement,
    Seat, Settings, Shard, StoredSeed, StoredSettings, merge_client_reports,
};
use crate::telemetry::counters::CountersSnapshot;
use crate::wire::local::{LocalCall, LocalClient};
use crate::wire::server::{ConnectionControl, Settings as WireSettings};
use crate::wire::status::Status;

const PATIENCE: Duration = Duration::from_secs(60);

/// Channels whose names end in a digit live on the core of that digit, the others on the first.
struct ByDigit(u16);

impl Placement for ByDigit {
    fn slot(&self, channel: &str) -> SlotId {
        let digit = channel
            .chars()
            .next_back()
            .and_then(|last| last.to_digit(10));
        let digit = u16::try_from(digit.unwrap_or(0)).unwrap();
        SlotId::new(digit % self.0).unwrap()
    }

    fn owner(&self, channel: &str) -> ShardId {
        ShardId::new(self.slot(channel).index())
    }
}

/// One core, as a test sees it.
pub(super) struct World {
    pub(super) shard: Rc<Shard>,
    pub(super) notifications: Rc<Notifications>,
    service: Rc<GrpcService>,
    wire: Rc<WireSettings>,
    pub(super) core: u16,
    cores: u16,
    arrived: Arc<AtomicUsize>,
    meetings: Cell<usize>,
}

/// Runs a test on so many cores at once.
pub(super) fn run<F: Future<Output = ()> + 'static>(
    cores: u16,
    settings: &notifications::Settings,
    test: impl Fn(Rc<World>) -> F + Clone + Send + 'static,
) {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let plans = vec![plan; usize::from(cores)];
    let (tx, rx) = mpsc::channel();
    let (done, arrived) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let seeds: Vec<_> = Seat::all(cores)
        .into_iter()
        .zip(0..)
        .map(|(seat, number)| (seat, open(cores, number, directory.path())))
        .collect();
    let (told, settings) = (done.clone(), settings.clone());
    let executors = start(&plans, seeds, move |id, (seat, log)| {
        let (test, tx, done) = (test.clone(), tx.clone(), told.clone());
        let (settings, arrived) = (settings.clone(), Arc::clone(&arrived));
        async move {
            let core = u16::try_from(id).unwrap();
            let shard = shard(core, cores, log);
            shard.run(seat).await;
            let notifications = Notifications::start(shard.clone(), settings, report_encoding());
            let info = ServerInfo {
                host: "here".into(),
                started_at_seconds: 0,
            };
            let service = GrpcService::new(shard.clone(), info);
            let world = World {
                service: Rc::new(service.with_notifications(notifications.clone())),
                shard,
                notifications,
                wire: Rc::default(),
                core,
                cores,
                arrived,
                meetings: Cell::new(0),
            };
            test(Rc::new(world)).await;
            tx.send(()).unwrap();
            drop(tx);
            while !done.load(Ordering::Relaxed) {
                rt::sleep(Duration::from_millis(1)).await;
            }
            rt::blocking_ended().await;
        }
    })
    .unwrap();
    for _ in 0..cores {
        // A test that panics ends its executor, and drops its sender.
        let outcome = rx.recv_timeout(PATIENCE);
        outcome.expect("the test ends in time, and well");
    }
    done.store(true, Ordering::Relaxed);
    executors.join();
}

impl World {
    /// A client with an address of its own.
    pub(super) fn client(&self) -> LocalClient {
        let peer = SocketAddr::from(([10, 0, 0, 1], 5_000 + self.core));
        let control = ConnectionControl::new();
        LocalClient::new(self.service.clone(), peer, self.wire.clone(), control)
    }

    /// Waits until all cores are here.
    pub(super) async fn meet(&self) {
        self.meetings.set(self.meetings.get() + 1);
        let all = self.meetings.get() * usize::from(self.cores);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        self.until(async || (self.arrived.load(Ordering::Relaxed) >= all).then_some(()))
            .await;
    }

    /// Waits until something is so.
    pub(super) async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> T {
        let began = rt::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            let waited = rt::now().since(began);
            assert!(waited < PATIENCE, "it never comes");
            rt::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What the clients of all cores did.
    pub(super) async fn report(&self) -> ClientReport {
        let question = ClientQuestion {
            clients: true,
            uses: true,
            failures: true,
        };
        let reports = self
            .shard
            .ask_all(move |shard| Box::pin(async move { shard.client_report(question).await }))
            .await;
        merge_client_reports(reports).await
    }

    /// The counters of all cores.
    pub(super) async fn counters(&self) -> CountersSnapshot {
        let snapshots = self
            .shard
            .ask_all(|shard| Box::pin(async move { shard.counters.snapshot() }))
            .await;
        let mut sum = CountersSnapshot::default();
        snapshots.iter().for_each(|snapshot| sum.add(snapshot));
        sum
    }
}

/// What a message becomes on the wire.
pub(super) fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Opens a call that goes on, with its first message.
pub(super) fn open_call(
    client: &LocalClient,
    method: &'static str,
    message: &impl Message,
) -> LocalCall {
    let mut call = client.call(method);
    call.send(bytes(message));
    call
}

/// The next answer of a call.
pub(super) async fn answer<M: Message + Default>(call: &mut LocalCall) -> M {
    let answer = call.message().await.unwrap();
    call.written();
    M::decode(answer.expect("an answer")).unwrap()
}

/// Asks with one message and takes the one answer.
pub(super) fn unary<M: Message + Default>(
    client: &LocalClient,
    method: &'static str,
    message: &impl Message,
) -> Pin<Box<dyn Future<Output = Result<M, Status>>>> {
    let (client, message) = (client.clone(), bytes(message));
    Box::pin(async move {
        let answer = client.unary(method, message).await?;
        Ok(M::decode(answer).unwrap())
    })
}

fn open(cores: u16, number: u16, directory: &std::path::Path) -> OpenedLog {
    let slots = SlotId::all().filter(|slot| slot.index() % cores == number);
    let options = Options {
        store: StoreId::from_bytes([7; 16]),
        log: number,
        directory: directory.join(number.to_string()),
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
        channels: Arc::new(ChannelCounts::new(cores)),
    }
}

fn shard(core: u16, cores: u16, log: OpenedLog) -> Rc<Shard> {
    let settings = Settings {
        subscriber_buffer_bytes: 64 << 20,
        delivery_buffer_bytes_max: 64 << 20,
        pending_requests_max: 100,
        match_cache_entries: 10,
        query_cache_bytes: 1 << 10,
        lane: LaneBounds {
            messages_max: 100_000,
            bytes_max: 64 << 20,
        },
        fail_fast: true,
    };
    let stored = StoredSeed {
        settings: StoredSettings {
            strict: false,
            sync_interval: Duration::from_millis(1),
            inflight_bytes_max: 10 << 20,
            framing: stored_framing(),
            queue_framing: queue_framing(false),
            policy: Box::new(|_| ChannelPolicy::default()),
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
    let placement = Box::new(ByDigit(cores));
    Shard::new(ShardId::new(core), cores, settings, placement, stored)
}
