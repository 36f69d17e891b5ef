//! The manifest: what a store is, written once when it is created.
//!
//! ```text
//! ringmq-manifest 1 d14ab53d
//! {"store_id":"…","hash":"siphash-1-3","hash_seed":"…","slot_count":64,"created_at_unix_ns":…}
//! ```
//!
//! The form is that of all text files of a store, see `text`.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Damage, Error, io_error};
use crate::slot::{HashSeed, SLOT_COUNT};
use crate::text::{self, Unreadable};

/// The newest format of a store that this crate reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// The version that an encrypted file of a log says of itself: a RingMQ that knows nothing of
/// encryption refuses it. All other files stay as they are.
pub const ENCRYPTED_VERSION: u32 = 2;
const _: () = assert!(FORMAT_VERSION < ENCRYPTED_VERSION);

pub(crate) const MANIFEST_FILE: &str = "MANIFEST";
pub(crate) const MANIFEST_TEMPORARY_FILE: &str = "MANIFEST.new";

const MAGIC: &str = "ringmq-manifest";
const HASH: &str = "siphash-1-3";

/// A manifest is a few hundred bytes; a file beyond this is something else.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// The identity of a store: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// Builds an id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store_id: StoreId,
    pub(crate) hash_seed: HashSeed,
    pub(crate) created_at_unix_ns: u64,
}

/// The body as it lies in the file. Unknown fields are refused: within one version there are none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    store_id: String,
    hash: String,
    hash_seed: String,
    slot_count: u16,
    created_at_unix_ns: u64,
}

impl Manifest {
    /// Invents the manifest of a new store.
    pub(crate) fn generate(created_at_unix_ns: u64) -> Result<Self, Error> {
        let mut store_id = [0; 16];
        let mut hash_seed = [0; 16];
        getrandom::fill(&mut store_id).map_err(Error::Random)?;
        getrandom::fill(&mut hash_seed).map_err(Error::Random)?;
        Ok(Self {
            store_id: StoreId::from_bytes(store_id),
            hash_seed: HashSeed::from_bytes(hash_seed),
            created_at_unix_ns,
        })
    }

    /// Reads the manifest in `directory`; `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(MANIFEST_FILE);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        if length > MANIFEST_BYTES_MAX {
            let supported = FORMAT_VERSION;
            return Err(Error::Damaged {
                path,
                damage: Damage::Head { magic: MAGIC },
                supported,
            });
        }
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        match Self::decode(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Unreadable::Newer(found)) => Err(Error::NewerFormat {
                path,
                found,
                supported: FORMAT_VERSION,
            }),
            Err(Unreadable::Damaged(damage)) => Err(Error::Damaged {
                path,
                damage,
                supported: FORMAT_VERSION,
            }),
        }
    }

    /// Writes the manifest into `directory` so that a crash leaves either none or this one.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let temporary = directory.join(MANIFEST_TEMPORARY_FILE);
        let path = directory.join(MANIFEST_FILE);
        let mut file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        file.write_all(&self.encode())
            .map_err(io_error("write", &temporary))?;
        file.sync_all().map_err(io_error("sync", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("rename to", &path))?;
        sync_directory(directory)
    }

    fn encode(&self) -> Vec<u8> {
        let body = Body {
            store_id: hex(self.store_id.as_bytes()),
            hash: HASH.to_owned(),
            hash_seed: hex(self.hash_seed.as_bytes()),
            slot_count: SLOT_COUNT,
            created_at_unix_ns: self.created_at_unix_ns,
        };
        let body = serde_json::to_string(&body).expect("strings and integers always serialise");
        text::encode(MAGIC, FORMAT_VERSION, &format!("{body}\n"))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let body = text::decode(MAGIC, FORMAT_VERSION, bytes)?;
        let body: Body =
            serde_json::from_slice(body).map_err(|error| Damage::Field(error.to_string()))?;
        Ok(Self::check(&body)?)
    }

    fn check(body: &Body) -> Result<Self, Damage> {
        if body.hash != HASH {
            return Err(Damage::Field(format!(
                "hash is {:?}, not {HASH:?}",
                body.hash
            )));
        }
        if body.slot_count != SLOT_COUNT {
            let found = body.slot_count;
            return Err(Damage::Field(format!(
                "slot_count is {found}, not {SLOT_COUNT}"
            )));
        }
        let id = unhex(&body.store_id);
        let seed = unhex(&body.hash_seed);
        let id = id.ok_or_else(|| Damage::Field("store_id is not 32 hex digits".into()))?;
        let seed = seed.ok_or_else(|| Damage::Field("hash_seed is not 32 hex digits".into()))?;
        Ok(Self {
            store_id: StoreId::from_bytes(id),
            hash_seed: HashSeed::from_bytes(seed),
            created_at_unix_ns: body.created_at_unix_ns,
        })
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(io_error("sync", directory))
}

fn hex(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

fn unhex(digits: &str) -> Option<[u8; 16]> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 32 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            store_id: StoreId::from_bytes(*b"0123456789abcdef"),
            hash_seed: HashSeed::from_bytes([0xa5; 16]),
            created_at_unix_ns: 1_795_219_200_000_000_000,
        }
    }

    #[test]
    fn manifest_comes_back_as_it_was_written() {
        assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
    }

    /// If this test fails, the format has changed: never edit the text.
    #[test]
    fn bytes_are_those_of_the_format() {
        let golden = "ringmq-manifest 1 d14ab53d\n\
            {\"store_id\":\"30313233343536373839616263646566\",\"hash\":\"siphash-1-3\",\
            \"hash_seed\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\",\"slot_count\":64,\
            \"created_at_unix_ns\":1795219200000000000}\n";
        assert_eq!(String::from_utf8_lossy(&sample().encode()), golden);
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let good = sample().encode();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                let error = Manifest::decode(&bad).expect_err("a flipped bit is damage");
                assert!(
                    matches!(error, Unreadable::Damaged(_)),
                    "byte {index} bit {bit}"
                );
            }
            assert!(Manifest::decode(&good[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn newer_version_is_told_from_damage() {
        let body = b"anything that a later version may write";
        let checksum = text::checksum(MAGIC, 7, body);
        let mut newer = format!("{MAGIC} 7 {checksum:08x}\n").into_bytes();
        newer.extend_from_slice(body);
        assert_eq!(Manifest::decode(&newer), Err(Unreadable::Newer(7)));
    }

    #[test]
    fn intact_checksum_does_not_excuse_wrong_fields() {
        let good = String::from_utf8(sample().encode()).unwrap();
        let body = good.split_once('\n').unwrap().1;
        let wrong = [
            ("\"slot_count\":64", "\"slot_count\":63", "slot_count is 63"),
            ("siphash-1-3", "siphash-2-4", "hash is \"siphash-2-4\""),
            ("a5a5a5", "A5a5a5", "hash_seed is not 32 hex digits"),
            (
                "\"slot_count\":64",
                "\"slot_count\":64,\"x\":1",
                "unknown field",
            ),
            ("\"slot_count\":64,", "", "missing field"),
        ];
        for (from, to, expected) in wrong {
            let body = body.replacen(from, to, 1);
            let text = text::encode(MAGIC, FORMAT_VERSION, &body);
            let Err(Unreadable::Damaged(Damage::Field(text))) = Manifest::decode(&text) else {
                panic!("{to} was accepted");
            };
            assert!(text.contains(expected), "{text}");
        }
    }
}
