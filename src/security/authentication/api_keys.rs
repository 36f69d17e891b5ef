//! API keys: 256 random bits each, of which the broker knows the hash only.
//!
//! ```text
//! # hash of the key        whose     ends (seconds since 1970)
//! sha256:6fb1…             billing   roles=reader,writer client_id=billing-1 expires=1893456000
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::claims::{ROLES_MAX, nanoseconds};
use super::recognised::Fingerprint;
use super::token::Fault;
use crate::model::identity::{Identity, Proof};

/// What every API key begins with: it tells it from a token, and tools that look for leaked
/// secrets find it.
pub const PREFIX: &str = "rmq_";

/// The longest text of a file of keys, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// What begins the hash in a line.
const HASH_MARK: &str = "sha256:";

/// Why a file of keys is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is too long to be read.
    #[error("the file of keys is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no text.
    #[error("the file of keys is no UTF-8")]
    NoText,
    /// A line is wrong. What stands there is not told: it could be a key.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A key that was just made; the only time that it is known.
pub struct NewKey {
    /// What its owner gets.
    pub key: String,
    /// What the file gets, without the line's end.
    pub line: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// What a file says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    hash: Fingerprint,
    /// Whose it is.
    pub name: Box<str>,
    /// The client id of its owner, if it is not the name.
    pub client_id: Option<Box<str>>,
    /// The roles of its owner.
    pub roles: Box<[Box<str>]>,
    /// When it ends: seconds since 1970.
    pub expires_at_s: Option<i64>,
}

/// The keys of a file.
#[derive(Debug, Default)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
    /// Where the keys are whose hashes begin with these bytes.
    by_start: HashMap<[u8; 8], Vec<usize>>,
}

impl ApiKeys {
    /// Reads a file of keys: one a line, empty lines and those that begin with `#` left out.
    ///
    /// # Errors
    /// [`FileError`]: a line that is not understood could be somebody's end.
    pub fn parse(text: &[u8]) -> Result<Self, FileError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| FileError::NoText)?;
        let mut keys = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| FileError::Line {
                line: index + 1,
                what,
            };
            let key = ApiKey::parse(line).map_err(wrong)?;
            if keys.get(&key.hash).is_some() {
                return Err(wrong("the same key a second time"));
            }
            let at = keys.by_start.entry(start(&key.hash)).or_default();
            at.push(keys.keys.len());
            keys.keys.push(key);
        }
        Ok(keys)
    }

    /// The keys, as they stand in the file.
    #[must_use]
    pub fn list(&self) -> &[ApiKey] {
        &self.keys
    }

    /// Who has shown a key of this hash, and when the key ends.
    pub(super) fn recognise(
        &self,
        hash: &Fingerprint,
        now_s: i64,
    ) -> Result<(Rc<Identity>, Option<i64>), Fault> {
        let key = self.get(hash).ok_or(Fault::KeyUnknown)?;
        if let Some(at) = key.expires_at_s
            && at <= now_s
        {
            return Err(Fault::KeyExpired(now_s.saturating_sub(at)));
        }
        let client_id = key.client_id.as_ref().unwrap_or(&key.name);
        let identity = Identity {
            proof: Proof::ApiKey,
            name: key.name.clone(),
            client_id: Some(client_id.clone()),
            roles: key.roles.clone(),
            expires_at_ns: key.expires_at_s.map(nanoseconds),
        };
        Ok((Rc::new(identity), key.expires_at_s))
    }

    fn get(&self, hash: &Fingerprint) -> Option<&ApiKey> {
        let candidates = self.by_start.get(&start(hash))?;
        let mut candidates = candidates.iter().filter_map(|at| self.keys.get(*at));
        candidates.find(|key| are_equal(&key.hash, hash))
    }
}

