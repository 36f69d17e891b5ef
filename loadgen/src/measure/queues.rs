//! Queues: delayed messages; idle queues.

mod consumer;
mod delayed;
pub(crate) mod idle;
pub(super) mod producer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use clap::Subcommand;
use ringmq::rt::Notify;

use crate::measure::Run;
use crate::measure::report::Report;
use crate::measure::stored::memory;
use crate::outcome::{Times, times};

const UPSTREAM: &str = "/kubemq.kubemq/QueuesUpstream";
const DOWNSTREAM: &str = "/kubemq.kubemq/QueuesDownstream";
const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Messages delayed to random moments: how late each is delivered.
    Delayed(delayed::Scenario),
    /// Queues without a message: what each costs in memory, and how long their list takes.
    Idle(idle::Scenario),
}

pub(crate) async fn run(run: Run, scenario: Scenario) -> anyhow::Result<Report> {
    let memory = memory::Sampler::start(run.pid);
    let mut report = match scenario {
        Scenario::Delayed(scenario) => delayed::run(run, scenario).await,
        Scenario::Idle(scenario) => idle::run(run, scenario).await,
    }?;
    report.figures.extend(memory.end());
    Ok(report)
}

/// What the producers and consumers of a run share.
#[derive(Debug)]
pub(super) struct Totals {
    /// Messages whose result says that they are stored.
    pub(super) sent: Cell<u64>,
    /// Messages that were received.
    received: Cell<u64>,
    pub(super) violations: Cell<u64>,
    complained: Cell<bool>,
    latency: RefCell<Times>,
    /// No more is sent.
    pub(super) stop: Cell<bool>,
    pub(super) moved: Notify,
}

impl Totals {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            sent: Cell::new(0),
            received: Cell::new(0),
            violations: Cell::new(0),
            complained: Cell::new(false),
            latency: RefCell::new(times()),
            stop: Cell::new(false),
            moved: Notify::new(),
        })
    }

    fn violation(&self, text: &str) {
        if !self.complained.replace(true) {
            eprintln!("first violation: {text}");
        }
        self.violations.set(self.violations.get() + 1);
        self.moved.raise();
    }
}
