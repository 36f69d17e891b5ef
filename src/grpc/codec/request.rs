//! Commands and queries on their way to a responder.

use std::time::Duration;

use bytes::BytesMut;

use super::scan::{FieldNumber, FieldSet, Fields};
use super::tags::Tags;
use super::write::{
    FRAME_PREFIX_BYTES, Remainder, begin_frame, bytes_field_len, put_bytes_field, to_u32,
};
use super::{DecodeError, FrameInfo};
use crate::model::Kind;

/// Longest life of a remembered answer. Lifetimes are sent in seconds, but one SDK sends
/// milliseconds; no answer may live for years because of that.
pub const CACHE_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const REQUEST_ID: FieldNumber = 1;
const REPLY_CHANNEL: FieldNumber = 7;
const TAGS: FieldNumber = 12;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestType {
    /// Its execution; the answer has no body.
    Command,
    /// Data.
    Query,
}

impl RequestType {
    /// Reads the number on the wire; `None` for one that means nothing.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Command),
            2 => Some(Self::Query),
            _ => None,
        }
    }

    /// The kind of the channels that such requests are sent to.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Command => Kind::Commands,
            Self::Query => Kind::Queries,
        }
    }
}

/// A `Request`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    message: &'a [u8],
    present: FieldSet,
    /// Offset of the channel's name in the message.
    channel_offset: usize,
    /// The sender's id for the request; empty: one is to be generated.
    pub request_id: &'a str,
    /// The number of the type; [`RequestType::from_number`] reads it.
    pub request_type: i32,
    /// Who asks.
    pub client_id: &'a str,
    /// Where.
    pub channel: &'a str,
    /// Text beside the body.
    pub metadata: &'a str,
    /// The payload.
    pub body: &'a [u8],
    /// What the sender put here; it is discarded.
    pub reply_channel: &'a str,
    /// How long the sender waits, in milliseconds.
    pub timeout: i32,
    /// Under which key the answer may be remembered; empty: not at all.
    pub cache_key: &'a str,
    /// How long, in seconds.
    pub cache_ttl: i32,
    /// The sender's trace.
    pub span: &'a [u8],
    /// Keys and values.
    pub tags: Tags<'a>,
}

impl<'a> RequestView<'a> {
    /// Scans an encoded `Request`.
    ///
    /// # Errors
    /// When the message cannot be decoded, see the rules of [`super`].
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self {
            message,
            present: FieldSet::default(),
            channel_offset: 0,
            request_id: "",
            request_type: 0,
            client_id: "",
            channel: "",
            metadata: "",
            body: &[],
            reply_channel: "",
            timeout: 0,
            cache_key: "",
            cache_ttl: 0,
            span: &[],
            tags: Tags::none(message, TAGS),
        };
        for field in Fields::of_message(message)? {
            let field = field?;
            view.present.insert(field.number);
            match field.number {
                REQUEST_ID => view.request_id = field.text()?,
                2 => view.request_type = field.int32()?,
                3 => view.client_id = field.text()?,
                4 => {
                    view.channel = field.text()?;
                    view.channel_offset = field.end - view.channel.len();
                }
                5 => view.metadata = field.text()?,
                6 => view.body = field.bytes()?,
                REPLY_CHANNEL => view.reply_channel = field.text()?,
                8 => view.timeout = field.int32()?,
                9 => view.cache_key = field.text()?,
                10 => view.cache_ttl = field.int32()?,
                11 => view.span = field.bytes()?,
                TAGS => view.tags.add(&field)?,
                _ => {}
            }
        }
        Ok(view)
    }

    /// Whether nothing is asked: neither metadata nor body. Tags do not count.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.body.is_empty()
    }

    /// How long the sender waits; nothing when it says so or less.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout).unwrap_or(0))
    }

    /// How long an answer may be remembered, at most [`CACHE_LIFETIME_MAX`]; `None` when it may
    /// not: without a key, and for commands whatever their key.
    #[must_use]
    pub fn cache_lifetime(&self) -> Option<Duration> {
        let query = RequestType::from_number(self.request_type) == Some(RequestType::Query);
        let seconds = u64::try_from(self.cache_ttl)
            .ok()
            .filter(|seconds| *seconds > 0)?;
        (query && !self.cache_key.is_empty())
            .then(|| Duration::from_secs(seconds).min(CACHE_LIFETIME_MAX))
    }
}

