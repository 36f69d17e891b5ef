//! What is recognised and what is not, as tables.

mod keys;
mod oracle;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde_json::{Map, Value, json};

use super::signing::SigningKey;
use super::*;
use crate::model::identity::{CertificateNames, Proof};

const NOW_S: i64 = 1_700_000_000;
const NOW_NS: i64 = NOW_S * 1_000_000_000;

/// Made for these tests, and used nowhere else.
const RSA_TEST_KEY: &str = include_str!("tests/rsa_test_key.pem");

const SECRET: &[u8] = b"a secret of these tests, long enough for each of the hashes that they use";

/// What signs tokens of an algorithm, and what verifies them.
struct Pair {
    private: Vec<u8>,
    public: Vec<u8>,
}

fn pair(algorithm: Algorithm) -> Pair {
    let made = |key: &rcgen::KeyPair| Pair {
        private: key.serialize_pem().into_bytes(),
        public: key.public_key_pem().into_bytes(),
    };
    let generate = |kind| made(&rcgen::KeyPair::generate_for(kind).unwrap());
    match algorithm.name().get(..2).unwrap() {
        "HS" => Pair {
            private: SECRET.to_vec(),
            public: SECRET.to_vec(),
        },
        "RS" | "PS" => made(&rcgen::KeyPair::from_pem(RSA_TEST_KEY).unwrap()),
        _ if algorithm == Algorithm::ES256 => generate(&rcgen::PKCS_ECDSA_P256_SHA256),
        _ if algorithm == Algorithm::ES384 => generate(&rcgen::PKCS_ECDSA_P384_SHA384),
        _ if algorithm == Algorithm::EdDSA => generate(&rcgen::PKCS_ED25519),
        _ => p521_pair(),
    }
}

fn p521_pair() -> Pair {
    let key = p521::SecretKey::from_slice(&[7; 66].map(|byte: u8| byte & 1)).unwrap();
    let private = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let public = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    Pair {
        private: private.as_bytes().to_vec(),
        public: public.into_bytes(),
    }
}

fn with(tokens: Vec<TokenKeys>) -> Authenticator {
    let tokens = tokens.into_iter().map(Arc::new).collect();
    Authenticator::new(Accepts {
        tokens,
        ..Accepts::default()
    })
}

fn one(algorithm: Algorithm, public: &[u8]) -> Authenticator {
    with(vec![
        TokenKeys::one(algorithm, public, Parties::default()).unwrap(),
    ])
}

fn set(text: &Value) -> Result<TokenKeys, SetError> {
    let text = text.to_string();
    TokenKeys::set(text.as_bytes(), Origin::Local, Parties::default())
}

fn ask(authenticator: &Authenticator, token: &str) -> Result<Rc<Identity>, String> {
    let credentials = Credentials {
        token: Some(token),
        certificate: None,
    };
    let mut recognised = Recognised::default();
    let found = authenticator.authenticate(&credentials, NOW_NS, &mut recognised);
    found.map_err(|error| error.0.into_owned())
}

/// Why a token is refused, without the words that begin every refusal.
fn refusal(authenticator: &Authenticator, token: &str) -> String {
    let text = ask(authenticator, token).expect_err("it is refused");
    let rest = text.strip_prefix("Error 421: authentication verification failed, ");
    rest.unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn claims(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn sign(algorithm: Algorithm, private: &[u8], key_id: Option<&str>) -> String {
    let claims = claims(&json!({"sub": "ada", "exp": NOW_S + 60}));
    let key = SigningKey::new(algorithm, private).unwrap();
    key.token(key_id, &claims).unwrap()
}

/// A signature is taken under the algorithm that the operator chose, and under no other.
#[test]
fn each_algorithm_takes_its_own_tokens_and_no_others() {
    let pairs = Algorithm::ALL.map(|algorithm| (algorithm, pair(algorithm)));
    let tokens = pairs
        .each_ref()
        .map(|(algorithm, pair)| (*algorithm, sign(*algorithm, &pair.private, None)));
    for (algorithm, pair) in &pairs {
        let authenticator = one(*algorithm, &pair.public);
        for (signed, token) in &tokens {
            if signed == algorithm {
                let identity = ask(&authenticator, token).unwrap();
                assert_eq!((&*identity.name, identity.proof), ("ada", Proof::Token));
                assert_eq!(identity.expires_at_ns, Some((NOW_S + 60) * 1_000_000_000));
            } else {
                let expected = format!("unexpected signing method: {}", signed.name());
                assert_eq!(refusal(&authenticator, token), expected, "{algorithm:?}");
            }
        }
    }
}

/// The classic: everybody knows the public key, and a verifier that believes the head of a token
/// takes it for the secret of an HMAC.
#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let pair = pair(algorithm);
        for text in [&pair.public[..], pair.public.trim_ascii()] {
            let forged = sign(Algorithm::HS256, text, None);
            let text = refusal(&one(algorithm, &pair.public), &forged);
            assert_eq!(text, "unexpected signing method: HS256");
        }
    }
}

