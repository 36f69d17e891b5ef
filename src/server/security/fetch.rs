//! Reading what stands somewhere else: in a file, at an address, in a setting.
//!
//! Blocks, for a bounded time: lives on a thread of its own.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, http::Uri};

use crate::config::Secret;

/// How long one answer may take, from the name's resolution to the last byte.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often an address may point to another one.
const REDIRECTS_MAX: u32 = 3;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Url(String),
    /// In the configuration, under this key.
    Setting(&'static str, Secret),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
            Self::Setting(key, _) => f.write_str(key),
        }
    }
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum FetchError {
    #[error("{place}: {error}")]
    File {
        place: String,
        error: std::io::Error,
    },
    #[error("{url}: {error}")]
    Url {
        url: String,
        error: Box<ureq::Error>,
    },
    #[error("{place}: longer than {bytes_max} bytes")]
    TooLong { place: String, bytes_max: usize },
}

/// What asks at addresses: made when the first one is asked.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    roots: OnceLock<RootCerts>,
}

impl Fetcher {
    /// Reads a place to its end.
    pub(super) fn read(&self, place: &Place, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        let too_long = || FetchError::TooLong {
            place: place.to_string(),
            bytes_max,
        };
        let bytes = match place {
            Place::Setting(_, text) => text.expose().as_bytes().to_vec(),
            Place::File(path) => {
                let one_more = u64::try_from(bytes_max).unwrap_or(u64::MAX) + 1;
                let mut bytes = Vec::new();
                let read = std::fs::File::open(path)
                    .and_then(|file| file.take(one_more).read_to_end(&mut bytes));
                read.map_err(|error| FetchError::File {
                    place: place.to_string(),
                    error,
                })?;
                bytes
            }
            Place::Url(url) => self.ask(url, bytes_max).map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => too_long(),
                error => FetchError::Url {
                    url: url.clone(),
                    error: Box::new(error),
                },
            })?,
        };
        if bytes.len() > bytes_max {
            return Err(too_long());
        }
        Ok(bytes)
    }

    fn ask(&self, url: &str, bytes_max: usize) -> Result<Vec<u8>, ureq::Error> {
        let uri: Uri = url.parse().map_err(ureq::http::Error::from)?;
        let has_tls = uri.scheme_str() == Some("https");
        let mut config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(REDIRECTS_MAX)
            // Never from an address that proves who it is to one that does not.
            .https_only(has_tls)
            .user_agent(concat!("ringmq/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        if has_tls {
            config = config.tls_config(self.tls());
        }
        if is_here(&uri) {
            config = config.proxy(None);
        }
        let agent: Agent = config.build().into();
        let mut answer = agent.get(url).call()?;
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        answer.body_mut().with_config().limit(limit).read_to_vec()
    }

    fn tls(&self) -> TlsConfig {
        let roots = self.roots.get_or_init(|| {
            let native = rustls_native_certs::load_native_certs();
            for error in &native.errors {
                tracing::debug!(%error, "an authority of this machine cannot be read");
            }
            let certificates = native.certs.iter();
            RootCerts::new_with_certs(
                &certificates
                    .map(|certificate| Certificate::from_der(certificate).to_owned())
                    .collect::<Vec<_>>(),
            )
        });
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots.clone())
            .build()
    }
}

/// Whether an address is on this machine: no proxy knows what is meant there.
fn is_here(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}
