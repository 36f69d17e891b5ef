//! Events: `SendEvent`, `SendEventsStream`, `SubscribeToEvents`.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::codec::event::{
    EventView, event_receive_frame, event_receive_frame_len, event_result, event_result_frame,
};
use super::codec::{id, subscribe, validate};
use super::subscription::{CheckedSubscribe, to_channel_at};
use super::{Active, record, refused};
use crate::model::Kind;
use crate::rt;
use crate::shard::{Full, Shard};
use crate::wire::server::{Call, MessageReader, ResponseStream};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// Results of a publish stream that may wait for its client to read them. A client that sends
/// nothing but bad events and reads none of the results is not read from any further.
const RESULT_BYTES_MAX: usize = 256 << 10;

pub(super) async fn send_event(shard: Rc<Shard>, call: Call, _active: Active) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let result = match reader.only_message().await {
        Ok(message) => {
            let published = publish(&shard, &message, rt::unix_ns()).await;
            published.map_err(|refusal| refused(&shard, refusal))
        }
        Err(status) => Err(status),
    };
    responder.unary(result);
    record(&shard.latencies.send_event, began);
}

/// Publishes one event of a unary call; the answer is a `Result` message.
async fn publish(shard: &Shard, message: &[u8], now_ns: i64) -> Result<Bytes, Refusal> {
    let event = EventView::parse(message)?;
    let checked = Checked::new(shard, &event, "SendEvent", now_ns)?;
    checked.send_with_room(shard).await?;
    count_received(shard, message);
    let mut result = BytesMut::new();
    event_result(&checked.event_id, true, "", &mut result);
    Ok(result.freeze())
}

fn count_received(shard: &Shard, message: &[u8]) {
    let bytes = message.len().try_into().unwrap_or(u64::MAX);
    shard.counters.events_received.increment();
    shard.counters.events_received_bytes.add(bytes);
}

/// An event that may go out.
struct Checked<'a> {
    event: &'a EventView<'a>,
    event_id: Cow<'a, str>,
    now_ns: i64,
}

impl<'a> Checked<'a> {
    fn new(
        shard: &Shard,
        event: &'a EventView<'a>,
        method: &'static str,
        now_ns: i64,
    ) -> Result<Self, Refusal> {
        validate::validate_event(event)?;
        if event.store {
            let kind = Kind::EventsStore;
            return Err(Refusal::KindUnavailable { kind, method });
        }
        if shard.is_draining() {
            return Err(Refusal::ShuttingDown);
        }
        let event_id = match event.event_id {
            "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes))),
            given => Cow::Borrowed(given),
        };
        Ok(Self {
            event,
            event_id,
            now_ns,
        })
    }

    /// Hands the event to its channel's shard.
    fn send(&self, shard: &Shard) -> Result<(), Full> {
        let (event, event_id, now_ns) = (self.event, &self.event_id, self.now_ns);
        let len = event_receive_frame_len(event, event_id, now_ns, 0);
        shard.publish(event.channel, len, |out| {
            to_channel_at(event_receive_frame(event, event_id, now_ns, 0, out))
        })
    }

    /// The same, waiting while the way there is full.
    async fn send_with_room(&self, shard: &Shard) -> Result<(), Refusal> {
        while let Err(Full) = self.send(shard) {
            let room = shard.room(self.event.channel).await;
            room.map_err(|Full| Refusal::MeshFull)?;
        }
        Ok(())
    }
}

/// What a publish stream does next.
enum Next {
    Message(Result<Option<Bytes>, Status>),
    Shutdown,
    Gone,
}

pub(super) async fn send_events_stream(shard: Rc<Shard>, call: Call) {
    let (mut reader, responder) = call.into_parts();
    // The headers go out at once: some clients wait for them before they send.
    let Ok(mut results) = responder.start() else {
        return;
    };
    let shutdown = shard.watch_shutdown();
    let mut waiting = BytesMut::new();
    let status = loop {
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(message) = reader.poll_message(cx) {
                return Poll::Ready(Next::Message(message));
            }
            if shutdown.poll(cx).is_ready() {
                return Poll::Ready(Next::Shutdown);
            }
            results.poll_reset(cx).map(|()| Next::Gone)
        })
        .await;
        match next {
            Next::Message(Ok(Some(message))) => {
                let taken = take_batch(&shard, &mut reader, message, &mut waiting).await;
                if send_results(&mut results, &mut waiting).await.is_err() {
                    return;
                }
                if let Err(status) = taken {
                    break status;
                }
            }
            Next::Message(Ok(None)) => break Status::new(Code::Ok, ""),
            Next::Message(Err(status)) => break status,
            Next::Shutdown => break Refusal::ShuttingDown.into(),
            Next::Gone => return,
        }
    };
    results.finish(status);
}

/// Publishes a message and all that have arrived behind it, at one time of day.
async fn take_batch(
    shard: &Shard,
    reader: &mut MessageReader,
    first: Bytes,
    results: &mut BytesMut,
) -> Result<(), Status> {
    let now_ns = rt::unix_ns();
    let mut next = Some(first);
    while let Some(message) = next {
        // Without an await as long as there is room: that is every time but under a flood.
        if let Err(Full) = publish_streamed(shard, &message, now_ns, results) {
            publish_streamed_with_room(shard, &message, now_ns, results).await;
        }
        if results.len() >= RESULT_BYTES_MAX {
            break;
        }
        next = reader.try_message()?;
    }
    Ok(())
}

/// Publishes one event of a stream: silence means that it went out, anything else is a result.
fn publish_streamed(
    shard: &Shard,
    message: &[u8],
    now_ns: i64,
    results: &mut BytesMut,
) -> Result<(), Full> {
    let (event_id, refusal) = match EventView::parse(message) {
        Ok(event) => match Checked::new(shard, &event, "SendEventsStream", now_ns) {
            Ok(checked) => {
                checked.send(shard)?;
                count_received(shard, message);
                return Ok(());
            }
            Err(refusal) => (event.event_id, refusal),
        },
        // The id where it can still be read: the client matches results by it.
        Err(error) => (
            EventView::event_id_of(message).unwrap_or_default(),
            error.into(),
        ),
    };
    event_result_frame(event_id, false, &refusal.text(), results);
    refused(shard, refusal);
    Ok(())
}

/// Waits for room and tries again; refuses when too many wait already.
async fn publish_streamed_with_room(
    shard: &Shard,
    message: &[u8],
    now_ns: i64,
    results: &mut BytesMut,
) {
    let channel = EventView::parse(message).map_or("", |event| event.channel);
    while let Err(Full) = publish_streamed(shard, message, now_ns, results) {
        if let Err(Full) = shard.room(channel).await {
            let event_id = EventView::event_id_of(message).unwrap_or_default();
            event_result_frame(event_id, false, &Refusal::MeshFull.text(), results);
            refused(shard, Refusal::MeshFull);
            return;
        }
    }
}

async fn send_results(stream: &mut ResponseStream, results: &mut BytesMut) -> Result<(), ()> {
    if results.is_empty() {
        return Ok(());
    }
    stream
        .send_all(results.split().freeze())
        .await
        .map_err(|_| ())
}

/// Decodes and checks a subscription to events.
pub(super) fn check_subscribe(message: &[u8]) -> CheckedSubscribe {
    let subscribe = subscribe::decode(message)?;
    match validate::validate_subscribe_events(&subscribe)? {
        kind @ Kind::Events => Ok((kind, subscribe)),
        kind => Err(Refusal::KindUnavailable {
            kind,
            method: "SubscribeToEvents",
        }),
    }
}
