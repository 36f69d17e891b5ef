//! A mock HTTP/2 peer on blocking sockets, and what is to be known of the broker behind it.
//!
//! It shares no code with the broker: the frames, HPACK and protobuf fields are written out by
//! hand, so that an error on one side is not mirrored by the other, and so that it can say what
//! no client library would.

#![allow(dead_code, reason = "each test binary uses its own part of the mock")]

pub(crate) mod broker;
pub(crate) mod frame;
pub(crate) mod hpack;
pub(crate) mod kubemq;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod queues;
pub(crate) mod stored;
