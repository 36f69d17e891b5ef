//! A client with a token, on a connection of the mock peer.

use std::net::SocketAddr;

use prost::Message;
use ringmq_proto::kubemq::{
    Event, EventReceive, QueueMessage, ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse,
    Request, Response, Subscribe,
};

use crate::mock::peer::{Peer, Reply};

/// Codes of gRPC.
pub(crate) const OK: u32 = 0;
pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
pub(crate) const PERMISSION_DENIED: u32 = 7;
pub(crate) const UNAVAILABLE: u32 = 14;
pub(crate) const UNAUTHENTICATED: u32 = 16;

/// What everybody is told who may not.
pub(crate) const DENIED: &str = "Error 412: access denied to resource";

pub(crate) mod method {
    pub(crate) use crate::mock::kubemq::path::*;

    pub(crate) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    token: Option<String>,
}

impl Client {
    /// Connects; every call shows this token.
    pub(crate) fn with_token(address: SocketAddr, token: &str) -> Self {
        Self {
            peer: Peer::connect(address),
            token: Some(token.to_owned()),
        }
    }

    /// Connects; no call shows anything.
    pub(crate) fn nobody(address: SocketAddr) -> Self {
        Self {
            peer: Peer::connect(address),
            token: None,
        }
    }

    /// Opens a call.
    pub(crate) fn open(&mut self, method: &str) -> u32 {
        let token = self.token.clone();
        let tokens: Vec<&str> = token.as_deref().into_iter().collect();
        self.open_with(method, &tokens)
    }

    /// Opens a call that shows these tokens.
    pub(crate) fn open_with(&mut self, method: &str, tokens: &[&str]) -> u32 {
        let mut fields = Peer::call_fields(method);
        fields.extend(tokens.iter().map(|token| ("authorization", *token)));
        self.peer.open_with(&fields, false)
    }

    /// Opens a call with one message, and ends our half.
    pub(crate) fn call(&mut self, method: &str, message: &impl Message) -> u32 {
        let stream = self.open(method);
        self.peer
            .send_message(stream, &message.encode_to_vec(), true);
        stream
    }

    /// A call with one message, and whatever comes of it.
    pub(crate) fn ask(&mut self, method: &str, message: &impl Message) -> Reply {
        let stream = self.call(method, message);
        self.peer.finish(stream)
    }

    /// A call with one message that must succeed.
    pub(crate) fn unary<M: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> M {
        let mut reply = self.ask(method, message);
        assert_eq!(reply.grpc_status(), Some(OK), "{}", reply.grpc_message());
        M::decode(&*reply.take_message().expect("an answer")).expect("of the contract")
    }

    /// A call that must be refused for who makes it; with this text.
    #[track_caller]
    pub(crate) fn refused(&mut self, method: &str, message: &impl Message, code: u32, text: &str) {
        let reply = self.ask(method, message);
        let told = (reply.grpc_status(), reply.grpc_message());
        assert_eq!(told, (Some(code), text), "{method}");
    }

    /// A call that must be denied.
    #[track_caller]
    pub(crate) fn denied(&mut self, method: &str, message: &impl Message) {
        self.refused(method, message, PERMISSION_DENIED, DENIED);
    }

    /// Sends a message on a stream that stays open.
    pub(crate) fn say(&mut self, stream: u32, message: &impl Message) {
        assert!(
            self.peer
                .send_message(stream, &message.encode_to_vec(), false)
        );
    }

    /// Sends the last message on a stream, and ends our half.
    pub(crate) fn say_last(&mut self, stream: u32, message: &impl Message) {
        assert!(
            self.peer
                .send_message(stream, &message.encode_to_vec(), true)
        );
    }

    /// The next answer on a stream.
    pub(crate) fn next<M: Message + Default>(&mut self, stream: u32) -> M {
        let message = self.peer.next_message(stream);
        let message = message.unwrap_or_else(|| panic!("ended: {:?}", self.peer.reply(stream)));
        M::decode(&*message).expect("of the contract")
    }

