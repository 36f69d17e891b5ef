//! Python's grpcio: connects, and fails with what was wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{SerialNumber, date_time_ymd};

use crate::harness::{clean, say, target};
use crate::pki::{Pki, Use, ended};

/// Pings once; prints the code and its details.
const PING: &str = r#"
import sys
import grpc

address, ca, certificate, key, name = sys.argv[1:]

def read(path):
    return open(path, "rb").read() if path else None

credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(certificate))
options = [("grpc.ssl_target_name_override", name)] if name else []
channel = grpc.secure_channel(address, credentials, options=options)
try:
    answer = channel.unary_unary("/kubemq.kubemq/Ping")(b"", timeout=30)
    print("OK", len(answer))
except grpc.RpcError as error:
    print(error.code().name, error.details())
"#;

/// An interpreter that has grpcio: the one of the SDK's tests, or the machine's.
fn python() -> Option<PathBuf> {
    let chosen = std::env::var_os("RINGMQ_PYTHON").map(PathBuf::from);
    let made = target().join("sdk-venv").join("bin").join("python");
    let candidates = chosen.into_iter().chain([made, PathBuf::from("python3")]);
    let found = candidates.into_iter().find(|python| {
        let mut ask = Command::new(python);
        let asked =
            crate::harness::run(clean(ask.args(["-c", "import grpc"])), crate::pki::PATIENCE);
        asked.is_ok_and(|finished| finished.success)
    });
    if found.is_none() {
        say("skipped: no interpreter of this machine has grpcio");
    }
    found
}

#[test]
fn grpcio_connects_and_is_refused_for_each_fault() {
    let Some(python) = python() else { return };
    let pki = Pki::new("the authority");
    let stranger = Pki::new("another authority");
    pki.issue("revoked", Use::Client, |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[2]));
    });
    pki.issue("expired", Use::Client, |params| {
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    pki.issue("early", Use::Client, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    pki.issue_alone("alone", Use::Client);
    pki.revoke(&[2]);
    let crl = format!("security.crl.filename={}", pki.name("crl.pem"));
    let broker = pki.broker("server", &[&pki.asks(), &crl]);
    let ping = |address: SocketAddr, ca: &str, shown: Option<(&Pki, &str)>, name: &str| {
        let file = |kind: &str| {
            let named = shown.map(|(pki, name)| pki.name(&format!("{name}{kind}")));
            named.unwrap_or_default()
        };
        let mut command = Command::new(&python);
        command.args(["-c", PING, &address.to_string(), ca]).args([
            file(".pem"),
            file("-key.pem"),
            name.to_owned(),
        ]);
        ended(clean(&mut command)).output
    };
    let ca = pki.name("ca.pem");
    let good = ping(broker.grpc(), &ca, Some((&pki, "client")), "");
    assert!(good.contains("OK "), "{good}");

    // What its own side does not believe.
    let told = ping(
        broker.grpc(),
        &ca,
        Some((&pki, "client")),
        "another.example",
    );
    assert!(told.contains("UNAVAILABLE"), "{told}");
    assert!(told.contains("Hostname Verification"), "{told}");
    let other = stranger.name("ca.pem");
    let told = ping(broker.grpc(), &other, Some((&pki, "client")), "");
    assert!(told.contains("UNAVAILABLE"), "{told}");
    assert!(told.contains("CERTIFICATE_VERIFY_FAILED"), "{told}");

    // What the broker does not believe.
    for (shown, logged) in [
        (None, "shows no certificate"),
        (Some((&pki, "revoked")), "is revoked"),
        (Some((&pki, "expired")), "expired"),
        (Some((&pki, "early")), "becomes valid in"),
        (Some((&pki, "alone")), "from an unknown CA"),
        (Some((&stranger, "client")), "from an unknown CA"),
        (Some((&pki, "server")), "extended key usage"),
    ] {
        let told = ping(broker.grpc(), &ca, shown, "");
        assert!(told.contains("UNAVAILABLE"), "{logged}: {told}");
        let log = broker.log();
        assert!(log.contains(logged), "{logged}:\n{log}");
    }
    broker.stop();
}
