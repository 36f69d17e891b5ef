//! The rules of who may do what: read at the start, again when their sources change, and when the
//! settings do.

use std::sync::Arc;

use super::Failed;
use crate::config::Config;
use crate::rt::Instant;
use crate::security::Rules;

/// Where the rules come from, and what was read there last. Blocks: lives on a thread of its own.
#[derive(Debug)]
pub(super) struct Sources {
    rules: Arc<Rules>,
}

/// Reads the rules that the configuration names; without them it is no start.
pub(super) fn load(config: &Config) -> Result<(Arc<Rules>, Sources), Failed> {
    let sources = Sources::read(config);
    Ok((sources.rules(), sources))
}

impl Sources {
    pub(super) fn read(_config: &Config) -> Self {
        Self {
            rules: Arc::default(),
        }
    }

    /// What was read.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }

    /// When something is to be looked at again; `None` when nothing can change by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        None
    }

    /// Looks at what is due, and gives back the rules if they have changed.
    pub(super) fn look(&mut self, _now: Instant) -> Option<Arc<Rules>> {
        None
    }
}
