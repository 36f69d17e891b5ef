//! A processor that has more to do than it can.

/// How often it is judged.
const WINDOW_NS: u64 = 100_000_000;

/// Windows in a row that have to be full: shorter ones are bursts.
const WINDOWS: u32 = 10;

/// A window is full when so much of it was work, in percent. The rest is what looking for work
/// costs, which is done however much there is.
const FULL_PERCENT: u64 = 95;

/// A processor that worked so much of the last window, in percent, has nothing to spare for saying
/// no: that would be taken from the work of others.
const BUSY_PERCENT: u64 = 80;

/// Whether a processor works without a pause, longer than any burst lasts.
///
/// Whatever the load is, a pause comes soon while it is less than can be done: at 99 percent after
/// a hundred pieces of work. None for a second means that there is more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saturation {
    began_ns: u64,
    busy_ns: u64,
    full_windows: u32,
    /// The last window was mostly work.
    is_busy: bool,
}

impl Saturation {
    /// A piece of work has ended just now.
    pub fn worked(&mut self, busy_ns: u64, now_ns: u64) {
        self.busy_ns = self.busy_ns.saturating_add(busy_ns);
        let passed_ns = now_ns.saturating_sub(self.began_ns);
        if passed_ns < WINDOW_NS {
            return;
        }
        // In parts of a hundred, so that nothing overflows.
        let is_work = |percent: u64| self.busy_ns / percent >= passed_ns / 100;
        let is_full = is_work(FULL_PERCENT);
        self.is_busy = is_work(BUSY_PERCENT);
        self.full_windows = match is_full {
            true => self.full_windows.saturating_add(1),
            false => 0,
        };
        self.began_ns = now_ns;
        self.busy_ns = 0;
    }

    /// Whether it has had more to do than it can, up to now.
    #[must_use]
    pub const fn is_saturated(&self, now_ns: u64) -> bool {
        // Without work no window ends.
        self.full_windows >= WINDOWS && now_ns.saturating_sub(self.began_ns) < 2 * WINDOW_NS
    }

    /// Whether it has little time to spare, as of the last tenth of a second.
    #[must_use]
    pub const fn is_busy(&self, now_ns: u64) -> bool {
        self.is_busy && now_ns.saturating_sub(self.began_ns) < 2 * WINDOW_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A second and a half of turns of a millisecond, of which so much is work.
    fn after(busy_percent: u64) -> Saturation {
        let mut processor = Saturation::default();
        for ms in 1..=1_500 {
            processor.worked(MS * busy_percent / 100, ms * MS);
        }
        processor
    }

    #[test]
    fn work_without_a_pause_is_more_than_can_be_done() {
        assert!(after(99).is_saturated(1_500 * MS));
        assert!(!after(90).is_saturated(1_500 * MS));
    }

    #[test]
    fn a_processor_is_busy_with_less_and_says_so_after_a_tenth_of_a_second() {
        assert!(after(90).is_busy(1_500 * MS));
        assert!(!after(70).is_busy(1_500 * MS));
        let mut processor = Saturation::default();
        for ms in 1..=101 {
            processor.worked(MS, ms * MS);
        }
        assert!(processor.is_busy(101 * MS) && !processor.is_saturated(101 * MS));
        assert!(!processor.is_busy(400 * MS), "nothing was done since");
    }

    #[test]
    fn a_burst_of_less_than_a_second_is_none() {
        let mut processor = Saturation::default();
        for ms in 1..=900 {
            processor.worked(MS, ms * MS);
            assert!(!processor.is_saturated(ms * MS));
        }
    }

    #[test]
    fn one_pause_ends_it_and_so_does_silence() {
        let mut processor = after(100);
        assert!(processor.is_saturated(1_550 * MS));
        assert!(
            !processor.is_saturated(1_800 * MS),
            "nothing was done since"
        );
        processor.worked(20 * MS, 1_620 * MS);
        assert!(!processor.is_saturated(1_620 * MS));
    }
}
