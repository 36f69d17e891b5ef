//! What runs on each executor: the shard, the service and its connections.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmq_storage::SlotId;
use ringmq_storage::fs::Fs;
use slab::Slab;

use crate::config::{self, Config, Redelivery, Store, Sync, WhenFull};
use crate::engine::stored::Limits;
use crate::grpc::{GrpcService, QueueLimits, ServerInfo};
use crate::model::ShardId;
use crate::net::Load;
use crate::routing::RoutingTable;
use crate::rt::file::FileHook;
use crate::rt::inbox::Inbox;
use crate::rt::{self, Conn, Notify, Queue};
use crate::shard::{
    ChannelPolicy, LaneBounds, LogPlacement, OpenedLog, Placement, QueuePolicy, Seat, Settings,
    Shard, StoredSeed, StoredSettings,
};
use crate::telemetry::status::ShardReport;
use crate::wire::server::{ConnectionControl, Ended, Settings as WireSettings, serve};
use crate::wire::status::Code;

/// How long connections may take to say goodbye, and then to be closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often it is looked whether they are gone.
const GOODBYE_STEP: Duration = Duration::from_millis(2);

/// What the unfinished messages of one connection may hold at least, when the limit of a message
/// is small: many of them may arrive side by side.
const GATHER_BYTES_MIN: usize = 32 << 20;

/// What other threads ask of an executor.
#[derive(Debug)]
pub(super) enum Control {
    /// Serve this connection.
    Accepted {
        stream: TcpStream,
        peer: SocketAddr,
        load: Load,
    },
    /// Say what you count.
    Status(mpsc::Sender<ShardReport>),
    /// Ask this routing table from now on.
    Routing(RoutingTable),
    /// Take nothing new: end subscriptions and publish streams, refuse new requests.
    Drain,
    /// Say how many unary calls are in progress.
    CallsInProgress(mpsc::Sender<usize>),
    /// Fail what still waits, close every connection, then end.
    Goodbye,
}

/// What an executor is made of.
pub(super) struct Seed {
    pub count: u16,
    pub seat: Seat,
    pub inbox: Inbox<Control>,
    pub config: Config,
    pub slots: ringmq_storage::Placement,
    pub placement: LogPlacement,
    pub logs: Vec<OpenedLog>,
    pub fs: Arc<dyn Fs>,
    pub routing: RoutingTable,
    pub file_hook: Option<fn() -> Rc<dyn FileHook>>,
    pub started_at_ns: i64,
    pub ready: mpsc::Sender<()>,
}

/// Channels live where their slot does: slot modulo executors.
struct BySlot {
    slots: ringmq_storage::Placement,
    count: u16,
}

impl Placement for BySlot {
    fn slot(&self, channel: &str) -> SlotId {
        self.slots.slot_of(channel)
    }

    fn owner(&self, channel: &str) -> ShardId {
        ShardId::new(self.slots.slot_of(channel).index() % self.count)
    }
}

struct Executor {
    shard: Rc<Shard>,
    service: Rc<GrpcService>,
    wire: Rc<WireSettings>,
    connections: RefCell<Slab<ConnectionControl>>,
    done: Notify,
}

/// The executor's life: from the seed to the end of the drain.
pub(super) async fn main(id: usize, seed: Seed) {
    let Seed {
        count,
        seat,
        inbox,
        config,
        slots,
        placement: log_placement,
        logs,
        fs,
        routing,
        file_hook,
        started_at_ns,
        ready,
    } = seed;
    let id = ShardId::new(u16::try_from(id).unwrap_or(u16::MAX));
    let placement = Box::new(BySlot { slots, count });
    let stored = StoredSeed {
        settings: stored_settings(&config, file_hook),
        placement: log_placement,
        logs,
        fs,
    };
    let shard = Shard::new(id, count, shard_settings(&config), placement, stored);
    shard.set_routing_table(routing);
    shard.run(seat).await;
    let info = ServerInfo {
        host: ping_host(&config.host),
        started_at_seconds: started_at_ns / 1_000_000_000,
    };
    let executor = Rc::new(Executor {
        service: Rc::new(
            GrpcService::new(shard.clone(), info).with_queue_limits(queue_limits(&config.queue)),
        ),
        shard,
        wire: Rc::new(wire_settings(&config)),
        connections: RefCell::default(),
        done: Notify::new(),
    });
    // Weak: what the runtime keeps of this must not outlive it with the shard in hand.
    let counting = Rc::downgrade(&executor.shard);
    rt::on_turn(move |turn| {
        if let Some(shard) = counting.upgrade() {
            shard.turned(turn);
        }
    });
    let controlled = executor.clone();
    rt::spawn(
        Queue::Serve,
        "inbox",
        inbox.run(move |control| controlled.control(control)),
    );
    let _main_waits = ready.send(());
    drop(ready);
    executor.done.wait().await;
    rt::blocking_ended().await;
}

