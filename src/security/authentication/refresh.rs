//! Asking for the keys anew, when a token names one that is not known.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// The least time between two requests for the keys. Anybody can name a key that does not exist:
/// this bounds what that costs the one who publishes them.
const GAP_NS: i64 = 30 * 1_000_000_000;

/// Asks whoever reads the keys to read them again, rarely.
///
/// # Threading
/// Shared by all executors, and by the rules that follow one another.
pub struct Refresh {
    next_at_ns: AtomicI64,
    ask: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("next_at_ns", &self.next_at_ns)
            .finish_non_exhaustive()
    }
}

impl Refresh {
    /// Makes one that asks by calling `ask`, which must not wait.
    #[must_use]
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            next_at_ns: AtomicI64::new(i64::MIN),
            ask: Box::new(ask),
        }
    }

    /// Asks, unless that was done lately.
    pub(super) fn want(&self, now_ns: i64) {
        let next = self.next_at_ns.load(Ordering::Relaxed);
        // The clock may have been set back.
        let due = next <= now_ns || next.saturating_sub(now_ns) > GAP_NS;
        let after = now_ns.saturating_add(GAP_NS);
        let (yes, no) = (Ordering::Relaxed, Ordering::Relaxed);
        // Of several executors one asks.
        if due
            && self
                .next_at_ns
                .compare_exchange(next, after, yes, no)
                .is_ok()
        {
            (self.ask)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn keys_are_asked_for_once_in_a_while() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let refresh = Refresh::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let want = |now_ns| {
            refresh.want(now_ns);
            asked.load(Ordering::Relaxed)
        };
        assert_eq!(want(1_000), 1);
        assert_eq!(want(1_001), 1);
        assert_eq!(want(999 + GAP_NS), 1);
        assert_eq!(want(1_000 + GAP_NS), 2);
        // The clock was set back by a year.
        assert_eq!(want(-365 * 86_400 * 1_000_000_000), 3);
        assert_eq!(want(i64::MAX), 4);
    }
}
