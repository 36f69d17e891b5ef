//! A broker whose settings and policy are files that a test may change, and the tokens for it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{self, poll};
use crate::mock::broker::Watched as _;
use crate::mock::peer::PATIENCE;

/// The secret that the tokens of the tests are signed with.
pub(crate) const SECRET: &str = "the secret of the tests, long enough for HS256";

/// A broker that asks who calls, or what they may do, or both.
#[derive(Debug)]
pub(crate) struct Broker {
    process: harness::Broker,
    folder: TempDir,
}

/// The settings that make a broker ask for tokens.
pub(crate) fn asking_for_tokens(more: &str) -> String {
    format!(
        "[authentication]\nenable = true\n{more}\n[authentication.jwt_config]\n\
         key = \"{SECRET}\"\nsignature_type = \"HS256\"\n"
    )
}

impl Broker {
    /// Starts a broker with these settings, a file of TOML, and this policy, which counts when
    /// there is one.
    pub(crate) fn start(settings: &str, policy: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, policy_file) = paths(&folder);
        let settings = match policy {
            None => settings.to_owned(),
            Some(policy) => {
                fs::write(&policy_file, policy).unwrap();
                let file = policy_file.to_str().unwrap();
                let asking = format!("[authorization]\nenable = true\nfile_path = {file:?}\n");
                let more = settings.replace("[authorization]\n", &asking);
                match more == settings {
                    true => format!("{settings}{asking}"),
                    false => more,
                }
            }
        };
        fs::write(&config, settings).unwrap();
        let args = ["--config", config.to_str().unwrap()];
        let process = harness::Broker::start_with(2, args);
        Self { process, folder }
    }

    /// Where gRPC is served.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.process.grpc()
    }

    /// Changes the policy, and waits until it counts.
    pub(crate) fn change_policy(&self, policy: &str) {
        let (_, file) = paths(&self.folder);
        replace(&file, policy);
        self.read_again();
    }

    /// Changes the policy to one that is refused, and waits until it was.
    pub(crate) fn try_policy(&self, policy: &str) {
        let (_, file) = paths(&self.folder);
        replace(&file, policy);
        self.reload("the configuration is not reloaded");
    }

    /// Changes the settings, and waits until they count.
    pub(crate) fn change_settings(&self, settings: &str) {
        let (file, _) = paths(&self.folder);
        replace(&file, settings);
        self.read_again();
    }

    fn read_again(&self) {
        self.reload("configuration reloaded");
    }

    /// Asks for a reload, and waits until the log says what became of it.
    fn reload(&self, outcome: &str) {
        let count = |log: &str| log.matches(outcome).count();
        let before = count(&self.process.log());
        self.process.signal(Signal::HUP);
        let done = poll(PATIENCE, || {
            (count(&self.process.log()) > before).then_some(())
        });
        assert!(
            done.is_some(),
            "it is not reloaded:\n{}",
            self.process.log()
        );
    }

    /// All that the broker has logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Ends the broker in order.
    pub(crate) fn end(self) {
        assert!(!self.log().contains(SECRET), "a secret in the log");
        self.process.end();
    }
}

fn paths(folder: &TempDir) -> (PathBuf, PathBuf) {
    let path = folder.path();
    (path.join("broker.toml"), path.join("policy.json"))
}

/// In one step: the broker must not read half of it.
fn replace(file: &PathBuf, text: &str) {
    let partial = file.with_extension("partial");
    fs::write(&partial, text).unwrap();
    fs::rename(&partial, file).unwrap();
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A token with these claims, as JSON.
pub(crate) fn token(claims: &str) -> String {
    token_with(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET)
}

/// A token of a client that ends in an hour.
pub(crate) fn token_of(client: &str) -> String {
    let end = now_seconds() + 3_600;
    token(&format!(r#"{{"sub":"{client}","exp":{end}}}"#))
}

/// A token with this head, signed by HMAC with SHA-256 whatever the head says.
pub(crate) fn token_with(head: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", base64url(head), base64url(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64url(signature))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.as_ref().chunks(3) {
        let number = (0..3).fold(0_usize, |number, place| {
            number << 8 | usize::from(chunk.get(place).copied().unwrap_or(0))
        });
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[number >> (18 - 6 * digit) & 63]));
        }
    }
    text
}