impl Executor {
    fn control(self: &Rc<Self>, control: Control) {
        match control {
            Control::Accepted { stream, peer, load } => {
                rt::spawn(
                    Queue::Serve,
                    "connection",
                    self.clone().serve(stream, peer, load),
                );
            }
            Control::Status(answer) => {
                let _asker_may_be_gone = answer.send(self.status());
            }
            Control::Routing(table) => self.shard.set_routing_table(table),
            Control::Drain => self.shard.drain(),
            Control::CallsInProgress(answer) => {
                let _asker_may_be_gone = answer.send(self.service.active_calls());
            }
            Control::Goodbye => rt::spawn(Queue::Serve, "goodbye", self.clone().goodbye()),
        }
    }

    fn status(&self) -> ShardReport {
        let tasks = rt::task_stats();
        self.shard.counters.tasks.set(tasks.live);
        let counted = self.shard.counters.task_panics.value();
        self.shard
            .counters
            .task_panics
            .add(tasks.panics.saturating_sub(counted));
        // Kept by the runtime seam, which knows no counters.
        let traffic = rt::traffic();
        let (received, sent) = (
            &self.shard.counters.received_bytes,
            &self.shard.counters.sent_bytes,
        );
        received.add(traffic.received.saturating_sub(received.value()));
        sent.add(traffic.sent.saturating_sub(sent.value()));
        let counters = self.shard.counters();
        let latencies = self.shard.latencies.snapshot();
        ShardReport {
            shard: self.shard.id().number(),
            connections: self.connections.borrow().len(),
            subscriptions: counters.subscriptions_events
                + counters.subscriptions_events_store
                + counters.subscriptions_commands
                + counters.subscriptions_queries,
            pending: counters.requests_pending,
            tasks: tasks.live,
            task_panics: tasks.panics,
            timers: counters.timers,
            delivery_buffer_bytes: counters.delivery_buffer_bytes,
            turns: latencies.executor_turn.summary(),
            stalls: counters.executor_stalls,
            watchdog: None,
            latencies,
            counters,
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream, peer: SocketAddr, load: Load) {
        let conn = match Conn::from_std(stream) {
            Ok(conn) => conn,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection was gone before it was served");
                return;
            }
        };
        let counters = &self.shard.counters;
        counters.connections_opened.increment();
        counters.connections.increment();
        let control = ConnectionControl::new();
        if self.shard.is_draining() {
            control.drain();
        }
        let key = self.connections.borrow_mut().insert(control.clone());
        let ended = serve(conn, peer, self.service.clone(), self.wire.clone(), control).await;
        self.connections.borrow_mut().remove(key);
        counters.connections.decrement();
        drop(load);
        self.count_ended(&ended);
        match ended {
            Ended::PeerClosed | Ended::Drained => tracing::debug!(%peer, "connection closed"),
            ended => tracing::info!(%peer, reason = %ended, "connection ended"),
        }
    }

    fn count_ended(&self, ended: &Ended) {
        let counters = &self.shard.counters;
        let counter = match ended {
            Ended::PeerClosed => &counters.connections_closed_by_peer,
            Ended::Drained | Ended::Closed => &counters.connections_closed_shutdown,
            Ended::HandshakeTimeout => &counters.connections_refused_handshake,
            Ended::KeepaliveTimeout => &counters.connections_closed_keepalive,
            Ended::Flood(_) => &counters.connections_closed_abuse,
            Ended::Protocol { .. } => &counters.protocol_errors,
            _ => &counters.connections_closed_error,
        };
        counter.increment();
    }

    /// Says goodbye to every connection and ends the executor when they are gone.
    async fn goodbye(self: Rc<Self>) {
        let began = rt::now();
        self.shard.fail_pending();
        for leave in [ConnectionControl::drain, ConnectionControl::close] {
            self.each_connection(leave);
            let asked = rt::now();
            while !self.connections.borrow().is_empty() && rt::now().since(asked) < GOODBYE {
                rt::sleep(GOODBYE_STEP).await;
            }
        }
        // Behind the last confirmation of a client, which may come until its connection ends.
        self.shard.close_logs().await;
        let took_ms = rt::now().since(began).as_millis();
        tracing::debug!(shard = %self.shard.id(), took_ms, "executor ends");
        self.done.raise();
    }

