use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Event, QueueMessage, QueuesUpstreamRequest, Request};

use super::wire::varint;
use super::{
    Bodies, BodyError, Frames, PREFIX_BYTES, STAMP_BYTES, Sending, Stamp, field, number_field,
    put_varint, read, read_id, varint_bytes,
};
use crate::scenario::Payload;

const SENDING: Sending<'static> = Sending {
    channel: "a.channel",
    client_id: "a-client",
    run: 77,
    flow: 3,
    producer: 0xABC,
};

const STAMP: Stamp = Stamp {
    run: 77,
    flow: 3,
    producer: 0xABC,
    number: 5,
    intended_ns: 9,
};

fn body(payload: &Payload, checksum: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut bodies = Bodies::new(payload, 1, checksum);
    let len = bodies.next_len();
    bodies.put(&STAMP, len, &mut out);
    out.to_vec()
}

fn sizes(payload: &Payload, count: usize) -> Vec<usize> {
    let mut bodies = Bodies::new(payload, 1, true);
    (0..count).map(|_| bodies.next_len()).collect()
}

#[test]
fn bodies_give_back_their_stamp() {
    for size in [40, 41, 47, 128, 100_000] {
        let body = body(&Payload::Fixed(size), true);
        assert_eq!(body.len(), usize::try_from(size).unwrap());
        assert_eq!(read(&body, true, 77), Ok(STAMP));
        assert_eq!(read(&body, true, 78), Err(BodyError::Foreign));
    }
}

#[test]
fn each_flipped_bit_is_found() {
    let whole = body(&Payload::Fixed(64), true);
    for bit in 0..whole.len() * 8 {
        let mut body = whole.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        let run = bit < 64;
        let expected = if run {
            BodyError::Foreign
        } else {
            BodyError::Damaged
        };
        assert_eq!(read(&body, true, 77), Err(expected), "bit {bit}");
    }
}

#[test]
fn cut_bodies_are_damaged_and_short_ones_foreign() {
    let whole = body(&Payload::Fixed(64), true);
    assert_eq!(read(&whole[..63], true, 77), Err(BodyError::Damaged));
    assert_eq!(read(&whole[..39], true, 77), Err(BodyError::Foreign));
    assert_eq!(read(b"", true, 77), Err(BodyError::Foreign));
}

#[test]
fn without_checksums_only_the_head_counts() {
    let mut body = body(&Payload::Fixed(64), false);
    assert_eq!(&body[32..36], &[0; 4]);
    body[50] ^= 1;
    assert_eq!(read(&body, false, 77), Ok(STAMP));
    assert_eq!(read(&body, false, 76), Err(BodyError::Foreign));
}

#[test]
fn producers_fill_their_bodies_differently() {
    let filling = |seed| {
        let mut out = BytesMut::new();
        Bodies::new(&Payload::Fixed(64), seed, true).put(&STAMP, 64, &mut out);
        out[STAMP_BYTES..].to_vec()
    };
    assert_eq!(filling(1), filling(1));
    assert_ne!(filling(1), filling(2));
}

#[test]
fn sizes_follow_their_distribution() {
    let mean = |sizes: &[usize]| sizes.iter().sum::<usize>() / sizes.len();
    let uniform = sizes(
        &Payload::Uniform {
            least: 100,
            most: 300,
        },
        20_000,
    );
    assert_eq!(uniform.iter().min(), Some(&100));
    assert_eq!(uniform.iter().max(), Some(&300));
    assert!((195..=205).contains(&mean(&uniform)));

    let normal = sizes(
        &Payload::Normal {
            mean: 1000,
            deviation: 100,
        },
        20_000,
    );
    assert!((990..=1010).contains(&mean(&normal)));
    let near = normal
        .iter()
        .filter(|size| (900..=1100).contains(*size))
        .count();
    assert!(
        (13_000..=14_300).contains(&near),
        "{near} within one deviation"
    );

    let wide = sizes(
        &Payload::Normal {
            mean: 100,
            deviation: 1000,
        },
        1000,
    );
    assert!(wide.iter().all(|size| (STAMP_BYTES..=200).contains(size)));

    let mix = sizes(&Payload::Mix(vec![(128, 9), (8192, 1), (64, 0)]), 20_000);
    let large = mix.iter().filter(|size| **size == 8192).count();
    assert!((1800..=2200).contains(&large), "{large} large ones");
    assert!(!mix.contains(&64));
}

