//! What the configuration says of who may do what: whether it is whole, and what it leaves open.

use std::path::PathBuf;

use super::Config;
use super::base64;
use super::error::Problem;
use super::key::{ClientIdBinding, Key, Setting, TokenSource};
use super::machine::Finding;
use super::secret::Secret;
use super::settings::{Authentication, Authorization, Encryption};

/// A policy as text; empty when there is none. Whether it is one is checked at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyData(String);

impl Setting for PolicyData {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        base64::json_array(text).map(Self)
    }
}

/// Where a policy is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// In the setting itself, as JSON.
    Text(String),
    /// In a file.
    File(PathBuf),
    /// At an address of HTTP or HTTPS.
    Url(String),
}

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In the setting itself.
    Text(Secret),
    /// In a file.
    File(PathBuf),
}

/// The text counts more than the file, as with the reference.
fn key_source(text: &Secret, file: Option<&PathBuf>) -> Option<KeySource> {
    if text.expose().is_empty() {
        file.cloned().map(KeySource::File)
    } else {
        Some(KeySource::Text(text.clone()))
    }
}

impl Authentication {
    /// The key of tokens that is set by itself; its algorithm is `jwt_signature_type`. `None`
    /// when there is none, or when another source is the only one that counts.
    #[must_use]
    pub fn jwt_key_source(&self) -> Option<KeySource> {
        let source = || key_source(&self.jwt_key, self.jwt_file_path.as_ref());
        self.counts(TokenSource::Jwt).then(source).flatten()
    }

    /// Whether the settings of a source count; they may still be empty.
    #[must_use]
    pub fn counts(&self, source: TokenSource) -> bool {
        self.source.is_none_or(|only| only == source)
    }

    /// Whether anything says how clients are recognised.
    fn has_source(&self) -> bool {
        let counts = |source| self.counts(source);
        let config = !self.config.expose().is_empty();
        self.accept_certificates
            || self.jwt_key_source().is_some()
            || (counts(TokenSource::Local) && config)
            || (counts(TokenSource::Oidc) && (config || self.oidc_issuer.is_some()))
            || (counts(TokenSource::Jwks) && (self.jwks_file.is_some() || self.jwks_url.is_some()))
            || (counts(TokenSource::ApiKeys) && self.api_keys_file.is_some())
    }

    fn check(&self, has_authorities: bool, problems: &mut Vec<Problem>) {
        if self.enable && !self.has_source() {
            problems.push(Problem::Incomplete {
                set: "authentication.enable",
                what: "how clients are recognised",
                remedy: "authentication.jwt_config, authentication.jwks_file, \
                    authentication.jwks_url, authentication.oidc_issuer, \
                    authentication.api_keys_file or authentication.accept_certificates",
            });
        }
        let mut wants = |wanted: bool, set: &'static str, missing: &'static str| {
            if wanted {
                problems.push(Problem::Alone { set, missing });
            }
        };
        wants(
            self.enable && self.jwt_key_source().is_some() && self.jwt_signature_type.is_none(),
            "authentication.jwt_config",
            "authentication.jwt_config.signature_type",
        );
        wants(
            self.accept_certificates && !has_authorities,
            "authentication.accept_certificates",
            "security.ca",
        );
        wants(
            self.client_id_binding != ClientIdBinding::Off && !self.enable,
            "authentication.client_id_binding",
            "authentication.enable",
        );
    }
}

impl Authorization {
    /// Where the policy is; the first of these that is set.
    #[must_use]
    pub fn policy_source(&self) -> Option<PolicySource> {
        if !self.policy_data.0.is_empty() {
            return Some(PolicySource::Text(self.policy_data.0.clone()));
        }
        let file = self.file_path.clone().map(PolicySource::File);
        file.or_else(|| self.url.clone().map(PolicySource::Url))
    }
}

