//! REST, WebSocket and the management API: the broker over HTTP.
//!
//! ```text
//!   connection  hyper (HTTP/1.1, HTTP/2) over our sockets; one task for each connection
//!       │ Exchange                                  │ after a 101
//!   rest · api · stats · metrics               websocket ◄─ sockets · api
//!       │ JSON ⇄ contract                           │
//!   wire::local  calls inside the process ─────────► the gRPC service of this executor
//! ```
//!
//! Nothing here knows a rule of the patterns: what REST and the sockets ask goes to the same
//! service as the calls of gRPC, and is checked, answered and counted there
//! (`docs/adr/2026-11-21-one-service-several-transports.md`). What is read of the whole broker is
//! gathered from all shards by [`Shard::ask_all`](crate::shard::Shard::ask_all).
//!
//! # Threading
//! All of a connection stays on the executor that accepted it. Those of the management port run
//! in the background queue: no scrape and no dashboard takes the turn of a message.

mod api;
mod body;
mod caller;
mod connection;
mod context;
mod envelope;
mod exchange;
mod gather;
mod json;
mod metrics;
mod openapi;
mod rest;
mod room;
mod snapshot;
mod socket;
mod sockets;
mod stats;
mod websocket;

pub use body::Body;
pub use connection::{Ended, serve};
pub use context::{Context, Contexts, Process};
pub use room::trim_rooms;

pub(crate) use exchange::{Exchange, Response};

/// The ports that speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// REST and WebSocket.
    Rest,
    /// Management.
    Api,
}

impl Port {
    async fn handle(self, exchange: Exchange) -> Response {
        match self {
            Self::Rest => rest::handle(exchange).await,
            Self::Api => api::handle(exchange).await,
        }
    }
}
