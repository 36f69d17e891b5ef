//! An authority of the tests, and the files that it issues.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::harness::{Broker, Finished, run, say};

/// How long a client may take, with the broker's own limits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What certificates of the tests are for.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Server,
    Client,
}

pub(crate) struct Pki {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// An authority, in `ca.pem`; a certificate for the loopback, in `server.pem`; one for a
    /// client, in `client.pem`.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pki = Self { folder, issuer };
        pki.write("ca.pem", &pki.issuer.pem());
        pki.issue("server", Use::Server, |_| {});
        pki.issue("client", Use::Client, |_| {});
        pki
    }

    /// A file of the tests.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The same as text.
    pub(crate) fn name(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// Replaces a file in one step.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let partial = self.path(&format!("{file}.partial"));
        fs::write(&partial, text).unwrap();
        fs::rename(&partial, self.path(file)).unwrap();
    }

    /// Issues `NAME.pem` with its key in `NAME-key.pem`.
    pub(crate) fn issue(&self, name: &str, purpose: Use, set: impl FnOnce(&mut CertificateParams)) {
        self.issue_with_key(name, &KeyPair::generate().unwrap(), purpose, set);
    }

    pub(crate) fn issue_with_key(
        &self,
        name: &str,
        key: &KeyPair,
        purpose: Use,
        set: impl FnOnce(&mut CertificateParams),
    ) {
        let params = params(name, purpose, set);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// A certificate that nobody but its own key has signed.
    pub(crate) fn issue_alone(&self, name: &str, purpose: Use) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, purpose, |_| {}).self_signed(&key).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// The list of revoked certificates, in `crl.pem`.
    pub(crate) fn revoke(&self, numbers: &[u8]) {
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*number]),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        self.write("crl.pem", &list.pem().unwrap());
    }

    /// Arguments of a broker that shows a certificate, with further settings.
    pub(crate) fn arguments(&self, server: &str, more: &[&str]) -> Vec<String> {
        let mut settings = vec![
            format!(
                "security.cert.filename={}",
                self.name(&format!("{server}.pem"))
            ),
            format!(
                "security.key.filename={}",
                self.name(&format!("{server}-key.pem"))
            ),
        ];
        settings.extend(more.iter().map(|&setting| setting.to_owned()));
        let set = settings.into_iter();
        set.flat_map(|setting| ["--set".to_owned(), setting])
            .collect()
    }

    /// The setting that asks clients for certificates of this authority.
    pub(crate) fn asks(&self) -> String {
        format!("security.ca.filename={}", self.name("ca.pem"))
    }

    pub(crate) fn broker(&self, server: &str, more: &[&str]) -> Broker {
        Broker::start_with(1, self.arguments(server, more))
    }
}

/// A connection of HTTP/1.1 over TLS that stays.
pub(crate) struct Kept(StreamOwned<ClientConnection, TcpStream>);

impl Kept {
    /// Connects in the name of a client.
    pub(crate) fn open(pki: &Pki, address: SocketAddr, client: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(pki.path("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let chain = CertificateDer::from_pem_file(pki.path(&format!("{client}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{client}-key.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .unwrap();
        let name = ServerName::from(address.ip());
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(StreamOwned::new(session, socket))
    }

    /// The head of an answer to one more request.
    pub(crate) fn get(&mut self) -> io::Result<String> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"hi") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        Ok(String::from_utf8(answer).unwrap())
    }

    /// Whether the broker ends it.
    pub(crate) fn is_ended(&mut self) -> bool {
        !matches!(self.0.read(&mut [0]), Ok(1))
    }
}

fn params(name: &str, purpose: Use, set: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let (usage, names) = match purpose {
        Use::Server => (
            ExtendedKeyUsagePurpose::ServerAuth,
            vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ],
        ),
        Use::Client => (
            ExtendedKeyUsagePurpose::ClientAuth,
            vec![SanType::DnsName(format!("{name}.test").try_into().unwrap())],
        ),
    };
    params.extended_key_usages = vec![usage];
    params.subject_alt_names = names;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    set(&mut params);
    params
}

/// Whether the machine has a tool; says so if not.
pub(crate) fn has(tool: &str, ask: &str) -> bool {
    let found = run(Command::new(tool).arg(ask), PATIENCE);
    let found = found.is_ok_and(|finished| finished.success);
    if !found {
        say(&format!("skipped: this machine has no {tool}"));
    }
    found
}

pub(crate) fn ended(command: &mut Command) -> Finished {
    run(command, PATIENCE).unwrap()
}
