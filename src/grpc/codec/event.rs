//! Events: `Event` as it comes in, `EventReceive` as it goes out, `Result` as the answer.

use bytes::{BufMut, BytesMut};

use super::scan::{FieldNumber, Fields};
use super::tags::Tags;
use super::write::{
    FRAME_PREFIX_BYTES, begin_frame, bytes_field_len, put_bytes_field, put_frame_prefix,
    put_varint_field, to_u32, varint_field_len,
};
use super::{DecodeError, FrameInfo};

/// Tags have the same number in `Event` and in `EventReceive`: entries are copied with their keys.
const TAGS: FieldNumber = 7;

/// An `Event`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// The sender's id for the event; empty: one is to be generated.
    pub event_id: &'a str,
    /// Who sends.
    pub client_id: &'a str,
    /// Where to.
    pub channel: &'a str,
    /// Text beside the body.
    pub metadata: &'a str,
    /// The payload.
    pub body: &'a [u8],
    /// Events store when set, plain events otherwise.
    pub store: bool,
    /// Keys and values.
    pub tags: Tags<'a>,
}

impl<'a> EventView<'a> {
    /// Scans an encoded `Event`.
    ///
    /// # Errors
    /// When the message cannot be decoded, see the rules of [`super`].
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self {
            event_id: "",
            client_id: "",
            channel: "",
            metadata: "",
            body: &[],
            store: false,
            tags: Tags::none(message, TAGS),
        };
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                1 => view.event_id = field.text()?,
                2 => view.client_id = field.text()?,
                3 => view.channel = field.text()?,
                4 => view.metadata = field.text()?,
                5 => view.body = field.bytes()?,
                6 => view.store = field.boolean()?,
                TAGS => view.tags.add(&field)?,
                _ => {}
            }
        }
        Ok(view)
    }

    /// An event of the broker's own: a body for a channel, and nothing beside it.
    #[must_use]
    pub const fn of_broker(channel: &'a str, body: &'a [u8]) -> Self {
        Self {
            event_id: "",
            client_id: "",
            channel,
            metadata: "",
            body,
            store: false,
            tags: Tags::none(&[], TAGS),
        }
    }

    /// The event's id as far as it can be read from a message that cannot be decoded: the client
    /// matches the result of a publish stream by it.
    #[must_use]
    pub fn event_id_of(message: &'a [u8]) -> Option<&'a str> {
        Fields::new(message)
            .map_while(Result::ok)
            .filter(|field| field.number == 1)
            .filter_map(|field| field.text().ok())
            .last()
            .filter(|id| !id.is_empty())
    }

    /// Whether there is nothing to deliver: neither metadata nor body. Tags do not count.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.body.is_empty()
    }
}

/// Length of what [`encode_event_receive`] writes.
#[must_use]
pub fn event_receive_len(event: &EventView<'_>, event_id: &str) -> usize {
    bytes_field_len(event_id.as_bytes())
        + bytes_field_len(event.channel.as_bytes())
        + bytes_field_len(event.metadata.as_bytes())
        + bytes_field_len(event.body)
        + event.tags.encoded_len()
}

/// Appends the `EventReceive` that subscribers get, without timestamp and sequence: the form in
/// which an event is stored. [`append_event_suffix`] completes it at delivery; protobuf fields may
/// come in any order.
pub fn encode_event_receive(event: &EventView<'_>, event_id: &str, out: &mut impl BufMut) {
    put_bytes_field(1, event_id.as_bytes(), out);
    put_bytes_field(2, event.channel.as_bytes(), out);
    put_bytes_field(3, event.metadata.as_bytes(), out);
    put_bytes_field(4, event.body, out);
    event.tags.write(out);
}

/// Length of what [`append_event_suffix`] writes.
#[must_use]
pub fn event_suffix_len(timestamp_ns: i64, sequence: u64) -> usize {
    varint_field_len(timestamp_ns.cast_unsigned()) + varint_field_len(sequence)
}

