//! How many channels are stored, over all logs, for the one limit that spans them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of channels in each log.
///
/// # Threading
/// Shared by all cores. Each log is counted by the core that has it, when a creation or deletion
/// is applied; others read the count as it is. While several cores create channels at the same
/// moment, the sum is behind by those that are on their way.
#[derive(Debug)]
pub struct ChannelCounts {
    logs: Box<[AtomicU64]>,
}

impl ChannelCounts {
    /// Counts for so many logs, all empty.
    #[must_use]
    pub fn new(logs: u16) -> Self {
        Self {
            logs: (0..logs).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes how many channels a log has.
    pub fn set(&self, log: u16, count: usize) {
        if let Some(of_log) = self.logs.get(usize::from(log)) {
            of_log.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The channels of all logs but this one.
    pub(super) fn elsewhere(&self, log: u16) -> u64 {
        let others = self.logs.iter().enumerate();
        let others = others.filter(|(number, _)| *number != usize::from(log));
        others.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_sees_the_channels_of_the_others() {
        let counts = ChannelCounts::new(3);
        counts.set(0, 5);
        counts.set(1, 7);
        counts.set(1, 6);
        counts.set(9, 100);
        assert_eq!([0, 1, 2].map(|log| counts.elsewhere(log)), [6, 5, 11]);
    }
}
