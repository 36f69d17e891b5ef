//! Methods of the contract that this version does not serve. They say so; nothing pretends.

use super::unknown_method;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

/// The answer to a method that is not served.
pub(super) fn status(method: &str) -> Status {
    match method {
        "SendQueueMessage"
        | "SendQueueMessagesBatch"
        | "ReceiveQueueMessages"
        | "StreamQueueMessage"
        | "AckAllQueueMessages"
        | "QueuesDownstream"
        | "QueuesUpstream"
        | "QueuesInfo" => Refusal::QueuesUnavailable(method.into()).into(),
        method => unknown_method("kubemq.kubemq", method),
    }
}
