//! TLS: whom a side believes, what it shows, and what it says when it cannot.
//!
//! The settings are read beside the executors and shared by all connections; a server's may be
//! replaced, and count for the connections that come then. The connections themselves are a
//! transport of the cork, which drives rustls directly. There is one version of the rules: TLS 1.2
//! and 1.3 with the suites that rustls offers, `h2` by ALPN or no connection; HTTP/1.1 where a port
//! or a client says so.
//!
//! A server's handshakes are bounded in time and number ([`places`]), and their cryptography is
//! done beside the executors ([`aside`]). What a client has proved by a certificate holds as long
//! as the certificate does ([`standing`]).

mod aside;
mod error;
mod names;
mod places;
mod server;
mod settings;
mod standing;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

pub use aside::Handshakes;
pub use error::{Error, SettingsError};
pub(crate) use places::Place;
pub use server::{ClientCertificates, OldestVersion, ServerTls, ServerTlsSettings};
pub use settings::{ClientTlsSettings, Pem, Protocol};
pub(crate) use standing::Standing;

/// The names in a certificate of a client that was verified. `None`: it cannot be read.
pub(crate) fn names_of(
    certificate: &rustls::pki_types::CertificateDer<'_>,
) -> Option<crate::model::identity::CertificateNames> {
    names::read(certificate)
}

/// What servers speak inside, and clients unless they say otherwise.
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// HTTP/1.1, where it is spoken.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What a client needs for TLS with one server: read and checked, ready for any number of
/// connections.
///
/// # Threading
/// Shared by all executors. Only handshakes look at what is shared, to resume earlier sessions.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    handshake_timeout: Duration,
    insecure: bool,
    protocol: Protocol,
}

impl ClientTls {
    /// Reads the files that `settings` name. Blocks; meant for the start of a process.
    ///
    /// # Errors
    /// [`SettingsError`], which says which file or setting is at fault.
    pub fn load(settings: &ClientTlsSettings) -> Result<Self, SettingsError> {
        settings.load()
    }

    /// Whether any certificate is accepted. Whoever reports a result says so with it.
    #[must_use]
    pub const fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// The name that the server has to prove.
    #[must_use]
    pub fn server_name(&self) -> String {
        self.name.to_str().into_owned()
    }

    pub(crate) const fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Whether the two sides may go on with what they agreed on.
    pub(crate) fn accepts(&self, agreed: Option<&[u8]>) -> bool {
        match self.protocol {
            Protocol::Http2 => agreed == Some(ALPN_H2),
            // Older servers agree on nothing and mean it.
            Protocol::Http1 => agreed.is_none_or(|agreed| agreed == ALPN_HTTP1),
        }
    }

    /// What the `:authority` header says.
    pub(crate) fn authority(&self, port: u16) -> String {
        match &self.name {
            ServerName::IpAddress(address) => {
                std::net::SocketAddr::new((*address).into(), port).to_string()
            }
            name => format!("{}:{port}", name.to_str()),
        }
    }

    pub(crate) fn session(&self) -> Result<rustls::Connection, Error> {
        let opened = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let session = opened.map_err(|error| Error::from_rustls(error, &self.server_name()))?;
        Ok(rustls::Connection::Client(session))
    }
}
