//! Brokers with TLS, and what their clients show of themselves.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the clock; what cannot be made fails the test"
)]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use ringmq::security::authentication::{Algorithm, SigningKey};
use serde_json::json;
use tempfile::TempDir;

use super::alone;
use crate::harness::Broker;

const TOKEN_KEY: &str = "the key that signs the tokens of the suites of the SDKs";

const POLICY: &str =
    r#"[{"ClientID":".*","Events":true,"Channel":"allowed","Read":true,"Write":true}]"#;

/// One broker that takes tokens, and one that takes certificates.
pub(super) struct Brokers {
    identities: TempDir,
    tokens: Broker,
    certificates: Broker,
}

impl Brokers {
    pub(super) fn start() -> Self {
        let identities = tempfile::tempdir().unwrap();
        make_identities(identities.path());
        let file = |setting: &str, name: &str| {
            let path = identities.path().join(name);
            format!("security.{setting}.filename={}", path.display())
        };
        let tls = [file("cert", "server.pem"), file("key", "server-key.pem")];
        let mut with_tokens = tls.to_vec();
        with_tokens.extend([
            "authentication.enable=true".to_owned(),
            format!("authentication.jwt_config.key={TOKEN_KEY}"),
            "authentication.jwt_config.signature_type=HS256".to_owned(),
            "authorization.enable=true".to_owned(),
            format!("authorization.policy_data={POLICY}"),
        ]);
        let mut with_certificates = tls.to_vec();
        with_certificates.push(file("ca", "ca.pem"));
        let set = |settings: Vec<String>| {
            let flags = settings.into_iter();
            Broker::start_with(1, flags.flat_map(|setting| ["--set".to_owned(), setting]))
        };
        Self {
            tokens: set(with_tokens),
            certificates: set(with_certificates),
            identities,
        }
    }

    /// Tells a suite of them.
    pub(super) fn named_for<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        alone(command)
            .env("RINGMQ_TLS_ADDRESS", self.tokens.grpc().to_string())
            .env("RINGMQ_MTLS_ADDRESS", self.certificates.grpc().to_string())
            .env("RINGMQ_IDENTITIES", self.identities.path())
            .env("RINGMQ_TOKEN", token(TOKEN_KEY, 3_600))
            .env("RINGMQ_TOKEN_EXPIRED", token(TOKEN_KEY, -100))
            .env(
                "RINGMQ_TOKEN_FORGED",
                token("another key that nobody was told of", 3_600),
            )
    }

    pub(super) fn stop(self) {
        for broker in [self.tokens, self.certificates] {
            broker.assert_nothing_left();
            broker.stop();
        }
    }
}

/// A token that ends so many seconds from now.
fn token(key: &str, seconds: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let ends = i64::try_from(now).unwrap() + seconds;
    let claims = json!({ "sub": "suite", "exp": ends });
    let key = SigningKey::new(Algorithm::HS256, key.as_bytes()).unwrap();
    key.token(None, claims.as_object().unwrap()).unwrap()
}

/// Makes two authorities; a certificate of the first for the broker, and one of each for a client.
fn make_identities(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, strange) = (authority("ours"), authority("strange"));
    let write = |name: &str, pem: String| std::fs::write(folder.join(name), pem).unwrap();
    write("ca.pem", ours.pem());
    write("stranger-ca.pem", strange.pem());
    let names = [
        ("server", "127.0.0.1"),
        ("client", "a client"),
        ("stranger", "a stranger"),
    ];
    for (name, host) in names {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let issuer = if name == "stranger" { &strange } else { &ours };
        let certificate = params.signed_by(&key, issuer).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
}
