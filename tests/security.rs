//! Who may do what, over gRPC: tokens, client ids, policies, and streams that outlive them. What
//! the reference was seen to do (`http-security-ops.md` of the specification, 5.2 and 5.3) has a
//! test each, with its text, unless we differ on purpose.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "security/actions.rs"]
mod actions;

#[path = "security/audit.rs"]
mod audit;
#[path = "security/binding.rs"]
mod binding;
#[path = "security/broker.rs"]
mod broker;
#[path = "security/client.rs"]
mod client;
#[path = "security/expiry.rs"]
mod expiry;
#[path = "security/limits.rs"]
mod limits;
#[path = "security/policies.rs"]
mod policies;
#[path = "security/queues.rs"]
mod queues;
#[path = "security/reloads.rs"]
mod reloads;
#[path = "security/tokens.rs"]
mod tokens;
