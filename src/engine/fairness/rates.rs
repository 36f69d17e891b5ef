//! Token buckets for any number of peers, in memory of a fixed size.
//!
//! A bucket is one number: the time until which what was taken is paid for by the rate. It may lie
//! ahead of now by as much as the burst is worth (the generic cell rate algorithm). So an untouched
//! bucket is full, nothing has to be filled, and a changed rate counts at once.
//!
//! Each key has two cells, one in each row, and may share them with others. What it takes moves
//! both of them on; what counts is the one that lies less far ahead (a count-min sketch with
//! conservative update). So nobody ever gets more than the rate, and somebody gets less only when
//! both of its cells are shared with peers that are at their limit: with a thousand such peers, one
//! in four thousand.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Half, Key};

/// Cells of a row.
const ROW: usize = 1 << 16;

const SECOND_NS: u64 = 1_000_000_000;

/// How much may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In each second; zero counts as one.
    pub per_second: u64,
    /// At once, by one who has taken nothing for a while. More than that in one piece waits until
    /// the bucket is full, and passes then.
    pub burst: u64,
}

impl Rate {
    /// How long it takes to earn `amount`; rounded up, so that little pieces are not free.
    fn worth_ns(self, amount: u64) -> u64 {
        let ns = u128::from(amount) * u128::from(SECOND_NS);
        let ns = ns.div_ceil(u128::from(self.per_second.max(1)));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// The buckets of all peers. A mebibyte, taken at the first use.
#[derive(Debug, Default)]
pub struct Rates {
    rows: OnceLock<Box<[AtomicU64]>>,
}

/// The cells of one key.
struct Cells<'a> {
    low: &'a AtomicU64,
    high: &'a AtomicU64,
}

impl Rates {
    /// Takes `amount`, if the rate allows it now.
    ///
    /// Two cores that take for one key at the same moment may be charged once.
    ///
    /// # Errors
    /// How long to wait until it would; nothing was taken.
    pub fn take(&self, key: Key, rate: Rate, amount: u64, now_ns: u64) -> Result<(), Duration> {
        let Some(cells) = self.cells(key) else {
            return Ok(());
        };
        loop {
            let (cell, paid_until) = cells.least();
            let wait = wait_ns(paid_until, rate, amount, now_ns);
            if wait > 0 {
                return Err(Duration::from_nanos(wait));
            }
            if cells.charge(cell, paid_until, rate, amount, now_ns) {
                return Ok(());
            }
        }
    }

    /// How long to wait until `amount` may be taken; takes nothing.
    #[must_use]
    pub fn wait(&self, key: Key, rate: Rate, amount: u64, now_ns: u64) -> Duration {
        let paid_until = self.cells(key).map_or(0, |cells| cells.least().1);
        Duration::from_nanos(wait_ns(paid_until, rate, amount, now_ns))
    }

    /// Takes `amount` in any case, and tells how long to wait before making use of it.
    #[must_use]
    pub fn reserve(&self, key: Key, rate: Rate, amount: u64, now_ns: u64) -> Duration {
        let Some(cells) = self.cells(key) else {
            return Duration::ZERO;
        };
        loop {
            let (cell, paid_until) = cells.least();
            if cells.charge(cell, paid_until, rate, amount, now_ns) {
                return Duration::from_nanos(wait_ns(paid_until, rate, amount, now_ns));
            }
        }
    }

    fn cells(&self, key: Key) -> Option<Cells<'_>> {
        let rows = self
            .rows
            .get_or_init(|| (0..2 * ROW).map(|_| AtomicU64::new(0)).collect());
        let (low, high) = rows.split_at_checked(ROW)?;
        Some(Cells {
            low: low.get(key.place(Half::Low, ROW))?,
            high: high.get(key.place(Half::High, ROW))?,
        })
    }
}

impl<'a> Cells<'a> {
    /// The cell that lies less far ahead, and how far.
    fn least(&self) -> (&'a AtomicU64, u64) {
        let (low, high) = (
            self.low.load(Ordering::Relaxed),
            self.high.load(Ordering::Relaxed),
        );
        if low <= high {
            (self.low, low)
        } else {
            (self.high, high)
        }
    }

