//! One core of the generator: its connections, its channels, and its part of each phase.

mod pacer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use ringmq::rt;
use ringmq::wire::client::{CallOptions, Client, ClientSettings, ClientStream};
use ringmq::wire::status::{Code, Status};

pub(crate) use pacer::Pacer;

use crate::clock::{Clock, ns_of, within};
use crate::flow::Flow;
use crate::meter::{Meter, Tick, Totals};
use crate::outcome::number;
use crate::patterns;
use crate::payload::Bodies;
use crate::scenario::Scenario;
use crate::target::Target;

/// How long the first subscription may wait for the server's headers. Some servers send them with
/// the first message only: what has been asked for by then counts as active.
const HEADERS_PATIENCE: Duration = Duration::from_secs(1);

/// How long a window may stand still before what is in it counts as gone.
const STALL_NS: u64 = 1_000_000_000;

/// How often a core looks at orders, stalls and the end.
const LOOK: Duration = Duration::from_millis(10);

/// In the drain: silence after which what is missing will not come; in a short one, half of it.
const SILENCE_NS: u64 = 1_000_000_000;

/// How long the server may take to answer a ping when messages are missing.
const ANSWER: Duration = Duration::from_secs(2);

/// How long the tasks of a run may take to end when their connections are closed.
pub(crate) const CLOSING: Duration = Duration::from_secs(2);

/// Makes seeds of neighbours differ in all bits: the golden ratio's fraction.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// What the main thread tells all cores.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// When the warm-up begins; 0 until every core is ready.
    pub begin_ns: AtomicU64,
    /// Ends the run now, with what there is.
    pub stop: AtomicBool,
}

/// What a core tells the main thread.
#[derive(Debug)]
pub(crate) enum News {
    /// Everything is connected and subscribed.
    Ready,
    /// It cannot be.
    Failed(anyhow::Error),
    Tick(Box<Tick>),
    /// The end.
    Last(Box<Last>),
}

/// What one core found.
#[derive(Debug)]
pub(crate) struct Last {
    pub totals: Totals,
    /// When its counted time ended.
    pub end_ns: u64,
    /// The part of the counted time in which it had work.
    pub busy: f64,
    /// Messages that were still coming when the drain ended.
    pub on_the_way: u64,
    /// Messages that the server neither confirmed nor refused.
    pub unconfirmed: u64,
    /// Streams that broke off.
    pub broken: u64,
}

/// Which core this is and what it is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub scenario: Arc<Scenario>,
    pub target: Arc<Target>,
    pub orders: Arc<Orders>,
    /// The number of the run; it is in the channels' names and in each stamp.
    pub run: u64,
    pub checksum: bool,
    pub number: u32,
    /// Cores that have channels.
    pub workers: u32,
}

/// One core of the generator, while it runs.
#[derive(Debug)]
pub(crate) struct Worker {
    pub task: Task,
    pub clock: Rc<Clock>,
    pub meter: Rc<Meter>,
    /// What goes with each call: the token.
    pub call_options: CallOptions,
    settings: ClientSettings,
    clients: RefCell<Clients>,
    /// Whether the server answers subscriptions with its headers at once.
    answers_at_once: Cell<bool>,
    /// Producers that may still send.
    producers: Cell<usize>,
}

/// Connections, and the one that is used next.
#[derive(Debug)]
struct Clients {
    open: Vec<Client>,
    /// As many as there may be; 0: one for each that asks.
    limit: usize,
    next: usize,
}

impl Worker {
    /// The scenario.
    pub(crate) fn scenario(&self) -> &Scenario {
        &self.task.scenario
    }

