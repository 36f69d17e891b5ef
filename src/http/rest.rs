//! REST: one route for each call of the contract that has one message each way.
//!
//! A route reads its message from JSON, makes the call of the contract inside the process, and
//! wraps the answer. What the call refuses with becomes the text of a failure: every rule and
//! every text is the service's own. What differs from gRPC is listed in `docs/rest.md`.

mod calls;
mod cors;
mod message;

use http::header::{ALLOW, HeaderName, VARY, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, AckAllQueueMessagesResponse, Event, QueueMessage,
    QueueMessagesBatchRequest, QueueMessagesBatchResponse, QueuesInfoRequest, QueuesInfoResponse,
    Request, Response as RequestResponse, Result as EventResult, SendQueueMessageResult,
};
use ringmq_proto::method;

use super::body::Body;
use super::caller::{Caller, Unrecognised};
use super::context::Context;
use super::exchange::{Exchange, Response, text};
use super::{envelope, openapi, sockets};
use crate::security::Unauthenticated;

use cors::{Asked, Cors};
pub(super) use message::of_status;

const BROKER: HeaderName = HeaderName::from_static("broker");
const POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("RingMQ ", env!("CARGO_PKG_VERSION")));

const FOREIGN_ORIGIN: &str = "the origin of the page that opens this socket is not allowed: add it \
    to rest.cors.allow_origins";

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Root,
    Ping,
    OpenApi,
    SendEvent,
    SendRequest,
    SendResponse,
    QueueSend,
    QueueSendBatch,
    QueueReceive,
    QueueAckAll,
    QueueInfo,
    Socket(Socket),
}

/// The routes that lead to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    SendStream,
    SubscribeEvents,
    SubscribeRequests,
    QueueStream,
    QueueUpstream,
    QueueDownstream,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Root,
            "/ping" => Self::Ping,
            "/openapi.json" => Self::OpenApi,
            "/send/event" => Self::SendEvent,
            "/send/request" => Self::SendRequest,
            "/send/response" => Self::SendResponse,
            "/queue/send" => Self::QueueSend,
            "/queue/send_batch" => Self::QueueSendBatch,
            "/queue/receive" => Self::QueueReceive,
            "/queue/ack_all" => Self::QueueAckAll,
            "/queue/info" => Self::QueueInfo,
            "/send/stream" => Self::Socket(Socket::SendStream),
            "/subscribe/events" => Self::Socket(Socket::SubscribeEvents),
            "/subscribe/requests" => Self::Socket(Socket::SubscribeRequests),
            "/queue/stream" => Self::Socket(Socket::QueueStream),
            "/queue/upstream" => Self::Socket(Socket::QueueUpstream),
            "/queue/downstream" => Self::Socket(Socket::QueueDownstream),
            _ => return None,
        })
    }

    const fn is_posted(self) -> bool {
        matches!(
            self,
            Self::SendEvent
                | Self::SendRequest
                | Self::SendResponse
                | Self::QueueSend
                | Self::QueueSendBatch
                | Self::QueueReceive
                | Self::QueueAckAll
        )
    }

    /// What may be read may also be asked for without its body, but a socket has none.
    fn takes(self, method: &Method) -> bool {
        if self.is_posted() {
            return method == Method::POST;
        }
        method == Method::GET || (method == Method::HEAD && !matches!(self, Self::Socket(_)))
    }

    /// The methods, as `Allow` lists them.
    const fn allowed(self) -> HeaderValue {
        HeaderValue::from_static(if self.is_posted() {
            "OPTIONS, POST"
        } else {
            "OPTIONS, GET"
        })
    }
}

