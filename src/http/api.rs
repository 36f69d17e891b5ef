//! The management port: health, configuration, actions, and looks at what goes on.
//!
//! ```text
//!  access ─► route ─┬─ health, settings, pages          what the broker says of itself
//!                   ├─ login                           sessions of browsers
//!                   ├─ actions        POST /api/request  one call of the service each
//!                   ├─ monitor        sockets, events    taps of the shards
//!                   ├─ subscribe      sockets, events    subscriptions of the service
//!                   ├─ stream         socket             one queue message at a time
//!                   └─ stats, snapshot, metrics          what is counted
//! ```
//!
//! Everything that changes something is a call of the same service that gRPC asks: the rules, the
//! texts and the counters are the same. `docs/management.md` is the reader's view.

mod access;
mod actions;
mod events;
mod health;
mod input;
mod login;
mod monitor;
mod pages;
mod session;
mod settings;
mod show;
pub(super) mod standing;
mod stream;
mod subscribe;
mod time;
pub(super) mod turns;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::exchange::{Exchange, Response, text};
use crate::security::{Action, Resource};
use crate::wire::local::LocalClient;

/// Who every call of this port is made as, unless who asks has an id of its own.
const CLIENT_ID: &str = "kubemq-web-client";

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// Answers a request of the management port.
pub(super) async fn handle(mut exchange: Exchange) -> Response {
    let admitted = match access::check(&mut exchange) {
        Ok(admitted) => admitted,
        Err(refusal) => return *refusal,
    };
    if exchange.head.method == Method::OPTIONS {
        return admitted.preflight();
    }
    let response = Box::pin(route(exchange)).await;
    admitted.mark(response)
}

/// What a path is asked with.
const GET: &str = "OPTIONS, GET";
const POST: &str = "OPTIONS, POST";

async fn route(exchange: Exchange) -> Response {
    let method = &exchange.head.method;
    let path = exchange.path();
    if let Some(allowed) = allowed(path)
        && !allowed.contains(method)
    {
        let reads = allowed.contains(&Method::GET);
        return not_allowed(if reads { GET } else { POST });
    }
    if shows_broker(path) && !may_look(&exchange) {
        return access::denied();
    }
    if (shows_broker(path) || path == access::LOGIN)
        && let Err(refusal) = access::admit(&exchange)
    {
        return *refusal;
    }
    answer(exchange).await
}

/// The methods of a path that takes only these.
fn allowed(path: &str) -> Option<&'static [Method]> {
    const READS: &[Method] = &[Method::GET, Method::HEAD];
    const ACTS: &[Method] = &[Method::POST];
    match path {
        "/api/request" | access::LOGIN | "/api/logout" => Some(ACTS),
        "/health"
        | "/ready"
        | "/config"
        | "/api/config"
        | "/metrics"
        | "/api/snapshot"
        | "/api/connection"
        | "/api/monitor"
        | "/v1/stats/attach"
        | "/api/subscribe/pubsub"
        | "/api/subscribe/cqrs"
        | "/api/stream_queue_messages"
        | "/api/session" => Some(READS),
        _ => None,
    }
}

async fn answer(exchange: Exchange) -> Response {
    let method = &exchange.head.method;
    let reads = method == Method::GET || method == Method::HEAD;
    let path = exchange.path().to_owned();
    match &*path {
        "/api/request" => actions::handle(exchange).await,
        access::LOGIN => login::log_in(exchange).await,
        "/api/logout" => login::log_out(&exchange),
        "/api/session" => login::show(&exchange),
        "/health" => health::health(&exchange).await,
        "/ready" => health::ready(&exchange).await,
        "/config" | "/api/config" => settings::show(&exchange),
        "/api/monitor" | "/v1/stats/attach" => monitor::handle(exchange).await,
        "/api/subscribe/pubsub" => subscribe::pubsub(exchange).await,
        "/api/subscribe/cqrs" => subscribe::cqrs(exchange).await,
        "/api/stream_queue_messages" => stream::handle(exchange),
        "/metrics" => super::metrics::handle(exchange).await,
        "/api/snapshot" => super::snapshot::handle(exchange).await,
        "/api/connection" => super::snapshot::connection(exchange).await,
        path if path.starts_with("/v1/stats/") => super::stats::handle(exchange).await,
        path if reads => pages::handle(path, &exchange),
        _ => not_found(),
    }
}

/// Whether a path shows what concerns all channels, or none.
fn shows_broker(path: &str) -> bool {
    let paths = ["/config", "/api/config", "/api/snapshot", "/api/connection"];
    paths.contains(&path) || path.starts_with("/v1/stats/") && path != "/v1/stats/attach"
}

/// Every channel: a rule for some of them does not cover what shows all.
pub(super) const ALL: &str = ">";

fn may_look(exchange: &Exchange) -> bool {
    access::authorise(exchange, Resource::Management, Action::Read, ALL).is_ok()
}

/// Who makes calls of the service by this port.
struct Asker {
    client: LocalClient,
    client_id: String,
}

impl Asker {
    fn of(exchange: &Exchange) -> Self {
        Self {
            client: exchange.client(),
            client_id: access::client_id(exchange),
        }
    }
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "code=404, message=Not Found")
}

fn not_allowed(allowed: &'static str) -> Response {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "code=405, message=Method Not Allowed",
    );
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// What a path says that is only a socket, or a stream of events.
fn no_socket(exchange: &Exchange, as_events: bool) -> Option<Response> {
    if exchange.wants_upgrade() || (as_events && events::are_wanted(exchange)) {
        return None;
    }
    let hint = match as_events {
        true => "open it as a WebSocket, or ask with `Accept: text/event-stream`",
        false => "open it as a WebSocket",
    };
    let message = format!("code=400, message=Bad Request: {hint}");
    Some(text(StatusCode::BAD_REQUEST, message))
}

/// The envelope of actions and refusals; its status is 200 in any case.
#[derive(Serialize)]
struct Envelope<'a, D> {
    error: bool,
    error_string: &'a str,
    data: Option<D>,
}

/// What an action came to, as clients read it.
fn envelope<D: Serialize>(outcome: Result<Option<D>, &str>) -> Vec<u8> {
    let envelope = match outcome {
        Ok(data) => Envelope {
            error: false,
            error_string: "",
            data,
        },
        Err(error_string) => Envelope {
            error: true,
            error_string,
            data: None,
        },
    };
    // Serialisation of what is made here cannot fail: its keys are texts.
    let mut json = serde_json::to_vec(&envelope).unwrap_or_default();
    json.push(b'\n');
    json
}

fn json(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A refusal of an action or of a socket.
fn refused(error: &str) -> Response {
    let body = envelope::<()>(Err(error));
    json(StatusCode::OK, Body::full(body))
}
