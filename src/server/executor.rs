//! What runs on each executor: the shard, the service and its connections.

mod endings;
mod settings;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmq_storage::SlotId;
use ringmq_storage::fs::Fs;
use slab::Slab;

use crate::config::Config;
use crate::grpc::{self, GrpcService, ServerInfo};
use crate::http;
use crate::model::ShardId;
use crate::net::{Addresses, Load};
use crate::notifications::Notifications;
use crate::routing::RoutingTable;
use crate::rt::file::FileHook;
use crate::rt::heartbeat::Watch;
use crate::rt::inbox::Inbox;
use crate::rt::{self, Conn, Notify, Queue};
use crate::security::audit::Auditor;
use crate::security::limits::{self, Limits};
use crate::security::{Rules, Security};
use crate::shard::{LogPlacement, OpenedLog, Placement, Seat, Shard, StoredSeed};
use crate::spans::{Sampler, Setup, Spans};
use crate::telemetry::status::ShardReport;
use crate::wire::server::{ConnectionControl, Ended, Settings as WireSettings, serve, serve_tls};
use crate::wire::tls::ServerTls;

use super::traces;
use endings::Endings;
use settings::{
    Live, limit_settings, notification_settings, ping_host, queue_limits, shard_settings,
    stored_settings, wire_settings,
};

/// How long connections may take to say goodbye, and then to be closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often it is looked whether they are gone.
const GOODBYE_STEP: Duration = Duration::from_millis(2);

/// How long the records of accesses may take to be written.
const RECORDS_END: Duration = Duration::from_secs(1);

/// What other threads ask of an executor.
#[derive(Debug)]
pub(super) enum Control {
    /// Serve this connection.
    Accepted {
        port: Port,
        stream: TcpStream,
        peer: SocketAddr,
        load: Load,
    },
    /// Say what you count.
    Status(mpsc::Sender<ShardReport>),
    /// Show this to connections from now on.
    Tls(Tls),
    /// Ask this routing table from now on.
    Routing(RoutingTable),
    /// Recognise and allow by these rules from now on.
    Security(Arc<Rules>),
    /// Go by these settings from now on, as far as they can change.
    Reload(Arc<Config>),
    /// Take nothing new: end subscriptions and publish streams, refuse new requests.
    Drain,
    /// Say how many unary calls are in progress.
    CallsInProgress(mpsc::Sender<usize>),
    /// Fail what still waits, close every connection, then end.
    Goodbye,
}

/// The ports of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Grpc,
    Http(http::Port),
}

/// Facts of the process that every executor knows.
#[derive(Clone)]
pub(super) struct Facts {
    /// The machine's host name.
    pub machine: Arc<str>,
    pub started_at_ns: i64,
    pub watches: Arc<[Arc<Watch>]>,
    /// What peers have taken of what is limited.
    pub taken: Taken,
    pub tls: Option<Tls>,
    pub audit: Auditor,
}

/// What peers have taken, over all executors and ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    pub limits: Arc<limits::Shared>,
    pub addresses: Addresses,
}

/// What the broker shows of itself on the ports that speak TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// HTTP/2 only.
    pub grpc: Arc<ServerTls>,
    /// HTTP/2 and HTTP/1.1.
    pub rest: Arc<ServerTls>,
    /// The same on the management port, if it speaks TLS.
    pub api: Option<Arc<ServerTls>>,
}

/// What an executor is made of.
pub(super) struct Seed {
    pub count: u16,
    pub seat: Seat,
    pub inbox: Inbox<Control>,
    pub config: Arc<Config>,
    pub facts: Facts,
    pub slots: ringmq_storage::Placement,
    pub placement: LogPlacement,
    pub logs: Vec<OpenedLog>,
    pub fs: Arc<dyn Fs>,
    pub routing: RoutingTable,
    pub rules: Arc<Rules>,
    pub spans: Option<Arc<Setup>>,
    pub file_hook: Option<fn() -> Rc<dyn FileHook>>,
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
    security: Rc<Security>,
    notifications: Rc<Notifications>,
    spans: Option<Rc<Spans>>,
    http: Rc<http::Contexts>,
    /// What the policies of channels go by.
    live: Live,
    /// Of connections that come from now on.
    wire: RefCell<Rc<WireSettings>>,
    addresses: Addresses,
    tls: RefCell<Option<Tls>>,
    connections: RefCell<Slab<ConnectionControl>>,
    endings: Endings,
    done: Notify,
}

