//! Admission: what is done when there is more to do than can be done.
//!
//! Refusing a call costs nearly half of serving it, most of that in HTTP/2. So with the processor
//! as what is short, refusals would take from the work that is done; at twice the load nothing
//! would be left of it. What costs nothing is not to read: connections have fair turns
//! ([`crate::wire::quantum`]), senders fill their windows, and what is read is done at once.
//!
//! What waits is another matter: stored messages wait for the disk, and the processor may have time
//! to refuse. They wait in two places.
//!
//! ```text
//!   calls, streams ─► door ─► in flight ─► commit
//!                     │       as many bytes as are committed in a part of the target (RoomControl)
//!                     ├ the connection of a unary call that waits here is not read
//!                     └ a unary call is refused while the wait here stands (StandingDelay), or
//!                       the first waits without an end
//! ```
//!
//! Streams are never refused: they are not read on while their message waits. Nor are settlements,
//! responses and receives, which make room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Shard;
use crate::engine::overload::{RoomControl, Saturation, StandingDelay};
use crate::rt;
use crate::telemetry::counters::Counters;
use crate::wire::quantum;

/// What messages may wait on top of the disk's own time, unless it is set.
const TARGET: Duration = Duration::from_millis(50);

/// The same while the processor is busy, in targets: a refusal would take half of what serving does
/// from the work of others. The connections of those who wait are not read, so they are few.
const BUSY_TARGETS: u32 = 20;

/// What a log can do with is believed for so long, or for four commits if these take longer: a log
/// that has nothing to do says nothing, and the slow spell that it tells of is over one day.
const BELIEVED: Duration = Duration::from_secs(5);

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
pub(super) struct Rooms(Arc<[Room]>);

#[derive(Debug)]
struct Room {
    bytes: AtomicUsize,
    /// Until when that is believed, on the clock of [`rt::now`], which all cores share.
    until_ns: AtomicU64,
}

impl Rooms {
    pub(super) fn new(shards: u16) -> Self {
        let room = |_| Room {
            bytes: AtomicUsize::new(usize::MAX),
            until_ns: AtomicU64::new(0),
        };
        Self((0..shards).map(room).collect())
    }

    fn set(&self, shard: u16, bytes: usize, until_ns: u64) {
        if let Some(room) = self.0.get(usize::from(shard)) {
            // Nobody needs the two to fit: for a moment a value is believed too long or not at all.
            room.until_ns.store(until_ns, Ordering::Relaxed);
            room.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// The least of `bytes` and of the rooms that are believed at the time of `now_ns`. That is
    /// asked for only when it matters, which is while a disk is slow.
    fn least(&self, bytes: usize, now_ns: impl Fn() -> u64) -> usize {
        let mut least = bytes;
        for room in self.0.iter() {
            let bytes = room.bytes.load(Ordering::Relaxed);
            if bytes < least && now_ns() < room.until_ns.load(Ordering::Relaxed) {
                least = bytes;
            }
        }
        least
    }
}

/// What one shard knows of its load.
pub struct Admission {
    shard: u16,
    /// `None`: nothing is refused, and there is always the whole room.
    target: Cell<Option<Duration>>,
    processor: Cell<Saturation>,
    door: Cell<StandingDelay>,
    /// Since when those wait who wait at the door, by their numbers: the first waits longest.
    waiting: RefCell<BTreeMap<u64, rt::Instant>>,
    next_number: Cell<u64>,
    /// Commits of this shard's logs.
    commits: RefCell<RoomControl>,
    /// Until when what these say is believed.
    believed_until_ns: Cell<u64>,
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
            waiting: RefCell::default(),
            next_number: Cell::new(0),
            commits: RefCell::new(RoomControl::new(inflight_bytes_max)),
            believed_until_ns: Cell::new(0),
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
            self.rooms.borrow().set(self.shard, usize::MAX, 0);
        }
    }

