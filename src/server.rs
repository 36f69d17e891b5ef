//! The broker as a process: wire everything, start the executors, serve, stop in order.

mod audit;
mod demo;
mod executor;
pub mod listen;
mod logs;
mod reload;
mod routing;
mod security;
mod signals;
mod status;
mod tls;
mod traces;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmq_storage::Store;
use ringmq_storage::fs::{Fs, RealFs};

use crate::cli::banner::Banner;
use crate::config::{Config, CpuList, Machine, machine};
use crate::net::Acceptor;
use crate::routing::RoutingTable;
use crate::rt::heartbeat::Heartbeat;
use crate::rt::inbox::{InboxSender, inbox};
use crate::rt::start::{Executors, Plan};
use crate::rt::{self, probe};
use crate::security::Rules;
use crate::shard::Seat;
use crate::spans::Setup;
use crate::telemetry::with_sources;

use audit::AuditLog;
use executor::{Control, Facts, Seed, Taken};
use listen::PortLoads;
use reload::{Reload, Watched};
use signals::Event;

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serve until told to stop.
    Serve,
    /// Send one message of each kind through real connections, then serve.
    Demo,
}

/// How often a drain looks whether the calls in progress have finished.
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// How long an executor may take to end once it was told to.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(10);

/// Exit codes, after sysexits.h where it has one.
mod exit {
    /// A port is in use or no thread can be had.
    pub(super) const UNAVAILABLE: u8 = 69;
    /// The broker failed: a bug or a broken machine.
    pub(super) const INTERNAL: u8 = 70;
    /// The store is held by another broker, or may not be opened.
    pub(super) const STORE: u8 = 77;
    /// The configuration or the machine is refused.
    pub(super) const CONFIG: u8 = 78;
}

/// A start that did not come about: what to tell the operator and how to exit.
struct Failed {
    code: u8,
    text: String,
}

impl Failed {
    fn new(code: u8, error: &dyn std::error::Error) -> Self {
        let text = with_sources(error);
        Self { code, text }
    }

    fn with_remedy(mut self, remedy: &str) -> Self {
        self.text.push('\n');
        self.text.push_str(remedy);
        self
    }
}

/// Runs the broker until it is told to stop, and gives back the process's exit code: 0 after an
/// orderly stop.
#[must_use]
pub fn run(config: &Config, mode: Mode) -> ExitCode {
    run_with(config, mode, Extensions::default())
}

/// The rules of who may do what that a broker of this configuration would go by.
///
/// # Errors
/// Why there are none, in words for an operator.
pub(crate) fn rules(config: &Config) -> Result<Arc<Rules>, String> {
    match security::load(config, || {}) {
        Ok((rules, _)) => Ok(rules),
        Err(failed) => Err(failed.text),
    }
}

/// What a test adds to a broker; a broker that serves has nothing of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions {
    /// Made on each executor: hears what the ring is asked to do with the log's files.
    pub file_hook: Option<fn() -> std::rc::Rc<dyn rt::file::FileHook>>,
}

/// The same as [`run`], with a test's additions.
#[must_use]
pub fn run_with(config: &Config, mode: Mode, extensions: Extensions) -> ExitCode {
    match start(config, extensions) {
        Ok((broker, events)) => broker.serve(config, mode, &events),
        Err(failed) => {
            eprintln!("ringmq: {}", failed.text);
            ExitCode::from(failed.code)
        }
    }
}

/// Signals are watched before anything is told to have started: one that comes at once still
/// stops the broker in order.
fn start(
    config: &Config,
    extensions: Extensions,
) -> Result<(Broker, mpsc::Receiver<Event>), Failed> {
    let events = signals::watch().map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
    Ok((Broker::start(config, extensions)?, events))
}

/// The running broker.
struct Broker {
    executors: Executors,
    inboxes: Vec<InboxSender<Control>>,
    heartbeat: Heartbeat,
    acceptors: Vec<Acceptor>,
    grpc: SocketAddr,
    loads: PortLoads,
    /// Runs as long as the broker.
    reload: Reload,
    /// Closed when all else has ended.
    _audit: AuditLog,
    /// Held for its lock on the directory.
    _store: Store,
}

