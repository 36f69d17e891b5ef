//! The times of a run, and the one timer that all producers of a core wait with.
//!
//! A runtime timer for each producer would cost the reactor a look at all of them in each of its
//! turns. So producers put their next time on a heap, and one task sleeps until shortly before the
//! earliest, and waits for the last part as exactly as its executor can.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringmq::rt::{self, Instant, Notify, Queue, Sleep};

use crate::outcome::Phase;
use crate::scenario::Scenario;

/// The last part of a wait: a parked core wakes up this much late.
const LOOK_NS: u64 = 100_000;

/// Nanoseconds of seconds that are none of nature's (negative, infinite) are none.
pub(crate) fn ns_of(seconds: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When the phases of a run begin, in nanoseconds of [`rt::now`]. One for each core.
#[derive(Debug)]
pub(crate) struct Clock {
    warm_up_ns: u64,
    duration_ns: u64,
    begin_ns: Cell<u64>,
    end_ns: Cell<u64>,
    closing: Cell<bool>,
    alarms: RefCell<BinaryHeap<Reverse<Alarm>>>,
    /// An alarm earlier than all others was set, or the run closes.
    earlier: Notify,
}

#[derive(Debug)]
struct Alarm {
    due_ns: u64,
    raises: Notify,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.due_ns == other.due_ns
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due_ns.cmp(&other.due_ns)
    }
}

impl Clock {
    pub(crate) fn new(scenario: &Scenario) -> Rc<Self> {
        Rc::new(Self {
            warm_up_ns: ns_of(scenario.warm_up),
            duration_ns: ns_of(scenario.duration),
            begin_ns: Cell::new(u64::MAX),
            end_ns: Cell::new(u64::MAX),
            closing: Cell::new(false),
            alarms: RefCell::default(),
            earlier: Notify::new(),
        })
    }

    /// Says when the warm-up begins, and starts the timer.
    pub(crate) fn begin(self: &Rc<Self>, begin_ns: u64) {
        self.begin_ns.set(begin_ns);
        let measured = self.warm_up_ns.saturating_add(self.duration_ns);
        self.end_ns.set(begin_ns.saturating_add(measured));
        rt::spawn(Queue::Serve, "timer", self.clone().keep_time());
    }

    /// When the warm-up begins.
    pub(crate) const fn begin_ns(&self) -> u64 {
        self.begin_ns.get()
    }

    /// When the counted time begins.
    pub(crate) const fn measure_ns(&self) -> u64 {
        self.begin_ns.get().saturating_add(self.warm_up_ns)
    }

    /// When the counted time ends; nothing is sent from then on.
    pub(crate) const fn end_ns(&self) -> u64 {
        self.end_ns.get()
    }

    /// Ends the counted time early. Waiting producers have to be woken by the caller.
    pub(crate) fn end_at(&self, now_ns: u64) {
        self.end_ns.set(self.end_ns.get().min(now_ns));
    }

    /// The phase of a moment.
    pub(crate) const fn phase(&self, now_ns: u64) -> Phase {
        if now_ns < self.begin_ns.get() {
            Phase::Connect
        } else if now_ns >= self.end_ns.get() {
            Phase::Drain
        } else if now_ns < self.measure_ns() {
            Phase::WarmUp
        } else {
            Phase::Measure
        }
    }

    /// Whether the run is over: broken streams are no news any more.
    pub(crate) const fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// The run is over: the timer ends.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.alarms.borrow_mut().clear();
        self.earlier.raise();
    }

    /// Raises `raises` at `due_ns`, or as soon after it as the core gets to it.
    pub(crate) fn alarm(&self, due_ns: u64, raises: &Notify) {
        let mut alarms = self.alarms.borrow_mut();
        let first = alarms
            .peek()
            .is_none_or(|Reverse(first)| due_ns < first.due_ns);
        let raises = raises.clone();
        alarms.push(Reverse(Alarm { due_ns, raises }));
        if first {
            self.earlier.raise();
        }
    }

    async fn keep_time(self: Rc<Self>) {
        while !self.closing.get() {
            let due_ns = self
                .alarms
                .borrow()
                .peek()
                .map(|Reverse(first)| first.due_ns);
            let Some(due_ns) = due_ns else {
                self.earlier.wait().await;
                continue;
            };
            let left_ns = due_ns.saturating_sub(rt::now().as_ns());
            if left_ns == 0 {
                let due = self.alarms.borrow_mut().pop();
                if let Some(Reverse(alarm)) = due {
                    alarm.raises.raise();
                }
            } else if left_ns <= LOOK_NS {
                self.earlier_or(rt::sleep_until(Instant::from_ns(due_ns)))
                    .await;
            } else {
                self.earlier_within(Duration::from_nanos(left_ns - LOOK_NS))
                    .await;
            }
        }
    }

    /// Waits for an earlier alarm, for so long.
    async fn earlier_within(&self, duration: Duration) {
        let mut limit = Sleep::new(duration);
        self.earlier_or(std::future::poll_fn(|cx| limit.poll(cx)))
            .await;
    }

    /// Waits for an earlier alarm, or for `other`.
    async fn earlier_or(&self, other: impl Future<Output = ()>) {
        let mut other = std::pin::pin!(other);
        std::future::poll_fn(|cx| match self.earlier.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => other.as_mut().poll(cx),
        })
        .await;
    }
}

/// Waits for `future`, for so long at most.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut limit = Sleep::new(limit);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => limit.poll(cx).map(|()| None),
    })
    .await
}
