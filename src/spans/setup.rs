//! What tracing is set up with: read and checked once, before the executors start, and shared by
//! them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::exporter::encode_resource;
use super::sampler::Sampler;
use crate::wire::tls::{ClientTls, ClientTlsSettings, Protocol as TlsProtocol, SettingsError};

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC; port 4317 unless the endpoint names one.
    Grpc,
    /// OTLP/HTTP with protobuf bodies; port 4318 unless the endpoint names one.
    Http,
}

/// What is asked for, as the configuration has it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Name of a sampler, see [`Sampler::NAMES`].
    pub sampler: &'a str,
    /// The share of traces that a ratio sampler takes.
    pub sampling_ratio: f64,
    /// `host:port`, or a URL with `http` or `https`, which decides about TLS.
    pub endpoint: &'a str,
    /// How spans travel.
    pub protocol: Protocol,
    /// Whether an endpoint without a scheme is spoken to in clear text.
    pub insecure: bool,
    /// Headers of each export, as tokens.
    pub headers: &'a [(String, String)],
    /// How long one export may take.
    pub timeout: Duration,
    /// Whether batches are compressed.
    pub gzip: bool,
    /// `service.name`.
    pub service_name: &'a str,
    /// `service.instance.id`.
    pub instance: &'a str,
    /// `host.name`.
    pub host: &'a str,
}

/// What every exporter needs, checked.
pub struct Setup {
    pub(super) sampler: Sampler,
    pub(super) target: Target,
    pub(super) protocol: Protocol,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
    /// The encoded resource, the same for every batch.
    pub(super) resource: Bytes,
}

/// Where spans go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// Of OTLP/HTTP.
    pub(super) path: Box<str>,
    pub(super) tls: Option<Arc<ClientTls>>,
}

/// Without the headers: they hold tokens.
impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("sampler", &self.sampler)
            .field("target", &self.target)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// A setting of tracing that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The endpoint is none.
    #[error(
        "telemetry.endpoint {endpoint:?} is no endpoint: expected host:port, or a URL with \
             http or https"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// HTTP does not allow this header.
    #[error("telemetry.headers: {name:?} cannot be sent as a header")]
    Header {
        /// Its name; the value may be a secret.
        name: String,
    },
    /// There is no such sampler, or its ratio is out of range.
    #[error(
        "telemetry.sampler {sampler:?} with ratio {ratio} is none of {}",
        Sampler::NAMES.join(", ")
    )]
    Sampler {
        /// What was given.
        sampler: String,
        /// What was given.
        ratio: f64,
    },
    /// TLS with the collector cannot be set up.
    #[error("TLS with the collector")]
    Tls(#[source] SettingsError),
}

impl Setup {
    /// Checks what is asked for. With TLS it reads the machine's authorities: it blocks, and is
    /// meant for the start of a process.
    ///
    /// # Errors
    /// [`SetupError`], which names the setting.
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let ratio = wanted.sampling_ratio;
        let sampler = Sampler::new(wanted.sampler, ratio).ok_or_else(|| SetupError::Sampler {
            sampler: wanted.sampler.to_owned(),
            ratio,
        })?;
        Ok(Self {
            sampler,
            target: Target::parse(wanted)?,
            protocol: wanted.protocol,
            headers: headers(wanted.headers)?,
            timeout: wanted.timeout,
            gzip: wanted.gzip,
            resource: encode_resource(wanted.service_name, wanted.instance, wanted.host),
        })
    }
}

impl Target {
    fn parse(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let endpoint = wanted.endpoint;
        // What stands before an @ may be a password.
        let shown = match endpoint.rsplit_once('@') {
            Some((_, host)) => format!("***@{host}"),
            None => endpoint.to_owned(),
        };
        let refused = || SetupError::Endpoint {
            endpoint: shown.clone(),
        };
        let (secure, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(refused()),
            None => (!wanted.insecure, endpoint),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).ok_or_else(refused)?,
            None => (rest, ""),
        };
        let authority: http::uri::Authority = authority.parse().map_err(|_| refused())?;
        let usable = |text: &str| !text.is_empty() && !text.contains(['?', '#']) && text.is_ascii();
        let host = authority.host();
        if authority.as_str().contains('@') || host.is_empty() || !path.is_empty() && !usable(path)
        {
            return Err(refused());
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()),
            // A colon without a number that is a port.
            None if authority.as_str() != host => None,
            None => Some(match wanted.protocol {
                Protocol::Grpc => 4317,
                Protocol::Http => 4318,
            }),
        };
        let port = port.filter(|port| *port != 0).ok_or_else(refused)?;
        let tls = secure.then(|| tls(host, wanted.protocol)).transpose()?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).into(),
            port,
            path: traces_path(path),
            tls,
        })
    }
}

