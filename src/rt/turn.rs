//! Turns: how long the tasks of an executor kept the core between two looks at its sockets.
//!
//! Nothing is measured anew. The runtime clocks each run of a task queue and counts its choices of
//! a queue, of which the one that finds none sends it to the reactor. So a task that is polled asks
//! for both figures since the last poll: more than one choice means that a turn has ended in
//! between. That costs a few nanoseconds for each poll, and no look at a clock.
//!
//! Who looks at sockets in a task says so ([`looked`]). A turn that the preempt timer ends counts
//! together with the next.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::clock::{Instant, now};

/// A turn that is longer than this is a stall: every other task, and every socket, waited for it.
pub const STALL: Duration = Duration::from_millis(1);

type Hear = Box<dyn Fn(Duration)>;

/// The turn that is not over: its time and its polls of tasks.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    ns: u64,
    polls: u64,
}

thread_local! {
    static CURRENT: Cell<Current> = const { Cell::new(Current { ns: 0, polls: 0 }) };
    /// Nanoseconds of all turns that are over.
    static ENDED_NS: Cell<u64> = const { Cell::new(0) };
    /// A task has looked at the sockets, and let the others run then.
    static LOOKED: Cell<bool> = const { Cell::new(false) };
    /// When the turn began.
    static BEGAN: Cell<Instant> = const { Cell::new(Instant::from_ns(0)) };
    static HEAR: RefCell<Option<Hear>> = const { RefCell::new(None) };
}

/// Has `hear` called with the length of every turn of this executor from now on, in the place of
/// who was called before. It is called between two tasks, often: it must be quick, and may not
/// spawn.
pub fn on_turn(hear: impl Fn(Duration) + 'static) {
    HEAR.with_borrow_mut(|slot| *slot = Some(Box::new(hear)));
}

/// Time that tasks have had on this executor since its start, in nanoseconds; without looks at
/// sockets that found nothing to do. The run of the calling task's queue is not in it yet.
#[must_use]
pub fn busy_ns() -> u64 {
    account();
    ENDED_NS.get().saturating_add(CURRENT.get().ns)
}

/// Says that the calling task has looked at the sockets: a turn ends here. To be called by a task
/// that yields its queue next.
pub(super) fn looked() {
    LOOKED.set(true);
}

/// Whether the turn has lasted for so long.
pub(super) fn has_lasted(time: Duration) -> bool {
    now().since(BEGAN.get()) >= time
}

/// Notices that a turn is over. Called when a task is polled.
///
/// The only caller of the runtime's statistics: they are what was counted since the last call.
pub(super) fn account() {
    let stats = glommio::executor().executor_stats();
    let choices = stats.scheduler_runs();
    if choices == 0 {
        return;
    }
    let ran = u64::try_from(stats.executor_runtime().as_nanos()).unwrap_or(u64::MAX);
    let before = CURRENT.get();
    let turn = Current {
        ns: before.ns.saturating_add(ran),
        polls: before.polls.saturating_add(stats.tasks_executed()),
    };
    let looked = LOOKED.take();
    if choices == 1 && !looked {
        CURRENT.set(turn);
        return;
    }
    CURRENT.set(Current::default());
    BEGAN.set(now());
    // Nobody but the one who looked.
    if looked && turn.polls <= 1 {
        return;
    }
    ENDED_NS.set(ENDED_NS.get().saturating_add(turn.ns));
    HEAR.with_borrow(|slot| {
        if let Some(hear) = slot {
            hear(Duration::from_nanos(turn.ns));
        }
    });
}
