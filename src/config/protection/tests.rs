use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::config::{SignatureType, Sources};

fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
    let sources = Sources {
        environment: environment.iter().map(pair).collect::<HashMap<_, _>>(),
        ..Sources::default()
    };
    Config::load(&sources).map_err(|error| error.to_string())
}

fn warnings(environment: &[(&str, &str)]) -> String {
    let warnings = load(environment).unwrap().provenance.warnings;
    let texts: Vec<_> = warnings.into_iter().map(|found| found.what).collect();
    texts.join("\n")
}

const ON: (&str, &str) = ("AUTHENTICATION_ENABLE", "true");
const KEYS: (&str, &str) = ("AUTHENTICATION_API_KEYS_FILE", "/keys");
const JWT_KEY: (&str, &str) = ("AUTHENTICATION_JWT_CONFIG_KEY", "hunter2");
const HS256: (&str, &str) = ("AUTHENTICATION_JWT_CONFIG_SIGNATURE_TYPE", "hs256");

#[test]
fn the_references_settings_of_tokens_are_taken() {
    let file = ("AUTHENTICATION_JWT_CONFIG_FILE_PATH", "/key.pem");
    let config = load(&[ON, JWT_KEY, HS256, file]).unwrap();
    let authentication = &config.authentication;
    let key = KeySource::Text(Secret::new("hunter2".to_owned()));
    assert_eq!(
        authentication.jwt_key_source(),
        Some(key),
        "more than the file"
    );
    assert_eq!(
        authentication.jwt_signature_type,
        Some(SignatureType::Hs256)
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.management_asks(), "with the other ports");
}

