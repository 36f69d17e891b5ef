//! Work beside the tasks of an executor: what may block, and what takes a processor for long.
//!
//! Each executor has two threads for that. What may block is the upkeep of the log and reads of
//! what is not in memory, and is mostly short: it takes whichever thread is free. What takes a
//! processor for long, as megabytes of JSON do, comes in any number, from anybody: one of it at a
//! time, so that the other thread is there for the log, and at most one such thread competes with
//! the executor where they share a core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};

use super::Notify;
use super::task::{Queue, is_in_task, sleep, spawn};

/// How far blocking threads stand back behind executors on a busy core: they get a quarter of it.
/// Whoever waits for them lets the executor idle in the end, so they cannot starve.
pub(super) const BLOCKING_NICE: i32 = 5;

thread_local! {
    /// Pieces of work that were given to the threads and are not done.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
    static HEAVY: RefCell<Heavy> = RefCell::default();
    /// Whether the thread has given way.
    static LOWERED: Cell<bool> = const { Cell::new(false) };
    /// Bytes that its work went through since it last let others have the processor.
    static GONE_THROUGH: Cell<usize> = const { Cell::new(0) };
}

/// What heavy work goes through before it lets others have the processor: less than half a
/// millisecond, most of the time.
const PIECE_BYTES: usize = 64 << 10;

/// What takes a processor for long.
#[derive(Default)]
struct Heavy {
    is_running: bool,
    /// What follows, in the order in which it was asked for; called, each gives itself to a
    /// thread.
    waiting: VecDeque<Box<dyn FnOnce()>>,
}

/// Runs `work` on a blocking thread of the executor and gives its result back; `None` when it
/// panicked. For anything that may block: file opens, the upkeep of the log, reads of what is not
/// in memory. Two of them run at a time, in the order in which they were asked for.
///
/// Whoever waits may go: the work is done all the same, and its result is let go of.
///
/// These threads give way to executors, see [`BLOCKING_NICE`].
pub async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (asker, answer) = asker();
    on_thread(work, move |done| asker.tell(done));
    answer.await
}

/// Runs `work`, which takes a processor for long and does not block, on a blocking thread and gives
/// its result back; `None` when it panicked. One runs at a time, in the order in which they were
/// asked for, beside whatever [`blocking`] is asked for.
///
/// Whoever waits may go: work that has not begun is let go of then, on that thread.
pub async fn heavy<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (asker, answer) = asker();
    in_turn(work, asker);
    answer.await
}

/// Drops a value, and `with` it what has to stay until then. What takes long to drop, as much
/// memory does, goes on a blocking thread. Outside a task there is nobody to be held up: the value
/// is dropped at once.
pub fn let_go(value: impl Send + 'static, with: impl Sized + 'static) {
    if is_in_task() {
        on_thread(move || drop(value), move |_dropped| drop(with));
    }
}

/// Who asked for work, and may have gone.
struct Asker<R> {
    result: Weak<RefCell<Option<R>>>,
    ended: Notify,
}

impl<R> Asker<R> {
    fn is_there(&self) -> bool {
        self.result.strong_count() > 0
    }

    fn tell(&self, done: Option<R>) {
        if let Some(result) = self.result.upgrade() {
            result.replace(done);
            self.ended.raise();
        }
    }
}

/// Makes who asks, and what waits until that one is told.
fn asker<R>() -> (Asker<R>, impl Future<Output = Option<R>>) {
    let (result, ended) = (Rc::new(RefCell::new(None)), Notify::new());
    let asker = Asker {
        result: Rc::downgrade(&result),
        ended: ended.clone(),
    };
    let answer = async move {
        ended.wait().await;
        result.take()
    };
    (asker, answer)
}

/// Runs `work` on a thread once no other heavy work does, if the asker is still there then.
fn in_turn<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static, asker: Asker<R>) {
    let start = move || {
        let is_wanted = asker.is_there();
        on_thread(
            move || is_wanted.then(work),
            move |done| {
                start_next();
                asker.tell(done.flatten());
            },
        );
    };
    let is_first = HEAVY.with_borrow_mut(|heavy| {
        heavy.waiting.push_back(Box::new(start));
        !heavy.is_running
    });
    if is_first {
        start_next();
    }
}

fn start_next() {
    let next = HEAVY.with_borrow_mut(|heavy| {
        let next = heavy.waiting.pop_front();
        heavy.is_running = next.is_some();
        next
    });
    if let Some(start) = next {
        start();
    }
}

/// Runs `work` on a blocking thread, and then `then` on this one.
fn on_thread<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
    then: impl FnOnce(Option<R>) + 'static,
) {
    let running = glommio::executor().spawn_blocking(move || {
        give_way();
        std::panic::catch_unwind(AssertUnwindSafe(work)).ok()
    });
    RUNNING.set(RUNNING.get() + 1);
    // A task of its own waits for the thread: it cannot be cancelled, so the count is kept and
    // the executor stays for as long as the thread needs it.
    spawn(Queue::Serve, "blocking", async move {
        let _expected = super::poller::expect();
        let done = running.await;
        RUNNING.set(RUNNING.get().saturating_sub(1));
        then(done);
    });
}

/// Waits until no work runs on the blocking threads. To be awaited last, by what ends the
/// executor: a thread that finds it gone has nobody to give its result to, and panics.
pub async fn blocking_ended() {
    while RUNNING.get() > 0 {
        sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Lowers the calling thread and moves it off the executors' processors, once. For threads whose
/// work may wait while an executor has something to do.
pub fn give_way() {
    if !LOWERED.replace(true) {
        // Of the calling thread alone, on Linux. Where it is forbidden, all goes on as before.
        super::aside::step_aside();
        let own = rustix::process::getpriority_process(None).unwrap_or(0);
        let _forbidden = rustix::process::setpriority_process(None, own + BLOCKING_NICE);
    }
}

/// Says that work went through so many bytes. To be called within what may be [`heavy`], often.
///
/// The kernel lets a thread that runs go on for up to its time slice, some milliseconds, while an
/// executor of the same core waits. So a thread that has given way asks after each piece whether
/// somebody else is to have the processor. On other threads this does nothing.
pub fn went_through(bytes: usize) {
    if !LOWERED.get() {
        return;
    }
    let gone = GONE_THROUGH.get().saturating_add(bytes);
    let is_piece = gone >= PIECE_BYTES;
    GONE_THROUGH.set(if is_piece { 0 } else { gone });
    if is_piece {
        std::thread::yield_now();
    }
}
