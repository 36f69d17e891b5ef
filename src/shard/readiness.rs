//! Whether a shard can take messages.

use super::Shard;

/// What keeps a shard from taking messages; nothing when it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The broker ends: new work is refused.
    pub draining: bool,
    /// Logs that take no more writes before the next start, by number, with what happened.
    pub failed: Vec<(u16, String)>,
    /// Logs that find no room for their next segment, by number.
    pub full: Vec<u16>,
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
        let draining = Readiness {
            draining: true,
            ..Readiness::default()
        };
        assert!(draining.is_healthy() && !draining.is_ready());
    }
}
