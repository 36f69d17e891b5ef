//! Frames that are well formed one by one and make no sense together.

use crate::harness::Broker;
use crate::mock::broker::Watched;
use crate::mock::frame::{Frame, flag, kind};
use crate::mock::hpack;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::{Peer, grpc_framed};

/// A reproducible sequence without structure (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x2545_f491_4f6c_dd1d)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// A frame that a client might send, on one of a few streams, perhaps at a wrong moment.
fn frame(random: &mut Random) -> Frame {
    let stream = u32::try_from(random.below(12)).expect("small");
    let block = |path: &str| hpack::encode(&Peer::call_fields(path));
    match random.below(14) {
        0 => Frame::headers(stream | 1, block(path::SUBSCRIBE_TO_EVENTS), false),
        1 => Frame::headers(stream | 1, block(path::SEND_EVENTS_STREAM), false),
        2 => Frame::headers(stream | 1, block(path::SEND_REQUEST), random.below(2) == 0),
        3 => {
            let subscription = kubemq::subscribe(kubemq::EVENTS, "random.>", "");
            Frame::data(stream | 1, grpc_framed(&subscription), random.below(2) == 0)
        }
        4 => Frame::data(stream, grpc_framed(&kubemq::event("random.a", b"x")), false),
        5 => {
            let length = random.below(300);
            Frame::data(stream, random.bytes(length), random.below(4) == 0)
        }
        6 => Frame::reset(stream, u32::from(random.byte())),
        7 => Frame::window_update(stream, u32::from(random.byte()) << random.below(24)),
        8 => {
            let id = u16::from(random.byte() % 8);
            Frame::settings(&[(id, u32::from(random.byte()) << random.below(24))])
        }
        9 => Frame::ping(*b"at times"),
        10 => Frame::goaway(stream, 0),
        11 => Frame::new(
            kind::HEADERS,
            flag::PRIORITY | flag::PADDED,
            stream,
            random.bytes(40),
        ),
        12 => Frame::new(kind::CONTINUATION, random.byte(), stream, random.bytes(9)),
        _ => {
            let length = random.below(64);
            Frame::new(
                random.byte() % 16,
                random.byte(),
                stream,
                random.bytes(length),
            )
        }
    }
}

pub(crate) fn random_frames_do_no_harm(broker: &Broker) {
    for seed in 1..=400 {
        let mut random = Random::new(seed);
        let mut peer = Peer::connect(broker.grpc());
        for _ in 0..100 {
            if !peer.send(&frame(&mut random)) {
                break;
            }
        }
        if seed % 2 == 0 {
            peer.vanish();
        }
        assert_ne!(broker.rss_bytes(), 0, "seed {seed}");
    }
    broker.wait_zero(&["connections", "subscriptions", "pending"]);
}