#[test]
fn authentication_without_a_way_to_recognise_anybody_is_no_start() {
    let refused = load(&[ON]).unwrap_err();
    assert!(refused.contains("how clients are recognised"), "{refused}");
    let refused = load(&[ON, JWT_KEY]).unwrap_err();
    assert!(refused.contains("jwt_config.signature_type"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    // A source that is there, but does not count.
    let refused = load(&[ON, KEYS, ("AUTHENTICATION_TYPE", "jwks")]).unwrap_err();
    assert!(refused.contains("how clients are recognised"), "{refused}");
    for source in [
        KEYS,
        ("AUTHENTICATION_JWKS_FILE", "/jwks"),
        ("AUTHENTICATION_JWKS_URL", "https://a/jwks"),
        ("AUTHENTICATION_OIDC_ISSUER", "https://a"),
        (
            "AUTHENTICATION_CONFIG",
            "{\"method\": \"HS256\", \"key\": \"a\"}",
        ),
    ] {
        assert!(
            load(&[ON, source]).unwrap().authentication.enable,
            "{source:?}"
        );
    }
}

#[test]
fn certificates_that_nobody_verifies_prove_nothing() {
    let accept = ("AUTHENTICATION_ACCEPT_CERTIFICATES", "true");
    let refused = load(&[ON, accept]).unwrap_err();
    assert!(refused.contains("security.ca"), "{refused}");
    let tls = [
        ("SECURITY_CERT_FILENAME", "/a"),
        ("SECURITY_KEY_FILENAME", "/b"),
        ("SECURITY_CA_FILENAME", "/c"),
    ];
    let whole = [&tls[..], &[ON, accept]].concat();
    assert!(load(&whole).unwrap().authentication.accept_certificates);
}

#[test]
fn ids_are_bound_to_those_who_were_recognised() {
    let bound = ("AUTHENTICATION_CLIENT_ID_BINDING", "checked");
    let refused = load(&[bound]).unwrap_err();
    assert!(refused.contains("authentication.enable"), "{refused}");
    let config = load(&[ON, KEYS, bound]).unwrap();
    let found = config.authentication.client_id_binding;
    assert_eq!(found, ClientIdBinding::Checked);
}

#[test]
fn a_policy_has_one_source_and_the_first_counts() {
    let on = ("AUTHORIZATION_ENABLE", "true");
    let refused = load(&[on]).unwrap_err();
    assert!(refused.contains("what is allowed"), "{refused}");
    let url = ("AUTHORIZATION_URL", "aHR0cHM6Ly9hL3BvbGljeQ==");
    let source = |environment: &[(&str, &str)]| {
        let config = load(environment).unwrap();
        config.authorization.policy_source()
    };
    let fetched = PolicySource::Url("https://a/policy".to_owned());
    assert_eq!(source(&[on, url]), Some(fetched), "also in base64");
    let file = ("AUTHORIZATION_FILE_PATH", "/policy.json");
    let found = source(&[on, url, file]);
    assert_eq!(found, Some(PolicySource::File("/policy.json".into())));
    for text in ["[ {} ]", "WyB7fSBd"] {
        let found = source(&[on, url, file, ("AUTHORIZATION_POLICY_DATA", text)]);
        assert_eq!(found, Some(PolicySource::Text("[ {} ]".to_owned())));
    }
    let refused = load(&[on, ("AUTHORIZATION_POLICY_DATA", "{}")]).unwrap_err();
    assert!(refused.contains("authorization.policy_data"), "{refused}");
}

#[test]
fn addresses_hold_no_password_and_are_of_http() {
    for wrong in [
        "ftp://a/b",
        "https://",
        "https://me:secret@a/b",
        "a/b",
        "https://a/ b",
    ] {
        let refused = load(&[("AUTHORIZATION_URL", wrong)]).unwrap_err();
        assert!(refused.contains("without a password"), "{wrong}: {refused}");
    }
}

#[test]
fn the_management_port_asks_when_the_others_do_unless_told_otherwise() {
    let asks = |environment: &[(&str, &str)]| load(environment).unwrap().management_asks();
    assert!(!asks(&[]));
    assert!(asks(&[ON, KEYS]));
    assert!(asks(&[ON, KEYS, ("API_AUTH_ENABLE", "true")]));
    assert!(!asks(&[ON, KEYS, ("API_AUTH_ENABLE", "false")]));
    let refused = load(&[("API_AUTH_ENABLE", "true")]).unwrap_err();
    assert!(refused.contains("authentication.enable"), "{refused}");
    let refused = load(&[("API_TLS", "true")]).unwrap_err();
    assert!(refused.contains("security.cert"), "{refused}");
    let config = load(&[
        ("API_AUTH_SESSION_IDLE_MINUTES", "5"),
        ("API_AUTH_SESSION_ABSOLUTE_HOURS", "2"),
        ("KUBEMQ_API_ADMIN_USERNAME", "root"),
    ]);
    let auth = config.unwrap().api.auth;
    assert_eq!(auth.session_idle, Duration::from_secs(300));
    assert_eq!(auth.session_absolute, Duration::from_secs(7_200));
    assert_eq!(auth.admin_username.as_deref(), Some("root"));
}

#[test]
fn protection_that_is_weaker_than_it_looks_is_told_of() {
    let policy = ("AUTHORIZATION_FILE_PATH", "/p");
    let url = ("AUTHENTICATION_JWKS_URL", "http://a/jwks");
    let local = ("AUTHENTICATION_JWKS_URL", "http://127.0.0.1:7/jwks");
    let enforced = ("AUTHORIZATION_ENABLE", "true");
    let old = ("AUTHORIZATION_UNANCHORED", "true");
    let proxy = ("API_AUTH_TRUSTED_TLS_PROXY", "true");
    for (environment, expected) in [
        (&[KEYS][..], "nobody is asked"),
        (&[policy], "everybody may do everything"),
        (&[policy, enforced], "which clients choose themselves"),
        (&[policy, enforced, old], "match parts of names"),
        (&[ON, url], "fetched without TLS"),
        (&[ON, KEYS], "says who it is without TLS"),
    ] {
        let told = warnings(environment);
        assert!(told.contains(expected), "{environment:?}: {told}");
    }
    assert_eq!(warnings(&[]), "");
    assert_eq!(warnings(&[ON, local, proxy]), "");
}

#[test]
fn a_sealed_store_has_its_keys_from_one_place() {
    let (on, file) = (
        ("STORE_ENCRYPTION_ENABLE", "true"),
        ("STORE_ENCRYPTION_KEY_FILE", "/master"),
    );
    let key = ("STORE_ENCRYPTION_KEY", "hunter2");
    let refused = load(&[on]).unwrap_err();
    assert!(refused.contains("with which key"), "{refused}");
    let refused = load(&[on, file, key]).unwrap_err();
    assert!(refused.contains("only one of them can count"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    let encryption = load(&[on, file]).unwrap().store.encryption;
    let found = encryption.key_source();
    assert_eq!(found, Some(KeySource::File("/master".into())));
    let encryption = load(&[key]).unwrap().store.encryption;
    assert!(matches!(encryption.key_source(), Some(KeySource::Text(_))));
}
