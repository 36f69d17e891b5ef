//! Events, plain and stored: `SendEvent`, `SubscribeToEvents`, and what the publish stream shares
//! with them.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::codec::context::Sent;
use super::codec::event::{
    EventView, encode_event_receive, event_receive_frame, event_receive_frame_len,
    event_receive_len, event_result,
};
use super::codec::id::{self, MessageId};
use super::codec::queue::QueueLimits;
use super::codec::sender::Signed;
use super::codec::{subscribe, validate};
use super::observe::{Access, Begun, Deed, Watch};
use super::routed;
use super::stored_subscription::{self, Pacer};
use super::subscription::{self, CheckedSubscribe, to_channel_at};
use super::{Active, Busy, refused};
use crate::engine::stored::StoredKind;
use crate::model::Kind;
use crate::model::name::Target;
use crate::rt;
use crate::security::Action;
use crate::shard::{Full, Receipts, Shard, StoreBusy, record};
use crate::wire::server::Call;
use crate::wire_error::Refusal;

pub(super) async fn send_event(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    mut watch: Watch,
    call: Call,
    _active: Active,
) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    let message = message.map(|message| watch.with_context(message, Sent::Event));
    drop(reader);
    let mut latency = &shard.latencies.send_event;
    let result = match message {
        Ok(message) => match hand_over(&shard, &limits, &mut watch, &message).await {
            Ok(HandedOver { result, stored }) => {
                // It holds the connection's read buffer; what it said has been copied.
                drop(message);
                if stored.is_some() {
                    latency = &shard.latencies.send_event_store;
                }
                wait(&watch, stored).await.map(|()| result)
            }
            Err(refusal) => {
                watch.refused_event(&message, &refusal);
                Err(refusal)
            }
        }
        .map_err(|refusal| refused(&shard, refusal)),
        Err(status) => Err(status),
    };
    responder.unary(result);
    record(latency, began);
}

/// An event of a unary call that was taken.
struct HandedOver {
    /// The answer when all goes well.
    result: Bytes,
    /// What is still to come before the answer: the receipt of a stored event.
    stored: Option<(Receipts, Begun)>,
}

async fn hand_over(
    shard: &Rc<Shard>,
    limits: &QueueLimits,
    watch: &mut Watch,
    message: &[u8],
) -> Result<HandedOver, Refusal> {
    let now_ns = rt::unix_ns();
    let bound = watch.gate.bind(message, Signed::Other)?;
    let message = &*bound;
    let event = EventView::parse(message)?;
    if event.store {
        shard.admission().admit_unary()?;
    }
    if validate::validate_event(&event)? == Target::Route {
        let routed = routed::send_event(shard, limits, watch, &event, message, now_ns);
        let (result, stored) = (Box::pin(routed).await?, None);
        return Ok(HandedOver { result, stored });
    }
    let checked = Checked::new(shard, &event, now_ns)?;
    let access = Access::event(&event, &checked.event_id, message.len());
    watch.gate.allow(&access, Action::Write)?;
    let receipts = event.store.then(|| shard.receipts());
    while let Err(no_room) = checked.send(shard, receipts.as_ref()) {
        no_room.wait_in_call(shard, watch, event.channel).await?;
    }
    let stored = match receipts {
        Some(receipts) => Some((receipts, watch.begin(&access, Deed::Send))),
        None => {
            count_received(shard, message);
            watch.sent(&access);
            None
        }
    };
    let mut result = BytesMut::new();
    event_result(&checked.event_id, true, "", &mut result);
    let result = result.freeze();
    Ok(HandedOver { result, stored })
}

/// Waits until a stored event is durable; others are done already.
async fn wait(watch: &Watch, stored: Option<(Receipts, Begun)>) -> Result<(), Refusal> {
    let Some((receipts, begun)) = stored else {
        return Ok(());
    };
    let outcome = std::future::poll_fn(|cx| receipts.poll_front(cx)).await;
    let outcome = outcome.map_err(Refusal::from);
    watch.conclude_send(begun, outcome.as_ref().copied());
    outcome
}

/// Counts a plain event. Stored ones are counted where they become durable.
pub(super) fn count_received(shard: &Shard, message: &[u8]) {
    let bytes = message.len().try_into().unwrap_or(u64::MAX);
    shard.counters.events_received.increment();
    shard.counters.events_received_bytes.add(bytes);
}