/// Appends the complete gRPC frame that responders get: the request as it came, unknown fields
/// included, with `reply_channel` in place of the sender's. `request_id` is used when the sender
/// gave none.
pub fn request_frame(
    request: &RequestView<'_>,
    request_id: &str,
    reply_channel: &str,
    out: &mut BytesMut,
) -> FrameInfo {
    let replaces_id = request.request_id.is_empty();
    let (drop, request_id) = if replaces_id {
        (
            FieldSet::of(&[REPLY_CHANNEL, REQUEST_ID]),
            request_id.as_bytes(),
        )
    } else {
        (FieldSet::of(&[REPLY_CHANNEL]), &[][..])
    };
    let remainder = Remainder::new(request.message, request.present, drop);
    let len =
        remainder.len() + bytes_field_len(request_id) + bytes_field_len(reply_channel.as_bytes());
    let start = out.len();
    begin_frame(len, out);
    remainder.write(out);
    put_bytes_field(REQUEST_ID, request_id, out);
    put_bytes_field(REPLY_CHANNEL, reply_channel.as_bytes(), out);
    debug_assert_eq!(out.len(), start + FRAME_PREFIX_BYTES + len);
    FrameInfo {
        channel_offset: to_u32(FRAME_PREFIX_BYTES + remainder.moved(request.channel_offset)),
        channel_len: to_u32(request.channel.len()),
    }
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
        fn any_request()(
            (request_id, request_type_data, client_id) in (".{0,30}", any::<i32>(), ".{0,5}"),
            (channel, metadata) in (".{0,150}", ".{0,50}"),
            body in prop::collection::vec(any::<u8>(), 0..200),
            (reply_channel, timeout) in (".{0,20}", any::<i32>()),
            (cache_key, cache_ttl) in (".{0,5}", any::<i32>()),
            span in prop::collection::vec(any::<u8>(), 0..20),
            tags in hash_map(".{0,10}", ".{0,10}", 0..4),
        ) -> kubemq::Request {
            let (body, span) = (Bytes::from(body), Bytes::from(span));
            kubemq::Request {
                request_id, request_type_data, client_id, channel, metadata, body, reply_channel,
                timeout, cache_key, cache_ttl, span, tags,
            }
        }
    }

    proptest! {
        #[test]
        fn a_view_reads_what_the_generated_type_wrote(request in any_request()) {
            let encoded = request.encode_to_vec();
            let view = RequestView::parse(&encoded).unwrap();
            prop_assert_eq!(view.request_id, &request.request_id);
            prop_assert_eq!(view.request_type, request.request_type_data);
            prop_assert_eq!(view.client_id, &request.client_id);
            prop_assert_eq!(view.channel, &request.channel);
            prop_assert_eq!(view.metadata, &request.metadata);
            prop_assert_eq!(view.body, &request.body);
            prop_assert_eq!(view.reply_channel, &request.reply_channel);
            prop_assert_eq!(view.timeout, request.timeout);
            prop_assert_eq!(view.cache_key, &request.cache_key);
            prop_assert_eq!(view.cache_ttl, request.cache_ttl);
            prop_assert_eq!(view.span, &request.span);
            let tags = view.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            prop_assert_eq!(&tags.collect::<HashMap<_, _>>(), &request.tags);
        }

        #[test]
        fn responders_get_the_request_with_id_and_reply_channel(
            message in noise(any_request()), id in "[a-z]{1,30}", reply in "[a-z]{1,200}",
            before in 0_usize..9,
        ) {
            let Ok(view) = RequestView::parse(&message) else { return Ok(()) };
            let mut expected = kubemq::Request::decode(&message[..]).unwrap();
            let mut out = BytesMut::from(&[7; 9][..before]);
            let info = request_frame(&view, &id, &reply, &mut out);
            let out = &out[before..];

            let len = u32::from_be_bytes(out[1..5].try_into().unwrap());
            prop_assert_eq!(len, to_u32(out.len() - 5));
            if expected.request_id.is_empty() {
                expected.request_id = id;
            }
            expected.reply_channel = reply;
            let decoded = kubemq::Request::decode(&out[5..]).unwrap();
            prop_assert_eq!(&decoded, &expected);
            let channel = &out[info.channel_offset as usize..][..info.channel_len as usize];
            if !view.channel.is_empty() {
                prop_assert_eq!(channel, expected.channel.as_bytes());
            }
        }
    }

    #[test]
    fn unknown_fields_reach_the_responder() {
        let known = kubemq::Request {
            reply_channel: "mine".into(),
            ..Default::default()
        };
        let mut encoded = known.encode_to_vec();
        encoded.extend([0x6a, 3, b'n', b'e', b'w', 0xf8, 0xff, 0xff, 0xff, 0x0f, 1]);
        let mut out = BytesMut::new();
        request_frame(&RequestView::parse(&encoded).unwrap(), "i", "r", &mut out);
        let unknown = &encoded[encoded.len() - 11..];
        assert_eq!(
            out[5..],
            [unknown, &[0x0a, 1, b'i', 0x3a, 1, b'r']].concat()
        );
    }

    #[test]
    fn answers_are_remembered_for_seconds_and_a_day_at_most() {
        let lifetime = |request_type_data, cache_key: &str, cache_ttl| {
            let cache_key = cache_key.to_owned();
            let request = kubemq::Request {
                request_type_data,
                cache_key,
                cache_ttl,
                ..Default::default()
            };
            RequestView::parse(&request.encode_to_vec())
                .unwrap()
                .cache_lifetime()
        };
        assert_eq!(lifetime(2, "k", 60), Some(Duration::from_secs(60)));
        assert_eq!(lifetime(2, "k", 900_000), Some(CACHE_LIFETIME_MAX));
        assert_eq!(lifetime(2, "k", 0), None);
        assert_eq!(lifetime(2, "k", -1), None);
        assert_eq!(lifetime(2, "", 60), None);
        assert_eq!(lifetime(1, "k", 60), None);
    }

    #[test]
    fn timeouts_are_milliseconds_and_never_negative() {
        let timeout = |timeout| {
            let request = kubemq::Request {
                timeout,
                ..Default::default()
            };
            RequestView::parse(&request.encode_to_vec())
                .unwrap()
                .timeout()
        };
        assert_eq!(timeout(1500), Duration::from_millis(1500));
        assert_eq!(timeout(-1), Duration::ZERO);
    }
}
