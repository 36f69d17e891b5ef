//! One message at a time: `StreamQueueMessagesRequest` in, `StreamQueueMessagesResponse` out.

use bytes::BytesMut;

use super::DecodeError;
use super::downstream::enumeration;
use super::scan::Fields;
use super::write::{
    FRAME_PREFIX_BYTES, begin_frame, bytes_field_len, put_bytes_field, put_frame_prefix,
    put_varint_field, varint_field_len,
};

/// Field of an answer that its message is.
pub const MESSAGE_FIELD: u32 = 3;

const REQUEST_ID: u32 = 1;
const REQUEST_TYPE: u32 = 3;

/// A request on a stream of single messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueStreamView<'a> {
    /// The client's number for it; the answer repeats it.
    pub request_id: &'a str,
    /// Who asks.
    pub client_id: &'a str,
    /// What is asked for, a number of `StreamRequestType`.
    pub request_type: i32,
    /// The queue that is received from, or sent on to.
    pub channel: &'a str,
    /// How long the message is the client's.
    pub visibility_seconds: i32,
    /// How long to wait for one.
    pub wait_seconds: i32,
    /// The message that is settled.
    pub sequence: u64,
    /// The encoded message that takes the place of the received one.
    pub modified: Option<&'a [u8]>,
}

impl<'a> QueueStreamView<'a> {
    /// Scans a request.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self::default();
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                REQUEST_ID => view.request_id = field.text()?,
                2 => view.client_id = field.text()?,
                REQUEST_TYPE => view.request_type = field.int32()?,
                4 => view.channel = field.text()?,
                5 => view.visibility_seconds = field.int32()?,
                6 => view.wait_seconds = field.int32()?,
                7 => view.sequence = field.varint()?,
                8 => view.modified = Some(field.bytes()?),
                _ => {}
            }
        }
        Ok(view)
    }

    /// What of a request that cannot be decoded can be read all the same.
    #[must_use]
    pub fn remains(message: &'a [u8]) -> Self {
        let mut view = Self::default();
        for field in Fields::new(message).map_while(Result::ok) {
            match field.number {
                REQUEST_ID => view.request_id = field.text().unwrap_or(view.request_id),
                REQUEST_TYPE => view.request_type = field.int32().unwrap_or(view.request_type),
                _ => {}
            }
        }
        view
    }
}

/// What every answer begins with.
#[derive(Clone, Copy, Debug)]
pub struct StreamAnswerHead<'a> {
    /// The request that it answers.
    pub request_id: &'a str,
    /// What was asked for.
    pub request_type: i32,
}

impl StreamAnswerHead<'_> {
    /// Bytes that it takes in an answer.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.request_id.as_bytes())
            + varint_field_len(enumeration(self.request_type))
    }

    fn put(&self, out: &mut BytesMut) {
        put_bytes_field(1, self.request_id.as_bytes(), out);
        put_varint_field(2, enumeration(self.request_type), out);
    }
}

/// Appends the beginning of an answer's frame, behind which come `message_bytes` of its message;
/// with none, it is a whole answer.
pub fn begin_stream_answer_frame(
    head: &StreamAnswerHead<'_>,
    message_bytes: usize,
    out: &mut BytesMut,
) {
    let head_bytes = head.encoded_len();
    out.reserve(FRAME_PREFIX_BYTES + head_bytes);
    put_frame_prefix(head_bytes + message_bytes, out);
    head.put(out);
}

/// Appends the frame of a failure.
pub fn stream_failure_frame(head: &StreamAnswerHead<'_>, error: &str, out: &mut BytesMut) {
    let len = head.encoded_len() + varint_field_len(1) + bytes_field_len(error.as_bytes());
    begin_frame(len, out);
    head.put(out);
    put_varint_field(4, 1, out);
    put_bytes_field(5, error.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use ringmq_proto::kubemq::{
        QueueMessage, StreamQueueMessagesRequest, StreamQueueMessagesResponse,
    };

    use super::*;

    prop_compose! {
        fn any_request()(
            (request_id, client_id, channel) in (".{0,9}", ".{0,9}", ".{0,9}"),
            (stream_request_type_data, visibility_seconds, wait_time_seconds)
                in any::<(i32, i32, i32)>(),
            ref_sequence: u64,
            modified in prop::option::of(".{0,9}"),
        ) -> StreamQueueMessagesRequest {
            StreamQueueMessagesRequest {
                request_id, client_id, stream_request_type_data, channel, visibility_seconds,
                wait_time_seconds, ref_sequence,
                modified_message: modified.map(|metadata| QueueMessage {
                    metadata, ..QueueMessage::default()
                }),
            }
        }
    }

    proptest! {
        #[test]
        fn a_view_reads_what_the_generated_type_wrote(request in any_request()) {
            let message = request.encode_to_vec();
            let view = QueueStreamView::parse(&message).unwrap();
            prop_assert_eq!(view.request_id, &request.request_id);
            prop_assert_eq!(view.client_id, &request.client_id);
            prop_assert_eq!(view.request_type, request.stream_request_type_data);
            prop_assert_eq!(view.channel, &request.channel);
            prop_assert_eq!(view.visibility_seconds, request.visibility_seconds);
            prop_assert_eq!(view.wait_seconds, request.wait_time_seconds);
            prop_assert_eq!(view.sequence, request.ref_sequence);
            let modified = view.modified.map(|bytes| QueueMessage::decode(bytes).unwrap());
            prop_assert_eq!(modified, request.modified_message);
            let remains = QueueStreamView::remains(&message);
            prop_assert_eq!(remains.request_id, view.request_id);
            prop_assert_eq!(remains.request_type, view.request_type);
        }

        #[test]
        fn random_bytes_never_panic(message: Vec<u8>) {
            let remains = QueueStreamView::remains(&message);
            if let Ok(view) = QueueStreamView::parse(&message) {
                prop_assert_eq!(remains.request_id, view.request_id);
            }
        }

        #[test]
        fn answers_are_what_the_generated_type_reads(
            request_id in ".{0,200}", request_type: i32, error in ".{1,200}",
        ) {
            let head = StreamAnswerHead { request_id: &request_id, request_type };
            let expected = StreamQueueMessagesResponse {
                request_id: request_id.clone(),
                stream_request_type_data: request_type,
                ..StreamQueueMessagesResponse::default()
            };
            let mut frame = BytesMut::new();
            begin_stream_answer_frame(&head, 0, &mut frame);
            prop_assert_eq!(decode(&frame), expected.clone());
            let mut frame = BytesMut::new();
            begin_stream_answer_frame(&head, 2, &mut frame);
            frame.extend_from_slice(&[0x1a, 0]);
            prop_assert_eq!(decode(&frame), StreamQueueMessagesResponse {
                message: Some(QueueMessage::default()), ..expected.clone()
            });
            let mut frame = BytesMut::new();
            stream_failure_frame(&head, &error, &mut frame);
            prop_assert_eq!(decode(&frame), StreamQueueMessagesResponse {
                is_error: true, error, ..expected
            });
        }
    }

    fn decode(frame: &[u8]) -> StreamQueueMessagesResponse {
        let (prefix, message) = frame.split_at(FRAME_PREFIX_BYTES);
        let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        assert_eq!(len as usize, message.len());
        StreamQueueMessagesResponse::decode(message).unwrap()
    }
}
