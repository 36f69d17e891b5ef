//! Polls and settlements of queues: `QueuesDownstreamRequest` in, `QueuesDownstreamResponse` out.
//!
//! The messages of an answer were framed where they are stored; here is written what comes before
//! them. The fields of an answer have one order, so they are its end.

use bytes::{Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::DecodeError;
use super::scan::{Fields, Value, take_varint};
use super::tags::Tags;
use super::write::{
    begin_frame, bytes_field_len, put_bytes_field, put_frame_prefix, put_varint_field, to_u64,
    varint_field_len,
};

/// Field of an answer that each of its messages is.
pub const MESSAGES_FIELD: u32 = 4;

const REQUEST_ID: u32 = 1;
const REQUEST_TYPE: u32 = 3;
const SEQUENCES: u32 = 9;
const METADATA: u32 = 12;

/// A request on a stream of polls.
#[derive(Clone, Copy, Debug)]
pub struct DownstreamView<'a> {
    message: &'a [u8],
    /// The client's number for it; the answer repeats it.
    pub request_id: &'a str,
    /// Who asks.
    pub client_id: &'a str,
    /// What is asked for, a number of `QueuesDownstreamRequestType`.
    pub request_type: i32,
    /// The queue of a poll.
    pub channel: &'a str,
    /// Messages at most.
    pub items_max: i32,
    /// How long to wait, in milliseconds.
    pub wait_ms: i32,
    /// The messages of the answer are settled by its delivery.
    pub auto_ack: bool,
    /// Where messages go to.
    pub requeue_channel: &'a str,
    /// The transaction that is settled.
    pub transaction_id: &'a str,
    /// Whatever the client adds.
    pub metadata: Tags<'a>,
}

impl<'a> DownstreamView<'a> {
    /// Scans a request.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self::empty(message);
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                REQUEST_ID => view.request_id = field.text()?,
                2 => view.client_id = field.text()?,
                REQUEST_TYPE => view.request_type = field.int32()?,
                4 => view.channel = field.text()?,
                5 => view.items_max = field.int32()?,
                6 => view.wait_ms = field.int32()?,
                7 => view.auto_ack = field.boolean()?,
                8 => view.requeue_channel = field.text()?,
                SEQUENCES => check_sequences(&field.value)?,
                10 => view.transaction_id = field.text()?,
                METADATA => view.metadata.add(&field)?,
                _ => {}
            }
        }
        Ok(view)
    }

    /// What of a request that cannot be decoded can be read all the same: the client finds the
    /// answer by its id and its type.
    #[must_use]
    pub fn remains(message: &'a [u8]) -> Self {
        let mut view = Self::empty(message);
        for field in Fields::new(message).map_while(Result::ok) {
            match field.number {
                REQUEST_ID => view.request_id = field.text().unwrap_or(view.request_id),
                REQUEST_TYPE => view.request_type = field.int32().unwrap_or(view.request_type),
                10 => view.transaction_id = field.text().unwrap_or(view.transaction_id),
                _ => {}
            }
        }
        view
    }

    /// The sequences of a range, in their order. Nothing is allocated for them: a list may be as
    /// long as a message, and is read no further than to the first that does not count.
    pub fn sequences(&self) -> impl Iterator<Item = i64> + use<'a> {
        Fields::new(self.message)
            .map_while(Result::ok)
            .filter(|field| field.number == SEQUENCES)
            .flat_map(|field| Sequences::of(&field.value))
    }

    const fn empty(message: &'a [u8]) -> Self {
        Self {
            message,
            request_id: "",
            client_id: "",
            request_type: 0,
            channel: "",
            items_max: 0,
            wait_ms: 0,
            auto_ack: false,
            requeue_channel: "",
            transaction_id: "",
            metadata: Tags::none(message, METADATA),
        }
    }
}

/// Numbers of a repeated field: one for itself, or many in a row.
enum Sequences<'a> {
    One(Option<u64>),
    Packed(&'a [u8]),
}

impl<'a> Sequences<'a> {
    const fn of(value: &Value<'a>) -> Self {
        match *value {
            Value::Varint(number) => Self::One(Some(number)),
            Value::Bytes(packed) => Self::Packed(packed),
            Value::Fixed32(_) | Value::Fixed64(_) => Self::One(None),
        }
    }
}

