//! The clock of queues: time of day that never goes back and never stands still.

/// While the clock is ahead of the time of day, it loses one nanosecond in so many.
const WORKED_OFF_IN: u64 = 16;

/// Makes time of day, in nanoseconds since 1970, of a monotonic clock and of the wall clock.
///
/// Delays, expirations and leases are times of day, but nobody should wait an hour longer for a
/// message because an operator set the clock back by one, and no lease should last for ever.
///
/// - When the wall clock goes forward, also by a step, this one follows at once.
/// - When it was set back, this one goes on at the pace of the monotonic clock less a sixteenth,
///   until the wall clock has caught up.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    monotonic_ns: u64,
    now_ns: u64,
    /// Time that passed and was not weighed for working off yet: less than [`WORKED_OFF_IN`].
    carry_ns: u64,
}

impl SteadyClock {
    /// A clock that shows what the wall clock does.
    #[must_use]
    pub const fn new(monotonic_ns: u64, wall_ns: u64) -> Self {
        Self {
            monotonic_ns,
            now_ns: wall_ns,
            carry_ns: 0,
        }
    }

    /// What time it is, given the two clocks; never less than before. A monotonic clock that goes
    /// back counts as one that stood still.
    pub fn read(&mut self, monotonic_ns: u64, wall_ns: u64) -> u64 {
        let elapsed_ns = monotonic_ns.saturating_sub(self.monotonic_ns);
        self.monotonic_ns = self.monotonic_ns.max(monotonic_ns);
        let steady_ns = self.now_ns.saturating_add(elapsed_ns);
        if wall_ns >= steady_ns {
            self.now_ns = wall_ns;
            self.carry_ns = 0;
            return wall_ns;
        }
        let weighed_ns = self.carry_ns.saturating_add(elapsed_ns);
        self.carry_ns = weighed_ns % WORKED_OFF_IN;
        let ahead_ns = steady_ns - wall_ns;
        let lost_ns = (weighed_ns / WORKED_OFF_IN).min(ahead_ns).min(elapsed_ns);
        self.now_ns = steady_ns - lost_ns;
        self.now_ns
    }

    /// What [`read`](Self::read) said last.
    #[must_use]
    pub const fn last_ns(&self) -> u64 {
        self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    const WALL: u64 = 1_700_000_000 * SECOND;

    #[test]
    fn it_shows_the_wall_clock_as_long_as_that_behaves() {
        let mut clock = SteadyClock::new(5, WALL);
        for passed in [0, 1, 17, SECOND, 3 * HOUR] {
            assert_eq!(clock.read(5 + passed, WALL + passed), WALL + passed);
        }
    }

    #[test]
    fn a_step_forward_is_followed() {
        let mut clock = SteadyClock::new(0, WALL);
        assert_eq!(clock.read(1, WALL + HOUR), WALL + HOUR);
        assert_eq!(
            clock.read(SECOND, WALL + HOUR + SECOND),
            WALL + HOUR + SECOND
        );
    }

    #[test]
    fn after_a_step_back_time_goes_on_and_the_wall_clock_catches_up() {
        let mut clock = SteadyClock::new(0, WALL);
        let back = 60 * SECOND;
        let mut last = WALL;
        let mut together = None;
        for second in 1..2000 {
            let (passed, wall) = (second * SECOND, WALL + second * SECOND - back);
            let now = clock.read(passed, wall);
            let step = now - last;
            assert!(step <= SECOND, "not faster than time: {step}");
            assert!(
                step >= SECOND - SECOND / WORKED_OFF_IN,
                "nearly as fast: {step}"
            );
            last = now;
            if now == wall {
                together.get_or_insert(second);
            }
        }
        assert_eq!(together, Some(60 * WORKED_OFF_IN));
    }

    #[test]
    fn reading_often_does_not_keep_the_clocks_apart() {
        let mut clock = SteadyClock::new(0, WALL);
        let back = 1000;
        for passed in 1..=back * WORKED_OFF_IN {
            clock.read(passed, WALL + passed - back.min(passed));
        }
        let passed = back * WORKED_OFF_IN + WORKED_OFF_IN;
        assert_eq!(
            clock.read(passed, WALL + passed - back),
            WALL + passed - back
        );
    }

    #[test]
    fn it_never_goes_back_and_never_stands_still_whatever_the_wall_clock_does() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut clock = SteadyClock::new(0, WALL);
        let (mut monotonic, mut last) = (0, WALL);
        for _ in 0..20_000 {
            let passed = [0, 1, 100, SECOND][usize::try_from(random(4)).unwrap()];
            monotonic += passed;
            let wall = WALL - 2 * HOUR + random(4 * HOUR);
            let now = clock.read(monotonic, wall);
            let least = passed - passed.div_ceil(WORKED_OFF_IN);
            assert!(now >= last + least, "{passed} passed, {now} after {last}");
            assert!(now >= wall && clock.last_ns() == now);
            last = now;
        }
        // A monotonic clock that is not.
        assert!(clock.read(0, 0) >= last);
    }
}
