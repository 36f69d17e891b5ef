//! Making tokens: for trying out rules, and for tests. The broker itself signs nothing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::RandomizedSigner;
use p521::elliptic_curve::rand_core::{self, CryptoRng, RngCore};
use p521::pkcs8::DecodePrivateKey;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use x509_parser::pem::Pem;

use super::algorithm::Algorithm;

/// Why a token cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The key is of another kind or of another form.
    #[error("the key cannot sign {0}: it has to be a private key as PEM (PKCS #8)")]
    Key(&'static str),
    /// A secret that is empty.
    #[error("the key is empty")]
    Empty,
    /// The library refuses to sign.
    #[error("the key does not sign")]
    Failed,
}

/// A key that signs tokens of one algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    P521(p521::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Takes a key: the bytes themselves for a secret, else PEM.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn new(algorithm: Algorithm, text: &[u8]) -> Result<Self, SigningError> {
        let material = match algorithm {
            Algorithm::HS256 => secret(hmac::HMAC_SHA256, text)?,
            Algorithm::HS384 => secret(hmac::HMAC_SHA384, text)?,
            Algorithm::HS512 => secret(hmac::HMAC_SHA512, text)?,
            _ => private(algorithm, text).ok_or(SigningError::Key(algorithm.name()))?,
        };
        Ok(Self {
            algorithm,
            material,
        })
    }

    /// A token of these claims; `key_id` is the name of the key in its head.
    ///
    /// # Errors
    /// [`SigningError::Failed`].
    pub fn token(
        &self,
        key_id: Option<&str>,
        claims: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, SigningError> {
        let mut head = serde_json::json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        if let (Some(id), Some(head)) = (key_id, head.as_object_mut()) {
            head.insert("kid".to_owned(), id.into());
        }
        let claims = serde_json::to_vec(claims).map_err(|_| SigningError::Failed)?;
        self.sign(head.to_string().as_bytes(), &claims)
    }

    /// A token of these bytes, whatever they are.
    pub(super) fn sign(&self, head: &[u8], claims: &[u8]) -> Result<String, SigningError> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(head), encode(claims));
        let signature = self
            .signature(signed.as_bytes())
            .ok_or(SigningError::Failed)?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        Some(match &self.material {
            Material::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Material::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding = padding(self.algorithm)?;
                key.sign(padding, &random, message, &mut signature).ok()?;
                signature
            }
            Material::Ecdsa(key) => key.sign(&random, message).ok()?.as_ref().to_vec(),
            Material::P521(key) => {
                let signature: p521::ecdsa::Signature =
                    key.try_sign_with_rng(&mut Random(random), message).ok()?;
                signature.to_bytes().to_vec()
            }
            Material::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        })
    }
}

fn secret(hash: hmac::Algorithm, text: &[u8]) -> Result<Material, SigningError> {
    if text.is_empty() {
        return Err(SigningError::Empty);
    }
    Ok(Material::Secret(hmac::Key::new(hash, text)))
}

fn private(algorithm: Algorithm, text: &[u8]) -> Option<Material> {
    let pem = Pem::iter_from_buffer(text).next()?.ok()?;
    let der = &pem.contents;
    let random = SystemRandom::new();
    let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, &random).ok();
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let key = if pem.label == "RSA PRIVATE KEY" {
                RsaKeyPair::from_der(der)
            } else {
                RsaKeyPair::from_pkcs8(der)
            };
            key.ok().map(Material::Rsa)
        }
        Algorithm::ES256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).map(Material::Ecdsa),
        Algorithm::ES384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).map(Material::Ecdsa),
        Algorithm::ES512 => {
            let key = p521::SecretKey::from_pkcs8_der(der).ok()?;
            let key = p521::ecdsa::SigningKey::from_slice(&key.to_bytes()).ok()?;
            Some(Material::P521(key))
        }
        Algorithm::EdDSA => {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
            Some(Material::Ed25519(key))
        }
    }
}

fn padding(algorithm: Algorithm) -> Option<&'static dyn signature::RsaEncoding> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_SHA512,
        _ => return None,
    })
}

/// The machine's random numbers, for a library that asks for them in another way.
struct Random(SystemRandom);

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        let filled = self.0.fill(bytes);
        assert!(filled.is_ok(), "the machine gives random numbers");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Random {}
