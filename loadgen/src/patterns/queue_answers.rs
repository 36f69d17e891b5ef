//! What a server says to senders and receivers of queues, read without decoding: see
//! [`super::fields`].

use std::borrow::Cow;

use super::fields::{Fields, bytes, is_set, text};
use crate::payload::Value;

/// Reads the response to a request with several messages; `each` gets the results in the order of
/// the messages: why a message was refused, if it was. Gives back why the whole of it was refused,
/// if it was; `None`: this is no such response.
pub(super) fn results<'a>(
    response: &'a [u8],
    mut each: impl FnMut(Result<(), Cow<'a, str>>),
) -> Option<Result<(), Cow<'a, str>>> {
    let (mut refused, mut reason) = (false, None);
    let mut fields = Fields::of(response);
    for (number, value) in fields.by_ref() {
        match number {
            2 => each(result(bytes(value))?),
            // Batches say here that some result is an error, which the results say themselves:
            // they have no text beside it.
            3 => refused = is_set(&value),
            4 => reason = Some(text(value)),
            _ => {}
        }
    }
    let refusal = reason.filter(|_| refused);
    (!fields.is_broken()).then(|| refusal.map_or(Ok(()), Err))
}

/// Reads the result of one message; `None`: this is none.
pub(super) fn result(result: &[u8]) -> Option<Result<(), Cow<'_, str>>> {
    let (mut refused, mut reason) = (false, Cow::Borrowed("no reason"));
    let mut fields = Fields::of(result);
    for (number, value) in fields.by_ref() {
        match number {
            5 => refused = is_set(&value),
            6 => reason = text(value),
            _ => {}
        }
    }
    let result = if refused { Err(reason) } else { Ok(()) };
    (!fields.is_broken()).then_some(result)
}

/// A message as a consumer gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub body: &'a [u8],
    /// How often it was handed out: 1 for the first time.
    pub receive_count: u64,
}

impl<'a> Received<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let (mut body, mut attributes) = (&[][..], &[][..]);
        let mut fields = Fields::of(message);
        for (number, value) in fields.by_ref() {
            match number {
                5 => body = bytes(value),
                7 => attributes = bytes(value),
                _ => {}
            }
        }
        if fields.is_broken() {
            return None;
        }
        let mut attributes = Fields::of(attributes);
        let receive_count = attributes.find_map(|field| match field {
            (4, Value::Number(count)) => Some(count),
            _ => None,
        });
        let receive_count = receive_count.unwrap_or(0);
        Some(Self {
            body,
            receive_count,
        })
    }
}

/// Where a response with messages has what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    kind: u64,
    messages: u64,
    is_error: u64,
    error: u64,
}

/// `QueuesDownstreamResponse`.
pub(super) const DOWNSTREAM: Layout = Layout {
    kind: 3,
    messages: 4,
    is_error: 6,
    error: 7,
};

/// `ReceiveQueueMessagesResponse`, which has no kind.
pub(super) const RECEIVED: Layout = Layout {
    kind: 0,
    messages: 2,
    is_error: 6,
    error: 7,
};

/// What comes with messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Polled<'a> {
    /// Names what was handed out, when it is to be acknowledged: the first field.
    pub transaction: &'a [u8],
    /// To what sort of request this is the response.
    pub kind: u64,
    pub messages: usize,
    pub refusal: Option<Cow<'a, str>>,
}

