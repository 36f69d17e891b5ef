//! Sources that change, fail and come back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::config::{FlagValue, Sources as ConfigSources};
use crate::security::Credentials;
use crate::security::authentication::{ApiKey, Recognised, SigningKey};

fn config(assignments: &[String]) -> Config {
    let flags = assignments.iter().cloned().map(FlagValue::Assignment);
    let sources = ConfigSources {
        flags: flags.collect(),
        ..ConfigSources::default()
    };
    Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn asking(assignments: &[String]) -> Config {
    let enable = "authentication.enable=true".to_owned();
    config(&[&[enable], assignments].concat())
}

fn load_quietly(config: &Config) -> Result<Sources, String> {
    match load(config, || {}) {
        Ok((_, sources)) => Ok(sources),
        Err(failed) => Err(failed.text.lines().next().unwrap_or_default().to_owned()),
    }
}

/// Whom these rules recognise, or what they say.
fn ask(rules: &Rules, token: &str) -> Result<String, String> {
    let credentials = Credentials {
        token: Some(token),
        certificate: None,
    };
    let authenticator = rules.authentication.as_ref().expect("somebody is asked");
    let found = authenticator.authenticate(&credentials, rt::unix_ns(), &mut Recognised::default());
    found
        .map(|identity| identity.name.to_string())
        .map_err(|error| error.to_string())
}

fn later(seconds: u64) -> Instant {
    rt::now().after(Duration::from_secs(seconds))
}

/// Gives away the files of a directory over HTTP, as they are when they are asked for.
fn serve(directory: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &directory);
        }
    });
    address
}

fn answer(mut stream: TcpStream, directory: &Path) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let (status, body) = match std::fs::read(directory.join(path.trim_start_matches('/'))) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _asker_may_be_gone = stream.write_all(&[head.as_bytes(), &body].concat());
}

struct Signer(rcgen::KeyPair);

impl Signer {
    fn new() -> Self {
        Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    fn set(&self, id: &str) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key_raw());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x});
        json!({ "keys": [key] }).to_string()
    }

    fn token(&self, id: &str, claims: &serde_json::Value) -> String {
        let pem = self.0.serialize_pem();
        let key = SigningKey::new(Algorithm::EdDSA, pem.as_bytes()).unwrap();
        key.token(Some(id), claims.as_object().unwrap()).unwrap()
    }
}

