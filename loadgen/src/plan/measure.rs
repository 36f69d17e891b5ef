//! Measuring: the fixed set of points, each against a broker that was started for it.
//!
//! Rounds go over all points before any is measured again, so that a disturbance of some seconds
//! hits one round of many points and not all rounds of one.

#![allow(clippy::print_stderr, reason = "this is where progress is told")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::arguments::Measuring;
use super::broker::{Broker, Recipe};
use super::points::{
    Curve, CurvePoint, Family, MachineFacts, Measured, Memory, Point, Purpose, SATURATED,
    StoredBytes, Sync, is_stored,
};
use super::scenarios::{self, LOADS, SIZE, SIZES, Task};
use super::{machine, model};
use crate::measure::costs;
use crate::outcome::{Outcome, number};
use crate::run::Options;
use crate::scenario::{Load, Pattern, Scenario};
use crate::series;
use crate::spread::Spread;
use crate::target::Target;

/// Seconds of the first and of the second fill of a disk; the first takes what a broker has ready.
const FILLS: [f64; 2] = [0.5, 3.0];

/// A broker that sleeps as soon as it has nothing to do.
const NO_SPIN: &str = "engine.spin_us=0";

/// Small segments, so that the space of messages is not hidden in that of the last segment.
const FILL_SEGMENT: &str = "store.segment_bytes=1MiB";

/// How much is put into a broker to see what each thing takes: enough to stand above the noise.
const THINGS: costs::Scenario = costs::Scenario {
    messages: 200_000,
    queues: 20_000,
    connections: 1_000,
    subscriptions: 5,
};

/// Measures a broker.
#[derive(Debug)]
pub(crate) struct Measurer<'a> {
    measuring: &'a Measuring,
    options: &'a Options,
    place: machine::Place,
    program: PathBuf,
}

/// The runs of one point.
#[derive(Debug)]
struct Runs {
    task: Task,
    outcomes: Vec<(Outcome, Option<f64>)>,
}

impl<'a> Measurer<'a> {
    /// # Errors
    /// When there is no broker to be started.
    pub(crate) fn new(measuring: &'a Measuring, options: &'a Options) -> anyhow::Result<Self> {
        let program = match (&measuring.broker, measuring.broker_address) {
            (Some(program), _) => program
                .canonicalize()
                .with_context(|| format!("--broker: there is no program {}", program.display()))?,
            (None, Some(_)) => PathBuf::new(),
            (None, None) => beside_this_program()?,
        };
        Ok(Self {
            measuring,
            options,
            place: machine::Place::of(options),
            program,
        })
    }

    /// Measures all that was asked for.
    ///
    /// # Errors
    /// When a broker does not start or a run cannot be made.
    pub(crate) fn measure(&self) -> anyhow::Result<Measured> {
        let given = self
            .measuring
            .broker_address
            .map(|address| address.to_string());
        let name = given.unwrap_or_else(|| self.program.display().to_string());
        let seconds = self.measuring.seconds_each;
        let mut measured = Measured::new(name, machine::unix_ms(), seconds, self.measuring.rounds);
        measured.generator_apart = self.place.is_apart(1);
        measured.notes = self.notes();
        if self.starts_brokers() {
            measured.memory.idle = self.idle_memory()?;
        }
        let families = self.families();
        self.points(&families, &mut measured)?;
        for family in families {
            let curve = self.curve(family, &measured)?;
            measured.curves.extend(curve);
        }
        if self.starts_brokers() && !self.measuring.without_memory {
            self.things(&mut measured.memory)?;
            measured.disk = self.disk()?;
        }
        measured.note_load();
        Ok(measured)
    }

    /// Predicts and measures scenarios that are not among the points.
    ///
    /// # Errors
    /// When a broker does not start or a run cannot be made.
    pub(crate) fn check(&self, measured: &Measured) -> anyhow::Result<Vec<super::check::Check>> {
        let families = measured.families().into_iter();
        let wanted = self.families();
        let tasks: Vec<Task> = families
            .filter(|family| wanted.contains(family))
            .flat_map(scenarios::checks)
            .collect();
        let mut machine = MachineFacts::default();
        let points = self.runs(&tasks, &mut machine)?;
        Ok(super::check::compare(measured, &points))
    }

