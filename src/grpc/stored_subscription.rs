//! Serving a subscription to stored events, and finding out what the client has got.
//!
//! An event counts as delivered when its bytes have left for the socket and an HTTP/2 PING that
//! went out behind them was answered: the client's transport had them. Only then does the durable
//! position move over it. What waits in buffers of ours never counts, nor what a reset threw away,
//! and nothing is confirmed any more once the stream has ended; it is delivered again.

mod confirmation;
mod pacer;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::EventsStoreType;

use super::observe::Watch;
use super::subscription::poll_closed;
use super::{Busy, ended, refused};
use crate::model::Kind;
use crate::rt;
use crate::shard::{EndReason, Shard, Shutdown, Start, StoredSubscribe, StoredSubscriber};
use crate::wire::Gone;
use crate::wire::server::{ConnectionControl, Ping, Responder, ResponseStream};
use crate::wire_error::Refusal;

use confirmation::{Confirmation, Next};
use pacer::Pace;
pub(super) use pacer::Pacer;

/// How long a client may take to confirm when the broker ends, in turns of the pace: 300 ms.
const ENDING_TURNS: u32 = 30;

/// Subscribes and serves until the client leaves, the channel is deleted or the broker ends.
pub(super) async fn serve(
    shard: Rc<Shard>,
    pacer: &Rc<Pacer>,
    mut watch: Watch,
    busy: Busy,
    mut responder: Responder,
    subscribe: &Subscribe,
) {
    let request = StoredSubscribe {
        channel: &subscribe.channel,
        group: &subscribe.group,
        client_id: &subscribe.client_id,
        start: start(subscribe),
    };
    let control = responder.control().clone();
    let opened = {
        // It may wait for a commit, and for a connection that does not answer.
        let mut opening = pin!(shard.subscribe_stored(request, control));
        std::future::poll_fn(|cx| {
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            opening.as_mut().poll(cx).map(Some)
        })
        .await
    };
    let subscriber = match opened {
        None => return,
        Some(Err(refusal)) => {
            let refusal = refusal.into();
            watch.refused_subscription(subscribe, &refusal);
            return responder.refuse(refused(&shard, refusal));
        }
        Some(Ok(subscriber)) => subscriber,
    };
    let control = responder.control().clone();
    // The subscription is live: the headers tell the client so, before any message.
    let Ok(stream) = responder.start() else {
        return;
    };
    watch.subscribed(Kind::EventsStore, subscribe);
    let mut delivery = Delivery {
        subscriber,
        watch,
        subscribe,
        stream,
        parts: VecDeque::new(),
        mark: 0,
        confirmation: Confirmation::default(),
        ping: None,
        pace: Pace::new(pacer),
        shutdown: shard.watch_shutdown(),
        ending: None,
        busy,
    };
    let end = std::future::poll_fn(|cx| delivery.poll(&control, cx)).await;
    let refusal = match end {
        End::Gone => return,
        End::Reason(EndReason::Shutdown) => Refusal::ShuttingDown,
        End::Reason(EndReason::ChannelDeleted) => Refusal::ChannelDeleted,
        End::Closed(refusal) => refusal,
    };
    // Never OK while the connection lives: clients would take it for an orderly end.
    delivery.stream.finish(ended(&shard, refusal));
}

/// Where a subscription starts that has no durable position yet.
fn start(subscribe: &Subscribe) -> Start {
    let value = u64::try_from(subscribe.events_store_type_value).unwrap_or(0);
    match EventsStoreType::try_from(subscribe.events_store_type_data) {
        Ok(EventsStoreType::StartFromFirst) => Start::First,
        Ok(EventsStoreType::StartFromLast) => Start::Last,
        Ok(EventsStoreType::StartAtSequence) => Start::Sequence(value),
        Ok(EventsStoreType::StartAtTime) => Start::Time(to_ns(value)),
        Ok(EventsStoreType::StartAtTimeDelta) => Start::Ago(Duration::from_secs(value)),
        // A kind that this version does not know means "new only", as it always has.
        Ok(EventsStoreType::StartNewOnly | EventsStoreType::Undefined) | Err(_) => Start::New,
    }
}

/// A time since 1970 in nanoseconds. Clients send seconds, milliseconds, microseconds or
/// nanoseconds, and no field says which; for any time from 1973 to 5138 the magnitude does.
const fn to_ns(value: u64) -> u64 {
    match value {
        0..100_000_000_000 => value.saturating_mul(1_000_000_000),
        100_000_000_000..100_000_000_000_000 => value.saturating_mul(1_000_000),
        100_000_000_000_000..100_000_000_000_000_000 => value.saturating_mul(1_000),
        100_000_000_000_000_000.. => value,
    }
}

/// Why a subscription ends.
enum End {
    Gone,
    Reason(EndReason),
    /// Its client may not have any more.
    Closed(Refusal),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Nothing is delivered any more; what was delivered may be confirmed.
struct Ending {
    /// The turns of the pace that are left for that.
    turns: u32,
    /// Why, when it is not the end of the broker.
    refusal: Option<Refusal>,
}

/// A live subscription.
struct Delivery<'a> {
    subscriber: StoredSubscriber,
    watch: Watch,
    subscribe: &'a Subscribe,
    stream: ResponseStream,
    /// What is left of the chunk that is being handed to the stream, and its mark.
    parts: VecDeque<Bytes>,
    mark: u64,
    confirmation: Confirmation,
    ping: Option<Ping>,
    pace: Pace,
    shutdown: Shutdown,
    ending: Option<Ending>,
    /// While something is to be confirmed.
    busy: Busy,
}

