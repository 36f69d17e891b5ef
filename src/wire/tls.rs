//! TLS: whom a side believes, what it shows, and what it says when it cannot.
//!
//! The settings are read once, before the executors start, and shared by all connections; the
//! connections themselves are a transport of the cork, which drives rustls directly. There is one
//! version of the rules: TLS 1.2 and 1.3 with the suites that rustls offers, `h2` by ALPN or no
//! connection; HTTP/1.1 where a port or a client says so.

mod error;
mod settings;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

pub use error::{Error, SettingsError};
pub use settings::{ClientTlsSettings, Pem, Protocol, ServerTlsSettings};

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

/// What a server needs for TLS.
///
/// # Threading
/// As [`ClientTls`].
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// HTTP/1.1 is spoken, too.
    http1: bool,
}

impl ServerTls {
    /// Reads the files that `settings` name. Blocks; meant for the start of a process.
    ///
    /// # Errors
    /// [`SettingsError`], which says which file or setting is at fault.
    pub fn load(settings: &ServerTlsSettings) -> Result<Self, SettingsError> {
        settings.load()
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
        }
    }

    /// Whether the two sides may go on with what they agreed on.
    pub(crate) fn accepts(&self, agreed: Option<&[u8]>) -> bool {
        agreed == Some(ALPN_H2) || self.http1
    }

    pub(crate) fn session(&self) -> Result<rustls::Connection, Error> {
        let opened = ServerConnection::new(Arc::clone(&self.config));
        let session = opened.map_err(|error| Error::from_rustls(error, "the client"))?;
        Ok(rustls::Connection::Server(session))
    }
}
