//! Words of the settings that protect the broker.

use super::{Key, Setting};

words! {
    /// Whether clients must show a certificate, when there are authorities of clients.
    ClientCertificates {
        /// Without one there is no connection.
        Required = "required",
        /// Without one there is; one that is shown is verified.
        Requested = "requested",
    }
}

words! {
    /// The oldest version of TLS that is spoken.
    TlsVersion {
        /// TLS 1.2, and 1.3 with those that know it.
        Tls12 = "1.2" | "tls1.2" | "tlsv1.2",
        /// TLS 1.3 alone.
        Tls13 = "1.3" | "tls1.3" | "tlsv1.3",
    }
}

words! {
    /// The one source that recognises clients.
    TokenSource {
        /// `authentication.jwt_config`.
        Jwt = "jwt",
        /// `authentication.config` with a method and a key.
        Local = "local",
        /// `authentication.oidc_issuer`, or `authentication.config` with an issuer.
        Oidc = "oidc",
        /// `authentication.jwks_file` and `authentication.jwks_url`.
        Jwks = "jwks",
        /// `authentication.api_keys_file`.
        ApiKeys = "api_keys" | "apikeys",
    }
}

words! {
    /// How a token is signed; the words are those of RFC 7518 and RFC 8037.
    SignatureType {
        /// HMAC with SHA-256.
        Hs256 = "HS256" | "hs256",
        /// HMAC with SHA-384.
        Hs384 = "HS384" | "hs384",
        /// HMAC with SHA-512.
        Hs512 = "HS512" | "hs512",
        /// RSA, PKCS #1 1.5, with SHA-256.
        Rs256 = "RS256" | "rs256",
        /// RSA, PKCS #1 1.5, with SHA-384.
        Rs384 = "RS384" | "rs384",
        /// RSA, PKCS #1 1.5, with SHA-512.
        Rs512 = "RS512" | "rs512",
        /// RSA, PSS, with SHA-256.
        Ps256 = "PS256" | "ps256",
        /// RSA, PSS, with SHA-384.
        Ps384 = "PS384" | "ps384",
        /// RSA, PSS, with SHA-512.
        Ps512 = "PS512" | "ps512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256" | "es256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384" | "es384",
        /// ECDSA on P-521 with SHA-512.
        Es512 = "ES512" | "es512",
        /// Ed25519.
        EdDsa = "EdDSA" | "eddsa",
    }
}

words! {
    /// The field of a client's certificate that is its client id.
    CertificateField {
        /// The last common name of the subject.
        CommonName = "common_name" | "commonname" | "cn",
        /// The first host name.
        Dns = "dns",
        /// The first identifier, such as one of SPIFFE.
        Uri = "uri",
        /// The first mail address.
        Email = "email",
        /// The whole subject.
        Subject = "subject",
    }
}

words! {
    /// How the client ids of messages are tied to who sends them.
    ClientIdBinding {
        /// Not at all.
        Off = "off",
        /// Another one than the sender's is refused, a missing one is filled in.
        Checked = "checked",
        /// The sender's replaces what the message says.
        Forced = "forced",
    }
}

/// Empty is none.
macro_rules! optional {
    ($($name:ident),+) => {$(
        impl Setting for Option<$name> {
            fn parse(text: &str, _key: &Key) -> Option<Self> {
                if text.is_empty() {
                    return Some(None);
                }
                $name::from_word(text).map(Some)
            }

            fn spell(&self, _text: &str) -> String {
                self.map_or_else(String::new, |value| value.word().to_owned())
            }
        }
    )+};
}

optional!(TokenSource, SignatureType);

#[cfg(test)]
mod tests {
    use super::*;

    /// A token names its algorithm in these very letters.
    #[test]
    fn every_word_is_understood_in_any_case() {
        for word in SignatureType::WORDS {
            for text in [word.to_string(), word.to_lowercase(), word.to_uppercase()] {
                let found = SignatureType::from_word(&text);
                assert_eq!(found.map(SignatureType::word), Some(*word), "{text}");
            }
        }
        assert_eq!(SignatureType::from_word("none"), None);
        assert_eq!(SignatureType::from_word("HS1"), None);
    }
}