fn raw(head: &str, claims: &str, signature: &[u8]) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (head, claims) = (encode(head.as_bytes()), encode(claims.as_bytes()));
    format!("{head}.{claims}.{}", encode(signature))
}

#[test]
fn unsigned_and_forged_tokens_are_refused() {
    let body = r#"{"sub":"ada"}"#;
    let es256 = r#"{"alg":"ES256"}"#;
    let authenticator = one(Algorithm::ES256, &pair(Algorithm::ES256).public);
    let other = sign(Algorithm::ES256, &pair(Algorithm::ES256).private, None);
    let cases: &[(&str, String, &str)] = &[
        (
            "none",
            raw(r#"{"alg":"none"}"#, body, b""),
            "unexpected signing method: none",
        ),
        (
            "None",
            raw(r#"{"alg":"None"}"#, body, b""),
            "signing method (alg) is unavailable.",
        ),
        (
            "no signature",
            raw(es256, body, b""),
            "signature is invalid",
        ),
        (
            "zeros, as CVE-2022-21449",
            raw(es256, body, &[0; 64]),
            "signature is invalid",
        ),
        (
            "too long",
            raw(es256, body, &[1; 6000]),
            "signature is invalid",
        ),
        ("another key's", other, "signature is invalid"),
        (
            "two segments",
            "e30.e30".to_owned(),
            "token contains an invalid number of segments",
        ),
        (
            "no token",
            "rmq_abc".to_owned(),
            "token contains an invalid number of segments",
        ),
        (
            "its own key in the head",
            raw(
                r#"{"alg":"ES256","jwk":{"kty":"oct","k":"AA"}}"#,
                body,
                &[1; 64],
            ),
            "signature is invalid",
        ),
    ];
    for (name, token, expected) in cases {
        assert_eq!(refusal(&authenticator, token), *expected, "{name}");
    }
}

#[test]
fn no_changed_byte_of_a_token_is_taken() {
    for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
        let pair = pair(algorithm);
        let authenticator = one(algorithm, &pair.public);
        let good = sign(algorithm, &pair.private, None);
        assert!(ask(&authenticator, &good).is_ok());
        for at in 0..good.len() {
            assert!(ask(&authenticator, &good[..at]).is_err(), "cut at {at}");
            for byte in [b'A', b'B', b'.', b'=', b' '] {
                let mut changed = good.clone().into_bytes();
                if std::mem::replace(&mut changed[at], byte) == byte {
                    continue;
                }
                let changed = String::from_utf8(changed).unwrap();
                assert!(ask(&authenticator, &changed).is_err(), "{changed}");
            }
        }
        for longer in [format!("{good}A"), format!("{good}="), format!(" {good}")] {
            assert!(ask(&authenticator, &longer).is_err(), "{longer}");
        }
    }
}

#[test]
fn a_token_is_for_the_parties_of_the_key_that_has_signed_it() {
    let parties = |issuer: &str| Parties {
        issuer: Some(issuer.to_owned()),
        ..Parties::default()
    };
    let [first, second] = [(); 2].map(|()| pair(Algorithm::ES256));
    let keys = |pair: &Pair, issuer| {
        TokenKeys::one(Algorithm::ES256, &pair.public, parties(issuer)).unwrap()
    };
    let authenticator = with(vec![keys(&first, "one"), keys(&second, "two")]);
    let signed = |pair: &Pair, issuer: &str| {
        let key = SigningKey::new(Algorithm::ES256, &pair.private).unwrap();
        key.token(None, &claims(&json!({"iss": issuer}))).unwrap()
    };
    for (pair, issuer, is_good) in [
        (&first, "one", true),
        (&second, "two", true),
        (&first, "two", false),
        (&second, "one", false),
    ] {
        let found = ask(&authenticator, &signed(pair, issuer));
        assert_eq!(found.is_ok(), is_good, "{issuer}: {found:?}");
    }
}

fn names() -> CertificateNames {
    CertificateNames {
        common_name: "carol".into(),
        expires_at_ns: NOW_NS + 1,
        ..CertificateNames::default()
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of all cases")]
fn a_token_counts_more_than_a_certificate_and_nothing_is_nobody() {
    let key = ApiKey::create("billing", None, &[], None).unwrap();
    let pair = pair(Algorithm::EdDSA);
    let make = |tokens: bool, keys: bool, certificates: bool| {
        let one = TokenKeys::one(Algorithm::EdDSA, &pair.public, Parties::default()).unwrap();
        Authenticator::new(Accepts {
            tokens: if tokens {
                vec![Arc::new(one)]
            } else {
                Vec::new()
            },
            api_keys: keys.then(|| Arc::new(ApiKeys::parse(key.line.as_bytes()).unwrap())),
            certificates: certificates.then_some(CertificateField::CommonName),
            ..Accepts::default()
        })
    };
    let token = sign(Algorithm::EdDSA, &pair.private, None);
    let (token, key) = (Some(token.as_str()), Some(key.key.as_str()));
    let (names, bearer) = (names(), format!("Bearer {}", key.unwrap()));
    type Case<'a> = (
        (bool, bool, bool),
        Option<&'a str>,
        bool,
        Result<&'a str, &'a str>,
    );
    let cases: &[Case<'_>] = &[
        ((true, true, true), token, true, Ok("ada")),
        ((true, true, true), key, true, Ok("billing")),
        ((true, true, true), None, true, Ok("carol")),
        (
            (true, true, true),
            None,
            false,
            Err("Authorization token is not supplied"),
        ),
        (
            (true, true, false),
            None,
            true,
            Err("Authorization token is not supplied"),
        ),
        (
            (true, true, true),
            Some("x"),
            true,
            Err("token contains an invalid number of segments"),
        ),
        (
            (true, true, true),
            Some("rmq_x"),
            true,
            Err("api key is unknown"),
        ),
        ((false, true, true), token, true, Err("api key is unknown")),
        (
            (false, true, true),
            Some(&bearer),
            true,
            Err("tokenstring should not contain 'bearer '"),
        ),
        (
            (true, false, true),
            key,
            true,
            Err("token contains an invalid number of segments"),
        ),
        (
            (false, false, true),
            token,
            true,
            Err("unexpected signing method: EdDSA"),
        ),
        (
            (false, false, false),
            None,
            true,
            Err("Authorization token is not supplied"),
        ),
        (
            (true, true, true),
            Some(""),
            true,
            Err("token contains an invalid number of segments"),
        ),
    ];
    for (accepts, token, certified, expected) in cases {
        let authenticator = make(accepts.0, accepts.1, accepts.2);
        let credentials = Credentials {
            token: *token,
            certificate: certified.then_some(&names),
        };
        let mut recognised = Recognised::default();
        // The second time it is remembered.
        for _ in 0..2 {
            let found = authenticator.authenticate(&credentials, NOW_NS, &mut recognised);
            let found = found.as_ref().map(|found| &*found.name).map_err(|error| {
                let text: &str = &error.0;
                text.trim_start_matches("Error 421: authentication verification failed, ")
            });
            assert_eq!(found, *expected, "{accepts:?} {token:?}");
        }
        let mark = format!("certificate {} carol", names.expires_at_ns);
        let forged = authenticator.authenticate(
            &Credentials {
                token: Some(&mark),
                certificate: None,
            },
            NOW_NS,
            &mut recognised,
        );
        assert!(forged.is_err(), "a text is no certificate");
        let late = authenticator.authenticate(
            &Credentials {
                token: None,
                certificate: Some(&names),
            },
            NOW_NS + 1,
            &mut recognised,
        );
        assert!(late.is_err(), "a certificate that has ended");
    }
}