impl Delivery<'_> {
    /// Delivers and confirms until the end.
    fn poll(&mut self, control: &ConnectionControl, cx: &mut Context<'_>) -> Poll<End> {
        match self.advance(control, cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Does what can be done now, and leaves wakers behind for the rest.
    fn advance(&mut self, control: &ConnectionControl, cx: &mut Context<'_>) -> Result<(), End> {
        // Before anything is confirmed: what a reset threw away counts as written.
        if self.stream.poll_reset(cx).is_ready() {
            return Err(End::Gone);
        }
        let _ready_or_on_its_way = self.poll_answer(cx)?;
        if self.shutdown.poll(cx).is_ready() {
            self.end(None);
        }
        if self.ending.is_none() {
            let closed = poll_closed(&mut self.watch, Kind::EventsStore, self.subscribe, cx);
            if let Poll::Ready(refusal) = closed {
                self.end(Some(refusal));
            }
        }
        while self.poll_send(cx)?.is_ready()
            && self.ending.is_none()
            && !self.confirmation.is_full()
        {
            match self.subscriber.poll_chunk(cx) {
                Poll::Ready(Ok(chunk)) => {
                    self.watch.delivered(chunk.count, chunk.bytes);
                    chunk
                        .parts
                        .iter()
                        .for_each(|part| self.watch.delivering(part));
                    self.parts.extend(chunk.parts);
                    self.mark = chunk.mark;
                }
                Poll::Ready(Err(reason)) => return Err(End::Reason(reason)),
                Poll::Pending => break,
            }
        }
        self.confirm(control, cx)?;
        self.end_when_due(cx)
    }

    /// No chunks any more; but a client that keeps up shall find no repetition when it comes back.
    fn end(&mut self, refusal: Option<Refusal>) {
        let turns = ENDING_TURNS;
        self.ending = Some(Ending { turns, refusal });
        self.confirmation.hurry();
    }

    /// Ends the subscription when the client has confirmed everything, or has had its time.
    fn end_when_due(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let settled = self.parts.is_empty() && self.confirmation.is_settled();
        let Some(ending) = &mut self.ending else {
            self.busy.set(!settled);
            return Ok(());
        };
        if self.pace.register(cx) {
            ending.turns = ending.turns.saturating_sub(1);
        }
        let due = settled || ending.turns == 0;
        self.busy.set(!due);
        // In the middle of a message there is no orderly end: the connection's end is it.
        match due && self.parts.is_empty() {
            true => Err(match ending.refusal.take() {
                Some(refusal) => End::Closed(refusal),
                None => End::Reason(EndReason::Shutdown),
            }),
            false => Ok(()),
        }
    }

    /// Hands the chunk over as the stream's capacity allows; ready when nothing is left of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        while let Some(part) = self.parts.front_mut() {
            if !part.is_empty() {
                let Poll::Ready(granted) = self.stream.poll_send_capacity(part.len(), cx) else {
                    return Ok(Poll::Pending);
                };
                let piece = part.split_to(granted?.min(part.len()));
                self.stream.send_frames(piece)?;
            }
            if part.is_empty() {
                self.parts.pop_front();
                if self.parts.is_empty() {
                    self.confirmation.sent(self.stream.sent(), self.mark);
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Takes the answer to the ping, if it is here; ready when none is on its way.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        if let Some(ping) = &mut self.ping {
            match Pin::new(ping).poll(cx) {
                Poll::Ready(answer) => answer?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            self.ping = None;
            if let Some(mark) = self.confirmation.answered() {
                self.subscriber.confirm(mark);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Sends the next ping when there is something to confirm.
    fn confirm(&mut self, control: &ConnectionControl, cx: &mut Context<'_>) -> Result<(), Gone> {
        while self.poll_answer(cx)?.is_ready() {
            match self.confirmation.next(self.stream.written(), rt::now) {
                Next::Nothing => break,
                Next::Ping => self.ping = Some(control.ping()),
                Next::Written(end) => {
                    if self.stream.poll_written(end, cx).is_pending() {
                        break;
                    }
                }
                Next::Later => {
                    let _first_in_this_turn = self.pace.register(cx);
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_start_time_is_told_by_its_magnitude() {
        const NS: u64 = 1_700_000_000_123_456_789;
        let table = [
            (1, 1_000_000_000),
            (1_700_000_000, 1_700_000_000_000_000_000),
            (99_999_999_999, u64::MAX),
            (100_000_000_000, 100_000_000_000_000_000),
            (1_700_000_000_123, 1_700_000_000_123_000_000),
            (99_999_999_999_999, u64::MAX),
            (100_000_000_000_000, 100_000_000_000_000_000),
            (1_700_000_000_123_456, 1_700_000_000_123_456_000),
            (99_999_999_999_999_999, u64::MAX),
            (100_000_000_000_000_000, 100_000_000_000_000_000),
            (NS, NS),
            (u64::MAX, u64::MAX),
        ];
        for (value, ns) in table {
            assert_eq!(to_ns(value), ns, "{value}");
        }
    }

    #[test]
    fn every_kind_of_start_has_its_meaning() {
        let table = [
            (1, Start::New),
            (2, Start::First),
            (3, Start::Last),
            (4, Start::Sequence(1_700_000_000)),
            (5, Start::Time(1_700_000_000_000_000_000)),
            (6, Start::Ago(Duration::from_secs(1_700_000_000))),
            (99, Start::New),
            (-1, Start::New),
        ];
        for (kind, expected) in table {
            let subscribe = Subscribe {
                events_store_type_data: kind,
                events_store_type_value: 1_700_000_000,
                ..Subscribe::default()
            };
            assert_eq!(start(&subscribe), expected, "{kind}");
        }
    }
}
