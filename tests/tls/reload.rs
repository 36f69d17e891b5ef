//! A new certificate while the broker runs.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Broker, poll};
use crate::pki::{Kept, PATIENCE, Pki, Use, ended, has};

/// The name in the certificate that new connections see.
fn shown(pki: &Pki, broker: &Broker) -> Option<String> {
    let address = broker.address("rest").unwrap().to_string();
    let visited = ended(
        Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &address,
                "-CAfile",
                &pki.name("ca.pem"),
            ])
            .args(["-cert", &pki.name("client.pem")])
            .args(["-key", &pki.name("client-key.pem")]),
    );
    let subject = visited
        .output
        .lines()
        .find(|line| line.starts_with("subject="))?;
    Some(subject.rsplit(['=', ' ']).next()?.to_owned())
}

fn wait_shown(pki: &Pki, broker: &Broker, name: &str) {
    let seen = poll(PATIENCE, || {
        (shown(pki, broker).as_deref() == Some(name)).then_some(())
    });
    assert!(seen.is_some(), "no {name} in\n{}", broker.log());
}

/// Puts the certificate of `name` in the place of the broker's.
fn replace(pki: &Pki, name: &str) {
    for kind in [".pem", "-key.pem"] {
        let text = std::fs::read_to_string(pki.path(&format!("{name}{kind}"))).unwrap();
        pki.write(&format!("server{kind}"), &text);
    }
}

#[test]
fn new_files_are_seen_and_connections_stay() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let broker = pki.broker("server", &["security.reload_seconds=1", &pki.asks()]);
    let mut kept = Kept::open(&pki, broker.address("rest").unwrap(), "client");
    assert!(kept.get().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(shown(&pki, &broker).as_deref(), Some("server"));

    pki.issue("second", Use::Server, |_| {});
    replace(&pki, "second");
    wait_shown(&pki, &broker, "second");
    assert!(kept.get().unwrap().starts_with("HTTP/1.1 200"));

    // A certificate without its key: told of once, and nothing changes.
    pki.issue("third", Use::Server, |_| {});
    let third = std::fs::read_to_string(pki.path("third.pem")).unwrap();
    pki.write("server.pem", &third);
    const KEPT: &str = "the certificate is not replaced; the one before stays";
    let told = poll(PATIENCE, || broker.log().contains(KEPT).then_some(()));
    assert!(told.is_some(), "{}", broker.log());
    assert_eq!(shown(&pki, &broker).as_deref(), Some("second"));
    replace(&pki, "third");
    wait_shown(&pki, &broker, "third");
    let log = broker.log();
    assert_eq!(log.matches(KEPT).count(), 1, "{log}");
    assert!(kept.get().unwrap().starts_with("HTTP/1.1 200"));
    broker.stop();
}

#[test]
fn sighup_reads_the_files_too() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let broker = pki.broker("server", &["security.reload_seconds=0", &pki.asks()]);
    pki.issue("second", Use::Server, |_| {});
    replace(&pki, "second");
    assert_eq!(shown(&pki, &broker).as_deref(), Some("server"));
    broker.signal(Signal::HUP);
    wait_shown(&pki, &broker, "second");

    pki.write("server.pem", "no certificate");
    const KEPT: &str = "the configuration is not reloaded; the one before stays";
    for asked in 1..=2 {
        broker.signal(Signal::HUP);
        let told = poll(PATIENCE, || {
            let times = broker.log().matches(KEPT).count();
            (times == asked).then_some(())
        });
        assert!(
            told.is_some(),
            "each time that it is asked: {}",
            broker.log()
        );
    }
    assert_eq!(shown(&pki, &broker).as_deref(), Some("second"));
    broker.stop();
}

#[test]
fn a_client_without_a_good_certificate_is_in_the_audit_log() {
    let pki = Pki::new("the authority");
    let stranger = Pki::new("another authority");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let audit = format!("audit.log_file={}", file.display());
    let broker = pki.broker("server", &[&pki.asks(), &audit]);
    // It believes the broker, and shows what the broker does not believe.
    let ca = std::fs::read_to_string(pki.path("ca.pem")).unwrap();
    stranger.write("ca.pem", &ca);
    let refused = Kept::open(&stranger, broker.address("rest").unwrap(), "client").get();
    assert!(refused.is_err());
    let written = poll(PATIENCE, || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let line = text.lines().find(|line| line.contains("auth.refused"))?;
        Some(line.to_owned())
    });
    let written = written.unwrap_or_else(|| panic!("{}", broker.log()));
    assert!(written.contains("\"rest\""), "{written}");
    assert!(written.contains("from an unknown CA"), "{written}");
    broker.stop();
}

#[test]
fn a_revoked_client_is_told_to_go() {
    let pki = Pki::new("the authority");
    for (name, number) in [("alice", 7), ("bob", 8)] {
        pki.issue(name, Use::Client, |params| {
            params.serial_number = Some(rcgen::SerialNumber::from_slice(&[number]));
        });
    }
    pki.revoke(&[]);
    let crl = format!("security.crl.filename={}", pki.name("crl.pem"));
    let broker = pki.broker(
        "server",
        &[
            "security.reload_seconds=1",
            "grpc.handshake_timeout_seconds=60",
            &pki.asks(),
            &crl,
        ],
    );
    let rest = broker.address("rest").unwrap();
    // Connected before the list changes; their handshakes come with their first request.
    let [mut late_alice, mut late_bob] = ["alice", "bob"].map(|name| Kept::open(&pki, rest, name));
    let mut alice = Kept::open(&pki, rest, "alice");
    let mut bob = Kept::open(&pki, rest, "bob");
    assert!(alice.get().is_ok() && bob.get().is_ok());

    pki.revoke(&[7]);
    assert!(alice.is_ended(), "{}", broker.log());
    assert!(bob.get().is_ok(), "{}", broker.log());
    assert!(late_alice.get().is_err(), "{}", broker.log());
    assert!(late_bob.get().is_ok(), "{}", broker.log());
    let refused = Kept::open(&pki, rest, "alice").get().unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
    assert!(broker.log().contains("is revoked"), "{}", broker.log());
    broker.stop();
}