    fn each_connection(&self, act: impl Fn(&ConnectionControl)) {
        // A copy: acting may wake a connection that leaves the list.
        let controls: Vec<_> = self
            .connections
            .borrow()
            .iter()
            .map(|(_, control)| control.clone())
            .collect();
        controls.iter().for_each(act);
    }
}

/// The node's name as the reference tells it: without dots, and never beginning with a digit.
fn ping_host(host: &str) -> String {
    let name = host.replace('.', "_");
    match name.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("kubemq-{name}"),
        _ => name,
    }
}

fn shard_settings(config: &Config) -> Settings {
    Settings {
        subscriber_buffer_bytes: config.grpc.subscriber_buffer_bytes,
        delivery_buffer_bytes_max: config.engine.delivery_buffer_bytes_max,
        pending_requests_max: config.engine.pending_requests_max,
        match_cache_entries: config.engine.match_cache_entries,
        query_cache_bytes: config.engine.query_cache_bytes,
        lane: LaneBounds {
            messages_max: config.engine.mesh_lane_messages_max,
            bytes_max: config.engine.mesh_lane_bytes_max,
        },
        fail_fast: config.requests.fail_fast,
    }
}

fn stored_settings(config: &Config, file_hook: Option<fn() -> Rc<dyn FileHook>>) -> StoredSettings {
    let store = &config.store;
    let (policies, queues) = (store.clone(), config.queue.clone());
    StoredSettings {
        strict: store.sync == Sync::Strict,
        sync_interval: store.sync_interval,
        inflight_bytes_max: store.inflight_bytes_max,
        framing: crate::grpc::stored_framing(),
        queue_framing: crate::grpc::queue_framing(config.queue.body_md5),
        policy: Box::new(move |channel| channel_policy(&policies, &queues, channel)),
        cursor_expiry: store.subscription_expiry,
        purge_inactive: store.max_purge_inactive,
        file_hook: file_hook.map(|make| make()),
    }
}

/// What the contract's calls of queues may ask for.
const fn queue_limits(queues: &config::Queue) -> QueueLimits {
    QueueLimits {
        messages_max: queues.messages_max,
        wait_max: queues.wait_max,
        wait_default: queues.wait_default,
        expiration_max: queues.expiration_max,
        delay_max: queues.delay_max,
        receives_max: queues.receives_max,
        visibility_max: queues.visibility_max,
        visibility_default: queues.visibility_default,
    }
}

/// What a channel is allowed, by the settings and their rules.
fn channel_policy(store: &Store, queues: &config::Queue, channel: &str) -> ChannelPolicy {
    let limits = store.limits_for(channel);
    let rules = queues.rules_for(store, channel);
    ChannelPolicy {
        limits: Limits {
            channels_max: store.channels_max,
            messages_max: limits.messages_max,
            bytes_max: limits.bytes_max,
            drop_oldest: limits.when_full == WhenFull::DropOldest,
            ..Limits::default()
        },
        retention: limits.retention,
        receivers_max: usize::try_from(store.subscribers_max).unwrap_or(usize::MAX),
        queue: QueuePolicy {
            in_place: rules.redelivery == Redelivery::InPlace,
            visibility: rules.visibility,
            visibility_max: queues.visibility_max,
            receives_max: queues.receives_max,
            dead_letter: rules.dead_letter_queue,
        },
    }
}

fn wire_settings(config: &Config) -> WireSettings {
    let grpc = &config.grpc;
    WireSettings {
        stream_window_bytes: grpc.initial_window_bytes,
        connection_window_bytes: grpc.connection_window_bytes,
        concurrent_streams_max: grpc.max_concurrent_streams,
        message_bytes_max: grpc.body_limit,
        gather_bytes_max: grpc.body_limit.saturating_mul(2).max(GATHER_BYTES_MIN),
        keepalive_time: grpc.keepalive_time,
        keepalive_timeout: grpc.keepalive_timeout,
        handshake_timeout: grpc.handshake_timeout,
        connection_age_max: grpc.max_connection_age,
        // A handler that panicked, in the reference's words.
        abandoned: (
            Code::Unknown,
            "Error 200: server crushed and recovered".into(),
        ),
        ..WireSettings::default()
    }
}
