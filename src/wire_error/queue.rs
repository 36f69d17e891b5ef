//! What the calls of queues refuse, letter by letter as clients know it.

use super::Refusal;

impl Refusal {
    /// The text of what a queue refuses; `None` for everything else.
    pub(super) const fn queue_text(&self) -> Option<&'static str> {
        Some(match self {
            Self::QueueName => {
                "Error 120: invalid queue name value, cannot be empty, contains wildcards ,\
                 white spaces and end with dot"
            }
            Self::QueueMessagesMax => {
                "Error 122: max messages should be between 1 and max message setting in \
                 kubemq config  "
            }
            Self::QueueSend => "Error 130: error during send message to queue",
            Self::QueueMessageMissing => "Error 131: invalid queue message",
            Self::QueueExpiration => {
                "Error 133: invalid expiration seconds, exceed max expiration seconds setting in \
                 kubemq config"
            }
            Self::QueueReceiveCount => {
                "Error 134: invalid max received count, cannot be negative or exceed \
                 max receive count setting in kubemq config"
            }
            Self::QueueDelay => {
                "Error 135: invalid delay seconds, exceed max delay seconds setting in \
                 kubemq config"
            }
            Self::QueueWait => {
                "Error 136: invalid wait timeout, value cannot be negative or exceed \
                 max wait timeout seconds setting in kubemq config"
            }
            Self::BatchEmpty => "empty messages batch",
            Self::UpstreamEmpty => "no messages to send",
            _ => return None,
        })
    }
}
