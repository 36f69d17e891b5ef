//! Answers to commands and queries on their way back.

use bytes::BytesMut;

use super::DecodeError;
use super::request::RequestType;
use super::scan::{FieldNumber, FieldSet, Fields};
use super::tags::Tags;
use super::write::{
    Remainder, bytes_field_len, put_bytes_field, put_varint_field, varint_field_len,
};

const REQUEST_ID: FieldNumber = 2;
const REPLY_CHANNEL: FieldNumber = 3;
const METADATA: FieldNumber = 4;
const BODY: FieldNumber = 5;
const CACHE_HIT: FieldNumber = 6;
const TAGS: FieldNumber = 11;

/// What the requester never sees: the reply channel is the broker's own; a command has no result
/// but whether it was executed.
const HIDDEN_FROM_COMMAND: FieldSet = FieldSet::of(&[REPLY_CHANNEL, METADATA, BODY, CACHE_HIT]);
const HIDDEN_FROM_QUERY: FieldSet = FieldSet::of(&[REPLY_CHANNEL]);

/// What a remembered answer does not keep.
const REPLACED_BY_CACHE: FieldSet = FieldSet::of(&[REQUEST_ID, REPLY_CHANNEL, CACHE_HIT]);

/// A `Response`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    message: &'a [u8],
    present: FieldSet,
    /// Who answers.
    pub client_id: &'a str,
    /// Which request is answered, in the responder's words; it is not compared with anything.
    pub request_id: &'a str,
    /// Where the answer belongs.
    pub reply_channel: &'a str,
    /// Text beside the body.
    pub metadata: &'a str,
    /// The payload.
    pub body: &'a [u8],
    /// Whether the answer was remembered, in the responder's words.
    pub cache_hit: bool,
    /// When, in a unit of the responder's choice.
    pub timestamp: i64,
    /// Whether the responder did what it was asked.
    pub executed: bool,
    /// Why not.
    pub error: &'a str,
    /// The responder's trace.
    pub span: &'a [u8],
    /// Keys and values.
    pub tags: Tags<'a>,
}

impl<'a> ResponseView<'a> {
    /// Scans an encoded `Response`.
    ///
    /// # Errors
    /// When the message cannot be decoded, see the rules of [`super`].
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self {
            message,
            present: FieldSet::default(),
            client_id: "",
            request_id: "",
            reply_channel: "",
            metadata: "",
            body: &[],
            cache_hit: false,
            timestamp: 0,
            executed: false,
            error: "",
            span: &[],
            tags: Tags::none(message, TAGS),
        };
        for field in Fields::of_message(message)? {
            let field = field?;
            view.present.insert(field.number);
            match field.number {
                1 => view.client_id = field.text()?,
                REQUEST_ID => view.request_id = field.text()?,
                REPLY_CHANNEL => view.reply_channel = field.text()?,
                METADATA => view.metadata = field.text()?,
                BODY => view.body = field.bytes()?,
                CACHE_HIT => view.cache_hit = field.boolean()?,
                7 => view.timestamp = field.int64()?,
                8 => view.executed = field.boolean()?,
                9 => view.error = field.text()?,
                10 => view.span = field.bytes()?,
                TAGS => view.tags.add(&field)?,
                _ => {}
            }
        }
        Ok(view)
    }
}

/// Appends the encoded `Response` that the requester gets. Everything passes as the responder set
/// it, unknown fields included, but the reply channel, and for a command metadata, body and cache
/// hit.
pub fn response_message(
    response: &ResponseView<'_>,
    request_type: RequestType,
    out: &mut BytesMut,
) {
    let hidden = match request_type {
        RequestType::Command => HIDDEN_FROM_COMMAND,
        RequestType::Query => HIDDEN_FROM_QUERY,
    };
    let remainder = Remainder::new(response.message, response.present, hidden);
    out.reserve(remainder.len());
    remainder.write(out);
}

