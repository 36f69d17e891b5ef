//! A queue whose delay stands.

/// How long every wait must have been too long until that stands: longer than a burst lasts.
const INTERVAL_NS: u64 = 100_000_000;

/// The same after it stood a moment ago: nobody needs the patience for a burst again.
const RELAPSE_INTERVAL_NS: u64 = 10_000_000;

/// How long that is a moment ago.
const RELAPSE_NS: u64 = 1_000_000_000;

/// Whether the wait at a door stands: all who came in for a while waited longer than the target.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandingDelay {
    /// Since when every wait was too long; `None`: the last one was not.
    above_since_ns: Option<u64>,
    standing: bool,
    /// When it stood last.
    stood_ns: Option<u64>,
}

impl StandingDelay {
    /// Somebody came in after a wait.
    pub fn came_in(&mut self, waited_ns: u64, target_ns: u64, now_ns: u64) {
        if waited_ns <= target_ns {
            return self.nobody_waits(now_ns);
        }
        let since_ns = *self.above_since_ns.get_or_insert(now_ns);
        let relapse = self
            .stood_ns
            .is_some_and(|stood_ns| now_ns.saturating_sub(stood_ns) < RELAPSE_NS);
        let patience_ns = match relapse {
            true => RELAPSE_INTERVAL_NS,
            false => INTERVAL_NS,
        };
        self.standing |= now_ns.saturating_sub(since_ns) >= patience_ns;
    }

    /// Somebody came in at once while nobody waited, or the last one who waited has gone.
    pub fn nobody_waits(&mut self, now_ns: u64) {
        if std::mem::take(&mut self.standing) {
            self.stood_ns = Some(now_ns);
        }
        self.above_since_ns = None;
    }

    /// Whether the last wait was too long: only then there is something to tell of a short one.
    #[must_use]
    pub const fn is_above(&self) -> bool {
        self.above_since_ns.is_some()
    }

    /// Whether a wait that has not ended says by itself that the wait stands. When nobody comes in
    /// at all, nobody who came in can tell.
    #[must_use]
    pub const fn is_stuck(waited_ns: u64, target_ns: u64) -> bool {
        waited_ns > target_ns.saturating_add(INTERVAL_NS)
    }

    /// Whether newcomers would only make the wait longer.
    #[must_use]
    pub const fn stands(&self) -> bool {
        self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TARGET: u64 = 50 * MS;

    #[test]
    fn a_burst_is_taken_up() {
        let mut door = StandingDelay::default();
        for ms in 0..100 {
            door.came_in(80 * MS, TARGET, ms * MS);
            assert!(!door.stands());
        }
        door.came_in(TARGET, TARGET, 100 * MS);
        for ms in 101..201 {
            door.came_in(80 * MS, TARGET, ms * MS);
            assert!(
                !door.stands(),
                "one short wait, and the patience begins anew"
            );
        }
    }

    #[test]
    fn waits_that_are_all_too_long_stand_until_one_is_not() {
        let mut door = StandingDelay::default();
        for ms in 0..=100 {
            door.came_in(51 * MS, TARGET, ms * MS);
        }
        assert!(door.stands() && door.is_above());
        door.came_in(49 * MS, TARGET, 101 * MS);
        assert!(!door.stands() && !door.is_above());
    }

    #[test]
    fn a_wait_without_end_stands_when_it_is_longer_than_target_and_burst() {
        assert!(!StandingDelay::is_stuck(150 * MS, TARGET));
        assert!(StandingDelay::is_stuck(150 * MS + 1, TARGET));
        assert!(!StandingDelay::is_stuck(u64::MAX, u64::MAX));
    }

    #[test]
    fn what_stood_a_moment_ago_stands_again_soon_and_is_forgotten_later() {
        let stands_after = |pause_ms: u64| {
            let mut door = StandingDelay::default();
            door.came_in(60 * MS, TARGET, 0);
            door.came_in(60 * MS, TARGET, 100 * MS);
            assert!(door.stands());
            door.nobody_waits(100 * MS);
            let begin_ms = 100 + pause_ms;
            let mut ms = begin_ms..begin_ms + 1_000;
            let found = ms.find(|ms| {
                door.came_in(60 * MS, TARGET, ms * MS);
                door.stands()
            });
            found.map(|ms| ms - begin_ms)
        };
        assert_eq!(stands_after(50), Some(10));
        assert_eq!(stands_after(2_000), Some(100));
    }
}
