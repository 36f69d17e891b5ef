//! The wire format of the messages that carry traffic, without intermediate structs.
//!
//! A message is scanned once into a view that borrows from its bytes ([`event::EventView`],
//! [`request::RequestView`], [`response::ResponseView`]); what goes out is written once, with its
//! length computed before the first byte. Nothing allocates but the output buffer. Rare messages
//! (subscriptions, ping) use the generated types.
//!
//! What decoding accepts:
//! - Fields in any order; of a repeated singular field the last one counts, as proto3 says.
//! - Text must be UTF-8, tags included: what a view has accepted, every proto3 client can decode.
//! - A known field of the wrong wire type, a group, a field number of 0 and anything cut short are
//!   errors. Other decoders differ in what they make of those, so that a message could be fine for
//!   one subscriber and end the stream of another.
//! - Unknown fields are skipped, but must be well formed.
//!
//! What is passed on: a request and a response keep every field that is not replaced or removed,
//! unknown ones included, byte for byte. An event becomes another message, `EventReceive`, and its
//! unknown fields are dropped: their numbers mean nothing there.

pub mod context;
pub mod copy;
pub mod downstream;
pub mod event;
pub mod id;
pub mod management;
pub mod queue;
pub mod queue_stream;
pub mod request;
pub mod response;
pub mod scan;
pub mod sender;
pub mod subscribe;
pub mod tags;
pub mod validate;
mod write;

use crate::wire::status::Status;
use crate::wire_error::Refusal;

/// Why a message cannot be decoded. Displays as the text that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends inside a field.
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    Truncated,
    /// A number has more than ten bytes, or more than 64 bits.
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    Varint,
    /// A field number is 0 or above the largest one.
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    FieldNumber,
    /// A wire type is unknown, or a group, which proto3 does not have.
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    WireType,
    /// A known field has the wire type of another.
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    FieldType,
    /// The message is larger than [`MESSAGE_BYTES_MAX`].
    #[error("grpc: error unmarshalling request: {}", self.reason())]
    TooLarge,
    /// A text field is not UTF-8.
    #[error("string field contains invalid UTF-8")]
    InvalidUtf8,
}

/// Largest message that can be decoded, in bytes: what protobuf allows. What is written from it
/// then always fits the 32-bit length of a gRPC frame.
pub const MESSAGE_BYTES_MAX: usize = (1 << 31) - 1;

impl DecodeError {
    /// The reason alone, without the words around it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "unexpected end of message",
            Self::Varint => "variable length integer overflow",
            Self::FieldNumber => "invalid field number",
            Self::WireType => "cannot parse reserved wire type",
            Self::FieldType => "wrong wire type for field",
            Self::TooLarge => "message larger than 2 GiB",
            Self::InvalidUtf8 => "string field contains invalid UTF-8",
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::InvalidUtf8 => Self::InvalidUtf8,
            error => Self::Undecodable(error.reason()),
        }
    }
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        Refusal::from(error).into()
    }
}

/// Where the channel's name stands in a frame that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Offset of the name's first byte from the start of the frame, its prefix included.
    pub channel_offset: u32,
    /// Length of the name in bytes.
    pub channel_len: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodings that the generated types would not write: values merged from two messages,
    /// fields in any order, unknown fields, damaged bytes.
    pub(in crate::grpc::codec) fn noise<M: prost::Message>(
        message: impl Strategy<Value = M>,
    ) -> impl Strategy<Value = Vec<u8>> {
        let unknown = prop_oneof![
            Just(vec![]),
            Just(vec![0xa2, 0x01, 2, 0xff, 0xfe]),
            Just(vec![0xfa, 0xff, 0xff, 0xff, 0x0f, 0]),
            Just(vec![0xa1, 0x01, 1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        let fields =
            (prop::collection::vec(message, 1..3), unknown).prop_map(|(messages, more)| {
                let mut fields = vec![more];
                for encoded in messages.iter().map(M::encode_to_vec) {
                    for field in scan::Fields::new(&encoded).map(Result::unwrap) {
                        fields.push(encoded[field.start..field.end].to_vec());
                    }
                }
                fields
            });
        let edits = prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3);
        (fields.prop_shuffle(), prop::bool::weighted(0.3), edits).prop_map(
            |(fields, damage, edits)| {
                let mut message = fields.concat();
                let damaged = damage && !message.is_empty();
                for (at, byte) in edits.iter().filter(|_| damaged) {
                    let at = at.index(message.len());
                    message[at] = *byte;
                }
                message
            },
        )
    }

    #[test]
    fn a_decode_error_reads_the_same_in_a_status_and_in_a_result() {
        for error in [
            DecodeError::Truncated,
            DecodeError::Varint,
            DecodeError::FieldNumber,
            DecodeError::WireType,
            DecodeError::FieldType,
            DecodeError::TooLarge,
            DecodeError::InvalidUtf8,
        ] {
            let status = Status::from(error);
            assert_eq!(status.message(), error.to_string());
            assert_eq!(status.code(), crate::wire::status::Code::Internal);
        }
    }
}
