//! Methods of the contract that this version does not serve. They say so; nothing pretends.

use super::unknown_method;
use crate::model::Kind;
use crate::wire_error::Refusal;

/// The answer to a method that is not served.
pub(super) fn refusal(method: &str) -> Refusal {
    const QUEUE_METHODS: [&str; 1] = ["QueuesInfo"];
    match QUEUE_METHODS.iter().find(|known| **known == method) {
        Some(method) => Refusal::KindUnavailable {
            kind: Kind::Queues,
            method,
        },
        None => unknown_method("kubemq.kubemq", method),
    }
}
