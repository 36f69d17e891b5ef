//! Which keys are taken, and which key verifies which token.

use std::sync::atomic::AtomicUsize;

use super::*;

fn es256_entry(pair: &Pair, id: &str) -> Value {
    let pem = x509_parser::pem::Pem::iter_from_buffer(&pair.public)
        .next()
        .unwrap()
        .unwrap();
    let point = &pem.contents[pem.contents.len() - 64..];
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({
        "kty": "EC", "crv": "P-256", "kid": id, "use": "sig",
        "x": encode(&point[..32]), "y": encode(&point[32..]),
    })
}

#[test]
fn a_set_chooses_by_the_name_of_the_key_and_asks_for_those_that_it_lacks() {
    let [first, second] = [(); 2].map(|()| pair(Algorithm::ES256));
    let keys = json!({"keys": [es256_entry(&first, "a"), es256_entry(&second, "b")]});
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let authenticator = Authenticator::new(Accepts {
        tokens: vec![Arc::new(set(&keys).unwrap())],
        refresh: Some(Arc::new(Refresh::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }))),
        ..Accepts::default()
    });
    let signed = |pair: &Pair, id| sign(Algorithm::ES256, &pair.private, id);
    for good in [
        signed(&first, Some("a")),
        signed(&second, Some("b")),
        signed(&second, None),
    ] {
        assert!(ask(&authenticator, &good).is_ok());
    }
    let swapped = signed(&first, Some("b"));
    assert_eq!(refusal(&authenticator, &swapped), "signature is invalid");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for unknown in ["c", "", "A", "../a", "a' or 1=1"] {
        let token = signed(&first, Some(unknown));
        assert_eq!(refusal(&authenticator, &token), "signing key is unknown");
    }
    let other = sign(Algorithm::HS256, SECRET, Some("a"));
    assert_eq!(
        refusal(&authenticator, &other),
        "unexpected signing method: HS256"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1, "once in a while");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of all cases")]
fn what_a_set_holds_is_taken_left_out_or_refused() {
    let good = es256_entry(&pair(Algorithm::ES256), "a");
    let changed = |name: &str, value: Value| {
        let mut entry = good.clone();
        entry[name] = value;
        json!({ "keys": [entry] })
    };
    let nine = URL_SAFE_NO_PAD.encode([9; 32]);
    let small = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let cases: &[(Value, Result<usize, &str>)] = &[
        (json!({"keys": [good]}), Ok(1)),
        (
            json!({"keys": [good, {"kty": "quantum"}, {"kty": "OKP", "crv": "X25519"}]}),
            Ok(1),
        ),
        (changed("alg", json!("ES256")), Ok(1)),
        (changed("key_ops", json!(["verify"])), Ok(1)),
        (
            changed("use", json!("enc")),
            Err("none of the 1 keys in the set verifies tokens"),
        ),
        (
            changed("key_ops", json!(["sign"])),
            Err("none of the 1 keys in the set verifies tokens"),
        ),
        (
            changed("alg", json!("ECDH-ES")),
            Err("none of the 1 keys in the set verifies tokens"),
        ),
        (
            changed("alg", json!("RS256")),
            Err("key 0 of the set, \"a\": a key of P-256 verifies no RS256"),
        ),
        (
            changed("alg", json!("HS256")),
            Err("key 0 of the set, \"a\": a key of P-256 verifies no HS256"),
        ),
        (
            changed("x", json!(nine)),
            Err("key 0 of the set, \"a\": the key is damaged: the point is not on its curve"),
        ),
        (
            changed("x", json!("AA")),
            Err("key 0 of the set, \"a\": the key is damaged: a coordinate has the wrong length"),
        ),
        (
            changed("x", json!("*")),
            Err("key 0 of the set, \"a\": the key is damaged: a number is no base64url"),
        ),
        (
            json!({"keys": [{"kty": "RSA", "n": small, "e": "AQAB"}]}),
            Err("key 0 of the set, \"\": an RSA key of 1024 bits is not taken: 2048 to 8192 are"),
        ),
        (
            json!({"keys": [{"kty": "oct", "k": "AAAA"}]}),
            Err("key 0 of the set, \"\": the key is damaged: a secret has to name its \"alg\""),
        ),
        (
            json!({"keys": [{"kty": "oct", "k": "AAAA", "alg": "HS512"}]}),
            Ok(1),
        ),
        (
            json!({"keys": []}),
            Err("none of the 0 keys in the set verifies tokens"),
        ),
        (
            json!({}),
            Err("this is no set of keys: not shaped as one at line 1 column 2"),
        ),
        (
            json!(["keys"]),
            Err("this is no set of keys: not shaped as one at line 1 column 7"),
        ),
        (
            json!({"keys": vec![good.clone(); 257]}),
            Err("the set has 257 keys; 256 are the most"),
        ),
    ];
    for (text, expected) in cases {
        let found = set(text)
            .map(|keys| keys.len())
            .map_err(|error| error.to_string());
        assert_eq!(
            found.as_ref().map_err(String::as_str).copied(),
            *expected,
            "{text}"
        );
    }
    // What everybody may read is no secret.
    let secret = json!({"keys": [{"kty": "oct", "k": "AAAA", "alg": "HS512"}]}).to_string();
    let found = TokenKeys::set(secret.as_bytes(), Origin::Remote, Parties::default());
    let text = found.unwrap_err().to_string();
    assert_eq!(text, "none of the 1 keys in the set verifies tokens");
    let broken = TokenKeys::set(
        b"{\"keys\": [\"hunter2\"",
        Origin::Local,
        Parties::default(),
    );
    let text = broken.unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_key_that_cannot_do_what_is_asked_is_no_start() {
    let es256 = pair(Algorithm::ES256);
    let rsa = pair(Algorithm::RS256);
    let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let certificate = certificate.cert.pem().into_bytes();
    let p384 = "a key of P-384 verifies no ES256";
    let cases: &[(Algorithm, &[u8], Result<(), &str>)] = &[
        (Algorithm::ES256, &certificate, Ok(())),
        (Algorithm::RS384, &rsa.public, Ok(())),
        (Algorithm::PS512, &rsa.public, Ok(())),
        (Algorithm::HS256, b"\0", Ok(())),
        (Algorithm::HS256, b"", Err("the key is empty")),
        (Algorithm::RS256, b" \n", Err("the key is empty")),
        (
            Algorithm::RS256,
            &es256.public,
            Err("a key of P-256 verifies no RS256"),
        ),
        (
            Algorithm::ES256,
            &rsa.public,
            Err("a key of RSA verifies no ES256"),
        ),
        (Algorithm::ES256, &pair(Algorithm::ES384).public, Err(p384)),
        (
            Algorithm::ES256,
            &es256.private,
            Err(
                "the PEM holds a private key; it belongs to the one who signs, name the public one",
            ),
        ),
        (
            Algorithm::RS256,
            b"hunter2",
            Err("the key is no PEM: a public key or a certificate is needed for RS256"),
        ),
        (
            Algorithm::RS256,
            b"-----BEGIN X-----\nAA==\n-----END X-----\n",
            Err("the PEM holds \"X\", not a public key or a certificate"),
        ),
        (
            Algorithm::RS256,
            b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n",
            Err("the key is damaged: it is no public key"),
        ),
    ];
    for (algorithm, text, expected) in cases {
        let found = TokenKeys::one(*algorithm, text, Parties::default());
        let found = found.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{algorithm:?}");
    }
}
