//! The server side: one driver for each connection, one [`Call`] for each stream.

mod call;
mod driver;
mod open;
mod respond;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub use call::{Call, MessageReader};
pub use driver::{serve, serve_tls};
pub(crate) use open::Calls;
pub use respond::{Responder, ResponseStream};

use crate::model::identity::CertificateNames;
pub use crate::wire::control::{ConnectionControl, Hold, Ping};
use crate::wire::framing::{GatherLimit, MESSAGE_BYTES_MAX};
use crate::wire::outlet::OutputLimits;
use crate::wire::status::{Code, Status};
use crate::wire::tls;

/// What takes the calls of a connection.
pub trait Service: 'static {
    /// Takes a call. Runs inside the connection's driver: it must not block, and spawns what has
    /// to wait.
    fn call(&self, call: Call);
}

/// The limits and times of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Receive window of a stream: what a sender may have under way before we read it. 1 MiB.
    pub stream_window_bytes: u32,
    /// Receive window of the connection, over all its streams. 8 MiB.
    pub connection_window_bytes: u32,
    /// Streams a client may have open; further ones are refused and retried by the client. 4,096.
    pub concurrent_streams_max: u32,
    /// The largest message, also once inflated. 100 MiB.
    pub message_bytes_max: usize,
    /// What incomplete messages of one connection may hold together; one that would exceed it is
    /// refused. 256 MiB.
    pub gather_bytes_max: usize,
    /// The largest list of headers; larger ones are answered 431 or end the connection. 16 KiB.
    pub header_list_bytes_max: u32,
    /// Silence after which the peer is asked whether it lives. 20 s.
    pub keepalive_time: Duration,
    /// How long it may take to answer that; then the connection is closed. 10 s.
    pub keepalive_timeout: Duration,
    /// How long the opening of a connection may take. 10 s.
    pub handshake_timeout: Duration,
    /// Age after which the connection is drained. `None`: never, because clients that lose an
    /// idle connection may not notice.
    pub connection_age_max: Option<Duration>,
    /// What one stream may have waiting for the peer. 256 KiB.
    pub stream_send_bytes_max: usize,
    /// Above this sum over its streams, each may have no more than 16 KiB waiting. 8 MiB.
    pub connection_send_bytes_max: usize,
    /// While unary answers of this size wait for the peer, no new call is taken. 16 MiB.
    pub answers_bytes_max: usize,
    /// Streams reset by us that are remembered, so that late frames of them are no errors. 64.
    pub local_resets_max: usize,
    /// Streams reset by the peer before we took them; above it the connection ends. 64.
    pub pending_resets_max: usize,
    /// Streams that we had to reset for errors of the peer; above it the connection ends. 1,024.
    pub error_resets_max: usize,
    /// What the caller is told when its call was dropped without an answer, as by a panic.
    pub abandoned: (Code, Cow<'static, str>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            concurrent_streams_max: 4096,
            message_bytes_max: MESSAGE_BYTES_MAX,
            gather_bytes_max: 256 << 20,
            header_list_bytes_max: 16 << 10,
            keepalive_time: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            connection_age_max: None,
            stream_send_bytes_max: 256 << 10,
            connection_send_bytes_max: 8 << 20,
            answers_bytes_max: 16 << 20,
            local_resets_max: 64,
            pending_resets_max: 64,
            error_resets_max: 1024,
            abandoned: (Code::Unknown, Cow::Borrowed("the call was abandoned")),
        }
    }
}

impl Settings {
    fn output_limits(&self) -> OutputLimits {
        OutputLimits {
            stream_bytes_max: self.stream_send_bytes_max,
            connection_bytes_max: self.connection_send_bytes_max,
        }
    }

    fn abandoned_status(&self) -> Status {
        Status::new(self.abandoned.0, self.abandoned.1.clone())
    }
}

/// What the calls of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: SocketAddr,
    /// The names that the peer has proved by a certificate.
    pub(crate) certificate: Option<Rc<CertificateNames>>,
    pub(crate) control: ConnectionControl,
    pub(crate) settings: Rc<Settings>,
    pub(crate) gather_limit: Rc<GatherLimit>,
    pub(crate) calls: Calls,
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The peer closed it in order.
    PeerClosed,
    /// It was drained: every call had ended.
    Drained,
    /// [`ConnectionControl::close`] was called.
    Closed,
    /// The opening, or that of TLS, did not come in time.
    HandshakeTimeout,
    /// The peer and we did not agree on TLS.
    Tls(tls::Error),
    /// The peer did not answer a ping in time.
    KeepaliveTimeout,
    /// The peer sent control frames without end; says of which kind.
    Flood(&'static str),
    /// One side broke the protocol or a limit of it.
    Protocol {
        /// The HTTP/2 error code.
        code: u32,
        /// What HTTP/2 calls it, with the debug data of the frame.
        reason: String,
        /// Whether the peer said so, not we.
        by_peer: bool,
    },
    /// The socket failed.
    Io(std::io::Error),
}

impl Ended {
    /// A short word for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Tls(_) => "tls",
            Self::KeepaliveTimeout => "keepalive_timeout",
            Self::Flood(_) => "flood",
            Self::Protocol { .. } => "protocol",
            Self::Io(_) => "io",
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::Drained => f.write_str("drained"),
            Self::Closed => f.write_str("closed by us"),
            Self::HandshakeTimeout => f.write_str("no HTTP/2 opening in time"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
            Self::KeepaliveTimeout => f.write_str("no answer to a keepalive ping in time"),
            Self::Flood(kind) => write!(f, "flood of {kind} frames"),
            Self::Protocol {
                reason,
                by_peer: true,
                ..
            } => write!(f, "ended by the peer: {reason}"),
            Self::Protocol { reason, .. } => write!(f, "protocol error: {reason}"),
            Self::Io(error) => write!(f, "socket error: {error}"),
        }
    }
}
