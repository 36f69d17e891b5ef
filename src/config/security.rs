//! What the configuration says of the broker's identity.

use std::path::PathBuf;

use super::base64;
use super::error::Problem;
use super::key::{Key, Setting};
use super::secret::Secret;
use super::settings::Security;

/// How every PEM block begins.
const PEM_MARK: &str = "-----BEGIN ";

/// PEM as text; empty when there is none. Whether it holds what it should is checked at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemText(Secret);

/// Where PEM is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemSource {
    /// Nowhere: the setting is empty.
    None,
    /// In a file.
    File(PathBuf),
    /// In the setting itself.
    Text(Secret),
}

impl Setting for PemText {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        if text.is_empty() || text.contains(PEM_MARK) {
            return Some(Self(Secret::new(text.to_owned())));
        }
        let decoded = String::from_utf8(base64::decode(text)?).ok()?;
        decoded
            .contains(PEM_MARK)
            .then(|| Self(Secret::new(decoded)))
    }
}

/// The text counts more than the file, as with the reference.
fn source(data: &PemText, file: Option<&PathBuf>) -> PemSource {
    if data.0.expose().is_empty() {
        file.map_or(PemSource::None, |path| PemSource::File(path.clone()))
    } else {
        PemSource::Text(data.0.clone())
    }
}

impl Security {
    /// The broker's certificate, and those between it and its authority.
    #[must_use]
    pub fn certificate(&self) -> PemSource {
        source(&self.cert_data, self.cert_filename.as_ref())
    }

    /// The key of that certificate.
    #[must_use]
    pub fn key(&self) -> PemSource {
        source(&self.key_data, self.key_filename.as_ref())
    }

    /// The authorities of clients; with them each client is asked for a certificate.
    #[must_use]
    pub fn authorities(&self) -> PemSource {
        source(&self.ca_data, self.ca_filename.as_ref())
    }

    /// The lists of certificates that these authorities have revoked.
    #[must_use]
    pub fn revocations(&self) -> PemSource {
        source(&self.crl_data, self.crl_filename.as_ref())
    }

    /// Whether the ports of clients speak TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.certificate() != PemSource::None
    }

    /// Whether clients are asked for a certificate; whether they must show one says
    /// `client_certificates`.
    #[must_use]
    pub fn wants_clients(&self) -> bool {
        self.authorities() != PemSource::None
    }

    /// Half an identity protects nobody.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let has = |source: PemSource| source != PemSource::None;
        let (certificate, key) = (has(self.certificate()), has(self.key()));
        let mut wants = |set: &'static str, missing: &'static str| {
            problems.push(Problem::Alone { set, missing });
        };
        if certificate && !key {
            wants("security.cert", "security.key");
        }
        if key && !certificate {
            wants("security.key", "security.cert");
        }
        if has(self.authorities()) && !certificate {
            wants("security.ca", "security.cert");
        }
        if has(self.revocations()) && !has(self.authorities()) {
            wants("security.crl", "security.ca");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{Config, Sources};

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        let sources = Sources {
            environment: environment.iter().map(pair).collect::<HashMap<_, _>>(),
            ..Sources::default()
        };
        Config::load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn pem_stands_in_files_in_settings_and_in_base64() {
        let encoded = concat!(
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBPT0KLS0tLS1F",
            "TkQgQ0VSVElGSUNBVEUtLS0tLQo="
        );
        let key = ("SECURITY_KEY_FILENAME", "/key.pem");
        for text in [PEM, encoded] {
            let both = [
                ("SECURITY_CERT_DATA", text),
                ("SECURITY_CERT_FILENAME", "/a"),
                key,
            ];
            let security = load(&both).unwrap().security;
            let PemSource::Text(found) = security.certificate() else {
                panic!("the text counts: {security:?}");
            };
            assert_eq!(found.expose().trim_end(), PEM.trim_end());
            assert_eq!(security.key(), PemSource::File("/key.pem".into()));
            assert_eq!(security.authorities(), PemSource::None);
            assert!(security.has_tls());
        }
        assert!(!load(&[]).unwrap().security.has_tls());
        let error = load(&[
            ("SECURITY_KEY_DATA", "hunter2"),
            ("SECURITY_CERT_FILENAME", "/a"),
        ]);
        let error = error.unwrap_err();
        assert!(error.contains("security.key.data"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn half_an_identity_is_refused() {
        for (set, missing) in [
            ("SECURITY_CERT_FILENAME", "security.key"),
            ("SECURITY_KEY_FILENAME", "security.cert"),
            ("SECURITY_CA_FILENAME", "security.cert"),
            ("SECURITY_CRL_FILENAME", "security.ca"),
        ] {
            let error = load(&[(set, "/x.pem")]).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn the_plain_management_port_is_told_of() {
        let tls = [
            ("SECURITY_CERT_FILENAME", "/a"),
            ("SECURITY_KEY_FILENAME", "/b"),
        ];
        let told = |config: &Config| {
            let mut warnings = config.provenance.warnings.iter();
            warnings.any(|found| found.what.contains("management port"))
        };
        assert!(told(&load(&tls).unwrap()));
        for off in [("API_ENABLE", "false"), ("API_TLS", "true")] {
            let off = [&tls[..], &[off]].concat();
            assert!(!told(&load(&off).unwrap()));
        }
        assert!(!told(&load(&[]).unwrap()));
    }
}
