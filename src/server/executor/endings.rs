//! How ends of connections are told of: each one, unless there are too many.
//!
//! Whoever can connect can make connections end; without a bound it could fill the disk with lines
//! about that.

use std::cell::Cell;
use std::net::SocketAddr;

use super::Port;
use crate::http;
use crate::model::identity::Proof;
use crate::rt::Instant;
use crate::security::audit::{Auditor, Entry};
use crate::wire::tls;

/// Lines in a second. An executor with more ends than this has no ordinary day.
const LINES_PER_SECOND: u32 = 10;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Endings {
    second: Cell<u64>,
    told: Cell<u32>,
    left_out: Cell<u64>,
}

impl Endings {
    /// Whether one more may be told of; says how many were left out before it.
    pub(super) fn may_tell(&self, now: Instant) -> bool {
        let second = now.as_ms() / 1_000;
        if self.second.replace(second) != second {
            self.told.set(0);
            let left_out = self.left_out.take();
            if left_out > 0 {
                tracing::info!(left_out, "further connections have ended");
            }
        }
        let may_tell = self.told.get() < LINES_PER_SECOND;
        if may_tell {
            self.told.set(self.told.get() + 1);
        } else {
            self.left_out.set(self.left_out.get() + 1);
        }
        may_tell
    }
}

/// Puts a client that was turned away for its certificate among those who were refused.
pub(super) fn record_refused(auditor: &Auditor, port: Port, peer: SocketAddr, error: &tls::Error) {
    if !error.is_of_certificate() {
        return;
    }
    auditor.record(Entry {
        who: "",
        proof: Proof::None,
        client_id: "",
        peer: Some(peer),
        what: "auth.refused",
        target: match port {
            Port::Grpc => "grpc",
            Port::Http(http::Port::Rest) => "rest",
            Port::Http(http::Port::Api) => "api",
        },
        outcome: Err(&error.to_string()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_ends_is_told_of_in_a_few_lines() {
        let endings = Endings::default();
        let at = |ms: u64| Instant::from_ns(ms * 1_000_000);
        let told = (0..1_000).filter(|ms| endings.may_tell(at(5_000 + ms % 999)));
        assert_eq!(told.count(), 10);
        assert_eq!(endings.left_out.get(), 990);
        assert!(endings.may_tell(at(6_000)), "a second later");
        assert_eq!(endings.left_out.get(), 0);
    }
}
