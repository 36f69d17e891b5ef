//! REST, its sockets and the management port of a real broker: with a client library for HTTP, one
//! for WebSockets, and a raw socket that says what neither would.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "http/api.rs"]
mod api;
#[path = "http/api_events.rs"]
mod api_events;
#[path = "http/api_monitor.rs"]
mod api_monitor;
#[path = "http/api_security.rs"]
mod api_security;
#[path = "http/api_sockets.rs"]
mod api_sockets;
#[path = "http/broker.rs"]
mod broker;
#[path = "http/collector.rs"]
mod collector;
#[path = "http/connections.rs"]
mod connections;
#[allow(dead_code, reason = "each test binary uses a part of the contract")]
#[path = "h2/contract.rs"]
mod contract;
#[path = "http/exposition.rs"]
mod exposition;
#[path = "http/large.rs"]
mod large;
#[path = "http/metrics.rs"]
mod metrics;
#[path = "http/notifications.rs"]
mod notifications;
#[path = "http/openapi.rs"]
mod openapi;
#[path = "http/prometheus.rs"]
mod prometheus;
#[path = "http/raw.rs"]
mod raw;
#[path = "http/rest.rs"]
mod rest;
#[path = "http/rest_errors.rs"]
mod rest_errors;
#[path = "http/rest_queues.rs"]
mod rest_queues;
#[path = "http/security.rs"]
mod security;
#[path = "http/sockets.rs"]
mod sockets;
#[path = "http/sockets_events.rs"]
mod sockets_events;
#[path = "http/sockets_queues.rs"]
mod sockets_queues;
#[path = "http/stats.rs"]
mod stats;
#[path = "http/tls.rs"]
mod tls;
#[path = "http/tracing.rs"]
mod tracing;
