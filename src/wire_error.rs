//! The table of refusals: what went wrong in the domain, and the exact text and code that clients
//! get to see.
//!
//! Texts with numbers are the ones that KubeMQ clients know, with their odd spacing and spelling;
//! users match on them, so none changes. Codes: what the caller did wrong is INTERNAL, as those
//! clients expect it (a "better" code changes the class of the exception they catch). What a later
//! try may cure is UNAVAILABLE or RESOURCE_EXHAUSTED, which they retry.
//!
//! No INTERNAL text holds `transport`, `connection` or `RST_STREAM`: some clients take those for a
//! lost connection and park their subscription for ever.

mod queue;
mod queue_streams;
mod security;
mod store;

use std::borrow::Cow;
use std::time::Duration;

use crate::model::Kind;
use crate::model::name::NameError;
use crate::routing::RouteError;
use crate::wire::status::{Code, Status};

pub use queue_streams::QueueStreamRefusal;

/// Messages that a batch or an upstream request may have; with more it is
/// [`Refusal::BatchTooLarge`]. Its results are gathered before they are answered.
pub const BATCH_MESSAGES_MAX: usize = 1 << 18;

/// Why the broker does not do what a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The client id is missing.
    ClientIdEmpty,
    /// The client id is longer than [`crate::model::name::CLIENT_ID_BYTES_MAX`].
    ClientIdTooLong,
    /// The client id holds a control character.
    ClientIdControl,
    /// The channel, or the reply channel of a response, is missing.
    ChannelEmpty,
    /// The channel is longer than [`crate::model::name::CHANNEL_BYTES_MAX`].
    ChannelTooLong,
    /// The channel holds `*`, `>` or `;` where it may not.
    ChannelWildcard,
    /// The channel holds white space or a control character.
    ChannelWhiteSpace,
    /// The channel ends with a dot.
    ChannelEndsWithDot,
    /// The channel starts with a dot, or has two in a row.
    ChannelTokenEmpty,
    /// The timeout of a command or query is not positive.
    TimeoutNotPositive,
    /// An event has neither metadata nor body.
    EventEmpty,
    /// A command or query has neither metadata nor body.
    RequestEmpty,
    /// A cache key comes without a positive time to live.
    CacheTtlNotPositive,
    /// A response does not say which request it answers.
    RequestIdEmpty,
    /// A subscription to stored events does not say where to start.
    StartUndefined,
    /// The sequence to start at is not positive.
    StartSequenceNotPositive,
    /// The time to start at is not positive.
    StartTimeNotPositive,
    /// The time to go back is not positive.
    StartTimeDeltaNotPositive,
    /// A subscription to plain events says where to start.
    StartOnPlainEvents,
    /// A request is neither a command nor a query.
    RequestType,
    /// The call does not serve subscriptions of this type.
    SubscribeType,
    /// The group's name is too long, or holds white space or a control character.
    GroupName,
    /// Another live subscription to this channel holds the client id.
    ClientIdInUse,
    /// The channel has as many live subscriptions as it may.
    ReceiverLimit {
        /// The bound, `store.max_subscribers`.
        max: u64,
    },
    /// The channel of a live subscription was deleted.
    ChannelDeleted,
    /// The store has as many channels as it may.
    ChannelLimit {
        /// The bound, `store.max_queues`.
        max: u64,
    },
    /// The channel has as many messages as it may.
    MessagesLimit {
        /// The bound, `store.max_messages` or a channel rule.
        max: u64,
    },
    /// The channel has as many bytes as it may.
    BytesLimit {
        /// The bound, `store.max_queue_size` or a channel rule.
        max: u64,
    },
    /// The channel has as many durable positions as it may.
    CursorLimit {
        /// The bound.
        max: u64,
    },
    /// The message is larger than what fits into the log.
    StoredTooLarge {
        /// Its bytes, as they would be stored.
        len: u64,
        /// The bound, which follows from `store.segment_bytes`.
        max: u64,
    },
    /// There is no space for stored messages.
    StoreFull,
    /// As many messages wait to be stored as may.
    StoreBusy,
    /// The log has failed; whether the message is stored is not known.
    StoreFailed,
    /// Nobody answered in time.
    RequestTimedOut,
    /// A queue's name is missing, too long, or holds what no name may.
    QueueName,
    /// A receive asks for no messages, or for more than it may.
    QueueMessagesMax,
    /// A message of a queue could not be sent on.
    QueueSend,
    /// There is no message where one is to be sent.
    QueueMessageMissing,
    /// An expiration is negative, or too far away.
    QueueExpiration,
    /// The maximum of receives is negative, or too large.
    QueueReceiveCount,
    /// A delay is negative, or too long.
    QueueDelay,
    /// The wait of a receive is negative, or too long.
    QueueWait,
    /// A batch has no messages.
    BatchEmpty,
    /// A batch or an upstream request has more messages than it may.
    BatchTooLarge {
        /// The bound.
        max: usize,
    },
    /// An upstream request has no messages.
    UpstreamEmpty,
    /// A field that must be text is not UTF-8.
    InvalidUtf8,
    /// The message cannot be decoded; the text says why.
    Undecodable(&'static str),
    /// The channel is the broker's own.
    ChannelReserved,
    /// As many lists of channels are being made as may be.
    ListsBusy,
    /// The name is a route that leads nowhere.
    Route(RouteError),
    /// The service has no such method.
    UnknownMethod {
        /// The service's full name.
        service: Box<str>,
        /// The method's name.
        method: Box<str>,
    },
    /// There is no such service.
    UnknownService {
        /// The name that was called.
        service: Box<str>,
    },
    /// The path is not `/service/method`.
    MalformedMethod {
        /// The path that was called.
        path: Box<str>,
    },
    /// The way to the core that owns the channel is full.
    MeshFull,
    /// As many requests wait for their responses as may.
    PendingRequestsFull,
    /// The buffers for messages to subscribers are full.
    BuffersFull,
    /// The broker has not started yet.
    NotReady,
    /// The broker is about to end.
    ShuttingDown,
    /// Nobody knows who calls; the text says why.
    Unauthenticated(Cow<'static, str>),
    /// No rule allows it, or one forbids it. Which one is nobody's business.
    AccessDenied,
    /// The client id is that of somebody else.
    ClientIdBound {
        /// The one that the caller may use.
        id: Box<str>,
    },
    /// The token of a live stream has expired.
    TokenExpired,
    /// What the caller of a live stream has shown counts no more.
    CredentialsWithdrawn,
    /// The caller has had what it may.
    LimitReached {
        /// The key of the limit.
        limit: &'static str,
        /// When there is room again.
        retry_after: Option<Duration>,
    },
    /// More is asked of the broker than it can do.
    Overloaded {
        /// When it may be less.
        retry_after: Option<Duration>,
    },
}

impl Refusal {
    /// The refusal of a channel's name.
    #[must_use]
    pub const fn channel(error: NameError) -> Self {
        match error {
            NameError::Empty => Self::ChannelEmpty,
            NameError::EndsWithDot => Self::ChannelEndsWithDot,
            NameError::TooLong => Self::ChannelTooLong,
            NameError::WhiteSpace | NameError::Control => Self::ChannelWhiteSpace,
            NameError::Wildcard | NameError::Semicolon => Self::ChannelWildcard,
            NameError::EmptyToken => Self::ChannelTokenEmpty,
        }
    }

    /// The refusal of a client id.
    #[must_use]
    pub const fn client_id(error: NameError) -> Self {
        match error {
            NameError::Empty => Self::ClientIdEmpty,
            NameError::TooLong => Self::ClientIdTooLong,
            NameError::EndsWithDot
            | NameError::WhiteSpace
            | NameError::Control
            | NameError::Wildcard
            | NameError::Semicolon
            | NameError::EmptyToken => Self::ClientIdControl,
        }
    }

    /// The text for the client: of a status, or of the error field of a result.
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        if let Some(text) = self.fixed_text().or_else(|| self.queue_text()) {
            return Cow::Borrowed(text);
        }
        if let Some(text) = self.store_text().or_else(|| self.security_text()) {
            return text;
        }
        Cow::Owned(match self {
            Self::Undecodable(why) => format!("grpc: error unmarshalling request: {why}"),
            Self::UnknownMethod { service, method } => {
                format!("unknown method {method} for service {service}")
            }
            Self::UnknownService { service } => format!("unknown service {service}"),
            Self::MalformedMethod { path } => format!("malformed method name: {path:?}"),
            Self::BatchTooLarge { max } => format!("a batch may have {max} messages"),
            Self::Route(error) => format!("routing: {error}"),
            _ => String::new(),
        })
    }

    fn fixed_text(&self) -> Option<&'static str> {
        Some(match self {
            Self::ClientIdEmpty => "Error 101: invalid clientID value, cannot be empty",
            Self::ClientIdTooLong => "Error 101: invalid clientID value, longer than 300 bytes",
            Self::ClientIdControl => {
                "Error 101: invalid clientID value, no control characters are allowed"
            }
            Self::ChannelEmpty => "Error 102: invalid channel value, cannot be empty",
            Self::ChannelTooLong => "Error 102: invalid channel value, longer than 256 bytes",
            Self::ChannelWildcard => "Error 107: invalid channel value, no wildcards are allowed",
            Self::ChannelWhiteSpace => {
                "Error 108: invalid channel value, no white spaces are allowed"
            }
            Self::TimeoutNotPositive => {
                "Error 109: invalid set timeout value, cannot be 0 or negative"
            }
            Self::EventEmpty => "Error 110: invalid message, cannot be empty",
            Self::StartUndefined => {
                "Error 111: invalid subscription type, cannot be undefined or 0"
            }
            Self::StartSequenceNotPositive => {
                "Error 112: invalid subscription type start at sequence value, \
                 cannot by 0 or negative"
            }
            Self::StartTimeNotPositive => {
                "Error 113: invalid subscription type start at time value, cannot by 0 or negative"
            }
            Self::StartTimeDeltaNotPositive => {
                "Error 114: invalid subscription type start at time delta value, \
                 cannot by 0 or negative"
            }
            Self::RequestEmpty => "Error 115: invalid request, cannot be empty",
            Self::CacheTtlNotPositive => {
                "Error 116: invalid cache ttl value, cannot be 0 or negative"
            }
            Self::RequestIdEmpty => "Error 117: invalid request id, cannot be empty",
            Self::StartOnPlainEvents => {
                "Error 118: event store parameters were set but subscribe type is not event store"
            }
            Self::ChannelEndsWithDot => "Error 119: invalid channel value, cannot end with `.`",
            Self::ChannelTokenEmpty => "Error 119: invalid channel value, tokens cannot be empty",
            Self::RequestType => "Error 206: invalid request type",
            Self::SubscribeType => "Error 207: invalid subscribe type",
            Self::RequestTimedOut => "Error 301: timeout for request message",
            Self::ShuttingDown => "Error 409: server is in shutdown mode",
            Self::GroupName => "nats: invalid queue name",
            Self::ClientIdInUse => "stan: clientID already registered",
            Self::InvalidUtf8 => "string field contains invalid UTF-8",
            Self::ChannelReserved => "invalid channel value, the channel belongs to the broker",
            Self::ListsBusy => "too many lists of channels are being made, try again later",
            Self::Route(RouteError::NoOwnTarget(own)) => match own {
                Kind::Queues => "no valid queue message channel destination was found in routes",
                Kind::EventsStore => {
                    "no valid events_store channel destination was found in routes"
                }
                _ => "no valid events channel destination was found in routes",
            },
            Self::MeshFull => "too many messages between the cores of the broker, try again later",
            Self::PendingRequestsFull => {
                "too many requests wait for their responses, try again later"
            }
            Self::BuffersFull => "the delivery buffers of the broker are full, try again later",
            Self::NotReady => "grpc server is not ready to accept requests",
            _ => return None,
        })
    }

    /// The code that goes with the text when the call ends with it.
    #[must_use]
    pub const fn code(&self) -> Code {
        if let Some(code) = self.security_code() {
            return code;
        }
        match self {
            Self::UnknownMethod { .. }
            | Self::UnknownService { .. }
            | Self::MalformedMethod { .. } => Code::Unimplemented,
            Self::MeshFull
            | Self::ListsBusy
            | Self::PendingRequestsFull
            | Self::BuffersFull
            | Self::ReceiverLimit { .. }
            | Self::ChannelLimit { .. }
            | Self::MessagesLimit { .. }
            | Self::BytesLimit { .. }
            | Self::CursorLimit { .. }
            | Self::StoreFull
            | Self::StoreBusy
            | Self::BatchTooLarge { .. } => Code::ResourceExhausted,
            Self::BatchEmpty => Code::Unknown,
            Self::NotReady | Self::ShuttingDown | Self::ChannelDeleted => Code::Unavailable,
            _ => Code::Internal,
        }
    }

    /// The status that ends the call.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::new(self.code(), self.text()).with_retry_after(self.retry_after())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.status()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_refusal() -> Vec<Refusal> {
        use Refusal as R;
        vec![
            R::ClientIdEmpty,
            R::ClientIdTooLong,
            R::ClientIdControl,
            R::ChannelEmpty,
            R::ChannelTooLong,
            R::ChannelWildcard,
            R::ChannelWhiteSpace,
            R::TimeoutNotPositive,
            R::EventEmpty,
            R::StartUndefined,
            R::StartSequenceNotPositive,
            R::StartTimeNotPositive,
            R::StartTimeDeltaNotPositive,
            R::RequestEmpty,
            R::CacheTtlNotPositive,
            R::RequestIdEmpty,
            R::StartOnPlainEvents,
            R::ChannelEndsWithDot,
            R::ChannelTokenEmpty,
            R::RequestType,
            R::SubscribeType,
            R::RequestTimedOut,
            R::ShuttingDown,
            R::GroupName,
            R::ClientIdInUse,
            R::InvalidUtf8,
            R::Undecodable("unexpected end of message"),
            R::ChannelReserved,
            R::ListsBusy,
            R::Route(RouteError::NoOwnTarget(Kind::Events)),
            R::Route(RouteError::NoOwnTarget(Kind::EventsStore)),
            R::Route(RouteError::NoOwnTarget(Kind::Queues)),
            R::Route(RouteError::TooManyTargets),
            R::Route(RouteError::TooLong),
            R::UnknownMethod {
                service: "kubemq.kubemq".into(),
                method: "Nope".into(),
            },
            R::UnknownService {
                service: "a.B".into(),
            },
            R::MalformedMethod { path: "x".into() },
            R::MeshFull,
            R::PendingRequestsFull,
            R::BuffersFull,
            R::NotReady,
            R::ReceiverLimit { max: 5 },
            R::ChannelDeleted,
            R::ChannelLimit { max: 100 },
            R::MessagesLimit { max: 1000 },
            R::BytesLimit { max: 65536 },
            R::CursorLimit { max: 10 },
            R::StoredTooLarge { len: 300, max: 200 },
            R::StoreFull,
            R::StoreBusy,
            R::StoreFailed,
        ]
    }

    fn queue_refusals() -> Vec<Refusal> {
        use Refusal as R;
        vec![
            R::QueueName,
            R::QueueMessagesMax,
            R::QueueSend,
            R::QueueMessageMissing,
            R::QueueExpiration,
            R::QueueReceiveCount,
            R::QueueDelay,
            R::QueueWait,
            R::BatchEmpty,
            R::BatchTooLarge { max: 100 },
            R::UpstreamEmpty,
        ]
    }

    /// What each of them looks like to a client, in the same order.
    const PINNED: &str = "\
Internal: Error 101: invalid clientID value, cannot be empty
Internal: Error 101: invalid clientID value, longer than 300 bytes
Internal: Error 101: invalid clientID value, no control characters are allowed
Internal: Error 102: invalid channel value, cannot be empty
Internal: Error 102: invalid channel value, longer than 256 bytes
Internal: Error 107: invalid channel value, no wildcards are allowed
Internal: Error 108: invalid channel value, no white spaces are allowed
Internal: Error 109: invalid set timeout value, cannot be 0 or negative
Internal: Error 110: invalid message, cannot be empty
Internal: Error 111: invalid subscription type, cannot be undefined or 0
Internal: Error 112: invalid subscription type start at sequence value, cannot by 0 or negative
Internal: Error 113: invalid subscription type start at time value, cannot by 0 or negative
Internal: Error 114: invalid subscription type start at time delta value, cannot by 0 or negative
Internal: Error 115: invalid request, cannot be empty
Internal: Error 116: invalid cache ttl value, cannot be 0 or negative
Internal: Error 117: invalid request id, cannot be empty
Internal: Error 118: event store parameters were set but subscribe type is not event store
Internal: Error 119: invalid channel value, cannot end with `.`
Internal: Error 119: invalid channel value, tokens cannot be empty
Internal: Error 206: invalid request type
Internal: Error 207: invalid subscribe type
Internal: Error 301: timeout for request message
Unavailable: Error 409: server is in shutdown mode
Internal: nats: invalid queue name
Internal: stan: clientID already registered
Internal: string field contains invalid UTF-8
Internal: grpc: error unmarshalling request: unexpected end of message
Internal: invalid channel value, the channel belongs to the broker
ResourceExhausted: too many lists of channels are being made, try again later
Internal: no valid events channel destination was found in routes
Internal: no valid events_store channel destination was found in routes
Internal: no valid queue message channel destination was found in routes
Internal: routing: more than 256 targets
Internal: routing: longer than 65536 bytes with what the table adds
Unimplemented: unknown method Nope for service kubemq.kubemq
Unimplemented: unknown service a.B
Unimplemented: malformed method name: \"x\"
ResourceExhausted: too many messages between the cores of the broker, try again later
ResourceExhausted: too many requests wait for their responses, try again later
ResourceExhausted: the delivery buffers of the broker are full, try again later
Unavailable: grpc server is not ready to accept requests
ResourceExhausted: the channel has as many subscriptions as it may: 5
Unavailable: the channel was deleted
ResourceExhausted: nothing was stored: there are as many channels as there may be: 100
ResourceExhausted: nothing was stored: the channel has as many messages as it may: 1000
ResourceExhausted: nothing was stored: the channel has as many bytes as it may: 65536
ResourceExhausted: the channel has as many durable subscriptions as it may: 10
Internal: nothing was stored: the message has 300 bytes, it may have 200
ResourceExhausted: nothing was stored: the disk of the broker is full; \
free space on it or shorten the retention
ResourceExhausted: nothing was stored: too many messages wait to be stored, try again later
Internal: the log has failed and takes no messages until the broker is restarted; \
this one may or may not be stored
Internal: Error 120: invalid queue name value, cannot be empty, contains wildcards ,white \
spaces and end with dot
Internal: Error 122: max messages should be between 1 and max message setting in kubemq \
config\x20\x20
Internal: Error 130: error during send message to queue
Internal: Error 131: invalid queue message
Internal: Error 133: invalid expiration seconds, exceed max expiration seconds setting in \
kubemq config
Internal: Error 134: invalid max received count, cannot be negative or exceed max receive count \
setting in kubemq config
Internal: Error 135: invalid delay seconds, exceed max delay seconds setting in kubemq config
Internal: Error 136: invalid wait timeout, value cannot be negative or exceed max wait timeout \
seconds setting in kubemq config
Unknown: empty messages batch
ResourceExhausted: a batch may have 100 messages
Internal: no messages to send
";

    #[test]
    fn every_text_and_code_is_pinned() {
        let refusals = [every_refusal(), queue_refusals()].concat();
        assert_eq!(refusals.len(), PINNED.lines().count());
        for (refusal, pinned) in refusals.iter().zip(PINNED.lines()) {
            let status = refusal.status();
            assert_eq!(
                format!("{}: {}", status.code().name(), status.message()),
                pinned
            );
            assert_eq!(refusal.to_string(), status.message());
        }
    }

    #[test]
    fn no_internal_text_looks_like_a_lost_connection() {
        for refusal in [every_refusal(), queue_refusals()].concat() {
            for word in ["transport", "connection", "RST_STREAM"] {
                let text = refusal.text();
                assert!(
                    refusal.code() != Code::Internal || !text.contains(word),
                    "{refusal:?}"
                );
            }
        }
    }

    #[test]
    fn every_fault_of_a_name_has_its_text() {
        let number = |error| Refusal::channel(error).text()[..9].to_owned();
        assert_eq!(number(NameError::Empty), "Error 102");
        assert_eq!(number(NameError::TooLong), "Error 102");
        assert_eq!(number(NameError::Wildcard), "Error 107");
        assert_eq!(number(NameError::Semicolon), "Error 107");
        assert_eq!(number(NameError::WhiteSpace), "Error 108");
        assert_eq!(number(NameError::Control), "Error 108");
        assert_eq!(number(NameError::EndsWithDot), "Error 119");
        assert_eq!(number(NameError::EmptyToken), "Error 119");
        assert_eq!(Refusal::client_id(NameError::Empty), Refusal::ClientIdEmpty);
        assert_eq!(
            Refusal::client_id(NameError::Control),
            Refusal::ClientIdControl
        );
        assert_eq!(
            Refusal::client_id(NameError::TooLong),
            Refusal::ClientIdTooLong
        );
    }

    #[test]
    fn the_bounds_in_the_texts_are_the_bounds() {
        use crate::model::name::{CHANNEL_BYTES_MAX, CLIENT_ID_BYTES_MAX};
        let channel = format!("longer than {CHANNEL_BYTES_MAX} bytes");
        assert!(Refusal::ChannelTooLong.text().ends_with(&channel));
        let client_id = format!("longer than {CLIENT_ID_BYTES_MAX} bytes");
        assert!(Refusal::ClientIdTooLong.text().ends_with(&client_id));
    }
}
