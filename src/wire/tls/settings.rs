//! The files of a side, and the configuration that is made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::trust::Anyone;
use super::{ALPN_H2, ClientTls, ServerTls, SettingsError};

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
                let key = key.as_ref().unwrap_or(certificate);
                let (chain, private) = identity(certificate, key)?;
                let builder = builder.with_client_auth_cert(chain, private);
                builder.map_err(|reason| bad_identity(certificate, key, reason))?
            }
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(ClientTls {
            config: Arc::new(config),
            name,
            handshake_timeout: self.handshake_timeout,
            insecure: self.insecure,
        })
    }
}

/// How a server does TLS.
#[derive(Clone, Debug)]
pub struct ServerTlsSettings {
    /// PEM file of the server's certificate, with those between it and the authority behind it.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities of clients: each has to show a certificate of theirs. `None`:
    /// clients show none.
    pub client_ca: Option<PathBuf>,
}

impl ServerTlsSettings {
    pub(super) fn load(&self) -> Result<ServerTls, SettingsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots(Some(path))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .expect("there is an authority, and no revocation list");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, private) = identity(&self.certificate, &self.key)?;
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|reason| bad_identity(&self.certificate, &self.key, reason))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(ServerTls {
            config: Arc::new(config),
        })
    }
}

/// Named, not installed for the whole process: two libraries that install one break each other.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The authorities of a file, every one of which has to be usable; or those of the machine, whose
/// lists often hold a few that are not.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates("CA certificates", path)? {
            let added = roots.add(certificate);
            added.map_err(|reason| SettingsError::BadAuthority {
                path: path.to_owned(),
                reason,
            })?;
        }
        return Ok(roots);
    }
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

fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SettingsError> {
    let chain = certificates("certificates", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(file_error("a private key", key))?;
    Ok((chain, private))
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(file_error(what, path))?;
    if certificates.is_empty() {
        return Err(SettingsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> SettingsError {
    let path = path.to_owned();
    move |reason| SettingsError::File { what, path, reason }
}

fn bad_identity(certificate: &Path, key: &Path, reason: rustls::Error) -> SettingsError {
    SettingsError::BadIdentity {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason,
    }
}