/// Appends timestamp and sequence to an encoded `EventReceive`. A sequence of 0 is none.
pub fn append_event_suffix(timestamp_ns: i64, sequence: u64, out: &mut BytesMut) {
    put_varint_field(5, timestamp_ns.cast_unsigned(), out);
    put_varint_field(6, sequence, out);
}

/// Appends what comes before a stored event of `stored_bytes` in the frame that subscribers get.
/// Behind it comes what [`append_event_suffix`] writes.
pub fn begin_stored_event_frame(
    stored_bytes: usize,
    timestamp_ns: i64,
    sequence: u64,
    out: &mut BytesMut,
) {
    put_frame_prefix(stored_bytes + event_suffix_len(timestamp_ns, sequence), out);
}

/// Length of what [`event_receive_frame`] writes.
#[must_use]
pub fn event_receive_frame_len(
    event: &EventView<'_>,
    event_id: &str,
    timestamp_ns: i64,
    sequence: u64,
) -> usize {
    FRAME_PREFIX_BYTES
        + event_receive_len(event, event_id)
        + event_suffix_len(timestamp_ns, sequence)
}

/// Appends the complete gRPC frame that subscribers get for an event.
pub fn event_receive_frame(
    event: &EventView<'_>,
    event_id: &str,
    timestamp_ns: i64,
    sequence: u64,
    out: &mut BytesMut,
) -> FrameInfo {
    let start = out.len();
    let len = event_receive_len(event, event_id) + event_suffix_len(timestamp_ns, sequence);
    begin_frame(len, out);
    encode_event_receive(event, event_id, out);
    append_event_suffix(timestamp_ns, sequence, out);
    debug_assert_eq!(out.len(), start + FRAME_PREFIX_BYTES + len);
    // Behind the id, the channel's key and its length.
    let channel_end =
        bytes_field_len(event_id.as_bytes()) + bytes_field_len(event.channel.as_bytes());
    FrameInfo {
        channel_offset: to_u32(FRAME_PREFIX_BYTES + channel_end - event.channel.len()),
        channel_len: to_u32(event.channel.len()),
    }
}

fn event_result_len(event_id: &str, sent: bool, error: &str) -> usize {
    bytes_field_len(event_id.as_bytes())
        + varint_field_len(u64::from(sent))
        + bytes_field_len(error.as_bytes())
}

/// Appends an encoded `Result`: the answer to a publisher.
pub fn event_result(event_id: &str, sent: bool, error: &str, out: &mut BytesMut) {
    out.reserve(event_result_len(event_id, sent, error));
    put_bytes_field(1, event_id.as_bytes(), out);
    put_varint_field(2, u64::from(sent), out);
    put_bytes_field(3, error.as_bytes(), out);
}

