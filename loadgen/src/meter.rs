//! What one core counts. No locks: slices of time go to the main thread as messages.
//!
//! Two rules say what counts. Numbers of messages (sent, acknowledged, delivered, failed) are those
//! of the moments within the counted time: a backlog that arrives afterwards is not throughput.
//! Latencies are those of the messages that should have been sent within it, however late they
//! came; those that were never sent count with the time that they have waited: leaving them out
//! would flatter a server that holds its senders back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::Sender;

use crate::clock::Clock;
use crate::outcome::{Checks, Counts, ErrorCount, Phase, Times, times};
use crate::scenario::{Calls, Pattern, Scenario};
use crate::worker::News;

/// Different error texts that are told apart; the rest is counted together.
const TEXTS_MAX: usize = 20;

/// Violations that are told in words.
const EXAMPLES_MAX: usize = 10;

/// How often counts are sent; slices of a timeline are made of these.
pub(crate) const TICK_NS: u64 = 250_000_000;

/// A kind of violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
}

/// What happened on one core in a part of a phase.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    /// Which core.
    pub worker: u32,
    pub phase: Phase,
    /// When it began, from the beginning of the counted time; of that phase only.
    pub offset_ns: u64,
    pub counts: Counts,
    pub latency: Times,
    pub acknowledged: Times,
    /// Of the whole run, so far.
    pub failed: u64,
    /// Of the whole run, so far.
    pub violations: u64,
}

/// What one core found over the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub lateness: Times,
    /// Messages that were due while there was room for them, and not handed over before the end.
    pub left_behind: u64,
    pub errors: Vec<ErrorCount>,
    pub checks: Checks,
}

/// The counts of one core.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Rc<Clock>,
    worker: u32,
    /// Whether bodies count when they are sent, not when they arrive.
    sends_only: bool,
    /// Whether the server confirms each message.
    confirms: bool,
    news: Sender<News>,
    current: RefCell<Current>,
    totals: RefCell<Totals>,
    failed: Cell<u64>,
}

#[derive(Debug)]
struct Current {
    /// When it is to be sent.
    until_ns: u64,
    tick: Tick,
}

impl Meter {
    pub(crate) fn new(
        clock: &Rc<Clock>,
        worker: u32,
        scenario: &Scenario,
        news: Sender<News>,
    ) -> Rc<Self> {
        let sends_only = scenario.consumers == 0
            && matches!(
                scenario.pattern,
                Pattern::Events | Pattern::EventsStore | Pattern::Queue
            );
        let stored = matches!(scenario.pattern, Pattern::EventsStore | Pattern::Queue);
        let accepted = scenario.pattern == Pattern::Events && scenario.calls == Calls::Unary;
        let current = Current {
            until_ns: 0,
            tick: Tick::new(worker, Phase::Connect, 0),
        };
        let totals = Totals {
            lateness: times(),
            left_behind: 0,
            errors: Vec::new(),
            checks: Checks::default(),
        };
        Rc::new(Self {
            clock: clock.clone(),
            worker,
            sends_only,
            confirms: stored || accepted,
            news,
            current: RefCell::new(current),
            totals: RefCell::new(totals),
            failed: Cell::new(0),
        })
    }

