//! Who is it: tokens, keys and certificates become an [`Identity`].
//!
//! ```text
//!  what is shown ─► fingerprint ─► seen lately? ──────────────────────────────────► Identity
//!                                      │ no                                             ▲
//!                                      ├─ begins with rmq_ ─► API keys ─────────────────┤
//!                                      └─ else ─► parts ─► key ─► signature ─► claims ──┘
//! ```
//!
//! A key verifies one family of algorithms: what the head of a token says chooses among the keys,
//! never what a key means. The claims are looked at when the signature was found right, and not
//! before: what is told of them is told to their owner.

mod algorithm;
mod api_keys;
mod certificate;
mod claims;
mod jwks;
mod key;
mod pem;
mod recognised;
mod refresh;
mod signing;
mod strict;
#[cfg(test)]
mod tests;
mod token;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub use algorithm::Algorithm;
pub use api_keys::{ApiKey, ApiKeys, FILE_BYTES_MAX, FileError, NewKey, PREFIX};
pub use certificate::CertificateField;
pub use claims::{Expectations, Parties, ROLES_MAX};
pub use jwks::{Origin, SET_BYTES_MAX, SET_KEYS_MAX, SetError};
pub use key::KeyError;
pub use recognised::Recognised;
pub use refresh::Refresh;
pub use signing::{SigningError, SigningKey};
pub use token::{Fault, Inspected, TOKEN_BYTES_MAX};

use api_keys::fingerprint;
use claims::Owner;
use key::Key;
use recognised::Shown;
use token::{Header, Parts};

use super::{Credentials, Unauthenticated};
use crate::model::identity::Identity;
use crate::rt;

/// The keys that are tried for one token; a token that names none, where there are many, is tried
/// with the first of them. It bounds what a forged token can cost.
const KEYS_TRIED_MAX: usize = 8;

/// How often it is told that tokens have no end.
const ENDLESS_TOLD_GAP_NS: i64 = 600 * 1_000_000_000;

/// What is told to who shows nothing.
const NOT_SUPPLIED: &str = "Authorization token is not supplied";

/// Keys of one source, and whose tokens they sign.
#[derive(Debug)]
pub struct TokenKeys {
    keys: Vec<Key>,
    parties: Parties,
}

impl TokenKeys {
    /// The one key of an algorithm: the secret itself, else a public key or a certificate as PEM.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn one(algorithm: Algorithm, text: &[u8], parties: Parties) -> Result<Self, KeyError> {
        let keys = vec![pem::key(algorithm, text)?];
        Ok(Self { keys, parties })
    }

    /// A set of keys as JSON.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn set(text: &[u8], origin: Origin, parties: Parties) -> Result<Self, SetError> {
        let keys = jwks::keys(text, origin)?;
        Ok(Self { keys, parties })
    }

    /// How many keys there are: never none.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

/// What recognises somebody.
///
/// # Threading
/// Shared by all executors; what it remembers of callers belongs to the executor
/// ([`Recognised`]).
#[derive(Debug, Default)]
pub struct Authenticator {
    accepts: Accepts,
    /// When tokens without an end were told of last: nanoseconds since 1970, or 0.
    endless_told_at_ns: AtomicI64,
}

/// What is proof of who somebody is. With nothing of it nobody is recognised.
#[derive(Debug, Default)]
pub struct Accepts {
    /// What tokens are verified with; none are taken when empty.
    pub tokens: Vec<Arc<TokenKeys>>,
    /// What is asked of tokens besides.
    pub expectations: Expectations,
    /// API keys, if they are taken.
    pub api_keys: Option<Arc<ApiKeys>>,
    /// What names the owner of a certificate, if a certificate is proof enough.
    pub certificates: Option<CertificateField>,
    /// Asks for the keys anew, where they can change.
    pub refresh: Option<Arc<Refresh>>,
}

impl Authenticator {
    /// Recognises who shows what is accepted.
    #[must_use]
    pub const fn new(accepts: Accepts) -> Self {
        Self {
            accepts,
            endless_told_at_ns: AtomicI64::new(0),
        }
    }

