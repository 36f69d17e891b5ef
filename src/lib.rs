//! RingMQ: a message broker that speaks the KubeMQ protocol, thread per core, on io_uring.
//!
//! The modules, from the outside in, are listed with their layers in `docs/ARCHITECTURE.md`.
//! `rt` and `wire` are public because the load generator and the benches stand on them; the rest
//! is public as far as `main` and the tests need it.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod engine;
pub mod grpc;
pub mod http;
pub mod model;
pub mod net;
pub mod notifications;
pub mod routing;
pub mod rt;
pub mod security;
pub mod server;
pub mod shard;
pub mod spans;
pub mod telemetry;
pub mod wire;
pub mod wire_error;
