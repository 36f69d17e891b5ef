//! Latency histograms of one executor.

use std::cell::RefCell;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart; longer ones count as this one. A minute.
pub const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Two digits: a value is known within one per cent. A third one would cost 220 KiB for each
/// histogram instead of 30 KiB, for each family on each core.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Latencies on one executor, from a nanosecond to a minute. Takes 30 KiB from the first value on,
/// nothing before.
///
/// # Threading
/// Stays on its executor; [`LatencyHistogram::snapshot`] may leave it.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    values: RefCell<Option<Box<Histogram<u64>>>>,
}

impl LatencyHistogram {
    /// Records one latency. Zero counts as a nanosecond, more than a minute as a minute.
    pub fn record_ns(&self, latency_ns: u64) {
        let mut values = self.values.borrow_mut();
        values
            .get_or_insert_with(|| Box::new(empty()))
            .saturating_record(latency_ns.max(1));
    }

    /// The values of this moment.
    #[must_use]
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            values: self.values.borrow().clone(),
        }
    }
}

impl LatencyHistogram {
    /// Counts the latencies up to each of `bounds_ns`, which ascend. Some microseconds, and a
    /// hundredth of the memory of a [snapshot](Self::snapshot).
    #[must_use]
    pub fn buckets(&self, bounds_ns: &[u64]) -> Buckets {
        let mut buckets = Buckets {
            counts: vec![0; bounds_ns.len()],
            ..Buckets::default()
        };
        let values = self.values.borrow();
        for recorded in values.iter().flat_map(|values| values.iter_recorded()) {
            let (upper_ns, count) = (recorded.value_iterated_to(), recorded.count_at_value());
            let at = bounds_ns.partition_point(|bound| *bound < upper_ns);
            if let Some(bucket) = buckets.counts.get_mut(at) {
                *bucket += count;
            }
            buckets.count += count;
            buckets.sum_ns = buckets
                .sum_ns
                .saturating_add(upper_ns.saturating_mul(count));
        }
        let mut below = 0;
        for bucket in &mut buckets.counts {
            below += *bucket;
            *bucket = below;
        }
        buckets
    }
}

/// Latencies counted by bounds, on one executor or on several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// How many were not longer than each bound.
    pub counts: Vec<u64>,
    /// All of them.
    pub count: u64,
    /// Their sum in nanoseconds, within one per cent.
    pub sum_ns: u64,
}

impl Buckets {
    /// Adds those of another executor, counted by the same bounds.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.counts.len(), other.counts.len(), "the bounds differ");
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

/// The latencies of one executor, or of several merged, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySnapshot {
    values: Option<Box<Histogram<u64>>>,
}

impl LatencySnapshot {
    /// Merges the values of another executor.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.values else { return };
        let ours = self.values.get_or_insert_with(|| Box::new(empty()));
        ours.add(theirs.as_ref())
            .expect("both have the same bounds");
    }

    /// How many latencies were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.values.as_ref().map_or(0, |values| values.len())
    }

    /// The latency that `percentile` per cent (0 to 100) do not exceed, in nanoseconds, within
    /// one per cent; 0 when nothing was recorded.
    #[must_use]
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        self.values
            .as_ref()
            .map_or(0, |values| values.value_at_percentile(percentile))
    }

    /// The figures that people ask for.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.count(),
            p50_ns: self.percentile_ns(50.0),
            p90_ns: self.percentile_ns(90.0),
            p99_ns: self.percentile_ns(99.0),
            p999_ns: self.percentile_ns(99.9),
            max_ns: self.values.as_ref().map_or(0, |values| values.max()),
        }
    }

    /// The values as (upper bound in nanoseconds, count), ascending, without empty ones.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let recorded = self.values.iter().flat_map(|values| values.iter_recorded());
        recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
    }
}

/// The figures of one histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// Recorded latencies.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// 90 % of them took no longer.
    pub p90_ns: u64,
    /// 99 % of them took no longer.
    pub p99_ns: u64,
    /// 99.9 % of them took no longer.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that the tests have tried")
}