/// The path of an endpoint with the signal's own behind it, unless it is there.
fn traces_path(path: &str) -> Box<str> {
    const SIGNAL: &str = "/v1/traces";
    let path = path.trim_end_matches('/');
    if path.ends_with(SIGNAL) {
        path.into()
    } else {
        format!("{path}{SIGNAL}").into()
    }
}

fn tls(host: &str, protocol: Protocol) -> Result<Arc<ClientTls>, SetupError> {
    let settings = ClientTlsSettings {
        protocol: match protocol {
            Protocol::Grpc => TlsProtocol::Http2,
            Protocol::Http => TlsProtocol::Http1,
        },
        ..ClientTlsSettings::new(host)
    };
    ClientTls::load(&settings)
        .map(Arc::new)
        .map_err(SetupError::Tls)
}

fn headers(wanted: &[(String, String)]) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        let refused = || SetupError::Header { name: name.clone() };
        let key: HeaderName = name.parse().map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::spans) fn wanted(endpoint: &str) -> Wanted<'_> {
        Wanted {
            sampler: "always_on",
            sampling_ratio: 1.0,
            endpoint,
            protocol: Protocol::Grpc,
            insecure: true,
            headers: &[],
            timeout: Duration::from_secs(10),
            gzip: false,
            service_name: "ringmq",
            instance: "one",
            host: "here",
        }
    }

    #[test]
    fn endpoints_are_read_with_and_without_a_scheme() {
        let cases = [
            (
                "localhost:4317",
                Protocol::Grpc,
                "localhost",
                4317,
                "/v1/traces",
            ),
            ("tempo", Protocol::Grpc, "tempo", 4317, "/v1/traces"),
            ("http://tempo/", Protocol::Http, "tempo", 4318, "/v1/traces"),
            (
                "HTTP://tempo:80/otlp/",
                Protocol::Http,
                "tempo",
                80,
                "/otlp/v1/traces",
            ),
            (
                "http://tempo/v1/traces",
                Protocol::Http,
                "tempo",
                4318,
                "/v1/traces",
            ),
            ("[::1]:9", Protocol::Http, "::1", 9, "/v1/traces"),
        ];
        for (endpoint, protocol, host, port, path) in cases {
            let wanted = Wanted {
                protocol,
                ..wanted(endpoint)
            };
            let target = Target::parse(&wanted).unwrap();
            let found = (&*target.host, target.port, &*target.path);
            assert_eq!(found, (host, port, path), "{endpoint}");
            assert!(target.tls.is_none());
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let texts = [
            "",
            ":4317",
            "grpc://tempo:4317",
            "tempo:",
            "tempo:0",
            "tempo:99999",
            "http://",
            "user@tempo:1",
            "tempo:1/a?b",
            "two words",
            "http:///v1/traces",
        ];
        for text in texts {
            let refused = Setup::new(&wanted(text));
            assert!(
                matches!(refused, Err(SetupError::Endpoint { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn headers_are_kept_and_never_shown() {
        let pairs = [("x-token".to_owned(), "geheim".to_owned())];
        let wanted = Wanted {
            headers: &pairs,
            ..wanted("tempo:1")
        };
        let setup = Setup::new(&wanted).unwrap();
        assert_eq!(setup.headers.get("x-token").unwrap(), "geheim");
        assert!(!format!("{setup:?} {:?}", setup.headers).contains("geheim"));
        let broken = [("a b".to_owned(), "geheim".to_owned())];
        let wanted = Wanted {
            headers: &broken,
            ..wanted
        };
        let refused = Setup::new(&wanted).unwrap_err().to_string();
        assert!(
            refused.contains("\"a b\"") && !refused.contains("geheim"),
            "{refused}"
        );
    }
}
