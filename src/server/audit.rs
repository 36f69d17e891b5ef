//! The audit log of the process: opened before anything is done, closed after all is.

use std::time::Duration;

use super::{Failed, exit};
use crate::config::Config;
use crate::model::identity::Proof;
use crate::security::audit::{Auditor, Entry};

/// How long the last lines may hold up the end of the process.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// Closes the log when it is dropped.
#[derive(Debug)]
pub(super) struct AuditLog(Auditor);

impl AuditLog {
    /// Opens the log that the configuration names; one that cannot be written is no start.
    pub(super) fn open(config: &Config) -> Result<Self, Failed> {
        let Some(path) = &config.audit.log_file else {
            return Ok(Self(Auditor::disabled()));
        };
        let auditor = Auditor::start(path).map_err(|error| Failed {
            code: exit::CONFIG,
            text: format!("audit.log_file {}: {error}", path.display()),
        })?;
        Ok(Self(auditor))
    }

    /// Who writes into it.
    pub(super) fn auditor(&self) -> Auditor {
        self.0.clone()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if !self.0.close(CLOSING_PATIENCE) {
            tracing::error!("the last lines of the audit log are not written");
        }
    }
}

/// Writes down what the broker itself did, or did not do: a reload of something.
pub(super) fn record_reload(audit: &Auditor, what: &str, target: &str, outcome: Result<(), &str>) {
    audit.record(Entry {
        who: "",
        proof: Proof::None,
        client_id: "",
        peer: None,
        what,
        target,
        outcome,
    });
}
