//! The server's side: its identity, whom it believes, and what it goes by.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::settings::{bad_identity, given_roots, identity, provider};
use super::{ALPN_H2, ALPN_HTTP1, Error, Handshakes, Pem, SettingsError, names, standing};

static TLS13_ONLY: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Each of them; no connection without one.
    #[default]
    Required,
    /// They may; one that is shown has to be good.
    Requested,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldestVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// How a server does TLS.
#[derive(Clone, Debug)]
pub struct ServerTlsSettings {
    /// The server's certificate, with those between it and the authority behind it.
    pub certificate: Pem,
    /// Its key.
    pub key: Pem,
    /// The authorities of clients. `None`: clients are not asked for a certificate.
    pub client_ca: Option<Pem>,
    /// What is asked of clients, when there are authorities.
    pub client_certificates: ClientCertificates,
    /// Lists of certificates that are revoked: one of each authority that issued one in a client's
    /// chain. A client whose state no list tells is refused, and so are all when the list that
    /// tells it has ended. `None`: no certificate is revoked.
    pub revocations: Option<Pem>,
    /// What is spoken.
    pub oldest_version: OldestVersion,
}

impl ServerTlsSettings {
    /// Shows a certificate and asks for none.
    #[must_use]
    pub fn new(certificate: Pem, key: Pem) -> Self {
        Self {
            certificate,
            key,
            client_ca: None,
            client_certificates: ClientCertificates::default(),
            revocations: None,
            oldest_version: OldestVersion::default(),
        }
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.oldest_version {
            OldestVersion::Tls12 => rustls::ALL_VERSIONS,
            OldestVersion::Tls13 => &TLS13_ONLY,
        }
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, SettingsError> {
        let Some(authorities) = &self.client_ca else {
            return Ok(None);
        };
        let roots = Arc::new(given_roots(authorities)?);
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        if let Some(lists) = &self.revocations {
            builder = builder
                .with_crls(lists.revocations()?)
                .enforce_revocation_expiration();
        }
        if self.client_certificates == ClientCertificates::Requested {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|reason| {
            let place = self.revocations.as_ref().unwrap_or(authorities).place();
            SettingsError::BadRevocations {
                path: place.to_owned(),
                reason: reason.to_string(),
            }
        })?;
        Ok(Some(verifier))
    }
}

/// What a server needs for TLS.
///
/// Sessions are resumed by tickets, which hold all that is needed: the server remembers nothing.
/// The keys of the tickets are made anew every six hours, and with each of these: what was agreed
/// on under other settings is not resumed.
///
/// # Threading
/// Shared by all executors. Nothing that is shared is touched after a handshake.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    handshakes: Handshakes,
    certificate_ends_at_ns: Option<i64>,
    /// HTTP/1.1 is spoken, too.
    http1: bool,
}

impl ServerTls {
    /// Reads the files that `settings` name. Blocks; meant for the start of a process, or a thread
    /// of its own.
    ///
    /// # Errors
    /// [`SettingsError`], which says which file or setting is at fault.
    pub fn load(
        settings: &ServerTlsSettings,
        handshakes: &Handshakes,
    ) -> Result<Self, SettingsError> {
        let provider = provider();
        let verifier = settings.verifier(&provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(settings.versions())
            .expect("the provider has suites for both versions");
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        };
        let (chain, private) = identity(&settings.certificate, &settings.key)?;
        let ends_at = chain.first().and_then(|own| names::ends_at(own));
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|reason| bad_identity(&settings.certificate, &settings.key, reason))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new()
            .map_err(|reason| SettingsError::NoTickets { reason })?;
        Ok(Self {
            config: Arc::new(config),
            verifier,
            handshakes: handshakes.clone(),
            certificate_ends_at_ns: ends_at,
            http1: false,
        })
    }

    /// The same identity for a port that speaks HTTP/2 and HTTP/1.1; who names no protocol speaks
    /// the latter.
    #[must_use]
    pub fn with_http1(&self) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        Self {
            config: Arc::new(config),
            http1: true,
            ..self.clone()
        }
    }

    /// When the server's own certificate ends: nanoseconds since 1970. `None`: it does not say.
    #[must_use]
    pub const fn certificate_ends_at_ns(&self) -> Option<i64> {
        self.certificate_ends_at_ns
    }

    /// Goes by these settings on the calling executor from now on: closes the connections of the
    /// clients that would not be let in now, those without a certificate where one is required
    /// among them. Handshakes that began under earlier settings have to satisfy these, too.
    pub fn verify_clients_again(&self) {
        standing::verify_again(self.clone());
    }

    /// The configuration, for a socket that blocks.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether the two sides may go on with what they agreed on.
    pub(crate) fn accepts(&self, agreed: Option<&[u8]>) -> bool {
        agreed == Some(ALPN_H2) || self.http1
    }

    /// Whether a client that forgot about TLS is told so by HTTP.
    pub(crate) const fn speaks_http1(&self) -> bool {
        self.http1
    }

    pub(crate) const fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    pub(crate) fn session(&self) -> Result<ServerConnection, Error> {
        ServerConnection::new(Arc::clone(&self.config))
            .map_err(|error| Error::from_rustls(error, "the client"))
    }

    /// Whether both let in the same clients: they were read together.
    pub(super) fn lets_in_as(&self, other: &Self) -> bool {
        match (&self.verifier, &other.verifier) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether a client that shows this chain would be let in now; an empty one is none.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let Some((own, between)) = chain.split_first() else {
            if verifier.client_auth_mandatory() {
                return Err(rustls::Error::NoCertificatesPresented);
            }
            return Ok(());
        };
        let verified = verifier.verify_client_cert(own, between, UnixTime::now());
        verified.map(|_| ())
    }
}
