//! One key that verifies tokens.

use std::fmt;

use p521::ecdsa::signature::Verifier;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, UnparsedPublicKey};
use ring::{agreement, hmac, rand};

use super::algorithm::Algorithm;

/// The shortest modulus of RSA that is taken, in bits.
const RSA_BITS_MIN: usize = 2048;

/// The longest modulus of RSA that is taken, in bits: a longer one costs every caller dearly.
const RSA_BITS_MAX: usize = 8192;

/// The longest exponent of RSA, in bytes; the library takes up to 33 bits.
const RSA_EXPONENT_BYTES_MAX: usize = 5;

/// Why a key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing at all.
    #[error("the key is empty")]
    Empty,
    /// No PEM where PEM is needed.
    #[error("the key is no PEM: a public key or a certificate is needed for {0}")]
    NoPem(&'static str),
    /// PEM that holds something else.
    #[error("the PEM holds \"{0}\", not a public key or a certificate")]
    Label(String),
    /// What belongs to the one who signs.
    #[error("the PEM holds a private key; it belongs to the one who signs, name the public one")]
    Private,
    /// Its encoding is wrong.
    #[error("the key is damaged: {0}")]
    Damaged(&'static str),
    /// A kind of key that we do not know.
    #[error("a key of this kind is not known: {0}")]
    Unknown(String),
    /// A modulus that is too short or too long.
    #[error("an RSA key of {bits} bits is not taken: {RSA_BITS_MIN} to {RSA_BITS_MAX} are")]
    Bits {
        /// How many it has.
        bits: usize,
    },
    /// A key that cannot verify what is asked of it.
    #[error("a key of {kind} verifies no {algorithm}")]
    Kind {
        /// What it is.
        kind: &'static str,
        /// What was asked.
        algorithm: &'static str,
    },
}

/// What verifies: never more than one family of algorithms, so that no token can choose another
/// meaning of the key than the operator's.
pub(super) enum Material {
    /// Shared with the one who signs; for one algorithm.
    Secret(Algorithm, hmac::Key),
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa(PublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Material {
    /// A secret for one algorithm.
    pub(super) fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let hash = match algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => {
                return Err(KeyError::Kind {
                    kind: "a secret",
                    algorithm: algorithm.name(),
                });
            }
        };
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self::Secret(algorithm, hmac::Key::new(hash, secret)))
    }

    /// A key of RSA, of big-endian numbers.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let n = without_leading_zeros(modulus);
        let e = without_leading_zeros(exponent);
        let bits = match n.first() {
            Some(first) => n.len() * 8 - usize_of(first.leading_zeros()),
            None => 0,
        };
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(KeyError::Bits { bits });
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !is_odd(n) || !is_odd(e) || e == [1] || e.len() > RSA_EXPONENT_BYTES_MAX {
            return Err(KeyError::Damaged("modulus or exponent cannot be right"));
        }
        Ok(Self::Rsa(PublicKeyComponents {
            n: n.to_vec(),
            e: e.to_vec(),
        }))
    }

    /// A point on a curve, as SEC 1 writes it uncompressed.
    pub(super) fn point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        const OFF: KeyError = KeyError::Damaged("the point is not on its curve");
        if point.first() != Some(&4) {
            return Err(KeyError::Damaged("the point is not written uncompressed"));
        }
        match curve {
            Curve::P256 if is_on(&agreement::ECDH_P256, point) => Ok(Self::P256(point.to_vec())),
            Curve::P384 if is_on(&agreement::ECDH_P384, point) => Ok(Self::P384(point.to_vec())),
            Curve::P521 => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| OFF)?;
                Ok(Self::P521(Box::new(key)))
            }
            Curve::P256 | Curve::P384 => Err(OFF),
        }
    }

    /// A key of Ed25519.
    pub(super) fn ed25519(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() != 32 {
            return Err(KeyError::Damaged("a key of Ed25519 has 32 bytes"));
        }
        Ok(Self::Ed25519(key.to_vec()))
    }

    /// What it is, for people.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Secret(..) => "a secret",
            Self::Rsa(_) => "RSA",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::P521(_) => "P-521",
            Self::Ed25519(_) => "Ed25519",
        }
    }

    /// Whether it can verify signatures of this algorithm.
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Secret(only, _) => *only == algorithm,
            Self::Rsa(_) => rsa_parameters(algorithm).is_some(),
            Self::P256(_) => algorithm == Algorithm::ES256,
            Self::P384(_) => algorithm == Algorithm::ES384,
            Self::P521(_) => algorithm == Algorithm::ES512,
            Self::Ed25519(_) => algorithm == Algorithm::EdDSA,
        }
    }

    /// Whether `signature` is that of `message`; never when it cannot verify this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        let fixed = |algorithm, key: &Vec<u8>| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(message, signature).is_ok()
        };
        match self {
            Self::Secret(_, key) => hmac::verify(key, message, signature).is_ok(),
            Self::Rsa(key) => rsa_parameters(algorithm)
                .is_some_and(|parameters| key.verify(parameters, message, signature).is_ok()),
            Self::P256(key) => fixed(&signature::ECDSA_P256_SHA256_FIXED, key),
            Self::P384(key) => fixed(&signature::ECDSA_P384_SHA384_FIXED, key),
            Self::P521(key) => p521::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// The curves of ES256, ES384 and ES512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// A key, and which tokens it is for.
#[derive(Debug)]
pub(super) struct Key {
    /// The name that tokens refer to it by; a key without one is for all tokens.
    pub(super) id: Option<Box<str>>,
    /// The only algorithm that it is for, where somebody has said so.
    pub(super) only: Option<Algorithm>,
    pub(super) material: Material,
}

impl Key {
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm) && self.material.takes(algorithm)
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// Whether a point is on a curve: verification would refuse one that is not, but an operator wants
/// to know at the start. The library tells nobody except those who agree on a key.
fn is_on(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let random = rand::SystemRandom::new();
    let Ok(own) = agreement::EphemeralPrivateKey::generate(curve, &random) else {
        return false;
    };
    let point = agreement::UnparsedPublicKey::new(curve, point);
    agreement::agree_ephemeral(own, &point, |_| ()).is_ok()
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
