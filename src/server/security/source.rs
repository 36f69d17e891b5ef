//! One thing that rules are made of: where it is, what was read there last, and what it became.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::fetch::{FetchError, Fetcher, Place};
use super::forms::FormError;
use crate::security::authentication::{
    Algorithm, ApiKeys, FILE_BYTES_MAX, FileError, KeyError, Origin, Parties, SET_BYTES_MAX,
    SetError, TokenKeys,
};
use crate::security::policy::{POLICY_BYTES_MAX, Policy, PolicyError};

/// The longest key that stands alone, in bytes.
const KEY_BYTES_MAX: usize = 64 << 10;

/// A secret that is shorter can be found by trying, whatever the hash.
const SECRET_BYTES_FEW: usize = 32;

/// Why rules cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum RulesError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error("{place}: {error}")]
    Key { place: String, error: KeyError },
    #[error("{place}: {error}")]
    Set { place: String, error: SetError },
    #[error("{place}: {error}")]
    ApiKeys { place: String, error: FileError },
    #[error("{place}: this is no description of an OpenID provider")]
    Discovery { place: String },
    #[error("{place}: this provider calls itself \"{found}\", not \"{wanted}\"")]
    Issuer {
        place: String,
        found: String,
        wanted: String,
    },
    #[error("{place}: the provider's keys are not at an address with TLS")]
    PlainKeys { place: String },
    #[error("{place}: the policy is no UTF-8")]
    PolicyText { place: String },
    #[error(transparent)]
    Policy(PolicyError),
}

/// What is read, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Key {
        algorithm: Algorithm,
        place: Place,
        parties: Parties,
    },
    Set {
        place: Place,
        parties: Parties,
    },
    /// The keys of a provider of OpenID Connect, which says itself where they are.
    Provider {
        issuer: String,
        parties: Parties,
    },
    ApiKeys(Place),
    Policy {
        place: Place,
        unanchored: bool,
    },
}

/// What it became.
#[derive(Clone, Debug)]
pub(super) enum Taken {
    Tokens(Arc<TokenKeys>),
    ApiKeys(Arc<ApiKeys>),
    Policy(Arc<Policy>),
}

/// A fingerprint of what was read: no secret stays in memory for it.
type Seen = [u8; 32];

#[derive(Debug)]
pub(super) struct Source {
    pub(super) what: What,
    pub(super) taken: Taken,
    seen: Seen,
    /// What was told last of reading it again, if that went wrong.
    told: Option<String>,
}

impl Source {
    /// Reads it for the first time.
    pub(super) fn read(what: What, fetcher: &Fetcher) -> Result<Self, RulesError> {
        let bytes = what.bytes(fetcher)?;
        let taken = what.take(&bytes)?;
        Ok(Self {
            seen: seen(&bytes),
            what,
            taken,
            told: None,
        })
    }

    /// The same once more, as it was read.
    pub(super) fn again(&self) -> Self {
        Self {
            what: self.what.clone(),
            taken: self.taken.clone(),
            seen: self.seen,
            told: self.told.clone(),
        }
    }

    /// Reads it again, and says whether it has changed. What is wrong is told once, and what
    /// counted before stays.
    pub(super) fn poll(&mut self, fetcher: &Fetcher) -> bool {
        match self.poll_once(fetcher) {
            Ok(changed) => {
                if self.told.take().is_some() {
                    tracing::info!(source = self.what.name(), "can be read again");
                }
                changed
            }
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    tracing::error!(%error, "not replaced; what was read before stays");
                    self.told = Some(text);
                }
                false
            }
        }
    }

    fn poll_once(&mut self, fetcher: &Fetcher) -> Result<bool, RulesError> {
        let bytes = self.what.bytes(fetcher)?;
        let seen = seen(&bytes);
        if seen == self.seen {
            return Ok(false);
        }
        self.taken = self.what.take(&bytes)?;
        self.seen = seen;
        tracing::info!(source = self.what.name(), "replaced");
        Ok(true)
    }
}

fn seen(bytes: &[u8]) -> Seen {
    let mut seen = [0; 32];
    seen.copy_from_slice(digest(&SHA256, bytes).as_ref());
    seen
}

impl What {
    /// Whether what is there can be out of reach for a while without anybody being at fault here.
    pub(super) const fn is_far(&self) -> bool {
        match self {
            Self::Key { place, .. }
            | Self::Set { place, .. }
            | Self::ApiKeys(place)
            | Self::Policy { place, .. } => matches!(place, Place::Url(_)),
            Self::Provider { .. } => true,
        }
    }

