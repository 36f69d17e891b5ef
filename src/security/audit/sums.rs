//! Floods of refusals, summed up.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::quality::RandomState;

use super::record::Record;

/// Within this time, the same refusal has one line, and one more that says how often it happened
/// again.
const WINDOW: Duration = Duration::from_secs(60);

/// Different refusals within the window that have lines of their own.
const ALONE_MAX: usize = 256;

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub(super) struct Sums {
    seen: HashMap<Record, Sum, RandomState>,
    /// Those that are too many for lines of their own.
    others: Option<Sum>,
}

#[derive(Debug)]
struct Sum {
    began_ns: i64,
    times: u64,
}

impl Sum {
    const fn begin(now_ns: i64) -> Self {
        Self {
            began_ns: now_ns,
            times: 0,
        }
    }

    /// Also when the clock was set back.
    fn is_over(&self, now_ns: i64) -> bool {
        let passed = now_ns.checked_sub(self.began_ns);
        let passed = passed.and_then(|passed| u64::try_from(passed).ok());
        passed.is_none_or(|passed| Duration::from_nanos(passed) >= WINDOW)
    }
}

impl Sums {
    /// Whether a refusal gets a line of its own now; otherwise it is counted.
    pub(super) fn admit(&mut self, record: &Record) -> bool {
        if let Some(sum) = self.seen.get_mut(record) {
            sum.times += 1;
            return false;
        }
        if self.seen.len() < ALONE_MAX {
            self.seen.insert(record.clone(), Sum::begin(record.at_ns));
            return true;
        }
        let others = self.others.get_or_insert(Sum::begin(record.at_ns));
        others.times += 1;
        false
    }

    /// Takes out what is to be told now, with how often it happened: what is a minute old, or all.
    pub(super) fn take(&mut self, now_ns: i64, all: bool) -> Vec<(Record, u64)> {
        let over = |sum: &Sum| all || sum.is_over(now_ns);
        let ended = self.seen.extract_if(|_, sum| over(sum));
        let mut told: Vec<_> = ended
            .filter(|(_, sum)| sum.times > 0)
            .map(|(mut record, sum)| {
                record.at_ns = now_ns;
                (record, sum.times)
            })
            .collect();
        told.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        if let Some(others) = self.others.take_if(|sum| over(sum)) {
            let record = Record::of_log("audit.refusals", "of other kinds", now_ns);
            told.push((record, others.times));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;
    use crate::model::identity::Proof;

    const SECOND: i64 = 1_000_000_000;

    fn refusal(target: &str, port: u16, at_ns: i64) -> Record {
        let entry = Entry {
            who: "",
            proof: Proof::None,
            client_id: "",
            peer: Some(([1, 1, 1, 1], port).into()),
            what: "auth.refused",
            target,
            outcome: Err("no"),
        };
        Record::of(&entry, at_ns)
    }

    #[test]
    fn the_same_refusal_has_one_line_a_minute_and_one_that_counts() {
        let mut sums = Sums::default();
        assert!(sums.admit(&refusal("a", 1, 0)));
        assert!(!sums.admit(&refusal("a", 2, SECOND)));
        assert!(!sums.admit(&refusal("a", 3, 2 * SECOND)));
        assert!(sums.admit(&refusal("b", 1, 2 * SECOND)));
        assert!(sums.take(59 * SECOND, false).is_empty());
        let told = sums.take(60 * SECOND, false);
        assert_eq!(told, [(refusal("a", 1, 0), 2)]);
        assert_eq!(told[0].0.at_ns, 60 * SECOND);
        // What happened once has its line already.
        assert!(sums.take(62 * SECOND, false).is_empty());
        assert!(sums.admit(&refusal("a", 1, 63 * SECOND)));
    }

    #[test]
    fn a_flood_of_different_refusals_is_bounded_and_counted() {
        let mut sums = Sums::default();
        let alone = (0..100_000).filter(|n| sums.admit(&refusal(&n.to_string(), 1, 0)));
        assert_eq!(alone.count(), ALONE_MAX);
        assert_eq!(sums.seen.len(), ALONE_MAX);
        let told = sums.take(SECOND, true);
        let times: Vec<_> = told.iter().map(|(_, times)| *times).collect();
        assert_eq!(times, [100_000 - 256]);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_sum_for_ever() {
        let mut sums = Sums::default();
        sums.admit(&refusal("a", 1, 500 * SECOND));
        sums.admit(&refusal("a", 1, 500 * SECOND));
        assert_eq!(sums.take(SECOND, false).len(), 1);
    }
}
