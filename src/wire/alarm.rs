//! Alarms of connections: keepalive, ages, timeouts. Many, long, and rarely gone off.
//!
//! The runtime looks through all of its timers in each turn of the reactor, and a timer that is
//! polled again registers once more. Ten thousand idle connections with a timer each would slow
//! every message on the core. So all alarms of an executor share one task and one timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::rt::{self, Instant, Notify, Queue, Sleep};

/// Deadlines are kept this coarse, so that many that lie close together are one wake-up.
const GRAIN_NS: u64 = 1_000_000;

thread_local! {
    static CLOCK: Rc<Clock> = Rc::default();
}

/// The alarms of an executor, by deadline. The number tells those with the same one apart.
#[derive(Default)]
struct Clock {
    alarms: RefCell<BTreeMap<(Instant, u64), Rc<State>>>,
    next_number: Cell<u64>,
    /// Whether the task runs; it ends when no alarm is set.
    running: Cell<bool>,
    /// Raised when an alarm was set before the one that the task sleeps for.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    gone_off: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

/// A point in time that one task waits for beside other things. Polling it costs nothing to speak
/// of. It goes off up to a few milliseconds late.
#[derive(Debug)]
pub(crate) struct Alarm {
    state: Rc<State>,
    key: (Instant, u64),
}

impl Alarm {
    /// Sets an alarm.
    pub(crate) fn new(after: Duration) -> Self {
        let state = Rc::new(State::default());
        let key = CLOCK.with(|clock| clock.set(after, &state));
        Self { state, key }
    }

    /// Sets it anew, whether it has gone off or not.
    pub(crate) fn reset(&mut self, after: Duration) {
        CLOCK.with(|clock| {
            clock.alarms.borrow_mut().remove(&self.key);
            self.state.gone_off.set(false);
            self.key = clock.set(after, &self.state);
        });
    }

    /// Ready when it has gone off, also when asked again. Only the last poller is woken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.gone_off.get() {
            return Poll::Ready(());
        }
        let mut waiter = self.state.waiter.borrow_mut();
        match waiter.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        CLOCK.with(|clock| {
            clock.alarms.borrow_mut().remove(&self.key);
        });
    }
}

impl Clock {
    fn set(self: &Rc<Self>, after: Duration, state: &Rc<State>) -> (Instant, u64) {
        let exact = rt::now().after(after).as_ns();
        let deadline = Instant::from_ns(exact.saturating_add(GRAIN_NS) / GRAIN_NS * GRAIN_NS);
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let key = (deadline, number);
        let first = {
            let mut alarms = self.alarms.borrow_mut();
            alarms.insert(key, Rc::clone(state));
            alarms
                .first_key_value()
                .is_some_and(|(first, _)| *first == key)
        };
        if !self.running.replace(true) {
            rt::spawn(Queue::Serve, "alarms", run(Rc::clone(self)));
        } else if first {
            self.earlier.raise();
        }
        key
    }

    /// Lets those go off whose time has come; the next deadline, if there is one.
    fn ring(&self) -> Option<Instant> {
        let now = rt::now();
        loop {
            let state = {
                let mut alarms = self.alarms.borrow_mut();
                let first = alarms.first_entry()?;
                let deadline = first.key().0;
                if deadline > now {
                    return Some(deadline);
                }
                first.remove()
            };
            state.gone_off.set(true);
            if let Some(waiter) = state.waiter.take() {
                waiter.wake();
            }
        }
    }
}

async fn run(clock: Rc<Clock>) {
    while let Some(deadline) = clock.ring() {
        let mut timer = Sleep::new(deadline.since(rt::now()));
        let mut asked = false;
        std::future::poll_fn(|cx| {
            // Polled once: each poll of the runtime's timer registers it once more.
            if !std::mem::replace(&mut asked, true) && timer.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if clock.earlier.poll(cx).is_ready() || rt::now() >= deadline {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
    clock.running.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::on_executor;

    async fn wait(alarm: &mut Alarm) {
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
    }

    #[test]
    fn alarms_go_off_in_time_and_a_dropped_one_holds_nobody_up() {
        on_executor(|| async {
            let started = rt::now();
            let mut long = Alarm::new(Duration::from_secs(3_600));
            let never = Alarm::new(Duration::from_millis(5));
            drop(never);
            let mut short = Alarm::new(Duration::from_millis(20));
            wait(&mut short).await;
            let passed = rt::now().since(started);
            assert!(passed >= Duration::from_millis(20), "{passed:?}");
            long.reset(Duration::from_millis(10));
            wait(&mut long).await;
            wait(&mut long).await;
            CLOCK.with(|clock| assert!(clock.alarms.borrow().is_empty()));
        });
    }

    #[test]
    fn task_ends_when_no_alarm_is_set_and_starts_again() {
        on_executor(|| async {
            for _ in 0..3 {
                wait(&mut Alarm::new(Duration::from_millis(2))).await;
                rt::sleep(Duration::from_millis(5)).await;
                CLOCK.with(|clock| assert!(!clock.running.get()));
                assert_eq!(rt::task_stats().live, 0);
            }
        });
    }

    #[test]
    fn thousands_go_off_each_once() {
        on_executor(|| async {
            let count = Rc::new(Cell::new(0));
            for i in 0..2_000 {
                let count = Rc::clone(&count);
                rt::spawn(Queue::Serve, "waits", async move {
                    wait(&mut Alarm::new(Duration::from_micros(i * 10))).await;
                    count.set(count.get() + 1);
                });
            }
            wait(&mut Alarm::new(Duration::from_millis(40))).await;
            assert_eq!(count.get(), 2_000);
        });
    }
}
