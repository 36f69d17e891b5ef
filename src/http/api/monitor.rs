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
use super::standing::Standing;
use super::turns::{self, Source, Turn};
use super::{access, json, no_socket, refused};
use crate::model::Kind;
use crate::model::name::check_channel;
use crate::security::{Action, Resource};
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
    let looks_at = [Resource::Management, Resource::Messages(watched.kind)];
    let looks_at = looks_at.map(|resource| (resource, watched.channel.clone()));
    let may = |(resource, channel): &(Resource, String)| {
        access::authorise(&exchange, *resource, Action::Read, channel).is_ok()
    };
    if !looks_at.iter().all(may) {
        return access::denied();
    }
    let mut standing = Standing::of(&exchange, looks_at.into());
    if !events::are_wanted(&exchange) {
        return exchange.upgrade(move |socket| serve(socket, watched, standing));
    }
    match watched.shard.tap(watched.kind, &watched.channel).await {
        Ok(tap) => events::respond(&exchange.context, move |cx| {
            if standing.poll(cx).is_ready() {
                return Poll::Ready(None);
            }
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
struct Looking {
    tap: Option<Tap>,
    standing: Standing,
}

impl Source for Looking {
    type Event = TapEvent;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TapEvent> {
        match &self.tap {
            Some(tap) => tap.poll(cx),
            None => Poll::Pending,
        }
    }

    fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }
}

async fn serve(mut socket: WebSocket, watched: Watched, standing: Standing) {
    let tap = None;
    let (mut looking, mut slice) = (Looking { tap, standing }, Slice::default());
    let (code, reason) = loop {
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
            Turn::Happened(TapEvent::Ended) | Turn::Leaving | Turn::Gone => {
                break turns::SHUTTING_DOWN;
            }
            Turn::Dismissed => break turns::DISMISSED,
        }
    };
    drop(looking);
    socket.close(code, reason).await;
}

async fn obey(looking: &mut Looking, watched: &Watched, command: &str) -> String {
    match command {
        "start" => {
            if looking.tap.is_none() {
                match watched.shard.tap(watched.kind, &watched.channel).await {
                    Ok(tap) => looking.tap = Some(tap),
                    Err(refusal) => return format!("Broker not connected: {refusal}."),
                }
            }
            format!("{} Broker connected.", watched.host)
        }
        "stop" => {
            looking.tap = None;
            "Broker disconnected.".to_owned()
        }
        _ => "Unknown command".to_owned(),
    }
}