    fn starts_brokers(&self) -> bool {
        self.measuring.broker_address.is_none()
    }

    fn families(&self) -> Vec<Family> {
        let mut syncs = self.measuring.syncs.clone();
        if !self.starts_brokers() {
            // A given broker has one, and the first is taken for it.
            syncs.truncate(1);
        }
        scenarios::families(&self.measuring.patterns(), &syncs)
    }

    fn executors(&self) -> &'static [u32] {
        match self.starts_brokers() && self.place.processors() > 1 {
            true => &[1, 2],
            false => &[1],
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.place.notes(self.executors());
        if self.starts_brokers() && machine::is_memory(&self.measuring.directory) {
            notes.push(format!(
                "The data lay in {}, which is memory and not a disk: syncs cost nothing there. \
                 Give --directory on the disk that is planned for.",
                self.measuring.directory.display()
            ));
        }
        if !self.starts_brokers() {
            notes.push(
                "A running broker was measured, and taken to have one executor; its memory, its \
                 disk and how it scales were not."
                    .into(),
            );
        }
        notes
    }

    fn recipe(&self, executors: u32, sync: Option<Sync>) -> Recipe {
        Recipe {
            program: self.program.clone(),
            directory: self.measuring.directory.clone(),
            executors,
            cpus: self.place.of_broker(executors),
            sync: sync.unwrap_or(Sync::Strict),
            settings: Vec::new(),
        }
    }

    /// One run against a fresh broker, with the bytes that went over the loopback interface.
    fn run(
        &self,
        scenario: &Scenario,
        executors: u32,
        sync: Option<Sync>,
        label: &str,
    ) -> anyhow::Result<(Outcome, Option<f64>)> {
        let mut recipe = self.recipe(executors, sync);
        if scenario.load == Load::Closed && scenario.window > 1 {
            // Time that is spun away is no cost of a message. It is spent only while there is room.
            recipe.settings.push(NO_SPIN.into());
        }
        let broker = match self.measuring.broker_address {
            Some(_) => None,
            None => Some(Broker::start(&recipe)?),
        };
        let target = match &broker {
            Some(broker) => broker.target("broker"),
            None => Target {
                pid: self.measuring.broker_pid,
                ..Target::resolve(&[self
                    .measuring
                    .broker_address
                    .map_or(String::new(), |address| address.to_string())])?
            },
        };
        let options = self.place.generator(self.options, executors);
        let before = machine::loopback_bytes();
        let outcome = series::run(scenario, &target, &options, label)?;
        let bytes = machine::loopback_bytes().zip(before);
        let bytes = bytes.map(|(after, before)| number(after.saturating_sub(before)));
        anyhow::ensure!(
            outcome.server.is_some(),
            "the process of the broker cannot be looked at: its CPU time is not known"
        );
        Ok((outcome, bytes))
    }

    fn points(&self, families: &[Family], measured: &mut Measured) -> anyhow::Result<()> {
        let tasks: Vec<Task> = families
            .iter()
            .flat_map(|&family| scenarios::tasks(family, self.executors()))
            .collect();
        measured.points = self.runs(&tasks, &mut measured.machine)?;
        Ok(())
    }

    fn runs(&self, tasks: &[Task], machine: &mut MachineFacts) -> anyhow::Result<Vec<Point>> {
        let mut all: Vec<Runs> = tasks
            .iter()
            .map(|&task| Runs {
                task,
                outcomes: Vec::new(),
            })
            .collect();
        let (rounds, total) = (self.measuring.rounds, all.len());
        for round in 1..=rounds {
            for (number, runs) in (1..).zip(&mut all) {
                let scenario = scenarios::scenario(&runs.task, self.measuring.seconds_each);
                let label = format!("[{round}/{rounds}, {number}/{total}] {}", scenario.name);
                let task = runs.task;
                let run = self.run(&scenario, task.executors, task.family.sync, &label)?;
                *machine = MachineFacts::from(&run.0.machine);
                runs.outcomes.push(run);
            }
        }
        Ok(all.iter().filter_map(Runs::point).collect())
    }