impl Broker {
    fn start(config: &Config, extensions: Extensions) -> Result<Self, Failed> {
        let findings = check_machine()?;
        let plans = plans(config);
        let tls = tls::load(config, plans.len())?;
        let store = open_store(&config.store.path)?;
        let audit = AuditLog::open(config)?;
        let ports = listen::bind(config)?;
        let early = ports.answer_early(tls.as_ref().and_then(|tls| tls.tls().api))?;
        let (table, watch) = routing::load(&config.routing)?;
        let (reload, asks) = Reload::new();
        let (rules, sources) = security::load(config, reload.key_asker())?;
        let machine: Arc<str> = Machine::read().host_name.into();
        let spans = traces::setup(config, &machine)?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let logs = logs::open(&store, config, plans.len(), &fs)?;
        let taken = Taken::default();
        let limits = &config.limits;
        taken.addresses.set(
            limits.connections_per_address,
            limits.handshakes_per_address,
        );
        let parts = Parts {
            store: &store,
            fs: &fs,
            table: &table,
            rules: &rules,
            facts: Facts {
                machine,
                started_at_ns: rt::unix_ns(),
                watches: plans.iter().map(|_| Arc::default()).collect(),
                taken: taken.clone(),
                tls: tls.as_ref().map(tls::Sources::tls),
                audit: audit.auditor(),
            },
            spans,
            extensions,
        };
        let (executors, inboxes) = start_executors(config, &plans, logs, &parts)?;
        let watched = Watched {
            routing: watch,
            security: sources,
            tls,
        };
        Reload::start(asks, config, watched, inboxes.clone(), audit.auditor())
            .map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
        let heartbeat = Heartbeat::start(inboxes.clone(), parts.facts.watches.clone())
            .map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
        let loads = PortLoads::new(plans.len(), config, taken.addresses);
        drop(early);
        let addresses = ports.addresses();
        let acceptors = ports.accept(&inboxes, &loads)?;
        let broker = Self {
            executors,
            inboxes,
            heartbeat,
            acceptors,
            grpc: addresses.grpc,
            loads,
            reload,
            _audit: audit,
            _store: store,
        };
        broker.announce(config, &addresses, &findings)?;
        Ok(broker)
    }

    fn announce(
        &self,
        config: &Config,
        addresses: &listen::Addresses,
        findings: &[machine::Finding],
    ) -> Result<(), Failed> {
        let banner = Banner::new(config, self.inboxes.len(), addresses, findings);
        eprint!("{banner}");
        if let Some(path) = &config.server.addresses_file {
            write_addresses(path, addresses)
                .map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
        }
        Ok(())
    }

    /// Serves until a signal or a failure ends the broker.
    fn serve(self, config: &Config, mode: Mode, events: &mpsc::Receiver<Event>) -> ExitCode {
        if mode == Mode::Demo {
            demo::start(self.grpc);
        }
        loop {
            match events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Status) => {
                    status::log(&status::collect(
                        &self.inboxes,
                        &self.heartbeat,
                        &self.loads,
                    ));
                }
                Ok(Event::Reload) => self.reload.ask(),
                Ok(Event::Stop(signal)) => return self.stop(config, signal, events),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Some(ended) = self.executors.wait_ended(Duration::ZERO) {
                        let reason = ended.panic.as_deref().unwrap_or("it returned");
                        tracing::error!(shard = ended.shard, reason, "executor ended; stopping");
                        // What this shard owned is gone: a half broker must not go on.
                        return ExitCode::from(exit::INTERNAL);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return ExitCode::from(exit::INTERNAL);
                }
            }
        }
    }

    /// Stops in order: no new connections, subscriptions ended, calls finished, connections told
    /// and closed, threads joined.
    fn stop(self, config: &Config, signal: &str, events: &mpsc::Receiver<Event>) -> ExitCode {
        let grace = config.server.drain_grace;
        tracing::info!(signal, grace_seconds = grace.as_secs(), "stopping");
        let report = status::collect(&self.inboxes, &self.heartbeat, &self.loads);
        let Self {
            executors,
            inboxes,
            heartbeat,
            acceptors,
            ..
        } = self;
        drop(acceptors);
        tell_all(&inboxes, || Control::Drain);
        // A call of one executor may need a connection of another, as a request does its
        // responder's: none of them closes connections before all are quiet.
        let began = rt::now();
        while calls_in_progress(&inboxes) > 0 && rt::now().since(began) < grace {
            if let Ok(Event::Stop(signal)) = events.recv_timeout(DRAIN_STEP) {
                tracing::warn!(signal, "second signal: not waiting for the grace period");
                return ExitCode::from(exit::INTERNAL);
            }
        }
        tell_all(&inboxes, || Control::Goodbye);
        for _ in &inboxes {
            // Bounded: an executor ends when its connections have, or some seconds later.
            if executors.wait_ended(GOODBYE_PATIENCE).is_none() {
                tracing::error!("an executor does not end; leaving without it");
                return ExitCode::from(exit::INTERNAL);
            }
        }
        drop(heartbeat);
        executors.join();
        status::log(&report);
        tracing::info!("stopped");
        ExitCode::SUCCESS
    }
}

