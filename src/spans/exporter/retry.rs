//! How long to wait before the same spans are sent again, and when to give them up.

use std::time::Duration;

use crate::rt::Instant;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(30);

/// A batch that was not taken for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pauses of one batch.
#[derive(Debug)]
pub(super) struct Backoff {
    began: Instant,
    pause: Duration,
}

impl Backoff {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            pause: FIRST,
        }
    }

    /// The next pause: what the collector asked for, otherwise our own, shortened by up to a half
    /// as `jitter` says, so that the cores do not come back together. `None`: give up.
    pub(super) fn next(
        &mut self,
        now: Instant,
        asked: Option<Duration>,
        jitter: u64,
    ) -> Option<Duration> {
        let own = self.pause;
        self.pause = (own * 2).min(LONGEST);
        let half_ns = u64::try_from(own.as_nanos() / 2).unwrap_or(u64::MAX);
        let shorter = Duration::from_nanos(jitter % half_ns.max(1));
        let pause = asked.unwrap_or_else(|| own.saturating_sub(shorter));
        (now.since(self.began).saturating_add(pause) <= PATIENCE).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_collector_that_asks_for_eternity_is_given_up() {
        let mut backoff = Backoff::new(at(0));
        assert_eq!(backoff.next(at(9), Some(Duration::MAX), 0), None);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(at(0));
        let pauses: Vec<u64> = (0..7)
            .filter_map(|_| backoff.next(at(0), None, 0))
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn what_the_collector_asks_for_counts() {
        let mut backoff = Backoff::new(at(0));
        let asked = Duration::from_secs(7);
        assert_eq!(backoff.next(at(0), Some(asked), 5), Some(asked));
        let too_long = Duration::from_secs(61);
        assert_eq!(backoff.next(at(0), Some(too_long), 5), None);
    }

    #[test]
    fn batch_is_given_up_after_a_minute() {
        let mut backoff = Backoff::new(at(100));
        assert!(backoff.next(at(159), None, 0).is_some());
        assert_eq!(backoff.next(at(161), None, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn jitter_takes_at_most_half(jitter in any::<u64>(), steps in 0_usize..8) {
            let (mut whole, mut less) = (Backoff::new(at(0)), Backoff::new(at(0)));
            for _ in 0..steps {
                let longest = whole.next(at(0), None, 0).unwrap();
                let pause = less.next(at(0), None, jitter).unwrap();
                prop_assert!(pause <= longest && pause * 2 >= longest, "{pause:?} {longest:?}");
            }
        }
    }
}