struct Bed {
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[test]
fn with_nothing_configured_nobody_is_asked_and_nothing_is_due() {
    let mut sources = load_quietly(&config(&[])).unwrap();
    assert!(sources.rules().authentication.is_none());
    assert!(sources.rules().authorization.is_none());
    sources.keys_wanted();
    assert_eq!(sources.due(), None);
    assert!(sources.look(later(1_000_000)).is_none());
}

#[test]
fn a_key_that_was_taken_out_of_its_file_counts_no_more() {
    let bed = Bed::new();
    let [first, second] = ["first", "second"].map(|name| {
        let key = ApiKey::create(name, None, &[], None);
        key.unwrap()
    });
    let path = bed.write("keys", &first.line);
    let mut sources =
        load_quietly(&asking(&[format!("authentication.api_keys_file={path}")])).unwrap();
    let before = sources.rules();
    assert_eq!(ask(&before, &first.key), Ok("first".to_owned()));
    assert!(sources.due().is_some_and(|due| due <= later(300)));
    assert!(sources.look(later(0)).is_none(), "it is not due");
    bed.write("keys", &second.line);
    let rules = sources.look(later(301)).expect("the file has changed");
    let unknown = "Error 421: authentication verification failed, api key is unknown";
    assert_eq!(ask(&rules, &first.key), Err(unknown.to_owned()));
    assert_eq!(ask(&rules, &second.key), Ok("second".to_owned()));
    assert!(sources.look(later(602)).is_none(), "nothing has changed");
    // What is bad or missing changes nothing.
    bed.write("keys", "nonsense");
    assert!(sources.look(later(903)).is_none());
    std::fs::remove_file(bed.path("keys")).unwrap();
    assert!(sources.look(later(1_204)).is_none());
    assert_eq!(ask(&sources.rules(), &second.key), Ok("second".to_owned()));
    bed.write("keys", &first.line);
    let rules = sources.look(later(1_505)).expect("it can be read again");
    assert_eq!(ask(&rules, &first.key), Ok("first".to_owned()));
}

#[test]
fn keys_at_an_address_are_fetched_again_when_one_is_missing() {
    let bed = Bed::new();
    let [first, second] = [(); 2].map(|()| Signer::new());
    bed.write("jwks", &first.set("a"));
    let address = serve(bed.directory.path());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let config = asking(&[format!("authentication.jwks_url=http://{address}/jwks")]);
    let loaded = load(&config, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let (rules, mut sources) = loaded.unwrap_or_else(|failed| panic!("{}", failed.text));
    let claims = json!({"sub": "ada"});
    assert_eq!(
        ask(&rules, &first.token("a", &claims)),
        Ok("ada".to_owned())
    );
    let unknown = "Error 421: authentication verification failed, signing key is unknown";
    let new = second.token("b", &claims);
    assert_eq!(ask(&rules, &new), Err(unknown.to_owned()));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    bed.write("jwks", &second.set("b"));
    sources.keys_wanted();
    let rules = sources.look(rt::now()).expect("fetched at once");
    assert_eq!(ask(&rules, &new), Ok("ada".to_owned()));
    assert_eq!(
        ask(&rules, &first.token("a", &claims)),
        Err(unknown.to_owned())
    );
    for bad in ["{}", "", "<html>", &" ".repeat(2 << 20)] {
        bed.write("jwks", bad);
        sources.keys_wanted();
        assert!(sources.look(rt::now()).is_none());
    }
    std::fs::remove_file(bed.path("jwks")).unwrap();
    sources.keys_wanted();
    assert!(sources.look(rt::now()).is_none());
    assert_eq!(ask(&sources.rules(), &new), Ok("ada".to_owned()));
    // A reload goes on with what it has, and takes nothing new without having read it.
    assert!(sources.read_again(&config).is_ok());
    assert_eq!(ask(&sources.rules(), &new), Ok("ada".to_owned()));
    let other = asking(&[format!("authentication.jwks_url=http://{address}/other")]);
    let refused = sources.read_again(&other).unwrap_err().to_string();
    assert_eq!(refused, format!("http://{address}/other: http status: 404"));
    assert_eq!(ask(&sources.rules(), &new), Ok("ada".to_owned()));
}

#[test]
fn a_provider_says_where_its_keys_are_and_its_tokens_name_it() {
    let bed = Bed::new();
    let signer = Signer::new();
    let address = serve(bed.directory.path());
    let issuer = format!("http://{address}/realm");
    let described = "realm/.well-known/openid-configuration";
    let describe = |issuer: &str| {
        let jwks_uri = format!("http://{address}/keys");
        let text = json!({"issuer": issuer, "jwks_uri": jwks_uri, "scopes_supported": []});
        bed.write(described, &text.to_string());
    };
    bed.write("keys", &signer.set("a"));
    let config = asking(&[
        format!("authentication.oidc_issuer={issuer}"),
        "authentication.audience=broker,other".to_owned(),
    ]);
    let place = format!("{issuer}/.well-known/openid-configuration");
    let refused = load_quietly(&config).unwrap_err();
    assert_eq!(refused, format!("{place}: http status: 404"));
    bed.write(described, "{}");
    let refused = load_quietly(&config).unwrap_err();
    assert_eq!(
        refused,
        format!("{place}: this is no description of an OpenID provider")
    );
    describe("https://somebody.else");
    let refused = load_quietly(&config).unwrap_err();
    let expected =
        format!("{place}: this provider calls itself \"https://somebody.else\", not \"{issuer}\"");
    assert_eq!(refused, expected);
    describe(&issuer);
    let rules = load_quietly(&config).unwrap().rules();
    let token = |claims| signer.token("a", &claims);
    let good = token(json!({"sub": "ada", "iss": issuer, "aud": "broker"}));
    assert_eq!(ask(&rules, &good), Ok("ada".to_owned()));
    let failed = |what| {
        Err(format!(
            "Error 421: authentication verification failed, {what}"
        ))
    };
    let other = token(json!({"iss": "https://a", "aud": "broker"}));
    assert_eq!(
        ask(&rules, &other),
        failed("token was issued by somebody else")
    );
    let other = token(json!({"iss": issuer, "aud": "shop"}));
    assert_eq!(
        ask(&rules, &other),
        failed("token is meant for somebody else")
    );
    let form = json!({"issuer": issuer, "clientID": "shop", "skipExpiryCheck": true});
    let rules = load_quietly(&asking(&[format!("authentication.config={form}")]));
    let late = token(json!({"sub": "ada", "iss": issuer, "aud": "shop", "exp": 1}));
    assert_eq!(ask(&rules.unwrap().rules(), &late), Ok("ada".to_owned()));
}

#[test]
fn what_cannot_be_read_is_no_start() {
    let bed = Bed::new();
    let bad = bed.write("bad", "nonsense");
    let policy = bed.write("policy", "[{\"Channel\": \"(\", \"ClientID\": \".*\"}]");
    let none = bed.path("none").display().to_string();
    let missing = "No such file or directory (os error 2)";
    let signed = "authentication.jwt_config.signature_type=RS256".to_owned();
    let cases: &[(Vec<String>, String)] = &[
        (
            vec![format!("authentication.api_keys_file={none}")],
            format!("{none}: {missing}"),
        ),
        (
            vec![
                format!("authentication.jwt_config.file_path={none}"),
                signed.clone(),
            ],
            format!("{none}: {missing}"),
        ),
        (
            vec!["authentication.jwt_config.key=hunter2".to_owned(), signed],
            "authentication.jwt_config.key: the key is no PEM: a public key or a certificate is \
             needed for RS256"
                .to_owned(),
        ),
        (
            vec![format!("authentication.api_keys_file={bad}")],
            format!("{bad}: line 1: it does not begin with sha256:, the hash of a key"),
        ),
        (
            vec![format!("authentication.jwks_file={bad}")],
            format!("{bad}: this is no set of keys: no JSON at line 1 column 2"),
        ),
        (
            vec!["authentication.config={\"method\": \"HS256\"}".to_owned()],
            "authentication.config: key is missing".to_owned(),
        ),
        (
            vec!["authentication.jwks_url=http://127.0.0.1:1/".to_owned()],
            "http://127.0.0.1:1/: io: Connection refused".to_owned(),
        ),
    ];
    for (assignments, expected) in cases {
        let found = load_quietly(&asking(assignments)).unwrap_err();
        assert!(found.starts_with(expected), "{found}");
        assert!(!found.contains("hunter2"));
    }
    let refused = load_quietly(&config(&[
        "authorization.enable=true".to_owned(),
        format!("authorization.file_path={policy}"),
    ]));
    let refused = refused.unwrap_err();
    assert!(
        refused.starts_with(&format!("{policy}: line 1, column ")),
        "{refused}"
    );
}

#[test]
fn sources_that_are_set_count_together_unless_one_is_chosen() {
    let bed = Bed::new();
    let signer = Signer::new();
    let set = bed.write("jwks", &signer.set("a"));
    let key = ApiKey::create("billing", None, &[], None).unwrap();
    let keys = bed.write("keys", &key.line);
    let secret = SigningKey::new(Algorithm::HS256, b"a secret of this test, of some length");
    let claims = json!({"sub": "bob"});
    let secret = secret
        .unwrap()
        .token(None, claims.as_object().unwrap())
        .unwrap();
    let token = signer.token("a", &json!({"sub": "ada"}));
    let all = [
        format!("authentication.jwks_file={set}"),
        format!("authentication.api_keys_file={keys}"),
        "authentication.jwt_config.key=a secret of this test, of some length".to_owned(),
        "authentication.jwt_config.signature_type=hs256".to_owned(),
    ];
    for (chosen, expected) in [
        ("", [true, true, true]),
        ("jwt", [false, false, true]),
        ("jwks", [true, false, false]),
        ("api_keys", [false, true, false]),
    ] {
        let chosen = format!("authentication.type={chosen}");
        let rules = load_quietly(&asking(&[&all[..], std::slice::from_ref(&chosen)].concat()));
        let rules = rules.unwrap().rules();
        let found = [&token, &key.key, &secret].map(|shown| ask(&rules, shown).is_ok());
        assert_eq!(found, expected, "{chosen}");
    }
}

#[test]
fn a_policy_is_looked_at_by_its_own_clock() {
    let bed = Bed::new();
    let rule = r#"{"ClientID": "a", "Channel": "b", "Events": true, "Read": true}"#;
    let path = bed.write("policy", &format!("[{rule}]"));
    let assignments = [
        "authorization.enable=true".to_owned(),
        format!("authorization.file_path={path}"),
    ];
    let never = load_quietly(&config(&assignments)).unwrap();
    assert_eq!(never.due(), None);
    let reload = "authorization.auto_reload=5".to_owned();
    let mut sources = load_quietly(&config(&[&assignments[..], &[reload]].concat())).unwrap();
    let count = |rules: &Rules| rules.authorization.as_ref().unwrap().len();
    assert_eq!(count(&sources.rules()), 1);
    assert!(sources.due().is_some_and(|due| due <= later(5)));
    bed.write("policy", &format!("[{rule}, {rule}]"));
    assert_eq!(sources.look(later(6)).map(|rules| count(&rules)), Some(2));
    bed.write("policy", "[");
    assert!(sources.look(later(12)).is_none());
    assert_eq!(count(&sources.rules()), 2);
}
