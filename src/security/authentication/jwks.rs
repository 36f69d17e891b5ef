//! Sets of keys as RFC 7517 writes them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::algorithm::Algorithm;
use super::key::{Curve, Key, KeyError, Material};

/// The longest text of a set, in bytes.
pub const SET_BYTES_MAX: usize = 1 << 20;

/// The keys that a set may have.
pub const SET_KEYS_MAX: usize = 256;

/// Why a set of keys is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// It is too long to be read.
    #[error("the set of keys is longer than {SET_BYTES_MAX} bytes")]
    TooLong,
    /// It is no set.
    #[error("this is no set of keys: {0}")]
    Json(String),
    /// It has too many keys.
    #[error("the set has {0} keys; {SET_KEYS_MAX} are the most")]
    TooMany(usize),
    /// It has a key whose meaning is clear and whose value is wrong.
    #[error("key {index} of the set, \"{id}\": {error}")]
    Key {
        /// Which, from 0.
        index: usize,
        /// Its name.
        id: String,
        /// What is wrong.
        error: KeyError,
    },
    /// It has no key that could verify a token.
    #[error("none of the {0} keys in the set verifies tokens")]
    Useless(usize),
}

/// Who could have written a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator: it may hold secrets.
    Local,
    /// Somebody whom everybody may ask: a secret in it would be known to all.
    Remote,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
    k: String,
}

/// Reads a set. Keys that are for something else, or of a kind that we do not know, are left out,
/// as the standard asks.
///
/// # Errors
/// [`SetError`]: a damaged key refuses the whole set, since half of it would refuse people without
/// a word.
pub(super) fn keys(text: &[u8], origin: Origin) -> Result<Vec<Key>, SetError> {
    if text.len() > SET_BYTES_MAX {
        return Err(SetError::TooLong);
    }
    let set: Set =
        serde_json::from_slice(text).map_err(|error| SetError::Json(position(&error)))?;
    let count = set.keys.len();
    if count > SET_KEYS_MAX {
        return Err(SetError::TooMany(count));
    }
    let mut keys = Vec::with_capacity(count);
    for (index, entry) in set.keys.into_iter().enumerate() {
        match key(&entry, origin) {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => {}
            Err(error) => {
                let id = entry.kid.unwrap_or_default();
                return Err(SetError::Key { index, id, error });
            }
        }
    }
    if keys.is_empty() {
        return Err(SetError::Useless(count));
    }
    Ok(keys)
}

/// Where a text is wrong, without what stands there: it may hold secrets.
fn position(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "not shaped as one",
        _ => "no JSON",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

fn key(entry: &Entry, origin: Origin) -> Result<Option<Key>, KeyError> {
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if entry.usage.as_deref().is_some_and(|usage| usage != "sig")
        || entry.key_ops.as_ref().is_some_and(|ops| !verifies(ops))
    {
        return Ok(None);
    }
    let only = match entry.alg.as_deref() {
        None => None,
        // For encryption, or of a later standard.
        Some(name) => match Algorithm::named(name) {
            None => return Ok(None),
            known => known,
        },
    };
    let Some(material) = material(entry, only, origin)? else {
        return Ok(None);
    };
    if let Some(algorithm) = only
        && !material.takes(algorithm)
    {
        return Err(KeyError::Kind {
            kind: material.kind(),
            algorithm: algorithm.name(),
        });
    }
    Ok(Some(Key {
        id: entry.kid.as_deref().map(Into::into),
        only,
        material,
    }))
}

fn material(
    entry: &Entry,
    only: Option<Algorithm>,
    origin: Origin,
) -> Result<Option<Material>, KeyError> {
    match (entry.kty.as_str(), entry.crv.as_str()) {
        ("RSA", _) => Material::rsa(&decode(&entry.n)?, &decode(&entry.e)?).map(Some),
        ("EC", "P-256") => point(entry, Curve::P256, 32),
        ("EC", "P-384") => point(entry, Curve::P384, 48),
        ("EC", "P-521") => point(entry, Curve::P521, 66),
        ("OKP", "Ed25519") => Material::ed25519(&decode(&entry.x)?).map(Some),
        // Without a name of its algorithm a secret could be taken for another one's.
        ("oct", _) if origin == Origin::Local => match only {
            Some(algorithm) => Material::secret(algorithm, &decode(&entry.k)?).map(Some),
            None => Err(KeyError::Damaged("a secret has to name its \"alg\"")),
        },
        _ => Ok(None),
    }
}

fn point(entry: &Entry, curve: Curve, width: usize) -> Result<Option<Material>, KeyError> {
    let (x, y) = (decode(&entry.x)?, decode(&entry.y)?);
    if x.len() != width || y.len() != width {
        return Err(KeyError::Damaged("a coordinate has the wrong length"));
    }
    Material::point(curve, &[&[4], &x[..], &y[..]].concat()).map(Some)
}

/// Some tools pad, although the standard does not.
fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| KeyError::Damaged("a number is no base64url"))
}
