//! What all cores found, put together.

use std::sync::Arc;
use std::time::Duration;

use ringmq::rt;

use super::validity::{Findings, reasons};
use crate::clock::ns_of;
use crate::meter::{TICK_NS, Tick, Totals};
use crate::outcome::{
    Checks, Counts, ErrorCount, GeneratorUse, Outcome, Phase, Progress, Slice, Times, number, times,
};
use crate::scenario::Scenario;
use crate::server::{Account, machine};
use crate::target::Target;
use crate::worker::Last;

/// Slices of a timeline, at most; the last one may be shorter.
const SLICES_MAX: u64 = 100;

/// Violations told in words.
const EXAMPLES_MAX: usize = 10;

/// The accounts of both sides at one moment.
#[derive(Clone, Debug)]
struct Accounts {
    own: Option<Account>,
    server: Option<Account>,
}

/// A run as far as it is known.
#[derive(Debug)]
pub(super) struct Gathered {
    scenario: Arc<Scenario>,
    pid: Option<u32>,
    slice_ns: u64,
    slices: Vec<Slice>,
    begin_ns: u64,
    end_ns: u64,
    began_unix_ms: u64,
    at_begin: Option<Accounts>,
    at_end: Option<Accounts>,
    counts: Counts,
    latency: Times,
    acknowledged: Times,
    lasts: Vec<Last>,
    shown: Shown,
}

/// What the next look at the run will show.
#[derive(Debug)]
struct Shown {
    looked_ns: u64,
    fresh: bool,
    counts: Counts,
    latency: Times,
    /// Of each core, the whole run.
    failed: Vec<u64>,
    violations: Vec<u64>,
}

impl Gathered {
    pub(super) fn new(scenario: &Arc<Scenario>, pid: Option<u32>, workers: usize) -> Self {
        let ticks = ns_of(scenario.duration).div_ceil(TICK_NS).max(1);
        Self {
            scenario: scenario.clone(),
            pid,
            slice_ns: ticks.div_ceil(SLICES_MAX) * TICK_NS,
            slices: Vec::new(),
            begin_ns: u64::MAX,
            end_ns: u64::MAX,
            began_unix_ms: 0,
            at_begin: None,
            at_end: None,
            counts: Counts::default(),
            latency: times(),
            acknowledged: times(),
            lasts: Vec::new(),
            shown: Shown {
                looked_ns: rt::now().as_ns(),
                fresh: true,
                counts: Counts::default(),
                latency: times(),
                failed: vec![0; workers],
                violations: vec![0; workers],
            },
        }
    }

    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    fn measure_ns(&self) -> u64 {
        self.begin_ns.saturating_add(ns_of(self.scenario.warm_up))
    }

    /// The run begins; gives back when its drain will be over.
    pub(super) fn begin(&mut self, begin_ns: u64) -> u64 {
        self.begin_ns = begin_ns;
        self.end_ns = self
            .measure_ns()
            .saturating_add(ns_of(self.scenario.duration));
        self.end_ns.saturating_add(ns_of(self.scenario.drain))
    }