    /// The end of a stream, which must have this code and text.
    #[track_caller]
    pub(crate) fn ends(&mut self, stream: u32, code: u32, text: &str) {
        let reply = self.peer.finish(stream);
        let told = (reply.grpc_status(), reply.grpc_message());
        assert_eq!(told, (Some(code), text), "{reply:?}");
    }

    /// Whether the stream goes on, as far as is known when a ping behind everything was answered.
    pub(crate) fn goes_on(&mut self, stream: u32) -> bool {
        let ping: ringmq_proto::kubemq::PingResult = self.unary(method::PING, &());
        assert!(!ping.host.is_empty());
        !self.peer.reply(stream).ended
    }

    /// Subscribes; the subscription lives.
    pub(crate) fn subscribe(&mut self, subscribe: &Subscribe) -> u32 {
        let stream = self.call(subscription_method(subscribe), subscribe);
        let live = |peer: &mut Peer| peer.reply(stream).headers.is_some();
        assert!(self.peer.wait(live), "the subscription is live");
        let reply = self.peer.reply(stream);
        assert!(!reply.ended, "{}", reply.grpc_message());
        stream
    }

    /// What is in a queue.
    pub(crate) fn receive(&mut self, client: &str, channel: &str) -> Vec<QueueMessage> {
        let request = receive(client, channel);
        let answer: ReceiveQueueMessagesResponse =
            self.unary(method::RECEIVE_QUEUE_MESSAGES, &request);
        assert!(!answer.is_error, "{}", answer.error);
        answer.messages
    }
}

/// The method that takes a subscription.
pub(crate) fn subscription_method(subscribe: &Subscribe) -> &'static str {
    match subscribe.subscribe_type_data {
        1 | 2 => method::SUBSCRIBE_TO_EVENTS,
        _ => method::SUBSCRIBE_TO_REQUESTS,
    }
}

pub(crate) fn event(client: &str, channel: &str) -> Event {
    Event {
        event_id: "event-1".into(),
        client_id: client.into(),
        channel: channel.into(),
        body: "body".into(),
        ..Event::default()
    }
}

pub(crate) fn stored(client: &str, channel: &str) -> Event {
    Event {
        store: true,
        ..event(client, channel)
    }
}

pub(crate) fn queue_message(client: &str, channel: &str) -> QueueMessage {
    QueueMessage {
        message_id: "message-1".into(),
        client_id: client.into(),
        channel: channel.into(),
        body: "body".into(),
        ..QueueMessage::default()
    }
}

pub(crate) fn receive(client: &str, channel: &str) -> ReceiveQueueMessagesRequest {
    ReceiveQueueMessagesRequest {
        request_id: "receive-1".into(),
        client_id: client.into(),
        channel: channel.into(),
        max_number_of_messages: 100,
        wait_time_seconds: 1,
        ..ReceiveQueueMessagesRequest::default()
    }
}

/// A command (1) or a query (2).
pub(crate) fn request(kind: i32, client: &str, channel: &str) -> Request {
    Request {
        request_id: "request-1".into(),
        request_type_data: kind,
        client_id: client.into(),
        channel: channel.into(),
        body: "body".into(),
        timeout: 20_000,
        ..Request::default()
    }
}

/// A subscription to events (1), stored events (2), commands (3) or queries (4).
pub(crate) fn subscribe(kind: i32, client: &str, channel: &str) -> Subscribe {
    Subscribe {
        subscribe_type_data: kind,
        client_id: client.into(),
        channel: channel.into(),
        // Stored events from the first one on.
        events_store_type_data: if kind == 2 { 2 } else { 0 },
        ..Subscribe::default()
    }
}

/// The response to a request that came.
pub(crate) fn response(client: &str, request: &Request) -> Response {
    Response {
        client_id: client.into(),
        request_id: request.request_id.clone(),
        reply_channel: request.reply_channel.clone(),
        body: "answer".into(),
        executed: true,
        ..Response::default()
    }
}

/// The next event of a subscription.
pub(crate) fn next_event(client: &mut Client, stream: u32) -> EventReceive {
    client.next(stream)
}
