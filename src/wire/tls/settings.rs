//! The files of a side, and the configuration that is made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::trust::Anyone;
use super::{ALPN_H2, ALPN_HTTP1, ClientTls, SettingsError};

/// What is spoken inside, as ALPN tells the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2; no connection without it.
    #[default]
    Http2,
    /// HTTP/1.1.
    Http1,
}

/// How a client does TLS.
#[derive(Clone, Debug)]
pub struct ClientTlsSettings {
    /// The name or address that the server's certificate has to be for.
    pub server_name: String,
    /// PEM file of the authorities that are believed, and no others. `None`: those of the machine.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate that is shown to the server, with those between it and the
    /// authority behind it. `None`: none is shown.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key. `None`: it is in the file of the certificate.
    pub key: Option<PathBuf>,
    /// Accepts any certificate, of anybody: what is sent can be read and changed on its way.
    pub insecure: bool,
    /// How long a handshake may take. 5 s.
    pub handshake_timeout: Duration,
    /// What is spoken inside. HTTP/2.
    pub protocol: Protocol,
}

impl ClientTlsSettings {
    /// Believes the machine's authorities, and shows nothing.
    #[must_use]
    pub fn new(server_name: impl Into<String>) -> Self {
        Self {
            server_name: server_name.into(),
            ca: None,
            certificate: None,
            key: None,
            insecure: false,
            handshake_timeout: Duration::from_secs(5),
            protocol: Protocol::Http2,
        }
    }

    pub(super) fn load(&self) -> Result<ClientTls, SettingsError> {
        let name = self.server_name.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| SettingsError::ServerName {
            name: self.server_name.clone(),
        })?;
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let builder = if self.insecure {
            tracing::warn!(server = %self.server_name, "TLS without verification: ANY certificate \
                            is accepted, the connection protects nothing");
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone::new(&provider)))
        } else {
            builder.with_root_certificates(roots(self.ca.as_deref())?)
        };
        let mut config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (None, Some(key)) => {
                return Err(SettingsError::KeyWithoutCertificate { path: key.clone() });
            }
            (Some(certificate), key) => {
                let key = Pem::File(key.as_ref().unwrap_or(certificate).clone());
                let certificate = Pem::File(certificate.clone());
                let (chain, private) = identity(&certificate, &key)?;
                let builder = builder.with_client_auth_cert(chain, private);
                builder.map_err(|reason| bad_identity(&certificate, &key, reason))?
            }
        };
        config.alpn_protocols = match self.protocol {
            Protocol::Http2 => vec![ALPN_H2.to_vec()],
            Protocol::Http1 => vec![ALPN_HTTP1.to_vec()],
        };
        Ok(ClientTls {
            config: Arc::new(config),
            name,
            handshake_timeout: self.handshake_timeout,
            insecure: self.insecure,
            protocol: self.protocol,
        })
    }
}

/// Where PEM is found.
#[derive(Clone)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// In a setting of this name.
    Text {
        /// For messages.
        name: &'static str,
        /// The PEM itself.
        text: Vec<u8>,
    },
}

/// Without the text, which may be a key.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pem").field(&self.place()).finish()
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl Pem {
    /// What messages call it: the file, or the setting.
    pub(super) fn place(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Text { name, .. } => Path::new(name),
        }
    }

    fn certificates(
        &self,
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
        let place = self.place();
        let certificates: Result<Vec<_>, _> = match self {
            Self::File(path) => {
                CertificateDer::pem_file_iter(path).and_then(|found| found.collect())
            }
            Self::Text { text, .. } => CertificateDer::pem_slice_iter(text).collect(),
        };
        let certificates = certificates.map_err(file_error(what, place))?;
        if certificates.is_empty() {
            return Err(SettingsError::NoCertificate {
                path: place.to_owned(),
            });
        }
        Ok(certificates)
    }

    /// Lists of revoked certificates, in PEM. At least one.
    pub(super) fn revocations(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, SettingsError> {
        let place = self.place();
        let lists: Result<Vec<_>, _> = match self {
            Self::File(path) => {
                CertificateRevocationListDer::pem_file_iter(path).and_then(|found| found.collect())
            }
            Self::Text { text, .. } => CertificateRevocationListDer::pem_slice_iter(text).collect(),
        };
        let lists = lists.map_err(file_error("lists of revoked certificates", place))?;
        if lists.is_empty() {
            return Err(SettingsError::NoRevocations {
                path: place.to_owned(),
            });
        }
        Ok(lists)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, SettingsError> {
        let key = match self {
            Self::File(path) => PrivateKeyDer::from_pem_file(path),
            Self::Text { text, .. } => PrivateKeyDer::from_pem_slice(text),
        };
        key.map_err(file_error("a private key", self.place()))
    }
}

/// Named, not installed for the whole process: two libraries that install one break each other.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The authorities of a file, every one of which has to be usable; or those of the machine, whose
/// lists often hold a few that are not.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, SettingsError> {
    if let Some(path) = ca {
        return given_roots(&Pem::File(path.to_owned()));
    }
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "part of the machine's list of authorities is left out");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    Ok(roots)
}

pub(super) fn given_roots(authorities: &Pem) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities.certificates("CA certificates")? {
        let added = roots.add(certificate);
        added.map_err(|reason| SettingsError::BadAuthority {
            path: authorities.place().to_owned(),
            reason,
        })?;
    }
    Ok(roots)
}

pub(super) fn identity(
    certificate: &Pem,
    key: &Pem,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SettingsError> {
    Ok((certificate.certificates("certificates")?, key.key()?))
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> SettingsError {
    let path = path.to_owned();
    move |reason| SettingsError::File { what, path, reason }
}

pub(super) fn bad_identity(certificate: &Pem, key: &Pem, reason: rustls::Error) -> SettingsError {
    SettingsError::BadIdentity {
        certificate: certificate.place().to_owned(),
        key: key.place().to_owned(),
        reason,
    }
}
