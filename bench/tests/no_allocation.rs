//! The broker's own work on a plain event asks the allocator for nothing, once it is warm.
//!
//! What h2 and the runtime ask for is counted by the bench `allocations`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a broken assumption is a failed test")]

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::engine::clients::{Bounds, ClientTable, Figures, Use, Who};
use ringmq::engine::subscriptions::{SubscriberAddress, Subscription, SubscriptionTable};
use ringmq::grpc::codec::event::{EventView, event_receive_frame, event_receive_frame_len};
use ringmq::grpc::codec::{id, validate};
use ringmq::model::Kind;
use ringmq::shard::{Budget, Offered, Outbox};
use ringmq::wire::chunks::Pieces;
use ringmq::wire::framing::{self, Encoding, GatherLimit, MessageDecoder};
use ringmq_proto::kubemq::Event;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const CHANNEL: &str = "tenant.7.orders.created";

/// Bytes of a DATA frame: with messages of 1 KiB, one of them reaches into the next frame.
const FRAME_BYTES: usize = 16 << 10;

/// Chunks that h2 has and has not written.
const IN_FLIGHT: usize = 4;

/// Everything between a connection that brings events and one that takes them.
struct Path {
    decoder: MessageDecoder,
    table: SubscriptionTable,
    chosen: Vec<SubscriberAddress>,
    outbox: Outbox,
    in_flight: VecDeque<Bytes>,
    pieces: Pieces,
    clients: ClientTable,
    used: Option<Use>,
}

impl Path {
    fn new() -> Self {
        let limit = GatherLimit::new(usize::MAX);
        let mut table = SubscriptionTable::new(100);
        for pattern in [CHANNEL, "tenant.*.orders.*", "other.>"] {
            table.add(Subscription {
                pattern: pattern.into(),
                group: "workers".into(),
                address: SubscriberAddress { core: 0, key: 1 },
            });
        }
        Self {
            decoder: MessageDecoder::new(usize::MAX, limit, Encoding::Identity),
            table,
            chosen: Vec::new(),
            outbox: Outbox::new(1 << 20, Rc::new(Budget::new(1 << 20))),
            in_flight: VecDeque::new(),
            pieces: Pieces::default(),
            clients: ClientTable::new(Bounds {
                clients_max: 10,
                uses_max: 10,
                failures_max: 10,
            }),
            used: None,
        }
    }

    /// Takes what one read of the socket brought; gives back the number of events.
    fn turn(&mut self, frames: &[Bytes]) -> usize {
        let mut count = 0;
        for frame in frames {
            self.decoder.push(frame.clone());
            while let Some(message) = self.decoder.next_message().unwrap() {
                self.publish(&message);
                count += 1;
            }
        }
        while let Some(chunk) = self.outbox.take() {
            self.in_flight.push_back(chunk);
            if self.in_flight.len() > IN_FLIGHT {
                self.in_flight.pop_front();
            }
        }
        count
    }

    fn publish(&mut self, message: &[u8]) {
        let event = EventView::parse(message).unwrap();
        validate::validate_event(&event).unwrap();
        let made = id::generate(&mut |bytes| bytes.fill(7));
        let event_id = match event.event_id {
            "" => made.as_str(),
            given => given,
        };
        self.table.select(event.channel, &mut self.chosen);
        let len = event_receive_frame_len(&event, event_id, 1, 0);
        let offered = self.outbox.offer_encoded(len, |out| {
            event_receive_frame(&event, event_id, 1, 0, out);
        });
        assert_eq!(offered, Offered::Taken);
        let who = Who {
            client: event.client_id,
            kind: Kind::Events,
            channel: event.channel,
            address: None,
        };
        let figures = Figures::sent(1, message.len());
        self.used = Some(self.clients.find_and_count(self.used, &who, figures, 1));
        // The same event on its way to another core.
        let (piece, _) = self
            .pieces
            .make(len, |out| event_receive_frame(&event, event_id, 1, 0, out));
        assert_eq!(piece.len(), len);
    }
}

fn frames(body_bytes: usize, event_id: &str, count: usize) -> Vec<Bytes> {
    let event = Event {
        event_id: event_id.into(),
        client_id: "publisher".into(),
        channel: CHANNEL.into(),
        metadata: "about".into(),
        body: vec![7; body_bytes].into(),
        tags: [("key".into(), "value".into())].into(),
        ..Event::default()
    };
    let message = event.encode_to_vec();
    let mut stream = BytesMut::new();
    (0..count).for_each(|_| framing::frame(&message, &mut stream));
    let stream = stream.freeze();
    (0..stream.len())
        .step_by(FRAME_BYTES)
        .map(|at| stream.slice(at..stream.len().min(at + FRAME_BYTES)))
        .collect()
}

#[test]
fn an_event_passes_without_an_allocation() {
    for (body_bytes, event_id, count) in [
        (100, "an-id", 1),
        (100, "", 64),
        (1024, "an-id", 64),
        (7_000, "", 16),
    ] {
        let (mut path, frames) = (Path::new(), frames(body_bytes, event_id, count));
        (0..100).for_each(|_| assert_eq!(path.turn(&frames), count));
        // The threads of the test's harness have an allocation now and then: three tries.
        let fewest = (0..3).map(|_| {
            let region = Region::new(GLOBAL);
            for _ in 0..100 {
                path.turn(&frames);
            }
            let stats = region.change();
            stats.allocations + stats.reallocations
        });
        let what = format!("{count} events of {body_bytes} bytes, 100 times");
        assert_eq!(fewest.min(), Some(0), "{what}");
    }
}