    /// Latency against load; `None` when the family's cost is not known.
    fn curve(&self, family: Family, measured: &Measured) -> anyhow::Result<Option<Curve>> {
        let points = measured.points_of(family, Purpose::Saturation);
        let full = points
            .filter(|point| point.size == SIZE && point.fan_out == 1)
            .map(|point| match point.busy >= SATURATED {
                // What was seen; blocking work beside the executor makes the sum a little less.
                true => point.rate.median.min(point.saturation()),
                false => point.saturation(),
            })
            .next();
        let Some(saturation) = full else {
            return Ok(None);
        };
        let mut loads = Vec::new();
        for utilisation in LOADS {
            let rate = saturation * utilisation;
            let seconds = self.measuring.seconds_each.max(1.0) * 2.0;
            let scenario = scenarios::load(family, rate, seconds);
            let label = format!("{family} at {:.0} % of saturation", utilisation * 100.0);
            let (outcome, _) = self.run(&scenario, 1, family.sync, &label)?;
            let at = |quantile| series::latency_us(&outcome, quantile).unwrap_or(f64::MAX);
            let kept_up = series::kept_up(&outcome);
            loads.push(CurvePoint {
                utilisation,
                rate,
                p50_us: at(0.5),
                p99_us: at(0.99),
                p999_us: at(0.999),
                busy: outcome.server.map_or(0.0, |server| server.cores),
                kept_up,
                violations: violations(&outcome, kept_up),
                doubts: series::doubts(&outcome),
            });
            if !kept_up {
                break;
            }
        }
        Ok(Some(Curve {
            family,
            size: SIZE,
            saturation,
            loads,
        }))
    }

    fn idle_memory(&self) -> anyhow::Result<Vec<f64>> {
        let mut idle = Vec::new();
        for &executors in self.executors() {
            let broker = Broker::start(&self.recipe(executors, None))?;
            // What a start leaves behind is given back within a second.
            machine::wait(Duration::from_secs(1));
            let resident = machine::resident_bytes(broker.pid());
            idle.push(number(resident.context("the broker has ended by itself")?));
        }
        Ok(idle)
    }

    /// The memory of connections, subscriptions, channels and messages.
    fn things(&self, memory: &mut Memory) -> anyhow::Result<()> {
        eprintln!("memory of connections, subscriptions, channels and messages …");
        let broker = Broker::start(&self.recipe(1, Some(Sync::Interval)))?;
        let costs = costs::costs(broker.address(), broker.pid(), THINGS)?;
        *memory = Memory {
            idle: std::mem::take(&mut memory.idle),
            under_load: None,
            connection: Some(costs.connection),
            first_subscription: Some(costs.first_subscription),
            further_subscription: Some(costs.subscription),
            channel: Some(costs.idle_queue),
            stored_event: Some(costs.stored_event),
            waiting_message: Some(costs.waiting_message),
            delayed_message: Some(costs.delayed_message),
        };
        Ok(())
    }

    /// Space on disk of stored messages.
    fn disk(&self) -> anyhow::Result<Vec<StoredBytes>> {
        let mut disk = Vec::new();
        let patterns = self.measuring.patterns().into_iter();
        for pattern in patterns.filter(|&pattern| is_stored(pattern)) {
            for size in SIZES {
                disk.extend(self.fill(pattern, size)?);
            }
        }
        Ok(disk)
    }

