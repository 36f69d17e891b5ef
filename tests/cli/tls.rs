//! Brokers behind TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::harness::Broker;
use crate::program::{program, run};

/// Makes an authority, a certificate of it for the loopback, and one for a client.
fn make_identities(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
    for (name, host) in [("server", "127.0.0.1"), ("client", "a client")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn certificates_are_shown_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    make_identities(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = [
        ("cert", "server.pem"),
        ("key", "server-key.pem"),
        ("ca", "ca.pem"),
    ];
    let arguments = settings.iter().flat_map(|(key, file)| {
        let assigned = format!("security.{key}.filename={}", path(file));
        ["--set".to_owned(), assigned]
    });
    let broker = Broker::start_with(1, arguments);
    let address = broker.grpc().to_string();
    let ping = |flags: &[&str]| {
        let mut command = program(&["status", "--timeout", "5s", "--address", &address]);
        run(command.args(flags), b"")
    };
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let known = ping(&["--ca", &ca, "--cert", &cert, "--key", &key, "-o", "json"]);
    assert_eq!(known.code, Some(0), "{known:?}");
    for strange in [&[][..], &["--tls"], &["--ca", &ca]] {
        let ended = ping(strange);
        assert_eq!(ended.code, Some(69), "{strange:?}: {ended:?}");
    }
    broker.stop();
}