    /// Finds out who shows these credentials. A token counts more than a certificate.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now_ns: i64,
        recognised: &mut Recognised,
    ) -> Result<Rc<Identity>, Unauthenticated> {
        let found = match (
            credentials.token,
            self.accepts.certificates,
            credentials.certificate,
        ) {
            (Some(token), ..) => self.by_token(token, now_ns, recognised),
            (None, Some(field), Some(names)) => by_certificate(field, names, now_ns, recognised),
            (None, ..) => return Err(Unauthenticated(NOT_SUPPLIED.into())),
        };
        found.map_err(|fault| {
            let text = format!("Error 421: authentication verification failed, {fault}");
            Unauthenticated(text.into())
        })
    }

    fn by_token(
        &self,
        shown: &str,
        now_ns: i64,
        recognised: &mut Recognised,
    ) -> Result<Rc<Identity>, Fault> {
        if shown.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let now_s = now_ns.div_euclid(claims::nanoseconds(1));
        let hash = fingerprint(shown.as_bytes());
        let mark = Shown::Secret(hash);
        if let Some(identity) = recognised.find(&mark, now_s) {
            return Ok(identity);
        }
        let (identity, ends_at_s) = match &self.accepts.api_keys {
            Some(keys) if shown.starts_with(PREFIX) => keys.recognise(&hash, now_s)?,
            Some(_) if self.accepts.tokens.is_empty() => return Err(key_or_bearer(shown)),
            _ => {
                let owner = self.verify(shown, now_ns)?;
                (Rc::new(owner.identity), owner.ends_at_s)
            }
        };
        recognised.add(mark, identity.clone(), ends_at_s);
        Ok(identity)
    }

    fn verify(&self, token: &str, now_ns: i64) -> Result<Owner, Fault> {
        let parts = Parts::of(token)?;
        let keys = self.key_of(&parts)?;
        let now_s = now_ns.div_euclid(claims::nanoseconds(1));
        let expectations = &self.accepts.expectations;
        let owner = expectations.check(&parts.claims, &keys.parties, now_s)?;
        if owner.ends_at_s.is_none() && !keys.parties.ignores_times {
            self.tell_endless(&owner.identity, now_ns);
        }
        Ok(owner)
    }

    /// The source of the key that has signed a token.
    fn key_of(&self, parts: &Parts<'_>) -> Result<&TokenKeys, Fault> {
        let Header { algorithm, key_id } = &parts.header;
        let all = || {
            let sources = self.accepts.tokens.iter();
            sources.flat_map(|source| source.keys.iter().map(move |key| (source, key)))
        };
        let fits = |key: &Key| key.takes(*algorithm);
        let is_meant = |key: &Key| match (key_id, &key.id) {
            (Some(wanted), Some(id)) => **id == **wanted,
            _ => true,
        };
        let mut meant = all()
            .filter(|(_, key)| fits(key) && is_meant(key))
            .peekable();
        if meant.peek().is_none() {
            // With a rotation the new key may even be of another kind.
            if let Some(refresh) = &self.accepts.refresh {
                // Of now: `now_ns` is when a stream began that shows its token once more.
                refresh.want(rt::unix_ns());
            }
            let known = all().any(|(_, key)| fits(key));
            let method = Fault::Method(algorithm.name());
            return Err(if known { Fault::UnknownKey } else { method });
        }
        meant
            .take(KEYS_TRIED_MAX)
            .find(|(_, key)| {
                let signed = parts.signed.as_bytes();
                key.material.verifies(*algorithm, signed, &parts.signature)
            })
            .map(|(source, _)| &**source)
            .ok_or(Fault::Signature)
    }

    fn tell_endless(&self, identity: &Identity, now_ns: i64) {
        let told = self.endless_told_at_ns.load(Ordering::Relaxed);
        if told != 0 && now_ns.saturating_sub(told) < ENDLESS_TOLD_GAP_NS {
            return;
        }
        self.endless_told_at_ns.store(now_ns, Ordering::Relaxed);
        tracing::warn!(
            subject = &*identity.name,
            "a token without an end (exp) is accepted; authentication.require_exp refuses such"
        );
    }
}

/// Why something is refused that is no API key, where only those are taken.
fn key_or_bearer(shown: &str) -> Fault {
    match shown.get(..7) {
        Some(word) if word.eq_ignore_ascii_case("bearer ") => Fault::Bearer,
        _ => Fault::KeyUnknown,
    }
}

fn by_certificate(
    field: CertificateField,
    names: &crate::model::identity::CertificateNames,
    now_ns: i64,
    recognised: &mut Recognised,
) -> Result<Rc<Identity>, Fault> {
    let now_s = now_ns.div_euclid(claims::nanoseconds(1));
    let mark = field.shown(names);
    if let Some(mark) = &mark
        && let Some(identity) = recognised.find(mark, now_s)
    {
        return Ok(identity);
    }
    let identity = Rc::new(field.recognise(names, now_ns)?);
    if let Some(mark) = mark {
        recognised.add(mark, identity.clone(), Some(certificate::ends_at_s(names)));
    }
    Ok(identity)
}