impl Encryption {
    /// Where the master keys are, also when nothing new is sealed: what was sealed before is read
    /// with them.
    #[must_use]
    pub fn key_source(&self) -> Option<KeySource> {
        key_source(&self.key, self.key_file.as_ref())
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        if self.key_file.is_some() && !self.key.expose().is_empty() {
            problems.push(Problem::Both {
                first: "store.encryption.key",
                second: "store.encryption.key_file",
            });
        }
        if self.enable && self.key_source().is_none() {
            problems.push(Problem::Incomplete {
                set: "store.encryption.enable",
                what: "with which key",
                remedy: "store.encryption.key_file or store.encryption.key",
            });
        }
    }
}

impl Config {
    /// Whether who uses the management port has to say who it is. If not, only this machine is
    /// answered.
    #[must_use]
    pub fn management_asks(&self) -> bool {
        self.api.auth.enable.unwrap_or(self.authentication.enable)
    }

    /// Whether the cookies of the management port are for TLS only.
    #[must_use]
    pub const fn management_is_behind_tls(&self) -> bool {
        self.api.tls || self.api.auth.trusted_tls_proxy
    }

    /// Protection that is asked for by halves protects nobody.
    pub(super) fn check_protection(&self, problems: &mut Vec<Problem>) {
        let Self {
            authentication,
            authorization,
            ..
        } = self;
        let has_authorities = self.security.wants_clients();
        authentication.check(has_authorities, problems);
        if authorization.enable && authorization.policy_source().is_none() {
            problems.push(Problem::Incomplete {
                set: "authorization.enable",
                what: "what is allowed",
                remedy: "authorization.policy_data, authorization.file_path or authorization.url",
            });
        }
        let mut alone = |set: &'static str, missing: &'static str| {
            problems.push(Problem::Alone { set, missing });
        };
        if self.api.tls && !self.security.has_tls() {
            alone("api.tls", "security.cert");
        }
        if self.api.auth.enable == Some(true) && !authentication.enable {
            alone("api.auth.enable", "authentication.enable");
        }
        self.store.encryption.check(problems);
    }

    /// Notes protection that is weaker than it looks.
    pub(super) fn warn_of_protection(&self, warnings: &mut Vec<Finding>) {
        let Self {
            authentication,
            authorization,
            ..
        } = self;
        let mut warn = |told: bool, what: &str, remedy: &str| {
            if told {
                let (what, remedy) = (what.to_owned(), remedy.to_owned());
                warnings.push(Finding::warning(what, remedy));
            }
        };
        warn(
            self.security.has_tls() && self.api.enable && !self.api.tls,
            "the management port speaks no TLS",
            "set api.tls = true, or bind it to the loopback (api.bind = \"127.0.0.1\")",
        );
        warn(
            authentication.has_source() && !authentication.enable,
            "there are keys to recognise clients by, but authentication.enable is false: \
             nobody is asked",
            "set authentication.enable = true, or remove them",
        );
        warn(
            authorization.policy_source().is_some() && !authorization.enable,
            "there is a policy, but authorization.enable is false: everybody may do everything",
            "set authorization.enable = true, or remove the policy",
        );
        let bound = authentication.client_id_binding != ClientIdBinding::Off;
        warn(
            authorization.enable && !bound,
            "the policy goes by client ids, which clients choose themselves",
            "set authentication.client_id_binding = \"checked\", or write rules by roles only",
        );
        warn(
            authorization.enable && authorization.unanchored,
            "rules match parts of names: one for alice is one for malice too",
            "anchor the expressions and set authorization.unanchored = false",
        );
        let plain = |url: Option<&str>| url.is_some_and(is_plain);
        let fetched = [
            authentication.enable && plain(authentication.jwks_url.as_deref()),
            authentication.enable && plain(authentication.oidc_issuer.as_deref()),
            authorization.enable && plain(authorization.url.as_deref()),
        ];
        warn(
            fetched.contains(&true),
            "keys or a policy are fetched without TLS: who is between can replace them",
            "use an address that begins with https://",
        );
        warn(
            self.management_asks() && !self.management_is_behind_tls(),
            "who uses the management port says who it is without TLS",
            "set api.tls = true, or api.auth.trusted_tls_proxy = true behind a proxy with TLS",
        );
    }
}

/// Whether what is fetched from there may come from somebody else.
fn is_plain(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    !(host == "localhost" || host == "::1" || host.starts_with("127."))
}

#[cfg(test)]
mod tests;