    /// Whether it can change by itself.
    pub(super) const fn can_change(&self) -> bool {
        match self {
            Self::Key { place, .. }
            | Self::Set { place, .. }
            | Self::ApiKeys(place)
            | Self::Policy { place, .. } => !matches!(place, Place::Setting(..)),
            Self::Provider { .. } => true,
        }
    }

    pub(super) const fn is_policy(&self) -> bool {
        matches!(self, Self::Policy { .. })
    }

    fn name(&self) -> String {
        match self {
            Self::Key { place, .. }
            | Self::Set { place, .. }
            | Self::ApiKeys(place)
            | Self::Policy { place, .. } => place.to_string(),
            Self::Provider { issuer, .. } => issuer.clone(),
        }
    }

    fn bytes(&self, fetcher: &Fetcher) -> Result<Vec<u8>, RulesError> {
        let (place, bytes_max) = match self {
            Self::Key { place, .. } => (place, KEY_BYTES_MAX),
            Self::Set { place, .. } => (place, SET_BYTES_MAX),
            Self::ApiKeys(place) => (place, FILE_BYTES_MAX),
            Self::Policy { place, .. } => (place, POLICY_BYTES_MAX),
            Self::Provider { issuer, .. } => {
                let place = keys_of(issuer, fetcher)?;
                return Ok(fetcher.read(&place, SET_BYTES_MAX)?);
            }
        };
        Ok(fetcher.read(place, bytes_max)?)
    }

    fn take(&self, bytes: &[u8]) -> Result<Taken, RulesError> {
        let place = self.name();
        let set = |origin, parties: &Parties| {
            let keys = TokenKeys::set(bytes, origin, parties.clone());
            keys.map_err(|error| RulesError::Set {
                place: place.clone(),
                error,
            })
        };
        let tokens = |keys| Taken::Tokens(Arc::new(keys));
        match self {
            Self::Key {
                algorithm, parties, ..
            } => {
                if algorithm.is_symmetric() {
                    tell_weak(self, bytes);
                }
                let keys = TokenKeys::one(*algorithm, bytes, parties.clone());
                keys.map(tokens)
                    .map_err(|error| RulesError::Key { place, error })
            }
            Self::Set {
                place: Place::Url(_),
                parties,
            }
            | Self::Provider { parties, .. } => set(Origin::Remote, parties).map(tokens),
            Self::Set { parties, .. } => set(Origin::Local, parties).map(tokens),
            Self::ApiKeys(_) => ApiKeys::parse(bytes)
                .map(|keys| Taken::ApiKeys(Arc::new(keys)))
                .map_err(|error| RulesError::ApiKeys { place, error }),
            Self::Policy { unanchored, .. } => {
                let text = std::str::from_utf8(bytes);
                let text = text.map_err(|_| RulesError::PolicyText {
                    place: place.clone(),
                })?;
                let policy =
                    Policy::parse(text, &place, *unanchored).map_err(RulesError::Policy)?;
                for warning in policy.warnings() {
                    tracing::warn!(policy = place, "{warning}");
                }
                tracing::info!(policy = place, rules = policy.len(), "policy read");
                Ok(Taken::Policy(Arc::new(policy)))
            }
        }
    }
}

/// Secrets that are as the reference takes them, and not as one would want them.
fn tell_weak(what: &What, secret: &[u8]) {
    let key = what.name();
    if secret.len() < SECRET_BYTES_FEW {
        let bytes = secret.len();
        tracing::warn!(
            key,
            bytes,
            "the secret of tokens is short: whoever has a token can find it by trying"
        );
    }
    if secret.ends_with(b"\n") {
        tracing::warn!(
            key,
            "the secret of tokens ends with a line break, which is a part of it"
        );
    }
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

/// The longest description of a provider, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;

/// Asks a provider where its keys are.
fn keys_of(issuer: &str, fetcher: &Fetcher) -> Result<Place, RulesError> {
    let place = Place::Url(format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    ));
    let text = fetcher.read(&place, DESCRIPTION_BYTES_MAX)?;
    let place = place.to_string();
    let Ok(found) = serde_json::from_slice::<Description>(&text) else {
        return Err(RulesError::Discovery { place });
    };
    if found.issuer != issuer {
        return Err(RulesError::Issuer {
            place,
            found: found.issuer,
            wanted: issuer.to_owned(),
        });
    }
    // Who is trusted by its certificate does not send us to somebody who has none.
    if issuer.starts_with("https://") && !found.jwks_uri.starts_with("https://") {
        return Err(RulesError::PlainKeys { place });
    }
    Ok(Place::Url(found.jwks_uri))
}