    /// The clock that it counts by.
    pub(crate) const fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }

    /// Messages that are due now and will be handed over, by the times at which they should be.
    /// `room_ns` is since when the window has had room for them.
    pub(crate) fn due(&self, intended_ns: &[u64], room_ns: u64, now_ns: u64, open_loop: bool) {
        let measure_ns = self.clock.measure_ns();
        let mut totals = self.totals.borrow_mut();
        let mut counted = 0;
        for intended_ns in intended_ns.iter().filter(|time| **time >= measure_ns) {
            counted += 1;
            if open_loop {
                let could_ns = room_ns.max(*intended_ns);
                totals
                    .lateness
                    .saturating_record(now_ns.saturating_sub(could_ns));
            }
        }
        drop(totals);
        self.with(now_ns, |current, _| current.counts.intended += counted);
    }

    /// A message that was due before the end and was never sent, because there was no room
    /// (`room` is false) or because the generator did not get to it.
    pub(crate) fn unsent(&self, intended_ns: u64, now_ns: u64, room: bool) {
        if intended_ns < self.clock.measure_ns() {
            return;
        }
        if room {
            self.totals.borrow_mut().left_behind += 1;
        }
        self.with(now_ns, |current, _| {
            current.counts.intended += 1;
            let waited_ns = now_ns.saturating_sub(intended_ns);
            if !self.sends_only {
                current.latency.saturating_record(waited_ns);
            }
            if self.confirms {
                current.acknowledged.saturating_record(waited_ns);
            }
        });
    }

    /// `count` messages were handed over, with bodies of so many bytes.
    pub(crate) fn sent(&self, count: u64, body_bytes: u64, now_ns: u64) {
        let sends_only = self.sends_only;
        self.with(now_ns, |current, _| {
            current.counts.sent += count;
            if sends_only {
                current.counts.body_bytes += body_bytes;
            }
        });
    }

    /// A message arrived at a consumer, or an answer at its caller.
    pub(crate) fn delivered(&self, intended_ns: u64, now_ns: u64, body_bytes: usize) {
        self.with(now_ns, |current, from_ns| {
            current.counts.delivered += 1;
            current.counts.body_bytes += u64::try_from(body_bytes).unwrap_or(u64::MAX);
            if intended_ns >= from_ns {
                let took_ns = now_ns.saturating_sub(intended_ns);
                current.latency.saturating_record(took_ns);
            }
        });
    }

    /// The server confirmed a message.
    pub(crate) fn acknowledged(&self, intended_ns: u64, now_ns: u64) {
        self.with(now_ns, |current, from_ns| {
            current.counts.acknowledged += 1;
            if intended_ns >= from_ns {
                let took_ns = now_ns.saturating_sub(intended_ns);
                current.acknowledged.saturating_record(took_ns);
            }
        });
    }

    /// `count` messages failed, or something else did (with a count of one).
    pub(crate) fn failed(&self, text: &str, count: u64, now_ns: u64) {
        self.failed.set(self.failed.get() + count);
        self.with(now_ns, |current, _| current.counts.failed += count);
        let errors = &mut self.totals.borrow_mut().errors;
        let other = "(other errors)";
        let known = errors.iter().position(|known| known.text == text);
        let place = known.or_else(|| {
            let full = errors.len() >= TEXTS_MAX;
            full.then(|| errors.iter().position(|known| known.text == other))?
        });
        match place.and_then(|place| errors.get_mut(place)) {
            Some(known) => known.count += count,
            None => {
                let full = errors.len() >= TEXTS_MAX;
                let text = if full { other } else { text }.to_owned();
                errors.push(ErrorCount { text, count });
            }
        }
    }

    /// A message was looked at.
    pub(crate) fn checked(&self) {
        self.totals.borrow_mut().checks.checked += 1;
    }

    /// The server said that this is a repetition.
    pub(crate) fn redelivered(&self) {
        self.totals.borrow_mut().checks.redelivered += 1;
    }

    /// `count` messages were not what they should be; `text` is asked for the first few.
    pub(crate) fn violation(&self, kind: Violation, count: u64, text: impl FnOnce() -> String) {
        let checks = &mut self.totals.borrow_mut().checks;
        let counter = match kind {
            Violation::Lost => &mut checks.lost,
            Violation::Duplicated => &mut checks.duplicated,
            Violation::Reordered => &mut checks.reordered,
            Violation::Corrupted => &mut checks.corrupted,
        };
        *counter += count;
        if checks.examples.len() < EXAMPLES_MAX {
            checks.examples.push(text());
        }
    }

    /// Sends what was counted so far, when its time has come.
    pub(crate) fn tick(&self, now_ns: u64) {
        self.with(now_ns, |_, _| ());
    }

    /// Sends what was counted so far: another phase begins.
    pub(crate) fn cut(&self, now_ns: u64) {
        self.send(&mut self.current.borrow_mut(), now_ns);
    }

    /// Sends the rest and gives back the totals.
    pub(crate) fn finish(&self, now_ns: u64) -> Totals {
        self.send(&mut self.current.borrow_mut(), now_ns);
        self.totals.borrow().clone()
    }

    /// Counts in the tick of this moment; the second argument of `count` is the intended time from
    /// which on latencies are of interest.
    fn with(&self, now_ns: u64, count: impl FnOnce(&mut Tick, u64)) {
        let mut current = self.current.borrow_mut();
        if now_ns >= current.until_ns {
            self.send(&mut current, now_ns);
        }
        let from_ns = match current.tick.phase {
            Phase::Connect | Phase::WarmUp => 0,
            Phase::Measure | Phase::Drain => self.clock.measure_ns(),
        };
        count(&mut current.tick, from_ns);
    }

    /// Sends the current tick and begins that of `now_ns`.
    fn send(&self, current: &mut Current, now_ns: u64) {
        let phase = self.clock.phase(now_ns);
        let (offset_ns, until_ns) = match phase {
            Phase::Measure => {
                let begin_ns = self.clock.measure_ns();
                let offset_ns = (now_ns - begin_ns) / TICK_NS * TICK_NS;
                let until_ns = begin_ns + offset_ns + TICK_NS;
                (offset_ns, until_ns.min(self.clock.end_ns()))
            }
            Phase::WarmUp => (0, (now_ns + TICK_NS).min(self.clock.measure_ns())),
            Phase::Connect => (0, 0),
            Phase::Drain => (0, now_ns + TICK_NS),
        };
        current.until_ns = until_ns;
        let next = Tick::new(self.worker, phase, offset_ns);
        let mut done = std::mem::replace(&mut current.tick, next);
        if done.phase != Phase::Connect {
            done.failed = self.failed.get();
            done.violations = self.totals.borrow().checks.violations();
            let _nobody_listens_any_more = self.news.send(News::Tick(Box::new(done)));
        }
    }
}

impl Tick {
    fn new(worker: u32, phase: Phase, offset_ns: u64) -> Self {
        Self {
            worker,
            phase,
            offset_ns,
            counts: Counts::default(),
            latency: times(),
            acknowledged: times(),
            failed: 0,
            violations: 0,
        }
    }
}
