//! Subscriptions for pages: `/api/subscribe/pubsub` and `/api/subscribe/cqrs`, as sockets and as
//! server-sent events.
//!
//! The subscription is made before the socket opens, so that a refusal is an answer of HTTP. A
//! position in stored events moves when the other side's WebSocket has answered a ping behind
//! them. Server-sent events have no such sign: there it moves when they have left for the socket.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::{kubemq, method};

use super::super::exchange::{Exchange, Response};
use super::super::websocket::{Slice, WebSocket};
use super::events::{self, Sent};
use super::standing::Standing;
use super::turns::{self, Source, Turn};
use super::{access, envelope, no_socket, refused, show, time};
use crate::rt;
use crate::security::{Action, Resource};
use crate::wire::Status;
use crate::wire::local::{LocalCall, LocalClient};
use crate::wire::server::ConnectionControl;
use kubemq::subscribe::{EventsStoreType, SubscribeType};

/// What a subscription brings.
#[derive(Clone, Copy, Debug)]
enum Brings {
    Events,
    Requests,
}

pub(super) async fn pubsub(exchange: Exchange) -> Response {
    let subscribe = match events_wanted(&exchange) {
        Ok(subscribe) => subscribe,
        Err(error) => return refused(&error),
    };
    open(
        exchange,
        method::SUBSCRIBE_TO_EVENTS,
        &subscribe,
        Brings::Events,
    )
    .await
}

pub(super) async fn cqrs(exchange: Exchange) -> Response {
    let subscribe_type = match &*exchange.query("subscribe_type").unwrap_or_default() {
        "commands" => SubscribeType::Commands,
        "queries" => SubscribeType::Queries,
        unknown => return refused(&format!("unknown subscribe type: {unknown}")),
    };
    let subscribe = subscribe(&exchange, subscribe_type);
    let method = method::SUBSCRIBE_TO_REQUESTS;
    open(exchange, method, &subscribe, Brings::Requests).await
}

fn subscribe(exchange: &Exchange, subscribe_type: SubscribeType) -> kubemq::Subscribe {
    let parameter = |name| exchange.query(name).unwrap_or_default().into_owned();
    let client_id = match parameter("client_id") {
        // A position belongs to a client: stored events have no common one.
        none if none.is_empty() && subscribe_type != SubscribeType::EventsStore => {
            access::client_id(exchange)
        }
        given => given,
    };
    kubemq::Subscribe {
        subscribe_type_data: subscribe_type.into(),
        client_id,
        channel: parameter("channel"),
        group: parameter("group"),
        ..kubemq::Subscribe::default()
    }
}

fn events_wanted(exchange: &Exchange) -> Result<kubemq::Subscribe, String> {
    match &*exchange.query("subscribe_type").unwrap_or_default() {
        "events" => Ok(subscribe(exchange, SubscribeType::Events)),
        "events_store" => {
            let mut subscribe = subscribe(exchange, SubscribeType::EventsStore);
            let kind = exchange.query("events_store_type_data").unwrap_or_default();
            let value = exchange.query("events_store_type_value");
            let (kind, value) = start(&kind, &value.unwrap_or_default())?;
            subscribe.events_store_type_data = kind.into();
            subscribe.events_store_type_value = value;
            if let Some(last) = last_event(exchange) {
                // A reader of server-sent events comes back for what follows.
                let kind = EventsStoreType::StartAtSequence;
                subscribe.events_store_type_data = kind.into();
                subscribe.events_store_type_value = last.saturating_add(1);
            }
            Ok(subscribe)
        }
        unknown => Err(format!("unknown subscribe type: {unknown}")),
    }
}

fn last_event(exchange: &Exchange) -> Option<i64> {
    events::are_wanted(exchange).then_some(())?;
    exchange.header("last-event-id")?.parse().ok()
}

/// Where stored events begin. A time is written as RFC 3339 has it.
fn start(kind: &str, value: &str) -> Result<(EventsStoreType, i64), String> {
    let number = |what: &str| {
        let parsed = value.parse::<i64>();
        parsed.map_err(|error| format!("error parsing {what} value, error: {error}"))
    };
    Ok(match kind {
        "1" => (EventsStoreType::StartNewOnly, 0),
        "2" => (EventsStoreType::StartFromFirst, 0),
        "3" => (EventsStoreType::StartFromLast, 0),
        "4" => (EventsStoreType::StartAtSequence, number("sequence")?),
        "5" => {
            let at = time::parse_rfc3339(value).ok_or_else(|| {
                format!("error parsing time value, error: {value:?} is no time as RFC 3339 has it")
            })?;
            (EventsStoreType::StartAtTime, at)
        }
        "6" => (EventsStoreType::StartAtTimeDelta, number("time delta")?),
        _ => {
            let known = "invalid subscription type, valid values are 1,2,3,4,5,6";
            return Err(known.to_owned());
        }
    })
}