/// An event that was checked and may go out.
pub(super) struct Checked<'a> {
    event: &'a EventView<'a>,
    /// Given or generated.
    pub(super) event_id: MessageId<'a>,
    now_ns: i64,
}

impl<'a> Checked<'a> {
    pub(super) fn new(
        shard: &Shard,
        event: &'a EventView<'a>,
        now_ns: i64,
    ) -> Result<Self, Refusal> {
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        let event_id = match event.event_id {
            "" => MessageId::Generated(id::generate(&mut |bytes| shard.fill_random(bytes))),
            given => MessageId::Given(given),
        };
        Ok(Self {
            event,
            event_id,
            now_ns,
        })
    }

    /// Bytes of the event as it is stored.
    pub(super) fn stored_len(&self) -> usize {
        event_receive_len(self.event, &self.event_id)
    }

    /// Hands the event to its channel's shard: with receipts to be stored, otherwise to be
    /// delivered.
    pub(super) fn send(
        &self,
        shard: &Rc<Shard>,
        receipts: Option<&Receipts>,
    ) -> Result<(), NoRoom> {
        match receipts {
            Some(receipts) => self.store(shard, receipts),
            None => self.publish(shard),
        }
    }

    fn publish(&self, shard: &Shard) -> Result<(), NoRoom> {
        let (event, event_id, now_ns) = (self.event, &self.event_id, self.now_ns);
        let bytes = event_receive_frame_len(event, event_id, now_ns, 0);
        shard
            .publish(event.channel, bytes, |out| {
                to_channel_at(event_receive_frame(event, event_id, now_ns, 0, out))
            })
            .map_err(|Full| NoRoom {
                bytes,
                stored: false,
            })
    }

    fn store(&self, shard: &Rc<Shard>, receipts: &Receipts) -> Result<(), NoRoom> {
        let (event, event_id, bytes) = (self.event, &self.event_id, self.stored_len());
        let mut encode = |out: &mut Vec<u8>| encode_event_receive(event, event_id, out);
        shard
            .store_message(
                StoredKind::EventsStore,
                event.channel,
                bytes,
                &mut encode,
                receipts,
            )
            .map_err(|StoreBusy| NoRoom::in_log(bytes))
    }
}

/// The way to the event's shard is full; nothing was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom {
    bytes: usize,
    stored: bool,
}

impl NoRoom {
    /// The log takes no message of so many bytes for now.
    pub(super) const fn in_log(bytes: usize) -> Self {
        Self {
            bytes,
            stored: true,
        }
    }

    /// Waits for room in a unary call: its connection brings no further ones meanwhile. What does
    /// not come in costs nothing, while a refusal costs nearly half of what serving does.
    pub(super) async fn wait_in_call(
        self,
        shard: &Shard,
        watch: &Watch,
        channel: &str,
    ) -> Result<(), Refusal> {
        let _hold = watch.hold();
        self.wait(shard, channel).await
    }

    /// Waits for room; a refusal when too many wait already.
    pub(super) async fn wait(self, shard: &Shard, channel: &str) -> Result<(), Refusal> {
        if self.stored {
            let room = shard.store_room(channel, self.bytes).await;
            room.map_err(|Full| Refusal::StoreBusy)
        } else {
            let room = shard.room(channel, self.bytes).await;
            room.map_err(|Full| Refusal::MeshFull)
        }
    }
}

pub(super) async fn subscribe(
    shard: Rc<Shard>,
    pacer: Rc<Pacer>,
    mut watch: Watch,
    busy: Busy,
    call: Call,
) {
    match subscription::check(&shard, &mut watch, call, check_subscribe).await {
        None => {}
        Some((responder, Kind::EventsStore, subscribe)) => {
            stored_subscription::serve(shard, &pacer, watch, busy, responder, &subscribe).await;
        }
        Some((responder, kind, subscribe)) => {
            subscription::serve(shard, watch, responder, kind, &subscribe).await;
        }
    }
}

/// Decodes and checks a subscription to events, plain or stored.
fn check_subscribe(message: &[u8]) -> CheckedSubscribe {
    let subscribe = subscribe::decode(message)?;
    let kind = validate::validate_subscribe_events(&subscribe)?;
    Ok((kind, subscribe))
}
