//! A hierarchical timer wheel: the shard's delays, deadlines and lifetimes.
//!
//! A deadline is an absolute tick, read as a number in base 256. A timer hangs in the level of the
//! highest digit in which its deadline differs from the present, in the slot of that digit:
//!
//! | level | one slot spans | the level reaches |
//! |---|---|---|
//! | 0 | 1 ms | 256 ms |
//! | 1 | 256 ms | 65.5 s |
//! | 2 | 65.5 s | 4.7 h |
//! | 3 | 4.7 h | 49.7 days |
//! | 4 | 49.7 days | 34.8 years |
//! | 5, 6, 7 | | the rest of the 64 bits: no deadline is beyond the wheel |
//!
//! ```text
//!   present 0x02_fe             level 1: digits still to come, none behind
//!   deadline 0x02_ff ─┐         ┌────┬────┬────┬─ ─ ─
//!   deadline 0x04_10 ─│───────► │    │ 04 │    │
//!                     ▼         └────┴────┴────┴─ ─ ─
//!             level 0, slot ff
//! ```
//!
//! When the present reaches a slot of a level above 0, the slot *cascades*: its timers agree with
//! the present in one more digit and move to lower levels. All higher digits of the timers of a
//! level are those of the present, so occupied slots are never behind it, levels never wrap, and
//! the first slot of the lowest occupied level is always the next one to look at. A bitmap for each
//! level finds it, however much time was skipped.
//!
//! Costs: insert and cancel O(1); firing O(1) plus at most one move for each level (two for a
//! delay of minutes). A timer takes 24 bytes beside its value; an empty wheel takes 17 KiB.

mod level;
#[cfg(test)]
mod model;
mod occupancy;

use std::fmt;

use slab::Slab;

use super::arena::{Generation, Key, NIL, slab_index};
use level::{LEVELS, Level, List, Place};

/// Milliseconds in one tick.
pub const TICK_MS: u64 = 1;

/// Names one timer of one wheel; goes stale when the timer fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey(Key);

/// The timers of one shard, each with a value that comes back when it is due.
///
/// Owned and driven by the shard's executor. Timers fire in the order of their deadlines, and in
/// the order of their insertion within one tick. Memory follows the highest number of timers that
/// were set at once; bounding that number is the caller's part.
pub struct Wheel<T> {
    levels: Box<[Level]>,
    /// Bit n: level n has timers.
    levels_occupied: u8,
    timers: Slab<Timer<T>>,
    generation: Generation,
    /// The present: everything before it has fired, and what is due at it may have.
    elapsed: u64,
    /// The slot that a bounded advance has begun to cascade and not finished. Until it is empty
    /// it takes the new timers of its span too, so that they line up behind the older ones.
    cascading: Option<Place>,
}

/// The generation is in here, not around as in an arena, so that it shares the padding: with a
/// value of eight bytes a timer takes 32, two to a cache line.
struct Timer<T> {
    deadline: u64,
    generation: Generation,
    prev: u32,
    next: u32,
    place: Place,
    value: T,
}

impl<T> Wheel<T> {
    /// Makes an empty wheel whose present is `now_tick`.
    #[must_use]
    pub fn new(now_tick: u64) -> Self {
        Self {
            levels: std::iter::repeat_with(Level::new).take(LEVELS).collect(),
            levels_occupied: 0,
            timers: Slab::new(),
            generation: Generation::FIRST,
            elapsed: now_tick,
            cascading: None,
        }
    }

    /// The number of timers that are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Sets a timer. One with a deadline in the past fires at the next advance, after those that
    /// were due before.
    pub fn insert(&mut self, deadline_tick: u64, value: T) -> TimerKey {
        let deadline = deadline_tick.max(self.elapsed);
        let place = match self.cascading {
            Some(cascading) if cascading.spans(deadline, self.elapsed) => cascading,
            _ => Place::of(deadline, self.elapsed),
        };
        let generation = self.generation.advance();
        let timer = Timer {
            deadline,
            generation,
            prev: NIL,
            next: NIL,
            place,
            value,
        };
        let key = Key::new(self.timers.insert(timer), generation);
        self.append(key.index(), place);
        TimerKey(key)
    }

