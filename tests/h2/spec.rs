//! The generic conformance suite, where it is installed.

use std::process::Command;

use crate::harness::{Broker, say};

/// Cases that fail for a harmless reason, as h2spec names them. Its requests are not gRPC calls:
/// each is refused at once, with trailers and without DATA.
const EXPECTED: &[&str] = &[
    // These two wait for DATA.
    "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
    "Sends a PRIORITY frame on half-closed (remote) stream",
    // Refused streams are closed streams: the limit is never reached. See the test of ours.
    "advertised concurrent stream limit to be exceeded",
];

pub(crate) fn h2spec_passes(broker: &Broker) {
    let port = broker.grpc().port().to_string();
    let suite = Command::new("h2spec")
        .args(["-h", "127.0.0.1", "-p", &port, "--timeout", "3"])
        .args(["--path", "/kubemq.kubemq/Ping", "generic", "http2", "hpack"])
        .output();
    let Ok(output) = suite else {
        say("skipped: h2spec is not installed");
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    let failures: Vec<&str> = report
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('×'))
        .filter(|line| !EXPECTED.iter().any(|expected| line.contains(expected)))
        .collect();
    assert!(report.contains("passed"), "{report}");
    assert!(failures.is_empty(), "{failures:#?}\n{report}");
}