/// Appends a `Result` as a complete gRPC frame.
pub fn event_result_frame(event_id: &str, sent: bool, error: &str, out: &mut BytesMut) {
    begin_frame(event_result_len(event_id, sent, error), out);
    event_result(event_id, sent, error, out);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::collection::hash_map;
    use proptest::prelude::*;
    use prost::Message as _;
    use ringmq_proto::kubemq;

    use super::*;

    prop_compose! {
        fn any_event()(
            event_id in ".{0,40}",
            client_id in ".{0,5}",
            channel in ".{0,300}",
            metadata in ".{0,200}",
            body in prop::collection::vec(any::<u8>(), 0..300),
            store: bool,
            tags in hash_map(".{0,10}", ".{0,10}", 0..4),
        ) -> kubemq::Event {
            let body = Bytes::from(body);
            kubemq::Event { event_id, client_id, channel, metadata, body, store, tags }
        }
    }

    fn receive(
        event: &kubemq::Event,
        id: &str,
        timestamp: i64,
        sequence: u64,
    ) -> kubemq::EventReceive {
        let kubemq::Event {
            channel,
            metadata,
            body,
            tags,
            ..
        } = event.clone();
        let event_id = id.to_owned();
        kubemq::EventReceive {
            event_id,
            channel,
            metadata,
            body,
            timestamp,
            sequence,
            tags,
        }
    }

    /// The only frame in `out`, without its prefix.
    fn unframed(out: &[u8]) -> &[u8] {
        let (prefix, message) = out.split_at(FRAME_PREFIX_BYTES);
        assert_eq!(prefix[0], 0);
        assert_eq!(
            u32::from_be_bytes(prefix[1..].try_into().unwrap()),
            to_u32(message.len())
        );
        message
    }

    proptest! {
        #[test]
        fn a_view_reads_what_the_generated_type_wrote(event in any_event()) {
            let encoded = event.encode_to_vec();
            let view = EventView::parse(&encoded).unwrap();
            prop_assert_eq!(view.event_id, &event.event_id);
            prop_assert_eq!(view.client_id, &event.client_id);
            prop_assert_eq!(view.channel, &event.channel);
            prop_assert_eq!(view.metadata, &event.metadata);
            prop_assert_eq!(view.body, &event.body);
            prop_assert_eq!(view.store, event.store);
            prop_assert_eq!(view.tags.is_empty(), event.tags.is_empty());
            let tags = view.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            prop_assert_eq!(&tags.collect::<HashMap<_, _>>(), &event.tags);
            for (key, value) in &event.tags {
                prop_assert_eq!(view.tags.get(key), Some(value.as_str()));
            }
        }

        #[test]
        fn subscribers_get_what_the_sender_sent(
            event in any_event(), id in ".{0,40}", (timestamp, sequence) in any::<(i64, u64)>(),
            before in 0_usize..9,
        ) {
            let encoded = event.encode_to_vec();
            let view = EventView::parse(&encoded).unwrap();
            let mut out = BytesMut::from(&[7; 9][..before]);
            let info = event_receive_frame(&view, &id, timestamp, sequence, &mut out);
            let out = &out[before..];
            let decoded = kubemq::EventReceive::decode(unframed(out)).unwrap();
            prop_assert_eq!(decoded, receive(&event, &id, timestamp, sequence));
            let channel = &out[info.channel_offset as usize..][..info.channel_len as usize];
            prop_assert_eq!(channel, event.channel.as_bytes());
        }

        #[test]
        fn a_stored_event_is_completed_by_its_suffix(
            event in any_event(), id in ".{0,40}", (timestamp, sequence) in any::<(i64, u64)>(),
            before in 0_usize..9,
        ) {
            let encoded = event.encode_to_vec();
            let view = EventView::parse(&encoded).unwrap();
            let mut out = vec![7; before];
            encode_event_receive(&view, &id, &mut out);
            let stored = out.split_off(before);
            prop_assert_eq!(stored.len(), event_receive_len(&view, &id));
            let decoded = kubemq::EventReceive::decode(&stored[..]).unwrap();
            prop_assert_eq!(decoded, receive(&event, &id, 0, 0));

            let mut frame = BytesMut::new();
            begin_stored_event_frame(stored.len(), timestamp, sequence, &mut frame);
            frame.extend_from_slice(&stored);
            append_event_suffix(timestamp, sequence, &mut frame);
            let suffix_len = event_suffix_len(timestamp, sequence);
            prop_assert_eq!(frame.len(), FRAME_PREFIX_BYTES + stored.len() + suffix_len);
            let decoded = kubemq::EventReceive::decode(unframed(&frame)).unwrap();
            prop_assert_eq!(decoded, receive(&event, &id, timestamp, sequence));
        }

        #[test]
        fn results_are_what_the_generated_type_writes(
            id in ".{0,200}", sent: bool, error in ".{0,200}",
        ) {
            let result = kubemq::Result { event_id: id.clone(), sent, error: error.clone() };
            let mut out = BytesMut::new();
            event_result(&id, sent, &error, &mut out);
            prop_assert_eq!(&out[..], result.encode_to_vec());
            let mut framed = BytesMut::new();
            event_result_frame(&id, sent, &error, &mut framed);
            prop_assert_eq!(unframed(&framed), &out[..]);
        }

        #[test]
        fn what_a_view_accepts_every_subscriber_can_decode(message in noise(any_event())) {
            if let Ok(view) = EventView::parse(&message) {
                let event = kubemq::Event::decode(&message[..]).unwrap();
                let mut out = BytesMut::new();
                event_receive_frame(&view, view.event_id, 1, 2, &mut out);
                let decoded = kubemq::EventReceive::decode(unframed(&out)).unwrap();
                prop_assert_eq!(decoded, receive(&event, &event.event_id, 1, 2));
            }
            prop_assert_ne!(EventView::event_id_of(&message), Some(""));
        }
    }

    use super::super::tests::noise;

    #[test]
    fn the_last_of_several_values_counts_and_tags_may_be_scattered() {
        let first = kubemq::Event {
            event_id: "a".into(),
            channel: "x".into(),
            ..tagged("k", "1")
        };
        let second = kubemq::Event {
            channel: "y".into(),
            store: true,
            ..tagged("k", "2")
        };
        let mut encoded = first.encode_to_vec();
        encoded.extend(second.encode_to_vec());
        let view = EventView::parse(&encoded).unwrap();
        assert_eq!((view.event_id, view.channel, view.store), ("a", "y", true));
        assert_eq!(view.tags.get("k"), Some("2"));
        assert_eq!(view.tags.get("none"), None);
        let mut out = BytesMut::new();
        event_receive_frame(&view, "a", 0, 0, &mut out);
        let decoded = kubemq::EventReceive::decode(unframed(&out)).unwrap();
        assert_eq!(
            decoded,
            receive(
                &kubemq::Event {
                    event_id: "a".into(),
                    ..second
                },
                "a",
                0,
                0
            )
        );
    }

    fn tagged(key: &str, value: &str) -> kubemq::Event {
        kubemq::Event {
            tags: [(key.into(), value.into())].into(),
            ..kubemq::Event::default()
        }
    }

    #[test]
    fn unknown_fields_are_dropped() {
        let mut encoded = kubemq::Event {
            channel: "c".into(),
            ..Default::default()
        }
        .encode_to_vec();
        encoded.extend([0x42, 3, b'n', b'e', b'w', 0x48, 1]);
        let mut out = Vec::new();
        encode_event_receive(&EventView::parse(&encoded).unwrap(), "", &mut out);
        assert_eq!(&out[..], [0x12, 1, b'c']);
    }

    #[test]
    fn text_must_be_utf8_wherever_it_stands() {
        for text in [1, 2, 3, 4] {
            let message = [text << 3 | 2, 2, 0xff, 0xfe, text << 3 | 2, 1, b'x'];
            assert_eq!(
                EventView::parse(&message).unwrap_err(),
                DecodeError::InvalidUtf8
            );
        }
        for tag in [0x0a, 0x12] {
            let message = [0x3a, 3, tag, 1, 0xff];
            assert_eq!(
                EventView::parse(&message).unwrap_err(),
                DecodeError::InvalidUtf8
            );
        }
        assert!(EventView::parse(&[0x2a, 2, 0xff, 0xfe]).is_ok());
    }

    #[test]
    fn malformed_tags_are_refused() {
        assert_eq!(
            EventView::parse(&[0x3a, 1, 0x0a]).unwrap_err(),
            DecodeError::Truncated
        );
        assert_eq!(
            EventView::parse(&[0x3a, 2, 0x08, 1]).unwrap_err(),
            DecodeError::FieldType
        );
        assert_eq!(
            EventView::parse(&[0x38, 1]).unwrap_err(),
            DecodeError::FieldType
        );
    }

    #[test]
    fn the_id_of_a_broken_event_is_found() {
        let id = [0x0a, 2, b'i', b'd'];
        assert_eq!(
            EventView::event_id_of(&[&id[..], &[0x22, 1, 0xff]].concat()),
            Some("id")
        );
        assert_eq!(
            EventView::event_id_of(&[&id[..], &[0xff; 12]].concat()),
            Some("id")
        );
        assert_eq!(EventView::event_id_of(&[0xff; 12]), None);
        assert_eq!(EventView::event_id_of(&[0x0a, 1, 0xff]), None);
    }
}
