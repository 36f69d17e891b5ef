//! The command line for people: the real program against a real broker.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads, locks and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;

#[path = "cli/admin.rs"]
mod admin;
#[path = "cli/attach.rs"]
mod attach;
#[path = "cli/events.rs"]
mod events;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/queues.rs"]
mod queues;
#[path = "cli/requests.rs"]
mod requests;
#[path = "cli/security.rs"]
mod security;
#[path = "cli/tls.rs"]
mod tls;