    /// The run ends now, if it would not earlier.
    pub(super) fn end_at(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns);
    }

    /// How long to wait for news: `most`, or until the next account has to be read.
    pub(super) fn wait(&self, most: Duration) -> Duration {
        let now_ns = rt::now().as_ns();
        let next_ns = if self.at_begin.is_none() {
            self.measure_ns()
        } else if self.at_end.is_none() {
            self.end_ns
        } else {
            u64::MAX
        };
        most.min(Duration::from_nanos(next_ns.saturating_sub(now_ns)))
    }

    /// Reads the accounts when the counted time begins and ends.
    pub(super) fn look(&mut self) {
        let now_ns = rt::now().as_ns();
        if self.at_begin.is_none() && now_ns >= self.measure_ns() {
            self.at_begin = Some(self.accounts());
            self.began_unix_ms = u64::try_from(rt::unix_ns() / 1_000_000).unwrap_or(0);
        }
        if self.at_begin.is_some() && self.at_end.is_none() && now_ns >= self.end_ns {
            self.at_end = Some(self.accounts());
        }
    }

    /// The run is over, perhaps before its time.
    pub(super) fn close(&mut self) {
        self.end_at(rt::now().as_ns());
        self.look();
    }

    fn accounts(&self) -> Accounts {
        Accounts {
            own: Account::read(std::process::id()),
            server: self.pid.and_then(Account::read),
        }
    }

    pub(super) fn tick(&mut self, tick: &Tick) {
        let worker = usize::try_from(tick.worker).unwrap_or(usize::MAX);
        if let Some(failed) = self.shown.failed.get_mut(worker) {
            *failed = tick.failed;
        }
        if let Some(violations) = self.shown.violations.get_mut(worker) {
            *violations = tick.violations;
        }
        self.shown.fresh = true;
        add_counts(&mut self.shown.counts, &tick.counts);
        let main = if self.scenario.consumers == 0 {
            &tick.acknowledged
        } else {
            &tick.latency
        };
        add_times(&mut self.shown.latency, main);
        match tick.phase {
            Phase::Connect | Phase::WarmUp => return,
            Phase::Measure => {
                add_counts(&mut self.counts, &tick.counts);
                self.add_to_slice(tick);
            }
            // What was due before is counted when it is known; the rest is not throughput.
            Phase::Drain => self.counts.intended += tick.counts.intended,
        }
        add_times(&mut self.latency, &tick.latency);
        add_times(&mut self.acknowledged, &tick.acknowledged);
    }

    fn add_to_slice(&mut self, tick: &Tick) {
        let place = usize::try_from(tick.offset_ns / self.slice_ns).unwrap_or(usize::MAX);
        let length = number(self.slice_ns) / 1e9;
        while self.slices.len() <= place {
            let end = length * number(self.slices.len() as u64 + 1);
            self.slices.push(Slice {
                end: end.min(self.scenario.duration),
                counts: Counts::default(),
                latency: times(),
                acknowledged: times(),
            });
        }
        if let Some(slice) = self.slices.get_mut(place) {
            add_counts(&mut slice.counts, &tick.counts);
            add_times(&mut slice.latency, &tick.latency);
            add_times(&mut slice.acknowledged, &tick.acknowledged);
        }
    }

    pub(super) fn last(&mut self, last: Last) {
        self.lasts.push(last);
    }

    /// Shows what is new since the last look, or that a phase goes on without news.
    pub(super) fn show(&mut self, watch: &mut dyn FnMut(&Progress)) {
        let now_ns = rt::now().as_ns();
        let span_ns = now_ns.saturating_sub(self.shown.looked_ns);
        if !self.shown.fresh && span_ns < TICK_NS {
            return;
        }
        let elapsed_ns = now_ns.saturating_sub(self.begin_ns);
        let shown = &mut self.shown;
        shown.looked_ns = now_ns;
        shown.fresh = false;
        let phase = match now_ns {
            now_ns if now_ns < self.begin_ns => Phase::Connect,
            now_ns if now_ns >= self.end_ns => Phase::Drain,
            now_ns if now_ns < self.begin_ns + ns_of(self.scenario.warm_up) => Phase::WarmUp,
            _ => Phase::Measure,
        };
        watch(&Progress {
            phase,
            elapsed: number(elapsed_ns) / 1e9,
            total: self.scenario.warm_up + self.scenario.duration,
            span: number(span_ns) / 1e9,
            counts: std::mem::take(&mut shown.counts),
            latency: std::mem::replace(&mut shown.latency, times()),
            failed: shown.failed.iter().sum(),
            violations: shown.violations.iter().sum(),
        });
    }

    /// The result of the run.
    pub(super) fn outcome(self, target: &Target) -> Outcome {
        let measure_ns = self.measure_ns();
        let ends = self.lasts.iter().map(|last| last.end_ns);
        let end_ns = ends.max().unwrap_or(measure_ns);
        let seconds = (number(end_ns.saturating_sub(measure_ns)) / 1e9).max(1e-9);
        let mut slices = self.slices;
        if let Some(slice) = slices.last_mut() {
            // Of a run that ended early.
            slice.end = slice.end.min(seconds);
        }
        let totals = self.lasts.iter().map(|last| &last.totals);
        let own = both(&self.at_begin, &self.at_end, |accounts| {
            accounts.own.as_ref()
        });
        let server = both(&self.at_begin, &self.at_end, |accounts| {
            accounts.server.as_ref()
        });
        let findings = Findings {
            saturated: server.map(|(before, after)| after.was_saturated(before)),
            left_behind: totals.clone().map(|totals| totals.left_behind).sum(),
            unconfirmed: self.lasts.iter().map(|last| last.unconfirmed).sum(),
            on_the_way: self.lasts.iter().map(|last| last.on_the_way).sum(),
            broken: self.lasts.iter().map(|last| last.broken).sum(),
        };
        let messages = if self.scenario.consumers == 0 {
            self.counts.sent
        } else {
            self.counts.delivered
        };
        let mut outcome = Outcome {
            scenario: (*self.scenario).clone(),
            target: target.name.clone(),
            machine: machine(),
            began_unix_ms: self.began_unix_ms,
            seconds,
            counts: self.counts,
            latency: self.latency,
            acknowledged: self.acknowledged,
            lateness: lateness(totals.clone()),
            errors: errors(totals.clone()),
            checks: checks(totals),
            generator: GeneratorUse {
                busy: self.lasts.iter().map(|last| last.busy).collect(),
                cpu_us_each: own.map_or(0.0, |(before, after)| after.cpu_us_each(before, messages)),
            },
            server: server.map(|(before, after)| after.used_since(before, messages)),
            timeline: slices,
            invalid: Vec::new(),
        };
        outcome.invalid = reasons(&outcome, &findings);
        outcome
    }
}