impl Iterator for Sequences<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let number = match self {
            Self::One(number) => number.take()?,
            // Nothing is left, or what the check of the request would have refused.
            Self::Packed(rest) => take_varint(rest).ok()?,
        };
        Some(number.cast_signed())
    }
}

fn check_sequences(value: &Value<'_>) -> Result<(), DecodeError> {
    match *value {
        Value::Varint(_) => Ok(()),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                take_varint(&mut packed)?;
            }
            Ok(())
        }
        Value::Fixed32(_) | Value::Fixed64(_) => Err(DecodeError::FieldType),
    }
}

/// What every answer begins with.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    /// The transaction that it is about.
    pub transaction_id: &'a str,
    /// The request that it answers.
    pub request_id: &'a str,
    /// What was asked for.
    pub request_type: i32,
}

impl AnswerHead<'_> {
    /// Bytes that it takes in an answer.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.transaction_id.as_bytes())
            + bytes_field_len(self.request_id.as_bytes())
            + varint_field_len(enumeration(self.request_type))
    }

    fn put(&self, out: &mut BytesMut) {
        put_bytes_field(1, self.transaction_id.as_bytes(), out);
        put_bytes_field(2, self.request_id.as_bytes(), out);
        put_varint_field(3, enumeration(self.request_type), out);
    }
}

