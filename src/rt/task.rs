//! Tasks and timers of one executor.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::{Latency, Shares, TaskQueueHandle};

use super::line::{PlaceInLine, TURN_TIME};
use super::turn;

/// The named task queues of an executor, in falling order of their share of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Connections, calls, the mesh: what a client waits for. 1,000 shares.
    Serve,
    /// Group commit. 500 shares.
    Append,
    /// Statistics, scrapes, housekeeping: what nobody waits for. 50 shares.
    Background,
}

#[derive(Clone, Copy)]
struct Queues {
    serve: TaskQueueHandle,
    append: TaskQueueHandle,
    background: TaskQueueHandle,
}

thread_local! {
    static QUEUES: RefCell<Option<Queues>> = const { RefCell::new(None) };
    static LIVE: Cell<u64> = const { Cell::new(0) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
    /// Whether a task is being polled.
    static POLLED: Cell<bool> = const { Cell::new(false) };
}

/// Counts of the tasks of this executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskStats {
    /// Tasks that were spawned and have not ended.
    pub live: u64,
    /// Tasks that ended in a panic since the start.
    pub panics: u64,
}

/// Reads the counts of the calling executor.
#[must_use]
pub fn task_stats() -> TaskStats {
    TaskStats {
        live: LIVE.get(),
        panics: PANICS.get(),
    }
}

/// Makes the task queues; called once by the executor before anything is spawned.
pub(super) fn install_queues() {
    let executor = glommio::executor();
    // No queue asks for a latency goal: that would shorten the preempt timer, see the module head.
    let make = |shares, name| {
        executor.create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
    };
    let queues = Queues {
        serve: make(1000, "serve"),
        append: make(500, "append"),
        background: make(50, "background"),
    };
    QUEUES.with_borrow_mut(|slot| *slot = Some(queues));
}

/// Starts a task on this executor.
///
/// The task is detached: it runs until it ends by itself. A panic inside it is contained, counted
/// and logged; it ends this task and nothing else. Spawned from a task of the same queue, the new
/// task may run at once, before `spawn` returns: hold no borrow that it could want.
///
/// # Panics
/// Outside an executor started by [`crate::rt::start`].
pub fn spawn(queue: Queue, name: &'static str, future: impl Future<Output = ()> + 'static) {
    spawn_contained(queue, name, Waits::Never, future);
}

/// As [`spawn`], of a call of a client: woken when the turn has lasted long already, it stands in
/// line (`src/rt/line.rs`) before it goes on. There may be thousands that are woken at once.
///
/// # Panics
/// As there.
pub fn spawn_call(name: &'static str, future: impl Future<Output = ()> + 'static) {
    spawn_contained(Queue::Serve, name, Waits::InLine, future);
}

/// As [`spawn`], of a connection: woken when the turn has lasted long already, it goes on in the
/// next one. There may be hundreds that have something to write at once.
///
/// # Panics
/// As there.
pub fn spawn_connection(
    queue: Queue,
    name: &'static str,
    future: impl Future<Output = ()> + 'static,
) {
    spawn_contained(queue, name, Waits::ForTheNextTurn, future);
}

/// What a task that is woken does when the turn has lasted long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Never,
    InLine,
    ForTheNextTurn,
}

fn spawn_contained(
    queue: Queue,
    name: &'static str,
    waits: Waits,
    future: impl Future<Output = ()> + 'static,
) {
    let queues = QUEUES.with_borrow(|slot| slot.expect("tasks are spawned on an executor"));
    let handle = match queue {
        Queue::Serve => queues.serve,
        Queue::Append => queues.append,
        Queue::Background => queues.background,
    };
    LIVE.set(LIVE.get() + 1);
    let contained = Contained {
        name,
        waits,
        began: false,
        place: PlaceInLine::default(),
        future,
        _alive: Alive,
    };
    match glommio::spawn_local_into(contained, handle) {
        Ok(task) => {
            task.detach();
        }
        Err(error) => tracing::error!(task = name, %error, "task queue is gone"),
    }
}

/// Starts a task without which the executor cannot go on: a panic inside it ends the executor,
/// which its supervisor sees. Not counted among the tasks.
///
/// # Errors
/// When the executor is ending.
pub(super) fn spawn_vital(future: impl Future<Output = ()> + 'static) -> std::io::Result<()> {
    let queues = QUEUES.with_borrow(|slot| slot.expect("tasks are spawned on an executor"));
    let task = glommio::spawn_local_into(future, queues.serve).map_err(std::io::Error::other)?;
    task.detach();
    Ok(())
}

/// Counts a task down when it ends, however it ends.
struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.set(LIVE.get().saturating_sub(1));
    }
}

pin_project_lite::pin_project! {
    /// Stops a panic at the border of the task: the runtime would end the executor.
    struct Contained<F> {
        name: &'static str,
        waits: Waits,
        // The first poll runs as a part of the task that spawned it.
        began: bool,
        place: PlaceInLine,
        #[pin]
        future: F,
        _alive: Alive,
    }
}

impl<F: Future<Output = ()>> Future for Contained<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        turn::account();
        let this = self.project();
        let future = this.future;
        if std::mem::replace(this.began, true) {
            let place = this.place;
            let waits = match this.waits {
                Waits::Never => false,
                Waits::InLine if place.is_taken() || turn::has_lasted(TURN_TIME) => {
                    place.poll(cx).is_pending()
                }
                Waits::InLine => false,
                Waits::ForTheNextTurn => place.poll_next(cx).is_pending(),
            };
            if waits {
                return Poll::Pending;
            }
        }
        let outer = POLLED.replace(true);
        // The future is not polled again after a panic, so no broken state of it is seen.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        POLLED.set(outer);
        match polled {
            Ok(poll) => poll,
            Err(payload) => {
                PANICS.set(PANICS.get() + 1);
                let reason = panic_text(payload.as_ref());
                tracing::error!(task = *this.name, reason, "task panicked; it was ended");
                Poll::Ready(())
            }
        }
    }
}

pub(super) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Whether a task is being polled here: only then is there an executor to ask for a thread.
pub(super) fn is_in_task() -> bool {
    POLLED.get()
}

/// Waits for at least `duration`.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets the reactor look at sockets before the task goes on.
///
/// A plain yield would put the task at the end of the run queue, and the reactor is not asked
/// before that queue is empty: one self-waking task would starve every socket of the core. The
/// shortest timer goes through the reactor.
pub async fn reactor_yield() {
    sleep(Duration::from_micros(1)).await;
}

/// A timer that can be set again and polled beside other things. For a few of them in an executor,
/// polled seldom: each poll costs a registration, see the module head of [`crate::rt`].
#[derive(Debug)]
pub struct Sleep(glommio::timer::Timer);

impl Sleep {
    /// Makes a timer that is ready after `duration`.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self(glommio::timer::Timer::new(duration))
    }

    /// Sets it anew; must be polled again to arm.
    pub fn reset(&mut self, duration: Duration) {
        self.0.reset(duration);
    }

    /// Ready when the time has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}
