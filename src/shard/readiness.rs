//! Whether a shard can take messages.

use super::{Overload, Shard};

/// What keeps a shard from taking messages; nothing when it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The broker ends: new work is refused.
    pub draining: bool,
    /// Logs that take no more writes before the next start, by number, with what happened.
    pub failed: Vec<(u16, String)>,
    /// Logs that find no room for their next segment, by number.
    pub full: Vec<u16>,
    /// Shards that have more to do than they can, by number. They do what they can: nothing that
    /// keeps the broker from being ready.
    pub overloaded: Vec<(u16, Overload)>,
}

impl Readiness {
    /// Whether nothing has failed that only a restart mends.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether everything can be sent and stored.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_healthy() && self.full.is_empty() && !self.draining
    }

    /// Adds what another shard says.
    pub fn add(&mut self, other: Self) {
        self.draining |= other.draining;
        self.failed.extend(other.failed);
        self.full.extend(other.full);
        self.overloaded.extend(other.overloaded);
    }
}

impl Shard {
    /// Whether this shard can take messages. It exists once its logs are recovered.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness {
            draining: self.is_draining(),
            ..Readiness::default()
        };
        let overload = self.admission.overload();
        if overload != Overload::default() {
            readiness.overloaded.push((self.id, overload));
        }
        for seat in &self.stored.seats {
            let log = seat.log.borrow();
            if let Some(reason) = log.poisoned() {
                readiness.failed.push((seat.number, reason.to_owned()));
            } else if log.file_stats().full {
                readiness.full.push(seat.number);
            }
        }
        readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_that_is_not_ready_is_enough() {
        let mut all = Readiness::default();
        all.add(Readiness::default());
        assert!(all.is_ready() && all.is_healthy());
        all.add(Readiness {
            full: vec![3],
            ..Readiness::default()
        });
        assert!(all.is_healthy() && !all.is_ready());
        all.add(Readiness {
            failed: vec![(1, "write".to_owned())],
            ..Readiness::default()
        });
        assert!(!all.is_healthy() && !all.is_ready());
        let mut busy = Readiness::default();
        let overload = Overload {
            processor: true,
            store: false,
        };
        busy.add(Readiness {
            overloaded: vec![(1, overload)],
            ..Readiness::default()
        });
        assert!(busy.is_healthy() && busy.is_ready(), "it does what it can");
        assert_eq!(busy.overloaded, [(1, overload)]);
        let draining = Readiness {
            draining: true,
            ..Readiness::default()
        };
        assert!(draining.is_healthy() && !draining.is_ready());
    }
}
