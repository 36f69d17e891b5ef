//! The calls behind the routes.

use bytes::Bytes;
use http::StatusCode;
use ringmq_proto::kubemq::{
    Empty, PingResult, ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse,
    Response as RequestResponse,
};
use ringmq_proto::method;

use super::message::{Failure, read, write};
use crate::http::body::Body;
use crate::http::envelope;
use crate::http::exchange::{Exchange, Response};
use crate::http::json::JsonMessage;

/// A call with one message each way.
pub(super) async fn unary<Q: JsonMessage, A: JsonMessage>(
    mut exchange: Exchange,
    method: &'static str,
) -> Response {
    respond(async {
        let message = read::<Q>(&mut exchange).await?;
        let answer = exchange.client().unary(method, message).await?;
        Ok(Body::full(write::<A>(answer).await?))
    })
    .await
}

pub(super) async fn ping(exchange: &Exchange) -> Response {
    respond(async {
        let answer = exchange.client().unary(method::PING, Bytes::new()).await?;
        Ok(Body::full(write::<PingResult>(answer).await?))
    })
    .await
}

/// An accepted response has no data.
pub(super) async fn send_response(mut exchange: Exchange) -> Response {
    respond(async {
        let message = read::<RequestResponse>(&mut exchange).await?;
        let client = exchange.client();
        client.unary(method::SEND_RESPONSE, message).await?;
        Ok(Body::full(envelope::success(None::<&Empty>)))
    })
    .await
}

/// Messages of a queue: leased until the response has gone to the socket in full. A client that
/// is gone before that, also in the middle of a long poll, takes nothing with it.
pub(super) async fn receive(mut exchange: Exchange) -> Response {
    respond(async {
        let message = read::<ReceiveQueueMessagesRequest>(&mut exchange).await?;
        let mut call = exchange.client().call(method::RECEIVE_QUEUE_MESSAGES);
        let answer = call.ask(message).await?;
        let text = write::<ReceiveQueueMessagesResponse>(answer).await?;
        Ok(Body::settling(text, call))
    })
    .await
}

async fn respond(answer: impl Future<Output = Result<Body, Failure>>) -> Response {
    match answer.await {
        Ok(body) => envelope::response(StatusCode::OK, body),
        Err(failure) => failure.response(),
    }
}
