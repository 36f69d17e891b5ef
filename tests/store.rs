//! The operator's tools for a store that no broker has open: `ringmq store`.
//!
//! The stores are made with the log itself; what a broker leaves behind is tried in
//! `tests/process`.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "files are damaged by hand; a broken assumption is a failed test"
)]

#[path = "store/encrypted.rs"]
mod encrypted;
#[path = "store/maker.rs"]
mod maker;
#[path = "store/queues.rs"]
mod queues;
#[path = "store/reshard.rs"]
mod reshard;
#[path = "store/tools.rs"]
mod tools;
