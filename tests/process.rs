//! The broker as a process: how it starts and refuses to, how it stops, and what its clients leave
//! behind.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads, locks and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "process/damage.rs"]
mod damage;
#[path = "process/dead.rs"]
mod dead;
#[path = "process/demo.rs"]
mod demo;
#[path = "process/encrypted.rs"]
mod encrypted;
#[path = "process/full_disk.rs"]
mod full_disk;
#[path = "process/killed.rs"]
mod killed;
#[path = "process/limits.rs"]
mod limits;
#[path = "process/many.rs"]
mod many;
#[path = "process/queues.rs"]
mod queues;
#[path = "process/reload.rs"]
mod reload;
#[path = "process/restart.rs"]
mod restart;
#[path = "process/resume.rs"]
mod resume;
#[path = "process/sandbox.rs"]
mod sandbox;
#[path = "process/start.rs"]
mod start;
#[path = "process/stop.rs"]
mod stop;
#[path = "process/store_room.rs"]
mod store_room;
#[path = "process/stored.rs"]
mod stored;
#[path = "process/tools.rs"]
mod tools;