    /// A connection for one more producer or consumer: a new one, or one that others use too.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let shared = {
            let mut clients = self.clients.borrow_mut();
            let place = clients.next;
            clients.next += 1;
            if clients.limit > 0 && clients.open.len() >= clients.limit {
                clients.open.get(place % clients.limit).cloned()
            } else {
                None
            }
        };
        if let Some(client) = shared {
            return Ok(client);
        }
        let client = self.connect().await?;
        self.clients.borrow_mut().open.push(client.clone());
        Ok(client)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let target = &self.task.target;
        let addresses = &target.addresses;
        let place = self.clients.borrow().open.len() % addresses.len().max(1);
        let address = *addresses.get(place).context("the target has no address")?;
        Client::connect(address, self.settings.clone())
            .await
            .with_context(|| format!("cannot connect to {address} ({})", target.name))
    }

    /// The messages of a flow's producer: its kind of bodies, its own seed.
    pub(crate) fn bodies(&self, flow: &Flow, producer: u32) -> Bodies {
        let scenario = self.scenario();
        let number = u64::from(flow.number) << 32 | u64::from(producer);
        let seed = scenario.seed.wrapping_add(number.wrapping_mul(SPREAD));
        Bodies::new(&scenario.payload, seed, self.task.checksum)
    }

    /// Opens a subscription and waits until it is active.
    pub(crate) async fn subscribe(
        &self,
        client: &Client,
        path: &'static str,
        message: Bytes,
    ) -> anyhow::Result<ClientStream> {
        let describe = |status: Status| anyhow::anyhow!("{path}: {}", describe(&status));
        let mut stream = client
            .server_stream(path, message, &self.call_options)
            .map_err(describe)?;
        // Known not to answer: the wait is for what the server may refuse at once.
        let patience = if self.answers_at_once.get() {
            HEADERS_PATIENCE
        } else {
            Duration::from_millis(20)
        };
        match within(patience, stream.headers()).await {
            Some(result) => result.map_err(describe)?,
            None => self.answers_at_once.set(false),
        }
        Ok(stream)
    }

    /// Whether the server still answers, on every connection that has not ended.
    async fn server_answers(&self) -> bool {
        let clients = self.clients.borrow().open.clone();
        let until = rt::now().after(ANSWER);
        for client in clients
            .iter()
            .filter(|client| !client.control().has_ended())
        {
            let left = until.since(rt::now());
            let answered = within(left, client.control().ping()).await;
            if !matches!(answered, Some(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// Whether the run is over, so that the end of a stream is no news.
    pub(crate) fn is_closing(&self) -> bool {
        self.clock.is_closing()
    }

    pub(crate) fn producer_begins(&self) {
        self.producers.set(self.producers.get() + 1);
    }

    pub(crate) fn producer_ends(&self) {
        self.producers.set(self.producers.get().saturating_sub(1));
    }
}

/// A status in a few words.
pub(crate) fn describe(status: &Status) -> String {
    let code: Code = status.code();
    match status.message() {
        "" => code.to_string(),
        message => format!("{code}: {message}"),
    }
}

/// Runs one core from its connections to its end.
pub(crate) async fn run(task: Task, news: Sender<News>) {
    let last = match drive(task, &news).await {
        Ok(last) => News::Last(Box::new(last)),
        Err(error) => News::Failed(error),
    };
    let _main_thread_is_gone = news.send(last);
}

async fn drive(task: Task, news: &Sender<News>) -> anyhow::Result<Last> {
    let scenario = task.scenario.clone();
    let clock = Clock::new(&scenario);
    let meter = Meter::new(&clock, task.number, &scenario, news.clone());
    let worker = Rc::new(Worker {
        call_options: task.target.call_options(),
        settings: task.target.client_settings()?,
        clients: RefCell::new(Clients {
            open: Vec::new(),
            limit: share(scenario.connections, task.workers, task.number),
            next: 0,
        }),
        answers_at_once: Cell::new(true),
        producers: Cell::new(0),
        clock,
        meter,
        task,
    });
    let flows = flows(&worker);
    let opened = open(&worker, &flows, news).await;
    let result = match opened {
        Ok(()) => Ok(phases(&worker, &flows).await),
        Err(error) => Err(error),
    };
    worker.clock.close();
    flows.iter().for_each(|flow| flow.wake());
    close(&worker).await;
    result
}

/// The channels of this core.
fn flows(worker: &Worker) -> Vec<Rc<Flow>> {
    let Task {
        scenario,
        run,
        checksum,
        number,
        workers,
        ..
    } = &worker.task;
    let mine = (0..scenario.channels).filter(|channel| channel % workers == *number);
    mine.map(|channel| Flow::new(channel, *run, *checksum, scenario, &worker.meter))
        .collect()
}

/// Of `all` that are spread over `workers`, how many are those of one; at least one if any.
fn share(all: u32, workers: u32, number: u32) -> usize {
    if all == 0 {
        return 0;
    }
    let share = all / workers + u32::from(number < all % workers);
    usize::try_from(share.max(1)).unwrap_or(usize::MAX)
}

/// Connects and subscribes, then waits for the common beginning.
async fn open(worker: &Rc<Worker>, flows: &[Rc<Flow>], news: &Sender<News>) -> anyhow::Result<()> {
    let orders = &worker.task.orders;
    for flow in flows {
        patterns::open(worker, flow).await?;
        anyhow::ensure!(!orders.stop.load(Ordering::Relaxed), "interrupted");
    }
    if !worker.answers_at_once.get() {
        // The last subscription has not been given its time yet.
        rt::sleep(HEADERS_PATIENCE).await;
    }
    let _main_thread_is_gone = news.send(News::Ready);
    loop {
        anyhow::ensure!(!orders.stop.load(Ordering::Relaxed), "interrupted");
        let begin_ns = orders.begin_ns.load(Ordering::Acquire);
        if begin_ns > 0 {
            worker.clock.begin(begin_ns);
            flows.iter().for_each(|flow| flow.wake());
            return Ok(());
        }
        rt::sleep(LOOK).await;
    }
}

/// Warm-up, counted time and drain.
async fn phases(worker: &Rc<Worker>, flows: &[Rc<Flow>]) -> Last {
    let (clock, meter) = (&worker.clock, &worker.meter);
    let mut busy = None;
    loop {
        let now_ns = rt::now().as_ns();
        meter.tick(now_ns);
        if busy.is_none() && now_ns >= clock.measure_ns() {
            busy = Some(Busy::begin());
        }
        let stopped = worker.task.orders.stop.load(Ordering::Relaxed);
        if stopped || worker.producers.get() == 0 {
            clock.end_at(now_ns);
        }
        if now_ns >= clock.end_ns() {
            break;
        }
        flows
            .iter()
            .for_each(|flow| flow.forgive_stalls(now_ns, STALL_NS));
        let left = Duration::from_nanos(clock.end_ns() - now_ns);
        rt::sleep(left.min(LOOK)).await;
    }
    let busy = busy.map_or(0.0, |busy| busy.end());
    meter.cut(rt::now().as_ns());
    flows.iter().for_each(|flow| flow.wake());
    let silent = drain(worker, flows).await;
    // What a producer has not handed over cannot be lost, nor what a frozen server still holds.
    let answers = silent && worker.producers.get() == 0 && worker.server_answers().await;
    let on_the_way = flows.iter().map(|flow| flow.count_lost(answers)).sum();
    Last {
        unconfirmed: flows.iter().map(|flow| flow.fail_unsettled()).sum(),
        broken: flows.iter().map(|flow| flow.broken()).sum(),
        totals: meter.finish(rt::now().as_ns()),
        end_ns: clock.end_ns(),
        busy,
        on_the_way,
    }
}

/// Waits until everything is there, or nothing comes any more, or the drain is over. Whether
/// what is missing now will not come.
async fn drain(worker: &Worker, flows: &[Rc<Flow>]) -> bool {
    let drain_ns = ns_of(worker.scenario().drain);
    let until_ns = worker.clock.end_ns() + drain_ns;
    let silence_ns = SILENCE_NS.min(drain_ns / 2);
    let mut received = 0;
    let mut moved_ns = rt::now().as_ns();
    loop {
        let now_ns = rt::now().as_ns();
        worker.meter.tick(now_ns);
        let sum = flows.iter().map(|flow| flow.received()).sum();
        if received != sum {
            (received, moved_ns) = (sum, now_ns);
        }
        // Producers may still be in the middle of handing over what was due.
        if worker.producers.get() == 0 && flows.iter().all(|flow| flow.is_complete()) {
            return true;
        }
        let silent = now_ns.saturating_sub(moved_ns) >= silence_ns;
        let stopped = worker.task.orders.stop.load(Ordering::Relaxed);
        if now_ns >= until_ns || stopped && silent {
            return silent;
        }
        rt::sleep(LOOK).await;
    }
}

/// Closes all connections and waits for the tasks that lived on them.
async fn close(worker: &Worker) {
    let clients = std::mem::take(&mut worker.clients.borrow_mut().open);
    for client in &clients {
        client.close();
    }
    let until = rt::now().after(CLOSING);
    // One task is the transport's own, for its timers; it ends later, by itself.
    let open = || clients.iter().any(|client| !client.control().has_ended());
    while (open() || rt::task_stats().live > 1) && rt::now() < until {
        rt::sleep(Duration::from_millis(2)).await;
    }
}

/// How much of a time a core worked. Looking for work is none: a core that spins may be idle.
#[derive(Debug)]
struct Busy {
    began: rt::Instant,
    worked_ns: u64,
}

impl Busy {
    fn begin() -> Self {
        Self {
            began: rt::now(),
            worked_ns: rt::busy_ns(),
        }
    }

    fn end(&self) -> f64 {
        let wall = rt::now().since(self.began).as_secs_f64();
        let worked = rt::busy_ns().saturating_sub(self.worked_ns);
        if wall > 0.0 {
            (number(worked) / 1e9 / wall).min(1.0)
        } else {
            0.0
        }
    }
}
