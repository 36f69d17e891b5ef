//! A look at one channel: `/api/monitor`, which is also `/v1/stats/attach`.
//!
//! As a socket it does what it is told: `start`, `stop`. As server-sent events it starts at once.
//! Nothing is consumed, nothing waits; who is too slow is told how much it has missed.

mod shown;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;

use super::super::body::Body;
use super::super::exchange::{Exchange, Response};
use super::super::websocket::{Slice, WebSocket};
use super::events::{self, Sent};
use super::turns::{self, Source, Turn};
use super::{json, no_socket, refused};
use crate::model::Kind;
use crate::model::name::check_channel;
use crate::shard::{Shard, Tap, TapEvent};

/// What is watched, and for whom it is written.
struct Watched {
    shard: Rc<Shard>,
    host: Arc<str>,
    kind: Kind,
    channel: String,
}

pub(super) async fn handle(exchange: Exchange) -> Response {
    let Some(watched) = watched(&exchange) else {
        // What the reference says to a kind or a channel that there is not.
        return json(StatusCode::OK, Body::empty());
    };
    if let Some(refusal) = no_socket(&exchange, true) {
        return refusal;
    }
    if !events::are_wanted(&exchange) {
        return exchange.upgrade(move |socket| serve(socket, watched));
    }
    match watched.shard.tap(watched.kind, &watched.channel).await {
        Ok(tap) => events::respond(&exchange.context, move |cx| {
            tap.poll(cx).map(|event| match event {
                TapEvent::Passed(tapped) => Some(Sent {
                    data: shown::text(&tapped, false),
                    ..Sent::default()
                }),
                TapEvent::Dropped(count) => Some(Sent {
                    name: Some("dropped"),
                    data: shown::dropped(count),
                    ..Sent::default()
                }),
                TapEvent::Ended => None,
            })
        }),
        Err(refusal) => refused(&refusal.to_string()),
    }
}

fn watched(exchange: &Exchange) -> Option<Watched> {
    let kind = match &*exchange.query("kind")? {
        "events" => Kind::Events,
        "events_store" => Kind::EventsStore,
        "commands" => Kind::Commands,
        "queries" => Kind::Queries,
        // Singular here, and only here.
        "queue" => Kind::Queues,
        _ => return None,
    };
    let channel = exchange.query("channel")?.into_owned();
    check_channel(&channel).is_ok().then(|| Watched {
        shard: exchange.context.shard.clone(),
        host: exchange.context.process.host.clone(),
        kind,
        channel,
    })
}

/// The tap of a socket, while it is started.
#[derive(Default)]
struct Looking(Option<Tap>);

impl Source for Looking {
    type Event = TapEvent;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TapEvent> {
        match &self.0 {
            Some(tap) => tap.poll(cx),
            None => Poll::Pending,
        }
    }
}

async fn serve(mut socket: WebSocket, watched: Watched) {
    let (mut looking, mut slice) = (Looking::default(), Slice::default());
    loop {
        match turns::next(&mut socket, &mut slice, &mut looking).await {
            Turn::Heard(command) => {
                let answer = obey(&mut looking, &watched, command.trim()).await;
                turns::send(&mut socket, &mut slice, answer);
            }
            Turn::Happened(TapEvent::Passed(tapped)) => {
                turns::send(&mut socket, &mut slice, shown::text(&tapped, true));
            }
            Turn::Happened(TapEvent::Dropped(count)) => {
                turns::send(&mut socket, &mut slice, shown::dropped(count));
            }
            Turn::Happened(TapEvent::Ended) | Turn::Leaving | Turn::Gone => break,
        }
    }
    drop(looking);
    socket
        .close(turns::GOING_AWAY, "the broker is shutting down")
        .await;
}

async fn obey(looking: &mut Looking, watched: &Watched, command: &str) -> String {
    match command {
        "start" => {
            if looking.0.is_none() {
                match watched.shard.tap(watched.kind, &watched.channel).await {
                    Ok(tap) => looking.0 = Some(tap),
                    Err(refusal) => return format!("Broker not connected: {refusal}."),
                }
            }
            format!("{} Broker connected.", watched.host)
        }
        "stop" => {
            looking.0 = None;
            "Broker disconnected.".to_owned()
        }
        _ => "Unknown command".to_owned(),
    }
}
