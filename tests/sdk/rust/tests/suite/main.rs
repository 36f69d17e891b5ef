//! The official Rust SDK against a running broker: events, stored events, commands and queries,
//! queues.

mod connection;
mod events;
mod events_store;
mod queues;
mod requests;