impl ApiKey {
    /// Makes a key.
    ///
    /// # Errors
    /// What is wrong with the name or the roles; or that the machine has no random numbers.
    pub fn create(
        name: &str,
        client_id: Option<&str>,
        roles: &[String],
        expires_at_s: Option<i64>,
    ) -> Result<NewKey, &'static str> {
        let mut bits = [0_u8; 32];
        SystemRandom::new()
            .fill(&mut bits)
            .map_err(|_| "the machine gives no random numbers")?;
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits));
        let mut line = format!("{HASH_MARK}{} {name}", hex(&fingerprint(key.as_bytes())));
        if !roles.is_empty() {
            line += &format!(" roles={}", roles.join(","));
        }
        if let Some(client_id) = client_id {
            line += &format!(" client_id={client_id}");
        }
        if let Some(at) = expires_at_s {
            line += &format!(" expires={at}");
        }
        // What is written is read as it was meant, or not written.
        let read = Self::parse(&line)?;
        let same = &*read.name == name
            && read.client_id.as_deref() == client_id
            && read.roles.iter().map(|role| &**role).eq(roles)
            && read.expires_at_s == expires_at_s;
        if same {
            Ok(NewKey { key, line })
        } else {
            Err("names, client ids and roles are words without blanks or commas")
        }
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let hash = words.next().and_then(|word| word.strip_prefix(HASH_MARK));
        let hash = hash.ok_or("it does not begin with sha256:, the hash of a key")?;
        let hash = unhex(hash).ok_or("the hash is not 64 hexadecimal digits")?;
        let name = words.next().filter(|name| !name.contains('='));
        let mut key = Self {
            hash,
            name: name.ok_or("the name of the key's owner is missing")?.into(),
            client_id: None,
            roles: Box::default(),
            expires_at_s: None,
        };
        for word in words {
            let taken = match word.split_once('=') {
                Some((_, "")) => return Err("a field is empty"),
                Some(("roles", roles)) if key.roles.is_empty() => {
                    key.roles = roles.split(',').map(Into::into).collect();
                    if key.roles.len() > ROLES_MAX || key.roles.iter().any(|role| role.is_empty()) {
                        return Err("there are too many roles, or an empty one");
                    }
                    true
                }
                Some(("client_id", id)) => key.client_id.replace(id.into()).is_none(),
                Some(("expires", at)) => {
                    let at = at.parse::<i64>();
                    let at = at.map_err(|_| "expires is no number of seconds since 1970")?;
                    key.expires_at_s.replace(at).is_none()
                }
                _ => false,
            };
            if !taken {
                return Err(
                    "a field is not known or stands there twice; roles, client_id and \
                            expires are known",
                );
            }
        }
        Ok(key)
    }

    /// The first digits of its hash: enough to find it by.
    #[must_use]
    pub fn mark(&self) -> String {
        hex(&self.hash).chars().take(12).collect()
    }
}

/// The hash of what somebody shows.
pub(super) fn fingerprint(shown: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, shown).as_ref());
    fingerprint
}

fn start(hash: &Fingerprint) -> [u8; 8] {
    hash.first_chunk().copied().unwrap_or_default()
}

