//! The threads that do the cryptography of handshakes.
//!
//! A signature with an RSA key of 4096 bits takes milliseconds, and as many would pass on an
//! executor without a look at its other connections. The state of a handshake can move between
//! threads: it goes to one of these with what the peer has said, and comes back with the answer.
//!
//! ```text
//!   executor                                   a thread beside the executors
//!   Handshakes::run ── work ──► its queue ───► runs it, stands back behind executors
//!   Desk ◄── number ── inbox of the executor ◄─ result, then the number
//! ```
//!
//! A handshake has one piece of work under way at most, and handshakes are bounded
//! ([`Places`](super::places::Places)): the queues have room for all of them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use super::places::{Place, Places};
use crate::rt::inbox::{InboxSender, inbox};
use crate::rt::{self, Notify, Queue};

/// Pieces of work that one queue holds at most, however many handshakes are allowed. A handshake
/// that finds no room is given up.
const QUEUE_MAX: usize = 65_536;

/// More threads than this gain nothing: they stand back behind the executors.
const THREADS_MAX: usize = 4;

thread_local! {
    static DESK: RefCell<Option<Rc<Desk>>> = const { RefCell::new(None) };
}

/// What handshakes of all connections share: threads, and how many may be under way.
///
/// # Threading
/// Shared by all executors. The threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Handshakes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lanes: Box<[Lane]>,
    under_way_max: usize,
}

#[derive(Debug)]
struct Lane {
    work: mpsc::SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
}

struct Job(Box<dyn FnOnce() + Send>);

impl Handshakes {
    /// Starts the threads. `under_way_max` handshakes may be under way, an equal share of them on
    /// each of the `executors`, and one at least; further ones wait, within their time.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(under_way_max: usize, executors: usize) -> io::Result<Self> {
        let share = under_way_max.div_ceil(executors.max(1)).max(1);
        // Each executor may look through the certificates of its clients besides.
        let room = share.saturating_add(1).saturating_mul(executors.max(1));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes =
            (0..processors.min(THREADS_MAX)).map(|index| Lane::start(index, room.min(QUEUE_MAX)));
        Ok(Self(Arc::new(Inner {
            lanes: lanes.collect::<io::Result<_>>()?,
            under_way_max: share,
        })))
    }

    /// Asks for a place for one more handshake on the calling executor.
    pub(crate) fn place(&self) -> io::Result<Place> {
        Ok(desk()?.places.ask(self.0.under_way_max))
    }

    /// Runs `work` on one of the threads; `None` when it panicked. If whoever waits goes, the work
    /// is done all the same, and its result is dropped there or here. Fails when the queue is full.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<Option<R>> {
        let desk = desk()?;
        let expected = desk.expect();
        let number = expected.number;
        let (result, received) = mpsc::sync_channel(1);
        let bell = desk.bell.clone();
        let job = Job(Box::new(move || {
            let done = std::panic::catch_unwind(AssertUnwindSafe(work));
            // Nobody reads it when whoever waited has gone.
            let _gone = result.send(done.ok());
            drop(result);
            let _executor_has_ended = bell.send(number);
        }));
        self.submit(job)?;
        expected.told.wait().await;
        Ok(received.try_recv().ok().flatten())
    }

    /// To the thread with the shortest queue.
    fn submit(&self, job: Job) -> io::Result<()> {
        let waiting = |lane: &&Lane| lane.waiting.load(Ordering::Relaxed);
        let Some(lane) = self.0.lanes.iter().min_by_key(waiting) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        lane.waiting.fetch_add(1, Ordering::Relaxed);
        lane.work.try_send(job).map_err(|_refused| {
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            io::Error::new(io::ErrorKind::WouldBlock, "too many handshakes are waiting")
        })
    }
}

impl Lane {
    fn start(index: usize, room: usize) -> io::Result<Self> {
        let (work, jobs) = mpsc::sync_channel::<Job>(room);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        std::thread::Builder::new()
            .name(format!("handshakes-{index}"))
            .spawn(move || {
                rt::give_way();
                for job in jobs {
                    (job.0)();
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            })?;
        Ok(Self { work, waiting })
    }
}

/// One executor's end: who waits for what, and the places of its handshakes.
#[derive(Debug)]
struct Desk {
    bell: InboxSender<u64>,
    expected: RefCell<HashMap<u64, Notify>>,
    next_number: Cell<u64>,
    places: Rc<Places>,
}

impl Desk {
    fn expect(self: &Rc<Self>) -> Expected {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let told = Notify::new();
        self.expected.borrow_mut().insert(number, told.clone());
        Expected {
            desk: self.clone(),
            number,
            told,
        }
    }

    fn deliver(&self, number: u64) {
        let told = self.expected.borrow_mut().remove(&number);
        if let Some(told) = told {
            told.raise();
        }
    }
}

/// Work under way for somebody, who may stop waiting.
struct Expected {
    desk: Rc<Desk>,
    number: u64,
    told: Notify,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.desk.expected.borrow_mut().remove(&self.number);
    }
}

/// The desk of the calling executor, set up when it is first needed.
fn desk() -> io::Result<Rc<Desk>> {
    if let Some(desk) = DESK.with_borrow(Clone::clone) {
        return Ok(desk);
    }
    let (bell, delivered) = inbox::<u64>()?;
    let desk = Rc::new(Desk {
        bell,
        expected: RefCell::default(),
        next_number: Cell::new(0),
        places: Rc::default(),
    });
    DESK.set(Some(desk.clone()));
    let receiving = desk.clone();
    rt::spawn(
        Queue::Serve,
        "handshakes",
        delivered.run(move |number| receiving.deliver(number)),
    );
    Ok(desk)
}
