//! gRPC messages out of DATA frames, and into them.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use ringmq::wire::framing::{self, Encoding, GatherLimit, MessageDecoder};

use super::{MESSAGES, Part, Run, codec, part};

/// Bytes of a DATA frame.
const FRAME_BYTES: usize = 16 << 10;

pub(super) const PARTS: &[Part] = &[
    part("framing/cut frames into messages", MESSAGES, cut),
    part(
        "framing/gather messages from small frames",
        MESSAGES,
        || decode(500),
    ),
    part("framing/put messages into frames", MESSAGES, || {
        let message = codec::event();
        let mut out = BytesMut::with_capacity(2 * FRAME_BYTES);
        Box::new(move || {
            for _ in 0..MESSAGES {
                if out.len() > FRAME_BYTES {
                    out.clear();
                }
                framing::frame(&message, &mut out);
            }
            black_box(&out);
        })
    }),
];

/// One of each frame's messages reaches into the next frame, as a busy sender makes them.
fn cut() -> Run {
    decode(FRAME_BYTES)
}

fn decode(frame_bytes: usize) -> Run {
    let message = codec::event();
    let mut stream = BytesMut::new();
    (0..MESSAGES).for_each(|_| framing::frame(&message, &mut stream));
    let stream = stream.freeze();
    let frames: Vec<Bytes> = (0..stream.len())
        .step_by(frame_bytes)
        .map(|start| stream.slice(start..stream.len().min(start + frame_bytes)))
        .collect();
    let limit = GatherLimit::new(usize::MAX);
    let mut decoder = MessageDecoder::new(usize::MAX, limit, Encoding::Identity);
    Box::new(move || {
        let mut count = 0;
        for frame in &frames {
            decoder.push(frame.clone());
            while let Some(message) = decoder.next_message().expect("the framing is whole") {
                black_box(message);
                count += 1;
            }
        }
        assert_eq!(count, MESSAGES);
    })
}
