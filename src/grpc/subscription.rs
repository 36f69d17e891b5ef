//! Serving a subscription: from the outbox to the client.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringmq_proto::kubemq::Subscribe;

use super::codec::FrameInfo;
use super::observe::Watch;
use super::refused;
use crate::model::Kind;
use crate::rt::{self, Instant};
use crate::shard::{ChannelAt, EndReason, Outbox, Shard, Subscriber};
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
    let checked = match reader.only_message().await {
        Ok(message) => decode(&message).map_err(|refusal| {
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
    let end = deliver(&subscriber, &mut stream, subscribe, &mut watch).await;
    if end.is_some() {
        // Never OK while the connection lives: clients would take it for an orderly end.
        stream.finish(Refusal::ShuttingDown.into());
    }
}

/// Sends what waits; returns when the client has gone (`None`) or the subscription ends.
async fn deliver(
    subscriber: &Subscriber,
    stream: &mut ResponseStream,
    subscribe: &Subscribe,
    watch: &mut Watch,
) -> Option<EndReason> {
    let outbox = subscriber.outbox();
    let mut logged: Option<Instant> = None;
    loop {
        let alive = std::future::poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(false);
            }
            outbox.poll_ready(cx).map(|()| true)
        })
        .await;
        if !alive {
            return None;
        }
        let mut bytes = 0;
        while let Some(chunk) = outbox.take() {
            bytes += chunk.len();
            watch.delivering(&chunk);
            if stream.send_all(chunk).await.is_err() {
                return None;
            }
            subscriber.drained_some();
        }
        if bytes > 0 {
            watch.delivered(outbox.take_frames(), bytes);
        }
        if let Some(reason) = outbox.ended() {
            return Some(reason);
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