#[test]
fn events_decode_to_what_was_meant() {
    let payload = Payload::Mix(vec![(40, 1), (127, 1), (128, 1), (20_000, 1)]);
    for store in [false, true] {
        let mut frames = Frames::event(&SENDING, store, Bodies::new(&payload, 1, true));
        let mut out = BytesMut::new();
        let mut ends = Vec::new();
        for number in 0..50 {
            let body = frames.frame(number, number * 10, &mut out);
            ends.push((out.len(), body));
        }
        let mut at = 0;
        for (number, (end, body)) in ends.into_iter().enumerate() {
            let number = number as u64;
            let frame = &out[at..end];
            let len = u32::try_from(frame.len() - PREFIX_BYTES).unwrap();
            assert_eq!(frame[0], 0);
            assert_eq!(frame[1..5], len.to_be_bytes());
            let event = Event::decode(&frame[5..]).unwrap();
            assert_eq!(event.event_id, format!("00000abc{number:016x}"));
            assert_eq!(read_id(event.event_id.as_bytes()), Some((0xABC, number)));
            assert_eq!((event.channel.as_str(), event.store), ("a.channel", store));
            assert_eq!(event.client_id, "a-client");
            assert_eq!(event.body.len(), body);
            let stamp = read(&event.body, true, 77).unwrap();
            assert_eq!((stamp.number, stamp.intended_ns), (number, number * 10));
            assert_eq!(field(&frame[5..], 5), Some(&event.body[..]));
            at = end;
        }
    }
}

#[test]
fn queue_messages_nest_in_a_batch() {
    let bodies = Bodies::new(
        &Payload::Uniform {
            least: 40,
            most: 300,
        },
        1,
        true,
    );
    let mut frames = Frames::queue_message(&SENDING, bodies);
    let mut out = BytesMut::new();
    for number in 0..10 {
        frames.nested(2, number, 1, &mut out);
    }
    let request = QueuesUpstreamRequest::decode(out.clone().freeze()).unwrap();
    assert_eq!(request.messages.len(), 10);
    for (number, message) in request.messages.iter().enumerate() {
        assert_eq!(message.channel, "a.channel");
        assert_eq!(read(&message.body, true, 77).unwrap().number, number as u64);
    }
    let first = QueueMessage::decode(field(&out, 2).unwrap()).unwrap();
    assert_eq!(Some(&first), request.messages.first());
}

#[test]
fn requests_carry_kind_and_timeout() {
    let bodies = Bodies::new(&Payload::Fixed(64), 1, true);
    let mut frames = Frames::request(&SENDING, RequestType::Query, 1500, bodies);
    let (message, body) = frames.message(7, 8);
    let request = Request::decode(message.clone()).unwrap();
    assert_eq!(body, 64);
    assert_eq!(request.request_type_data(), RequestType::Query);
    assert_eq!(request.timeout, 1500);
    assert_eq!(read_id(request.request_id.as_bytes()), Some((0xABC, 7)));
    assert_eq!(read(&request.body, true, 77).unwrap().intended_ns, 8);
    assert_eq!(number_field(&message, 8), Some(1500));
    assert_eq!(number_field(&message, 9), None);
}

#[test]
fn ids_that_are_not_ours_have_no_number() {
    assert_eq!(read_id(b""), None);
    assert_eq!(read_id(b"0123456789abcdef0123456"), None);
    assert_eq!(read_id(b"0123456789abcdef0123456G"), None);
}

#[test]
fn broken_messages_have_no_fields() {
    // A length beyond the end, a cut number, a group.
    for message in [&b"\x2a\x05ab"[..], b"\x08\x80", b"\x0b"] {
        assert_eq!(field(message, 5), None);
        assert_eq!(number_field(message, 1), None);
    }
    // Fixed-width fields are stepped over.
    let message = b"\x09\x01\x02\x03\x04\x05\x06\x07\x08\x15\x01\x02\x03\x04\x2a\x01x";
    assert_eq!(field(message, 5), Some(&b"x"[..]));
}

#[test]
fn varints_are_as_long_as_said() {
    for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 28, usize::MAX] {
        let mut out = BytesMut::new();
        put_varint(value, &mut out);
        assert_eq!(out.len(), varint_bytes(value), "{value}");
        assert_eq!(varint(&mut &out[..]), Some(value as u64));
    }
    assert_eq!(varint(&mut &[0xFF; 11][..]), None);
    let empty = Bytes::new();
    assert_eq!(varint(&mut &empty[..]), None);
}