    /// Moves both cells on; false when another core was faster.
    fn charge(
        &self,
        cell: &AtomicU64,
        paid_until: u64,
        rate: Rate,
        amount: u64,
        now_ns: u64,
    ) -> bool {
        let next = paid_until.max(now_ns).saturating_add(rate.worth_ns(amount));
        let moved = cell.compare_exchange(paid_until, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() {
            self.low.fetch_max(next, Ordering::Relaxed);
            self.high.fetch_max(next, Ordering::Relaxed);
        }
        moved.is_ok()
    }
}

/// How long until `amount` may be used on top of what was taken.
fn wait_ns(paid_until: u64, rate: Rate, amount: u64, now_ns: u64) -> u64 {
    let ahead = paid_until.saturating_sub(now_ns);
    let (cost, burst) = (rate.worth_ns(amount), rate.worth_ns(rate.burst.max(1)));
    // A full bucket lets anything pass.
    ahead.saturating_add(cost).saturating_sub(burst).min(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 100,
        burst: 20,
    };
    const MS: u64 = 1_000_000;

    /// What comes through in `ms` milliseconds when somebody tries `tries` times in each.
    fn passed(rates: &Rates, key: Key, from_ms: u64, ms: u64, tries: u64) -> u64 {
        let mut passed = 0;
        for at in from_ms..from_ms + ms {
            for _ in 0..tries {
                passed += u64::from(rates.take(key, RATE, 1, at * MS).is_ok());
            }
        }
        passed
    }

    #[test]
    fn burst_passes_at_once_and_the_rate_after_it() {
        let rates = Rates::default();
        let key = Key::new(7);
        assert_eq!(passed(&rates, key, 0, 1, 1_000), 20);
        assert_eq!(passed(&rates, key, 1, 999, 5), 99);
        assert_eq!(passed(&rates, key, 1_000, 10_000, 5), 1_000);
    }

    #[test]
    fn refusal_says_when_to_come_again_and_takes_nothing() {
        let rates = Rates::default();
        let key = Key::new(1 << 40);
        for _ in 0..20 {
            rates.take(key, RATE, 1, 0).unwrap();
        }
        for _ in 0..1_000 {
            let wait = rates.take(key, RATE, 1, 0).unwrap_err();
            assert_eq!(wait, Duration::from_millis(10));
        }
        assert!(rates.take(key, RATE, 1, 10 * MS - 1).is_err());
        assert_eq!(rates.wait(key, RATE, 2, 10 * MS), Duration::from_millis(10));
        assert_eq!(rates.take(key, RATE, 1, 10 * MS), Ok(()));
    }

    #[test]
    fn one_who_rests_saves_no_more_than_the_burst() {
        let rates = Rates::default();
        let key = Key::new(3);
        assert_eq!(passed(&rates, key, 3_600_000, 1, 1_000), 20);
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_a_full_bucket_and_is_paid_for() {
        let rates = Rates::default();
        let key = Key::new(9);
        assert_eq!(rates.take(key, RATE, 100, 0), Ok(()));
        let wait = rates.take(key, RATE, 100, 0).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1), "until the bucket is full");
        let wait = rates.take(key, RATE, 1, 0).unwrap_err();
        assert_eq!(wait, Duration::from_millis(810));
    }

    #[test]
    fn reservations_of_many_streams_come_in_turn() {
        let rates = Rates::default();
        let key = Key::new(11);
        let waits: Vec<_> = (0..25).map(|_| rates.reserve(key, RATE, 1, 0)).collect();
        assert!(waits[..20].iter().all(Duration::is_zero));
        let later: Vec<_> = waits[20..].iter().map(Duration::as_millis).collect();
        assert_eq!(later, [10, 20, 30, 40, 50]);
    }

    #[test]
    fn peers_do_not_pay_for_each_other() {
        let rates = Rates::default();
        let hash = |n: u64| Key::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for loud in 1..1_000 {
            while rates.take(hash(loud), RATE, 1, 0).is_ok() {}
        }
        let quiet = 1_000..11_000;
        let harmed = quiet.filter(|n| rates.take(hash(*n), RATE, 1, 0).is_err());
        let harmed = harmed.count();
        assert!(harmed < 50, "{harmed} of 10,000");
    }

    #[test]
    fn extreme_figures_neither_overflow_nor_hang() {
        let rates = Rates::default();
        let all = Rate {
            per_second: u64::MAX,
            burst: u64::MAX,
        };
        let none = Rate {
            per_second: 0,
            burst: 0,
        };
        let (a, b) = (Key::new(u64::MAX), Key::new(0));
        assert_eq!(rates.take(a, all, u64::MAX, u64::MAX), Ok(()));
        assert_eq!(rates.take(b, none, u64::MAX, 5), Ok(()));
        assert!(rates.take(b, none, 1, u64::MAX - 1).is_err());
        assert!(rates.reserve(b, none, u64::MAX, 6) > Duration::from_secs(1));
    }

    #[test]
    fn cores_together_get_little_more_than_the_rate() {
        let rates = Rates::default();
        let key = Key::new(77);
        let passed: u64 = std::thread::scope(|scope| {
            let cores = [(); 4].map(|()| scope.spawn(|| passed(&rates, key, 0, 1_000, 50)));
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        // Their clocks are not the same here: each sees the bucket of the one that is furthest.
        assert!((100..=240).contains(&passed), "{passed}");
    }
}