    /// Lets a unary call in that brings messages to be stored, or refuses it; to be asked before
    /// anything is done for it.
    ///
    /// # Errors
    /// [`Overloaded`] while the wait stands.
    pub fn admit_unary(&self) -> Result<(), Overloaded> {
        match self.target.get() {
            Some(target) if self.store_stands() => Err(Overloaded {
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
            store: self.store_stands(),
        }
    }

    /// Whether the wait at the door stands. While the disk does nothing at all, nobody comes in who
    /// could tell: then the one who waits longest does.
    fn store_stands(&self) -> bool {
        let Some(target) = self.door_target() else {
            return false;
        };
        if self.door.get().stands() {
            return true;
        }
        let waiting = self.waiting.borrow();
        let first = waiting.first_key_value();
        first.is_some_and(|(_, since)| {
            StandingDelay::is_stuck(ns(rt::now().since(*since)), ns(target))
        })
    }

    /// What a wait at the door may take before it is too long.
    fn door_target(&self) -> Option<Duration> {
        let target = self.target.get()?;
        Some(match self.processor.get().is_busy(rt::now().as_ns()) {
            true => target.saturating_mul(BUSY_TARGETS),
            false => target,
        })
    }

    /// Whether there is too much of anything.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.overload() != Overload::default()
    }

    /// Who waits at the door.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Sets the levels.
    pub(super) fn measure(&self, counters: &Counters) {
        let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let overload = self.overload();
        counters
            .overloaded_processor
            .set(u64::from(overload.processor));
        counters.overloaded_store.set(u64::from(overload.store));
        counters.store_senders_waiting.set(level(self.waiting()));
        counters.store_room_bytes.set(level(self.room.get()));
    }

    /// Bytes that may be in flight.
    pub(super) const fn room(&self) -> usize {
        self.room.get()
    }

    /// Something in flight has come to its end.
    pub(super) fn refresh_room(&self) {
        let now_ns = || rt::now().as_ns();
        let mut commits = self.commits.borrow_mut();
        if !commits.is_whole() && now_ns() >= self.believed_until_ns.get() {
            commits.forget();
        }
        let least = self.rooms.borrow().least(commits.bytes(), now_ns);
        self.room.set(least);
    }

    /// A batch was committed.
    pub(super) fn committed(&self, bytes: usize, took: Duration) {
        let mut commits = self.commits.borrow_mut();
        commits.committed(bytes, ns(took), self.target.get().map(ns));
        let believed = took.saturating_mul(4).max(BELIEVED);
        let until_ns = rt::now().after(believed).as_ns();
        self.believed_until_ns.set(until_ns);
        let rooms = self.rooms.borrow();
        rooms.set(self.shard, commits.bytes(), until_ns);
    }

    /// A message came in at once.
    pub(super) fn came_in_at_once(&self) {
        if self.door.get().is_above() && self.waiting() == 0 {
            self.nobody_waits();
        }
    }

    /// Somebody begins to wait at the door.
    pub(super) fn wait(&self) -> AtTheDoor<'_> {
        let (number, since) = (self.next_number.get(), rt::now());
        self.next_number.set(number + 1);
        self.waiting.borrow_mut().insert(number, since);
        AtTheDoor {
            admission: self,
            number,
            since,
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
    number: u64,
    since: rt::Instant,
}

impl AtTheDoor<'_> {
    /// It has come in.
    pub(super) fn came_in(self) {
        let admission = self.admission;
        if let Some(target) = admission.door_target() {
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
        admission.waiting.borrow_mut().remove(&self.number);
        if admission.waiting() == 0 && admission.door.get().is_above() {
            admission.nobody_waits();
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("waiting", &self.waiting())
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_a_log_can_do_with_counts_on_all_cores_until_it_is_too_old() {
        let rooms = Rooms::new(3);
        assert_eq!(rooms.least(100, || 0), 100);
        rooms.set(0, 50, 1_000);
        rooms.set(2, 20, 500);
        assert_eq!(rooms.least(100, || 499), 20);
        assert_eq!(rooms.least(100, || 500), 50);
        assert_eq!(rooms.least(100, || 1_000), 100);
        assert_eq!(rooms.least(10, || 0), 10);
    }

    #[test]
    fn the_room_of_a_slow_spell_ends_with_it_on_its_core_and_on_the_others() {
        let rooms = Rooms::new(2);
        let [slow, other] = [0, 1].map(|shard| {
            let admission = Admission::new(shard, 64 * MIB);
            admission.join(rooms.clone());
            admission
        });
        slow.committed(1_000, Duration::from_millis(1));
        for _ in 0..20 {
            slow.committed(8 * MIB, Duration::from_secs(100));
        }
        for admission in [&slow, &other] {
            admission.refresh_room();
            assert_eq!(admission.room(), MIB, "believed for four commits");
        }
        // As if that were long ago.
        slow.believed_until_ns.set(0);
        rooms.set(0, 4 * MIB, 0);
        for admission in [&slow, &other] {
            admission.refresh_room();
            assert_eq!(admission.room(), 64 * MIB);
        }
    }

    #[test]
    fn a_disk_that_stops_altogether_has_calls_refused_until_nobody_waits() {
        let admission = Admission::new(0, MIB);
        admission.set_target(Some(Duration::ZERO));
        let began = rt::now();
        let waits = admission.wait();
        let later = admission.wait();
        while admission.admit_unary().is_ok() {
            assert!(rt::now().since(began) < Duration::from_secs(60));
            std::hint::spin_loop();
        }
        assert!(rt::now().since(began) >= Duration::from_millis(100));
        assert!(admission.overload().store);
        admission.set_target(None);
        assert_eq!(admission.admit_unary(), Ok(()), "nothing is refused then");
        assert!(!admission.overload().store);
        admission.set_target(Some(Duration::ZERO));
        assert!(admission.admit_unary().is_err());
        drop([waits, later]);
        assert_eq!(admission.admit_unary(), Ok(()), "nobody waits any more");
    }
}
