//! What `openssl s_client` is told, for each fault that a certificate can have.

use std::net::SocketAddr;
use std::process::Command;

use rcgen::{KeyPair, SerialNumber, date_time_ymd};

use crate::harness::Finished;
use crate::pki::{Pki, Use, ended, has};

/// Connects, and stays until the broker ends the connection: a refusal comes after the client's
/// own side of the handshake is done.
fn visit(pki: &Pki, address: SocketAddr, more: &[&str]) -> Finished {
    let (address, ca) = (address.to_string(), pki.name("ca.pem"));
    ended(
        Command::new("openssl")
            .args(["s_client", "-connect", &address, "-CAfile", &ca])
            .args(["-ign_eof", "-verify_return_error", "-alpn", "h2"])
            .args(more),
    )
}

/// Arguments of a client that shows a certificate.
fn showing(pki: &Pki, name: &str) -> [String; 4] {
    [
        "-cert".to_owned(),
        pki.name(&format!("{name}.pem")),
        "-key".to_owned(),
        pki.name(&format!("{name}-key.pem")),
    ]
}

/// The broker ends connections that never speak HTTP/2, here soon.
const SOON: &str = "grpc.handshake_timeout_seconds=3";

/// What a client shows, the alert that it gets, and what the log says of it.
fn faults(pki: &Pki, stranger: &Pki) -> [(Vec<String>, &'static str, &'static str); 7] {
    [
        (vec![], "alert certificate required", "shows no certificate"),
        (
            showing(pki, "expired").to_vec(),
            "alert certificate expired",
            "expired",
        ),
        (
            showing(pki, "early").to_vec(),
            "alert certificate expired",
            "becomes valid in",
        ),
        (
            showing(pki, "revoked").to_vec(),
            "alert certificate revoked",
            "is revoked",
        ),
        (
            showing(pki, "alone").to_vec(),
            "alert unknown ca",
            "from an unknown CA",
        ),
        (
            showing(stranger, "client").to_vec(),
            "alert unknown ca",
            "from an unknown CA",
        ),
        (
            showing(pki, "server").to_vec(),
            "alert unsupported certificate",
            "extended key usage",
        ),
    ]
}