/// The same account before and after, when it could be read both times.
fn both<'a>(
    before: &'a Option<Accounts>,
    after: &'a Option<Accounts>,
    which: impl Fn(&'a Accounts) -> Option<&'a Account>,
) -> Option<(&'a Account, &'a Account)> {
    which(before.as_ref()?).zip(which(after.as_ref()?))
}

fn add_counts(sum: &mut Counts, counts: &Counts) {
    sum.intended += counts.intended;
    sum.sent += counts.sent;
    sum.acknowledged += counts.acknowledged;
    sum.delivered += counts.delivered;
    sum.body_bytes += counts.body_bytes;
    sum.failed += counts.failed;
}

fn add_times(sum: &mut Times, times: &Times) {
    if !times.is_empty() {
        // They have the same bounds, and are asked to grow where they have not.
        sum.add(times).expect("histograms of equal bounds");
    }
}

fn lateness<'a>(totals: impl Iterator<Item = &'a Totals>) -> Times {
    let mut sum = times();
    totals.for_each(|totals| add_times(&mut sum, &totals.lateness));
    sum
}

/// Errors of all cores, the most frequent first.
fn errors<'a>(totals: impl Iterator<Item = &'a Totals>) -> Vec<ErrorCount> {
    let mut all: Vec<ErrorCount> = Vec::new();
    for error in totals.flat_map(|totals| &totals.errors) {
        match all.iter_mut().find(|known| known.text == error.text) {
            Some(known) => known.count += error.count,
            None => all.push(error.clone()),
        }
    }
    all.sort_by_key(|error| std::cmp::Reverse(error.count));
    all
}

fn checks<'a>(totals: impl Iterator<Item = &'a Totals>) -> Checks {
    let mut sum = Checks::default();
    for checks in totals.map(|totals| &totals.checks) {
        sum.checked += checks.checked;
        sum.lost += checks.lost;
        sum.duplicated += checks.duplicated;
        sum.reordered += checks.reordered;
        sum.corrupted += checks.corrupted;
        sum.redelivered += checks.redelivered;
        sum.examples.extend(checks.examples.iter().cloned());
    }
    sum.examples.truncate(EXAMPLES_MAX);
    sum
}