/// An enumeration goes out as the signed number that it is.
pub(super) fn enumeration(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

/// Appends the beginning of an answer's frame, behind which come `messages_bytes` of its messages.
pub fn begin_answer_frame(head: &AnswerHead<'_>, messages_bytes: usize, out: &mut BytesMut) {
    let head_bytes = head.encoded_len();
    out.reserve(super::write::FRAME_PREFIX_BYTES + head_bytes);
    put_frame_prefix(head_bytes + messages_bytes, out);
    head.put(out);
}

/// Appends the frame of a failure.
pub fn failure_frame(head: &AnswerHead<'_>, error: &str, out: &mut BytesMut) {
    let len = head.encoded_len() + varint_field_len(1) + bytes_field_len(error.as_bytes());
    begin_frame(len, out);
    head.put(out);
    put_varint_field(6, 1, out);
    put_bytes_field(7, error.as_bytes(), out);
}

/// The frame that tells the open sequences of a transaction, and whether it is complete.
#[must_use]
pub fn offsets_frame(
    head: &AnswerHead<'_>,
    offsets: impl Iterator<Item = u64> + Clone,
    complete: bool,
) -> Bytes {
    let packed_bytes: usize = offsets.clone().map(encoded_len_varint).sum();
    let offsets_bytes = match packed_bytes {
        0 => 0,
        len => 1 + encoded_len_varint(to_u64(len)) + len,
    };
    let complete_flag = u64::from(complete);
    let mut out = BytesMut::new();
    begin_frame(
        head.encoded_len() + offsets_bytes + varint_field_len(complete_flag),
        &mut out,
    );
    head.put(&mut out);
    if packed_bytes > 0 {
        encode_varint(5 << 3 | 2, &mut out);
        encode_varint(to_u64(packed_bytes), &mut out);
        offsets.for_each(|offset| encode_varint(offset, &mut out));
    }
    put_varint_field(8, complete_flag, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{hash_map, vec};
    use proptest::prelude::*;
    use prost::Message as _;
    use ringmq_proto::kubemq::{QueuesDownstreamRequest, QueuesDownstreamResponse};

    use super::super::tests::noise;
    use super::super::write::FRAME_PREFIX_BYTES;
    use super::*;

    prop_compose! {
        fn any_request()(
            (request_id, client_id, channel) in (".{0,9}", ".{0,9}", ".{0,9}"),
            (request_type_data, max_items, wait_timeout) in any::<(i32, i32, i32)>(),
            auto_ack: bool,
            (re_queue_channel, ref_transaction_id) in (".{0,9}", ".{0,40}"),
            sequence_range in vec(any::<i64>(), 0..9),
            metadata in hash_map(".{0,9}", ".{0,9}", 0..3),
        ) -> QueuesDownstreamRequest {
            QueuesDownstreamRequest {
                request_id, client_id, request_type_data, channel, max_items, wait_timeout,
                auto_ack, re_queue_channel, sequence_range, ref_transaction_id, metadata,
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_decoded_as_the_generated_type_does(message in noise(any_request())) {
            let Ok(view) = DownstreamView::parse(&message) else { return Ok(()) };
            let request = QueuesDownstreamRequest::decode(&message[..]).unwrap();
            prop_assert_eq!(view.request_id, &request.request_id);
            prop_assert_eq!(view.client_id, &request.client_id);
            prop_assert_eq!(view.request_type, request.request_type_data);
            prop_assert_eq!(view.channel, &request.channel);
            prop_assert_eq!(view.items_max, request.max_items);
            prop_assert_eq!(view.wait_ms, request.wait_timeout);
            prop_assert_eq!(view.auto_ack, request.auto_ack);
            prop_assert_eq!(view.requeue_channel, &request.re_queue_channel);
            prop_assert_eq!(view.transaction_id, &request.ref_transaction_id);
            prop_assert_eq!(view.sequences().collect::<Vec<_>>(), request.sequence_range);
            for (key, value) in &request.metadata {
                prop_assert_eq!(view.metadata.get(key), Some(&value[..]));
            }
        }

        #[test]
        fn answers_are_what_the_generated_type_reads(
            (transaction_id, request_id) in (".{0,40}", ".{0,200}"),
            request_type: i32,
            offsets in vec(any::<i64>(), 0..200),
            error in ".{1,200}",
            complete: bool,
        ) {
            let head = AnswerHead {
                transaction_id: &transaction_id, request_id: &request_id, request_type,
            };
            let expected = QueuesDownstreamResponse {
                transaction_id: transaction_id.clone(),
                ref_request_id: request_id.clone(),
                request_type_data: request_type,
                ..QueuesDownstreamResponse::default()
            };
            let told = offsets.iter().map(|offset| offset.cast_unsigned());
            let frame = offsets_frame(&head, told, complete);
            prop_assert_eq!(decode(&frame), QueuesDownstreamResponse {
                active_offsets: offsets, transaction_complete: complete, ..expected.clone()
            });
            let mut frame = BytesMut::new();
            failure_frame(&head, &error, &mut frame);
            prop_assert_eq!(decode(&frame), QueuesDownstreamResponse {
                is_error: true, error, ..expected.clone()
            });
            let mut frame = BytesMut::new();
            begin_answer_frame(&head, 2, &mut frame);
            frame.extend_from_slice(&[0x22, 0]);
            prop_assert_eq!(decode(&frame), QueuesDownstreamResponse {
                messages: vec![Default::default()], ..expected
            });
        }

        #[test]
        fn random_bytes_never_panic(message: Vec<u8>) {
            let remains = DownstreamView::remains(&message);
            let _many = remains.sequences().count();
        }
    }

    fn decode(frame: &[u8]) -> QueuesDownstreamResponse {
        let (prefix, message) = frame.split_at(FRAME_PREFIX_BYTES);
        let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        assert_eq!(len as usize, message.len());
        QueuesDownstreamResponse::decode(message).unwrap()
    }

    #[test]
    fn a_request_that_cannot_be_decoded_keeps_its_id_and_type() {
        let mut message = QueuesDownstreamRequest {
            request_id: "id".into(),
            request_type_data: 1,
            ref_transaction_id: "tx".into(),
            ..QueuesDownstreamRequest::default()
        }
        .encode_to_vec();
        message.extend([0x22, 1, 0xff]);
        let error = DownstreamView::parse(&message).map(|view| view.channel);
        assert_eq!(error, Err(DecodeError::InvalidUtf8));
        let remains = DownstreamView::remains(&message);
        let found = (
            remains.request_id,
            remains.request_type,
            remains.transaction_id,
        );
        assert_eq!(found, ("id", 1, "tx"));
    }

    #[test]
    fn numbers_of_a_list_may_stand_alone_or_in_a_row() {
        let message = [0x48, 7, 0x4a, 2, 8, 9, 0x48, 10];
        let view = DownstreamView::parse(&message).unwrap();
        assert_eq!(view.sequences().collect::<Vec<_>>(), [7, 8, 9, 10]);
        let cut = [0x4a, 2, 8, 0x80];
        assert_eq!(
            DownstreamView::parse(&cut).err(),
            Some(DecodeError::Truncated)
        );
        let fixed = [0x4d, 0, 0, 0, 0];
        assert_eq!(
            DownstreamView::parse(&fixed).err(),
            Some(DecodeError::FieldType)
        );
    }
}
