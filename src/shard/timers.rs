//! The shard's timers: one wheel, one task that turns it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::engine::wheel::{TimerKey, Wheel};
use crate::rt::{self, Notify};

/// Timers that fire or cascade before sockets are looked at again: some 200 us of work.
const MOVES_MAX: usize = 1024;

/// The wheel of one shard and the task that turns it.
///
/// Timers never fire early: a deadline is rounded up to the next tick of one millisecond.
#[derive(Debug)]
pub(super) struct Timers<T> {
    wheel: RefCell<Wheel<T>>,
    /// The tick for which the turning task sleeps; `u64::MAX`: it sleeps until told.
    armed: Cell<u64>,
    rearm: Notify,
}

impl<T> Timers<T> {
    pub(super) fn new() -> Self {
        Self {
            wheel: RefCell::new(Wheel::new(rt::now().as_ms())),
            armed: Cell::new(u64::MAX),
            rearm: Notify::new(),
        }
    }

    /// Sets a timer that fires `after` has passed.
    pub(super) fn set(&self, after: Duration, value: T) -> TimerKey {
        let deadline = rt::now().after(after).as_ms().saturating_add(1);
        let key = self.wheel.borrow_mut().insert(deadline, value);
        if deadline < self.armed.get() {
            self.rearm.raise();
        }
        key
    }

    /// Takes a timer back; `None` when it has fired.
    pub(super) fn cancel(&self, key: TimerKey) -> Option<T> {
        self.wheel.borrow_mut().cancel(key)
    }

    /// Timers that are set.
    pub(super) fn len(&self) -> usize {
        self.wheel.borrow().len()
    }

    /// Turns the wheel for ever; `fire` is called for each timer that is due. One task runs this.
    pub(super) async fn turn(&self, mut fire: impl FnMut(T)) {
        let mut fired = Vec::new();
        loop {
            let now_ms = rt::now().as_ms();
            let finished = self
                .wheel
                .borrow_mut()
                .advance_bounded(now_ms, MOVES_MAX, &mut fired);
            fired.drain(..).for_each(&mut fire);
            if !finished {
                rt::reactor_yield().await;
                continue;
            }
            let next = self.wheel.borrow().next_expiry();
            self.armed.set(next.unwrap_or(u64::MAX));
            match next {
                None => self.rearm.wait().await,
                Some(tick) => self.sleep_until(tick).await,
            }
        }
    }

    /// Sleeps until the tick has begun or an earlier timer was set.
    async fn sleep_until(&self, tick: u64) {
        let now_ns = rt::now().as_ns();
        let tick_ns = tick.saturating_mul(1_000_000);
        let mut sleep = rt::Sleep::new(Duration::from_nanos(tick_ns.saturating_sub(now_ns)));
        std::future::poll_fn(|cx| {
            if self.rearm.poll(cx).is_ready() {
                return std::task::Poll::Ready(());
            }
            sleep.poll(cx)
        })
        .await;
    }
}
