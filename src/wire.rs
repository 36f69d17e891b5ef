//! HTTP/2 and gRPC on the runtime seam: server and client sides of calls, without any contract.
//!
//! ```text
//!   service (grpc/)                        caller (demo, load generator, tests)
//!      │ Call, MessageReader, Responder       │ Client, ClientSender, ClientStream
//!   server::serve ──────────────────────── client::Client
//!      │ one driver task for each connection  │
//!   h2 (frames, HPACK, flow control)
//!      │ AsyncRead + AsyncWrite
//!   cork::Cork     gathers frames, one write for each turn of the driver
//!      │            (cork::tls between them, if the connection is encrypted)
//!   rt::Conn       the socket
//! ```
//!
//! # Why a cork
//! h2 flushes after every DATA frame; taken literally that is a system call for each message and
//! costs three to five times the throughput. The cork answers `flush` with "done" and writes when
//! the driver has nothing left to do in this turn. So "flushed" means nothing to h2's user here;
//! what has left for the peer is known by [`server::ConnectionControl::ping`] alone.
//!
//! # Bounds
//! Every limit is a field of [`server::Settings`]. What a peer can make us hold on one connection:
//! the connection's receive window, the messages it has begun, what streams have buffered for it
//! (bounded for each stream and for the connection), and the cork's 64 KiB; with TLS once more
//! what the cork holds, sealed, and a record that has not come whole.
//!
//! # Threading
//! Nothing here is `Send`: a connection lives and dies on the executor that accepted it.

mod alarm;
pub mod chunks;
pub mod client;
mod control;
mod cork;
pub mod framing;
mod inlet;
pub mod local;
mod outlet;
pub mod quantum;
mod reactor_turn;
pub mod server;
pub mod status;
mod timeout;
pub mod tls;
mod vitals;

#[cfg(test)]
mod tests;

pub(crate) use alarm::Alarm;
pub(crate) use control::MarkEnded;
pub(crate) use cork::{Budget, FrameWatch, Side, TlsConn, Transport};
pub use outlet::Gone;
pub(crate) use reactor_turn::ReactorTurn;
pub use status::{Code, Status};