    /// Cancels a timer and gives its value back; `None` if it has fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let TimerKey(key) = key;
        let timer = self.timers.get(slab_index(key.index()))?;
        key.is_of(timer.generation)
            .then(|| self.take(key.index()).value)
    }

    /// Moves the present to `now_tick` and appends the values of all timers due by then to `fired`.
    ///
    /// A `now_tick` before the present counts as the present.
    pub fn advance(&mut self, now_tick: u64, fired: &mut Vec<T>) {
        let finished = self.advance_bounded(now_tick, usize::MAX, fired);
        debug_assert!(finished, "nothing bounds this advance");
    }

    /// As [`Wheel::advance`], but stops after `moves_max` timers have fired or moved to a lower
    /// level; returns whether it got through. If not, call it again after yielding:
    /// [`Wheel::next_expiry`] is due at once, and the order of firing holds across the calls.
    ///
    /// A wheel of a million timers may cascade a hundred thousand of them at one tick. That is
    /// milliseconds of work, too long for an executor to hold its breath.
    ///
    /// # Panics
    /// When `moves_max` is zero, as that would never get through.
    pub fn advance_bounded(&mut self, now_tick: u64, moves_max: usize, fired: &mut Vec<T>) -> bool {
        assert!(moves_max > 0, "an advance needs room for one move");
        let now = now_tick.max(self.elapsed);
        let mut moves = moves_max;
        while let Some(place) = self.next_place() {
            let start = place.start(self.elapsed);
            if start > now {
                break;
            }
            debug_assert!(
                start >= self.elapsed,
                "occupied slots are never behind the present"
            );
            self.elapsed = start;
            let emptied = if place.level == 0 {
                self.fire(place, &mut moves, fired)
            } else {
                self.cascade(place, &mut moves)
            };
            if !emptied {
                return false;
            }
        }
        self.elapsed = now;
        true
    }

    /// The next tick at which [`Wheel::advance`] has work: never later than the earliest deadline,
    /// possibly earlier because of a cascade; `None` when no timer is set.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.next_place().map(|place| place.start(self.elapsed))
    }

    /// The occupied slot that the present reaches first.
    fn next_place(&self) -> Option<Place> {
        if self.cascading.is_some() {
            return self.cascading;
        }
        let level = u8::try_from(self.levels_occupied.trailing_zeros()).ok()?;
        let slot = self.levels.get(usize::from(level))?.occupancy.first()?;
        Some(Place { level, slot })
    }

    /// Fires the timers of a slot of level 0; returns whether all of them.
    fn fire(&mut self, place: Place, moves: &mut usize, fired: &mut Vec<T>) -> bool {
        while let Some(index) = self.list(place).head() {
            if *moves == 0 {
                return false;
            }
            *moves -= 1;
            let timer = self.take(index);
            debug_assert_eq!(
                timer.deadline, self.elapsed,
                "a timer fires at its deadline"
            );
            fired.push(timer.value);
        }
        true
    }

    /// Moves the timers of a slot down; returns whether all of them.
    fn cascade(&mut self, place: Place, moves: &mut usize) -> bool {
        self.cascading = Some(place);
        while let Some(index) = self.list(place).head() {
            if *moves == 0 {
                return false;
            }
            *moves -= 1;
            self.unlink(index);
            let below = Place::of(self.timer(index).deadline, self.elapsed);
            debug_assert!(below.level < place.level, "a cascade moves down");
            self.append(index, below);
        }
        debug_assert!(self.cascading.is_none(), "an empty slot is not cascading");
        true
    }

    /// Puts a timer at the end of a slot's list.
    fn append(&mut self, index: u32, place: Place) {
        let level = self.level(place.level);
        let tail = level.list(place.slot).push(index);
        level.occupancy.set(place.slot);
        self.levels_occupied |= 1 << place.level;
        let timer = self.timer(index);
        timer.place = place;
        timer.prev = tail;
        timer.next = NIL;
        if tail != NIL {
            self.timer(tail).next = index;
        }
    }

    /// Takes a timer out of its slot's list.
    fn unlink(&mut self, index: u32) {
        let timer = self.timer(index);
        let (place, prev, next) = (timer.place, timer.prev, timer.next);
        if prev != NIL {
            self.timer(prev).next = next;
        }
        if next != NIL {
            self.timer(next).prev = prev;
        }
        let level = self.level(place.level);
        if !level.list(place.slot).close_gap(prev, next) {
            return;
        }
        level.occupancy.clear(place.slot);
        if level.occupancy.is_empty() {
            self.levels_occupied &= !(1 << place.level);
        }
        if self.cascading == Some(place) {
            self.cascading = None;
        }
    }

    /// Takes a timer out of the wheel.
    fn take(&mut self, index: u32) -> Timer<T> {
        self.unlink(index);
        self.timers.remove(slab_index(index))
    }

    fn timer(&mut self, index: u32) -> &mut Timer<T> {
        self.timers
            .get_mut(slab_index(index))
            .expect("links name live timers")
    }

    fn level(&mut self, level: u8) -> &mut Level {
        self.levels
            .get_mut(usize::from(level))
            .expect("a place is inside the wheel")
    }

    fn list(&mut self, place: Place) -> List {
        *self.level(place.level).list(place.slot)
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len())
            .field("elapsed", &self.elapsed)
            .field("next_expiry", &self.next_expiry())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
        let mut fired = Vec::new();
        wheel.advance(now, &mut fired);
        fired
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        for deadline in [
            1,
            255,
            256,
            257,
            65_535,
            65_536,
            1 << 24,
            1 << 32,
            1 << 50,
            u64::MAX,
        ] {
            let mut wheel = Wheel::new(0);
            wheel.insert(deadline, ());
            assert_eq!(advance(&mut wheel, deadline - 1), [], "{deadline}");
            assert_eq!(wheel.next_expiry(), Some(deadline));
            assert_eq!(advance(&mut wheel, deadline), [()], "{deadline}");
            assert_eq!((wheel.len(), wheel.next_expiry()), (0, None));
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_advance() {
        let mut wheel = Wheel::new(1000);
        wheel.insert(1000, "present");
        wheel.insert(3, "past");
        assert_eq!(wheel.next_expiry(), Some(1000));
        assert_eq!(advance(&mut wheel, 1000), ["present", "past"]);
    }

    #[test]
    fn the_present_does_not_move_backwards() {
        let mut wheel = Wheel::new(500);
        wheel.insert(510, ());
        assert_eq!(advance(&mut wheel, 20), []);
        assert_eq!(wheel.next_expiry(), Some(510));
        assert_eq!(advance(&mut wheel, 510), [()]);
    }

    #[test]
    fn timers_of_one_tick_fire_in_the_order_of_insertion_from_whatever_level_they_come() {
        let mut wheel = Wheel::new(0);
        wheel.insert(70_000, 'a');
        advance(&mut wheel, 65_600);
        wheel.insert(70_000, 'b');
        advance(&mut wheel, 69_999);
        wheel.insert(70_000, 'c');
        assert_eq!(advance(&mut wheel, 80_000), ['a', 'b', 'c']);
    }

    #[test]
    fn a_cancelled_timer_gives_its_value_back_once() {
        let mut wheel = Wheel::new(0);
        let keys: Vec<_> = (0..3).map(|n| wheel.insert(300, n)).collect();
        assert_eq!(wheel.cancel(keys[1]), Some(1));
        assert_eq!(wheel.cancel(keys[1]), None);
        let reused = wheel.insert(300, 3);
        assert_eq!(
            wheel.cancel(keys[1]),
            None,
            "the key is stale though its slot is in use"
        );
        assert_eq!(advance(&mut wheel, 300), [0, 2, 3]);
        assert_eq!(wheel.cancel(reused), None);
    }

    #[test]
    fn a_bounded_advance_stops_and_goes_on_where_it_was() {
        let mut wheel = Wheel::new(0);
        for n in 0..100 {
            wheel.insert(1000 + n % 3, n);
        }
        let mut fired = Vec::new();
        let mut calls = 0;
        while !wheel.advance_bounded(5000, 7, &mut fired) {
            assert!(
                wheel.next_expiry().is_some_and(|tick| tick <= 5000),
                "more is due"
            );
            calls += 1;
        }
        assert_eq!(calls, 200 / 7, "each timer cascades once and fires once");
        let mut expected: Vec<_> = (0..100).collect();
        expected.sort_by_key(|n| n % 3);
        assert_eq!(fired, expected);
    }

    #[test]
    fn a_slot_that_is_emptied_by_cancelling_ends_its_cascade() {
        let mut wheel = Wheel::new(0);
        let keys: Vec<_> = (0..3).map(|n| wheel.insert(1000, n)).collect();
        let mut fired = Vec::new();
        assert!(!wheel.advance_bounded(999, 1, &mut fired));
        assert_eq!(
            wheel.next_expiry(),
            Some(768),
            "the rest of the cascade is due"
        );
        keys.into_iter()
            .for_each(|key| assert!(wheel.cancel(key).is_some()));
        assert_eq!(wheel.next_expiry(), None);
        assert!(wheel.advance_bounded(2000, 1, &mut fired));
        assert!(fired.is_empty());
    }

    #[test]
    fn a_timer_costs_32_bytes_and_its_value() {
        assert_eq!(
            size_of::<Timer<u64>>(),
            24 + 8,
            "the arena's generation makes it 32"
        );
    }
}