/// Appends the answer to a query that was remembered from an earlier one: cache hit set, with the
/// id of the query that is answered now. `stored` is an encoded `Response` that was parsed before
/// it was kept.
pub fn cached_response(stored: &[u8], request_id: &str, out: &mut BytesMut) {
    let remainder = Remainder::new(stored, REPLACED_BY_CACHE, REPLACED_BY_CACHE);
    let len = remainder.len() + bytes_field_len(request_id.as_bytes()) + varint_field_len(1);
    out.reserve(len);
    let start = out.len();
    remainder.write(out);
    put_bytes_field(REQUEST_ID, request_id.as_bytes(), out);
    put_varint_field(CACHE_HIT, 1, out);
    debug_assert_eq!(out.len(), start + len);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::collection::hash_map;
    use proptest::prelude::*;
    use prost::Message as _;
    use ringmq_proto::kubemq;

    use super::super::tests::noise;
    use super::*;

    prop_compose! {
        fn any_response()(
            (client_id, request_id, reply_channel) in (".{0,5}", ".{0,30}", ".{0,150}"),
            metadata in ".{0,50}",
            body in prop::collection::vec(any::<u8>(), 0..200),
            (cache_hit, timestamp, executed) in any::<(bool, i64, bool)>(),
            error in ".{0,20}",
            span in prop::collection::vec(any::<u8>(), 0..20),
            tags in hash_map(".{0,10}", ".{0,10}", 0..4),
        ) -> kubemq::Response {
            let (body, span) = (Bytes::from(body), Bytes::from(span));
            kubemq::Response {
                client_id, request_id, reply_channel, metadata, body, cache_hit, timestamp,
                executed, error, span, tags,
            }
        }
    }

    fn as_requester_gets_it(
        response: &kubemq::Response,
        request_type: RequestType,
    ) -> kubemq::Response {
        let mut response = response.clone();
        response.reply_channel.clear();
        if request_type == RequestType::Command {
            response.metadata.clear();
            response.body.clear();
            response.cache_hit = false;
        }
        response
    }

    proptest! {
        #[test]
        fn a_view_reads_what_the_generated_type_wrote(response in any_response()) {
            let encoded = response.encode_to_vec();
            let view = ResponseView::parse(&encoded).unwrap();
            prop_assert_eq!(view.client_id, &response.client_id);
            prop_assert_eq!(view.request_id, &response.request_id);
            prop_assert_eq!(view.reply_channel, &response.reply_channel);
            prop_assert_eq!(view.metadata, &response.metadata);
            prop_assert_eq!(view.body, &response.body);
            prop_assert_eq!(view.cache_hit, response.cache_hit);
            prop_assert_eq!(view.timestamp, response.timestamp);
            prop_assert_eq!(view.executed, response.executed);
            prop_assert_eq!(view.error, &response.error);
            prop_assert_eq!(view.span, &response.span);
            let tags = view.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            prop_assert_eq!(&tags.collect::<HashMap<_, _>>(), &response.tags);
        }

        #[test]
        fn requesters_get_what_their_type_may_see(
            message in noise(any_response()), before in 0_usize..9,
        ) {
            let Ok(view) = ResponseView::parse(&message) else { return Ok(()) };
            let response = kubemq::Response::decode(&message[..]).unwrap();
            for request_type in [RequestType::Command, RequestType::Query] {
                let mut out = BytesMut::from(&[7; 9][..before]);
                response_message(&view, request_type, &mut out);
                let decoded = kubemq::Response::decode(&out[before..]).unwrap();
                prop_assert_eq!(decoded, as_requester_gets_it(&response, request_type));
            }
        }

        #[test]
        fn a_remembered_answer_is_a_hit_with_the_new_id(
            message in noise(any_response()), id in ".{0,200}", before in 0_usize..9,
        ) {
            let Ok(view) = ResponseView::parse(&message) else { return Ok(()) };
            let response = kubemq::Response::decode(&message[..]).unwrap();
            let mut stored = BytesMut::new();
            response_message(&view, RequestType::Query, &mut stored);
            for stored in [&stored[..], &message[..]] {
                let mut out = BytesMut::from(&[7; 9][..before]);
                cached_response(stored, &id, &mut out);
                let decoded = kubemq::Response::decode(&out[before..]).unwrap();
                let mut expected = as_requester_gets_it(&response, RequestType::Query);
                expected.request_id.clone_from(&id);
                expected.cache_hit = true;
                prop_assert_eq!(decoded, expected);
            }
        }

        #[test]
        fn random_bytes_never_panic(message: Vec<u8>) {
            cached_response(&message, "id", &mut BytesMut::new());
        }
    }

    #[test]
    fn unknown_fields_reach_the_requester() {
        let known = kubemq::Response {
            reply_channel: "r".into(),
            ..Default::default()
        };
        let mut encoded = known.encode_to_vec();
        encoded.extend([0x62, 3, b'n', b'e', b'w']);
        let mut out = BytesMut::new();
        let view = ResponseView::parse(&encoded).unwrap();
        response_message(&view, RequestType::Command, &mut out);
        assert_eq!(&out[..], [0x62, 3, b'n', b'e', b'w']);
    }
}
