//! What is done, to which channel, and for whom.

use ringmq_proto::kubemq::Subscribe;

use crate::grpc::codec::event::EventView;
use crate::grpc::codec::queue::QueueMessageView;
use crate::grpc::codec::request::RequestView;
use crate::grpc::codec::tags::Tags;
use crate::model::Kind;

/// What a client does to a channel.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct Access<'a> {
    pub(in crate::grpc) kind: Kind,
    pub(in crate::grpc) channel: &'a str,
    pub(in crate::grpc) client: &'a str,
    /// Of the message, the request or the transaction.
    pub(in crate::grpc) id: &'a str,
    /// Of the encoded message.
    pub(in crate::grpc) bytes: usize,
    /// Of its payload.
    pub(in crate::grpc) body_bytes: usize,
    /// Of the message, which may name the context of a trace.
    pub(in crate::grpc) tags: Option<Tags<'a>>,
}

impl<'a> Access<'a> {
    /// An event is sent under this id.
    pub(in crate::grpc) const fn event(view: &EventView<'a>, id: &'a str, bytes: usize) -> Self {
        Self {
            kind: match view.store {
                true => Kind::EventsStore,
                false => Kind::Events,
            },
            channel: view.channel,
            client: view.client_id,
            id,
            bytes,
            body_bytes: view.body.len(),
            tags: Some(view.tags),
        }
    }

    /// A message is sent to a queue under this id.
    pub(in crate::grpc) const fn queue_message(
        view: &QueueMessageView<'a>,
        id: &'a str,
        bytes: usize,
    ) -> Self {
        Self {
            kind: Kind::Queues,
            channel: view.channel,
            client: view.client_id,
            id,
            bytes,
            body_bytes: view.body.len(),
            tags: Some(view.tags),
        }
    }

    /// A command or a query is sent under this id.
    pub(in crate::grpc) const fn request(
        view: &RequestView<'a>,
        kind: Kind,
        id: &'a str,
        bytes: usize,
    ) -> Self {
        Self {
            kind,
            channel: view.channel,
            client: view.client_id,
            id,
            bytes,
            body_bytes: view.body.len(),
            tags: Some(view.tags),
        }
    }

    /// Something is done to a queue, in the name of a request.
    pub(in crate::grpc) const fn queue(channel: &'a str, client: &'a str, id: &'a str) -> Self {
        Self {
            kind: Kind::Queues,
            channel,
            client,
            id,
            bytes: 0,
            body_bytes: 0,
            tags: None,
        }
    }

    pub(in crate::grpc) fn subscription(kind: Kind, subscribe: &'a Subscribe) -> Self {
        Self {
            kind,
            channel: &subscribe.channel,
            client: &subscribe.client_id,
            id: "",
            bytes: 0,
            body_bytes: 0,
            tags: None,
        }
    }
}
