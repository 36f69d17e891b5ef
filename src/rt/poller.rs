//! Readiness of sockets: one set for all connections of an executor.
//!
//! The runtime asks its ring anew for each socket that has run dry, and puts itself to sleep and
//! up again with five system calls. Here all sockets are in one edge-triggered set (epoll), which
//! is told about each socket once; the runtime waits for the set, and one look at it serves every
//! socket that is ready. A look costs a fraction of a microsecond, so it can be repeated before
//! the executor sleeps: a peer that answers at once finds the executor awake, and neither pays for
//! waking it nor waits for that.
//!
//! Looking is worth it when it ends a wait that would have been short. So, as a hypervisor does
//! before it gives a processor back, the executor looks for a while only when its last sleep was
//! short enough to have been saved ([`Patience`]).
//!
//! Who waits for the ring must not starve behind looks at sockets: nothing is looked at while
//! files are written or blocking work runs ([`expect`]), and the reactor has its turn after
//! [`REACTOR_BUSY`] or [`REACTOR_IDLE`].

use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::io::{PollState, PollableFd};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;

use super::Notify;
use super::clock::{Instant, now};

/// Sockets that one look reports; more are found by the next look.
const EVENTS_MAX: usize = 256;

/// While there is work: after so long without the reactor, timers and rings are due.
const REACTOR_BUSY: Duration = Duration::from_micros(200);

/// While there is none: what comes over the mesh is seen by the reactor alone.
const REACTOR_IDLE: Duration = Duration::from_micros(50);

/// An alarm is kept here when it is this near; before that, the runtime's timer is good enough.
const ALARM_NEAR: Duration = Duration::from_micros(200);

/// How long it takes to go to sleep and to be woken on a virtual machine.
const WAKING: Duration = Duration::from_micros(50);

thread_local! {
    static POLLER: RefCell<Option<Rc<Poller>>> = const { RefCell::new(None) };
    static EXPECTED: Cell<usize> = const { Cell::new(0) };
}

/// Held while the ring or a thread works for a task: the executor does not look at sockets for
/// long then, because what it waits for comes another way.
#[derive(Debug)]
pub(super) struct Expected(());

pub(super) fn expect() -> Expected {
    EXPECTED.set(EXPECTED.get() + 1);
    Expected(())
}

impl Drop for Expected {
    fn drop(&mut self) {
        EXPECTED.set(EXPECTED.get().saturating_sub(1));
    }
}

/// How long to look for work before sleeping.
#[derive(Debug)]
struct Patience {
    long: Duration,
    /// The last sleep was so short that looking would have saved it, and no look has failed since.
    pays: bool,
}

impl Patience {
    fn new(long: Duration) -> Self {
        let pays = !long.is_zero();
        Self { long, pays }
    }

    const fn length(&self) -> Duration {
        match self.pays {
            true => self.long,
            false => Duration::ZERO,
        }
    }

    /// Nothing came while it looked.
    const fn in_vain(&mut self) {
        self.pays = false;
    }

    /// It slept for so long, waking up included.
    fn slept(&mut self, asleep: Duration) {
        self.pays = !self.long.is_zero() && asleep < self.long + WAKING;
    }
}

/// A socket's place in the set of its executor.
#[derive(Debug)]
pub(super) struct Place {
    poller: Rc<Poller>,
    key: usize,
}

/// The two directions of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

struct Poller {
    set: OwnedFd,
    sockets: RefCell<Slab<Socket>>,
    events: RefCell<Vec<Event>>,
    alarms: RefCell<BinaryHeap<Alarm>>,
    /// An alarm was set, or somebody waits for a look, perhaps while the executor sleeps.
    alarmed: Notify,
    /// Looks so far, and who waits for the next one.
    looks_taken: Cell<u64>,
    awaiting: RefCell<Vec<Waker>>,
    /// When the reactor last had its turn, as far as is known here.
    visited: Cell<Instant>,
    /// Whether it looks before it sleeps: alarms are kept here then.
    looks: bool,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller")
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}

/// What is known of a socket.
#[derive(Debug, Default)]
struct Socket {
    read: Side,
    write: Side,
    /// The peer has ended its side, or the connection is broken: a short read is not the last.
    ended: bool,
}

#[derive(Debug)]
struct Side {
    /// Cleared when the socket was found dry, or full; set by the next edge.
    ready: bool,
    waiter: Option<Waker>,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            ready: true,
            waiter: None,
        }
    }
}

/// A moment at which a task is woken, to the microsecond.
#[derive(Debug)]
struct Alarm {
    at: Instant,
    waker: Waker,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.as_ns().cmp(&self.at.as_ns())
    }
}

