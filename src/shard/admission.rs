//! Admission: what is done when there is more to do than can be done.
//!
//! Refusing a call costs nearly half of serving it, most of that in HTTP/2. So with the processor
//! as what is short, refusals would take from the work that is done; at twice the load nothing
//! would be left of it. What costs nothing is not to read: connections have fair turns
//! ([`crate::wire::quantum`]), senders fill their windows, and what is read is done at once.
//!
//! What waits is another matter: stored messages wait for the disk, and the processor has time to
//! refuse. They wait in two places.
//!
//! ```text
//!   calls, streams ─► door ─► in flight ─► commit
//!                     │       as many bytes as are committed within the target (RoomControl)
//!                     └ a unary call is refused while the wait here stands (StandingDelay)
//! ```
//!
//! Streams are never refused: they are not read on while their message waits. Nor are settlements,
//! responses and receives, which make room.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Shard;
use crate::engine::overload::{RoomControl, Saturation, StandingDelay};
use crate::rt;
use crate::telemetry::counters::Counters;
use crate::wire::quantum;

/// What messages may wait on top of the disk's own time, unless it is set.
const TARGET: Duration = Duration::from_millis(50);

/// A call was refused because what it would join waits too long already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker overloaded: messages wait too long for their commit (limits.overload_target_ms); try \
     again in {} ms",
    .retry_after.as_millis()
)]
pub struct Overloaded {
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// What a shard has too much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overload {
    /// Its processor has had no pause for a second.
    pub processor: bool,
    /// Stored messages wait longer than they should, all of them.
    pub store: bool,
}

/// The room that each core's logs can do with; shared by all cores, since their publishers send to
/// the logs of all.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<[AtomicUsize]>);

impl Rooms {
    pub(super) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| AtomicUsize::new(usize::MAX)).collect())
    }

    fn set(&self, shard: u16, bytes: usize) {
        if let Some(room) = self.0.get(usize::from(shard)) {
            room.store(bytes, Ordering::Relaxed);
        }
    }

    fn least(&self) -> usize {
        let rooms = self.0.iter().map(|room| room.load(Ordering::Relaxed));
        rooms.min().unwrap_or(usize::MAX)
    }
}

/// What one shard knows of its load.
pub struct Admission {
    shard: u16,
    /// `None`: nothing is refused, and there is always the whole room.
    target: Cell<Option<Duration>>,
    processor: Cell<Saturation>,
    door: Cell<StandingDelay>,
    /// Who waits at the door.
    waiting: Cell<usize>,
    /// Commits of this shard's logs.
    commits: RefCell<RoomControl>,
    rooms: RefCell<Rooms>,
    /// Bytes that this core's publishers may have in flight.
    room: Cell<usize>,
}

impl Admission {
    pub(super) fn new(shard: u16, inflight_bytes_max: usize) -> Self {
        Self {
            shard,
            target: Cell::new(Some(TARGET)),
            processor: Cell::default(),
            door: Cell::default(),
            waiting: Cell::new(0),
            commits: RefCell::new(RoomControl::new(inflight_bytes_max)),
            rooms: RefCell::new(Rooms::new(0)),
            room: Cell::new(inflight_bytes_max),
        }
    }

    pub(super) fn join(&self, rooms: Rooms) {
        self.rooms.replace(rooms);
    }

    /// Sets how long messages may wait on top of the disk's own time; `None`: as long as it takes.
    pub fn set_target(&self, target: Option<Duration>) {
        self.target.set(target);
        if target.is_none() {
            self.door.take();
            self.rooms.borrow().set(self.shard, usize::MAX);
        }
    }

    /// Lets a unary call in that brings messages to be stored, or refuses it; to be asked before
    /// anything is done for it.
    ///
    /// # Errors
    /// [`Overloaded`] while the wait stands.
    pub fn admit_unary(&self) -> Result<(), Overloaded> {
        match self.target.get() {
            Some(target) if self.door.get().stands() => Err(Overloaded {
                retry_after: target.saturating_mul(2),
            }),
            _ => Ok(()),
        }
    }

    /// What there is too much of now.
    #[must_use]
    pub fn overload(&self) -> Overload {
        Overload {
            processor: self.processor.get().is_saturated(rt::now().as_ns()),
            store: self.door.get().stands(),
        }
    }

    /// Whether there is too much of anything.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.overload() != Overload::default()
    }

    /// Who waits at the door.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Sets the levels.
    pub(super) fn measure(&self, counters: &Counters) {
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let overload = self.overload();
        counters
            .overloaded_processor
            .set(u64::from(overload.processor));
        counters.overloaded_store.set(u64::from(overload.store));
        counters
            .store_senders_waiting
            .set(level(self.waiting.get()));
        counters.store_room_bytes.set(level(self.room.get()));
    }

    /// Bytes that may be in flight.
    pub(super) const fn room(&self) -> usize {
        self.room.get()
    }

    /// Something in flight has come to its end.
    pub(super) fn refresh_room(&self) {
        let mine = self.commits.borrow().bytes();
        self.room.set(self.rooms.borrow().least().min(mine));
    }

    /// A batch was committed.
    pub(super) fn committed(&self, bytes: usize, took: Duration) {
        let mut commits = self.commits.borrow_mut();
        commits.committed(bytes, ns(took), self.target.get().map(ns));
        self.rooms.borrow().set(self.shard, commits.bytes());
    }

    /// A message came in at once.
    pub(super) fn came_in_at_once(&self) {
        if self.door.get().is_above() && self.waiting.get() == 0 {
            self.nobody_waits();
        }
    }

    /// Somebody begins to wait at the door.
    pub(super) fn wait(&self) -> AtTheDoor<'_> {
        self.waiting.set(self.waiting.get() + 1);
        AtTheDoor {
            admission: self,
            since: rt::now(),
        }
    }

    fn nobody_waits(&self) {
        let mut door = self.door.get();
        door.nobody_waits(rt::now().as_ns());
        self.door.set(door);
    }

    /// A turn of the executor has ended.
    pub(super) fn turned(&self, turn: Duration) {
        quantum::adapt(turn);
        let mut processor = self.processor.get();
        processor.worked(ns(turn), rt::now().as_ns());
        self.processor.set(processor);
    }
}

/// One who waits at the door; dropped when it goes away.
#[derive(Debug)]
pub(super) struct AtTheDoor<'a> {
    admission: &'a Admission,
    since: rt::Instant,
}

impl AtTheDoor<'_> {
    /// It has come in.
    pub(super) fn came_in(self) {
        let admission = self.admission;
        if let Some(target) = admission.target.get() {
            let now = rt::now();
            let mut door = admission.door.get();
            door.came_in(ns(now.since(self.since)), ns(target), now.as_ns());
            admission.door.set(door);
        }
    }
}

impl Drop for AtTheDoor<'_> {
    fn drop(&mut self) {
        let admission = self.admission;
        admission
            .waiting
            .set(admission.waiting.get().saturating_sub(1));
        if admission.waiting.get() == 0 && admission.door.get().is_above() {
            admission.nobody_waits();
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("waiting", &self.waiting)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// What this shard does when there is more to do than can be done.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
