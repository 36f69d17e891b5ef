//! Serving a subscription: from the outbox to the client.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringmq_proto::kubemq::Subscribe;

use super::codec::FrameInfo;
use super::codec::sender::Signed;
use super::observe::{Access, Watch};
use super::{ended, refused};
use crate::model::Kind;
use crate::rt::{self, Instant};
use crate::security::Action;
use crate::shard::{ChannelAt, Outbox, Shard, Subscriber};
use crate::wire::server::{Call, Responder, ResponseStream};
use crate::wire_error::Refusal;

/// A slow subscriber is named in the log at most this often.
const DROPS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Where an encoder says that the channel's name stands.
pub(super) fn to_channel_at(info: FrameInfo) -> ChannelAt {
    ChannelAt {
        offset: info.channel_offset,
        len: info.channel_len,
    }
}

/// A subscription's message with the kind that it asks for, or why it is refused.
pub(super) type CheckedSubscribe = Result<(Kind, Subscribe), Refusal>;

/// Takes a call that subscribes. `decode` reads its message and says to what kind.
pub(super) async fn take(
    shard: Rc<Shard>,
    mut watch: Watch,
    call: Call,
    decode: fn(&[u8]) -> CheckedSubscribe,
) {
    if let Some((responder, kind, subscribe)) = check(&shard, &mut watch, call, decode).await {
        serve(shard, watch, responder, kind, &subscribe).await;
    }
}

/// Reads and checks the message of a call that subscribes; refuses the call when it is none.
pub(super) async fn check(
    shard: &Shard,
    watch: &mut Watch,
    call: Call,
    decode: fn(&[u8]) -> CheckedSubscribe,
) -> Option<(Responder, Kind, Subscribe)> {
    let (mut reader, responder) = call.into_parts();
    let checked = match watch.gate.only_message(shard, &mut reader).await {
        Ok(message) => admit(watch, &message, decode).map_err(|refusal| {
            watch.refused_subscribe(&message, &refusal);
            refused(shard, refusal)
        }),
        Err(status) => Err(status),
    };
    match checked {
        Ok((kind, subscribe)) => Some((responder, kind, subscribe)),
        Err(status) => {
            responder.refuse(status);
            None
        }
    }
}

/// Decodes a subscription, in the name that counts, and asks whether it may be.
fn admit(
    watch: &mut Watch,
    message: &[u8],
    decode: fn(&[u8]) -> CheckedSubscribe,
) -> CheckedSubscribe {
    let message = watch.gate.bind(message, Signed::Other)?;
    let (kind, subscribe) = decode(&message)?;
    let access = Access::subscription(kind, &subscribe);
    watch.gate.allow(&access, Action::Read)?;
    watch.gate.hold_subscription(&subscribe.client_id)?;
    Ok((kind, subscribe))
}

/// Ready when a subscription may not go on.
pub(super) fn poll_closed(
    watch: &mut Watch,
    kind: Kind,
    subscribe: &Subscribe,
    cx: &mut Context<'_>,
) -> Poll<Refusal> {
    let Subscribe {
        client_id, channel, ..
    } = subscribe;
    watch
        .gate
        .poll_closed(cx, |gate| gate.allow_standing(kind, client_id, channel))
}

/// Subscribes and serves until the client leaves or the broker ends.
pub(super) async fn serve(
    shard: Rc<Shard>,
    mut watch: Watch,
    responder: Responder,
    kind: Kind,
    subscribe: &Subscribe,
) {
    let subscriber = match shard
        .subscribe(kind, &subscribe.channel, &subscribe.group)
        .await
    {
        Ok(subscriber) => subscriber,
        Err(_ends) => {
            let refusal = Refusal::ShuttingDown;
            watch.refused_subscription(subscribe, &refusal);
            return responder.refuse(refused(&shard, refusal));
        }
    };
    // The subscription is live: the headers tell the client so, before any message.
    let Ok(mut stream) = responder.start() else {
        return;
    };
    watch.subscribed(kind, subscribe);
    let end = deliver(&subscriber, &mut stream, kind, subscribe, &mut watch).await;
    if let Some(refusal) = end {
        // Never OK while the connection lives: clients would take it for an orderly end.
        stream.finish(ended(&shard, refusal));
    }
}

/// Sends what waits; returns when the client has gone (`None`) or the subscription ends.
async fn deliver(
    subscriber: &Subscriber,
    stream: &mut ResponseStream,
    kind: Kind,
    subscribe: &Subscribe,
    watch: &mut Watch,
) -> Option<Refusal> {
    let outbox = subscriber.outbox();
    let mut logged: Option<Instant> = None;
    loop {
        let ready = std::future::poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(None));
            }
            if let Poll::Ready(refusal) = poll_closed(watch, kind, subscribe, cx) {
                return Poll::Ready(Err(Some(refusal)));
            }
            outbox.poll_ready(cx).map(Ok)
        })
        .await;
        if let Err(end) = ready {
            return end;
        }
        let mut bytes = 0;
        while let Some(chunk) = outbox.take() {
            bytes += chunk.len();
            watch.delivering(&chunk);
            if stream.send_all(chunk).await.is_err() {
                return None;
            }
            subscriber.drained_some();
            // A publisher may keep this loop from ever ending.
            let closed =
                std::future::poll_fn(|cx| Poll::Ready(poll_closed(watch, kind, subscribe, cx)));
            if let Poll::Ready(refusal) = closed.await {
                return Some(refusal);
            }
        }
        if bytes > 0 {
            watch.delivered(outbox.take_frames(), bytes);
        }
        if outbox.ended().is_some() {
            return Some(Refusal::ShuttingDown);
        }
        log_drops(outbox, subscribe, &mut logged);
    }
}

fn log_drops(outbox: &Outbox, subscribe: &Subscribe, logged: &mut Option<Instant>) {
    if logged.is_some_and(|at| rt::now().since(at) < DROPS_LOGGED_EVERY) {
        return;
    }
    let dropped = outbox.take_dropped();
    if dropped > 0 {
        *logged = Some(rt::now());
        let (channel, client) = (&subscribe.channel, &subscribe.client_id);
        tracing::warn!(%channel, %client, dropped, "subscriber too slow: messages dropped");
    }
}