#[test]
fn faults_of_a_clients_certificate_are_told_by_their_alerts() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let stranger = Pki::new("another authority");
    let numbered = |name: &str, number: u8| {
        pki.issue(name, Use::Client, |params| {
            params.serial_number = Some(SerialNumber::from_slice(&[number]));
        });
    };
    numbered("good", 1);
    numbered("revoked", 2);
    pki.issue("expired", Use::Client, |params| {
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    pki.issue("early", Use::Client, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    pki.issue_alone("alone", Use::Client);
    pki.revoke(&[2]);
    let (asks, crl) = (pki.asks(), pki.name("crl.pem"));
    let crl = format!("security.crl.filename={crl}");
    let broker = pki.broker("server", &[SOON, &asks, &crl]);

    for version in ["-tls1_2", "-tls1_3"] {
        let client = |shown: &[String]| {
            let shown = shown.iter().map(String::as_str);
            let more: Vec<&str> = shown.chain([version]).collect();
            visit(&pki, broker.grpc(), &more).output
        };
        let good = client(&showing(&pki, "good"));
        assert!(good.contains("ALPN protocol: h2"), "{good}");
        assert!(good.contains("Verification: OK"), "{good}");
        assert!(!good.contains("alert"), "{good}");
        for (shown, alert, logged) in faults(&pki, &stranger) {
            let told = client(&shown);
            assert!(told.contains(alert), "{version}, {alert}:\n{told}");
            let log = broker.log();
            assert!(log.contains(logged), "{logged}:\n{log}");
        }
    }
    broker.assert_nothing_left();
    broker.stop();
}

#[test]
fn faults_of_the_brokers_certificate_are_seen_by_a_client() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    pki.issue("expired", Use::Server, |params| {
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    pki.issue("early", Use::Server, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    pki.issue("client-as-server", Use::Client, |_| {});
    pki.issue_alone("alone", Use::Server);
    for (shown, name, says) in [
        ("server", "localhost", None),
        ("server", "another.example", Some("hostname mismatch")),
        ("expired", "localhost", Some("certificate has expired")),
        ("early", "localhost", Some("certificate is not yet valid")),
        ("alone", "localhost", Some("self-signed certificate")),
        (
            "client-as-server",
            "localhost",
            Some("unsuitable certificate purpose"),
        ),
    ] {
        let broker = pki.broker(shown, &[SOON]);
        let visited = visit(
            &pki,
            broker.grpc(),
            &["-verify_hostname", name, "-purpose", "sslserver"],
        );
        let told = visited.output;
        let lower = told.to_lowercase();
        match says {
            None => assert!(told.contains("Verification: OK"), "{told}"),
            Some(says) => assert!(lower.contains(says), "{shown}, {says}:\n{told}"),
        }
        broker.stop();
    }
}

#[test]
fn versions_and_suites_are_those_that_are_safe() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let broker = pki.broker("server", &[SOON]);
    let offers = |address, more: &[&str]| visit(&pki, address, more).output;
    for refused in [
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-SHA"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
        &["-alpn", "http/1.1"],
    ] {
        let told = offers(broker.grpc(), refused);
        assert!(told.contains("alert"), "{refused:?}:\n{told}");
    }
    let told = offers(broker.grpc(), &["-tls1_2"]);
    assert!(told.contains("Secure Renegotiation IS supported"), "{told}");
    assert!(told.contains("Compression: NONE"), "{told}");
    broker.stop();

    let broker = pki.broker("server", &[SOON, "security.min_version=1.3"]);
    let told = offers(broker.grpc(), &["-tls1_2"]);
    assert!(told.contains("alert protocol version"), "{told}");
    let told = offers(broker.grpc(), &["-tls1_3"]);
    assert!(told.contains("Verification: OK"), "{told}");
    broker.stop();
}

#[test]
fn keys_of_rsa_ecdsa_and_ed25519_serve() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let keys = [
        ("rsa-2048", ["RSA", "rsa_keygen_bits:2048"], "rsa_pss_rsae"),
        ("rsa-4096", ["RSA", "rsa_keygen_bits:4096"], "rsa_pss_rsae"),
        ("p-256", ["EC", "ec_paramgen_curve:P-256"], "ECDSA"),
        ("p-384", ["EC", "ec_paramgen_curve:P-384"], "ECDSA"),
        ("ed25519", ["ED25519", ""], "Ed25519"),
    ];
    for (name, [kind, option], signature) in keys {
        let file = pki.name("made-key.pem");
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-algorithm", kind, "-out", &file]);
        if !option.is_empty() {
            make.args(["-pkeyopt", option]);
        }
        let made = ended(&mut make);
        assert!(made.success, "{}", made.output);
        let key = std::fs::read_to_string(&file).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        pki.issue_with_key(name, &key, Use::Server, |_| {});
        pki.issue_with_key(&format!("{name}-client"), &key, Use::Client, |_| {});
        let broker = pki.broker(name, &[SOON, &pki.asks()]);
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = showing(&pki, &format!("{name}-client"));
            let shown = shown.iter().map(String::as_str);
            let more: Vec<&str> = shown.chain([version]).collect();
            let told = visit(&pki, broker.grpc(), &more).output;
            assert!(told.contains("Verification: OK"), "{name}:\n{told}");
            assert!(!told.contains("alert"), "{name}:\n{told}");
            let peer = told.lines().find(|line| line.starts_with("Peer signature"));
            let lower = told.to_lowercase();
            assert!(
                lower.contains(&signature.to_lowercase()) || lower.contains("rsa-pss"),
                "{name}, {peer:?}"
            );
        }
        broker.stop();
    }
}

#[test]
fn sessions_are_resumed() {
    if !has("openssl", "version") {
        return;
    }
    let pki = Pki::new("the authority");
    let broker = pki.broker("server", &[SOON, &pki.asks()]);
    let session = pki.name("session.pem");
    let shown = showing(&pki, "client");
    for version in ["-tls1_2", "-tls1_3"] {
        let visited = |more: &[&str]| {
            let shown = shown.iter().map(String::as_str);
            let more: Vec<&str> = shown.chain([version]).chain(more.iter().copied()).collect();
            visit(&pki, broker.grpc(), &more).output
        };
        let first = visited(&["-sess_out", &session]);
        assert!(first.contains("New, TLS"), "{first}");
        let second = visited(&["-sess_in", &session]);
        assert!(second.contains("Reused, TLS"), "{version}:\n{second}");
    }
    broker.stop();
}
