//! TLS of a real broker, with clients of other makes: openssl, curl and grpcio. A tool that the
//! machine does not have is said, and its tests are left out.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;

#[path = "tls/grpcio.rs"]
mod grpcio;
#[path = "tls/openssl.rs"]
mod openssl;
#[path = "tls/pki.rs"]
mod pki;
#[path = "tls/ports.rs"]
mod ports;
#[path = "tls/reload.rs"]
mod reload;
