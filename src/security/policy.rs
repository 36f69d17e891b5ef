//! May they: rules that name clients and channels.

use super::Attempt;
use crate::model::identity::Identity;

/// What is allowed.
#[derive(Debug, Default)]
pub struct Policy {}

impl Policy {
    /// Whether a rule allows an attempt, and none forbids it.
    #[must_use]
    pub fn allows(&self, _identity: &Identity, _attempt: &Attempt<'_>) -> bool {
        false
    }
}
