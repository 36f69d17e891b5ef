//! The WebSockets of the REST port: one call of the contract behind each, one JSON text for each
//! of its messages.
//!
//! ```text
//!   frames of the client ──► JSON ──► LocalCall::send      held back while the service is behind
//!   frames to the client ◄── JSON ◄── LocalCall::message   held back while the client is behind
//!                                  LocalCall::written      when they have left in full
//! ```
//!
//! No rule of the patterns is here. A subscription is made before the socket is opened, so what is
//! wrong with it is the text of an ordinary answer. What the client still holds when it goes comes
//! back the way that the contract says: a close frame ends the call in order, a connection that is
//! lost breaks it off.

mod publish;
mod pump;
mod queues;
mod subscription;
mod turned;

use http::HeaderValue;
use prost::Message as _;
use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::method;

use super::exchange::{Exchange, Response};
use super::rest::of_status;
use super::websocket::accept;
use crate::wire::local::LocalCall;

use pump::Dialogue;

/// Asks the publish stream for a result of each event, also of plain ones that were taken.
const RESULTS: (&str, HeaderValue) = ("ringmq-results", HeaderValue::from_static("all"));

/// `/send/stream`: events in, results out.
pub(super) async fn send_stream(exchange: Exchange) -> Response {
    let mut client = exchange.client();
    client.add_metadata(RESULTS.0, RESULTS.1);
    let open = || client.call(method::SEND_EVENTS_STREAM);
    serve::<publish::Events>(exchange, open).await
}

/// `/subscribe/events`: events out, plain or stored.
pub(super) async fn subscribe_events(exchange: Exchange) -> Response {
    let subscribe = subscription::parse(|name| exchange.query(name));
    let client = exchange.client();
    let open = || subscribed(client.call(method::SUBSCRIBE_TO_EVENTS), &subscribe);
    serve::<subscription::Events>(exchange, open).await
}

/// `/subscribe/requests`: commands or queries out; they are answered by `POST /send/response`.
pub(super) async fn subscribe_requests(exchange: Exchange) -> Response {
    let subscribe = subscription::parse(|name| exchange.query(name));
    let client = exchange.client();
    let open = || subscribed(client.call(method::SUBSCRIBE_TO_REQUESTS), &subscribe);
    serve::<subscription::Requests>(exchange, open).await
}

/// `/queue/stream`: one message of a queue, received and then settled.
pub(super) async fn queue_stream(exchange: Exchange) -> Response {
    let client = exchange.client();
    let open = || client.call(method::STREAM_QUEUE_MESSAGE);
    serve::<queues::OneMessage>(exchange, open).await
}

/// `/queue/upstream`: messages of queues in, results out.
pub(super) async fn queue_upstream(exchange: Exchange) -> Response {
    let client = exchange.client();
    let open = || client.call(method::QUEUES_UPSTREAM);
    serve::<queues::Upstream>(exchange, open).await
}

/// `/queue/downstream`: messages of queues out, in transactions that the client settles.
pub(super) async fn queue_downstream(exchange: Exchange) -> Response {
    let client = exchange.client();
    let open = || client.call(method::QUEUES_DOWNSTREAM);
    serve::<queues::Downstream>(exchange, open).await
}

/// A call that brings one message: what to subscribe to.
fn subscribed(mut call: LocalCall, subscribe: &Subscribe) -> LocalCall {
    call.send(subscribe.encode_to_vec().into());
    call.end();
    call
}

/// Opens the call, and once it is accepted the socket.
async fn serve<D: Dialogue>(exchange: Exchange, open: impl FnOnce() -> LocalCall) -> Response {
    // Whoever wants no socket shall not have subscribed.
    if let Err(refusal) = accept(&exchange.head) {
        return refusal.response();
    }
    let mut call = open();
    if let Err(status) = call.headers().await {
        return of_status(&status);
    }
    exchange.upgrade(move |socket| pump::run::<D>(socket, call))
}
