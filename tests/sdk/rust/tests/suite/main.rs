//! The official Rust SDK against a running broker: every pattern that needs no storage.

mod connection;
mod events;
mod requests;
