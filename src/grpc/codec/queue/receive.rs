//! The unary calls of consumers: what they ask, and their answers.

use bytes::BytesMut;

use crate::grpc::codec::DecodeError;
use crate::grpc::codec::scan::Fields;
use crate::grpc::codec::write::{
    FRAME_PREFIX_BYTES, bytes_field_len, put_bytes_field, put_frame_prefix, put_varint_field,
    varint_field_len,
};

/// A `ReceiveQueueMessagesRequest`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveView<'a> {
    /// The caller's id for the request; empty: one is to be generated.
    pub request_id: &'a str,
    /// Who receives.
    pub client_id: &'a str,
    /// The queue.
    pub channel: &'a str,
    /// Messages at most.
    pub messages_max: i32,
    /// How long to wait for the first message; 0: as long as the operator says.
    pub wait_seconds: i32,
    /// Look at the messages, and leave them there.
    pub is_peek: bool,
}

impl<'a> ReceiveView<'a> {
    /// Scans an encoded request.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self::default();
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                1 => view.request_id = field.text()?,
                2 => view.client_id = field.text()?,
                3 => view.channel = field.text()?,
                4 => view.messages_max = field.int32()?,
                5 => view.wait_seconds = field.int32()?,
                6 => view.is_peek = field.boolean()?,
                _ => {}
            }
        }
        Ok(view)
    }
}

/// A `ReceiveQueueMessagesResponse` without its messages, which are field
/// [`MESSAGES`](Self::MESSAGES) of it and stand between its two parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveAnswer<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// How many messages there are.
    pub received: usize,
    /// How many have expired.
    pub expired: u64,
    /// As it was asked.
    pub is_peek: bool,
    /// Why there are none; empty: no error.
    pub error: &'a str,
}

impl ReceiveAnswer<'_> {
    /// Number of the field that each message is.
    pub const MESSAGES: u32 = 2;

    /// Bytes of both parts at most, but for the request's id and the error.
    pub const FIXED_BYTES_MAX: usize = 32;

    /// Appends the frame's prefix and what comes before `messages_bytes` of messages.
    pub fn begin_frame(&self, messages_bytes: usize, out: &mut BytesMut) {
        let id_len = bytes_field_len(self.request_id.as_bytes());
        out.reserve(FRAME_PREFIX_BYTES + id_len);
        put_frame_prefix(id_len + messages_bytes + self.end_len(), out);
        self.begin(out);
    }

    /// Appends what comes before the messages, without a frame.
    pub fn begin(&self, out: &mut BytesMut) {
        put_bytes_field(1, self.request_id.as_bytes(), out);
    }

    /// Appends what comes behind the messages.
    pub fn end(&self, out: &mut BytesMut) {
        out.reserve(self.end_len());
        put_varint_field(3, int32_count(self.received), out);
        put_varint_field(4, int32_count(self.expired), out);
        put_varint_field(5, u64::from(self.is_peek), out);
        put_varint_field(6, u64::from(!self.error.is_empty()), out);
        put_bytes_field(7, self.error.as_bytes(), out);
    }

    fn end_len(&self) -> usize {
        varint_field_len(int32_count(self.received))
            + varint_field_len(int32_count(self.expired))
            + varint_field_len(u64::from(self.is_peek))
            + varint_field_len(u64::from(!self.error.is_empty()))
            + bytes_field_len(self.error.as_bytes())
    }
}

/// An `AckAllQueueMessagesRequest`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckAllView<'a> {
    /// The caller's id for the request; empty: one is to be generated.
    pub request_id: &'a str,
    /// Who empties the queue.
    pub client_id: &'a str,
    /// The queue.
    pub channel: &'a str,
    /// How long that may take.
    pub wait_seconds: i32,
}

impl<'a> AckAllView<'a> {
    /// Scans an encoded request.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self::default();
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                1 => view.request_id = field.text()?,
                2 => view.client_id = field.text()?,
                3 => view.channel = field.text()?,
                4 => view.wait_seconds = field.int32()?,
                _ => {}
            }
        }
        Ok(view)
    }
}

/// Appends an encoded `AckAllQueueMessagesResponse`.
pub fn ack_all_answer(request_id: &str, outcome: Result<u64, &str>, out: &mut BytesMut) {
    let affected = outcome.unwrap_or(0);
    let error = outcome.err();
    put_bytes_field(1, request_id.as_bytes(), out);
    put_varint_field(2, affected, out);
    put_varint_field(3, u64::from(error.is_some()), out);
    put_bytes_field(4, error.unwrap_or_default().as_bytes(), out);
}

/// A count in a number of the contract that has 31 bits.
fn int32_count(count: impl TryInto<i32>) -> u64 {
    u64::from(count.try_into().unwrap_or(i32::MAX).cast_unsigned())
}
