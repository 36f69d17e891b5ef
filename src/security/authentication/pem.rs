//! Keys as PEM: what an operator names for one algorithm.

use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS, OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::Algorithm;
use super::key::{Curve, Key, KeyError, Material};

/// The key for tokens of one algorithm: the bytes themselves for a secret, as the reference has it,
/// else a public key or a certificate as PEM. Whether a certificate has ended does not count: it
/// only carries the key.
pub(super) fn key(algorithm: Algorithm, text: &[u8]) -> Result<Key, KeyError> {
    let material = if algorithm.is_symmetric() {
        Material::secret(algorithm, text)?
    } else {
        public(algorithm, text)?
    };
    if !material.takes(algorithm) {
        return Err(KeyError::Kind {
            kind: material.kind(),
            algorithm: algorithm.name(),
        });
    }
    Ok(Key {
        id: None,
        only: Some(algorithm),
        material,
    })
}

/// The first block counts.
fn public(algorithm: Algorithm, text: &[u8]) -> Result<Material, KeyError> {
    if text.trim_ascii().is_empty() {
        return Err(KeyError::Empty);
    }
    let Some(Ok(pem)) = Pem::iter_from_buffer(text).next() else {
        return Err(KeyError::NoPem(algorithm.name()));
    };
    match pem.label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents)
                .map_err(|_| KeyError::Damaged("it is no public key"))?;
            info_of(&info)
        }
        "CERTIFICATE" => {
            let certificate = pem
                .parse_x509()
                .map_err(|_| KeyError::Damaged("it is no certificate"))?;
            info_of(certificate.public_key())
        }
        "RSA PUBLIC KEY" => rsa(&pem.contents),
        label if label.ends_with("PRIVATE KEY") => Err(KeyError::Private),
        label => Err(KeyError::Label(label.to_owned())),
    }
}

fn info_of(info: &SubjectPublicKeyInfo<'_>) -> Result<Material, KeyError> {
    let bits: &[u8] = &info.subject_public_key.data;
    let kind = &info.algorithm.algorithm;
    if *kind == OID_PKCS1_RSAENCRYPTION || *kind == OID_PKCS1_RSASSAPSS {
        rsa(bits)
    } else if *kind == OID_SIG_ED25519 {
        Material::ed25519(bits)
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let parameters = info.algorithm.parameters.as_ref();
        let named = parameters.and_then(|parameters| parameters.as_oid().ok());
        let curve = match named {
            Some(oid) if oid == OID_EC_P256 => Curve::P256,
            Some(oid) if oid == OID_NIST_EC_P384 => Curve::P384,
            Some(oid) if oid == OID_NIST_EC_P521 => Curve::P521,
            Some(oid) => return Err(KeyError::Unknown(format!("a curve {oid}"))),
            None => return Err(KeyError::Damaged("it does not name its curve")),
        };
        Material::point(curve, bits)
    } else {
        Err(KeyError::Unknown(kind.to_string()))
    }
}

fn rsa(der: &[u8]) -> Result<Material, KeyError> {
    let (_, key) =
        RSAPublicKey::from_der(der).map_err(|_| KeyError::Damaged("it is no key of RSA"))?;
    Material::rsa(key.modulus, key.exponent)
}
