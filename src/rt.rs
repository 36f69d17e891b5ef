//! The runtime seam: the only module that names the runtime.
//!
//! Everything above sees tasks, timers, sockets, inboxes and a mesh; what runs them is an
//! implementation detail that can be exchanged (`docs/adr/`). The seam carries the guards that the
//! runtime needs, so that no caller has to know of them:
//!
//! - The executor parks although tasks can run, when its preempt timer fires before the first
//!   task queue ran. Guard: a preempt timer of one second makes that rare, and a [`heartbeat`]
//!   from outside makes every executor turn each 10 ms.
//! - A task that wakes itself starves the reactor. Guard: [`reactor_yield`] goes through the
//!   reactor; nothing in this crate wakes itself.
//! - A panic in a task ends the executor. Guard: [`spawn`] contains it, and [`start::Executors`]
//!   reports a thread that ends all the same.
//! - A cancelled task leaks. Guard: tasks are always detached and end by themselves.
//! - Each poll of a timer registers it anew, and the reactor looks through all of them in each of
//!   its turns. Guard: few timers, polled once; deadlines belong on the wheel of the shard.
//! - io_uring is refused by the container. Guard: [`probe::probe`] runs before any executor and
//!   says why.
//!
//! # Threading
//! Unless a type says that it is `Send`, it belongs to the executor that made it.

mod aside;
mod blocking;
pub mod clock;
pub mod file;
pub mod heartbeat;
pub mod inbox;
mod line;
pub mod mesh;
pub mod net;
pub mod notify;
mod poller;
pub mod probe;
pub mod start;
mod task;
pub mod turn;

pub use aside::{keep_aside, step_aside};
pub use blocking::{blocking, blocking_ended, give_way, heavy, let_go, went_through};
pub use clock::{Instant, now, unix_ns};
pub use file::{FileHook, LogFile};
pub use line::PlaceInLine;
pub use net::{Conn, Traffic, traffic};
pub use notify::Notify;
pub use poller::{Look, sleep_until};
pub use task::{
    Queue, Sleep, TaskStats, reactor_yield, sleep, spawn, spawn_call, spawn_connection, task_stats,
};
pub use turn::{busy_ns, on_turn};

#[cfg(test)]
mod tests;
