//! The wheel against a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{TimerKey, Wheel};

/// What a wheel must do, in a few lines: timers sorted by deadline, then by insertion.
#[derive(Default)]
struct Model {
    timers: BTreeMap<(u64, usize), ()>,
    now: u64,
}

impl Model {
    fn insert(&mut self, deadline: u64, id: usize) -> u64 {
        let deadline = deadline.max(self.now);
        self.timers.insert((deadline, id), ());
        deadline
    }

    fn advance(&mut self, now: u64) -> Vec<usize> {
        self.now = self.now.max(now);
        let due = self
            .timers
            .range(..=(self.now, usize::MAX))
            .map(|(key, ())| *key);
        let due: Vec<_> = due.collect();
        due.iter()
            .for_each(|key| assert!(self.timers.remove(key).is_some()));
        due.into_iter().map(|(_, id)| id).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Insert {
        delay: i64,
    },
    /// Cancels the timer that was inserted as this one, set or not.
    Cancel {
        which: prop::sample::Index,
    },
    Advance {
        by: u64,
    },
    /// Advances in slices, inserting a timer and cancelling one between them.
    AdvanceInSlices {
        by: u64,
        moves_max: usize,
        delay: i64,
    },
    /// Advances and puts everything that fired back.
    Rearm {
        by: u64,
        delay: i64,
    },
    AdvanceToNextExpiry,
}

fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -5..1_000_i64,
        2 => 0..200_000_i64,
        1 => 0..20_000_000_i64,
        1 => 0..i64::from(u32::MAX) * 1000,
        1 => Just(i64::MAX),
    ]
}

fn step() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..300_u64,
        2 => 0..100_000_u64,
        1 => 0..20_000_000_u64,
        1 => 0..u64::from(u32::MAX) * 100,
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => delay().prop_map(|delay| Action::Insert { delay }),
        3 => any::<prop::sample::Index>().prop_map(|which| Action::Cancel { which }),
        3 => step().prop_map(|by| Action::Advance { by }),
        2 => (step(), 1..6_usize, delay())
            .prop_map(|(by, moves_max, delay)| Action::AdvanceInSlices { by, moves_max, delay }),
        1 => (step(), delay()).prop_map(|(by, delay)| Action::Rearm { by, delay }),
        2 => Just(Action::AdvanceToNextExpiry),
    ]
}

/// A wheel and its model, in step.
struct Pair {
    wheel: Wheel<usize>,
    model: Model,
    /// Every timer ever set, by id, with the deadline it counts for.
    timers: Vec<(TimerKey, u64)>,
}

impl Pair {
    fn new(now: u64) -> Self {
        let model = Model {
            now,
            ..Model::default()
        };
        Self {
            wheel: Wheel::new(now),
            model,
            timers: Vec::new(),
        }
    }

    fn insert(&mut self, delay: i64) {
        let id = self.timers.len();
        let deadline = self.model.now.saturating_add_signed(delay);
        let key = self.wheel.insert(deadline, id);
        self.timers.push((key, self.model.insert(deadline, id)));
    }

    fn cancel(&mut self, id: usize) {
        let (key, deadline) = self.timers[id];
        let expected = self.model.timers.remove(&(deadline, id)).map(|()| id);
        assert_eq!(self.wheel.cancel(key), expected);
    }

    fn advance(&mut self, now: u64) -> Vec<usize> {
        let mut fired = Vec::new();
        self.wheel.advance(now, &mut fired);
        assert_eq!(fired, self.model.advance(now));
        fired
    }

    /// Between two slices the wheel's present lies somewhere before `now`. A timer inserted there
    /// for after `now` must not disturb what is being worked off, nor must one that is cancelled
    /// although it is due. (Nothing is after the last tick.)
    fn advance_in_slices(&mut self, now: u64, moves_max: usize, delay: i64) {
        let mut fired = Vec::new();
        let mut expected = self.model.advance(now);
        let mut meddled = now == u64::MAX;
        while !self.wheel.advance_bounded(now, moves_max, &mut fired) {
            assert!(self.wheel.next_expiry().is_some_and(|tick| tick <= now));
            if std::mem::replace(&mut meddled, true) {
                continue;
            }
            self.insert(delay.max(1));
            if expected.len() > fired.len()
                && let Some(last) = expected.pop()
            {
                assert_eq!(self.wheel.cancel(self.timers[last].0), Some(last));
            }
        }
        assert_eq!(fired, expected);
    }

    fn apply(&mut self, action: Action) {
        let now = self.model.now;
        match action {
            Action::Insert { delay } => self.insert(delay),
            Action::Cancel { which } if !self.timers.is_empty() => {
                self.cancel(which.index(self.timers.len()));
            }
            Action::Cancel { .. } => {}
            Action::Advance { by } => drop(self.advance(now.saturating_add(by))),
            Action::AdvanceInSlices {
                by,
                moves_max,
                delay,
            } => {
                self.advance_in_slices(now.saturating_add(by), moves_max, delay);
            }
            Action::Rearm { by, delay } => {
                for _ in self.advance(now.saturating_add(by)) {
                    self.insert(delay);
                }
            }
            Action::AdvanceToNextExpiry => {
                if let Some(tick) = self.wheel.next_expiry() {
                    self.advance(tick);
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.model.timers.len());
        assert_eq!(self.wheel.is_empty(), self.model.timers.is_empty());
        let earliest = self
            .model
            .timers
            .first_key_value()
            .map(|((deadline, _), ())| *deadline);
        match (self.wheel.next_expiry(), earliest) {
            (Some(tick), Some(earliest)) => assert!((self.model.now..=earliest).contains(&tick)),
            (tick, earliest) => assert_eq!(tick, earliest),
        }
    }
}

proptest! {
    #[test]
    fn a_wheel_does_what_a_sorted_map_does(
        start in prop_oneof![Just(0), 0..1_u64 << 40, Just(u64::MAX - 1_000_000)],
        actions in prop::collection::vec(action(), 1..120),
    ) {
        let mut pair = Pair::new(start);
        for action in actions {
            pair.apply(action);
            pair.check();
        }
        let everything: Vec<_> = pair.advance(u64::MAX);
        prop_assert!(pair.wheel.is_empty(), "left over after {} fired", everything.len());
    }

    #[test]
    fn following_next_expiry_fires_every_timer_exactly_at_its_deadline(
        deadlines in prop::collection::vec(0..1_u64 << 34, 1..50),
    ) {
        let mut wheel = Wheel::new(0);
        for &deadline in &deadlines {
            wheel.insert(deadline, deadline);
        }
        let mut fired = Vec::new();
        while let Some(tick) = wheel.next_expiry() {
            fired.clear();
            wheel.advance(tick, &mut fired);
            prop_assert!(fired.iter().all(|&deadline| deadline == tick));
        }
        prop_assert!(wheel.is_empty());
    }
}