/// Takes the same time wherever they differ.
fn are_equal(left: &Fingerprint, right: &Fingerprint) -> bool {
    let differ = left.iter().zip(right).fold(0, |differ, (left, right)| {
        black_box(differ | (left ^ right))
    });
    differ == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "6fb1000000000000000000000000000000000000000000000000000000000001";

    fn roles(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_key_that_was_made_is_recognised_until_it_ends() {
        let first = ApiKey::create("billing", None, &[], None).unwrap();
        let second =
            ApiKey::create("ops", Some("ops-1"), &roles(&["r", "w"]), Some(2_000)).unwrap();
        assert!(first.key.starts_with(PREFIX) && first.key.len() == PREFIX.len() + 43);
        assert_ne!(first.key, second.key);
        assert!(!format!("{first:?}{}", first.line).contains(&first.key[4..]));
        let file = format!("# keys\n\n  {}  \r\n{}\n", first.line, second.line);
        let keys = ApiKeys::parse(file.as_bytes()).unwrap();
        let shown = |key: &str, now_s| keys.recognise(&fingerprint(key.as_bytes()), now_s);
        let (identity, ends) = shown(&first.key, 5_000).unwrap();
        assert_eq!((&*identity.name, ends), ("billing", None));
        assert_eq!(identity.client_id.as_deref(), Some("billing"));
        assert_eq!(identity.proof, Proof::ApiKey);
        let (identity, ends) = shown(&second.key, 1_999).unwrap();
        assert_eq!(identity.client_id.as_deref(), Some("ops-1"));
        assert_eq!(identity.roles.len(), 2);
        assert_eq!(
            (ends, identity.expires_at_ns),
            (Some(2_000), Some(2_000_000_000_000))
        );
        let refused = |key: &str, now_s| shown(key, now_s).unwrap_err().to_string();
        assert_eq!(refused(&second.key, 2_065), "api key is expired by 1m5s");
        assert_eq!(refused("rmq_", 0), "api key is unknown");
        assert_eq!(refused(&first.key[..46], 0), "api key is unknown");
    }

    #[test]
    fn a_line_that_is_not_understood_is_told_by_its_number_and_not_by_its_text() {
        let long = vec!["r"; ROLES_MAX + 1].join(",");
        let cases: &[(String, &str)] = &[
            (
                "rmq_secret billing".to_owned(),
                "line 1: it does not begin with sha256:, the hash of a key",
            ),
            (
                "sha256:12 a".to_owned(),
                "line 1: the hash is not 64 hexadecimal digits",
            ),
            (
                format!("sha256:{} a", HASH.replace('6', "é")),
                "line 1: the hash is not 64 hexadecimal digits",
            ),
            (
                format!("sha256:{}+1 a", &HASH[..62]),
                "line 1: the hash is not 64 hexadecimal digits",
            ),
            (
                format!("\n#\nsha256:{HASH}"),
                "line 3: the name of the key's owner is missing",
            ),
            (
                format!("sha256:{HASH} roles=r"),
                "line 1: the name of the key's owner is missing",
            ),
            (
                format!("sha256:{HASH} a roles="),
                "line 1: a field is empty",
            ),
            (
                format!("sha256:{HASH} a roles=r,,w"),
                "line 1: there are too many roles, or an empty one",
            ),
            (
                format!("sha256:{HASH} a roles={long}"),
                "line 1: there are too many roles, or an empty one",
            ),
            (
                format!("sha256:{HASH} a expires=soon"),
                "line 1: expires is no number of seconds since 1970",
            ),
            (
                format!("sha256:{HASH} a expires=1 expires=2"),
                "line 1: a field is not known or stands there twice; roles, client_id and expires are known",
            ),
            (
                format!("sha256:{HASH} a role=r"),
                "line 1: a field is not known or stands there twice; roles, client_id and expires are known",
            ),
            (
                format!("sha256:{HASH} a b"),
                "line 1: a field is not known or stands there twice; roles, client_id and expires are known",
            ),
            (
                format!("sha256:{HASH} a\nsha256:{HASH} b"),
                "line 2: the same key a second time",
            ),
            (
                " ".repeat(FILE_BYTES_MAX + 1),
                "the file of keys is longer than 4194304 bytes",
            ),
        ];
        for (file, expected) in cases {
            let found = ApiKeys::parse(file.as_bytes()).unwrap_err().to_string();
            assert_eq!(found, *expected);
        }
        assert_eq!(ApiKeys::parse(&[0xff]).unwrap_err(), FileError::NoText);
    }

    #[test]
    fn what_would_be_read_differently_is_not_written() {
        for (name, client_id, given) in [
            ("a b", None, vec![]),
            ("", None, vec![]),
            ("a=b", None, vec![]),
            ("a\nsha256:", None, vec![]),
            ("a", Some("b c"), vec![]),
            ("a", Some(""), vec![]),
            ("a", None, vec!["r,w"]),
            ("a", None, vec![""]),
            ("a", None, vec!["r", ""]),
        ] {
            let made = ApiKey::create(name, client_id, &roles(&given), None);
            assert!(made.is_err(), "{name:?} {client_id:?} {given:?}");
        }
    }
}
