//! The calls of senders: several messages in one request, and the results.

use bytes::{BufMut, BytesMut};

use super::QueueMessageView;
use crate::grpc::codec::DecodeError;
use crate::grpc::codec::scan::Fields;
use crate::grpc::codec::write::{
    begin_frame, bytes_field_len, field_prefix_len, put_bytes_field, put_field_prefix,
    put_varint_field, varint_field_len,
};

/// Number of the messages in both requests, and of the results in both answers.
const MESSAGES: u32 = 2;
const RESULTS: u32 = 2;

/// A `QueueMessagesBatchRequest` or a `QueuesUpstreamRequest`: they have the same form.
#[derive(Clone, Copy, Debug)]
pub struct MessagesView<'a> {
    /// The caller's id of the batch or the request.
    pub id: &'a str,
    /// How many messages there are.
    pub count: usize,
    request: &'a [u8],
}

impl<'a> MessagesView<'a> {
    /// Scans an encoded request. Its messages are looked at by [`messages`](Self::messages) only.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn parse(request: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut id, mut count) = ("", 0);
        for field in Fields::of_message(request)? {
            let field = field?;
            match field.number {
                1 => id = field.text()?,
                MESSAGES => {
                    field.bytes()?;
                    count += 1;
                }
                _ => {}
            }
        }
        Ok(Self { id, count, request })
    }

    /// The request's id as far as it can be read from one that cannot be decoded.
    #[must_use]
    pub fn id_of(request: &'a [u8]) -> &'a str {
        // The id is the same field of both.
        QueueMessageView::message_id_of(request)
    }

    /// The encoded messages, in their order.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Fields::new(self.request)
            .map_while(Result::ok)
            .filter(|field| field.number == MESSAGES)
            .filter_map(|field| field.bytes().ok())
    }
}

/// What the sender is told of a message that was taken; all in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFacts {
    /// When it was sent.
    pub sent_at_ns: u64,
    /// When it expires; 0: never.
    pub expires_at_ns: u64,
    /// When it becomes visible; 0: at once.
    pub visible_at_ns: u64,
}

/// What a `SendQueueMessageResult` tells.
pub type SendOutcome<'a> = Result<SendFacts, &'a str>;

fn result_len(message_id: &str, outcome: SendOutcome<'_>) -> usize {
    let facts = outcome.unwrap_or_default();
    bytes_field_len(message_id.as_bytes())
        + varint_field_len(facts.sent_at_ns)
        + varint_field_len(facts.expires_at_ns)
        + varint_field_len(facts.visible_at_ns)
        + match outcome {
            Ok(_) => 0,
            Err(error) => varint_field_len(1) + bytes_field_len(error.as_bytes()),
        }
}

/// Appends an encoded `SendQueueMessageResult`.
pub fn send_result(message_id: &str, outcome: SendOutcome<'_>, out: &mut impl BufMut) {
    let facts = outcome.unwrap_or_default();
    put_bytes_field(1, message_id.as_bytes(), out);
    put_varint_field(2, facts.sent_at_ns, out);
    put_varint_field(3, facts.expires_at_ns, out);
    put_varint_field(4, facts.visible_at_ns, out);
    if let Err(error) = outcome {
        put_varint_field(5, 1, out);
        put_bytes_field(6, error.as_bytes(), out);
    }
}

/// Appends a result as a field of the answer to a batch or an upstream request.
pub fn result_as_field(message_id: &str, outcome: SendOutcome<'_>, out: &mut BytesMut) {
    let len = result_len(message_id, outcome);
    out.reserve(field_prefix_len(len) + len);
    put_field_prefix(RESULTS, len, out);
    send_result(message_id, outcome, out);
}

/// Takes the results of an answer apart: each with its field's bytes, and the message's id in it.
pub fn results_of(results: &[u8]) -> impl Iterator<Item = (&[u8], &str)> {
    Fields::new(results)
        .map_while(Result::ok)
        .map(move |field| {
            let whole = results.get(field.start..field.end).unwrap_or_default();
            let result = field.bytes().unwrap_or_default();
            (whole, QueueMessageView::message_id_of(result))
        })
}

/// Appends an encoded `QueueMessagesBatchResponse` with these results.
pub fn batch_response(batch_id: &str, results: &[u8], have_errors: bool, out: &mut BytesMut) {
    out.reserve(bytes_field_len(batch_id.as_bytes()) + results.len() + 2);
    put_bytes_field(1, batch_id.as_bytes(), out);
    out.extend_from_slice(results);
    put_varint_field(3, u64::from(have_errors), out);
}

/// Appends a `QueuesUpstreamResponse` with these results as a complete frame.
pub fn upstream_response(request_id: &str, results: &[u8], out: &mut BytesMut) {
    let id = request_id.as_bytes();
    begin_frame(bytes_field_len(id) + results.len(), out);
    put_bytes_field(1, id, out);
    out.extend_from_slice(results);
}

/// Appends a `QueuesUpstreamResponse` that refuses the request as a complete frame.
pub fn upstream_refusal(request_id: &str, error: &str, out: &mut BytesMut) {
    let id = request_id.as_bytes();
    let len = bytes_field_len(id) + varint_field_len(1) + bytes_field_len(error.as_bytes());
    begin_frame(len, out);
    put_bytes_field(1, id, out);
    put_varint_field(3, 1, out);
    put_bytes_field(4, error.as_bytes(), out);
}
