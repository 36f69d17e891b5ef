//! What the two streams of queues refuse. These texts stand in the error field of answers; no call
//! ends with them, so they have no code.

use std::borrow::Cow;

use super::Refusal;

/// Why a request on a stream of polls, or of single messages, is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueStreamRefusal {
    /// A refusal that other calls know, too.
    Common(Refusal),

    /// The transaction is not one of this stream, or ended so long ago that it is forgotten.
    TransactionUnknown,
    /// Nothing of the transaction is left to be acknowledged, or to be moved as a whole.
    AckCompleted,
    /// Nothing of it is left to be handed back.
    NackCompleted,
    /// Nothing of it is left to be moved.
    RequeueCompleted,
    /// Nothing of it is left to be told.
    OffsetsCompleted,
    /// A message to be acknowledged or moved is not one of the transaction's open ones.
    AckSequence(i64),
    /// A message to be handed back is not one of them.
    NackSequence(i64),
    /// A list of messages to be acknowledged is empty.
    AckNothing,
    /// A list of messages to be handed back is empty.
    NackNothing,
    /// A list of messages to be moved is empty.
    RequeueNothing,
    /// Messages are to be moved, and no queue is named.
    RequeueNowhere,
    /// A message was not moved.
    NotRequeued {
        /// The message.
        sequence: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A number of a request that means nothing.
    RequestUnknown,
    /// The stream has as many waiting polls as it may.
    PollLimit {
        /// The bound.
        max: usize,
    },
    /// The stream has as many open transactions as it may.
    TransactionLimit {
        /// The bound.
        max: usize,
    },
    /// The stream holds as many messages as it may.
    MessageLimit {
        /// The bound.
        max: usize,
    },

    /// There is no message to acknowledge.
    NoMessageToAck,
    /// The sequence is 0, or not that of the message.
    WrongSequence,
    /// There is no message to send on.
    NoMessageToSend,
    /// A visibility is negative, or too long.
    Visibility,
    /// The stream has received, or is about to.
    AlreadyReceiving,
    /// The message is not the client's any more.
    VisibilityExpired,
    /// The request is of no known type.
    StreamRequestType,
    /// There is no message to reject.
    NoMessageToReject,
    /// No message came in time.
    NoMessage,
}

impl QueueStreamRefusal {
    /// The text for the client, with the odd spacing and spelling that it has always had.
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Common(refusal) => return refusal.text(),
            Self::AckSequence(sequence) => {
                return format!("invalid ack sequence id {sequence}").into();
            }
            Self::NackSequence(sequence) => {
                return format!("invalid nack sequence id {sequence}").into();
            }
            Self::NotRequeued { sequence, refusal } => {
                let text = refusal.text();
                return format!("re-queue message with seq {sequence} failed, {text}").into();
            }
            Self::PollLimit { max } => {
                return format!("the stream has as many waiting polls as it may: {max}").into();
            }
            Self::TransactionLimit { max } => {
                return format!("the stream has as many open transactions as it may: {max}").into();
            }
            Self::MessageLimit { max } => {
                return format!("the stream holds as many unsettled messages as it may: {max}")
                    .into();
            }
            Self::TransactionUnknown => "transaction is completed or transaction id not found",
            Self::AckCompleted => "cannot ack messages with closed response ",
            Self::NackCompleted => "cannot nack messages with closed response ",
            Self::RequeueCompleted => "cannot requeue messages with closed response ",
            Self::OffsetsCompleted => "cannot get active offsets with closed response ",
            Self::AckNothing => "cannot ack empty list of of offsets",
            Self::NackNothing => "cannot nack empty list of of offsets",
            Self::RequeueNothing => "cannot requeue empty list of of offsets",
            Self::RequeueNowhere => "cannot requeue messages with empty channel destination ",
            Self::RequestUnknown => "request unknown",
            Self::NoMessageToAck => "Error 124: no active message to ack",
            Self::WrongSequence => "Error 125: ack sequence cannot be 0 or negative",
            Self::NoMessageToSend => "Error 126: no active message to send",
            Self::Visibility => {
                "Error 127: invalid visibility time, cannot be negative or exceed setting in \
                 kubemq config"
            }
            Self::AlreadyReceiving => "Error 128: subscription to queue is already active",
            Self::VisibilityExpired => "Error 129: current visibility timer expired",
            Self::StreamRequestType => "Error 132: invalid stream queue messages request type",
            Self::NoMessageToReject => "Error 137: no active message to reject",
            Self::NoMessage => "Error 138: no new message in queue, wait time expired",
        })
    }
}

impl From<Refusal> for QueueStreamRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Common(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quoted, so that the spaces at the ends are seen.
    const PINNED: &str = r#"
"string field contains invalid UTF-8"
"transaction is completed or transaction id not found"
"cannot ack messages with closed response "
"cannot nack messages with closed response "
"cannot requeue messages with closed response "
"cannot get active offsets with closed response "
"invalid ack sequence id 99"
"invalid nack sequence id -1"
"cannot ack empty list of of offsets"
"cannot nack empty list of of offsets"
"cannot requeue empty list of of offsets"
"cannot requeue messages with empty channel destination "
"re-queue message with seq 7 failed, Error 110: invalid message, cannot be empty"
"request unknown"
"the stream has as many waiting polls as it may: 6"
"the stream has as many open transactions as it may: 5"
"the stream holds as many unsettled messages as it may: 4"
"Error 124: no active message to ack"
"Error 125: ack sequence cannot be 0 or negative"
"Error 126: no active message to send"
"Error 127: invalid visibility time, cannot be negative or exceed setting in kubemq config"
"Error 128: subscription to queue is already active"
"Error 129: current visibility timer expired"
"Error 132: invalid stream queue messages request type"
"Error 137: no active message to reject"
"Error 138: no new message in queue, wait time expired"
"#;

    #[test]
    fn every_text_is_pinned() {
        use QueueStreamRefusal as R;
        let refusals = [
            R::Common(Refusal::InvalidUtf8),
            R::TransactionUnknown,
            R::AckCompleted,
            R::NackCompleted,
            R::RequeueCompleted,
            R::OffsetsCompleted,
            R::AckSequence(99),
            R::NackSequence(-1),
            R::AckNothing,
            R::NackNothing,
            R::RequeueNothing,
            R::RequeueNowhere,
            R::NotRequeued {
                sequence: 7,
                refusal: Refusal::EventEmpty,
            },
            R::RequestUnknown,
            R::PollLimit { max: 6 },
            R::TransactionLimit { max: 5 },
            R::MessageLimit { max: 4 },
            R::NoMessageToAck,
            R::WrongSequence,
            R::NoMessageToSend,
            R::Visibility,
            R::AlreadyReceiving,
            R::VisibilityExpired,
            R::StreamRequestType,
            R::NoMessageToReject,
            R::NoMessage,
        ];
        let texts: Vec<_> = refusals.iter().map(|r| format!("{:?}", r.text())).collect();
        assert_eq!(texts, PINNED.trim().lines().collect::<Vec<_>>());
    }
}