macro_rules! families {
    ($( #[doc = $help:literal] $field:ident )+) => {
        /// The histograms of one executor, one for each family of calls or of work.
        #[derive(Debug, Default)]
        pub struct Latencies {
            $( #[doc = $help] pub $field: LatencyHistogram, )+
        }

        impl Latencies {
            /// The values of this moment.
            #[must_use]
            pub fn snapshot(&self) -> LatenciesSnapshot {
                LatenciesSnapshot { $( $field: self.$field.snapshot(), )+ }
            }

            /// Every family as (name, histogram).
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &LatencyHistogram)> {
                [$( (stringify!($field), &self.$field), )+].into_iter()
            }
        }

        /// The histograms of one executor, or of several merged, at one moment.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct LatenciesSnapshot {
            $( #[doc = $help] pub $field: LatencySnapshot, )+
        }

        impl LatenciesSnapshot {
            /// Merges the values of another executor.
            pub fn merge(&mut self, other: &Self) {
                $( self.$field.merge(&other.$field); )+
            }

            /// Every family as (name, help, values).
            pub fn iter(
                &self,
            ) -> impl Iterator<Item = (&'static str, &'static str, &LatencySnapshot)> {
                [$( (stringify!($field), $help.trim_ascii(), &self.$field), )+].into_iter()
            }
        }
    };
}

families! {
    /// `Ping`, from the call to the answer.
    ping
    /// `SendEvent`, from the call to the answer.
    send_event
    /// `SendRequest` of commands, from the call to the response.
    commands
    /// `SendRequest` of queries, from the call to the response or the hit in the cache.
    queries
    /// `SendResponse`, from the call to the answer.
    send_response
    /// `SendEvent` of stored events, from the call to the answer.
    send_event_store
    /// `SendQueueMessage`, from the call to the answer.
    send_queue_message
    /// Polls of queues, from their turn to the answer.
    queue_poll
    /// Confirmed settlements of queues' messages, from the decision to the commit.
    queue_settle
    /// Stored messages, from being gathered to being committed.
    append_commit
    /// Writes of a batch to its segment.
    storage_write
    /// Syncs of a segment.
    storage_sync
    /// Sections of work on the log that an executor did without letting other tasks in.
    storage_turn
    /// Turns of an executor: how long its tasks kept the core between two looks at the sockets.
    executor_turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_per_cent() {
        let histogram = LatencyHistogram::default();
        for us in 1..=1_000 {
            histogram.record_ns(us * 1_000);
        }
        let summary = histogram.snapshot().summary();
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 100;
        assert_eq!(summary.count, 1_000);
        assert!(near(summary.p50_ns, 500_000), "{summary:?}");
        assert!(near(summary.p99_ns, 990_000), "{summary:?}");
        assert!(near(summary.max_ns, 1_000_000), "{summary:?}");
    }

    #[test]
    fn buckets_count_what_is_not_longer_than_their_bounds() {
        let histogram = LatencyHistogram::default();
        for us in [1, 5, 50, 500, 5_000_000] {
            histogram.record_ns(us * 1_000);
        }
        let mut buckets = histogram.buckets(&[10_000, 100_000, 1_000_000]);
        assert_eq!((&*buckets.counts, buckets.count), (&[2, 3, 4][..], 5));
        let exact = 5_000_556_000;
        assert!(buckets.sum_ns.abs_diff(exact) < exact / 100, "{buckets:?}");
        buckets.add(&buckets.clone());
        assert_eq!((&*buckets.counts, buckets.count), (&[4, 6, 8][..], 10));
        let empty = LatencyHistogram::default().buckets(&[1, 2]);
        assert_eq!(
            (&*empty.counts, empty.count, empty.sum_ns),
            (&[0, 0][..], 0, 0)
        );
    }

    #[test]
    fn extremes_are_clamped() {
        let histogram = LatencyHistogram::default();
        histogram.record_ns(0);
        histogram.record_ns(u64::MAX);
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.percentile_ns(0.0)), (2, 1));
        let top = snapshot.percentile_ns(100.0);
        assert!(top.abs_diff(LATENCY_MAX_NS) <= LATENCY_MAX_NS / 64, "{top}");
    }

    #[test]
    fn executors_merge_and_empty_ones_cost_nothing() {
        let (a, b) = (Latencies::default(), Latencies::default());
        a.ping.record_ns(1_000);
        b.ping.record_ns(3_000);
        let mut sum = a.snapshot();
        sum.merge(&b.snapshot());
        assert_eq!(sum.ping.count(), 2);
        assert!(sum.queries.values.is_none());
        assert_eq!(sum.queries.summary(), LatencySummary::default());
        assert_eq!(sum.ping.buckets().map(|(_, count)| count).sum::<u64>(), 2);
    }

    #[test]
    fn histogram_takes_30_kib() {
        assert!(empty().distinct_values() * size_of::<u64>() <= 32 << 10);
    }
}
