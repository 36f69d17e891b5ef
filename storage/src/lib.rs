//! The store of a RingMQ broker.
//!
//! A store is one directory. Two files of it exist so far; what is in them, byte by byte, is
//! normative in `docs/FORMAT.md`.
//!
//! ```text
//! data/
//! ├── LOCK       held by the one broker that has the store open
//! └── MANIFEST   which store this is, in which format, and how channels map to slots
//! ```
//!
//! Nothing here knows the runtime. Opening a store blocks the calling thread and belongs before
//! the start of the executors.

#![deny(unsafe_code)]

pub mod checkpoint;
pub mod cipher;
mod codec;
mod error;
pub mod frame;
pub mod fs;
pub mod id;
pub mod layout;
mod lock;
pub mod log;
mod manifest;
pub mod record;
#[allow(
    unsafe_code,
    reason = "segments are mapped: the one place that needs it"
)]
mod region;
pub mod scan;
pub mod segment;
pub mod segment_index;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slot;
mod store;
mod text;

pub use codec::BadFile;
pub use error::{Damage, Error};
pub use id::{
    ChannelId, ChannelKey, CursorId, FrameIndex, Generation, Position, SegmentId, Sequence, Term,
};
pub use manifest::{ENCRYPTED_VERSION, FORMAT_VERSION, StoreId};
pub use slot::{HashSeed, Placement, SLOT_COUNT, SlotId};
pub use store::{Options, Store};