/// Makes the set of the calling executor and starts looking at it, before each sleep for `long`.
///
/// # Errors
/// When the process may open no more files.
pub(super) fn install(long: Duration) -> io::Result<()> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    let watched = PollableFd::new(set.try_clone()?).map_err(io::Error::other)?;
    let poller = Rc::new(Poller {
        set,
        sockets: RefCell::default(),
        events: RefCell::new(Vec::with_capacity(EVENTS_MAX)),
        alarms: RefCell::default(),
        alarmed: Notify::new(),
        looks_taken: Cell::new(0),
        awaiting: RefCell::default(),
        visited: Cell::new(now()),
        looks: !long.is_zero(),
    });
    POLLER.with_borrow_mut(|slot| *slot = Some(Rc::clone(&poller)));
    let patience = Patience::new(long);
    super::task::spawn_vital(poller.run(watched, patience))
}

fn installed() -> Option<Rc<Poller>> {
    POLLER.with_borrow(Option::clone)
}

impl Poller {
    async fn run(self: Rc<Self>, watched: PollableFd<OwnedFd>, mut patience: Patience) {
        let mut state = PollState::new();
        loop {
            self.look_for(&mut patience).await;
            let asleep = now();
            let awake = std::future::poll_fn(|cx| match self.alarmed.poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(true)),
                Poll::Pending => {
                    let readable = watched.poll_readable(cx, &mut state);
                    readable.map(|readable| readable.map(|()| false))
                }
            });
            match awake.await {
                Ok(false) => self.visited.set(now()),
                // Who waits for looks may keep the executor from ever being idle.
                Ok(true) => self.visit_if_due().await,
                Err(error) => {
                    tracing::error!(%error, "the set of sockets cannot be waited for");
                    super::sleep(Duration::from_millis(10)).await;
                }
            }
            patience.slept(now().since(asleep));
            self.look();
            super::turn::looked();
        }
    }

    /// Looks at the sockets until nothing has come for as long as that pays, or something else is
    /// waited for.
    async fn look_for(&self, patience: &mut Patience) {
        let mut active = now();
        loop {
            // One look each time: what runs now may wake what stands behind us in the queue.
            glommio::executor().yield_task_queue_now().await;
            super::turn::account();
            let found = self.look();
            super::turn::looked();
            let time = now();
            if found {
                active = time;
            }
            let reactor_due = match found {
                true => time.since(self.visited.get()) >= REACTOR_BUSY,
                false => time.since(self.visited.get()) >= REACTOR_IDLE,
            };
            if !self.alarms.borrow().is_empty() {
                // It must not sleep over an alarm.
                if reactor_due || EXPECTED.get() > 0 {
                    self.visit().await;
                }
                continue;
            }
            if EXPECTED.get() > 0 {
                return;
            }
            if !found && time.since(active) >= patience.length() {
                patience.in_vain();
                return;
            }
            if reactor_due {
                if !patience.pays {
                    return;
                }
                self.visit().await;
            }
        }
    }

    /// Gives the reactor its turn.
    async fn visit(&self) {
        super::reactor_yield().await;
        self.visited.set(now());
    }

    async fn visit_if_due(&self) {
        if EXPECTED.get() > 0 || now().since(self.visited.get()) >= REACTOR_BUSY {
            self.visit().await;
        }
    }

    /// Wakes who waits for what has come, and behind them who waited for the look; says whether
    /// anything had come.
    fn look(&self) -> bool {
        let found = self.look_at_sockets();
        self.looks_taken.set(self.looks_taken.get() + 1);
        let mut awaiting = self.awaiting.take();
        let awaited = !awaiting.is_empty();
        awaiting.drain(..).for_each(Waker::wake);
        // Its room serves the next ones, who come when they run.
        self.awaiting.replace(awaiting);
        found || awaited
    }

    fn look_at_sockets(&self) -> bool {
        let rung = self.ring_alarms();
        let mut events = self.events.borrow_mut();
        events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(&self.set, spare_capacity(&mut *events), Some(&at_once)) {
            Ok(_) => {}
            // A signal; the next look finds what this one missed.
            Err(rustix::io::Errno::INTR) => return rung,
            Err(error) => {
                tracing::error!(%error, "the set of sockets cannot be looked at");
                return rung;
            }
        }
        for event in events.iter() {
            self.note(event.data, event.flags);
        }
        rung || !events.is_empty()
    }

    fn note(&self, data: EventData, flags: EventFlags) {
        let Ok(key) = usize::try_from(data.u64()) else {
            return;
        };
        let broken = EventFlags::ERR | EventFlags::HUP;
        let mut sockets = self.sockets.borrow_mut();
        // One that has gone since, or another one in its place: that looks once in vain.
        let Some(socket) = sockets.get_mut(key) else {
            return;
        };
        socket.ended |= flags.intersects(broken | EventFlags::RDHUP);
        let mut wake = [None, None];
        let sides = [
            (
                &mut socket.read,
                EventFlags::IN | EventFlags::RDHUP | broken,
            ),
            (&mut socket.write, EventFlags::OUT | broken),
        ];
        for ((side, wanted), wake) in sides.into_iter().zip(&mut wake) {
            if flags.intersects(wanted) {
                side.ready = true;
                *wake = side.waiter.take();
            }
        }
        drop(sockets);
        wake.into_iter().flatten().for_each(Waker::wake);
    }

    fn ring_alarms(&self) -> bool {
        let mut rung = false;
        while let Some(waker) = self.due_alarm() {
            waker.wake();
            rung = true;
        }
        rung
    }

    fn due_alarm(&self) -> Option<Waker> {
        let mut alarms = self.alarms.borrow_mut();
        let first = alarms.peek_mut()?;
        (now() >= first.at).then(|| PeekMut::pop(first).waker)
    }
}