/// Reads a response with messages; `each` gets them. `None`: this is no such response.
pub(super) fn polled<'a>(
    response: &'a [u8],
    layout: Layout,
    mut each: impl FnMut(Received<'a>),
) -> Option<Polled<'a>> {
    let (mut transaction, mut kind, mut messages) = (&[][..], 0, 0);
    let (mut refused, mut reason) = (false, Cow::Borrowed("no reason"));
    let mut fields = Fields::of(response);
    for (number, value) in fields.by_ref() {
        if number == layout.messages {
            messages += 1;
            each(Received::read(bytes(value))?);
        } else if number == layout.is_error {
            refused = is_set(&value);
        } else if number == layout.error {
            reason = text(value);
        } else if number == 1 {
            transaction = bytes(value);
        } else if let Value::Number(value) = value
            && number == layout.kind
        {
            kind = value;
        }
    }
    let polled = Polled {
        transaction,
        kind,
        messages,
        refusal: refused.then_some(reason),
    };
    (!fields.is_broken()).then_some(polled)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use ringmq_proto::kubemq::{
        QueueMessage, QueueMessageAttributes, QueueMessagesBatchResponse,
        QueuesDownstreamRequestType, QueuesDownstreamResponse, QueuesUpstreamResponse,
        ReceiveQueueMessagesResponse, SendQueueMessageResult,
    };

    use super::*;

    fn sent(error: &str) -> SendQueueMessageResult {
        SendQueueMessageResult {
            message_id: "an id".into(),
            sent_at: 1,
            is_error: !error.is_empty(),
            error: error.into(),
            ..SendQueueMessageResult::default()
        }
    }

    fn message(receive_count: i32) -> QueueMessage {
        let attributes = QueueMessageAttributes {
            timestamp: 5,
            sequence: 6,
            receive_count,
            ..QueueMessageAttributes::default()
        };
        QueueMessage {
            body: "a body".into(),
            metadata: "about it".into(),
            attributes: Some(attributes),
            ..QueueMessage::default()
        }
    }

    #[test]
    fn results_come_in_order_with_their_reasons() {
        let response = QueuesUpstreamResponse {
            ref_request_id: "a request".into(),
            results: vec![sent(""), sent("full"), sent("")],
            ..QueuesUpstreamResponse::default()
        };
        let encoded = response.encode_to_vec();
        let mut seen = Vec::new();
        assert_eq!(results(&encoded, |result| seen.push(result)), Some(Ok(())));
        assert_eq!(seen, [Ok(()), Err("full".into()), Ok(())]);
    }

    #[test]
    fn a_whole_request_is_refused_with_its_reason() {
        let response = QueuesUpstreamResponse {
            is_error: true,
            error: "no messages".into(),
            ..QueuesUpstreamResponse::default()
        };
        let encoded = response.encode_to_vec();
        let refused = Some(Err("no messages".into()));
        assert_eq!(results(&encoded, |_| panic!("no results")), refused);
    }

    #[test]
    fn a_batch_with_errors_has_been_taken() {
        let response = QueueMessagesBatchResponse {
            batch_id: "a batch".into(),
            results: vec![sent("full")],
            have_errors: true,
        };
        let encoded = response.encode_to_vec();
        let mut refused = 0;
        let taken = results(&encoded, |result| refused += usize::from(result.is_err()));
        assert_eq!((taken, refused), (Some(Ok(())), 1));
    }

    #[test]
    fn messages_come_with_their_receive_count() {
        let response = QueuesDownstreamResponse {
            transaction_id: "a transaction".into(),
            ref_request_id: "get".into(),
            request_type_data: QueuesDownstreamRequestType::Get.into(),
            messages: vec![message(1), message(3)],
            ..QueuesDownstreamResponse::default()
        };
        let encoded = response.encode_to_vec();
        let mut counts = Vec::new();
        let polled = polled(&encoded, DOWNSTREAM, |message| {
            assert_eq!(message.body, b"a body");
            counts.push(message.receive_count);
        });
        let polled = polled.unwrap();
        assert_eq!(counts, [1, 3]);
        assert_eq!(polled.transaction, b"a transaction");
        assert_eq!((polled.kind, polled.messages), (1, 2));
        assert_eq!(polled.refusal, None);
    }

    #[test]
    fn a_receive_that_is_refused_says_why() {
        let response = ReceiveQueueMessagesResponse {
            request_id: "a request".into(),
            messages_received: 0,
            is_error: true,
            error: "no such queue".into(),
            ..ReceiveQueueMessagesResponse::default()
        };
        let encoded = response.encode_to_vec();
        let polled = polled(&encoded, RECEIVED, |_| panic!("no messages")).unwrap();
        assert_eq!(polled.refusal, Some("no such queue".into()));
        assert_eq!(polled.messages, 0);
    }

    #[test]
    fn what_is_no_response_is_told_apart() {
        assert_eq!(results(&[0xFF; 4], |_| ()), None);
        assert_eq!(polled(&[0x0A, 50, 1], DOWNSTREAM, |_| ()), None);
        // A message inside that is cut.
        assert_eq!(polled(&[0x22, 2, 0x2A, 9], DOWNSTREAM, |_| ()), None);
        assert_eq!(result(&[0x28]), None);
    }
}