/// The rules and limits of an executor.
fn secured(config: &Config, rules: Arc<Rules>, taken: &Taken, shard: &Rc<Shard>) -> Rc<Security> {
    shard.admission().set_target(config.limits.overload_target);
    let limits = Limits::new(limit_settings(&config.limits), taken.limits.clone());
    let counting = Rc::downgrade(shard);
    limits.on_reached(move |did| {
        let Some(shard) = counting.upgrade() else {
            return;
        };
        let counters = &shard.counters;
        let counter = match did {
            limits::Did::RefusedRequest => &counters.limits_requests,
            limits::Did::RefusedBytes => &counters.limits_bytes,
            limits::Did::RefusedSubscription => &counters.limits_subscriptions,
            limits::Did::SlowedStream => &counters.limits_slowed,
        };
        counter.increment();
    });
    Security::with_limits(rules, limits)
}

/// The executor's life: from the seed to the end of the drain.
pub(super) async fn main(id: usize, seed: Seed) {
    let Seed {
        count,
        seat,
        inbox,
        config,
        facts,
        slots,
        placement: log_placement,
        logs,
        fs,
        routing,
        rules,
        spans,
        file_hook,
        ready,
    } = seed;
    let id = ShardId::new(u16::try_from(id).unwrap_or(u16::MAX));
    let placement = Box::new(BySlot { slots, count });
    let live: Live = Rc::new(RefCell::new(config.clone()));
    let stored = StoredSeed {
        settings: stored_settings(&live, file_hook),
        placement: log_placement,
        logs,
        fs,
    };
    let shard = Shard::new(id, count, shard_settings(&config), placement, stored);
    shard.set_routing_table(routing);
    shard.run(seat).await;
    let security = secured(&config, rules, &facts.taken, &shard);
    security.set_audit(facts.audit.clone());
    let executor = Rc::new(Executor::new(shard, count, live, facts, security, spans));
    // Weak: what the runtime keeps of this must not outlive it with the shard in hand.
    let counting = Rc::downgrade(&executor.shard);
    rt::on_turn(move |turn| {
        if let Some(shard) = counting.upgrade() {
            shard.turned(turn);
        }
    });
    if id == ShardId::new(0) {
        // What rooms leave behind belongs to the process.
        rt::spawn(Queue::Background, "rooms", http::trim_rooms());
    }
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
    /// Puts the services around a shard that runs.
    fn new(
        shard: Rc<Shard>,
        count: u16,
        live: Live,
        facts: Facts,
        security: Rc<Security>,
        spans: Option<Arc<Setup>>,
    ) -> Self {
        let config = live.borrow().clone();
        let info = ServerInfo {
            host: ping_host(&config.host),
            started_at_seconds: facts.started_at_ns / 1_000_000_000,
        };
        let process = http::Process {
            host: info.host.as_str().into(),
            machine: facts.machine,
            started_at_ns: facts.started_at_ns,
            executors: count,
            watches: facts.watches,
        };
        let wanted = notification_settings(&config);
        let notifications = Notifications::start(shard.clone(), wanted, grpc::report_encoding());
        let spans = spans.map(|setup| traces::start(setup, &shard));
        let service = GrpcService::new(shard.clone(), info)
            .with_queue_limits(queue_limits(&config.queue))
            .with_notifications(notifications.clone())
            .with_security(security.clone())
            .with_spans(spans.clone());
        let service = Rc::new(service);
        let wire = Rc::new(wire_settings(&config));
        let http = http::Context {
            shard: shard.clone(),
            service: service.clone(),
            security: security.clone(),
            config,
            process,
            wire: wire.clone(),
            snapshot: Rc::default(),
        };
        Self {
            service,
            security,
            notifications,
            spans,
            http: Rc::new(http::Contexts::new(http)),
            live,
            shard,
            wire: RefCell::new(wire),
            addresses: facts.taken.addresses,
            tls: RefCell::new(facts.tls),
            connections: RefCell::default(),
            endings: Endings::default(),
            done: Notify::new(),
        }
    }

    fn control(self: &Rc<Self>, control: Control) {
        match control {
            Control::Accepted {
                port,
                stream,
                peer,
                load,
            } => {
                let queue = match port {
                    Port::Grpc => Queue::Serve,
                    Port::Http(port) => port.queue(),
                };
                let serving = self.clone().serve(port, stream, peer, load);
                rt::spawn_connection(queue, "connection", serving);
            }
            Control::Status(answer) => {
                let _asker_may_be_gone = answer.send(self.shard.report());
            }
            Control::Tls(tls) => {
                let again = tls.grpc.clone();
                *self.tls.borrow_mut() = Some(tls);
                again.verify_clients_again();
            }
            Control::Routing(table) => self.shard.set_routing_table(table),
            Control::Security(rules) => self.security.replace(rules),
            Control::Reload(config) => self.reload(config),
            Control::Drain => self.shard.drain(),
            Control::CallsInProgress(answer) => {
                let _asker_may_be_gone = answer.send(self.service.active_calls());
            }
            Control::Goodbye => rt::spawn(Queue::Serve, "goodbye", self.clone().goodbye()),
        }
    }

    async fn serve(self: Rc<Self>, port: Port, stream: TcpStream, peer: SocketAddr, load: Load) {
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
        match port {
            Port::Grpc => {
                let (service, wire) = (self.service.clone(), self.wire.borrow().clone());
                let tls = self.tls.borrow().as_ref().map(|tls| tls.grpc.clone());
                let ended = match tls {
                    None => serve(conn, peer, service, wire, control).await,
                    Some(tls) => serve_tls(conn, tls, peer, service, wire, control).await,
                };
                if let Ended::Tls(error) = &ended {
                    endings::record_refused(self.security.audit(), port, peer, error);
                }
                self.ended(peer, &ended);
            }
            whole @ Port::Http(port) => {
                // Boxed: a connection of gRPC should not carry the room for it.
                let tls = self.tls.borrow().as_ref().and_then(|tls| match port {
                    http::Port::Rest => Some(tls.rest.clone()),
                    http::Port::Api => tls.api.clone(),
                });
                let serving = http::serve(port, conn, tls, peer, self.http.clone(), control);
                let ended = Box::pin(serving).await;
                if let http::Ended::Tls(error) = &ended {
                    endings::record_refused(self.security.audit(), whole, peer, error);
                }
                self.ended_http(peer, &ended);
            }
        }
        self.connections.borrow_mut().remove(key);
        counters.connections.decrement();
        drop(load);
    }

    /// What runs goes on as it began; what begins from now on goes by these settings.
    fn reload(&self, config: Arc<Config>) {
        let store = &config.store;
        let (positions, channels) = (store.subscription_expiry, store.max_purge_inactive);
        self.shard.set_ages(positions, channels);
        self.service.set_queue_limits(queue_limits(&config.queue));
        self.http.reconfigure(&config);
        self.notifications
            .set_settings(notification_settings(&config));
        let telemetry = &config.telemetry;
        let sampler = Sampler::new(telemetry.sampler.word(), telemetry.sampling_ratio);
        if let (Some(spans), Some(sampler)) = (&self.spans, sampler) {
            spans.set_sampler(sampler);
        }
        let limits = &config.limits;
        self.security.limits().set(limit_settings(limits));
        self.shard.admission().set_target(limits.overload_target);
        self.addresses.set(
            limits.connections_per_address,
            limits.handshakes_per_address,
        );
        self.wire.replace(Rc::new(wire_settings(&config)));
        *self.live.borrow_mut() = config;
    }

    fn ended(&self, peer: SocketAddr, ended: &Ended) {
        self.count_ended(ended);
        match ended {
            Ended::PeerClosed | Ended::Drained => tracing::debug!(%peer, "connection closed"),
            ended if self.endings.may_tell(rt::now()) => {
                tracing::info!(%peer, reason = %ended, "connection ended");
            }
            ended => tracing::debug!(%peer, reason = %ended, "connection ended"),
        }
    }

    fn ended_http(&self, peer: SocketAddr, ended: &http::Ended) {
        let counters = &self.shard.counters;
        let counter = match ended {
            http::Ended::Closed => &counters.connections_closed_by_peer,
            http::Ended::Drained => &counters.connections_closed_shutdown,
            http::Ended::Timeout => &counters.connections_closed_keepalive,
            http::Ended::Tls(_) => &counters.connections_refused_handshake,
            http::Ended::Broken(_) => &counters.connections_closed_error,
        };
        counter.increment();
        match ended {
            http::Ended::Tls(reason) if self.endings.may_tell(rt::now()) => {
                let reason = format_args!("no TLS: {reason}");
                tracing::info!(%peer, %reason, "connection ended");
            }
            // Broken off is what browsers and scrapers do all day.
            ended => tracing::debug!(%peer, reason = ?ended, "connection ended"),
        }
    }

    fn count_ended(&self, ended: &Ended) {
        let counters = &self.shard.counters;
        let counter = match ended {
            Ended::PeerClosed => &counters.connections_closed_by_peer,
            Ended::Drained | Ended::Closed => &counters.connections_closed_shutdown,
            Ended::HandshakeTimeout | Ended::Tls(_) => &counters.connections_refused_handshake,
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
        self.notifications.finish(RECORDS_END).await;
        // Behind the last confirmation of a client, which may come until its connection ends.
        self.shard.close_logs().await;
        if let Some(spans) = &self.spans {
            spans.finish(traces::FAREWELL).await;
        }
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