/// A look at the sockets of the executor, waited for by a task that would rather go on: the tasks
/// of the sockets that are found ready go first. Much cheaper than
/// [`reactor_yield`](super::reactor_yield), and the reactor has its turn when that is due.
#[derive(Debug, Default)]
pub struct Look {
    /// The look that is waited for.
    number: Option<u64>,
}

impl Look {
    /// Ready once the sockets have been looked at since the first poll; then it starts over. Only
    /// the first poller is woken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        POLLER.with_borrow(|poller| {
            let Some(poller) = poller else {
                return Poll::Ready(());
            };
            let taken = poller.looks_taken.get();
            match self.number {
                Some(number) if taken >= number => {
                    self.number = None;
                    return Poll::Ready(());
                }
                Some(_) => return Poll::Pending,
                None => self.number = Some(taken + 1),
            }
            poller.awaiting.borrow_mut().push(cx.waker().clone());
            poller.alarmed.raise();
            Poll::Pending
        })
    }
}

impl Place {
    /// Adds a socket to the set of the calling executor.
    ///
    /// # Errors
    /// When the kernel watches no more, or outside an executor.
    pub(super) fn new(socket: impl AsFd) -> io::Result<Self> {
        let poller = installed().ok_or_else(|| io::Error::other("not on an executor"))?;
        let key = poller.sockets.borrow_mut().insert(Socket::default());
        let place = Self { poller, key };
        let data = EventData::new_u64(u64::try_from(key).unwrap_or(u64::MAX));
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&place.poller.set, socket, data, flags)?;
        Ok(place)
    }

    /// Ready when the direction may be tried; otherwise its task is woken when it may.
    pub(super) fn poll(&self, direction: Direction, cx: &Context<'_>) -> Poll<()> {
        let mut sockets = self.poller.sockets.borrow_mut();
        let Some(side) = sockets.get_mut(self.key).map(|s| s.side(direction)) else {
            return Poll::Ready(());
        };
        if side.ready {
            return Poll::Ready(());
        }
        match &side.waiter {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => side.waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The direction was found dry, or full: it is tried again at the next edge.
    pub(super) fn exhausted(&self, direction: Direction) {
        if let Some(socket) = self.poller.sockets.borrow_mut().get_mut(self.key) {
            socket.side(direction).ready = false;
        }
    }

    /// A transfer moved less than it could have: that was all, unless the end is to be read.
    pub(super) fn fell_short(&self, direction: Direction) {
        if let Some(socket) = self.poller.sockets.borrow_mut().get_mut(self.key)
            && !socket.ended
        {
            socket.side(direction).ready = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Closing the socket takes it out of the set.
        let _gone = self.poller.sockets.borrow_mut().try_remove(self.key);
    }
}

impl Socket {
    const fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// Waits until `at`: to about a microsecond on an executor that looks before it sleeps
/// ([`super::start::Plan::spin`]), otherwise as [`super::sleep`] does.
pub async fn sleep_until(at: Instant) {
    let Some(poller) = installed().filter(|poller| poller.looks) else {
        return super::sleep(at.since(now())).await;
    };
    let far = at.since(now()).saturating_sub(ALARM_NEAR);
    if !far.is_zero() {
        super::sleep(far).await;
    }
    std::future::poll_fn(|cx| {
        if now() >= at {
            return Poll::Ready(());
        }
        poller.alarms.borrow_mut().push(Alarm {
            at,
            waker: cx.waker().clone(),
        });
        poller.alarmed.raise();
        Poll::Pending
    })
    .await;
}