    /// Fills a broker twice: what it keeps ready does not change between the two.
    fn fill(&self, pattern: Pattern, size: u32) -> anyhow::Result<Option<StoredBytes>> {
        let sync = self.measuring.syncs.first().copied();
        let mut recipe = self.recipe(1, sync);
        recipe.settings.push(FILL_SEGMENT.into());
        let broker = Broker::start(&recipe)?;
        let (mut before, mut after, mut messages) = (0, 0, 0);
        let mut written_bytes_each = None;
        for seconds in FILLS {
            let scenario = scenarios::fill(pattern, size, seconds);
            let target = broker.target("broker");
            let options = self.place.generator(self.options, 1);
            let label = format!("space of {}", scenario.name);
            let outcome = series::run(&scenario, &target, &options, &label)?;
            messages = outcome.counts.sent;
            written_bytes_each = written_bytes(&outcome);
            // Pages reach the disk, and what was allocated ahead is given back.
            machine::wait(Duration::from_millis(500));
            before = std::mem::replace(&mut after, broker.disk_bytes());
        }
        let bytes = number(after.saturating_sub(before));
        Ok((messages > 0 && bytes > 0.0).then(|| StoredBytes {
            pattern,
            size,
            messages,
            disk_bytes_each: bytes / number(messages),
            written_bytes_each,
        }))
    }
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program does not know where it lies")?;
    let beside = own.with_file_name("ringmq");
    anyhow::ensure!(
        beside.exists(),
        "there is no broker at {}: give its program with --broker",
        beside.display()
    );
    Ok(beside)
}

impl Runs {
    /// The medians of its runs; `None` when nothing went through.
    fn point(&self) -> Option<Point> {
        let outcomes = || self.outcomes.iter().map(|(outcome, _)| outcome);
        let median = |of: &dyn Fn(&Outcome) -> Option<f64>| {
            Spread::of(outcomes().filter_map(of)).map(|spread| spread.median)
        };
        let task = self.task;
        let wire = self
            .outcomes
            .iter()
            .filter_map(|run| wire_bytes(&task, run));
        let doubts: Vec<String> = outcomes().flat_map(series::doubts).collect();
        Some(Point {
            purpose: task.purpose,
            family: task.family,
            executors: task.executors,
            size: task.size,
            fan_out: task.fan_out,
            rate: Spread::of(outcomes().map(series::sent_rate))?,
            cpu_us_each: Spread::of(outcomes().filter_map(series::cpu_us_sent))
                .filter(|spread| spread.least > 0.0)?,
            busy: median(&|outcome| Some(outcome.server?.cores))? / f64::from(task.executors),
            p50_us: median(&|outcome| series::latency_us(outcome, 0.5)).unwrap_or(0.0),
            p99_us: median(&|outcome| series::latency_us(outcome, 0.99)).unwrap_or(0.0),
            written_bytes_each: median(&written_bytes).filter(|_| is_stored(task.family.pattern)),
            wire_bytes_each: Spread::of(wire).map(|spread| spread.median),
            resident_bytes: outcomes()
                .filter_map(|outcome| Some(outcome.server?.resident_bytes))
                .max()?,
            violations: outcomes().map(|outcome| violations(outcome, true)).sum(),
            doubts,
        })
    }
}

/// Violations, less the plain events that an overloaded broker drops.
fn violations(outcome: &Outcome, kept_up: bool) -> u64 {
    let drops = !kept_up && outcome.scenario.pattern == Pattern::Events;
    let excused = if drops { outcome.checks.lost } else { 0 };
    outcome.checks.violations() - excused
}

/// Bytes written for each message sent.
fn written_bytes(outcome: &Outcome) -> Option<f64> {
    outcome.server?.written_bytes_each
}

/// Bytes beside the bodies that went over the network for each message, at the smallest size and
/// over streams or calls with full windows: with large bodies they drown in them.
fn wire_bytes(task: &Task, (outcome, bytes): &(Outcome, Option<f64>)) -> Option<f64> {
    let smallest = SIZES.iter().min() == Some(&task.size);
    if task.purpose != Purpose::Saturation || !smallest || task.fan_out != 1 {
        return None;
    }
    // Consumers have checked each message once; of a request both ends do, so that its number
    // follows from the rate.
    let messages = match task.family.pattern {
        Pattern::Command | Pattern::Query => {
            let scenario = &outcome.scenario;
            series::sent_rate(outcome) * (scenario.warm_up + scenario.duration)
        }
        _ => number(outcome.checks.checked),
    };
    let passes = f64::from(model::passes(task.family.pattern, 1));
    let body = f64::from(task.size) * passes;
    let each = bytes.as_ref()? / messages - body;
    (messages > 0.0 && each > 0.0).then_some(each)
}