/// Answers a request of the REST port.
pub(super) async fn handle(exchange: Exchange) -> Response {
    let context = exchange.context.clone();
    let asked = Asked::of(&exchange);
    let route = Route::of(exchange.path());
    let mut response = if exchange.head.method == Method::OPTIONS {
        preflight(route)
    } else if let Err(reached) = exchange.may_show(exchange.bearer()) {
        // Its address has shown too often what is not taken.
        envelope::limited(&reached)
    } else {
        match exchange.recognise() {
            Ok(caller) => routed(route, exchange, caller).await,
            Err(unrecognised) => turned_away(&exchange, &unrecognised),
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        sign(&context, &mut response);
        Cors::new(&context.config.rest.cors).apply(&asked, response.headers_mut());
    }
    response
}

/// Answers somebody who may ask.
async fn routed(route: Option<Route>, mut exchange: Exchange, caller: Caller) -> Response {
    exchange.caller = Some(caller);
    match route {
        None => envelope::unrouted(StatusCode::NOT_FOUND),
        Some(route) if route.takes(&exchange.head.method) => answer(route, exchange).await,
        Some(route) => {
            let mut response = envelope::unrouted(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, route.allowed());
            response
        }
    }
}

/// Answers somebody who was not recognised, whatever it asked for.
fn turned_away(exchange: &Exchange, unrecognised: &Unrecognised) -> Response {
    let text = match unrecognised {
        Unrecognised::Header => "invalid authentication header",
        Unrecognised::Refused(Unauthenticated(text)) => text,
    };
    if matches!(unrecognised, Unrecognised::Refused(_)) {
        let security = &exchange.context.security;
        security.note_refused(exchange.peer.ip());
    }
    exchange.note_unrecognised("rest", text);
    let body = Body::full(envelope::failure(text));
    let mut response = envelope::response(StatusCode::UNAUTHORIZED, body);
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

/// What a page of another origin asks beforehand: it gets its answer in the headers.
fn preflight(route: Option<Route>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(route) = route {
        response.headers_mut().insert(ALLOW, route.allowed());
    }
    response
}

/// Headers of all responses.
fn sign(context: &Context, response: &mut Response) {
    let headers = response.headers_mut();
    if let Ok(machine) = HeaderValue::from_str(&context.process.machine) {
        headers.insert(BROKER, machine);
    }
    headers.insert(POWERED_BY, PRODUCT);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

async fn answer(route: Route, exchange: Exchange) -> Response {
    match route {
        Route::Root => text(StatusCode::OK, "hi"),
        Route::Ping => calls::ping(&exchange).await,
        Route::OpenApi => openapi::response(),
        Route::SendEvent => calls::unary::<Event, EventResult>(exchange, method::SEND_EVENT).await,
        Route::SendRequest => {
            calls::unary::<Request, RequestResponse>(exchange, method::SEND_REQUEST).await
        }
        Route::SendResponse => calls::send_response(exchange).await,
        Route::QueueSend => {
            let method = method::SEND_QUEUE_MESSAGE;
            calls::unary::<QueueMessage, SendQueueMessageResult>(exchange, method).await
        }
        Route::QueueSendBatch => {
            let method = method::SEND_QUEUE_MESSAGES_BATCH;
            calls::unary::<QueueMessagesBatchRequest, QueueMessagesBatchResponse>(exchange, method)
                .await
        }
        Route::QueueReceive => calls::receive(exchange).await,
        Route::QueueAckAll => {
            let method = method::ACK_ALL_QUEUE_MESSAGES;
            calls::unary::<AckAllQueueMessagesRequest, AckAllQueueMessagesResponse>(
                exchange, method,
            )
            .await
        }
        Route::QueueInfo => {
            let method = method::QUEUES_INFO;
            calls::unary::<QueuesInfoRequest, QueuesInfoResponse>(exchange, method).await
        }
        Route::Socket(socket) => open(socket, exchange).await,
    }
}

/// Opens a socket, unless a page asks for it that may not. Browsers ask nobody before they open
/// one, and keep no answer from a page: what else the rules for pages do, is done here.
async fn open(socket: Socket, exchange: Exchange) -> Response {
    let rules = &exchange.context.config.rest.cors;
    if !Cors::new(rules).admits(&Asked::of(&exchange), exchange.header("host")) {
        let body = Body::full(envelope::failure(FOREIGN_ORIGIN));
        return envelope::response(StatusCode::FORBIDDEN, body);
    }
    match socket {
        Socket::SendStream => sockets::send_stream(exchange).await,
        Socket::SubscribeEvents => sockets::subscribe_events(exchange).await,
        Socket::SubscribeRequests => sockets::subscribe_requests(exchange).await,
        Socket::QueueStream => sockets::queue_stream(exchange).await,
        Socket::QueueUpstream => sockets::queue_upstream(exchange).await,
        Socket::QueueDownstream => sockets::queue_downstream(exchange).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_takes_the_methods_that_it_names() {
        let posted = ["/send/event", "/queue/receive", "/queue/ack_all"];
        for path in posted {
            let route = Route::of(path).unwrap();
            assert!(route.takes(&Method::POST), "{path}");
            assert!(
                !route.takes(&Method::GET) && !route.takes(&Method::HEAD),
                "{path}"
            );
            assert_eq!(route.allowed(), "OPTIONS, POST");
        }
        for path in ["/", "/ping", "/openapi.json", "/queue/info"] {
            let route = Route::of(path).unwrap();
            assert!(
                route.takes(&Method::GET) && route.takes(&Method::HEAD),
                "{path}"
            );
            assert!(!route.takes(&Method::POST), "{path}");
            assert_eq!(route.allowed(), "OPTIONS, GET");
        }
        let socket = Route::of("/send/stream").unwrap();
        assert!(socket.takes(&Method::GET) && !socket.takes(&Method::HEAD));
    }

    #[test]
    fn paths_match_to_the_letter() {
        for path in ["", "/nosuch", "/ping/", "/Ping", "/send", "/queue/peek"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
