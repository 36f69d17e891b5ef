//! The three ports, with curl; and clients that forgot about TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::harness::Finished;
use crate::pki::{PATIENCE, Pki, ended, has};

fn curl(pki: &Pki, url: &str, more: &[&str]) -> Finished {
    let ca = pki.name("ca.pem");
    ended(
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30"])
            .args([
                "--cacert",
                &ca,
                "--write-out",
                "\n%{http_code} %{http_version}",
                url,
            ])
            .args(more),
    )
}

#[test]
fn rest_and_the_management_port_ask_for_certificates() {
    if !has("curl", "--version") {
        return;
    }
    let pki = Pki::new("the authority");
    let stranger = Pki::new("another authority");
    let broker = pki.broker("server", &[&pki.asks(), "api.tls=true"]);
    for (port, path, says) in [("rest", "/ping", "is_error"), ("api", "/health", "healthy")] {
        let address = broker.address(port).unwrap();
        let url = format!("https://{address}{path}");
        let shown = |pki: &Pki, name: &str| {
            [
                "--cert".to_owned(),
                pki.name(&format!("{name}.pem")),
                "--key".to_owned(),
                pki.name(&format!("{name}-key.pem")),
            ]
        };
        let good = shown(&pki, "client");
        let good: Vec<&str> = good.iter().map(String::as_str).collect();
        for (more, version) in [("--http1.1", "200 1.1"), ("--http2", "200 2")] {
            let more: Vec<&str> = good.iter().copied().chain([more]).collect();
            let answer = curl(&pki, &url, &more);
            assert!(answer.output.contains(says), "{}", answer.output);
            assert!(answer.output.contains(version), "{}", answer.output);
        }
        let bad = shown(&stranger, "client");
        let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
        for (more, alert) in [(&[][..], "certificate required"), (&bad, "unknown ca")] {
            let answer = curl(&pki, &url, more);
            assert!(!answer.success, "{}", answer.output);
            let told = answer.output.to_lowercase();
            assert!(told.contains(alert), "{alert}: {told}");
        }
    }
    broker.stop();
}

#[test]
fn certificates_may_be_asked_for_and_not_required() {
    if !has("curl", "--version") {
        return;
    }
    let pki = Pki::new("the authority");
    let asked = ["security.client_certificates=requested", "api.tls=true"];
    let broker = pki.broker("server", &[&pki.asks(), asked[0], asked[1]]);
    let url = format!("https://{}/health", broker.address("api").unwrap());
    let answer = curl(&pki, &url, &[]);
    assert!(answer.output.starts_with("healthy"), "{}", answer.output);
    broker.stop();
}

/// As the reference answers, on its REST port.
#[test]
fn a_request_without_tls_is_told_so_by_http() {
    let pki = Pki::new("the authority");
    let broker = pki.broker("server", &["api.tls=true"]);
    for port in ["rest", "api"] {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /send/event HTTP/1.1\r\n",
        ] {
            let address = broker.address(port).unwrap();
            let mut plain = TcpStream::connect(address).unwrap();
            plain.set_read_timeout(Some(PATIENCE)).unwrap();
            plain.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            plain.read_to_string(&mut answer).unwrap();
            assert_eq!(
                answer,
                "HTTP/1.0 400 Bad Request\r\n\r\n\
                 Client sent an HTTP request to an HTTPS server.\n"
            );
        }
    }
    // Of gRPC it is just an end.
    let mut plain = TcpStream::connect(broker.grpc()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset_or_end = plain.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    broker.stop();
}