async fn open(
    exchange: Exchange,
    method: &'static str,
    subscribe: &kubemq::Subscribe,
    brings: Brings,
) -> Response {
    if let Some(refusal) = no_socket(&exchange, true) {
        return refusal;
    }
    let (looks_at, channel) = (Resource::Management, subscribe.channel.clone());
    if access::authorise(&exchange, looks_at, Action::Read, &channel).is_err() {
        return access::denied();
    }
    let standing = Standing::of(&exchange, vec![(looks_at, channel)]);
    let as_events = events::are_wanted(&exchange);
    let client = match as_events {
        true => client_of_its_own(&exchange),
        false => exchange.client(),
    };
    let mut call = client.call(method);
    call.send(subscribe.encode_to_vec().into());
    call.end();
    if let Err(status) = call.headers().await {
        return refused(status.message());
    }
    if as_events {
        let control = client.control().clone();
        let mut feed = Feed {
            call,
            control,
            brings,
            standing,
            ended: false,
        };
        return events::respond(&exchange.context, move |cx| feed.next(cx));
    }
    exchange.upgrade(move |socket| {
        let subscribed = Subscribed {
            call,
            brings,
            standing,
        };
        serve(socket, subscribed)
    })
}

/// A client whose signs of life are given by the stream of events and not by its connection.
fn client_of_its_own(exchange: &Exchange) -> LocalClient {
    let context = &exchange.context;
    let certificate = exchange.client.certificate().cloned();
    let mut client = context.client(exchange.peer, certificate, ConnectionControl::new());
    if let Some(caller) = &exchange.caller {
        caller.speaks(&mut client);
    }
    client
}

/// A message as a page gets it, and its number in the channel.
fn shown(brings: Brings, message: Bytes) -> (String, Option<u64>) {
    // What the broker has encoded itself can be decoded.
    match brings {
        Brings::Events => {
            let event = kubemq::EventReceive::decode(message).unwrap_or_default();
            let event = show::Event::new(event);
            let id = Some(event.sequence()).filter(|sequence| *sequence > 0);
            (serde_json::to_string(&event).unwrap_or_default(), id)
        }
        Brings::Requests => {
            let request = kubemq::Request::decode(message).unwrap_or_default();
            let request = show::Request::new(request, rt::unix_ns());
            (serde_json::to_string(&request).unwrap_or_default(), None)
        }
    }
}

fn end_text(status: &Status) -> String {
    let text = envelope::<()>(Err(status.message()));
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// A subscription whose messages go out as server-sent events.
struct Feed {
    call: LocalCall,
    control: ConnectionControl,
    brings: Brings,
    standing: Standing,
    ended: bool,
}

impl Feed {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        if self.ended || self.standing.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // Whoever asks for the next one has taken the last.
        self.call.written();
        while self.control.asked().poll(cx).is_ready() {
            while self.control.wants_ping() {
                self.control.ping_was_sent();
                self.control.ping_was_answered();
            }
        }
        let message = ready!(self.call.poll_message(cx));
        Poll::Ready(match message {
            Ok(Some(message)) => {
                let (data, id) = shown(self.brings, message);
                let name = None;
                Some(Sent { name, id, data })
            }
            Ok(None) => None,
            Err(status) => {
                self.ended = true;
                Some(Sent {
                    name: Some("end"),
                    id: None,
                    data: end_text(&status),
                })
            }
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.control.mark_ended();
    }
}

/// A subscription whose messages go out by a socket.
struct Subscribed {
    call: LocalCall,
    brings: Brings,
    standing: Standing,
}

impl Source for Subscribed {
    type Event = Result<Option<Bytes>, Status>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Event> {
        self.call.poll_message(cx)
    }

    fn flushed(&mut self) {
        if self.call.unwritten() > 0 {
            self.call.written();
        }
    }

    fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }
}

/// The subscription is over, or the broker ends.
const ENDED: turns::Farewell = (1001, "the subscription has ended");

async fn serve(mut socket: WebSocket, mut subscribed: Subscribed) {
    let mut slice = Slice::default();
    let (code, reason) = loop {
        match turns::next(&mut socket, &mut slice, &mut subscribed).await {
            // A page has nothing to say here.
            Turn::Heard(_) => {}
            Turn::Happened(Ok(Some(message))) => {
                let (text, _) = shown(subscribed.brings, message);
                turns::send(&mut socket, &mut slice, text);
            }
            Turn::Happened(Err(status)) => {
                turns::send(&mut socket, &mut slice, end_text(&status));
                break ENDED;
            }
            Turn::Happened(Ok(None)) | Turn::Leaving | Turn::Gone => break ENDED,
            Turn::Dismissed => break turns::DISMISSED,
        }
    };
    drop(subscribed);
    socket.close(code, reason).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_its_value() {
        let at = |kind, value| start(kind, value).map(|(kind, value)| (kind as i32, value));
        assert_eq!(at("1", "7"), Ok((1, 0)));
        assert_eq!(at("4", "7"), Ok((4, 7)));
        assert_eq!(at("5", "1970-01-01T00:00:01Z"), Ok((5, 1_000_000_000)));
        assert_eq!(at("6", "30"), Ok((6, 30)));
        for kind in ["", "0", "7", "x"] {
            let error = at(kind, "").unwrap_err();
            assert_eq!(
                error,
                "invalid subscription type, valid values are 1,2,3,4,5,6"
            );
        }
        let error = at("5", "zzz").unwrap_err();
        assert!(
            error.starts_with("error parsing time value, error: "),
            "{error}"
        );
        assert!(at("4", "x").is_err());
    }
}