fn tell_all(inboxes: &[InboxSender<Control>], control: impl Fn() -> Control) {
    for inbox in inboxes {
        if inbox.send(control()).is_err() {
            tracing::error!("an executor ended before it was asked to");
        }
    }
}

/// Unary calls in progress on all executors.
fn calls_in_progress(inboxes: &[InboxSender<Control>]) -> usize {
    let (tx, rx) = mpsc::channel();
    tell_all(inboxes, || Control::CallsInProgress(tx.clone()));
    drop(tx);
    std::iter::from_fn(|| rx.recv_timeout(DRAIN_STEP * 100).ok()).sum()
}

/// What is to be told of the machine; one that cannot run a broker is no start.
fn check_machine() -> Result<Vec<machine::Finding>, Failed> {
    let findings = machine::checks();
    if let Some(refusal) = findings.iter().find(|finding| finding.is_refusal()) {
        let failed = Failed {
            code: exit::CONFIG,
            text: refusal.what.clone(),
        };
        return Err(failed.with_remedy(&refusal.remedy));
    }
    probe::probe()
        .map_err(|refused| Failed::new(exit::CONFIG, &refused).with_remedy(refused.remedy()))?;
    Ok(findings)
}

fn open_store(path: &Path) -> Result<Store, Failed> {
    let options = ringmq_storage::Options { create: true };
    Store::open(path, options).map_err(|error| Failed::new(exit::STORE, &error))
}

/// One executor for each core that may be used, and a place for what runs beside them.
fn plans(config: &Config) -> Vec<Plan> {
    let placed = Machine::read().place(&config.engine);
    let list = |cpus: &[usize]| cpus.iter().copied().collect::<CpuList>();
    let executors = placed.executors.iter().copied();
    tracing::info!(
        executors = %executors.flatten().collect::<CpuList>(),
        others = %list(&placed.others),
        serving_network_cards = %list(&placed.interrupted),
        "processors"
    );
    rt::keep_aside(&placed.others);
    let plan = |cpu| Plan {
        cpu,
        spin: config.engine.spin,
    };
    placed.executors.into_iter().map(plan).collect()
}

/// What every executor gets a part of.
struct Parts<'a> {
    store: &'a Store,
    fs: &'a Arc<dyn Fs>,
    table: &'a RoutingTable,
    rules: &'a Arc<Rules>,
    facts: Facts,
    spans: Option<Arc<Setup>>,
    extensions: Extensions,
}

fn start_executors(
    config: &Config,
    plans: &[Plan],
    logs: logs::Logs,
    parts: &Parts<'_>,
) -> Result<(Executors, Vec<InboxSender<Control>>), Failed> {
    let count = u16::try_from(plans.len()).unwrap_or(u16::MAX);
    let (ready_tx, ready_rx) = mpsc::channel();
    let mut inboxes = Vec::with_capacity(plans.len());
    let mut seeds = Vec::with_capacity(plans.len());
    let config = Arc::new(config.clone());
    let placement = logs.placement;
    for (seat, logs) in Seat::all(count).into_iter().zip(logs.by_shard) {
        let (sender, receiver) = inbox().map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
        inboxes.push(sender);
        seeds.push(Seed {
            count,
            seat,
            inbox: receiver,
            config: config.clone(),
            facts: parts.facts.clone(),
            slots: parts.store.placement(),
            placement,
            logs,
            fs: parts.fs.clone(),
            routing: parts.table.clone(),
            rules: parts.rules.clone(),
            spans: parts.spans.clone(),
            file_hook: parts.extensions.file_hook,
            ready: ready_tx.clone(),
        });
    }
    drop(ready_tx);
    let executors = rt::start::start(plans, seeds, executor::main)
        .map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
    if ready_rx.iter().count() != plans.len() {
        let text = "an executor ended before it was ready".to_owned();
        return Err(Failed {
            code: exit::INTERNAL,
            text,
        });
    }
    Ok((executors, inboxes))
}

/// Writes where the broker listens, in one step: a reader sees all of it or nothing.
fn write_addresses(path: &Path, addresses: &listen::Addresses) -> std::io::Result<()> {
    let text = serde_json::to_string(addresses)?;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, path)
}
