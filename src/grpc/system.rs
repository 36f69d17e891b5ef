//! What is not messaging: ping, health, reflection.

use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::PingResult;

use super::gate::Gate;
use super::reflection::Reflection;
use super::{Active, ServerInfo, ended, health, refuse, unknown_method};
use crate::rt::{self, Queue};
use crate::shard::{Shard, record};
use crate::wire::framing;
use crate::wire::server::{Call, MessageReader, ResponseStream};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// The version that SDKs check against their tested ranges; our own is in the banner.
const CONTRACT_VERSION: &str = "v2.6.0";

pub(super) async fn ping(shard: Rc<Shard>, info: Rc<ServerInfo>, call: Call, _active: Active) {
    let began = rt::now();
    let (mut reader, responder) = call.into_parts();
    let result = reader.only_message().await.map(|_| {
        let now_seconds = rt::unix_ns() / 1_000_000_000;
        let result = PingResult {
            host: info.host.clone(),
            version: CONTRACT_VERSION.to_owned(),
            server_start_time: info.started_at_seconds,
            // Never negative, even when the clock was set back: one SDK raises on that.
            server_up_time_seconds: (now_seconds - info.started_at_seconds).max(0),
        };
        Bytes::from(result.encode_to_vec())
    });
    responder.unary(result);
    record(&shard.latencies.ping, began);
}

pub(super) fn health(shard: &Rc<Shard>, method: &str, call: Call) {
    let refusing = shard;
    let shard = shard.clone();
    match method {
        "Check" => rt::spawn_call("Health/Check", check(shard, call)),
        "List" => rt::spawn_call("Health/List", list(shard, call)),
        "Watch" => rt::spawn_call("Health/Watch", watch(shard, call)),
        method => refuse(
            refusing,
            call,
            unknown_method("grpc.health.v1.Health", method),
        ),
    }
}

async fn check(shard: Rc<Shard>, call: Call) {
    let (mut reader, responder) = call.into_parts();
    let result = reader.only_message().await;
    responder.unary(result.and_then(|message| health::check(&message, !shard.is_draining())));
}

async fn list(shard: Rc<Shard>, call: Call) {
    let (mut reader, responder) = call.into_parts();
    let result = reader.only_message().await;
    responder.unary(result.map(|_| health::list(!shard.is_draining())));
}

/// Tells the state once and again when it changes, which it does once: at the drain.
async fn watch(shard: Rc<Shard>, call: Call) {
    let (mut reader, responder) = call.into_parts();
    let message = match reader.only_message().await {
        Ok(message) => message,
        Err(status) => return responder.refuse(status),
    };
    let Ok(mut stream) = responder.start() else {
        return;
    };
    let shutdown = shard.watch_shutdown();
    if send(
        &mut stream,
        &health::watched(&message, !shard.is_draining()),
    )
    .await
    .is_err()
    {
        return;
    }
    let gone = std::future::poll_fn(|cx| {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(true);
        }
        shutdown.poll(cx).map(|()| false)
    })
    .await;
    if !gone
        && send(&mut stream, &health::watched(&message, false))
            .await
            .is_ok()
    {
        stream.finish(Refusal::ShuttingDown.into());
    }
}

pub(super) fn reflection(
    shard: &Rc<Shard>,
    gate: Gate,
    reflection: Rc<Reflection>,
    service: &str,
    method: &str,
    call: Call,
) {
    if method == "ServerReflectionInfo" {
        let stream = reflect(shard.clone(), gate, reflection, call);
        rt::spawn(Queue::Background, "ServerReflectionInfo", stream);
    } else {
        refuse(shard, call, unknown_method(service, method));
    }
}

async fn reflect(shard: Rc<Shard>, mut gate: Gate, reflection: Rc<Reflection>, call: Call) {
    let shutdown = shard.watch_shutdown();
    let (mut reader, responder) = call.into_parts();
    let Ok(mut stream) = responder.start() else {
        return;
    };
    let status = loop {
        let next = std::future::poll_fn(|cx| {
            if shutdown.poll(cx).is_ready() {
                return Poll::Ready(Err(Refusal::ShuttingDown.into()));
            }
            if let Poll::Ready(refusal) = gate.poll_closed(cx, |_| Ok(())) {
                return Poll::Ready(Err(ended(&shard, refusal)));
            }
            poll_next(&mut reader, &mut stream, cx)
        })
        .await;
        match next {
            Ok(Some(message)) => {
                let answer = reflection.answer(&message);
                if send(&mut stream, &answer).await.is_err() {
                    return;
                }
            }
            Ok(None) => break Status::new(Code::Ok, ""),
            Err(status) => break status,
        }
    };
    stream.finish(status);
}

fn poll_next(
    reader: &mut MessageReader,
    stream: &mut ResponseStream,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<Option<Bytes>, Status>> {
    if let Poll::Ready(message) = reader.poll_message(cx) {
        return Poll::Ready(message);
    }
    // A client that has gone shows in the reader too; this is for its half-closed remains.
    stream.poll_reset(cx).map(|()| Ok(None))
}

async fn send(stream: &mut ResponseStream, message: &[u8]) -> Result<(), ()> {
    let mut framed = BytesMut::new();
    framing::frame(message, &mut framed);
    stream.send_all(framed.freeze()).await.map_err(|_| ())
}
